//! The keys of DeepSeek's family, V2 and V3 under one name, in the form of today's files and in the
//! older one.

use alloc::format;
use alloc::string::{String, ToString};

use super::Gguf;
use super::config::{common, scaling, tensor};
use super::fields::Fields;
use super::value::shortest;
use crate::config::{Architecture, AttentionConfig, MlaConfig, ModelConfig, MoeConfig, TopkMethod};
use crate::error::Result;

const KEY_LENGTH: &str = "attention.key_length";
const VALUE_LENGTH: &str = "attention.value_length";

/// Groups of experts and those kept, of published models whose older files do not state them: by
/// scoring (softmax 1, sigmoid 2) and number of experts. *Source*: `n_group` and `topk_group` of the
/// published configs of DeepSeek-V2 and V3.
const GROUPS: [(usize, usize, usize, usize); 2] = [(1, 160, 8, 3), (2, 256, 8, 4)];

/// A model of the family, from the keys of its attention and its experts.
pub(super) fn deepseek(gguf: &Gguf, keys: &mut Fields<'_>) -> Result<ModelConfig> {
    let mla = attention(keys)?;
    let mut config = common(
        gguf,
        keys,
        Architecture::DeepseekV2,
        AttentionConfig::Mla(mla),
    )?;
    let heads = config.num_attention_heads;
    // All heads share one in the absorbed form.
    if let Some(got) = keys.maybe_count("attention.head_count_kv")?
        && got != 1
        && got != heads
    {
        return Err(keys.refuse("attention.head_count_kv", format!("1 or {heads}"), &got));
    }
    (config.architecture, config.moe) = experts(keys)?;
    // The converter stores a tenth of `mscale_all_dim`; published models have `mscale` equal to it.
    let multiplier = keys.maybe_number("rope.scaling.yarn_log_multiplier")?;
    let multiplier = multiplier.filter(|m| *m != 0.0).map(tenfold);
    config.rope_scaling = scaling(keys, multiplier)?;
    let extra = keys.maybe_count("nextn_predict_layers")?.unwrap_or(0);
    let n_layers = config.num_hidden_layers;
    config.num_hidden_layers = n_layers.checked_sub(extra).ok_or_else(|| {
        let expected = format!("at most the {n_layers} of block_count");
        keys.refuse("nextn_predict_layers", expected, &extra)
    })?;
    let joining = format!("blk.{}.nextn.eh_proj.weight", config.num_hidden_layers);
    if tensor(gguf, &joining).is_some() {
        config.num_nextn_predict_layers = extra;
    }
    Ok(config)
}

/// The widths of the attention, from the shared form or the older one.
fn attention(keys: &mut Fields<'_>) -> Result<MlaConfig> {
    let kv_lora_rank = keys.count("attention.kv_lora_rank")?;
    let qk_rope_head_dim = keys.count("rope.dimension_count")?;
    let stated = [
        keys.maybe_count(KEY_LENGTH)?,
        keys.maybe_count(VALUE_LENGTH)?,
    ];
    // Newer files state the widths of the one shared head, and those of the real ones beside them.
    let real = [
        keys.maybe_count("attention.key_length_mla")?,
        keys.maybe_count("attention.value_length_mla")?,
    ];
    let is_split = real.iter().any(Option::is_some);
    let [key, value] = if is_split { real } else { stated };
    let refuse = |key: &str, expected: String, got: usize| Err(keys.refuse(key, expected, &got));
    if is_split {
        let shared = [
            (KEY_LENGTH, kv_lora_rank.saturating_add(qk_rope_head_dim)),
            (VALUE_LENGTH, kv_lora_rank),
        ];
        for ((key, expected), got) in shared.into_iter().zip(stated) {
            if let Some(got) = got.filter(|got| *got != expected) {
                return refuse(key, expected.to_string(), got);
            }
        }
    }
    let width =
        |value: Option<usize>, key: &str| value.ok_or_else(|| keys.refuse(key, "a count", &"none"));
    let key = width(key, "attention.key_length_mla")?;
    let v_head_dim = width(value, "attention.value_length_mla")?;
    let Some(qk_nope_head_dim) = key.checked_sub(qk_rope_head_dim).filter(|n| *n > 0) else {
        let expected = format!("more than the {qk_rope_head_dim} rotated columns");
        return refuse("attention.key_length_mla", expected, key);
    };
    Ok(MlaConfig {
        q_lora_rank: keys
            .maybe_count("attention.q_lora_rank")?
            .filter(|n| *n > 0),
        kv_lora_rank,
        qk_nope_head_dim,
        qk_rope_head_dim,
        v_head_dim,
    })
}

/// Ten times an f32's decimal, without the dust of a product in binary.
#[expect(
    clippy::cast_possible_truncation,
    reason = "an f32 is what the file holds"
)]
fn tenfold(tenth: f64) -> f64 {
    shortest((tenth * 10.0) as f32)
}

/// The router's scoring tells V3 from V2.
fn experts(keys: &mut Fields<'_>) -> Result<(Architecture, Option<MoeConfig>)> {
    let scoring = keys.maybe_count("expert_gating_func")?.unwrap_or(0).max(1);
    let architecture = match scoring {
        1 => Architecture::DeepseekV2,
        2 => Architecture::DeepseekV3,
        other => {
            let expected = "1 (softmax) or 2 (sigmoid)";
            return Err(keys.refuse("expert_gating_func", expected, &other));
        }
    };
    let n_routed_experts = keys.maybe_count("expert_count")?.unwrap_or(0);
    let used = keys.maybe_count("expert_used_count")?;
    let width = keys.maybe_count("expert_feed_forward_length")?;
    let n_shared_experts = keys.maybe_count("expert_shared_count")?.unwrap_or(0);
    let first = keys.maybe_count("leading_dense_block_count")?.unwrap_or(0);
    let scale = keys.maybe_number("expert_weights_scale")?;
    let norm_topk_prob = keys.flag("expert_weights_norm")?.unwrap_or(false);
    let n_group = keys.maybe_count("expert_group_count")?.filter(|n| *n > 0);
    let topk_group = keys
        .maybe_count("expert_group_used_count")?
        .filter(|n| *n > 0);
    if n_routed_experts == 0 {
        return Ok((architecture, None));
    }
    let known = GROUPS
        .iter()
        .find(|(s, experts, ..)| (*s, *experts) == (scoring, n_routed_experts));
    let (n_group, topk_group) = match (n_group, topk_group, known) {
        (Some(groups), Some(kept), _) => (groups, kept),
        (Some(1), None, _) | (None, None, None) => (1, 1),
        (None, None, Some((.., groups, kept))) => (*groups, *kept),
        (groups, ..) => {
            let expected = "expert_group_count and expert_group_used_count, or neither";
            let got = groups.map_or("no expert_group_count", |_| "no expert_group_used_count");
            return Err(keys.refuse("expert_group_count", expected, &got));
        }
    };
    let needed =
        |value: Option<usize>, key: &str| value.ok_or_else(|| keys.refuse(key, "a count", &"none"));
    let moe = MoeConfig {
        n_routed_experts,
        n_shared_experts,
        num_experts_per_tok: needed(used, "expert_used_count")?,
        moe_intermediate_size: needed(width, "expert_feed_forward_length")?,
        first_k_dense_replace: first,
        n_group,
        topk_group,
        topk_method: match (architecture, n_group) {
            (Architecture::DeepseekV3, _) => TopkMethod::NoauxTc,
            (_, 1) => TopkMethod::Greedy,
            _ => TopkMethod::GroupLimitedGreedy,
        },
        norm_topk_prob,
        routed_scaling_factor: scale.filter(|scale| *scale != 0.0).unwrap_or(1.0),
    };
    Ok((architecture, Some(moe)))
}
