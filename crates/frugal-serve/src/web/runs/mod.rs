//! Runs on the page: which there are, how far they are, what they cost, their files as they grow.
//!
//! ```text
//! table      which runs there are, and their ids
//! describe   a folder's recipe and checkpoints as stages
//! progress   how far a run is, from its journal and timings
//! tail       the growing end of one file
//! watch      the ends of all three as a stream of events
//! spent      what the ledger says, in the page's words
//! routes     over HTTP
//! ```
//!
//! Runs come from the ledger of the home and from folders that the operator names. A client names a
//! run by an id that this room made, never by a path; what is in a folder may be anybody's and is read
//! through [`Inside`], within limits. A run is not touched: it is asked to stop by a file that it looks
//! for between steps, and gone on with by a process of its own, which is the binary's business
//! ([`Runner`]).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use frugal_run::StoreError;
use frugal_run::folder::StopRequest;
use frugal_run::inside::Inside;
use frugal_run::ledger::{Ledger, LedgerError, Outcome};
use serde::Serialize;
use tokio::sync::Semaphore;

mod describe;
mod progress;
mod routes;
mod spent;
mod table;
mod tail;
mod watch;

pub use describe::RESUME_LOG;
use describe::{Described, Exam, Stage, State};
use progress::Best;
pub(super) use routes::routes;
use spent::{Other, Spent, StageBill};
use table::{Entry, Known, Part};
use watch::{Offsets, watch};

use crate::wire::error::{Fault, Kind};

/// Bytes of journals that one list reads on; what is left comes with the next one.
const LIST_BYTES: u64 = 96 << 20;
/// Bytes of one run's journal that its own page reads on at a time.
const RUN_BYTES: u64 = 64 << 20;
/// Clients that watch runs at a time.
const MOST_WATCHERS: usize = 64;

/// What only the program itself can do for a run.
pub trait Runner: Send + Sync + Debug {
    /// Starts a process that goes on with the run in a folder; what it says goes to [`RESUME_LOG`]
    /// there.
    ///
    /// # Errors
    /// In words for people.
    fn resume(&self, folder: &Path) -> Result<(), String>;

    /// Words by which a task counts a self-check, to be marked in thoughts.
    fn self_check_words(&self, task: &str) -> Vec<String>;
}

/// Which runs are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of the home's ledger, and those below these folders.
    HomeAnd(Vec<PathBuf>),
    /// The run of this folder alone.
    Only(PathBuf),
}

/// The runs of a server.
#[derive(Debug)]
pub struct Runs {
    scope: Scope,
    ledger: Mutex<Ledger>,
    runner: Arc<dyn Runner>,
    table: Mutex<BTreeMap<String, Arc<Known>>>,
    watchers: Arc<Semaphore>,
}

/// All runs, and everything ever spent.
#[derive(Debug, Serialize)]
struct List {
    data: Vec<Head>,
    total: Spent,
    /// What is in the total and has no folder to look at.
    others: Vec<Other>,
}

/// One run in a list.
#[derive(Debug, Serialize)]
struct Head {
    id: String,
    /// The folder's own name.
    name: String,
    /// The folder; for those who manage.
    folder: Option<String>,
    recipe: String,
    about: String,
    task: String,
    seed: u64,
    budget_minutes: f64,
    state: State,
    /// Asked to stop, and has not yet.
    stopping: bool,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    seconds: f64,
    stages: Vec<Stage>,
    /// The stage that wrote last.
    latest: Option<String>,
    /// None for runs of other homes.
    bill: Option<Spent>,
    tokens_trained: u64,
    tokens_generated: u64,
    /// Over the whole run, thinned.
    accuracies: Vec<f32>,
    accuracy: Option<f32>,
    /// The best of the checkpoints that were examined.
    best: Option<Best>,
    /// Why less is known of it than should be.
    problem: Option<String>,
}

/// All about one run.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    head: Head,
    recipe_toml: String,
    bills: Vec<StageBill>,
    scores: Vec<Exam>,
    self_check_words: Vec<String>,
    /// The end of what a resumed run said, for those who manage.
    log: Option<String>,
}

/// How a run stands, for who watches it.
#[derive(Debug, Serialize)]
struct Standing {
    state: State,
    stopping: bool,
    stages: Vec<Stage>,
}

impl Standing {
    /// Whether run and stages stand as they did, however many steps were made meanwhile.
    fn is_as(&self, other: &Self) -> bool {
        let states =
            |standing: &Self| -> Vec<State> { standing.stages.iter().map(Stage::state).collect() };
        (self.state, self.stopping) == (other.state, other.stopping)
            && states(self) == states(other)
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// One who may manage: sees where things lie.
    Manager,
    /// Another.
    Guest,
}

impl Runs {
    /// The runs of a home.
    ///
    /// # Errors
    /// A ledger that cannot be opened.
    pub fn open(home: &Path, scope: Scope, runner: Arc<dyn Runner>) -> Result<Self, LedgerError> {
        Ok(Self {
            scope,
            ledger: Mutex::new(Ledger::open(home)?),
            runner,
            table: Mutex::default(),
            watchers: Arc::new(Semaphore::new(MOST_WATCHERS)),
        })
    }

    /// All runs, newest first.
    ///
    /// # Errors
    /// A ledger that cannot be read.
    fn list(&self, reader: Reader) -> Result<List, Fault> {
        let found = self.found()?;
        let mut budget = LIST_BYTES;
        let mut data: Vec<Head> = found
            .entries
            .iter()
            .map(|entry| entry.head(reader, &mut budget))
            .collect();
        data.sort_by_key(|head| std::cmp::Reverse(head.started_at));
        Ok(List {
            data,
            total: Spent::of(&found.total),
            others: found.others,
        })
    }

    /// All about one run.
    ///
    /// # Errors
    /// No such run, or a ledger that cannot be read.
    fn one(&self, id: &str, reader: Reader) -> Result<Whole, Fault> {
        let found = self.found()?;
        let entry = found.entries.into_iter().find(|entry| entry.id == id);
        let entry = entry.ok_or_else(no_run)?;
        let head = entry.head(reader, &mut { RUN_BYTES });
        let inside = &entry.known.inside;
        let described = Arc::clone(&entry.known.part().described);
        Ok(Whole {
            recipe_toml: described.text.clone(),
            bills: entry.bill.as_ref().map(StageBill::all).unwrap_or_default(),
            scores: described.scores(inside),
            self_check_words: self.runner.self_check_words(&described.task),
            log: match reader {
                Reader::Manager => describe::log(inside),
                Reader::Guest => None,
            },
            head,
        })
    }

    /// Asks a run to write a checkpoint and end.
    ///
    /// # Errors
    /// No such run, one that does not run, a folder that cannot be written.
    fn stop(&self, id: &str) -> Result<(), Fault> {
        let known = self.known(id)?;
        StopRequest::leave(known.inside.path()).map_err(|error| match error {
            StoreError::NotRunning(_) | StoreError::NoRun(_) => Fault::new(
                Kind::Conflict,
                "this run does not run, so it cannot be stopped",
            ),
            error => {
                tracing::error!(%error, "a run could not be asked to stop");
                Fault::new(Kind::Conflict, "the run's folder cannot be written")
            }
        })
    }

    /// Goes on with a run that ended before its end.
    ///
    /// # Errors
    /// No such run, one that runs or is done, a process that cannot be started.
    fn resume(&self, id: &str) -> Result<(), Fault> {
        let entry = self.found()?.entries.into_iter();
        let entry = entry.into_iter().find(|entry| entry.id == id);
        let entry = entry.ok_or_else(no_run)?;
        let no = |why: &str| Err(Fault::new(Kind::Conflict, why));
        match entry.state(&entry.known.part().described) {
            State::Running => no("this run runs already"),
            State::Done => no("this run is done: there is nothing to go on with"),
            State::Failed | State::Stopped | State::Waiting => {
                let folder = entry.known.inside.path();
                self.runner.resume(folder).map_err(|reason| {
                    tracing::error!(%reason, "a run could not be gone on with");
                    Fault::new(Kind::Conflict, reason)
                })
            }
        }
    }

    /// The run of an id that was given out, or that would be.
    fn known(&self, id: &str) -> Result<Arc<Known>, Fault> {
        if let Some(known) = lock(&self.table).get(id) {
            return Ok(Arc::clone(known));
        }
        let found = self.found()?.entries.into_iter();
        let mut found = found.filter(|entry| entry.id == id);
        found.next().map(|entry| entry.known).ok_or_else(no_run)
    }

    /// How a run stands now.
    fn standing(&self, id: &str, known: &Known) -> Standing {
        let outcome = {
            let ledger = lock(&self.ledger);
            let folder = known.inside.path();
            let runs = ledger.runs().unwrap_or_default();
            let own = runs.into_iter().rev();
            let mut own = own.filter(|run| Path::new(&run.folder) == folder);
            own.next().map(|run| run.outcome)
        };
        let mut part = known.part();
        part.progress.read_on(&known.inside, &mut { RUN_BYTES });
        let state = part.described.state(&known.inside, outcome);
        tracing::trace!(id, ?state, "looked at a run");
        Standing {
            state,
            stopping: state == State::Running && describe::is_stopping(&known.inside),
            stages: part.described.stages(&known.inside, state, &part.progress),
        }
    }
}

impl Entry {
    fn state(&self, described: &Described) -> State {
        let outcome: Option<Outcome> = self.bill.as_ref().map(|bill| bill.run.outcome);
        described.state(&self.known.inside, outcome)
    }

    fn head(&self, reader: Reader, budget: &mut u64) -> Head {
        let inside = &self.known.inside;
        let mut part = self.known.part();
        part.progress.read_on(inside, budget);
        let Part {
            described,
            progress,
            ..
        } = &*part;
        let state = self.state(described);
        let run = self.bill.as_ref().map(|bill| &bill.run);
        let bill = self.bill.as_ref().map(|bill| Spent::of(&bill.total));
        let used = progress.used_in_all();
        let name = inside.path().file_name().unwrap_or_default();
        Head {
            id: self.id.clone(),
            name: name.to_string_lossy().into_owned(),
            folder: (reader == Reader::Manager).then(|| inside.path().display().to_string()),
            recipe: run.map_or_else(|| described.recipe.clone(), |run| run.recipe.clone()),
            about: described.about.clone(),
            task: described.task.clone(),
            seed: described.seed,
            budget_minutes: described.budget_minutes,
            state,
            stopping: state == State::Running && describe::is_stopping(inside),
            started_at: run.map_or_else(|| written_at(inside, "recipe.toml"), |r| Some(r.started)),
            ended_at: match state {
                State::Running => None,
                _ => run
                    .and_then(|run| run.ended)
                    .or_else(|| written_at(inside, progress::JOURNAL)),
            },
            // The ledger hears of a stage at its checkpoints, the timings of every step.
            seconds: bill
                .as_ref()
                .map_or(used.seconds, |bill| bill.seconds().max(used.seconds)),
            stages: described.stages(inside, state, progress),
            latest: progress.latest().map(str::to_owned),
            bill,
            tokens_trained: used.tokens_trained,
            tokens_generated: used.tokens_generated,
            accuracies: progress.curve(),
            accuracy: progress.accuracy(),
            best: progress.best(|stage| !described.is_control(stage)),
            problem: described.problem.clone(),
        }
    }
}

/// When a file was last written, in seconds since 1970.
fn written_at(inside: &Inside, name: &str) -> Option<i64> {
    let modified = inside
        .open(&[name])
        .ok()?
        .metadata()
        .ok()?
        .modified()
        .ok()?;
    let seconds = modified.duration_since(UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(seconds).ok()
}

fn no_run() -> Fault {
    Fault::new(Kind::NoRoute, "there is no run of this id").at("id")
}

/// What a panic left behind is whole: nothing here is changed in two steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
