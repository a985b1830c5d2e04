//! Models by path or name: found, opened as mapped files, put on the device.
//!
//! Every verb that takes a model goes through here, whatever the model came from: a folder, a GGUF
//! file, a run, the store. Nothing but headers and small files is read before the weights are used.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use frugal_core::backend::Backend;
use frugal_core::dtype::DType;
use frugal_core::quant::Format;
use frugal_core::stored::{SharedBytes, Stored};
use frugal_kernels::mapped;
use frugal_model::checkpoint::{self, Leaf, gguf};
use frugal_model::config::ModelConfig;
use frugal_model::params::{Params, Spec};
use frugal_model::transformer::Model;
use frugal_run::checkpoint::Checkpoints;
use frugal_run::models::{Card, Store};
use frugal_run::recipe::Recipe;
use frugal_text::chat::{Sources, Template};
use frugal_text::gguf::{tokenizer_config_json, tokenizer_json};
use frugal_text::{Tokenizer, stops};
use serde_json::Value;

use crate::cli::{Common, Which};
use crate::commands::run::recipe_of;
use crate::device::Device;
use crate::home;

/// A model on the device.
pub(crate) type OnDevice = Model<<Device as Backend>::Tensor>;

/// The largest JSON file or template that is read into memory.
const MAX_SMALL_BYTES: u64 = 64 << 20;
const INDEX: &str = "model.safetensors.index.json";

/// Where a model is.
#[derive(Debug)]
pub(crate) struct Source {
    /// What it is called.
    pub(crate) name: String,
    place: Place,
    /// The run it came from, where it is a run's.
    pub(crate) recipe: Option<Recipe>,
}

#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    Gguf(PathBuf),
}

/// A model whose files are mapped and checked.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What it is called.
    pub(crate) name: String,
    /// What it is.
    pub(crate) config: ModelConfig,
    /// Its parameters where they lie.
    pub(crate) leaves: Params<Leaf>,
    /// Its words; none where the files hold none that can be used.
    pub(crate) text: Option<Text>,
    /// Why they cannot be used.
    text_fault: Option<anyhow::Error>,
    /// Bytes of its weight files.
    pub(crate) bytes: u64,
}

/// What goes between text and ids.
#[derive(Debug)]
pub(crate) struct Text {
    /// Text to ids and back.
    pub(crate) tokenizer: Tokenizer,
    /// `tokenizer.json`.
    pub(crate) tokenizer_json: Vec<u8>,
    /// `tokenizer_config.json`, with the chat template.
    pub(crate) tokenizer_config: Vec<u8>,
    /// How the model's makers sample, where they say.
    pub(crate) generation: Generation,
    /// The file that says so.
    pub(crate) generation_config: Option<Vec<u8>>,
}

/// `generation_config.json`, as far as it is used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Generation {
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<usize>,
}

/// Finds what a person means by a model.
pub(crate) fn find(common: &Common, which: &Which) -> anyhow::Result<Source> {
    let path = Path::new(&which.model);
    if path.join("recipe.toml").is_file() {
        return of_run(path, which.stage.as_deref());
    }
    if path.exists() {
        anyhow::ensure!(
            which.stage.is_none(),
            "expected a run's folder with --stage, got {}",
            path.display()
        );
        return at(path);
    }
    let store = Store::open(&home::of(common)?)?;
    let is_path = which.model.starts_with(['/', '.', '~'])
        || path.extension().is_some_and(|end| end == "gguf");
    anyhow::ensure!(!is_path, "there is no file or folder {}", path.display());
    let (stored, path) = store.locate(&which.model)?;
    let mut source = at(&path)?;
    source.name = stored.name;
    Ok(source)
}

/// The model at a path.
pub(crate) fn at(path: &Path) -> anyhow::Result<Source> {
    let full = path
        .canonicalize()
        .with_context(|| format!("cannot read {}", path.display()))?;
    // What a stage leaves is called as the stage is.
    let stage = full.parent().filter(|_| full.ends_with("final"));
    let name = full
        .file_stem()
        .filter(|_| full.is_file())
        .or_else(|| stage.and_then(Path::file_name))
        .or_else(|| full.file_name())
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let place = if full.join("config.json").is_file() {
        Place::Folder(full.clone())
    } else if full.is_dir() {
        Place::Gguf(full.join(only_file(&full, "gguf", "model.gguf")?))
    } else {
        Place::Gguf(full.clone())
    };
    // RUN/checkpoints/STAGE/final
    let run = full
        .ancestors()
        .find(|above| above.join("recipe.toml").is_file());
    Ok(Source {
        name,
        place,
        recipe: run.map(recipe_of).transpose()?,
    })
}

/// The name of the one file with this ending in a folder, `usual` before all others. Of a model
/// that was split it is the first part.
fn only_file(folder: &Path, ending: &str, usual: &str) -> anyhow::Result<String> {
    if folder.join(usual).is_file() {
        return Ok(usual.to_owned());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_later_part = name.contains("-of-") && !name.contains("-00001-of-");
        if path.extension().is_some_and(|end| end == ending) && !is_later_part {
            found.push(name.into_owned());
        }
    }
    match <[String; 1]>::try_from(found) {
        Ok([name]) => Ok(name),
        Err(found) => anyhow::bail!(
            "expected one model in {}, got {} {ending} files",
            folder.display(),
            found.len()
        ),
    }
}

/// The model of a run's stage; without a name r1's, else the last there is.
fn of_run(folder: &Path, stage: Option<&str>) -> anyhow::Result<Source> {
    let recipe = recipe_of(folder)?;
    let checkpoints = Checkpoints::new(&folder.join("checkpoints"), recipe.run.keep_checkpoints);
    let with_models = || {
        recipe
            .stages
            .iter()
            .filter(|s| s.settings.leaves_checkpoint())
    };
    let candidates: Vec<&str> = if let Some(name) = stage {
        vec![name]
    } else {
        let r1 = with_models().filter(|s| s.name == "r1");
        r1.chain(with_models().rev())
            .map(|s| s.name.as_str())
            .collect()
    };
    for name in &candidates {
        if let Some(left) = checkpoints.final_of(name)? {
            return Ok(Source {
                name: (*name).to_owned(),
                place: Place::Folder(left.path().to_owned()),
                recipe: Some(recipe),
            });
        }
    }
    let known: Vec<&str> = with_models().map(|s| s.name.as_str()).collect();
    anyhow::bail!(
        "expected a finished stage of {} ({}), got {}",
        folder.display(),
        known.join(", "),
        stage.unwrap_or("a run that has finished none")
    )
}

impl Source {
    /// The licence that its README names.
    pub(crate) fn licence(&self) -> Option<String> {
        Card::parse(&self.readme()?).licence
    }

    /// What its makers wrote of it: the README of its folder, or the text beside a GGUF file.
    pub(crate) fn readme(&self) -> Option<String> {
        let text = |folder: &Path, name: &str| {
            let bytes = optional(folder, name).ok()??;
            String::from_utf8(bytes).ok()
        };
        match &self.place {
            Place::Folder(folder) => text(folder, "README.md"),
            Place::Gguf(file) => {
                let beside = file.with_extension("md");
                let folder = file.parent()?;
                let name = beside.file_name()?.to_str()?;
                text(folder, name).or_else(|| text(folder, "README.md"))
            }
        }
    }

    /// The stage that left it, and the folder of its run, where it is a run's.
    pub(crate) fn stage(&self) -> Option<(&str, &Path)> {
        let folder = self.path();
        // RUN/checkpoints/STAGE/final
        let stage = folder.ends_with("final").then(|| folder.parent())??;
        let run = stage.parent().and_then(Path::parent);
        let run = run.filter(|run| self.recipe.is_some() && run.join("recipe.toml").is_file())?;
        Some((stage.file_name()?.to_str()?, run))
    }

    /// The folder or file that it is.
    pub(crate) fn path(&self) -> &Path {
        match &self.place {
            Place::Folder(path) | Place::Gguf(path) => path,
        }
    }

    /// Maps and checks the files.
    pub(crate) fn open(&self) -> anyhow::Result<Opened> {
        match &self.place {
            Place::Folder(folder) => self.open_folder(folder),
            Place::Gguf(file) => self.open_gguf(file),
        }
        .with_context(|| format!("model {}", self.name))
    }

    fn open_folder(&self, folder: &Path) -> anyhow::Result<Opened> {
        let config = config_in(folder)?;
        let index = optional(folder, INDEX)?;
        let names = match &index {
            Some(index) => checkpoint::file_names(index)?,
            None => vec![only_file(folder, "safetensors", "model.safetensors")?],
        };
        let files = names
            .iter()
            .map(|name| map(&folder.join(name)))
            .collect::<anyhow::Result<Vec<SharedBytes>>>()?;
        if let Some(index) = &index {
            checkpoint::check_index(index, &names, &files)?;
        }
        let bytes = files.iter().map(|bytes| bytes.len() as u64).sum();
        let (config, leaves) = checkpoint::read(&config, &files)?;
        Ok(Opened::new(
            &self.name,
            (config, leaves),
            text_of_folder(folder),
            bytes,
        ))
    }

    fn open_gguf(&self, file: &Path) -> anyhow::Result<Opened> {
        let mut parts = Vec::new();
        let mut bytes = 0;
        for path in parts_of(file) {
            let mapped = map(&path)?;
            bytes += mapped.len() as u64;
            let part = gguf::Gguf::parse(mapped);
            parts.push(part.with_context(|| path.display().to_string())?);
        }
        let parsed = gguf::Gguf::joined(parts)?;
        let model = gguf::read(&parsed)?;
        Ok(Opened::new(&self.name, model, text_of_gguf(&parsed), bytes))
    }
}

/// The files of a model that was split: `NAME-00001-of-00003.gguf` and those after it.
fn parts_of(file: &Path) -> Vec<PathBuf> {
    let whole = vec![file.to_owned()];
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let Some((begin, count)) = name
        .strip_suffix(".gguf")
        .and_then(|stem| stem.split_once("-00001-of-"))
    else {
        return whole;
    };
    match count.parse::<u32>() {
        Ok(n) if count.len() == 5 => (1..=n)
            .map(|i| file.with_file_name(format!("{begin}-{i:05}-of-{count}.gguf")))
            .collect(),
        _ => whole,
    }
}

fn text_of_gguf(parsed: &gguf::Gguf) -> anyhow::Result<Option<Text>> {
    let Some(keys) = parsed.tokenizer()? else {
        return Ok(None);
    };
    let (tokenizer, config) = (tokenizer_json(&keys)?, tokenizer_config_json(&keys)?);
    Text::new(tokenizer, config, Generation::default()).map(Some)
}

fn map(path: &Path) -> anyhow::Result<SharedBytes> {
    mapped::map(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The config of a folder.
pub(crate) fn config_in(folder: &Path) -> anyhow::Result<ModelConfig> {
    let config = required(folder, "config.json")?;
    ModelConfig::from_json(&config).with_context(|| format!("in {}", folder.display()))
}

fn text_of_folder(folder: &Path) -> anyhow::Result<Option<Text>> {
    let Some(tokenizer) = optional(folder, "tokenizer.json")? else {
        return Ok(None);
    };
    let config = optional(folder, "tokenizer_config.json")?.unwrap_or_else(|| b"{}".to_vec());
    // Newer folders keep the template in a file of its own.
    let config = match optional(folder, "chat_template.jinja")? {
        Some(template) => {
            let mut config: Value =
                serde_json::from_slice(&config).context("tokenizer_config.json")?;
            let template = String::from_utf8(template).context("chat_template.jinja")?;
            if let Some(fields) = config.as_object_mut() {
                fields.insert("chat_template".to_owned(), template.into());
            }
            serde_json::to_vec(&config)?
        }
        None => config,
    };
    let generation_config = optional(folder, "generation_config.json")?;
    let generation = match &generation_config {
        Some(bytes) => Generation::read(bytes)?,
        None => Generation::default(),
    };
    let text = Text::new(tokenizer, config, generation)?;
    Ok(Some(Text {
        generation_config,
        ..text
    }))
}

impl Text {
    fn new(
        tokenizer_json: Vec<u8>,
        tokenizer_config: Vec<u8>,
        generation: Generation,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            tokenizer: Tokenizer::from_json(&tokenizer_json)?,
            tokenizer_json,
            tokenizer_config,
            generation,
            generation_config: None,
        })
    }

    /// The token that texts begin with, where the tokenizer adds one: DeepSeek's and Llama's do.
    pub(crate) fn first_token(&self, config: &ModelConfig) -> Option<u32> {
        let settings: Value = serde_json::from_slice(&self.tokenizer_config).unwrap_or_default();
        let is_added = settings.get("add_bos_token").and_then(Value::as_bool) == Some(true);
        let bos = config.bos_token_id.filter(|_| is_added);
        bos.filter(|id| self.tokenizer.is_control(*id))
    }

    /// The template that is given, else the model's, else the one that its kind is known to have.
    pub(crate) fn template(&self, given: Option<&str>) -> anyhow::Result<Template> {
        let sources = Sources {
            given,
            file: None,
            config: Some(&self.tokenizer_config),
        };
        Ok(Template::find(&sources, &self.tokenizer)?.0)
    }
}

impl Generation {
    fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let fields: Value = serde_json::from_slice(bytes).context("generation_config.json")?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "settings of sampling are f32"
        )]
        let number = |name: &str| fields.get(name).and_then(Value::as_f64).map(|x| x as f32);
        let sampled = fields.get("do_sample").and_then(Value::as_bool) != Some(false);
        Ok(Self {
            temperature: number("temperature").filter(|_| sampled),
            top_p: number("top_p").filter(|_| sampled),
            top_k: fields
                .get("top_k")
                .and_then(Value::as_u64)
                .and_then(|k| usize::try_from(k).ok()),
        })
    }
}

impl Opened {
    fn new(
        name: &str,
        (config, leaves): (ModelConfig, Params<Leaf>),
        text: anyhow::Result<Option<Text>>,
        bytes: u64,
    ) -> Self {
        let (text, text_fault) = match text {
            Ok(text) => (text, None),
            Err(fault) => (None, Some(fault)),
        };
        Self {
            name: name.to_owned(),
            config,
            leaves,
            text,
            text_fault,
            bytes,
        }
    }

    /// A model of numbers alone, made here.
    pub(crate) fn without_text(name: &str, config: ModelConfig, leaves: Params<Leaf>) -> Self {
        Self::new(name, (config, leaves), Ok(None), 0)
    }

    /// The model on a device, its weights used from where they lie.
    pub(crate) fn load(&self, device: &Device, n_positions: usize) -> anyhow::Result<OnDevice> {
        let params = self.leaves.try_map(|leaf| leaf.keep(device))?;
        Ok(Model::new(
            device,
            self.config.clone(),
            params,
            n_positions,
        )?)
    }

    /// Its words.
    pub(crate) fn text(&self) -> anyhow::Result<&Text> {
        self.text.as_ref().ok_or_else(|| match &self.text_fault {
            Some(fault) => anyhow::anyhow!("tokenizer of model {}: {fault:#}", self.name),
            None => anyhow::anyhow!("expected a tokenizer with model {}, got none", self.name),
        })
    }

    /// The tokens that end an answer.
    pub(crate) fn stops(&self) -> anyhow::Result<Vec<u32>> {
        let text = self.text()?;
        let ends = &self.config.eos_token_id;
        Ok(stops(
            &text.tokenizer,
            text.generation_config.as_deref(),
            ends,
        )?)
    }

    /// Positions for a conversation of up to `context` tokens.
    pub(crate) fn positions(&self, context: usize) -> usize {
        context.clamp(1, self.config.max_position_embeddings)
    }
}

fn required(folder: &Path, name: &str) -> anyhow::Result<String> {
    let bytes = optional(folder, name)?
        .with_context(|| format!("expected {name} in {}", folder.display()))?;
    String::from_utf8(bytes).with_context(|| format!("{name} of {}", folder.display()))
}

/// A small file, where it is there.
fn optional(folder: &Path, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let path = folder.join(name);
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let mut bytes = Vec::new();
    file.take(MAX_SMALL_BYTES + 1).read_to_end(&mut bytes)?;
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_SMALL_BYTES,
        "expected at most {MAX_SMALL_BYTES} bytes in {}",
        path.display()
    );
    Ok(Some(bytes))
}

/// What each parameter of a model is stored in.
pub(crate) fn formats(opened: &Opened) -> Params<(Spec, Format)> {
    opened.leaves.map(|leaf| {
        let format = leaf.parts.first().map(Stored::format);
        (
            leaf.spec.clone(),
            format.unwrap_or(Format::Plain(DType::F32)),
        )
    })
}
