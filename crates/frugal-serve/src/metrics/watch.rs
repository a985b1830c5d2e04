//! One request, from its arrival to its end.

use std::sync::Arc;

use super::Metrics;
use crate::answer::{Finish, Said, Usage};

/// What a request is.
#[derive(Debug, Clone, Copy)]
pub struct Of<'a> {
    /// Its route, as in the documentation: `/v1/chat/completions`.
    pub route: &'static str,
    /// The model that answers, by the name it is served under, never by what the client wrote.
    pub model: &'a str,
    /// The name of its API key.
    pub key: &'a str,
}

/// Watches a request. Dropping it before its end means that the client has left.
#[derive(Debug)]
pub struct Watch {
    metrics: Arc<Metrics>,
    route: &'static str,
    model: String,
    key: String,
    began: f64,
    first: Option<f64>,
    first_answer: Option<f64>,
    answers: usize,
    is_over: bool,
    is_charged: bool,
}

impl Watch {
    pub(super) fn new(
        metrics: Arc<Metrics>,
        route: &'static str,
        model: String,
        key: String,
        began: f64,
    ) -> Self {
        Self {
            metrics,
            route,
            model,
            key,
            began,
            first: None,
            first_answer: None,
            answers: 0,
            is_over: false,
            is_charged: false,
        }
    }

    /// Its turn has come: from now on it is computed.
    pub fn left_queue(&mut self, seconds: f64) {
        let model = [self.model.as_str()];
        self.metrics
            .families
            .queue
            .observe(&model, seconds - self.began);
    }

    /// This was said now.
    pub fn said(&mut self, said: &Said, seconds: f64) {
        match said {
            Said::Begun { .. } => {}
            Said::Thinking { .. } => self.has_first(seconds),
            Said::Answer { .. } | Said::CallBegins { .. } | Said::CallArguments { .. } => {
                self.has_first(seconds);
                if self.first_answer.is_none() {
                    self.first_answer = Some(seconds);
                    let histogram = &self.metrics.families.time_to_first_answer_token;
                    histogram.observe(&[&self.model], seconds - self.began);
                }
            }
            Said::Ended { finish, detail, .. } => {
                self.answers += 1;
                self.finish(match finish {
                    Finish::Stop => "stop",
                    Finish::Length => "length",
                    Finish::ToolCalls => "tool_calls",
                });
                if let Some(reason) = detail.thought_closed {
                    let closed = &self.metrics.families.thoughts_closed;
                    closed.add(&[&self.model, reason], 1.0);
                }
            }
            Said::Done(usage) => {
                self.is_over = true;
                self.metrics
                    .families
                    .end_to_end
                    .observe(&[&self.model], seconds - self.began);
                self.observe_pace(usage, seconds);
                self.took(usage);
            }
            Said::Failed(_) => {
                self.is_over = true;
                self.finish("error");
            }
        }
    }

    /// This is what it took. [`Said::Done`] says it by itself; for a request whose client has left,
    /// whoever knows says it. Only the first word counts.
    pub fn took(&mut self, usage: &Usage) {
        if std::mem::replace(&mut self.is_charged, true) {
            return;
        }
        let metrics = &self.metrics.families;
        let model = self.model.as_str();
        let (prompt, made) = (usage.prompt_tokens as f64, usage.completion_tokens as f64);
        metrics.prompt.observe(&[model], prompt);
        metrics.generation.observe(&[model], made);
        let counts = [
            (&metrics.prompt_tokens, prompt),
            (&metrics.generation_tokens, made),
            (&metrics.reasoning_tokens, usage.reasoning_tokens as f64),
            (&metrics.cache_queries, prompt),
            (&metrics.cache_hits, usage.cached_tokens as f64),
            (&metrics.core_seconds, usage.core_seconds),
            (&metrics.flops, usage.flops),
        ];
        for (counter, amount) in counts {
            counter.add(&[model], amount);
        }
        metrics.key_tokens.add(&[&self.key, "prompt"], prompt);
        metrics.key_tokens.add(&[&self.key, "generation"], made);
        let joules = &metrics.joules;
        joules.add(&[model, usage.joules_are], usage.joules);
        metrics.money.add(&[model, &usage.currency], usage.money);
    }

    fn has_first(&mut self, seconds: f64) {
        if self.first.is_none() {
            self.first = Some(seconds);
            let histogram = &self.metrics.families.time_to_first_token;
            histogram.observe(&[&self.model], seconds - self.began);
        }
    }

    /// The mean time between tokens. Answers of one request come side by side, each at its pace.
    fn observe_pace(&self, usage: &Usage, seconds: f64) {
        let tokens = usage.completion_tokens as f64 / self.answers.max(1) as f64;
        if let Some(first) = self.first
            && tokens > 1.0
        {
            let pace = (seconds - first) / (tokens - 1.0);
            let histogram = &self.metrics.families.time_per_output_token;
            histogram.observe(&[&self.model], pace);
        }
    }

    fn finish(&self, how: &str) {
        let finished = &self.metrics.families.finished;
        finished.add(&[&self.model, self.route, how], 1.0);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_over {
            self.finish("abort");
        }
    }
}
