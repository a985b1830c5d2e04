//! Whether and how long a model thinks, on every route.

use frugal_serve::keys::KeyLimits;
use serde_json::{Value, json};

use super::client::{Client, post, with_key};
use super::house::{House, Setup, question};
use super::model::{Script, message};

const ANSWER: &str = "the rain in spain";

fn thought() -> String {
    (0..6)
        .map(|i| format!("name {i} of the rain, "))
        .collect::<Vec<_>>()
        .concat()
}

fn thinker() -> Script {
    Script::says(ANSWER).thinking(&thought())
}

fn long_thought() -> String {
    (0..50)
        .map(|i| format!("name {i} of the rain, "))
        .collect::<Vec<_>>()
        .concat()
}

#[tokio::test]
async fn a_thought_can_be_ended_from_outside_and_the_answer_goes_on() {
    let script = Script::says(ANSWER).thinking(&long_thought());
    let setup = Setup::saying(script.slowly(3))
        .with_key("own", KeyLimits::default())
        .with_key("other", KeyLimits::default());
    let house = House::open(setup).warm().await;
    let mut client = Client::connect(house.address).await;
    let body = question(
        "hi",
        json!({ "stream": true, "stream_options": { "include_usage": true } }),
    );
    let request = post("/v1/chat/completions", &body);
    client
        .send(with_key(&request, &house.keys["own"]).as_bytes())
        .await;
    let mut text = client.until("reasoning_content").await;
    let id = text
        .split("\"id\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let path = format!("/v1/chat/completions/{id}/stop_thinking");
    let nothing = json!({});
    for (key, path) in [
        ("other", path.as_str()),
        ("own", "/v1/chat/completions/chatcmpl-0000/stop_thinking"),
        ("own", "/v1/chat/completions/..%2f..%2fetc/stop_thinking"),
    ] {
        let answer = house.post_as(key, path, &nothing).await;
        assert_eq!(answer.status, 404, "{path}");
        answer.tells_nothing();
    }
    assert_eq!(house.post(&path, &nothing).await.status, 401);
    let stopped = house.post_as("own", &path, &nothing).await.ok();
    assert_eq!(stopped["stopped"], true);
    text += &client.until("[DONE]").await;
    let answer = Answered::of(&text);
    assert_eq!(answer.content, ANSWER);
    assert!(long_thought().starts_with(&answer.thought), "{answer:?}");
    assert!(answer.thought.len() < long_thought().len());
    assert_eq!(answer.closed, "asked");
    assert_eq!(answer.finish, "stop");
    assert_eq!(house.post_as("own", &path, &nothing).await.status, 404);
}

/// What a stream of chat chunks came to.
#[derive(Debug, Default)]
struct Answered {
    thought: String,
    content: String,
    finish: String,
    closed: String,
}

impl Answered {
    fn of(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.lines().filter_map(|line| line.strip_prefix("data: {")) {
            let event: Value = serde_json::from_str(&format!("{{{line}")).unwrap();
            let choice = &event["choices"][0];
            let text = |pointer: &str| choice.pointer(pointer).and_then(Value::as_str);
            all.thought += text("/delta/reasoning_content").unwrap_or_default();
            all.content += text("/delta/content").unwrap_or_default();
            all.finish += text("/finish_reason").unwrap_or_default();
            all.closed += text("/finish_details/thought_closed").unwrap_or_default();
        }
        all
    }
}

/// Thought and answer of a whole body, whatever the dialect.
fn parts(path: &str, body: &Value) -> (String, String) {
    let blocks = |list: &Value, kind: &str, pointer: &str| -> String {
        let found = list.as_array().unwrap().iter();
        let found = found.filter(|block| block["type"] == kind);
        found
            .filter_map(|block| block.pointer(pointer)?.as_str())
            .collect()
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match path {
        "/v1/chat/completions" => {
            let message = message(body);
            (
                text(&message["reasoning_content"]),
                text(&message["content"]),
            )
        }
        "/v1/responses" => (
            blocks(&body["output"], "reasoning", "/content/0/text"),
            blocks(&body["output"], "message", "/content/0/text"),
        ),
        "/v1/messages" => (
            blocks(&body["content"], "thinking", "/thinking"),
            blocks(&body["content"], "text", "/text"),
        ),
        "/api/chat" => (
            text(&body["message"]["thinking"]),
            text(&body["message"]["content"]),
        ),
        _ => (text(&body["thinking"]), text(&body["response"])),
    }
}

fn base(path: &str) -> Value {
    match path {
        "/v1/responses" => json!({ "model": "m", "input": "hi" }),
        "/v1/messages" => question("hi", json!({ "max_tokens": 700 })),
        "/api/chat" => question("hi", json!({ "stream": false })),
        "/api/generate" => json!({ "model": "m", "prompt": "hi", "stream": false }),
        _ => question("hi", json!({})),
    }
}

const ROUTES: [&str; 5] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/api/chat",
    "/api/generate",
];

async fn said(house: &House, path: &str, more: &Value) -> (String, String) {
    let mut body = base(path);
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let answer = house.post(path, &body).await;
    parts(path, &answer.ok())
}

#[tokio::test]
async fn thinking_is_off_where_it_is_switched_off_on_every_route() {
    let house = House::open(Setup::saying(thinker())).warm().await;
    let ways = [
        json!({ "thinking": { "type": "disabled" } }),
        json!({ "thinking_token_budget": 0 }),
        json!({ "chat_template_kwargs": { "enable_thinking": false } }),
        json!({ "reasoning_effort": "none" }),
    ];
    let own = [
        (
            "/v1/responses",
            json!({ "reasoning": { "effort": "none" } }),
        ),
        (
            "/v1/messages",
            json!({ "output_config": { "effort": "none" } }),
        ),
        ("/api/chat", json!({ "think": false })),
        ("/api/generate", json!({ "think": false })),
    ];
    for path in ROUTES {
        let own = own.iter().filter(|(of, _)| *of == path).map(|(_, way)| way);
        for way in ways.iter().chain(own) {
            let (thought, answer) = said(&house, path, way).await;
            assert_eq!(
                (thought.as_str(), answer.as_str()),
                ("", ANSWER),
                "{path} {way}"
            );
        }
        let (usual, answer) = said(&house, path, &json!({})).await;
        assert_eq!(
            (usual.trim(), answer.as_str()),
            (thought().trim(), ANSWER),
            "{path}"
        );
    }
}

#[tokio::test]
async fn thinking_is_on_where_a_model_would_not_think_by_itself() {
    // Its template opens the thought; it has one only then.
    let mut script = thinker();
    script.thinks_when_opened = true;
    let house = House::open(Setup::saying(script)).warm().await;
    let ways = [
        json!({ "thinking": { "type": "enabled" } }),
        json!({ "chat_template_kwargs": { "thinking": true } }),
        json!({ "reasoning_effort": "max" }),
        json!({ "thinking_token_budget": 5000 }),
    ];
    for path in ROUTES {
        assert_eq!(
            said(&house, path, &json!({})).await,
            (String::new(), ANSWER.into())
        );
        for way in &ways {
            let (found, answer) = said(&house, path, way).await;
            assert_eq!(
                (found.trim(), answer.as_str()),
                (thought().trim(), ANSWER),
                "{path} {way}"
            );
        }
    }
}

#[tokio::test]
async fn a_budget_closes_the_thought_and_the_answer_comes() {
    let house = House::open(Setup::saying(thinker())).warm().await;
    for path in ROUTES {
        for budget in [1, 5, 40] {
            let (found, answer) =
                said(&house, path, &json!({ "thinking_token_budget": budget })).await;
            assert_eq!(answer, ANSWER, "{path} {budget}");
            assert!(found.len() < thought().len(), "{path} {budget}: {found}");
        }
    }
    let body = question(
        "hi",
        json!({ "thinking": { "type": "enabled", "budget_tokens": 20 } }),
    );
    let body = house.chat(&body).await.ok();
    let tokens = body["usage"]["completion_tokens_details"]["reasoning_tokens"]
        .as_u64()
        .unwrap();
    assert!((1..=23).contains(&tokens), "{tokens}");
    assert_eq!(
        body["choices"][0]["finish_details"]["thought_closed"],
        "budget"
    );
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_thought_in_circles_is_closed_and_flagged() {
    let script = Script::says(ANSWER).circling("so the name of the rain is 17, wait. ");
    let house = House::open(Setup::saying(script)).warm().await;
    let body = house.chat(&question("hi", json!({}))).await.ok();
    assert_eq!(message(&body)["content"], ANSWER);
    assert_eq!(
        body["choices"][0]["finish_details"]["thought_closed"],
        "circles"
    );
    let metrics = house.get("/metrics").await.body;
    let line = metrics
        .lines()
        .find(|line| line.contains("thoughts_closed_total{"));
    assert!(line.unwrap().contains("circles"), "{line:?}");
}

#[tokio::test]
async fn a_thought_without_an_end_is_told_as_such() {
    let house = House::open(Setup::saying(thinker())).warm().await;
    let body = house
        .chat(&question("hi", json!({ "max_tokens": 10 })))
        .await
        .ok();
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["finish_details"]["ended_in_thought"], true);
    assert_eq!(choice["message"]["content"], "");
    assert_eq!(body["usage"]["completion_tokens"], 10);
    assert_eq!(
        body["usage"]["completion_tokens_details"]["reasoning_tokens"],
        10
    );
}
