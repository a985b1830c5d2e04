//! Multi-head latent attention, in its two forms.
//!
//! *Naive*: the latent is expanded by `kv_b` to a key and a value for each head. Used without a cache
//! (training), for fresh sequences (prefill), and over an expanded cache, whose results are those of
//! training to the last bit where the back-end's sums are.
//!
//! *Absorbed*: the key half of `kv_b` is applied to the query and its value half to the result, so
//! that attention runs over the latent itself and the cache holds C + R numbers a token. Used over a
//! latent cache. Both are equal in exact arithmetic, which a property test holds them to.
//!
//! *Source*: DeepSeek-V3 report, section 2.1.1; V3.2 report, appendix A, for the two modes.

use frugal_core::backend::{
    Attention as Scores, Backend, Context, HeadDirection, HeadProduct, Keys, RopeColumns,
};

use crate::cache::{CacheKind, LayerCache};
use crate::config::{AttentionConfig, MlaConfig};
use crate::error::{Error, Result};
use crate::params::Mla;
use crate::rope;
use crate::transformer::Forward;

/// `x [T, D] -> [T, D]`, `x` normed.
pub(crate) fn attention<B: Backend>(
    forward: &Forward<'_, B>,
    params: &Mla<B::Tensor>,
    x: &B::Tensor,
    cache: Option<LayerCache<'_, B::Tensor>>,
) -> Result<B::Tensor> {
    let AttentionConfig::Mla(widths) = forward.config.attention else {
        return Err(Error::Config {
            field: "architectures".into(),
            expected: "an attention as its parameters are, MLA".into(),
            got: "grouped-query attention".into(),
        });
    };
    let mla = Heads {
        forward,
        params,
        widths,
    };
    let q = mla.query(x)?;
    let mixed = match cache {
        None => {
            let [latent, k_rope] = mla.latent(x)?;
            let kv = forward.linear(&latent, &params.kv_b)?;
            mla.naive(&q, &kv, &k_rope, Context::Packed)?
        }
        Some(mut cache) => match cache.kind() {
            CacheKind::Expanded => {
                let [latent, k_rope] = mla.latent(x)?;
                let kv = forward.linear(&latent, &params.kv_b)?;
                cache.append(forward.b, &kv, Some(&k_rope))?;
                let context = cache.context();
                let [kv, k_rope] = cache.pair()?;
                mla.naive(&q, kv, k_rope, context)?
            }
            kind @ (CacheKind::Latent | CacheKind::Absorbed) => {
                let joint = mla.joint(x)?;
                cache.append(forward.b, &joint, None)?;
                if kind == CacheKind::Latent && cache.is_fresh() {
                    let [latent, k_rope] = mla.parts(&joint)?;
                    let kv = forward.linear(&latent, &params.kv_b)?;
                    mla.naive(&q, &kv, &k_rope, Context::Packed)?
                } else {
                    mla.absorbed(&q, cache.first(), cache.context())?
                }
            }
            got @ CacheKind::Grouped => {
                return Err(Error::CacheKind {
                    expected: "latent, absorbed or expanded",
                    got,
                });
            }
        },
    };
    forward.linear(&mixed, &params.o)
}

struct Heads<'a, B: Backend> {
    forward: &'a Forward<'a, B>,
    params: &'a Mla<B::Tensor>,
    widths: MlaConfig,
}

impl<B: Backend> Heads<'_, B> {
    fn n_heads(&self) -> usize {
        self.forward.config.num_attention_heads
    }

    /// `[T, H * (nope + R)]`, the rope part rotated.
    fn query(&self, x: &B::Tensor) -> Result<B::Tensor> {
        let forward = self.forward;
        let q = match &self.params.q_compression {
            Some(compression) => {
                let low = forward.linear(x, &compression.a)?;
                let low = forward.norm(&low, &compression.norm)?;
                forward.linear(&low, &self.params.q)?
            }
            None => forward.linear(x, &self.params.q)?,
        };
        self.rotate(&q, self.n_heads(), self.widths.qk_nope_head_dim)
    }

    /// The normed latent `[T, C]` and the rotated key part all heads share `[T, R]`.
    fn latent(&self, x: &B::Tensor) -> Result<[B::Tensor; 2]> {
        let forward = self.forward;
        let [latent, k_rope] = self.parts(&forward.linear(x, &self.params.kv_a)?)?;
        let latent = forward.norm(&latent, &self.params.kv_a_norm)?;
        Ok([latent, self.rotate(&k_rope, 1, 0)?])
    }

    /// Both side by side, `[T, C + R]`.
    fn joint(&self, x: &B::Tensor) -> Result<B::Tensor> {
        let forward = self.forward;
        let joint = forward.linear(x, &self.params.kv_a)?;
        let (norm, eps) = (&self.params.kv_a_norm, forward.config.epsilon());
        let joint = forward.b.rms_norm_first(&joint, norm, eps)?;
        self.rotate(&joint, 1, self.widths.kv_lora_rank)
    }

    /// What is of the latent and what of the rotated part.
    fn parts(&self, joint: &B::Tensor) -> Result<[B::Tensor; 2]> {
        let widths = [self.widths.kv_lora_rank, self.widths.qk_rope_head_dim];
        two(self.forward.b.split(joint, 1, &widths)?)
    }

    /// Rotates the columns of each head from `offset` on.
    fn rotate(&self, x: &B::Tensor, n_heads: usize, offset: usize) -> Result<B::Tensor> {
        let width = self.widths.qk_rope_head_dim;
        let columns = RopeColumns {
            n_heads,
            head_width: offset + width,
            offset,
            width,
            pairs: self.forward.config.rope_pairs,
        };
        let positions = self.forward.rows.positions();
        Ok(self
            .forward
            .b
            .rope(x, self.forward.rope, positions, columns)?)
    }

    fn scores<'a>(&'a self, context: Context<'a>) -> Scores<'a> {
        Scores {
            n_heads: self.n_heads(),
            scale: rope::softmax_scale(self.forward.config),
            rows: self.forward.rows,
            context,
        }
    }

    /// `[T, H * value]` from keys and values of each head.
    fn naive(
        &self,
        q: &B::Tensor,
        kv: &B::Tensor,
        k_rope: &B::Tensor,
        context: Context<'_>,
    ) -> Result<B::Tensor> {
        let keys = Keys::Expanded {
            kv,
            k_rope,
            nope: self.widths.qk_nope_head_dim,
        };
        Ok(self.forward.b.attention(q, keys, &self.scores(context))?)
    }

    /// `[T, H * value]` from the latent itself: q'_h = W_k,hᵀ q_h, o_h = W_v,h sum p latent.
    fn absorbed(
        &self,
        q: &B::Tensor,
        latent: &B::Tensor,
        context: Context<'_>,
    ) -> Result<B::Tensor> {
        let b = self.forward.b;
        let MlaConfig {
            kv_lora_rank: rank,
            qk_nope_head_dim: nope,
            qk_rope_head_dim: rope,
            v_head_dim: value,
            ..
        } = self.widths;
        let n_heads = self.n_heads();
        let into = HeadProduct {
            n_heads,
            block: nope + value,
            rows: 0..nope,
            direction: HeadDirection::IntoLatent,
            passed: rope,
        };
        let q = b.per_head_linear(q, &self.params.kv_b, &into)?;
        let mixed = b.attention(&q, Keys::Latent { latent, rank }, &self.scores(context))?;
        let from = HeadProduct {
            rows: nope..nope + value,
            direction: HeadDirection::FromLatent,
            passed: 0,
            ..into
        };
        Ok(b.per_head_linear(&mixed, &self.params.kv_b, &from)?)
    }
}

/// The two parts of a split in two.
fn two<T>(parts: alloc::vec::Vec<T>) -> Result<[T; 2]> {
    let got = parts.len();
    parts.try_into().map_err(|_| {
        frugal_core::error::Error::Count {
            op: "split",
            what: "parts",
            expected: 2,
            got,
        }
        .into()
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;
    use alloc::{format, vec};

    use frugal_core::backend::{Backend, KeyBits};
    use frugal_core::dtype::Data;
    use frugal_core::reference::Reference;
    use frugal_core::shape::{Rows, Shape};
    use serde_json::{Value, json};

    use crate::cache::{Cache, CacheKind, CacheSettings, Cached};
    use crate::config::ModelConfig;
    use crate::params::{Mla, QueryCompression};
    use crate::rope;
    use crate::transformer::Forward;

    type Tensor = <Reference as Backend>::Tensor;

    fn config(row: &Value) -> ModelConfig {
        let q_rank = &row["q_rank"];
        let config = json!({
            "model_type": "deepseek_v3", "vocab_size": 8, "num_hidden_layers": 1,
            "hidden_size": row["dim"], "intermediate_size": 8, "max_position_embeddings": 16,
            "num_attention_heads": row["heads"], "rms_norm_eps": row["norm_eps"],
            "q_lora_rank": if q_rank == 0 { &Value::Null } else { q_rank },
            "kv_lora_rank": row["kv_rank"], "qk_nope_head_dim": row["qk_nope"],
            "qk_rope_head_dim": row["qk_rope"], "v_head_dim": row["v_dim"],
            "rope_theta": row["rope_base"], "n_routed_experts": null,
        });
        ModelConfig::from_json(&format!("{config}")).unwrap()
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding to f32 is the purpose"
    )]
    fn numbers(value: &Value) -> Vec<f32> {
        match value {
            Value::Array(list) => list.iter().flat_map(numbers).collect(),
            number => vec![number.as_f64().unwrap() as f32],
        }
    }

    fn tensor(value: &Value) -> Tensor {
        let values = numbers(value);
        let rows = value.as_array().unwrap();
        let shape = match &rows[0] {
            Value::Array(row) => Shape::matrix(rows.len(), row.len()),
            _ => Shape::vector(rows.len()),
        };
        Reference.put(shape, Data::F32(&values)).unwrap()
    }

    fn params(row: &Value) -> Mla<Tensor> {
        let named = |name: &str| tensor(&row["params"][name]);
        let is_compressed = row["q_rank"] != 0;
        Mla {
            q_compression: is_compressed.then(|| QueryCompression {
                a: named("wq_a"),
                norm: named("q_norm"),
            }),
            q: named(if is_compressed { "wq_b" } else { "wq" }),
            kv_a: named("wkv_a"),
            kv_a_norm: named("kv_norm"),
            kv_b: named("wkv_b"),
            o: named("wo"),
        }
    }

    /// Attention over all rows, in steps of the given sizes.
    fn attend(row: &Value, steps: &[u32], kind: Option<CacheKind>) -> Vec<f32> {
        let b = &Reference;
        let config = &config(row);
        let params = params(row);
        let table = rope::table(config, 16).unwrap();
        let rope = b
            .put(Shape::matrix(16, config.rope_width()), Data::F32(&table))
            .unwrap();
        let settings = |kind| CacheSettings {
            bits: KeyBits::AsProducts,
            kind,
            page_rows: 2,
            max_pages: 8,
        };
        let mut cache = kind.map(|kind| Cache::new(b, config, settings(kind)).unwrap());
        let sequence = cache.as_mut().map(|cache| cache.open().unwrap());
        let x = tensor(&row["x"]);
        let mut out = Vec::new();
        let mut start = 0;
        for n_rows in steps {
            let rows = &Rows::new(&[*n_rows], &[start]).unwrap();
            let ids: Vec<u32> = (start..start + n_rows).collect();
            let x = b.gather(&x, &ids).unwrap();
            let forward = Forward {
                b,
                config,
                rope: &rope,
                rows,
            };
            let sequences = sequence.as_slice();
            let mut reserved = cache
                .as_mut()
                .map(|cache| Cached { cache, sequences }.reserve(b, rows).unwrap());
            let layer = reserved.as_mut().map(|reserved| reserved.layer(0).unwrap());
            let y = super::attention(&forward, &params, &x, layer).unwrap();
            if let Some(reserved) = reserved {
                reserved.commit();
            }
            out.extend(b.get(&y).unwrap());
            start += n_rows;
        }
        out
    }

    #[test]
    fn both_forms_agree_with_independent_vectors() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/data/rl-vectors/mla.jsonl"
        );
        let Ok(lines) = std::fs::read_to_string(path) else {
            std::eprintln!("skipped: no {path}");
            return;
        };
        let lines: String = lines;
        for line in lines.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let expected = numbers(&row["out"]);
            let n_rows = u32::try_from(row["x"].as_array().unwrap().len()).unwrap();
            let ones = vec![1; n_rows as usize];
            for got in [
                attend(&row, &[n_rows], None),
                attend(&row, &ones, Some(CacheKind::Expanded)),
                attend(&row, &ones, Some(CacheKind::Latent)),
                attend(&row, &[2, n_rows - 2], Some(CacheKind::Latent)),
            ] {
                // The vectors state 1e-5 for f32.
                for (a, b) in got.iter().zip(&expected) {
                    assert!(
                        (a - b).abs() < 1e-5 * b.abs().max(1.0),
                        "{a} instead of {b}"
                    );
                }
                assert_eq!(got.len(), expected.len());
            }
        }
    }
}
