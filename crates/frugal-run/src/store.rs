//! Why bytes could not be kept or trusted, and the few file operations that the folder, the
//! checkpoints and the journal share.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;

/// How often somebody who waits looks whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Why a run folder, a checkpoint or a journal could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {action} {}: {}", path.display(), reason(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process works in the folder.
    #[error("run folder {} is in use{holder}, expected no other process in it", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// ` by process N`, where known.
        holder: String,
    },
    /// A new run was to go where one is.
    #[error("{} already holds a run, expected a new folder, or --resume to continue it", .0.display())]
    RunExists(PathBuf),
    /// No run is where one was to be continued.
    #[error("{} holds no run, expected a folder with recipe.toml", .0.display())]
    NoRun(PathBuf),
    /// A run was to be stopped that does not run.
    #[error("no process works in {}, expected a run to stop", .0.display())]
    NotRunning(PathBuf),
    /// The run was started with other settings.
    #[error("the run in {} was started with `{was}`, expected the same settings to continue it, got `{now}`", path.display())]
    OtherRecipe {
        /// The folder.
        path: PathBuf,
        /// The first line that differs, as the run has it.
        was: String,
        /// The same line now.
        now: String,
    },
    /// Somebody asked to stop.
    #[error("stopped before the end, as asked")]
    Stopped,
    /// Bytes are not what was written.
    #[error("{} is damaged: {message}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and what came.
        message: String,
    },
    /// A name that is no plain file name, or a folder that must stay as it is.
    #[error("checkpoint {}: {message}", path.display())]
    Refused {
        /// The checkpoint.
        path: PathBuf,
        /// What was expected and what came.
        message: String,
    },
    /// A record could not be written as JSON.
    #[error("cannot write a line of {}: {message}", path.display())]
    Line {
        /// The journal.
        path: PathBuf,
        /// What the writer says.
        message: String,
    },
}

/// The system's answer in words of the person whose disk it is.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full, expected room for it; free some and continue with --resume".into()
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "the folder is read-only, expected one that this user may write to".into()
        }
        _ => error.to_string(),
    }
}

/// Names the action and the path of a failed file operation.
pub(crate) trait At<T> {
    /// Turns a system error into a [`StoreError`].
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io {
            action,
            path: path.into(),
            source,
        })
    }
}

/// Asks long work with files to stop, from another thread. What it has done by then stays.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks to stop.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Refuses to go on once somebody asked.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.is_asked() {
            Err(StoreError::Stopped)
        } else {
            Ok(())
        }
    }

    /// Waits so long, or until somebody asks.
    pub(crate) fn sleep(&self, pause: Duration) -> Result<(), StoreError> {
        let mut left = pause;
        while !left.is_zero() {
            self.check()?;
            let part = left.min(LOOK);
            std::thread::sleep(part);
            left -= part;
        }
        self.check()
    }
}

/// The SHA-256 of some parts in their order, each behind its length, in hexadecimal digits.
#[must_use]
pub fn digest_of(parts: &[&[u8]]) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    hex(&sha.finalize())
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    // Only Unix opens folders as files; elsewhere renames are durable enough by themselves.
    if cfg!(unix) {
        File::open(path)
            .and_then(|folder| folder.sync_all())
            .at("sync", path)?;
    }
    Ok(())
}

/// Reads a text of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: usize) -> Result<String, StoreError> {
    let mut text = String::new();
    let file = File::open(path).at("read", path)?;
    file.take(limit as u64 + 1)
        .read_to_string(&mut text)
        .at("read", path)?;
    if text.len() > limit {
        let message = format!("expected at most {limit} bytes, got more");
        return Err(StoreError::Damaged {
            path: path.into(),
            message,
        });
    }
    Ok(text)
}

/// Replaces a file so that a reader sees the old or the new bytes, never a part.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().at("write", path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_answers_become_sentences() {
        let say = |kind: io::ErrorKind| {
            let error: StoreError = Err::<(), _>(io::Error::from(kind))
                .at("write", Path::new("runs/a"))
                .unwrap_err();
            error.to_string()
        };
        let full = "cannot write runs/a: the disk is full, expected room for it; free some and \
                    continue with --resume";
        assert_eq!(say(io::ErrorKind::StorageFull), full);
        let read_only = "cannot write runs/a: the folder is read-only, expected one that this \
                         user may write to";
        assert_eq!(say(io::ErrorKind::ReadOnlyFilesystem), read_only);
        assert_eq!(say(io::ErrorKind::PermissionDenied), read_only);
    }

    #[test]
    fn a_wait_ends_when_somebody_asks() {
        let stop = Stop::default();
        assert!(stop.sleep(Duration::from_millis(1)).is_ok());
        let asked = stop.clone();
        let waiting = std::thread::spawn(move || stop.sleep(Duration::from_mins(1)));
        asked.ask();
        let ended = waiting.join().unwrap();
        assert!(matches!(ended, Err(StoreError::Stopped)), "{ended:?}");
    }

    #[test]
    fn a_replaced_file_is_whole_and_leaves_nothing_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("report.html");
        replace_file(&path, b"old").unwrap();
        replace_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
