//! Thoughts: apart from answers, counted, switched off, limited.

use serde_json::{Value, json};

use super::forms::{format, is_of_schema};
use crate::client::{Answer, Call};
use crate::doctor::case::{Case, Doing, one, own, refused};
use crate::doctor::check::{
    Outcome, Why, answered, at, choices, chunks, content, count, finish, good, is_good, same, text,
    that, thought,
};
use crate::doctor::subject::{CHAT, Subject, quiet};

const REASONING_TOKENS: &str = "/usage/completion_tokens_details/reasoning_tokens";

/// A question to be thought about for so many tokens.
fn thinking(s: &Subject, budget: u64, changes: &Value) -> Call {
    let mut body = json!({
        "thinking": { "type": "enabled" }, "thinking_token_budget": budget, "max_tokens": 96,
    });
    if let (Some(body), Some(changes)) = (body.as_object_mut(), changes.as_object()) {
        body.extend(changes.clone());
    }
    s.chat_freely(&body)
}

/// A body with a thought; a model without thoughts is not judged, one that leaks them is.
fn thoughtful(answer: &Answer) -> Result<Value, Why> {
    let refuses_field = answer.status == 400 && answer.text().contains("thinking");
    if refuses_field {
        return Err(Why::NotOffered);
    }
    let body = good(answer)?;
    no_marks(content(&body))?;
    if thought(&body).is_empty() {
        return Err(Why::NotOffered);
    }
    Ok(body)
}

fn no_marks(content: &str) -> Outcome {
    let mut marks = ["<think>", "</think>"].into_iter();
    let mark = marks.find(|mark| content.contains(mark));
    that(mark.is_none(), || {
        format!("the answer holds {}", mark.unwrap_or_default())
    })
}

fn is_silent(answer: &Answer) -> Outcome {
    let body = answered(answer)?;
    no_marks(content(&body))?;
    same("the thought", &thought(&body), &"")?;
    let counted = at(&body, REASONING_TOKENS).as_u64().unwrap_or(0);
    same("reasoning_tokens", &counted, &0)
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = apart();
    all.extend(switches());
    all.extend(limits());
    all
}

fn apart() -> Vec<Case> {
    vec![
        one(
            "a thought stands in reasoning_content, apart from the answer",
            |s| thinking(s, 24, &json!({})),
            |_, answer| {
                let body = thoughtful(answer)?;
                no_marks(thought(&body))
            },
        ),
        one(
            "reasoning_tokens are counted, and are part of completion_tokens",
            |s| thinking(s, 24, &json!({})),
            |_, answer| {
                let body = thoughtful(answer)?;
                let tokens = count(&body, REASONING_TOKENS)?;
                let all = count(&body, "/usage/completion_tokens")?;
                that((1..=all).contains(&tokens), || {
                    format!("expected 1 to {all}, got {tokens}")
                })
            },
        ),
        one(
            "in a stream the thought comes before the answer",
            |s| thinking(s, 24, &json!({ "stream": true })),
            |_, answer| {
                if answer.status == 400 {
                    return Err(Why::NotOffered);
                }
                let chunks = chunks(answer)?;
                let says = |choice: &Value, names: &[&str]| {
                    names.iter().any(|name| !text(choice, name).is_empty())
                };
                let kinds: Vec<bool> = choices(&chunks, 0)
                    .filter_map(|choice| {
                        let is_thought =
                            says(choice, &["/delta/reasoning_content", "/delta/reasoning"]);
                        let is_answer = says(choice, &["/delta/content"]);
                        (is_thought || is_answer).then_some(is_answer)
                    })
                    .collect();
                if !kinds.contains(&false) {
                    return Err(Why::NotOffered);
                }
                that(kinds.is_sorted(), || {
                    "a thought came after the answer began".into()
                })
            },
        ),
        one(
            "the answer has its form after a thought",
            |s| {
                thinking(
                    s,
                    16,
                    &json!({ "response_format": format(), "max_tokens": 1024 }),
                )
            },
            |_, answer| {
                let body = thoughtful(answer)?;
                is_of_schema(content(&body))
            },
        ),
        one(
            "a thought is taken back, by either name",
            |s| {
                let past =
                    |name: &str| json!({ "role": "assistant", "content": "4", name: "2 and 2" });
                let ask = json!({ "role": "user", "content": "Go on." });
                let messages = json!([ask, past("reasoning_content"), ask, past("reasoning"), ask]);
                s.chat(&json!({ "messages": messages, "max_tokens": 4 }))
            },
            |_, answer| answered(answer).map(drop),
        ),
    ]
}

fn switches() -> Vec<Case> {
    vec![
        one(
            "thinking.type disabled switches it off",
            |s| s.chat_freely(&quiet("thinking")),
            |_, answer| is_silent(answer),
        ),
        one(
            "chat_template_kwargs.enable_thinking false does too",
            |s| s.chat_freely(&quiet("chat_template_kwargs")),
            |_, answer| is_silent(answer),
        ),
        one(
            "reasoning_effort none does too",
            |s| s.chat_freely(&quiet("reasoning_effort")),
            |_, answer| is_silent(answer),
        ),
        refused(
            "an effort that is not known is refused",
            |s| s.chat_freely(&json!({ "reasoning_effort": "heroic" })),
            (400, "reasoning_effort"),
        ),
    ]
}

fn limits() -> Vec<Case> {
    vec![
        one(
            "a budget limits the thought, and the answer follows",
            |s| thinking(s, 12, &json!({})),
            |_, answer| {
                let body = thoughtful(answer)?;
                let tokens = count(&body, REASONING_TOKENS)?;
                // Closing it softly may take some more.
                that(tokens <= 24, || {
                    format!("a budget of 12 took {tokens} tokens")
                })?;
                let all = count(&body, "/usage/completion_tokens")?;
                that(all > tokens, || "no answer followed".into())
            },
        ),
        one(
            "max_tokens counts thoughts too",
            |s| s.chat_freely(&json!({ "thinking": { "type": "enabled" }, "max_tokens": 8 })),
            |_, answer| {
                let body = thoughtful(answer)?;
                let tokens = count(&body, "/usage/completion_tokens")?;
                that(tokens <= 8, || {
                    format!("expected at most 8 tokens, got {tokens}")
                })?;
                same("finish_reason", &finish(&body), &"length")
            },
        ),
        own("a thought under way is ended on request", stopped),
    ]
}

/// The id is in the first chunk; the answer must come to its end after that.
fn stopped(s: &Subject) -> Doing<'_> {
    Box::pin(async move {
        let long = json!({
            "stream": true, "thinking": { "type": "enabled" }, "max_tokens": 1500, "ignore_eos": true,
        });
        let mut reply = s.begin(s.chat_freely(&long)).await?;
        if reply.status != 200 {
            return Err(Why::NotOffered);
        }
        let mut events = Vec::new();
        let mut asked = false;
        while let Some(event) = reply.next_event().await? {
            let chunk: Value = serde_json::from_str(&event.data).unwrap_or_default();
            let thinks = !text(&chunk, "/choices/0/delta/reasoning_content").is_empty();
            if thinks && !asked {
                asked = true;
                let path = format!("{CHAT}/{}/stop_thinking", text(&chunk, "/id"));
                let answer = s.send(Call::post(&path, &json!({}))).await?;
                is_good(&answer)?;
            }
            events.push(chunk);
        }
        if !asked {
            return Err(Why::NotOffered);
        }
        let has_answer = choices(&events, 0).any(|it| !text(it, "/delta/content").is_empty());
        that(has_answer, || "no answer followed".into())
    })
}
