//! Products whose result has the rows of the left operand: forward and input gradient, dense,
//! by expert and by head.
//!
//! The work is cut into items of some rows, of one group, by some panels. How it is cut changes no
//! bit of the result: an output is one sum over the whole reduction, in one order.

use std::cell::RefCell;
use std::ops::Range;

use crate::cpu::detect::CpuFeatures;
use crate::cpu::pool::Pool;

use super::engine::{Engine, Extent, Session, sweep_into};
use super::finish::{Block, Output, Update};
use super::operands::{Scratch, left_rows, with_scratch};
use super::tile::LANES;
use super::view::{Layout, Numbers};
use super::weight::Panels;

/// A product, checked.
pub(super) struct RowProduct<'a> {
    pub(super) pool: &'a Pool,
    pub(super) features: CpuFeatures,
    pub(super) engine: Engine,
    pub(super) left: Numbers<'a>,
    /// One group a head; or one in all, whose rows the groups share out.
    pub(super) left_layout: Layout,
    pub(super) right: &'a Panels,
    pub(super) output: Output<'a>,
    pub(super) update: Update,
    /// Whether the output is too large to be in the second cache.
    pub(super) is_far: bool,
    /// Numbers from one group's columns to the next in an output row; 0 where rows are shared out.
    pub(super) output_group: usize,
}

/// Some rows of one group by some panels.
#[derive(Debug, Clone)]
struct Item {
    group: usize,
    rows: Range<usize>,
    panels: Range<usize>,
}

thread_local! {
    /// The list of the call under way on this thread, kept for its memory.
    static ITEMS: RefCell<Vec<Item>> = const { RefCell::new(Vec::new()) };
}

/// A product that one thread finishes sooner than this is not worth another's attention.
const ALONE_NANOSECONDS: usize = 3_000;
/// Items for each thread, so that the last to finish is not late by much.
const ITEMS_A_THREAD: usize = 3;
/// Most and fewest rows of an item: at the most, prepared rows and one panel group stay in the
/// second cache; at the fewest, a block of tiles is full.
const MOST_ROWS: usize = 128;
const FEWEST_ROWS: usize = 32;
/// f32 numbers an item's left rows may have before the item gets fewer rows.
const MOST_NUMBERS: usize = 32 * 1024;

impl RowProduct<'_> {
    /// Forms the product; `rows` are those of each group in turn.
    pub(super) fn run(&self, rows: impl Iterator<Item = Range<usize>> + Clone) {
        let mut items = ITEMS.take();
        items.clear();
        let total: usize = rows.clone().map(|r| r.len()).sum();
        let longest = rows.clone().map(|r| r.len()).max().unwrap_or(0);
        let flops = 2 * total * self.right.depth * self.right.outputs;
        let nanoseconds = flops / self.engine.flops_per_nanosecond(self.features);
        let threads = if nanoseconds < ALONE_NANOSECONDS {
            1
        } else {
            self.pool.threads_here()
        };
        self.cut(rows, threads, &mut items);
        if threads == 1 {
            let session = Session::begin_for(self.engine, self.features, longest);
            with_scratch(|scratch| {
                for item in &items {
                    self.run_item(item, &session, scratch);
                }
            });
        } else {
            self.pool.run(items.len(), |i| {
                if let Some(item) = items.get(i) {
                    let session = Session::begin_for(self.engine, self.features, longest);
                    with_scratch(|scratch| self.run_item(item, &session, scratch));
                }
            });
        }
        ITEMS.set(items);
    }

    fn cut(
        &self,
        rows: impl Iterator<Item = Range<usize>> + Clone,
        threads: usize,
        items: &mut Vec<Item>,
    ) {
        let wanted = if threads == 1 {
            1
        } else {
            threads * ITEMS_A_THREAD
        };
        let count =
            |height: usize| -> usize { rows.clone().map(|r| r.len().div_ceil(height)).sum() };
        let mut height = MOST_ROWS;
        while height > FEWEST_ROWS
            && (count(height) < wanted || height * self.right.depth > MOST_NUMBERS)
        {
            height /= 2;
        }
        let panels = self.right.count();
        let parts = wanted.div_ceil(count(height).max(1));
        let width = panels.div_ceil(parts).next_multiple_of(2).max(2);
        for (group, rows) in rows.enumerate() {
            for first in rows.clone().step_by(height) {
                for panel in (0..panels).step_by(width) {
                    items.push(Item {
                        group,
                        rows: first..(first + height).min(rows.end),
                        panels: panel..(panel + width).min(panels),
                    });
                }
            }
        }
    }

    fn run_item(&self, item: &Item, session: &Session, scratch: &mut Scratch) {
        let layout = self.left_layout;
        let source = if layout.groups == 1 { 0 } else { item.group };
        let rows = (item.rows.start, item.rows.len());
        let part = self.left.part((layout, source), rows, (0, layout.cols));
        let Scratch {
            left_single,
            left_pairs,
            sums,
            ..
        } = scratch;
        let operands = left_rows(
            (self.engine, self.features),
            part,
            left_single,
            left_pairs,
            self.right.group(item.group),
        );
        let extent = Extent {
            rows: rows.1,
            panels: item.panels.clone(),
            depth: self.right.depth,
        };
        let outputs = self.right.outputs;
        let first = item.rows.start * self.output.stride + item.group * self.output_group;
        sweep_into(session, &operands, &extent, sums, |done| {
            let col = done.panel * LANES;
            let at = first + done.row * self.output.stride + col;
            let cols = (done.panels * LANES).min(outputs - col);
            if done.sums.is_empty() {
                let place = (at, done.rows, cols);
                if self.is_far {
                    self.output.expect_write(place);
                }
                // SAFETY: as for the write below.
                return unsafe { self.output.destination(place, self.update) };
            }
            let block = Block {
                acc: done.sums,
                acc_stride: done.panels * LANES,
                rows: done.rows,
                cols,
                at,
                bias_at: item.group * outputs + col,
                update: self.update,
            };
            // SAFETY: items share out the rows of a group and its columns, and groups have rows or
            // columns of their own (views and offsets were checked): no two blocks overlap.
            unsafe { self.output.write(&block) };
            None
        });
    }
}
