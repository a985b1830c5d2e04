//! FP8 in blocks times a few rows in f32, multiplied as it is decoded.
//!
//! Sixteen rows of the weight are the lanes, columns come in their order: the sums are those of decoded
//! panels, bit for bit.

use std::ops::Range;

use crate::cpu::gemm::integer::meet::Sums;
use crate::cpu::stored::Fp8Rows;
use crate::cpu::vector::{Level, kernel};

use super::super::engine::Engine;
use super::super::finish::PanelSums;
use super::super::tile::LANES;
use super::super::view::group;
use super::StoredProduct;
use super::panels::{Item, Prepared};

/// Rows that meet sixteen of the weight together; more are met sooner by panels that are decoded once
/// for all.
const MOST: usize = 8;
/// Columns whose bytes are asked for together.
const LINE: usize = 64;

impl StoredProduct<'_> {
    /// Forms an item, if this is the way to: a few rows, in f32, whole panels and whole sixteens of
    /// columns of one factor.
    pub(super) fn directly(&self, engine: Engine, item: &Item, prepared: &Prepared) -> bool {
        let (outputs, depth) = (self.right.rows(), self.right.cols());
        let is_single = matches!(engine, Engine::Single | Engine::Rounded);
        if item.rows.is_empty()
            || item.rows.len() > MOST
            || !is_single
            || item.panels.end * LANES > outputs
        {
            return false;
        }
        let panel_rows = |panel: usize| {
            let first = item.group * outputs + panel * LANES;
            let rows = self.right.rows_at(first, LANES);
            let fp8 = self.right.fp8_rows(first, rows)?;
            let ends = [depth, fp8.block_cols()];
            ends.iter()
                .all(|end| end.is_multiple_of(LANES))
                .then_some(fp8)
        };
        if panel_rows(item.panels.start).is_none() {
            return false;
        }
        let rect = group(self.left, self.left_layout, 0);
        let x = |row: usize| match engine {
            Engine::Rounded => {
                let row = item.run * LANES + row - item.rows.start;
                &prepared.single.as_slice()[row * depth..][..depth]
            }
            _ => &rect.row(row)[..depth],
        };
        for (panel, rows) in item.panels.clone().map_while(|p| Some((p, panel_rows(p)?))) {
            let last = item.rows.len() - 1;
            let x: [_; MOST] = std::array::from_fn(|i| x(item.rows.start + i.min(last)));
            let mut sums = Sums::<MOST>::ZERO;
            let (level, is_rounded) = (Level::of(self.features), engine == Engine::Rounded);
            match item.rows.len() {
                1 => some::<1>(level, is_rounded, rows, &x, &mut sums),
                2 => some::<2>(level, is_rounded, rows, &x, &mut sums),
                3..=4 => some::<4>(level, is_rounded, rows, &x, &mut sums),
                _ => some::<MOST>(level, is_rounded, rows, &x, &mut sums),
            }
            self.put((item.group, panel), item.rows.clone(), &sums);
        }
        true
    }

    fn put(&self, panel: (usize, usize), rows: Range<usize>, sums: &Sums<MOST>) {
        let sums = PanelSums {
            acc: sums.0.as_flattened(),
            rows,
            panel,
            outputs: self.right.rows(),
            update: self.update,
        };
        // SAFETY: items share out the columns of a group, and groups have rows of their own (views
        // and offsets were checked): no two panels overlap.
        unsafe { self.output.write_panel(&sums) };
    }
}

/// The sums of the first R rows.
fn some<const R: usize>(
    level: Level,
    is_rounded: bool,
    rows: Fp8Rows<'_>,
    x: &[&[f32]; MOST],
    sums: &mut Sums<MOST>,
) {
    if let (Some(x), Some(sums)) = (x.first_chunk::<R>(), sums.0.first_chunk_mut::<R>()) {
        meet(level, is_rounded, rows, *x, sums);
    }
}

kernel! {
    /// Adds all columns of sixteen rows, rounded to bf16 or not.
    fn meet<L, const R: usize>(
        l,
        is_rounded: bool,
        rows: Fp8Rows<'_>,
        x: [&[f32]; R],
        sums: &mut [[f32; LANES]; R],
    ) {
        let mut totals = [l.splat(0.0); R];
        for (block, start) in (0..rows.cols()).step_by(rows.block_cols()).enumerate() {
            let end = ((block + 1) * rows.block_cols()).min(rows.cols());
            let factors = l.load(&rows.factors(start));
            for first in (start..end).step_by(LINE) {
                let cols = first..(first + LINE).min(end);
                let mut lines: [&[u8]; LANES] = [&[]; LANES];
                for (row, line) in lines.iter_mut().enumerate() {
                    rows.ask_ahead(row, cols.clone());
                    *line = rows.bytes(row, cols.clone());
                }
                for col in cols.step_by(LANES) {
                    let mut bytes = [[0; LANES]; LANES];
                    for (to, line) in bytes.iter_mut().zip(lines) {
                        if let Some(from) = line[col - first..].first_chunk() {
                            *to = *from;
                        }
                    }
                    let x = x.map(|x| x[col..].first_chunk::<LANES>().unwrap_or(&[0.0; LANES]));
                    for (i, bytes) in l.transpose_bytes(&bytes).iter().enumerate() {
                        let numbers = l.mul(l.e4m3(bytes), factors);
                        let numbers = if is_rounded { l.to_bf16(numbers) } else { numbers };
                        for (x, total) in x.iter().zip(&mut totals) {
                            *total = l.mul_add(l.splat(x[i]), numbers, *total);
                        }
                    }
                }
            }
        }
        for (total, sum) in totals.into_iter().zip(sums) {
            l.store(total, sum);
        }
    }
}
