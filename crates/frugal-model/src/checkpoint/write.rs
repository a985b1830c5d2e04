//! Writing: host values to safetensors bytes under the published names.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use frugal_core::dtype::DType;
use frugal_core::error::expect_count;
use half::bf16;
use safetensors::{Dtype, View, serialize};

use super::index::{Index, Metadata};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::params::{Params, Role, Spec};

/// How a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteSettings {
    /// f32 or bf16. The router's selection bias is always f32.
    pub dtype: DType,
    /// A file takes tensors up to this many bytes, and at least one.
    pub max_file_bytes: usize,
}

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its published name.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// One tensor of a file.
#[derive(Debug, Clone)]
struct Entry<'a> {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    values: &'a [f32],
}

impl View for &Entry<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values.iter();
        Cow::Owned(match self.dtype {
            Dtype::BF16 => values
                .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
                .collect(),
            _ => values.flat_map(|x| x.to_le_bytes()).collect(),
        })
    }

    fn data_len(&self) -> usize {
        self.values.len() * if self.dtype == Dtype::BF16 { 2 } else { 4 }
    }
}

/// The files of a checkpoint: `model.safetensors`, or shards and their index. The extra prediction
/// layer is written with its copies of embedding and head, as published.
///
/// # Errors
/// If the parameters are not those of the config, or the format is neither f32 nor bf16.
pub fn write(
    config: &ModelConfig,
    params: &Params<Vec<f32>>,
    settings: &WriteSettings,
) -> Result<Vec<File>> {
    let dtype = match settings.dtype {
        DType::F32 => Dtype::F32,
        DType::Bf16 => Dtype::BF16,
        other => {
            return Err(Error::Tensor {
                name: "checkpoint".to_string(),
                expected: "f32 or bf16".to_string(),
                got: other.to_string(),
            });
        }
    };
    let entries = entries(config, params, dtype)?;
    let shards = shards(&entries, settings.max_file_bytes);
    let n_shards = shards.len();
    if n_shards == 1 {
        return Ok([file("model.safetensors".to_string(), &entries)?].into());
    }
    let mut files = Vec::with_capacity(n_shards + 1);
    let mut weight_map = BTreeMap::new();
    for (index, shard) in shards.into_iter().enumerate() {
        let name = format!("model-{:05}-of-{n_shards:05}.safetensors", index + 1);
        weight_map.extend(shard.iter().map(|entry| (entry.name.clone(), name.clone())));
        files.push(file(name, shard)?);
    }
    let total_size = entries.iter().map(|entry| (&entry).data_len() as u64).sum();
    let metadata = Metadata { total_size };
    let index = Index {
        metadata,
        weight_map,
    };
    files.push(index.to_file()?);
    Ok(files)
}

fn entries<'a>(
    config: &ModelConfig,
    params: &'a Params<Vec<f32>>,
    dtype: Dtype,
) -> Result<Vec<Entry<'a>>> {
    let specs = Params::<Spec>::spec(config)?;
    let mut entries = Vec::new();
    for (spec, values) in specs.zip(params)?.leaves() {
        expect_count("write", "values", spec.shape.elements(), values.len())?;
        let shape = spec.file_shape();
        for (name, values) in spec.files().zip(values.chunks(shape.elements().max(1))) {
            entries.push(Entry {
                name,
                shape: shape.dims().to_vec(),
                dtype: if spec.role == Role::RouterBias {
                    Dtype::F32
                } else {
                    dtype
                },
                values,
            });
        }
    }
    if params.mtp.is_some() {
        let prefix = format!("model.layers.{}", config.num_hidden_layers);
        let head = params.lm_head.as_ref().unwrap_or(&params.embed);
        for (suffix, values) in [("embed_tokens", &params.embed), ("shared_head.head", head)] {
            entries.push(Entry {
                name: format!("{prefix}.{suffix}.weight"),
                shape: [config.vocab_size, config.hidden_size].into(),
                dtype,
                values,
            });
        }
    }
    Ok(entries)
}

/// Runs of entries, each as many as fit.
fn shards<'s, 'a>(mut entries: &'s [Entry<'a>], max_bytes: usize) -> Vec<&'s [Entry<'a>]> {
    let mut shards = Vec::new();
    while !entries.is_empty() {
        let mut bytes = 0usize;
        let fits = entries.iter().take_while(|entry| {
            bytes = bytes.saturating_add(entry.data_len());
            bytes <= max_bytes
        });
        let (shard, rest) = entries.split_at(fits.count().max(1).min(entries.len()));
        shards.push(shard);
        entries = rest;
    }
    shards
}

fn file(name: String, entries: &[Entry<'_>]) -> Result<File> {
    // Readers of the transformers family ask for this entry.
    let metadata = [("format".to_string(), "pt".to_string())]
        .into_iter()
        .collect();
    let views = entries.iter().map(|entry| (entry.name.as_str(), entry));
    let bytes = serialize(views, Some(metadata)).map_err(|error| Error::Tensor {
        name: name.clone(),
        expected: "tensors that a file can hold".to_string(),
        got: error.to_string(),
    })?;
    Ok(File { name, bytes })
}
