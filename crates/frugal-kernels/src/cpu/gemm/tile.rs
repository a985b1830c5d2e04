//! The little product every larger one is made of, as the inner kernels see it.
//!
//! One step of the reduction takes one word of each left row and sixteen words of each right panel.
//! A word is an f32, or a pair of bf16 that follow each other in the reduction (low half first).
//! Sums run over the steps in order, one sum an output, whatever the block's size: that is why a
//! row's result does not depend on its neighbours.

use half::bf16;

/// Columns of a panel: one 512-bit vector of f32.
pub(crate) const LANES: usize = 16;
/// Reduction steps, in single numbers, to which bf16 operands are padded: the depth of a tile.
pub(crate) const DEPTH: usize = 32;
/// Words of a bf16 tile: 16 rows of 16 pairs.
pub(crate) const TILE_WORDS: usize = 256;

/// `acc[r][c] = Σ_s a[r * a_row + s * a_step] · b[(c / 16) * b_panel + s * 16 + c % 16]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile<'a, T> {
    /// Left words.
    pub(crate) a: &'a [T],
    /// Words from a left row to the next.
    pub(crate) a_row: usize,
    /// Words from a step to the next in a left row.
    pub(crate) a_step: usize,
    /// Right words, in panels.
    pub(crate) b: &'a [T],
    /// Words from a panel to the next.
    pub(crate) b_panel: usize,
    /// Length of the reduction.
    pub(crate) steps: usize,
    /// Left rows, at most what the kernel takes at once.
    pub(crate) rows: usize,
    /// Right panels, at most what the kernel takes at once.
    pub(crate) panels: usize,
}

impl<T> Tile<'_, T> {
    /// Refuses a block that would read or write outside its slices; kernels rely on this.
    ///
    /// # Panics
    /// If it would.
    #[inline]
    pub(crate) fn check(&self, most_rows: usize, most_panels: usize, acc_len: usize) {
        assert!(
            (1..=most_rows).contains(&self.rows) && (1..=most_panels).contains(&self.panels),
            "block of {} rows and {} panels",
            self.rows,
            self.panels
        );
        assert!(
            self.rows * self.panels * LANES <= acc_len,
            "room for {acc_len} sums"
        );
        if self.steps > 0 {
            let last_a = (self.rows - 1) * self.a_row + (self.steps - 1) * self.a_step;
            let end_b = (self.panels - 1) * self.b_panel + self.steps * LANES;
            assert!(
                last_a < self.a.len() && end_b <= self.b.len(),
                "left {last_a} of {}, right {end_b} of {}",
                self.a.len(),
                self.b.len()
            );
        }
    }
}

/// A rectangle of f32 (or bf16) in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rect<'a, T = f32> {
    /// From the first number on.
    pub(crate) data: &'a [T],
    /// Numbers from row to row.
    pub(crate) stride: usize,
    /// Rows.
    pub(crate) rows: usize,
    /// Columns.
    pub(crate) cols: usize,
}

impl<'a, T> Rect<'a, T> {
    /// Refuses a rectangle that leaves its data; packing relies on this.
    ///
    /// # Panics
    /// If it does.
    pub(crate) fn check(&self) {
        let end = match self.rows {
            0 => 0,
            rows => (rows - 1) * self.stride + self.cols,
        };
        assert!(end <= self.data.len(), "end {end} of {}", self.data.len());
    }

    /// One row.
    pub(crate) fn row(&self, row: usize) -> &'a [T] {
        &self.data[row * self.stride..][..self.cols]
    }

    /// The part of `rows` rows and `cols` columns whose first number is (`row`, `col`).
    pub(crate) fn part(&self, (row, rows): (usize, usize), (col, cols): (usize, usize)) -> Self {
        Self {
            data: &self.data[(row * self.stride + col).min(self.data.len())..],
            stride: self.stride,
            rows,
            cols,
        }
    }
}

/// A rectangle of either kind of numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// f32.
    Single(Rect<'a>),
    /// bf16: rounded already.
    Narrow(Rect<'a, bf16>),
}

impl Source<'_> {
    /// (rows, columns).
    pub(crate) const fn size(&self) -> (usize, usize) {
        match self {
            Self::Single(rect) => (rect.rows, rect.cols),
            Self::Narrow(rect) => (rect.rows, rect.cols),
        }
    }
}

/// Where the vector (i, j) of sixteen words goes: `(i / 16) * block + (i % 16) * row + j * step`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Words from sixteen i to the next sixteen.
    pub(crate) block: usize,
    /// Words from i to the next.
    pub(crate) row: usize,
    /// Words from j to the next.
    pub(crate) step: usize,
}

impl Place {
    /// Tiles or panels whose reduction runs along i: `words` from a panel to the next.
    pub(crate) const fn panels(words: usize) -> Self {
        Self {
            block: TILE_WORDS,
            row: LANES,
            step: words,
        }
    }

    /// Left tiles of rows i: `words` from sixteen rows to the next.
    pub(crate) const fn left_tiles(words: usize) -> Self {
        Self {
            block: words,
            row: LANES,
            step: TILE_WORDS,
        }
    }

    /// Plain rows of `words`.
    pub(crate) const fn rows(words: usize) -> Self {
        Self {
            block: LANES * words,
            row: words,
            step: LANES,
        }
    }
}
