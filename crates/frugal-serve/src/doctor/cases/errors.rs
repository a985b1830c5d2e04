//! Statuses, and the envelope's four keys.

use axum::body::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Call};
use crate::doctor::case::{Case, Doing, one, own, refused, wrong};
use crate::doctor::check::{
    Outcome, Why, clipped, fails, good, has, is_error, same, text, that, words,
};
use crate::doctor::subject::{Subject, positions, read_until, write};

/// A conversation of which one message is this.
fn of_one(message: &Value) -> Value {
    json!({ "messages": [message] })
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = malformed();
    all.extend(out_of_range());
    all.push(own("a prompt that is too long for the model", too_long));
    all.extend(statuses());
    all
}

fn malformed() -> Vec<Case> {
    const JSON: &str = "application/json";
    let mut all = vec![
        refused(
            "a body that is no JSON",
            |_| Subject::raw(b"{\"model\":", JSON),
            (400, ""),
        ),
        refused(
            "a body that is empty",
            |_| Subject::raw(b" ", JSON),
            (400, ""),
        ),
        refused(
            "a body that is no object",
            |_| Subject::raw(b"[1]", JSON),
            (400, ""),
        ),
    ];
    let image = json!({ "type": "image_url", "image_url": { "url": "nowhere" } });
    let coloured = json!({ "role": "user", "content": "Hi", "colour": "red" });
    let misspelt = json!({ "stream": true, "stream_options": { "include_use": true } });
    all.extend(wrong([
        ("a body without a model", json!({ "model": null }), "model"),
        (
            "a body without messages",
            json!({ "messages": null }),
            "messages",
        ),
        (
            "a conversation of no messages",
            json!({ "messages": [] }),
            "messages",
        ),
        (
            "a message of nobody known",
            of_one(&json!({ "role": "ghost", "content": "Boo" })),
            "role",
        ),
        (
            "a message without content",
            of_one(&json!({ "role": "user" })),
            "content",
        ),
        (
            "an image that is none",
            of_one(&json!({ "role": "user", "content": [image] })),
            "",
        ),
        ("an unknown field", json!({ "temprature": 1 }), "temprature"),
        ("an unknown field of a message", of_one(&coloured), "colour"),
        ("an unknown field of an option", misspelt, "include_use"),
    ]));
    all
}

fn out_of_range() -> impl Iterator<Item = Case> {
    let unknown_token = json!({ "logit_bias": { "4000000000": 1 } });
    wrong([
        (
            "a temperature that is a word",
            json!({ "temperature": "hot" }),
            "temperature",
        ),
        (
            "a temperature of 3",
            json!({ "temperature": 3 }),
            "temperature",
        ),
        ("a top_p of 2", json!({ "top_p": 2 }), "top_p"),
        (
            "a presence_penalty of 5",
            json!({ "presence_penalty": 5 }),
            "presence_penalty",
        ),
        ("no answers at all", json!({ "n": 0 }), "n"),
        ("answers of no tokens", json!({ "max_tokens": 0 }), "max_"),
        (
            "answers of less than none",
            json!({ "max_tokens": -1 }),
            "max_",
        ),
        (
            "a hundred stop texts",
            json!({ "stop": vec!["x"; 100] }),
            "stop",
        ),
        ("a seed that is a word", json!({ "seed": "x" }), "seed"),
        (
            "a stream that is a word",
            json!({ "stream": "yes" }),
            "stream",
        ),
        (
            "99 likeliest tokens",
            json!({ "logprobs": true, "top_logprobs": 99 }),
            "top_logprobs",
        ),
        (
            "likeliest tokens without log-probabilities",
            json!({ "top_logprobs": 2 }),
            "logprobs",
        ),
        (
            "a bias of 500",
            json!({ "logit_bias": { "5": 500 } }),
            "logit_bias",
        ),
        (
            "a bias of a token that there is not",
            unknown_token,
            "logit_bias",
        ),
    ])
}

fn statuses() -> Vec<Case> {
    vec![
        refused(
            "an unknown model is 404",
            |s| s.chat(&json!({ "model": "no-such-model" })),
            (404, "model"),
        ),
        refused(
            "an unknown route is 404",
            |_| Call::get("/v1/no/such/route"),
            (404, ""),
        ),
        refused(
            "a known route by another method is 405",
            |_| Call::of(Method::DELETE, "/v1/chat/completions", Bytes::new()),
            (405, ""),
        ),
        refused(
            "a body that says it is text is 415",
            |_| Subject::raw(b"{}", "text/plain"),
            (415, ""),
        ),
        own("a body of a terabyte is 413", too_large),
        own("a wrong key is 401", wrong_key),
        one(
            "an error has the id of its request",
            |s| s.chat(&json!({ "temperature": 9 })),
            |_, answer| {
                is_error(answer, 400, "")?;
                let id = answer.header("x-request-id").unwrap_or_default();
                that(!id.is_empty(), || "expected a header x-request-id".into())
            },
        ),
    ]
}

/// As long as the server says the model is, and longer.
fn too_long(s: &Subject) -> Doing<'_> {
    Box::pin(async move {
        let asked = json!({ "prompt": "a" });
        let answer = s.send(s.post("/tokenize", &asked, &json!({}))).await?;
        let positions = positions(&good(&answer)?).ok_or(Why::NotOffered)?;
        let text = "word. ".repeat(
            usize::try_from(positions)
                .unwrap_or(usize::MAX)
                .min(4 << 20),
        );
        let call = s.chat(&of_one(&json!({ "role": "user", "content": text })));
        is_error(&s.send(call).await?, 400, "context_length_exceeded")
    })
}

fn wrong_key(s: &Subject) -> Doing<'_> {
    Box::pin(async move {
        let call = s.chat(&json!({ "max_tokens": 1 }));
        let answer = s
            .send(call.header("authorization", "Bearer fr-wrong"))
            .await?;
        if answer.status == 200 && !s.has_key() {
            // It wants no keys.
            return Err(Why::NotOffered);
        }
        is_error(&answer, 401, "key")
    })
}

/// Nothing of it is sent: the length alone is refused.
fn too_large(s: &Subject) -> Doing<'_> {
    Box::pin(async move {
        let mut stream = s.connect().await?;
        let head = s.head("POST", "chat/completions");
        let rest = "content-type: application/json\r\ncontent-length: 1099511627776\r\n\r\n";
        write(&mut stream, &format!("{head}{rest}")).await?;
        let answer = read_until(&mut stream, |text| text.contains("}}")).await?;
        let line = answer.lines().next().unwrap_or_default();
        that(line.contains(" 413 "), || {
            format!("expected 413, got {}", clipped(line))
        })?;
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        let Some(body) = body
            .find('{')
            .and_then(|from| body.get(from..=body.rfind('}')?))
        else {
            return fails("expected a JSON envelope, got none");
        };
        let body: Value = serde_json::from_str(body)
            .or_else(|_| fails(format!("expected a JSON envelope, got {}", clipped(body))))?;
        has(&body, "/error", &["message", "type", "param", "code"])
    })
}

/// What a refused answer says, for cases of other dialects.
pub(super) fn is_anthropic(answer: &Answer, status: u16, kind: &str) -> Outcome {
    same("status", &answer.status, &status)?;
    let body = answer.json().unwrap_or_default();
    same("type", &text(&body, "/type"), &"error")?;
    same("error.type", &text(&body, "/error/type"), &kind)?;
    that(!words(answer).is_empty(), || {
        "expected error.message".into()
    })
}
