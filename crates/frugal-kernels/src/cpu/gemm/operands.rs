//! Operands on their way to the kernels: rounded, paired and laid out as tiles or panels.

use std::cell::RefCell;

use crate::cpu::detect::CpuFeatures;

use super::aligned::Aligned;
use super::engine::Engine;
#[cfg(target_arch = "x86_64")]
use super::tile::Place;
use super::tile::{DEPTH, LANES, Rect, TILE_WORDS};

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
    /// bf16 tiles; left, sixteen rows after another.
    #[cfg(target_arch = "x86_64")]
    Tiles(&'a [u32], &'a [u32]),
}

/// Words of a panel or of sixteen left rows of bf16 pairs, `depth` deep.
pub(crate) const fn pair_panel(depth: usize) -> usize {
    depth.div_ceil(DEPTH) * TILE_WORDS
}

/// The left operand of `rect · bᵀ`: its rows are the product's.
pub(crate) fn left_rows<'a>(
    (engine, features): (Engine, CpuFeatures),
    rect: Rect<'a>,
    single: &'a mut Aligned<f32>,
    pairs: &'a mut Aligned<u32>,
    right: Right<'a>,
) -> Operands<'a> {
    match engine {
        Engine::Single => {
            let left = Left {
                words: rect.data,
                row: rect.stride,
                step: 1,
            };
            Operands::Single(left, right.single())
        }
        Engine::Rounded => {
            round_rows(&rect, single);
            let left = Left {
                words: single.as_slice(),
                row: rect.cols,
                step: 1,
            };
            Operands::Single(left, right.single())
        }
        #[cfg(target_arch = "x86_64")]
        Engine::Pairs => {
            let words = rect.cols.div_ceil(DEPTH) * LANES;
            let out = pairs.set_len(rect.rows * words);
            wide::rows_to_pairs(features, &rect, Place::rows(words), out);
            let left = Left {
                words: out,
                row: words,
                step: 1,
            };
            Operands::Pairs(left, right.pairs())
        }
        #[cfg(target_arch = "x86_64")]
        Engine::Tiles => {
            let words = pair_panel(rect.cols);
            let out = pairs.set_len(rect.rows.div_ceil(LANES) * words);
            wide::rows_to_pairs(features, &rect, Place::left_tiles(words), out);
            Operands::Tiles(out, right.pairs())
        }
    }
}

/// Both operands of `leftᵀ · right`: the rows of both are the reduction.
pub(crate) fn both_columns<'a>(
    (engine, features): (Engine, CpuFeatures),
    left: Rect<'a>,
    right: Rect<'a>,
    scratch: &'a mut Scratch,
) -> (Operands<'a>, &'a mut Aligned<f32>) {
    let Scratch {
        left_single,
        right_single,
        left_pairs,
        right_pairs,
        sums,
    } = scratch;
    let operands = match engine {
        Engine::Single | Engine::Rounded => {
            pack_columns(&right, right_single, engine == Engine::Rounded);
            let (a, a_step) = if engine == Engine::Rounded {
                round_rows(&left, left_single);
                (left_single.as_slice(), left.cols)
            } else {
                (left.data, left.stride)
            };
            let left = Left {
                words: a,
                row: 1,
                step: a_step,
            };
            Operands::Single(left, right_single.as_slice())
        }
        #[cfg(target_arch = "x86_64")]
        Engine::Pairs => {
            let panel = pair_panel(right.rows);
            let b = right_pairs.set_len(right.cols.div_ceil(LANES) * panel);
            wide::row_pairs(features, &right, Place::panels(panel), b);
            let words = left.cols.next_multiple_of(LANES);
            let a = left_pairs.set_len(left.rows.div_ceil(DEPTH) * LANES * words);
            wide::row_pairs(features, &left, Place::rows(words), a);
            let left = Left {
                words: a,
                row: 1,
                step: words,
            };
            Operands::Pairs(left, b)
        }
        #[cfg(target_arch = "x86_64")]
        Engine::Tiles => {
            let panel = pair_panel(right.rows);
            let b = right_pairs.set_len(right.cols.div_ceil(LANES) * panel);
            wide::row_pairs(features, &right, Place::panels(panel), b);
            let a = left_pairs.set_len(left.cols.div_ceil(LANES) * pair_panel(left.rows));
            wide::cols_to_tiles(features, &left, a);
            Operands::Tiles(a, b)
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

fn round_rows(rect: &Rect<'_>, out: &mut Aligned<f32>) {
    let out = out.set_len(rect.rows * rect.cols);
    for (row, out) in out.chunks_exact_mut(rect.cols.max(1)).enumerate() {
        for (place, &x) in out.iter_mut().zip(rect.row(row)) {
            *place = round_bf16(x);
        }
    }
}

/// Panels of 16 columns, the rows one after another, zero past the right edge.
fn pack_columns(rect: &Rect<'_>, out: &mut Aligned<f32>, is_rounded: bool) {
    let out = out.set_len(rect.cols.div_ceil(LANES) * rect.rows * LANES);
    for (panel, out) in out.chunks_exact_mut((rect.rows * LANES).max(1)).enumerate() {
        let first = panel * LANES;
        let width = LANES.min(rect.cols - first);
        for (row, out) in out.chunks_exact_mut(LANES).enumerate() {
            let source = &rect.row(row)[first..first + width];
            out[..width].copy_from_slice(source);
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
    use crate::cpu::avx512::pack;
    use crate::cpu::detect::{CpuFeatures, Isa};

    use super::{Place, Rect};

    pub(crate) fn rows_to_pairs(
        features: CpuFeatures,
        rect: &Rect<'_>,
        place: Place,
        out: &mut [u32],
    ) {
        assert!(features.supports(Isa::Avx512Bf16));
        // SAFETY: the features name the instructions.
        unsafe { pack::rows_to_pairs(rect, place, out) };
    }

    pub(crate) fn row_pairs(features: CpuFeatures, rect: &Rect<'_>, place: Place, out: &mut [u32]) {
        assert!(features.supports(Isa::Avx512Bf16));
        // SAFETY: the features name the instructions.
        unsafe { pack::row_pairs(rect, place, out) };
    }

    pub(crate) fn rows_to_panels(features: CpuFeatures, rect: &Rect<'_>, out: &mut [u32]) {
        assert!(features.supports(Isa::Avx512Bf16));
        // SAFETY: the features name the instructions.
        unsafe { pack::rows_to_panels(rect, out) };
    }

    pub(crate) fn cols_to_tiles(features: CpuFeatures, rect: &Rect<'_>, out: &mut [u32]) {
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
