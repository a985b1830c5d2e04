//! Answers that are JSON, of a schema or by a pattern.

use serde_json::{Value, json};

use crate::doctor::case::{Case, one, wrong};
use crate::doctor::check::{
    Outcome, at, chunks, clipped, content, fails, finish, good, said, same, that,
};

/// A small object, so that it has an end whoever writes it.
pub(super) fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "colour": { "type": "string", "enum": ["red", "green"] },
            "count": { "type": "integer", "minimum": 1, "maximum": 9 },
            "good": { "type": "boolean" },
        },
        "required": ["colour", "count", "good"],
        "additionalProperties": false,
    })
}

pub(super) fn format() -> Value {
    let named = json!({ "name": "thing", "strict": true, "schema": schema() });
    json!({ "type": "json_schema", "json_schema": named })
}

/// What a text of JSON is held to, to be of the schema above.
pub(super) fn is_of_schema(text: &str) -> Outcome {
    let Ok(Value::Object(body)) = serde_json::from_str(text) else {
        return fails(format!("expected a JSON object, got {}", clipped(text)));
    };
    let body = Value::Object(body);
    let colour = at(&body, "/colour").as_str();
    let number = at(&body, "/count").as_u64();
    let holds = body.as_object().is_some_and(|body| body.len() == 3)
        && matches!(colour, Some("red" | "green"))
        && matches!(number, Some(1..=9))
        && at(&body, "/good").is_boolean();
    that(holds, || {
        format!("expected JSON of the schema, got {}", clipped(text))
    })
}

fn question() -> Value {
    json!([{ "role": "user", "content": "Describe a thing in JSON." }])
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = schemas();
    all.extend(others());
    all.extend(refusals());
    all
}

fn schemas() -> Vec<Case> {
    vec![
        one(
            "json_object gives an object",
            |s| {
                let format = json!({ "type": "json_object" });
                s.chat(&json!({ "messages": question(), "response_format": format, "max_tokens": 1024 }))
            },
            |_, answer| {
                let body = good(answer)?;
                let text = content(&body).trim_start();
                if finish(&body) == "length" {
                    // Cut off, it can only have begun well.
                    return that(text.starts_with('{'), || {
                        format!("expected an object, got {}", clipped(text))
                    });
                }
                let is_object = serde_json::from_str::<Value>(text).is_ok_and(|it| it.is_object());
                that(is_object, || {
                    format!("expected an object, got {}", clipped(text))
                })
            },
        ),
        one(
            "json_schema gives JSON of the schema",
            |s| {
                s.chat(&json!({ "messages": question(), "response_format": format(), "max_tokens": 1024 }))
            },
            |_, answer| {
                let body = good(answer)?;
                same("finish_reason", &finish(&body), &"stop")?;
                is_of_schema(content(&body))
            },
        ),
        one(
            "it does at any temperature, and in each of several answers",
            |s| {
                s.chat(&json!({
                    "messages": question(), "response_format": format(), "max_tokens": 1024,
                    "temperature": 2, "n": 3, "seed": 3,
                }))
            },
            |_, answer| {
                let body = good(answer)?;
                let choices = at(&body, "/choices").as_array();
                let choices = choices.map_or(&[][..], Vec::as_slice);
                same("choices", &choices.len(), &3)?;
                choices.iter().try_for_each(|choice| {
                    is_of_schema(crate::doctor::check::text(choice, "/message/content"))
                })
            },
        ),
        one(
            "it does in a stream",
            |s| {
                s.chat(&json!({
                    "messages": question(), "response_format": format(), "max_tokens": 1024,
                    "stream": true,
                }))
            },
            |_, answer| is_of_schema(&said(&chunks(answer)?, 0, "/delta/content")),
        ),
        one(
            "references within a schema are followed",
            |s| {
                let schema = json!({
                    "type": "object",
                    "properties": { "a": { "$ref": "#/$defs/bit" }, "b": { "$ref": "#/$defs/bit" } },
                    "required": ["a", "b"], "additionalProperties": false,
                    "$defs": { "bit": { "type": "integer", "enum": [0, 1] } },
                });
                let named = json!({ "name": "bits", "strict": true, "schema": schema });
                let format = json!({ "type": "json_schema", "json_schema": named });
                s.chat(
                    &json!({ "messages": question(), "response_format": format, "max_tokens": 1024 }),
                )
            },
            |_, answer| {
                let body = good(answer)?;
                let text = content(&body);
                let value: Value = serde_json::from_str(text).unwrap_or_default();
                let is_bit = |name| matches!(at(&value, name).as_u64(), Some(0 | 1));
                that(is_bit("/a") && is_bit("/b"), || {
                    format!("expected two bits, got {}", clipped(text))
                })
            },
        ),
    ]
}

fn others() -> Vec<Case> {
    vec![
        one(
            "a regular expression is held to",
            |s| {
                let outputs = json!({ "regex": "[a-c]{4}-[0-9]{2}" });
                s.chat(&json!({ "structured_outputs": outputs }))
            },
            |_, answer| {
                let body = good(answer)?;
                let text = content(&body).as_bytes().to_vec();
                let is_like = text.len() == 7
                    && text.iter().take(4).all(|byte| (b'a'..=b'c').contains(byte))
                    && text.get(4) == Some(&b'-')
                    && text.iter().skip(5).all(u8::is_ascii_digit);
                that(is_like, || {
                    format!("expected such as abca-12, got {}", clipped(content(&body)))
                })
            },
        ),
        one(
            "one of some texts is chosen",
            |s| s.chat(&json!({ "structured_outputs": { "choice": ["north", "south"] } })),
            |_, answer| {
                let body = good(answer)?;
                let text = content(&body);
                that(matches!(text, "north" | "south"), || {
                    format!("expected north or south, got {}", clipped(text))
                })
            },
        ),
    ]
}

fn refusals() -> impl Iterator<Item = Case> {
    let of_schema = |named: Value| json!({ "response_format": { "type": "json_schema", "json_schema": named } });
    let impossible =
        json!({ "name": "thing", "strict": true, "schema": { "type": "no-such-type" } });
    wrong([
        (
            "a schema that cannot be is refused",
            of_schema(impossible),
            "",
        ),
        (
            "a form that is not known is refused",
            json!({ "response_format": { "type": "poem" } }),
            "response_format",
        ),
        (
            "a schema without a name is refused",
            of_schema(json!({ "schema": schema() })),
            "name",
        ),
    ])
}
