//! More than a few rows of activations with tile registers, sixteen at a time.
//!
//! Groups of a few rows among them (an expert that few tokens chose) are left to the other kernels,
//! whose results are the same.

use std::cell::RefCell;
use std::ops::Range;

use frugal_core::quant::BlockFormat;

use crate::cpu::amx::integer::{ByteTiles, Totals};
use crate::cpu::gemm::tile::LANES;
use crate::cpu::vector::Level;

use super::left::{RowRun, TileRun};
use super::meet::{Direct, MOST};
use super::panel::{self, Form, PanelRun, STRETCH};
use super::{IntegerProduct, Item, OPENED};
use crate::cpu::gemm::stored::{self, stretches, turn};

/// Rows up to which tiles are not worth their laying side by side: as many as meet stored rows
/// directly, and where those must be opened first, two.
pub(super) const fn few(direct: Option<Direct>) -> usize {
    if direct.is_some() { MOST } else { 2 }
}

thread_local! {
    /// Rows side by side of the call under way on this thread, kept for their memory.
    static TILES: RefCell<Vec<TileRun>> = const { RefCell::new(Vec::new()) };
}

impl IntegerProduct<'_> {
    /// Forms the product; `rows` are those of each group in turn.
    pub(super) fn in_tiles(
        &self,
        kind: (BlockFormat, Form),
        direct: Option<Direct>,
        rows: impl Iterator<Item = Range<usize>>,
        rounded: &[RowRun],
    ) {
        let panels = self.right.rows().div_ceil(LANES);
        let (mut items, mut sixteens) = (Vec::new(), Vec::new());
        for (group, rows) in rows.enumerate().filter(|(_, rows)| !rows.is_empty()) {
            for panels in stretches(panels, 1, self.pool.threads()) {
                let rows = rows.clone();
                let item = Item {
                    group,
                    rows,
                    panels,
                };
                items.push((item, sixteens.len()));
            }
            if rows.len() > few(direct) {
                sixteens.extend(stored::sixteens(rows));
            }
        }
        let runs = self.runs();
        let mut tiles = TILES.take();
        tiles.resize(sixteens.len() * runs, TileRun::EMPTY);
        self.pool.for_each_chunk(&mut tiles, 1, |index, to| {
            let (rows, run) = (sixteens[index / runs].clone(), index % runs);
            for to in to {
                to.arrange(rows.clone().map(|row| &rounded[row * runs + run]));
            }
        });
        self.pool.run(items.len(), |i| {
            let (item, first) = &items[i];
            if item.rows.len() <= few(direct) {
                self.past_panels(kind, direct, item, rounded);
            } else {
                self.past_tiles(kind, item, &tiles[first * runs..]);
            }
        });
        TILES.set(tiles);
    }

    /// All rows of an item past its panels, a stretch at a time.
    fn past_tiles(&self, (format, form): (BlockFormat, Form), item: &Item, tiles: &[TileRun]) {
        let mut opened = OPENED.take();
        let (runs, level) = (self.runs(), Level::of(self.features));
        let mut session = ByteTiles::load(self.features, form);
        let mut totals = vec![Totals::ZERO; item.rows.len().div_ceil(LANES)];
        for panel in item.panels.clone() {
            let stored = self.stored(item, panel);
            totals.fill(Totals::ZERO);
            let is_met = stored.sixteen().is_some_and(|rows| {
                let mut sixteens = totals.iter_mut().zip(tiles.chunks_exact(runs));
                sixteens.all(|(totals, x)| session.multiply_stored((format, rows), x, totals))
            });
            let rest = if is_met { 0..0 } else { 0..runs };
            for first in rest.step_by(STRETCH) {
                opened.resize(STRETCH.min(runs - first), PanelRun::EMPTY);
                panel::open(level, format, stored, first, &mut opened);
                for (totals, x) in totals.iter_mut().zip(tiles.chunks_exact(runs)) {
                    session.multiply(&opened, &x[first..], totals);
                }
            }
            for (nth, totals) in totals.iter().enumerate() {
                self.write_tile(level, (item, panel), nth, totals);
            }
        }
        OPENED.set(opened);
    }

    fn write_tile(&self, level: Level, (item, panel): (&Item, usize), nth: usize, totals: &Totals) {
        let mut turned = Totals::ZERO;
        turn(level, (totals.0.as_flattened(), LANES), &mut turned.0);
        let first = item.rows.start + nth * LANES;
        let rows = first..(first + LANES).min(item.rows.end);
        self.write((item.group, panel), rows, &turned.0);
    }
}
