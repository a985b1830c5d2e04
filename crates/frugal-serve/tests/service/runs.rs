//! Runs over HTTP: who sees them, who stops them and goes on with them, and how their files are followed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use frugal_run::folder::RunFolder;
use frugal_serve::keys::KeyLimits;
use frugal_serve::web::runs::{Runner, Runs, Scope};
use serde_json::json;

use super::client::{Client, get, post, with_head};
use super::house::{House, Setup};
use super::model::Script;

const OWN: &str = "origin: http://localhost\r\nsec-fetch-site: same-origin\r\n";
const LINE: &str = "{\"stage\":\"base\",\"kind\":\"pretrain\",\"step\":0,\"loss\":1.5}\n";

/// Goes on with nothing.
#[derive(Debug)]
struct Refusing;

impl Runner for Refusing {
    fn resume(&self, _: &Path) -> Result<(), String> {
        Err("nothing is started here".into())
    }

    fn self_check_words(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

/// The runs of a house: those in a folder of its home.
pub(crate) fn of(home: &Path) -> Runs {
    let folder = home.join("runs");
    fs::create_dir(&folder).unwrap();
    let scope = Scope::HomeAnd(vec![folder]);
    Runs::open(home, scope, Arc::new(Refusing)).unwrap()
}

fn keyed() -> House {
    let setup = Setup::saying(Script::says("yes"));
    let setup = setup.with_key("ada", KeyLimits::default());
    House::open(setup.with_manager("root"))
}

/// A run in which this process works.
fn run(house: &House) -> RunFolder {
    let folder = house.home.path().join("runs/one");
    let run = RunFolder::create(&folder, "name = \"one\"\n").unwrap();
    fs::write(folder.join("journal.jsonl"), LINE).unwrap();
    run
}

/// What somebody with a key asks from the page.
fn as_page(house: &House, key: &str, request: &str) -> String {
    let head = format!("authorization: Bearer {}\r\n{OWN}", house.keys[key]);
    with_head(request, &head)
}

#[tokio::test]
async fn runs_are_seen_by_all_with_a_key_and_their_folders_by_managers() {
    let house = keyed();
    let _busy = run(&house);
    let list = get("/web/runs");
    assert_eq!(house.ask(&list).await.status, 401);
    let seen = house.ask(&as_page(&house, "ada", &list)).await.ok();
    let seen = &seen["data"][0];
    assert_eq!(seen["name"], "one");
    assert_eq!(seen["state"], "running");
    assert!(seen["folder"].is_null());
    let managed = house.ask(&as_page(&house, "root", &list)).await.ok();
    let folder = managed["data"][0]["folder"].as_str().unwrap();
    assert!(folder.ends_with("runs/one"), "{folder}");
    let id = seen["id"].as_str().unwrap();
    let one = get(&format!("/web/runs/{id}"));
    let one = house.ask(&as_page(&house, "ada", &one)).await.ok();
    assert_eq!(one["recipe_toml"], "name = \"one\"\n");
    for id in ["one", "..%2Fone", "%2Fetc", "0000000000000000"] {
        let none = get(&format!("/web/runs/{id}"));
        let none = house.ask(&as_page(&house, "root", &none)).await;
        assert_eq!(none.code(), "route_not_found", "{id}");
    }
}

#[tokio::test]
async fn only_managers_on_the_page_stop_a_run_and_go_on_with_it() {
    let house = keyed();
    let busy = run(&house);
    let list = house.ask(&as_page(&house, "root", &get("/web/runs"))).await;
    let id = list.ok()["data"][0]["id"].as_str().unwrap().to_owned();
    let stop = post(&format!("/web/runs/{id}/stop"), &json!({}));
    let resume = post(&format!("/web/runs/{id}/resume"), &json!({}));
    for request in [&stop, &resume] {
        let refused = house.ask(&as_page(&house, "ada", request)).await;
        assert_eq!(refused.code(), "management_not_allowed");
        let key = format!("authorization: Bearer {}\r\n", house.keys["root"]);
        let elsewhere = house.ask(&with_head(request, &key)).await;
        assert_eq!(elsewhere.code(), "origin_not_allowed");
    }
    assert!(!busy.stop_request().is_there());
    let running = house.ask(&as_page(&house, "root", &resume)).await;
    assert_eq!(running.code(), "conflict");
    assert_eq!(house.ask(&as_page(&house, "root", &stop)).await.status, 202);
    assert!(busy.stop_request().is_there());
    drop(busy);
    let ended = house.ask(&as_page(&house, "root", &stop)).await;
    assert_eq!(ended.code(), "conflict");
    let refused = house.ask(&as_page(&house, "root", &resume)).await;
    assert!(refused.message().contains("nothing is started here"));
}

#[tokio::test]
async fn files_are_followed_from_offsets_until_the_server_ends() {
    let house = keyed();
    let busy = run(&house);
    let list = house.ask(&as_page(&house, "ada", &get("/web/runs"))).await;
    let id = list.ok()["data"][0]["id"].as_str().unwrap().to_owned();
    let follow = |query: &str| {
        let path = format!("/web/runs/{id}/events{query}");
        as_page(&house, "ada", &get(&path))
    };
    let mut client = Client::connect(house.address).await;
    client.send(follow("").as_bytes()).await;
    let first = client.until("\"lines\":[").await;
    assert!(first.contains("text/event-stream"), "{first}");
    client.until("\"state\":\"running\"").await;
    let journal = busy.path().join("journal.jsonl");
    fs::write(&journal, format!("{LINE}{}", LINE.replace(":0,", ":1,"))).unwrap();
    client.until("\"step\":1").await;
    let mut later = Client::connect(house.address).await;
    let query = format!("?journal={}", LINE.len());
    later.send(follow(&query).as_bytes()).await;
    let told = later.until("\"step\":1").await;
    assert!(!told.contains("\"step\":0"), "{told}");
    let wrong = house.ask(&follow("?journal=-1")).await;
    assert_eq!(wrong.status, 400);
    house.shutdown.drain();
    client.rest().await;
}

#[tokio::test]
async fn a_server_that_ends_does_not_first_tell_all_there_is() {
    let house = keyed();
    let busy = run(&house);
    let list = house.ask(&as_page(&house, "ada", &get("/web/runs"))).await;
    let id = list.ok()["data"][0]["id"].as_str().unwrap().to_owned();
    let long = format!(
        "{{\"stage\":\"base\",\"text\":\"{}\"}}\n",
        "a".repeat(60_000)
    );
    let all = long.repeat(256);
    fs::write(busy.path().join("journal.jsonl"), &all).unwrap();
    let mut client = Client::connect(house.address).await;
    let path = format!("/web/runs/{id}/events");
    client.send(as_page(&house, "ada", &get(&path))).await;
    client.until("\"lines\":[").await;
    house.shutdown.drain();
    let told = client.rest().await;
    assert!(told.len() < all.len() / 2, "{}", told.len());
}
