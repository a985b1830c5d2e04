//! Whatever fails, fails in JSON and in the dialect of its path.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::bytes::{Answer, Client, ask, get, post_text};
use crate::toy::{OneKey, start, start_for};

const ROOTS: [&str; 4] = ["/v1", "/v1/messages", "/anthropic", "/api"];

/// Checks that a failure has the envelope of its path's dialect. Returns what it says.
fn check(root: &str, answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{root}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let id = answer.header("x-request-id").unwrap();
    let body = answer.json();
    let keys = |value: &Value| {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    let message = match root {
        "/api" => {
            assert_eq!(keys(&body), "error");
            &body["error"]
        }
        "/v1" => {
            assert_eq!(keys(&body["error"]), "code message param type");
            &body["error"]["message"]
        }
        _ => {
            assert_eq!(body["type"], "error");
            assert_eq!(keys(&body["error"]), "message type");
            assert_eq!(answer.header("request-id"), Some(id));
            &body["error"]["message"]
        }
    };
    message.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn failures_have_the_envelope_of_their_dialect() {
    let toy = start(|settings| settings.body_bytes = 10);
    for root in ROOTS {
        let at = |rest: &str| format!("{root}{rest}");
        let answer = ask(toy.address, &get(&at("/nowhere/secret"))).await;
        assert_eq!(check(root, &answer, 404), "there is no such route");
        let answer = ask(toy.address, &get(&at("/echo"))).await;
        check(root, &answer, 405);
        assert_eq!(answer.header("allow"), Some("POST"));
        let long = post_text(&at("/echo"), "01234567890");
        check(root, &ask(toy.address, &long).await, 413);
        let text = post_text(&at("/echo"), "1").replace("application/json", "text/plain");
        check(root, &ask(toy.address, &text).await, 415);
        // An extractor of axum's own, which answers in plain text.
        let answer = ask(toy.address, &get(&at("/number/secret"))).await;
        let message = check(root, &answer, 400);
        assert!(!message.contains("secret") && !message.contains("u32"));
    }
}

#[tokio::test]
async fn a_panic_is_its_request_s_own() {
    let toy = start(|_| {});
    let mut other = Client::connect(toy.address).await;
    other.send(&get("/v1/count/20")).await;
    for root in ROOTS {
        let mut client = Client::connect(toy.address).await;
        client.send(&get(&format!("{root}/panic"))).await;
        let answer = client.answer().await;
        let message = check(root, &answer, 500);
        let id = answer.header("x-request-id").unwrap();
        assert_eq!(message, format!("the server failed (request {id})"));
        // Even the connection goes on.
        client.send(&get("/v1/number/1")).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let mut broken = Client::connect(toy.address).await;
    broken.send(&get("/v1/breaks")).await;
    let text = broken.rest().await;
    assert!(text.contains("data: 0") && !text.contains("DONE"), "{text}");
    assert!(!text.ends_with("0\r\n\r\n"), "looks whole: {text}");
    assert!(other.until("[DONE]").await.contains("data: 19\n"));
    let lines = toy.lines.lock().unwrap();
    let panicked = lines.iter().filter(|line| line.status == 500).count();
    assert_eq!(panicked, ROOTS.len() + 1);
}

#[tokio::test]
async fn malformed_heads_have_an_envelope_too() {
    let toy = start(|settings| settings.head_bytes = 8 << 10);
    let long = "x".repeat(9 << 10);
    let many = "a: b\r\n".repeat(200);
    for (request, status) in [
        ("GET / HTTP/9\r\n\r\n".to_owned(), 400),
        (
            "GET /\0 HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            400,
        ),
        ("\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\na: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), 431),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
    ] {
        let mut client = Client::connect(toy.address).await;
        client.send(&request).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{answer:?}");
        answer.code();
        // A head that could be read leaves the connection usable.
        if answer.header("x-request-id").is_none() {
            assert_eq!(client.rest().await, "");
        }
    }
}

#[tokio::test]
async fn heads_of_answers_only() {
    let toy = start(|_| {});
    let mut client = Client::connect(toy.address).await;
    client
        .send(&get("/v1/number/1").replace("GET", "HEAD"))
        .await;
    let text = client.until("\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n"));
    client.send(&get("/v1/number/1")).await;
    assert_eq!(client.answer().await.json(), json!(1));
    let lines = toy.lines.lock().unwrap();
    let statuses: Vec<_> = lines.iter().map(|line| line.status).collect();
    assert_eq!(statuses, [200, 200]);
}

#[tokio::test]
async fn keys_are_asked_for_except_to_see_whether_it_lives() {
    let toy = start_for(Arc::new(OneKey), |_| {});
    for path in ["/livez", "/readyz", "/health"] {
        let answer = ask(toy.address, &get(path)).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"status": "ok"}))
        );
    }
    toy.readiness.set_loading();
    for (path, status) in [("/livez", 200), ("/readyz", 503), ("/health", 503)] {
        assert_eq!(ask(toy.address, &get(path)).await.status, status);
    }
    for root in ROOTS {
        let answer = ask(toy.address, &post_text(&format!("{root}/echo"), "{}")).await;
        check(root, &answer, 401);
    }
    for (header, status) in [
        ("authorization: Bearer good", 200),
        ("x-api-key: good", 200),
        ("authorization: Bearer wrong", 401),
        ("authorization: Basic good", 401),
    ] {
        let request = get("/v1/who").replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n"));
        let answer = ask(toy.address, &request).await;
        assert_eq!(answer.status, status, "{header}");
        assert!(!answer.body.contains("wrong"));
        if status == 200 {
            assert_eq!(answer.json(), json!({"owner": 7, "name": "team"}));
        }
    }
}
