//! The page beside a run: a server in this process that serves no model and shows this run alone.
//!
//! It reads what the run writes, on a thread of its own that sleeps while nobody looks. The run does
//! not know of it, so its journal is the same with and without.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use frugal_run::Stop;
use frugal_run::hub::{Wanted, Watch};
use frugal_serve::config::{Config, Flags};
use frugal_serve::host::{Host, HostError, Told};
use frugal_serve::models::{Catalogue, Entry, Forecast, Library, Listed, Ready};
use frugal_serve::web::runs::{Runs, Scope};
use frugal_train::error::Error as TrainError;
use serde_json::json;

use crate::cli::Common;
use crate::home;
use crate::output::{Usage, complain, exit_code_of, say_json, tell};
use crate::runner::Processes;

/// The page of one run.
pub(super) struct Page {
    thread: JoinHandle<Result<(), HostError>>,
}

/// No models.
#[derive(Debug)]
struct Nothing;

impl Library for Nothing {
    fn list(&self) -> Vec<Listed> {
        Vec::new()
    }

    fn open(&self, _: &str, _: u64) -> Result<Ready, String> {
        no_models()
    }
}

impl Catalogue for Nothing {
    fn entries(&self) -> Result<Vec<Entry>, String> {
        Ok(Vec::new())
    }

    fn card(&self, _: &str) -> Option<String> {
        None
    }

    fn forecast(&self, _: &str) -> Result<Forecast, String> {
        no_models()
    }

    fn pull(&self, _: &Wanted, _: &Stop, _: &mut Watch<'_>) -> Result<String, String> {
        no_models()
    }

    fn verify(&self, _: &str, _: &Stop, _: &mut Watch<'_>) -> Result<Vec<String>, String> {
        no_models()
    }

    fn remove(&self, _: &str) -> Result<(), String> {
        no_models()
    }
}

fn no_models<T>() -> Result<T, String> {
    Err("a run's page has no models".into())
}

impl Page {
    /// Opens the page of the run that is or will be in a folder.
    pub(super) fn start(common: &Common, at: SocketAddr, folder: &Path) -> anyhow::Result<Self> {
        // Told before anything is trained.
        let free = TcpListener::bind(at);
        drop(free.with_context(|| {
            format!("cannot show a page at {at}; --web=127.0.0.1:0 takes any free port")
        })?);
        let flags = Flags {
            bind: Some(vec![at.to_string()]),
            // Training has the cores.
            threads: Some(1),
            ..Flags::default()
        };
        let settings = Config::default().with(flags).resolve();
        let settings = settings.map_err(|problems| Usage(problems.to_string()))?;
        let home = home::of(common)?;
        let runner = Arc::new(Processes::new(common, &home));
        let folder = std::path::absolute(folder).context("the run's folder has no name")?;
        let runs = Runs::open(&home, Scope::Only(folder), runner)?;
        let host = Host {
            settings,
            models: Arc::new(Nothing),
            catalogue: Arc::new(Nothing),
            grader: None,
            home,
            memory_bytes: 0,
            runs: Some(Arc::new(runs)),
        };
        let common = common.clone();
        let thread = thread::Builder::new().name("page".into());
        let thread = thread.spawn(move || host.run(&|told| hear(&common, &told)));
        Ok(Self {
            thread: thread.context("the page's thread cannot be started")?,
        })
    }

    /// After the run: the page stays until Ctrl-C, so that its results can be looked at, and so that a
    /// run that was stopped from the page can be gone on with there.
    pub(super) fn stay(
        self,
        common: &Common,
        done: anyhow::Result<ExitCode>,
    ) -> anyhow::Result<ExitCode> {
        let code = match done {
            Ok(code) => code,
            Err(error) if is_stopped(&error) => {
                complain(common.json, &error);
                ExitCode::from(exit_code_of(&error))
            }
            Err(error) => return Err(error),
        };
        if !common.quiet && !common.json {
            tell("the page stays until Ctrl-C");
        }
        match self.thread.join() {
            Ok(ended) => ended?,
            Err(_) => anyhow::bail!("the page's thread panicked"),
        }
        Ok(code)
    }
}

fn is_stopped(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let cause = cause.downcast_ref::<TrainError>();
        matches!(cause, Some(TrainError::Stopped { .. }))
    })
}

fn hear(common: &Common, told: &Told<'_>) {
    let Told::Listening {
        addresses, keys, ..
    } = told
    else {
        return;
    };
    if common.json {
        // A pipe that is closed is not the page's end.
        let _ = say_json(&json!({ "event": "page", "addresses": addresses, "keys": keys }));
    } else if !common.quiet {
        for address in *addresses {
            tell(format!("watch it at http://{address}/#/runs"));
        }
        if keys.is_some() {
            tell("a key is needed there; `frugal keys add NAME` makes one");
        }
    }
}
