//! Rows to their experts' slots and back.
//!
//! *Dispatch*: `xs[s] = x[order[s] / k]`; no arithmetic. Backward: `dx[t]` is the sum of the k slots
//! of t, in the order of choice.
//!
//! *Combine*: `y[t] = sum_c weights[t, c] ys[slot of (t, c)]`, in the order of choice. Backward:
//! `dys[slot of (t, c)] = weights[t, c] dy[t]`, `dweights[t, c] = dy[t] · ys[slot of (t, c)]`.
#![expect(
    clippy::indexing_slicing,
    reason = "the route's order is checked to be a permutation of its positions"
)]

use alloc::vec;
use alloc::vec::Vec;

use super::check::DispatchDims;
use super::math::{Sums, dot, round, row, row_mut};

/// For each flat position `row * k + choice` its slot: the inverse of the route's order.
#[must_use]
pub fn slots(order: &[u32]) -> Vec<usize> {
    let mut slots = vec![0; order.len()];
    for (slot, position) in order.iter().enumerate() {
        slots[*position as usize] = slot;
    }
    slots
}

/// xs `[T * k, D]`.
#[must_use]
pub fn dispatch(x: &[f32], order: &[u32], dims: DispatchDims) -> Vec<f32> {
    order
        .iter()
        .flat_map(|position| row(x, *position as usize / dims.route.top_k, dims.width))
        .copied()
        .collect()
}

/// dx `[T, D]`.
#[must_use]
pub fn dispatch_backward(dxs: &[f32], order: &[u32], dims: DispatchDims) -> Vec<f32> {
    let mut dx = Sums::new(dims.route.rows * dims.width);
    for (position, slot) in slots(order).into_iter().enumerate() {
        let start = position / dims.route.top_k * dims.width;
        dx.add(start, 1.0, row(dxs, slot, dims.width));
    }
    dx.rounded()
}

/// y `[T, D]`.
#[must_use]
pub fn combine(ys: &[f32], order: &[u32], weights: &[f32], dims: DispatchDims) -> Vec<f32> {
    let mut y = Sums::new(dims.route.rows * dims.width);
    for ((position, slot), weight) in slots(order).into_iter().enumerate().zip(weights) {
        let start = position / dims.route.top_k * dims.width;
        y.add(start, f64::from(*weight), row(ys, slot, dims.width));
    }
    y.rounded()
}

/// (d ys `[T * k, D]`, d weights `[T, k]`).
#[must_use]
pub fn combine_backward(
    ys: &[f32],
    order: &[u32],
    weights: &[f32],
    dy: &[f32],
    dims: DispatchDims,
) -> (Vec<f32>, Vec<f32>) {
    let mut d_ys = vec![0.0; ys.len()];
    let mut d_weights = Vec::with_capacity(weights.len());
    for ((position, slot), weight) in slots(order).into_iter().enumerate().zip(weights) {
        let dy = row(dy, position / dims.route.top_k, dims.width);
        d_weights.push(round(dot(dy, row(ys, slot, dims.width))));
        for (d, dy) in row_mut(&mut d_ys, slot, dims.width).iter_mut().zip(dy) {
            *d = weight * dy;
        }
    }
    (d_ys, d_weights)
}
