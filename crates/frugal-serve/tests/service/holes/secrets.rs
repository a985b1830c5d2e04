//! What nobody may learn or reach: addresses, files, the prompts of others, what stands in logs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use frugal_serve::keys::KeyLimits;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::super::client::{get, leaks_nothing, with_key};
use super::super::house::{House, Setup, logged, question};
use super::super::model::{POISON, Script};
use super::short;

/// Row 21: nothing is fetched.
#[tokio::test]
async fn no_address_that_a_client_names_is_asked() {
    let house = short().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/x.png", listener.local_addr().unwrap());
    let chat =
        |part: Value| json!({ "model": "m", "messages": [{ "role": "user", "content": [part] }] });
    let image = json!({ "type": "image_url", "image_url": { "url": url } });
    let file = json!({ "type": "file", "file": { "file_data": url } });
    let audio = json!({ "type": "input_audio", "input_audio": { "data": url, "format": "wav" } });
    let block = json!({ "type": "image", "source": { "type": "url", "url": url } });
    let input =
        json!([{ "role": "user", "content": [{ "type": "input_image", "image_url": url }] }]);
    let rows = [
        ("/v1/chat/completions", chat(image)),
        ("/v1/chat/completions", chat(file)),
        ("/v1/chat/completions", chat(audio)),
        (
            "/v1/chat/completions",
            question("x", json!({ "web_search_options": {} })),
        ),
        (
            "/v1/messages",
            json!({ "model": "m", "max_tokens": 3, "messages": [{ "role": "user", "content": [block] }] }),
        ),
        (
            "/v1/messages",
            question(
                "x",
                json!({ "max_tokens": 3, "mcp_servers": [{ "type": "url", "url": url }] }),
            ),
        ),
        ("/v1/responses", json!({ "model": "m", "input": input })),
        (
            "/v1/responses",
            json!({ "model": "m", "input": "x", "tools": [{ "type": "web_search" }] }),
        ),
        (
            "/api/chat",
            json!({ "model": "m", "messages": [{ "role": "user", "content": "x", "images": [url] }] }),
        ),
        (
            "/api/generate",
            json!({ "model": "m", "prompt": "x", "images": [url] }),
        ),
        (
            "/v1/chat/completions",
            question("x", json!({ "guided_json": { "$ref": url } })),
        ),
        ("/api/pull", json!({ "model": url })),
    ];
    for (path, body) in rows {
        let answer = house.post(path, &body).await;
        assert!(
            [400, 404].contains(&answer.status),
            "{path} {body}: {answer:?}"
        );
        answer.message();
    }
    let asked = timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(asked.is_err(), "somebody connected");
}

/// Row 2: names are looked up and never put into paths.
#[tokio::test]
async fn names_that_are_paths_lead_nowhere() {
    let house = short().await;
    let names = [
        "../../etc/passwd",
        "/etc/passwd",
        "m/../m",
        "m\0",
        "..\\..\\m",
        "sha256:../../x",
        "file:///etc/passwd",
        "%2e%2e%2fetc",
        "m\n",
        " m",
        "${HOME}",
        "~root",
    ];
    for name in names {
        for (path, body) in [
            (
                "/v1/chat/completions",
                json!({ "model": name, "messages": [{ "role": "user", "content": "x" }] }),
            ),
            ("/api/show", json!({ "model": name })),
            ("/tokenize", json!({ "model": name, "prompt": "x" })),
            (
                "/api/chat",
                json!({ "model": name, "messages": [], "keep_alive": 0 }),
            ),
        ] {
            let answer = house.post(path, &body).await;
            assert_eq!(answer.status, 404, "{name:?} {path}");
            leaks_nothing(&answer.message().replace(name, ""));
        }
    }
    for path in [
        "/v1/models/../../etc/passwd",
        "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v1/models//etc/passwd",
        "/v1/models/m%00",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/v1/models/.",
        "/static/../../x",
    ] {
        let answer = house.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        answer.tells_nothing();
    }
    assert_eq!(house.opened.load(Ordering::Relaxed), 1);
}

/// Row 22: who begins alike learns nothing of others.
#[tokio::test]
async fn prompts_are_shared_within_a_key_and_user_only() {
    let setup = Setup::saying(Script::says("hi"))
        .with_key("one", KeyLimits::default())
        .with_key("two", KeyLimits::default());
    let house = House::open(setup).warm().await;
    let cached = async |key: &str, user: Value| {
        let body = question(
            "a rather long secret of somebody, in many words",
            json!({ "user": user }),
        );
        let body = house.post_as(key, "/v1/chat/completions", &body).await.ok();
        body["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached("one", json!("ann")).await, 0);
    assert_eq!(cached("two", json!("ann")).await, 0);
    assert_eq!(cached("one", json!("bob")).await, 0);
    assert_eq!(cached("one", Value::Null).await, 0);
    for (key, user) in [
        ("one", json!("ann")),
        ("one", json!("bob")),
        ("two", json!("ann")),
    ] {
        assert!(cached(key, user).await > 0);
    }
}

/// Secrets in logs, and lines that clients write into them.
#[tokio::test]
async fn logs_hold_no_secret_and_no_line_of_a_client() {
    let setup = Setup::saying(Script::says("zanzibar").thinking("timbuktu"))
        .with_key("logged", KeyLimits::default());
    let house = House::open(setup).warm().await;
    let secret = "samarkand";
    let tool = json!({ "type": "function", "function": { "name": secret, "description": secret } });
    let chat = question(
        secret,
        json!({
            "user": secret, "metadata": { secret: secret }, "tools": [tool], "stop": [secret],
            "chat_template_kwargs": { secret: secret },
        }),
    );
    for (path, body) in [
        ("/v1/chat/completions", chat),
        (
            "/v1/chat/completions",
            question(secret, json!({ "n": secret })),
        ),
        (
            "/v1/chat/completions",
            question(secret, json!({ (secret): 1 })),
        ),
        (
            "/v1/chat/completions",
            question(&format!("{secret}{POISON}"), json!({})),
        ),
        (
            "/v1/chat/completions",
            question(secret, json!({ "guided_grammar": secret })),
        ),
        (
            "/v1/chat/completions",
            question(secret, json!({ "chat_template_kwargs": { "greeting": 5 } })),
        ),
        (
            "/v1/completions",
            json!({ "model": "m", "prompt": secret, "max_tokens": 3 }),
        ),
        (
            "/v1/messages",
            question(secret, json!({ "max_tokens": 30 })),
        ),
        ("/v1/responses", json!({ "model": "m", "input": secret })),
        ("/api/generate", json!({ "model": "m", "prompt": secret })),
        ("/tokenize", json!({ "prompt": secret })),
    ] {
        house.post_as("logged", path, &body).await;
    }
    let key = house.keys["logged"].clone();
    let lies = json!({ "model": "m\n2026 INFO access: forged", "messages": [{ "role": "user", "content": secret }] });
    house.post_as("logged", "/v1/chat/completions", &lies).await;
    let mut request = with_key(&get(&format!("/v1/models/{secret}?key={secret}")), &key);
    request = request.replacen(
        "\r\n",
        &format!("\r\nx-request-id: {secret} \u{1b}[2J\r\nuser-agent: {secret}\r\n"),
        1,
    );
    house.ask(&request).await;
    let wrong = format!("{}x", &key[..key.len() - 1]);
    house.ask(&with_key(&get("/v1/models"), &wrong)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let log = logged();
    assert!(log.contains(" access: "));
    for word in [
        secret,
        "zanzibar",
        "timbuktu",
        &key,
        &key[11..],
        &wrong,
        "\n2026 INFO access: forged",
        "\u{1b}",
    ] {
        let line = log.lines().find(|line| line.contains(word));
        assert!(!log.contains(word), "{word}: {line:?}");
    }
}
