//! `frugal serve` and `frugal keys`: their flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use frugal_serve::config::{Bytes, Flags, ReasoningField};

use crate::models::Source;

/// Serve models: OpenAI's, DeepSeek's, Anthropic's and Ollama's interfaces over HTTP.
#[derive(Debug, Default, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag that is given or not"
)]
pub(crate) struct Serve {
    /// Models: folders, GGUF files, runs, or names of the store; NAME=MODEL serves it under another
    /// name. The first one is loaded at the start [default: every model of the store, on demand]
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Settings from a TOML file; flags win
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print a settings file with every setting and its default, and end
    #[arg(long)]
    pub(crate) example_config: bool,
    /// Address to listen on (may be repeated) [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    bind: Vec<String>,
    /// A name the server is reached by, beside localhost (may be repeated)
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,
    /// Certificate chain (PEM), for HTTPS
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// An origin whose pages may ask (may be repeated)
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,
    /// A name that stands for a model (may be repeated)
    #[arg(long, value_name = "ALIAS=NAME")]
    alias: Vec<String>,
    /// The model that is loaded at the start
    #[arg(long, value_name = "NAME")]
    default_model: Option<String>,
    /// Memory for weights and caches, as 12GB or 800MiB [default: four fifths of what is free]
    #[arg(long, value_name = "BYTES")]
    memory: Option<Bytes>,
    /// Models loaded at a time
    #[arg(long, value_name = "N")]
    max_loaded: Option<usize>,
    /// Tokens of a conversation, prompt and answer together
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Answers made together
    #[arg(long, value_name = "N")]
    max_sequences: Option<usize>,
    /// Requests that wait at most; more are refused with 429
    #[arg(long, value_name = "N")]
    max_waiting: Option<usize>,
    /// Compute one token of an answer at a time, also where its text repeats itself
    #[arg(long)]
    no_drafts: bool,
    /// Bits of a number in the cache: 8 takes half the memory [default: what attention reads]
    #[arg(long, value_name = "BITS")]
    cache_bits: Option<u32>,
    /// Want a key of every client, also on loopback
    #[arg(long)]
    keys_required: bool,
    /// Let running answers take so long when the server is to end
    #[arg(long, value_name = "SECONDS")]
    drain_seconds: Option<u64>,
    /// Let prompts stand in the log
    #[arg(long)]
    log_prompts: bool,
    /// A run's folder, or one of such folders, to show on the page beside the runs of this home (may
    /// be repeated)
    #[arg(long, value_name = "DIR")]
    runs: Vec<PathBuf>,
    /// No page for browsers at `/`
    #[arg(long)]
    no_web: bool,
    /// Money for an hour of one core, for the cost of answers
    #[arg(long, value_name = "MONEY")]
    price_per_core_hour: Option<f64>,
    /// The currency of that
    #[arg(long, value_name = "CODE")]
    currency: Option<String>,
    /// Watts of a busy core, for estimates of energy
    #[arg(long, value_name = "WATTS")]
    watts_per_core: Option<f64>,
    /// Where thoughts stand in chat completions: reasoning_content, reasoning, both
    #[arg(long, value_name = "FIELD")]
    reasoning_field: Option<ReasoningField>,
    /// Tokens of a thought where a request does not say
    #[arg(long, value_name = "TOKENS")]
    thinking_budget: Option<usize>,
}

impl Serve {
    /// One model, at an address.
    pub(crate) fn one(source: &Source, at: SocketAddr) -> Self {
        Self {
            models: vec![format!("{}={}", source.name, source.path().display())],
            bind: vec![at.to_string()],
            ..Self::default()
        }
    }

    /// What of it are settings, models apart.
    pub(crate) fn flags(&self, threads: Option<usize>) -> anyhow::Result<Flags> {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        let aliases = self.alias.iter().map(|text| {
            let pair = text
                .split_once('=')
                .map(|(alias, name)| (alias.into(), name.into()));
            pair.ok_or_else(|| anyhow::anyhow!("expected --alias ALIAS=NAME, got {text}"))
        });
        let aliases = aliases.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Flags {
            bind: some(&self.bind),
            host_names: some(&self.host_name),
            tls_certificate: self.tls_certificate.clone(),
            tls_key: self.tls_key.clone(),
            cors_origins: some(&self.cors_origin),
            drain_seconds: self.drain_seconds,
            log_prompts: self.log_prompts.then_some(true),
            served: None,
            aliases: (!aliases.is_empty()).then_some(aliases),
            default_model: self.default_model.clone(),
            memory: self.memory,
            max_loaded: self.max_loaded,
            context: self.context,
            max_sequences: self.max_sequences,
            max_waiting: self.max_waiting,
            cache_bits: self.cache_bits,
            threads,
            keys_required: self.keys_required.then_some(true),
            drafts: self.no_drafts.then_some(false),
            web: self.no_web.then_some(false),
            runs: (!self.runs.is_empty()).then(|| self.runs.clone()),
            price_per_core_hour: self.price_per_core_hour,
            currency: self.currency.clone(),
            watts_per_core: self.watts_per_core,
            reasoning_field: self.reasoning_field,
            thinking_budget: self.thinking_budget,
        })
    }
}

/// Keys of the server's clients.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) what: Option<KeysOf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysOf {
    /// Make a key and show it, this once
    Add(AddKey),
    /// All keys, without what opens
    List,
    /// End a key; running servers notice within seconds
    Revoke {
        /// Its name, or how it begins
        key: String,
    },
    /// A new text for a key; the old one lets in for a while yet
    Rotate {
        /// Its name, or how it begins
        key: String,
        /// How long the old text lets in
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        grace: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddKey {
    /// What it is called in lists and logs
    pub(crate) name: String,
    /// A model it may use (may be repeated) [default: all]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Vec<String>,
    /// Requests in a minute
    #[arg(long, value_name = "N")]
    pub(crate) requests_per_minute: Option<u32>,
    /// Tokens in a day (UTC)
    #[arg(long, value_name = "N")]
    pub(crate) tokens_per_day: Option<u64>,
    /// Requests at a time
    #[arg(long, value_name = "N")]
    pub(crate) concurrent: Option<u32>,
    /// Money in a day
    #[arg(long, value_name = "MONEY")]
    pub(crate) money_per_day: Option<f64>,
    /// Let it load, fetch and remove models and stop runs on the page
    #[arg(long)]
    pub(crate) may_manage: bool,
    /// Days until it ends
    #[arg(long, value_name = "DAYS")]
    pub(crate) days: Option<u32>,
}
