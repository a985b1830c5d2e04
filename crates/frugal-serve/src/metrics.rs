//! Counters and histograms under the names operators know: vLLM's, with `frugal_` in place of
//! `vllm:`, so that a dashboard moves by a change of prefix.
//!
//! A request is watched from its arrival ([`Metrics::begin`]) to its end; what engines do now is read
//! when somebody asks ([`Metrics::render`]). Labels come from a bounded set: routes and reasons are
//! words of this program, models and keys are named by the operator, and beyond [`MOST_NAMES`] of
//! each they are counted under `other`. Nothing a client writes becomes a label.
//!
//! Why not the `metrics` crate with its Prometheus exporter: it brings 11 packages that nothing else
//! here needs and over a minute of build on two busy cores, and it keeps every observation (16 MB
//! for a million) until somebody reads or a timer folds it. Here an observation is an addition.

mod process;
mod registry;
mod watch;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::{Facts, Load};
use crate::wire::error::Fault;
use registry::{Counter, Gauge, Histogram, Text};
pub use watch::{Of, Watch};

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Names of models, and of keys, that have series of their own.
pub const MOST_NAMES: usize = 100;

/// Bounds in seconds, from a small model's token to a long thought.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0,
    100.0, 250.0, 500.0, 1000.0,
];
/// Bounds in tokens.
const TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5,
];
const MODEL: &[&str] = &["model_name"];
const FINISHED: &[&str] = &["model_name", "route", "finished_reason"];

/// A model that is loaded, as it is now.
#[derive(Debug, Clone)]
pub struct Serving<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its engine does.
    pub load: Load,
    /// What it is.
    pub facts: Facts,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    started: i64,
    version: &'static str,
    models: Names,
    keys: Names,
    time_to_first_token: Histogram,
    time_to_first_answer_token: Histogram,
    time_per_output_token: Histogram,
    end_to_end: Histogram,
    queue: Histogram,
    prompt: Histogram,
    generation: Histogram,
    finished: Counter,
    refused: Counter,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    reasoning_tokens: Counter,
    cache_queries: Counter,
    cache_hits: Counter,
    key_tokens: Counter,
    thoughts_closed: Counter,
    joules: Counter,
    core_seconds: Counter,
    flops: Counter,
    money: Counter,
}

impl Metrics {
    /// All at nothing. `started` is when the process began, in seconds since 1970; `version` is what
    /// the program calls itself.
    pub fn new(version: &'static str, started: i64) -> Self {
        Self {
            started,
            version,
            models: Names::default(),
            keys: Names::default(),
            time_to_first_token: Histogram::new(
                "time_to_first_token_seconds",
                "From arrival to the first token, of a thought or an answer.",
                MODEL,
                SECONDS,
            ),
            time_to_first_answer_token: Histogram::new(
                "time_to_first_answer_token_seconds",
                "From arrival to the first token after the thought.",
                MODEL,
                SECONDS,
            ),
            time_per_output_token: Histogram::new(
                "request_time_per_output_token_seconds",
                "Between tokens of an answer, after the first, as a request's mean.",
                MODEL,
                SECONDS,
            ),
            end_to_end: Histogram::new(
                "e2e_request_latency_seconds",
                "From arrival to the last token.",
                MODEL,
                SECONDS,
            ),
            queue: Histogram::new(
                "request_queue_time_seconds",
                "From arrival until the prompt was begun.",
                MODEL,
                SECONDS,
            ),
            prompt: Histogram::new(
                "request_prompt_tokens",
                "Tokens of a request's prompt.",
                MODEL,
                TOKENS,
            ),
            generation: Histogram::new(
                "request_generation_tokens",
                "Tokens of a request's answers, thoughts included.",
                MODEL,
                TOKENS,
            ),
            finished: Counter::new(
                "request_success_total",
                "Answers that ended: stop, length, tool_calls; requests whose client left: abort; that failed: error.",
                FINISHED,
            ),
            refused: Counter::new(
                "requests_refused_total",
                "Requests answered with an error, by its code.",
                &["route", "reason"],
            ),
            prompt_tokens: Counter::new("prompt_tokens_total", "Tokens of prompts.", MODEL),
            generation_tokens: Counter::new(
                "generation_tokens_total",
                "Tokens of answers, thoughts included.",
                MODEL,
            ),
            reasoning_tokens: Counter::new("reasoning_tokens_total", "Tokens of thoughts.", MODEL),
            cache_queries: Counter::new(
                "prefix_cache_queries_total",
                "Tokens looked for in the cache.",
                MODEL,
            ),
            cache_hits: Counter::new("prefix_cache_hits_total", "Tokens found there.", MODEL),
            key_tokens: Counter::new(
                "key_tokens_total",
                "Tokens by the name of the API key.",
                &["key", "kind"],
            ),
            thoughts_closed: Counter::new(
                "thoughts_closed_total",
                "Thoughts the model did not close itself: budget, asked, circles.",
                &["model_name", "reason"],
            ),
            joules: Counter::new(
                "energy_joules_total",
                "Energy of answers, measured or estimated.",
                &["model_name", "method"],
            ),
            core_seconds: Counter::new(
                "core_seconds_total",
                "Seconds of cores that answers took.",
                MODEL,
            ),
            flops: Counter::new("flops_total", "FLOPs that answers took.", MODEL),
            money: Counter::new(
                "money_total",
                "Price of answers.",
                &["model_name", "currency"],
            ),
        }
    }

    /// Watches a request from now on; `seconds` on the clock of [`crate::quota::Now`].
    pub fn begin(self: &Arc<Self>, of: Of<'_>, seconds: f64) -> Watch {
        let model = self.models.bounded(of.model);
        let key = self.keys.bounded(of.key);
        Watch::new(Arc::clone(self), of.route, model, key, seconds)
    }

    /// Counts a request that was answered with an error.
    pub fn refused(&self, route: &'static str, fault: &Fault) {
        let reason = fault.kind.code().unwrap_or("invalid_request");
        self.refused.add(&[route, reason], 1.0);
    }

    /// The text for Prometheus.
    pub fn render(&self, serving: &[Serving<'_>]) -> String {
        let mut text = Text::default();
        let [ttft, ttfa] = [&self.time_to_first_token, &self.time_to_first_answer_token];
        let [pace, end] = [&self.time_per_output_token, &self.end_to_end];
        for histogram in [
            ttft,
            ttfa,
            pace,
            end,
            &self.queue,
            &self.prompt,
            &self.generation,
        ] {
            histogram.write(&mut text);
        }
        let [made, thought] = [&self.generation_tokens, &self.reasoning_tokens];
        let [asked, hit] = [&self.cache_queries, &self.cache_hits];
        let requests = [&self.finished, &self.refused, &self.thoughts_closed];
        let tokens = [
            &self.prompt_tokens,
            made,
            thought,
            asked,
            hit,
            &self.key_tokens,
        ];
        let costs = [&self.joules, &self.core_seconds, &self.flops, &self.money];
        for counter in requests.into_iter().chain(tokens).chain(costs) {
            counter.write(&mut text);
        }
        write_serving(&mut text, serving);
        process::write(&mut text, self.version, self.started);
        text.into_string()
    }
}

fn write_serving(text: &mut Text, serving: &[Serving<'_>]) {
    type Read = fn(&Serving<'_>) -> f64;
    let gauges: [(Gauge, Read); 7] = [
        (
            Gauge::now(
                "num_requests_running",
                "Requests whose prompts are read and answers under way.",
            ),
            |now| (now.load.reading + now.load.answering) as f64,
        ),
        (
            Gauge::now("num_requests_waiting", "Requests that have not begun."),
            |now| now.load.waiting as f64,
        ),
        (
            Gauge::now(
                "kv_cache_usage_perc",
                "Share of the cache's pages in use, 0 to 1.",
            ),
            |now| now.load.pages_in_use as f64 / (now.facts.max_pages.max(1)) as f64,
        ),
        (
            Gauge::now(
                "kv_cache_pages_in_use",
                "Pages of the cache in use, those of kept prompts included.",
            ),
            |now| now.load.pages_in_use as f64,
        ),
        (Gauge::now("kv_cache_pages", "Pages of the cache."), |now| {
            now.facts.max_pages as f64
        }),
        (
            Gauge::now("model_weight_bytes", "Bytes of the weights."),
            |now| now.facts.weight_bytes as f64,
        ),
        (
            Gauge::ever(
                "num_preemptions_total",
                "Answers put back for want of pages since the model was loaded.",
            ),
            |now| now.load.preempted as f64,
        ),
    ];
    for (gauge, read) in gauges {
        let values = serving.iter().map(|now| (now.name, read(now)));
        gauge.write(text, "model_name", values);
    }
}

/// Names that have series of their own.
#[derive(Debug, Default)]
struct Names(Mutex<BTreeSet<String>>);

impl Names {
    /// The name, or `other` if there are too many.
    fn bounded(&self, name: &str) -> String {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.contains(name) {
            if seen.len() >= MOST_NAMES {
                return "other".into();
            }
            seen.insert(name.to_owned());
        }
        name.to_owned()
    }
}

#[cfg(test)]
mod tests;
