//! What follows from a configuration: what the server works by.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::sections::Served;
use crate::answer::Limits;
use crate::engine::EngineSettings;
use crate::keys::Entry;
use crate::server::TlsFiles;
use crate::wire::chat::ReasoningField;

/// Everything, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where it listens and how it treats connections.
    pub server: ServerSettings,
    /// What a request may hold.
    pub limits: Limits,
    /// Which models it serves.
    pub models: ModelsSettings,
    /// How they are computed.
    pub engine: EngineSettings,
    /// Bits of a number in the cache, where the operator says: 8, 16 or 32. Who opens models refuses
    /// what a device cannot do.
    pub cache_bits: Option<u32>,
    /// Who may enter.
    pub entry: Entry,
    /// The page.
    pub web: WebSettings,
    /// What answers cost.
    pub price: PriceSettings,
    /// How models think.
    pub reasoning: ReasoningSettings,
    /// What the operator should know at the start.
    pub notes: Vec<String>,
}

/// Where the server listens and how it treats connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Addresses, at least one.
    pub bind: Vec<SocketAddr>,
    /// Names it is reached by, in lower case, beside `localhost` and its addresses.
    pub host_names: Vec<String>,
    /// Files of TLS; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// Origins that may ask; `*` alone is any.
    pub cors_origins: Vec<String>,
    /// Connections at a time.
    pub max_connections: usize,
    /// Bytes of a request's head.
    pub max_head_bytes: usize,
    /// For a request's head to come.
    pub head_time: Duration,
    /// For its body.
    pub body_time: Duration,
    /// For a client to take something of what it is sent.
    pub write_time: Duration,
    /// For a connection to be idle.
    pub idle_time: Duration,
    /// For a request to wait for its turn.
    pub queue_time: Duration,
    /// For a request in all.
    pub request_time: Duration,
    /// For requests under way to end when the server is to stop.
    pub drain_time: Duration,
    /// Between two signs of life to a client that waits.
    pub keep_alive_time: Duration,
    /// Whether `/metrics` may be read without a key.
    pub open_metrics: bool,
    /// Whether prompts may stand in the log.
    pub log_prompts: bool,
}

pub(super) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Which models are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelsSettings {
    /// Those listed.
    pub served: Vec<Served>,
    /// Name by alias, of those listed and those of the store.
    pub aliases: BTreeMap<String, String>,
    /// Whether every model of the store can be asked for.
    pub whole_store: bool,
    /// The name of the model that is loaded at the start.
    pub default: Option<String>,
    /// Bytes for weights and caches of all models.
    pub memory_bytes: Option<u64>,
    /// Models loaded at a time.
    pub max_loaded: usize,
    /// Tokens of a sequence at most.
    pub context: Option<usize>,
}

/// The page that people open in a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSettings {
    /// Whether there is one.
    pub is_enabled: bool,
    /// Folders of runs to show beside those of the home.
    pub runs: Vec<PathBuf>,
}

/// What answers cost.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceSettings {
    /// Money for an hour of one core.
    pub per_core_hour: f64,
    /// In which currency.
    pub currency: String,
    /// Watts of a busy core, for estimates.
    pub watts_per_core: f64,
}

/// How models think.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasoningSettings {
    /// Where thoughts stand in an answer.
    pub field: ReasoningField,
    /// Tokens of a thought where a request does not say.
    pub default_budget: Option<usize>,
    /// Whether thoughts that go in circles are closed.
    pub guards_circles: bool,
}
