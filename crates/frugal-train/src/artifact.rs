//! Models as files and back: the Hugging Face folder a stage leaves, and the exact state it resumes
//! from.
//!
//! What a stage leaves, other tools load as it is: `config.json`, `model.safetensors` under the
//! published names, the tokenizer's files and a card. The state is the same weights, always in f32,
//! and the optimiser's moments.

use std::collections::BTreeMap;

use frugal_core::backend::{Backend, TrainBackend};
use frugal_core::dtype::Data;
use frugal_core::shape::Shape;
use frugal_core::stored::SharedBytes;
use frugal_model::checkpoint::{self, FolderFormat, WriteSettings};
use frugal_model::config::ModelConfig;
use frugal_model::init::{InitSettings, init};
use frugal_model::params::{Params, Spec};
use frugal_model::transformer::Model;
use frugal_run::checkpoint::Checkpoint;
use frugal_run::recipe::{Architecture, ModelShape};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::error::{Error, Result};
use crate::learner::Learner;
use crate::optim::{NamedTensor, State};
use crate::stage::File;

const CONFIG: &str = "config.json";
const MOMENTS: &str = "optimizer.safetensors";
const STEP: &str = "optimizer_step";

/// What goes with every model of a run.
#[derive(Debug, Clone)]
pub struct Companions {
    /// `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`, the chat template in it.
    pub tokenizer_config: Vec<u8>,
    /// Further files that came with an imported model.
    pub others: Vec<File>,
}

/// The ids that a model of a run knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// Rows of the embedding; a published model may have more than its tokenizer has ids.
    pub size: usize,
    /// The token that begins a text, where there is one.
    pub bos: Option<u32>,
    /// The tokens that end one.
    pub eos: Vec<u32>,
}

impl Vocabulary {
    /// That of a task's own words, whose first ids are the control tokens.
    #[must_use]
    pub fn of_words(size: usize) -> Self {
        Self {
            size,
            bos: Some(0),
            eos: vec![1],
        }
    }

    /// That of a model.
    #[must_use]
    pub fn of_model(config: &ModelConfig) -> Self {
        Self {
            size: config.vocab_size,
            bos: config.bos_token_id,
            eos: config.eos_token_id.clone(),
        }
    }
}

/// The config of a recipe's shape over a vocabulary, by the published names.
///
/// # Errors
/// If the model refuses the shape.
pub fn config_of(shape: &ModelShape, vocabulary: &Vocabulary) -> Result<ModelConfig> {
    let (class, model_type) = match shape.architecture {
        Architecture::DeepseekV3 => ("DeepseekV3ForCausalLM", "deepseek_v3"),
        Architecture::DeepseekV2 => ("DeepseekV2ForCausalLM", "deepseek_v2"),
        Architecture::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
        Architecture::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
        Architecture::Llama => ("LlamaForCausalLM", "llama"),
    };
    let mut config = json!({
        "architectures": [class],
        "model_type": model_type,
        "vocab_size": vocabulary.size,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.rms_norm_eps,
        "tie_word_embeddings": shape.tie_word_embeddings,
        "hidden_act": "silu",
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
    });
    let special = if shape.architecture.is_mla() {
        let mut special = json!({
            "q_lora_rank": (shape.q_lora_rank > 0).then_some(shape.q_lora_rank),
            "kv_lora_rank": shape.kv_lora_rank,
            "qk_nope_head_dim": shape.qk_nope_head_dim,
            "qk_rope_head_dim": shape.qk_rope_head_dim,
            "v_head_dim": shape.v_head_dim,
            "moe_intermediate_size": shape.moe_intermediate_size,
            "n_routed_experts": shape.n_routed_experts,
            "n_shared_experts": shape.n_shared_experts,
            "num_experts_per_tok": shape.num_experts_per_tok,
            "n_group": shape.n_group,
            "topk_group": shape.topk_group,
            "first_k_dense_replace": shape.first_k_dense_replace,
            "routed_scaling_factor": shape.routed_scaling_factor,
        });
        let version = if shape.architecture == Architecture::DeepseekV3 {
            json!({
                "num_nextn_predict_layers": shape.num_nextn_predict_layers,
                "norm_topk_prob": true,
                "scoring_func": "sigmoid",
                "topk_method": "noaux_tc",
                "rope_interleave": true,
            })
        } else {
            let method = if shape.n_group > 1 {
                "group_limited_greedy"
            } else {
                "greedy"
            };
            json!({ "norm_topk_prob": false, "scoring_func": "softmax", "topk_method": method })
        };
        extend(&mut special, version);
        special
    } else {
        json!({ "head_dim": shape.resolved_head_dim() })
    };
    extend(&mut config, special);
    Ok(ModelConfig::from_json(&config.to_string())?)
}

fn extend(into: &mut serde_json::Value, from: serde_json::Value) {
    if let (Some(into), serde_json::Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

/// A model of `config` that has seen nothing.
///
/// # Errors
/// If the config is impossible, or the back-end cannot hold it.
pub fn fresh<B: Backend>(
    backend: &B,
    config: ModelConfig,
    seed: u64,
    settings: &InitSettings,
    n_positions: usize,
) -> Result<Model<B::Tensor>> {
    let values = init(&config, seed, settings)?;
    let specs = Params::<Spec>::spec(&config)?;
    let params = specs
        .zip(&values)?
        .try_map(|(spec, values)| backend.put(spec.shape, Data::F32(values)))?;
    Ok(Model::new(backend, config, params, n_positions)?)
}

/// The files of a finished model.
///
/// # Errors
/// If the back-end cannot give the numbers back.
pub fn finished<B: Backend>(
    backend: &B,
    model: &Model<B::Tensor>,
    companions: &Companions,
    card: String,
) -> Result<Vec<File>> {
    let weights = checkpoint::save(backend, model, &in_shards())?;
    Ok(folder(&model.config, weights, companions, card))
}

/// A published folder of weights that are bytes already.
pub(crate) fn folder(
    config: &ModelConfig,
    weights: Vec<checkpoint::File>,
    companions: &Companions,
    card: String,
) -> Vec<File> {
    let mut files = with_config(config, weights);
    files.push(("tokenizer.json".into(), companions.tokenizer.clone()));
    files.push((
        "tokenizer_config.json".into(),
        companions.tokenizer_config.clone(),
    ));
    files.extend(companions.others.iter().cloned());
    files.push(("README.md".into(), card.into_bytes()));
    files
}

/// Another model of the same config in the state: its weights in one file of another name.
///
/// # Errors
/// If the back-end cannot give the numbers back.
pub(crate) fn weights_as<B: Backend>(
    backend: &B,
    model: &Model<B::Tensor>,
    name: &str,
) -> Result<File> {
    let mut written = checkpoint::save(backend, model, &in_one_file())?;
    let bytes = written.pop().map(|file| file.bytes).unwrap_or_default();
    Ok((format!("{name}.safetensors"), bytes))
}

/// Reads what [`weights_as`] wrote, for a model like `like`.
///
/// # Errors
/// If it is missing or damaged.
pub(crate) fn open_as<B: Backend>(
    backend: &B,
    like: &Model<B::Tensor>,
    checkpoint: &Checkpoint,
    name: &str,
) -> Result<Model<B::Tensor>> {
    let bytes = checkpoint.read(&format!("{name}.safetensors"))?;
    let n_positions = backend.shape(&like.rope).rows();
    Ok(frugal_model::checkpoint::load(
        backend,
        &like.config,
        &[bytes.into()],
        n_positions,
    )?)
}

const fn in_one_file() -> WriteSettings {
    WriteSettings {
        format: FolderFormat::F32,
        max_file_bytes: usize::MAX,
    }
}

/// Shards past 5 GB, as published checkpoints have them.
pub(crate) const fn in_shards() -> WriteSettings {
    WriteSettings {
        max_file_bytes: 5 << 30,
        ..in_one_file()
    }
}

fn with_config(config: &ModelConfig, weights: Vec<checkpoint::File>) -> Vec<File> {
    let mut files = vec![(CONFIG.to_owned(), config.to_json().into_bytes())];
    files.extend(weights.into_iter().map(|file| (file.name, file.bytes)));
    files
}

/// Reads a model that a stage left or saved.
///
/// # Errors
/// If a file is missing or damaged, or the model refuses it.
pub fn open<B: Backend>(
    backend: &B,
    checkpoint: &Checkpoint,
    n_positions: usize,
) -> Result<Model<B::Tensor>> {
    let bytes = checkpoint.read(CONFIG)?;
    let config = std::str::from_utf8(&bytes).map_err(|_| Error::State {
        reason: format!("expected {CONFIG} in UTF-8, got other bytes"),
    })?;
    let config = ModelConfig::from_json(config)?;
    let files = checkpoint
        .names()
        .filter(|name| name.starts_with("model") && name.ends_with(".safetensors"))
        .map(|name| Ok(checkpoint.read(name)?.into()))
        .collect::<Result<Vec<SharedBytes>>>()?;
    Ok(frugal_model::checkpoint::load(
        backend,
        &config,
        &files,
        n_positions,
    )?)
}

/// The state a learner resumes from, exactly.
///
/// # Errors
/// If the back-end cannot give the numbers back.
pub fn saved<B: TrainBackend>(backend: &B, learner: &Learner<'_, B>) -> Result<Vec<File>> {
    let model = learner.model();
    let weights = checkpoint::save(backend, model, &in_shards())?;
    let mut files = with_config(&model.config, weights);
    let state = learner.optimizer().state(backend)?;
    files.push((MOMENTS.to_owned(), moments(&state)?));
    Ok(files)
}

/// Takes a saved state up again.
///
/// # Errors
/// If it is damaged or of another model.
pub fn restore<B: TrainBackend>(
    backend: &B,
    learner: &mut Learner<'_, B>,
    checkpoint: &Checkpoint,
) -> Result<()> {
    let n_positions = backend.shape(&learner.model().rope).rows();
    let model = open(backend, checkpoint, n_positions)?;
    let state = read_moments(&checkpoint.read(MOMENTS)?)?;
    learner.restore(model, &state)
}

fn moments(state: &State) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> = state
        .tensors
        .iter()
        .map(|tensor| tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    // The writer sorts by name; the order of the parameters goes in front of it.
    let views = state
        .tensors
        .iter()
        .zip(&bytes)
        .enumerate()
        .map(|(order, (tensor, bytes))| {
            let view = TensorView::new(Dtype::F32, tensor.shape.dims().to_vec(), bytes)?;
            Ok((format!("{order:06}.{}", tensor.name), view))
        })
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(damaged)?;
    let note = std::collections::HashMap::from([(STEP.to_owned(), state.step.to_string())]);
    safetensors::serialize(views, Some(note)).map_err(damaged)
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn damaged(error: safetensors::SafeTensorError) -> Error {
    Error::State {
        reason: error.to_string(),
    }
}

fn read_moments(bytes: &[u8]) -> Result<State> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let step = header
        .metadata()
        .as_ref()
        .and_then(|note| note.get(STEP))
        .and_then(|step| step.parse().ok())
        .ok_or_else(|| Error::State {
            reason: format!("expected {STEP} in its header"),
        })?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let sorted: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    let tensors = sorted
        .into_iter()
        .map(|(name, view)| {
            let (values, _) = view.data().as_chunks::<4>();
            Ok(NamedTensor {
                name: name
                    .split_once('.')
                    .map_or(name.clone(), |(_, name)| name.to_owned()),
                shape: Shape::from_dims(view.shape())?,
                values: values.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            })
        })
        .collect::<Result<_>>()?;
    Ok(State { step, tensors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_survive_bit_for_bit_and_in_order() {
        let tensor = |name: &str, values: &[f32]| NamedTensor {
            name: name.into(),
            shape: Shape::vector(values.len()),
            values: values.to_vec(),
        };
        let state = State {
            step: 77,
            tensors: vec![
                tensor("z.first", &[1.0, -0.0, 1e-42]),
                tensor("a.second", &[f32::MAX]),
            ],
        };
        assert_eq!(read_moments(&moments(&state).unwrap()).unwrap(), state);
        assert!(read_moments(b"no header").is_err());
    }

    #[test]
    fn shapes_of_every_family_become_configs() {
        for architecture in [
            Architecture::DeepseekV3,
            Architecture::DeepseekV2,
            Architecture::Qwen2,
            Architecture::Qwen3,
            Architecture::Llama,
        ] {
            let words = Vocabulary::of_words(200);
            let config = config_of(&ModelShape::of(architecture), &words).unwrap();
            assert_eq!(Vocabulary::of_model(&config), words, "{architecture:?}");
            let several = Vocabulary {
                bos: None,
                eos: vec![7, 9],
                ..words
            };
            let other = config_of(&ModelShape::of(architecture), &several).unwrap();
            assert_eq!(Vocabulary::of_model(&other), several, "{architecture:?}");
            let again = ModelConfig::from_json(&config.to_json()).unwrap();
            assert_eq!(again, config);
        }
    }
}
