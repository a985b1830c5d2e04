//! Tools.

use serde_json::{Value, json};

use super::forms::{is_of_schema, schema};
use crate::client::Call;
use crate::doctor::case::{Case, one, refused, wrong};
use crate::doctor::check::{
    answered, at, choices, chunks, fails, finish, good, list, same, text, that,
};
use crate::doctor::subject::Subject;

fn tool(name: &str) -> Value {
    let described =
        json!({ "name": name, "description": "Keeps a thing.", "parameters": schema() });
    json!({ "type": "function", "function": described })
}

fn named(name: &str) -> Value {
    json!({ "type": "function", "function": { "name": name } })
}

/// A question with two tools.
fn asked(s: &Subject, choice: &Value, changes: Value) -> Call {
    let mut body = json!({
        "messages": [{ "role": "user", "content": "Keep one thing of each colour." }],
        "tools": [tool("keep"), tool("drop_it")],
        "tool_choice": choice,
        "max_tokens": 1024,
    });
    if let (Some(body), Value::Object(changes)) = (body.as_object_mut(), changes) {
        body.extend(changes);
    }
    s.chat(&body)
}

fn calls(body: &Value) -> &[Value] {
    list(body, "/choices/0/message/tool_calls")
}

/// Holds a call to be whole.
fn is_call(call: &Value) -> crate::doctor::check::Outcome {
    that(!text(call, "/id").is_empty(), || "a call has no id".into())?;
    same("type", &text(call, "/type"), &"function")?;
    let name = text(call, "/function/name");
    that(matches!(name, "keep" | "drop_it"), || {
        format!("expected a tool's name, got {name:?}")
    })?;
    is_of_schema(text(call, "/function/arguments"))
}

/// A conversation in which a tool has been called and, by this id, has answered.
fn told_result(s: &Subject, id: &str) -> Call {
    let function =
        json!({ "name": "keep", "arguments": "{\"colour\":\"red\",\"count\":1,\"good\":true}" });
    let call = json!({ "id": "call_1", "type": "function", "function": function });
    s.chat(&json!({
        "messages": [
            { "role": "user", "content": "Keep a thing." },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": id, "content": "kept" },
        ],
        "tools": [tool("keep")],
        "max_tokens": 4,
    }))
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = choosing();
    all.extend(shapes());
    all.extend(refusals());
    all
}

fn choosing() -> Vec<Case> {
    vec![
        one(
            "required calls a tool, with arguments of its schema",
            |s| asked(s, &json!("required"), json!({})),
            |_, answer| {
                let body = good(answer)?;
                that(!calls(&body).is_empty(), || {
                    "expected a call, got none".into()
                })?;
                calls(&body).iter().try_for_each(is_call)
            },
        ),
        one(
            "a tool that is named is the one that is called",
            |s| asked(s, &named("drop_it"), json!({})),
            |_, answer| {
                let body = good(answer)?;
                that(!calls(&body).is_empty(), || {
                    "expected a call, got none".into()
                })?;
                calls(&body)
                    .iter()
                    .try_for_each(|call| same("name", &text(call, "/function/name"), &"drop_it"))
            },
        ),
        one(
            "none calls none",
            |s| asked(s, &json!("none"), json!({ "max_tokens": 8 })),
            |_, answer| {
                let body = answered(answer)?;
                same("calls", &calls(&body).len(), &0)
            },
        ),
        one(
            "auto is answered",
            |s| asked(s, &json!("auto"), json!({ "max_tokens": 8 })),
            |_, answer| answered(answer).map(drop),
        ),
        one(
            "without parallel calls there is one",
            |s| {
                asked(
                    s,
                    &json!("required"),
                    json!({ "parallel_tool_calls": false }),
                )
            },
            |_, answer| {
                let body = good(answer)?;
                same("calls", &calls(&body).len(), &1)
            },
        ),
        one(
            "of allowed tools one is called",
            |s| {
                let allowed = json!({ "mode": "required", "tools": [named("keep")] });
                let choice = json!({ "type": "allowed_tools", "allowed_tools": allowed });
                asked(s, &choice, json!({ "temperature": 1.5, "seed": 11 }))
            },
            |_, answer| {
                let body = good(answer)?;
                let name = calls(&body)
                    .first()
                    .map(|call| text(call, "/function/name"));
                same("name", &name, &Some("keep"))
            },
        ),
    ]
}

fn shapes() -> Vec<Case> {
    vec![
        one(
            "an answer that calls ends with tool_calls and has no text",
            |s| {
                asked(
                    s,
                    &json!("required"),
                    json!({ "parallel_tool_calls": false }),
                )
            },
            |_, answer| {
                let body = good(answer)?;
                same("finish_reason", &finish(&body), &"tool_calls")?;
                let content = at(&body, "/choices/0/message/content");
                that(content.is_null(), || {
                    format!("content: expected null, got {content}")
                })
            },
        ),
        one(
            "in a stream id and name come once, arguments in pieces",
            |s| {
                let changes = json!({ "stream": true, "parallel_tool_calls": false });
                asked(s, &json!("required"), changes)
            },
            |_, answer| {
                let chunks = chunks(answer)?;
                let pieces = choices(&chunks, 0).flat_map(|it| list(it, "/delta/tool_calls"));
                let pieces: Vec<&Value> = pieces.collect();
                let Some((first, later)) = pieces.split_first() else {
                    return fails("expected a call, got none");
                };
                that(!text(first, "/id").is_empty(), || {
                    "the first piece has no id".into()
                })?;
                let again = later
                    .iter()
                    .find(|it| it.get("id").is_some() || at(it, "/function").get("name").is_some());
                that(again.is_none(), || {
                    format!("a later piece names it again: {again:?}")
                })?;
                let of_first = |it: &&Value| at(it, "/index").as_u64() == Some(0);
                that(pieces.iter().all(of_first), || {
                    "expected index 0 in all pieces".into()
                })?;
                let arguments: String = (pieces.iter())
                    .map(|piece| text(piece, "/function/arguments"))
                    .collect();
                is_of_schema(&arguments)?;
                let last = choices(&chunks, 0)
                    .last()
                    .map(|it| text(it, "/finish_reason"));
                same("finish_reason", &last, &Some("tool_calls"))
            },
        ),
        one(
            "a tool's result is taken back",
            |s| told_result(s, "call_1"),
            |_, answer| answered(answer).map(drop),
        ),
    ]
}

fn refusals() -> Vec<Case> {
    let mut all = vec![
        refused(
            "the result of no call is refused",
            |s| told_result(s, "call_9"),
            (400, "tool_call_id"),
        ),
        refused(
            "a tool that is named and not there is refused",
            |s| asked(s, &named("lose"), json!({})),
            (400, "tool"),
        ),
    ];
    all.extend(wrong([
        (
            "required without tools is refused",
            json!({ "tool_choice": "required" }),
            "tool",
        ),
        (
            "two tools of one name are refused",
            json!({ "tools": [tool("keep"), tool("keep")] }),
            "tool",
        ),
        (
            "a tool without a name is refused",
            json!({ "tools": [{ "type": "function", "function": {} }] }),
            "name",
        ),
    ]));
    all
}
