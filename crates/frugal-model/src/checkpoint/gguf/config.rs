//! The keys of an architecture to [`ModelConfig`].
//!
//! Every key of the architecture is read once; one that is left over might change the result and is
//! refused. Keys of other rooms (`general.`, `tokenizer.`, and whatever tools add under names of
//! their own) say nothing about the computation. DeepSeek's own keys are in [`super::deepseek`].

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use frugal_core::backend::RopePairs;
use frugal_core::dtype::decode;
use frugal_core::quant::Format;
use frugal_core::shape::Shape;
use frugal_core::stored::Stored;

use super::deepseek::deepseek;
use super::fields::{Fields, refuse};
use super::value::Value;
use super::{Gguf, TensorInfo, names, stretch};
use crate::config::{Architecture, AttentionConfig, GqaConfig, ModelConfig, RopeScaling, Yarn};
use crate::error::{Error, Result};

/// What a file says of its model.
///
/// # Errors
/// [`Error::GgufKey`] for an unknown architecture, and for a key that is missing, impossible, not supported, or
/// unknown; [`Error::Tensors`] if there is no embedding, whose shape is the vocabulary's;
/// [`Error::Config`] for numbers that cannot be together.
pub fn config(gguf: &Gguf) -> Result<ModelConfig> {
    let arch = text(gguf, "general.architecture")?;
    if let Some(kind) = gguf.keys.get("general.type")
        && kind.text() != Some("model")
    {
        return Err(refuse("general.type", "model", kind));
    }
    let mut keys = Fields::new(gguf, arch);
    let mut config = match arch {
        "llama" => dense(gguf, &mut keys, Architecture::Llama)?,
        "qwen2" => dense(gguf, &mut keys, Architecture::Qwen2)?,
        "qwen3" => dense(gguf, &mut keys, Architecture::Qwen3)?,
        "deepseek2" => deepseek(gguf, &mut keys)?,
        other => {
            let expected = "llama, qwen2, qwen3 or deepseek2";
            return Err(refuse("general.architecture", expected, &other));
        }
    };
    keys.only("vocab_size", config.vocab_size)?;
    keys.finish()?;
    config.bos_token_id = token_id(gguf, "tokenizer.ggml.bos_token_id")?;
    for key in ["eos", "eot", "eom"] {
        let id = token_id(gguf, &format!("tokenizer.ggml.{key}_token_id"))?;
        let is_new = |id: &u32| !config.eos_token_id.contains(id);
        config.eos_token_id.extend(id.filter(is_new));
    }
    if let Some(Value::Array(tokens)) = gguf.keys.get("tokenizer.ggml.tokens")
        && tokens.len() != config.vocab_size
    {
        let expected = format!("the {} rows of {}", config.vocab_size, names::EMBEDDING);
        return Err(refuse("tokenizer.ggml.tokens", expected, &tokens.len()));
    }
    config.check()?;
    Ok(config)
}

pub(super) fn text<'a>(gguf: &'a Gguf, key: &str) -> Result<&'a str> {
    match gguf.keys.get(key) {
        None => Err(refuse(key, "a text", &"none")),
        Some(value) => value.text().ok_or_else(|| refuse(key, "a text", value)),
    }
}

pub(super) fn token_id(gguf: &Gguf, key: &str) -> Result<Option<u32>> {
    let Some(value) = gguf.keys.get(key) else {
        return Ok(None);
    };
    let id = value.count().and_then(|n| u32::try_from(n).ok());
    id.map(Some).ok_or_else(|| refuse(key, "a token id", value))
}

pub(super) fn tensor<'a>(gguf: &'a Gguf, name: &str) -> Option<&'a TensorInfo> {
    gguf.tensors.iter().find(|tensor| tensor.name == name)
}

/// What all architectures have, with an attention that is still to be read.
pub(super) fn common(
    gguf: &Gguf,
    keys: &mut Fields<'_>,
    architecture: Architecture,
    attention: AttentionConfig,
) -> Result<ModelConfig> {
    let embedding = tensor(gguf, names::EMBEDDING);
    let vocab_size = embedding.and_then(|tensor| tensor.shape.first().copied());
    Ok(ModelConfig {
        architecture,
        vocab_size: vocab_size.ok_or_else(|| Error::Tensors {
            what: "missing",
            names: names::EMBEDDING.to_owned(),
        })?,
        hidden_size: keys.count("embedding_length")?,
        intermediate_size: keys.count("feed_forward_length")?,
        num_hidden_layers: keys.count("block_count")?,
        num_attention_heads: keys.count("attention.head_count")?,
        max_position_embeddings: keys.count("context_length")?,
        rms_norm_eps: keys.number("attention.layer_norm_rms_epsilon")?,
        tie_word_embeddings: tensor(gguf, names::HEAD).is_none(),
        // A file that does not state it means the base of the first Llama.
        rope_theta: keys.maybe_number("rope.freq_base")?.unwrap_or(10_000.0),
        rope_scaling: RopeScaling::None,
        rope_pairs: RopePairs::Interleaved,
        attention,
        moe: None,
        num_nextn_predict_layers: 0,
        bos_token_id: None,
        eos_token_id: Vec::new(),
        weight_block_size: None,
    })
}

fn dense(gguf: &Gguf, keys: &mut Fields<'_>, architecture: Architecture) -> Result<ModelConfig> {
    let placeholder = AttentionConfig::Gqa(GqaConfig {
        num_key_value_heads: 1,
        head_dim: 2,
        attention_bias: false,
    });
    let mut config = common(gguf, keys, architecture, placeholder)?;
    let heads = config.num_attention_heads;
    let default = config.hidden_size.checked_div(heads).unwrap_or(0);
    let head_dim = keys.maybe_count("attention.key_length")?.unwrap_or(default);
    keys.only("attention.value_length", head_dim)?;
    keys.only("rope.dimension_count", head_dim)?;
    for key in ["expert_count", "expert_used_count", "nextn_predict_layers"] {
        keys.only(key, 0)?;
    }
    let kv_heads = keys.maybe_count("attention.head_count_kv")?;
    let is_biased = ["attn_q", "attn_output"]
        .iter()
        .any(|name| tensor(gguf, &format!("blk.0.{name}.bias")).is_some());
    config.attention = AttentionConfig::Gqa(GqaConfig {
        num_key_value_heads: kv_heads.unwrap_or(heads),
        head_dim,
        attention_bias: is_biased && architecture != Architecture::Qwen2,
    });
    config.rope_pairs = RopePairs::Halves;
    config.rope_scaling = scaling(keys, None)?;
    // The factors come after the check of what they are computed from.
    config.check()?;
    if architecture == Architecture::Llama
        && let Some(stored) = tensor(gguf, names::FACTORS)
    {
        config.rope_scaling = factors(stored, &config)?;
    }
    Ok(config)
}

fn factors(stored: &TensorInfo, config: &ModelConfig) -> Result<RopeScaling> {
    let refuse = |expected: &str, got: String| Error::Tensor {
        name: stored.name.clone(),
        expected: expected.to_owned(),
        got,
    };
    if config.rope_scaling != RopeScaling::None {
        let got = format!("{:?}", config.rope_scaling);
        return Err(refuse("no rope.scaling.type beside it", got));
    }
    let width = config.rope_width();
    if stored.shape != [width / 2] {
        let expected = format!("shape [{}]", width / 2);
        return Err(refuse(&expected, format!("{:?}", stored.shape)));
    }
    let form = stored_form(stored)?;
    let numbers = decode(Shape::vector(width / 2), form.data())?;
    stretch::recover(&numbers, width, config.rope_theta).ok_or_else(|| {
        let most = numbers.iter().fold(0.0f32, |most, x| most.max(*x));
        let expected = "the factors of a published Llama 3 stretch";
        refuse(expected, format!("others, up to {most}"))
    })
}

/// A tensor in a form that can be decoded.
pub(super) fn stored_form(tensor: &TensorInfo) -> Result<Stored> {
    let bytes = tensor.bytes.clone();
    match tensor.format()? {
        Format::Plain(dtype) => Ok(Stored::Plain { dtype, bytes }),
        Format::Blocks(format) => Ok(Stored::Blocks { format, bytes }),
        Format::Fp8Blocks(_) => Err(Error::Tensor {
            name: tensor.name.clone(),
            expected: "a format of GGUF files".to_owned(),
            got: tensor.kind.to_string(),
        }),
    }
}

/// The stretch of the rope, with the multiplier of the logarithm in the amplitude, which only DeepSeek's files have.
pub(super) fn scaling(keys: &mut Fields<'_>, log_multiplier: Option<f64>) -> Result<RopeScaling> {
    let kind = keys.convert("rope.scaling.type", "none, linear or yarn", |value| {
        value.text().map(ToOwned::to_owned)
    })?;
    let factor = keys.maybe_number("rope.scaling.factor")?;
    let factor = factor.filter(|factor| *factor > 0.0);
    let original = keys.maybe_count("rope.scaling.original_context_length")?;
    let beta_fast = keys.maybe_number("rope.scaling.yarn_beta_fast")?;
    let beta_slow = keys.maybe_number("rope.scaling.yarn_beta_slow")?;
    let needed = |key: &str| keys.refuse(key, "a number", &"none");
    match (kind.as_deref(), factor) {
        (Some("none"), _) | (Some("linear") | None, None) => Ok(RopeScaling::None),
        (Some("linear") | None, Some(factor)) => Ok(RopeScaling::Linear { factor }),
        (Some("yarn"), factor) => Ok(RopeScaling::Yarn(Yarn {
            factor: factor.ok_or_else(|| needed("rope.scaling.factor"))?,
            beta_fast: beta_fast.unwrap_or(32.0),
            beta_slow: beta_slow.unwrap_or(1.0),
            original_max_position_embeddings: original
                .ok_or_else(|| needed("rope.scaling.original_context_length"))?,
            mscale: log_multiplier.map(|m| [m, m]),
            attention_factor: None,
        })),
        (Some(other), _) => Err(keys.refuse("rope.scaling.type", "none, linear or yarn", &other)),
    }
}
