//! [`ModelConfig`] to the keys of its architecture: the way back of [`super::config()`].

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use frugal_core::backend::RopePairs;

use super::value::Value;
use crate::config::{
    Architecture, AttentionConfig, GqaConfig, MlaConfig, ModelConfig, RopeScaling, Yarn,
};
use crate::error::{Error, Result};
use crate::rope;

pub(super) const fn architecture(config: &ModelConfig) -> &'static str {
    match config.architecture {
        Architecture::DeepseekV2 | Architecture::DeepseekV3 => "deepseek2",
        Architecture::Qwen2 => "qwen2",
        Architecture::Qwen3 => "qwen3",
        Architecture::Llama => "llama",
    }
}

/// Keys under the name of an architecture.
struct Keys {
    arch: &'static str,
    keys: Vec<(String, Value)>,
}

impl Keys {
    fn push(&mut self, key: &str, value: Value) {
        self.keys.push((format!("{}.{key}", self.arch), value));
    }

    fn count(&mut self, key: &str, n: usize) -> Result<()> {
        let n = u32::try_from(n).map_err(|_| refuse(key, "a number of 32 bits", &n))?;
        self.push(key, Value::U32(n));
        Ok(())
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the format has f32 for all of them"
    )]
    fn number(&mut self, key: &str, x: f64) {
        self.push(key, Value::F32(x as f32));
    }
}

fn refuse(field: &str, expected: &str, got: &impl ToString) -> Error {
    Error::Config {
        field: field.to_owned(),
        expected: expected.to_owned(),
        got: got.to_string(),
    }
}

/// The keys of a config.
///
/// # Errors
/// [`Error::Config`] for what a GGUF file cannot say.
pub(super) fn keys(config: &ModelConfig) -> Result<Vec<(String, Value)>> {
    let mut out = Keys {
        arch: architecture(config),
        keys: Vec::new(),
    };
    out.count("vocab_size", config.vocab_size)?;
    out.count("context_length", config.max_position_embeddings)?;
    out.count("embedding_length", config.hidden_size)?;
    out.count("block_count", config.num_hidden_layers)?;
    out.count("feed_forward_length", config.intermediate_size)?;
    out.count("attention.head_count", config.num_attention_heads)?;
    out.number("attention.layer_norm_rms_epsilon", config.rms_norm_eps);
    out.number("rope.freq_base", config.rope_theta);
    out.count("rope.dimension_count", config.rope_width())?;
    let pairs = match &config.attention {
        AttentionConfig::Gqa(gqa) => {
            grouped(&mut out, gqa)?;
            RopePairs::Halves
        }
        AttentionConfig::Mla(mla) => {
            latent(&mut out, mla)?;
            experts(&mut out, config)?;
            RopePairs::Interleaved
        }
    };
    if config.rope_pairs != pairs {
        let got = format!("{:?}", config.rope_pairs);
        return Err(refuse("rope_interleave", "that of the family", &got));
    }
    scaling(&mut out, config)?;
    Ok(out.keys)
}

fn grouped(out: &mut Keys, gqa: &GqaConfig) -> Result<()> {
    out.count("attention.head_count_kv", gqa.num_key_value_heads)?;
    out.count("attention.key_length", gqa.head_dim)?;
    out.count("attention.value_length", gqa.head_dim)
}

/// The absorbed form, in which all heads share one key and value.
fn latent(out: &mut Keys, mla: &MlaConfig) -> Result<()> {
    out.count("attention.head_count_kv", 1)?;
    if let Some(rank) = mla.q_lora_rank {
        out.count("attention.q_lora_rank", rank)?;
    }
    let (rank, rope) = (mla.kv_lora_rank, mla.qk_rope_head_dim);
    out.count("attention.kv_lora_rank", rank)?;
    out.count("attention.key_length", rank + rope)?;
    out.count("attention.value_length", rank)?;
    out.count("attention.key_length_mla", mla.qk_nope_head_dim + rope)?;
    out.count("attention.value_length_mla", mla.v_head_dim)
}

fn experts(out: &mut Keys, config: &ModelConfig) -> Result<()> {
    let scoring = match config.architecture {
        Architecture::DeepseekV3 => 2,
        _ => 1,
    };
    out.count("expert_gating_func", scoring)?;
    let Some(moe) = &config.moe else {
        // The family's readers ask for these three also where every layer is dense.
        out.count("leading_dense_block_count", config.num_hidden_layers)?;
        out.count("expert_feed_forward_length", config.intermediate_size)?;
        return out.count("expert_shared_count", 0);
    };
    out.count("leading_dense_block_count", moe.first_k_dense_replace)?;
    out.count("expert_feed_forward_length", moe.moe_intermediate_size)?;
    out.count("expert_shared_count", moe.n_shared_experts)?;
    out.count("expert_count", moe.n_routed_experts)?;
    out.count("expert_used_count", moe.num_experts_per_tok)?;
    out.number("expert_weights_scale", moe.routed_scaling_factor);
    out.push("expert_weights_norm", Value::Bool(moe.norm_topk_prob));
    let router = moe.router();
    // Keeping all groups is no limit, and the family's readers refuse to be told of it.
    let (groups, kept) = match (router.n_group, router.topk_group) {
        (groups, kept) if kept >= groups => (1, 1),
        limited => limited,
    };
    out.count("expert_group_count", groups)?;
    out.count("expert_group_used_count", kept)
}

fn scaling(out: &mut Keys, config: &ModelConfig) -> Result<()> {
    match rope::active_scaling(config) {
        // Llama's stretch is a tensor.
        RopeScaling::Llama3(_) if config.architecture == Architecture::Llama => Ok(()),
        RopeScaling::Llama3(_) => {
            let got = "llama3";
            Err(refuse(
                "rope_scaling",
                "linear or yarn in this family",
                &got,
            ))
        }
        RopeScaling::None => Ok(()),
        RopeScaling::Linear { factor } => {
            out.push("rope.scaling.type", Value::String("linear".to_owned()));
            out.number("rope.scaling.factor", factor);
            Ok(())
        }
        RopeScaling::Yarn(yarn) => stretched(out, config, &yarn),
    }
}

fn stretched(out: &mut Keys, config: &ModelConfig, yarn: &Yarn) -> Result<()> {
    out.push("rope.scaling.type", Value::String("yarn".to_owned()));
    out.number("rope.scaling.factor", yarn.factor);
    out.count(
        "rope.scaling.original_context_length",
        yarn.original_max_position_embeddings,
    )?;
    out.number("rope.scaling.yarn_beta_fast", yarn.beta_fast);
    out.number("rope.scaling.yarn_beta_slow", yarn.beta_slow);
    if let Some(factor) = yarn.attention_factor {
        return Err(refuse("rope_scaling.attention_factor", "none", &factor));
    }
    let is_latent = matches!(config.attention, AttentionConfig::Mla(_));
    match yarn.mscale {
        None => Ok(()),
        Some([mscale, all_dim]) if is_latent && mscale.to_bits() == all_dim.to_bits() => {
            out.number("rope.scaling.yarn_log_multiplier", 0.1 * all_dim);
            Ok(())
        }
        Some(mscale) => {
            let expected = "two equal numbers in DeepSeek's family";
            Err(refuse(
                "rope_scaling.mscale",
                expected,
                &format!("{mscale:?}"),
            ))
        }
    }
}

/// The special tokens of a config that a tokenizer's keys do not state; those that are ordinary text
/// to the tokenizer are none (`is_special`).
pub(super) fn special_tokens(
    config: &ModelConfig,
    is_special: impl Fn(&u32) -> bool,
    keys: &mut Vec<(String, Value)>,
) {
    let mut ids = config.eos_token_id.clone();
    ids.retain(&is_special);
    if let Some(bos) = config.bos_token_id.filter(is_special) {
        push_token(keys, "bos", bos);
    }
    let stated = keys.iter().find_map(|(key, value)| {
        let id = value.count().and_then(|n| u32::try_from(n).ok());
        id.filter(|_| key == "tokenizer.ggml.eos_token_id")
    });
    ids.retain(|id| Some(*id) != stated);
    let mut ids = ids.into_iter();
    if stated.is_none()
        && let Some(eos) = ids.next()
    {
        push_token(keys, "eos", eos);
    }
    for (name, id) in ["eot", "eom"].into_iter().zip(ids) {
        push_token(keys, name, id);
    }
}

fn push_token(keys: &mut Vec<(String, Value)>, name: &str, id: u32) {
    let key = format!("tokenizer.ggml.{name}_token_id");
    if !keys.iter().any(|(other, _)| *other == key) {
        keys.push((key, Value::U32(id)));
    }
}
