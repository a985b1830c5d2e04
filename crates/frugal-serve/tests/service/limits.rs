//! Too much at a time, and more than a key may.

use std::time::Duration;

use frugal_serve::answer::{Ask, Prompt};
use frugal_serve::keys::{Holder, KeyLimits};
use frugal_serve::service::Caller;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::client::{Client, PATIENCE, SAYS, post, with_key};
use super::house::{House, Setup, question};
use super::model::{POISON, Script, message};

/// Each dialect's question.
fn dialects() -> [(&'static str, Value); 6] {
    let text = json!({ "model": "m", "prompt": "hi", "max_tokens": 3 });
    let talk = question("hi", json!({ "max_tokens": 3 }));
    let plain = question("hi", json!({}));
    [
        ("/v1/chat/completions", talk.clone()),
        ("/v1/completions", text),
        ("/v1/responses", json!({ "model": "m", "input": "hi" })),
        ("/v1/messages", talk),
        ("/api/chat", plain),
        ("/api/generate", json!({ "model": "m", "prompt": "hi" })),
    ]
}

#[tokio::test]
async fn a_full_queue_is_429_in_every_dialect() {
    let mut setup = Setup::saying(Script::says(&"the rain ".repeat(12)).slowly(5));
    setup.engine.max_sequences = 1;
    setup.engine.max_waiting = 2;
    let house = House::open(setup).warm().await;
    let body = question("hi", json!({}));
    let later = async {
        house.until(|load| load.answering == 1).await;
        join_all((0..2).map(|_| house.chat(&body))).await
    };
    let refused = async {
        house
            .until(|load| load.answering == 1 && load.waiting == 2)
            .await;
        for (path, body) in dialects() {
            let answer = house.post(path, &body).await;
            assert_eq!(answer.status, 429, "{path}: {answer:?}");
            assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
            assert_eq!(answer.header("x-should-retry"), Some("true"), "{path}");
            answer.tells_nothing();
            let error = &answer.json()["error"];
            match path {
                "/v1/messages" => assert_eq!(error["type"], "overloaded_error"),
                "/api/chat" | "/api/generate" => assert!(error.is_string()),
                _ => assert_eq!(error["code"], "server_busy"),
            }
        }
    };
    let (first, later, ()) = tokio::join!(house.chat(&body), later, refused);
    for answer in later.iter().chain([&first]) {
        assert_eq!(message(&answer.ok())["content"], "the rain ".repeat(12));
    }
    let metrics = house.get("/metrics").await.body;
    assert!(metrics.contains("server_busy"), "{metrics}");
}

#[tokio::test]
async fn what_is_refused_is_not_counted_as_given_up() {
    let house = House::open(Setup::saying(Script::says("the rain")));
    let body = question("hi", json!({ "logit_bias": { "9999999": 1 } }));
    assert_eq!(house.chat(&body).await.param(), "logit_bias");
    let metrics = house.get("/metrics").await.body;
    assert!(!metrics.contains("\"abort\""), "{metrics}");
}

#[tokio::test]
async fn who_does_not_read_keeps_an_answer_no_longer_than_it_may_take() {
    let mut setup = Setup::saying(Script::says(&"the rain in spain ".repeat(30)));
    setup.request_time = Duration::from_millis(400);
    let house = House::open(setup).warm().await;
    let parts = &house.service.parts;
    let now = parts.clock.now();
    let caller = Caller {
        route: "/v1/chat/completions",
        prefix: "chatcmpl-",
        pass: parts.quotas.enter(&Holder::anyone(), now).unwrap(),
    };
    let prompt = Prompt::Chat {
        messages: vec![json!({ "role": "user", "content": "hi" })],
        variables: serde_json::Map::new(),
        continues_last: false,
        opens_turn: true,
    };
    let ask = Ask::of("m".into(), prompt);
    let unread = house.service.answer(ask, caller).await.unwrap();
    let ended = async {
        while house.service.n_under_way() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
    drop(unread);
}

#[tokio::test]
async fn who_waits_too_long_is_told_to_come_again() {
    let mut setup = Setup::saying(Script::says(&"the rain ".repeat(12)).slowly(5));
    setup.engine.max_sequences = 1;
    setup.queue_time = Duration::from_millis(30);
    let house = House::open(setup).warm().await;
    let body = question("hi", json!({}));
    let waits = async {
        house.until(|load| load.answering == 1).await;
        house.chat(&body).await
    };
    let (first, second) = tokio::join!(house.chat(&body), waits);
    first.ok();
    assert_eq!(second.status, 503, "{second:?}");
    assert!(second.header("retry-after").is_some());
    assert!(second.tells_nothing().contains("too busy"));
    house.until(|load| load.waiting == 0).await;
}

#[tokio::test]
async fn keys_are_needed_where_there_are_keys() {
    let setup = Setup::saying(Script::says("hi")).with_key("team", KeyLimits::default());
    let house = House::open(setup).warm().await;
    for (path, body) in dialects() {
        let answer = house.post(path, &body).await;
        assert_eq!(answer.status, 401, "{path}");
        answer.tells_nothing();
        let wrong = house.keys["team"].replace(|c: char| c.is_ascii_digit(), "x");
        let answer = house.ask(&with_key(&post(path, &body), &wrong)).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(!answer.tells_nothing().contains(&wrong));
        // Not as if there had been none.
        let long = "fr-".repeat(300);
        let answer = house.ask(&with_key(&post(path, &body), &long)).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.tells_nothing(), "this API key is not known here");
        assert_eq!(
            house.post_as("team", path, &body).await.status,
            200,
            "{path}"
        );
        let other = post(path, &body).replacen(
            "\r\n",
            &format!("\r\nx-api-key: {}\r\n", house.keys["team"]),
            1,
        );
        assert_eq!(house.ask(&other).await.status, 200, "{path}");
    }
    for path in [
        "/v1/models",
        "/metrics",
        "/api/tags",
        "/api/ps",
        "/tokenizer_info",
    ] {
        assert_eq!(house.get(path).await.status, 401, "{path}");
    }
    for path in [
        "/livez",
        "/readyz",
        "/health",
        "/openapi.json",
        "/api/version",
    ] {
        assert_eq!(house.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn requests_a_minute_are_counted_over_all_routes() {
    let limits = KeyLimits {
        requests_per_minute: Some(6),
        ..KeyLimits::default()
    };
    let setup = Setup::saying(Script::says("hi"))
        .with_key("small", limits)
        .with_key("large", KeyLimits::default());
    let house = House::open(setup).warm().await;
    for (path, body) in dialects() {
        assert_eq!(
            house.post_as("small", path, &body).await.status,
            200,
            "{path}"
        );
    }
    for (path, body) in dialects() {
        let answer = house.post_as("small", path, &body).await;
        assert_eq!(answer.status, 429, "{path}");
        let after: u32 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=61).contains(&after), "{after}");
        answer.tells_nothing();
        assert_eq!(
            house.post_as("large", path, &body).await.status,
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn tokens_of_a_day_are_counted_and_then_it_is_over() {
    let limits = KeyLimits {
        tokens_per_day: Some(120),
        ..KeyLimits::default()
    };
    let house = House::open(Setup::saying(Script::says("hi")).with_key("small", limits))
        .warm()
        .await;
    let body = question("hi", json!({ "max_tokens": 20 }));
    let path = "/v1/chat/completions";
    let mut used = 0;
    let refused = loop {
        let answer = house.post_as("small", path, &body).await;
        if answer.status != 200 {
            break answer;
        }
        used += answer.json()["usage"]["total_tokens"].as_u64().unwrap();
        assert!(used <= 120);
    };
    assert_eq!(refused.status, 402, "{refused:?}");
    assert_eq!(refused.code(), "insufficient_quota");
    assert!(used > 60, "{used}");
    let large = question("hi", json!({ "max_tokens": 2000 }));
    assert!([400, 402].contains(&house.post_as("small", path, &large).await.status));
}

/// Tokens that were charged, to anyone.
fn charged(house: &House) -> u64 {
    let parts = &house.service.parts;
    let today = parts.quotas.today(parts.clock.now());
    today.iter().map(|day| day.spent.tokens).sum()
}

#[tokio::test]
async fn what_fails_by_the_servers_own_fault_costs_nothing() {
    let mut setup = Setup::saying(Script::says(&"the rain ".repeat(12)).slowly(5));
    setup.engine.max_sequences = 1;
    setup.queue_time = Duration::from_millis(30);
    let house = House::open(setup).warm().await;
    let poisoned = question(&format!("hi{POISON}"), json!({}));
    assert_eq!(house.chat(&poisoned).await.status, 500);
    assert_eq!(charged(&house), 0);
    // Who waits in vain pays nothing; who is answered pays what the answer says.
    let body = question("hi", json!({}));
    let waits = async {
        house.until(|load| load.answering == 1).await;
        house.chat(&body).await
    };
    let (first, second) = tokio::join!(house.chat(&body), waits);
    assert_eq!(second.status, 503);
    let used = first.ok()["usage"]["total_tokens"].as_u64().unwrap();
    house.until(|load| load.waiting == 0).await;
    assert_eq!(charged(&house), used);
}

#[tokio::test]
async fn who_leaves_pays_for_what_was_computed() {
    let script = Script::says(&"the rain ".repeat(30)).slowly(5);
    let house = House::open(Setup::saying(script)).warm().await;
    let body = question("hi", json!({ "stream": true }));
    let mut client = Client::connect(house.address).await;
    client.send(post("/v1/chat/completions", &body)).await;
    client.until(SAYS).await;
    drop(client);
    let ended = async {
        while house.service.n_under_way() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
    assert!(charged(&house) > 0);
}

#[tokio::test]
async fn requests_under_way_are_counted_and_given_back() {
    let limits = KeyLimits {
        concurrent: Some(1),
        ..KeyLimits::default()
    };
    let setup =
        Setup::saying(Script::says(&"the rain ".repeat(30)).slowly(5)).with_key("one", limits);
    let house = House::open(setup).warm().await;
    let path = "/v1/chat/completions";
    let body = question("hi", json!({ "stream": true }));
    let mut client = Client::connect(house.address).await;
    client
        .send(with_key(&post(path, &body), &house.keys["one"]).as_bytes())
        .await;
    client.until(SAYS).await;
    let answer = house.post_as("one", path, &body).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.code(), "rate_limit_exceeded");
    drop(client);
    house.until(|load| load.answering + load.reading == 0).await;
    let short = question("hi", json!({ "max_tokens": 2 }));
    for _ in 0..50 {
        let answer = house.post_as("one", path, &short).await;
        if answer.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the place was not given back");
}
