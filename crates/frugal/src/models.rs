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
use frugal_run::recipe::Recipe;
use frugal_text::Tokenizer;
use frugal_text::chat::Template;
use frugal_text::gguf::{GgufVocabulary, tokenizer_config_json, tokenizer_json};
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
    /// Its words; none where the files hold none.
    pub(crate) text: Option<Text>,
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
    /// Tokens that end an answer beside the config's.
    pub(crate) eos: Vec<u32>,
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
    let store = frugal_run::models::Store::open(&home::of(common)?)?;
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
        Place::Gguf(only_gguf(&full)?)
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

fn only_gguf(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "gguf") {
            found.push(path);
        }
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([path]) => Ok(path),
        Err(found) => anyhow::bail!(
            "expected a folder with config.json, or with one GGUF file, got {} GGUF files in {}",
            found.len(),
            folder.display()
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
    /// The folder or file that it is.
    pub(crate) fn path(&self) -> &Path {
        match &self.place {
            Place::Folder(path) | Place::Gguf(path) => path,
        }
    }

    /// The run it came from, where it has that run's task for a language: a model that a run made
    /// from nothing. One that a run imported speaks through its chat template.
    pub(crate) fn run_of_words(&self) -> Option<&Recipe> {
        let recipe = self.recipe.as_ref();
        recipe.filter(|recipe| recipe.import().is_none())
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
        let config = ModelConfig::from_json(&required(folder, "config.json")?)?;
        let index = optional(folder, INDEX)?;
        let names = match &index {
            Some(index) => checkpoint::file_names(index)?,
            None => vec!["model.safetensors".to_owned()],
        };
        let map = |name: &String| {
            let path = folder.join(name);
            mapped::map(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let files = names
            .iter()
            .map(map)
            .collect::<anyhow::Result<Vec<SharedBytes>>>()?;
        if let Some(index) = &index {
            checkpoint::check_index(index, &names, &files)?;
        }
        let bytes = files.iter().map(|bytes| bytes.len() as u64).sum();
        let (config, leaves) = checkpoint::read(&config, &files)?;
        Ok(Opened {
            name: self.name.clone(),
            config,
            leaves,
            text: text_of_folder(folder)?,
            bytes,
        })
    }

    fn open_gguf(&self, file: &Path) -> anyhow::Result<Opened> {
        let bytes = mapped::map(file).with_context(|| format!("cannot read {}", file.display()))?;
        let length = bytes.len() as u64;
        let parsed = gguf::Gguf::parse(bytes)?;
        let (config, leaves) = gguf::read(&parsed)?;
        let text = parsed
            .tokenizer()?
            .map(|keys| -> anyhow::Result<Text> {
                let vocabulary = vocabulary_of(keys);
                let generation = Generation {
                    eos: vocabulary.eos.into_iter().collect(),
                    ..Generation::default()
                };
                Text::new(
                    tokenizer_json(&vocabulary)?,
                    tokenizer_config_json(&vocabulary)?,
                    generation,
                )
            })
            .transpose()?;
        Ok(Opened {
            name: self.name.clone(),
            config,
            leaves,
            text,
            bytes: length,
        })
    }
}

/// The same keys, in the words of the floor that knows text.
fn vocabulary_of(keys: gguf::TokenizerKeys) -> GgufVocabulary {
    GgufVocabulary {
        model: keys.model,
        pre: keys.pre,
        tokens: keys.tokens,
        token_types: keys.token_types,
        merges: keys.merges,
        bos: keys.bos,
        eos: keys.eos,
        pad: keys.pad,
        unk: keys.unk,
        add_bos: keys.add_bos,
        chat_template: keys.chat_template,
    }
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

    /// The model's chat template.
    pub(crate) fn template(&self) -> anyhow::Result<Template> {
        Template::from_config(&self.tokenizer_config, &self.tokenizer).context(
            "expected a model with a chat template; give one with --template FILE, or --raw to \
             continue text as it is",
        )
    }

    /// A template from outside, with the model's own marks.
    pub(crate) fn template_with(&self, source: &str) -> anyhow::Result<Template> {
        let mut config: Value = serde_json::from_slice(&self.tokenizer_config)?;
        if let Some(fields) = config.as_object_mut() {
            fields.insert("chat_template".to_owned(), source.into());
        }
        let config = serde_json::to_vec(&config)?;
        Ok(Template::from_config(&config, &self.tokenizer)?)
    }
}

impl Generation {
    fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let fields: Value = serde_json::from_slice(bytes).context("generation_config.json")?;
        #[expect(clippy::cast_possible_truncation, reason = "settings of sampling are f32")]
        let number = |name: &str| fields.get(name).and_then(Value::as_f64).map(|x| x as f32);
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let eos = match fields.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
            Some(one) => id(one).into_iter().collect(),
            None => Vec::new(),
        };
        let sampled = fields.get("do_sample").and_then(Value::as_bool) != Some(false);
        Ok(Self {
            temperature: number("temperature").filter(|_| sampled),
            top_p: number("top_p").filter(|_| sampled),
            top_k: fields
                .get("top_k")
                .and_then(Value::as_u64)
                .and_then(|k| usize::try_from(k).ok()),
            eos,
        })
    }
}

impl Opened {
    /// The model on a device, its weights used from where they lie.
    pub(crate) fn load(&self, device: &Device, n_positions: usize) -> anyhow::Result<OnDevice> {
        let params = self.leaves.try_map(|leaf| leaf.keep(device))?;
        Ok(Model::new(device, self.config.clone(), params, n_positions)?)
    }

    /// Its words.
    pub(crate) fn text(&self) -> anyhow::Result<&Text> {
        self.text.as_ref().with_context(|| {
            format!("expected a tokenizer with model {}, got none", self.name)
        })
    }

    /// The tokens that end an answer.
    pub(crate) fn stops(&self) -> Vec<u32> {
        let mut stops = self.config.eos_token_id.clone();
        if let Some(text) = &self.text {
            stops.extend(&text.generation.eos);
        }
        stops.sort_unstable();
        stops.dedup();
        stops
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
