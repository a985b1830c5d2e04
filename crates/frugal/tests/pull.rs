//! `frugal pull` and `frugal models` as a user runs them, against a hub on this machine: fetched,
//! killed in the middle, gone on with, listed, verified, removed.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which the lints' exceptions for tests do not see"
)]

#[expect(
    dead_code,
    reason = "shared with the library's tests, which use all of it"
)]
#[path = "../../frugal-run/tests/hub/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use server::{Reply, Repository, Server, ranged};

const NAME: &str = "Qwen/tiny-qwen2";

/// A published-format model of the golden values, as a repository.
fn golden() -> Option<(PathBuf, Repository)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/qwen2");
    if !folder.is_dir() {
        eprintln!("skipped: no {}", folder.display());
        return None;
    }
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let readme = b"---\nlicense: apache-2.0\n---\n";
    let repository = Repository::new(
        NAME,
        &[
            ("README.md", readme),
            ("config.json", &read("config.json")),
            ("model.safetensors", &read("model.safetensors")),
            ("evil.py", b"import os"),
        ],
    );
    Some((folder, repository))
}

fn frugal(home: &Path, hub: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frugal"));
    command
        .args(arguments)
        .arg("--home")
        .arg(home)
        .env_clear()
        .env("HF_ENDPOINT", hub)
        .env("HF_TOKEN", "hf_secret");
    command
}

fn run(home: &Path, hub: &str, arguments: &[&str]) -> Output {
    frugal(home, hub, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn events(output: &Output) -> Vec<Value> {
    let lines = text(&output.stdout);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_killed_pull_goes_on_and_the_model_is_listed_whole() {
    let Some((_, repository)) = golden() else {
        return;
    };
    let weights = repository.files["model.safetensors"].clone();
    let (half, length) = (weights.len() / 2, weights.len());
    let n_asked = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        if request.path.ends_with("/model.safetensors")
            && n_asked.fetch_add(1, Ordering::SeqCst) == 0
        {
            return ranged(request, &weights).stall_after(half, Duration::from_secs(30));
        }
        repository.answer(request)
    });
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let mut first = frugal(home, &server.url(), &["pull", NAME, "--quiet"])
        .spawn()
        .unwrap();
    let incoming = home.join("models/.incoming").join(NAME);
    let is_half = || {
        let files = fs::read_dir(&incoming).ok()?;
        let mut lengths = files.filter_map(|file| {
            let file = file.ok()?;
            let is_partial = file.file_name().to_string_lossy().ends_with(".partial");
            is_partial.then(|| file.metadata().ok())?
        });
        lengths.find(|found| found.len() >= half as u64)
    };
    let start = Instant::now();
    while is_half().is_none() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "half of the weights never came"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let listed = events(&run(home, "", &["models", "--json"]));
    assert_eq!(listed[0]["models"], serde_json::json!([]));
    assert_eq!(listed[0]["unfinished"][0]["name"], NAME);

    let second = run(home, &server.url(), &["pull", NAME, "--json"]);
    assert!(second.status.success(), "{}", text(&second.stdout));
    let told = events(&second);
    let began = told
        .iter()
        .find(|event| event["file"] == "model.safetensors")
        .unwrap();
    assert_eq!(began["have"], half);
    let pulled = told.last().unwrap();
    assert_eq!(pulled["event"], "pulled");
    assert_eq!(pulled["model"]["facts"]["architecture"], "Qwen2ForCausalLM");
    assert_eq!(pulled["model"]["facts"]["format"], "F32");
    assert_eq!(server.asked("model.safetensors")[1].from(), Some(half));
    assert_eq!(server.asked("evil.py").len(), 0);
    let token = server.log()[0].header("authorization").map(str::to_owned);
    assert_eq!(token.as_deref(), Some("Bearer hf_secret"));

    let table = text(&run(home, "", &["models"]).stdout);
    assert!(table.starts_with("model "), "{table}");
    assert!(
        table
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("Qwen/tiny-qwen2 "),
        "{table}"
    );
    assert!(table.contains(" apache-2.0 "), "{table}");
    let shown = text(&run(home, "", &["models", "show", "tiny-qwen2"]).stdout);
    assert!(shown.contains("method          not said"), "{shown}");
    assert!(run(home, "", &["models", "verify"]).status.success());

    let path = home.join("models").join(NAME).join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    bytes[length - 1] ^= 1;
    fs::write(&path, bytes).unwrap();
    let verified = run(home, "", &["models", "verify", NAME]);
    assert_eq!(verified.status.code(), Some(1));
    let said = text(&verified.stdout);
    assert!(
        said.contains("model.safetensors: expected sha256 "),
        "{said}"
    );
    assert!(run(home, "", &["models", "rm", NAME]).status.success());
    assert!(!path.exists());
    let said = text(&run(home, "", &["models"]).stdout);
    assert!(said.starts_with("no models in this home yet"), "{said}");
}

#[test]
fn a_local_folder_is_imported_under_a_name() {
    let Some((folder, _)) = golden() else { return };
    let home = tempfile::tempdir().unwrap();
    let folder = folder.to_str().unwrap();
    let pulled = run(home.path(), "", &["pull", folder, "--name", "me/tiny"]);
    assert!(pulled.status.success(), "{}", text(&pulled.stderr));
    let said = text(&pulled.stdout);
    assert!(
        said.starts_with("me/tiny is in the store: Qwen2ForCausalLM, F32, "),
        "{said}"
    );
    assert!(run(home.path(), "", &["models", "verify"]).status.success());
}

#[test]
fn what_cannot_be_pulled_is_said_and_the_exit_code_tells_usage_from_failure() {
    let server = Server::start(|_| Reply::status(401));
    let home = tempfile::tempdir().unwrap();
    for (arguments, code, expected) in [
        (
            vec!["pull", "o/n"],
            1,
            "refuses model o/n at revision main (401)",
        ),
        (vec!["pull", "../n"], 2, "`../n` is no name on the hub"),
        (vec!["pull", "o/n", "--link"], 2, "to link, got o/n"),
        (
            vec!["pull", "o/n", "--name", "a b"],
            2,
            "`a b` cannot name a model",
        ),
        (
            vec!["models", "rm", "DeepSeek-R1"],
            1,
            "no model is called DeepSeek-R1",
        ),
    ] {
        let output = run(home.path(), &server.url(), &arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("hf_secret"), "{said}");
    }
}
