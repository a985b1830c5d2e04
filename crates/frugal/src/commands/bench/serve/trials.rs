//! The trials of a server, told as verdicts with their numbers.

use frugal_serve::client::load::leave::Leave;
use frugal_serve::client::load::measure::Summary;
use frugal_serve::client::load::overload::Overload;
use frugal_serve::client::load::slow::Slow;
use frugal_serve::client::load::whole::Whole;
use frugal_serve::client::load::{Spread, Subject};
use serde_json::{Map, Value, json};

use super::{milliseconds, spread};
use crate::cli::{BenchServe, Common, LoadTest};
use crate::output::{metric, say, say_json};

/// Seconds of a test where nobody says.
const SECONDS: f64 = 30.0;
/// Streams, where nobody says.
const WHOLE: usize = 1000;
const SATURATING: usize = 128;
const SLOW: usize = 300;
/// How many times what it can do a server is asked for.
const TIMES: f64 = 5.0;
/// Tokens of answers that nobody reads: more bytes than sockets hold.
const UNREAD_TOKENS: usize = 512;
/// Clients that leave, and those that stay.
const LEAVING: usize = 30;
const STAYING: usize = 8;

/// A verdict.
struct Verdict {
    is_well: bool,
    numbers: Value,
    words: String,
}

/// Runs a test and shows what came of it; whether all was well.
pub(super) async fn run(
    common: &Common,
    arguments: &BenchServe,
    (test, subject): (LoadTest, &Subject),
) -> anyhow::Result<bool> {
    let seconds = arguments.seconds.unwrap_or(SECONDS);
    let streams = |usual| arguments.streams.first().copied().unwrap_or(usual);
    let (name, verdict) = match test {
        LoadTest::Whole => {
            let trial = Whole {
                streams: streams(WHOLE),
                seconds,
            };
            ("whole", whole(trial, subject).await?)
        }
        LoadTest::Overload => {
            let trial = Overload {
                streams: streams(SATURATING),
                times: TIMES,
                seconds,
            };
            ("overload", overload(trial, subject).await)
        }
        LoadTest::Slow => {
            let trial = Slow {
                clients: streams(SLOW),
                tokens: UNREAD_TOKENS,
                seconds,
            };
            ("slow", slow(trial, subject).await?)
        }
        LoadTest::Leave => {
            let trial = Leave {
                times: LEAVING,
                others: STAYING,
            };
            ("leave", leave(trial, subject).await?)
        }
    };
    if common.json {
        let mut line = Map::new();
        line.insert("event".into(), "bench".into());
        line.insert("what".into(), "serve".into());
        line.insert("test".into(), name.into());
        line.insert("well".into(), verdict.is_well.into());
        if let Value::Object(numbers) = verdict.numbers {
            line.extend(numbers);
        }
        say_json(&line)?;
    } else {
        let word = if verdict.is_well { "well" } else { "NOT WELL" };
        say(format!("{name}: {word}\n{}", verdict.words));
    }
    Ok(verdict.is_well)
}

async fn whole(trial: Whole, subject: &Subject) -> anyhow::Result<Verdict> {
    let told = trial.run(subject).await?;
    let bytes = |bytes: Option<f64>| bytes.map_or("?".into(), |n| format!("{}B", metric(n)));
    let growth = told.growth();
    Ok(Verdict {
        is_well: told.is_well(),
        numbers: json!({
            "streams": trial.streams,
            "seconds": told.seconds,
            "answers": told.answers,
            "alike": told.alike,
            "different": told.different,
            "refused": told.refused,
            "failed": told.failed,
            "example": told.example,
            "tokens_per_second": told.tokens_per_second,
            "memory_before": told.memory_before,
            "memory_after": told.memory_after,
            "growth": growth,
        }),
        words: format!(
            "  {} streams for {:.0} s: {} answers, {} as alone, {} different, {} refused, {} failed\n  \
             {:.0} tokens/s; memory {} after warm-up, {} at most later ({})\n{}",
            trial.streams,
            told.seconds,
            told.answers,
            told.alike,
            told.different,
            told.refused,
            told.failed,
            told.tokens_per_second,
            bytes(told.memory_before),
            bytes(told.memory_after),
            growth.map_or("growth unknown".into(), |it| format!(
                "{:+.1} %",
                100.0 * it
            )),
            told.example
                .map_or_else(String::new, |it| format!("  first: {it}")),
        ),
    })
}

async fn overload(trial: Overload, subject: &Subject) -> Verdict {
    let told = trial.run(subject).await;
    let share = told.goodput / told.saturation;
    let recovered = told.recovered;
    Verdict {
        is_well: told.is_well(),
        numbers: json!({
            "saturation": told.saturation,
            "offered": told.offered,
            "goodput": told.goodput,
            "share": share,
            "requests": numbers(&told.summary),
            "until_refused": told.until_refused.map(spread),
            "normal_first_token": told.normal,
            "recovered_after": recovered,
            "after": told.after,
        }),
        words: format!(
            "  {:.1} answers/s at saturation; {:.1} requests/s offered: {:.1} answers/s ({:.0} %)\n  \
             {}\n  refused after {}\n  first token normally {}; so again {} after the overload",
            told.saturation,
            told.offered,
            told.goodput,
            100.0 * share,
            fates(&told.summary),
            ends(told.until_refused),
            milliseconds(told.normal),
            recovered.map_or("never".into(), |it| format!("{it:.2} s")),
        ),
    }
}

async fn slow(trial: Slow, subject: &Subject) -> anyhow::Result<Verdict> {
    let told = trial.run(subject).await?;
    let done = told.done_after;
    Ok(Verdict {
        is_well: told.is_well(),
        numbers: json!({
            "slow": told.slow,
            "half_open": told.half_open,
            "kept": told.kept,
            "before": numbers(&told.before),
            "done_after": done,
            "beside": numbers(&told.beside),
        }),
        words: format!(
            "  {} slow readers, {} half-open connections, {} still kept at the end\n  \
             computing for them ended after {}\n  alone: {:.0} tokens/s, first token {}\n  \
             beside: {:.0} tokens/s, first token {}; {}",
            told.slow,
            told.half_open,
            told.kept,
            done.map_or("?".into(), |it| format!("{it:.1} s")),
            told.before.tokens_per_second,
            ends(told.before.first),
            told.beside.tokens_per_second,
            ends(told.beside.first),
            fates(&told.beside),
        ),
    })
}

async fn leave(trial: Leave, subject: &Subject) -> anyhow::Result<Verdict> {
    let told = trial.run(subject).await?;
    Ok(Verdict {
        is_well: told.is_well(),
        numbers: json!({
            "times": trial.times,
            "answering": told.answering.map(spread),
            "reading": told.reading.map(spread),
            "beside_others": told.beside_others.map(spread),
        }),
        words: format!(
            "  free after leaving an answer {}\n  while the prompt was read {}\n  beside {} others {}",
            ends(told.answering),
            ends(told.reading),
            trial.others,
            ends(told.beside_others),
        ),
    })
}

fn numbers(summary: &Summary) -> Value {
    json!({
        "whole": summary.whole,
        "refused": summary.refused,
        "refused_without_retry_after": summary.refused_bluntly,
        "failed": summary.failed,
        "failure": summary.failure,
        "tokens_per_second": summary.tokens_per_second,
        "time_to_first_token": summary.first.map(spread),
    })
}

fn fates(summary: &Summary) -> String {
    let mut text = format!(
        "{} whole, {} refused, {} refused without Retry-After, {} failed",
        summary.whole, summary.refused, summary.refused_bluntly, summary.failed
    );
    if let Some(failure) = &summary.failure {
        text = format!("{text} (first: {failure})");
    }
    text
}

fn ends(spread: Option<Spread>) -> String {
    spread.map_or("?".into(), |spread| {
        let [p50, p99, most] = [spread.p50, spread.p99, spread.most].map(milliseconds);
        format!("{p50} (p99 {p99}, most {most})")
    })
}
