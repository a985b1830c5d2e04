//! The activations' side: rows rounded to 8 bits.

use frugal_core::quant::integer::LEAST;

use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::RUN;
use crate::cpu::vector::{Lanes, WIDTH, kernel};

use super::panel::{Form, GROUP, GROUPS, QUAD};

/// A run of one row. Groups are the weight's.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct RowRun {
    pub(crate) levels: [[i8; GROUP]; GROUPS],
    /// Scale of each group.
    pub(crate) scales: [f32; LANES],
    /// What is added to a group's sum of products for the level of zero: minus zero times its sum.
    pub(crate) corrections: [i32; LANES],
    /// Scale times sum, which meets the minimum.
    pub(crate) offsets: [f32; LANES],
}

impl RowRun {
    pub(crate) const EMPTY: Self = Self {
        levels: [[0; GROUP]; GROUPS],
        scales: [0.0; LANES],
        corrections: [0; LANES],
        offsets: [0.0; LANES],
    };
}

/// A run of up to sixteen rows side by side, for tile registers.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct TileRun {
    /// Of each four columns those of all rows.
    pub(crate) levels: [[[i8; QUAD]; LANES]; RUN / QUAD],
    /// As in [`RowRun`], of each group those of all rows.
    pub(crate) scales: [[f32; LANES]; LANES],
    pub(crate) corrections: [[i32; LANES]; LANES],
    pub(crate) offsets: [[f32; LANES]; LANES],
}

impl TileRun {
    pub(crate) const EMPTY: Self = Self {
        levels: [[[0; QUAD]; LANES]; RUN / QUAD],
        scales: [[0.0; LANES]; LANES],
        corrections: [[0; LANES]; LANES],
        offsets: [[0.0; LANES]; LANES],
    };

    /// Lays the same run of up to sixteen rows side by side.
    pub(super) fn arrange<'a>(&mut self, rows: impl ExactSizeIterator<Item = &'a RowRun>) {
        if rows.len() < LANES {
            *self = Self::EMPTY;
        }
        for (lane, row) in rows.enumerate().take(LANES) {
            let (quads, _) = row.levels.as_flattened().as_chunks::<QUAD>();
            for (to, quad) in self.levels.iter_mut().zip(quads) {
                to[lane] = *quad;
            }
            for group in 0..LANES {
                self.scales[group][lane] = row.scales[group];
                self.corrections[group][lane] = row.corrections[group];
                self.offsets[group][lane] = row.offsets[group];
            }
        }
    }
}

kernel! {
    /// Rounds one row; `runs` are as many as the row fills, the last perhaps with zeros.
    pub(super) fn round<L>(l, form: Form, row: &[f32], runs: &mut [RowRun]) {
        for (values, run) in row.chunks(RUN).zip(runs) {
            if values.len() < RUN {
                *run = RowRun::EMPTY;
            }
            let (groups, _) = values.as_chunks::<GROUP>();
            for (index, (values, levels)) in groups.iter().zip(&mut run.levels).enumerate() {
                let (scale, sums) = round_group(l, values, levels);
                let mut set = |group: usize, sum: i32| {
                    run.scales[group] = scale;
                    run.corrections[group] = -form.zero * sum;
                    run.offsets[group] = scale * sum as f32;
                };
                if form.is_halved {
                    set(2 * index, sums[0]);
                    set(2 * index + 1, sums[1]);
                } else {
                    set(index, sums[0] + sums[1]);
                }
            }
        }
    }
}

/// As `frugal_core::quant::integer::round_group`, with the sums of the halves.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "whole numbers below 128, and sums of sixteen of them"
)]
#[expect(
    clippy::inline_always,
    reason = "melts into the function that enables the instructions"
)]
fn round_group<L: Lanes>(l: L, values: &[f32; GROUP], levels: &mut [i8; GROUP]) -> (f32, [i32; 2]) {
    let (halves, _) = values.as_chunks::<WIDTH>();
    let halves: [L::V; 2] = std::array::from_fn(|half| l.load(&halves[half]));
    let zero = l.splat(0.0);
    let [first, second] = halves.map(|x| l.max(x, l.sub(zero, x)));
    let largest = l.largest(l.max(first, second));
    // Zero; of an infinity or a NaN, NaN.
    let odd = l.sum(l.add(l.mul(halves[0], zero), l.mul(halves[1], zero)));
    let is_some = odd == 0.0 && largest >= LEAST;
    let inverse = l.splat(if is_some { 127.0 / largest } else { 0.0 });
    let rounded = halves.map(|x| l.round(l.mul(x, inverse)));
    // 1.5 * 2^23 leaves the number in the lowest bits.
    let mut whole = [0.0; GROUP];
    let (places, _) = whole.as_chunks_mut::<WIDTH>();
    l.store(l.add(rounded[0], l.splat(12_582_912.0)), &mut places[0]);
    l.store(l.add(rounded[1], l.splat(12_582_912.0)), &mut places[1]);
    for (to, whole) in levels.iter_mut().zip(whole) {
        *to = (whole.to_bits() as u8).cast_signed();
    }
    let sums = rounded.map(|half| l.sum(half) as i32);
    let scale = if is_some { largest / 127.0 } else { odd };
    (scale, sums)
}
