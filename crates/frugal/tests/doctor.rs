//! Our own server passes every case of our own doctor.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint's exception for tests does not see"
)]

#[expect(dead_code, reason = "other tests need the rest")]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Child;

use serde_json::Value;

use support::Place;

/// Ends the server when the test ends, however it does.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Serves the published model on a port of the system's choice.
fn serve(place: &Place) -> (Served, String) {
    let arguments = [
        "serve",
        "m=model",
        "--bind",
        "127.0.0.1:0",
        "--memory",
        "200MB",
        "--json",
    ];
    let mut child = place.command(&arguments).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let served = Served(child);
    let mut address = None;
    for line in BufReader::new(out).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        match line.get("event").and_then(Value::as_str) {
            Some("listening") => {
                let first = line.pointer("/addresses/0").and_then(Value::as_str);
                address = first.map(str::to_owned);
            }
            Some("loaded") => return (served, format!("http://{}", address.unwrap())),
            _ => {}
        }
    }
    panic!("the server ended");
}

/// A model of random weights has to do: no case depends on what a model knows.
///
/// Slow: some hundred requests, about twenty seconds in a debug build.
#[test]
fn our_own_server_passes_every_case() {
    let place = Place::new();
    // The tools of a question alone are a thousand tokens in a vocabulary as small as this one's.
    let config = place.path("model/config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut fields: Value = serde_json::from_str(&text).unwrap();
    fields["max_position_embeddings"] = 8192.into();
    fs::write(&config, fields.to_string()).unwrap();
    let (_served, url) = serve(&place);
    let doctor = place.command(&["doctor", "--api", &url, "--json"]).output();
    let doctor = doctor.unwrap();
    let lines = String::from_utf8(doctor.stdout).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    let short = |verdict: &str| -> Vec<String> {
        let of = lines.iter().filter(|line| line["verdict"] == verdict);
        of.map(|line| format!("{}: {} {}", line["area"], line["case"], line["why"]))
            .collect()
    };
    assert_eq!(short("fail"), Vec::<String>::new());
    // No key is wanted on loopback.
    assert_eq!(
        short("not_offered"),
        [r#""errors": "a wrong key is 401" null"#]
    );
    let score = lines.last().unwrap();
    assert!(score["passed"].as_u64().unwrap() > 150, "{score}");
    assert!(doctor.status.success());
}

#[test]
fn a_model_that_cannot_be_loaded_ends_the_server_with_a_reason() {
    let place = Place::new();
    fs::remove_file(place.path("model/tokenizer.json")).unwrap();
    let arguments = ["serve", "m=model", "--bind", "127.0.0.1:0"];
    let done = place.command(&arguments).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let words = String::from_utf8(done.stderr).unwrap();
    for said in ["expected a tokenizer", "m: the model could not be loaded"] {
        assert!(words.contains(said), "{words}");
    }
}
