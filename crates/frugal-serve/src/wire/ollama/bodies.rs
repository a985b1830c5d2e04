//! What Ollama's interface tells about models: versions, lists, details.

use serde_json::{Map, Value, json};

use crate::models::Listed;

/// The version of Ollama whose interface this follows. Editors refuse servers older than the one
/// they were written for, so our own version stands beside it, not in its place.
const INTERFACE: &str = "0.12.0";

/// No model leaves at a time that is known: they leave when memory is wanted.
const NO_TIME: &str = "2999-12-31T23:59:59Z";

/// What is known of a model beside its listing, once it is open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Tokens of a sequence.
    pub positions: Option<usize>,
    /// What it can do beside `completion`: `thinking`, `tools`, `insert`.
    pub can: Vec<&'static str>,
}

/// A model that is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// Which.
    pub listed: &'a Listed,
    /// Bytes of memory that it takes, cache included.
    pub bytes: u64,
    /// Tokens of a sequence.
    pub positions: usize,
}

/// `GET /api/version`.
pub fn version() -> Value {
    json!({ "version": INTERFACE, "frugal": env!("CARGO_PKG_VERSION") })
}

/// `GET /api/tags`.
pub fn tags(models: &[Listed]) -> Value {
    let models: Vec<Value> = models
        .iter()
        .map(|model| {
            let mut entry = named(model);
            entry.insert("size".into(), model.bytes.into());
            entry.insert("modified_at".into(), stamp(model.created).into());
            entry.into()
        })
        .collect();
    json!({ "models": models })
}

/// `GET /api/ps`.
pub fn running(models: &[Running<'_>]) -> Value {
    let models: Vec<Value> = models
        .iter()
        .map(|model| {
            let mut entry = named(model.listed);
            entry.insert("size".into(), model.bytes.into());
            // Nothing is computed on a graphics card.
            entry.insert("size_vram".into(), 0.into());
            entry.insert("context_length".into(), model.positions.into());
            entry.insert("expires_at".into(), NO_TIME.into());
            entry.into()
        })
        .collect();
    json!({ "models": models })
}

/// `POST /api/show`.
pub fn show(model: &Listed, known: &Known) -> Value {
    let family = about(model, &["family", "architecture", "model_type"]);
    let family = if family.is_empty() {
        "unknown"
    } else {
        &family
    };
    let mut info = Map::new();
    info.insert("general.architecture".into(), family.into());
    info.insert("general.basename".into(), model.name.as_str().into());
    if let Some(parameters) = model.about.get("parameters").filter(|count| count.is_u64()) {
        info.insert("general.parameter_count".into(), parameters.clone());
    }
    if let Some(positions) = known.positions {
        info.insert(format!("{family}.context_length"), positions.into());
    }
    let can: Vec<&str> = std::iter::once("completion")
        .chain(known.can.iter().copied())
        .collect();
    json!({
        "license": about(model, &["licence", "license"]),
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(model),
        "model_info": info,
        "capabilities": can,
        "modified_at": stamp(model.created),
    })
}

fn named(model: &Listed) -> Map<String, Value> {
    Map::from_iter([
        ("name".to_owned(), model.name.as_str().into()),
        ("model".to_owned(), model.name.as_str().into()),
        ("digest".to_owned(), about(model, &["digest"]).into()),
        ("details".to_owned(), details(model)),
    ])
}

fn details(model: &Listed) -> Value {
    let family = about(model, &["family", "architecture", "model_type"]);
    json!({
        "parent_model": about(model, &["base", "base_model"]),
        "format": about(model, &["format"]),
        "family": family,
        "families": [family],
        "parameter_size": about(model, &["parameter_size", "parameters"]),
        "quantization_level": about(model, &["quantization", "quantization_level", "dtype"]),
    })
}

/// What a model's card says under the first of these names that it has: a text, or a count as
/// people write it. Nothing if it says nothing: clients want the key all the same.
fn about(model: &Listed, names: &[&str]) -> String {
    let found = names.iter().find_map(|name| match model.about.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(count) => count.as_f64().map(count_in_words),
        _ => None,
    });
    found.unwrap_or_default()
}

fn count_in_words(count: f64) -> String {
    let steps = [(1e9, "B"), (1e6, "M"), (1e3, "K")];
    let step = steps.into_iter().find(|(unit, _)| count >= *unit);
    step.map_or_else(
        || format!("{count}"),
        |(unit, letter)| format!("{:.1}{letter}", count / unit),
    )
}

/// Unix seconds as a date and a time, UTC; what was before 1970 is its first second.
///
/// *Source*: H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days: years
/// begin in March, so that the leap day is the last of its year.
pub(super) fn stamp(unix_seconds: i64) -> String {
    const DAY: u64 = 86_400;
    let seconds = u64::try_from(unix_seconds).unwrap_or(0);
    let (days, of_day) = (seconds / DAY + 719_468, seconds % DAY);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
