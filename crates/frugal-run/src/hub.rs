//! The hub: repositories of models by name, listed and fetched over HTTPS.
//!
//! Everything that comes over the wire is hostile until its digest says otherwise: names are
//! checked before they touch a path, sizes before room is taken, digests before a file gets its
//! name. A cut download goes on where it was cut, in this process or a later one. Where fetched
//! files live and what is recorded of them: [`crate::models`].
//!
//! # Why not hf-hub alone
//! Its current line (1.0) is async and brings tokio, reqwest and hyper; nothing here is async. The
//! line before (0.5) has a blocking fetcher, but it appends whatever comes to a partial file even
//! where the server ignored the range, checks no digest and no size of the listing, panics on a
//! redirect that it cannot parse, and has no timeout for a stalled connection. So of hf-hub only the
//! layout of the hub's cache is used: files that other tools have fetched already are taken from
//! there. Listing and fetching are `ureq` with rustls.
//!
//! Departure from the hub's own tools: the token goes to the endpoint's scheme, host and port only,
//! and never over plain HTTP except to this machine.

mod choose;
mod download;
mod listing;
mod name;
mod web;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::store::{At, Stop, StoreError};
pub(crate) use choose::{Chosen, INDEX, MAX_SMALL_BYTES, Shape, choose, tag};
pub(crate) use download::Hashes;
use download::Target;
pub use listing::{Digest, Listing, RemoteFile};
pub(crate) use name::is_plain;
pub use name::{Choice, Wanted};
use web::{Web, encoded};

/// Where the hub is and how patient to be with it.
#[derive(Clone)]
pub struct Settings {
    /// Its address, for example `https://huggingface.co`.
    pub endpoint: String,
    /// Sent to the endpoint and to nobody else.
    pub token: Option<String>,
    /// A proxy to reach it through, as `http://HOST:PORT`.
    pub proxy: Option<String>,
    /// The cache of the hub's own tools, where there is one.
    pub cache: Option<PathBuf>,
    /// Most bytes that one model may have.
    pub most_bytes: u64,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long a connection may bring nothing.
    pub stall: Duration,
    /// Attempts at one request or file. Attempts that brought much do not count.
    pub attempts: u32,
    /// The pause after the first failure, doubled after each further one.
    pub pause: Duration,
    /// The longest pause, the server's wishes included.
    pub longest_pause: Duration,
    /// Ends what is under way; a later pull goes on from there.
    pub stop: Stop,
}

impl Settings {
    /// Patience for ordinary networks and no token, proxy or cache.
    #[must_use]
    pub fn of(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            token: None,
            proxy: None,
            cache: None,
            // Four times the largest checkpoint of the family.
            most_bytes: 3 << 40,
            connect: Duration::from_secs(20),
            stall: Duration::from_mins(1),
            attempts: 6,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_mins(2),
            stop: Stop::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is nobody's business, and a proxy's address may hold a password.
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("has_token", &self.token.is_some())
            .field("has_proxy", &self.proxy.is_some())
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// Why the hub could not give what was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name that cannot be one of the hub.
    #[error("`{name}` is no name on the hub: {message}")]
    Name {
        /// The name as given.
        name: String,
        /// What was expected.
        message: String,
    },
    /// An address, token or proxy that cannot be used.
    #[error("the hub's settings: {0}")]
    Settings(String),
    /// The hub wants to know who asks, or knows and says no.
    #[error("the hub refuses {what} ({status}): {advice}")]
    Denied {
        /// The repository or file.
        what: String,
        /// 401 or 403.
        status: u16,
        /// What to do about it.
        advice: &'static str,
    },
    /// The hub has no such thing.
    #[error("the hub has no {0}")]
    NotFound(String),
    /// Another answer than those that are understood.
    #[error("expected {what} from {url}, got status {status}")]
    Status {
        /// What was asked for.
        what: String,
        /// Where, without the query.
        url: String,
        /// The answer.
        status: u16,
    },
    /// The hub is busy for longer than one is ready to wait.
    #[error("the hub asks to wait {seconds} s before {what}, expected at most {most} s; try later")]
    Busy {
        /// What was asked for.
        what: String,
        /// What the hub asks.
        seconds: u64,
        /// What is accepted.
        most: u64,
    },
    /// A redirect that leads in a circle or to where one does not go.
    #[error("{url} redirects {message}")]
    Redirect {
        /// Where it began, without the query.
        url: String,
        /// Where it leads.
        message: String,
    },
    /// No connection, or one that broke.
    #[error("cannot read {what} from {url}: {message}")]
    Network {
        /// What was asked for.
        what: String,
        /// Where, without the query.
        url: String,
        /// What the system or the library says.
        message: String,
    },
    /// All attempts failed.
    #[error("gave up after {attempts} attempts; a later pull goes on from what is there: {last}")]
    GaveUp {
        /// How many.
        attempts: u32,
        /// The last failure.
        last: Box<HubError>,
    },
    /// A listing that cannot be right.
    #[error("the listing of {name} is not to be trusted: {message}")]
    Listing {
        /// The repository.
        name: String,
        /// What was expected and what came.
        message: String,
    },
    /// The repository has not the one thing that was asked for.
    #[error("{name}: {message}")]
    Choice {
        /// The repository.
        name: String,
        /// What was expected and what is there.
        message: String,
    },
    /// A file of another length than listed.
    #[error("{file}: expected {expected} bytes as listed, got {got}")]
    Bytes {
        /// The file.
        file: String,
        /// As listed.
        expected: u64,
        /// As it came.
        got: String,
    },
    /// Something small that is not small.
    #[error("expected at most {most} bytes of {what}, got more")]
    TooLong {
        /// What was asked for.
        what: String,
        /// What is read of it.
        most: u64,
    },
    /// Other bytes than listed.
    #[error("{file}: expected {expected} as listed, got {got}; what came was removed")]
    Digest {
        /// The file.
        file: String,
        /// As listed.
        expected: String,
        /// Of the bytes that came.
        got: String,
    },
    /// More than there is room for, or than one is ready to take.
    #[error("{name} needs {needed} bytes more, expected at most {most} ({limit})")]
    Room {
        /// The repository.
        name: String,
        /// Bytes yet to come.
        needed: u64,
        /// Bytes that may come.
        most: u64,
        /// Which limit it is.
        limit: &'static str,
    },
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What happens while a model is fetched or imported.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The repository or folder was looked at and the files chosen.
    Listed {
        /// Its name.
        name: &'a str,
        /// The exact revision, empty for a local one.
        revision: &'a str,
        /// How many files.
        n_files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// A file begins, or goes on where an earlier pull was cut.
    Begin {
        /// The file.
        file: &'a str,
        /// Bytes that are there already.
        have: u64,
        /// All of its bytes.
        bytes: u64,
    },
    /// More of it is there. `have` falls back where a server starts over.
    Bytes {
        /// The file.
        file: &'a str,
        /// Bytes that are there.
        have: u64,
        /// All of its bytes.
        bytes: u64,
    },
    /// An attempt failed and another follows.
    Retry {
        /// What is being fetched.
        what: &'a str,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// Until the next one.
        pause: Duration,
        /// Why it failed.
        reason: &'a HubError,
    },
    /// A file is whole and its digest right.
    End {
        /// The file.
        file: &'a str,
        /// Its bytes.
        bytes: u64,
    },
}

/// Hears of progress.
pub type Watch<'a> = dyn FnMut(&Progress<'_>) + 'a;

/// A file that is whole on this disk.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFile {
    /// Its plain name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// A hub to fetch from.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    web: Web,
}

impl Hub {
    /// Makes ready to talk to the hub; nothing is sent yet.
    ///
    /// # Errors
    /// An endpoint, token or proxy that cannot be used.
    pub fn new(settings: Settings) -> Result<Self, HubError> {
        let web = Web::new(&settings)?;
        Ok(Self { settings, web })
    }

    /// The address of a repository, as people open it.
    #[must_use]
    pub fn address(&self, id: &str) -> String {
        format!("{}/{id}", self.web.endpoint())
    }

    /// What a repository holds at a revision, and which commit that is.
    ///
    /// # Errors
    /// A repository that is not there or is refused, a listing that cannot be right, a network that
    /// does not work.
    pub fn list(&self, wanted: &Wanted, watch: &mut Watch<'_>) -> Result<Listing, HubError> {
        let what = format!("model {} at revision {}", wanted.id, wanted.revision);
        let url = format!(
            "{}/api/models/{}/revision/{}?blobs=true",
            self.web.endpoint(),
            wanted.id,
            encoded(&wanted.revision)
        );
        let body = self.web.text(&what, &url, listing::MAX_BYTES, watch)?;
        Listing::parse(wanted, &body)
    }

    /// Which files of a listing are wanted: those of a safetensors checkpoint, or one GGUF file.
    ///
    /// # Errors
    /// A repository that has not exactly one thing that fits, files without size or digest.
    pub(crate) fn choose(
        &self,
        listing: &Listing,
        choice: &Choice,
        watch: &mut Watch<'_>,
    ) -> Result<Chosen, HubError> {
        let names: Vec<&str> = listing.names().collect();
        let has_index = names.contains(&INDEX);
        let index = if has_index && *choice == Choice::Only {
            Some(self.small_file(listing, &listing.file(INDEX)?, watch)?)
        } else {
            None
        };
        let chosen = choose(&names, choice, index.as_deref());
        chosen.map_err(|message| HubError::Choice {
            name: listing.id.clone(),
            message,
        })
    }

    /// A small file, checked, in memory.
    fn small_file(
        &self,
        listing: &Listing,
        file: &RemoteFile,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<u8>, HubError> {
        expect_small(file)?;
        let url = self.file_url(listing, &file.name);
        let bytes = self.web.text(&file.name, &url, file.bytes, watch)?;
        let mut hashes = Hashes::of(&file.digest, file.bytes);
        hashes.update(&bytes);
        hashes.finish().expect(file)?;
        Ok(bytes)
    }

    /// Fetches files of a listing into a folder, each under its last name, in the order given.
    /// What is there already is checked and kept; what was cut goes on.
    ///
    /// # Errors
    /// As [`HubError`]; the partial files stay for the next attempt, except those that were wrong.
    pub fn fetch(
        &self,
        listing: &Listing,
        files: &[RemoteFile],
        to: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<StoredFile>, HubError> {
        self.expect_room(listing, files, to)?;
        let mut fetched = Vec::new();
        for file in files {
            let name = file.plain_name().to_owned();
            if !is_plain(&name) {
                return Err(HubError::Listing {
                    name: listing.id.clone(),
                    message: format!("expected a plain file name, got {name:?}"),
                });
            }
            let target = Target {
                file,
                url: self.file_url(listing, &file.name),
                path: to.join(&name),
                cached: self.cached(listing, file),
                stop: &self.settings.stop,
            };
            let sha256 = download::bring(&self.web, &target, watch)?;
            fetched.push(StoredFile {
                name,
                bytes: file.bytes,
                sha256,
            });
        }
        Ok(fetched)
    }

    fn file_url(&self, listing: &Listing, name: &str) -> String {
        let path: Vec<String> = name.split('/').map(encoded).collect();
        format!(
            "{}/{}/resolve/{}/{}",
            self.web.endpoint(),
            listing.id,
            encoded(&listing.revision),
            path.join("/")
        )
    }

    /// Where the hub's own tools keep this very file, if they have fetched it.
    fn cached(&self, listing: &Listing, file: &RemoteFile) -> Option<PathBuf> {
        let cache = hf_hub::Cache::new(self.settings.cache.clone()?);
        let folder = cache
            .model(listing.id.clone())
            .pointer_path(&listing.revision);
        let path = folder.join(&file.name);
        let is_whole = path
            .metadata()
            .is_ok_and(|found| found.is_file() && found.len() == file.bytes);
        is_whole.then_some(path)
    }

    /// Refuses what cannot fit before the first byte is asked for.
    pub(crate) fn expect_room(
        &self,
        listing: &Listing,
        files: &[RemoteFile],
        to: &Path,
    ) -> Result<(), HubError> {
        let room = |needed, most, limit| HubError::Room {
            name: listing.id.clone(),
            needed,
            most,
            limit,
        };
        let all = files
            .iter()
            .try_fold(0_u64, |sum, file| sum.checked_add(file.bytes));
        let most = self.settings.most_bytes;
        let all = all.ok_or_else(|| room(u64::MAX, most, "the largest model that is fetched"))?;
        if all > most {
            return Err(room(all, most, "the largest model that is fetched"));
        }
        let have: u64 = files
            .iter()
            .map(|file| download::bytes_there(&to.join(file.plain_name()), file))
            .sum();
        let needed = all.saturating_sub(have);
        match free_bytes(to).at("measure", to)? {
            Some(free) if needed > free => Err(room(needed, free, "free on this disk")),
            _ => Ok(()),
        }
    }
}

/// Refuses a file beside the weights that is longer than any.
pub(crate) fn expect_small(file: &RemoteFile) -> Result<(), HubError> {
    if file.bytes <= MAX_SMALL_BYTES {
        return Ok(());
    }
    Err(HubError::TooLong {
        what: file.name.clone(),
        most: MAX_SMALL_BYTES,
    })
}

/// Bytes that an ordinary user may still write where `path` is, where the system tells.
#[cfg(unix)]
pub(crate) fn free_bytes(path: &Path) -> std::io::Result<Option<u64>> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(Some(disk.f_bavail.saturating_mul(disk.f_frsize)))
}

/// Bytes that an ordinary user may still write where `path` is, where the system tells.
#[cfg(not(unix))]
pub(crate) fn free_bytes(_path: &Path) -> std::io::Result<Option<u64>> {
    Ok(None)
}
