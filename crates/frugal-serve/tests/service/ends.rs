//! Clients that leave, servers that end, models that break.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::client::{Client, SAYS, get, post};
use super::house::{House, Setup, question};
use super::model::{POISON, Script, control, message, words};

fn long() -> String {
    "the rain in spain ".repeat(20)
}

/// As soon as pages of those that left must be free.
const AT_ONCE: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_client_that_leaves_frees_its_pages_at_once() {
    let house = House::open(Setup::saying(Script::says(&long()).slowly(2)))
        .warm()
        .await;
    for (path, streams, more) in [
        ("/v1/chat/completions", true, json!({ "n": 3 })),
        ("/v1/chat/completions", false, json!({})),
        ("/v1/messages", true, json!({ "max_tokens": 500 })),
        ("/api/chat", true, json!({})),
    ] {
        let mut body = question("hi", more);
        body["stream"] = json!(streams);
        let mut client = Client::connect(house.address).await;
        client.send(post(path, &body).as_bytes()).await;
        house
            .until(|load| load.answering > 0 && load.pages_in_use > 2)
            .await;
        drop(client);
        let took = house.until(|load| load.answering + load.reading == 0).await;
        assert!(took < AT_ONCE, "{path}: {took:?}");
        // Those of the prompt are kept for the next.
        let left = house.load().await.pages_in_use;
        assert!(left <= 2, "{path}: {left}");
        for _ in 0..100 {
            if house.service.n_under_way() == 0 {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(house.service.n_under_way(), 0);
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let mut setup = Setup::saying(Script::says(&long()).slowly(2));
    setup.engine.max_sequences = 1;
    let house = House::open(setup).warm().await;
    let body = question("hi", json!({}));
    let mut first = Client::connect(house.address).await;
    first
        .send(post("/v1/chat/completions", &body).as_bytes())
        .await;
    house.until(|load| load.answering == 1).await;
    let mut second = Client::connect(house.address).await;
    second
        .send(post("/v1/chat/completions", &body).as_bytes())
        .await;
    house.until(|load| load.waiting == 1).await;
    drop(second);
    let took = house.until(|load| load.waiting == 0).await;
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(message(&first.answer().await.ok())["content"], long());
}

#[tokio::test]
async fn a_server_that_ends_finishes_what_runs_and_begins_nothing() {
    let house = House::open(Setup::saying(Script::says(&long()).slowly(2)))
        .warm()
        .await;
    let mut client = Client::connect(house.address).await;
    let body = question("hi", json!({ "stream": true }));
    client
        .send(post("/v1/chat/completions", &body).as_bytes())
        .await;
    client.until(SAYS).await;
    house.shutdown.drain();
    for (path, shape) in [
        ("/v1/chat/completions", "/error/code"),
        ("/v1/messages", "/error/type"),
        ("/api/chat", "/error"),
    ] {
        let answer = house
            .post(path, &question("hi", json!({ "max_tokens": 3 })))
            .await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some());
        assert!(answer.json().pointer(shape).unwrap().is_string());
        answer.tells_nothing();
    }
    assert_eq!(house.ask(&get("/readyz")).await.status, 503);
    assert_eq!(house.ask(&get("/livez")).await.status, 200);
    client.until("[DONE]").await;
    drop(client);
    house.server.await.unwrap();
}

#[tokio::test]
async fn a_panic_in_one_request_takes_nothing_else_down() {
    let house = House::open(Setup::saying(Script::says("the rain in spain").slowly(1)))
        .warm()
        .await;
    let poison = words().tokenizer.encode(POISON).unwrap()[0].to_string();
    let fine = question("hi there", json!({ "n": 2 }));
    // In a prompt, and among tokens that were drawn.
    let bad = [
        question(&format!("hi {POISON}"), json!({})),
        question(
            "hi",
            json!({ "logit_bias": { (poison.as_str()): 100 }, "max_tokens": 5 }),
        ),
        question(
            "hi",
            json!({ "logit_bias": { (poison.as_str()): 100 }, "stream": true }),
        ),
    ];
    // Looks at every row of its prompt, in the same steps as the others.
    let looks = json!({
        "model": "m", "prompt": "the rain in spain", "echo": true, "logprobs": 1, "max_tokens": 1,
    });
    let expected = house.post("/v1/completions", &looks).await.ok()["choices"].clone();
    for _ in 0..3 {
        let good = join_all((0..6).map(|_| house.chat(&fine)));
        let broken = join_all(bad.iter().map(|body| house.chat(body)));
        let looking = join_all((0..3).map(|_| house.post("/v1/completions", &looks)));
        let (good, broken, looking) = tokio::join!(good, broken, looking);
        for answer in good {
            let body = answer.ok();
            for choice in body["choices"].as_array().unwrap() {
                assert_eq!(choice["message"]["content"], "the rain in spain");
            }
        }
        for answer in looking {
            assert_eq!(answer.ok()["choices"], expected);
        }
        for answer in &broken[..2] {
            assert_eq!(answer.status, 500, "{answer:?}");
            assert_eq!(answer.code(), "internal_error");
        }
        let events = broken[2].events();
        assert_eq!(events.last().unwrap()["error"]["code"], "internal_error");
        super::client::leaks_nothing(&events.last().unwrap()["error"].to_string());
    }
    house
        .until(|load| load.answering + load.reading + load.waiting == 0)
        .await;
    assert_eq!(house.opened.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_model_whose_engine_has_ended_is_missed_and_loaded_again() {
    let script = Script::says(&long()).slowly(2);
    let breaks = script.breaks.clone();
    let house = House::open(Setup::saying(script)).warm().await;
    let mut whole = Client::connect(house.address).await;
    whole
        .send(post("/v1/chat/completions", &question("hi", json!({}))).as_bytes())
        .await;
    let mut stream = Client::connect(house.address).await;
    let body = question("hi", json!({ "stream": true }));
    stream
        .send(post("/v1/chat/completions", &body).as_bytes())
        .await;
    house.until(|load| load.answering == 2).await;
    breaks.dies.store(true, Ordering::Release);
    stream.until("\"error\"").await;
    let told = stream.until("\n\n").await;
    assert!(told.contains("unavailable"), "{told}");
    let answer = whole.answer().await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    answer.tells_nothing();
    breaks.dies.store(false, Ordering::Release);
    let mut statuses = Vec::new();
    for _ in 0..200 {
        let answer = house
            .chat(&question("hi", json!({ "max_tokens": 3 })))
            .await;
        statuses.push(answer.status);
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(statuses.last(), Some(&200));
    assert_eq!(house.opened.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_request_that_takes_too_long_ends_in_words() {
    let mut setup = Setup::saying(Script::says(&long()).slowly(5));
    setup.request_time = Duration::from_millis(100);
    let house = House::open(setup).warm().await;
    let answer = house.chat(&question("hi", json!({}))).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer
            .tells_nothing()
            .contains("longer than the server allows")
    );
    let events = house
        .chat(&question("hi", json!({ "stream": true })))
        .await
        .events();
    assert_eq!(events.last().unwrap()["error"]["code"], "unavailable");
    house.until(|load| load.answering + load.reading == 0).await;
}

#[tokio::test]
async fn control_tokens_of_others_are_not_said() {
    // A model that draws a mark out of place says no text for it.
    let house = House::open(Setup::saying(Script::says("the rain")))
        .warm()
        .await;
    let id = control("<|im_start|>").to_string();
    let more = json!({ "logit_bias": { (id.as_str()): 100 }, "max_tokens": 4 });
    let body: Value = house.chat(&question("hi", more)).await.ok();
    let content = message(&body)["content"].as_str().unwrap();
    assert!(
        content.is_empty() || content.contains("im_start"),
        "{content}"
    );
}
