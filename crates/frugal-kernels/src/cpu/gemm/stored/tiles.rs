//! Stored weights with tile registers: the weight is the left operand.
//!
//! A left tile is sixteen rows of 32 numbers, which is how a row lies in its file: bf16 is multiplied
//! from there, other forms are spread to bf16 row by row, and nothing is turned. The activations are
//! the right operand, packed as a weight would be; what comes out is turned, sixteen by sixteen. An
//! output is the same sum in the same order as with the packed weight on the right.
//!
//! Up to sixteen activations meet a weight run by run, while it is in the first cache, and cost no
//! more than one. For more the weight is spread as a whole, a few panels at a time.

use std::cell::RefCell;
use std::ops::Range;

use crate::cpu::amx::{LeftTiles, WEIGHT_PANELS};
use crate::cpu::avx512::spread;
use crate::cpu::pool::DisjointMut;
use crate::cpu::stored::RUN;
use crate::cpu::vector::{Avx512, Level, kernel};

use super::super::aligned::Aligned;
use super::super::engine::{Done, Engine, Extent, Session, sweep};
use super::super::finish::PanelSums;
use super::super::operands::{LeftWords, Operands, pair_panel, with_scratch};
use super::super::tile::{DEPTH, LANES, TILE_WORDS};
use super::super::view::group;
use super::super::weight::pack_pairs;
use super::{StoredProduct, stretches};

/// Tiles of a run.
const STEPS: usize = RUN / DEPTH;
/// Panels that many rows meet together: spread, they and sixteen rows stay in the second cache.
const PANELS_OF_MANY: usize = 4;
/// A product whose weight one thread spreads sooner than this is not worth another's attention.
const ALONE_NUMBERS: usize = 32 * 1024;
/// Sums of the panels that few rows meet.
const SUMS: usize = WEIGHT_PANELS * TILE_WORDS;

/// Some panels of one group, for all rows of the group.
#[derive(Debug)]
struct Item {
    group: usize,
    rows: Range<usize>,
    /// Where the group's packed rows begin, in sixteens.
    sixteen: usize,
    panels: Range<usize>,
}

thread_local! {
    /// Packed rows of the call under way on this thread, kept for their memory.
    static PACKED: RefCell<Aligned<u32>> = const { RefCell::new(Aligned::new()) };
}

impl StoredProduct<'_> {
    pub(super) fn in_tiles(&self, rows: impl Iterator<Item = Range<usize>>) {
        let panels = self.right.rows().div_ceil(LANES);
        let mut packed = PACKED.replace(Aligned::new());
        let (mut items, mut sixteens) = (Vec::new(), Vec::new());
        for (group, rows) in rows.enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let (unit, threads) = if rows.len() <= LANES {
                (WEIGHT_PANELS, self.pool.threads())
            } else {
                // The shortest stretches throughout.
                (PANELS_OF_MANY, panels)
            };
            for panels in stretches(panels, unit, threads) {
                items.push(Item {
                    group,
                    rows: rows.clone(),
                    sixteen: sixteens.len(),
                    panels,
                });
            }
            sixteens.extend(super::sixteens(rows));
        }
        self.pack(&sixteens, &mut packed);
        let work = |item: &Item| {
            let session = Session::begin(Engine::Tiles, self.features);
            let right = &packed.as_slice()[item.sixteen * pair_panel(self.right.cols())..];
            if item.rows.len() <= LANES {
                self.few(&session, item, right);
            } else {
                self.many(&session, item, right);
            }
        };
        let panels: usize = items.iter().map(|item| item.panels.len()).sum();
        let numbers = panels * LANES * self.right.cols();
        super::run_all(self.pool, (numbers, ALONE_NUMBERS), &items, work);
        PACKED.set(packed);
    }

    /// Packs sixteens of rows as panels.
    fn pack(&self, sixteens: &[Range<usize>], packed: &mut Aligned<u32>) {
        let depth = self.right.cols();
        let words = pair_panel(depth);
        let rows = group(self.left, self.left_layout, 0);
        let out = DisjointMut::new(packed.set_len(sixteens.len() * words));
        let pack = |i: usize| {
            let sixteen = &sixteens[i];
            // SAFETY: each sixteen has words of its own, and each index is run once.
            let out = unsafe { out.slice(i * words..(i + 1) * words) };
            pack_pairs(
                self.features,
                &rows.part((sixteen.start, sixteen.len()), (0, depth)),
                out,
            );
        };
        if let [_] = sixteens {
            pack(0);
        } else {
            self.pool.run(sixteens.len(), pack);
        }
    }

    /// Up to sixteen rows: run by run past a few panels.
    fn few(&self, session: &Session, item: &Item, right: &[u32]) {
        let Some((tiles, lanes)) = session.tiles().zip(Avx512::of(self.features)) else {
            return;
        };
        let steps = self.right.cols().div_ceil(DEPTH);
        with_scratch(|scratch| {
            let Some(sums) = scratch.sums.set_len(SUMS).first_chunk_mut::<SUMS>() else {
                return;
            };
            let spread = scratch
                .left_pairs
                .set_len(WEIGHT_PANELS * STEPS * TILE_WORDS);
            for first in item.panels.clone().step_by(WEIGHT_PANELS) {
                let panels = first..(first + WEIGHT_PANELS).min(item.panels.end);
                sums.fill(0.0);
                for start in (0..steps).step_by(STEPS) {
                    let count = STEPS.min(steps - start);
                    let cols = start * DEPTH..((start + count) * DEPTH).min(self.right.cols());
                    let source = self.source(item.group, panels.clone(), cols, spread);
                    let right = &right[start * TILE_WORDS..][..count * TILE_WORDS];
                    // SAFETY: `source` gives `count` tiles a panel.
                    unsafe { tiles.add(&source, right, sums) };
                }
                for (panel, sums) in panels.zip(sums.chunks_exact(TILE_WORDS)) {
                    self.write(lanes, (item, panel), item.rows.clone(), (sums, LANES));
                }
            }
        });
    }

    /// The left tiles of some panels and at most a run of columns: where they lie, or spread.
    fn source(
        &self,
        group: usize,
        panels: Range<usize>,
        run: Range<usize>,
        spread: &mut [u32],
    ) -> LeftTiles {
        let (rows, cols) = (self.right.rows(), self.right.cols());
        let (start, width) = (run.start, run.len());
        let mut source = LeftTiles {
            start: [spread.as_ptr().cast(); WEIGHT_PANELS],
            row: DEPTH * 2,
            step: TILE_WORDS * 4,
        };
        if panels.end * LANES <= rows && width.is_multiple_of(DEPTH) && self.right.is_bf16() {
            let first = group * rows + panels.start * LANES;
            let rows = self.right.rows_at(first, panels.len() * LANES);
            rows.ask_ahead(start / RUN);
            let bytes = rows.whole();
            for (panel, place) in source.start.iter_mut().enumerate().take(panels.len()) {
                // Inside: the slice holds the rows of all panels.
                *place = bytes[(panel * LANES * cols + start) * 2..].as_ptr();
            }
            (source.row, source.step) = (cols * 2, DEPTH * 2);
            return source;
        }
        let together = panels.len();
        for (panel, to) in panels.zip(spread.chunks_exact_mut(STEPS * TILE_WORDS)) {
            self.spread((group, panel), run.clone(), together, to);
        }
        for (panel, place) in source.start.iter_mut().enumerate() {
            *place = spread[panel * STEPS * TILE_WORDS..].as_ptr().cast();
        }
        source
    }

    /// Spreads a run of a panel's rows to tiles, of so many panels together; what the weight lacks is
    /// zeros.
    fn spread(
        &self,
        (group, panel): (usize, usize),
        cols: Range<usize>,
        together: usize,
        to: &mut [u32],
    ) {
        let outputs = self.right.rows();
        let (start, width) = (cols.start, cols.len());
        let first = group * outputs + panel * LANES;
        let rows = self
            .right
            .rows_at(first, LANES.min(outputs - panel * LANES))
            .among(together * LANES);
        if rows.count() < LANES || !width.is_multiple_of(DEPTH) {
            to.fill(0);
        }
        let Some(lanes) = Avx512::of(self.features) else {
            return;
        };
        if let Some(format) = self.right.block_format() {
            spread::blocks(self.features, (lanes, format), (rows, start / RUN), to);
            return;
        }
        if let Some(fp8) = self.right.fp8_rows(first, rows)
            && spread::fp8(self.features, (fp8, cols), to)
        {
            return;
        }
        rows.ask_ahead(start / RUN);
        let mut numbers = [0.0; RUN];
        for row in 0..rows.count() {
            let level = Level::Avx512(lanes);
            self.right
                .decode(level, first + row, start, &mut numbers[..width]);
            let whole = &numbers[..width.next_multiple_of(DEPTH)];
            spread::numbers(self.features, whole, row, to);
        }
    }

    /// More rows: panels spread as a whole.
    fn many(&self, session: &Session, item: &Item, right: &[u32]) {
        let (cols, words) = (self.right.cols(), pair_panel(self.right.cols()));
        let Some(lanes) = Avx512::of(self.features) else {
            return;
        };
        with_scratch(|scratch| {
            let spread = scratch.left_pairs.set_len(item.panels.len() * words);
            for (panel, to) in item
                .panels
                .clone()
                .zip(spread.chunks_exact_mut(words.max(1)))
            {
                for start in (0..cols).step_by(RUN) {
                    let run = start..(start + RUN).min(cols);
                    let first = start / DEPTH * TILE_WORDS;
                    let words = run.len().div_ceil(DEPTH) * TILE_WORDS;
                    self.spread((item.group, panel), run, 1, &mut to[first..first + words]);
                }
            }
            let extent = Extent {
                rows: item.panels.len() * LANES,
                panels: 0..item.rows.len().div_ceil(LANES),
                depth: cols,
            };
            sweep(
                session,
                &Operands::Tiles(LeftWords::packed(spread, words), right),
                &extent,
                &mut scratch.sums,
                |done| {
                    let stride = done.panels * LANES;
                    for (down, across) in tiles_of(&done) {
                        let panel = item.panels.start + done.row / LANES + down;
                        let first = item.rows.start + (done.panel + across) * LANES;
                        let rows = first..(first + LANES).min(item.rows.end);
                        let sums = &done.sums[down * LANES * stride + across * LANES..];
                        self.write(lanes, (item, panel), rows, (sums, stride));
                    }
                },
            );
        });
    }

    /// Writes a tile: sixteen outputs of some rows.
    fn write(
        &self,
        lanes: Avx512,
        (item, panel): (&Item, usize),
        rows: Range<usize>,
        (sums, stride): (&[f32], usize),
    ) {
        let mut turned = Turned([[0.0; LANES]; LANES]);
        turn(Level::Avx512(lanes), (sums, stride), &mut turned.0);
        let sums = PanelSums {
            acc: turned.0.as_flattened(),
            rows,
            panel: (item.group, panel),
            outputs: self.right.rows(),
            update: self.update,
        };
        // SAFETY: items share out the columns of a group, and groups have rows of their own (views
        // and offsets were checked): no two blocks overlap.
        unsafe { self.output.write_panel(&sums) };
    }
}

/// A tile of sums, an activation's after another.
#[repr(C, align(64))]
struct Turned([[f32; LANES]; LANES]);

kernel! {
    /// Turns sixteen rows, `stride` apart.
    pub(in crate::cpu::gemm) fn turn<L>(l, sums: (&[f32], usize), to: &mut [[f32; LANES]; LANES]) {
        let (sums, stride) = sums;
        let row = |r: usize| sums[r * stride..].first_chunk().map_or(l.splat(0.0), |row| l.load(row));
        for (to, row) in to.iter_mut().zip(l.transpose(std::array::from_fn(row))) {
            l.store(row, to);
        }
    }
}

/// The tiles of a block that has been multiplied: how far down and across.
fn tiles_of(done: &Done<'_>) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (down, across) = (done.rows.div_ceil(LANES), done.panels);
    let count = if done.sums.is_empty() { 0 } else { down };
    (0..count).flat_map(move |i| (0..across).map(move |p| (i, p)))
}
