//! `frugal doctor --api`: conformance cases, and the score by area.

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::Duration;

use frugal_serve::doctor::{Area, Examination, Finding, Report, Score, Verdict, Whom};
use serde_json::{Map, Value, json};

use crate::cli::{Common, Doctor};
use crate::output::{Usage, say, say_json, table};

pub(super) fn run(common: &Common, arguments: &Doctor, url: &str) -> anyhow::Result<ExitCode> {
    let examination = Examination {
        whom: Whom {
            url: url.to_owned(),
            key: arguments.key.clone(),
            model: arguments.model.clone(),
        },
        areas: areas(&arguments.area)?,
        patience: Duration::from_secs(arguments.patience),
    };
    let asked = RefCell::new(String::new());
    let met = |model: &str| {
        model.clone_into(&mut asked.borrow_mut());
        if !common.json && !common.quiet {
            say(format!("{model} at {url}"));
        }
    };
    let mut told = Ok(());
    let mut tell = |finding: &Finding| {
        if told.is_ok() {
            told = show(common, finding);
        }
    };
    let report = examination.run(&met, &mut tell)?;
    told?;
    conclude(common, &asked.borrow(), &report)?;
    Ok(if report.all.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn areas(names: &[String]) -> Result<Vec<Area>, Usage> {
    if names.is_empty() {
        return Ok(Area::ALL.to_vec());
    }
    let one = |name: &String| {
        let known = Area::ALL.into_iter().find(|area| area.name() == name);
        known.ok_or_else(|| {
            let names = Area::ALL.map(Area::name).join(", ");
            Usage(format!("expected --area of {names}, got {name}"))
        })
    };
    names.iter().map(one).collect()
}

const fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail(_) => "fail",
        Verdict::NotOffered => "not_offered",
    }
}

fn show(common: &Common, finding: &Finding) -> anyhow::Result<()> {
    let why = match &finding.verdict {
        Verdict::Fail(why) => Some(why.as_str()),
        _ => None,
    };
    let (area, word) = (finding.area.name(), word(&finding.verdict));
    if common.json {
        return say_json(&json!({
            "event": "case", "area": area, "case": finding.case, "verdict": word, "why": why,
            "seconds": finding.seconds,
        }));
    }
    if common.quiet && why.is_none() {
        return Ok(());
    }
    let mark = match finding.verdict {
        Verdict::Pass => "ok",
        Verdict::Fail(_) => "FAIL",
        Verdict::NotOffered => "-",
    };
    say(format!("{mark:<5}{area:<13}{}", finding.case));
    if let Some(why) = why {
        say(format!("{:18}{why}", ""));
    }
    Ok(())
}

fn conclude(common: &Common, model: &str, report: &Report) -> anyhow::Result<()> {
    let areas = report
        .areas
        .iter()
        .map(|(area, score)| (area.name(), score));
    if common.json {
        let areas: Map<String, Value> = areas
            .map(|(name, score)| (name.to_owned(), json!(score)))
            .collect();
        let all = report.all;
        return say_json(&json!({
            "event": "score", "model": model, "passed": all.passed, "failed": all.failed,
            "not_offered": all.not_offered, "areas": areas,
        }));
    }
    let row = |(name, score): (&str, &Score)| {
        let numbers = [score.passed, score.offered(), score.not_offered];
        std::iter::once(name.to_owned())
            .chain(numbers.iter().map(ToString::to_string))
            .collect::<Vec<_>>()
    };
    let mut rows: Vec<Vec<String>> = areas.map(row).collect();
    rows.push(row(("all", &report.all)));
    say(format!(
        "\n{}",
        table(&["area", "passed", "of", "not offered"], &rows)
    ));
    Ok(())
}
