//! One small matrix a head: the two absorbed halves of MLA's `kv_b_proj`.
//!
//! W_h is `[used, C]`: rows `h * block + start ..` of the weight `[H * block, C]`.
//! Into the latent space `y_h[c] = sum_r W_h[r, c] x_h[r]`; out of it
//! `y_h[r] = sum_c W_h[r, c] x_h[c]`.
//! There is no backward: training uses naive MLA. *Source*: DeepSeek-V2, section 2.1.2.
use alloc::vec::Vec;

use super::check::HeadDims;
use super::math::{Sums, dot, round, row};
use crate::backend::HeadDirection;

/// y: `[T, H * (output + passed)]`.
#[must_use]
pub fn forward(x: &[f32], weight: &[f32], dims: HeadDims, direction: HeadDirection) -> Vec<f32> {
    let HeadDims { latent, used, .. } = dims;
    let mut y = Vec::with_capacity(dims.rows * dims.n_heads * (dims.output + dims.passed));
    for slot in 0..dims.rows * dims.n_heads {
        let first = slot % dims.n_heads * dims.block + dims.start;
        let (x, passed) = row(x, slot, dims.input + dims.passed).split_at(dims.input);
        match direction {
            HeadDirection::FromLatent => {
                y.extend((0..used).map(|r| round(dot(x, row(weight, first + r, latent)))));
            }
            HeadDirection::IntoLatent => {
                let mut sums = Sums::new(latent);
                for (r, x) in x.iter().enumerate() {
                    sums.add(0, f64::from(*x), row(weight, first + r, latent));
                }
                y.extend(sums.rounded());
            }
        }
        y.extend_from_slice(passed);
    }
    y
}
