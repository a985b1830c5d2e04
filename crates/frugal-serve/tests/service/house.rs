//! A whole server, on a port of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::Router;
use frugal_model::generate::Lookup;
use frugal_serve::answer::Limits;
use frugal_serve::aside::Aside;
use frugal_serve::config::{PriceSettings, ReasoningField, ReasoningSettings};
use frugal_serve::engine::{EngineSettings, Load, TokenModel};
use frugal_serve::keys::{Entry, Grant, Holder, KeyLimits, Keyring, Keys, Token};
use frugal_serve::metrics::Metrics;
use frugal_serve::models::{Library, Listed, Ready};
use frugal_serve::quota::{Clock, Quotas};
use frugal_serve::routes::Front;
use frugal_serve::server::{Admission, App, Readiness, Server, Settings, Shutdown};
use frugal_serve::service::{Grader, Parts, Service};
use frugal_serve::shelf::{Shelf, ShelfSettings};
use frugal_serve::web::{Chats, Forecasts, Jobs, Sessions, Web};
use frugal_serve::wire::error::Fault;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::client::{self, Answer};
use super::model::{HUGE_BYTES, Kind, Script, Scripted, WEIGHT_BYTES, random, words};
use super::runs;
use super::stock::Stock;

/// Makes a model.
type Make = Arc<dyn Fn() -> Box<dyn TokenModel> + Send + Sync>;

/// What a server is to be.
pub(crate) struct Setup {
    models: BTreeMap<&'static str, Make>,
    pub(crate) limits: Limits,
    pub(crate) engine: EngineSettings,
    pub(crate) memory_bytes: u64,
    pub(crate) max_loaded: usize,
    pub(crate) aliases: BTreeMap<String, String>,
    pub(crate) reasoning: ReasoningSettings,
    pub(crate) queue_time: Duration,
    pub(crate) request_time: Duration,
    pub(crate) grader: Option<Arc<dyn Grader>>,
    grants: Vec<Grant>,
    pub(crate) server: Settings,
    pub(crate) load_time: Duration,
    pub(crate) list_time: Duration,
    pub(crate) stock: Stock,
}

impl Setup {
    /// Without any model.
    fn empty() -> Self {
        Self {
            models: BTreeMap::new(),
            limits: Limits::USUAL,
            engine: EngineSettings {
                max_sequences: 32,
                prefill_rows: 64,
                max_waiting: 64,
                threads: 1,
                drafting: Some(Lookup::USUAL),
            },
            memory_bytes: 1 << 30,
            max_loaded: 4,
            aliases: BTreeMap::new(),
            reasoning: ReasoningSettings {
                field: ReasoningField::Content,
                default_budget: None,
                guards_circles: true,
            },
            queue_time: Duration::from_secs(10),
            request_time: Duration::from_secs(20),
            grader: None,
            grants: Vec::new(),
            server: Settings::usual(vec![([127, 0, 0, 1], 0).into()]),
            load_time: Duration::ZERO,
            list_time: Duration::ZERO,
            stock: Stock::default(),
        }
    }

    /// With one model, `m`, with random weights.
    pub(crate) fn babbling(kind: Kind) -> Self {
        Self::babbling_in(kind, 2048)
    }

    /// The same with so many pages.
    pub(crate) fn babbling_in(kind: Kind, pages: usize) -> Self {
        let make = move || Box::new(random(kind, pages)) as Box<dyn TokenModel>;
        Self::empty().and("m", Arc::new(make))
    }

    /// With one model, `m`, that follows a script.
    pub(crate) fn saying(script: Script) -> Self {
        Self::empty().and_saying("m", script)
    }

    pub(crate) fn and_saying(self, name: &'static str, script: Script) -> Self {
        let make = move || Box::new(Scripted::new(script.clone(), 2048)) as Box<dyn TokenModel>;
        self.and(name, Arc::new(make))
    }

    fn and(mut self, name: &'static str, make: Make) -> Self {
        self.models.insert(name, make);
        self
    }

    /// With a key of this name; once there is one, everyone needs one.
    pub(crate) fn with_key(mut self, name: &str, limits: KeyLimits) -> Self {
        self.grants.push(Grant {
            name: name.into(),
            limits,
            ..Grant::default()
        });
        self
    }

    /// With a key of this name that may manage.
    pub(crate) fn with_manager(mut self, name: &str) -> Self {
        self.grants.push(Grant {
            name: name.into(),
            may_manage: true,
            ..Grant::default()
        });
        self
    }

    /// With a key for some models.
    pub(crate) fn with_key_for(mut self, name: &str, models: &[&str]) -> Self {
        self.grants.push(Grant {
            name: name.into(),
            models: Some(models.iter().map(ToString::to_string).collect()),
            ..Grant::default()
        });
        self
    }
}

/// Models by name.
#[derive(Default)]
pub(crate) struct Models {
    make: BTreeMap<&'static str, Make>,
    opened: Arc<AtomicUsize>,
    load_time: Duration,
    list_time: Duration,
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Models")
    }
}

impl Library for Models {
    fn list(&self) -> Vec<Listed> {
        std::thread::sleep(self.list_time);
        let listed = |name: &&str| Listed {
            name: (*name).to_string(),
            created: 1,
            bytes: if *name == "huge" {
                HUGE_BYTES
            } else {
                WEIGHT_BYTES
            },
            context: None,
            sampling: None,
            about: json!({ "base": "none" }),
        };
        self.make.keys().map(listed).collect()
    }

    fn open(&self, name: &str, _cache_bytes: u64) -> Result<Ready, String> {
        std::thread::sleep(self.load_time);
        self.opened.fetch_add(1, Ordering::Relaxed);
        if name == "broken" {
            return Err("could not read /home/secret/model.safetensors".into());
        }
        let make = self.make.get(name).ok_or("no such model")?;
        Ok(Ready {
            model: make(),
            words: words(),
        })
    }
}

struct Doors {
    keyring: Arc<Keyring>,
    sessions: Arc<Sessions>,
    clock: Clock,
}

impl Admission for Doors {
    fn admit(&self, key: Option<&str>) -> Result<Holder, Fault> {
        self.keyring.admit(key, self.clock.now())
    }

    fn admit_session(&self, token: &Token) -> Option<Holder> {
        self.sessions.holder(token)
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

static LOG: LazyLock<Kept> = LazyLock::new(|| {
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .finish();
    // For all threads: whether a place logs is decided once, by whichever test comes there first.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    kept
});

/// All that servers of this program have logged.
pub(crate) fn logged() -> String {
    String::from_utf8_lossy(&LOG.0.lock().unwrap()).into_owned()
}

/// A server at work.
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) service: Arc<Service>,
    pub(crate) keys: BTreeMap<String, String>,
    /// How often models were opened.
    pub(crate) opened: Arc<AtomicUsize>,
    pub(crate) server: JoinHandle<()>,
    pub(crate) home: tempfile::TempDir,
}

impl House {
    pub(crate) fn open(setup: Setup) -> Self {
        logged();
        let home = tempfile::tempdir().unwrap();
        let clock = Clock::start();
        let keys = keys(home.path(), &setup.grants, clock);
        let entry = if keys.is_empty() {
            Entry::Anyone
        } else {
            Entry::WithKey
        };
        let keyring = Arc::new(Keyring::open(home.path(), entry, clock.now()).unwrap());
        let sessions = Sessions::open(home.path(), Arc::clone(&keyring), clock).unwrap();
        let sessions = Arc::new(sessions);
        let chats = Chats::open(home.path(), clock).unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let library = Models {
            make: setup.models,
            opened: Arc::clone(&opened),
            load_time: setup.load_time,
            list_time: setup.list_time,
        };
        let shelf = ShelfSettings {
            memory_bytes: setup.memory_bytes,
            max_loaded: setup.max_loaded,
            engine: setup.engine,
            aliases: setup.aliases,
            default: Some("m".into()),
        };
        let service = Service::new(Parts {
            shelf: Shelf::new(Arc::new(library), shelf),
            limits: setup.limits,
            quotas: Arc::new(Quotas::in_memory()),
            metrics: Arc::new(Metrics::new("test", 0)),
            clock,
            price: PriceSettings {
                per_core_hour: 3600.0,
                currency: "EUR".into(),
                watts_per_core: 10.0,
            },
            reasoning: setup.reasoning,
            queue_time: setup.queue_time,
            request_time: setup.request_time,
            grader: setup.grader,
            text_threads: 2,
            log_prompts: false,
        });
        let shutdown = Shutdown::new();
        let readiness = Readiness::loading(&shutdown);
        readiness.set_ready();
        let mut settings = setup.server;
        settings.body_bytes = setup.limits.body_bytes;
        let front = Front {
            service: Arc::clone(&service),
            body: settings.body_limits(),
            keep_alive: settings.keep_alive,
            reasoning: ReasoningField::Content,
        };
        let web = Web {
            service: Arc::clone(&service),
            body: front.body.clone(),
            keep_alive: front.keep_alive,
            sessions: Arc::clone(&sessions),
            has_tls: settings.tls.is_some(),
            aside: Aside::new(4),
            chats: (entry == Entry::WithKey).then(|| Arc::new(chats)),
            catalogue: Arc::new(setup.stock),
            jobs: Jobs::default(),
            forecasts: Forecasts::default(),
            runs: Some(Arc::new(runs::of(home.path()))),
            shutdown: shutdown.clone(),
        };
        let app = App {
            keyed: front.keyed().merge(front.metrics()).merge(web.keyed()),
            open: Router::new().merge(front.open()).merge(web.open()),
            greeting: web.greeting(),
            admission: Arc::new(Doors {
                keyring,
                sessions,
                clock,
            }),
            readiness,
            shutdown: shutdown.clone(),
            on_done: None,
        };
        let server = Server::bind(&settings).unwrap();
        let address = server.addresses()[0];
        let router = app.router(&settings);
        let ends = shutdown.clone();
        Self {
            address,
            shutdown,
            service,
            keys,
            opened,
            server: tokio::spawn(async move { server.serve(router, &ends).await }),
            home,
        }
    }

    pub(crate) async fn ask(&self, request: &str) -> Answer {
        client::ask(self.address, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&client::get(path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(&client::post(path, body)).await
    }

    /// Posts with the key of this name.
    pub(crate) async fn post_as(&self, key: &str, path: &str, body: &Value) -> Answer {
        let request = client::post(path, body);
        self.ask(&client::with_key(&request, &self.keys[key])).await
    }

    /// Chat completions.
    pub(crate) async fn chat(&self, body: &Value) -> Answer {
        self.post("/v1/chat/completions", body).await
    }

    /// Loads the model, so that nothing waits for that.
    pub(crate) async fn warm(self) -> Self {
        self.service.parts.shelf.get("m").await.unwrap();
        self
    }

    /// What the engine of the default model does.
    pub(crate) async fn load(&self) -> Load {
        self.service
            .parts
            .shelf
            .get("m")
            .await
            .unwrap()
            .handle
            .load()
    }

    /// Waits until the engine is as it should be; how long that took.
    pub(crate) async fn until(&self, is_so: impl Fn(Load) -> bool) -> Duration {
        let clock = self.service.parts.clock;
        let began = clock.now().seconds;
        loop {
            let load = self.load().await;
            let took = Duration::from_secs_f64(clock.now().seconds - began);
            if is_so(load) {
                return took;
            }
            assert!(took < client::PATIENCE, "{load:?}");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn keys(home: &std::path::Path, grants: &[Grant], clock: Clock) -> BTreeMap<String, String> {
    if grants.is_empty() {
        return BTreeMap::new();
    }
    let mut keys = Keys::open(home).unwrap();
    let add = |grant: &Grant| {
        let (key, secret) = keys.add(grant, clock.now().unix).unwrap();
        (key.name, secret.expose().to_owned())
    };
    grants.iter().map(add).collect()
}

/// A question to `m`, with more fields.
pub(crate) fn question(text: &str, more: Value) -> Value {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }] });
    let (Value::Object(body), Value::Object(more)) = (&mut body, more) else {
        panic!("expected objects")
    };
    body.extend(more);
    Value::Object(body.clone())
}
