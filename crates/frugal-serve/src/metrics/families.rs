//! Every counter and histogram: its name, what it counts, its labels.

use super::registry::{Counter, Histogram, Text};

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

/// Declares families once, to be made, found by field and written in this order.
macro_rules! families {
    ($( $(#[doc = $help:literal])+ $field:ident : $Kind:ident = $name:literal, $($rest:expr),+ ; )+) => {
        /// All at nothing, at first.
        #[derive(Debug)]
        pub(super) struct Families {
            $( $(#[doc = $help])+ pub(super) $field: $Kind, )+
        }

        impl Families {
            pub(super) const fn new() -> Self {
                Self { $( $field: $Kind::new($name, concat!($($help),+), $($rest),+), )+ }
            }

            pub(super) fn write(&self, text: &mut Text) {
                $( self.$field.write(text); )+
            }
        }
    };
}

families! {
    /// From arrival to the first token, of a thought or an answer.
    time_to_first_token: Histogram = "time_to_first_token_seconds", MODEL, SECONDS;
    /// From arrival to the first token after the thought.
    time_to_first_answer_token: Histogram = "time_to_first_answer_token_seconds", MODEL, SECONDS;
    /// Between tokens of an answer, after the first, as a request's mean.
    time_per_output_token: Histogram = "request_time_per_output_token_seconds", MODEL, SECONDS;
    /// From arrival to the last token.
    end_to_end: Histogram = "e2e_request_latency_seconds", MODEL, SECONDS;
    /// From arrival until the prompt was begun.
    queue: Histogram = "request_queue_time_seconds", MODEL, SECONDS;
    /// Tokens of a request's prompt.
    prompt: Histogram = "request_prompt_tokens", MODEL, TOKENS;
    /// Tokens of a request's answers, thoughts included.
    generation: Histogram = "request_generation_tokens", MODEL, TOKENS;
    /// Answers that ended: stop, length, tool_calls; requests whose client left: abort; that
    /// failed: error.
    finished: Counter = "request_success_total", &["model_name", "route", "finished_reason"];
    /// Requests answered with an error, by its code.
    refused: Counter = "requests_refused_total", &["route", "reason"];
    /// Thoughts the model did not close itself: budget, asked, circles.
    thoughts_closed: Counter = "thoughts_closed_total", &["model_name", "reason"];
    /// Tokens of prompts.
    prompt_tokens: Counter = "prompt_tokens_total", MODEL;
    /// Tokens of answers, thoughts included.
    generation_tokens: Counter = "generation_tokens_total", MODEL;
    /// Tokens of thoughts.
    reasoning_tokens: Counter = "reasoning_tokens_total", MODEL;
    /// Tokens looked for in the cache.
    cache_queries: Counter = "prefix_cache_queries_total", MODEL;
    /// Tokens found there.
    cache_hits: Counter = "prefix_cache_hits_total", MODEL;
    /// Tokens by the name of the API key.
    key_tokens: Counter = "key_tokens_total", &["key", "kind"];
    /// Energy of answers, measured or estimated.
    joules: Counter = "energy_joules_total", &["model_name", "method"];
    /// Seconds of cores that answers took.
    core_seconds: Counter = "core_seconds_total", MODEL;
    /// FLOPs that answers took.
    flops: Counter = "flops_total", MODEL;
    /// Price of answers.
    money: Counter = "money_total", &["model_name", "currency"];
}
