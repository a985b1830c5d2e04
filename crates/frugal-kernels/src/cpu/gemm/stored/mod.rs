//! Forward products with a weight in the form of its file, as if it were packed: the same bits.
//!
//! With tile registers the weight is the left operand, whose rows lie as tiles want them (`tiles`);
//! without, panels are decoded (`panels`), or FP8 is multiplied as it is decoded for a few rows
//! (`direct`). Products of whole numbers are [`super::integer`].

mod direct;
mod panels;
#[cfg(target_arch = "x86_64")]
mod tiles;

#[cfg(target_arch = "x86_64")]
pub(super) use self::tiles::turn;

use std::ops::Range;

use crate::cpu::detect::CpuFeatures;
use crate::cpu::pool::Pool;
use crate::cpu::stored::StoredWeight;

use super::Precision;
use super::engine::Engine;
use super::finish::{Output, Update};
#[cfg(target_arch = "x86_64")]
use super::tile::LANES;
use super::view::Layout;

/// A product, checked.
pub(super) struct StoredProduct<'a> {
    pub(super) pool: &'a Pool,
    pub(super) features: CpuFeatures,
    pub(super) precision: Precision,
    pub(super) left: &'a [f32],
    pub(super) left_layout: Layout,
    pub(super) right: &'a StoredWeight,
    pub(super) output: Output<'a>,
    pub(super) update: Update,
}

impl StoredProduct<'_> {
    /// Forms the product; `rows` are those of each group in turn.
    pub(super) fn run(&self, rows: impl Iterator<Item = Range<usize>> + Clone) {
        match Engine::choose(self.features, self.precision) {
            #[cfg(target_arch = "x86_64")]
            Engine::Tiles => self.in_tiles(rows),
            engine => self.in_panels(engine, rows),
        }
    }
}

/// Cuts `panels` into stretches of a multiple of `unit`: long ones first, since memory is read ahead
/// along them; short ones at the end, so that the last of the threads to finish is not late by much.
pub(super) fn stretches(
    panels: usize,
    unit: usize,
    threads: usize,
) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let len = ((panels - start) / (2 * threads))
            .next_multiple_of(unit)
            .max(unit);
        let stretch = start..(start + len).min(panels);
        start = stretch.end;
        (!stretch.is_empty()).then_some(stretch)
    })
}

/// Does all items of a weight of so many numbers: with one thread where those are fewer than `few`.
pub(super) fn run_all<T: Sync>(
    pool: &Pool,
    (numbers, few): (usize, usize),
    items: &[T],
    work: impl Fn(&T) + Sync,
) {
    if numbers < few {
        items.iter().for_each(work);
        return;
    }
    pool.run(items.len(), |i| {
        if let Some(item) = items.get(i) {
            work(item);
        }
    });
}

/// Rows in sixteens, the last perhaps fewer.
#[cfg(target_arch = "x86_64")]
pub(super) fn sixteens(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = rows.end;
    rows.step_by(LANES)
        .map(move |row| row..(row + LANES).min(end))
}
