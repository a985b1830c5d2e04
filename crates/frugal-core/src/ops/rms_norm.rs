//! RMSNorm over each run of n = `weight.len()` columns. *Source*: Zhang and Sennrich, 1910.07467.
//!
//! With r = 1 / sqrt(mean(x²) + eps): y_i = w_i x_i r. Backward, with g_i = w_i dy_i:
//! dx_i = r g_i - x_i r³ / n * sum_j g_j x_j, dw_i += sum over runs of dy_i x_i r.
//! A run of zeros with eps = 0 gives NaN.

use alloc::vec::Vec;

use super::check::NormDims;
use super::math::{Sums, dot, round, row, sqrt};

fn inverse_root(x: &[f32], eps: f32) -> f64 {
    1.0 / sqrt(dot(x, x) / x.len() as f64 + f64::from(eps))
}

/// y, as x.
#[must_use]
pub fn forward(x: &[f32], weight: &[f32], eps: f32, dims: NormDims) -> Vec<f32> {
    let mut y = Vec::with_capacity(x.len());
    for run in 0..dims.runs {
        let x = row(x, run, dims.width);
        let r = inverse_root(x, eps);
        y.extend(
            x.iter()
                .zip(weight)
                .map(|(x, w)| round(f64::from(*w) * f64::from(*x) * r)),
        );
    }
    y
}

/// What a norm's backward reads.
#[derive(Debug, Clone, Copy)]
pub struct NormBackward<'a> {
    /// The input.
    pub x: &'a [f32],
    /// The weight.
    pub weight: &'a [f32],
    /// As in the forward.
    pub eps: f32,
    /// As the output.
    pub dy: &'a [f32],
}

/// dx; adds to the gradient of the weight.
pub fn backward(input: NormBackward<'_>, dims: NormDims, d_weight: &mut [f32]) -> Vec<f32> {
    let mut dx = Vec::with_capacity(input.x.len());
    let mut dw = Sums::new(dims.width);
    for run in 0..dims.runs {
        let x = row(input.x, run, dims.width);
        let dy = row(input.dy, run, dims.width);
        let r = inverse_root(x, input.eps);
        let gx: Vec<[f64; 2]> = (dy.iter().zip(input.weight).zip(x))
            .map(|((dy, w), x)| [f64::from(*dy) * f64::from(*w), f64::from(*x)])
            .collect();
        let along = gx.iter().fold(0.0, |sum, [g, x]| sum + g * x);
        let along = along * r * r * r / dims.width as f64;
        dx.extend(gx.iter().map(|[g, x]| round(r * g - x * along)));
        for (i, (dy, x)) in dy.iter().zip(x).enumerate() {
            dw.add(i, f64::from(*dy) * r, &[*x]);
        }
    }
    dw.add_into(d_weight);
    dx
}
