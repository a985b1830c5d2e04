//! The weight's side: sixteen rows of blocks, opened a run of columns at a time.

use std::ops::Range;

use frugal_core::quant::{Block, BlockFormat, Groups, Opened, Opener};
use frugal_core::with_block;

use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::RUN;
use crate::cpu::vector::{Level, kernel, prefetch};

/// Columns that meet an activation scale; a panel's groups are these or their halves.
pub(crate) const GROUP: usize = frugal_core::quant::integer::GROUP;
/// Activation groups of a run.
pub(crate) const GROUPS: usize = RUN / GROUP;

/// What kernels have to know of a block format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Whether a factor is that of 16 columns rather than 32.
    pub(crate) is_halved: bool,
    /// The level of zero.
    pub(crate) zero: i32,
    /// Whether groups have minima.
    pub(crate) has_minima: bool,
}

impl Form {
    pub(crate) fn of(format: BlockFormat) -> Self {
        fn form<B: Block<BYTES, VALUES>, const BYTES: usize, const VALUES: usize>() -> Form {
            Form {
                is_halved: B::GROUP < GROUP,
                zero: i32::from(B::ZERO),
                has_minima: B::HAS_MINIMA,
            }
        }
        with_block!(format, B => form::<B, _, _>())
    }
}

/// [`RUN`] columns of sixteen rows. What a weight lacks, rows or columns, is zeros.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct PanelRun {
    /// Of each row its levels, by activation group.
    pub(crate) levels: [[[u8; GROUP]; GROUPS]; LANES],
    /// Of each group the factors of the rows.
    pub(crate) factors: [[f32; LANES]; LANES],
    /// Of each group the minima of the rows.
    pub(crate) minima: [[f32; LANES]; LANES],
}

impl PanelRun {
    pub(crate) const EMPTY: Self = Self {
        levels: [[[0; GROUP]; GROUPS]; LANES],
        factors: [[0.0; LANES]; LANES],
        minima: [[0.0; LANES]; LANES],
    };
}

/// Up to sixteen rows of a weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PanelRows<'a> {
    pub(crate) format: BlockFormat,
    /// The blocks of these rows and of those after them.
    pub(crate) bytes: &'a [u8],
    /// Numbers of a row.
    pub(crate) cols: usize,
    /// Bytes of a row.
    pub(crate) row_bytes: usize,
    /// At most sixteen.
    pub(crate) count: usize,
}

/// Runs that are asked for ahead of their use, so that memory is never idle.
const AHEAD: usize = 2;

impl PanelRows<'_> {
    /// Opens run number `run` and asks for those that will be opened soon.
    pub(in crate::cpu) fn open(&self, level: Level, run: usize, out: &mut PanelRun) {
        let runs = self.cols.div_ceil(RUN);
        let (row, next) = if run + AHEAD < runs {
            (0, run + AHEAD)
        } else {
            (LANES, (run + AHEAD) % runs)
        };
        let bytes = self.run_bytes(next);
        for row in row..row + self.count {
            let start = row * self.row_bytes;
            prefetch(
                self.bytes
                    .get(start + bytes.start..start + bytes.end)
                    .unwrap_or(&[]),
            );
        }
        open(level, self, run, out);
    }

    /// Where a run lies in its row.
    fn run_bytes(&self, run: usize) -> Range<usize> {
        let whole = RUN / self.format.block_values() * self.format.block_bytes();
        run * whole..((run + 1) * whole).min(self.row_bytes)
    }
}

kernel! {
    /// Opens some columns of the rows.
    fn open<L>(l, rows: &PanelRows<'_>, run: usize, out: &mut PanelRun) {
        let within = rows.run_bytes(run);
        let mut factors = [[0.0; LANES]; LANES];
        let mut minima = [[0.0; LANES]; LANES];
        if rows.count < LANES || (run + 1) * RUN > rows.cols {
            out.levels = PanelRun::EMPTY.levels;
        }
        let places = out.levels.iter_mut().zip(factors.iter_mut().zip(&mut minima));
        for (row, (levels, (factors, minima))) in places.enumerate().take(rows.count) {
            let bytes = &rows.bytes[row * rows.row_bytes..][within.clone()];
            let levels = levels.as_flattened_mut();
            with_block!(rows.format, B => open_row::<_, B, _, _>(l, bytes, levels, factors, minima));
        }
        turn(l, &factors, &mut out.factors);
        if Form::of(rows.format).has_minima {
            turn(l, &minima, &mut out.minima);
        }
    }
}

/// The blocks of one row.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "melts into the function that enables the instructions"
)]
fn open_row<O: Opener, B: Block<BYTES, VALUES>, const BYTES: usize, const VALUES: usize>(
    o: O,
    bytes: &[u8],
    levels: &mut [u8],
    factors: &mut Groups,
    minima: &mut Groups,
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (levels, _) = levels.as_chunks_mut::<VALUES>();
    let each = VALUES / B::GROUP;
    let factors = factors
        .chunks_exact_mut(each)
        .zip(minima.chunks_exact_mut(each));
    for ((block, levels), (to_factors, to_minima)) in blocks.iter().zip(levels).zip(factors) {
        let (mut factors, mut minima): (Groups, Groups) = ([0.0; LANES], [0.0; LANES]);
        let into = Opened {
            levels,
            factors: &mut factors,
            minima: &mut minima,
        };
        B::open(o, block, into);
        to_factors.copy_from_slice(&factors[..each]);
        if B::HAS_MINIMA {
            to_minima.copy_from_slice(&minima[..each]);
        }
    }
}

/// Sixteen rows of sixteen numbers, turned.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
fn turn<L: crate::cpu::vector::Lanes>(
    l: L,
    from: &[[f32; LANES]; LANES],
    to: &mut [[f32; LANES]; LANES],
) {
    let turned = l.transpose(std::array::from_fn(|row| l.load(&from[row])));
    for (to, row) in to.iter_mut().zip(turned) {
        l.store(row, to);
    }
}
