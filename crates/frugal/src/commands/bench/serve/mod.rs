//! A server under load: rates and latencies by number of streams or rate of arrivals, and trials of
//! what it promises.
//!
//! The clients are in `frugal_serve::client::load`; here are the server of a model that is measured
//! ([`own`]), the rows, and the verdicts ([`trials`]).

mod own;
mod trials;

use std::process::ExitCode;

use anyhow::Context;
use frugal_run::consumption::unix_seconds;
use frugal_serve::client::load::ask::{Questions, Route, Wanted};
use frugal_serve::client::load::measure::{Closed, Open, Summary, closed, open};
use frugal_serve::client::load::{self, Spread, Subject};
use frugal_serve::client::{Client, Target};
use serde_json::{Value, json};

use crate::cli::{AskedBy, BenchServe, Common};
use crate::limits;
use crate::output::{Usage, say, say_json, table, tell};

/// Streams of the rows where nobody says.
const STREAMS: [usize; 4] = [1, 4, 16, 64];
/// Requests of each stream of a row, and the fewest of a row.
const EACH: usize = 8;
const FEWEST: usize = 16;
/// Seconds of a row by rate.
const SECONDS: f64 = 20.0;
/// Tokens of an answer before those that count.
const WARM_UP_TOKENS: usize = 8;

pub(super) fn run(common: &Common, arguments: &BenchServe) -> anyhow::Result<ExitCode> {
    check(arguments)?;
    limits::raise_open_files();
    let own = match &arguments.served {
        Some(model) => Some(own::Own::start(common, arguments, model)?),
        None => None,
    };
    let url = match &own {
        Some(own) => own.url.clone(),
        None => arguments.url.clone().unwrap_or_default(),
    };
    let target = Target::parse(&url)?.with_key(arguments.key.clone());
    let process = own.as_ref().map(own::Own::process).or(arguments.pid);
    load::run(async {
        let client = Client::new(target);
        let wanted = wanted(arguments);
        let questions = Questions::find(&client, &wanted).await;
        let subject = Subject {
            client,
            questions: questions.with_context(|| format!("{url} cannot be measured"))?,
            process,
        };
        if arguments.test.is_empty() {
            measure(common, arguments, &subject).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut is_well = true;
        for test in &arguments.test {
            is_well &= trials::run(common, arguments, (*test, &subject)).await?;
        }
        Ok(if is_well {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })?
}

fn check(arguments: &BenchServe) -> anyhow::Result<()> {
    let counts = [
        ("--tokens", arguments.tokens),
        ("--prompt-tokens", arguments.prompt_tokens),
        ("--requests", arguments.requests.unwrap_or(1)),
        (
            "--streams",
            arguments.streams.iter().copied().min().unwrap_or(1),
        ),
    ];
    if let Some((flag, _)) = counts.iter().find(|(_, n)| *n == 0) {
        return Err(Usage(format!("expected {flag} of 1 or more, got 0")).into());
    }
    let mut amounts = arguments.rate.iter().chain(&arguments.seconds);
    if let Some(wrong) = amounts.find(|amount| !(amount.is_finite() && **amount > 0.0)) {
        return Err(Usage(format!("expected a rate or seconds above 0, got {wrong}")).into());
    }
    Ok(())
}

fn wanted(arguments: &BenchServe) -> Wanted {
    Wanted {
        model: arguments.model.clone(),
        route: match arguments.route {
            AskedBy::Chat => Route::Chat,
            AskedBy::Completions => Route::Completions,
        },
        tokens: arguments.tokens,
        prompt_tokens: arguments.prompt_tokens,
        temperature: arguments.temperature,
        series: unix_seconds().unsigned_abs(),
    }
}

/// What tells rows apart.
#[derive(Debug, Clone, Copy)]
enum Row {
    Streams(usize),
    Rate(f64),
}

async fn measure(common: &Common, arguments: &BenchServe, subject: &Subject) -> anyhow::Result<()> {
    let usual: &[usize] = if arguments.rate.is_empty() {
        &STREAMS
    } else {
        &[]
    };
    let streams = if arguments.streams.is_empty() {
        usual
    } else {
        &arguments.streams
    };
    let rows = streams.iter().map(|n| Row::Streams(*n));
    let rows = rows.chain(arguments.rate.iter().map(|rate| Row::Rate(*rate)));
    let mut cells = Vec::new();
    for (number, row) in (1..).zip(rows) {
        let summary = one(arguments, subject, (number, row)).await;
        if let Some(failure) = &summary.failure {
            tell(format!("a request failed: {failure}"));
        }
        if common.json {
            say_json(&as_json(subject, row, &summary))?;
        } else {
            cells.push(as_cells(row, &summary));
        }
    }
    if !common.json {
        let head = [
            "",
            "tokens/s",
            "requests/s",
            "first p50",
            "p90",
            "p99",
            "per token",
            "p99",
            "prompt",
            "answer",
            "whole",
            "refused",
            "failed",
        ];
        say(table(&head, &cells));
    }
    Ok(())
}

async fn one(arguments: &BenchServe, subject: &Subject, (number, row): (u64, Row)) -> Summary {
    // No row's prompts are known from another's.
    let first = number << 40;
    match row {
        Row::Streams(streams) => {
            let warm_up = Subject {
                questions: subject.questions.with_tokens(WARM_UP_TOKENS),
                ..subject.clone()
            };
            let how = Closed {
                streams,
                requests: Some(streams),
                seconds: None,
                first: first + (1 << 39),
            };
            closed(&warm_up, how).await;
            let requests = match (arguments.requests, arguments.seconds) {
                (None, None) => Some((EACH * streams).max(FEWEST)),
                (requests, _) => requests,
            };
            let how = Closed {
                streams,
                requests,
                seconds: arguments.seconds,
                first,
            };
            closed(subject, how).await.summary()
        }
        Row::Rate(rate) => {
            let asked = arguments.requests.map(|n| n as f64 / rate);
            let seconds = asked.or(arguments.seconds).unwrap_or(SECONDS);
            let how = Open {
                rate,
                seconds,
                first,
            };
            open(subject, how).await.summary()
        }
    }
}

fn as_json(subject: &Subject, row: Row, summary: &Summary) -> Value {
    let mut line = json!({
        "event": "bench",
        "what": "serve",
        "model": subject.questions.model,
        "prompt_tokens": summary.prompt_tokens,
        "answer_tokens": summary.tokens,
        "tokens_per_second": summary.tokens_per_second,
        "requests_per_second": summary.requests_per_second,
        "time_to_first_token": summary.first.map(spread),
        "time_per_output_token": summary.per_token.map(spread),
        "latency": summary.latency.map(spread),
        "whole": summary.whole,
        "refused": summary.refused + summary.refused_bluntly,
        "failed": summary.failed,
        "seconds": summary.seconds,
    });
    let (key, value) = match row {
        Row::Streams(n) => ("streams", json!(n)),
        Row::Rate(rate) => ("rate", json!(rate)),
    };
    if let Some(line) = line.as_object_mut() {
        line.insert(key.to_owned(), value);
    }
    line
}

fn spread(spread: Spread) -> Value {
    json!({ "p50": spread.p50, "p90": spread.p90, "p99": spread.p99, "max": spread.most })
}

fn as_cells(row: Row, summary: &Summary) -> Vec<String> {
    let first = summary.first.unwrap_or_default();
    let per_token = summary.per_token.unwrap_or_default();
    vec![
        match row {
            Row::Streams(1) => "1 stream".to_owned(),
            Row::Streams(n) => format!("{n} streams"),
            Row::Rate(rate) => format!("{rate} a second"),
        },
        format!("{:.1}", summary.tokens_per_second),
        format!("{:.2}", summary.requests_per_second),
        milliseconds(first.p50),
        milliseconds(first.p90),
        milliseconds(first.p99),
        milliseconds(per_token.p50),
        milliseconds(per_token.p99),
        format!("{:.0}", summary.prompt_tokens),
        format!("{:.0}", summary.tokens),
        summary.whole.to_string(),
        (summary.refused + summary.refused_bluntly).to_string(),
        summary.failed.to_string(),
    ]
}

fn milliseconds(seconds: f64) -> String {
    if seconds < 0.1 {
        format!("{:.2} ms", 1e3 * seconds)
    } else {
        format!("{:.0} ms", 1e3 * seconds)
    }
}
