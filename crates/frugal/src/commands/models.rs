//! `frugal models`: what the store holds, one model in full, remove, verify.

use std::process::ExitCode;

use anyhow::Context;
use frugal_run::models::{Model, Store, Unfinished};
use serde_json::json;

use super::pull::Teller;
use crate::cli::{Common, Models, ModelsOf};
use crate::home;
use crate::output::{grouped, metric, say, say_json, table};

pub(crate) fn run(common: &Common, arguments: &Models) -> anyhow::Result<ExitCode> {
    let store = Store::open(&home::of(common)?)?;
    match &arguments.what {
        None | Some(ModelsOf::List) => list(common, &store),
        Some(ModelsOf::Show { model }) => show(common, &store, model),
        Some(ModelsOf::Rm { models }) => remove(common, &store, models),
        Some(ModelsOf::Verify { models }) => verify(common, &store, models),
    }
}

fn list(common: &Common, store: &Store) -> anyhow::Result<ExitCode> {
    let (models, unfinished) = (store.list()?, store.unfinished()?);
    if common.json {
        say_json(&json!({ "event": "models", "models": models, "unfinished": unfinished }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if models.is_empty() && unfinished.is_empty() {
        say("no models in this home yet; fetch one with `frugal pull OWNER/NAME`");
        return Ok(ExitCode::SUCCESS);
    }
    if !models.is_empty() {
        let head = [
            "model",
            "architecture",
            "parameters",
            "active",
            "format",
            "size",
            "licence",
            "since",
            "origin",
        ];
        let rows: Vec<Vec<String>> = models.iter().map(row).collect();
        say(table(&head, &rows));
    }
    for Unfinished { name, bytes } in &unfinished {
        let size = metric(*bytes as f64);
        say(format!(
            "{name}: unfinished, {size}B are there; pull it again to go on, or rm it"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(model: &Model) -> Vec<String> {
    let count = |count: Option<u64>| {
        count.map_or_else(
            || "-".to_owned(),
            |n| metric(n as f64).trim_end().to_owned(),
        )
    };
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        model.name.clone(),
        model.facts.architecture.clone(),
        count(model.facts.parameters),
        count(model.facts.active_parameters),
        model.facts.format.clone(),
        format!("{}B", metric(model.bytes as f64)),
        or_dash(&model.licence),
        date(model.added),
        short(&model.origin),
    ]
}

/// An origin whose commit is cut to what people compare.
fn short(origin: &str) -> String {
    match origin.rsplit_once('@') {
        Some((place, commit)) if commit.len() == 40 => {
            format!("{place}@{}", commit.get(..8).unwrap_or(commit))
        }
        _ => origin.to_owned(),
    }
}

fn show(common: &Common, store: &Store, name: &str) -> anyhow::Result<ExitCode> {
    let (model, path) = store.locate(name)?;
    if common.json {
        say_json(&json!({ "event": "model", "model": model, "path": path }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let count = |count: Option<u64>| count.map_or_else(|| "unknown".to_owned(), grouped);
    let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "not said".to_owned());
    for (label, value) in [
        ("model", model.name.clone()),
        ("architecture", model.facts.architecture.clone()),
        ("parameters", count(model.facts.parameters)),
        ("active a token", count(model.facts.active_parameters)),
        ("format", model.facts.format.clone()),
        ("size", format!("{} bytes", grouped(model.bytes))),
        ("licence", said(&model.licence)),
        ("base model", said(&model.base_model)),
        ("method", said(&model.method)),
        ("origin", model.origin.clone()),
        ("since", date(model.added)),
        ("path", path.display().to_string()),
    ] {
        say(format!("{label:15} {value}"));
    }
    let rows: Vec<Vec<String>> = model
        .files
        .iter()
        .map(|file| vec![file.name.clone(), grouped(file.bytes), file.sha256.clone()])
        .collect();
    say(table(&["file", "bytes", "sha256"], &rows));
    Ok(ExitCode::SUCCESS)
}

fn remove(common: &Common, store: &Store, names: &[String]) -> anyhow::Result<ExitCode> {
    for name in names {
        store.remove(name).with_context(|| format!("rm {name}"))?;
        if common.json {
            say_json(&json!({ "event": "removed", "model": name }))?;
        } else {
            say(format!("{name} is gone"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(common: &Common, store: &Store, names: &[String]) -> anyhow::Result<ExitCode> {
    let names: Vec<String> = if names.is_empty() {
        store.list()?.into_iter().map(|model| model.name).collect()
    } else {
        names.to_vec()
    };
    let mut is_good = true;
    for name in &names {
        let mut teller = Teller::new(common);
        let found = store.verify(name, &mut |progress| teller.hear(progress));
        teller.finish();
        let found = found.with_context(|| format!("verify {name}"))?;
        is_good &= found.is_empty();
        if common.json {
            say_json(&json!({
                "event": "verified", "model": name, "good": found.is_empty(), "differences": found,
            }))?;
        } else if found.is_empty() {
            say(format!("{name}: every file is as recorded"));
        } else {
            for one in &found {
                say(format!("{name}: {one}"));
            }
        }
    }
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Seconds since 1970 as a day of the calendar, at Greenwich.
///
/// *Source*: Howard Hinnant, "chrono-compatible low-level date algorithms": years begin in March,
/// so that the odd day comes last, and 400 of them have 146 097 days.
fn date(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let day = day - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = 400 * era + year + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn commits_are_cut_and_paths_are_not() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let origin = format!("https://huggingface.co/o/n@{commit}");
        assert_eq!(short(&origin), "https://huggingface.co/o/n@01234567");
        assert_eq!(short("/home/me@work/model"), "/home/me@work/model");
    }
}
