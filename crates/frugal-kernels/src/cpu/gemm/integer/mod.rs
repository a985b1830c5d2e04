//! Forward products of blocks with activations rounded to 8 bits; the meaning is
//! [`frugal_core::quant::integer`].
//!
//! A panel, sixteen rows of the weight, is opened into the first caches a stretch at a time: levels as
//! bytes, factors as f32. There rows of activations meet it, with dot products of bytes.
//!
//! Sums within a group are whole numbers and exact, sums over groups follow the reduction, one
//! chain an output. A row's result therefore depends on that row and the weight alone, and is the
//! same on all instruction sets that fuse multiplication and addition.

pub(crate) mod left;
pub(crate) mod meet;
pub(crate) mod panel;
#[cfg(target_arch = "x86_64")]
mod tiles;

use std::cell::RefCell;
use std::ops::Range;

use frugal_core::quant::BlockFormat;

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::pool::Pool;
use crate::cpu::stored::{RUN, StoredRows, StoredWeight};
use crate::cpu::vector::Level;

use self::left::RowRun;
use self::meet::{Direct, Kernels, MOST, Sums};
use self::panel::{Form, PanelRun, STRETCH};
use super::finish::{Output, PanelSums, Update};
use super::stored::{run_all, stretches};
use super::tile::LANES;
use super::view::{Layout, group};

/// Panels of an item whose rows come back to them: opened, they stay in the second cache.
const PANELS_OF_MANY: usize = 4;
/// A product whose weight one thread opens sooner than this is not worth another's attention.
const ALONE_NUMBERS: usize = 64 * 1024;
/// Rows from which on they are rounded by several threads.
const MANY_ROWS: usize = 8;

/// A product, checked.
pub(super) struct IntegerProduct<'a> {
    pub(super) pool: &'a Pool,
    pub(super) features: CpuFeatures,
    pub(super) left: &'a [f32],
    pub(super) left_layout: Layout,
    pub(super) right: &'a StoredWeight,
    pub(super) output: Output<'a>,
    pub(super) update: Update,
}

/// Some panels of one group, for all rows of the group.
#[derive(Debug)]
struct Item {
    group: usize,
    rows: Range<usize>,
    panels: Range<usize>,
}

thread_local! {
    /// Rounded rows of the call under way on this thread, kept for their memory.
    static ROUNDED: RefCell<Vec<RowRun>> = const { RefCell::new(Vec::new()) };
    /// What this thread has opened.
    static OPENED: RefCell<Vec<PanelRun>> = const { RefCell::new(Vec::new()) };
}

impl IntegerProduct<'_> {
    /// Forms the product; `rows` are those of each group in turn.
    pub(super) fn run(&self, rows: impl Iterator<Item = Range<usize>> + Clone) {
        let Some(format) = self.right.block_format() else {
            debug_assert!(false, "the caller has asked for the format");
            return;
        };
        let kind = (format, Form::of(format));
        let mut rounded = ROUNDED.take();
        self.round(kind.1, &mut rounded);
        let direct = Direct::choose(self.features, kind.0);
        #[cfg(target_arch = "x86_64")]
        if self.features.supports(Isa::Amx)
            && rows.clone().any(|rows| rows.len() > tiles::few(direct))
        {
            self.in_tiles(kind, direct, rows, &rounded);
            ROUNDED.set(rounded);
            return;
        }
        if let Some(direct) = direct.filter(|_| self.is_for_one_thread(rows.clone())) {
            self.by_one(direct, kind.1, rows, &rounded);
            ROUNDED.set(rounded);
            return;
        }
        let items = self.cut(rows, direct.map_or(MOST, Direct::most));
        let work = |item: &Item| self.past_panels(kind, direct, item, &rounded);
        let panels: usize = items.iter().map(|item| item.panels.len()).sum();
        let numbers = panels * LANES * self.right.cols();
        run_all(self.pool, (numbers, ALONE_NUMBERS), &items, work);
        ROUNDED.set(rounded);
    }

    /// The rows of an item past its panels, which are opened where the format has no kernels or the
    /// rows are many.
    fn past_panels(
        &self,
        kind: (BlockFormat, Form),
        direct: Option<Direct>,
        item: &Item,
        rounded: &[RowRun],
    ) {
        let left = direct.map_or(item.panels.start, |direct| {
            self.pass_directly(direct, kind.1, item, rounded)
        });
        let item = &Item {
            group: item.group,
            rows: item.rows.clone(),
            panels: left..item.panels.end,
        };
        OPENED.with_borrow_mut(|opened| {
            if item.rows.len() <= MOST {
                self.pass_once(kind, item, rounded, opened);
            } else {
                self.come_back(kind, item, rounded, opened);
            }
        });
    }

    /// Whether one thread is enough, panel by panel: where no group has more than a row, and the
    /// weight is small.
    fn is_for_one_thread(&self, mut rows: impl Iterator<Item = Range<usize>>) -> bool {
        let outputs = self.right.rows();
        let most = ALONE_NUMBERS / (outputs * self.right.cols()).max(1);
        let mut count = 0;
        let is_small = rows.all(|rows| {
            count += rows.len();
            rows.len() <= 1 && count <= most
        });
        is_small && outputs.is_multiple_of(LANES)
    }

    /// A row for each group at most.
    fn by_one(
        &self,
        direct: Direct,
        form: Form,
        rows: impl Iterator<Item = Range<usize>>,
        rounded: &[RowRun],
    ) {
        let (runs, outputs) = (self.runs(), self.right.rows());
        for (group, rows) in rows.enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let row = &rounded[rows.start * runs..][..runs];
            let stored = self.right.rows_at(group * outputs, outputs);
            for col in (0..outputs).step_by(LANES) {
                let Some(sixteen) = stored.sixteen_from(col) else {
                    debug_assert!(false, "a weight has all its rows");
                    return;
                };
                let sums = direct.meet_one(form, sixteen, row);
                self.write((group, col / LANES), rows.clone(), &sums.0);
            }
        }
    }

    /// Runs of columns.
    fn runs(&self) -> usize {
        self.right.cols().div_ceil(RUN)
    }

    /// Rounds all rows.
    fn round(&self, form: Form, to: &mut Vec<RowRun>) {
        let (runs, level) = (self.runs(), Level::of(self.features));
        let rect = group(self.left, self.left_layout, 0);
        to.resize(rect.rows * runs, RowRun::EMPTY);
        if rect.rows < MANY_ROWS {
            for (row, to) in to.chunks_exact_mut(runs.max(1)).enumerate() {
                left::round(level, form, rect.row(row), to);
            }
        } else {
            self.pool.for_each_chunk(to, runs.max(1), |row, to| {
                left::round(level, form, rect.row(row), to);
            });
        }
    }

    /// Shares out the work: up to `few` rows go past their panels, more come back to them.
    fn cut(&self, rows: impl Iterator<Item = Range<usize>>, few: usize) -> Vec<Item> {
        let panels = self.right.rows().div_ceil(LANES);
        let mut items = Vec::new();
        for (group, rows) in rows.enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let (unit, threads) = if rows.len() <= few {
                (1, self.pool.threads())
            } else {
                // The shortest stretches throughout.
                (PANELS_OF_MANY, panels)
            };
            for panels in stretches(panels, unit, threads) {
                items.push(Item {
                    group,
                    rows: rows.clone(),
                    panels,
                });
            }
        }
        items
    }

    /// The rows of a panel, where they lie.
    fn stored(&self, item: &Item, panel: usize) -> StoredRows<'_> {
        let (outputs, row) = (self.right.rows(), panel * LANES);
        self.right
            .rows_at(item.group * outputs + row, LANES.min(outputs - row))
    }

    /// Opens some runs of a panel, for so many rows.
    fn open(
        &self,
        (kernels, format): (&Kernels, BlockFormat),
        (item, panel, first): (&Item, usize, usize),
        to: &mut [PanelRun],
    ) {
        let level = Level::of(self.features);
        panel::open(level, format, self.stored(item, panel), first, to);
        if kernels.wants_turned(item.rows.len()) {
            for run in to {
                panel::turn_levels(level, run);
            }
        }
    }

    /// Rows that meet panels where those lie; the first panel that remains.
    fn pass_directly(&self, direct: Direct, form: Form, item: &Item, rounded: &[RowRun]) -> usize {
        if item.rows.len() > direct.most() {
            return item.panels.start;
        }
        let runs = self.runs();
        self.stored(item, item.panels.start).ask_first();
        for panel in item.panels.clone() {
            let Some(stored) = self.stored(item, panel).sixteen() else {
                return panel;
            };
            for first in item.rows.clone().step_by(MOST) {
                let own = first..(first + MOST).min(item.rows.end);
                let rows: [_; MOST] = std::array::from_fn(|i| {
                    &rounded[(first + i).min(own.end - 1) * runs..][..runs]
                });
                let sums = direct.meet(form, stored, (&rows, own.len()));
                self.write((item.group, panel), own, &sums.0);
            }
        }
        item.panels.end
    }

    /// A few rows: they meet each stretch of a panel once.
    fn pass_once(
        &self,
        (format, form): (BlockFormat, Form),
        item: &Item,
        rounded: &[RowRun],
        opened: &mut Vec<PanelRun>,
    ) {
        let (runs, kernels) = (self.runs(), Kernels::choose(self.features));
        let is_turned = kernels.wants_turned(item.rows.len());
        opened.resize(STRETCH.min(runs), PanelRun::EMPTY);
        for panel in item.panels.clone() {
            let mut sums = Sums::ZERO;
            for first in (0..runs).step_by(STRETCH) {
                let opened = &mut opened[..STRETCH.min(runs - first)];
                self.open((&kernels, format), (item, panel, first), opened);
                for (run, opened) in (first..).zip(&*opened) {
                    let rows = rows_of(rounded, (runs, run), &item.rows);
                    kernels.meet(
                        is_turned,
                        (form, opened),
                        &rows[..item.rows.len()],
                        &mut sums,
                    );
                }
            }
            self.write((item.group, panel), item.rows.clone(), &sums.0);
        }
    }

    /// Many rows: they come back to the panels of an item, which are opened as a whole.
    fn come_back(
        &self,
        (format, form): (BlockFormat, Form),
        item: &Item,
        rounded: &[RowRun],
        opened: &mut Vec<PanelRun>,
    ) {
        let (runs, kernels) = (self.runs(), Kernels::choose(self.features));
        let is_turned = kernels.wants_turned(item.rows.len());
        opened.resize(runs * item.panels.len(), PanelRun::EMPTY);
        for (panel, opened) in item.panels.clone().zip(opened.chunks_exact_mut(runs)) {
            self.open((&kernels, format), (item, panel, 0), opened);
        }
        for first in item.rows.clone().step_by(MOST) {
            let rows = first..(first + MOST).min(item.rows.end);
            for (panel, opened) in item.panels.clone().zip(opened.chunks_exact(runs)) {
                let mut sums = Sums::ZERO;
                for (run, opened) in opened.iter().enumerate() {
                    let of_run = rows_of(rounded, (runs, run), &rows);
                    kernels.meet(is_turned, (form, opened), &of_run[..rows.len()], &mut sums);
                }
                self.write((item.group, panel), rows.clone(), &sums.0);
            }
        }
    }

    /// Writes the sums of some rows with one panel: group, and number in it.
    fn write(&self, panel: (usize, usize), rows: Range<usize>, sums: &[[f32; LANES]]) {
        let sums = PanelSums {
            acc: sums.as_flattened(),
            rows,
            panel,
            outputs: self.right.rows(),
            update: self.update,
        };
        // SAFETY: items share out the columns of a group, and groups have rows of their own (views
        // and offsets were checked): no two panels overlap. One thread alone shares with nobody.
        unsafe { self.output.write_panel(&sums) };
    }
}

/// One run of each of up to [`MOST`] rows, the last repeated.
fn rows_of<'a>(
    rounded: &'a [RowRun],
    (runs, run): (usize, usize),
    rows: &Range<usize>,
) -> [&'a RowRun; MOST] {
    std::array::from_fn(|i| &rounded[(rows.start + i).min(rows.end - 1) * runs + run])
}
