//! Chat completions as events.

use serde_json::{Value, json};

use crate::doctor::case::{Case, asked, one, several};
use crate::doctor::check::{
    all_good, at, choices, chunks, content, fails, good, is_error, list, said, same, text, that,
};

pub(super) fn cases() -> Vec<Case> {
    let mut all = chunked();
    all.extend(contents());
    all.extend(mixtures());
    all
}

fn chunked() -> Vec<Case> {
    vec![
        one(
            "events are data lines of JSON, and [DONE] at the end",
            |s| s.chat(&json!({ "stream": true })),
            |_, answer| {
                let named = answer.events.iter().find(|event| event.name.is_some());
                chunks(answer)?;
                that(named.is_none(), || {
                    format!("an event has a name: {named:?}")
                })
            },
        ),
        one(
            "all chunks have the same id, created and model",
            |s| s.chat(&json!({ "stream": true })),
            |s, answer| {
                let chunks = chunks(answer)?;
                for chunk in &chunks {
                    same("object", &text(chunk, "/object"), &"chat.completion.chunk")?;
                    same("model", &text(chunk, "/model"), &s.model())?;
                    for key in ["/id", "/created"] {
                        let first = chunks.first().map(|first| at(first, key));
                        same(key, &Some(at(chunk, key)), &first)?;
                    }
                }
                Ok(())
            },
        ),
        one(
            "the first chunk names the assistant",
            |s| s.chat(&json!({ "stream": true })),
            |_, answer| {
                let chunks = chunks(answer)?;
                let role = chunks.first().map(|it| text(it, "/choices/0/delta/role"));
                same("role", &role, &Some("assistant"))
            },
        ),
        one(
            "the last chunk of a choice, and no other, has its finish_reason",
            |s| s.chat(&json!({ "stream": true })),
            |_, answer| {
                let chunks = chunks(answer)?;
                let mut reasons: Vec<&Value> = choices(&chunks, 0)
                    .map(|choice| at(choice, "/finish_reason"))
                    .collect();
                let last = reasons.pop().unwrap_or(&Value::Null);
                that(last.is_string(), || {
                    format!("the last finish_reason: expected a word, got {last}")
                })?;
                that(reasons.iter().all(|reason| reason.is_null()), || {
                    "finish_reason: expected null before the last chunk".into()
                })
            },
        ),
    ]
}

fn contents() -> Vec<Case> {
    vec![
        one(
            "usage comes in a chunk of its own where it is asked for",
            |s| s.chat(&json!({ "stream": true, "stream_options": { "include_usage": true } })),
            |_, answer| {
                let chunks = chunks(answer)?;
                let Some((last, others)) = chunks.split_last() else {
                    return fails("expected chunks, got none");
                };
                same("choices of the last", &list(last, "/choices").len(), &0)?;
                that(at(last, "/usage").is_object(), || {
                    "expected usage in the last chunk".into()
                })?;
                that(
                    others.iter().all(|chunk| at(chunk, "/usage").is_null()),
                    || "usage: expected null before the last chunk".into(),
                )
            },
        ),
        one(
            "no chunk is without choices where usage is not asked for",
            |s| s.chat(&json!({ "stream": true })),
            |_, answer| {
                let chunks = chunks(answer)?;
                let empty = chunks.iter().find(|it| list(it, "/choices").is_empty());
                that(empty.is_none(), || "a chunk has no choices".into())
            },
        ),
        asked(
            "a stream says what a whole answer says",
            [json!({}), json!({ "stream": true })],
            |answers| {
                let [whole, streamed] = answers else {
                    return fails("expected two answers");
                };
                let whole = good(whole)?;
                let chunks = chunks(streamed)?;
                let text = said(&chunks, 0, "/delta/content");
                same("the text", &text.as_str(), &content(&whole))
            },
        ),
    ]
}

fn mixtures() -> Vec<Case> {
    vec![
        one(
            "several answers come in one stream, each to its end",
            |s| s.chat(&json!({ "stream": true, "n": 2, "temperature": 1, "seed": 5 })),
            |_, answer| {
                let chunks = chunks(answer)?;
                for index in 0..2 {
                    let ended = choices(&chunks, index);
                    let ended = ended.filter(|choice| at(choice, "/finish_reason").is_string());
                    same(&format!("ends of answer {index}"), &ended.count(), &1)?;
                }
                Ok(())
            },
        ),
        one(
            "log-probabilities of a stream are of its text",
            |s| s.chat(&json!({ "stream": true, "logprobs": true })),
            |_, answer| {
                let chunks = chunks(answer)?;
                let tokens = choices(&chunks, 0).flat_map(|it| list(it, "/logprobs/content"));
                let tokens: String = tokens.map(|token| text(token, "/token")).collect();
                let said = said(&chunks, 0, "/delta/content");
                // A token may hold a part of a character, which is spelled otherwise; and some trim
                // what they say.
                that(
                    tokens.trim() == said.trim() && !said.is_empty() || tokens.contains("bytes:"),
                    || format!("tokens are {tokens:?}, the text is {said:?}"),
                )
            },
        ),
        several(
            "a stop text is held back as long as it may come",
            |s, answers| match answers {
                [] => Some(s.chat(&json!({ "max_tokens": 24 }))),
                [first] => {
                    let stop = super::parameters::stop_within(&good(first).ok()?)?;
                    Some(s.chat(&json!({ "max_tokens": 24, "stream": true, "stop": stop })))
                }
                _ => None,
            },
            |_, answers| {
                let [first, streamed] = answers else {
                    all_good(answers)?;
                    return fails("the answer has no sign to stop at");
                };
                let whole = good(first)?;
                let stop = super::parameters::stop_within(&whole).unwrap_or_default();
                let said = said(&chunks(streamed)?, 0, "/delta/content");
                let before = content(&whole).split(&stop).next().unwrap_or_default();
                same("the text before the stop", &said.as_str(), &before)
            },
        ),
        one(
            "what is refused is refused before the stream begins",
            |s| s.chat(&json!({ "stream": true, "temperature": 9 })),
            |_, answer| is_error(answer, 400, "temperature"),
        ),
    ]
}
