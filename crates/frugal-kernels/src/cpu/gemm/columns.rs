//! Products whose reduction runs over the rows of both operands: weight gradients, dense, by
//! expert and by head.
//!
//! Many rows are cut into a few long pieces, each summed by itself and added in order; the cut
//! depends on the shapes alone, so the result does not depend on the number of threads.

use std::cell::RefCell;
use std::ops::Range;

use crate::cpu::detect::CpuFeatures;
use crate::cpu::pool::{DisjointMut, Pool};

use super::aligned::Aligned;
use super::engine::{Engine, Extent, Session, sweep_into};
use super::finish::{Block, Output, Update};
use super::operands::{both_columns, with_scratch};
use super::tile::{LANES, Source};
use super::view::{Layout, Operand};

/// A product, checked.
pub(super) struct ColumnProduct<'a> {
    pub(super) pool: &'a Pool,
    pub(super) features: CpuFeatures,
    pub(super) engine: Engine,
    /// dY, and one group a head; or one in all, whose rows the groups share out.
    pub(super) left: Operand<'a>,
    /// X, likewise.
    pub(super) right: Operand<'a>,
    pub(super) output: &'a mut [f32],
    pub(super) output_layout: Layout,
    pub(super) update: Update,
}

/// A piece of the reduction of one group, for some rows and columns of its output.
#[derive(Debug, Clone)]
struct Item {
    group: usize,
    /// Rows of both operands.
    piece: Range<usize>,
    /// Output rows: columns of the left operand.
    outputs: Range<usize>,
    /// Output columns: columns of the right operand.
    inputs: Range<usize>,
    /// Start of the piece's sums in the extra memory; the first piece goes straight to the output.
    extra: Option<usize>,
}

#[derive(Debug)]
struct Plan {
    items: Vec<Item>,
    extra: Aligned<f32>,
    /// (group, start in the extra memory), in the order of adding.
    additions: Vec<(usize, usize)>,
}

thread_local! {
    /// The plan of the call under way on this thread, kept for its memory.
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

/// Groups from which on their number alone keeps the threads busy.
const MANY_GROUPS: usize = 8;
/// As in [`super::rows`].
const ALONE_NANOSECONDS: usize = 4_000;

/// Pieces of a reduction over `rows`: a power of two, so that two or four threads share evenly.
const fn pieces(rows: usize, groups: usize) -> usize {
    match rows {
        _ if groups >= MANY_GROUPS => 1,
        0..1024 => 1,
        1024..2048 => 2,
        2048..8192 => 4,
        _ => 8,
    }
}

impl ColumnProduct<'_> {
    /// Forms the product; `rows` are those of each group in turn.
    pub(super) fn run(self, rows: impl Iterator<Item = Range<usize>> + Clone) {
        let (n, k) = (self.output_layout.rows, self.output_layout.cols);
        if n == 0 || k == 0 {
            return;
        }
        let mut plan = PLAN.take().unwrap_or_else(Plan::new);
        let total: usize = rows.clone().map(|r| r.len()).sum();
        let nanoseconds = 2 * total * n * k / self.engine.flops_per_nanosecond(self.features);
        let threads = if nanoseconds < ALONE_NANOSECONDS {
            1
        } else {
            self.pool.threads_here()
        };
        plan.fill(rows, (n, k), (threads, self.update));
        let sums = Sums {
            left: self.left,
            right: self.right,
            engine: self.engine,
            features: self.features,
            group_stride: self.output_layout.group_stride,
            update: self.update,
            output: Output::new(
                self.output,
                self.output_layout.row_stride,
                (1.0, None),
                self.features,
            ),
            extra: Output::new(plan.extra.as_mut_slice(), k, (1.0, None), self.features),
        };
        if threads == 1 {
            let session = Session::begin(self.engine, self.features);
            for item in &plan.items {
                sums.run_item(item, &session);
            }
        } else {
            let items = &plan.items;
            self.pool.run(items.len(), |i| {
                let session = Session::begin(self.engine, self.features);
                sums.run_item(&items[i], &session);
            });
        }
        if !plan.additions.is_empty() {
            add_pieces(self.pool, &plan, self.output, self.output_layout);
        }
        PLAN.set(Some(plan));
    }
}

impl Plan {
    const fn new() -> Self {
        Self {
            items: Vec::new(),
            extra: Aligned::new(),
            additions: Vec::new(),
        }
    }

    fn fill(
        &mut self,
        rows: impl Iterator<Item = Range<usize>> + Clone,
        (n, k): (usize, usize),
        (threads, update): (usize, Update),
    ) {
        self.items.clear();
        self.additions.clear();
        let groups = rows.clone().count();
        let in_all: usize = rows.clone().map(|r| pieces(r.len(), groups)).sum();
        let wanted = threads;
        let parts = wanted.div_ceil(in_all.max(1));
        // The wider side is cut, so that the narrower one is packed more than once.
        let (height, width) = if n >= k {
            (n.div_ceil(parts).next_multiple_of(2 * LANES), k)
        } else {
            (n, k.div_ceil(parts).next_multiple_of(2 * LANES))
        };
        let mut extra_len = 0;
        for (group, rows) in rows.enumerate() {
            if rows.is_empty() && update == Update::Add {
                continue;
            }
            let length = rows.len().div_ceil(pieces(rows.len(), groups));
            let length = length.next_multiple_of(2 * LANES).max(1);
            let mut start = rows.start;
            while start == rows.start || start < rows.end {
                let extra = (start > rows.start).then_some(extra_len);
                if extra.is_some() {
                    self.additions.push((group, extra_len));
                    extra_len += n * k;
                }
                for output in (0..n).step_by(height) {
                    for input in (0..k).step_by(width) {
                        self.items.push(Item {
                            group,
                            piece: start..(start + length).min(rows.end),
                            outputs: output..(output + height).min(n),
                            inputs: input..(input + width).min(k),
                            extra,
                        });
                    }
                }
                start += length;
            }
        }
        self.extra.set_len(extra_len);
    }
}

/// What the items share.
struct Sums<'a> {
    left: Operand<'a>,
    right: Operand<'a>,
    engine: Engine,
    features: CpuFeatures,
    output: Output<'a>,
    extra: Output<'a>,
    group_stride: usize,
    update: Update,
}

impl Sums<'_> {
    fn run_item(&self, item: &Item, session: &Session) {
        let (target, base, mut update) = match item.extra {
            Some(start) => (&self.extra, start, Update::Set),
            None => (&self.output, item.group * self.group_stride, self.update),
        };
        let base = base + item.outputs.start * target.stride + item.inputs.start;
        let mut start = item.piece.start;
        loop {
            let count = self.engine.rows_at_once().min(item.piece.end - start);
            let left = operand(self.left, item.group, (start, count), &item.outputs);
            let right = operand(self.right, item.group, (start, count), &item.inputs);
            self.add_rows(session, (left, right), (target, base), update);
            update = Update::Add;
            start += count;
            if start >= item.piece.end {
                break;
            }
        }
    }

    fn add_rows(
        &self,
        session: &Session,
        (left, right): (Source<'_>, Source<'_>),
        (target, base): (&Output<'_>, usize),
        update: Update,
    ) {
        with_scratch(|scratch| {
            let choice = (self.engine, self.features);
            let (operands, sums) = both_columns(choice, left, right, scratch);
            let (width, (depth, rows)) = (right.size().1, left.size());
            let extent = Extent {
                rows,
                panels: 0..width.div_ceil(LANES),
                depth,
            };
            sweep_into(session, &operands, &extent, sums, |done| {
                let col = done.panel * LANES;
                let cols = (done.panels * LANES).min(width - col);
                let at = base + done.row * target.stride + col;
                if done.sums.is_empty() {
                    // SAFETY: as for the write below.
                    return unsafe { target.destination((at, done.rows, cols), update) };
                }
                let block = Block {
                    acc: done.sums,
                    acc_stride: done.panels * LANES,
                    rows: done.rows,
                    cols,
                    at,
                    bias_at: 0,
                    update,
                };
                // SAFETY: items of one piece share out the rows and columns of the output; pieces
                // have memory of their own, and groups matrices of their own (the view was checked).
                unsafe { target.write(&block) };
                None
            });
        });
    }
}

fn operand<'a>(
    (data, layout): Operand<'a>,
    index: usize,
    rows: (usize, usize),
    cols: &Range<usize>,
) -> Source<'a> {
    let source = if layout.groups == 1 { 0 } else { index };
    data.part((layout, source), rows, (cols.start, cols.len()))
}

/// Adds the later pieces to the output, in their order.
fn add_pieces(pool: &Pool, plan: &Plan, output: &mut [f32], layout: Layout) {
    let extra = plan.extra.as_slice();
    let output = DisjointMut::new(output);
    pool.run(layout.rows.div_ceil(LANES), |block| {
        for row in block * LANES..((block + 1) * LANES).min(layout.rows) {
            for &(group, start) in &plan.additions {
                let at = group * layout.group_stride + row * layout.row_stride;
                // SAFETY: each row is one task's, and the view's rows do not overlap.
                let out = unsafe { output.slice(at..at + layout.cols) };
                let piece = &extra[start + row * layout.cols..][..layout.cols];
                for (place, &x) in out.iter_mut().zip(piece) {
                    *place += x;
                }
            }
        }
    });
}
