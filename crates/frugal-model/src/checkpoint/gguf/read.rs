//! A file's tensors to a tree of [`Leaf`]s.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use frugal_core::backend::Backend;
use frugal_core::stored::Stored;

use super::arrange::{Direction, join, reorder_stored};
use super::config::stored_form;
use super::{Gguf, TensorInfo, config, names};
use crate::checkpoint::leaf::{Leaf, cut};
use crate::checkpoint::read::{expect_shape, refuse, refuse_names};
use crate::checkpoint::{keep, put};
use crate::config::{AttentionConfig, ModelConfig};
use crate::error::{Error, Result};
use crate::params::{Params, Role, Spec};
use crate::transformer::Model;

/// Tensors that say nothing the keys do not say.
const REDUNDANT: &str = ".attn_rot_embd.weight";

/// Finds every parameter of a file's model in it. Stored forms stay as they are.
///
/// # Errors
/// As [`config`]; [`Error::Tensors`] for missing or unknown tensors, [`Error::Tensor`] for one of
/// another shape, or in a format that cannot be decoded.
pub fn read(gguf: &Gguf) -> Result<(ModelConfig, Params<Leaf>)> {
    let config = config(gguf)?;
    let specs = Params::spec(&config)?;
    let mut shelf = Shelf::new(gguf, &config)?;
    let mut missing = Vec::new();
    let params = specs.try_map(|spec| {
        let parts = shelf.take(spec)?;
        if parts.is_none() {
            missing.push(names::gguf_name(&spec.name));
        }
        Ok::<_, Error>(Leaf {
            spec: spec.clone(),
            parts: parts.unwrap_or_default(),
        })
    })?;
    refuse_names("missing", &missing)?;
    let unknown: Vec<String> = shelf.tensors.keys().map(ToString::to_string).collect();
    refuse_names("unknown", &unknown)?;
    Ok((config, params))
}

/// Reads a file into a model, as plain numbers: for training.
///
/// # Errors
/// As [`read`] and [`Model::new`].
pub fn load<B: Backend>(b: &B, gguf: &Gguf, n_positions: usize) -> Result<Model<B::Tensor>> {
    let (config, leaves) = read(gguf)?;
    put(b, config, &leaves, n_positions)
}

/// Reads a file into a model, the matrices as they are stored: for inference.
///
/// # Errors
/// As [`read`] and [`Model::new`].
pub fn load_stored<B: Backend>(b: &B, gguf: &Gguf, n_positions: usize) -> Result<Model<B::Tensor>> {
    let (config, leaves) = read(gguf)?;
    keep(b, config, &leaves, n_positions)
}

/// The tensors that have not been taken yet.
struct Shelf<'a> {
    tensors: BTreeMap<&'a str, &'a TensorInfo>,
    config: &'a ModelConfig,
}

impl<'a> Shelf<'a> {
    fn new(gguf: &'a Gguf, config: &'a ModelConfig) -> Result<Self> {
        let all = gguf.tensors.iter();
        let needed = all.filter(|tensor| !tensor.name.ends_with(REDUNDANT));
        let mut shelf = Self {
            tensors: needed
                .map(|tensor| (tensor.name.as_str(), tensor))
                .collect(),
            config,
        };
        if config.architecture == crate::config::Architecture::Llama {
            shelf.tensors.remove(names::FACTORS);
        }
        shelf.drop_copies()?;
        Ok(shelf)
    }

    /// The extra layer repeats embedding and head. Copies of the same format must be the same; others
    /// were rounded on their own, and the originals stand for them.
    fn drop_copies(&mut self) -> Result<()> {
        let layer = self.config.num_hidden_layers;
        let tied = self.config.tie_word_embeddings;
        let head = if tied { names::EMBEDDING } else { names::HEAD };
        if self.config.num_nextn_predict_layers == 0 {
            return Ok(());
        }
        for (copy, original) in [
            ("embed_tokens", names::EMBEDDING),
            ("shared_head_head", head),
        ] {
            let name = format!("blk.{layer}.nextn.{copy}.weight");
            let Some(copy) = self.tensors.remove(name.as_str()) else {
                continue;
            };
            if let Some(of) = self.tensors.get(original)
                && of.kind == copy.kind
                && *of.bytes != *copy.bytes
            {
                return Err(refuse(
                    &name,
                    format!("a copy of {original}"),
                    "other numbers",
                ));
            }
        }
        Ok(())
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Option<Stored>> {
        let Some(tensor) = self.tensors.remove(name) else {
            return Ok(None);
        };
        expect_shape(name, shape, &tensor.shape)?;
        stored_form(tensor).map(Some)
    }

    fn take(&mut self, spec: &Spec) -> Result<Option<Vec<Stored>>> {
        let name = names::gguf_name(&spec.name);
        if let Some(layer) = name.strip_suffix(names::KV_B)
            && !self.tensors.contains_key(name.as_str())
        {
            return Ok(self.halves(layer)?.map(|joint| [joint].into()));
        }
        let Some(stored) = self.tensor(&name, spec.shape.dims())? else {
            return Ok(None);
        };
        if spec.role == Role::Experts {
            return experts(&name, &stored, spec).map(Some);
        }
        let Some(heads) = names::interleaved_heads(self.config, spec) else {
            return Ok(Some([stored].into()));
        };
        let rows = match spec.role {
            Role::Bias => spec.shape.cols(),
            _ => spec.shape.rows(),
        };
        let moved = reorder_stored(&stored, rows, heads, Direction::ToHalves);
        let moved = moved.ok_or_else(|| refuse(&name, "rows that lie by themselves", "others"))?;
        Ok(Some([moved].into()))
    }

    /// The joint matrix of an MLA layer from the halves that newer files hold.
    fn halves(&mut self, layer: &str) -> Result<Option<Stored>> {
        let AttentionConfig::Mla(mla) = self.config.attention else {
            return Ok(None);
        };
        let heads = self.config.num_attention_heads;
        let (nope, value, latent) = (mla.qk_nope_head_dim, mla.v_head_dim, mla.kv_lora_rank);
        let keys = format!("{layer}{}", names::K_B);
        let values = format!("{layer}{}", names::V_B);
        let keys = self.tensor(&keys, &[heads, latent, nope])?;
        let values = self.tensor(&values, &[heads, value, latent])?;
        match (keys, values) {
            (Some(keys), Some(values)) => join(&keys, &values, heads, &mla).map(Some),
            _ => Ok(None),
        }
    }
}

/// The matrices of a stack, each by itself.
fn experts(name: &str, stack: &Stored, spec: &Spec) -> Result<Vec<Stored>> {
    let (rows, cols) = (spec.shape.rows_each(), spec.shape.cols());
    let each = (0..spec.shape.stacked()).map(|expert| {
        cut(stack, cols, expert * rows..(expert + 1) * rows)
            .ok_or_else(|| refuse(name, "rows of whole blocks", "others".to_owned()))
    });
    each.collect()
}
