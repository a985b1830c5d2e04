//! Anthropic's messages.

use serde_json::{Value, json};

use super::errors::is_anthropic;
use super::forms::schema;
use super::parameters::stop_within;
use crate::client::Call;
use crate::doctor::case::{Case, one, several};
use crate::doctor::check::{
    Why, all_good, at, count, fails, good, has, list, named_events, same, text, that,
};
use crate::doctor::subject::Subject;

fn asked(s: &Subject, changes: &Value) -> Call {
    let body = json!({
        "messages": [{ "role": "user", "content": "Count from 1 to 50." }],
        "max_tokens": 16, "temperature": 0, "thinking": { "type": "disabled" },
    });
    let call = s.post("/v1/messages", &body, changes);
    call.header("anthropic-version", "2023-06-01")
}

fn said(body: &Value) -> &str {
    let blocks = list(body, "/content").iter();
    let mut texts = blocks.filter(|block| text(block, "/type") == "text");
    texts.next().map_or("", |block| text(block, "/text"))
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = shapes();
    all.extend(fields());
    all.extend(counts());
    all.extend(refusals());
    all
}

fn shapes() -> Vec<Case> {
    vec![
        one(
            "a body is a message with content, stop_reason and usage",
            |s| asked(s, &json!({})),
            |s, answer| {
                let body = good(answer)?;
                let keys = [
                    "id",
                    "type",
                    "role",
                    "content",
                    "model",
                    "stop_reason",
                    "stop_sequence",
                    "usage",
                ];
                has(&body, "", &keys)?;
                same("type", &text(&body, "/type"), &"message")?;
                same("role", &text(&body, "/role"), &"assistant")?;
                same("model", &text(&body, "/model"), &s.model())?;
                same("stop_reason", &text(&body, "/stop_reason"), &"max_tokens")?;
                same("output_tokens", &count(&body, "/usage/output_tokens")?, &16)
            },
        ),
        one(
            "events come in their order",
            |s| asked(s, &json!({ "stream": true })),
            |_, answer| {
                let events = named_events(answer)?;
                let mut kinds: Vec<&str> =
                    events.iter().map(|event| text(event, "/type")).collect();
                kinds.retain(|kind| *kind != "ping");
                kinds.dedup();
                let expected = vec![
                    "message_start",
                    "content_block_start",
                    "content_block_delta",
                    "content_block_stop",
                    "message_delta",
                    "message_stop",
                ];
                same("events", &kinds, &expected)
            },
        ),
        several(
            "a stream says what a whole message says",
            |s, answers| match answers.len() {
                0 => Some(asked(s, &json!({}))),
                1 => Some(asked(s, &json!({ "stream": true }))),
                _ => None,
            },
            |_, answers| {
                let [whole, streamed] = answers else {
                    return fails("expected two answers");
                };
                let whole = good(whole)?;
                let events = named_events(streamed)?;
                let deltas: String = (events.iter())
                    .map(|event| text(event, "/delta/text"))
                    .collect();
                that(!deltas.is_empty(), || "expected text, got none".into())?;
                same("the text", &deltas.as_str(), &said(&whole))
            },
        ),
    ]
}

fn fields() -> Vec<Case> {
    vec![
        several(
            "a stop sequence ends it, and is named",
            |s, answers| match answers {
                [] => Some(asked(s, &json!({}))),
                [first] => {
                    let stop = stop_of(&good(first).ok()?)?;
                    Some(asked(s, &json!({ "stop_sequences": [stop] })))
                }
                _ => None,
            },
            |_, answers| {
                let bodies = all_good(answers)?;
                let [whole, cut] = bodies.as_slice() else {
                    return fails("the answer has no sign to stop at");
                };
                let stop = stop_of(whole).unwrap_or_default();
                same("stop_reason", &text(cut, "/stop_reason"), &"stop_sequence")?;
                same(
                    "stop_sequence",
                    &text(cut, "/stop_sequence"),
                    &stop.as_str(),
                )
            },
        ),
        one(
            "a tool is called, with input of its schema",
            |s| {
                let tool = json!({ "name": "keep", "input_schema": schema() });
                let choice = json!({ "type": "any", "disable_parallel_tool_use": true });
                asked(
                    s,
                    &json!({ "tools": [tool], "tool_choice": choice, "max_tokens": 1024 }),
                )
            },
            |_, answer| {
                let body = good(answer)?;
                same("stop_reason", &text(&body, "/stop_reason"), &"tool_use")?;
                let mut blocks = list(&body, "/content").iter();
                let call = blocks.find(|it| text(it, "/type") == "tool_use");
                let call = call.unwrap_or(&Value::Null);
                same("name", &text(call, "/name"), &"keep")?;
                super::forms::is_of_schema(&at(call, "/input").to_string())
            },
        ),
        one(
            "blocks, a system and results of tools are read",
            |s| {
                let words = json!([{ "type": "text", "text": "Hi", "cache_control": { "type": "ephemeral" } }]);
                asked(
                    s,
                    &json!({ "system": words, "messages": [
                    { "role": "user", "content": words },
                    { "role": "assistant", "content": [
                        { "type": "tool_use", "id": "t1", "name": "keep", "input": {} },
                    ] },
                    { "role": "user", "content": [
                        { "type": "tool_result", "tool_use_id": "t1", "content": "kept" },
                        { "type": "text", "text": "Go on." },
                    ] },
                ], "tools": [{ "name": "keep", "input_schema": schema() }] }),
                )
            },
            |_, answer| same("type", &text(&good(answer)?, "/type"), &"message"),
        ),
    ]
}

fn counts() -> Vec<Case> {
    vec![
        several(
            "count_tokens counts what a message uses",
            |s, answers| match answers.len() {
                0 => {
                    let body = json!({
                        "messages": [{ "role": "user", "content": "Count from 1 to 50." }],
                        "thinking": { "type": "disabled" },
                    });
                    let call = s.post("/v1/messages/count_tokens", &body, &json!({}));
                    Some(call.header("anthropic-version", "2023-06-01"))
                }
                1 => Some(asked(s, &json!({}))),
                _ => None,
            },
            |_, answers| {
                let bodies = all_good(answers)?;
                let [counted, used] = bodies.as_slice() else {
                    return fails("expected two answers");
                };
                let cached = at(used, "/usage/cache_read_input_tokens")
                    .as_u64()
                    .unwrap_or(0);
                let written = at(used, "/usage/cache_creation_input_tokens");
                let written = written.as_u64().unwrap_or(0);
                let all = count(used, "/usage/input_tokens")? + cached + written;
                same("input_tokens", &count(counted, "/input_tokens")?, &all)
            },
        ),
        one(
            "a thought is a block before the text",
            |s| {
                let thinking = json!({ "type": "enabled", "budget_tokens": 1024 });
                let changes = json!({ "thinking": thinking, "max_tokens": 1500, "temperature": 1 });
                asked(s, &changes)
            },
            |_, answer| {
                let body = good(answer)?;
                let kinds = list(&body, "/content").iter();
                let kinds: Vec<&str> = kinds.map(|block| text(block, "/type")).collect();
                if !kinds.contains(&"thinking") {
                    return Err(Why::NotOffered);
                }
                same("the first block", &kinds.first(), &Some(&"thinking"))?;
                has(&body, "/content/0", &["thinking", "signature"])
            },
        ),
    ]
}

/// A text to stop at, as of a chat's body.
fn stop_of(body: &Value) -> Option<String> {
    stop_within(&json!({ "choices": [{ "message": { "content": said(body) } }] }))
}

fn refusals() -> Vec<Case> {
    vec![
        one(
            "a body without max_tokens is refused, in Anthropic's envelope",
            |s| asked(s, &json!({ "max_tokens": null })),
            |_, answer| match answer.status {
                404 | 501 => Err(Why::NotOffered),
                _ => is_anthropic(answer, 400, "invalid_request_error"),
            },
        ),
        one(
            "an unknown model is 404, in Anthropic's envelope",
            |s| asked(s, &json!({ "model": "no-such-model" })),
            |_, answer| {
                let body = answer.json().unwrap_or_default();
                // A route that is not there is 404 too, in other words.
                if answer.status == 404 && text(&body, "/type") != "error" {
                    return Err(Why::NotOffered);
                }
                is_anthropic(answer, 404, "not_found_error")
            },
        ),
        one(
            "an unknown field is refused",
            |s| asked(s, &json!({ "colour": "red" })),
            |_, answer| match answer.status {
                404 | 501 => Err(Why::NotOffered),
                _ => {
                    is_anthropic(answer, 400, "invalid_request_error")?;
                    that(answer.text().contains("colour"), || {
                        "expected it to be named".into()
                    })
                }
            },
        ),
    ]
}
