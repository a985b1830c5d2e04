//! Checkpoints that survive a kill at any moment and tell when they are damaged.
//!
//! A checkpoint is a folder of named files: `checkpoints/STAGE/step-0000000120` to resume a stage,
//! `checkpoints/STAGE/final` for what it leaves. It is written under a temporary name, every file
//! synced; `manifest.json` with the SHA-256 of each file comes last; then the folder is renamed.
//! So a folder with a proper name is whole, and one that is not whole is not seen. What the files
//! mean (weights, optimiser, random states) is the trainer's business.

mod manifest;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use manifest::{FileDigest, Hashing, Manifest, write_files};

use crate::store::{At, StoreError, sync_folder};

const MANIFEST: &str = "manifest.json";
const FINAL: &str = "final";
/// Largest manifest that is read: thousands of files.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Where a stage stood when the checkpoint was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Steps done.
    pub step: u64,
    /// Position of `journal.jsonl`, from [`crate::journal::Journal::sync`].
    pub journal_bytes: u64,
    /// Position of `samples.jsonl`.
    pub samples_bytes: u64,
}

/// One file to write.
pub struct CheckpointFile<'a> {
    /// Its plain name.
    pub name: String,
    /// Its bytes.
    pub content: Content<'a>,
}

/// Bytes, or what writes them, so that weights need not be in memory twice.
pub enum Content<'a> {
    /// The bytes themselves.
    Bytes(Vec<u8>),
    /// Called once with the open file.
    Writer(WriteContent<'a>),
}

/// Writes the content of a file.
pub type WriteContent<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

impl std::fmt::Debug for CheckpointFile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointFile")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bytes(_) => "Bytes",
            Self::Writer(_) => "Writer",
        })
    }
}

/// A checkpoint whose digests were right when it was found.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
}

/// What the search for a checkpoint brought.
#[derive(Debug)]
pub struct Found {
    /// The newest good one, if any.
    pub checkpoint: Option<Checkpoint>,
    /// One sentence for each damaged one that was stepped over, newest first.
    pub warnings: Vec<String>,
}

/// The checkpoints of a run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    root: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// The checkpoints under `root`, of which `keep` resume states are kept per stage, two at
    /// least: the newest may turn out damaged.
    #[must_use]
    pub fn new(root: &Path, keep: u32) -> Self {
        Self {
            root: root.into(),
            keep: usize::try_from(keep).unwrap_or(usize::MAX).max(2),
        }
    }

    /// Writes a resume state, then removes those past the newest `keep`.
    ///
    /// # Errors
    /// A disk that is full or cannot be written, a name that is no plain file name.
    pub fn write_step<'a>(
        &self,
        stage: &str,
        position: Position,
        files: impl IntoIterator<Item = CheckpointFile<'a>>,
    ) -> Result<Checkpoint, StoreError> {
        let checkpoint = self.write(stage, &step_name(position.step), position, files)?;
        for (_, old) in self.steps(stage)?.iter().rev().skip(self.keep) {
            remove(old)?;
        }
        Ok(checkpoint)
    }

    /// Writes what the stage leaves. A good one that is there already stays as it is.
    ///
    /// # Errors
    /// As [`Self::write_step`], and a final checkpoint that is there and good.
    pub fn write_final<'a>(
        &self,
        stage: &str,
        position: Position,
        files: impl IntoIterator<Item = CheckpointFile<'a>>,
    ) -> Result<Checkpoint, StoreError> {
        let path = self.stage_path(stage)?.join(FINAL);
        if path.exists() && Checkpoint::open(&path, stage).is_ok() {
            let message = "expected to write it once, but a good one is there".into();
            return Err(StoreError::Refused { path, message });
        }
        self.write(stage, FINAL, position, files)
    }

    /// The final checkpoint of a stage, `None` where it has none yet.
    ///
    /// # Errors
    /// One that is damaged.
    pub fn final_of(&self, stage: &str) -> Result<Option<Checkpoint>, StoreError> {
        let path = self.stage_path(stage)?.join(FINAL);
        if path.exists() {
            Checkpoint::open(&path, stage).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Removes all that a stage has left: it is to be made again.
    ///
    /// # Errors
    /// A folder that cannot be removed.
    pub fn forget(&self, stage: &str) -> Result<(), StoreError> {
        let path = self.stage_path(stage)?;
        if path.exists() { remove(&path) } else { Ok(()) }
    }

    /// The newest checkpoint of a stage whose digests are right: the final one, else the resume
    /// state of the highest step. Damaged ones are stepped over and named in the warnings.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn latest_good(&self, stage: &str) -> Result<Found, StoreError> {
        let mut candidates: Vec<PathBuf> = self
            .steps(stage)?
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        let last = self.stage_path(stage)?.join(FINAL);
        if last.exists() {
            candidates.push(last);
        }
        let mut warnings = Vec::new();
        for path in candidates.iter().rev() {
            match Checkpoint::open(path, stage) {
                Ok(checkpoint) => {
                    return Ok(Found {
                        checkpoint: Some(checkpoint),
                        warnings,
                    });
                }
                Err(error) => warnings.push(format!("{error}; the one before it is used")),
            }
        }
        if let Some(oldest) = warnings.last_mut() {
            let damage = oldest.trim_end_matches("; the one before it is used");
            *oldest = format!("{damage}; none is left, so stage `{stage}` starts again");
        }
        Ok(Found {
            checkpoint: None,
            warnings,
        })
    }

    fn stage_path(&self, stage: &str) -> Result<PathBuf, StoreError> {
        plain_name(&self.root, stage)?;
        Ok(self.root.join(stage))
    }

    /// Resume states by ascending step. Temporary folders have other names and are not seen.
    fn steps(&self, stage: &str) -> Result<Vec<(u64, PathBuf)>, StoreError> {
        let folder = self.stage_path(stage)?;
        let mut steps = Vec::new();
        for path in listed(&folder)? {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let step = name
                .strip_prefix("step-")
                .and_then(|step| step.parse().ok());
            if let Some(step) = step.filter(|step| step_name(*step) == name) {
                steps.push((step, path));
            }
        }
        steps.sort();
        Ok(steps)
    }

    fn write<'a>(
        &self,
        stage: &str,
        name: &str,
        position: Position,
        files: impl IntoIterator<Item = CheckpointFile<'a>>,
    ) -> Result<Checkpoint, StoreError> {
        let folder = self.stage_path(stage)?;
        fs::create_dir_all(&folder).at("make", &folder)?;
        sync_folder(&self.root)?;
        clear_leftovers(&folder)?;
        let temporary = folder.join(format!(".tmp-{name}"));
        fs::create_dir(&temporary).at("make", &temporary)?;
        let written = write_files(&temporary, stage, position, files);
        let manifest = match written {
            Ok(manifest) => manifest,
            Err(error) => {
                // Gives the room back; what cannot be removed is removed by the next write.
                if let Err(second) = fs::remove_dir_all(&temporary) {
                    tracing::debug!(%second, "a half-written checkpoint was left behind");
                }
                return Err(error);
            }
        };
        sync_folder(&temporary)?;
        let path = folder.join(name);
        if path.exists() {
            // A damaged one, or one that was stepped over: the same step was reached again.
            remove(&path)?;
        }
        fs::rename(&temporary, &path).at("write", &path)?;
        sync_folder(&folder)?;
        Ok(Checkpoint { path, manifest })
    }
}

impl Checkpoint {
    /// Opens one checkpoint folder and checks every digest.
    ///
    /// # Errors
    /// Says which file is not what was written.
    fn open(path: &Path, stage: &str) -> Result<Self, StoreError> {
        let damaged = |message: String| StoreError::Damaged {
            path: path.into(),
            message,
        };
        let manifest_path = path.join(MANIFEST);
        let mut text = Vec::new();
        File::open(&manifest_path)
            .and_then(|file| file.take(MAX_MANIFEST_BYTES).read_to_end(&mut text))
            .map_err(|error| damaged(format!("{MANIFEST} cannot be read: {error}")))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| damaged(format!("{MANIFEST} is not a manifest: {error}")))?;
        if manifest.version != 1 {
            let got = manifest.version;
            return Err(damaged(format!(
                "expected {MANIFEST} of version 1, got {got}"
            )));
        }
        if manifest.digest != manifest.own_digest(path)? {
            return Err(damaged(format!("{MANIFEST} does not match its own digest")));
        }
        if manifest.stage != stage {
            let got = &manifest.stage;
            return Err(damaged(format!(
                "expected a checkpoint of stage `{stage}`, got `{got}`"
            )));
        }
        let checkpoint = Self {
            path: path.into(),
            manifest,
        };
        for file in &checkpoint.manifest.files {
            plain_name(path, &file.name)?;
            checkpoint.check(file, &mut io::sink())?;
        }
        Ok(checkpoint)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the stage stood.
    #[must_use]
    pub fn position(&self) -> Position {
        self.manifest.position
    }

    /// Whether it is what the stage leaves, rather than a state to resume from.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.path.ends_with(FINAL)
    }

    /// The names of its files, in the order of writing.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.manifest.files.iter().map(|file| file.name.as_str())
    }

    /// The bytes of a file, checked once more against its digest.
    ///
    /// # Errors
    /// A file it does not have, or that was damaged since.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let Some(file) = self.manifest.files.iter().find(|file| file.name == name) else {
            let known: Vec<&str> = self.names().collect();
            let message = format!("expected one of {}, got `{name}`", known.join(", "));
            return Err(StoreError::Refused {
                path: self.path.clone(),
                message,
            });
        };
        let mut bytes = Vec::new();
        self.check(file, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies a file into `into` while comparing its length and digest. Never reads more than the
    /// manifest says.
    fn check(&self, file: &FileDigest, into: &mut dyn Write) -> Result<(), StoreError> {
        let path = self.path.join(&file.name);
        let damaged = |message: String| StoreError::Damaged {
            path: self.path.clone(),
            message,
        };
        let name = &file.name;
        let opened = File::open(&path)
            .map_err(|error| damaged(format!("{name} cannot be read: {error}")))?;
        let mut hashing = Hashing::new(into);
        io::copy(&mut opened.take(file.bytes.saturating_add(1)), &mut hashing)
            .map_err(|error| damaged(format!("{name} cannot be read: {error}")))?;
        let (bytes, sha256) = hashing.finish();
        if bytes != file.bytes {
            let got = if bytes > file.bytes {
                "more".into()
            } else {
                bytes.to_string()
            };
            return Err(damaged(format!(
                "expected {} bytes of {name}, got {got}",
                file.bytes
            )));
        }
        if sha256 != file.sha256 {
            return Err(damaged(format!(
                "the bytes of {name} do not match their digest"
            )));
        }
        Ok(())
    }
}

fn step_name(step: u64) -> String {
    format!("step-{step:010}")
}

/// A name that stays inside its folder on every system, and that is never hidden.
fn plain_name(path: &Path, name: &str) -> Result<(), StoreError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.is_empty() && !name.starts_with('.') && name.len() <= 128 && name.chars().all(fits) {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    let message = format!(
        "expected a name of letters, digits, `.`, `_` and `-`, got `{}`",
        shown.escape_debug()
    );
    Err(StoreError::Refused {
        path: path.into(),
        message,
    })
}

/// The entries of a folder; none where there is no folder.
fn listed(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).at("list", folder),
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()).at("list", folder))
        .collect()
}

/// Removes a checkpoint by way of another name, so that a kill leaves no half of it in sight.
fn remove(path: &Path) -> Result<(), StoreError> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let aside = path.with_file_name(format!(".old-{name}"));
    if aside.exists() {
        fs::remove_dir_all(&aside).at("remove", &aside)?;
    }
    fs::rename(path, &aside).at("remove", path)?;
    fs::remove_dir_all(&aside).at("remove", &aside)
}

/// Removes what a kill left behind.
fn clear_leftovers(folder: &Path) -> Result<(), StoreError> {
    for path in listed(folder)? {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with(".tmp-") || name.starts_with(".old-") {
            fs::remove_dir_all(&path).at("remove", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
