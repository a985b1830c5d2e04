//! Columns of heads taken apart and put together again. No arithmetic; each is the other's backward.
//!
//! A row of the whole is `[head 0 | head 1 | ..]`, each head `[part 0 | part 1 | ..]`; a row of part i
//! is `[head 0's part i | head 1's part i | ..]`.
#![expect(
    clippy::indexing_slicing,
    reason = "the dims say how long each slice is"
)]

use alloc::vec::Vec;

use super::check::SplitDims;
use super::math::row;

/// One buffer a width.
#[must_use]
pub fn split(x: &[f32], dims: &SplitDims) -> Vec<Vec<f32>> {
    let mut start = 0;
    let mut parts = Vec::with_capacity(dims.widths.len());
    for width in &dims.widths {
        let mut part = Vec::with_capacity(dims.rows * dims.n_heads * width);
        for head in 0..dims.rows * dims.n_heads {
            part.extend_from_slice(&row(x, head, dims.head_width)[start..start + width]);
        }
        parts.push(part);
        start += width;
    }
    parts
}

/// `[T, n_heads * the sum of widths]`.
#[must_use]
pub fn join(parts: &[&[f32]], dims: &SplitDims) -> Vec<f32> {
    let mut whole = Vec::with_capacity(dims.rows * dims.n_heads * dims.head_width);
    for head in 0..dims.rows * dims.n_heads {
        for (part, width) in parts.iter().zip(&dims.widths) {
            whole.extend_from_slice(row(part, head, *width));
        }
    }
    whole
}
