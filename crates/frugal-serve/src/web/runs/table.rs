//! Which runs there are: found anew each time somebody asks, and known by ids that are no paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use frugal_run::digest_of;
use frugal_run::inside::Inside;
use frugal_run::ledger::{Bill, Total};

use super::describe::Described;
use super::progress::Progress;
use super::spent::{Other, summed};
use super::{Runs, Scope, lock};
use crate::wire::error::{Fault, Kind};

/// Runs that are listed at most.
const MOST_RUNS: usize = 2000;
/// Digits of an id.
const ID_DIGITS: usize = 16;

/// A run that has an id.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) inside: Inside,
    read: Mutex<Part>,
}

/// What was read of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) described: Arc<Described>,
    /// Bytes of the recipe and when it was written, as it was described.
    recipe: Option<(u64, SystemTime)>,
    pub(super) progress: Progress,
}

/// What was found.
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) others: Vec<Other>,
    pub(super) total: Total,
}

/// A run with what it cost.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) known: Arc<Known>,
    pub(super) bill: Option<Bill>,
}

impl Known {
    fn new(folder: &Path) -> Self {
        let inside = Inside::new(folder);
        let part = Part {
            recipe: stamp(&inside),
            described: Arc::new(Described::of(&inside)),
            progress: Progress::new(),
        };
        Self {
            inside,
            read: Mutex::new(part),
        }
    }

    /// Reads the recipe again where another run was made in the folder meanwhile.
    fn look_again(&self) {
        let now = stamp(&self.inside);
        let mut part = self.part();
        if part.recipe != now {
            part.recipe = now;
            part.described = Arc::new(Described::of(&self.inside));
            part.progress = Progress::new();
        }
    }

    pub(super) fn part(&self) -> MutexGuard<'_, Part> {
        lock(&self.read)
    }
}

impl Runs {
    /// Everything there is now. The table of ids follows.
    pub(super) fn found(&self) -> Result<Found, Fault> {
        let (bills, total) = lock(&self.ledger).everything().map_err(|error| {
            tracing::error!(%error, "the ledger could not be read");
            Fault::new(Kind::Internal, "the ledger cannot be read")
        })?;
        let mut by_folder: BTreeMap<PathBuf, Bill> = BTreeMap::new();
        let mut without = Vec::new();
        for bill in bills {
            // A server's line names models in place of a folder.
            if !Path::new(&bill.run.folder).is_absolute() {
                without.push(bill);
            } else if let Some(older) = by_folder.insert(bill.run.folder.clone().into(), bill) {
                without.push(older);
            }
        }
        let folders = self.folders(&by_folder);
        let mut table = lock(&self.table);
        let mut entries = Vec::new();
        for folder in folders {
            let id = id_of(&folder);
            let known = table.get(&id).map(Arc::clone);
            let known = match known {
                Some(known) => {
                    known.look_again();
                    known
                }
                None => Arc::new(Known::new(&folder)),
            };
            let bill = by_folder.remove(&folder);
            entries.push(Entry { id, known, bill });
        }
        *table = entries
            .iter()
            .map(|entry| (entry.id.clone(), Arc::clone(&entry.known)))
            .collect();
        drop(table);
        let others = summed(without.iter().chain(by_folder.values()));
        Ok(Found {
            entries,
            others,
            total,
        })
    }

    /// The folders that hold a run, each once.
    fn folders(&self, of_ledger: &BTreeMap<PathBuf, Bill>) -> BTreeSet<PathBuf> {
        let mut all = BTreeSet::new();
        let mut add = |folder: PathBuf| {
            if all.len() < MOST_RUNS && Inside::new(&folder).has(&["recipe.toml"]) {
                all.insert(folder);
            }
        };
        match &self.scope {
            Scope::Only(folder) => folder.canonicalize().into_iter().for_each(add),
            Scope::HomeAnd(roots) => {
                for root in roots.iter().filter_map(|root| root.canonicalize().ok()) {
                    let below = Inside::new(&root).folders(MOST_RUNS);
                    add(root);
                    below.into_iter().for_each(&mut add);
                }
                of_ledger.keys().rev().cloned().for_each(add);
            }
        }
        all
    }
}

/// What changes with a folder's recipe.
fn stamp(inside: &Inside) -> Option<(u64, SystemTime)> {
    let about = inside.open(&["recipe.toml"]).ok()?.metadata().ok()?;
    Some((about.len(), about.modified().ok()?))
}

/// The id of a folder: the same at every start of the server, and no path can be read from it.
pub(super) fn id_of(folder: &Path) -> String {
    let mut id = digest_of(&[b"run", folder.as_os_str().as_encoded_bytes()]);
    id.truncate(ID_DIGITS);
    id
}
