//! The page: its files, who is signed in, whose conversations are whose, and who may do what to models.

use frugal_serve::keys::{KeyLimits, Keys};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use super::client::{self, Answer, Client, get, post, with_head, with_key};
use super::house::{House, Setup, question};
use super::model::Script;
use super::stock::{Stock, of_run, stored};

const OWN: &str = "origin: http://localhost\r\nsec-fetch-site: same-origin\r\n";
const ID: &str = "0b8f5d1e-7a52-4c9d-9f0e-3c1a2b4d5e6f";

fn setup() -> Setup {
    Setup::saying(Script::says("rain in spain"))
}

fn keyed() -> Setup {
    let setup = setup().with_key("ada", KeyLimits::default());
    setup
        .with_key("bob", KeyLimits::default())
        .with_manager("root")
}

/// Any request with a body, or none.
fn request(method: &str, path: &str, body: Option<&Value>, head: &str) -> String {
    let request = match body {
        Some(body) => post(path, body).replacen("POST", method, 1),
        None => get(path).replacen("GET", method, 1),
    };
    with_head(&request, head)
}

/// Somebody who has signed in.
struct Guest<'a> {
    house: &'a House,
    cookie: String,
}

impl<'a> Guest<'a> {
    async fn of(house: &'a House, key: &str) -> Self {
        let body = json!({ "key": house.keys[key] });
        let answer = house
            .ask(&request("POST", "/web/session", Some(&body), OWN))
            .await;
        assert_eq!(answer.ok()["name"], key);
        let cookie = answer.header("set-cookie").unwrap();
        for part in [
            "; Path=/",
            "; HttpOnly",
            "; SameSite=Strict",
            "; Max-Age=2592000",
        ] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains("Secure"));
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Self { house, cookie }
    }

    /// A request of the page.
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.ask_with(method, path, body, OWN).await
    }

    /// A request from elsewhere, with the cookie.
    async fn ask_with(&self, method: &str, path: &str, body: Option<&Value>, head: &str) -> Answer {
        let head = format!("cookie: theme=dark; {}\r\n{head}", self.cookie);
        self.house.ask(&request(method, path, body, &head)).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None).await
    }
}

fn document(said: &str) -> Value {
    json!({
        "version": 1, "model": "m", "leaf": "a",
        "nodes": { "a": { "id": "a", "parent": null, "role": "user", "content": said } },
    })
}

fn chat(title: &str, said: &str, revision: i64) -> Value {
    json!({ "title": title, "document": document(said), "revision": revision })
}

#[tokio::test]
async fn the_page_is_there_for_everyone_with_a_strict_policy() {
    let house = House::open(keyed());
    let page = house.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(
        page.header("cross-origin-opener-policy"),
        Some("same-origin")
    );
    let policy = page.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(
            policy.split("; ").any(|known| known == part),
            "{part}: {policy}"
        );
    }
    assert!(
        !policy.contains("unsafe") && !policy.contains("http"),
        "{policy}"
    );
    let whole = house.get("/index.html").await;
    assert_eq!(whole.body, page.body);
    let tag = page.header("etag").unwrap();
    let again = with_head(&get("/"), &format!("if-none-match: {tag}\r\n"));
    let again = house.ask(&again).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(again.header("etag"), Some(tag));
    // It says how long the page is, and ends before it.
    let head = with_head(&get("/"), "connection: close\r\n").replacen("GET", "HEAD", 1);
    let head = house.ask(&head).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let length = page.body.len().to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));
    let changed = house
        .ask(&request("POST", "/", Some(&json!({})), OWN))
        .await;
    assert_eq!(changed.code(), "method_not_allowed");
    for path in [
        "/nothing.js",
        "/assets/",
        "/assets/nothing.js",
        "/../Cargo.toml",
        "/assets/..%2f..%2fmod.rs",
        "/%2e%2e/Cargo.toml",
        "/assets//index.html",
        "/index.html/",
    ] {
        assert_eq!(house.get(path).await.code(), "route_not_found", "{path}");
    }
}

#[tokio::test]
async fn nobody_is_told_nothing_and_a_key_becomes_a_session() {
    let house = House::open(keyed());
    let nobody = house.get("/web/session").await.ok();
    assert_eq!(nobody["keyed"], true);
    assert_eq!(nobody["history"], "server");
    for name in ["name", "default_model", "price"] {
        assert!(nobody[name].is_null(), "{nobody}");
    }
    assert_eq!(nobody["may_manage"], false);
    assert_eq!(house.get("/web/models").await.code(), "invalid_api_key");
    let ada = Guest::of(&house, "ada").await;
    let session = ada.get("/web/session").await.ok();
    assert_eq!(session["name"], "ada");
    assert_eq!(session["may_manage"], false);
    assert_eq!(session["default_model"], "m");
    assert_eq!(session["price"]["currency"], "EUR");
    let root = Guest::of(&house, "root").await;
    assert_eq!(root.get("/web/session").await.ok()["may_manage"], true);
    // Wherever a key lets in, the session does.
    assert_eq!(ada.get("/v1/models").await.ok()["data"][0]["id"], "m");
    let asked = question("hi", json!({}));
    let answer = ada
        .ask("POST", "/v1/chat/completions", Some(&asked))
        .await
        .ok();
    assert_eq!(answer["choices"][0]["message"]["content"], "rain in spain");
    let ended = ada.ask("DELETE", "/web/session", None).await;
    assert!(ended.ok()["name"].is_null());
    assert!(ended.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(ada.get("/v1/models").await.code(), "invalid_api_key");
    assert_eq!(root.get("/web/session").await.ok()["name"], "root");
    // No digest of a token is the token.
    let database = std::fs::read(house.home.path().join("frugal.db")).unwrap();
    let log = std::fs::read(house.home.path().join("frugal.db-wal")).unwrap_or_default();
    let token = root.cookie.split_once('=').unwrap().1.as_bytes();
    for bytes in [database, log] {
        assert!(!bytes.windows(token.len()).any(|window| window == token));
    }
}

#[tokio::test]
async fn a_cookie_is_good_for_the_servers_own_page_alone() {
    let mut setup = keyed();
    setup.server.cors = vec!["https://listed.example".into()];
    let house = House::open(setup);
    let ada = Guest::of(&house, "ada").await;
    let asked = question("hi", json!({}));
    let foreign = [
        "",
        "origin: http://evil.example\r\n",
        "origin: null\r\n",
        "origin: https://listed.example\r\n",
        "origin: https://listed.example\r\nsec-fetch-site: cross-site\r\n",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        "sec-fetch-site: none\r\n",
        "sec-fetch-site: cross-site\r\nx-frugal-page: 1\r\n",
        "origin: http://evil.example\r\nx-frugal-page: 1\r\n",
        "origin: http://localhost:81\r\n",
        "origin: http://localhost\r\nsec-fetch-site: cross-site\r\n",
    ];
    for head in foreign {
        let read = ada.ask_with("GET", "/v1/models", None, head).await;
        assert_eq!(read.code(), "invalid_api_key", "{head:?}");
        let session = ada.ask_with("GET", "/web/session", None, head).await.ok();
        assert!(session["name"].is_null(), "{head:?}");
        let asks = ada
            .ask_with("POST", "/v1/chat/completions", Some(&asked), head)
            .await;
        assert!([401, 403].contains(&asks.status), "{head:?}: {asks:?}");
        let ends = ada.ask_with("DELETE", "/web/session", None, head).await;
        assert_eq!(ends.code(), "origin_not_allowed", "{head:?}");
        let path = format!("/web/chats/{ID}");
        let write = ada
            .ask_with("PUT", &path, Some(&chat("t", "x", 0)), head)
            .await;
        assert!([401, 403].contains(&write.status), "{head:?}: {write:?}");
    }
    for head in [
        "sec-fetch-site: same-origin\r\n",
        "origin: http://localhost\r\n",
        "x-frugal-page: 1\r\n",
    ] {
        let read = ada.ask_with("GET", "/web/chats", None, head).await.ok();
        assert_eq!(read["data"], json!([]), "{head:?}");
    }
    // A form of another page cannot send JSON, and says where it is from.
    let form = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                content-type: text/plain\r\ncontent-length: 2\r\n\r\n{}";
    let cookie = format!("cookie: {}\r\n{OWN}", ada.cookie);
    let sent = house.ask(&with_head(form, &cookie)).await;
    assert_eq!(sent.code(), "unsupported_media_type");
    // A key in a header is asked for no origin, but the page's own routes are for the page.
    let path = format!("/web/chats/{ID}");
    let put = with_key(
        &request("PUT", &path, Some(&chat("t", "x", 0)), ""),
        &house.keys["ada"],
    );
    assert_eq!(house.ask(&put).await.code(), "origin_not_allowed");
    let put = with_key(
        &request("PUT", &path, Some(&chat("t", "x", 0)), OWN),
        &house.keys["ada"],
    );
    assert_eq!(house.ask(&put).await.ok()["revision"], 1);
}

#[tokio::test]
async fn a_session_ends_with_its_key() {
    let house = House::open(keyed());
    let [ada, bob] = [
        Guest::of(&house, "ada").await,
        Guest::of(&house, "bob").await,
    ];
    let mut keys = Keys::open(house.home.path()).unwrap();
    let now = house.service.parts.clock.now().unix;
    keys.revoke("ada", now).unwrap();
    keys.rotate("bob", 0, now).unwrap();
    let began = house.service.parts.clock.now().seconds;
    for guest in [&ada, &bob] {
        while guest.get("/v1/models").await.status == 200 {
            let took = house.service.parts.clock.now().seconds - began;
            assert!(took < client::PATIENCE.as_secs_f64());
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(guest.get("/v1/models").await.code(), "invalid_api_key");
        assert!(guest.get("/web/session").await.ok()["name"].is_null());
    }
}

#[tokio::test]
async fn the_oldest_session_of_a_key_goes_when_there_are_many() {
    let house = House::open(keyed());
    let other = Guest::of(&house, "bob").await;
    let mut guests = Vec::new();
    for _ in 0..22 {
        guests.push(Guest::of(&house, "ada").await);
    }
    let mut live = 0;
    for guest in &guests {
        live += usize::from(!guest.get("/web/session").await.ok()["name"].is_null());
    }
    assert_eq!(live, 20);
    let newest = guests.last().unwrap().get("/web/session").await.ok();
    assert_eq!(newest["name"], "ada");
    assert_eq!(other.get("/web/session").await.ok()["name"], "bob");
}

#[tokio::test]
async fn wrong_keys_are_refused_and_soon_no_longer_looked_at() {
    let house = House::open(keyed());
    let try_key = async |key: &Value| {
        let body = json!({ "key": key });
        house
            .ask(&request("POST", "/web/session", Some(&body), OWN))
            .await
    };
    let wrong = json!(format!("fr-{}", "0".repeat(51)));
    for key in [json!(null), json!(""), json!(1)] {
        assert_eq!(try_key(&key).await.param(), "key");
    }
    for _ in 0..10 {
        let refused = try_key(&wrong).await;
        assert_eq!(refused.code(), "invalid_api_key");
        assert_eq!(refused.header("set-cookie"), None);
    }
    let refused = try_key(&wrong).await;
    assert_eq!(refused.code(), "rate_limit_exceeded");
    assert_eq!(refused.header("retry-after"), Some("60"));
    // Also the right one: whoever tries does not learn which it is.
    let right = json!(house.keys["ada"]);
    assert_eq!(try_key(&right).await.code(), "rate_limit_exceeded");
    let large = json!({ "key": "x".repeat(8 << 10) });
    let large = house
        .ask(&request("POST", "/web/session", Some(&large), OWN))
        .await;
    assert_eq!(large.code(), "request_too_large");
}

#[tokio::test]
async fn without_keys_everyone_is_the_owner_and_chats_stay_in_the_browser() {
    let house = House::open(setup());
    let session = house.get("/web/session").await.ok();
    assert_eq!(session["keyed"], false);
    assert_eq!(session["may_manage"], true);
    assert_eq!(session["history"], "browser");
    assert!(session["name"].is_null());
    let chats = house.get("/web/chats").await;
    assert!(chats.message().contains("stay in the browser"), "{chats:?}");
    // A cookie of another server on this machine does not keep anybody out.
    let stale = format!("cookie: frugal_session={}\r\n{OWN}", "a".repeat(43));
    let stale = house.ask(&request("GET", "/v1/models", None, &stale)).await;
    assert_eq!(stale.ok()["data"][0]["id"], "m");
    // Nor does a foreign page manage what needs no key.
    for head in [
        "",
        "origin: http://evil.example\r\n",
        "sec-fetch-site: cross-site\r\n",
    ] {
        let load = request("POST", "/web/models/m/load", None, head);
        assert_eq!(
            house.ask(&load).await.code(),
            "origin_not_allowed",
            "{head:?}"
        );
    }
    let load = request("POST", "/web/models/m/load", None, OWN);
    assert_eq!(house.ask(&load).await.ok()["loaded"], true);
}

#[tokio::test]
async fn conversations_are_kept_for_their_owner_alone() {
    let house = House::open(keyed());
    let [ada, bob] = [
        Guest::of(&house, "ada").await,
        Guest::of(&house, "bob").await,
    ];
    let path = format!("/web/chats/{ID}");
    let put = async |guest: &Guest<'_>, body: &Value| guest.ask("PUT", &path, Some(body)).await;
    let made = put(&ada, &chat("Rain", "does it rain?", 0)).await.ok();
    assert_eq!(made["revision"], 1);
    let kept = ada.get(&path).await.ok();
    assert_eq!(kept["title"], "Rain");
    assert_eq!(kept["document"], document("does it rain?"));
    assert_eq!(bob.get(&path).await.status, 404);
    assert_eq!(bob.get("/web/chats").await.ok()["data"], json!([]));
    assert_eq!(bob.get("/web/chats?q=rain").await.ok()["data"], json!([]));
    assert_eq!(bob.ask("DELETE", &path, None).await.status, 204);
    let listed = ada.get("/web/chats?q=DOES%20IT").await.ok();
    assert_eq!(listed["data"][0]["id"], ID);
    assert_eq!(listed["data"][0]["turns"], 1);
    assert_eq!(listed["data"][0]["model"], "m");
    assert_eq!(ada.get("/web/chats?q=%25").await.ok()["data"], json!([]));
    let late = put(&ada, &chat("Late", "x", 0)).await;
    assert_eq!(late.status, 409);
    assert_eq!(late.json()["revision"], 1);
    assert_eq!(late.code(), "conflict");
    assert_eq!(put(&ada, &chat("Sun", "x", 1)).await.ok()["revision"], 2);
    let large = chat("Large", &"x".repeat(5 << 20), 2);
    let large = put(&ada, &large).await;
    assert_eq!(large.status, 413);
    assert!(large.message().contains("4 MiB"), "{large:?}");
    for path in ["/web/chats/x", "/web/chats/..%2f..", "/web/chats/%00"] {
        assert_eq!(ada.get(path).await.param(), "id", "{path}");
    }
    assert_eq!(ada.get("/web/chats?limit=0").await.param(), "limit");
    assert_eq!(ada.get("/web/chats?before=x").await.param(), "before");
    assert_eq!(ada.ask("DELETE", &path, None).await.status, 204);
    assert_eq!(ada.get(&path).await.status, 404);
    // Whoever has the owner's key has them on another machine as well.
    put(&ada, &chat("Snow", "x", 0)).await.ok();
    let again = Guest::of(&house, "ada").await;
    assert_eq!(again.get(&path).await.ok()["title"], "Snow");
}

#[tokio::test]
async fn a_request_that_breaks_off_leaves_the_conversation_as_it_was() {
    let house = House::open(keyed());
    let ada = Guest::of(&house, "ada").await;
    let path = format!("/web/chats/{ID}");
    let written = ada.ask("PUT", &path, Some(&chat("Kept", "x", 0))).await;
    assert_eq!(written.status, 200);
    let head = format!("cookie: {}\r\n{OWN}", ada.cookie);
    let cut = request("PUT", &path, Some(&chat("Cut", "y", 1)), &head);
    let mut client = Client::connect(house.address).await;
    client.send(&cut.as_bytes()[..cut.len() - 10]).await;
    drop(client);
    let kept = ada.get(&path).await.ok();
    assert_eq!(
        (&kept["title"], &kept["revision"]),
        (&json!("Kept"), &json!(1))
    );
}

#[tokio::test]
async fn the_catalogue_tells_what_is_known_to_those_who_may_know() {
    let mut setup = keyed().with_key_for("carl", &["m"]);
    setup.stock = Stock::with(vec![
        of_run("m"),
        stored("o/n", "m"),
        stored("o/quant", "o/n"),
    ]);
    let forecasts = setup.stock.forecasts.clone();
    let house = House::open(setup);
    let [ada, carl, root] = [
        Guest::of(&house, "ada").await,
        Guest::of(&house, "carl").await,
        Guest::of(&house, "root").await,
    ];
    let list = ada.get("/web/models").await.ok();
    let [m, n, quant] = [0, 1, 2].map(|at| &list["data"][at]);
    assert_eq!((&m["served"], &m["loaded"]), (&json!(true), &json!(false)));
    assert_eq!((&n["served"], &n["stored"]), (&json!(false), &json!(true)));
    assert_eq!(n["origin"], "https://hub.example/o/n");
    assert_eq!(m["cost"]["money"], 0.5);
    // Paths are for those who run the machine.
    assert!(m["origin"].is_null());
    assert_eq!(
        root.get("/web/models").await.ok()["data"][0]["origin"],
        "/home/secret/runs/a"
    );
    let line: Vec<&str> = quant["lineage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(line, ["base", "m", "o/n", "o/quant"]);
    assert_eq!(quant["lineage"][1]["here"], true);
    let of_carl = carl.get("/web/models").await.ok();
    assert_eq!(of_carl["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        carl.get("/web/models/o%2Fn").await.code(),
        "model_not_found"
    );
    let one = ada.get("/web/models/o%2Fn").await.ok();
    assert_eq!(one["card"]["text"], "# Title");
    assert!(one["forecast"].is_null() && one["measured"].is_null());
    for _ in 0..2 {
        let forecast = ada.get("/web/models/m/forecast").await.ok();
        assert_eq!(forecast["tokens_per_second"], 10.0);
    }
    assert_eq!(forecasts.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(
        ada.get("/web/models/o%2Fn/forecast").await.code(),
        "conflict"
    );
    let asked = question("hi", json!({}));
    ada.ask("POST", "/v1/chat/completions", Some(&asked))
        .await
        .ok();
    let m = ada.get("/web/models/m").await.ok();
    assert_eq!(m["loaded"], true);
    assert_eq!(m["forecast"]["memory_bytes"], 1000);
    assert!(m["measured"]["tokens_per_second"].as_f64().unwrap() > 0.0);
}

/// The events of a job until it is over.
async fn followed(guest: &Guest<'_>, job: &str) -> Vec<Value> {
    guest.get(&format!("/web/jobs/{job}/events")).await.events()
}

#[tokio::test]
async fn only_managers_change_what_there_is() {
    let mut setup = keyed();
    setup.stock = Stock::with(vec![of_run("m"), stored("o/n", "m"), stored("o/bad", "m")]);
    let house = House::open(setup);
    let [ada, root] = [
        Guest::of(&house, "ada").await,
        Guest::of(&house, "root").await,
    ];
    let pull = json!({ "name": "o/new" });
    for (method, path, body) in [
        ("POST", "/web/models/m/load", None),
        ("POST", "/web/models/m/unload", None),
        ("POST", "/web/models/o%2Fn/verify", None),
        ("DELETE", "/web/models/o%2Fn", None),
        ("POST", "/web/models/pull", Some(&pull)),
        ("GET", "/web/jobs", None),
        ("DELETE", "/web/jobs/1", None),
        ("GET", "/web/jobs/1/events", None),
    ] {
        let refused = ada.ask(method, path, body).await;
        assert_eq!(refused.code(), "management_not_allowed", "{method} {path}");
    }
    let root_posts = async |path: &str| root.ask("POST", path, None).await;
    assert_eq!(root_posts("/web/models/m/unload").await.code(), "conflict");
    assert_eq!(root_posts("/web/models/m/load").await.ok()["loaded"], true);
    assert_eq!(
        root_posts("/web/models/m/unload").await.ok()["loaded"],
        false
    );
    assert_eq!(
        root_posts("/web/models/none/load").await.code(),
        "model_not_found"
    );
    let outside = root.ask("DELETE", "/web/models/m", None).await;
    assert_eq!(outside.code(), "conflict");
    for (name, state) in [("o%2Fn", "done"), ("o%2Fbad", "failed")] {
        let begun = root_posts(&format!("/web/models/{name}/verify")).await;
        assert_eq!(begun.status, 202);
        let events = followed(&root, begun.json()["job"].as_str().unwrap()).await;
        assert_eq!(events.last().unwrap()["state"], state);
    }
    assert_eq!(
        root.ask("DELETE", "/web/models/o%2Fn", None).await.status,
        204
    );
    assert_eq!(
        root.get("/web/models/o%2Fn").await.code(),
        "model_not_found"
    );
}

#[tokio::test]
async fn a_loaded_model_is_not_removed() {
    let mut setup = keyed();
    setup.stock = Stock::with(vec![stored("m", "base")]);
    let house = House::open(setup).warm().await;
    let root = Guest::of(&house, "root").await;
    let refused = root.ask("DELETE", "/web/models/m", None).await;
    assert_eq!(refused.code(), "conflict");
    assert!(refused.message().contains("unload it first"), "{refused:?}");
    root.ask("POST", "/web/models/m/unload", None).await.ok();
    assert_eq!(root.ask("DELETE", "/web/models/m", None).await.status, 204);
}

#[tokio::test]
async fn pulls_are_followed_called_off_and_one_at_a_time() {
    let house = House::open(keyed());
    let root = Guest::of(&house, "root").await;
    let pull = async |name: &str| {
        let body = json!({ "name": name, "revision": "main" });
        root.ask("POST", "/web/models/pull", Some(&body)).await
    };
    for name in ["", "../x", "a/b/c", "o/n?x", "http://evil.example/x"] {
        assert_eq!(pull(name).await.param(), "name", "{name}");
    }
    let job = |answer: Answer| answer.json()["job"].as_str().unwrap().to_owned();
    let slow = job(pull("o/slow").await);
    assert_eq!(job(pull("o/slow").await), slow);
    let next = job(pull("o/new").await);
    let gone = job(pull("o/gone").await);
    let listed = root.get("/web/jobs").await.ok();
    let states: Vec<&str> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["state"].as_str().unwrap())
        .collect();
    assert_eq!(&states[..2], ["waiting", "waiting"]);
    assert_eq!(listed["data"][2]["kind"], "pull");
    let cancelled = root.ask("DELETE", &format!("/web/jobs/{slow}"), None).await;
    assert_eq!(cancelled.status, 204);
    let last = |events: Vec<Value>| events.last().unwrap().clone();
    assert_eq!(last(followed(&root, &slow).await)["state"], "cancelled");
    let done = last(followed(&root, &next).await);
    assert_eq!(done["state"], "done");
    assert_eq!(
        (&done["done_bytes"], &done["total_bytes"]),
        (&json!(100), &json!(100))
    );
    let failed = last(followed(&root, &gone).await);
    assert_eq!(failed["state"], "failed");
    assert_eq!(failed["message"], "the hub has no model o/gone");
    let here = root.get("/web/models/o%2Fnew").await.ok();
    assert_eq!(here["name"], "o/new");
    assert_eq!(
        root.get("/web/jobs/99/events").await.code(),
        "route_not_found"
    );
}
