//! What clients may make the server do: numbers, lengths, depth, forms, and what is done for those who left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::timeout;

use super::super::client::{post, post_text};
use super::super::house::{House, Setup, question};
use super::super::model::{Kind, Script};
use super::{SOON, in_time, short};

/// Row 4: a negative number reached an index. Every numeric field of every route, beyond both ends.
#[expect(clippy::too_many_lines, reason = "a table of what is tried")]
#[tokio::test]
async fn numbers_out_of_range_are_refused_by_name() {
    let house = short().await;
    let chat = [
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "n",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "top_logprobs",
        "seed",
        "thinking_token_budget",
    ];
    let text = [
        "max_tokens",
        "temperature",
        "top_p",
        "n",
        "best_of",
        "logprobs",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "seed",
    ];
    let messages = ["max_tokens", "temperature", "top_p", "top_k"];
    let responses = ["max_output_tokens", "temperature", "top_p", "top_logprobs"];
    let options = [
        "num_predict",
        "num_ctx",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "repeat_penalty",
        "repeat_last_n",
        "num_keep",
        "num_batch",
        "num_gpu",
        "num_thread",
    ];
    let talk = || question("hi", json!({ "max_tokens": 4 }));
    let routes: [(&str, Value, &[&str]); 5] = [
        ("/v1/chat/completions", talk(), &chat),
        (
            "/v1/completions",
            json!({ "model": "m", "prompt": "hi", "max_tokens": 2 }),
            &text,
        ),
        ("/v1/messages", talk(), &messages),
        (
            "/v1/responses",
            json!({ "model": "m", "input": "hi" }),
            &responses,
        ),
        (
            "/api/generate",
            json!({ "model": "m", "prompt": "hi", "stream": false }),
            &options,
        ),
    ];
    let values = [
        "-1",
        "-9223372036854775808",
        "18446744073709551615",
        "1e308",
        "-1e308",
        "1e999",
        "0.5",
        "\"1\"",
        "[]",
        "{}",
        "true",
        "-0.0",
        "99999999999999999999999999",
    ];
    for (path, body, fields) in &routes {
        for field in *fields {
            for value in values {
                let mut body = body.clone();
                if *path == "/api/generate" {
                    body["options"] = json!({ *field: "VALUE" });
                } else {
                    body[*field] = "VALUE".into();
                }
                let request = post_text(path, &body.to_string().replace("\"VALUE\"", value));
                let answer = house.ask(&request).await;
                let what = format!("{path} {field} {value}");
                match answer.status {
                    200 => {}
                    400 => {
                        let message = answer.tells_nothing();
                        let is_number = !message.contains("no JSON");
                        let of_context = message.contains("room for");
                        assert!(
                            message.contains(field) || of_context || !is_number,
                            "{what}: {message}"
                        );
                    }
                    other => panic!("{what}: {other}"),
                }
                let never = ["\"1\"", "[]", "{}", "true", "1e999"];
                assert!(
                    !never.contains(&value) || answer.status == 400,
                    "{what}: {answer:?}"
                );
            }
        }
    }
}

/// Row 20 and the second lesson of all rows: work without bounds.
#[expect(clippy::too_many_lines, reason = "a table of what is tried")]
#[tokio::test]
async fn too_many_of_anything_is_refused_before_it_costs() {
    let house = short().await;
    let chat = "/v1/chat/completions";
    let many = |n: usize, one: Value| Value::from(vec![one; n]);
    let user = json!({ "role": "user", "content": "x" });
    let tool = |i: usize| json!({ "type": "function", "function": { "name": format!("f{i}") } });
    let bias: Value = (0..1025)
        .map(|i| (i.to_string(), json!(1)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let kwargs: Value = (0..65)
        .map(|i| (format!("v{i}"), json!(1)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let part = json!({ "type": "text", "text": "x" });
    let rows: [(&str, Value, &str); 16] = [
        (chat, question("x", json!({ "n": 129 })), "n"),
        (chat, question("x", json!({ "n": 33 })), "n"),
        (
            chat,
            question(
                "x",
                json!({ "verify": { "samples": 65, "checker": "majority" } }),
            ),
            "verify.samples",
        ),
        (
            chat,
            question(
                "x",
                json!({ "verify": { "samples": 33, "checker": "majority" } }),
            ),
            "verify.samples",
        ),
        (
            chat,
            json!({ "model": "m", "messages": many(4097, user.clone()) }),
            "messages",
        ),
        (
            chat,
            json!({ "model": "m", "messages": many(4000, user) }),
            "messages",
        ),
        (
            chat,
            question(
                "x",
                json!({ "tools": (0..129).map(tool).collect::<Vec<_>>() }),
            ),
            "tools",
        ),
        (
            chat,
            question("x", json!({ "stop": many(17, json!("x")) })),
            "stop",
        ),
        (
            chat,
            question("x", json!({ "stop": "x".repeat(257) })),
            "stop",
        ),
        (
            chat,
            question("x", json!({ "stop_token_ids": many(17, json!(1)) })),
            "stop_token_ids",
        ),
        (
            chat,
            question("x", json!({ "logit_bias": bias })),
            "logit_bias",
        ),
        (
            chat,
            question("x", json!({ "logprobs": true, "top_logprobs": 21 })),
            "top_logprobs",
        ),
        (
            chat,
            question("x", json!({ "chat_template_kwargs": kwargs })),
            "chat_template_kwargs",
        ),
        (
            "/v1/completions",
            json!({ "model": "m", "prompt": many(65, json!("x")) }),
            "prompt",
        ),
        (
            "/v1/completions",
            json!({ "model": "m", "prompt": many(64, json!("x")), "n": 3 }),
            "n",
        ),
        (
            "/v1/completions",
            json!({ "model": "m", "prompt": "x", "best_of": 128, "n": 1 }),
            "best_of",
        ),
    ];
    for (path, body, param) in &rows {
        let answer = house.post(path, body).await;
        assert_eq!(answer.param(), *param, "{}", answer.body);
    }
    let parts =
        json!({ "model": "m", "messages": [{ "role": "user", "content": many(20_000, part) }] });
    assert_eq!(house.chat(&parts).await.code(), "context_length_exceeded");
    assert_eq!(house.load().await.spent.prompt_rows, 0);
}

/// Rows 6 and 15: depth, in bodies and in schemas.
#[tokio::test]
async fn deep_bodies_and_large_ones_are_refused_without_being_built() {
    let house = short().await;
    let chat = "/v1/chat/completions";
    let deep = |open: &str, n: usize| format!("{{\"model\":\"m\",\"x\":{}", open.repeat(n));
    let many = format!("{{\"model\":\"m\",\"x\":[{}0]}}", "0,".repeat(2 << 20));
    let objects = format!("{{\"model\":\"m\",\"x\":[{}0]}}", "{},[],".repeat(700_000));
    for (what, body) in [
        ("lists", deep("[", 100_000)),
        ("objects", deep("{\"a\":", 100_000)),
        ("both", deep("[{\"a\":", 100_000)),
        ("values", many),
        ("small objects", objects),
        (
            "a long number",
            format!("{{\"model\":\"m\",\"n\":{}}}", "9".repeat(1 << 20)),
        ),
        (
            "a long text",
            format!("{{\"model\":\"{}\"}}", "m".repeat(1 << 20)),
        ),
        ("a long name", format!("{{\"{}\":1}}", "m".repeat(1 << 20))),
        (
            "escapes",
            format!(
                "{{\"model\":\"m\",\"x\":\"{}\"}}",
                "\\u0000".repeat(100_000)
            ),
        ),
    ] {
        let began = Instant::now();
        let answer = in_time(&house, what, &post_text(chat, &body)).await;
        assert_eq!(answer.status, 400, "{what}");
        assert!(answer.body.len() < 500, "{what}: {}", answer.body);
        assert!(began.elapsed() < SOON, "{what}");
    }
}

/// Rows 6, 17 and 18: what is compiled for a client.
#[tokio::test]
async fn hostile_forms_end_in_time() {
    let house = House::open(Setup::babbling(Kind::Qwen2)).warm().await;
    house
        .chat(&question(
            "hi",
            json!({ "guided_regex": "a", "max_tokens": 2 }),
        ))
        .await;
    let deep = (0..28).fold(
        json!({ "type": "null" }),
        |inner, _| json!({ "items": inner }),
    );
    let wide: Value = (0..2000)
        .map(|i| (format!("p{i}"), json!({ "type": "string" })))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let cross = json!({ "$defs": { "a": { "anyOf": [{ "$ref": "#/$defs/b" }, { "$ref": "#/$defs/a" }] },
        "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" });
    let forms = [
        (
            "guided_regex",
            json!("(((a{1,1000}){1,1000}){1,1000}){1,1000}"),
        ),
        ("guided_regex", json!("(a*)*(a*)*(a*)*b")),
        ("guided_regex", json!("(?=a)b\\1")),
        ("guided_regex", json!("(".repeat(5000))),
        ("guided_regex", json!("[^\u{0}-\u{10FFFF}]{99999}")),
        ("guided_grammar", json!("start: start start | \"a\"")),
        ("guided_grammar", json!("start: a\na: b\nb: a")),
        (
            "guided_grammar",
            json!("%import python.*\nstart: <[1]> /x/"),
        ),
        (
            "guided_grammar",
            json!(format!(
                "start: {}\"a\"{}",
                "(".repeat(3000),
                ")*".repeat(3000)
            )),
        ),
        ("guided_json", cross),
        ("guided_json", deep),
        (
            "guided_json",
            json!({ "type": "object", "properties": wide }),
        ),
        (
            "guided_json",
            json!({ "type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$" }),
        ),
        (
            "guided_json",
            json!({ "type": "string", "maxLength": 1_000_000_000 }),
        ),
        (
            "guided_json",
            json!({ "type": "array", "minItems": 1_000_000_000 }),
        ),
        (
            "guided_json",
            json!({ "type": "integer", "minimum": -1e300, "multipleOf": 1e-300 }),
        ),
        (
            "guided_json",
            json!({ "$ref": "http://127.0.0.1:1/schema" }),
        ),
        (
            "guided_json",
            json!({ "type": { "a": [] }, "enum": 5, "required": "x", "properties": [] }),
        ),
        ("guided_choice", Value::from(vec!["aaaaaaaaaaaaaaab"; 3000])),
    ];
    for (name, form) in forms {
        let body = question(
            "hi",
            json!({
                (name): form, "max_tokens": 4, "thinking": { "type": "disabled" },
            }),
        );
        let shown: String = body[name].to_string().chars().take(60).collect();
        let answer = in_time(&house, &shown, &post("/v1/chat/completions", &body)).await;
        if answer.status == 400 {
            assert!(
                ["invalid_schema", ""].contains(&answer.code().as_str()),
                "{answer:?}"
            );
        }
    }
    house.until(|load| load.answering + load.reading == 0).await;
}

/// What is done for a client is bounded also where the client does not wait for it.
#[tokio::test]
async fn work_of_clients_that_left_keeps_its_place() {
    let house = short().await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..12 {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        let work = move || {
            most.fetch_max(now.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
            std::thread::sleep(Duration::from_millis(40));
            now.fetch_sub(1, Ordering::AcqRel);
            Ok(())
        };
        let _ = timeout(Duration::from_millis(5), house.service.on_text(work)).await;
    }
    house.service.on_text(|| Ok(())).await.unwrap();
    assert!(most.load(Ordering::Acquire) <= 2, "{most:?}");
}

/// Row 16: a malformed schema of a tool.
#[tokio::test]
async fn malformed_tools_are_refused_or_do_no_harm() {
    let house = House::open(Setup::babbling(Kind::Qwen2)).warm().await;
    let parameters = [
        json!({ "type": "object", "properties": { "a": { "type": "nonsense" } } }),
        json!({ "type": 5 }),
        json!({ "properties": [1, 2] }),
        json!({ "type": "object", "required": [1] }),
        json!({ "type": "string", "pattern": "(" }),
        json!({ "$ref": "#/nowhere" }),
        json!({ "allOf": [{ "type": "string" }, { "type": "integer" }] }),
        json!({ "enum": [] }),
        json!({ "type": "object", "additionalProperties": "x" }),
        json!({}),
    ];
    for parameters in parameters {
        for choice in ["auto", "required"] {
            let tool = json!({ "type": "function", "function": { "name": "f", "parameters": parameters } });
            let body = question(
                "hi",
                json!({ "tools": [tool], "tool_choice": choice, "max_tokens": 4 }),
            );
            in_time(
                &house,
                &parameters.to_string(),
                &post("/v1/chat/completions", &body),
            )
            .await;
        }
    }
    assert_eq!(house.opened.load(Ordering::Relaxed), 1);
}

/// Row 18: what a model writes is read in linear time, whatever it is.
#[tokio::test]
async fn hostile_calls_of_a_model_are_read_in_time() {
    for answer in [
        "<tool_call>".repeat(150),
        format!("<tool_call>\n{}", "{\"name\": ".repeat(60)),
        format!(
            "<tool_call>{{\"name\": \"f\", \"arguments\": {}",
            "[".repeat(400)
        ),
        format!("<tool_call>{}", "\\\"".repeat(200)),
        "</tool_call>".repeat(100),
    ] {
        let house = House::open(Setup::saying(Script::says(&answer)))
            .warm()
            .await;
        let tool = json!({ "type": "function", "function": { "name": "f" } });
        // Nothing is held to a form: the model says what it says.
        let more = json!({ "messages": [
            { "role": "user", "content": "hi" },
        ], "tools": [tool], "max_tokens": 600 });
        let body = question("hi", more);
        in_time(&house, &answer[..20], &post("/v1/chat/completions", &body)).await;
    }
}
