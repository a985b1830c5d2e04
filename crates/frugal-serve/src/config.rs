//! The server's configuration: flags or one TOML file.
//!
//! A [`Config`] is what was written, each value with the line or flag it comes from; [`Settings`] is
//! what follows from it, checked as a whole: all problems are told together, with their lines, and
//! nothing is clamped or skipped. Flags win over the file, the file over the defaults. Each setting
//! is declared once, in `config/sections.rs`: name, meaning, default; [`Config::example`] shows them.
//!
//! Nothing here is read from the environment, and no file but the one named.

mod given;
mod read;
mod resolve;
mod sections;
mod settings;

use std::path::{Path, PathBuf};

pub use given::{Given, Origin, Problem, Problems};
use read::{Reader, Sink};
use sections::Section;
pub use sections::{
    Bytes, EngineSection, KeysSection, LimitsSection, ModelsSection, PriceSection,
    ReasoningSection, Served, ServerSection, Source, WebSection, When,
};
pub use settings::{
    ModelsSettings, PriceSettings, ReasoningSettings, ServerSettings, Settings, WebSettings,
};

pub use crate::wire::chat::ReasoningField;

/// Bytes of a configuration file at most.
const MAX_BYTES: u64 = 1 << 20;

/// What was written.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Where it listens and how it treats connections.
    pub server: ServerSection,
    /// What a request may hold.
    pub limits: LimitsSection,
    /// Which models it serves.
    pub models: ModelsSection,
    /// How they are computed.
    pub engine: EngineSection,
    /// Who may enter.
    pub keys: KeysSection,
    /// The page.
    pub web: WebSection,
    /// What answers cost.
    pub price: PriceSection,
    /// How models think.
    pub reasoning: ReasoningSection,
    /// Aliases by flags: alias and name.
    aliases: Vec<(String, String)>,
    /// What was wrong with the text.
    problems: Vec<Problem>,
    /// The file, and the folder its paths start from.
    file: Option<PathBuf>,
}

/// What the command line says; `None` where it says nothing.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--bind`.
    pub bind: Option<Vec<String>>,
    /// `--host-name`.
    pub host_names: Option<Vec<String>>,
    /// `--tls-certificate`.
    pub tls_certificate: Option<PathBuf>,
    /// `--tls-key`.
    pub tls_key: Option<PathBuf>,
    /// `--cors-origin`.
    pub cors_origins: Option<Vec<String>>,
    /// `--drain-seconds`.
    pub drain_seconds: Option<u64>,
    /// `--log-prompts`.
    pub log_prompts: Option<bool>,
    /// `MODEL`: they stand in place of those of the file.
    pub served: Option<Vec<Served>>,
    /// `--alias ALIAS=NAME`: beside those of the file.
    pub aliases: Option<Vec<(String, String)>>,
    /// `--default-model`.
    pub default_model: Option<String>,
    /// `--memory`.
    pub memory: Option<Bytes>,
    /// `--max-loaded`.
    pub max_loaded: Option<usize>,
    /// `--context`.
    pub context: Option<usize>,
    /// `--max-sequences`.
    pub max_sequences: Option<usize>,
    /// `--max-waiting`.
    pub max_waiting: Option<usize>,
    /// `--cache-bits`.
    pub cache_bits: Option<u32>,
    /// `--threads`.
    pub threads: Option<usize>,
    /// `--keys-required`.
    pub keys_required: Option<bool>,
    /// `--no-drafts` says false.
    pub drafts: Option<bool>,
    /// `--no-web` says false.
    pub web: Option<bool>,
    /// `--runs`: in place of those of the file.
    pub runs: Option<Vec<PathBuf>>,
    /// `--price-per-core-hour`.
    pub price_per_core_hour: Option<f64>,
    /// `--currency`.
    pub currency: Option<String>,
    /// `--watts-per-core`.
    pub watts_per_core: Option<f64>,
    /// `--reasoning-field`.
    pub reasoning_field: Option<ReasoningField>,
    /// `--thinking-budget`.
    pub thinking_budget: Option<usize>,
}

impl Config {
    /// Reads a file. What is wrong with it is told by [`Self::resolve`], with all the rest.
    pub fn from_file(path: &Path) -> Self {
        let read = || {
            let bytes = std::fs::metadata(path)?.len();
            if bytes > MAX_BYTES {
                let text = format!("expected at most {MAX_BYTES} bytes, got {bytes}");
                return Err(std::io::Error::other(text));
            }
            std::fs::read_to_string(path)
        };
        let mut config = match read() {
            Ok(text) => Self::parse(&text),
            Err(error) => Self {
                problems: vec![Problem {
                    origin: Origin::Usual,
                    place: "the file".into(),
                    message: format!("cannot be read: {error}"),
                }],
                ..Self::default()
            },
        };
        config.file = Some(path.to_owned());
        config
    }

    /// Reads a text, as [`Self::from_file`]; paths in it start from the current folder.
    pub fn parse(text: &str) -> Self {
        let mut config = Self::default();
        let mut sink = Sink::new(text);
        let table = sink.table();
        let mut reader = Reader::top(&mut sink, table.get_ref());
        reader.section(&mut config.server);
        reader.section(&mut config.limits);
        reader.section(&mut config.models);
        reader.section(&mut config.engine);
        reader.section(&mut config.keys);
        reader.section(&mut config.web);
        reader.section(&mut config.price);
        reader.section(&mut config.reasoning);
        reader.refuse_other_sections();
        config.problems = sink.into_problems();
        config
    }

    /// Lays flags over it.
    #[must_use]
    pub fn with(mut self, flags: Flags) -> Self {
        let server = &mut self.server;
        server.bind.flag("--bind", flags.bind);
        server.host_names.flag("--host-name", flags.host_names);
        let certificate = flags.tls_certificate.map(Some);
        server
            .tls_certificate
            .flag("--tls-certificate", certificate);
        server.tls_key.flag("--tls-key", flags.tls_key.map(Some));
        server
            .cors_origins
            .flag("--cors-origin", flags.cors_origins);
        server
            .drain_seconds
            .flag("--drain-seconds", flags.drain_seconds);
        server.log_prompts.flag("--log-prompts", flags.log_prompts);
        let models = &mut self.models;
        models.served.flag("MODEL", flags.served);
        models
            .default
            .flag("--default-model", flags.default_model.map(Some));
        models.memory.flag("--memory", flags.memory.map(Some));
        models.max_loaded.flag("--max-loaded", flags.max_loaded);
        models.context.flag("--context", flags.context.map(Some));
        let engine = &mut self.engine;
        engine
            .max_sequences
            .flag("--max-sequences", flags.max_sequences);
        engine.max_waiting.flag("--max-waiting", flags.max_waiting);
        engine.drafts.flag("--no-drafts", flags.drafts);
        engine
            .cache_bits
            .flag("--cache-bits", flags.cache_bits.map(Some));
        engine.threads.flag("--threads", flags.threads.map(Some));
        let required = flags.keys_required.map(When::from);
        self.keys.required.flag("--keys-required", required);
        self.web.enabled.flag("--no-web", flags.web);
        self.web.runs.flag("--runs", flags.runs);
        let price = &mut self.price;
        price
            .per_core_hour
            .flag("--price-per-core-hour", flags.price_per_core_hour);
        price.currency.flag("--currency", flags.currency);
        price
            .watts_per_core
            .flag("--watts-per-core", flags.watts_per_core);
        let reasoning = &mut self.reasoning;
        reasoning
            .field
            .flag("--reasoning-field", flags.reasoning_field);
        let budget = flags.thinking_budget.map(Some);
        reasoning.default_budget.flag("--thinking-budget", budget);
        self.aliases.extend(flags.aliases.unwrap_or_default());
        self
    }

    /// A file with every setting, what it means and its default. It is read back as it is.
    pub fn example() -> String {
        let usual = Self::default();
        let mut text = String::from(EXAMPLE_HEAD);
        usual.server.example(&mut text);
        usual.limits.example(&mut text);
        usual.models.example(&mut text);
        usual.engine.example(&mut text);
        usual.keys.example(&mut text);
        usual.web.example(&mut text);
        usual.price.example(&mut text);
        usual.reasoning.example(&mut text);
        text
    }
}

const EXAMPLE_HEAD: &str = "\
# The configuration of `frugal serve`: every setting with its default.
# Lines that begin with `#` and no space show settings that have no default.
";

#[cfg(test)]
mod tests;
