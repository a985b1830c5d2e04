//! Tokenizer routes, in vLLM's shapes.

use serde_json::{Value, json};

use crate::client::Call;
use crate::doctor::case::{Case, one, several};
use crate::doctor::check::{
    Why, all_good, at, count, fails, good, has, is_error, list, same, text, that,
};

const TEXT: &str = "Straße 12, “naïve” – 漢字 🙂\n\tend";

pub(super) fn cases() -> Vec<Case> {
    vec![
        one(
            "/tokenize gives tokens, count and max_model_len",
            |s| s.post("/tokenize", &json!({ "prompt": TEXT }), &json!({})),
            |_, answer| {
                let body = good(answer)?;
                has(&body, "", &["tokens", "count", "max_model_len"])?;
                same(
                    "count",
                    &count(&body, "/count")?,
                    &(list(&body, "/tokens").len() as u64),
                )
            },
        ),
        several(
            "/detokenize gives the text again",
            |s, answers| match answers {
                [] => {
                    let body = json!({ "prompt": TEXT, "add_special_tokens": false });
                    Some(s.post("/tokenize", &body, &json!({})))
                }
                [first] => {
                    let ids = good(first).ok()?;
                    let body = json!({ "tokens": at(&ids, "/tokens") });
                    Some(s.post("/detokenize", &body, &json!({})))
                }
                _ => None,
            },
            |_, answers| {
                let bodies = all_good(answers)?;
                let said = bodies.last().map_or("", |body| text(body, "/prompt"));
                same("the text", &said, &TEXT)
            },
        ),
        several(
            "a conversation has as many tokens as its answer counts",
            |s, answers| {
                let question = s.question(&json!({ "max_tokens": 1 }));
                match answers.len() {
                    0 => {
                        let mut body = question;
                        if let Some(body) = body.as_object_mut() {
                            body.retain(|name, _| !matches!(&**name, "max_tokens" | "temperature"));
                        }
                        Some(Call::post("/tokenize", &body))
                    }
                    1 => Some(s.chat(&json!({ "max_tokens": 1 }))),
                    _ => None,
                }
            },
            |_, answers| {
                let bodies = all_good(answers)?;
                let [counted, used] = bodies.as_slice() else {
                    return fails("expected two answers");
                };
                same(
                    "tokens",
                    &count(counted, "/count")?,
                    &count(used, "/usage/prompt_tokens")?,
                )
            },
        ),
        one(
            "/tokenizer_info tells the template and the marks of ends",
            |_| Call::get("/tokenizer_info"),
            |_, answer| {
                let body = good(answer)?;
                has(
                    &body,
                    "",
                    &["tokenizer_class", "chat_template", "eos_token"],
                )?;
                let eos = at(&body, "/eos_token");
                that(matches!(eos, Value::Null | Value::String(_)), || {
                    format!("eos_token: expected its text, got {eos}")
                })
            },
        ),
        one(
            "ids that there are not are refused",
            |s| {
                s.post(
                    "/detokenize",
                    &json!({ "tokens": [4_000_000_000_u32] }),
                    &json!({}),
                )
            },
            |_, answer| match answer.status {
                404 | 501 => Err(Why::NotOffered),
                _ => is_error(answer, 400, ""),
            },
        ),
    ]
}
