//! What the page shows of models: those that are served and those of the home's store, what they are,
//! where they came from and what they cost; and what it does with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use frugal_run::Stop;
use frugal_run::hub::{Hub, Settings, Wanted, Watch};
use frugal_run::ledger::{Ledger, Total};
use frugal_run::models::{Added, Card, Model, Pull, Store};
use frugal_run::recipe::Recipe;
use frugal_serve::models::{Ancestor, Catalogue, Cost, Entry, Forecast, Origin};

use super::library::{Held, Served};
use crate::facts::Known as Loader;
use crate::forecast::Machine;
use crate::models::{self, Source};

/// Bytes of a README that are shown.
const CARD_BYTES: usize = 64 << 10;

/// The models that are kept here.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) home: PathBuf,
    pub(super) served: Arc<Served>,
    pub(super) hub: Settings,
    /// Whether every model of the store is served, also one that comes later.
    pub(super) serves_store: bool,
}

/// A model of the store and where its files are, if it is whole.
struct Stored {
    model: Model,
    path: Option<PathBuf>,
}

impl Catalogue for Kept {
    fn entries(&self) -> Result<Vec<Entry>, String> {
        self.all().map_err(in_words)
    }

    fn card(&self, name: &str) -> Option<String> {
        let readme = match self.served.find(name) {
            Some(held) => held.source.readme()?,
            None => self.source_of_store(name).ok()?.readme()?,
        };
        let text = body_of(&readme);
        let end = text.floor_char_boundary(CARD_BYTES);
        text.get(..end)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    }

    fn forecast(&self, name: &str) -> Result<Forecast, String> {
        self.forecast_of(name).map_err(in_words)
    }

    fn pull(&self, wanted: &Wanted, stop: &Stop, watch: &mut Watch<'_>) -> Result<String, String> {
        self.fetch(wanted, stop, watch).map_err(in_words)
    }

    fn verify(
        &self,
        stored: &str,
        stop: &Stop,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<String>, String> {
        let found = Store::open(&self.home).and_then(|s| s.verify_until(stop, stored, watch));
        let found = found.map_err(|error| in_words(error.into()))?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    fn remove(&self, stored: &str) -> Result<(), String> {
        let remove = || -> anyhow::Result<()> {
            let store = Store::open(&self.home)?;
            // One that is damaged has no path, and cannot be served.
            let path = store.locate(stored).ok().map(|(_, path)| canonical(&path));
            store.remove(stored)?;
            if let Some(path) = path {
                self.served.forget(&path);
            }
            Ok(())
        };
        remove().map_err(in_words)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "maps errors")]
fn in_words(error: anyhow::Error) -> String {
    format!("{error:#}")
}

impl Kept {
    fn all(&self) -> anyhow::Result<Vec<Entry>> {
        let store = Store::open(&self.home)?;
        let stored: Vec<Stored> = store
            .list()?
            .into_iter()
            .map(|model| {
                let located = store.locate(&model.name);
                let path = located.ok().map(|(_, path)| canonical(&path));
                Stored { model, path }
            })
            .collect();
        let ledger = Ledger::open(&self.home)?;
        let served = self.served.all();
        let mut entries = Vec::new();
        for (name, held) in &served {
            let is_it = |stored: &&Stored| stored.path.as_deref() == Some(held.source.path());
            entries.push(self.served_entry((name, held), stored.iter().find(is_it), &ledger)?);
        }
        let is_served = |stored: &Stored| {
            let mut held = served.iter().map(|(_, held)| held.source.path());
            held.any(|path| stored.path.as_deref() == Some(path))
        };
        let others = stored.iter().filter(|stored| !is_served(stored));
        entries.extend(others.map(|stored| stored_entry(&stored.model)));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn served_entry(
        &self,
        (name, held): (&str, &Held),
        stored: Option<&Stored>,
        ledger: &Ledger,
    ) -> anyhow::Result<Entry> {
        let (source, known) = (&held.source, self.served.known(held));
        let mut entry = match stored {
            Some(stored) => stored_entry(&stored.model),
            None => entry_of(source),
        };
        name.clone_into(&mut entry.name);
        entry.context = known.context;
        if stored.is_none() {
            let facts = known.facts.as_ref();
            entry.bytes = known.bytes;
            entry.created = known.created;
            entry.parameters = facts.and_then(|facts| facts.parameters);
            entry.active_parameters = facts.and_then(|facts| facts.active_parameters);
            entry.format = facts.map(|facts| facts.format.clone());
            entry.architecture = facts.map(|facts| facts.architecture.clone());
        }
        if let (Some((stage, run)), Some(recipe)) = (source.stage(), &source.recipe) {
            let line = line_of(recipe, stage);
            if let Some((own, before)) = line.split_last() {
                entry.method.clone_from(&own.method);
                entry.teacher.clone_from(&own.teacher);
                entry.base_models = before
                    .last()
                    .map(|base| base.name.clone())
                    .into_iter()
                    .collect();
                entry.before = before.to_vec();
            }
            entry.cost = cost_of(ledger, run, &makers_of(recipe, stage))?;
        }
        Ok(entry)
    }

    fn source_of_store(&self, name: &str) -> anyhow::Result<Source> {
        let (_, path) = Store::open(&self.home)?.locate(name)?;
        models::at(&path)
    }

    fn forecast_of(&self, name: &str) -> anyhow::Result<Forecast> {
        let opened = match self.served.find(name) {
            Some(held) => held.source.open()?,
            None => self.source_of_store(name)?.open()?,
        };
        let context = opened.positions(self.served.context);
        let formats = models::formats(&opened);
        let mut machine = Machine::measure(&self.served.device);
        let made = machine.forecast(&opened.config, &formats, (context, self.served.bits))?;
        let cache_bytes = made.cache_bytes_per_token.saturating_mul(context as u64);
        Ok(Forecast {
            tokens_per_second: made.answer_tokens_per_second,
            prompt_tokens_per_second: made.prompt_tokens_per_second,
            memory_bytes: made.weight_bytes.saturating_add(cache_bytes),
        })
    }

    fn fetch(&self, wanted: &Wanted, stop: &Stop, watch: &mut Watch<'_>) -> anyhow::Result<String> {
        let store = Store::open(&self.home)?;
        let hub = Hub::new(Settings {
            stop: stop.clone(),
            ..self.hub.clone()
        })?;
        let pull = Pull { wanted, name: None };
        let (Added::New(model) | Added::Already(model)) = store.pull(&hub, pull, &Loader, watch)?;
        if self.serves_store {
            let mut source = self.source_of_store(&model.name).context("fetched")?;
            source.name.clone_from(&model.name);
            self.served.add(source);
        }
        Ok(model.name)
    }
}

/// A path as those of served models are written.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// What the store's record says.
fn stored_entry(model: &Model) -> Entry {
    let bases = model.base_model.as_deref().unwrap_or_default().split(", ");
    let facts = &model.facts;
    Entry {
        name: model.name.clone(),
        stored: Some(model.name.clone()),
        bytes: model.bytes,
        parameters: facts.parameters,
        active_parameters: facts.active_parameters,
        format: Some(facts.format.clone()),
        architecture: Some(facts.architecture.clone()),
        licence: model.licence.clone(),
        base_models: bases
            .filter(|base| !base.is_empty())
            .map(str::to_owned)
            .collect(),
        method: model.method.clone(),
        origin: Some(origin_of(&model.origin)),
        created: model.added,
        ..Entry::default()
    }
}

/// What the files beside a model say.
fn entry_of(source: &Source) -> Entry {
    let card = source.readme().map(|readme| Card::parse(&readme));
    let card = card.unwrap_or_default();
    Entry {
        licence: card.licence,
        base_models: card.base_models,
        method: card.method,
        origin: Some(Origin::Path(source.path().display().to_string())),
        ..Entry::default()
    }
}

fn origin_of(text: &str) -> Origin {
    let is_of_hub = text.starts_with("https://") || text.starts_with("http://");
    match text.rsplit_once('@').filter(|_| is_of_hub) {
        Some((address, revision)) => Origin::Hub {
            address: address.to_owned(),
            revision: revision.to_owned(),
        },
        None => Origin::Path(text.to_owned()),
    }
}

/// The models that a stage's one came from, the first one first, itself at the end.
fn line_of(recipe: &Recipe, stage: &str) -> Vec<Ancestor> {
    let mut line = Vec::new();
    let mut next = recipe.stage(stage);
    // A stage starts from an earlier one, so there are no circles.
    while let Some(stage) = next {
        line.push(Ancestor {
            name: stage.name.clone(),
            method: Some(stage.settings.kind().to_owned()),
            teacher: stage.teacher.clone().or_else(|| {
                // Traces are kept of the model that wrote them.
                let traces = recipe.stage(stage.traces.as_deref()?)?;
                traces.from.clone().filter(|_| stage.from != traces.from)
            }),
        });
        next = stage.from.as_deref().and_then(|name| recipe.stage(name));
    }
    line.reverse();
    line
}

/// All stages without which a stage's model would not be: those it came from, its teachers, and the
/// stages that these took.
fn makers_of(recipe: &Recipe, stage: &str) -> Vec<String> {
    let mut makers: Vec<String> = Vec::new();
    let mut open = vec![stage.to_owned()];
    while let Some(name) = open.pop() {
        if makers.contains(&name) {
            continue;
        }
        if let Some(stage) = recipe.stage(&name) {
            let before = [&stage.from, &stage.teacher, &stage.traces];
            open.extend(before.into_iter().flatten().cloned());
        }
        makers.push(name);
    }
    makers
}

/// What these stages of a run cost, where the home's ledger knows the run.
fn cost_of(ledger: &Ledger, run: &Path, makers: &[String]) -> anyhow::Result<Option<Cost>> {
    let runs = ledger.runs()?;
    let folder = canonical(run);
    let known = runs.iter().rev();
    let mut known = known.filter(|run| canonical(Path::new(&run.folder)) == folder);
    let Some(run) = known.next() else {
        return Ok(None);
    };
    let mut total = Total::default();
    for (stage, entry) in &ledger.bill(run.id)?.stages {
        if makers.contains(stage) {
            total.add(entry);
        }
    }
    let Some(used) = total.used else {
        return Ok(None);
    };
    Ok(Some(Cost {
        flops: total.work.flops(),
        core_seconds: used.core_seconds,
        joules: used.joules,
        money: total.money.into_iter().collect(),
    }))
}

/// A README without its head for programs.
fn body_of(readme: &str) -> &str {
    let text = readme.strip_prefix('\u{feff}').unwrap_or(readme);
    let Some(rest) = text
        .strip_prefix("---")
        .filter(|rest| rest.starts_with(['\n', '\r']))
    else {
        return text.trim();
    };
    match rest.split_once("\n---") {
        Some((_, body)) => body.split_once('\n').map_or("", |(_, body)| body).trim(),
        None => text.trim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_shown_without_its_head() {
        for (readme, expected) in [
            ("---\nlicense: mit\n---\n\n# Title\ntext\n", "# Title\ntext"),
            ("---\r\nlicense: mit\r\n---\r\n# Title\r\n", "# Title"),
            ("# Title\n---\nmore", "# Title\n---\nmore"),
            ("---\nlicense: mit\n---", ""),
            ("---\nnever closed", "---\nnever closed"),
            ("---- not a head\n---\nx", "---- not a head\n---\nx"),
            ("", ""),
        ] {
            assert_eq!(body_of(readme), expected, "{readme:?}");
        }
    }

    #[test]
    fn origins_are_addresses_or_paths() {
        let of_hub = origin_of("https://huggingface.co/o/n@0123");
        assert_eq!(
            of_hub,
            Origin::Hub {
                address: "https://huggingface.co/o/n".into(),
                revision: "0123".into()
            }
        );
        for path in ["/home/me@work/model", "C:\\models"] {
            assert_eq!(origin_of(path), Origin::Path(path.into()));
        }
    }

    #[test]
    fn a_stage_came_from_those_before_it_and_cost_what_its_teachers_cost() {
        let none: [&str; 0] = [];
        let text = include_str!("../../../../../recipes/r1-tiny.toml");
        let recipe = Recipe::from_toml(text, &none).unwrap();
        let names = |line: Vec<Ancestor>| -> Vec<String> {
            line.into_iter().map(|ancestor| ancestor.name).collect()
        };
        assert_eq!(names(line_of(&recipe, "r1-zero")), ["base", "r1-zero"]);
        let makers = makers_of(&recipe, "distilled");
        assert!(makers.contains(&"r1".to_owned()), "{makers:?}");
        assert!(!makers.contains(&"evaluation".to_owned()), "{makers:?}");
        assert!(line_of(&recipe, "nothing").is_empty());
    }
}
