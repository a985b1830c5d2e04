//! Everything put together: settings and models in, a server that runs until it is told to end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use axum::Router;
use tokio::time::{MissedTickBehavior, interval};

use crate::aside::Aside;
use crate::config::{ServerSettings, Settings};
use crate::engine::Costs;
use crate::keys::{Entry, Holder, Keyring, KeysError, Token};
use crate::metrics::Metrics;
use crate::models::{Catalogue, Library};
use crate::quota::{Clock, Quotas};
use crate::routes::Front;
use crate::server::{self, Admission, App, ListenError, Readiness, Server, Shutdown, Stage};
use crate::service::{Grader, Parts, Service};
use crate::shelf::{Served, Shelf, ShelfSettings};
use crate::web::{self, Chats, Forecasts, Jobs, Runs, Sessions, Web};
use crate::wire::error::Fault;

/// How often accounts are written and costs are told.
const TICK: Duration = Duration::from_secs(1);
/// Bodies that are read at a time may together be so many times as large as one.
const BODIES: usize = 16;

/// What a host needs.
#[derive(Debug)]
pub struct Host {
    /// What the operator wants.
    pub settings: Settings,
    /// Where models come from.
    pub models: Arc<dyn Library>,
    /// What is kept here beside what is served, and what may be done with it.
    pub catalogue: Arc<dyn Catalogue>,
    /// Who grades formulas and tasks.
    pub grader: Option<Arc<dyn Grader>>,
    /// The folder of keys and accounts.
    pub home: PathBuf,
    /// Bytes for weights and caches, where the settings do not say.
    pub memory_bytes: u64,
    /// The runs to show on the page.
    pub runs: Option<Arc<Runs>>,
}

/// What a host has to tell its operator.
#[derive(Debug)]
pub enum Told<'a> {
    /// Clients can connect.
    Listening {
        /// Where.
        addresses: &'a [SocketAddr],
        /// Keys that let in; none where none is needed.
        keys: Option<usize>,
        /// Bytes for weights and caches.
        memory_bytes: u64,
    },
    /// A model is loaded.
    Loaded(&'a Served),
    /// What all answers have cost since the start. Told on a thread of its own, which may wait.
    Spent(Costs),
    /// No new answers begin.
    Draining,
}

/// Why a host cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The sockets.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The model that is there from the start.
    #[error("{model}: {fault}; the log may say more")]
    NotLoaded {
        /// Its name.
        model: String,
        /// What clients would hear.
        fault: Fault,
    },
    /// The threads.
    #[error("could not start the server's threads")]
    Threads(#[source] std::io::Error),
}

/// Lets in those with a key, and those who are signed in on the page.
#[derive(Debug)]
struct Doors {
    keyring: Arc<Keyring>,
    sessions: Option<Arc<Sessions>>,
    clock: Clock,
}

impl Admission for Doors {
    fn admit(&self, key: Option<&str>) -> Result<Holder, Fault> {
        self.keyring.admit(key, self.clock.now())
    }

    fn admit_session(&self, token: &Token) -> Option<Holder> {
        self.sessions.as_ref()?.holder(token)
    }
}

impl Host {
    /// Serves until it is told to end, and all that was under way has ended.
    ///
    /// # Errors
    /// If it cannot listen, read its keys, load its first model, or start its threads.
    pub fn run(self, tell: &(dyn Fn(Told<'_>) + Sync)) -> Result<(), HostError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.settings.engine.threads.clamp(1, 4))
            .thread_name("server")
            .enable_all()
            .build()
            .map_err(HostError::Threads)?;
        // Who hears of costs writes them to a disk, for which nothing else waits.
        let (spent, heard) = sync_channel(1);
        let hear = move || heard.iter().for_each(|costs| tell(Told::Spent(costs)));
        let done = thread::scope(|scope| {
            let hearing = thread::Builder::new().name("costs".to_owned());
            hearing
                .spawn_scoped(scope, hear)
                .map_err(HostError::Threads)?;
            runtime.block_on(self.serve(tell, spent))
        });
        // What waits for a grammar or a model is not waited for.
        runtime.shutdown_background();
        done
    }

    async fn serve(
        self,
        tell: &(dyn Fn(Told<'_>) + Sync),
        costs: SyncSender<Costs>,
    ) -> Result<(), HostError> {
        let clock = Clock::start();
        let listening = listening(&self.settings.server, self.settings.limits.body_bytes);
        let server = Server::bind(&listening)?;
        let keyring = Keyring::open(&self.home, self.settings.entry, clock.now())?;
        let keyring = Arc::new(keyring);
        let quotas = Arc::new(Quotas::open(&self.home)?);
        let memory_bytes = self
            .settings
            .models
            .memory_bytes
            .unwrap_or(self.memory_bytes);
        let started = clock.now().unix;
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), started));
        let needs_keys = self.settings.entry == Entry::WithKey;
        let keys = needs_keys.then(|| keyring.count_live(started));
        let service = Service::new(self.parts(clock, memory_bytes, &quotas, &metrics));
        let front = Front {
            service: Arc::clone(&service),
            body: listening.body_limits(),
            keep_alive: listening.keep_alive,
            reasoning: self.settings.reasoning.field,
        };
        let shutdown = Shutdown::new();
        let readiness = Readiness::loading(&shutdown);
        let web = self.web(&front, &keyring, (clock, &shutdown))?;
        let rooms = Rooms::of(&front, web.as_ref(), self.settings.server.open_metrics);
        let app = App {
            keyed: rooms.keyed,
            open: rooms.open,
            greeting: rooms.greeting,
            admission: Arc::new(Doors {
                keyring,
                sessions: web.map(|web| web.sessions),
                clock,
            }),
            readiness: readiness.clone(),
            shutdown: shutdown.clone(),
            on_done: None,
        };
        let router = app.router(&listening);
        let addresses = server.addresses();
        tell(Told::Listening {
            addresses: &addresses,
            keys,
            memory_bytes,
        });
        let reload = server.reloader();
        let signals = shutdown.obey_signals(move || {
            if let Err(error) = reload.reload() {
                tracing::error!(%error, "the certificate could not be read again");
            }
        });
        let default = self.settings.models.default.clone();
        let beside = async {
            tokio::try_join!(
                load_first(&service, default, &readiness, tell),
                async {
                    keep_accounts(&service, &quotas, clock, &costs).await;
                    Ok(())
                },
                async {
                    shutdown.reached(Stage::Draining).await;
                    tell(Told::Draining);
                    Ok(())
                },
            )
        };
        let mut done = Ok(());
        tokio::select! {
            () = server.serve(router, &shutdown) => {}
            error = signals => if let Err(error) = error {
                tracing::error!(%error, "signals cannot be watched");
            },
            ended = beside => done = ended.map(|_| ()),
        }
        write_accounts(Arc::clone(&quotas)).await;
        // The last word is not left out.
        let _ = costs.send(spent(&service));
        done
    }

    /// The page, where there is to be one.
    fn web(
        &self,
        front: &Front,
        keyring: &Arc<Keyring>,
        (clock, shutdown): (Clock, &Shutdown),
    ) -> Result<Option<Web>, HostError> {
        if !self.settings.web.is_enabled {
            return Ok(None);
        }
        let sessions = Sessions::open(&self.home, Arc::clone(keyring), clock)?;
        let chats = match self.settings.entry {
            Entry::WithKey => Some(Arc::new(Chats::open(&self.home, clock)?)),
            Entry::Anyone => None,
        };
        Ok(Some(Web {
            service: Arc::clone(&front.service),
            body: front.body.clone(),
            keep_alive: front.keep_alive,
            sessions: Arc::new(sessions),
            has_tls: self.settings.server.tls.is_some(),
            runs: self.runs.clone(),
            aside: Aside::new(web::ASIDE),
            chats,
            catalogue: Arc::clone(&self.catalogue),
            jobs: Jobs::default(),
            forecasts: Forecasts::default(),
            shutdown: shutdown.clone(),
        }))
    }

    fn parts(
        &self,
        clock: Clock,
        memory_bytes: u64,
        quotas: &Arc<Quotas>,
        metrics: &Arc<Metrics>,
    ) -> Parts {
        let settings = &self.settings;
        let shelf = ShelfSettings {
            memory_bytes,
            max_loaded: settings.models.max_loaded,
            engine: settings.engine,
            aliases: settings.models.aliases.clone(),
            default: settings.models.default.clone(),
        };
        Parts {
            shelf: Shelf::new(Arc::clone(&self.models), shelf),
            limits: settings.limits,
            quotas: Arc::clone(quotas),
            metrics: Arc::clone(metrics),
            clock,
            price: settings.price.clone(),
            reasoning: settings.reasoning.clone(),
            queue_time: settings.server.queue_time,
            request_time: settings.server.request_time,
            grader: self.grader.clone(),
            text_threads: settings.engine.threads,
            log_prompts: settings.server.log_prompts,
        }
    }
}

/// How the server listens, from what the operator wrote.
fn listening(settings: &ServerSettings, body_bytes: usize) -> server::Settings {
    let usual = server::Settings::usual(settings.bind.clone());
    server::Settings {
        tls: settings.tls.clone(),
        connections: settings.max_connections,
        head_bytes: settings.max_head_bytes,
        body_bytes,
        bodies_bytes: body_bytes.saturating_mul(BODIES),
        head_time: settings.head_time,
        idle_time: settings.idle_time,
        body_time: settings.body_time,
        body_pause: usual.body_pause.min(settings.body_time),
        write_time: settings.write_time,
        drain_time: settings.drain_time,
        keep_alive: settings.keep_alive_time,
        cors: settings.cors_origins.clone(),
        hosts: settings.host_names.clone(),
        ..usual
    }
}

/// All routes, by who may come.
struct Rooms {
    keyed: Router,
    open: Router,
    greeting: Router,
}

impl Rooms {
    fn of(front: &Front, web: Option<&Web>, open_metrics: bool) -> Self {
        let mut rooms = Self {
            keyed: front.keyed(),
            open: front.open(),
            greeting: Router::new(),
        };
        if open_metrics {
            rooms.open = rooms.open.merge(front.metrics());
        } else {
            rooms.keyed = rooms.keyed.merge(front.metrics());
        }
        if let Some(web) = web {
            rooms.keyed = rooms.keyed.merge(web.keyed());
            rooms.open = rooms.open.merge(web.open());
            rooms.greeting = web.greeting();
        }
        rooms
    }
}

/// Loads the model that is there from the start, then lets clients know.
async fn load_first(
    service: &Arc<Service>,
    default: Option<String>,
    readiness: &Readiness,
    tell: &(dyn Fn(Told<'_>) + Sync),
) -> Result<(), HostError> {
    if let Some(name) = default {
        let served = service.parts.shelf.get(&name).await;
        let model = name;
        let served = served.map_err(|fault| HostError::NotLoaded { model, fault })?;
        tell(Told::Loaded(&served));
    }
    readiness.set_ready();
    Ok(())
}

/// Writes accounts and tells costs, for ever.
async fn keep_accounts(
    service: &Arc<Service>,
    quotas: &Arc<Quotas>,
    clock: Clock,
    costs: &SyncSender<Costs>,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let quotas = Arc::clone(quotas);
        let write = move || {
            if let Err(error) = quotas.write_some(clock.now()) {
                tracing::error!(%error, "what keys have used could not be written");
            }
        };
        if tokio::task::spawn_blocking(write).await.is_err() {
            tracing::error!("writing what keys have used panicked");
        }
        // Sums, so that none is missed where the one before is being written still.
        let _ = costs.try_send(spent(service));
    }
}

async fn write_accounts(quotas: Arc<Quotas>) {
    let write = tokio::task::spawn_blocking(move || quotas.write_all());
    if !matches!(write.await, Ok(Ok(()))) {
        tracing::error!("what keys have used could not be written at the end");
    }
}

/// What all models that are loaded have cost.
fn spent(service: &Service) -> Costs {
    service.parts.shelf.spent()
}
