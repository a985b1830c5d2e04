//! Bodies: too large, too slow, of another type.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::bytes::{Client, ask, post_text};
use crate::toy::start;

#[tokio::test]
async fn whole_bodies_are_read_however_they_are_framed() {
    let toy = start(|settings| settings.body_bytes = 100);
    let answer = ask(toy.address, &post_text("/v1/echo", "{}")).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"bytes": 2})));
    let chunked = "POST /v1/echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                   transfer-encoding: chunked\r\n\r\n3\r\n{  \r\n1\r\n}\r\n0\r\n\r\n";
    let answer = ask(toy.address, chunked).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"bytes": 4})));
}

#[tokio::test]
async fn half_a_body_is_not_waited_for() {
    let toy = start(|settings| settings.body_pause = Duration::from_millis(100));
    for path in ["/v1/echo", "/v1/messages/echo", "/api/echo"] {
        let mut client = Client::connect(toy.address).await;
        let whole = post_text(path, "{\"messages\": 1}");
        client.send(&whole[..whole.len() - 5]).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 408, "{answer:?}");
        assert!(answer.json()["error"].is_object() || path.starts_with("/api"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(client.rest().await, "");
    }
}

#[tokio::test]
async fn a_body_that_trickles_ends_some_time() {
    let toy = start(|settings| {
        settings.body_pause = Duration::from_millis(100);
        settings.body_time = Duration::from_millis(300);
    });
    let mut client = Client::connect(toy.address).await;
    let whole = post_text("/v1/echo", &" ".repeat(1000));
    client.send(&whole[..whole.len() - 1000]).await;
    let began = Instant::now();
    let trickle = async {
        let mut client = client;
        for _ in 0..6 {
            client.send(" ").await;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        client.answer().await
    };
    assert_eq!(trickle.await.code(), "request_timeout");
    assert!(began.elapsed() > Duration::from_millis(290));
}

#[tokio::test]
async fn a_body_too_large_is_refused_before_it_is_read() {
    let toy = start(|settings| settings.body_bytes = 100);
    let claims = "POST /v1/echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                  content-length: 99999999999\r\n\r\n";
    let answer = ask(toy.address, claims).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "request_too_large")
    );
    let waits = claims.replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(ask(toy.address, &waits).await.status, 413);
    let chunked = "POST /v1/echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                   transfer-encoding: chunked\r\n\r\n80\r\n";
    let answer = ask(toy.address, &format!("{chunked}{}\r\n", "x".repeat(128))).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "request_too_large")
    );
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_gets_its_refusal() {
    let toy = start(|settings| settings.body_bytes = 100);
    let body = " ".repeat(8 << 20);
    for path in ["/v1/echo", "/v1/messages/echo", "/api/echo"] {
        let answer = ask(toy.address, &post_text(path, &body)).await;
        assert_eq!(answer.status, 413, "{path}");
    }
}

#[tokio::test]
async fn a_body_broken_off_or_badly_framed_is_refused() {
    let toy = start(|_| {});
    let bad = "POST /v1/echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
               transfer-encoding: chunked\r\n\r\nzz\r\n";
    let answer = ask(toy.address, bad).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json()["error"]["message"],
        "the body is broken off or badly framed"
    );
}
