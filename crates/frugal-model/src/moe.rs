//! The mixture of experts: a router sends each row to k experts, and every row through the shared
//! ones.
//!
//! Rows are brought into expert order once, each expert multiplies its own run, and the results
//! are summed by weight: no padding, no capacity, no dropped token. The rule of the router is data
//! ([`crate::config::MoeConfig::router`]); its balancing is a matter of training.
//!
//! *Source*: DeepSeek-V3 report, section 2.1.2; V2 report, section 2.2.

use frugal_core::backend::{Backend, FeedForward, Linear, Product};

use crate::error::{Error, Result};
use crate::mlp;
use crate::params::Moe;
use crate::transformer::Forward;

/// `x [T, D] -> [T, D]`, `x` normed.
pub(crate) fn feed_forward<B: Backend>(
    forward: &Forward<'_, B>,
    params: &Moe<B::Tensor>,
    x: &B::Tensor,
) -> Result<B::Tensor> {
    let Some(moe) = &forward.config.moe else {
        return Err(Error::Config {
            field: "n_routed_experts".into(),
            expected: "experts, as the parameters have them".into(),
            got: "none".into(),
        });
    };
    let b = forward.b;
    let router = Linear {
        weight: &params.router,
        bias: None,
        product: Product::Exact,
    };
    let logits = b.linear(x, router)?;
    let route = b.route(&logits, params.router_bias.as_ref(), &moe.router())?;
    let xs = b.dispatch(x, &route)?;
    let ys = b.feed_forward(&FeedForward {
        x: &xs,
        gate: &params.experts.gate,
        up: &params.experts.up,
        down: &params.experts.down,
        route: Some(&route),
    })?;
    let routed = b.combine(&ys, &route)?;
    match &params.shared {
        Some(shared) => Ok(b.add(&routed, &mlp::feed_forward(forward, shared, x)?)?),
        None => Ok(routed),
    }
}
