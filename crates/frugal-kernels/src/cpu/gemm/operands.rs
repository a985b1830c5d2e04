//! Operands on their way to the kernels: rounded, paired and laid out as tiles or panels.

use std::cell::RefCell;

use half::bf16;

use crate::cpu::detect::CpuFeatures;

use super::aligned::Aligned;
use super::engine::Engine;
#[cfg(target_arch = "x86_64")]
use super::tile::Place;
use super::tile::{DEPTH, LANES, Rect, Source, TILE_WORDS};

/// Working memory of one thread.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) left_single: Aligned<f32>,
    pub(crate) right_single: Aligned<f32>,
    pub(crate) left_pairs: Aligned<u32>,
    pub(crate) right_pairs: Aligned<u32>,
    pub(crate) sums: Aligned<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch {
            left_single: Aligned::new(),
            right_single: Aligned::new(),
            left_pairs: Aligned::new(),
            right_pairs: Aligned::new(),
            sums: Aligned::new(),
        })
    };
}

/// Lends this thread's working memory to `f`.
pub(crate) fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(f)
}

/// A left operand: word s of row r is `words[r * row + s * step]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a, T> {
    pub(crate) words: &'a [T],
    pub(crate) row: usize,
    pub(crate) step: usize,
}

/// Both operands of a pass, prepared: left, and right in panels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operands<'a> {
    /// f32.
    Single(Left<'a, f32>, &'a [f32]),
    /// bf16 pairs.
    #[cfg(target_arch = "x86_64")]
    Pairs(Left<'a, u32>, &'a [u32]),
    /// bf16 tiles.
    #[cfg(target_arch = "x86_64")]
    Tiles(LeftWords<'a>, &'a [u32]),
}

/// Left tiles, packed or rows of bf16 as they lie in memory; distances in words.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeftWords<'a> {
    pub(crate) words: &'a [u32],
    /// From sixteen rows to the next.
    pub(crate) block: usize,
    /// From row to row.
    pub(crate) row: usize,
    /// From tile to tile along the reduction.
    pub(crate) step: usize,
}

#[cfg(target_arch = "x86_64")]
impl<'a> LeftWords<'a> {
    /// Tiles one after another, `block` words for sixteen rows.
    pub(crate) const fn packed(words: &'a [u32], block: usize) -> Self {
        Self {
            words,
            block,
            row: LANES,
            step: TILE_WORDS,
        }
    }

    /// Rows of bf16 from where they are, if they can be loaded as whole tiles. Where rows are no
    /// multiple of sixteen the last tile has more rows of the same memory, whose sums go nowhere.
    fn of(rect: &Rect<'a, bf16>) -> Option<Self> {
        let last = rect.rows.checked_next_multiple_of(LANES)?.checked_sub(1)?;
        let is_whole = rect.cols.is_multiple_of(DEPTH)
            && rect.stride.is_multiple_of(2)
            && last * rect.stride + rect.cols <= rect.data.len();
        // SAFETY: two bf16 are four bytes, every pattern of which is a word.
        let (before, words, _) = unsafe { rect.data.align_to::<u32>() };
        (is_whole && before.is_empty()).then_some(Self {
            words,
            block: LANES * rect.stride / 2,
            row: rect.stride / 2,
            step: LANES,
        })
    }
}

/// Numbers that operands are made of.
pub(crate) trait Element: Copy {
    /// As f32.
    fn wide(self) -> f32;
}

impl Element for f32 {
    fn wide(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    fn wide(self) -> f32 {
        self.to_f32()
    }
}

/// Runs the same code on either kind of rectangle.
macro_rules! either {
    ($source:expr, $rect:ident => $body:expr) => {
        match $source {
            Source::Single($rect) => $body,
            Source::Narrow($rect) => $body,
        }
    };
}

/// Words of a panel or of sixteen left rows of bf16 pairs, `depth` deep.
pub(crate) const fn pair_panel(depth: usize) -> usize {
    depth.div_ceil(DEPTH) * TILE_WORDS
}

/// The left operand of `source · bᵀ`: its rows are the product's.
pub(crate) fn left_rows<'a>(
    (engine, features): (Engine, CpuFeatures),
    source: Source<'a>,
    single: &'a mut Aligned<f32>,
    pairs: &'a mut Aligned<u32>,
    right: Right<'a>,
) -> Operands<'a> {
    let (rows, cols) = source.size();
    match engine {
        Engine::Single | Engine::Rounded => {
            let (words, row) = match source {
                Source::Single(rect) if engine == Engine::Single => (rect.data, rect.stride),
                _ => (either!(source, rect => round_rows(&rect, single)), cols),
            };
            let left = Left {
                words,
                row,
                step: 1,
            };
            Operands::Single(left, right.single())
        }
        #[cfg(target_arch = "x86_64")]
        Engine::Pairs => {
            let words = cols.div_ceil(DEPTH) * LANES;
            let out = pairs.set_len(rows * words);
            either!(source, rect => wide::rows_to_pairs(features, &rect, Place::rows(words), out));
            let left = Left {
                words: out,
                row: words,
                step: 1,
            };
            Operands::Pairs(left, right.pairs())
        }
        #[cfg(target_arch = "x86_64")]
        Engine::Tiles => {
            if let Source::Narrow(rect) = &source
                && let Some(left) = LeftWords::of(rect)
            {
                return Operands::Tiles(left, right.pairs());
            }
            let words = pair_panel(cols);
            let out = pairs.set_len(rows.div_ceil(LANES) * words);
            let place = Place::left_tiles(words);
            either!(source, rect => wide::rows_to_pairs(features, &rect, place, out));
            Operands::Tiles(LeftWords::packed(out, words), right.pairs())
        }
    }
}

/// Both operands of `leftᵀ · right`: the rows of both are the reduction.
pub(crate) fn both_columns<'a>(
    (engine, features): (Engine, CpuFeatures),
    left: Source<'a>,
    right: Source<'a>,
    scratch: &'a mut Scratch,
) -> (Operands<'a>, &'a mut Aligned<f32>) {
    let Scratch {
        left_single,
        right_single,
        left_pairs,
        right_pairs,
        sums,
    } = scratch;
    let (rows, left_cols) = left.size();
    let right_panels = right.size().1.div_ceil(LANES);
    let operands = match engine {
        Engine::Single | Engine::Rounded => {
            let is_rounded = engine == Engine::Rounded;
            either!(right, rect => pack_columns(&rect, right_single, is_rounded));
            let (words, step) = match left {
                Source::Single(rect) if !is_rounded => (rect.data, rect.stride),
                _ => (
                    either!(left, rect => round_rows(&rect, left_single)),
                    left_cols,
                ),
            };
            let left = Left {
                words,
                row: 1,
                step,
            };
            Operands::Single(left, right_single.as_slice())
        }
        #[cfg(target_arch = "x86_64")]
        Engine::Pairs => {
            let panel = pair_panel(rows);
            let b = right_pairs.set_len(right_panels * panel);
            either!(right, rect => wide::row_pairs(features, &rect, Place::panels(panel), b));
            let words = left_cols.next_multiple_of(LANES);
            let a = left_pairs.set_len(rows.div_ceil(DEPTH) * LANES * words);
            either!(left, rect => wide::row_pairs(features, &rect, Place::rows(words), a));
            let left = Left {
                words: a,
                row: 1,
                step: words,
            };
            Operands::Pairs(left, b)
        }
        #[cfg(target_arch = "x86_64")]
        Engine::Tiles => {
            let panel = pair_panel(rows);
            let b = right_pairs.set_len(right_panels * panel);
            either!(right, rect => wide::row_pairs(features, &rect, Place::panels(panel), b));
            let a = left_pairs.set_len(left_cols.div_ceil(LANES) * panel);
            either!(left, rect => wide::cols_to_tiles(features, &rect, a));
            Operands::Tiles(LeftWords::packed(a, panel), b)
        }
    };
    (operands, sums)
}

/// A right operand in panels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right<'a> {
    Single(&'a [f32]),
    Pairs(&'a [u32]),
}

impl<'a> Right<'a> {
    /// The f32 panels; empty (and refused by every kernel) if they are pairs.
    const fn single(self) -> &'a [f32] {
        match self {
            Self::Single(panels) => panels,
            Self::Pairs(_) => &[],
        }
    }

    /// The panels of pairs; empty (and refused by every kernel) if they are f32.
    #[cfg(target_arch = "x86_64")]
    const fn pairs(self) -> &'a [u32] {
        match self {
            Self::Pairs(panels) => panels,
            Self::Single(_) => &[],
        }
    }
}

/// The nearest bf16, ties to even.
pub(crate) fn round_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let odd = (bits >> 16) & 1;
    let rounded = f32::from_bits(bits.wrapping_add(0x7fff + odd) & 0xffff_0000);
    if x.is_nan() { x } else { rounded }
}

fn round_rows<'o, T: Element>(rect: &Rect<'_, T>, out: &'o mut Aligned<f32>) -> &'o [f32] {
    let out = out.set_len(rect.rows * rect.cols);
    for (row, out) in out.chunks_exact_mut(rect.cols.max(1)).enumerate() {
        for (place, &x) in out.iter_mut().zip(rect.row(row)) {
            *place = round_bf16(x.wide());
        }
    }
    out
}

/// Panels of 16 columns, the rows one after another, zero past the right edge.
fn pack_columns<T: Element>(rect: &Rect<'_, T>, out: &mut Aligned<f32>, is_rounded: bool) {
    let out = out.set_len(rect.cols.div_ceil(LANES) * rect.rows * LANES);
    for (panel, out) in out.chunks_exact_mut((rect.rows * LANES).max(1)).enumerate() {
        let first = panel * LANES;
        let width = LANES.min(rect.cols - first);
        for (row, out) in out.chunks_exact_mut(LANES).enumerate() {
            let source = &rect.row(row)[first..first + width];
            for (place, x) in out.iter_mut().zip(source) {
                *place = x.wide();
            }
            out[width..].fill(0.0);
            if is_rounded {
                for x in out {
                    *x = round_bf16(*x);
                }
            }
        }
    }
}

/// The packing kernels behind a check of the features.
#[cfg(target_arch = "x86_64")]
pub(crate) mod wide {
    use crate::cpu::avx512::pack::{self, Packable};
    use crate::cpu::detect::{CpuFeatures, Isa};

    use super::{Place, Rect};

    pub(crate) fn rows_to_pairs<T: Packable>(
        features: CpuFeatures,
        rect: &Rect<'_, T>,
        place: Place,
        out: &mut [u32],
    ) {
        assert!(features.supports(Isa::Avx512Bf16));
        // SAFETY: the features name the instructions.
        unsafe { pack::rows_to_pairs(rect, place, out) };
    }

    pub(crate) fn row_pairs<T: Packable>(
        features: CpuFeatures,
        rect: &Rect<'_, T>,
        place: Place,
        out: &mut [u32],
    ) {
        assert!(features.supports(Isa::Avx512Bf16));
        // SAFETY: the features name the instructions.
        unsafe { pack::row_pairs(rect, place, out) };
    }

    pub(crate) fn rows_to_panels(features: CpuFeatures, rect: &Rect<'_>, out: &mut [u32]) {
        assert!(features.supports(Isa::Avx512Bf16));
        // SAFETY: the features name the instructions.
        unsafe { pack::rows_to_panels(rect, out) };
    }

    pub(crate) fn cols_to_tiles<T: Packable>(
        features: CpuFeatures,
        rect: &Rect<'_, T>,
        out: &mut [u32],
    ) {
        assert!(features.supports(Isa::Avx512Bf16));
        // SAFETY: the features name the instructions.
        unsafe { pack::cols_to_tiles(rect, out) };
    }

    pub(crate) fn flip_tile(
        features: CpuFeatures,
        tile: &[u32],
        (pair, out_panel): (usize, usize),
        out: &mut [u32],
    ) {
        assert!(features.supports(Isa::Avx512Bf16));
        // SAFETY: the features name the instructions.
        unsafe { pack::flip_tile(tile, pair, out_panel, out) };
    }
}
