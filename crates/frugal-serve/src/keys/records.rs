//! The tables of keys, of what they used and of what the page keeps for them, in the home's `frugal.db`.
//!
//! They have a version of their own beside that of the ledger: a program that knows no keys can
//! still use the rest of the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use frugal_run::ledger::Ledger;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::secret::PREFIX;
use super::{Grant, Key, KeyLimits, KeysError, Known, Sealed, Secret};

/// What each version adds to the one before.
const MIGRATIONS: [&str; 2] = [
    "
CREATE TABLE keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER,
    models TEXT,
    requests_per_minute INTEGER,
    tokens_per_day INTEGER,
    concurrent INTEGER,
    money_per_day REAL
) STRICT;
CREATE UNIQUE INDEX keys_in_use ON keys (name) WHERE revoked IS NULL;
CREATE TABLE key_secrets (
    part TEXT PRIMARY KEY,
    key INTEGER NOT NULL REFERENCES keys (id),
    salt BLOB NOT NULL,
    hash BLOB NOT NULL,
    ends INTEGER
) STRICT;
CREATE INDEX key_secrets_by_key ON key_secrets (key);
CREATE TABLE key_days (
    key INTEGER PRIMARY KEY,
    day INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    money REAL NOT NULL
) STRICT;
",
    "
ALTER TABLE keys ADD COLUMN may_manage INTEGER NOT NULL DEFAULT 0;
CREATE TABLE web_sessions (
    digest BLOB PRIMARY KEY,
    part TEXT NOT NULL REFERENCES key_secrets (part),
    created INTEGER NOT NULL,
    ends INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX web_sessions_by_part ON web_sessions (part);
CREATE TABLE web_chats (
    owner INTEGER NOT NULL REFERENCES keys (id),
    id TEXT NOT NULL,
    updated INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    title TEXT NOT NULL,
    model TEXT NOT NULL,
    turns INTEGER NOT NULL,
    words TEXT NOT NULL,
    document TEXT NOT NULL,
    UNIQUE (owner, id)
) STRICT;
CREATE INDEX web_chats_by_age ON web_chats (owner, updated DESC, id DESC);
",
];
const VERSION: i64 = 2;

/// One row: the version of the tables, and a number that every change of a key raises.
const STATE: &str = "
CREATE TABLE IF NOT EXISTS key_state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL,
    changes INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO key_state VALUES (1, 0, 0);
";

/// The newest text of a key is that without an end, or the last to end.
const KEY: &str = "
SELECT id, name, created, expires, revoked, models,
       requests_per_minute, tokens_per_day, concurrent, money_per_day,
       (SELECT part FROM key_secrets WHERE key = keys.id
        ORDER BY ends IS NULL DESC, ends DESC, key_secrets.rowid DESC LIMIT 1),
       may_manage
FROM keys ";

/// The open records.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    database: Connection,
}

impl Records {
    pub(crate) fn open(home: &Path) -> Result<Self, KeysError> {
        // Makes the file, brings its other tables up to date and refuses one it does not know.
        drop(Ledger::open(home)?);
        let path = home.join("frugal.db");
        let opened = Connection::open(&path);
        let database = opened.map_err(|source| KeysError::Database {
            action: "open",
            path: path.clone(),
            source,
        })?;
        let mut records = Self { path, database };
        records.prepare()?;
        Ok(records)
    }

    fn prepare(&mut self) -> Result<(), KeysError> {
        let set = |database: &Connection| {
            database.busy_timeout(Duration::from_secs(10))?;
            database.pragma_update(None, "synchronous", "normal")?;
            database.pragma_update(None, "foreign_keys", true)
        };
        set(&self.database).map_err(|source| self.fault("open", source))?;
        let got = self.change("open", |change| {
            change.execute_batch(STATE)?;
            let got = change.query_row("SELECT version FROM key_state", [], |row| row.get(0))?;
            let n_done = usize::try_from(got).unwrap_or(0);
            for tables in MIGRATIONS.iter().skip(n_done) {
                change.execute_batch(tables)?;
            }
            if got < VERSION {
                change.execute("UPDATE key_state SET version = ?1", [VERSION])?;
            }
            Ok(got)
        })?;
        if got > VERSION {
            let path = self.path.clone();
            let expected = VERSION;
            return Err(KeysError::Newer {
                path,
                got,
                expected,
            });
        }
        Ok(())
    }

    fn fault(&self, action: &'static str, source: rusqlite::Error) -> KeysError {
        KeysError::Database {
            action,
            path: self.path.clone(),
            source,
        }
    }

    /// All of it or nothing.
    pub(crate) fn change<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, KeysError> {
        let all = || {
            let change = self
                .database
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&change)?;
            change.commit()?;
            Ok(done)
        };
        all().map_err(|source| self.fault(action, source))
    }

    /// Reads.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, KeysError> {
        work(&self.database).map_err(|source| self.fault("read", source))
    }

    /// A number that every change of a key raises.
    pub(super) fn changes(&self) -> Result<i64, KeysError> {
        self.read(changes)
    }

    /// All texts that open or once opened, by the part that names them.
    pub(super) fn known(&self) -> Result<(i64, BTreeMap<String, Known>), KeysError> {
        self.read(|database| {
            // One transaction, so that number and keys belong together.
            let database = database.unchecked_transaction()?;
            let changes = changes(&database)?;
            let keys: BTreeMap<i64, Arc<Key>> = list(&database)?
                .into_iter()
                .map(|key| (key.id, Arc::new(key)))
                .collect();
            let mut secrets =
                database.prepare_cached("SELECT part, key, salt, hash, ends FROM key_secrets")?;
            let rows = secrets.query_map([], |row| {
                let sealed = Sealed {
                    salt: row.get(2)?,
                    hash: row.get(3)?,
                };
                Ok((row.get(0)?, row.get(1)?, sealed, row.get(4)?))
            })?;
            let mut known = BTreeMap::new();
            for row in rows {
                let (part, id, sealed, ends): (String, i64, Sealed, Option<i64>) = row?;
                if let Some(key) = keys.get(&id).cloned() {
                    known.insert(part, Known { sealed, ends, key });
                }
            }
            Ok((changes, known))
        })
    }
}

fn changes(database: &Connection) -> rusqlite::Result<i64> {
    database
        .prepare_cached("SELECT changes FROM key_state")?
        .query_row([], |row| row.get(0))
}

fn list(database: &Connection) -> rusqlite::Result<Vec<Key>> {
    let mut keys = database.prepare_cached(&format!("{KEY} ORDER BY id"))?;
    keys.query_map([], read_key)?.collect()
}

fn read_key(row: &Row<'_>) -> rusqlite::Result<Key> {
    let models: Option<String> = row.get(5)?;
    let models = models.map(|text| serde_json::from_str(&text)).transpose();
    let models = models.map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, error.into())
    })?;
    let tokens_per_day: Option<i64> = row.get(7)?;
    let part: Option<String> = row.get(10)?;
    Ok(Key {
        id: row.get(0)?,
        begins: format!("{PREFIX}{}", part.unwrap_or_default()),
        name: row.get(1)?,
        created: row.get(2)?,
        expires: row.get(3)?,
        revoked: row.get(4)?,
        models,
        limits: KeyLimits {
            requests_per_minute: row.get(6)?,
            tokens_per_day: tokens_per_day.map(from_integer),
            concurrent: row.get(8)?,
            money_per_day: row.get(9)?,
        },
        may_manage: row.get(11)?,
    })
}

/// The keys of a home, for those who run it.
#[derive(Debug)]
pub struct Keys {
    records: Records,
}

impl Keys {
    /// Opens or makes them.
    ///
    /// # Errors
    /// A home that cannot be written, records that cannot be read.
    pub fn open(home: &Path) -> Result<Self, KeysError> {
        Ok(Self {
            records: Records::open(home)?,
        })
    }

    /// Makes a key. Its text is in no record: it is shown now or never. `unix` is the time in
    /// seconds since 1970, here and below.
    ///
    /// # Errors
    /// A grant that makes no sense, a name in use, a database that refuses.
    pub fn add(&mut self, grant: &Grant, unix: i64) -> Result<(Key, Secret), KeysError> {
        check(grant, unix)?;
        self.refuse_taken(&grant.name)?;
        let (part, secret) = Secret::draw()?;
        let sealed = Sealed::of(&secret)?;
        let id = self.write(|change| {
            let id = write_grant(change, grant, unix)?;
            write_secret(change, id, &part, &sealed)?;
            Ok(id)
        })?;
        Ok((self.by_id(id)?, secret))
    }

    /// All keys in order of age, revoked ones included.
    ///
    /// # Errors
    /// A database that refuses.
    pub fn list(&self) -> Result<Vec<Key>, KeysError> {
        self.records.read(list)
    }

    /// Ends a key, by its name or how it begins. Servers notice within two seconds.
    ///
    /// # Errors
    /// No such key in use, a database that refuses.
    pub fn revoke(&mut self, which: &str, unix: i64) -> Result<Key, KeysError> {
        let key = self.in_use(which)?;
        self.write(|change| {
            change.execute(
                "UPDATE keys SET revoked = ?2 WHERE id = ?1",
                params![key.id, unix],
            )
        })?;
        self.by_id(key.id)
    }

    /// Gives a key another text; name, limits and what was used stay. The text so far still opens
    /// for `grace_seconds`.
    ///
    /// # Errors
    /// No such key in use, a database that refuses.
    pub fn rotate(
        &mut self,
        which: &str,
        grace_seconds: u32,
        unix: i64,
    ) -> Result<(Key, Secret), KeysError> {
        let key = self.in_use(which)?;
        let (part, secret) = Secret::draw()?;
        let sealed = Sealed::of(&secret)?;
        let end = unix.saturating_add(grace_seconds.into());
        self.write(|change| {
            change.execute(
                "UPDATE key_secrets SET ends = min(ifnull(ends, ?2), ?2) WHERE key = ?1",
                params![key.id, end],
            )?;
            write_secret(change, key.id, &part, &sealed)
        })?;
        Ok((self.by_id(key.id)?, secret))
    }

    /// Changes keys and says so to those who watch.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, KeysError> {
        self.records.change("write", |change| {
            let done = work(change)?;
            change.execute("UPDATE key_state SET changes = changes + 1", [])?;
            Ok(done)
        })
    }

    fn one(&self, condition: &str, value: &dyn rusqlite::ToSql) -> Result<Option<Key>, KeysError> {
        self.records.read(|database| {
            database
                .query_row(&format!("{KEY} WHERE {condition}"), [value], read_key)
                .optional()
        })
    }

    fn by_id(&self, id: i64) -> Result<Key, KeysError> {
        let key = self.one("id = ?1", &id)?;
        key.ok_or_else(|| KeysError::Unknown(id.to_string()))
    }

    fn in_use(&self, which: &str) -> Result<Key, KeysError> {
        if let Some(key) = self.one("name = ?1 AND revoked IS NULL", &which)? {
            return Ok(key);
        }
        let part = which.strip_prefix(PREFIX);
        let key = match part {
            // A whole text would be a secret: what follows is cut and never repeated.
            Some(part) => {
                let part: String = part.chars().take(8).collect();
                let condition = "id = (SELECT key FROM key_secrets WHERE part = ?1)";
                let key = self.one(condition, &part)?;
                key.ok_or_else(|| KeysError::Unknown(format!("{PREFIX}{part}")))?
            }
            None => return Err(KeysError::Unknown(which.chars().take(100).collect())),
        };
        match key.revoked {
            Some(_) => Err(KeysError::Revoked(key.begins)),
            None => Ok(key),
        }
    }

    fn refuse_taken(&self, name: &str) -> Result<(), KeysError> {
        match self.one("name = ?1 AND revoked IS NULL", &name)? {
            Some(key) => Err(KeysError::Taken(key.name)),
            None => Ok(()),
        }
    }
}

fn write_grant(change: &Transaction<'_>, grant: &Grant, unix: i64) -> rusqlite::Result<i64> {
    let models = grant.models.as_ref();
    let limits = &grant.limits;
    change.execute(
        "INSERT INTO keys (name, created, expires, models, requests_per_minute, tokens_per_day,
             concurrent, money_per_day, may_manage)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            grant.name,
            unix,
            grant.expires,
            models.map(|models| serde_json::Value::from(models.as_slice()).to_string()),
            limits.requests_per_minute,
            limits.tokens_per_day.map(to_integer),
            limits.concurrent,
            limits.money_per_day,
            grant.may_manage,
        ],
    )?;
    Ok(change.last_insert_rowid())
}

fn write_secret(
    change: &Transaction<'_>,
    id: i64,
    part: &str,
    sealed: &Sealed,
) -> rusqlite::Result<usize> {
    change.execute(
        "INSERT INTO key_secrets (part, key, salt, hash) VALUES (?1, ?2, ?3, ?4)",
        params![part, id, sealed.salt, sealed.hash],
    )
}

/// Refuses a grant that makes no sense. Zero would be a key that can do nothing: that is revoking.
fn check(grant: &Grant, unix: i64) -> Result<(), KeysError> {
    let bad = |field, expected, got: String| {
        Err(KeysError::Grant {
            field,
            expected,
            got,
        })
    };
    let name = grant.name.as_str();
    let is_fine =
        !name.trim().is_empty() && name.chars().count() <= 64 && !name.contains(char::is_control);
    if name.starts_with(PREFIX) {
        return bad(
            "name",
            "a name that does not begin as keys do",
            "`fr-`".into(),
        );
    }
    if !is_fine {
        let got = format!("{:?}", name.chars().take(70).collect::<String>());
        return bad("name", "1 to 64 printable characters", got);
    }
    if grant.expires.is_some_and(|end| end <= unix) {
        return bad("expires", "a time to come", "one that has passed".into());
    }
    if grant.models.as_ref().is_some_and(Vec::is_empty) {
        return bad("models", "at least one, or no list for all", "none".into());
    }
    let limits = &grant.limits;
    let counts = [
        (
            "requests per minute",
            limits.requests_per_minute.map(u64::from),
        ),
        ("tokens per day", limits.tokens_per_day),
        ("concurrent", limits.concurrent.map(u64::from)),
    ];
    for (field, count) in counts {
        if count == Some(0) {
            return bad(field, "at least 1, or no limit", "0".into());
        }
    }
    match limits.money_per_day {
        Some(money) if !(money.is_finite() && money > 0.0) => bad(
            "money per day",
            "more than 0, or no limit",
            money.to_string(),
        ),
        _ => Ok(()),
    }
}

/// SQLite has signed 64-bit integers; counts beyond them are kept at their end.
pub(crate) fn to_integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn from_integer(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
