//! The folder of one run and who may work in it.
//!
//! `recipe.toml` as resolved, `journal.jsonl`, `samples.jsonl`, `timings.jsonl`, `checkpoints/`,
//! `report.html`. One process at a time: the folder is locked while a [`RunFolder`] lives, and the
//! system releases the lock when the process ends, however it ends. Who wants the run to stop leaves
//! a [`StopRequest`], at which the run looks between steps.
//! What is inside the files: [`crate::journal`], [`crate::checkpoint`].

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::checkpoint::Checkpoints;
use crate::inside::Inside;
use crate::journal::Journal;
use crate::recipe::MAX_RECIPE_BYTES;
use crate::store::{At, StoreError, read_text, replace_file};

/// The file that is locked while somebody works in the folder.
const LOCK: &str = ".lock";
/// The file that asks the run to stop.
const STOP: &str = ".stop";
/// Who only looks whether a folder is in use holds its lock for a moment, which is sat out.
const LOCK_TRIES: usize = 6;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A locked run folder.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    // Held for its lock.
    _lock: File,
}

impl RunFolder {
    /// Makes the folder of a new run and writes its resolved recipe.
    ///
    /// # Errors
    /// A folder that holds a run already, is in use, or cannot be written.
    pub fn create(path: &Path, recipe_toml: &str) -> Result<Self, StoreError> {
        fs::create_dir_all(path).at("make the run folder", path)?;
        let folder = Self::lock(path)?;
        if folder.recipe_path().exists() {
            return Err(StoreError::RunExists(path.into()));
        }
        let checkpoints = path.join("checkpoints");
        fs::create_dir_all(&checkpoints).at("make", &checkpoints)?;
        // Written last: a folder with a recipe is a run.
        replace_file(&folder.recipe_path(), recipe_toml.as_bytes())?;
        Ok(folder)
    }

    /// Opens the folder of a run that was started before.
    ///
    /// # Errors
    /// A folder without a run, or in use.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.join("recipe.toml").is_file() {
            return Err(StoreError::NoRun(path.into()));
        }
        Self::lock(path)
    }

    fn lock(path: &Path) -> Result<Self, StoreError> {
        let name = path.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(&name).at("open", &name)?;
        match lock_patiently(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let is_read = (&lock).take(20).read_to_string(&mut holder).is_ok();
                let pid = holder.trim().parse::<u32>().ok().filter(|_| is_read);
                let holder = pid.map_or_else(String::new, |pid| format!(" by process {pid}"));
                return Err(StoreError::InUse {
                    path: path.into(),
                    holder,
                });
            }
            Err(TryLockError::Error(error)) => return Err(error).at("lock", &name),
        }
        let mut write = || {
            lock.set_len(0)?;
            writeln!(lock, "{}", std::process::id())
        };
        write().at("write", &name)?;
        let folder = Self {
            path: path.into(),
            _lock: lock,
        };
        // What was asked of the process before is not asked of this one.
        folder.stop_request().take()?;
        Ok(folder)
    }

    /// Whether a process works in the folder now. Nothing is written, and no link is followed.
    #[must_use]
    pub fn is_in_use(path: &Path) -> bool {
        let Ok(lock) = Inside::new(path).open(&[LOCK]) else {
            return false;
        };
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Where people ask this run to stop.
    #[must_use]
    pub fn stop_request(&self) -> StopRequest {
        StopRequest {
            path: self.path.join(STOP),
        }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn recipe_path(&self) -> PathBuf {
        self.path.join("recipe.toml")
    }

    /// Where the report goes.
    #[must_use]
    pub fn report_path(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The resolved recipe the run was started with.
    ///
    /// # Errors
    /// A recipe that cannot be read or is larger than any.
    pub fn recipe_toml(&self) -> Result<String, StoreError> {
        read_text(&self.recipe_path(), MAX_RECIPE_BYTES)
    }

    /// Refuses to continue the run with other settings than it was started with.
    ///
    /// # Errors
    /// Shows the first line that differs.
    pub fn expect_recipe(&self, recipe_toml: &str) -> Result<(), StoreError> {
        let started = self.recipe_toml()?;
        if started == recipe_toml {
            return Ok(());
        }
        let (mut was, mut now) = (started.lines(), recipe_toml.lines());
        let (was, now) = loop {
            match (was.next(), now.next()) {
                (None, None) => break ("", ""),
                (was, now) if was != now => break (was.unwrap_or(""), now.unwrap_or("")),
                _ => {}
            }
        };
        Err(StoreError::OtherRecipe {
            path: self.path.clone(),
            was: was.into(),
            now: now.into(),
        })
    }

    /// The metrics: the same bytes for the same recipe, seed and machine kind.
    ///
    /// # Errors
    /// A journal that cannot be opened.
    pub fn journal(&self) -> Result<Journal, StoreError> {
        Journal::open(&self.path.join("journal.jsonl"))
    }

    /// Prompts and samples followed through the stages, as repeatable as the journal.
    ///
    /// # Errors
    /// A journal that cannot be opened.
    pub fn samples(&self) -> Result<Journal, StoreError> {
        Journal::open(&self.path.join("samples.jsonl"))
    }

    /// Rates and times, which differ from run to run and are never truncated.
    ///
    /// # Errors
    /// A journal that cannot be opened.
    pub fn timings(&self) -> Result<Journal, StoreError> {
        Journal::open(&self.path.join("timings.jsonl"))
    }

    /// The checkpoints, of which `keep` resume states are kept per stage.
    #[must_use]
    pub fn checkpoints(&self, keep: u32) -> Checkpoints {
        Checkpoints::new(&self.path.join("checkpoints"), keep)
    }

    /// Writes the report, whole or not at all.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write_report(&self, html: &str) -> Result<PathBuf, StoreError> {
        let path = self.report_path();
        replace_file(&path, html.as_bytes())?;
        Ok(path)
    }
}

/// Waits for those who only look.
fn lock_patiently(lock: &File) -> Result<(), TryLockError> {
    for _ in 1..LOCK_TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            done => return done,
        }
    }
    lock.try_lock()
}

/// A file in a run's folder: while it is there, the run is asked to write a checkpoint and end.
#[derive(Debug, Clone)]
pub struct StopRequest {
    path: PathBuf,
}

impl StopRequest {
    /// Asks the run in a folder to stop. Asking twice is asking once.
    ///
    /// # Errors
    /// A folder without a run, one in which no process works, or that cannot be written.
    pub fn leave(folder: &Path) -> Result<(), StoreError> {
        let inside = Inside::new(folder);
        if !inside.has(&["recipe.toml"]) {
            return Err(StoreError::NoRun(folder.into()));
        }
        if !RunFolder::is_in_use(folder) {
            return Err(StoreError::NotRunning(folder.into()));
        }
        match inside.create_new(STOP) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made.map(drop).at("write", &folder.join(STOP)),
        }
    }

    /// Whether a run's folder holds one.
    #[must_use]
    pub fn is_left_in(folder: &Path) -> bool {
        folder.join(STOP).symlink_metadata().is_ok()
    }

    /// Whether the run is asked.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }

    /// Removes the request: it was heard, or is of another time.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn take(&self) -> Result<(), StoreError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.at("remove", &self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_of_a_folder_is_refused_until_the_first_leaves() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("runs/a");
        let first = RunFolder::create(&path, "name = \"a\"\n").unwrap();
        let error = RunFolder::open(&path).unwrap_err();
        let expected = format!(
            "run folder {} is in use by process {}, expected no other process in it",
            path.display(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
        drop(first);
        let again = RunFolder::open(&path).unwrap();
        assert_eq!(again.recipe_toml().unwrap(), "name = \"a\"\n");
        drop(again);
        let error = RunFolder::create(&path, "").unwrap_err();
        assert!(matches!(error, StoreError::RunExists(_)), "{error}");
    }

    #[test]
    fn a_lock_of_a_dead_process_is_no_lock() {
        let home = tempfile::tempdir().unwrap();
        RunFolder::create(home.path(), "").unwrap();
        fs::write(home.path().join(".lock"), "4000000000\n").unwrap();
        RunFolder::open(home.path()).unwrap();
    }

    #[test]
    fn who_looks_does_not_keep_others_out() {
        let home = tempfile::tempdir().unwrap();
        assert!(!RunFolder::is_in_use(home.path()));
        let folder = RunFolder::create(home.path(), "").unwrap();
        assert!(RunFolder::is_in_use(home.path()));
        drop(folder);
        assert!(!RunFolder::is_in_use(home.path()));
        // One who looks for a moment, at the worst moment.
        let looks = File::open(home.path().join(".lock")).unwrap();
        looks.lock_shared().unwrap();
        let leaves = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            drop(looks);
        });
        RunFolder::open(home.path()).unwrap();
        leaves.join().unwrap();
    }

    #[test]
    fn a_request_to_stop_is_for_the_process_that_runs() {
        let home = tempfile::tempdir().unwrap();
        let error = StopRequest::leave(home.path()).unwrap_err();
        assert!(matches!(error, StoreError::NoRun(_)), "{error}");
        let folder = RunFolder::create(home.path(), "").unwrap();
        let request = folder.stop_request();
        assert!(!request.is_there());
        StopRequest::leave(home.path()).unwrap();
        StopRequest::leave(home.path()).unwrap();
        assert!(request.is_there() && StopRequest::is_left_in(home.path()));
        drop(folder);
        let error = StopRequest::leave(home.path()).unwrap_err();
        assert!(matches!(error, StoreError::NotRunning(_)), "{error}");
        // The next process was not asked.
        let folder = RunFolder::open(home.path()).unwrap();
        assert!(!folder.stop_request().is_there());
        folder.stop_request().take().unwrap();
    }

    #[test]
    fn other_settings_do_not_continue_a_run() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path(), "name = \"a\"\nseed = 1\n").unwrap();
        folder.expect_recipe("name = \"a\"\nseed = 1\n").unwrap();
        let error = folder
            .expect_recipe("name = \"a\"\nseed = 2\n")
            .unwrap_err();
        assert!(
            error.to_string().contains("started with `seed = 1`"),
            "{error}"
        );
        assert!(error.to_string().ends_with("got `seed = 2`"), "{error}");
    }

    #[test]
    fn folders_that_cannot_be_are_refused_in_a_sentence() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        let error = RunFolder::create(&file.join("run"), "")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("cannot make the run folder "), "{error}");
        assert!(!error.contains('\n'), "{error}");
        let error = RunFolder::open(home.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("holds no run, expected a folder with recipe.toml"),
            "{error}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_said_in_a_sentence() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path(), "").unwrap();
        std::os::unix::fs::symlink("/dev/full", home.path().join("report.html.tmp")).unwrap();
        let error = folder.write_report("<html>").unwrap_err().to_string();
        assert!(
            error.contains("report.html: the disk is full, expected room for it"),
            "{error}"
        );
    }
}
