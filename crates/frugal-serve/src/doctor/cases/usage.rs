//! Counts of tokens, those found in the cache too.

use serde_json::{Value, json};

use crate::doctor::case::{Case, asked, one, several};
use crate::doctor::check::{
    Outcome, all_good, at, chunks, count, fails, good, has, same, text, that,
};

/// A prompt of some length, so that a cache keeps it.
fn long() -> Value {
    let text = "The keeper of the lighthouse counts the ships of the day. ".repeat(12);
    json!([{ "role": "user", "content": text }])
}

fn adds_up(usage: &Value) -> Outcome {
    let of = |name: &str| count(usage, name);
    let (prompt, completion) = (of("/prompt_tokens")?, of("/completion_tokens")?);
    same(
        "total_tokens",
        &of("/total_tokens")?,
        &(prompt + completion),
    )?;
    that(prompt > 0 && completion > 0, || {
        format!("expected tokens, got {prompt} and {completion}")
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = sums();
    all.extend(shared());
    all
}

fn sums() -> Vec<Case> {
    vec![
        one(
            "total_tokens are those of prompt and answer",
            |s| s.chat(&json!({})),
            |_, answer| adds_up(at(&good(answer)?, "/usage")),
        ),
        one(
            "details hold cached_tokens and reasoning_tokens",
            |s| s.chat(&json!({})),
            |_, answer| {
                let body = good(answer)?;
                has(&body, "/usage/prompt_tokens_details", &["cached_tokens"])?;
                has(
                    &body,
                    "/usage/completion_tokens_details",
                    &["reasoning_tokens"],
                )
            },
        ),
        one(
            "hits and misses of the cache are the prompt (DeepSeek's fields)",
            |s| s.chat(&json!({})),
            |_, answer| {
                let body = good(answer)?;
                let hit = count(&body, "/usage/prompt_cache_hit_tokens")?;
                let miss = count(&body, "/usage/prompt_cache_miss_tokens")?;
                same(
                    "their sum",
                    &(hit + miss),
                    &count(&body, "/usage/prompt_tokens")?,
                )
            },
        ),
    ]
}

fn shared() -> Vec<Case> {
    vec![
        asked(
            "a prompt that comes again is found in the cache",
            [(); 2].map(|()| json!({ "messages": long(), "max_tokens": 2 })),
            |answers| {
                let bodies = all_good(answers)?;
                let cached = "/usage/prompt_tokens_details/cached_tokens";
                let Some(last) = bodies.last() else {
                    return fails("expected an answer");
                };
                let (cached, prompt) = (count(last, cached)?, count(last, "/usage/prompt_tokens")?);
                that((prompt / 2..=prompt).contains(&cached), || {
                    format!("of {prompt} tokens {cached} were found")
                })
            },
        ),
        several(
            "so is a conversation that goes on",
            |s, answers| {
                let mut messages = long();
                let all = messages.as_array_mut()?;
                if let [first] = answers {
                    let body = good(first).ok()?;
                    let said = text(&body, "/choices/0/message/content");
                    all.push(json!({ "role": "assistant", "content": said }));
                    all.push(json!({ "role": "user", "content": "And then?" }));
                }
                (answers.len() < 2)
                    .then(|| s.chat(&json!({ "messages": messages, "max_tokens": 4 })))
            },
            |_, answers| {
                let bodies = all_good(answers)?;
                let [first, next] = bodies.as_slice() else {
                    return fails("expected two answers");
                };
                let before = count(first, "/usage/prompt_tokens")?;
                let cached = count(next, "/usage/prompt_tokens_details/cached_tokens")?;
                that(cached >= before / 2, || {
                    format!("of {before} tokens said before {cached} were found")
                })
            },
        ),
        asked(
            "several answers share their prompt, and are all counted",
            [
                json!({ "max_tokens": 4 }),
                json!({ "max_tokens": 4, "n": 3 }),
            ],
            |answers| {
                let bodies = all_good(answers)?;
                let [single, three] = bodies.as_slice() else {
                    return fails("expected two answers");
                };
                let of = |body, name: &str| count(body, &format!("/usage/{name}"));
                let prompt = of(single, "prompt_tokens")?;
                same("prompt_tokens", &of(three, "prompt_tokens")?, &prompt)?;
                let completion = of(single, "completion_tokens")?;
                same(
                    "completion_tokens of three",
                    &of(three, "completion_tokens")?,
                    &(3 * completion),
                )
            },
        ),
        asked(
            "a stream uses what a whole answer uses",
            [
                json!({}),
                json!({ "stream": true, "stream_options": { "include_usage": true } }),
            ],
            |answers| {
                let [whole, streamed] = answers else {
                    return fails("expected two answers");
                };
                let whole = good(whole)?;
                let chunks = chunks(streamed)?;
                let last = chunks
                    .last()
                    .map_or(&Value::Null, |chunk| at(chunk, "/usage"));
                adds_up(last)?;
                for name in ["prompt_tokens", "completion_tokens"] {
                    let expected = count(&whole, &format!("/usage/{name}"))?;
                    same(name, &count(last, &format!("/{name}"))?, &expected)?;
                }
                Ok(())
            },
        ),
    ]
}
