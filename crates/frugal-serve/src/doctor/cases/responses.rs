//! OpenAI's responses.

use serde_json::{Value, json};

use super::forms::{is_of_schema, schema};
use crate::client::{Answer, Call};
use crate::doctor::case::{Case, one, refused};
use crate::doctor::check::{
    Outcome, Why, at, count, fails, good, has, list, named_events, same, text, that,
};
use crate::doctor::subject::Subject;

fn asked(s: &Subject, changes: &Value) -> Call {
    let body = json!({
        "input": "Count from 1 to 50.", "max_output_tokens": 16, "temperature": 0,
        "reasoning": { "effort": "none" },
    });
    s.post("/v1/responses", &body, changes)
}

/// The first item of a kind.
fn item<'a>(body: &'a Value, kind: &str) -> &'a Value {
    let items = list(body, "/output").iter();
    let mut items = items.filter(|item| text(item, "/type") == kind);
    items.next().unwrap_or(&Value::Null)
}

fn said(body: &Value) -> &str {
    text(item(body, "message"), "/content/0/text")
}

/// The events of a stream, held to have rising numbers.
fn events(answer: &Answer) -> Result<Vec<Value>, Why> {
    let events = named_events(answer)?;
    for (number, body) in (0_u64..).zip(&events) {
        same(
            "sequence_number",
            &count(body, "/sequence_number")?,
            &number,
        )?;
    }
    Ok(events)
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = shapes();
    all.extend(streams());
    all.extend(fields());
    all
}

fn shapes() -> Vec<Case> {
    vec![
        one(
            "a body is a response with status, output and usage",
            |s| asked(s, &json!({})),
            |s, answer| {
                let body = good(answer)?;
                let keys = [
                    "id",
                    "object",
                    "created_at",
                    "status",
                    "error",
                    "incomplete_details",
                    "instructions",
                    "model",
                    "output",
                    "parallel_tool_calls",
                    "tool_choice",
                    "tools",
                    "usage",
                    "metadata",
                ];
                has(&body, "", &keys)?;
                same("object", &text(&body, "/object"), &"response")?;
                same("model", &text(&body, "/model"), &s.model())?;
                let part = text(item(&body, "message"), "/content/0/type");
                same("the message's part", &part, &"output_text")
            },
        ),
        one(
            "usage adds up",
            |s| asked(s, &json!({})),
            |_, answer| {
                let body = good(answer)?;
                let of = |name: &str| count(&body, &format!("/usage/{name}"));
                same(
                    "total_tokens",
                    &of("total_tokens")?,
                    &(of("input_tokens")? + of("output_tokens")?),
                )?;
                has(&body, "/usage/input_tokens_details", &["cached_tokens"])?;
                has(&body, "/usage/output_tokens_details", &["reasoning_tokens"])
            },
        ),
        one(
            "an answer that is cut off is incomplete, and says why",
            |s| asked(s, &json!({})),
            |_, answer| {
                let body = good(answer)?;
                same("status", &text(&body, "/status"), &"incomplete")?;
                let reason = text(&body, "/incomplete_details/reason");
                same("the reason", &reason, &"max_output_tokens")
            },
        ),
    ]
}

fn streams() -> Vec<Case> {
    vec![
        one(
            "events come in their order, with numbers that rise",
            |s| asked(s, &json!({ "stream": true })),
            |_, answer| {
                let events = events(answer)?;
                let kinds: Vec<&str> = events.iter().map(|event| text(event, "/type")).collect();
                let mut places = Vec::new();
                for kind in [
                    "response.created",
                    "response.in_progress",
                    "response.output_item.added",
                    "response.content_part.added",
                    "response.output_text.delta",
                    "response.output_text.done",
                    "response.content_part.done",
                    "response.output_item.done",
                ] {
                    let Some(place) = kinds.iter().position(|it| *it == kind) else {
                        return fails(format!("expected an event {kind}"));
                    };
                    places.push(place);
                }
                that(places.is_sorted(), || format!("they came as {kinds:?}"))?;
                same("the last", &kinds.last(), &Some(&"response.incomplete"))
            },
        ),
        one(
            "deltas are the text that is done",
            |s| asked(s, &json!({ "stream": true })),
            |_, answer| {
                let events = events(answer)?;
                let of = |kind: &str, field: &str| -> String {
                    let events = events.iter().filter(|event| text(event, "/type") == kind);
                    events.map(|event| text(event, field)).collect()
                };
                let deltas = of("response.output_text.delta", "/delta");
                that(!deltas.is_empty(), || "expected text, got none".into())?;
                same(
                    "the text",
                    &deltas,
                    &of("response.output_text.done", "/text"),
                )?;
                let last = events
                    .last()
                    .map_or(&Value::Null, |last| at(last, "/response"));
                same("the last event's text", &said(last), &deltas.as_str())
            },
        ),
    ]
}

fn fields() -> Vec<Case> {
    vec![
        one(
            "instructions and items are read",
            |s| {
                let part = |kind: &str, words: &str| json!([{ "type": kind, "text": words }]);
                asked(
                    s,
                    &json!({ "instructions": "Be brief.", "input": [
                    { "role": "user", "content": "Hi" },
                    { "type": "message", "role": "assistant", "content": part("output_text", "Hello.") },
                    { "role": "user", "content": part("input_text", "Go on.") },
                ] }),
                )
            },
            |_, answer| same("object", &text(&good(answer)?, "/object"), &"response"),
        ),
        one(
            "text.format gives JSON of the schema",
            |s| {
                let format = json!({ "type": "json_schema", "name": "thing", "strict": true, "schema": schema() });
                asked(
                    s,
                    &json!({ "text": { "format": format }, "max_output_tokens": 1024 }),
                )
            },
            |_, answer| {
                let body = good(answer)?;
                same("status", &text(&body, "/status"), &"completed")?;
                is_of_schema(said(&body))
            },
        ),
        one(
            "a tool is called, and its result taken back",
            |s| {
                let tool = json!({ "type": "function", "name": "keep", "parameters": schema() });
                asked(
                    s,
                    &json!({
                        "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false,
                        "max_output_tokens": 1024,
                        "input": [
                            { "role": "user", "content": "Keep a thing." },
                            { "type": "function_call", "call_id": "c1", "name": "keep", "arguments": "{}" },
                            { "type": "function_call_output", "call_id": "c1", "output": "kept" },
                            { "role": "user", "content": "Again." },
                        ],
                    }),
                )
            },
            |_, answer| -> Outcome {
                let body = good(answer)?;
                let call = item(&body, "function_call");
                has(call, "", &["call_id", "name", "arguments"])?;
                same("name", &text(call, "/name"), &"keep")?;
                is_of_schema(text(call, "/arguments"))
            },
        ),
        refused(
            "a response that is not kept is not gone on from in silence",
            |s| asked(s, &json!({ "previous_response_id": "resp_none" })),
            (400, "previous_response_id"),
        ),
        refused(
            "an unknown field is refused",
            |s| asked(s, &json!({ "colour": "red" })),
            (400, "colour"),
        ),
    ]
}
