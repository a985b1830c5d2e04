//! The forward pass: read this first.
//!
//! ```text
//! x = embed[ids]
//! for each layer:  x = x + attention(norm(x));  x = x + feed_forward(norm(x))
//! hidden = norm(x);  logits = head hidden
//! ```
//!
//! One forward serves training, prefill and decode: the cache is an argument, and whether the
//! calls are computed, recorded or only counted is the back-end's affair. The pieces are in
//! [`crate::mla`], [`crate::gqa`], [`crate::moe`] and [`crate::mlp`]; choosing tokens is in
//! [`crate::generate`].

use frugal_core::backend::{Backend, Linear, Product};
use frugal_core::dtype::Data;
use frugal_core::error::expect_count;
use frugal_core::shape::{Rows, Shape};

use crate::cache::{Cached, LayerCache};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::params::{Attention, FeedForward, Layer, Params};
use crate::{gqa, mla, mlp, moe, rope};

/// A model whose tensors are on a back-end.
#[derive(Debug, Clone)]
pub struct Model<T> {
    /// What it is.
    pub config: ModelConfig,
    /// Its parameters.
    pub params: Params<T>,
    /// `[P, R]`: the rope table of all positions the model will be run at.
    pub rope: T,
}

impl<T: Clone> Model<T> {
    /// A model of given parameters, ready for `n_positions` positions.
    ///
    /// # Errors
    /// If the config was made for fewer positions, or the back-end refuses the table.
    pub fn new<B: Backend<Tensor = T>>(
        b: &B,
        config: ModelConfig,
        params: Params<T>,
        n_positions: usize,
    ) -> Result<Self> {
        let table = rope::table(&config, n_positions)?;
        let shape = Shape::matrix(n_positions, config.rope_width());
        let rope = b.put(shape, Data::F32(&table))?;
        Ok(Self {
            config,
            params,
            rope,
        })
    }
}

impl<T: Clone> Model<T> {
    /// The same model for the tokens of answers; see [`Backend::for_answers`].
    #[must_use]
    pub fn for_answers<B: Backend<Tensor = T>>(&self, b: &B) -> Self {
        Self {
            config: self.config.clone(),
            params: self.params.map(|weight| b.for_answers(weight)),
            rope: self.rope.clone(),
        }
    }
}

/// The tokens of one step.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// `[T]`.
    pub ids: &'a [u32],
    /// Their sequences and positions.
    pub rows: &'a Rows,
}

/// What every part of a forward needs beside its own parameters.
#[derive(Debug)]
pub(crate) struct Forward<'a, B: Backend> {
    pub(crate) b: &'a B,
    pub(crate) config: &'a ModelConfig,
    pub(crate) rope: &'a B::Tensor,
    pub(crate) rows: &'a Rows,
}

impl<B: Backend> Forward<'_, B> {
    /// A product without bias, in the back-end's precision.
    pub(crate) fn linear(&self, x: &B::Tensor, weight: &B::Tensor) -> Result<B::Tensor> {
        self.linear_with(x, weight, None)
    }

    /// A product in the back-end's precision.
    pub(crate) fn linear_with(
        &self,
        x: &B::Tensor,
        weight: &B::Tensor,
        bias: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let product = Product::Policy;
        let linear = Linear {
            weight,
            bias,
            product,
        };
        Ok(self.b.linear(x, linear)?)
    }

    /// As [`Self::norm`], for [`Self::linear`] and the like alone to read.
    pub(crate) fn norm_for_products(&self, x: &B::Tensor, weight: &B::Tensor) -> Result<B::Tensor> {
        let epsilon = self.config.epsilon();
        Ok(self.b.rms_norm_for_products(x, weight, epsilon)?)
    }

    /// A norm with the config's epsilon.
    pub(crate) fn norm(&self, x: &B::Tensor, weight: &B::Tensor) -> Result<B::Tensor> {
        Ok(self.b.rms_norm(x, weight, self.config.epsilon())?)
    }
}

/// The hidden states `[T, D]` of a step, after the final norm.
///
/// Without a cache each sequence sees its own rows only. With one, the step continues the given
/// sequences: its keys are appended, and the rows see all keys before them.
///
/// # Errors
/// If ids and rows differ in number, an id or position is out of range, or the step does not
/// continue the cached sequences.
pub fn hidden<B: Backend>(
    b: &B,
    model: &Model<B::Tensor>,
    step: &Step<'_>,
    cached: Option<Cached<'_, B::Tensor>>,
) -> Result<B::Tensor> {
    expect_count("hidden", "token ids", step.rows.n_rows(), step.ids.len())?;
    let forward = Forward {
        b,
        config: &model.config,
        rope: &model.rope,
        rows: step.rows,
    };
    let mut reserved = cached
        .map(|cached| cached.reserve(b, step.rows))
        .transpose()?;
    let mut x = b.gather(&model.params.embed, step.ids)?;
    for (index, params) in model.params.layers.iter().enumerate() {
        let cache = reserved
            .as_mut()
            .map(|reserved| reserved.layer(index))
            .transpose()?;
        x = layer(&forward, params, &x, cache)?;
    }
    let hidden = forward.norm(&x, &model.params.norm)?;
    if let Some(reserved) = reserved {
        reserved.commit();
    }
    Ok(hidden)
}

/// One layer `[T, D] -> [T, D]`.
pub(crate) fn layer<B: Backend>(
    forward: &Forward<'_, B>,
    params: &Layer<B::Tensor>,
    x: &B::Tensor,
    cache: Option<LayerCache<'_, B::Tensor>>,
) -> Result<B::Tensor> {
    let normed = forward.norm_for_products(x, &params.input_norm)?;
    let attended = match &params.attention {
        Attention::Mla(params) => mla::attention(forward, params, &normed, cache)?,
        Attention::Gqa(params) => gqa::attention(forward, params, &normed, cache)?,
    };
    let x = forward.b.add(x, &attended)?;
    let fed = match &params.feed_forward {
        FeedForward::Mlp(mlp) => mlp::feed_forward(
            forward,
            mlp,
            &forward.norm_for_products(&x, &params.post_norm)?,
        )?,
        // The router reads it as it is.
        FeedForward::Moe(moe) => {
            moe::feed_forward(forward, moe, &forward.norm(&x, &params.post_norm)?)?
        }
    };
    Ok(forward.b.add(&x, &fed)?)
}

/// The output matrix `[V, D]`: the head, or the embedding it is tied to.
pub fn head<T>(model: &Model<T>) -> &T {
    model.params.lm_head.as_ref().unwrap_or(&model.params.embed)
}

/// Logits `[T, V]` of hidden states. For log-probabilities use
/// [`Backend::log_prob`], which keeps no such matrix.
///
/// # Errors
/// If the hidden states have another width than the model.
pub fn logits<B: Backend>(
    b: &B,
    model: &Model<B::Tensor>,
    hidden: &B::Tensor,
) -> Result<B::Tensor> {
    let linear = Linear {
        weight: head(model),
        bias: None,
        product: Product::Policy,
    };
    Ok(b.linear(hidden, linear)?)
}
