//! Which kernels form a product, and one pass of them over prepared operands.

use std::cell::RefCell;
use std::ops::Range;

use crate::cpu::detect::{CpuFeatures, Isa};

use super::Precision;
use super::aligned::Aligned;
#[cfg(target_arch = "x86_64")]
use super::tile::{DEPTH, Place};
use super::tile::{LANES, Rect, Tile};
#[cfg(target_arch = "x86_64")]
use crate::cpu::amx::{TileBlock, Tiles};
#[cfg(target_arch = "x86_64")]
use crate::cpu::avx512::pack;

/// In which form operands are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// f32 as they are.
    Single,
    /// f32 rounded to bf16 beforehand, where there are no bf16 instructions.
    Rounded,
    /// Pairs of bf16, dot product instruction.
    #[cfg(target_arch = "x86_64")]
    Pairs,
    /// Pairs of bf16 in tile registers.
    #[cfg(target_arch = "x86_64")]
    Tiles,
}

/// In which form a packed weight is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Single,
    Rounded,
    Pairs,
}

impl Engine {
    pub(crate) fn choose(features: CpuFeatures, precision: Precision) -> Self {
        if precision == Precision::F32 {
            return Self::Single;
        }
        #[cfg(target_arch = "x86_64")]
        if features.supports(Isa::Amx) {
            return Self::Tiles;
        } else if features.supports(Isa::Avx512Bf16) {
            return Self::Pairs;
        }
        debug_assert!(!features.supports(Isa::Avx512Bf16));
        Self::Rounded
    }

    pub(crate) const fn format(self) -> Format {
        match self {
            Self::Single => Format::Single,
            Self::Rounded => Format::Rounded,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs | Self::Tiles => Format::Pairs,
        }
    }

    /// Rough speed of one thread, in FLOPs a nanosecond: what decides whether a product is worth
    /// waking others. Measured on Sapphire Rapids; a factor of two either way changes little.
    pub(crate) fn flops_per_nanosecond(self, features: CpuFeatures) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => 400,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => 120,
            Self::Single | Self::Rounded => match features.isa() {
                Isa::Amx | Isa::Avx512Bf16 | Isa::Avx512 => 80,
                Isa::Avx2 => 40,
                Isa::Neon => 20,
                Isa::Portable => 6,
            },
        }
    }
}

/// The f32 kernel of a machine: what it runs and how large its blocks are.
struct Single {
    run: unsafe fn(&Tile<'_, f32>, &mut [f32]),
    rows: usize,
    panels: usize,
}

impl Single {
    fn choose(features: CpuFeatures) -> Self {
        #[cfg(target_arch = "x86_64")]
        if features.supports(Isa::Avx512) {
            use crate::cpu::avx512::product;
            return Self {
                run: product::tile_f32,
                rows: product::ROWS,
                panels: product::PANELS,
            };
        } else if features.supports(Isa::Avx2) {
            use crate::cpu::avx2;
            return Self {
                run: avx2::tile_f32,
                rows: avx2::ROWS,
                panels: avx2::PANELS,
            };
        }
        #[cfg(target_arch = "aarch64")]
        if features.supports(Isa::Neon) {
            use crate::cpu::neon;
            return Self {
                run: neon::tile_f32,
                rows: neon::ROWS,
                panels: neon::PANELS,
            };
        }
        debug_assert_eq!(features.isa(), Isa::Portable);
        Self {
            run: crate::cpu::portable::tile_f32,
            rows: crate::cpu::portable::ROWS,
            panels: crate::cpu::portable::PANELS,
        }
    }
}

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

/// Both operands of a pass, prepared.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operands<'a> {
    /// f32; geometry as in [`Tile`].
    Single {
        a: &'a [f32],
        a_row: usize,
        a_step: usize,
        b: &'a [f32],
    },
    /// bf16 pairs; geometry as in [`Tile`].
    #[cfg(target_arch = "x86_64")]
    Pairs {
        a: &'a [u32],
        a_row: usize,
        a_step: usize,
        b: &'a [u32],
    },
    /// bf16 tiles, sixteen left rows after another.
    #[cfg(target_arch = "x86_64")]
    Tiles { a: &'a [u32], b: &'a [u32] },
}

/// A block that a pass has finished: where it is, and its sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done<'a> {
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) panel: usize,
    pub(crate) panels: usize,
    pub(crate) sums: &'a [f32],
}

/// Multiplies `rows` left rows by the right panels `panels`, `depth` deep, block by block.
pub(crate) fn sweep(
    features: CpuFeatures,
    operands: &Operands<'_>,
    (rows, panels, depth): (usize, Range<usize>, usize),
    sums: &mut Aligned<f32>,
    mut done: impl FnMut(Done<'_>),
) {
    match *operands {
        Operands::Single {
            a,
            a_row,
            a_step,
            b,
        } => {
            let kernel = Single::choose(features);
            let sums = sums.set_len(kernel.rows * kernel.panels * LANES);
            blocks(rows, panels, (kernel.rows, kernel.panels), |block| {
                let tile = Tile {
                    a: &a[(block.row * a_row).min(a.len())..],
                    a_row,
                    a_step,
                    b: &b[block.panel * depth * LANES..],
                    b_panel: depth * LANES,
                    steps: depth,
                    rows: block.rows,
                    panels: block.panels,
                };
                // SAFETY: `choose` took the kernel that the features allow.
                unsafe { (kernel.run)(&tile, sums) };
                done(Done { sums, ..block });
            });
        }
        #[cfg(target_arch = "x86_64")]
        Operands::Pairs {
            a,
            a_row,
            a_step,
            b,
        } => {
            use crate::cpu::avx512::product::{PANELS, ROWS, tile_pairs};
            assert!(features.supports(Isa::Avx512Bf16));
            let sums = sums.set_len(ROWS * PANELS * LANES);
            let b_panel = pair_panel(depth);
            blocks(rows, panels, (ROWS, PANELS), |block| {
                let tile = Tile {
                    a: &a[(block.row * a_row).min(a.len())..],
                    a_row,
                    a_step,
                    b: &b[block.panel * b_panel..],
                    b_panel,
                    steps: depth.div_ceil(2),
                    rows: block.rows,
                    panels: block.panels,
                };
                // SAFETY: the features name the instructions, see above.
                unsafe { tile_pairs(&tile, sums) };
                done(Done { sums, ..block });
            });
        }
        #[cfg(target_arch = "x86_64")]
        Operands::Tiles { a, b } => {
            use crate::cpu::amx::{PANELS, ROWS};
            let tiles = Tiles::load(features);
            let sums = sums.set_len(ROWS * PANELS * LANES);
            let words = pair_panel(depth);
            blocks(rows, panels, (ROWS, PANELS), |block| {
                let tile = TileBlock {
                    a: &a[block.row / LANES * words..],
                    a_block: words,
                    row_tiles: block.rows.div_ceil(LANES),
                    b: &b[block.panel * words..],
                    b_panel: words,
                    panels: block.panels,
                    steps: depth.div_ceil(DEPTH),
                };
                tiles.multiply(&tile, sums);
                done(Done { sums, ..block });
            });
        }
    }
}

/// Visits blocks of at most `most` rows and panels, the rows of a group of panels together so that
/// the panels stay near. Panels are shared out evenly: a lone narrow block at the end is slow.
fn blocks(
    rows: usize,
    panels: Range<usize>,
    most: (usize, usize),
    mut visit: impl FnMut(Done<'static>),
) {
    let mut groups = panels.len().div_ceil(most.1);
    let mut panel = panels.start;
    while groups > 0 {
        let width = (panels.end - panel).div_ceil(groups);
        let mut row = 0;
        while row < rows {
            let height = most.0.min(rows - row);
            visit(Done {
                row,
                rows: height,
                panel,
                panels: width,
                sums: &[],
            });
            row += height;
        }
        panel += width;
        groups -= 1;
    }
}

/// Words of a panel or of sixteen left rows of bf16 pairs, `depth` deep.
pub(crate) const fn pair_panel(depth: usize) -> usize {
    depth.div_ceil(super::tile::DEPTH) * super::tile::TILE_WORDS
}

/// The left operand of `rect · bᵀ`: its rows are the product's.
pub(crate) fn left_rows<'a>(
    (engine, features): (Engine, CpuFeatures),
    rect: Rect<'a>,
    single: &'a mut Aligned<f32>,
    pairs: &'a mut Aligned<u32>,
    right: Right<'a>,
) -> Operands<'a> {
    match (engine, right) {
        (Engine::Single, right) => Operands::Single {
            a: rect.data,
            a_row: rect.stride,
            a_step: 1,
            b: right.single(),
        },
        (Engine::Rounded, right) => {
            round_rows(&rect, single);
            Operands::Single {
                a: single.as_slice(),
                a_row: rect.cols,
                a_step: 1,
                b: right.single(),
            }
        }
        #[cfg(target_arch = "x86_64")]
        (Engine::Pairs, right) => {
            let words = rect.cols.div_ceil(DEPTH) * LANES;
            let out = pairs.set_len(rect.rows * words);
            wide::rows_to_pairs(features, &rect, Place::rows(words), out);
            Operands::Pairs {
                a: out,
                a_row: words,
                a_step: 1,
                b: right.pairs(),
            }
        }
        #[cfg(target_arch = "x86_64")]
        (Engine::Tiles, right) => {
            let words = pair_panel(rect.cols);
            let out = pairs.set_len(rect.rows.div_ceil(LANES) * words);
            wide::rows_to_pairs(features, &rect, Place::left_tiles(words), out);
            Operands::Tiles {
                a: out,
                b: right.pairs(),
            }
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
            Operands::Single {
                a,
                a_row: 1,
                a_step,
                b: right_single.as_slice(),
            }
        }
        #[cfg(target_arch = "x86_64")]
        Engine::Pairs => {
            let panel = pair_panel(right.rows);
            let b = right_pairs.set_len(right.cols.div_ceil(LANES) * panel);
            wide::row_pairs(features, &right, Place::panels(panel), b);
            let words = left.cols.next_multiple_of(LANES);
            let a = left_pairs.set_len(left.rows.div_ceil(DEPTH) * LANES * words);
            wide::row_pairs(features, &left, Place::rows(words), a);
            Operands::Pairs {
                a,
                a_row: 1,
                a_step: words,
                b,
            }
        }
        #[cfg(target_arch = "x86_64")]
        Engine::Tiles => {
            let panel = pair_panel(right.rows);
            let b = right_pairs.set_len(right.cols.div_ceil(LANES) * panel);
            wide::row_pairs(features, &right, Place::panels(panel), b);
            let a = left_pairs.set_len(left.cols.div_ceil(LANES) * pair_panel(left.rows));
            wide::cols_to_tiles(features, &left, a);
            Operands::Tiles { a, b }
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
    use super::{CpuFeatures, Isa, Place, Rect, pack};

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
