//! Models: loaded when asked for, unloaded when memory is wanted, never in the place of another.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use frugal_serve::keys::KeyLimits;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::client::{Answer, Client, SAYS, post, with_key};
use super::house::{House, Setup, question};
use super::model::{HUGE_BYTES, Script, message};

const NAMES: [&str; 3] = ["m", "b", "c"];

fn three() -> Setup {
    let mut setup = Setup::saying(Script::says("I am m"));
    for name in &NAMES[1..] {
        setup = setup.and_saying(name, Script::says(&format!("I am {name}")));
    }
    setup
}

fn to(model: &str) -> Value {
    let mut body = question("who?", json!({}));
    body["model"] = model.into();
    body
}

/// Asks a model; how many have been opened by then.
async fn opened_after(house: &House, model: &str) -> usize {
    let body = house.chat(&to(model)).await.ok();
    assert_eq!(message(&body)["content"], format!("I am {model}"));
    assert_eq!(body["model"], model);
    // What an answer cost is settled after its last byte.
    sleep(Duration::from_millis(20)).await;
    house.opened.load(Ordering::Relaxed)
}

async fn loaded(house: &House) -> Vec<String> {
    let body = house.get("/api/ps").await.ok();
    let models = body["models"].as_array().unwrap().iter();
    models
        .map(|model| model["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn models_leave_by_least_use_within_the_number_that_may_be_loaded() {
    let mut setup = three();
    setup.max_loaded = 2;
    let house = House::open(setup);
    for (model, opened) in [
        ("m", 1),
        ("b", 2),
        ("m", 2),
        ("c", 3),
        ("m", 3),
        ("b", 4),
        ("m", 4),
    ] {
        assert_eq!(opened_after(&house, model).await, opened, "{model}");
    }
    assert_eq!(loaded(&house).await, ["b", "m"]);
}

#[tokio::test]
async fn models_leave_when_their_memory_is_wanted() {
    let mut setup = three();
    // One with its cache, and less than another's weights.
    setup.memory_bytes = 1000 + 2048 * 10 + 500;
    let house = House::open(setup);
    for (model, opened) in [("m", 1), ("m", 1), ("b", 2), ("m", 3), ("c", 4)] {
        assert_eq!(opened_after(&house, model).await, opened, "{model}");
        assert_eq!(loaded(&house).await, [model]);
    }
}

#[tokio::test]
async fn nobody_leaves_for_a_model_that_does_not_fit() {
    let mut setup = three().and_saying("huge", Script::says("never"));
    setup.memory_bytes = HUGE_BYTES;
    let house = House::open(setup);
    assert_eq!(opened_after(&house, "m").await, 1);
    let answer = house.chat(&to("huge")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.code(), "model_cannot_be_loaded");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(loaded(&house).await, ["m"]);
}

#[tokio::test]
async fn what_models_that_left_have_cost_is_not_forgotten() {
    let mut setup = three();
    setup.max_loaded = 1;
    let house = House::open(setup);
    let mut flops = 0.0;
    for model in ["m", "b", "c", "m"] {
        let body = house.chat(&to(model)).await.ok();
        flops += body["usage"]["cost"]["flops"].as_f64().unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    let spent = house.service.parts.shelf.spent().flops;
    assert!((spent - flops).abs() < 1e-6 * flops, "{spent} {flops}");
}

#[tokio::test]
async fn a_model_in_use_is_not_unloaded() {
    let mut setup = Setup::saying(Script::says(&"the rain ".repeat(20)).slowly(3))
        .and_saying("b", Script::says("I am b"));
    setup.max_loaded = 1;
    let house = House::open(setup).warm().await;
    let mut client = Client::connect(house.address).await;
    let body = question("hi", json!({ "stream": true }));
    client
        .send(post("/v1/chat/completions", &body).as_bytes())
        .await;
    client.until(SAYS).await;
    let answer = house.chat(&to("b")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.code(), "unavailable");
    let unload = json!({ "model": "m", "messages": [], "keep_alive": 0 });
    house.post("/api/chat", &unload).await.ok();
    assert_eq!(loaded(&house).await, ["m"]);
    client.until("[DONE]").await;
    house.until(|load| load.answering == 0).await;
    sleep(Duration::from_millis(20)).await;
    house.chat(&to("b")).await.ok();
    assert_eq!(loaded(&house).await, ["b"]);
    let unload = json!({ "model": "b", "messages": [], "keep_alive": 0 });
    sleep(Duration::from_millis(20)).await;
    house.post("/api/chat", &unload).await.ok();
    assert!(loaded(&house).await.is_empty());
}

#[tokio::test]
async fn no_model_is_loaded_to_be_unloaded() {
    let house = House::open(three());
    let unload = |model: &str| json!({ "model": model, "keep_alive": 0 });
    let body = house.post("/api/generate", &unload("b")).await.ok();
    assert_eq!(body["done_reason"], "unload");
    assert_eq!(house.opened.load(Ordering::Relaxed), 0);
    let answer = house.post("/api/generate", &unload("none")).await;
    assert_eq!(answer.status, 404, "{answer:?}");
}

#[tokio::test]
async fn what_loads_a_model_is_a_request_of_a_key() {
    let limits = KeyLimits {
        requests_per_minute: Some(1),
        ..KeyLimits::default()
    };
    let house = House::open(three().with_key("ann", limits));
    let load = json!({ "model": "b" });
    house.post_as("ann", "/api/generate", &load).await.ok();
    let load = post("/api/generate", &load);
    for request in [load, super::client::get("/tokenizer_info?model=c")] {
        let answer = house.ask(&with_key(&request, &house.keys["ann"])).await;
        assert_eq!(answer.status, 429, "{answer:?}");
    }
    assert_eq!(house.opened.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_model_is_loaded_once_however_many_ask() {
    let mut setup = three();
    setup.load_time = Duration::from_millis(50);
    let house = House::open(setup);
    let body = to("b");
    for answer in join_all((0..8).map(|_| house.chat(&body))).await {
        assert_eq!(message(&answer.ok())["content"], "I am b");
    }
    assert_eq!(house.opened.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn clients_that_ask_and_leave_do_not_load_a_model_twice() {
    let mut setup = three();
    setup.load_time = Duration::from_millis(150);
    let house = House::open(setup);
    for _ in 0..5 {
        let mut client = Client::connect(house.address).await;
        client
            .send(post("/v1/chat/completions", &to("b")).as_bytes())
            .await;
        sleep(Duration::from_millis(10)).await;
    }
    house.chat(&to("b")).await.ok();
    assert_eq!(house.opened.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_503_and_why_is_not_told() {
    let setup = three().and_saying("broken", Script::says("never"));
    let house = House::open(setup);
    let answer = house.chat(&to("broken")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.code(), "model_cannot_be_loaded");
    answer.tells_nothing();
    assert!(!answer.body.contains("secret"));
    house.chat(&to("m")).await.ok();
}

#[tokio::test]
async fn names_are_names_and_nothing_else_is_answered() {
    let mut setup = three();
    setup.aliases = BTreeMap::from([("gpt".into(), "b".into())]);
    let house = House::open(setup);
    let answer = house.chat(&to("none")).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (404, "model_not_found")
    );
    let body = house.chat(&to("gpt")).await.ok();
    assert_eq!(message(&body)["content"], "I am b");
    assert_eq!(house.chat(&to("")).await.param(), "model");
    assert_eq!(house.chat(&to("M")).await.status, 404);
}

#[tokio::test]
async fn keys_see_and_use_the_models_that_they_name() {
    let setup = three()
        .with_key_for("narrow", &["b"])
        .with_key("wide", KeyLimits::default());
    let house = House::open(setup);
    let ask = async |key: &str, request: &str| -> Answer {
        house.ask(&with_key(request, &house.keys[key])).await
    };
    let chat = |model: &str| post("/v1/chat/completions", &to(model));
    let answer = ask("narrow", &chat("m")).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "model_not_allowed")
    );
    // What it may not use it cannot tell from what is not there.
    assert_eq!(ask("narrow", &chat("none")).await.status, 403);
    ask("narrow", &chat("b")).await.ok();
    ask("wide", &chat("m")).await.ok();
    let names = |answer: Answer| {
        let body = answer.ok();
        let data = body["data"].as_array().unwrap().iter();
        data.map(|one| one["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let list = super::client::get("/v1/models");
    assert_eq!(names(ask("narrow", &list).await), ["b"]);
    assert_eq!(names(ask("wide", &list).await), ["b", "c", "m"]);
    for request in [
        super::client::get("/v1/models/m"),
        post("/api/show", &json!({ "model": "m" })),
    ] {
        assert_eq!(ask("narrow", &request).await.status, 404);
    }
    for (path, body) in [
        ("/tokenize", json!({ "model": "m", "prompt": "hi" })),
        ("/detokenize", json!({ "model": "m", "tokens": [90] })),
        ("/tokenize", json!({ "prompt": "hi" })),
        ("/v1/messages/count_tokens", to("m")),
        ("/api/chat", json!({ "model": "m", "messages": [] })),
        (
            "/api/chat",
            json!({ "model": "m", "messages": [], "keep_alive": 0 }),
        ),
    ] {
        assert_eq!(
            ask("narrow", &post(path, &body)).await.status,
            403,
            "{path}"
        );
    }
    assert_eq!(
        ask("narrow", &super::client::get("/tokenizer_info"))
            .await
            .status,
        403
    );
    let running = ask("narrow", &super::client::get("/api/ps")).await.ok();
    assert_eq!(running["models"].as_array().unwrap().len(), 1);
}

/// As models are looked at the first time, which reads their files.
#[tokio::test]
async fn nobody_waits_while_models_are_looked_at() {
    let mut setup = Setup::saying(Script::says("hi"));
    setup.list_time = Duration::from_secs(3);
    let house = House::open(setup);
    let question = question("hi", json!({}));
    let lists = async {
        let (listed, answer, tags) = tokio::join!(
            house.get("/v1/models"),
            house.chat(&question),
            house.get("/web/models"),
        );
        for answer in [listed, answer, tags] {
            answer.ok();
        }
    };
    let lives = async {
        // Whoever holds the threads up does so from the first moment on, which is to count.
        let began = Instant::now();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(house.get("/livez").await.status, 200);
        assert!(began.elapsed() < Duration::from_secs(2));
    };
    tokio::join!(lists, lives);
}
