//! Fields that change how tokens are drawn and where answers end.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::doctor::case::{Case, asked, one, several};
use crate::doctor::check::{
    Outcome, Why, all_good, at, clipped, content, count, fails, finish, good, has, is_near, list,
    same, text, that,
};

/// A letter or digit of an answer, not its first, that it could be stopped at; any sign where it has
/// neither.
pub(super) fn stop_within(body: &Value) -> Option<String> {
    let mut signs = content(body).chars().skip(2);
    let any = signs.clone().find(|sign| *sign != '\u{fffd}');
    let found = signs.find(char::is_ascii_alphanumeric).or(any);
    found.map(String::from)
}

/// Texts of answers, none of which is empty.
fn contents(answers: &[Answer]) -> Result<Vec<String>, Why> {
    let bodies = all_good(answers)?;
    let texts = bodies.iter().map(|body| match content(body) {
        "" => fails("an answer has no text"),
        text => Ok(text.to_owned()),
    });
    texts.collect()
}

/// Holds all answers to be the same text.
fn all_same(answers: &[Answer]) -> Outcome {
    let texts = contents(answers)?;
    let differs = texts.iter().find(|text| Some(*text) != texts.first());
    that(differs.is_none(), || {
        let first = texts.first().map(|text| clipped(text));
        format!(
            "answers differ: {first:?} and {:?}",
            differs.map(|text| clipped(text))
        )
    })
}

/// Holds some answers to be other texts than others.
fn not_all_same(answers: &[Answer]) -> Outcome {
    let texts = contents(answers)?;
    that(texts.iter().any(|text| Some(text) != texts.first()), || {
        format!(
            "all answers are {:?}",
            texts.first().map(|text| clipped(text))
        )
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = lengths();
    all.extend(draws());
    all.extend(weights());
    all.extend(log_probs());
    all
}

fn lengths() -> Vec<Case> {
    fn ended(body: &Value) -> Outcome {
        same(
            "completion_tokens",
            &count(body, "/usage/completion_tokens")?,
            &5,
        )?;
        same("finish_reason", &finish(body), &"length")
    }
    vec![
        one(
            "max_tokens limits the answer",
            |s| s.chat(&json!({ "max_tokens": 5 })),
            |_, answer| ended(&good(answer)?),
        ),
        one(
            "max_completion_tokens limits it too",
            |s| s.chat(&json!({ "max_tokens": null, "max_completion_tokens": 5 })),
            |_, answer| ended(&good(answer)?),
        ),
        several(
            "a stop text ends the answer and is not in it",
            |s, answers| match answers {
                [] => Some(s.chat(&json!({ "max_tokens": 24 }))),
                [first] => {
                    let stop = stop_within(&good(first).ok()?)?;
                    Some(s.chat(&json!({ "max_tokens": 24, "stop": stop })))
                }
                [first, _] => {
                    let stop = stop_within(&good(first).ok()?)?;
                    Some(s.chat(&json!({ "max_tokens": 24, "stop": ["\u{2603}", stop] })))
                }
                _ => None,
            },
            |_, answers| {
                let bodies = all_good(answers)?;
                let [whole, cut, cut_by_list] = bodies.as_slice() else {
                    return fails("the answer has no sign to stop at");
                };
                let stop = stop_within(whole).unwrap_or_default();
                let before = content(whole).split(&stop).next().unwrap_or_default();
                for body in [cut, cut_by_list] {
                    same("the text before the stop", &content(body), &before)?;
                    same("finish_reason", &finish(body), &"stop")?;
                }
                Ok(())
            },
        ),
        one(
            "n answers are given",
            |s| s.chat(&json!({ "n": 3, "temperature": 1 })),
            |_, answer| {
                let body = good(answer)?;
                let mut indices: Vec<&Value> = (list(&body, "/choices").iter())
                    .map(|choice| at(choice, "/index"))
                    .collect();
                indices.sort_by_key(|index| index.as_u64());
                same("indices", &indices, &vec![&json!(0), &json!(1), &json!(2)])
            },
        ),
    ]
}

fn draws() -> Vec<Case> {
    let seeded = json!({ "temperature": 1.2, "seed": 42 });
    let hot = |seed: u32| json!({ "temperature": 1.8, "seed": seed });
    // However evenly it would draw, one token is left.
    let narrow = |(name, field): (&'static str, &'static str), value: Value| {
        let drawn = |seed: u32| json!({ "temperature": 1.8, field: value, "seed": seed });
        asked(name, [json!({}), drawn(1), drawn(2)], all_same)
    };
    vec![
        asked(
            "temperature 0 gives the same text each time",
            [json!({}), json!({}), json!({ "seed": 9 })],
            all_same,
        ),
        asked(
            "a seed gives the same text each time",
            [seeded.clone(), seeded.clone(), seeded],
            all_same,
        ),
        asked(
            "other seeds give other texts",
            [1, 2, 3, 4].map(hot),
            not_all_same,
        ),
        one(
            "answers to one request are drawn one by one",
            |s| s.chat(&json!({ "n": 4, "temperature": 1.8, "seed": 7 })),
            |_, answer| {
                let body = good(answer)?;
                let said = |choice: &Value| text(choice, "/message/content").to_owned();
                let texts: Vec<String> = list(&body, "/choices").iter().map(said).collect();
                that(texts.iter().any(|text| Some(text) != texts.first()), || {
                    format!("all are {:?}", texts.first().map(|text| clipped(text)))
                })
            },
        ),
        narrow(
            (
                "a top_p of nearly 0 leaves the likeliest token alone",
                "top_p",
            ),
            json!(0.000_01),
        ),
        narrow(("so does a top_k of 1", "top_k"), json!(1)),
        narrow(("so does a min_p of 1", "min_p"), json!(1)),
    ]
}

fn weights() -> Vec<Case> {
    let biased = |question: &str| {
        json!({
            "messages": [{ "role": "user", "content": question }],
            "logit_bias": { "300": 100 }, "temperature": 1, "max_tokens": 4,
        })
    };
    let fined = |penalty: f64| {
        json!({
            "messages": [{ "role": "user", "content": "Say the word dog fifty times." }],
            "frequency_penalty": penalty, "max_tokens": 32,
        })
    };
    vec![
        asked(
            "a bias of 100 gives that token alone",
            ["Name a colour.", "What is a tree?"].map(biased),
            all_same,
        ),
        asked(
            "a frequency_penalty changes what repeats itself",
            [0.0, 2.0].map(fined),
            not_all_same,
        ),
    ]
}

fn log_probs() -> Vec<Case> {
    vec![
        one(
            "log-probabilities have token, logprob, bytes and top_logprobs",
            |s| s.chat(&json!({ "logprobs": true })),
            |_, answer| {
                let body = good(answer)?;
                has(&body, "/choices/0/logprobs", &["content", "refusal"])?;
                let tokens = list(&body, "/choices/0/logprobs/content");
                that(!tokens.is_empty(), || "expected tokens, got none".into())?;
                for token in tokens {
                    has(token, "", &["token", "logprob", "bytes", "top_logprobs"])?;
                    let log_prob = at(token, "/logprob").as_f64().unwrap_or(1.0);
                    that(log_prob <= 0.0, || {
                        format!("logprob: expected at most 0, got {log_prob}")
                    })?;
                    same("top_logprobs", &list(token, "/top_logprobs").len(), &0)?;
                }
                let bytes = tokens.iter().flat_map(|token| list(token, "/bytes"));
                let bytes: Vec<u8> = bytes
                    .filter_map(|byte| u8::try_from(byte.as_u64()?).ok())
                    .collect();
                let text = String::from_utf8_lossy(&bytes);
                let content = content(&body);
                // What is held back at the end, half a character, may be missing.
                that(
                    text.starts_with(content.trim_end_matches('\u{fffd}')),
                    || format!("bytes of tokens are {text:?}, the text is {content:?}"),
                )
            },
        ),
        one(
            "the likeliest tokens are those, likeliest first",
            |s| s.chat(&json!({ "logprobs": true, "top_logprobs": 3 })),
            |_, answer| {
                let body = good(answer)?;
                let tokens = list(&body, "/choices/0/logprobs/content");
                that(!tokens.is_empty(), || "expected tokens, got none".into())?;
                for token in tokens {
                    let top = list(token, "/top_logprobs");
                    same("top_logprobs", &top.len(), &3)?;
                    let log_probs: Vec<f64> = (top.iter())
                        .map(|token| at(token, "/logprob").as_f64().unwrap_or(f64::NAN))
                        .collect();
                    that(log_probs.is_sorted_by(|a, b| a >= b), || {
                        format!("expected them sorted, got {log_probs:?}")
                    })?;
                    // At temperature 0 the likeliest one is taken.
                    let first = log_probs.first().copied().unwrap_or(f64::NAN);
                    let taken = at(token, "/logprob").as_f64().unwrap_or(f64::NAN);
                    that(is_near(first, taken, 1e-4), || {
                        format!("the token taken has {taken}, the likeliest {first}")
                    })?;
                }
                Ok(())
            },
        ),
    ]
}
