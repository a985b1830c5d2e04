//! `frugal serve`: settings and models together, then the server until it is told to end.

mod catalogue;
mod grader;
mod library;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use frugal_core::backend::KeyBits;
use frugal_run::consumption::{EnergyMethod, Stopwatch, Used, peak_memory_bytes};
use frugal_run::ledger::{Entry, Ledger, Outcome, Price, RunStart, Work};
use frugal_run::models::Store;
use frugal_serve::config::{Config, PriceSettings, Served as Wanted, Settings, Source as Place};
use frugal_serve::engine::Costs;
use frugal_serve::host::{Host, Told};
use frugal_serve::web::runs::{Runs, Scope};
use serde_json::json;

use crate::cli::{Common, Serve, Which};
use crate::device::{self, Device, Precision};
use crate::models::{self, Source};
use crate::output::{Usage, metric, say, say_json, tell};
use crate::runner::Processes;
use crate::{home, limits};

/// Tokens a conversation may have where nobody says.
const CONTEXT: usize = 32_768;

pub(crate) fn run(common: &Common, arguments: &Serve) -> anyhow::Result<ExitCode> {
    if arguments.example_config {
        say(Config::example().trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let home = home::of(common)?;
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let mut named = BTreeMap::new();
    let settings = settings(common, arguments, &mut named)?;
    let device = Arc::new(device::open(common, Precision::Bf16)?);
    let bits = cache_bits(settings.cache_bits, &device)?;
    let sources = sources(common, &settings, named)?;
    limits::raise_open_files();
    let account = Account::open(&home, &sources, &settings.price)?;
    let runner = Arc::new(Processes::new(common, &home));
    let scope = Scope::HomeAnd(settings.web.runs.clone());
    let runs = Runs::open(&home, scope, runner)?;
    let manner = library::Manner {
        context: settings.models.context.unwrap_or(CONTEXT),
        max_sequences: settings.engine.max_sequences,
        bits,
    };
    let served = Arc::new(library::Served::new(device, sources, manner));
    let host = Host {
        catalogue: Arc::new(catalogue::Kept {
            home: home.clone(),
            served: Arc::clone(&served),
            hub: home::hub(),
            serves_store: settings.models.whole_store,
        }),
        models: served,
        grader: Some(Arc::new(grader::Graders)),
        home,
        memory_bytes: limits::free_memory() / 5 * 4,
        settings,
        runs: Some(Arc::new(runs)),
    };
    if !common.quiet {
        host.settings.notes.iter().for_each(tell);
    }
    let done = host.run(&|told| account.hear(common, &told));
    account.close(done.is_ok());
    done?;
    Ok(ExitCode::SUCCESS)
}

/// Flags and file, checked together.
fn settings(
    common: &Common,
    arguments: &Serve,
    named: &mut BTreeMap<String, Source>,
) -> anyhow::Result<Settings> {
    let config = match &arguments.config {
        Some(path) => Config::from_file(path),
        None => Config::default(),
    };
    let mut flags = arguments.flags(common.threads)?;
    let mut served = Vec::new();
    for text in &arguments.models {
        let (name, model) = match text.split_once('=') {
            Some((name, model)) if !Path::new(text).exists() => (Some(name), model),
            _ => (None, text.as_str()),
        };
        let which = Which {
            model: model.to_owned(),
            stage: None,
        };
        let source = models::find(common, &which)?;
        let name = name.map_or_else(|| source.name.clone(), str::to_owned);
        served.push(Wanted::by_flag(
            &name,
            Place::Path(source.path().to_owned()),
        ));
        anyhow::ensure!(
            named.insert(name.clone(), source).is_none(),
            "expected models of different names, got two of the name {name}; NAME=MODEL gives another"
        );
    }
    if let Some(first) = served.first() {
        flags
            .default_model
            .get_or_insert_with(|| first.name.clone());
        flags.served = Some(served);
    }
    let settings = config.with(flags).resolve();
    settings.map_err(|problems| Usage(problems.to_string()).into())
}

/// Every model that can be asked for.
fn sources(
    common: &Common,
    settings: &Settings,
    mut named: BTreeMap<String, Source>,
) -> anyhow::Result<BTreeMap<String, Source>> {
    let find = |model: &str| {
        let which = Which {
            model: model.to_owned(),
            stage: None,
        };
        models::find(common, &which)
    };
    for wanted in &settings.models.served {
        if named.contains_key(&wanted.name) {
            continue;
        }
        let source = match &wanted.source {
            Place::Path(path) => find(&path.to_string_lossy()),
            Place::Store(name) => find(name),
        };
        let source = source.with_context(|| format!("model {} of the settings", wanted.name))?;
        named.insert(wanted.name.clone(), source);
    }
    if settings.models.whole_store {
        for model in Store::open(&home::of(common)?)?.list()? {
            if !named.contains_key(&model.name) {
                named.insert(model.name.clone(), find(&model.name)?);
            }
        }
    }
    anyhow::ensure!(
        !named.is_empty() || !settings.web.runs.is_empty() || fetches_later(settings),
        "expected a model to serve, got none: name one, or fetch one with `frugal pull`"
    );
    Ok(named)
}

/// Whether models can come while the server runs: fetched on its page, and served as all of the store.
fn fetches_later(settings: &Settings) -> bool {
    settings.models.whole_store && settings.web.is_enabled
}

fn cache_bits(wanted: Option<u32>, device: &Device) -> anyhow::Result<KeyBits> {
    let own = device.key_dtype().bytes() * 8;
    match wanted {
        None => Ok(KeyBits::AsProducts),
        Some(8) => Ok(KeyBits::Eight),
        Some(bits) if bits as usize == own => Ok(KeyBits::AsProducts),
        Some(bits) => Err(Usage(format!(
            "expected --cache-bits 8 or {own} on this machine, got {bits}"
        ))
        .into()),
    }
}

/// The server's line in the ledger, kept up to date.
struct Account {
    ledger: Mutex<Ledger>,
    run: i64,
    price: PriceSettings,
    watch: Stopwatch,
    written: Mutex<Costs>,
}

impl Account {
    fn open(
        home: &Path,
        sources: &BTreeMap<String, Source>,
        price: &PriceSettings,
    ) -> anyhow::Result<Self> {
        let ledger = Ledger::open(home)?;
        let names: Vec<&str> = sources.keys().map(String::as_str).collect();
        let run = ledger.begin(&RunStart {
            recipe: "serve".into(),
            seed: 0,
            budget_minutes: 0.0,
            folder: names.join(" "),
        })?;
        Ok(Self {
            ledger: Mutex::new(ledger),
            run,
            price: price.clone(),
            watch: Stopwatch::start(),
            written: Mutex::default(),
        })
    }

    fn hear(&self, common: &Common, told: &Told<'_>) {
        if let Told::Spent(costs) = told {
            return self.write(costs);
        }
        if common.json {
            // A line for machines; a pipe that is closed is not the server's end.
            let _ = say_json(&as_json(told));
        } else if !common.quiet {
            in_words(told).iter().for_each(tell);
        }
    }

    /// The sum of all answers so far.
    fn write(&self, costs: &Costs) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written == *costs {
            return;
        }
        let used = Used {
            wall_seconds: self.watch.seconds(),
            core_seconds: costs.core_seconds,
            peak_memory_bytes: peak_memory_bytes(),
            joules: costs.core_seconds * self.price.watts_per_core,
            energy_method: EnergyMethod::Estimated,
        };
        let work = Work {
            tokens_generated: costs.answer_rows as u64,
            flops_rollout: costs.flops,
            ..Work::default()
        };
        let price = Price {
            per_core_hour: self.price.per_core_hour,
            currency: self.price.currency.clone(),
        };
        let entry = Entry::new(used, work, 0.0, price);
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        match ledger.record(self.run, "serve", &entry) {
            Ok(()) => *written = *costs,
            Err(error) => tracing::error!(%error, "the ledger could not be written"),
        }
    }

    fn close(&self, is_well: bool) {
        let outcome = if is_well {
            Outcome::Done
        } else {
            Outcome::Failed
        };
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = ledger.finish(self.run, outcome) {
            tracing::error!(%error, "the ledger could not be closed");
        }
    }
}

fn in_words(told: &Told<'_>) -> Vec<String> {
    match told {
        Told::Listening {
            addresses,
            keys,
            memory_bytes,
        } => {
            let mut lines: Vec<String> = addresses
                .iter()
                .map(|address| format!("listening on {address}"))
                .collect();
            lines.push(match keys {
                None => "no key is needed: only this machine can connect".into(),
                Some(0) => {
                    "a key is needed and there is none: make one with `frugal keys add NAME`".into()
                }
                Some(n) => format!("a key is needed; {n} let in"),
            });
            let bytes = metric(*memory_bytes as f64);
            lines.push(format!("{bytes}B for weights and caches"));
            lines
        }
        Told::Loaded(served) => {
            let facts = served.handle.facts();
            let (weights, cache) = (
                metric(facts.weight_bytes as f64),
                metric(facts.max_pages as f64 * facts.page_bytes as f64),
            );
            let tokens = facts.max_pages * facts.page_rows;
            vec![format!(
                "{} is ready: weights {weights}B, cache up to {cache}B in {} pages for {tokens} tokens, {} a conversation",
                served.name, facts.max_pages, facts.positions
            )]
        }
        Told::Draining => vec!["ending: answers under way may finish; again to end at once".into()],
        Told::Spent(_) => Vec::new(),
    }
}

fn as_json(told: &Told<'_>) -> serde_json::Value {
    match told {
        Told::Listening {
            addresses,
            keys,
            memory_bytes,
        } => {
            json!({ "event": "listening", "addresses": addresses, "keys": keys, "memory_bytes": memory_bytes })
        }
        Told::Loaded(served) => {
            let facts = served.handle.facts();
            json!({
                "event": "loaded",
                "model": served.name,
                "weight_bytes": facts.weight_bytes,
                "cache_pages": facts.max_pages,
                "cache_bytes": facts.max_pages as u64 * facts.page_bytes,
                "cache_tokens": facts.max_pages * facts.page_rows,
                "positions": facts.positions,
            })
        }
        Told::Draining => json!({ "event": "draining" }),
        Told::Spent(costs) => json!({ "event": "spent", "core_seconds": costs.core_seconds }),
    }
}
