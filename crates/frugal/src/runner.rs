//! Runs that the page goes on with: each a process of this program, which lives on when the server
//! ends.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use frugal_eval::tasks;
use frugal_run::inside::Inside;
use frugal_serve::web::runs::{RESUME_LOG, Runner};

use crate::cli::Common;

/// Starts processes of this program.
#[derive(Debug)]
pub(crate) struct Processes {
    home: PathBuf,
    flags: Vec<String>,
    started: Mutex<BTreeMap<PathBuf, Child>>,
}

impl Processes {
    /// With the home and the flags of this process.
    pub(crate) fn new(common: &Common, home: &Path) -> Self {
        let mut flags = Vec::new();
        if let Some(threads) = common.threads {
            flags.extend(["--threads".to_owned(), threads.to_string()]);
        }
        if let Some(isa) = &common.isa {
            flags.extend(["--isa".to_owned(), isa.clone()]);
        }
        Self {
            home: home.into(),
            flags,
            started: Mutex::default(),
        }
    }

    fn start(&self, folder: &Path) -> anyhow::Result<()> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended are let go of here, so that none is left as a zombie for long.
        started.retain(|_, child| matches!(child.try_wait(), Ok(None)));
        anyhow::ensure!(
            !started.contains_key(folder),
            "this run was started a moment ago"
        );
        let inside = Inside::new(folder);
        match fs::remove_file(folder.join(RESUME_LOG)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context("the run's folder cannot be written");
            }
            _ => {}
        }
        let log = inside.create_new(RESUME_LOG);
        let log = log.context("the run's folder cannot be written")?;
        let program = std::env::current_exe().context("this program cannot be found")?;
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg(folder)
            .arg("--resume")
            .arg("--home")
            .arg(&self.home)
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("the log cannot be opened")?)
            .stderr(log);
        on_its_own(&mut command);
        let child = command.spawn().context("the run cannot be started")?;
        started.insert(folder.to_owned(), child);
        Ok(())
    }
}

/// Ctrl-C for the server is none for the run.
#[cfg(unix)]
fn on_its_own(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn on_its_own(_: &mut Command) {}

impl Runner for Processes {
    fn resume(&self, folder: &Path) -> Result<(), String> {
        self.start(folder).map_err(|error| {
            tracing::error!(folder = %folder.display(), error = format!("{error:#}"), "no run was started");
            // Clients hear what was tried, not the system's words with their paths.
            error.to_string()
        })
    }

    fn self_check_words(&self, task: &str) -> Vec<String> {
        let task = tasks::by_name(task, None);
        let words = task.map(|task| task.self_check_words().to_vec());
        let words = words.unwrap_or_default().into_iter();
        words.map(str::to_owned).collect()
    }
}
