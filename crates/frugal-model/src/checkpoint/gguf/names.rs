//! Published tensor names to those of GGUF files. *Source*: llama.cpp's table of tensor names.

use alloc::format;
use alloc::string::String;

use crate::config::{Architecture, ModelConfig};
use crate::params::Spec;

/// Names within a layer.
const IN_LAYER: [(&str, &str); 29] = [
    ("input_layernorm.weight", "attn_norm.weight"),
    ("post_attention_layernorm.weight", "ffn_norm.weight"),
    ("self_attn.q_proj.weight", "attn_q.weight"),
    ("self_attn.q_proj.bias", "attn_q.bias"),
    ("self_attn.k_proj.weight", "attn_k.weight"),
    ("self_attn.k_proj.bias", "attn_k.bias"),
    ("self_attn.v_proj.weight", "attn_v.weight"),
    ("self_attn.v_proj.bias", "attn_v.bias"),
    ("self_attn.o_proj.weight", "attn_output.weight"),
    ("self_attn.o_proj.bias", "attn_output.bias"),
    ("self_attn.q_norm.weight", "attn_q_norm.weight"),
    ("self_attn.k_norm.weight", "attn_k_norm.weight"),
    ("self_attn.q_a_proj.weight", "attn_q_a.weight"),
    ("self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight"),
    ("self_attn.q_b_proj.weight", "attn_q_b.weight"),
    (
        "self_attn.kv_a_proj_with_mqa.weight",
        "attn_kv_a_mqa.weight",
    ),
    ("self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight"),
    ("self_attn.kv_b_proj.weight", KV_B),
    ("mlp.gate.weight", "ffn_gate_inp.weight"),
    ("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
    ("enorm.weight", "nextn.enorm.weight"),
    ("hnorm.weight", "nextn.hnorm.weight"),
    ("eh_proj.weight", "nextn.eh_proj.weight"),
    ("shared_head.norm.weight", "nextn.shared_head_norm.weight"),
    ("embed_tokens.weight", "nextn.embed_tokens.weight"),
    ("shared_head.head.weight", "nextn.shared_head_head.weight"),
    ("mlp.gate_proj.weight", "ffn_gate.weight"),
    ("mlp.up_proj.weight", "ffn_up.weight"),
    ("mlp.down_proj.weight", "ffn_down.weight"),
];

/// The three matrices of a feed-forward, as experts and as shared expert.
const IN_EXPERTS: [&str; 3] = ["gate", "up", "down"];

/// The end of the joint matrix of an MLA layer's keys and values.
pub(super) const KV_B: &str = "attn_kv_b.weight";
/// Its two halves.
pub(super) const K_B: &str = "attn_k_b.weight";
pub(super) const V_B: &str = "attn_v_b.weight";

pub(super) const EMBEDDING: &str = "token_embd.weight";
pub(super) const HEAD: &str = "output.weight";
/// What Llama's frequencies are divided by.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// The name in a GGUF file; an unknown one stays itself.
pub(super) fn gguf_name(published: &str) -> String {
    match published {
        "model.embed_tokens.weight" => return EMBEDDING.into(),
        "model.norm.weight" => return "output_norm.weight".into(),
        "lm_head.weight" => return HEAD.into(),
        _ => {}
    }
    let in_layer = published
        .strip_prefix("model.layers.")
        .and_then(|rest| rest.split_once('.'));
    let Some((layer, rest)) = in_layer else {
        return published.into();
    };
    if let Some((_, name)) = IN_LAYER.iter().find(|(published, _)| *published == rest) {
        return format!("blk.{layer}.{name}");
    }
    for part in IN_EXPERTS {
        for (prefix, suffix) in [("experts.*", "exps"), ("shared_experts", "shexp")] {
            if rest == format!("mlp.{prefix}.{part}_proj.weight") {
                return format!("blk.{layer}.ffn_{part}_{suffix}.weight");
            }
        }
    }
    published.into()
}

/// How many heads' rows a file interleaves, where it does: the rotated projections of Llama.
pub(super) fn interleaved_heads(config: &ModelConfig, spec: &Spec) -> Option<usize> {
    use crate::config::AttentionConfig::Gqa;
    let Gqa(gqa) = config.attention else {
        return None;
    };
    if config.architecture != Architecture::Llama {
        return None;
    }
    if spec.name.contains(".q_proj.") {
        Some(config.num_attention_heads)
    } else if spec.name.contains(".k_proj.") {
        Some(gqa.num_key_value_heads)
    } else {
        None
    }
}
