//! What answers are held against.

use serde_json::Value;

use crate::client::{Answer, Error};

/// Why a case did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// Something does not hold.
    Fails(String),
    /// There is no such route, or the model cannot do it.
    NotOffered,
}

/// Whether a case passed.
pub(super) type Outcome = Result<(), Why>;

impl From<Error> for Why {
    fn from(error: Error) -> Self {
        let mut words = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            words = format!("{words}: {source}");
        }
        Self::Fails(words)
    }
}

/// Fails, in one line.
pub(super) fn fails<T>(why: impl Into<String>) -> Result<T, Why> {
    let why: String = why.into();
    let words: Vec<&str> = why.split_whitespace().collect();
    Err(Why::Fails(words.join(" ")))
}

/// Holds something to be.
pub(super) fn that(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { fails(why()) }
}

/// Holds two things to be the same.
pub(super) fn same<A: PartialEq<B> + std::fmt::Debug, B: std::fmt::Debug>(
    what: &str,
    got: &A,
    expected: &B,
) -> Outcome {
    that(got == expected, || {
        format!(
            "{what}: expected {}, got {}",
            debugged(expected),
            debugged(got)
        )
    })
}

fn debugged(value: &impl std::fmt::Debug) -> String {
    clipped(&format!("{value:?}")).to_owned()
}

/// The beginning of a text.
pub(super) fn clipped(text: &str) -> &str {
    const SHOWN: usize = 160;
    text.get(..text.floor_char_boundary(SHOWN))
        .unwrap_or_default()
}

/// A part of a body; null where there is none.
pub(super) fn at<'a>(body: &'a Value, pointer: &str) -> &'a Value {
    body.pointer(pointer).unwrap_or(&Value::Null)
}

/// The text at a place; empty where there is none.
pub(super) fn text<'a>(body: &'a Value, pointer: &str) -> &'a str {
    at(body, pointer).as_str().unwrap_or_default()
}

/// A count at a place.
pub(super) fn count(body: &Value, pointer: &str) -> Result<u64, Why> {
    let found = at(body, pointer);
    found
        .as_u64()
        .ok_or_else(|| Why::Fails(format!("{pointer}: expected a count, got {found}")))
}

/// A list at a place; empty where there is none.
pub(super) fn list<'a>(body: &'a Value, pointer: &str) -> &'a [Value] {
    at(body, pointer).as_array().map_or(&[], Vec::as_slice)
}

/// Holds an object to have these keys, whatever their values.
pub(super) fn has(body: &Value, pointer: &str, keys: &[&str]) -> Outcome {
    let found = at(body, pointer);
    let Some(object) = found.as_object() else {
        let shown = found.to_string();
        return fails(format!(
            "{pointer}: expected an object, got {}",
            clipped(&shown)
        ));
    };
    let missing = keys.iter().find(|key| !object.contains_key(**key));
    missing.map_or(Ok(()), |key| {
        fails(format!("{pointer}: expected the key {key}"))
    })
}

/// What an answer says where it refuses.
pub(super) fn words(answer: &Answer) -> String {
    let body = answer.json().unwrap_or_default();
    let message = match text(&body, "/error/message") {
        "" => answer.text(),
        message => message.to_owned(),
    };
    clipped(message.trim()).to_owned()
}

/// Fails unless it succeeded; not offered where there is no such route.
pub(super) fn is_good(answer: &Answer) -> Outcome {
    match answer.status {
        200 => Ok(()),
        404 | 501 => Err(Why::NotOffered),
        status => fails(format!("expected 200, got {status}: {}", words(answer))),
    }
}

/// The body of a success.
pub(super) fn good(answer: &Answer) -> Result<Value, Why> {
    is_good(answer)?;
    answer
        .json()
        .or_else(|_| fails(format!("expected JSON, got {}", clipped(&answer.text()))))
}

/// The body of an answer to a conversation, whatever it says.
pub(super) fn answered(answer: &Answer) -> Result<Value, Why> {
    let body = good(answer)?;
    has(&body, "/choices/0/message", &["content"])?;
    Ok(body)
}

/// The bodies of several successes.
pub(super) fn all_good(answers: &[Answer]) -> Result<Vec<Value>, Why> {
    answers.iter().map(good).collect()
}

/// Holds an answer to be an error of OpenAI's envelope, with its four keys.
pub(super) fn is_error(answer: &Answer, status: u16, named: &str) -> Outcome {
    if answer.status != status {
        let got = answer.status;
        return fails(format!("expected {status}, got {got}: {}", words(answer)));
    }
    let Ok(body) = answer.json() else {
        let text = answer.text();
        return fails(format!("expected a JSON envelope, got {}", clipped(&text)));
    };
    has(&body, "/error", &["message", "type", "param", "code"])?;
    let kind = answer.header("content-type").unwrap_or_default();
    that(kind.starts_with("application/json"), || {
        format!("content-type: expected application/json, got {kind}")
    })?;
    that(!text(&body, "/error/message").is_empty(), || {
        "error.message: expected words, got none".into()
    })?;
    let places = ["/error/param", "/error/message", "/error/code"];
    that(
        places
            .iter()
            .any(|place| text(&body, place).contains(named)),
        || {
            let shown = at(&body, "/error").to_string();
            format!("expected {named} to be named, got {}", clipped(&shown))
        },
    )
}

/// The chunks of a stream, held to end with `[DONE]`.
pub(super) fn chunks(answer: &Answer) -> Result<Vec<Value>, Why> {
    is_good(answer)?;
    that(answer.is_events(), || {
        "expected text/event-stream, got another content type".into()
    })?;
    let Some((last, events)) = answer.events.split_last() else {
        return fails("expected events, got none");
    };
    that(last.data == "[DONE]" && !answer.is_cut, || {
        format!("expected [DONE] at the end, got {}", clipped(&last.data))
    })?;
    let chunk = |data: &str| {
        let chunk: Value = serde_json::from_str(data)
            .or_else(|_| fails(format!("expected JSON in an event, got {}", clipped(data))))?;
        match chunk.get("error") {
            None => Ok(chunk),
            Some(error) => fails(format!("an error on the way: {error}")),
        }
    };
    events.iter().map(|event| chunk(&event.data)).collect()
}

/// The bodies of a stream of named events, each held to have its name as its type.
pub(super) fn named_events(answer: &Answer) -> Result<Vec<Value>, Why> {
    is_good(answer)?;
    let mut events = Vec::new();
    for event in &answer.events {
        let body: Value = serde_json::from_str(&event.data)
            .or_else(|_| fails(format!("expected JSON, got {}", clipped(&event.data))))?;
        same(
            "event:",
            &event.name.as_deref(),
            &at(&body, "/type").as_str(),
        )?;
        events.push(body);
    }
    Ok(events)
}

/// The choices of all chunks with an index, in order.
pub(super) fn choices(chunks: &[Value], index: u64) -> impl Iterator<Item = &Value> {
    let all = chunks.iter().flat_map(|chunk| list(chunk, "/choices"));
    all.filter(move |choice| choice.get("index").and_then(Value::as_u64) == Some(index))
}

/// What the choice with an index says in all chunks, at a place.
pub(super) fn said(chunks: &[Value], index: u64, pointer: &str) -> String {
    choices(chunks, index)
        .map(|choice| text(choice, pointer))
        .collect()
}

/// The answer's text.
pub(super) fn content(body: &Value) -> &str {
    text(body, "/choices/0/message/content")
}

/// The thought before it, by either name.
pub(super) fn thought(body: &Value) -> &str {
    match text(body, "/choices/0/message/reasoning_content") {
        "" => text(body, "/choices/0/message/reasoning"),
        thought => thought,
    }
}

/// Why the answer ended.
pub(super) fn finish(body: &Value) -> &str {
    text(body, "/choices/0/finish_reason")
}

/// Whether a number is close to another.
pub(super) fn is_near(one: f64, other: f64, within: f64) -> bool {
    (one - other).abs() <= within
}
