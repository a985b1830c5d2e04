//! From what was written to what follows: ranges, files, and what does not go together.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Config;
use super::given::{Given, Origin, Problem, Problems, closest};
use super::sections::{Bytes, Source, When};
use super::settings::{
    ModelsSettings, PriceSettings, ReasoningSettings, ServerSettings, Settings, WebSettings,
    is_loopback,
};
use crate::answer::Limits;
use crate::engine::EngineSettings;
use crate::keys::Entry;
use crate::server::TlsFiles;
use frugal_model::generate::Lookup;

impl Config {
    /// What follows from it.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn resolve(&self) -> Result<Settings, Problems> {
        let mut check = Check {
            problems: self.problems.clone(),
            folder: self.file.as_deref().and_then(Path::parent),
        };
        let bind = check.addresses(&self.server.bind);
        let beyond = bind.iter().find(|address| !is_loopback(address)).copied();
        let entry = self.entry(beyond, &mut check);
        let server = self.server(bind, entry, &mut check);
        let limits = self.limits(&mut check);
        let models = self.models(&mut check);
        let (engine, cache_bits) = self.engine(&mut check);
        let price = self.price(&mut check);
        let reasoning = self.reasoning(&mut check);
        let web = WebSettings {
            is_enabled: self.web.enabled.value,
            runs: check.folders(&self.web.runs),
        };
        if !check.problems.is_empty() {
            return Err(Problems::new(self.file.clone(), check.problems));
        }
        let mut notes = Vec::new();
        if let (Some(address), None) = (beyond, &server.tls) {
            notes.push(format!(
                "{address} is reached from beyond this machine without TLS: keys and answers can be read on the way"
            ));
        }
        if server.log_prompts {
            notes.push("prompts and answers are logged".into());
        }
        Ok(Settings {
            server,
            limits,
            models,
            engine,
            cache_bits,
            entry,
            web,
            price,
            reasoning,
            notes,
        })
    }

    fn entry(&self, beyond: Option<SocketAddr>, check: &mut Check<'_>) -> Entry {
        let required = &self.keys.required;
        match (required.value, beyond) {
            (When::Yes, _) | (When::Auto, Some(_)) => Entry::WithKey,
            (When::Auto | When::No, None) => Entry::Anyone,
            (When::No, Some(address)) => {
                let expected = format!("true, as {address} is reached from beyond this machine");
                check.refuse(required, &expected, "false");
                Entry::WithKey
            }
        }
    }

    fn server(&self, bind: Vec<SocketAddr>, entry: Entry, check: &mut Check<'_>) -> ServerSettings {
        let from = &self.server;
        let head_bytes = check.bytes(&from.max_head_bytes, 1 << 10..=1 << 20);
        ServerSettings {
            bind,
            host_names: check.host_names(&from.host_names),
            tls: check.tls(&from.tls_certificate, &from.tls_key),
            cors_origins: check.origins(&from.cors_origins, entry),
            max_connections: check.within(&from.max_connections, 1..=1_000_000),
            max_head_bytes: head_bytes,
            head_time: check.seconds(&from.head_seconds, 1..=3600),
            body_time: check.seconds(&from.body_seconds, 1..=86_400),
            write_time: check.seconds(&from.write_seconds, 1..=86_400),
            idle_time: check.seconds(&from.idle_seconds, 1..=86_400),
            queue_time: check.seconds(&from.queue_seconds, 1..=86_400),
            request_time: check.seconds(&from.request_seconds, 1..=604_800),
            drain_time: check.seconds(&from.drain_seconds, 0..=86_400),
            keep_alive_time: check.seconds(&from.keep_alive_seconds, 1..=3600),
            open_metrics: from.open_metrics.value,
            log_prompts: from.log_prompts.value,
        }
    }

    fn limits(&self, check: &mut Check<'_>) -> Limits {
        let from = &self.limits;
        Limits {
            body_bytes: check.bytes(&from.body_bytes, 1 << 10..=1 << 30),
            messages: check.within(&from.messages, 1..=1_000_000),
            n: check.within(&from.n, 1..=1024),
            stops: check.within(&from.stops, 0..=1024),
            stop_bytes: check.within(&from.stop_bytes, 1..=65_536),
            tools: check.within(&from.tools, 0..=4096),
            schema_bytes: check.bytes(&from.schema_bytes, 0..=16 << 20),
            // serde_json reads no deeper.
            depth: check.within(&from.depth, 1..=127),
            biases: check.within(&from.biases, 0..=1_000_000),
            likeliest: check.within(&from.likeliest, 0..=1000),
            verify_samples: check.within(&from.verify_samples, 1..=1024),
            prompts: check.within(&from.prompts, 1..=4096),
            efforts: self.efforts(check),
        }
    }

    fn models(&self, check: &mut Check<'_>) -> ModelsSettings {
        let from = &self.models;
        let mut served = from.served.value.clone();
        let whole_store = match from.whole_store.value {
            When::Auto => served.is_empty(),
            When::Yes => true,
            When::No => false,
        };
        if served.is_empty() && !whole_store {
            check.refuse(&from.whole_store, "true where no model is listed", "false");
        }
        // Two names are one to a person, whatever their case.
        let mut names: BTreeMap<String, &str> = BTreeMap::new();
        let mut aliases = BTreeMap::new();
        for model in &mut served {
            if let Source::Path(path) = &mut model.source {
                *path = check.existing(model.origin, path);
            }
        }
        for model in &served {
            for name in std::iter::once(&model.name).chain(&model.aliases) {
                check.name(model.origin, name);
                if names.insert(name.to_lowercase(), &model.name).is_some() {
                    check.tell(
                        model.origin,
                        format!("expected each name and alias once, got {name} again"),
                    );
                }
            }
            let model_aliases = model.aliases.iter().cloned();
            aliases.extend(model_aliases.map(|alias| (alias, model.name.clone())));
        }
        for (alias, name) in &self.aliases {
            let origin = Origin::Flag("--alias");
            check.name(origin, alias);
            let is_served = served.iter().any(|model| model.name == *name);
            if !is_served && !whole_store {
                check.tell(origin, unknown(name, &names));
            }
            if names.insert(alias.to_lowercase(), name).is_some() {
                check.tell(
                    origin,
                    format!("expected each name and alias once, got {alias} again"),
                );
            }
            aliases.insert(alias.clone(), name.clone());
        }
        let default = from
            .default
            .value
            .as_ref()
            .map(|asked| aliases.get(asked).unwrap_or(asked));
        if let Some(name) = default
            && !whole_store
            && !served.iter().any(|model| model.name == *name)
        {
            check.tell_of(&from.default, unknown(name, &names));
        }
        ModelsSettings {
            default: default.cloned(),
            served,
            aliases,
            whole_store,
            memory_bytes: {
                let least = Bytes(1 << 20);
                check
                    .within_if(&from.memory, least..=Bytes(1 << 50))
                    .map(|bytes| bytes.0)
            },
            max_loaded: check.within(&from.max_loaded, 1..=1000),
            context: check.within_if(&from.context, 1..=100_000_000),
        }
    }

    fn engine(&self, check: &mut Check<'_>) -> (EngineSettings, Option<u32>) {
        let from = &self.engine;
        let bits = from.cache_bits.value;
        if let Some(bits) = bits
            && ![8, 16, 32].contains(&bits)
        {
            check.refuse(&from.cache_bits, "8, 16 or 32", bits);
        }
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let settings = EngineSettings {
            max_sequences: check.within(&from.max_sequences, 1..=4096),
            prefill_rows: check.within(&from.prefill_rows, 1..=65_536),
            max_waiting: check.within(&from.max_waiting, 1..=1_000_000),
            threads: check
                .within_if(&from.threads, 1..=1024)
                .unwrap_or_else(cores),
            drafting: from.drafts.value.then_some(Lookup::USUAL),
        };
        (settings, bits)
    }

    fn price(&self, check: &mut Check<'_>) -> PriceSettings {
        let from = &self.price;
        let currency = &from.currency;
        let n_letters = currency.value.chars().count();
        if !(1..=8).contains(&n_letters) || currency.value.contains(char::is_control) {
            check.refuse(currency, "1 to 8 letters", format!("{:?}", currency.value));
        }
        PriceSettings {
            per_core_hour: check.within(&from.per_core_hour, 0.0..=1e6),
            currency: currency.value.clone(),
            watts_per_core: check.within(&from.watts_per_core, 0.0..=1e4),
        }
    }

    /// Tokens of a thought by effort, from minimal to xhigh.
    fn efforts(&self, check: &mut Check<'_>) -> [usize; 5] {
        let from = &self.reasoning;
        let efforts = [
            ("minimal", &from.effort_minimal),
            ("low", &from.effort_low),
            ("medium", &from.effort_medium),
            ("high", &from.effort_high),
            ("xhigh", &from.effort_xhigh),
        ];
        for ((less, at_least), (_, more)) in efforts.iter().zip(efforts.iter().skip(1)) {
            if more.value < at_least.value {
                let expected = format!("at least {}, as for {less}", at_least.value);
                check.refuse(more, &expected, more.value);
            }
        }
        efforts.map(|(_, budget)| check.within(budget, 1..=100_000_000))
    }

    fn reasoning(&self, check: &mut Check<'_>) -> ReasoningSettings {
        let from = &self.reasoning;
        ReasoningSettings {
            field: from.field.value,
            default_budget: check.within_if(&from.default_budget, 1..=100_000_000),
            guards_circles: from.circles_guard.value,
        }
    }
}

/// Names that are told where one is unknown.
const MOST_NAMES: usize = 8;

fn unknown(name: &str, known: &BTreeMap<String, &str>) -> String {
    let lower = name.to_lowercase();
    match closest(&lower, known.keys().map(String::as_str)) {
        Some(meant) => format!("no model {name:?} is listed; did you mean `{meant}`"),
        None if known.is_empty() => format!("no model {name:?} is listed: none is"),
        None => {
            let names: Vec<&str> = known.keys().map(String::as_str).take(MOST_NAMES).collect();
            format!("no model {name:?} is listed, but {}", names.join(", "))
        }
    }
}

/// Collects what is wrong.
struct Check<'a> {
    problems: Vec<Problem>,
    /// Where paths of the file start from.
    folder: Option<&'a Path>,
}

impl Check<'_> {
    fn refuse<T>(&mut self, given: &Given<T>, expected: &str, got: impl Display) {
        self.tell_of(given, format!("expected {expected}, got {got}"));
    }

    fn tell_of<T>(&mut self, given: &Given<T>, message: String) {
        self.problems.push(Problem {
            origin: given.origin,
            place: given.name.to_owned(),
            message,
        });
    }

    /// Of a model.
    fn tell(&mut self, origin: Origin, message: String) {
        self.problems.push(Problem {
            origin,
            place: "models.served".to_owned(),
            message,
        });
    }

    fn range<T, V: Copy + PartialOrd + Display>(
        &mut self,
        given: &Given<T>,
        value: V,
        range: &RangeInclusive<V>,
    ) -> V {
        if !range.contains(&value) {
            let expected = format!("{} to {}", range.start(), range.end());
            self.refuse(given, &expected, value);
        }
        value
    }

    fn within<T: Copy + PartialOrd + Display>(
        &mut self,
        given: &Given<T>,
        range: RangeInclusive<T>,
    ) -> T {
        self.range(given, given.value, &range)
    }

    fn within_if<T: Copy + PartialOrd + Display>(
        &mut self,
        given: &Given<Option<T>>,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        Some(self.range(given, given.value?, &range))
    }

    fn seconds(&mut self, given: &Given<u64>, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.within(given, range))
    }

    fn bytes(&mut self, given: &Given<Bytes>, range: RangeInclusive<u64>) -> usize {
        let range = Bytes(*range.start())..=Bytes(*range.end());
        usize::try_from(self.within(given, range).0).unwrap_or(usize::MAX)
    }

    fn addresses(&mut self, given: &Given<Vec<String>>) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        if given.value.is_empty() {
            self.refuse(given, "at least one address", "none");
        }
        for text in &given.value {
            let named = text
                .strip_prefix("localhost:")
                .and_then(|port| port.parse().ok());
            let named = named.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            match named.or_else(|| text.parse().ok()) {
                None => {
                    let got = format!("{text:?}");
                    self.refuse(given, "an address and a port as \"127.0.0.1:8080\"", got);
                }
                // Port 0 is another one each time.
                Some(address) if addresses.contains(&address) && address.port() != 0 => {
                    self.refuse(given, "each address once", format!("{address} again"));
                }
                Some(address) => addresses.push(address),
            }
        }
        addresses
    }

    fn host_names(&mut self, given: &Given<Vec<String>>) -> Vec<String> {
        for name in &given.value {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            if name.is_empty() || !name.chars().all(is_part) {
                self.refuse(given, "a name without scheme and port", format!("{name:?}"));
            }
        }
        given
            .value
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect()
    }

    fn tls(
        &mut self,
        certificate: &Given<Option<PathBuf>>,
        key: &Given<Option<PathBuf>>,
    ) -> Option<TlsFiles> {
        match (&certificate.value, &key.value) {
            (None, None) => None,
            (Some(_), None) => {
                self.tell_of(certificate, "expected its key beside it, got none".into());
                None
            }
            (None, Some(_)) => {
                self.tell_of(key, "expected its certificate beside it, got none".into());
                None
            }
            (Some(chain), Some(secret)) => Some(TlsFiles {
                certificate: self.file(certificate, chain),
                key: self.file(key, secret),
            }),
        }
    }

    fn file<T>(&mut self, given: &Given<T>, path: &Path) -> PathBuf {
        let path = self.placed(given.origin, path);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => self.refuse(given, "a file", format!("the folder {}", path.display())),
            Err(error) => self.refuse(given, "a file", format!("{}: {error}", path.display())),
        }
        path
    }

    fn folders(&mut self, given: &Given<Vec<PathBuf>>) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for path in &given.value {
            let path = self.placed(given.origin, path);
            match std::fs::metadata(&path) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => self.refuse(given, "a folder", format!("the file {}", path.display())),
                Err(error) => {
                    self.refuse(given, "a folder", format!("{}: {error}", path.display()));
                }
            }
            folders.push(path);
        }
        folders
    }

    /// Of a model.
    fn existing(&mut self, origin: Origin, path: &Path) -> PathBuf {
        let path = self.placed(origin, path);
        if let Err(error) = std::fs::metadata(&path) {
            let message = format!(
                "expected a folder or a GGUF file, got {}: {error}",
                path.display()
            );
            self.tell(origin, message);
        }
        path
    }

    /// Paths of the file start from its folder, those of flags from where the command was given.
    fn placed(&self, origin: Origin, path: &Path) -> PathBuf {
        match (origin, self.folder) {
            (Origin::Line(_), Some(folder)) => folder.join(path),
            _ => path.to_owned(),
        }
    }

    fn origins(&mut self, given: &Given<Vec<String>>, entry: Entry) -> Vec<String> {
        for origin in &given.value {
            if origin == "*" {
                if entry == Entry::Anyone {
                    let expected =
                        "named origins where no key is required, as any web page could ask";
                    self.refuse(given, expected, "\"*\"");
                }
                continue;
            }
            let host = origin.split_once("://").filter(|(scheme, host)| {
                let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
                !scheme.is_empty()
                    && scheme.chars().all(is_scheme)
                    && !host.is_empty()
                    && host.chars().all(is_host)
            });
            if host.is_none() {
                let expected = "an origin as \"https://chat.example.org\", without a path";
                self.refuse(given, expected, format!("{origin:?}"));
            }
        }
        given
            .value
            .iter()
            .map(|origin| origin.to_ascii_lowercase())
            .collect()
    }

    fn name(&mut self, origin: Origin, name: &str) {
        let is_fine =
            (1..=200).contains(&name.len()) && !name.contains(|c: char| c.is_control() || c == ' ');
        if !is_fine {
            let got: String = name.chars().take(60).collect();
            self.tell(
                origin,
                format!("expected a name of 1 to 200 bytes without spaces, got {got:?}"),
            );
        }
    }
}
