//! The models' tables in `frugal.db`.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, TransactionBehavior, named_params, params};

use super::{Facts, Model, ModelName};
use crate::hub::StoredFile;
use crate::ledger::{Ledger, LedgerError};

/// What version 2 of the file of records adds.
pub(crate) const TABLES: &str = "
CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE UNIQUE,
    architecture TEXT NOT NULL,
    parameters INTEGER,
    active_parameters INTEGER,
    format TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    origin TEXT NOT NULL,
    licence TEXT,
    base_model TEXT,
    method TEXT,
    added INTEGER NOT NULL
) STRICT;
CREATE TABLE model_files (
    model INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    UNIQUE (model, name)
) STRICT;
";

/// The open records.
#[derive(Debug)]
pub(super) struct Records {
    path: PathBuf,
    database: Connection,
}

impl Records {
    pub(super) fn open(home: &Path) -> Result<Self, LedgerError> {
        let (path, database) = Ledger::open(home)?.into_parts();
        Ok(Self { path, database })
    }

    fn fault(&self, action: &'static str, source: rusqlite::Error) -> LedgerError {
        LedgerError::Database {
            action,
            path: self.path.clone(),
            source,
        }
    }

    /// All models in order of name, each with its files in order of name.
    pub(super) fn all(&self) -> Result<Vec<Model>, LedgerError> {
        let read = || -> rusqlite::Result<Vec<Model>> {
            let mut models = self.database.prepare(
                "SELECT id, name, architecture, parameters, active_parameters, format, bytes,
                        origin, licence, base_model, method, added
                 FROM models ORDER BY name",
            )?;
            let mut files = self.database.prepare(
                "SELECT name, bytes, sha256 FROM model_files WHERE model = ?1 ORDER BY name",
            )?;
            let rows = models.query_map([], |row| Ok((row.get::<_, i64>(0)?, model(row)?)))?;
            let mut all = Vec::new();
            for row in rows {
                let (id, mut model) = row?;
                model.files = files
                    .query_map([id], |row| {
                        Ok(StoredFile {
                            name: row.get(0)?,
                            bytes: count(row.get(1)?),
                            sha256: row.get(2)?,
                        })
                    })?
                    .collect::<rusqlite::Result<_>>()?;
                all.push(model);
            }
            Ok(all)
        };
        read().map_err(|error| self.fault("read", error))
    }

    /// Records a model, in place of one of the same name.
    pub(super) fn add(&self, model: &Model) -> Result<(), LedgerError> {
        let write = || -> rusqlite::Result<()> {
            let change = rusqlite::Transaction::new_unchecked(
                &self.database,
                TransactionBehavior::Immediate,
            )?;
            change.execute("DELETE FROM models WHERE name = ?1", [&model.name])?;
            change.execute(
                "INSERT INTO models (name, architecture, parameters, active_parameters, format,
                                     bytes, origin, licence, base_model, method, added)
                 VALUES (:name, :architecture, :parameters, :active, :format,
                         :bytes, :origin, :licence, :base, :method, :added)",
                named_params! {
                    ":name": model.name,
                    ":architecture": model.facts.architecture,
                    ":parameters": model.facts.parameters.map(integer),
                    ":active": model.facts.active_parameters.map(integer),
                    ":format": model.facts.format,
                    ":bytes": integer(model.bytes),
                    ":origin": model.origin,
                    ":licence": model.licence,
                    ":base": model.base_model,
                    ":method": model.method,
                    ":added": model.added,
                },
            )?;
            let id = change.last_insert_rowid();
            for file in &model.files {
                change.execute(
                    "INSERT INTO model_files (model, name, bytes, sha256) VALUES (?1, ?2, ?3, ?4)",
                    params![id, file.name, integer(file.bytes), file.sha256],
                )?;
            }
            change.commit()
        };
        write().map_err(|error| self.fault("write", error))
    }

    pub(super) fn remove(&self, name: &ModelName) -> Result<(), LedgerError> {
        let removed = self
            .database
            .execute("DELETE FROM models WHERE name = ?1", [name.to_string()]);
        removed
            .map(drop)
            .map_err(|error| self.fault("write", error))
    }
}

fn model(row: &Row<'_>) -> rusqlite::Result<Model> {
    Ok(Model {
        name: row.get(1)?,
        facts: Facts {
            architecture: row.get(2)?,
            parameters: row.get::<_, Option<i64>>(3)?.map(count),
            active_parameters: row.get::<_, Option<i64>>(4)?.map(count),
            format: row.get(5)?,
        },
        bytes: count(row.get(6)?),
        origin: row.get(7)?,
        licence: row.get(8)?,
        base_model: row.get(9)?,
        method: row.get(10)?,
        added: row.get(11)?,
        files: Vec::new(),
    })
}

/// SQLite has signed 64-bit integers; no disk has files beyond them.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count(integer: i64) -> u64 {
    u64::try_from(integer).unwrap_or(0)
}
