//! The activations' side: rows rounded to 8 bits.

use frugal_core::quant::integer::round_group;

use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::RUN;
use crate::cpu::vector::kernel;

use super::panel::{Form, GROUP, GROUPS};

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

kernel! {
    /// Rounds one row; `runs` are as many as the row fills, the last perhaps with zeros.
    pub(super) fn round<L>(_l, form: Form, row: &[f32], runs: &mut [RowRun]) {
        for (values, run) in row.chunks(RUN).zip(runs) {
            if values.len() < RUN {
                *run = RowRun::EMPTY;
            }
            let (groups, _) = values.as_chunks::<GROUP>();
            for (index, (values, levels)) in groups.iter().zip(&mut run.levels).enumerate() {
                let scale = round_group(values, levels);
                let (halves, _) = levels.as_chunks::<{ GROUP / 2 }>();
                let sum = |half: &[i8; GROUP / 2]| half.iter().map(|a| i32::from(*a)).sum::<i32>();
                let sums = [sum(&halves[0]), sum(&halves[1])];
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
