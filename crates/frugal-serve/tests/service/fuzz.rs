//! Bodies of valid requests, changed at random: what comes back is always an answer that the
//! interface lists, and the server goes on.

use std::time::{Duration, Instant};

use frugal_core::rng::Rng;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::client::{Answer, leaks_nothing, post_text};
use super::house::{House, Setup, question};
use super::model::{Script, message};

/// How long it is tried.
const TIME: Duration = Duration::from_secs(6);
/// Requests at most.
const MOST: usize = 4000;
/// Requests at a time.
const TOGETHER: usize = 8;

/// Requests with many fields.
#[expect(clippy::too_many_lines, reason = "a table: one body a route")]
fn bodies() -> Vec<(&'static str, Value)> {
    let tool = json!({ "type": "function", "function": {
        "name": "f", "description": "d",
        "parameters": { "type": "object", "properties": { "a": { "type": "integer" } } },
    } });
    let call = json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } });
    vec![
        (
            "/v1/chat/completions",
            question(
                "hi",
                json!({
                    "max_tokens": 8, "temperature": 0.5, "top_p": 0.9, "n": 2, "stop": ["x", "y"], "seed": 3,
                    "presence_penalty": 0.1, "frequency_penalty": 0.1, "logit_bias": { "5": 1 }, "user": "u",
                    "logprobs": true, "top_logprobs": 2, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1,
                    "metadata": { "a": "b" }, "stream_options": null, "ignore_eos": false,
                }),
            ),
        ),
        (
            "/v1/chat/completions",
            question(
                "hi",
                json!({
                    "max_tokens": 8, "stream": true, "stream_options": { "include_usage": true },
                    "tools": [tool], "tool_choice": "auto", "parallel_tool_calls": true,
                    "thinking": { "type": "enabled", "budget_tokens": 5 }, "chat_template_kwargs": { "a": 1 },
                }),
            ),
        ),
        (
            "/v1/chat/completions",
            json!({
                "model": "m", "max_completion_tokens": 5, "reasoning_effort": "low", "tools": [tool],
                "messages": [
                    { "role": "system", "content": "s" },
                    { "role": "user", "content": [{ "type": "text", "text": "u" }], "name": "n" },
                    { "role": "assistant", "content": null, "reasoning_content": "t", "tool_calls": [call] },
                    { "role": "tool", "tool_call_id": "c", "content": "r" },
                ],
            }),
        ),
        (
            "/v1/chat/completions",
            question(
                "hi",
                json!({
                    "max_tokens": 5, "response_format": { "type": "json_schema", "json_schema": {
                        "name": "n", "strict": true, "schema": { "type": "object", "properties": { "a": { "type": "string" } } },
                    } },
                    "verify": { "samples": 2, "checker": "majority" },
                }),
            ),
        ),
        (
            "/v1/completions",
            json!({
                "model": "m", "prompt": ["a", "b"], "max_tokens": 3, "echo": true, "logprobs": 2, "n": 1,
                "best_of": 1, "stop": "x", "suffix": null, "guided_regex": "a+",
            }),
        ),
        (
            "/v1/completions",
            json!({ "model": "m", "prompt": [[90, 91], [92]], "max_tokens": 3, "stream": true }),
        ),
        (
            "/v1/responses",
            json!({
                "model": "m", "input": [{ "role": "user", "content": [{ "type": "input_text", "text": "hi" }] }],
                "instructions": "i", "max_output_tokens": 5, "reasoning": { "effort": "low" }, "stream": true,
                "text": { "format": { "type": "text" } }, "metadata": { "a": "b" }, "include": [], "store": false,
            }),
        ),
        (
            "/v1/messages",
            json!({
                "model": "m", "max_tokens": 9, "system": [{ "type": "text", "text": "s" }], "stop_sequences": ["x"],
                "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hi" }] }],
                "thinking": { "type": "enabled", "budget_tokens": 3 }, "metadata": { "user_id": "u" },
                "tools": [{ "name": "f", "input_schema": { "type": "object" } }], "tool_choice": { "type": "auto" },
            }),
        ),
        (
            "/v1/messages/count_tokens",
            json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] }),
        ),
        (
            "/api/chat",
            json!({
                "model": "m", "messages": [{ "role": "user", "content": "hi" }], "think": false, "format": "json",
                "options": { "num_predict": 5, "temperature": 0.1, "stop": ["x"] }, "keep_alive": "5m",
            }),
        ),
        (
            "/api/generate",
            json!({ "model": "m", "prompt": "hi", "system": "s", "raw": false, "options": { "seed": 1, "num_predict": 5 } }),
        ),
        ("/api/show", json!({ "model": "m", "verbose": true })),
        (
            "/tokenize",
            json!({ "model": "m", "prompt": "hi", "add_special_tokens": true, "return_token_strs": true }),
        ),
        (
            "/tokenize",
            json!({ "messages": [{ "role": "user", "content": "hi" }], "tools": [tool] }),
        ),
        ("/detokenize", json!({ "model": "m", "tokens": [90, 91] })),
    ]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number from 0 up to n"
)]
fn below(rng: &mut Rng, n: usize) -> usize {
    ((f64::from(rng.uniform()) * n as f64) as usize).min(n - 1)
}

fn odd(rng: &mut Rng) -> Value {
    let values = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(0.5),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e308),
        json!(-1e-308),
        json!(""),
        json!("x"),
        json!("\u{0}\u{feff}\u{202e}\u{10ffff}\u{301}"),
        json!("<|im_end|>"),
        json!("x".repeat(3000)),
        json!([]),
        json!({}),
        json!([null, null]),
        json!({ "": null }),
        json!({ "type": "function" }),
        json!([[[[1]]]]),
        json!("none"),
        json!("auto"),
        json!("{\"a\":[1,2"),
        json!(3),
        json!([1, "a", {}]),
        json!({ "type": "text", "text": "t" }),
        json!("assistant"),
        json!("\n\n"),
    ];
    values[below(rng, values.len())].clone()
}

/// All places of a value, as paths of JSON pointers.
fn places(value: &Value, path: &str, all: &mut Vec<String>) {
    all.push(path.to_owned());
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{path}/{name}"), all);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{path}/{index}"), all);
            }
        }
        _ => {}
    }
}

fn changed(rng: &mut Rng, body: &Value) -> Value {
    let mut body = body.clone();
    for _ in 0..=below(rng, 3) {
        let mut all = Vec::new();
        places(&body, "", &mut all);
        let place = &all[below(rng, all.len())];
        let value = odd(rng);
        let how = below(rng, 6);
        let Some(found) = body.pointer_mut(place) else {
            continue;
        };
        match (how, found) {
            (0, Value::Object(map)) => {
                map.insert("unheard_of".into(), value);
            }
            (1, Value::Object(map)) => {
                let name = map.keys().next().cloned();
                name.and_then(|name| map.remove(&name));
            }
            (0, Value::Array(items)) => items.push(value),
            (1, Value::Array(items)) => {
                items.pop();
            }
            (2, found) => *found = Value::Array(vec![found.clone()]),
            (3, Value::String(text)) => text.push_str(&value.to_string()),
            (_, found) => *found = value,
        }
    }
    body
}

fn check(request: &str, answer: &Answer) {
    assert!(
        [200, 400, 404].contains(&answer.status),
        "{request}\n{answer:?}"
    );
    if answer.status == 200 {
        for word in ["internal_error", "api_error", "server_error"] {
            assert!(!answer.body.contains(word), "{request}\n{answer:?}");
        }
    } else {
        answer.message();
        // A client's own words may be shown; none here have these signs.
        leaks_nothing(&answer.body.replace("<|im_end|>", ""));
    }
}

#[tokio::test]
async fn changed_bodies_are_answered_as_the_interface_says() {
    let house = House::open(Setup::saying(Script::says("the rain").thinking("spain")))
        .warm()
        .await;
    let bodies = bodies();
    for (path, body) in &bodies {
        let answer = house.post(path, body).await;
        assert_eq!(answer.status, 200, "{path} {body}: {answer:?}");
    }
    let mut rng = Rng::derive(&[2026]);
    let began = Instant::now();
    let mut n = 0;
    while n < MOST && began.elapsed() < TIME {
        let requests: Vec<String> = (0..TOGETHER)
            .map(|_| {
                let (path, body) = &bodies[below(&mut rng, bodies.len())];
                let mut text = changed(&mut rng, body).to_string();
                if below(&mut rng, 8) == 0 {
                    // A character of the text itself.
                    let mut chars: Vec<char> = text.chars().collect();
                    let at = below(&mut rng, chars.len());
                    chars[at] = ['"', '{', '}', ',', '\u{7f}', '9'][below(&mut rng, 6)];
                    text = chars.into_iter().collect();
                }
                post_text(path, &text)
            })
            .collect();
        let answers = join_all(requests.iter().map(|request| house.ask(request))).await;
        for (request, answer) in requests.iter().zip(&answers) {
            check(request, answer);
        }
        n += TOGETHER;
    }
    assert!(n >= 100, "{n}");
    house
        .until(|load| load.answering + load.reading + load.waiting == 0)
        .await;
    let body = house.chat(&question("hi", json!({}))).await.ok();
    assert_eq!(message(&body)["content"], "the rain");
    eprintln!("{n} bodies");
}
