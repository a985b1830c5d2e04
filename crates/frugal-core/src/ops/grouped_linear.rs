//! Each expert's product with its own rows: `xs [T * k, K]` in expert order, `weight [E, N, K]`.
//!
//! `y[s] = W_e xs[s]` for the slots `offsets[e]..offsets[e + 1]` of expert e; the backward is that of
//! [`linear`] over the same slots. An expert without rows does nothing.
#![expect(
    clippy::indexing_slicing,
    reason = "the dims and checked offsets say how long each slice is"
)]

use alloc::vec::Vec;
use core::ops::Range;

use super::check::{GroupedDims, LinearDims};
use super::linear::{self, LinearGrads};

/// Each expert's number, its slots and the dims of its product.
fn groups(
    offsets: &[u32],
    dims: GroupedDims,
) -> impl Iterator<Item = (usize, Range<usize>, LinearDims)> {
    offsets.windows(2).enumerate().map(move |(expert, ends)| {
        let slots = ends[0] as usize..ends[1] as usize;
        let rows = slots.len();
        (
            expert,
            slots,
            LinearDims {
                rows,
                n: dims.n,
                k: dims.k,
            },
        )
    })
}

/// y: `[T * k, N]`.
#[must_use]
pub fn forward(xs: &[f32], weight: &[f32], offsets: &[u32], dims: GroupedDims) -> Vec<f32> {
    let (n, k) = (dims.n, dims.k);
    groups(offsets, dims)
        .flat_map(|(e, slots, each)| {
            let xs = &xs[slots.start * k..slots.end * k];
            linear::forward(xs, &weight[e * n * k..(e + 1) * n * k], None, each)
        })
        .collect()
}

/// What a grouped product's backward reads.
#[derive(Debug, Clone, Copy)]
pub struct GroupedBackward<'a> {
    /// `[T * k, K]`.
    pub xs: &'a [f32],
    /// `[E, N, K]`.
    pub weight: &'a [f32],
    /// `[E + 1]`.
    pub offsets: &'a [u32],
    /// `[T * k, N]`.
    pub dy: &'a [f32],
}

/// dxs; adds to the gradient of the weight.
pub fn backward(input: GroupedBackward<'_>, dims: GroupedDims, d_weight: &mut [f32]) -> Vec<f32> {
    let (n, k) = (dims.n, dims.k);
    groups(input.offsets, dims)
        .flat_map(|(e, slots, each)| {
            let matrix = e * n * k..(e + 1) * n * k;
            let gradients = LinearGrads {
                d_weight: &mut d_weight[matrix.clone()],
                d_bias: None,
            };
            linear::backward(
                &input.xs[slots.start * k..slots.end * k],
                &input.weight[matrix],
                &input.dy[slots.start * n..slots.end * n],
                each,
                gradients,
            )
        })
        .collect()
}
