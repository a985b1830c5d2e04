//! Sums over whole tensors: the gradient norm, and adding and clearing.
//!
//! The square of each number is formed and summed in f64, in index order within a tensor; the sums
//! of the tensors are added in the order given. A back-end may sum in another order, the same on
//! every call.

use super::math::dot;

/// Sum of squares.
#[must_use]
pub fn norm_squared(tensors: &[&[f32]]) -> f64 {
    tensors.iter().map(|x| dot(x, x)).sum()
}

/// dst += src, one f32 addition each.
pub fn accumulate(dst: &mut [f32], src: &[f32]) {
    for (dst, src) in dst.iter_mut().zip(src) {
        *dst += src;
    }
}
