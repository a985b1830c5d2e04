//! Writing a Hugging Face folder: safetensors under the published names, whole or in shards, their
//! index and `config.json`.
//!
//! A plan first (names, shapes, formats, places), then the bytes, a run of rows at a time. Numbers
//! that lie in the wanted format already are copied as they are. Within a file wider formats come
//! first, so that every tensor begins at a multiple of its own width.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use frugal_core::dtype::DType;
use frugal_core::quant::{Format, fp8};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::index::{Index, Metadata};
use super::numbers::{Numbers, Piece, Sink};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::params::{Params, Role, Spec};

/// Rows and columns of a block of the published FP8 format.
const FP8_BLOCK: [usize; 2] = [128, 128];

/// What the matrices of a folder are written in. The router's selection bias is always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderFormat {
    /// All in f32.
    F32,
    /// All in f16.
    F16,
    /// All in bf16.
    Bf16,
    /// Matrices of layers in e4m3 with a factor for each 128x128 block, the rest in bf16: what DeepSeek-V3
    /// is published in.
    Fp8(fp8::Scales),
}

/// How a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteSettings {
    /// What the numbers are written in.
    pub format: FolderFormat,
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

/// A file that [`FolderPlan::write`] writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its published name.
    pub name: String,
    /// How long it will be.
    pub bytes: u64,
    entries: Range<usize>,
}

/// A folder that is to be written from a tree of numbers.
#[derive(Debug)]
pub struct FolderPlan<'a, L> {
    leaves: Vec<(Spec, &'a L)>,
    entries: Vec<Entry>,
    files: Vec<PlannedFile>,
    config: String,
    settings: WriteSettings,
}

/// One tensor of a file.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    /// Which leaf, and which part of it.
    leaf: usize,
    part: usize,
    format: Format,
    content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Numbers,
    Scales,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

impl<'a, L: Numbers> FolderPlan<'a, L> {
    /// The plan of a folder. The extra prediction layer is written with its copies of embedding and
    /// head, as published.
    ///
    /// # Errors
    /// If the parameters are not those of the config.
    pub fn new(
        config: &ModelConfig,
        params: &'a Params<L>,
        settings: &WriteSettings,
    ) -> Result<Self> {
        let specs = Params::<Spec>::spec(config)?;
        let mut leaves = Vec::new();
        for (spec, numbers) in specs.zip(params)?.leaves() {
            numbers.check(spec)?;
            leaves.push(((*spec).clone(), *numbers));
        }
        let mut plan = Self {
            leaves,
            entries: Vec::new(),
            files: Vec::new(),
            config: config_json(config, settings.format)?,
            settings: *settings,
        };
        plan.entries = plan.all_entries(config);
        plan.cut()?;
        Ok(plan)
    }

    /// `config.json`.
    pub fn config_json(&self) -> &str {
        &self.config
    }

    /// The files of weights, in order.
    pub fn files(&self) -> &[PlannedFile] {
        &self.files
    }

    /// The index, where there is more than one file.
    ///
    /// # Errors
    /// None for any plan that was made.
    pub fn index(&self) -> Result<Option<File>> {
        if self.files.len() < 2 {
            return Ok(None);
        }
        let mut weight_map = BTreeMap::new();
        let mut total_size = 0;
        for file in &self.files {
            for entry in self.entries_of(file) {
                weight_map.insert(entry.name.clone(), file.name.clone());
                total_size += entry.bytes() as u64;
            }
        }
        let metadata = Metadata { total_size };
        let index = Index {
            metadata,
            weight_map,
        };
        index.to_file().map(Some)
    }

    /// Writes one of [`files`](Self::files).
    ///
    /// # Errors
    /// [`Error::Tensor`] for a number that the format cannot hold; those of `sink`.
    pub fn write(&self, file: &PlannedFile, sink: Sink<'_>) -> Result<()> {
        let entries = self.entries_of(file);
        sink(&header(entries)?)?;
        for entry in entries {
            let Some((spec, numbers)) = self.leaves.get(entry.leaf) else {
                continue;
            };
            let piece = Piece {
                numbers: *numbers,
                spec,
                part: entry.part,
                format: entry.format,
                scales: match self.settings.format {
                    FolderFormat::Fp8(scales) => scales,
                    _ => fp8::Scales::Float,
                },
            };
            match entry.content {
                Content::Numbers => piece.stream(sink)?,
                Content::Scales => piece.stream_scales(sink)?,
            }
        }
        Ok(())
    }

    fn entries_of(&self, file: &PlannedFile) -> &[Entry] {
        self.entries.get(file.entries.clone()).unwrap_or_default()
    }

    fn all_entries(&self, config: &ModelConfig) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (leaf, (spec, _)) in self.leaves.iter().enumerate() {
            for (part, name) in spec.files().enumerate() {
                push(&mut entries, name, spec, [leaf, part], self.settings.format);
            }
        }
        if config.num_nextn_predict_layers > 0 {
            let prefix = format!("model.layers.{}", config.num_hidden_layers);
            let of = |role| self.leaves.iter().position(|(spec, _)| spec.role == role);
            let embed = of(Role::Embedding);
            for (suffix, leaf) in [
                ("embed_tokens", embed),
                ("shared_head.head", of(Role::Head).or(embed)),
            ] {
                let name = format!("{prefix}.{suffix}.weight");
                let leaf = leaf.unwrap_or_default();
                if let Some((spec, _)) = self.leaves.get(leaf) {
                    push(&mut entries, name, spec, [leaf, 0], self.settings.format);
                }
            }
        }
        entries
    }

    /// Cuts the entries into files, and brings those of a file into order.
    fn cut(&mut self) -> Result<()> {
        let mut ranges = Vec::new();
        let mut start = 0;
        while start < self.entries.len() {
            let mut bytes = 0usize;
            let rest = self.entries.get(start..).unwrap_or_default();
            let fits = rest.iter().take_while(|entry| {
                bytes = bytes.saturating_add(entry.bytes());
                bytes <= self.settings.max_file_bytes
            });
            let end = start + fits.count().max(1).min(rest.len());
            ranges.push(start..end);
            start = end;
        }
        let n_files = ranges.len();
        for (index, range) in ranges.into_iter().enumerate() {
            let entries = self.entries.get_mut(range.clone()).unwrap_or_default();
            entries.sort_by_key(|entry| core::cmp::Reverse(entry.dtype.bitsize()));
            let data: u64 = entries.iter().map(|entry| entry.bytes() as u64).sum();
            self.files.push(PlannedFile {
                name: if n_files == 1 {
                    "model.safetensors".to_string()
                } else {
                    format!("model-{:05}-of-{n_files:05}.safetensors", index + 1)
                },
                bytes: header(entries)?.len() as u64 + data,
                entries: range,
            });
        }
        Ok(())
    }
}

/// The tensor of a part, and the one of its factors.
fn push(
    entries: &mut Vec<Entry>,
    name: String,
    spec: &Spec,
    [leaf, part]: [usize; 2],
    format: FolderFormat,
) {
    let shape = spec.file_shape();
    let is_small = spec.role == Role::RouterBias;
    // The matrix that joins embedding and hidden state is published in bf16.
    let is_matrix = match spec.role {
        Role::Matrix => !spec.name.ends_with(".eh_proj.weight"),
        role => role == Role::Experts,
    };
    let format = match format {
        _ if is_small => Format::Plain(DType::F32),
        FolderFormat::F32 => Format::Plain(DType::F32),
        FolderFormat::F16 => Format::Plain(DType::F16),
        FolderFormat::Fp8(_) if is_matrix => Format::Fp8Blocks(FP8_BLOCK),
        FolderFormat::Bf16 | FolderFormat::Fp8(_) => Format::Plain(DType::Bf16),
    };
    let entry = Entry {
        shape: shape.dims().to_vec(),
        dtype: match format {
            Format::Plain(DType::F32) => Dtype::F32,
            Format::Plain(DType::F16) => Dtype::F16,
            Format::Fp8Blocks(_) => Dtype::F8_E4M3,
            _ => Dtype::BF16,
        },
        name,
        leaf,
        part,
        format,
        content: Content::Numbers,
    };
    if let Format::Fp8Blocks([down, across]) = format {
        entries.push(Entry {
            name: format!("{}_scale_inv", entry.name),
            shape: [shape.rows().div_ceil(down), shape.cols().div_ceil(across)].into(),
            dtype: Dtype::F32,
            content: Content::Scales,
            ..entry.clone()
        });
    }
    entries.push(entry);
}

/// A file up to its first tensor.
fn header(entries: &[Entry]) -> Result<Vec<u8>> {
    let refuse = |error: &dyn ToString| Error::Json {
        file: "safetensors header",
        reason: error.to_string(),
    };
    let mut header = serde_json::to_vec(&Header(entries)).map_err(|error| refuse(&error))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    Ok(bytes)
}

struct Header<'a>(&'a [Entry]);

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len() + 1))?;
        // Readers of the transformers family ask for this entry.
        map.serialize_entry("__metadata__", &json!({ "format": "pt" }))?;
        let mut at = 0usize;
        for entry in self.0 {
            let end = at
                .checked_add(entry.bytes())
                .ok_or_else(|| S::Error::custom("a file too long to address"))?;
            let info = TensorInfo {
                dtype: entry.dtype,
                shape: entry.shape.clone(),
                data_offsets: (at, end),
            };
            map.serialize_entry(&entry.name, &info)?;
            at = end;
        }
        map.end()
    }
}

/// The published form, with what its numbers are stored in.
fn config_json(config: &ModelConfig, format: FolderFormat) -> Result<String> {
    let config = ModelConfig {
        weight_block_size: matches!(format, FolderFormat::Fp8(_)).then_some(FP8_BLOCK),
        ..config.clone()
    };
    let refuse = |error: serde_json::Error| Error::Json {
        file: "config.json",
        reason: error.to_string(),
    };
    let mut json: Value = serde_json::from_str(&config.to_json()).map_err(refuse)?;
    let dtype = match format {
        FolderFormat::F32 => "float32",
        FolderFormat::F16 => "float16",
        FolderFormat::Bf16 | FolderFormat::Fp8(_) => "bfloat16",
    };
    if let Some(fields) = json.as_object_mut() {
        fields.insert("torch_dtype".to_owned(), json!(dtype));
        if format == FolderFormat::Fp8(fp8::Scales::PowerOfTwo)
            && let Some(inner) = fields.get_mut("quantization_config")
            && let Some(inner) = inner.as_object_mut()
        {
            inner.insert("scale_fmt".to_owned(), json!("ue8m0"));
        }
    }
    Ok(format!("{json:#}\n"))
}

/// The weights of a checkpoint and their index, in memory: for models that are small or in memory
/// anyway.
///
/// # Errors
/// As [`FolderPlan::new`] and [`FolderPlan::write`].
pub fn write<L: Numbers>(
    config: &ModelConfig,
    params: &Params<L>,
    settings: &WriteSettings,
) -> Result<Vec<File>> {
    let plan = FolderPlan::new(config, params, settings)?;
    let mut files = Vec::with_capacity(plan.files().len() + 1);
    for file in plan.files() {
        let mut bytes = Vec::new();
        plan.write(file, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        files.push(File {
            name: file.name.clone(),
            bytes,
        });
    }
    files.extend(plan.index()?);
    Ok(files)
}
