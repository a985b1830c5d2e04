//! The dense feed-forward: down(silu(gate x) * up x).

use frugal_core::backend::Backend;

use crate::error::Result;
use crate::params::Mlp;
use crate::transformer::Forward;

/// `x [T, D] -> [T, D]`, `x` normed.
pub(crate) fn feed_forward<B: Backend>(
    forward: &Forward<'_, B>,
    params: &Mlp<B::Tensor>,
    x: &B::Tensor,
) -> Result<B::Tensor> {
    let gate = forward.linear(x, &params.gate)?;
    let up = forward.linear(x, &params.up)?;
    forward.linear(&forward.b.swiglu(&gate, &up)?, &params.down)
}
