//! Stored weights without tile registers.
//!
//! The left rows are prepared once for all; then each item decodes a few panels of the weight into
//! the second cache and multiplies all rows by them. Panels hold what the packed weight would and the
//! kernels are the same, so the result is that of the packed weight, bit for bit.

use std::cell::RefCell;
use std::ops::Range;

use crate::cpu::pool::DisjointMut;
use crate::cpu::stored::RUN;
use crate::cpu::vector::{Level, kernel};

use super::super::aligned::Aligned;
use super::super::engine::{Engine, Extent, Format, Session, sweep};
use super::super::finish::Block;
use super::super::operands::{Left, Operands, Scratch, pair_panel, round_bf16, with_scratch};
use super::super::tile::{DEPTH, LANES, Rect, TILE_WORDS};
use super::super::view::group;
use super::super::weight::{pack_pairs, pack_single};
use super::StoredProduct;

/// Panels decoded at a time: as many as the kernels for few rows take at once.
const PANELS: usize = 4;
/// A product whose weight one thread decodes sooner than this is not worth another's attention.
const ALONE_NUMBERS: usize = 16 * 1024;

/// The left rows of all groups as the engine takes them.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) single: Aligned<f32>,
    pairs: Aligned<u32>,
}

/// Some panels of one group, for all rows of the group.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) group: usize,
    pub(super) rows: Range<usize>,
    /// Where the group's prepared rows begin, in runs of sixteen.
    pub(super) run: usize,
    pub(super) panels: Range<usize>,
}

thread_local! {
    /// Kept for their memory.
    static PREPARED: RefCell<Option<Prepared>> = const { RefCell::new(None) };
}

impl StoredProduct<'_> {
    /// Forms the product; `rows` are those of each group in turn.
    pub(super) fn in_panels(
        &self,
        engine: Engine,
        rows: impl Iterator<Item = Range<usize>> + Clone,
    ) {
        let (outputs, depth) = (self.right.rows(), self.right.cols());
        let mut prepared = PREPARED.take().unwrap_or(Prepared {
            single: Aligned::new(),
            pairs: Aligned::new(),
        });
        let runs = self.prepare(engine, rows.clone(), &mut prepared);
        let mut items = Vec::new();
        let mut run = 0;
        for (group, rows) in rows.enumerate() {
            if rows.is_empty() {
                continue;
            }
            for first in (0..outputs.div_ceil(LANES)).step_by(PANELS) {
                items.push(Item {
                    group,
                    rows: rows.clone(),
                    run,
                    panels: first..(first + PANELS).min(outputs.div_ceil(LANES)),
                });
            }
            run += rows.len().div_ceil(LANES);
        }
        debug_assert_eq!(run, runs);
        let work = |item: &Item| {
            let session = Session::begin(engine, self.features);
            with_scratch(|scratch| self.run_item(engine, item, &prepared, (&session, scratch)));
        };
        let numbers = items.len() * PANELS * LANES * depth;
        super::run_all(self.pool, (numbers, ALONE_NUMBERS), &items, work);
        PREPARED.set(Some(prepared));
    }

    /// Rounds and lays out the left rows, sixteen after another, each group from a fresh sixteen.
    /// Returns how many sixteens there are.
    fn prepare(
        &self,
        engine: Engine,
        rows: impl Iterator<Item = Range<usize>>,
        prepared: &mut Prepared,
    ) -> usize {
        let mut runs = Vec::new();
        for rows in rows {
            for first in rows.clone().step_by(LANES) {
                runs.push(first..(first + LANES).min(rows.end));
            }
        }
        let depth = self.right.cols();
        let rect = |rows: &Range<usize>| {
            group(self.left, self.left_layout, 0).part((rows.start, rows.len()), (0, depth))
        };
        match engine {
            // Read where it lies.
            Engine::Single => {}
            Engine::Rounded => {
                let out = prepared.single.set_len(runs.len() * LANES * depth);
                self.pool
                    .for_each_chunk(out, (LANES * depth).max(1), |i, out| {
                        let rect = rect(&runs[i]);
                        for (row, out) in out.chunks_exact_mut(depth).take(rect.rows).enumerate() {
                            for (place, x) in out.iter_mut().zip(rect.row(row)) {
                                *place = round_bf16(*x);
                            }
                        }
                    });
            }
            #[cfg(target_arch = "x86_64")]
            Engine::Pairs => {
                use super::super::operands::wide::rows_to_pairs;
                use super::super::tile::Place;
                let words = pair_panel(depth);
                let place = Place::rows(depth.div_ceil(DEPTH) * LANES);
                let out = DisjointMut::new(prepared.pairs.set_len(runs.len() * words));
                self.pool.run(runs.len(), |i| {
                    // SAFETY: each run of rows has words of its own, and each index is run once.
                    let out = unsafe { out.slice(i * words..(i + 1) * words) };
                    rows_to_pairs(self.features, &rect(&runs[i]), place, out);
                });
            }
            #[cfg(target_arch = "x86_64")]
            Engine::Tiles => debug_assert!(false, "tiles take the weight on the left"),
        }
        runs.len()
    }

    fn run_item(
        &self,
        engine: Engine,
        item: &Item,
        prepared: &Prepared,
        (session, scratch): (&Session, &mut Scratch),
    ) {
        let (outputs, depth) = (self.right.rows(), self.right.cols());
        if self.directly(engine, item, prepared) {
            return;
        }
        let Scratch {
            left_single,
            right_single,
            right_pairs,
            sums,
            ..
        } = scratch;
        let panels = item.panels.len();
        let decode = |panel: usize, out: Panel<'_>, rows: &mut Aligned<f32>| {
            let first = (item.panels.start + panel) * LANES;
            let count = LANES.min(outputs - first);
            self.decode_panel(item.group * outputs + first, count, out, rows);
        };
        let operands = match engine.format() {
            Format::Single | Format::Rounded => {
                let words = depth * LANES;
                let b = right_single.set_len(panels * words);
                let is_rounded = engine.format() == Format::Rounded;
                for (i, out) in b.chunks_exact_mut(words.max(1)).enumerate() {
                    decode(i, Panel::Single(out, is_rounded), left_single);
                }
                let rect = group(self.left, self.left_layout, 0)
                    .part((item.rows.start, item.rows.len()), (0, depth));
                let left = if is_rounded {
                    Left {
                        words: &prepared.single.as_slice()[item.run * LANES * depth..],
                        row: depth,
                        step: 1,
                    }
                } else {
                    Left {
                        words: rect.data,
                        row: rect.stride,
                        step: 1,
                    }
                };
                Operands::Single(left, b)
            }
            #[cfg(target_arch = "x86_64")]
            Format::Pairs => {
                let words = pair_panel(depth);
                let b = right_pairs.set_len(panels * words);
                for (i, out) in b.chunks_exact_mut(words.max(1)).enumerate() {
                    decode(i, Panel::Pairs(out), left_single);
                }
                let left = Left {
                    words: &prepared.pairs.as_slice()[item.run * words..],
                    row: depth.div_ceil(DEPTH) * LANES,
                    step: 1,
                };
                Operands::Pairs(left, b)
            }
            #[cfg(not(target_arch = "x86_64"))]
            Format::Pairs => return,
        };
        let extent = Extent {
            rows: item.rows.len(),
            panels: 0..panels,
            depth,
        };
        let first = item.rows.start * self.output.stride;
        sweep(session, &operands, &extent, sums, |done| {
            if done.sums.is_empty() {
                return;
            }
            let col = (item.panels.start + done.panel) * LANES;
            let block = Block {
                acc: done.sums,
                acc_stride: done.panels * LANES,
                rows: done.rows,
                cols: (done.panels * LANES).min(outputs - col),
                at: first + done.row * self.output.stride + col,
                bias_at: item.group * outputs + col,
                update: self.update,
            };
            // SAFETY: items share out the columns of a group, and groups have rows of their own
            // (views and offsets were checked): no two blocks overlap.
            unsafe { self.output.write(&block) };
        });
    }

    /// Decodes up to sixteen rows into one panel.
    fn decode_panel(&self, first: usize, count: usize, out: Panel<'_>, rows: &mut Aligned<f32>) {
        let level = Level::of(self.features);
        let depth = self.right.cols();
        let rows = rows.set_len(LANES * RUN);
        let stored = self.right.rows_at(first, count);
        let mut out = out;
        for start in (0..depth).step_by(RUN) {
            let width = RUN.min(depth - start);
            for (row, values) in rows.chunks_exact_mut(RUN).take(count).enumerate() {
                stored.ask_some_ahead(start / RUN, row..row + 1);
                self.right
                    .decode(level, first + row, start, &mut values[..width]);
            }
            let rect = Rect {
                data: rows,
                stride: RUN,
                rows: count,
                cols: width,
            };
            match &mut out {
                Panel::Single(out, is_rounded) => {
                    let out = &mut out[start * LANES..][..width * LANES];
                    if *is_rounded || count < LANES || !width.is_multiple_of(LANES) {
                        pack_single(&rect, out, *is_rounded);
                    } else {
                        turn(level, rows, out);
                    }
                }
                Panel::Pairs(out) => {
                    let words = width.div_ceil(DEPTH) * TILE_WORDS;
                    let at = start / DEPTH * TILE_WORDS;
                    pack_pairs(self.features, &rect, &mut out[at..at + words]);
                }
            }
        }
    }
}

kernel! {
    /// Sixteen whole rows, [`RUN`] apart, to one f32 panel: as many columns as the panel has.
    fn turn<L>(l, rows: &[f32], out: &mut [f32]) {
        let (squares, _) = out.as_chunks_mut::<{ LANES * LANES }>();
        for (i, square) in squares.iter_mut().enumerate() {
            let column = |row: usize| match rows[row * RUN + i * LANES..].first_chunk() {
                Some(numbers) => l.load(numbers),
                None => l.splat(0.0),
            };
            let turned = l.transpose(std::array::from_fn(column));
            let (places, _) = square.as_chunks_mut::<LANES>();
            for (place, vector) in places.iter_mut().zip(turned) {
                l.store(vector, place);
            }
        }
    }
}

/// A panel to be written.
enum Panel<'a> {
    /// f32, perhaps rounded to bf16.
    Single(&'a mut [f32], bool),
    /// Pairs of bf16.
    Pairs(&'a mut [u32]),
}
