//! The weight's side: sixteen rows of blocks, opened a stretch of columns at a time.

use frugal_core::quant::{Block, BlockFormat, Groups, Opened};
use frugal_core::with_block;

use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::{RUN, StoredRows};
use crate::cpu::vector::{Lanes, kernel, prefetch};

/// Columns that meet an activation scale; a panel's groups are these or their halves.
pub(crate) const GROUP: usize = frugal_core::quant::integer::GROUP;
/// Activation groups of a run.
pub(crate) const GROUPS: usize = RUN / GROUP;
/// Bytes of a line.
pub(crate) const LINE: usize = 64;
/// Lines of one row's levels in a run.
pub(crate) const ROW_LINES: usize = RUN / LINE;
/// Columns that one instruction multiplies and adds.
pub(crate) const QUAD: usize = 4;
/// Runs that are opened together: a row's bytes are then read far enough along for the processor to
/// foresee them, and what is opened stays near.
pub(crate) const STRETCH: usize = 8;

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
    /// As opened, [`ROW_LINES`] lines for each row; [`turn_levels`] makes a line for each [`QUAD`]
    /// columns, with those of all rows.
    pub(crate) levels: [[u8; LINE]; LANES * ROW_LINES],
    /// Of each group the factors of the rows.
    pub(crate) factors: [[f32; LANES]; LANES],
    /// Of each group the minima of the rows.
    pub(crate) minima: [[f32; LANES]; LANES],
    /// Activation groups that the weight's columns fill; small models have fewer than [`GROUPS`].
    pub(crate) groups: usize,
}

impl PanelRun {
    pub(crate) const EMPTY: Self = Self {
        levels: [[0; LINE]; LANES * ROW_LINES],
        factors: [[0.0; LANES]; LANES],
        minima: [[0.0; LANES]; LANES],
        groups: GROUPS,
    };
}

kernel! {
    /// Opens as many runs of up to sixteen rows as there is room for, from number `first` on.
    pub(in crate::cpu) fn open<L>(l, format: BlockFormat, rows: StoredRows<'_>, first: usize, to: &mut [PanelRun]) {
        with_block!(format, B => open_rows::<_, B, _, _>(l, rows, first, to));
    }
}

#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "melts into the function that enables the instructions"
)]
fn open_rows<L: Lanes, B: Block<BYTES, VALUES>, const BYTES: usize, const VALUES: usize>(
    l: L,
    rows: StoredRows<'_>,
    first: usize,
    to: &mut [PanelRun],
) {
    let each = VALUES / B::GROUP;
    for row in 0..LANES {
        let runs = first..first + to.len();
        let mut ahead = rows
            .runs_ahead(row, runs.clone())
            .chunks(RUN / VALUES * BYTES);
        let mut blocks = rows.runs_of(row, runs).as_chunks::<BYTES>().0.iter();
        for run in to.iter_mut() {
            if let Some(bytes) = ahead.next() {
                prefetch(bytes);
            }
            let levels = &mut run.levels[row * ROW_LINES..][..ROW_LINES];
            let (levels, _) = levels.as_flattened_mut().as_chunks_mut::<VALUES>();
            for (nth, levels) in levels.iter_mut().enumerate() {
                let (mut factors, mut minima): (Groups, Groups) = ([0.0; LANES], [0.0; LANES]);
                match blocks.next() {
                    Some(block) => {
                        let into = Opened {
                            levels,
                            factors: &mut factors,
                            minima: &mut minima,
                        };
                        B::open(l, block, into);
                    }
                    None => levels.fill(0),
                }
                // By row for now.
                run.factors[row][nth * each..(nth + 1) * each].copy_from_slice(&factors[..each]);
                if B::HAS_MINIMA {
                    run.minima[row][nth * each..(nth + 1) * each].copy_from_slice(&minima[..each]);
                }
            }
        }
    }
    for (number, run) in (first..).zip(to) {
        let bytes = rows.runs_of(0, number..number + 1).len();
        run.groups = (bytes / BYTES * VALUES).div_ceil(GROUP);
        turn(l, &mut run.factors);
        if B::HAS_MINIMA {
            turn(l, &mut run.minima);
        }
    }
}

/// Sixteen rows of sixteen numbers, turned.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
fn turn<L: Lanes>(l: L, rows: &mut [[f32; LANES]; LANES]) {
    let turned = l.transpose(std::array::from_fn(|row| l.load(&rows[row])));
    for (to, row) in rows.iter_mut().zip(turned) {
        l.store(row, to);
    }
}

kernel! {
    /// Makes of each row's lines a line for each four columns.
    pub(in crate::cpu) fn turn_levels<L>(l, run: &mut PanelRun) {
        let mut turned = PanelRun::EMPTY.levels;
        for quarter in 0..ROW_LINES {
            let words = |row: usize| {
                let (words, _) = run.levels[row * ROW_LINES + quarter].as_chunks::<QUAD>();
                // Bits only: what moves lanes does not look at them as numbers.
                std::array::from_fn::<f32, LANES, _>(|i| f32::from_ne_bytes(words[i]))
            };
            let lines = l.transpose(std::array::from_fn(|row| l.load(&words(row))));
            for (line, to) in lines.into_iter().zip(&mut turned[quarter * LANES..]) {
                let mut words = [0.0; LANES];
                l.store(line, &mut words);
                for (to, word) in to.as_chunks_mut::<QUAD>().0.iter_mut().zip(words) {
                    *to = word.to_ne_bytes();
                }
            }
        }
        run.levels = turned;
    }
}
