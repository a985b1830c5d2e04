//! Hosts, pages, ids, headers.

use crate::bytes::{ask, get, post_text};
use crate::toy::start;

fn with(request: &str, header: &str) -> String {
    request.replacen("\r\n", &format!("\r\n{header}\r\n"), 1)
}

#[tokio::test]
async fn names_that_are_not_loopback_s_are_refused_on_loopback() {
    let toy = start(|settings| settings.hosts = vec!["box.local".into()]);
    for (host, status) in [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8080", 200),
        ("box.local", 200),
        ("evil.example", 403),
        ("localhost.evil.example:8080", 403),
        ("10.0.0.1", 403),
    ] {
        for path in ["/livez", "/v1/number/1", "/nowhere"] {
            let request = get(path).replace("localhost", host);
            let answer = ask(toy.address, &request).await;
            let expected = if path == "/nowhere" && status == 200 {
                404
            } else {
                status
            };
            assert_eq!(answer.status, expected, "{host} {path}");
            if status == 403 {
                assert_eq!(answer.code(), "origin_not_allowed");
            }
        }
    }
    let absolute = "GET http://evil.example/livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(ask(toy.address, absolute).await.status, 403);
}

#[tokio::test]
async fn only_listed_pages_may_read_and_change() {
    let toy = start(|settings| settings.cors = vec!["https://chat.example".into()]);
    let preflight = "OPTIONS /v1/echo HTTP/1.1\r\nhost: localhost\r\n\
                     access-control-request-method: POST\r\n\
                     access-control-request-headers: authorization,x-stainless-os\r\n\r\n";
    let listed = "origin: https://chat.example";
    let answer = ask(toy.address, &with(preflight, listed)).await;
    assert_eq!(answer.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://chat.example"),
        ("access-control-allow-methods", "GET, POST, DELETE"),
        (
            "access-control-allow-headers",
            "authorization,x-stainless-os",
        ),
        ("access-control-max-age", "600"),
        ("vary", "origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(answer.header("access-control-allow-credentials"), None);

    let posted = post_text("/v1/echo", "{}");
    let missing = get("/nowhere");
    for (request, origin, status, is_readable) in [
        (&posted, listed, 200, true),
        (&missing, listed, 404, true),
        (&posted, "origin: http://localhost", 200, false),
        (&posted, "x-none: 1", 200, false),
        (&posted, "origin: https://evil.example", 403, false),
        (&posted, "origin: null", 403, false),
        (
            &get("/v1/number/1"),
            "origin: https://evil.example",
            200,
            false,
        ),
        (
            &preflight.to_owned(),
            "origin: https://evil.example",
            403,
            false,
        ),
    ] {
        let answer = ask(toy.address, &with(request, origin)).await;
        assert_eq!(answer.status, status, "{origin}");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed.is_some(), is_readable, "{origin} {allowed:?}");
    }
}

#[tokio::test]
async fn pages_of_none_or_of_all() {
    let toy = start(|_| {});
    let posted = with(&post_text("/v1/echo", "{}"), "origin: https://chat.example");
    assert_eq!(ask(toy.address, &posted).await.status, 403);
    let toy = start(|settings| settings.cors = vec!["*".into()]);
    let answer = ask(toy.address, &posted).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn every_answer_has_an_id_and_safe_headers() {
    let toy = start(|_| {});
    for request in [get("/livez"), get("/nowhere"), get("/v1/panic")] {
        let own = ask(toy.address, &with(&request, "x-request-id: trace-1.2")).await;
        assert_eq!(own.header("x-request-id"), Some("trace-1.2"));
        let bad = ask(toy.address, &with(&request, "x-request-id: a b")).await;
        let id = bad.header("x-request-id").unwrap();
        assert!(id.starts_with("req-") && id.len() == 36, "{id}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(own.header(name), Some(value));
        }
    }
}
