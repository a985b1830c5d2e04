//! Which kernels form a product, and one pass of them over prepared operands.

use std::ops::Range;

use crate::cpu::detect::{CpuFeatures, Isa};

use super::Precision;
use super::aligned::Aligned;
use super::finish::Destination;
use super::operands::{Left, Operands};
#[cfg(target_arch = "x86_64")]
use super::operands::{LeftWords, pair_panel};
#[cfg(target_arch = "x86_64")]
use super::tile::DEPTH;
use super::tile::{LANES, Tile};
#[cfg(target_arch = "x86_64")]
use crate::cpu::amx::Tiles;

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

    /// Rows of a weight gradient that are packed and summed at a time: as many as let the panels
    /// of one block of the output stay in the first cache.
    pub(crate) const fn rows_at_once(self) -> usize {
        match self {
            Self::Single | Self::Rounded => 128,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs | Self::Tiles => 256,
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

/// What a thread holds while it forms products.
#[derive(Debug)]
pub(crate) struct Session {
    features: CpuFeatures,
    #[cfg(target_arch = "x86_64")]
    tiles: Option<Tiles>,
}

impl Session {
    /// The tile registers, where it has them.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn tiles(&self) -> Option<&Tiles> {
        self.tiles.as_ref()
    }

    /// Makes this thread ready. Loading tiles takes about 0.1 microseconds: once for many products.
    pub(crate) fn begin(engine: Engine, features: CpuFeatures) -> Self {
        Self::begin_for(engine, features, usize::MAX)
    }

    /// As [`Self::begin`] for passes of up to `rows` left rows.
    pub(crate) fn begin_for(engine: Engine, features: CpuFeatures, rows: usize) -> Self {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (engine, rows);
        Self {
            features,
            #[cfg(target_arch = "x86_64")]
            tiles: (engine == Engine::Tiles).then(|| Tiles::load_for(features, rows)),
        }
    }
}

/// A block of a pass: where it is, and its sums once it is multiplied (before that, none).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done<'a> {
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) panel: usize,
    pub(crate) panels: usize,
    pub(crate) sums: &'a [f32],
}

/// How large a pass is.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    /// Left rows.
    pub(crate) rows: usize,
    /// Right panels.
    pub(crate) panels: Range<usize>,
    /// Length of the reduction, in numbers.
    pub(crate) depth: usize,
}

/// Multiplies left rows by right panels, block by block. Each block is shown to `done` twice: without
/// sums before it is multiplied, so that its place can be fetched meanwhile, and with them.
pub(crate) fn sweep(
    session: &Session,
    operands: &Operands<'_>,
    extent: &Extent,
    sums: &mut Aligned<f32>,
    mut done: impl FnMut(Done<'_>),
) {
    sweep_into(session, operands, extent, sums, |block| {
        done(block);
        None
    });
}

/// As [`sweep`]; `done` may answer a block that has no sums yet with the place they belong to. They
/// then go there at once if the kernel can do that, and the block is not shown again.
pub(crate) fn sweep_into(
    session: &Session,
    operands: &Operands<'_>,
    extent: &Extent,
    sums: &mut Aligned<f32>,
    mut done: impl FnMut(Done<'_>) -> Option<Destination>,
) {
    match operands {
        Operands::Single(left, b) => {
            let kernel = Single::choose(session.features);
            let most = (kernel.rows, kernel.panels);
            let sums = sums.set_len(kernel.rows * kernel.panels * LANES);
            let b_panel = extent.depth * LANES;
            blocks(extent, most, |block| {
                done(block);
                let tile = left.tile(&block, (b, b_panel), extent.depth);
                // SAFETY: `choose` took the kernel that the features allow.
                unsafe { (kernel.run)(&tile, sums) };
                done(Done { sums, ..block });
            });
        }
        #[cfg(target_arch = "x86_64")]
        Operands::Pairs(left, b) => {
            use crate::cpu::avx512::product::{PANELS, ROWS, tile_pairs};
            assert!(session.features.supports(Isa::Avx512Bf16));
            let sums = sums.set_len(ROWS * PANELS * LANES);
            let b_panel = pair_panel(extent.depth);
            blocks(extent, (ROWS, PANELS), |block| {
                done(block);
                let tile = left.tile(&block, (b, b_panel), extent.depth.div_ceil(2));
                // SAFETY: the features name the instructions, see above.
                unsafe { tile_pairs(&tile, sums) };
                done(Done { sums, ..block });
            });
        }
        #[cfg(target_arch = "x86_64")]
        Operands::Tiles(a, b) => sweep_tiles(session, (a, b), extent, (sums, done)),
    }
}

#[cfg(target_arch = "x86_64")]
fn sweep_tiles(
    session: &Session,
    (a, b): (&LeftWords<'_>, &[u32]),
    extent: &Extent,
    (sums, mut done): (
        &mut Aligned<f32>,
        impl FnMut(Done<'_>) -> Option<Destination>,
    ),
) {
    use crate::cpu::amx::{PANELS, PANELS_OF_FEW, ROWS, TileBlock};
    let own;
    let tiles = if let Some(tiles) = &session.tiles {
        tiles
    } else {
        own = Tiles::load(session.features);
        &own
    };
    let sums = sums.set_len(ROWS * PANELS * LANES);
    let most = if extent.rows <= LANES {
        (LANES, PANELS_OF_FEW)
    } else {
        (ROWS, PANELS)
    };
    let words = pair_panel(extent.depth);
    blocks(extent, most, |block| {
        let to = done(block);
        let tile = TileBlock {
            a: &a.words[block.row / LANES * a.block..],
            a_block: a.block,
            a_row: a.row,
            a_step: a.step,
            row_tiles: block.rows.div_ceil(LANES),
            b: &b[block.panel * words..],
            b_panel: words,
            panels: block.panels,
            steps: extent.depth.div_ceil(DEPTH),
        };
        if let Some(to) = to {
            // SAFETY: whoever made the destination vouched that it holds the whole tiles of the
            // block and that nobody else uses them.
            unsafe { tiles.multiply_into(&tile, to) };
        } else {
            tiles.multiply(&tile, sums);
            done(Done { sums, ..block });
        }
    });
}

impl<'a, T> Left<'a, T> {
    /// The product of a block, `steps` words deep.
    fn tile(&self, block: &Done<'_>, (b, b_panel): (&'a [T], usize), steps: usize) -> Tile<'a, T> {
        Tile {
            a: &self.words[(block.row * self.row).min(self.words.len())..],
            a_row: self.row,
            a_step: self.step,
            b: &b[block.panel * b_panel..],
            b_panel,
            steps,
            rows: block.rows,
            panels: block.panels,
        }
    }
}

/// Visits blocks of at most `most` rows and panels, the rows of a group of panels together so that
/// the panels stay near. Panels are shared out evenly: a lone narrow block at the end is slow.
fn blocks(extent: &Extent, most: (usize, usize), mut visit: impl FnMut(Done<'static>)) {
    let (rows, panels) = (extent.rows, &extent.panels);
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
