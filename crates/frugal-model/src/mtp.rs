//! Multi-token prediction: one extra layer that, from a hidden state and the next token, predicts
//! the token after it. Embedding and head are the model's own.
//!
//! `eh_proj` takes `[enorm(embedding) | hnorm(hidden)]`, the embedding first, as the published
//! weights have it; equation 21 of the DeepSeek-V3 report writes the halves the other way round.

use frugal_core::backend::Backend;
use frugal_core::shape::Rows;

use crate::cache::{Cached, LayerCache};
use crate::error::{Error, Result};
use crate::transformer::{Forward, Model, Step, layer};

/// The extra layer's hidden states `[T, D]`, after its own norm: read with
/// [`crate::transformer::head`] they predict the token after `next_ids`.
///
/// `hidden [T, D]` are the model's, after the final norm; `next_ids [T]` the tokens that follow;
/// `rows` the sequences and positions of `hidden`.
///
/// # Errors
/// If the model has no such layer, or the three differ in length.
pub fn hidden<B: Backend>(
    b: &B,
    model: &Model<B::Tensor>,
    hidden: &B::Tensor,
    next_ids: &[u32],
    rows: &Rows,
) -> Result<B::Tensor> {
    let ids = next_ids;
    forward(b, model, hidden, &Step { ids, rows }, None)
}

/// The same over a cache whose last layer is this one's. `step` has the tokens that follow, at the
/// positions of the hidden states; rows at the end of what this layer has seen, or before.
pub(crate) fn hidden_cached<B: Backend>(
    b: &B,
    model: &Model<B::Tensor>,
    hidden: &B::Tensor,
    step: &Step<'_>,
    cached: Cached<'_, B::Tensor>,
) -> Result<B::Tensor> {
    let mut reserved = cached.revisit(b, step.rows)?;
    let cache = reserved.layer(model.config.num_hidden_layers)?;
    forward(b, model, hidden, step, Some(cache))
}

fn forward<B: Backend>(
    b: &B,
    model: &Model<B::Tensor>,
    hidden: &B::Tensor,
    step: &Step<'_>,
    cache: Option<LayerCache<'_, B::Tensor>>,
) -> Result<B::Tensor> {
    let Some(params) = &model.params.mtp else {
        return Err(Error::Config {
            field: "num_nextn_predict_layers".into(),
            expected: "1, to predict the token after the next".into(),
            got: "no such layer".into(),
        });
    };
    let forward = Forward {
        b,
        config: &model.config,
        rope: &model.rope,
        rows: step.rows,
    };
    let embedding = b.gather(&model.params.embed, step.ids)?;
    let embedding = forward.norm(&embedding, &params.enorm)?;
    let hidden = forward.norm(hidden, &params.hnorm)?;
    let x = forward.linear(&b.join(&[&embedding, &hidden], 1)?, &params.eh_proj)?;
    let x = layer(&forward, &params.layer, &x, cache)?;
    forward.norm(&x, &params.norm)
}
