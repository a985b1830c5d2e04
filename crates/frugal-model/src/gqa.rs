//! Grouped-query attention: Llama, Qwen2 (bias on query, key and value), Qwen3 (a norm on each
//! query and key head before the rotation).

use frugal_core::backend::{Attention as Scores, Backend, Context, Keys, RopeColumns};

use crate::cache::{CacheKind, LayerCache};
use crate::config::AttentionConfig;
use crate::error::{Error, Result};
use crate::params::{Gqa, Projection};
use crate::rope;
use crate::transformer::Forward;

/// `x [T, D] -> [T, D]`, `x` normed.
pub(crate) fn attention<B: Backend>(
    forward: &Forward<'_, B>,
    params: &Gqa<B::Tensor>,
    x: &B::Tensor,
    cache: Option<LayerCache<'_, B::Tensor>>,
) -> Result<B::Tensor> {
    let AttentionConfig::Gqa(widths) = forward.config.attention else {
        return Err(Error::Config {
            field: "architectures".into(),
            expected: "an attention as its parameters are, grouped-query".into(),
            got: "MLA".into(),
        });
    };
    let n_heads = forward.config.num_attention_heads;
    let n_kv_heads = widths.num_key_value_heads;
    let rotate = |x: &B::Tensor, head_norm: Option<&B::Tensor>, n_heads: usize| {
        let columns = RopeColumns {
            n_heads,
            head_width: widths.head_dim,
            offset: 0,
            width: widths.head_dim,
            pairs: forward.config.rope_pairs,
        };
        let normed = head_norm.map(|norm| forward.norm(x, norm)).transpose()?;
        let x = normed.as_ref().unwrap_or(x);
        Ok::<_, Error>(
            forward
                .b
                .rope(x, forward.rope, forward.rows.positions(), columns)?,
        )
    };
    let q = rotate(
        &project(forward, &params.q, x)?,
        params.q_norm.as_ref(),
        n_heads,
    )?;
    let k = rotate(
        &project(forward, &params.k, x)?,
        params.k_norm.as_ref(),
        n_kv_heads,
    )?;
    let v = project(forward, &params.v, x)?;
    let mix = |k: &B::Tensor, v: &B::Tensor, context: Context<'_>| {
        let scores = Scores {
            n_heads,
            scale: rope::softmax_scale(forward.config),
            rows: forward.rows,
            context,
        };
        forward
            .b
            .attention(&q, Keys::Grouped { k, v, n_kv_heads }, &scores)
    };
    let mixed = match cache {
        None => mix(&k, &v, Context::Packed)?,
        Some(mut cache) if cache.kind() == CacheKind::Grouped => {
            cache.append(forward.b, &k, Some(&v))?;
            let [k, v] = cache.pair()?;
            mix(k, v, cache.context())?
        }
        Some(cache) => {
            return Err(Error::CacheKind {
                expected: "grouped",
                got: cache.kind(),
            });
        }
    };
    project(forward, &params.o, &mixed)
}

fn project<B: Backend>(
    forward: &Forward<'_, B>,
    params: &Projection<B::Tensor>,
    x: &B::Tensor,
) -> Result<B::Tensor> {
    forward.linear_with(x, &params.weight, params.bias.as_ref())
}
