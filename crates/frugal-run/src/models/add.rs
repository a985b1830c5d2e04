//! How models come into the store: from the hub, or from a folder or file of this machine.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::incoming::Incoming;
use super::verify::hashed;
use super::{Loader, Model, ModelName, ModelsError, Store, card, entries, is_gguf};
use crate::consumption::unix_seconds;
use crate::hub::{
    Choice, Chosen, Hub, HubError, INDEX, Listing, MAX_SMALL_BYTES, Progress, RemoteFile, Shape,
    StoredFile, Wanted, Watch, choose, expect_small, free_bytes, tag,
};
use crate::store::{At, StoreError, read_text};

/// What to fetch.
#[derive(Debug, Clone, Copy)]
pub struct Pull<'a> {
    /// The repository, revision and file.
    pub wanted: &'a Wanted,
    /// The name it gets here, if another than on the hub.
    pub name: Option<&'a ModelName>,
}

/// What to import.
#[derive(Debug, Clone, Copy)]
pub struct Import<'a> {
    /// A folder with a checkpoint, or a GGUF file.
    pub path: &'a Path,
    /// The name it gets here, if another than that of the folder or file.
    pub name: Option<&'a ModelName>,
    /// Whether its bytes are copied.
    pub take: Take,
}

/// How a file gets into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Its bytes are copied.
    Copy,
    /// It is linked, so that it takes no more room; whoever changes it there changes it here.
    Link,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It is in the store now.
    New(Model),
    /// The very same one was there before.
    Already(Model),
}

/// What is known of a model besides its files.
struct Source<'a> {
    name: &'a ModelName,
    origin: String,
    shape: Shape,
}

impl Store {
    /// Fetches a model from the hub. A pull that was cut or killed goes on.
    ///
    /// # Errors
    /// What the hub, the disk or the loader refuse; a name that is taken by another model.
    pub fn pull(
        &self,
        hub: &Hub,
        pull: Pull<'_>,
        loader: &dyn Loader,
        watch: &mut Watch<'_>,
    ) -> Result<Added, ModelsError> {
        let listing = hub.list(pull.wanted, watch)?;
        let chosen = hub.choose(&listing, &pull.wanted.choice, watch)?;
        let name = match pull.name {
            Some(name) => name.clone(),
            None => hub_name(&listing, &chosen)?,
        };
        name.expect_honest(&listing.id)?;
        let origin = format!("{}@{}", hub.address(&listing.id), listing.revision);
        if let Some(model) = self.taken(&name, &origin)? {
            return Ok(Added::Already(model));
        }
        let files = |names: &[String]| -> Result<Vec<RemoteFile>, HubError> {
            names.iter().map(|name| listing.file(name)).collect()
        };
        let (small, weights) = (files(&chosen.small)?, files(&chosen.weights)?);
        small.iter().try_for_each(expect_small)?;
        let all: Vec<RemoteFile> = small.iter().chain(&weights).cloned().collect();
        let incoming = Incoming::open(&self.root, &name)?;
        if let Some(model) = self.taken(&name, &origin)? {
            // Another process finished it in the meantime.
            incoming.discard()?;
            return Ok(Added::Already(model));
        }
        hub.expect_room(&listing, &all, incoming.folder())?;
        watch(&Progress::Listed {
            name: &listing.id,
            revision: &listing.revision,
            n_files: all.len(),
            bytes: all.iter().map(|file| file.bytes).sum(),
        });
        let mut stored = hub.fetch(&listing, &small, incoming.folder(), watch)?;
        if chosen.shape == Shape::Checkpoint
            && let Err(source) = loader.accepts(incoming.folder())
        {
            incoming.discard()?;
            return Err(refused(&name, source));
        }
        stored.extend(hub.fetch(&listing, &weights, incoming.folder(), watch)?);
        let source = Source {
            name: &name,
            origin,
            shape: chosen.shape,
        };
        self.settle(incoming, &source, stored, loader)
    }

    /// Takes a folder or GGUF file of this machine into the store.
    ///
    /// # Errors
    /// Something that is no model, what the disk or the loader refuse, a name that is taken.
    pub fn import(
        &self,
        import: Import<'_>,
        loader: &dyn Loader,
        watch: &mut Watch<'_>,
    ) -> Result<Added, ModelsError> {
        let path = fs::canonicalize(import.path).at("read", import.path)?;
        let (folder, chosen) = local(&path)?;
        let own_name = own_name(&path, chosen.shape);
        let name = match import.name {
            Some(name) => name.clone(),
            None => own_name.parse()?,
        };
        name.expect_honest(&own_name)?;
        if path.starts_with(&self.root) {
            return Err(source_error(&path, "expected something outside the store"));
        }
        let origin = path.to_string_lossy().into_owned();
        if let Some(model) = self.taken(&name, &origin)? {
            return Ok(Added::Already(model));
        }
        if chosen.shape == Shape::Checkpoint {
            let accepted = loader.accepts(&folder);
            accepted.map_err(|source| refused(&name, source))?;
        }
        let files = measured(&folder, &chosen)?;
        let bytes = files.iter().map(|file| file.bytes).sum();
        let incoming = Incoming::open(&self.root, &name)?;
        incoming.clear()?;
        if import.take == Take::Copy {
            expect_room(&name, bytes, incoming.folder())?;
        }
        watch(&Progress::Listed {
            name: &name.to_string(),
            revision: "",
            n_files: files.len(),
            bytes,
        });
        let taken = take(&folder, incoming.folder(), files, import.take, watch);
        let stored = match taken {
            Ok(stored) => stored,
            Err(error) => {
                incoming.discard()?;
                return Err(error);
            }
        };
        let source = Source {
            name: &name,
            origin,
            shape: chosen.shape,
        };
        self.settle(incoming, &source, stored, loader)
    }

    /// The model that has this name already, if it is whole and from the same place.
    fn taken(&self, name: &ModelName, origin: &str) -> Result<Option<Model>, ModelsError> {
        let text = name.to_string();
        let models = self.list()?;
        let Some(model) = models.iter().find(|m| m.name.eq_ignore_ascii_case(&text)) else {
            return Ok(None);
        };
        if model.origin != origin {
            return Err(ModelsError::Exists {
                name: text,
                origin: model.origin.clone(),
            });
        }
        let (model, _) = self.locate(&model.name)?;
        Ok(Some(model))
    }

    /// Asks the loader, writes the card, gives the model its place and records it.
    fn settle(
        &self,
        incoming: Incoming,
        source: &Source<'_>,
        mut files: Vec<StoredFile>,
        loader: &dyn Loader,
    ) -> Result<Added, ModelsError> {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let folder = incoming.folder();
        let gguf = files
            .iter()
            .find(|file| source.shape == Shape::Gguf && is_gguf(&file.name));
        let path = gguf.map_or_else(|| folder.to_owned(), |file| folder.join(&file.name));
        let facts = loader
            .facts(&path)
            .map_err(|error| refused(source.name, error))?;
        let card = card::of_folder(folder);
        let base_model = card.base_models.join(", ");
        let model = Model {
            name: source.name.to_string(),
            facts,
            bytes: files.iter().map(|file| file.bytes).sum(),
            origin: source.origin.clone(),
            licence: card.licence,
            base_model: (!base_model.is_empty()).then_some(base_model),
            method: card.method,
            added: unix_seconds(),
            files,
        };
        incoming.finish(&model, &self.folder(source.name)?)?;
        self.records.add(&model)?;
        Ok(Added::New(model))
    }
}

fn refused(name: &ModelName, source: super::BoxError) -> ModelsError {
    ModelsError::Refused {
        name: name.to_string(),
        source,
    }
}

fn source_error(path: &Path, message: &str) -> ModelsError {
    ModelsError::Source {
        path: path.to_owned(),
        message: message.to_owned(),
    }
}

/// The name of what was chosen on the hub: the repository's in full, with the GGUF file's tag.
fn hub_name(listing: &Listing, chosen: &Chosen) -> Result<ModelName, ModelsError> {
    match (chosen.shape, chosen.weights.as_slice()) {
        (Shape::Gguf, [file]) => format!("{}:{}", listing.id, tag(&listing.id, file)).parse(),
        _ => listing.id.parse(),
    }
}

/// The name that a folder or file has where it lies.
fn own_name(path: &Path, shape: Shape) -> String {
    let name = match shape {
        Shape::Gguf if path.is_file() => path.file_stem(),
        _ => path.file_name(),
    };
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// What of a local folder or file is the model, and the folder it lies in.
fn local(path: &Path) -> Result<(PathBuf, Chosen), ModelsError> {
    if path.is_file() {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default().to_owned();
        if !name.to_ascii_lowercase().ends_with(".gguf") {
            return Err(source_error(path, "expected a folder or a .gguf file"));
        }
        let choice = Choice::Gguf(name.clone());
        let mut chosen =
            choose(&[&name], &choice, None).map_err(|message| source_error(path, &message))?;
        // The README beside a single file may be anyone's.
        chosen.small.clear();
        let folder = path.parent().unwrap_or(Path::new("/"));
        return Ok((folder.to_owned(), chosen));
    }
    let names: Vec<String> = entries(path)?
        .iter()
        .filter(|entry| entry.is_file())
        .filter_map(|entry| entry.file_name()?.to_str().map(str::to_owned))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let index = if names.contains(&INDEX) {
        let limit = usize::try_from(MAX_SMALL_BYTES).unwrap_or(usize::MAX);
        Some(read_text(&path.join(INDEX), limit)?)
    } else {
        None
    };
    let chosen = choose(&names, &Choice::Only, index.as_deref().map(str::as_bytes))
        .map_err(|message| source_error(path, &message))?;
    Ok((path.to_owned(), chosen))
}

/// The chosen files with their lengths; their digests are found as they are taken.
fn measured(folder: &Path, chosen: &Chosen) -> Result<Vec<StoredFile>, StoreError> {
    let names = chosen.small.iter().chain(&chosen.weights);
    names
        .map(|name| {
            let path = folder.join(name);
            Ok(StoredFile {
                name: name.clone(),
                bytes: path.metadata().at("read", &path)?.len(),
                sha256: String::new(),
            })
        })
        .collect()
}

fn expect_room(name: &ModelName, bytes: u64, to: &Path) -> Result<(), ModelsError> {
    match free_bytes(to).at("measure", to)? {
        Some(free) if bytes > free => Err(ModelsError::Hub(HubError::Room {
            name: name.to_string(),
            needed: bytes,
            most: free,
            limit: "free on this disk",
        })),
        _ => Ok(()),
    }
}

/// Copies or links files and returns them with their digests.
fn take(
    from: &Path,
    to: &Path,
    mut files: Vec<StoredFile>,
    take: Take,
    watch: &mut Watch<'_>,
) -> Result<Vec<StoredFile>, ModelsError> {
    for file in &mut files {
        // Folders of the hub's cache hold links; what they lead to is what is taken.
        let source = from.join(&file.name);
        let source = fs::canonicalize(&source).at("read", &source)?;
        let target = to.join(&file.name);
        let mut open = File::open(&source).at("read", &source)?;
        file.sha256 = match take {
            Take::Link => {
                fs::hard_link(&source, &target).map_err(|error| {
                    source_error(
                        &source,
                        &format!(
                            "expected to link it on the same disk, got {error}; copy it instead"
                        ),
                    )
                })?;
                hashed(&mut open, &source, file, watch, &mut |_| Ok(()))?
            }
            Take::Copy => {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true);
                let mut copy = options.open(&target).at("write", &target)?;
                let mut write = |bytes: &[u8]| copy.write_all(bytes).at("write", &target);
                let sha256 = hashed(&mut open, &source, file, watch, &mut write)?;
                copy.sync_all().at("sync", &target)?;
                sha256
            }
        };
    }
    Ok(files)
}
