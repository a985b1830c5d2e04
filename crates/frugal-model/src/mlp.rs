//! The dense feed-forward: down(silu(gate x) * up x).

use frugal_core::backend::{Backend, FeedForward};

use crate::error::Result;
use crate::params::Mlp;
use crate::transformer::Forward;

/// `x [T, D] -> [T, D]`, `x` normed.
pub(crate) fn feed_forward<B: Backend>(
    forward: &Forward<'_, B>,
    params: &Mlp<B::Tensor>,
    x: &B::Tensor,
) -> Result<B::Tensor> {
    Ok(forward.b.feed_forward(&FeedForward {
        x,
        gate: &params.gate,
        up: &params.up,
        down: &params.down,
        route: None,
    })?)
}
