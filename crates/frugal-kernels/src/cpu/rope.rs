//! Rotary positions, forward and backward.
//!
//! Rows are copied, then the rotated columns turned in place; only a share of the columns rotates
//! in MLA. Meaning: `frugal_core::ops::rope`.

use frugal_core::backend::{RopeColumns, RopePairs};
use frugal_core::error::Result;
use frugal_core::ops::check;

use super::backend::Cpu;
use super::tensor::Tensor;
use super::vector::kernel;

/// Numbers of a piece of work.
const PIECE: usize = 8192;

/// Which way to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// By the position's angle.
    Forward,
    /// By the opposite angle: the backward.
    Back,
}

pub(super) fn rope(
    cpu: &Cpu,
    x: &Tensor,
    table: &Tensor,
    positions: &[u32],
    (columns, turn): (RopeColumns, Turn),
) -> Result<Tensor> {
    let dims = match turn {
        Turn::Forward => check::rope(x.shape(), table.shape(), positions, columns)?,
        Turn::Back => check::rope_backward(x.shape(), table.shape(), positions, columns)?,
    };
    let (values, angles) = (x.floats("rope")?, table.floats("rope")?);
    let (values, angles): (&[f32], &[f32]) = (&values, &angles);
    let width = dims.width.max(1);
    let rows = (PIECE / width).clamp(1, 1024);
    let plan = Plan {
        angles,
        columns,
        sign: if turn == Turn::Forward { 1.0 } else { -1.0 },
    };
    cpu.produce(x.shape(), |y| {
        cpu.pool.for_each_chunk(y, rows * width, |i, y| {
            let start = i * rows * width;
            y.copy_from_slice(values.get(start..start + y.len()).unwrap_or(&[]));
            let end = ((i + 1) * rows).min(positions.len());
            let positions = positions.get(i * rows..end).unwrap_or(&[]);
            turn_rows(cpu.level, &plan, positions, y);
        });
    })
}

struct Plan<'a> {
    angles: &'a [f32],
    columns: RopeColumns,
    sign: f32,
}

kernel! {
    fn turn_rows<L>(_l, plan: &Plan<'_>, positions: &[u32], y: &mut [f32]) {
        let RopeColumns { n_heads, head_width, offset, width, pairs } = plan.columns;
        if width == 0 || n_heads == 0 {
            return;
        }
        for (row, position) in y.chunks_exact_mut(n_heads * head_width).zip(positions) {
            let start = *position as usize * width;
            let Some(angles) = plan.angles.get(start..start + width) else {
                continue;
            };
            let (cosines, sines) = angles.split_at(width / 2);
            for head in row.chunks_exact_mut(head_width) {
                let Some(part) = head.get_mut(offset..offset + width) else {
                    continue;
                };
                match pairs {
                    RopePairs::Interleaved => {
                        let (pairs, _) = part.as_chunks_mut::<2>();
                        for (pair, (c, s)) in pairs.iter_mut().zip(cosines.iter().zip(sines)) {
                            let ([a, b], s) = (*pair, plan.sign * s);
                            *pair = [a * c - b * s, a * s + b * c];
                        }
                    }
                    RopePairs::Halves => {
                        let (first, second) = part.split_at_mut(width / 2);
                        let halves = first.iter_mut().zip(second);
                        for ((x, y), (c, s)) in halves.zip(cosines.iter().zip(sines)) {
                            let (a, b, s) = (*x, *y, plan.sign * s);
                            (*x, *y) = (a * c - b * s, a * s + b * c);
                        }
                    }
                }
            }
        }
    }
}
