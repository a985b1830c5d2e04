//! Bodies of chat completions.

use serde_json::{Value, json};

use crate::doctor::case::{Case, asked, one};
use crate::doctor::check::{
    all_good, answered, at, content, count, fails, finish, good, has, list, same, text, that,
};

/// The words that clients know.
const REASONS: [&str; 5] = [
    "stop",
    "length",
    "tool_calls",
    "content_filter",
    "function_call",
];

pub(super) fn cases() -> Vec<Case> {
    let mut all = shapes();
    all.extend(conversations());
    all
}

fn shapes() -> Vec<Case> {
    vec![
        one(
            "a body has id, object, created, model, choices and usage",
            |s| s.chat(&json!({})),
            |s, answer| {
                let body = good(answer)?;
                let keys = ["id", "object", "created", "model", "choices", "usage"];
                has(&body, "", &keys)?;
                same("object", &text(&body, "/object"), &"chat.completion")?;
                same("model", &text(&body, "/model"), &s.model())?;
                that(!text(&body, "/id").is_empty(), || "id is empty".into())?;
                // Unix seconds, neither milliseconds nor 0.
                let created = count(&body, "/created")?;
                that((1_600_000_000..5_000_000_000).contains(&created), || {
                    format!("created: expected Unix seconds, got {created}")
                })?;
                same("choices", &list(&body, "/choices").len(), &1)
            },
        ),
        one(
            "a choice has index, message, finish_reason and logprobs",
            |s| s.chat(&json!({})),
            |_, answer| {
                let body = good(answer)?;
                let keys = ["index", "message", "finish_reason", "logprobs"];
                has(&body, "/choices/0", &keys)?;
                same("index", &count(&body, "/choices/0/index")?, &0)?;
                that(at(&body, "/choices/0/logprobs").is_null(), || {
                    "logprobs: expected null where none are asked for".into()
                })?;
                that(REASONS.contains(&finish(&body)), || {
                    let reason = finish(&body);
                    format!("finish_reason: expected one of {REASONS:?}, got {reason:?}")
                })
            },
        ),
        one(
            "a message has role, content and refusal",
            |s| s.chat(&json!({})),
            |_, answer| {
                let body = good(answer)?;
                let message = "/choices/0/message";
                has(&body, message, &["role", "content", "refusal"])?;
                let role = text(&body, "/choices/0/message/role");
                same("role", &role, &"assistant")?;
                that(!content(&body).is_empty(), || "content is empty".into())
            },
        ),
        asked(
            "ids of two answers differ",
            [(); 2].map(|()| json!({ "max_tokens": 1 })),
            |answers| {
                let bodies = all_good(answers)?;
                let ids: Vec<&str> = bodies.iter().map(|body| text(body, "/id")).collect();
                that(ids.first() != ids.last(), || format!("two are {ids:?}"))
            },
        ),
    ]
}

fn conversations() -> Vec<Case> {
    let said = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    let greeted = |by: &[Value]| {
        let hi = json!({ "role": "user", "content": "Hi" });
        let messages: Vec<Value> = by.iter().cloned().chain([hi]).collect();
        json!({ "messages": messages, "max_tokens": 1 })
    };
    let told = |role| json!({ "role": role, "content": "You are a lighthouse keeper." });
    vec![
        asked(
            "content in parts of text is content",
            [
                said(json!("Say a word.")),
                said(json!([{ "type": "text", "text": "Say a word." }])),
            ],
            |answers| {
                let bodies = all_good(answers)?;
                let tokens: Result<Vec<u64>, _> = (bodies.iter())
                    .map(|body| count(body, "/usage/prompt_tokens"))
                    .collect();
                let tokens = tokens?;
                same("prompt_tokens of both", &tokens.first(), &tokens.last())
            },
        ),
        asked(
            "a message of the system or the developer is read",
            [
                greeted(&[]),
                greeted(&[told("system")]),
                greeted(&[told("developer")]),
            ],
            |answers| {
                let bodies = all_good(answers)?;
                let [plain, system, developer] = bodies.as_slice() else {
                    return fails("expected three answers");
                };
                let of = |body| count(body, "/usage/prompt_tokens");
                let (plain, system, developer) = (of(plain)?, of(system)?, of(developer)?);
                that(plain < system && plain < developer, || {
                    format!(
                        "tokens of prompts: expected more than {plain}, got {system} and {developer}"
                    )
                })
            },
        ),
        one(
            "a null is the same as nothing",
            |s| {
                let mut body = s.question(&json!({ "max_tokens": 1 }));
                if let Some(fields) = body.as_object_mut() {
                    for name in ["stop", "tools", "seed", "top_p", "n", "stream", "logprobs"] {
                        fields.insert(name.into(), json!(null));
                    }
                }
                crate::client::Call::post(crate::doctor::subject::CHAT, &body)
            },
            |_, answer| answered(answer).map(drop),
        ),
        one(
            "fields that clients send by habit are taken",
            |s| {
                s.chat(&json!({
                    "max_tokens": 1, "user": "u-1", "metadata": { "a": "b" }, "store": false,
                    "service_tier": "auto", "safety_identifier": "x", "prompt_cache_key": "y",
                    "parallel_tool_calls": true, "presence_penalty": 0, "frequency_penalty": 0,
                }))
            },
            |_, answer| answered(answer).map(drop),
        ),
        one(
            "a conversation of several turns, with names, is answered",
            |s| {
                s.chat(&json!({ "max_tokens": 1, "messages": [
                    { "role": "user", "content": "Hi", "name": "ann" },
                    { "role": "assistant", "content": "Hello." },
                    { "role": "user", "content": [
                        { "type": "text", "text": "One." }, { "type": "text", "text": "Two." },
                    ] },
                ] }))
            },
            |_, answer| answered(answer).map(drop),
        ),
    ]
}
