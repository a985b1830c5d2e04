//! `config.json` to [`ModelConfig`].
//!
//! Every field is read once under its published name; what is left over must be on the list of
//! fields that cannot change the result, or have the one value that does not.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use frugal_core::backend::RopePairs;
use serde_json::{Map, Value, json};

use super::{
    Architecture, AttentionConfig, GqaConfig, Llama3, MlaConfig, ModelConfig, MoeConfig,
    RopeScaling, TopkMethod, Yarn,
};
use crate::error::{Error, Result};
use crate::json::Unique;

/// (architecture, published name, `model_type`).
pub(super) const ARCHITECTURES: [(Architecture, &str, &str); 5] = [
    (
        Architecture::DeepseekV2,
        "DeepseekV2ForCausalLM",
        "deepseek_v2",
    ),
    (
        Architecture::DeepseekV3,
        "DeepseekV3ForCausalLM",
        "deepseek_v3",
    ),
    (Architecture::Qwen2, "Qwen2ForCausalLM", "qwen2"),
    (Architecture::Qwen3, "Qwen3ForCausalLM", "qwen3"),
    (Architecture::Llama, "LlamaForCausalLM", "llama"),
];

/// Fields that say how the file came about, how it is to be initialised, trained or sharded, but
/// not what the model computes.
const HARMLESS: [&str; 24] = [
    "_attn_implementation_autoset",
    "_name_or_path",
    "auto_map",
    "aux_loss_alpha",
    "dtype",
    "ep_size",
    "initializer_range",
    "max_window_layers",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "return_dict",
    "router_aux_loss_coef",
    "seq_aux",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unsloth_fixed",
    "use_bfloat16",
    "use_cache",
];

/// The fields of an object that have not been read yet.
struct Fields {
    prefix: String,
    map: Map<String, Value>,
}

impl Fields {
    fn refuse<T>(&self, name: &str, expected: &str, got: &Value) -> Result<T> {
        Err(Error::Config {
            field: format!("{}{name}", self.prefix),
            expected: expected.to_owned(),
            got: got.to_string(),
        })
    }

    /// The field's value; `null` is as good as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    fn convert<T>(
        &mut self,
        name: &str,
        expected: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match convert(&value) {
            Some(converted) => Ok(Some(converted)),
            None => self.refuse(name, expected, &value),
        }
    }

    fn require<T>(&self, name: &str, expected: &str, value: Option<T>) -> Result<T> {
        match value {
            Some(value) => Ok(value),
            None => self.refuse(name, expected, &Value::Null),
        }
    }

    fn maybe_count(&mut self, name: &str) -> Result<Option<usize>> {
        self.convert(name, "a whole number", |value| {
            value.as_u64().and_then(|n| usize::try_from(n).ok())
        })
    }

    fn count(&mut self, name: &str) -> Result<usize> {
        let value = self.maybe_count(name)?;
        self.require(name, "a whole number", value)
    }

    fn maybe_number(&mut self, name: &str) -> Result<Option<f64>> {
        self.convert(name, "a number", Value::as_f64)
    }

    fn number(&mut self, name: &str) -> Result<f64> {
        let value = self.maybe_number(name)?;
        self.require(name, "a number", value)
    }

    fn flag(&mut self, name: &str) -> Result<bool> {
        Ok(self
            .convert(name, "true or false", Value::as_bool)?
            .unwrap_or(false))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>> {
        self.convert(name, "a string", |value| {
            value.as_str().map(ToOwned::to_owned)
        })
    }

    fn object(&mut self, name: &str) -> Result<Option<Fields>> {
        let map = self.convert(name, "an object", |value| value.as_object().cloned())?;
        let prefix = format!("{}{name}.", self.prefix);
        Ok(map.map(|map| Fields { prefix, map }))
    }

    /// One token id, or a list of them.
    fn token_ids(&mut self, name: &str) -> Result<Vec<u32>> {
        let id = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        let ids = self.convert(name, "a token id or a list of them", |value| match value {
            Value::Array(list) => list.iter().map(id).collect(),
            single => id(single).map(|id| [id].into()),
        })?;
        Ok(ids.unwrap_or_default())
    }

    /// Reads a field that may only have one value.
    fn only(&mut self, name: &str, value: &Value) -> Result<()> {
        let equal =
            |got: &Value| got == value || (got.is_number() && got.as_f64() == value.as_f64());
        self.convert(name, &value.to_string(), |got| equal(got).then_some(()))?;
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let Some((name, value)) = self.map.iter().next() else {
            return Ok(());
        };
        Err(Error::UnknownField {
            field: format!("{}{name}", self.prefix),
            value: value.to_string(),
        })
    }
}

impl ModelConfig {
    /// Reads a published `config.json`.
    ///
    /// # Errors
    /// [`Error::Json`] if it is not a JSON object or a name comes twice, [`Error::Config`] for a value that is impossible or not
    /// supported, [`Error::UnknownField`] for a field that might change the result.
    pub fn from_json(text: &str) -> Result<Self> {
        let refuse = |reason: String| Error::Json {
            file: "config.json",
            reason,
        };
        let map = match serde_json::from_str(text).map_err(|error| refuse(error.to_string()))? {
            Unique(Value::Object(map)) => map,
            Unique(other) => return Err(refuse(format!("expected an object, got {other}"))),
        };
        let mut fields = Fields {
            prefix: String::new(),
            map,
        };
        let config = read(&mut fields)?;
        for name in HARMLESS {
            fields.map.remove(name);
        }
        fields.finish()?;
        config.check()?;
        Ok(config)
    }
}

fn architecture(fields: &mut Fields) -> Result<Architecture> {
    let known = || {
        ARCHITECTURES
            .map(|(_, name, kind)| format!("{name} ({kind})"))
            .join(", ")
    };
    let names = fields.take("architectures");
    let kind = fields.text("model_type")?;
    let name = names
        .as_ref()
        .and_then(|list| list.get(0))
        .and_then(Value::as_str);
    let found = ARCHITECTURES.iter().find(|(_, published, model_type)| {
        name.is_none_or(|name| name == *published)
            && kind.as_deref().is_none_or(|kind| kind == *model_type)
            && (name.is_some() || kind.is_some())
    });
    found
        .map(|(architecture, ..)| *architecture)
        .ok_or_else(|| Error::Config {
            field: "architectures and model_type".to_owned(),
            expected: format!("one of {}", known()),
            got: format!(
                "{} and {}",
                names.unwrap_or_default(),
                kind.unwrap_or_default()
            ),
        })
}

fn read(fields: &mut Fields) -> Result<ModelConfig> {
    let architecture = architecture(fields)?;
    let hidden_size = fields.count("hidden_size")?;
    let num_attention_heads = fields.count("num_attention_heads")?;
    let (rope_theta, rope_scaling) = rope(fields)?;
    let is_deepseek = matches!(
        architecture,
        Architecture::DeepseekV2 | Architecture::DeepseekV3
    );
    fields.only("hidden_act", &json!("silu"))?;
    fields.only("attention_dropout", &json!(0.0))?;
    fields.only("mlp_bias", &json!(false))?;
    fields.only("partial_rotary_factor", &json!(1.0))?;
    fields.only("use_mrope", &json!(false))?;
    let (attention, moe, extra_layers) = if is_deepseek {
        let attention = mla(fields, num_attention_heads)?;
        let extra_layers = fields.maybe_count("num_nextn_predict_layers")?.unwrap_or(0);
        (attention, experts(fields, architecture)?, extra_layers)
    } else {
        let attention = gqa(fields, architecture, hidden_size, num_attention_heads)?;
        full_attention_only(fields)?;
        (attention, None, 0)
    };
    let half_pairs = if architecture == Architecture::DeepseekV3 {
        fields.convert("rope_interleave", "true or false", Value::as_bool)? == Some(false)
    } else {
        !is_deepseek
    };
    Ok(ModelConfig {
        architecture,
        vocab_size: fields.count("vocab_size")?,
        hidden_size,
        intermediate_size: fields.count("intermediate_size")?,
        num_hidden_layers: fields.count("num_hidden_layers")?,
        num_attention_heads,
        max_position_embeddings: fields.count("max_position_embeddings")?,
        rms_norm_eps: fields.number("rms_norm_eps")?,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?,
        rope_theta,
        rope_scaling,
        rope_pairs: if half_pairs {
            RopePairs::Halves
        } else {
            RopePairs::Interleaved
        },
        attention,
        moe,
        num_nextn_predict_layers: extra_layers,
        bos_token_id: fields.token_ids("bos_token_id")?.first().copied(),
        eos_token_id: fields.token_ids("eos_token_id")?,
        weight_block_size: weight_blocks(fields)?,
    })
}

fn mla(fields: &mut Fields, n_heads: usize) -> Result<AttentionConfig> {
    let mla = MlaConfig {
        q_lora_rank: fields.maybe_count("q_lora_rank")?,
        kv_lora_rank: fields.count("kv_lora_rank")?,
        qk_nope_head_dim: fields.count("qk_nope_head_dim")?,
        qk_rope_head_dim: fields.count("qk_rope_head_dim")?,
        v_head_dim: fields.count("v_head_dim")?,
    };
    fields.only("attention_bias", &json!(false))?;
    fields.only("num_key_value_heads", &json!(n_heads))?;
    // Newer files repeat two widths that follow from the ones above.
    fields.only("head_dim", &json!(mla.qk_rope_head_dim))?;
    let width = mla.qk_nope_head_dim.saturating_add(mla.qk_rope_head_dim);
    fields.only("qk_head_dim", &json!(width))?;
    Ok(AttentionConfig::Mla(mla))
}

fn gqa(
    fields: &mut Fields,
    architecture: Architecture,
    hidden_size: usize,
    n_heads: usize,
) -> Result<AttentionConfig> {
    let head_dim = fields.maybe_count("head_dim")?;
    let attention_bias = if architecture == Architecture::Qwen2 {
        false
    } else {
        fields.flag("attention_bias")?
    };
    Ok(AttentionConfig::Gqa(GqaConfig {
        num_key_value_heads: fields
            .maybe_count("num_key_value_heads")?
            .unwrap_or(n_heads),
        head_dim: head_dim.unwrap_or(hidden_size.checked_div(n_heads).unwrap_or(0)),
        attention_bias,
    }))
}

/// Windowed attention is not supported; published files mention it where it is switched off.
fn full_attention_only(fields: &mut Fields) -> Result<()> {
    let window = fields.take("sliding_window");
    let switch = fields.convert("use_sliding_window", "true or false", Value::as_bool)?;
    if let Some(window) = window
        && switch != Some(false)
    {
        return fields.refuse(
            "sliding_window",
            "null or use_sliding_window = false",
            &window,
        );
    }
    if switch == Some(true) {
        return fields.refuse("use_sliding_window", "false", &Value::Bool(true));
    }
    fields.convert("layer_types", "full_attention in every layer", |value| {
        let full = |kind: &Value| kind.as_str() == Some("full_attention");
        value.as_array()?.iter().all(full).then_some(())
    })?;
    Ok(())
}

fn experts(fields: &mut Fields, architecture: Architecture) -> Result<Option<MoeConfig>> {
    let is_v3 = architecture == Architecture::DeepseekV3;
    fields.only("moe_layer_freq", &json!(1))?;
    fields.only(
        "scoring_func",
        &json!(if is_v3 { "sigmoid" } else { "softmax" }),
    )?;
    let method = fields.text("topk_method")?;
    let topk_method = match (is_v3, method.as_deref()) {
        (true, None | Some("noaux_tc")) => TopkMethod::NoauxTc,
        (false, Some("group_limited_greedy")) => TopkMethod::GroupLimitedGreedy,
        // "gready" is how the published V2 config class spells its default.
        (false, None | Some("greedy" | "gready")) => TopkMethod::Greedy,
        (_, other) => {
            let expected = "noaux_tc (V3), greedy or group_limited_greedy (V2)";
            return fields.refuse("topk_method", expected, &json!(other));
        }
    };
    let n_routed_experts = fields.maybe_count("n_routed_experts")?;
    let n_shared_experts = fields.maybe_count("n_shared_experts")?.unwrap_or(0);
    let num_experts_per_tok = fields.maybe_count("num_experts_per_tok")?;
    let moe_intermediate_size = fields.maybe_count("moe_intermediate_size")?;
    let first_k_dense_replace = fields.maybe_count("first_k_dense_replace")?.unwrap_or(0);
    let n_group = fields.maybe_count("n_group")?.unwrap_or(1);
    let topk_group = fields.maybe_count("topk_group")?.unwrap_or(1);
    let norm_topk_prob = fields.flag("norm_topk_prob")?;
    let routed_scaling_factor = fields.maybe_number("routed_scaling_factor")?.unwrap_or(1.0);
    let Some(n_routed_experts) = n_routed_experts else {
        return Ok(None);
    };
    let whole = "a whole number";
    Ok(Some(MoeConfig {
        n_routed_experts,
        n_shared_experts,
        num_experts_per_tok: fields.require("num_experts_per_tok", whole, num_experts_per_tok)?,
        moe_intermediate_size: fields.require(
            "moe_intermediate_size",
            whole,
            moe_intermediate_size,
        )?,
        first_k_dense_replace,
        n_group,
        topk_group,
        topk_method,
        norm_topk_prob,
        routed_scaling_factor,
    }))
}

/// Both spellings: `rope_theta` and `rope_scaling` side by side, or both inside `rope_parameters`.
/// Files that were written for readers of either have both, which must say the same.
fn rope(fields: &mut Fields) -> Result<(f64, RopeScaling)> {
    let mut theta = fields.maybe_number("rope_theta")?;
    let mut scaling = None;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(mut inner) = fields.object(name)? else {
            continue;
        };
        let inner_theta = inner.maybe_number("rope_theta")?;
        if let Some(outer) = theta {
            inner
                .map
                .extend(inner_theta.map(|value| ("rope_theta".to_owned(), json!(value))));
            inner.only("rope_theta", &json!(outer))?;
        }
        theta = theta.or(inner_theta);
        let got = Value::Object(inner.map.clone());
        let found = rope_scaling(&mut inner)?;
        inner.finish()?;
        if *scaling.get_or_insert(found) != found {
            return fields.refuse(name, "the same as in rope_scaling", &got);
        }
    }
    // Llama's files of 2023 do not state the base their code has built in.
    let theta = theta.unwrap_or(10_000.0);
    Ok((theta, scaling.unwrap_or(RopeScaling::None)))
}

fn rope_scaling(inner: &mut Fields) -> Result<RopeScaling> {
    let newer = inner.text("rope_type")?;
    let older = inner.text("type")?;
    if let (Some(a), Some(b)) = (&newer, &older)
        && a != b
    {
        return inner.refuse("type", a, &json!(b));
    }
    inner.only("partial_rotary_factor", &json!(1.0))?;
    Ok(match newer.or(older).as_deref().unwrap_or("default") {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear {
            factor: inner.number("factor")?,
        },
        "yarn" => {
            inner.only("truncate", &json!(true))?;
            let mscale = inner.maybe_number("mscale")?;
            let all_dim = inner.maybe_number("mscale_all_dim")?;
            if mscale.is_some() != all_dim.is_some() {
                let expected = "both mscale and mscale_all_dim, or neither";
                return inner.refuse("mscale", expected, &json!([mscale, all_dim]));
            }
            RopeScaling::Yarn(Yarn {
                factor: inner.number("factor")?,
                beta_fast: inner.maybe_number("beta_fast")?.unwrap_or(32.0),
                beta_slow: inner.maybe_number("beta_slow")?.unwrap_or(1.0),
                original_max_position_embeddings: inner
                    .count("original_max_position_embeddings")?,
                mscale: mscale.zip(all_dim).map(|(a, b)| [a, b]),
                attention_factor: inner.maybe_number("attention_factor")?,
            })
        }
        "llama3" => RopeScaling::Llama3(Llama3 {
            factor: inner.number("factor")?,
            low_freq_factor: inner.number("low_freq_factor")?,
            high_freq_factor: inner.number("high_freq_factor")?,
            original_max_position_embeddings: inner.count("original_max_position_embeddings")?,
        }),
        other => {
            return inner.refuse(
                "rope_type",
                "default, linear, yarn or llama3",
                &json!(other),
            );
        }
    })
}

fn weight_blocks(fields: &mut Fields) -> Result<Option<[usize; 2]>> {
    let Some(mut inner) = fields.object("quantization_config")? else {
        return Ok(None);
    };
    inner.only("quant_method", &json!("fp8"))?;
    inner.only("fmt", &json!("e4m3"))?;
    // How activations are rounded while serving; here they stay as the back-end has them.
    inner.map.remove("activation_scheme");
    inner.map.remove("scale_fmt");
    let blocks = inner.convert("weight_block_size", "two whole numbers above 0", |value| {
        let sizes: Option<Vec<usize>> = value
            .as_array()?
            .iter()
            .map(|n| {
                n.as_u64()
                    .and_then(|n| usize::try_from(n).ok())
                    .filter(|n| *n > 0)
            })
            .collect();
        <[usize; 2]>::try_from(sizes?).ok()
    })?;
    let blocks = inner.require("weight_block_size", "two whole numbers above 0", blocks)?;
    inner.finish()?;
    Ok(Some(blocks))
}
