//! What attention and its backward share: where keys lie, how a tile of them is laid out, and the
//! two inner products.
//!
//! Next: [`super::attention`].
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "`check::attention` holds every part inside its row and every page inside the store; \
              inner functions melt into the kernel"
)]

use std::ops::Range;

use frugal_core::backend::{Keys, Pages};
use frugal_core::ops::check::{AttentionDims, KeyPart, KeyTensor};
use frugal_core::quant::rows::{RUN, decode_run};
use half::bf16;

use super::tensor::{EightBits, Tensor, widen};
use super::vector::{Lanes, WIDTH, kernel, prefetch};

/// Keys of a tile: four vectors, so that four rows keep their scores in sixteen registers.
pub(super) const TILE: usize = 64;
/// Query rows that meet a tile together.
pub(super) const ROWS: usize = 4;

/// Numbers of a key tensor as they are stored.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    EightBits(EightBits<'a>),
}

impl<'a> Source<'a> {
    pub(super) fn of(tensor: &'a Tensor) -> Self {
        if let Some(rows) = tensor.stored_eight_bits() {
            return Self::EightBits(rows);
        }
        match (tensor.stored_f32(), tensor.stored_bf16()) {
            (Some(values), _) => Self::F32(values),
            (None, Some(values)) => Self::Bf16(values),
            (None, None) => Self::F32(&[]),
        }
    }

    /// Up to sixteen columns.
    #[inline(always)]
    fn columns(self, columns: Range<usize>) -> Columns {
        let scale_at = match self {
            Self::EightBits(stored) if columns.len() == RUN => stored.rows.run_at(columns.start),
            _ => None,
        };
        Columns { columns, scale_at }
    }

    /// The numbers of a row, of `stride` numbers where they are not of 8 bits, in some columns.
    #[inline(always)]
    fn load<L: Lanes>(self, l: L, (row, stride): (usize, usize), columns: &Columns) -> L::V {
        let Columns { columns, scale_at } = columns;
        let range = row * stride + columns.start..row * stride + columns.end;
        match self {
            Self::EightBits(stored) => {
                let row = stored.row(row);
                if let Some(scale_at) = scale_at {
                    let levels = row[columns.start..].first_chunk();
                    let scale = row[*scale_at..].first_chunk();
                    if let (Some(levels), Some(scale)) = (levels, scale) {
                        return l.load(&decode_run(levels, *scale));
                    }
                }
                let mut wide = [0.0; WIDTH];
                let to = &mut wide[..columns.len()];
                stored.rows.decode(row, columns.start, to);
                l.load(&wide)
            }
            Self::F32(values) => {
                let values = &values[range];
                match values.first_chunk::<WIDTH>() {
                    Some(all) => l.load(all),
                    None => l.load_part(values),
                }
            }
            Self::Bf16(values) => {
                let values = &values[range];
                let mut wide = [0.0; WIDTH];
                match values.first_chunk::<WIDTH>() {
                    Some(all) => widen(all, &mut wide),
                    None => widen(values, &mut wide),
                }
                l.load(&wide)
            }
        }
    }
}

/// Some columns, and where the one scale lies that they have in rows of 8 bits.
struct Columns {
    columns: Range<usize>,
    scale_at: Option<usize>,
}

/// Which rows of the key tensors a sequence's keys are.
#[derive(Clone, Copy)]
enum Places<'a> {
    From(usize),
    Paged { table: &'a [u32], page_rows: usize },
}

impl Places<'_> {
    /// The rows of keys `start..start + rows.len()`, page by page: a division a key would cost as
    /// much as the key's products.
    fn write(self, start: usize, rows: &mut [usize]) {
        match self {
            Self::From(first) => {
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = first + start + i;
                }
            }
            Self::Paged { table, page_rows } => {
                let mut done = 0;
                while done < rows.len() {
                    let (page, offset) = ((start + done) / page_rows, (start + done) % page_rows);
                    let end = (done + page_rows - offset).min(rows.len());
                    let first = table[page] as usize * page_rows + offset;
                    for (i, row) in rows[done..end].iter_mut().enumerate() {
                        *row = first + i;
                    }
                    done = end;
                }
            }
        }
    }
}

/// What all units read.
pub(super) struct Operands<'a> {
    pub(super) q: &'a [f32],
    pub(super) first: Source<'a>,
    pub(super) second: Source<'a>,
    pub(super) dims: AttentionDims,
    pub(super) scale: f32,
}

impl<'a> Operands<'a> {
    pub(super) fn part(&self, part: KeyPart) -> Part<'a> {
        let source = match part.tensor {
            KeyTensor::First => self.first,
            KeyTensor::Second => self.second,
        };
        Part { source, part }
    }

    /// One head of one row of q.
    #[inline(always)]
    pub(super) fn query(&self, row: usize, head: usize) -> &[f32] {
        let width = self.dims.q_width;
        let start = (row * self.dims.n_heads + head) * width;
        &self.q[start..start + width]
    }

    pub(super) fn value_padded(&self) -> usize {
        self.dims.value_width.next_multiple_of(WIDTH)
    }
}

/// One sequence and heads that share keys. Its queries are numbered row by row, head by head.
pub(super) struct Unit<'a> {
    pub(super) rows: Range<usize>,
    pub(super) heads: Range<usize>,
    places: Places<'a>,
    n_keys: usize,
}

impl<'a> Unit<'a> {
    /// The unit of a packed sequence.
    pub(super) fn packed(rows: Range<usize>, heads: Range<usize>) -> Self {
        Self {
            places: Places::From(rows.start),
            n_keys: rows.len(),
            rows,
            heads,
        }
    }

    pub(super) fn paged(
        rows: Range<usize>,
        heads: Range<usize>,
        pages: &'a Pages,
        sequence: usize,
    ) -> Self {
        Self {
            places: Places::Paged {
                table: &pages.tables[sequence],
                page_rows: pages.page_rows,
            },
            n_keys: if rows.is_empty() {
                0
            } else {
                pages.lengths[sequence] as usize
            },
            rows,
            heads,
        }
    }

    pub(super) fn n_queries(&self) -> usize {
        self.rows.len() * self.heads.len()
    }

    /// Row and head of a query.
    #[inline(always)]
    pub(super) fn query(&self, index: usize) -> (usize, usize) {
        let heads = self.heads.len();
        if heads == 1 {
            return (self.rows.start + index, self.heads.start);
        }
        (
            self.rows.start + index / heads,
            self.heads.start + index % heads,
        )
    }

    /// Keys that a query sees: the last row all of them, the one before one less.
    #[inline(always)]
    pub(super) fn seen(&self, index: usize) -> usize {
        let heads = self.heads.len();
        let row = if heads == 1 { index } else { index / heads };
        self.n_keys.saturating_sub(self.rows.len() - 1 - row)
    }

    pub(super) const fn n_tiles(&self) -> usize {
        self.n_keys.div_ceil(TILE)
    }

    /// The tiles of its keys.
    pub(super) fn tiles(&self) -> impl Iterator<Item = Tile> + use<'a> {
        let (n_keys, places) = (self.n_keys, self.places);
        let (n_rows, n_heads) = (self.rows.len(), self.heads.len());
        (0..self.n_tiles()).map(move |i| {
            let start = i * TILE;
            let len = TILE.min(n_keys - start);
            let mut rows = [0; TILE];
            places.write(start, &mut rows[..len]);
            Tile {
                start,
                len,
                first_query: (start + n_rows).saturating_sub(n_keys) * n_heads,
                rows,
            }
        })
    }
}

/// A run of keys.
pub(super) struct Tile {
    pub(super) start: usize,
    pub(super) len: usize,
    /// The first query that sees any of them.
    pub(super) first_query: usize,
    /// Rows of the key tensors.
    rows: [usize; TILE],
}

/// Rows one after another.
pub(super) const IN_ORDER: [usize; TILE] = {
    let mut rows = [0; TILE];
    let mut row = 0;
    while row < TILE {
        rows[row] = row;
        row += 1;
    }
    rows
};

impl Tile {
    /// Rows of the key tensors.
    pub(super) fn rows(&self) -> &[usize] {
        &self.rows[..self.len]
    }

    /// Where a head's part of each key begins.
    #[inline(always)]
    pub(super) fn starts(&self, part: KeyPart, head: usize) -> [usize; TILE] {
        let first = part.start(0, head);
        let mut starts = [0; TILE];
        for (start, row) in starts[..self.len].iter_mut().zip(&self.rows) {
            *start = first + row * part.row_stride;
        }
        starts
    }
}

/// Cuts a block of memory into parts.
pub(super) fn carve<T, const N: usize>(memory: &mut [T], sizes: [usize; N]) -> [&mut [T]; N] {
    let mut rest = memory;
    sizes.map(|size| {
        let (part, left) = std::mem::take(&mut rest).split_at_mut(size);
        rest = left;
        part
    })
}

/// A part of keys or values and where it is stored.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) source: Source<'a>,
    pub(super) part: KeyPart,
}

kernel! {
    /// Transposes the columns of one part of a tile: lanes become keys. `columns` has a row of
    /// [`TILE`] for each column; lanes beyond the tile are zeros.
    pub(super) fn transpose_part<L>(l, part: Part<'_>, head: usize, tile: &Tile, columns: &mut [[f32; TILE]]) {
        let Part { source, part } = part;
        let (stride, first) = (part.row_stride, part.start(0, head));
        for (lanes, tile_rows) in tile.rows().chunks(WIDTH).enumerate() {
            let mut column = 0;
            while column < part.width {
                let width = WIDTH.min(part.width - column);
                let mut rows = [l.splat(0.0); WIDTH];
                let read = source.columns(first + column..first + column + width);
                for (numbers, row) in rows.iter_mut().zip(tile_rows) {
                    *numbers = source.load(l, (*row, stride), &read);
                }
                let turned = l.transpose(rows);
                for (row, to) in turned.into_iter().zip(&mut columns[column..column + width]) {
                    let (parts, _) = to.as_chunks_mut::<WIDTH>();
                    l.store(row, &mut parts[lanes]);
                }
                column += WIDTH;
            }
        }
    }
}

/// Padded rows, one for each key of a tile, and the first column to write.
pub(super) struct PaddedRows<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) padded: usize,
    pub(super) offset: usize,
}

kernel! {
    /// Copies a part of a tile's rows; zeros follow the part up to the next sixteen.
    pub(super) fn copy_part<L>(l, part: Part<'_>, head: usize, tile: &Tile, to: PaddedRows<'_>) {
        let Part { source, part } = part;
        let PaddedRows { values, padded, offset } = to;
        let (stride, first) = (part.row_stride, part.start(0, head));
        let mut column = 0;
        while column < part.width {
            let width = WIDTH.min(part.width - column);
            let read = source.columns(first + column..first + column + width);
            let rows = values.chunks_exact_mut(padded.max(1));
            for (row, from) in rows.zip(tile.rows()) {
                let values = source.load(l, (*from, stride), &read);
                let place = &mut row[offset + column..];
                match place.first_chunk_mut::<WIDTH>() {
                    Some(all) => l.store(values, all),
                    None => l.store_part(values, place),
                }
            }
            column += WIDTH;
        }
    }
}

/// Which columns of the two key tensors some heads read.
pub(super) struct Reach<'a>([(Source<'a>, usize, Range<usize>); 2]);

impl<'a> Reach<'a> {
    pub(super) fn new(operands: &Operands<'a>, heads: Range<usize>) -> Self {
        let AttentionDims { key, value, .. } = operands.dims;
        let last = heads.end.saturating_sub(1);
        let of_tensor = |tensor, source| {
            let parts = [key[0], key[1], value].into_iter();
            let parts = parts.filter(|part| part.tensor == tensor && part.width > 0);
            let reach = |(stride, reach): (usize, Range<usize>), part: KeyPart| {
                let first = part.start(0, heads.start);
                let end = part.start(0, last) + part.width;
                let start = if stride == 0 {
                    first
                } else {
                    first.min(reach.start)
                };
                (part.row_stride, start..end.max(reach.end))
            };
            let (stride, columns) = parts.fold((0, 0..0), reach);
            (source, stride, columns)
        };
        Self([
            of_tensor(KeyTensor::First, operands.first),
            of_tensor(KeyTensor::Second, operands.second),
        ])
    }

    /// Asks for part `index` of `count` of a tile's keys and values ahead of time: they lie row by
    /// row, a few lines of each, which the processor does not foresee, and in decode waiting for
    /// them is most of the time.
    pub(super) fn prefetch(&self, tile: &Tile, (index, count): (usize, usize)) {
        let rows = tile.len * index / count..tile.len * (index + 1) / count;
        for (source, stride, columns) in &self.0 {
            for row in &tile.rows[rows.clone()] {
                let start = row * stride;
                let range = start + columns.start..start + columns.end;
                match source {
                    Source::F32(values) => prefetch(&values[range]),
                    Source::Bf16(values) => prefetch(&values[range]),
                    Source::EightBits(stored) => {
                        for bytes in stored.rows.reach(columns) {
                            prefetch(&stored.row(*row)[bytes]);
                        }
                    }
                }
            }
        }
    }
}

/// Products of R rows with N vectors of transposed keys: sums over columns in order.
#[inline(always)]
pub(super) fn products<L: Lanes, const R: usize, const N: usize>(
    l: L,
    rows: [&[f32]; R],
    columns: &[[f32; TILE]],
) -> [[L::V; N]; R] {
    let mut sums = [[l.splat(0.0); N]; R];
    let width = columns.len();
    let rows = rows.map(|row| &row[..width]);
    for (d, column) in columns.iter().enumerate() {
        let (parts, _) = column.as_chunks::<WIDTH>();
        let mut keys = [l.splat(0.0); N];
        for n in 0..N {
            keys[n] = l.load(&parts[n]);
        }
        for r in 0..R {
            let x = l.splat(rows[r][d]);
            for n in 0..N {
                sums[r][n] = l.mul_add(x, keys[n], sums[r][n]);
            }
        }
    }
    sums
}

/// Rows to be summed with weights: where each begins.
#[derive(Clone, Copy)]
pub(super) struct RowsAt<'a> {
    pub(super) values: &'a [f32],
    pub(super) starts: &'a [usize; TILE],
}

/// The starts of rows one after another.
pub(super) fn padded_starts(padded: usize) -> [usize; TILE] {
    std::array::from_fn(|j| j * padded)
}

/// Adds to each of R sums the rows of `keys` times its factors, N vectors from column `from` on.
#[inline(always)]
pub(super) fn weighted_rows<L: Lanes, const R: usize, const N: usize>(
    l: L,
    factors: [&[f32; TILE]; R],
    (rows, from): (RowsAt<'_>, usize),
    keys: Range<usize>,
    sums: &mut [[L::V; N]; R],
) {
    for j in keys {
        let start = rows.starts[j] + from;
        let (parts, _) = rows.values[start..start + N * WIDTH].as_chunks::<WIDTH>();
        let mut values = [l.splat(0.0); N];
        for n in 0..N {
            values[n] = l.load(&parts[n]);
        }
        for r in 0..R {
            let p = l.splat(factors[r][j]);
            for n in 0..N {
                sums[r][n] = l.mul_add(p, values[n], sums[r][n]);
            }
        }
    }
}

/// The two tensors of keys.
pub(super) fn tensors(keys: Keys<'_, Tensor>) -> (&Tensor, Option<&Tensor>) {
    match keys {
        Keys::Grouped { k, v, .. } => (k, Some(v)),
        Keys::Expanded { kv, k_rope, .. } => (kv, Some(k_rope)),
        Keys::Latent { latent, .. } => (latent, None),
    }
}
