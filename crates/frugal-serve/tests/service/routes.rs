//! Every route answers, in its dialect.

use serde_json::{Value, json};

use super::client::{get, post};
use super::house::{House, Setup, question};
use super::model::Script;

#[tokio::test]
async fn every_route_answers() {
    let script = Script::says("rain in spain");
    let house = House::open(Setup::saying(script)).warm().await;
    let chat = question("hi", json!({}));
    let text = json!({ "model": "m", "prompt": "the rain", "max_tokens": 3 });
    let turn = json!({ "model": "m", "max_tokens": 50, "messages": [{ "role": "user", "content": "hi" }] });
    let count = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    let input = json!({ "model": "m", "input": "hi" });
    let whole = json!({ "model": "m", "prompt": "hi", "stream": false });
    let talk =
        json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "stream": false });
    let posts: [(&str, &Value, &str); 19] = [
        ("/v1/chat/completions", &chat, "/choices/0/message/content"),
        ("/chat/completions", &chat, "/choices/0/message/content"),
        (
            "/beta/chat/completions",
            &chat,
            "/choices/0/message/content",
        ),
        (
            "/beta/v1/chat/completions",
            &chat,
            "/choices/0/message/content",
        ),
        ("/v1/completions", &text, "/choices/0/text"),
        ("/completions", &text, "/choices/0/text"),
        ("/beta/completions", &text, "/choices/0/text"),
        ("/v1/responses", &input, "/output/0/content/0/text"),
        ("/responses", &input, "/output/0/content/0/text"),
        ("/v1/messages", &turn, "/content/0/text"),
        ("/anthropic/v1/messages", &turn, "/content/0/text"),
        ("/v1/messages/count_tokens", &count, "/input_tokens"),
        (
            "/anthropic/v1/messages/count_tokens",
            &count,
            "/input_tokens",
        ),
        ("/api/chat", &talk, "/message/content"),
        ("/api/generate", &whole, "/response"),
        ("/api/show", &json!({ "model": "m" }), "/details"),
        ("/tokenize", &json!({ "prompt": "the rain" }), "/tokens/0"),
        ("/detokenize", &json!({ "tokens": [90] }), "/prompt"),
        ("/v1/chat/completions/none/stop_thinking", &json!({}), ""),
    ];
    for (path, body, pointer) in posts {
        let answer = house.ask(&post(path, body)).await;
        if pointer.is_empty() {
            assert_eq!(answer.status, 404);
            assert_eq!(answer.code(), "route_not_found");
            continue;
        }
        let body = answer.ok();
        let found = body.pointer(pointer);
        assert!(
            found.is_some_and(|found| !found.is_null()),
            "{path}: {body}"
        );
        if pointer.ends_with("content") || pointer.ends_with("output/0/content/0/text") {
            assert_eq!(found, Some(&json!("rain in spain")), "{path}");
        }
    }
    let gets = [
        ("/v1/models", "/data/0/id"),
        ("/models", "/data/0/id"),
        ("/beta/models", "/data/0/id"),
        ("/v1/models/m", "/id"),
        ("/tokenizer_info", "/tokenizer_class"),
        ("/tokenizer_info?model=m", "/tokenizer_class"),
        ("/api/tags", "/models/0/name"),
        ("/api/ps", "/models/0/name"),
        ("/api/version", "/version"),
        ("/openapi.json", "/openapi"),
        ("/livez", "/status"),
        ("/readyz", "/status"),
        ("/health", "/status"),
    ];
    for (path, pointer) in gets {
        let body = house.ask(&get(path)).await.ok();
        assert!(body.pointer(pointer).is_some(), "{path}: {body}");
    }
    // What there is no room for can be counted, and not answered.
    let large = question(&"rain ".repeat(2000), json!({ "max_tokens": 1 }));
    let count = json!({ "model": "m", "messages": large["messages"] });
    let counted = house.post("/v1/messages/count_tokens", &count).await;
    assert!(counted.ok()["input_tokens"].as_u64().unwrap() > 2000);
    assert_eq!(house.chat(&large).await.code(), "context_length_exceeded");
    let metrics = house.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("frugal_"), "{}", metrics.body);
}

#[tokio::test]
async fn what_no_route_answers_has_an_envelope() {
    let house = House::open(Setup::saying(Script::says("x"))).warm().await;
    for (request, status, code) in [
        (get("/v1/nothing"), 404, "route_not_found"),
        (get("/v1/chat/completions"), 405, "method_not_allowed"),
        (post("/v1/models", &json!({})), 405, "method_not_allowed"),
        (get("/v1/models/none"), 404, "model_not_found"),
        (get("/tokenizer_info?model=none"), 404, "model_not_found"),
        (get("/tokenizer_info?model=m&model=m"), 400, ""),
        (get("/tokenizer_info?model=%ff"), 404, "model_not_found"),
    ] {
        let answer = house.ask(&request).await;
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        let found = answer.json()["error"]["code"].clone();
        if answer.status != 400 {
            assert_eq!(found, code, "{request}");
        }
        answer.message();
    }
}
