//! What operators look at.

use serde_json::json;

use crate::client::Call;
use crate::doctor::case::{Case, one, several};
use crate::doctor::check::{at, good, is_good, that};

pub(super) fn cases() -> Vec<Case> {
    vec![
        one(
            "/health says that it is well",
            |_| Call::get("/health"),
            |_, answer| is_good(answer),
        ),
        one(
            "/livez says that it lives",
            |_| Call::get("/livez"),
            |_, answer| is_good(answer),
        ),
        one(
            "/readyz says that it is ready",
            |_| Call::get("/readyz"),
            |_, answer| is_good(answer),
        ),
        one(
            "/metrics is in Prometheus's format",
            |_| Call::get("/metrics"),
            |_, answer| {
                is_good(answer)?;
                let kind = answer.header("content-type").unwrap_or_default();
                that(kind.starts_with("text/plain"), || {
                    format!("content-type: expected text/plain, got {kind}")
                })?;
                let text = answer.text();
                let is_sample = |line: &str| {
                    let value = line.rsplit(' ').next().unwrap_or_default();
                    value.parse::<f64>().is_ok()
                };
                let mut lines = text.lines().filter(|line| !line.is_empty());
                let wrong = lines.find(|line| !line.starts_with('#') && !is_sample(line));
                that(wrong.is_none(), || {
                    format!("expected a sample, got {wrong:?}")
                })?;
                that(text.contains("# TYPE "), || "expected # TYPE lines".into())
            },
        ),
        several(
            "they tell the time to the first token, and answers by how they ended",
            |s, answers| match answers.len() {
                0 => Some(s.chat(&json!({ "max_tokens": 1 }))),
                1 => Some(Call::get("/metrics")),
                _ => None,
            },
            |_, answers| {
                answers.iter().try_for_each(is_good)?;
                let text = answers
                    .last()
                    .map(crate::client::Answer::text)
                    .unwrap_or_default();
                for name in ["time_to_first_token", "generation_tokens", "prompt_tokens"] {
                    that(text.contains(name), || format!("expected a metric {name}"))?;
                }
                Ok(())
            },
        ),
        one(
            "/openapi.json describes the chat route",
            |_| Call::get("/openapi.json"),
            |_, answer| {
                let body = good(answer)?;
                let route = at(&body, "/paths/~1v1~1chat~1completions");
                that(route.is_object(), || {
                    "expected /v1/chat/completions in paths".into()
                })
            },
        ),
        one(
            "an answer has the id of its request",
            |s| s.chat(&json!({ "max_tokens": 1 })),
            |_, answer| {
                is_good(answer)?;
                let id = answer.header("x-request-id").unwrap_or_default();
                that(!id.is_empty(), || "expected a header x-request-id".into())
            },
        ),
    ]
}
