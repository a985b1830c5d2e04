//! Checkpoints that survive a kill at any moment and tell when they are damaged.
//!
//! A checkpoint is a folder of named files: `checkpoints/STAGE/step-0000000120` to resume a stage,
//! `checkpoints/STAGE/final` for what it leaves. It is written under a temporary name, every file
//! synced; `manifest.json` with the SHA-256 of each file comes last; then the folder is renamed.
//! So a folder with a proper name is whole, and one that is not whole is not seen. What the files
//! mean (weights, optimiser, random states) is the trainer's business.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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

/// The digests of a checkpoint, in `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    stage: String,
    position: Position,
    files: Vec<FileDigest>,
    /// SHA-256 of this manifest with this field empty.
    digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDigest {
    name: String,
    bytes: u64,
    sha256: String,
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

impl Manifest {
    fn own_digest(&self, path: &Path) -> Result<String, StoreError> {
        let bare = Self {
            digest: String::new(),
            ..self.clone()
        };
        let bytes = serde_json::to_vec(&bare).map_err(|error| StoreError::Line {
            path: path.into(),
            message: error.to_string(),
        })?;
        Ok(hex(&Sha256::digest(bytes)))
    }
}

fn write_files<'a>(
    folder: &Path,
    stage: &str,
    position: Position,
    files: impl IntoIterator<Item = CheckpointFile<'a>>,
) -> Result<Manifest, StoreError> {
    let mut digests: Vec<FileDigest> = Vec::new();
    for file in files {
        plain_name(folder, &file.name)?;
        if file.name == MANIFEST || digests.iter().any(|other| other.name == file.name) {
            let message = format!("expected a file name of its own, got `{}` again", file.name);
            return Err(StoreError::Refused {
                path: folder.into(),
                message,
            });
        }
        let path = folder.join(&file.name);
        digests.push(write_file(&path, file).at("write", &path)?);
    }
    let mut manifest = Manifest {
        version: 1,
        stage: stage.into(),
        position,
        files: digests,
        digest: String::new(),
    };
    manifest.digest = manifest.own_digest(folder)?;
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(|error| StoreError::Line {
        path: folder.into(),
        message: error.to_string(),
    })?;
    let path = folder.join(MANIFEST);
    let content = CheckpointFile {
        name: MANIFEST.into(),
        content: Content::Bytes(bytes),
    };
    write_file(&path, content).at("write", &path)?;
    Ok(manifest)
}

fn write_file(path: &Path, file: CheckpointFile<'_>) -> io::Result<FileDigest> {
    let mut out = BufWriter::with_capacity(1 << 16, File::create_new(path)?);
    let mut hashing = Hashing::new(&mut out);
    match file.content {
        Content::Bytes(bytes) => hashing.write_all(&bytes)?,
        Content::Writer(write) => write(&mut hashing)?,
    }
    let (bytes, sha256) = hashing.finish();
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()?;
    Ok(FileDigest {
        name: file.name,
        bytes,
        sha256,
    })
}

/// Counts and digests what passes through.
struct Hashing<'a> {
    into: &'a mut dyn Write,
    bytes: u64,
    sha: Sha256,
}

impl<'a> Hashing<'a> {
    fn new(into: &'a mut dyn Write) -> Self {
        Self {
            into,
            bytes: 0,
            sha: Sha256::new(),
        }
    }

    fn finish(self) -> (u64, String) {
        (self.bytes, hex(&self.sha.finalize()))
    }
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.sha.update(bytes.get(..written).unwrap_or(bytes));
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
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
mod tests {
    use super::*;

    fn at(step: u64) -> Position {
        Position {
            step,
            journal_bytes: step * 10,
            samples_bytes: step,
        }
    }

    fn files(step: u64) -> Vec<CheckpointFile<'static>> {
        vec![
            CheckpointFile {
                name: "model.safetensors".into(),
                content: Content::Writer(Box::new(move |out| {
                    (0..5_000_u64).try_for_each(|word| out.write_all(&(word ^ step).to_le_bytes()))
                })),
            },
            CheckpointFile {
                name: "rng.json".into(),
                content: Content::Bytes(b"[1,2]".to_vec()),
            },
        ]
    }

    fn three() -> (tempfile::TempDir, Checkpoints) {
        let home = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(home.path(), 3);
        for step in [10, 20, 30] {
            checkpoints
                .write_step("base", at(step), files(step))
                .unwrap();
        }
        (home, checkpoints)
    }

    fn flip(path: &Path, byte: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[byte] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    fn found_step(checkpoints: &Checkpoints) -> (Option<u64>, Vec<String>) {
        let found = checkpoints.latest_good("base").unwrap();
        (
            found
                .checkpoint
                .map(|checkpoint| checkpoint.position().step),
            found.warnings,
        )
    }

    #[test]
    fn what_was_written_is_read() {
        let (_home, checkpoints) = three();
        let found = checkpoints.latest_good("base").unwrap();
        let checkpoint = found.checkpoint.unwrap();
        assert_eq!(checkpoint.position(), at(30));
        assert!(!checkpoint.is_final());
        assert_eq!(
            checkpoint.names().collect::<Vec<_>>(),
            ["model.safetensors", "rng.json"]
        );
        assert_eq!(checkpoint.read("rng.json").unwrap(), b"[1,2]");
        assert_eq!(checkpoint.read("model.safetensors").unwrap().len(), 40_000);
        let error = checkpoint.read("other").unwrap_err().to_string();
        assert!(
            error.ends_with("expected one of model.safetensors, rng.json, got `other`"),
            "{error}"
        );
    }

    #[test]
    fn any_flipped_byte_sends_back_to_the_one_before() {
        let (home, checkpoints) = three();
        let newest = home.path().join("base/step-0000000030");
        for name in ["model.safetensors", "rng.json", MANIFEST] {
            let path = newest.join(name);
            let size = fs::read(&path).unwrap().len();
            for byte in (0..size).step_by((size / 13).max(1)) {
                flip(&path, byte);
                let (step, warnings) = found_step(&checkpoints);
                assert_eq!(step, Some(20), "{name} byte {byte}");
                assert_eq!(warnings.len(), 1);
                assert!(
                    warnings[0].contains("step-0000000030 is damaged: "),
                    "{warnings:?}"
                );
                assert!(
                    warnings[0].ends_with("; the one before it is used"),
                    "{warnings:?}"
                );
                flip(&path, byte);
            }
        }
        assert_eq!(found_step(&checkpoints), (Some(30), Vec::new()));
    }

    #[test]
    fn cut_and_missing_files_send_back_too() {
        for damage in 0..5 {
            let (home, checkpoints) = three();
            let newest = home.path().join("base/step-0000000030");
            let cut = |name: &str, bytes: u64| {
                File::options()
                    .write(true)
                    .open(newest.join(name))
                    .unwrap()
                    .set_len(bytes)
                    .unwrap();
            };
            match damage {
                0 => cut(MANIFEST, 100),
                1 => cut(MANIFEST, 0),
                2 => fs::remove_file(newest.join(MANIFEST)).unwrap(),
                3 => cut("model.safetensors", 39_999),
                _ => fs::remove_file(newest.join("rng.json")).unwrap(),
            }
            let (step, warnings) = found_step(&checkpoints);
            assert_eq!(
                (step, warnings.len()),
                (Some(20), 1),
                "damage {damage}: {warnings:?}"
            );
        }
    }

    #[test]
    fn when_all_are_damaged_the_stage_starts_again_and_says_so() {
        let (home, checkpoints) = three();
        for step in [10, 20, 30] {
            flip(
                &home
                    .path()
                    .join(format!("base/step-{step:010}/model.safetensors")),
                77,
            );
        }
        let (step, warnings) = found_step(&checkpoints);
        assert_eq!((step, warnings.len()), (None, 3));
        assert!(
            warnings[0].ends_with("the one before it is used"),
            "{warnings:?}"
        );
        assert!(
            warnings[2].ends_with(
                "the bytes of model.safetensors do not match their digest; none is left, so stage \
                 `base` starts again"
            ),
            "{warnings:?}"
        );
        assert_eq!(
            Checkpoints::new(home.path(), 2)
                .latest_good("other")
                .unwrap()
                .warnings
                .len(),
            0
        );
    }

    #[test]
    fn a_kill_while_writing_leaves_the_last_one_in_use() {
        let (home, checkpoints) = three();
        // As a kill leaves it: half the files, no manifest, the temporary name.
        let half = home.path().join("base/.tmp-step-0000000040");
        fs::create_dir(&half).unwrap();
        fs::write(half.join("model.safetensors"), b"half").unwrap();
        fs::create_dir(home.path().join("base/.old-step-0000000005")).unwrap();
        assert_eq!(found_step(&checkpoints), (Some(30), Vec::new()));
        checkpoints.write_step("base", at(40), files(40)).unwrap();
        assert_eq!(found_step(&checkpoints), (Some(40), Vec::new()));
        let mut names: Vec<_> = listed(&home.path().join("base"))
            .unwrap()
            .into_iter()
            .map(|p| p.file_name().unwrap().to_owned())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["step-0000000020", "step-0000000030", "step-0000000040"]
        );
    }

    #[test]
    fn a_failed_write_changes_nothing() {
        let (home, checkpoints) = three();
        let failing = CheckpointFile {
            name: "model.safetensors".into(),
            content: Content::Writer(Box::new(|out| {
                out.write_all(b"part")?;
                Err(io::Error::from(io::ErrorKind::StorageFull))
            })),
        };
        let error = checkpoints
            .write_step("base", at(40), [failing])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the disk is full, expected room for it"),
            "{error}"
        );
        assert_eq!(listed(&home.path().join("base")).unwrap().len(), 3);
        assert_eq!(found_step(&checkpoints), (Some(30), Vec::new()));
    }

    #[test]
    fn the_same_step_replaces_a_damaged_one() {
        let (home, checkpoints) = three();
        flip(
            &home.path().join("base/step-0000000030/model.safetensors"),
            5,
        );
        checkpoints.write_step("base", at(30), files(30)).unwrap();
        assert_eq!(found_step(&checkpoints), (Some(30), Vec::new()));
    }

    #[test]
    fn final_checkpoints_are_written_once_and_used_first() {
        let (home, checkpoints) = three();
        assert!(checkpoints.final_of("base").unwrap().is_none());
        checkpoints.write_final("base", at(33), files(33)).unwrap();
        assert!(checkpoints.final_of("base").unwrap().unwrap().is_final());
        assert_eq!(found_step(&checkpoints), (Some(33), Vec::new()));
        let error = checkpoints
            .write_final("base", at(34), files(34))
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("expected to write it once, but a good one is there"),
            "{error}"
        );
        flip(&home.path().join("base/final/rng.json"), 1);
        assert!(checkpoints.final_of("base").is_err());
        assert_eq!(found_step(&checkpoints).0, Some(30));
        checkpoints.write_final("base", at(33), files(33)).unwrap();
        assert_eq!(found_step(&checkpoints), (Some(33), Vec::new()));
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let (_home, checkpoints) = three();
        for name in [
            "",
            "..",
            "../x",
            "a/b",
            ".hidden",
            "a\\b",
            "a\nb",
            MANIFEST,
            &"a".repeat(129),
        ] {
            let file = CheckpointFile {
                name: name.into(),
                content: Content::Bytes(Vec::new()),
            };
            let error = checkpoints.write_step("base", at(40), [file]).unwrap_err();
            assert!(
                matches!(error, StoreError::Refused { .. }),
                "{name}: {error}"
            );
        }
        assert!(checkpoints.latest_good("../base").is_err());
        let twice = files(1).into_iter().chain(files(1));
        assert!(checkpoints.write_step("base", at(40), twice).is_err());
    }
}
