//! The ledger: what every run in a home cost, the failed and interrupted ones included, in
//! `frugal.db` (SQLite).
//!
//! A stage's entry is written again at every checkpoint, so a kill loses only the tail. Work that
//! is done twice after a kill is billed twice: it was paid for twice. Measuring is the business of
//! [`crate::consumption`], counting FLOPs that of the model's meter.

mod entry;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, named_params, params};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::consumption::{process_mark, unix_seconds};
pub use entry::{Entry, Price, Total, Work};

/// What each version of the file of records adds to the one before. The models' tables are in the
/// same file, so that one copy of it is a copy of everything.
const MIGRATIONS: [&str; 2] = [TABLES, crate::models::TABLES];
/// Version of the tables.
const SCHEMA: i64 = 2;
const TABLES: &str = "
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    recipe TEXT NOT NULL,
    seed INTEGER NOT NULL,
    budget_minutes REAL NOT NULL,
    folder TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    outcome TEXT NOT NULL,
    process TEXT NOT NULL
) STRICT;
CREATE INDEX runs_by_folder ON runs (folder);
CREATE TABLE stage_costs (
    run INTEGER NOT NULL REFERENCES runs (id),
    stage TEXT NOT NULL,
    updated INTEGER NOT NULL,
    wall_seconds REAL NOT NULL,
    core_seconds REAL NOT NULL,
    tokens_trained INTEGER NOT NULL,
    tokens_generated INTEGER NOT NULL,
    flops_forward REAL NOT NULL,
    flops_backward REAL NOT NULL,
    flops_rollout REAL NOT NULL,
    peak_flops_per_second REAL NOT NULL,
    peak_memory_bytes INTEGER,
    joules REAL NOT NULL,
    energy_method TEXT NOT NULL,
    price_per_core_hour REAL NOT NULL,
    currency TEXT NOT NULL,
    money REAL NOT NULL,
    UNIQUE (run, stage)
) STRICT;
";

/// Why the ledger could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The home folder could not be made.
    #[error("cannot open the ledger {}: {source}, expected a folder this user may write to", path.display())]
    Home {
        /// The database file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The database refused.
    #[error("cannot {action} the ledger {}: {source}", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The database file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// The tables were written by a newer program.
    #[error("the ledger {} is of version {got}, expected at most {SCHEMA}: a newer program wrote it", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its version.
        got: i64,
    },
    /// No such run.
    #[error("the ledger has no run {0}")]
    NoRun(i64),
    /// One stage billed in two currencies.
    #[error("a stage billed in {was} cannot go on in {now}")]
    Currency {
        /// The currency so far.
        was: String,
        /// The other one.
        now: String,
    },
}

/// How a run ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its process lives.
    Running,
    /// All stages done.
    Done,
    /// A stage refused or an error ended it.
    Failed,
    /// Somebody asked it to write a checkpoint and end.
    Stopped,
    /// Ended by a signal, or its process is gone.
    Interrupted,
}

impl Outcome {
    /// The word in the tables and for people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
        }
    }

    fn from_label(label: &str) -> Self {
        match label {
            "running" => Self::Running,
            "done" => Self::Done,
            "failed" => Self::Failed,
            "stopped" => Self::Stopped,
            _ => Self::Interrupted,
        }
    }
}

/// What is known of a run when it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct RunStart {
    /// Name of the recipe.
    pub recipe: String,
    /// Its seed.
    pub seed: u64,
    /// Its budget.
    pub budget_minutes: f64,
    /// Its folder, absolute.
    pub folder: String,
}

/// A run in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// Name of the recipe.
    pub recipe: String,
    /// Its seed.
    pub seed: u64,
    /// Its budget.
    pub budget_minutes: f64,
    /// Its folder.
    pub folder: String,
    /// When it started, in seconds since 1970.
    pub started: i64,
    /// When it ended; for one that was killed, when its last entry was written.
    pub ended: Option<i64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// The cost of one run: its stages in the order they began, and their sum.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bill {
    /// The run.
    pub run: Run,
    /// Stage by stage.
    pub stages: Vec<(String, Entry)>,
    /// The sum.
    pub total: Total,
}

/// The open ledger of a home.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    database: Connection,
}

impl Ledger {
    /// Opens or makes `frugal.db` in `home`.
    ///
    /// # Errors
    /// A home that cannot be written, a file that is no ledger, a newer ledger.
    pub fn open(home: &Path) -> Result<Self, LedgerError> {
        let path = home.join("frugal.db");
        std::fs::create_dir_all(home).map_err(|source| LedgerError::Home {
            path: path.clone(),
            source,
        })?;
        let opened = Connection::open(&path);
        let database = opened.map_err(|source| LedgerError::Database {
            action: "open",
            path: path.clone(),
            source,
        })?;
        let mut ledger = Self { path, database };
        ledger.prepare()?;
        Ok(ledger)
    }

    fn prepare(&mut self) -> Result<(), LedgerError> {
        let set = |database: &Connection| {
            database.busy_timeout(Duration::from_secs(10))?;
            database.pragma_update(None, "journal_mode", "wal")?;
            database.pragma_update(None, "synchronous", "normal")?;
            database.pragma_update(None, "foreign_keys", true)
        };
        set(&self.database).map_err(|error| self.fault("open", error))?;
        let path = self.path.clone();
        let fault = |source| LedgerError::Database {
            action: "open",
            path: path.clone(),
            source,
        };
        let change = self
            .database
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(fault)?;
        let got: i64 = change
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(fault)?;
        if got > SCHEMA {
            return Err(LedgerError::Newer { path, got });
        }
        let n_done = usize::try_from(got).unwrap_or(0);
        for tables in MIGRATIONS.iter().skip(n_done) {
            change.execute_batch(tables).map_err(fault)?;
        }
        if got < SCHEMA {
            change
                .pragma_update(None, "user_version", SCHEMA)
                .map_err(fault)?;
        }
        change.commit().map_err(fault)
    }

    /// The open file of records, for the tables of other rooms.
    pub(crate) fn into_parts(self) -> (PathBuf, Connection) {
        (self.path, self.database)
    }

    fn fault(&self, action: &'static str, source: rusqlite::Error) -> LedgerError {
        LedgerError::Database {
            action,
            path: self.path.clone(),
            source,
        }
    }

    /// Enters a run of this process and returns its number.
    ///
    /// # Errors
    /// A database that refuses.
    pub fn begin(&self, run: &RunStart) -> Result<i64, LedgerError> {
        let values = named_params! {
            ":recipe": run.recipe, ":seed": to_integer(run.seed), ":folder": run.folder,
            ":budget": run.budget_minutes, ":started": unix_seconds(), ":process": this_process(),
        };
        self.database
            .execute(
                "INSERT INTO runs (recipe, seed, budget_minutes, folder, started, outcome, process)
                 VALUES (:recipe, :seed, :budget, :folder, :started, 'running', :process)",
                values,
            )
            .map_err(|error| self.fault("write", error))?;
        Ok(self.database.last_insert_rowid())
    }

    /// Marks the newest run of a folder as running in this process; `None` where there is none.
    ///
    /// # Errors
    /// A database that refuses.
    pub fn resume(&self, folder: &str) -> Result<Option<i64>, LedgerError> {
        self.database
            .query_row(
                "UPDATE runs SET outcome = 'running', ended = NULL, process = ?2
                 WHERE id = (SELECT max(id) FROM runs WHERE folder = ?1) RETURNING id",
                params![folder, this_process()],
                |row| row.get(0),
            )
            .optional()
            .map_err(|error| self.fault("write", error))
    }

    /// Enters how a run ended.
    ///
    /// # Errors
    /// A database that refuses, a run that is not there.
    pub fn finish(&self, run: i64, outcome: Outcome) -> Result<(), LedgerError> {
        let changed = self.database.execute(
            "UPDATE runs SET outcome = ?2, ended = ?3 WHERE id = ?1",
            params![run, outcome.label(), unix_seconds()],
        );
        match changed.map_err(|error| self.fault("write", error))? {
            0 => Err(LedgerError::NoRun(run)),
            _ => Ok(()),
        }
    }

    /// Enters what a stage has cost so far, in place of what was entered before. After a resume,
    /// pass the sum of [`Self::entry`] as it was and what this process used.
    ///
    /// # Errors
    /// A database that refuses, a run that is not there.
    pub fn record(&self, run: i64, stage: &str, entry: &Entry) -> Result<(), LedgerError> {
        self.run(run)?;
        entry::write(&self.database, run, stage, entry).map_err(|error| self.fault("write", error))
    }

    /// What a stage has cost as far as entered.
    ///
    /// # Errors
    /// A database that refuses.
    pub fn entry(&self, run: i64, stage: &str) -> Result<Option<Entry>, LedgerError> {
        let stages = self.stages(run)?;
        Ok(stages
            .into_iter()
            .find(|(name, _)| name == stage)
            .map(|(_, entry)| entry))
    }

    fn stages(&self, run: i64) -> Result<Vec<(String, Entry)>, LedgerError> {
        entry::of_run(&self.database, run).map_err(|error| self.fault("read", error))
    }

    /// One run.
    ///
    /// # Errors
    /// A database that refuses, a run that is not there.
    pub fn run(&self, run: i64) -> Result<Run, LedgerError> {
        let found = self.select("WHERE id = ?1", run)?;
        found.into_iter().next().ok_or(LedgerError::NoRun(run))
    }

    /// All runs of this home, oldest first.
    ///
    /// # Errors
    /// A database that refuses.
    pub fn runs(&self) -> Result<Vec<Run>, LedgerError> {
        self.select("WHERE ?1 = 0", 0)
    }

    fn select(&self, filter: &str, value: i64) -> Result<Vec<Run>, LedgerError> {
        let text = format!(
            "SELECT id, recipe, seed, budget_minutes, folder, started, ended, outcome, process,
                    (SELECT max(updated) FROM stage_costs WHERE run = id)
             FROM runs {filter} ORDER BY id"
        );
        let read = || -> rusqlite::Result<Vec<Run>> {
            self.database
                .prepare(&text)?
                .query_map([value], read_run)?
                .collect()
        };
        read().map_err(|error| self.fault("read", error))
    }

    /// What one run cost.
    ///
    /// # Errors
    /// A database that refuses, a run that is not there.
    pub fn bill(&self, run: i64) -> Result<Bill, LedgerError> {
        let stages = self.stages(run)?;
        let mut total = Total::default();
        for (_, entry) in &stages {
            total.add(entry);
        }
        Ok(Bill {
            run: self.run(run)?,
            stages,
            total,
        })
    }

    /// What every run of this home cost, one bill each, and the sum of all: the final run is only
    /// the tip of what development cost.
    ///
    /// # Errors
    /// A database that refuses.
    pub fn everything(&self) -> Result<(Vec<Bill>, Total), LedgerError> {
        let bills: Vec<Bill> = self
            .runs()?
            .iter()
            .map(|run| self.bill(run.id))
            .collect::<Result<_, _>>()?;
        let mut total = Total::default();
        bills
            .iter()
            .flat_map(|bill| &bill.stages)
            .for_each(|(_, entry)| total.add(entry));
        Ok((bills, total))
    }
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let label: String = row.get(7)?;
    let process: String = row.get(8)?;
    let (mut outcome, mut ended) = (Outcome::from_label(&label), row.get(6)?);
    if outcome == Outcome::Running && is_gone(&process) {
        outcome = Outcome::Interrupted;
        ended = row.get(9)?;
    }
    Ok(Run {
        id: row.get(0)?,
        recipe: row.get(1)?,
        seed: from_integer(row.get(2)?),
        budget_minutes: row.get(3)?,
        folder: row.get(4)?,
        started: row.get(5)?,
        ended,
        outcome,
    })
}

/// This process as `PID MARK`, the mark being empty where the system tells none.
fn this_process() -> String {
    let pid = std::process::id();
    format!("{pid} {}", process_mark(pid).unwrap_or_default())
}

/// Whether the process that was written as `PID MARK` has ended. Without a mark nobody can tell a
/// living process from another of the same number, so it counts as living.
fn is_gone(process: &str) -> bool {
    let Some((pid, mark)) = process.split_once(' ') else {
        return true;
    };
    let Ok(pid) = pid.parse() else { return true };
    !mark.is_empty() && process_mark(pid).as_deref() != Some(mark)
}

/// SQLite has signed 64-bit integers; counts beyond them are kept at their end.
fn to_integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn from_integer(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests;
