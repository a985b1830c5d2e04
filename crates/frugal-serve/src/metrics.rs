//! Counters and histograms under the names operators know: vLLM's, with `frugal_` in place of
//! `vllm:`, so that a dashboard moves by a change of prefix.
//!
//! A request is watched from its arrival ([`Metrics::begin`]) to its end; what engines do now is read
//! when somebody asks ([`Metrics::render`]). Labels come from a bounded set: routes and reasons are
//! words of this program, models and keys are named by the operator, and beyond [`MOST_NAMES`] of
//! each they are counted under `other`. Nothing a client writes becomes a label.
//!
//! Why not the `metrics` crate with its Prometheus exporter: it brings 11 packages that nothing else
//! here needs, in a tree of 44 that took 67 seconds to build on two busy cores, and it keeps every
//! observation (16 MB for a million) until somebody reads or a timer folds it. Here an observation
//! is an addition, and 260 lines are the whole of it.

mod families;
mod process;
mod registry;
mod watch;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::{Facts, Load};
use crate::wire::error::Fault;
use families::Families;
use registry::{Gauge, Text};
pub use watch::{Of, Watch};

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Names of models, and of keys, that have series of their own.
pub const MOST_NAMES: usize = 100;

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
    families: Families,
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
            families: Families::new(),
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
        self.families.refused.add(&[route, reason], 1.0);
    }

    /// Tokens of an answer in a second, as the mean over the answers of a model since the start; none
    /// before the first.
    pub fn tokens_per_second(&self, model: &str) -> Option<f64> {
        let pace = self.families.time_per_output_token.mean(&[model])?;
        (pace > 0.0).then(|| pace.recip())
    }

    /// The text for Prometheus.
    pub fn render(&self, serving: &[Serving<'_>]) -> String {
        let mut text = Text::default();
        self.families.write(&mut text);
        write_serving(&mut text, serving);
        process::write(&mut text, self.version, self.started);
        text.into_string()
    }
}

fn write_serving(text: &mut Text, serving: &[Serving<'_>]) {
    type Read = fn(&Serving<'_>) -> f64;
    let gauges: [(Gauge, Read); 9] = [
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
        (
            Gauge::ever(
                "spec_decode_num_draft_tokens_total",
                "Tokens of answers that were drafted since the model was loaded.",
            ),
            |now| now.load.drafted as f64,
        ),
        (
            Gauge::ever(
                "spec_decode_num_accepted_tokens_total",
                "Those of them that were drawn, and after which the answer went on.",
            ),
            |now| now.load.accepted as f64,
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
