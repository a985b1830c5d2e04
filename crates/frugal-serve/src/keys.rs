//! API keys: salted hashes in the database, what each may do.
//!
//! [`Keys`] adds, lists, rotates and revokes them for the command line; a [`Keyring`] lets
//! requests in by them. Both work on tables of their own in the home's `frugal.db`, so a change by
//! one process reaches a server within two seconds and without a restart.
//!
//! A key's text is `fr-`, eight characters that name it and are no secret, and 43 more that are: 256
//! bits from the operating system. Only a salted SHA-256 of the text is kept. A slow hash, as
//! passwords need, would gain nothing here: nobody can try out 2^256 texts at any speed, while
//! every request would pay for it, and strangers could make the server do so.
//!
//! How much a key has used is the business of [`crate::quota`].

mod records;
mod secret;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use frugal_run::ledger::LedgerError;
use serde::Serialize;
use thiserror::Error;

use crate::quota::Now;
use crate::wire::error::{Fault, Kind};
pub use records::Keys;
pub(crate) use records::{Records, from_integer, to_integer};
pub(crate) use secret::part_of as part_of_key;
use secret::{Sealed, part_of};
pub use secret::{Secret, Token};

/// Seconds between two looks for changes.
const LOOK_SECONDS: f64 = 1.0;
/// Seconds for which keys that cannot be read again are still believed. Then nobody enters: a
/// revoked key must not work for ever because a disk fails.
const BELIEVED_SECONDS: f64 = 60.0;

/// Why keys could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The home or its records.
    #[error(transparent)]
    Home(#[from] LedgerError),
    /// The database refused.
    #[error("cannot {action} the keys in {}: {source}", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The database file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// The tables were written by a newer program.
    #[error("the keys in {} are of version {got}, expected at most {expected}: a newer program wrote them", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Their version.
        got: i64,
        /// The newest this program knows.
        expected: i64,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a key: {0}")]
    Random(getrandom::Error),
    /// A grant that makes no sense.
    #[error("{field}: expected {expected}, got {got}")]
    Grant {
        /// Which part of it.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// A live key has the name.
    #[error("a key called {0} is in use, expected another name")]
    Taken(String),
    /// No such key.
    #[error(
        "no key is called {0}, expected the name of a key in use or `fr-` and its eight characters"
    )]
    Unknown(String),
    /// A revoked key cannot be changed.
    #[error("the key {0} was revoked, expected one in use")]
    Revoked(String),
}

/// What a key may use. What is not given is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct KeyLimits {
    /// Requests within any 60 seconds.
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers within a day, see [`crate::quota`] for when it begins.
    pub tokens_per_day: Option<u64>,
    /// Requests under way together.
    pub concurrent: Option<u32>,
    /// Money within a day, in the operator's currency.
    pub money_per_day: Option<f64>,
}

/// What a new key is to be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Grant {
    /// Whose it is, for people and metrics; one live key a name.
    pub name: String,
    /// When it ends, in seconds since 1970.
    pub expires: Option<i64>,
    /// Models it may use, by the names clients use; all if none are given.
    pub models: Option<Vec<String>>,
    /// What it may use of them.
    pub limits: KeyLimits,
    /// Whether it may load, fetch and remove models, and stop runs.
    pub may_manage: bool,
}

/// A key as people may see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Key {
    /// Its number, which stays when it is rotated.
    pub id: i64,
    /// How its text begins: `fr-` and eight characters.
    pub begins: String,
    /// Whose it is.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// When it ends.
    pub expires: Option<i64>,
    /// When it was revoked.
    pub revoked: Option<i64>,
    /// Models it may use.
    pub models: Option<Vec<String>>,
    /// What it may use of them.
    pub limits: KeyLimits,
    /// Whether it may load, fetch and remove models, and stop runs.
    pub may_manage: bool,
}

impl Key {
    /// Whether it lets in at this time, in seconds since 1970.
    pub fn is_live(&self, unix: i64) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|end| unix < end)
    }
}

/// Whom a request is from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Holder {
    /// Number of the key; 0 without one.
    pub id: i64,
    /// Its name; `anyone` without one.
    pub name: String,
    /// Models it may use; all if none are given.
    pub models: Option<Vec<String>>,
    /// What it may use of them.
    pub limits: KeyLimits,
    /// Whether it may load, fetch and remove models, and stop runs.
    pub may_manage: bool,
}

impl Holder {
    /// Somebody without a key, where none is needed: on this machine alone, so it is its owner.
    pub fn anyone() -> Self {
        Self {
            name: "anyone".into(),
            may_manage: true,
            ..Self::default()
        }
    }

    /// Refuses a model that the key does not name, neither as it is `served` nor, where that is an
    /// alias, as it was `asked` for.
    ///
    /// # Errors
    /// [`Kind::Permission`].
    pub fn may_use(&self, asked: &str, served: &str) -> Result<(), Fault> {
        let may = |models: &Vec<String>| models.iter().any(|name| name == asked || name == served);
        if self.models.as_ref().is_none_or(may) {
            return Ok(());
        }
        Err(Fault::new(Kind::Permission, "this API key may not use this model").at("model"))
    }
}

/// Who may enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Those with a key.
    WithKey,
    /// Anyone. A key of ours that comes nevertheless must be a good one, and its limits hold.
    Anyone,
}

/// Lets requests in by their keys.
#[derive(Debug)]
pub struct Keyring {
    entry: Entry,
    watch: Mutex<Watch>,
    ring: RwLock<Ring>,
}

/// Looks for changes. One request a second does; the others go on with what is known.
#[derive(Debug)]
struct Watch {
    records: Records,
    looked: f64,
    changes: i64,
}

/// The keys as last read.
#[derive(Debug, Clone)]
struct Ring {
    known: Arc<BTreeMap<String, Known>>,
    /// When the records last said so.
    confirmed: f64,
}

/// One text that opens.
#[derive(Debug)]
struct Known {
    sealed: Sealed,
    /// When this text ends, after a rotation.
    ends: Option<i64>,
    key: Arc<Key>,
}

impl Keyring {
    /// The keys of a home.
    ///
    /// # Errors
    /// A home that cannot be written, records that cannot be read.
    pub fn open(home: &Path, entry: Entry, now: Now) -> Result<Self, KeysError> {
        let records = Records::open(home)?;
        let (changes, known) = records.known()?;
        Ok(Self {
            entry,
            watch: Mutex::new(Watch {
                records,
                looked: now.seconds,
                changes,
            }),
            ring: RwLock::new(Ring {
                known: Arc::new(known),
                confirmed: now.seconds,
            }),
        })
    }

    /// Keys that let in at this time.
    pub fn count_live(&self, unix: i64) -> usize {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let mut ids: Vec<i64> = ring
            .known
            .values()
            .filter(|known| known.key.is_live(unix) && known.ends.is_none_or(|end| unix < end))
            .map(|known| known.key.id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    }

    /// Lets a request in, or says why not. As much is computed for a key that does not exist as
    /// for one that does.
    ///
    /// # Errors
    /// [`Kind::Authentication`]; [`Kind::Unavailable`] if the keys could not be read for a minute.
    pub fn admit(&self, presented: Option<&str>, now: Now) -> Result<Holder, Fault> {
        let ring = self.fresh(now);
        let presented = match (presented.filter(|text| !text.is_empty()), self.entry) {
            (None, Entry::Anyone) => return Ok(Holder::anyone()),
            // Clients that must send something send anything.
            (Some(text), Entry::Anyone) if part_of(text).is_none() => return Ok(Holder::anyone()),
            (None, Entry::WithKey) => {
                return Err(refused(
                    "expected an API key as `Authorization: Bearer KEY`, got none",
                ));
            }
            (Some(text), _) => text,
        };
        if now.seconds - ring.confirmed > BELIEVED_SECONDS {
            let text = "API keys cannot be checked at the moment";
            return Err(Fault::new(Kind::Unavailable, text).again_after(5));
        }
        let known = part_of(presented).and_then(|part| ring.known.get(part));
        let is_opened = match known {
            Some(known) => known.sealed.is_opened_by(presented),
            None => Sealed::NONE.is_opened_by(presented),
        };
        let Some(known) = known.filter(|_| is_opened) else {
            return Err(refused("this API key is not known here"));
        };
        // Only who has the secret learns more.
        known.holder(now.unix)
    }

    /// Whose a key is by the part that names it, while it opens: for those who showed all of it
    /// before.
    pub(crate) fn holder_of(&self, part: &str, now: Now) -> Option<Holder> {
        let ring = self.fresh(now);
        let is_believed = now.seconds - ring.confirmed <= BELIEVED_SECONDS;
        let known = ring.known.get(part).filter(|_| is_believed)?;
        known.holder(now.unix).ok()
    }

    /// Whether everyone needs a key.
    pub fn is_needed(&self) -> bool {
        self.entry == Entry::WithKey
    }

    /// The keys as they are, as of a second ago. A look reads one row, so it does not matter that
    /// it blocks a thread that others wait on.
    fn fresh(&self, now: Now) -> Ring {
        if let Ok(mut watch) = self.watch.try_lock()
            && now.seconds - watch.looked >= LOOK_SECONDS
        {
            watch.looked = now.seconds;
            match watch.look() {
                Ok(changed) => {
                    let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
                    ring.confirmed = now.seconds;
                    if let Some(known) = changed {
                        ring.known = Arc::new(known);
                    }
                }
                Err(error) => tracing::error!(%error, "the keys were not read again"),
            }
        }
        self.ring
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Known {
    /// Who enters by it, at this time in seconds since 1970.
    fn holder(&self, unix: i64) -> Result<Holder, Fault> {
        let key = &self.key;
        if key.revoked.is_some() {
            return Err(refused("this API key was revoked"));
        }
        if self.ends.is_some_and(|end| end <= unix) {
            return Err(refused("this API key was replaced by another"));
        }
        if !key.is_live(unix) {
            return Err(refused("this API key has expired"));
        }
        Ok(Holder {
            id: key.id,
            name: key.name.clone(),
            models: key.models.clone(),
            limits: key.limits,
            may_manage: key.may_manage,
        })
    }
}

impl Watch {
    /// The keys, if they have changed.
    fn look(&mut self) -> Result<Option<BTreeMap<String, Known>>, KeysError> {
        if self.records.changes()? == self.changes {
            return Ok(None);
        }
        let (changes, known) = self.records.known()?;
        self.changes = changes;
        Ok(Some(known))
    }
}

fn refused(message: &str) -> Fault {
    Fault::new(Kind::Authentication, message)
}

#[cfg(test)]
mod tests;
