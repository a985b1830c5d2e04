//! Statuses, and the envelope's four keys.

use axum::body::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::client::Call;
use crate::doctor::case::{Case, Doing, one, own, refused};
use crate::doctor::check::{Why, clipped, fails, good, has, is_error, that, words};
use crate::doctor::subject::{Subject, positions, read_until, write};

/// A question of which one message is this.
fn told(s: &Subject, message: &Value) -> Call {
    s.chat(&json!({ "messages": [message] }))
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = malformed();
    all.extend(out_of_range());
    all.extend(statuses());
    all
}

fn malformed() -> Vec<Case> {
    const JSON: &str = "application/json";
    let bad = |named| (400, named);
    vec![
        refused(
            "a body that is no JSON",
            |_| Subject::raw(b"{\"model\":", JSON),
            bad(""),
        ),
        refused(
            "a body that is empty",
            |_| Subject::raw(b" ", JSON),
            bad(""),
        ),
        refused(
            "a body that is no object",
            |_| Subject::raw(b"[1]", JSON),
            bad(""),
        ),
        refused(
            "a body without a model",
            |s| s.chat(&json!({ "model": null })),
            bad("model"),
        ),
        refused(
            "a body without messages",
            |s| s.chat(&json!({ "messages": null })),
            bad("messages"),
        ),
        refused(
            "a conversation of no messages",
            |s| s.chat(&json!({ "messages": [] })),
            bad("messages"),
        ),
        refused(
            "a message of nobody known",
            |s| told(s, &json!({ "role": "ghost", "content": "Boo" })),
            bad("role"),
        ),
        refused(
            "a message without content",
            |s| told(s, &json!({ "role": "user" })),
            bad("content"),
        ),
        refused(
            "an image that is none",
            |s| {
                let image = json!({ "type": "image_url", "image_url": { "url": "nowhere" } });
                told(s, &json!({ "role": "user", "content": [image] }))
            },
            bad(""),
        ),
        refused(
            "an unknown field",
            |s| s.chat(&json!({ "temprature": 1 })),
            bad("temprature"),
        ),
        refused(
            "an unknown field of a message",
            |s| {
                told(
                    s,
                    &json!({ "role": "user", "content": "Hi", "colour": "red" }),
                )
            },
            bad("colour"),
        ),
        refused(
            "an unknown field of an option",
            |s| s.chat(&json!({ "stream": true, "stream_options": { "include_use": true } })),
            bad("include_use"),
        ),
    ]
}

fn out_of_range() -> Vec<Case> {
    let bad = |named| (400, named);
    vec![
        refused(
            "a temperature that is a word",
            |s| s.chat(&json!({ "temperature": "hot" })),
            bad("temperature"),
        ),
        refused(
            "a temperature of 3",
            |s| s.chat(&json!({ "temperature": 3 })),
            bad("temperature"),
        ),
        refused(
            "a top_p of 2",
            |s| s.chat(&json!({ "top_p": 2 })),
            bad("top_p"),
        ),
        refused(
            "a presence_penalty of 5",
            |s| s.chat(&json!({ "presence_penalty": 5 })),
            bad("presence_penalty"),
        ),
        refused(
            "no answers at all",
            |s| s.chat(&json!({ "n": 0 })),
            bad("n"),
        ),
        refused(
            "answers of no tokens",
            |s| s.chat(&json!({ "max_tokens": 0 })),
            bad("max_"),
        ),
        refused(
            "answers of less than none",
            |s| s.chat(&json!({ "max_tokens": -1 })),
            bad("max_"),
        ),
        refused(
            "a hundred stop texts",
            |s| s.chat(&json!({ "stop": vec!["x"; 100] })),
            bad("stop"),
        ),
        refused(
            "a seed that is a word",
            |s| s.chat(&json!({ "seed": "x" })),
            bad("seed"),
        ),
        refused(
            "a stream that is a word",
            |s| s.chat(&json!({ "stream": "yes" })),
            bad("stream"),
        ),
        refused(
            "99 likeliest tokens",
            |s| s.chat(&json!({ "logprobs": true, "top_logprobs": 99 })),
            bad("top_logprobs"),
        ),
        refused(
            "likeliest tokens without log-probabilities",
            |s| s.chat(&json!({ "top_logprobs": 2 })),
            bad("logprobs"),
        ),
        refused(
            "a bias of 500",
            |s| s.chat(&json!({ "logit_bias": { "5": 500 } })),
            bad("logit_bias"),
        ),
        refused(
            "a bias of a token that there is not",
            |s| s.chat(&json!({ "logit_bias": { "4000000000": 1 } })),
            bad("logit_bias"),
        ),
        own("a prompt that is too long for the model", too_long),
    ]
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
        let call = told(s, &json!({ "role": "user", "content": text }));
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
pub(super) fn is_anthropic(
    answer: &crate::client::Answer,
    status: u16,
    kind: &str,
) -> Result<(), Why> {
    use crate::doctor::check::{same, text};
    same("status", &answer.status, &status)?;
    let body = answer.json().unwrap_or_default();
    same("type", &text(&body, "/type"), &"error")?;
    same("error.type", &text(&body, "/error/type"), &kind)?;
    that(!words(answer).is_empty(), || {
        "expected error.message".into()
    })
}
