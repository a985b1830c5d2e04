//! Models written as folders or GGUF files: beside their place first, then moved there, so that no
//! reader ever sees a part.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use anyhow::Context;
use frugal_core::dtype::DType;
use frugal_core::quant::{Format, fp8};
use frugal_core::stored::Stored;
use frugal_model::checkpoint::gguf::{GgufPlan, GgufSettings, Mixture, TokenizerKeys, Value};
use frugal_model::checkpoint::{FolderFormat, FolderPlan, Numbers, WriteSettings};
use frugal_model::error::Error as ModelError;
use frugal_model::params::Role;
use frugal_text::gguf::{padded, vocabulary};

use crate::models::{Opened, Text};
use crate::output::{Usage, tell};

/// Bytes of a file of a folder, as published checkpoints have them.
const SHARD_BYTES: usize = 5 << 30;

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// A folder of safetensors.
    Folder(FolderFormat),
    /// One GGUF file.
    Gguf(Mixture),
}

impl Target {
    /// What `--format` and the path ask for; without a format what the model is stored in.
    pub(crate) fn of(opened: &Opened, out: &Path, format: Option<&str>) -> anyhow::Result<Self> {
        let is_gguf = out.extension().is_some_and(|end| end == "gguf");
        let stored = stored_in(opened);
        let name = match format {
            Some(name) => name.to_ascii_lowercase(),
            None => match (stored, is_gguf) {
                (Format::Plain(dtype), _) => dtype.to_string(),
                (Format::Blocks(format), true) => format.name().to_ascii_lowercase(),
                (Format::Fp8Blocks(_), false) => "fp8".to_owned(),
                _ => "bf16".to_owned(),
            },
        };
        let unknown = |known: &str| {
            let out = out.display();
            Usage(format!("expected --format {known} for {out}, got {name}"))
        };
        if is_gguf {
            let known =
                "f32, f16, bf16, q8_0, q6_k, q5_k, q4_k_m, q4_k, q4_0 or another block format";
            let mixture = Mixture::from_name(&name).ok_or_else(|| unknown(known))?;
            return Ok(Self::Gguf(mixture));
        }
        Ok(Self::Folder(match name.as_str() {
            "f32" => FolderFormat::F32,
            "f16" => FolderFormat::F16,
            "bf16" => FolderFormat::Bf16,
            "fp8" => FolderFormat::Fp8(fp8::Scales::Float),
            _ => return Err(unknown("f32, f16, bf16 or fp8").into()),
        }))
    }

    /// Its name in the field.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Folder(FolderFormat::F32) => "F32",
            Self::Folder(FolderFormat::F16) => "F16",
            Self::Folder(FolderFormat::Bf16) => "BF16",
            Self::Folder(FolderFormat::Fp8(_)) => "FP8",
            Self::Gguf(mixture) => mixture.name(),
        }
    }
}

/// What most of a model's matrices are stored in.
pub(crate) fn stored_in(opened: &Opened) -> Format {
    let mut most = (0, Format::Plain(DType::F32));
    let mut counts: Vec<(Format, usize)> = Vec::new();
    for leaf in opened.leaves.leaves() {
        if !matches!(leaf.spec.role, Role::Matrix | Role::Experts) {
            continue;
        }
        let Some(format) = leaf.parts.first().map(Stored::format) else {
            continue;
        };
        match counts.iter_mut().find(|(known, _)| *known == format) {
            Some((_, count)) => *count += leaf.spec.shape.elements(),
            None => counts.push((format, leaf.spec.shape.elements())),
        }
    }
    for (format, count) in counts {
        if count > most.0 {
            most = (count, format);
        }
    }
    most.1
}

/// Writes a model to `out`, which must not exist yet.
pub(crate) fn write(opened: &Opened, out: &Path, target: Target) -> anyhow::Result<u64> {
    anyhow::ensure!(
        !out.exists(),
        "expected a place for something new, {} exists",
        out.display()
    );
    let partial = beside(out, "partial");
    let written = match target {
        Target::Folder(format) => folder(opened, &partial, format),
        Target::Gguf(mixture) => gguf(opened, &partial, mixture),
    };
    let moved = written.and_then(|bytes| {
        fs::rename(&partial, out).with_context(|| format!("cannot write {}", out.display()))?;
        Ok(bytes)
    });
    if moved.is_err() {
        // Whatever was begun is of no use to anyone.
        drop(fs::remove_file(&partial));
        drop(fs::remove_dir_all(&partial));
    }
    moved.with_context(|| format!("export of {}", opened.name))
}

/// A path with one more ending.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

fn folder(opened: &Opened, to: &Path, format: FolderFormat) -> anyhow::Result<u64> {
    let settings = WriteSettings {
        format,
        max_file_bytes: SHARD_BYTES,
    };
    let plan = FolderPlan::new(&opened.config, &opened.leaves, &settings)?;
    fs::create_dir_all(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut total = 0;
    for file in plan.files() {
        stream(&to.join(&file.name), &mut |sink| plan.write(file, sink))?;
        total += file.bytes;
    }
    if let Some(index) = plan.index()? {
        small(&to.join(index.name), &index.bytes)?;
    }
    small(&to.join("config.json"), plan.config_json().as_bytes())?;
    if let Some(text) = &opened.text {
        small(&to.join("tokenizer.json"), &text.tokenizer_json)?;
        small(&to.join("tokenizer_config.json"), &text.tokenizer_config)?;
    }
    Ok(total)
}

fn gguf(opened: &Opened, to: &Path, mixture: Mixture) -> anyhow::Result<u64> {
    let tokenizer = opened.text.as_ref().map(|text| keys_of(text, opened));
    let tokenizer = match tokenizer.transpose() {
        Ok(keys) => keys,
        Err(error) => {
            tell(format!(
                "the file will have no tokenizer, so that it runs by token ids only: {error:#}"
            ));
            None
        }
    };
    let settings = GgufSettings {
        mixture,
        tokenizer,
        metadata: vec![(
            "general.name".to_owned(),
            Value::String(opened.name.clone()),
        )],
    };
    let plan = GgufPlan::new(&opened.config, &opened.leaves, &settings)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    stream(to, &mut |sink| write_on_threads(&plan, threads, sink))?;
    Ok(plan.bytes())
}

/// Writes a file whose tensors are encoded by several threads, each taking its turn; at most two
/// tensors of a thread wait to be written.
fn write_on_threads<L: Numbers + Sync>(
    plan: &GgufPlan<'_, L>,
    threads: usize,
    sink: Sink<'_>,
) -> Result<(), ModelError> {
    sink(plan.header())?;
    std::thread::scope(|scope| {
        let turns: Vec<_> = (0..threads)
            .map(|first| {
                let (send, receive) = mpsc::sync_channel(1);
                scope.spawn(move || {
                    for tensor in plan.tensors().iter().skip(first).step_by(threads) {
                        let mut bytes = Vec::with_capacity(tensor.bytes);
                        let encoded = plan.write_one(tensor, &mut |part| {
                            bytes.extend_from_slice(part);
                            Ok(())
                        });
                        // Whoever went away has said why.
                        if send.send(encoded.map(|()| bytes)).is_err() {
                            return;
                        }
                    }
                });
                receive
            })
            .collect();
        for turn in turns.iter().cycle().take(plan.tensors().len()) {
            let encoded = turn.recv().unwrap_or(Err(ModelError::Interrupted));
            sink(&encoded?)?;
        }
        Ok(())
    })
}

/// A model's tokenizer as GGUF files have it.
fn keys_of(text: &Text, opened: &Opened) -> anyhow::Result<TokenizerKeys> {
    let config = &opened.config;
    let keys = vocabulary(&text.tokenizer_json, Some(&text.tokenizer_config))?;
    let mut keys = padded(keys, config.vocab_size)?;
    // A config may name ids that its tokenizer gives to ordinary text.
    let control = |id: &u32| text.tokenizer.is_control(*id);
    keys.bos = keys.bos.or(config.bos_token_id.filter(control));
    keys.eos = keys
        .eos
        .or(config.eos_token_id.iter().copied().find(control));
    Ok(keys)
}

type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), ModelError>;

/// Writes a file piece by piece and makes it durable.
fn stream(
    path: &Path,
    write: &mut dyn FnMut(Sink<'_>) -> Result<(), ModelError>,
) -> anyhow::Result<()> {
    let at = || format!("cannot write {}", path.display());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).with_context(at)?);
    write(&mut |bytes| {
        out.write_all(bytes).map_err(|error| ModelError::Write {
            reason: error.to_string(),
        })
    })
    .with_context(at)?;
    let file = out
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error);
    file.and_then(|file| file.sync_all()).with_context(at)
}

fn small(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let at = || format!("cannot write {}", path.display());
    let mut file = File::create(path).with_context(at)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(at)
}
