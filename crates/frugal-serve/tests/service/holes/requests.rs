//! Requests that are not what they say: bodies, heads, hosts, ids.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::timeout;

use super::super::client::{Client, get, post, post_text, with_head};
use super::super::house::{House, Setup, question};
use super::super::model::Script;
use super::short;

/// Clients that send half of something, or twice of something.
#[expect(clippy::too_many_lines, reason = "a table of what is tried")]
#[tokio::test]
async fn bodies_that_are_not_what_they_say_are_refused() {
    let mut setup = Setup::saying(Script::says("hi"));
    setup.limits.body_bytes = 1 << 20;
    setup.server.body_pause = Duration::from_millis(60);
    setup.server.body_time = Duration::from_millis(300);
    let house = House::open(setup).warm().await;
    let chat = "/v1/chat/completions";
    let whole = question("x", json!({})).to_string();
    let bytes = |head: &str, body: &[u8]| {
        let head = format!(
            "POST {chat} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n{head}\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let large = chunk(&" ".repeat(64 << 10)).repeat(20);
    let twice = r#"{"model":"m","model":"b","messages":[{"role":"user","content":"x"}]}"#;
    let inner = r#"{"model":"m","messages":[{"role":"user","role":"system","content":"x"}]}"#;
    let foreign = [whole.as_bytes(), b"\xff\xfe"].concat();
    let rows: [(&str, Vec<u8>, u16); 11] = [
        (
            "half a body",
            bytes("content-length: 500\r\n", b"{\"model\""),
            408,
        ),
        (
            "a name twice",
            bytes(
                &format!("content-length: {}\r\n", twice.len()),
                twice.as_bytes(),
            ),
            400,
        ),
        (
            "a name twice inside",
            bytes(
                &format!("content-length: {}\r\n", inner.len()),
                inner.as_bytes(),
            ),
            400,
        ),
        (
            "bytes that are no text",
            bytes(&format!("content-length: {}\r\n", foreign.len()), &foreign),
            400,
        ),
        (
            "too long by its word",
            bytes("content-length: 99999999\r\n", b""),
            413,
        ),
        (
            "too long in chunks",
            bytes("transfer-encoding: chunked\r\n", large.as_bytes()),
            413,
        ),
        (
            "no chunk",
            bytes("transfer-encoding: chunked\r\n", b"zz\r\nhi\r\n"),
            400,
        ),
        (
            "a huge chunk",
            bytes("transfer-encoding: chunked\r\n", b"ffffffffffffffff\r\nhi"),
            413,
        ),
        ("no body", bytes("content-length: 0\r\n", b""), 400),
        (
            "two lengths",
            bytes("content-length: 5\r\ncontent-length: 6\r\n", b"{}xxxx"),
            400,
        ),
        (
            "a negative length",
            bytes("content-length: -1\r\n", b"{}"),
            400,
        ),
    ];
    for (what, request, status) in rows {
        let answer = super::super::client::ask(house.address, &request).await;
        let is_fine = answer.status == status
            || (what == "a huge chunk" && [400, 408].contains(&answer.status));
        assert!(is_fine, "{what}: {answer:?}");
        if !answer.body.is_empty() {
            answer.tells_nothing();
        }
    }
    // A byte now and then does not hold a place for ever.
    let mut client = Client::connect(house.address).await;
    client.send(&bytes("content-length: 5000\r\n", b"{")).await;
    let began = Instant::now();
    let drip = async {
        loop {
            client.send(b" ").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if began.elapsed() > Duration::from_millis(700) {
                return;
            }
        }
    };
    drip.await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 408, "{answer:?}");
}

/// Two readings of one request.
#[tokio::test]
async fn a_request_is_never_read_as_two() {
    let house = short().await;
    let inner = "GET /livez HTTP/1.1\r\nhost: localhost\r\nx-inner: 1\r\n\r\n";
    let length = inner.len();
    let path = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    for head in [
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        format!("transfer-encoding: identity, chunked\r\ncontent-length: {length}\r\n"),
        format!("transfer-encoding: xchunked\r\ncontent-length: {length}\r\n"),
        format!("transfer-encoding : chunked\r\ncontent-length: {length}\r\n"),
        format!(
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\ncontent-length: {length}\r\n"
        ),
        "content-length: 0\r\ncontent-length: 60\r\n".to_string(),
        format!("content-length: +{length}\r\n"),
        format!("content-length: {length}, {length}\r\n"),
    ] {
        let mut client = Client::connect(house.address).await;
        client
            .send(format!("{path}{head}\r\n0\r\n\r\n{inner}").as_bytes())
            .await;
        let mut text = String::new();
        while let Ok(more) = timeout(Duration::from_millis(150), client.more()).await {
            if more.is_empty() {
                break;
            }
            text += &String::from_utf8_lossy(&more);
        }
        assert!(!text.contains("{\"status\":\"ok\"}"), "{head}: {text}");
    }
}

/// Heads without end, and hosts that are not ours.
#[tokio::test]
async fn heads_are_bounded_and_hosts_are_ours() {
    let house = short().await;
    let flood = (0..5000)
        .map(|i| format!("x-{i}: {i}\r\n"))
        .collect::<Vec<_>>()
        .concat();
    let long = format!("x-long: {}\r\n", "a".repeat(1 << 20));
    for head in [flood, long] {
        let answer = house
            .ask(&with_head(&post_text("/v1/chat/completions", "{}"), &head))
            .await;
        assert!([400, 431].contains(&answer.status), "{answer:?}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[::1",
        "",
        "a b",
    ] {
        for path in ["/v1/models", "/livez", "/api/tags"] {
            let answer = house
                .ask(&get(path).replace("host: localhost", &format!("host: {host}")))
                .await;
            assert!([400, 403].contains(&answer.status), "{host}: {answer:?}");
        }
    }
    let page = get("/v1/models").replacen("\r\n", "\r\norigin: https://evil.example\r\n", 1);
    let answer = house.ask(&page).await;
    assert!(answer.header("access-control-allow-origin").is_none());
    let no_cors = post("/v1/chat/completions", &question("x", json!({})))
        .replace("application/json", "text/plain");
    assert_eq!(house.ask(&no_cors).await.status, 415);
}

/// Row 8: ids of clients are looked at before they are used as places in a table.
#[tokio::test]
async fn ids_beyond_the_vocabulary_are_refused() {
    let house = short().await;
    let text = |prompt: Value| json!({ "model": "m", "prompt": prompt, "max_tokens": 2 });
    for (path, body) in [
        ("/v1/completions", text(json!([300, 1]))),
        ("/v1/completions", text(json!([4_294_967_295_u32]))),
        ("/v1/completions", text(json!([-1]))),
        ("/v1/completions", text(json!([[1], [4_294_967_296_u64]]))),
        ("/v1/completions", text(json!([1.5]))),
        ("/v1/completions", text(json!([[]]))),
        ("/v1/completions", text(json!([]))),
        ("/detokenize", json!({ "tokens": [4_294_967_295_u32] })),
        ("/detokenize", json!({ "tokens": [-1] })),
        (
            "/v1/chat/completions",
            question("x", json!({ "logit_bias": { "4294967295": 1 } })),
        ),
        (
            "/v1/chat/completions",
            question("x", json!({ "logit_bias": { "-1": 1 } })),
        ),
        (
            "/v1/chat/completions",
            question("x", json!({ "stop_token_ids": [-1] })),
        ),
    ] {
        let answer = house.post(path, &body).await;
        assert_eq!(answer.status, 400, "{path} {body}: {answer:?}");
        answer.tells_nothing();
    }
}
