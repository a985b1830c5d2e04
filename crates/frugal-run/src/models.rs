//! The models of a home: folders under `models/`, records of them in `frugal.db`.
//!
//! A model is built in `models/.incoming`, every file under its digest, and gets its place by one
//! rename; then it is recorded. So a folder with a name is whole, a killed pull goes on where it
//! was, and nothing serves half a model. `frugal.json` in the folder is the card that travels with
//! it: its name, size, origin, licence, base and method, and each file with its digest; a folder
//! whose record was lost is recorded again from there.
//!
//! A model is known by its full name, or by the last part of it written in full where only one has
//! it. No name is ever shortened: `DeepSeek-R1-Distill-Qwen-1.5B` is not `DeepSeek-R1`, and the
//! store refuses to call it so.
//!
//! What an architecture is and how many parameters a file holds is not known here: the caller's
//! [`Loader`] says. Fetching: [`crate::hub`].

mod add;
mod card;
mod incoming;
mod name;
mod records;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use add::{Added, Import, Pull, Take};
pub use card::Card;
pub use name::ModelName;
use records::Records;
pub(crate) use records::TABLES;
pub use verify::Difference;

use crate::hub::{HubError, StoredFile};
use crate::ledger::LedgerError;
use crate::store::{At, StoreError, sync_folder};
use incoming::INCOMING;

/// The card that travels in a model's folder.
pub const CARD: &str = "frugal.json";
const MAX_CARD_BYTES: usize = 4 << 20;

/// What a caller's loader finds out about a model.
pub trait Loader {
    /// Looks at a checkpoint's `config.json` before its weights are fetched.
    ///
    /// # Errors
    /// An architecture that cannot be run.
    fn accepts(&self, folder: &Path) -> Result<(), BoxError>;

    /// Looks at a whole model: a folder of safetensors, or one GGUF file.
    ///
    /// # Errors
    /// A model that cannot be loaded.
    fn facts(&self, path: &Path) -> Result<Facts, BoxError>;
}

/// Whatever a loader has to say.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a loader knows of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The family, for example `Qwen2`.
    pub architecture: String,
    /// All parameters.
    pub parameters: Option<u64>,
    /// Parameters that one token passes through.
    pub active_parameters: Option<u64>,
    /// How the weights are stored, for example `BF16` or `Q4_K_M`.
    pub format: String,
}

/// A model of this home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its full name.
    pub name: String,
    /// What the loader found.
    pub facts: Facts,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Address and commit on the hub, or the path it was imported from.
    pub origin: String,
    /// As its card says; unknown where it does not.
    pub licence: Option<String>,
    /// The model it was made from, as its card says.
    pub base_model: Option<String>,
    /// How it was made from it, as its card says.
    pub method: Option<String>,
    /// When it came, in seconds since 1970.
    pub added: i64,
    /// Its files in order of name.
    pub files: Vec<StoredFile>,
}

impl Model {
    /// The name of its GGUF file; `None` for a folder of safetensors.
    #[must_use]
    pub fn gguf(&self) -> Option<&str> {
        let mut names = self.files.iter().map(|file| file.name.as_str());
        names.find(|name| is_gguf(name))
    }
}

/// A pull or import that did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unfinished {
    /// The name it would have.
    pub name: String,
    /// Bytes that are there.
    pub bytes: u64,
}

/// Why the store could not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelsError {
    /// A name that no model can have.
    #[error("`{name}` cannot name a model: {message}")]
    Name {
        /// The name as given.
        name: String,
        /// What was expected.
        message: String,
    },
    /// No model of this name.
    #[error("no model is called {name}, expected a full name or its whole last part; {known}")]
    Unknown {
        /// The name as given.
        name: String,
        /// What there is.
        known: String,
    },
    /// A last part that several models have.
    #[error("{name} could be {which}, expected a full name")]
    Several {
        /// The name as given.
        name: String,
        /// All that have it.
        which: String,
    },
    /// The name is taken.
    #[error(
        "{name} is in the store already, from {origin}; remove it first or give another --name"
    )]
    Exists {
        /// The name.
        name: String,
        /// Where that one is from.
        origin: String,
    },
    /// A folder stands where the model would go.
    #[error("{} is in the way of {name} and belongs to no model of that name", path.display())]
    InTheWay {
        /// The name.
        name: String,
        /// The folder.
        path: PathBuf,
    },
    /// Another process fetches or imports it.
    #[error("{name} is being fetched or imported by another process")]
    Busy {
        /// The name.
        name: String,
    },
    /// The loader cannot use the model.
    #[error("{name} cannot be loaded")]
    Refused {
        /// The name.
        name: String,
        /// What the loader says.
        source: BoxError,
    },
    /// Something that cannot be imported.
    #[error("cannot import {}: {message}", path.display())]
    Source {
        /// The folder or file.
        path: PathBuf,
        /// What was expected and what is there.
        message: String,
    },
    /// A recorded model that is not as it was recorded.
    #[error("{name} is damaged: {message}; remove it and fetch it again")]
    Damaged {
        /// The name.
        name: String,
        /// What was expected and what is there.
        message: String,
    },
    /// From the hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// From the disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// From the records.
    #[error(transparent)]
    Records(#[from] LedgerError),
}

/// The models of one home.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    records: Records,
}

impl Store {
    /// Opens or makes the store of a home.
    ///
    /// # Errors
    /// A home that cannot be written, records that cannot be read.
    pub fn open(home: &Path) -> Result<Self, ModelsError> {
        let root = home.join("models");
        fs::create_dir_all(&root).at("make", &root)?;
        let records = Records::open(home)?;
        let store = Self { root, records };
        store.record_lost()?;
        Ok(store)
    }

    /// All models, in order of name.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn list(&self) -> Result<Vec<Model>, ModelsError> {
        Ok(self.records.all()?)
    }

    /// The model of a full name, or the only one whose last part is `name`.
    ///
    /// # Errors
    /// No such model, or several.
    pub fn find(&self, name: &str) -> Result<Model, ModelsError> {
        let models = self.list()?;
        let is_named = |model: &&Model| model.name.eq_ignore_ascii_case(name);
        if let Some(model) = models.iter().find(is_named) {
            return Ok(model.clone());
        }
        let is_last = |model: &&Model| {
            let last = model.name.rsplit('/').next().unwrap_or_default();
            last.eq_ignore_ascii_case(name)
        };
        let found: Vec<&Model> = models.iter().filter(is_last).collect();
        match found.as_slice() {
            [model] => Ok((*model).clone()),
            [] => Err(ModelsError::Unknown {
                name: name.escape_debug().to_string(),
                known: known(&models),
            }),
            several => Err(ModelsError::Several {
                name: name.to_owned(),
                which: names(several.iter().copied()),
            }),
        }
    }

    /// A model that is whole, and where a loader finds it: its folder, or its GGUF file.
    ///
    /// Lengths are compared, digests are not: that is [`Self::verify`].
    ///
    /// # Errors
    /// No such model, or one with files missing or of another length.
    pub fn locate(&self, name: &str) -> Result<(Model, PathBuf), ModelsError> {
        let model = self.find(name)?;
        let folder = self.folder_of(&model.name)?;
        if let Err(message) = has_lengths(&model, &folder) {
            return Err(ModelsError::Damaged {
                name: model.name,
                message,
            });
        }
        let path = match model.gguf() {
            Some(file) => folder.join(file),
            None => folder,
        };
        Ok((model, path))
    }

    /// Pulls and imports that did not come to their end, in order of name. A pull of the same name
    /// goes on with one; [`Self::remove`] gives its room back.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, ModelsError> {
        let folders = model_folders(&self.root.join(INCOMING), &|folder| {
            // A folder of files is one; a folder of folders is an owner.
            entries(folder).is_ok_and(|all| all.iter().any(|entry| !entry.is_dir()))
        })?;
        let mut unfinished = Vec::new();
        for (name, folder) in folders {
            let files = entries(&folder)?;
            let lengths = files.iter().filter_map(|file| file.metadata().ok());
            unfinished.push(Unfinished {
                name: name.to_string(),
                bytes: lengths.map(|found| found.len()).sum(),
            });
        }
        Ok(unfinished)
    }

    /// Removes a model or an unfinished one. Only what lies in the store, and never through a link.
    ///
    /// # Errors
    /// No such model, a link in the way, a disk that refuses.
    pub fn remove(&self, name: &str) -> Result<(), ModelsError> {
        let name = match self.find(name) {
            Ok(model) => model.name.parse()?,
            Err(ModelsError::Unknown { name, known }) => {
                let is_named = |one: &&Unfinished| one.name.eq_ignore_ascii_case(&name);
                let unfinished = self.unfinished()?;
                let Some(one) = unfinished.iter().find(is_named) else {
                    return Err(ModelsError::Unknown { name, known });
                };
                return Ok(incoming::Incoming::open(&self.root, &one.name.parse()?)?.discard()?);
            }
            Err(error) => return Err(error),
        };
        let folder = self.folder(&name)?;
        if folder.exists() {
            let trash = incoming::trash(&self.root, &name)?;
            fs::rename(&folder, &trash).at("remove", &folder)?;
            self.records.remove(&name)?;
            fs::remove_dir_all(&trash).at("remove", &trash)?;
            if let Some(owner) = folder.parent().filter(|owner| *owner != self.root) {
                // Refused while other models of this owner are there, as it should be.
                drop(fs::remove_dir(owner));
            }
            sync_folder(&self.root)?;
        } else {
            self.records.remove(&name)?;
        }
        Ok(())
    }

    fn folder_of(&self, name: &str) -> Result<PathBuf, ModelsError> {
        self.folder(&name.parse()?)
    }

    /// Where a model of this name is, after making sure that no link leads out of the store.
    fn folder(&self, name: &ModelName) -> Result<PathBuf, ModelsError> {
        let mut folder = self.root.clone();
        for part in name.parts() {
            folder.push(part);
            if folder.is_symlink() {
                return Err(ModelsError::InTheWay {
                    name: name.to_string(),
                    path: folder,
                });
            }
        }
        Ok(folder)
    }

    /// Records models whose folders got their place when the process was killed, or that were
    /// copied here with their cards.
    fn record_lost(&self) -> Result<(), ModelsError> {
        let known = self.records.all()?;
        let folders = model_folders(&self.root, &|folder| folder.join(CARD).is_file())?;
        for (name, folder) in folders {
            let name = name.to_string();
            if known
                .iter()
                .any(|model| model.name.eq_ignore_ascii_case(&name))
            {
                continue;
            }
            match card::read(&folder) {
                Ok(model) if model.name == name && has_lengths(&model, &folder).is_ok() => {
                    self.records.add(&model)?;
                }
                // Not whole, so not a model; `verify` would have nothing to hold it against.
                _ => {
                    tracing::warn!(folder = %folder.display(), "a folder without record is no model");
                }
            }
        }
        Ok(())
    }
}

/// Folders two storeys deep at most that are models by `is_model`, with their names, in order.
fn model_folders(
    root: &Path,
    is_model: &dyn Fn(&Path) -> bool,
) -> Result<Vec<(ModelName, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    let mut add = |parts: &[&Path], folder: &Path| {
        let is_real = folder.is_dir() && !folder.is_symlink();
        let name = ModelName::of_folder(parts).filter(|_| is_real && is_model(folder));
        let is_one = name.is_some();
        found.extend(name.map(|name| (name, folder.to_owned())));
        is_one
    };
    for top in entries(root)? {
        if !add(&[&top], &top) && top.is_dir() && !top.is_symlink() && !is_hidden(&top) {
            for folder in entries(&top)? {
                add(&[&top, &folder], &folder);
            }
        }
    }
    Ok(found)
}

fn is_gguf(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".gguf")
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with('.')
}

/// What a folder holds, in order; nothing where there is no folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    };
    let mut paths = match read() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other.at("list", folder)?,
    };
    paths.sort();
    Ok(paths)
}

/// Whether each file is there in its length; else what is wrong with the first that is not.
fn has_lengths(model: &Model, folder: &Path) -> Result<(), String> {
    for file in &model.files {
        let found = folder.join(&file.name).symlink_metadata();
        let found = found.map_err(|_| format!("expected {}, found no such file", file.name))?;
        if !found.is_file() || found.len() != file.bytes {
            return Err(format!(
                "expected {} of {} bytes, found {}",
                file.name,
                file.bytes,
                if found.is_file() {
                    found.len().to_string()
                } else {
                    "something that is no file".to_owned()
                }
            ));
        }
    }
    Ok(())
}

fn names<'a>(models: impl Iterator<Item = &'a Model>) -> String {
    let names: Vec<&str> = models.map(|model| model.name.as_str()).collect();
    names.join(", ")
}

fn known(models: &[Model]) -> String {
    const SHOWN: usize = 8;
    match models.len() {
        0 => "this home has none yet".to_owned(),
        n if n > SHOWN => format!(
            "this home has {} and {} more",
            names(models.iter().take(SHOWN)),
            n - SHOWN
        ),
        _ => format!("this home has {}", names(models.iter())),
    }
}

#[cfg(test)]
mod tests;
