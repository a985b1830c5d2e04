//! Forward products of blocks with activations rounded to 8 bits; the meaning is
//! [`frugal_core::quant::integer`].
//!
//! A panel, sixteen rows of the weight, is opened run by run into the first cache: levels as bytes,
//! factors as f32. Few rows of activations meet it there one by one, with dot products of bytes; more
//! meet it sixteen at a time, in tile registers where there are any.
//!
//! Sums within a group are whole numbers and exact, sums over groups follow the reduction, one
//! chain an output. A row's result therefore depends on that row and the weight alone, and is the
//! same on all instruction sets that fuse multiplication and addition.

mod few;
pub(crate) mod left;
pub(crate) mod panel;

use std::cell::RefCell;
use std::ops::Range;

use crate::cpu::detect::CpuFeatures;
use crate::cpu::pool::Pool;
use crate::cpu::stored::{RUN, StoredWeight};
use crate::cpu::vector::Level;

use self::few::{Few, MOST};
use self::left::{RowRun, TileRun};
use self::panel::{Form, PanelRows, PanelRun};
use super::finish::{Block, Output, Update};
use super::tile::LANES;
use super::view::{Layout, group};

/// Panels of an item: as many as stay in the second cache while all rows pass by.
const PANELS: usize = 4;
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
    /// Where the group's tiles begin, if it meets its panels that way.
    tiles: Option<usize>,
    panels: Range<usize>,
}

/// Working memory of a call, and of a thread.
#[derive(Debug, Default)]
struct Desk {
    rows: Vec<RowRun>,
    tiles: Vec<TileRun>,
}

thread_local! {
    static CALL: RefCell<Desk> = RefCell::default();
    static PANEL: RefCell<Vec<PanelRun>> = const { RefCell::new(Vec::new()) };
}

impl IntegerProduct<'_> {
    /// Forms the product; `rows` are those of each group in turn.
    pub(super) fn run(&self, rows: impl Iterator<Item = Range<usize>> + Clone) {
        let Some(format) = self.right.block_format() else {
            debug_assert!(false, "the caller has asked for the format");
            return;
        };
        let (form, outputs, cols) = (Form::of(format), self.right.rows(), self.right.cols());
        let mut desk = CALL.take();
        self.round(form, &mut desk.rows);
        let items = self.cut(rows, &mut desk);
        let numbers =
            items.iter().map(|item| item.panels.len()).sum::<usize>() * LANES * self.right.cols();
        let work = |item: &Item| {
            PANEL.with_borrow_mut(|panels| {
                let first = item.panels.start * LANES;
                let rows = |panel: usize| {
                    let row = first + panel * LANES;
                    PanelRows {
                        format,
                        bytes: self.right.blocks_from(item.group * outputs + row),
                        cols,
                        row_bytes: cols / format.block_values() * format.block_bytes(),
                        count: LANES.min(outputs - row),
                    }
                };
                match item.tiles {
                    Some(tiles) => self.in_tiles(form, item, &desk.tiles[tiles..], (&rows, panels)),
                    None => self.one_by_one(form, item, &desk.rows, (&rows, panels)),
                }
            });
        };
        if numbers < ALONE_NUMBERS {
            items.iter().for_each(work);
        } else {
            self.pool.run(items.len(), |i| {
                if let Some(item) = items.get(i) {
                    work(item);
                }
            });
        }
        CALL.set(desk);
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

    /// Shares out the work, and lays rows side by side where tiles will take them.
    fn cut(&self, rows: impl Iterator<Item = Range<usize>>, desk: &mut Desk) -> Vec<Item> {
        let panels = self.right.rows().div_ceil(LANES);
        let has_tiles = few::has_tiles(self.features);
        let threads = self.pool.threads();
        let (mut items, mut tiles) = (Vec::new(), Vec::new());
        for (group, rows) in rows.enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let in_tiles = has_tiles && rows.len() > MOST;
            let first_tile = in_tiles.then_some(tiles.len() * self.runs());
            if in_tiles {
                tiles.extend(
                    rows.clone()
                        .step_by(LANES)
                        .map(|row| row..(row + LANES).min(rows.end)),
                );
            }
            let mut start = 0;
            while start < panels {
                // Long stretches first, since memory is read ahead along them; short ones at the
                // end, so that the last to finish is not late by much.
                let wanted = if in_tiles {
                    PANELS
                } else {
                    (panels - start) / (2 * threads)
                };
                let end = (start + wanted.max(1)).min(panels);
                items.push(Item {
                    group,
                    rows: rows.clone(),
                    tiles: first_tile,
                    panels: start..end,
                });
                start = end;
            }
        }
        self.arrange(&tiles, desk);
        items
    }

    /// Lays the rows of each tile side by side.
    fn arrange(&self, tiles: &[Range<usize>], desk: &mut Desk) {
        let runs = self.runs();
        let (rows, to) = (&desk.rows, &mut desk.tiles);
        to.resize(tiles.len() * runs, TileRun::EMPTY);
        self.pool.for_each_chunk(to, 1, |index, to| {
            let (tile, run) = (&tiles[index / runs], index % runs);
            to[0].arrange(tile.clone().map(|row| &rows[row * runs + run]));
        });
    }

    /// All rows of an item, a few at a time, past each panel.
    fn one_by_one<'w>(
        &self,
        form: Form,
        item: &Item,
        rows: &[RowRun],
        (panel_rows, panels): (&dyn Fn(usize) -> PanelRows<'w>, &mut Vec<PanelRun>),
    ) {
        let (runs, level) = (self.runs(), Level::of(self.features));
        let few = Few::choose(self.features);
        // Many rows come back to the panel, so all of it is opened; few use a run while it is near.
        let is_kept = item.rows.len() > MOST;
        panels.resize(if is_kept { runs } else { 1 }, PanelRun::EMPTY);
        for panel in 0..item.panels.len() {
            let of = panel_rows(panel);
            if is_kept {
                for (run, to) in panels.iter_mut().enumerate() {
                    of.open(level, run, to);
                }
            }
            for first in item.rows.clone().step_by(MOST) {
                let count = MOST.min(item.rows.end - first);
                let mut sums = few::Sums::ZERO;
                for run in 0..runs {
                    if !is_kept {
                        of.open(level, run, &mut panels[0]);
                    }
                    let of_row = |row: usize| &rows[(first + row.min(count - 1)) * runs + run];
                    let panel = &panels[if is_kept { run } else { 0 }];
                    few.meet(form, panel, std::array::from_fn(of_row), (count, &mut sums));
                }
                self.write(item, panel, (first, count), &sums.0);
            }
        }
    }

    /// All rows of an item, sixteen at a time, past all its panels.
    #[cfg(target_arch = "x86_64")]
    fn in_tiles<'w>(
        &self,
        form: Form,
        item: &Item,
        tiles: &[TileRun],
        (panel_rows, panels): (&dyn Fn(usize) -> PanelRows<'w>, &mut Vec<PanelRun>),
    ) {
        use crate::cpu::amx::ByteTiles;
        let (runs, level) = (self.runs(), Level::of(self.features));
        let session = ByteTiles::load(self.features, form);
        panels.resize(runs * item.panels.len(), PanelRun::EMPTY);
        for (index, to) in panels.iter_mut().enumerate() {
            panel_rows(index / runs).open(level, index % runs, to);
        }
        let mut sums = few::Sums::<LANES>::ZERO;
        for (nth, first) in item.rows.clone().step_by(LANES).enumerate() {
            let count = LANES.min(item.rows.end - first);
            for (panel, opened) in panels.chunks_exact(runs).enumerate() {
                session.multiply(opened, &tiles[nth * runs..][..runs], &mut sums.0);
                self.write(item, panel, (first, count), &sums.0);
            }
        }
    }

    /// There are no tiles; `few::has_tiles` says so.
    #[cfg(not(target_arch = "x86_64"))]
    fn in_tiles<'w>(
        &self,
        form: Form,
        item: &Item,
        _: &[TileRun],
        (panel_rows, panels): (&dyn Fn(usize) -> PanelRows<'w>, &mut Vec<PanelRun>),
    ) {
        self.one_by_one(form, item, &[], (panel_rows, panels));
    }

    /// Writes the sums of some rows with one panel.
    fn write(
        &self,
        item: &Item,
        panel: usize,
        (first, rows): (usize, usize),
        sums: &[[f32; LANES]],
    ) {
        let col = (item.panels.start + panel) * LANES;
        let outputs = self.right.rows();
        let block = Block {
            acc: sums.as_flattened(),
            acc_stride: LANES,
            rows,
            cols: LANES.min(outputs - col),
            at: first * self.output.stride + col,
            bias_at: item.group * outputs + col,
            update: self.update,
        };
        // SAFETY: items share out the columns of a group, and groups have rows of their own (views
        // and offsets were checked): no two blocks overlap.
        unsafe { self.output.write(&block) };
    }
}
