//! What is measured: a model from a file, or the random weights of a shape.

use std::fs;

use anyhow::Context;
use frugal_core::dtype::DType;
use frugal_core::quant::Format;
use frugal_model::config::ModelConfig;
use frugal_model::transformer::Model;
use frugal_train::artifact::{Vocabulary, config_of};
use serde_json::{Value, json};

use super::random::{Source, format_named};
use crate::cli::{Common, KnownShape, Storage, Subject, Which};
use crate::commands::plan::shipped;
use crate::device::Device;
use crate::forecast::all_in;
use crate::models::{self, OnDevice, Opened};
use crate::output::Usage;

/// The model to measure generation with: a file's as it is stored, a shape's in the given form.
pub(super) fn stored(
    common: &Common,
    subject: &Subject,
    storage: &Storage,
) -> anyhow::Result<Opened> {
    let name = &storage.format;
    let format = format_named(name).ok_or_else(|| {
        Usage(format!(
            "expected --format f32, bf16, f16, fp8 or a block format, got {name}"
        ))
    })?;
    open(common, subject, format)
}

/// The model to measure training with.
pub(super) fn trainable(common: &Common, subject: &Subject) -> anyhow::Result<Opened> {
    open(common, subject, Format::Plain(DType::F32))
}

/// A model on the device as plain numbers, to be trained at up to so many positions.
pub(super) fn put(
    opened: &Opened,
    device: &Device,
    n_positions: usize,
) -> anyhow::Result<OnDevice> {
    let params = opened.leaves.try_map(|leaf| leaf.put(device))?;
    Ok(Model::new(
        device,
        opened.config.clone(),
        params,
        n_positions,
    )?)
}

fn open(common: &Common, subject: &Subject, format: Format) -> anyhow::Result<Opened> {
    if let Some(model) = &subject.model {
        let which = Which {
            model: model.clone(),
            stage: None,
        };
        return models::find(common, &which)?.open();
    }
    let (name, config) = match (&subject.config, subject.shape) {
        (Some(path), _) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.display().to_string();
            (name, ModelConfig::from_json(&text)?)
        }
        (None, Some(shape)) => known(shape)?,
        (None, None) => return Err(Usage("expected --shape, --config or --model".into()).into()),
    };
    let mut source = Source::new();
    let leaves = all_in(&config, format)?.try_map(|(spec, format)| source.leaf(spec, *format))?;
    Ok(Opened::without_text(&name, config, leaves))
}

fn known(shape: KnownShape) -> anyhow::Result<(String, ModelConfig)> {
    let (name, config) = match shape {
        KnownShape::TinyDense => ("tiny-dense", tiny_dense()),
        KnownShape::TinyMoe => ("tiny-moe", tiny_moe()),
        KnownShape::Qwen2 => ("qwen2-1.5b", qwen2()),
        KnownShape::V3Moe => ("v3-moe", v3_moe()),
        KnownShape::R1Tiny => return Ok(("r1-tiny".to_owned(), r1_tiny()?)),
    };
    Ok((
        name.to_owned(),
        ModelConfig::from_json(&config.to_string())?,
    ))
}

/// What the recipe trains, over the words of its task.
fn r1_tiny() -> anyhow::Result<ModelConfig> {
    let recipe = shipped("r1-tiny")?;
    let task = frugal_eval::tasks::by_name(&recipe.task.name, None)?;
    let words = task.words().len() + frugal_text::word_level::CONTROL.len();
    let shape = recipe.models.get("main").context("the model main")?;
    Ok(config_of(shape, &Vocabulary::of_words(words))?)
}

fn tiny_dense() -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 512,
        "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32,
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "hidden_act": "silu", "attention_bias": false,
    })
}

fn tiny_moe() -> Value {
    json!({
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 512,
        "hidden_size": 256, "intermediate_size": 768, "moe_intermediate_size": 128,
        "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 8,
        "n_shared_experts": 1, "n_routed_experts": 16, "num_experts_per_tok": 4,
        "kv_lora_rank": 64, "q_lora_rank": 128, "qk_rope_head_dim": 16, "v_head_dim": 32,
        "qk_nope_head_dim": 32, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
        "routed_scaling_factor": 2.5, "norm_topk_prob": true, "scoring_func": "sigmoid",
        "topk_method": "noaux_tc", "max_position_embeddings": 1024, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "tie_word_embeddings": false, "hidden_act": "silu",
        "attention_bias": false, "num_nextn_predict_layers": 0,
    })
}

fn qwen2() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 151_936,
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": true, "hidden_act": "silu",
    })
}

fn v3_moe() -> Value {
    json!({
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
        "vocab_size": 32768, "hidden_size": 2048, "intermediate_size": 8192,
        "moe_intermediate_size": 1408, "num_hidden_layers": 6, "num_attention_heads": 16,
        "num_key_value_heads": 16, "n_shared_experts": 1, "n_routed_experts": 64,
        "num_experts_per_tok": 6, "kv_lora_rank": 512, "q_lora_rank": 768,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128, "n_group": 1,
        "topk_group": 1, "first_k_dense_replace": 1, "routed_scaling_factor": 2.5,
        "norm_topk_prob": true, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": false, "hidden_act": "silu", "attention_bias": false,
        "num_nextn_predict_layers": 0,
    })
}
