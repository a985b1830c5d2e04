//! The catalogue: every model that is kept here, where it came from, what it costs and how fast it
//! is; and loading, fetching, checking and removing, for those who may.
//!
//! What is measured is what this server saw since its start; forecasts are made when first asked for
//! and kept while the server runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Json;
use frugal_run::hub::Wanted;
use serde_json::{Value, json};
use tokio::sync::Mutex as TurnMutex;

use super::jobs::Work;
use super::{Manager, Web, broken};
use crate::keys::Holder;
use crate::models::{Ancestor, Entry, Forecast, Origin};
use crate::server::Visit;
use crate::wire::error::{Fault, Kind};

/// Bytes of a body that says what to fetch.
const BODY_BYTES: usize = 8 << 10;
/// Steps back that are followed from card to card.
const MOST_STEPS: usize = 8;

/// Forecasts that were made, by name.
#[derive(Debug, Clone, Default)]
pub struct Forecasts {
    known: Arc<Mutex<BTreeMap<String, Forecast>>>,
    /// One is made at a time: it measures the machine.
    turn: Arc<TurnMutex<()>>,
}

impl Forecasts {
    fn get(&self, name: &str) -> Option<Forecast> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).copied()
    }

    fn put(&self, name: &str, forecast: Forecast) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), forecast);
    }

    fn forget(&self, name: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(name);
    }
}

/// The catalogue as somebody sees it now.
struct Sight<'a> {
    web: &'a Web,
    holder: &'a Holder,
    served: Vec<String>,
    loaded: Vec<String>,
    now: i64,
}

impl<'a> Sight<'a> {
    async fn of(web: &'a Web, holder: &'a Holder) -> Result<Self, Fault> {
        let parts = &web.service.parts;
        let served = parts.shelf.list().await?.into_iter();
        let loaded = parts.shelf.loaded();
        Ok(Self {
            web,
            holder,
            served: served.map(|model| model.name).collect(),
            loaded: loaded.iter().map(|served| served.name.clone()).collect(),
            now: parts.clock.now().unix,
        })
    }

    fn shown(&self, entry: &Entry, all: &[Entry]) -> Value {
        let parts = &self.web.service.parts;
        let (origin, revision) = match &entry.origin {
            Some(Origin::Hub { address, revision }) => (Some(address), Some(revision)),
            // Where things lie on this machine is for those who run it.
            Some(Origin::Path(path)) if self.holder.may_manage => (Some(path), None),
            Some(Origin::Path(_)) | None => (None, None),
        };
        let lineage = lineage(entry, all, MOST_STEPS).into_iter().map(|ancestor| {
            json!({
                "name": ancestor.name, "method": ancestor.method, "teacher": ancestor.teacher,
                "here": find(all, &ancestor.name).is_some(),
            })
        });
        let cost = entry.cost.as_ref().map(|cost| {
            // Nearly always one; where a price was stated in two, neither alone is the sum.
            let only = match cost.money.as_slice() {
                [only] => Some(only),
                _ => None,
            };
            json!({
                "flops": cost.flops,
                "core_seconds": cost.core_seconds,
                "joules": cost.joules,
                "money": only.map(|(_, money)| money),
                "currency": only.map(|(currency, _)| currency),
            })
        });
        let measured = parts.metrics.tokens_per_second(&entry.name);
        json!({
            "name": entry.name,
            "stored": entry.stored.is_some(),
            "served": self.served.contains(&entry.name),
            "loaded": self.loaded.contains(&entry.name),
            "bytes": entry.bytes,
            "parameters": entry.parameters,
            "active_parameters": entry.active_parameters,
            "quantization": entry.format,
            "architecture": entry.architecture,
            "licence": entry.licence,
            "base_models": entry.base_models,
            "method": entry.method,
            "origin": origin,
            "revision": revision,
            "created_at": entry.created,
            "context": entry.context,
            "card": Value::Null,
            "lineage": lineage.collect::<Vec<Value>>(),
            "cost": cost,
            "forecast": self.web.forecasts.get(&entry.name).as_ref().map(forecast_shown),
            "measured": measured.map(|pace| json!({ "tokens_per_second": pace, "at": self.now })),
        })
    }
}

fn forecast_shown(forecast: &Forecast) -> Value {
    json!({
        "tokens_per_second": forecast.tokens_per_second,
        "prompt_tokens_per_second": forecast.prompt_tokens_per_second,
        "memory_bytes": forecast.memory_bytes,
    })
}

/// Whether somebody may know of a model.
fn may_see(holder: &Holder, entry: &Entry) -> bool {
    holder.may_manage || holder.may_use(&entry.name, &entry.name).is_ok()
}

/// The model that is meant by a name, in full or, as cards of files on this machine have it, by its
/// whole last part.
fn find<'a>(all: &'a [Entry], name: &str) -> Option<&'a Entry> {
    let is_named = |entry: &&Entry| {
        let names = [Some(&entry.name), entry.stored.as_ref()];
        names
            .into_iter()
            .flatten()
            .any(|own| own.eq_ignore_ascii_case(name))
    };
    let is_last = |entry: &&Entry| {
        let last = entry.name.rsplit('/').next().unwrap_or_default();
        last.eq_ignore_ascii_case(name)
    };
    let by_name = all.iter().find(is_named);
    by_name.or_else(|| all.iter().find(is_last))
}

/// The models that one came from, the first one first, and itself at the end. A run tells of its own;
/// others are followed from card to card, as far as the cards are here.
fn lineage(entry: &Entry, all: &[Entry], most: usize) -> Vec<Ancestor> {
    let mut line = entry.before.clone();
    if let Some(base) = entry.base_models.first().filter(|_| line.is_empty()) {
        let parent = find(all, base).filter(|parent| parent.name != entry.name);
        line = match parent.filter(|_| most > 0) {
            Some(parent) => lineage(parent, all, most - 1),
            None => vec![Ancestor {
                name: base.clone(),
                ..Ancestor::default()
            }],
        };
    }
    line.push(Ancestor {
        name: entry.name.clone(),
        method: entry.method.clone(),
        teacher: entry.teacher.clone(),
    });
    line
}

impl Web {
    async fn entries(&self) -> Result<Vec<Entry>, Fault> {
        let catalogue = Arc::clone(&self.catalogue);
        let read = move || {
            let entries = catalogue.entries();
            entries.map_err(|error| broken("the models were not listed", &error))
        };
        self.aside.run(read).await
    }

    /// One that somebody may know of, and all there are.
    async fn entry(&self, name: &str, holder: &Holder) -> Result<(Entry, Vec<Entry>), Fault> {
        let all = self.entries().await?;
        let entry = all.iter().find(|entry| entry.name == name);
        let entry = entry.filter(|entry| may_see(holder, entry)).cloned();
        let none = || Fault::new(Kind::NoModel, "there is no model of this name").at("name");
        Ok((entry.ok_or_else(none)?, all))
    }

    /// One that lies in the store, and its name there.
    async fn stored(&self, name: &str, visit: &Visit) -> Result<(Entry, String), Fault> {
        let (entry, _) = self.entry(name, visit.who()?).await?;
        let stored = entry.stored.clone().ok_or_else(|| {
            let message = "the model lies outside the store, so this is its owner's business";
            Fault::new(Kind::Conflict, message)
        })?;
        Ok((entry, stored))
    }
}

pub(super) async fn list(State(web): State<Web>, visit: Visit) -> Result<Json<Value>, Fault> {
    let all = web.entries().await?;
    let holder = visit.who()?;
    let sight = Sight::of(&web, holder).await?;
    let visible = all.iter().filter(|entry| may_see(holder, entry));
    let data: Vec<Value> = visible.map(|entry| sight.shown(entry, &all)).collect();
    Ok(Json(json!({ "data": data })))
}

pub(super) async fn one(
    State(web): State<Web>,
    Path(name): Path<String>,
    visit: Visit,
) -> Result<Json<Value>, Fault> {
    let holder = visit.who()?;
    let (entry, all) = web.entry(&name, holder).await?;
    let mut value = Sight::of(&web, holder).await?.shown(&entry, &all);
    let catalogue = Arc::clone(&web.catalogue);
    let card = web.aside.run(move || Ok(catalogue.card(&name))).await?;
    if let (Some(fields), Some(card)) = (value.as_object_mut(), card) {
        fields.insert("card".into(), json!({ "text": card }));
    }
    Ok(Json(value))
}

/// Measures the machine for a second or two, the first time.
pub(super) async fn forecast(
    State(web): State<Web>,
    Path(name): Path<String>,
    visit: Visit,
) -> Result<Json<Value>, Fault> {
    let (entry, _) = web.entry(&name, visit.who()?).await?;
    if let Some(known) = web.forecasts.get(&entry.name) {
        return Ok(Json(forecast_shown(&known)));
    }
    let turn = Arc::clone(&web.forecasts.turn).lock_owned().await;
    // Who waited may have waited for this very one.
    if let Some(known) = web.forecasts.get(&entry.name) {
        return Ok(Json(forecast_shown(&known)));
    }
    let (catalogue, forecasts) = (Arc::clone(&web.catalogue), web.forecasts.clone());
    let make = move || {
        let _turn = turn;
        let made = catalogue.forecast(&entry.name).map_err(|error| {
            tracing::warn!(model = entry.name, error, "no forecast could be made");
            Fault::new(Kind::Conflict, "no forecast can be made for this model")
        })?;
        forecasts.put(&entry.name, made);
        Ok(made)
    };
    Ok(Json(forecast_shown(&web.aside.run(make).await?)))
}

pub(super) async fn load(
    State(web): State<Web>,
    Path(name): Path<String>,
    _: Manager,
) -> Result<Json<Value>, Fault> {
    let served = web.service.parts.shelf.get(&name).await?;
    Ok(Json(json!({ "name": served.name, "loaded": true })))
}

pub(super) async fn unload(
    State(web): State<Web>,
    Path(name): Path<String>,
    _: Manager,
) -> Result<Json<Value>, Fault> {
    let shelf = &web.service.parts.shelf;
    if shelf.unload(&name) {
        return Ok(Json(json!({ "name": name, "loaded": false })));
    }
    let own = shelf.resolve(&name);
    let is_loaded = shelf.loaded().iter().any(|served| served.name == own);
    let message = if is_loaded {
        "answers are under way with this model; try again when they are done"
    } else {
        "the model is not loaded"
    };
    Err(Fault::new(Kind::Conflict, message))
}

pub(super) async fn verify(
    State(web): State<Web>,
    Path(name): Path<String>,
    visit: Visit,
    _: Manager,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let (entry, stored) = web.stored(&name, &visit).await?;
    let catalogue = Arc::clone(&web.catalogue);
    let id = web.jobs.begin(
        (Work::Verify, &entry.name),
        Some(entry.bytes),
        move |stop, watch| {
            let found = catalogue.verify(&stored, stop, watch)?;
            if found.is_empty() {
                return Ok("every file is as recorded".into());
            }
            Err(found.join("; "))
        },
    )?;
    Ok(accepted(id))
}

pub(super) async fn remove(
    State(web): State<Web>,
    Path(name): Path<String>,
    visit: Visit,
    _: Manager,
) -> Result<StatusCode, Fault> {
    let (entry, stored) = web.stored(&name, &visit).await?;
    // One folder of the store may be served under several names.
    let all = web.entries().await?;
    let same = all.into_iter().filter(|other| other.stored == entry.stored);
    let names: Vec<String> = same.map(|other| other.name).collect();
    if names
        .iter()
        .chain([&stored])
        .any(|name| web.jobs.works_with(name))
    {
        let message =
            "the model is being fetched or checked; call that off, or wait until it has ended";
        return Err(Fault::new(Kind::Conflict, message));
    }
    let catalogue = Arc::clone(&web.catalogue);
    let work = move || catalogue.remove(&stored);
    let removed = web.service.parts.shelf.while_unloaded(&names, work).await?;
    removed.map_err(|message| Fault::new(Kind::Conflict, message))?;
    for name in &names {
        web.forecasts.forget(name);
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn pull(
    State(web): State<Web>,
    _: Manager,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let body = web.read(request, BODY_BYTES).await?;
    let text = |name: &str| {
        let text = body.get(name).and_then(Value::as_str).unwrap_or_default();
        text.trim().to_owned()
    };
    let mut asked = text("name");
    for (mark, more) in [('@', text("revision")), (':', text("files"))] {
        if !more.is_empty() {
            asked.push(mark);
            asked.push_str(&more);
        }
    }
    let wanted: Wanted = asked.parse().map_err(|_| {
        let expected = "an owner and a name as a hub has them, perhaps with a GGUF file";
        Fault::field("name", expected, "another text")
    })?;
    let catalogue = Arc::clone(&web.catalogue);
    let work = (Work::Pull, asked.as_str());
    let id = web.jobs.begin(work, None, move |stop, watch| {
        catalogue.pull(&wanted, stop, watch)
    })?;
    Ok(accepted(id))
}

fn accepted(id: u64) -> (StatusCode, Json<Value>) {
    (StatusCode::ACCEPTED, Json(json!({ "job": id.to_string() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, base: &str, method: &str) -> Entry {
        Entry {
            name: name.into(),
            base_models: (!base.is_empty())
                .then(|| base.to_owned())
                .into_iter()
                .collect(),
            method: (!method.is_empty()).then(|| method.to_owned()),
            ..Entry::default()
        }
    }

    fn line(name: &str, all: &[Entry]) -> Vec<String> {
        let entry = find(all, name).unwrap();
        let line = lineage(entry, all, MOST_STEPS).into_iter();
        let word = |ancestor: Ancestor| match ancestor.method {
            Some(method) => format!("{} {method}", ancestor.name),
            None => ancestor.name,
        };
        line.map(word).collect()
    }

    #[test]
    fn descent_is_followed_from_card_to_card() {
        let mut of_run = entry("tiny", "r1-zero", "grpo");
        of_run.before = ["base", "r1-zero"]
            .map(|name| Ancestor {
                name: name.into(),
                ..Ancestor::default()
            })
            .into();
        let all = [
            entry("o/Distill", "Qwen/Base", "finetune"),
            entry("me/Distill-Q4", "o/Distill", "quantized"),
            entry("me/Twice", "distill-q4", "quantized"),
            entry("plain", "", ""),
            entry("self", "self", ""),
            entry("x", "y", ""),
            entry("y", "x", ""),
            entry("tiny-Q4", "tiny", "quantized"),
            of_run,
        ];
        for (name, expected) in [
            ("o/Distill", vec!["Qwen/Base", "o/Distill finetune"]),
            (
                "me/Twice",
                vec![
                    "Qwen/Base",
                    "o/Distill finetune",
                    "me/Distill-Q4 quantized",
                    "me/Twice quantized",
                ],
            ),
            ("plain", vec!["plain"]),
            ("self", vec!["self", "self"]),
            ("tiny", vec!["base", "r1-zero", "tiny grpo"]),
            (
                "tiny-Q4",
                vec!["base", "r1-zero", "tiny grpo", "tiny-Q4 quantized"],
            ),
        ] {
            assert_eq!(line(name, &all), expected, "{name}");
        }
        // Cards that go in circles are followed so far and no further.
        assert_eq!(line("x", &all).len(), MOST_STEPS + 2);
    }
}
