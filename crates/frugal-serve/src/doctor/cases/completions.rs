//! Completions of texts and ids, with log-probabilities of prompts, as lm-evaluation-harness asks.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::doctor::case::{Case, one, refused, several};
use crate::doctor::check::{
    Outcome, Why, all_good, at, chunks, count, fails, good, has, is_near, list, same, text, that,
};

const LISTS: [&str; 4] = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];

/// The log-probabilities of a choice, held to be four lists of the same length.
fn listed(body: &Value) -> Result<&Value, Why> {
    let found = at(body, "/choices/0/logprobs");
    has(body, "/choices/0/logprobs", &LISTS)?;
    let lengths = LISTS.map(|name| list(found, &format!("/{name}")).len());
    that(lengths.iter().all(|n| Some(n) == lengths.first()), || {
        format!("expected lists of the same length, got {lengths:?}")
    })?;
    Ok(found)
}

/// The text of tokens, and whether any is a part of a character.
fn joined(listed: &Value) -> (String, bool) {
    let tokens = list(listed, "/tokens").iter();
    let text: String = tokens.filter_map(Value::as_str).collect();
    let is_partial = text.contains("bytes:") || text.contains('\u{fffd}');
    (text, is_partial)
}

fn numbers(listed: &Value) -> Vec<Option<f64>> {
    let numbers = list(listed, "/token_logprobs").iter();
    numbers.map(Value::as_f64).collect()
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = shapes();
    all.extend(streams());
    all.extend(echoes());
    all
}

fn shapes() -> Vec<Case> {
    vec![
        one(
            "a body is a text_completion with text, index, logprobs and finish_reason",
            |s| s.completion(&json!({})),
            |s, answer| {
                let body = good(answer)?;
                has(
                    &body,
                    "",
                    &["id", "object", "created", "model", "choices", "usage"],
                )?;
                same("object", &text(&body, "/object"), &"text_completion")?;
                same("model", &text(&body, "/model"), &s.model())?;
                let keys = ["text", "index", "logprobs", "finish_reason"];
                has(&body, "/choices/0", &keys)
            },
        ),
        one(
            "16 tokens are given where nothing is said",
            |s| s.completion(&json!({ "max_tokens": null })),
            |_, answer| {
                let body = good(answer)?;
                let tokens = count(&body, "/usage/completion_tokens")?;
                that(tokens <= 16, || {
                    format!("expected at most 16, got {tokens}")
                })
            },
        ),
        one(
            "a prompt of ids is continued",
            |s| s.completion(&json!({ "prompt": [30, 31, 32] })),
            |_, answer| {
                let body = good(answer)?;
                same("prompt_tokens", &count(&body, "/usage/prompt_tokens")?, &3)
            },
        ),
        several(
            "several prompts are answered in their order",
            |s, answers| {
                let prompts = ["One, two,", "A tree is", "Red, green,"];
                match answers.len() {
                    0 => Some(s.completion(&json!({ "prompt": prompts }))),
                    n => Some(s.completion(&json!({ "prompt": prompts.get(n - 1)? }))),
                }
            },
            |_, answers| {
                let bodies = all_good(answers)?;
                let Some((together, alone)) = bodies.split_first() else {
                    return fails("expected answers");
                };
                for (index, body) in alone.iter().enumerate() {
                    has(body, "/choices/0", &["text"])?;
                    let said = text(together, &format!("/choices/{index}/text"));
                    same("the text", &said, &text(body, "/choices/0/text"))?;
                }
                Ok(())
            },
        ),
        one(
            "n answers to each of two prompts are four",
            |s| s.completion(&json!({ "prompt": ["One", "Two"], "n": 2, "temperature": 1 })),
            |_, answer| {
                let body = good(answer)?;
                let indices = list(&body, "/choices").iter();
                let mut indices: Vec<u64> = indices
                    .filter_map(|choice| choice.get("index")?.as_u64())
                    .collect();
                indices.sort_unstable();
                same("indices", &indices, &vec![0, 1, 2, 3])
            },
        ),
    ]
}

fn streams() -> Vec<Case> {
    vec![
        several(
            "a stream says what a whole answer says",
            |s, answers| match answers.len() {
                0 => Some(s.completion(&json!({}))),
                1 => Some(s.completion(&json!({ "stream": true }))),
                _ => None,
            },
            |_, answers| {
                let [whole, streamed] = answers else {
                    return fails("expected two answers");
                };
                let whole = good(whole)?;
                let chunks = chunks(streamed)?;
                let said: String = (chunks.iter())
                    .map(|chunk| text(chunk, "/choices/0/text"))
                    .collect();
                same("the text", &said.as_str(), &text(&whole, "/choices/0/text"))
            },
        ),
        refused(
            "a body without a prompt is refused",
            |s| s.completion(&json!({ "prompt": null })),
            (400, "prompt"),
        ),
        refused(
            "an unknown field is refused",
            |s| s.completion(&json!({ "colour": "red" })),
            (400, "colour"),
        ),
    ]
}

fn echoes() -> Vec<Case> {
    const PROMPT: &str = "One, two, three,";
    vec![
        one(
            "an echo stands before the answer",
            |s| s.completion(&json!({ "echo": true })),
            |_, answer| {
                let body = good(answer)?;
                let said = text(&body, "/choices/0/text");
                that(said.starts_with(PROMPT), || {
                    format!("expected the prompt, got {said:?}")
                })
            },
        ),
        one(
            "log-probabilities are four lists, of the text",
            |s| s.completion(&json!({ "logprobs": 2 })),
            |_, answer| {
                let body = good(answer)?;
                let listed = listed(&body)?;
                let (tokens, is_partial) = joined(listed);
                let said = text(&body, "/choices/0/text");
                that(is_partial || tokens.starts_with(said), || {
                    format!("tokens are {tokens:?}, the text is {said:?}")
                })?;
                let likeliest = list(listed, "/top_logprobs").iter();
                let sizes: Vec<usize> = likeliest
                    .filter_map(|one| Some(one.as_object()?.len()))
                    .collect();
                // The token that was drawn may stand beside them.
                that(sizes.iter().all(|size| (1..=3).contains(size)), || {
                    format!("top_logprobs: expected 2 each, got {sizes:?}")
                })
            },
        ),
        one(
            "those of an echo begin with the prompt's, and nothing is known of the first",
            |s| s.completion(&json!({ "echo": true, "logprobs": 1, "max_tokens": 1 })),
            |_, answer| {
                let body = good(answer)?;
                let listed = listed(&body)?;
                let prompt = count(&body, "/usage/prompt_tokens")?;
                let completion = count(&body, "/usage/completion_tokens")?;
                let numbers = numbers(listed);
                same("tokens", &(numbers.len() as u64), &(prompt + completion))?;
                same("the first", &numbers.first(), &Some(&None))?;
                let later = numbers.iter().skip(1);
                let are_known = later
                    .clone()
                    .all(|number| number.is_some_and(|it| it <= 0.0));
                that(are_known, || {
                    "expected log-probabilities of all others".into()
                })?;
                let offsets = list(listed, "/text_offset").iter().map(Value::as_u64);
                that(offsets.is_sorted(), || {
                    "expected text_offset to rise".into()
                })
            },
        ),
        several(
            "a prompt has the same log-probabilities as text and as ids",
            |s, answers| match answers {
                [] => Some(s.post("/tokenize", &json!({ "prompt": PROMPT }), &json!({}))),
                [first] => {
                    let ids = good(first).ok()?;
                    let ids = at(&ids, "/tokens").clone();
                    let changes =
                        json!({ "prompt": ids, "echo": true, "logprobs": 1, "max_tokens": 1 });
                    Some(s.completion(&changes))
                }
                [_, _] => {
                    Some(s.completion(&json!({ "echo": true, "logprobs": 1, "max_tokens": 1 })))
                }
                _ => None,
            },
            |_, answers| alike(answers),
        ),
        one(
            "an echo of a prompt of ids is their text",
            |s| {
                s.completion(&json!({ "prompt": [30, 31, 32], "echo": true, "logprobs": 1, "max_tokens": 1 }))
            },
            |_, answer| {
                let body = good(answer)?;
                let (tokens, is_partial) = joined(listed(&body)?);
                let said = text(&body, "/choices/0/text");
                that(is_partial || tokens.starts_with(said), || {
                    format!("tokens are {tokens:?}, the text is {said:?}")
                })
            },
        ),
    ]
}

fn alike(answers: &[Answer]) -> Outcome {
    let bodies = all_good(answers)?;
    let [_, by_ids, by_text] = bodies.as_slice() else {
        return fails("expected three answers");
    };
    let (ids, texts) = (numbers(listed(by_ids)?), numbers(listed(by_text)?));
    same("tokens", &ids.len(), &texts.len())?;
    let are_near = ids.iter().zip(&texts).all(|pair| match pair {
        (Some(one), Some(other)) => is_near(*one, *other, 1e-3),
        (one, other) => one == other,
    });
    that(are_near, || format!("{ids:?} and {texts:?}"))
}
