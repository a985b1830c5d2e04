//! Models that are loaded: on demand, several at a time, within a limit of memory.
//!
//! A model that is asked for is loaded once however many ask, also where those who asked have left
//! meanwhile. Where its memory is wanted for another, the one that was used longest ago and is idle
//! goes. One whose engine has ended by itself is loaded again. Nothing is ever answered by another model than
//! the one that was named: aliases are the operator's, and are told as such.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::{Mutex as TurnMutex, OwnedMutexGuard};

use crate::answer::prompt::Manner;
use crate::aside::Aside;
use crate::engine::{Costs, Engine, EngineSettings, Handle};
use crate::models::{Library, Listed, Ready, Words};
use crate::steer::Grammars;
use crate::wire::error::{Fault, Kind};

/// What the shelf may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShelfSettings {
    /// Bytes of weights and caches in all.
    pub memory_bytes: u64,
    /// Models loaded at a time.
    pub max_loaded: usize,
    /// Of each model's engine.
    pub engine: EngineSettings,
    /// Names that stand for other names.
    pub aliases: BTreeMap<String, String>,
    /// The model that is meant where none is named, by dialects that allow it.
    pub default: Option<String>,
}

/// A model that is loaded.
#[derive(Debug)]
pub struct Served {
    /// Its own name, never an alias.
    pub name: String,
    /// Its words.
    pub words: Arc<Words>,
    /// What its template does.
    pub manner: Manner,
    /// Takes jobs for it.
    pub handle: Handle,
    grammars: OnceLock<Result<Arc<Grammars>, Fault>>,
    /// When it was used last, as the shelf counts.
    used: AtomicU64,
    /// Ends with the last who holds this.
    engine: Engine,
}

impl Served {
    /// Bytes that it may come to use.
    pub fn bytes(&self) -> u64 {
        let facts = self.handle.facts();
        facts.weight_bytes + facts.max_pages as u64 * facts.page_bytes
    }

    /// Makes grammars over its vocabulary. The first time takes up to a second: not for an async
    /// thread.
    ///
    /// # Errors
    /// If its vocabulary cannot follow any.
    pub fn grammars(&self) -> Result<&Arc<Grammars>, Fault> {
        let grammars = self.grammars.get_or_init(|| Grammars::new(&self.words));
        grammars.as_ref().map_err(Clone::clone)
    }

    /// Names what an answer depends on, beside what was asked: the program and the model.
    pub fn fingerprint(&self) -> String {
        let facts = self.handle.facts();
        let mut digest = Sha256::new();
        digest.update(env!("CARGO_PKG_VERSION"));
        digest.update(&self.name);
        for number in [
            facts.weight_bytes,
            facts.vocabulary as u64,
            facts.page_bytes,
        ] {
            digest.update(number.to_le_bytes());
        }
        digest.update(facts.flops_per_token.to_le_bytes());
        let hex = digest
            .finalize()
            .iter()
            .take(5)
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        format!("fp_{hex}")
    }

    /// Whether its engine has ended by itself.
    fn has_ended(&self) -> bool {
        self.engine.has_ended()
    }
}

/// Whether nobody but the shelf holds a model: no request works with it, from the moment it is found
/// until what it cost is settled.
fn is_idle(served: &Arc<Served>) -> bool {
    Arc::strong_count(served) == 1
}

/// Models that are loaded, by name.
type Loaded = Mutex<BTreeMap<String, Arc<Served>>>;

/// Models by name.
#[derive(Debug)]
pub struct Shelf {
    models: Arc<dyn Library>,
    settings: ShelfSettings,
    loaded: Arc<Loaded>,
    uses: AtomicU64,
    /// One model is loaded at a time: loading reads a disk, and counts memory.
    loading: Arc<TurnMutex<()>>,
    /// What models cost that have been unloaded.
    gone: Mutex<Costs>,
    /// Where files are read.
    aside: Aside,
}

/// Threads that look at models' files at a time.
const ASIDE: usize = 2;

impl Shelf {
    /// An empty shelf.
    pub fn new(models: Arc<dyn Library>, settings: ShelfSettings) -> Self {
        Self {
            models,
            settings,
            loaded: Arc::default(),
            uses: AtomicU64::new(0),
            loading: Arc::default(),
            gone: Mutex::default(),
            aside: Aside::new(ASIDE),
        }
    }

    /// What could be served, aliases included: each under its own name.
    ///
    /// # Errors
    /// If looking at the models panics.
    pub async fn list(&self) -> Result<Vec<Listed>, Fault> {
        let models = self.listed().await?;
        let aliased = self.settings.aliases.iter().filter_map(|(alias, name)| {
            let model = models.iter().find(|model| model.name == *name)?;
            Some(Listed {
                name: alias.clone(),
                ..model.clone()
            })
        });
        let aliased: Vec<Listed> = aliased.collect();
        Ok(models.into_iter().chain(aliased).collect())
    }

    /// Each model is looked at once, which reads its files: not on an async thread.
    async fn listed(&self) -> Result<Vec<Listed>, Fault> {
        let models = Arc::clone(&self.models);
        self.aside.run(move || Ok(models.list())).await
    }

    /// What answers have cost since the start, also those of models that have been unloaded.
    pub fn spent(&self) -> Costs {
        let mut spent = *self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        for served in self.lock().values() {
            spent.add(&served.handle.load().spent);
        }
        spent
    }

    /// Those that are loaded.
    pub fn loaded(&self) -> Vec<Arc<Served>> {
        self.lock().values().cloned().collect()
    }

    /// The limit of memory.
    pub const fn settings(&self) -> &ShelfSettings {
        &self.settings
    }

    /// The model of a name, loaded if it is not.
    ///
    /// # Errors
    /// If there is none of that name, it cannot be loaded, or there is no room for it now.
    pub async fn get(&self, name: &str) -> Result<Arc<Served>, Fault> {
        let name = self.resolve(name).to_owned();
        if let Some(served) = self.find(&name) {
            return Ok(served);
        }
        // Who asks for what there is not need not wait for what others load.
        let listed = self.listed().await?;
        let model = listed.iter().find(|model| model.name == name);
        let weights = model.ok_or_else(|| no_model(&name))?.bytes;
        let turn = Arc::clone(&self.loading).lock_owned().await;
        if let Some(served) = self.find(&name) {
            return Ok(served);
        }
        let mut gone = Vec::new();
        let cache_bytes = self.make_room(weights, &mut gone);
        // Their memory is free before more is taken; if that panics, their engines are gone as well.
        let _ = end(gone).await;
        let cache_bytes = cache_bytes?;
        self.load(name, cache_bytes, turn).await
    }

    /// Unloads a model where it is idle; whether it was loaded.
    pub fn unload(&self, name: &str) -> bool {
        let name = self.resolve(name);
        let mut loaded = self.lock();
        if !loaded.get(name).is_some_and(is_idle) {
            return false;
        }
        let gone = self.let_go(&mut loaded, name);
        drop(loaded);
        drop(end(gone.into_iter().collect()));
        true
    }

    /// Does work with a model's files while it is not loaded and nobody can load it.
    ///
    /// # Errors
    /// If one of these names is that of a loaded model, or the work panics.
    pub async fn while_unloaded<T: Send + 'static>(
        &self,
        names: &[String],
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let turn = Arc::clone(&self.loading).lock_owned().await;
        let is_loaded = {
            let loaded = self.lock();
            names.iter().any(|name| loaded.contains_key(name))
        };
        if is_loaded {
            let message = "the model is loaded; unload it first";
            return Err(Fault::new(Kind::Conflict, message));
        }
        let work = move || {
            let _turn = turn;
            Ok(work())
        };
        self.aside.run(work).await
    }

    /// The name that a name or alias stands for.
    pub fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        let name = match &self.settings.default {
            Some(default) if name.is_empty() => default,
            _ => name,
        };
        self.settings.aliases.get(name).map_or(name, String::as_str)
    }

    fn find(&self, name: &str) -> Option<Arc<Served>> {
        let mut loaded = self.lock();
        let served = Arc::clone(loaded.get(name)?);
        if served.has_ended() {
            tracing::error!(name, "a model's engine has ended by itself");
            self.let_go(&mut loaded, name);
            return None;
        }
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        served.used.store(now, Ordering::Relaxed);
        Some(served)
    }

    /// Unloads idle models until there is room for weights; the bytes left for a cache: half of what
    /// remains, so that there is room for another model. None is unloaded where that would not do.
    fn make_room(&self, weights: u64, gone: &mut Vec<Arc<Served>>) -> Result<u64, Fault> {
        if self.settings.memory_bytes <= weights {
            let message = "the model does not fit the memory that the server may use";
            return Err(Fault::new(Kind::CannotLoad, message));
        }
        let mut loaded = self.lock();
        let in_use = loaded.values().filter(|served| !is_idle(served));
        let (n_in_use, kept) =
            in_use.fold((0, 0), |(n, bytes), served| (n + 1, bytes + served.bytes()));
        if n_in_use >= self.settings.max_loaded
            || self.settings.memory_bytes.saturating_sub(kept) <= weights
        {
            return Err(no_room());
        }
        loop {
            let held: u64 = loaded.values().map(|served| served.bytes()).sum();
            let left = self.settings.memory_bytes.saturating_sub(held);
            let has_place = loaded.len() < self.settings.max_loaded;
            let last = self.settings.max_loaded <= loaded.len() + 1;
            if has_place && left > weights {
                let rest = left - weights;
                return Ok(if last { rest } else { rest / 2 });
            }
            let idle = loaded.values().filter(|served| is_idle(served));
            let oldest = idle.min_by_key(|served| served.used.load(Ordering::Relaxed));
            let Some(oldest) = oldest.map(|served| served.name.clone()) else {
                return Err(no_room());
            };
            gone.extend(self.let_go(&mut loaded, &oldest));
        }
    }

    fn let_go(
        &self,
        loaded: &mut BTreeMap<String, Arc<Served>>,
        name: &str,
    ) -> Option<Arc<Served>> {
        let served = loaded.remove(name)?;
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.add(&served.handle.load().spent);
        Some(served)
    }

    /// Loads a model and puts it on the shelf. Once begun it is not broken off, and the next waits
    /// its turn: whoever asked and left cannot have models loaded side by side.
    async fn load(
        &self,
        name: String,
        cache_bytes: u64,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Arc<Served>, Fault> {
        let models = Arc::clone(&self.models);
        let loaded = Arc::clone(&self.loaded);
        let settings = self.settings.engine;
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        let is_alone = self.lock().is_empty();
        let opened = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let Ready { model, words } = models.open(&name, cache_bytes)?;
            let engine = Engine::start(model, settings).map_err(|error| error.to_string())?;
            let handle = engine.handle().map_err(|error| error.to_string())?;
            let served = Arc::new(Served {
                name,
                manner: Manner::of(&words),
                words,
                handle,
                grammars: OnceLock::new(),
                used: AtomicU64::new(now),
                engine,
            });
            let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.insert(served.name.clone(), Arc::clone(&served));
            Ok::<_, String>(served)
        });
        match opened.await {
            Ok(Ok(served)) => Ok(served),
            Ok(Err(why)) => {
                tracing::error!(why, "a model could not be loaded");
                let message = "the model could not be loaded";
                // Beside others it may have been for want of memory, which they will give back.
                Err(if is_alone {
                    Fault::new(Kind::CannotLoad, message)
                } else {
                    Fault::new(Kind::Unavailable, message).again_after(5)
                })
            }
            Err(_) => {
                tracing::error!("loading a model panicked");
                Err(Fault::new(Kind::Internal, "the model could not be loaded"))
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Served>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for engines to end, which takes as long as a step, on a thread that may wait.
fn end(gone: Vec<Arc<Served>>) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_blocking(move || drop(gone))
}

fn no_room() -> Fault {
    let message = "no room to load the model while others are in use";
    Fault::new(Kind::Unavailable, message).again_after(5)
}

fn no_model(name: &str) -> Fault {
    let shown: String = name.chars().take(100).collect();
    Fault::new(
        Kind::NoModel,
        format!("the model `{shown}` does not exist; /v1/models lists those that do"),
    )
    .at("model")
}
