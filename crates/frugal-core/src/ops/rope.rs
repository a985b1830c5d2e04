//! Rotary positions. *Source*: Su et al., 2104.09864; the table holds what YaRN makes of it.
//!
//! For each head and i below R / 2, with `c = table[p, i]`, `s = table[p, R / 2 + i]` at the row's
//! position p, the pair (a, b) becomes (a c - b s, a s + b c). Pairs are neighbours or halves, see
//! [`RopePairs`]. Columns outside of the rotated ones pass. Backward: the same with -s.
#![expect(
    clippy::indexing_slicing,
    reason = "the checks hold columns inside the head and positions inside the table"
)]

use alloc::vec::Vec;

use super::math::{round, row, row_mut};
use crate::backend::{RopeColumns, RopePairs};

/// y, as x.
#[must_use]
pub fn forward(x: &[f32], table: &[f32], positions: &[u32], columns: RopeColumns) -> Vec<f32> {
    rotate(x, table, positions, columns, 1.0)
}

/// dx from dy.
#[must_use]
pub fn backward(dy: &[f32], table: &[f32], positions: &[u32], columns: RopeColumns) -> Vec<f32> {
    rotate(dy, table, positions, columns, -1.0)
}

fn rotate(
    x: &[f32],
    table: &[f32],
    positions: &[u32],
    columns: RopeColumns,
    sign: f64,
) -> Vec<f32> {
    let mut y = x.to_vec();
    let half = columns.width / 2;
    for (t, position) in positions.iter().enumerate() {
        let angles = row(table, *position as usize, columns.width);
        for head in 0..columns.n_heads {
            let head = row_mut(&mut y, t * columns.n_heads + head, columns.head_width);
            for i in 0..half {
                let (first, second) = match columns.pairs {
                    RopePairs::Interleaved => (2 * i, 2 * i + 1),
                    RopePairs::Halves => (i, i + half),
                };
                let (first, second) = (columns.offset + first, columns.offset + second);
                let (a, b) = (f64::from(head[first]), f64::from(head[second]));
                let (c, s) = (f64::from(angles[i]), sign * f64::from(angles[half + i]));
                head[first] = round(a * c - b * s);
                head[second] = round(a * s + b * c);
            }
        }
    }
    y
}
