//! Writing: a plan of a file first, then its bytes, a piece at a time.
//!
//! DeepSeek's joint key and value matrix is written as its two halves, as current readers want it.
//! The extra prediction layer is left out, as llama.cpp's converter does.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use frugal_core::error::expect_count;
use frugal_core::quant::{Format, fp8};
use frugal_core::shape::Shape;

use super::arrange::{Direction, key_half, reorder, reorder_stored, value_half};
use super::keys;
use super::mixture::{Mixture, Place};
use super::value::{Value, append_text};
use super::{Kind, TokenizerKeys, names, stretch};
use crate::checkpoint::numbers::{Numbers, Piece, Sink, encode};
use crate::config::{AttentionConfig, MlaConfig, ModelConfig, RopeScaling};
use crate::error::{Error, Result};
use crate::params::{Params, Role, Spec};
use crate::rope;

const ALIGNMENT: usize = 32;
const VERSION: u32 = 3;
/// The version of the block formats. *Source*: ggml.
const QUANTIZATION_VERSION: u32 = 2;

/// How a file is written.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufSettings {
    /// What its tensors are written in.
    pub mixture: Mixture,
    /// Its tokenizer; without one the file can be run by token ids only.
    pub tokenizer: Option<TokenizerKeys>,
    /// More keys: name, licence, origin.
    pub metadata: Vec<(String, Value)>,
}

/// A tensor that [`GgufPlan::write`] writes.
#[derive(Debug, Clone)]
pub struct PlannedTensor {
    /// Its name in the file.
    pub name: String,
    /// First to last dimension.
    pub shape: Vec<usize>,
    /// What it is written in.
    pub kind: Kind,
    /// Where it begins, behind the header.
    pub offset: usize,
    /// How long it is.
    pub bytes: usize,
    format: Format,
    content: Content,
}

/// Where a tensor's numbers come from.
#[derive(Debug, Clone)]
enum Content {
    /// A leaf as it is, experts one after another.
    Leaf(usize),
    /// A leaf whose rows change places within so many heads.
    Interleaved { leaf: usize, heads: usize },
    /// The keys' half of a leaf.
    Keys { leaf: usize, mla: MlaConfig },
    /// The values' half of a leaf.
    Values { leaf: usize, mla: MlaConfig },
    /// Numbers that follow from the config.
    Given(Vec<f32>),
}

/// A file that is to be written from a tree of numbers.
#[derive(Debug)]
pub struct GgufPlan<'a, L> {
    leaves: Vec<(Spec, &'a L)>,
    tensors: Vec<PlannedTensor>,
    header: Vec<u8>,
}

impl<'a, L: Numbers> GgufPlan<'a, L> {
    /// The plan of a file.
    ///
    /// # Errors
    /// [`Error::Config`] for a model that a GGUF file cannot describe, [`Error::GgufKey`] for a key that is
    /// given twice; if the parameters are not those of the config, or a format cannot be written.
    pub fn new(
        config: &ModelConfig,
        params: &'a Params<L>,
        settings: &GgufSettings,
    ) -> Result<Self> {
        let keys = all_keys(config, settings)?;
        let specs = Params::<Spec>::spec(config)?;
        let extra = format!("model.layers.{}.", config.num_hidden_layers);
        let mut leaves = Vec::new();
        for (spec, numbers) in specs.zip(params)?.leaves() {
            if !spec.name.starts_with(&extra) {
                numbers.check(spec)?;
                leaves.push(((*spec).clone(), *numbers));
            }
        }
        let mut plan = Self {
            leaves,
            tensors: Vec::new(),
            header: Vec::new(),
        };
        plan.place_all(config, settings.mixture)?;
        plan.header = plan.make_header(&keys)?;
        Ok(plan)
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> &[PlannedTensor] {
        &self.tensors
    }

    /// How long the file will be.
    pub fn bytes(&self) -> u64 {
        let last = self.tensors.last();
        let data = last.map_or(0, |tensor| padded(tensor.offset + tensor.bytes));
        (self.header.len() + data) as u64
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a number that its format cannot hold; those of `sink`.
    pub fn write(&self, sink: Sink<'_>) -> Result<()> {
        sink(&self.header)?;
        for tensor in &self.tensors {
            self.write_one(tensor, sink)?;
        }
        Ok(())
    }

    /// What comes before the tensors.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Writes one of [`tensors`](Self::tensors) with the padding behind it: the header and all tensors
    /// in order are the file, so that several may be encoded at a time.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_one(&self, tensor: &PlannedTensor, sink: Sink<'_>) -> Result<()> {
        let mut written = 0;
        self.write_tensor(tensor, &mut |bytes| {
            written += bytes.len();
            sink(bytes)
        })?;
        expect_count("write", "bytes", tensor.bytes, written)?;
        let padding = padded(tensor.bytes) - tensor.bytes;
        sink([0; ALIGNMENT].get(..padding).unwrap_or_default())
    }

    fn write_tensor(&self, tensor: &PlannedTensor, sink: Sink<'_>) -> Result<()> {
        let leaf = match &tensor.content {
            Content::Leaf(leaf)
            | Content::Interleaved { leaf, .. }
            | Content::Keys { leaf, .. }
            | Content::Values { leaf, .. } => *leaf,
            Content::Given(numbers) => {
                let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
                return sink(&bytes);
            }
        };
        let Some((spec, numbers)) = self.leaves.get(leaf) else {
            return Ok(());
        };
        let piece = |part| Piece {
            numbers: *numbers,
            spec,
            part,
            format: tensor.format,
            scales: fp8::Scales::Float,
        };
        let cols = tensor.shape.last().copied().unwrap_or(0);
        let encoded = |values: &[f32]| {
            encode(tensor.format, fp8::Scales::Float, values, cols, spec).map(|(bytes, _)| bytes)
        };
        match &tensor.content {
            Content::Interleaved { heads, .. } => {
                let rows = match spec.role {
                    Role::Bias => spec.shape.cols(),
                    _ => spec.shape.rows(),
                };
                let piece = piece(0);
                let stored = piece.verbatim();
                let moved =
                    stored.and_then(|all| reorder_stored(all, rows, *heads, Direction::ToPairs));
                if let Some(moved) = moved {
                    return sink(moved.bytes());
                }
                let values = piece.values()?;
                sink(&encoded(&reorder(
                    &values,
                    rows,
                    *heads,
                    Direction::ToPairs,
                ))?)
            }
            Content::Keys { mla, .. } => sink(&encoded(&key_half(&piece(0).values()?, mla))?),
            Content::Values { mla, .. } => sink(&encoded(&value_half(&piece(0).values()?, mla))?),
            Content::Leaf(_) | Content::Given(_) => {
                for part in 0..spec.shape.stacked() {
                    piece(part).stream(sink)?;
                }
                Ok(())
            }
        }
    }

    /// Gives every leaf its tensors.
    fn place_all(&mut self, config: &ModelConfig, mixture: Mixture) -> Result<()> {
        let leaves: Vec<Spec> = self.leaves.iter().map(|(spec, _)| spec.clone()).collect();
        for (leaf, spec) in leaves.iter().enumerate() {
            let name = names::gguf_name(&spec.name);
            let shape = spec.shape.dims().to_vec();
            if let (Some(layer), AttentionConfig::Mla(mla)) =
                (name.strip_suffix(names::KV_B), config.attention)
            {
                let heads = config.num_attention_heads;
                let latent = mla.kv_lora_rank;
                for (half, shape, content) in [
                    (
                        names::K_B,
                        [heads, latent, mla.qk_nope_head_dim],
                        Content::Keys { leaf, mla },
                    ),
                    (
                        names::V_B,
                        [heads, mla.v_head_dim, latent],
                        Content::Values { leaf, mla },
                    ),
                ] {
                    let place = place(config, &name, half == names::V_B);
                    let format = mixture.format(spec, shape[2], place);
                    self.place(format!("{layer}{half}"), shape.to_vec(), format, content)?;
                }
                continue;
            }
            let is_sensitive = name.contains(".ffn_down") || name.contains(".attn_v.");
            let place = place(config, &name, is_sensitive);
            let format = mixture.format(spec, spec.shape.cols(), place);
            let content = match names::interleaved_heads(config, spec) {
                Some(heads) => Content::Interleaved { leaf, heads },
                None => Content::Leaf(leaf),
            };
            self.place(name, shape, format, content)?;
        }
        if let RopeScaling::Llama3(scaling) = rope::active_scaling(config) {
            let width = config.rope_width();
            let factors = stretch::factors(scaling, width, config.rope_theta);
            if stretch::recover(&factors, width, config.rope_theta).is_none() {
                return Err(Error::Config {
                    field: "rope_scaling".to_owned(),
                    expected: "a stretch that its factors tell, as the published ones".to_owned(),
                    got: format!("{scaling:?}"),
                });
            }
            let f32s = Format::Plain(frugal_core::dtype::DType::F32);
            let shape = alloc::vec![width / 2];
            self.place(
                names::FACTORS.to_owned(),
                shape,
                f32s,
                Content::Given(factors),
            )?;
        }
        Ok(())
    }

    fn place(
        &mut self,
        name: String,
        shape: Vec<usize>,
        format: Format,
        content: Content,
    ) -> Result<()> {
        let kind = Kind::of(format).filter(|kind| match kind.format() {
            Some(Format::Blocks(format)) => format.is_writable(),
            _ => true,
        });
        let kind = kind.ok_or_else(|| Error::Tensor {
            name: name.clone(),
            expected: "a format that can be written to GGUF".to_owned(),
            got: format.to_string(),
        })?;
        let bytes = format.bytes(Shape::from_dims(&shape)?)?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let offset = self
            .tensors
            .last()
            .map_or(0, |last| padded(last.offset + last.bytes));
        self.tensors.push(PlannedTensor {
            name,
            shape,
            kind,
            offset,
            bytes,
            format,
            content,
        });
        Ok(())
    }

    fn make_header(&self, keys: &[(String, Value)]) -> Result<Vec<u8>> {
        let mut out = b"GGUF".to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((keys.len() as u64).to_le_bytes());
        for (key, value) in keys {
            append_text(key, &mut out);
            out.extend(value.type_id().to_le_bytes());
            value.append_to(&mut out);
        }
        for tensor in &self.tensors {
            append_text(&tensor.name, &mut out);
            let rank = u32::try_from(tensor.shape.len()).map_err(|_| Error::Tensor {
                name: tensor.name.clone(),
                expected: "at most 4 dimensions".to_owned(),
                got: tensor.shape.len().to_string(),
            })?;
            out.extend(rank.to_le_bytes());
            for n in tensor.shape.iter().rev() {
                out.extend((*n as u64).to_le_bytes());
            }
            out.extend(tensor.kind.id.to_le_bytes());
            out.extend((tensor.offset as u64).to_le_bytes());
        }
        out.resize(padded(out.len()), 0);
        Ok(out)
    }
}

const fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Where a tensor stands, by the layer in its name.
fn place(config: &ModelConfig, name: &str, is_value_or_down: bool) -> Place {
    let layer = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'));
    let layer = layer.and_then(|(layer, _)| layer.parse().ok());
    Place {
        layer: layer.unwrap_or(0),
        n_layers: config.num_hidden_layers,
        is_value_or_down: is_value_or_down && layer.is_some(),
    }
}

/// All keys, in the order of the file.
fn all_keys(config: &ModelConfig, settings: &GgufSettings) -> Result<Vec<(String, Value)>> {
    let text = |text: &str| Value::String(text.to_owned());
    let general = |key: &str, value| (format!("general.{key}"), value);
    let mut keys = alloc::vec![
        general("architecture", text(keys::architecture(config))),
        general("type", text("model")),
        general("quantization_version", Value::U32(QUANTIZATION_VERSION)),
        general("file_type", Value::U32(settings.mixture.file_type())),
    ];
    keys.extend(settings.metadata.iter().cloned());
    keys.extend(keys::keys(config)?);
    let mut tokenizer = match &settings.tokenizer {
        Some(tokenizer) => tokenizer.to_keys(),
        None => alloc::vec![("tokenizer.ggml.model".to_owned(), text("none"))],
    };
    let is_special = |id: &u32| {
        let tokenizer = settings.tokenizer.as_ref();
        tokenizer.is_none_or(|tokenizer| tokenizer.is_special(*id))
    };
    keys::special_tokens(config, is_special, &mut tokenizer);
    keys.extend(tokenizer);
    let mut seen = alloc::collections::BTreeSet::new();
    for (key, value) in &keys {
        if !seen.insert(key.as_str()) {
            return Err(Error::GgufKey {
                key: key.clone(),
                expected: "each key once".to_owned(),
                got: format!("{value} as well"),
            });
        }
    }
    Ok(keys)
}
