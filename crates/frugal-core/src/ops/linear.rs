//! y = x Wᵀ + bias: `x [T, K]`, `weight [N, K]`, `bias [N]`, `y [T, N]`.
//!
//! `y[t, n] = sum_k x[t, k] W[n, k] + bias[n]`. Backward: `dx[t, k] = sum_n dy[t, n] W[n, k]`,
//! `dW[n, k] += sum_t dy[t, n] x[t, k]`, `dbias[n] += sum_t dy[t, n]`.
//! With K = 0 the result is the bias.
#![expect(
    clippy::indexing_slicing,
    reason = "the dims say how long each slice is"
)]

use alloc::vec::Vec;

use super::check::LinearDims;
use super::math::{Sums, dot, round, row};

/// y.
#[must_use]
pub fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, dims: LinearDims) -> Vec<f32> {
    let LinearDims { rows, n, k } = dims;
    let mut y = Vec::with_capacity(rows * n);
    for t in 0..rows {
        let x = row(x, t, k);
        for i in 0..n {
            let bias = bias.map_or(0.0, |bias| f64::from(bias[i]));
            y.push(round(dot(x, row(weight, i, k)) + bias));
        }
    }
    y
}

/// The accumulators a product's backward adds to.
#[derive(Debug)]
pub struct LinearGrads<'a> {
    /// `[N, K]`.
    pub d_weight: &'a mut [f32],
    /// `[N]`.
    pub d_bias: Option<&'a mut [f32]>,
}

/// dx; adds to the gradients of weight and bias.
pub fn backward(
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    dims: LinearDims,
    gradients: LinearGrads<'_>,
) -> Vec<f32> {
    let LinearDims { rows, n, k } = dims;
    let mut dx = Sums::new(rows * k);
    let mut d_weight = Sums::new(n * k);
    let mut d_bias = Sums::new(n);
    for t in 0..rows {
        let dy = row(dy, t, n);
        d_bias.add(0, 1.0, dy);
        for (i, dy) in dy.iter().enumerate() {
            dx.add(t * k, f64::from(*dy), row(weight, i, k));
            d_weight.add(i * k, f64::from(*dy), row(x, t, k));
        }
    }
    d_weight.add_into(gradients.d_weight);
    if let Some(accumulator) = gradients.d_bias {
        d_bias.add_into(accumulator);
    }
    dx.rounded()
}
