use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use frugal_run::consumption::{EnergyMethod, Used};
use frugal_run::folder::RunFolder;
use frugal_run::ledger::{Entry as Paid, Outcome, Price, RunStart, Work};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::table::id_of;
use super::*;
use crate::server::Shutdown;

const RECIPE: &str = r#"
name = "small"
about = "A small run."
seed = 3
reference_minutes = 1.0
[task]
name = "countdown"
[model.main]
hidden_size = 32
num_attention_heads = 2
num_key_value_heads = 2
[[stage]]
name = "base"
kind = "pretrain"
model = "main"
steps = 10
min_steps = 1
optim.warmup_steps = 1
[[stage]]
name = "r1-zero"
kind = "grpo"
from = "base"
steps = 4
min_steps = 1
optim.warmup_steps = 1
[[stage]]
name = "kept"
kind = "reject"
from = "r1-zero"
prompts = 300
[[stage]]
name = "evaluation"
kind = "eval"
only = ["base", "r1-zero"]
"#;

#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl Runner for Counting {
    fn resume(&self, folder: &Path) -> Result<(), String> {
        assert!(folder.is_dir());
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn self_check_words(&self, _: &str) -> Vec<String> {
        vec!["no".into()]
    }
}

struct Place {
    home: tempfile::TempDir,
    runner: Arc<Counting>,
    runs: Arc<Runs>,
}

impl Place {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("runs")).unwrap();
        let runner = Arc::new(Counting::default());
        let scope = Scope::HomeAnd(vec![home.path().join("runs")]);
        let runs = Runs::open(&home.path().join("home"), scope, Arc::clone(&runner) as _).unwrap();
        Self {
            home,
            runner,
            runs: Arc::new(runs),
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.home
            .path()
            .canonicalize()
            .unwrap()
            .join("runs")
            .join(name)
    }

    /// A run that did two steps, in a folder nobody works in.
    fn run(&self, name: &str) -> PathBuf {
        let folder = self.folder(name);
        drop(RunFolder::create(&folder, RECIPE).unwrap());
        write(
            &folder,
            "journal.jsonl",
            &[line("base", 0), line("base", 1)],
        );
        let timing = |step: u64| json!({"stage": "base", "step": step, "seconds": 0.5, "tokens_trained": 100, "tokens_generated": 0});
        write(&folder, "timings.jsonl", &[timing(0), timing(1)]);
        folder
    }

    fn list(&self) -> Value {
        serde_json::to_value(self.runs.list(Reader::Manager).unwrap()).unwrap()
    }

    fn id(&self, name: &str) -> String {
        id_of(&self.folder(name))
    }

    fn one(&self, name: &str) -> Value {
        let whole = self.runs.one(&self.id(name), Reader::Manager).unwrap();
        serde_json::to_value(whole).unwrap()
    }
}

fn line(stage: &str, step: u64) -> Value {
    json!({"stage": stage, "kind": "pretrain", "step": step, "loss": 1.0, "accuracy": 0.25})
}

fn write(folder: &Path, name: &str, lines: &[Value]) {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .append(true)
        .create(true)
        .open(folder.join(name))
        .unwrap();
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
}

fn leave(folder: &Path, stage: &str) -> PathBuf {
    let left = folder.join("checkpoints").join(stage).join("final");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("manifest.json"), "{}").unwrap();
    left
}

fn states(run: &Value) -> Vec<(String, String, u64, u64)> {
    let stages = run["stages"].as_array().unwrap().iter();
    stages
        .map(|stage| {
            (
                stage["name"].as_str().unwrap().into(),
                stage["state"].as_str().unwrap().into(),
                stage["steps"].as_u64().unwrap(),
                stage["of"].as_u64().unwrap(),
            )
        })
        .collect()
}

fn row(name: &str, state: &str, steps: u64, of: u64) -> (String, String, u64, u64) {
    (name.into(), state.into(), steps, of)
}

fn paid(seconds: f64) -> Paid {
    let used = Used {
        wall_seconds: seconds,
        core_seconds: 3600.0,
        peak_memory_bytes: Some(1000),
        joules: 10.0,
        energy_method: EnergyMethod::Estimated,
    };
    let price = Price {
        per_core_hour: 0.5,
        currency: "USD".into(),
    };
    Paid::new(used, Work::default(), 1e9, price)
}

#[test]
fn a_folder_is_described_with_its_stages() {
    let place = Place::new();
    let folder = place.run("a");
    let list = place.list();
    let run = &list["data"][0];
    assert_eq!(run["id"], place.id("a"));
    assert_eq!(run["name"], "a");
    assert_eq!(run["recipe"], "small");
    assert_eq!(run["state"], "stopped");
    assert_eq!(run["bill"], Value::Null);
    assert_eq!(run["seconds"], 1.0);
    assert_eq!(run["tokens_trained"], 200);
    assert_eq!(run["accuracies"], json!([0.25, 0.25]));
    let expected = [
        row("base", "stopped", 2, 10),
        row("r1-zero", "waiting", 0, 4),
        row("kept", "waiting", 0, 2),
        row("evaluation", "waiting", 0, 2),
    ];
    assert_eq!(states(run), expected);
    // It goes on: the first stage ends early, the second begins.
    leave(&folder, "base");
    write(&folder, "journal.jsonl", &[line("r1-zero", 0)]);
    let busy = RunFolder::open(&folder).unwrap();
    let run = place.one("a");
    assert_eq!(run["state"], "running");
    assert_eq!(run["latest"], "r1-zero");
    assert_eq!(states(&run)[0], row("base", "done", 2, 2));
    assert_eq!(states(&run)[1], row("r1-zero", "running", 1, 4));
    assert_eq!(run["recipe_toml"], RECIPE);
    assert_eq!(run["self_check_words"], json!(["no"]));
    drop(busy);
    for stage in ["r1-zero", "kept", "evaluation"] {
        leave(&folder, stage);
    }
    let scores = json!([{"checkpoint": "base", "score": {"problems": 4}, "pass_rates": [0.5], "curve": null}]);
    let left = folder.join("checkpoints/evaluation/final/scores.json");
    fs::write(left, scores.to_string()).unwrap();
    let run = place.one("a");
    assert_eq!(run["state"], "done");
    let expected = json!([{"stage": "evaluation", "control": false, "checkpoints":
        [{"checkpoint": "base", "score": {"problems": 4}, "curve": null}]}]);
    assert_eq!(run["scores"], expected);
}

#[test]
fn the_ledger_adds_bills_and_what_left_no_folder() {
    let place = Place::new();
    let folder = place.run("a");
    let ledger = Ledger::open(&place.home.path().join("home")).unwrap();
    let begin = |recipe: &str, folder: &str| {
        let start = RunStart {
            recipe: recipe.into(),
            seed: 3,
            budget_minutes: 1.0,
            folder: folder.into(),
        };
        ledger.begin(&start).unwrap()
    };
    let path = folder.to_str().unwrap();
    for (recipe, folder, outcome) in [
        ("small", path, Outcome::Failed),
        ("serve", "tiny", Outcome::Done),
        ("gone", "/nowhere/at/all", Outcome::Failed),
        ("small", path, Outcome::Failed),
    ] {
        let run = begin(recipe, folder);
        ledger.record(run, "base", &paid(7.0)).unwrap();
        ledger.finish(run, outcome).unwrap();
    }
    let list = place.list();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let run = &list["data"][0];
    assert_eq!(run["state"], "failed");
    assert_eq!(run["seconds"], 7.0);
    assert_eq!(run["bill"]["money"], json!({"USD": 0.5}));
    assert_eq!(list["total"]["money"], json!({"USD": 2.0}));
    let others: Vec<(&str, u64)> = list["others"]
        .as_array()
        .unwrap()
        .iter()
        .map(|other| {
            let recipe = other["recipe"].as_str().unwrap();
            (recipe, other["count"].as_u64().unwrap())
        })
        .collect();
    // The older run of the same folder has nothing left to look at either.
    assert_eq!(others, [("gone", 1), ("serve", 1), ("small", 1)]);
    let one = place.one("a");
    assert_eq!(one["bills"][0]["stage"], "base");
    assert_eq!(one["bills"][0]["energy"], "estimated");
}

#[test]
fn one_runs_page_shows_that_run_alone() {
    let place = Place::new();
    place.run("a");
    let scope = Scope::Only(place.folder("b"));
    let home = place.home.path().join("home");
    let runs = Runs::open(&home, scope, Arc::clone(&place.runner) as _).unwrap();
    // It is not there yet.
    assert!(runs.list(Reader::Guest).unwrap().data.is_empty());
    place.run("b");
    let list = runs.list(Reader::Guest).unwrap();
    assert_eq!(list.data.len(), 1);
    assert_eq!(list.data[0].name, "b");
    assert_eq!(list.data[0].folder, None);
}

#[test]
fn ids_are_no_paths() {
    let place = Place::new();
    place.run("a");
    for id in ["", "a", "../a", "runs/a", "/etc", "0000000000000000"] {
        let fault = place.runs.one(id, Reader::Manager).unwrap_err();
        assert_eq!(fault.kind, Kind::NoRoute, "{id}");
        assert_eq!(place.runs.stop(id).unwrap_err().kind, Kind::NoRoute);
        assert_eq!(place.runs.resume(id).unwrap_err().kind, Kind::NoRoute);
    }
}

#[cfg(unix)]
#[test]
fn links_out_of_a_folder_are_not_followed() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let secret = place.home.path().join("secret");
    fs::write(&secret, "{\"secret\":1}\n").unwrap();
    let folder = place.run("a");
    let left = leave(&folder, "evaluation");
    symlink(&secret, left.join("scores.json")).unwrap();
    symlink(&secret, folder.join(RESUME_LOG)).unwrap();
    fs::remove_file(folder.join("journal.jsonl")).unwrap();
    symlink(&secret, folder.join("journal.jsonl")).unwrap();
    // A linked folder is none that the operator named.
    symlink(&folder, place.folder("linked")).unwrap();
    let list = place.list();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let text = place.one("a").to_string();
    assert!(!text.contains("secret"), "{text}");
    // A folder whose recipe is a link is no run.
    fs::create_dir(place.folder("b")).unwrap();
    symlink(
        folder.join("recipe.toml"),
        place.folder("b").join("recipe.toml"),
    )
    .unwrap();
    assert_eq!(place.list()["data"].as_array().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_read_is_named_and_fails_nothing() {
    let place = Place::new();
    place.run("good");
    let bad = place.folder("bad");
    fs::create_dir(&bad).unwrap();
    fs::write(bad.join("recipe.toml"), "name = 7\n[[[").unwrap();
    let large = place.folder("large");
    fs::create_dir(&large).unwrap();
    fs::write(large.join("recipe.toml"), "#".repeat(300 << 10)).unwrap();
    let list = place.list();
    let problem = |name: &str| {
        let runs = list["data"].as_array().unwrap();
        let run = runs.iter().find(|run| run["name"] == name).unwrap();
        run["problem"].as_str().map(str::to_owned)
    };
    assert_eq!(problem("good"), None);
    assert!(problem("bad").is_some());
    assert_eq!(
        problem("large").unwrap(),
        "expected at most 262144 bytes, got more"
    );
}

#[test]
fn another_run_in_the_same_folder_is_described_anew() {
    let place = Place::new();
    let folder = place.run("a");
    assert_eq!(place.one("a")["recipe"], "small");
    fs::remove_dir_all(&folder).unwrap();
    let other = RECIPE.replace("\"small\"", "\"other-one\"");
    drop(RunFolder::create(&folder, &other).unwrap());
    let run = place.one("a");
    assert_eq!(run["recipe"], "other-one");
    assert_eq!(states(&run)[0], row("base", "stopped", 0, 10));
}

#[test]
fn only_what_runs_is_stopped_and_only_what_does_not_is_gone_on_with() {
    let place = Place::new();
    let folder = place.run("a");
    let id = place.id("a");
    assert_eq!(place.runs.stop(&id).unwrap_err().kind, Kind::Conflict);
    let busy = RunFolder::open(&folder).unwrap();
    assert_eq!(place.runs.resume(&id).unwrap_err().kind, Kind::Conflict);
    assert_eq!(place.one("a")["stopping"], false);
    place.runs.stop(&id).unwrap();
    place.runs.stop(&id).unwrap();
    assert!(busy.stop_request().is_there());
    assert_eq!(place.one("a")["stopping"], true);
    drop(busy);
    place.runs.resume(&id).unwrap();
    assert_eq!(place.runner.0.load(Ordering::SeqCst), 1);
}

/// Slow: waits for files to be looked at, about three seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_lines_resets_and_states() {
    let place = Place::new();
    let folder = place.run("a");
    let shutdown = Shutdown::new();
    let watching = |offsets: Value| {
        let offsets = serde_json::from_value(offsets).unwrap();
        let told = watch(&place.runs, &place.id("a"), offsets, &shutdown).unwrap();
        Box::pin(told)
    };
    let mut told = watching(json!({}));
    let mut next = async || {
        let event = tokio::time::timeout(Duration::from_secs(20), told.next());
        let event = event.await.unwrap().unwrap();
        serde_json::from_str::<Value>(&event.data).unwrap()
    };
    let first = next().await;
    assert_eq!(first["file"], "journal");
    assert_eq!(first["lines"][1], line("base", 1));
    assert_eq!(next().await["file"], "timings");
    let state = next().await;
    assert_eq!(state["state"], "stopped");
    // The run goes on, from an earlier checkpoint.
    let busy = RunFolder::open(&folder).unwrap();
    let whole = fs::read_to_string(folder.join("journal.jsonl")).unwrap();
    let half = whole.len() as u64 / 2;
    let journal = fs::OpenOptions::new()
        .write(true)
        .open(folder.join("journal.jsonl"))
        .unwrap();
    journal.set_len(half).unwrap();
    let again = next().await;
    assert_eq!(again, json!({"file": "journal", "reset": true}));
    let again = next().await;
    assert_eq!(again["lines"], json!([line("base", 0)]));
    assert_eq!(again["offset"], half);
    let state = next().await;
    assert_eq!(state["state"], "running");
    write(&folder, "samples.jsonl", &[json!({"question": "q"})]);
    assert_eq!(next().await["lines"], json!([{"question": "q"}]));
    drop(busy);
    assert_eq!(next().await["state"], "stopped");
    // One that comes later goes on where it was.
    let mut later = watching(json!({"journal": half, "timings": 0}));
    let event = later.next().await.unwrap();
    let event: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!(event["file"], "timings");
    // All end with the server.
    shutdown.drain();
    while tokio::time::timeout(Duration::from_secs(20), told.next())
        .await
        .unwrap()
        .is_some()
    {}
}

#[tokio::test]
async fn so_many_may_watch_and_no_more() {
    let place = Place::new();
    place.run("a");
    let shutdown = Shutdown::new();
    let id = place.id("a");
    let mut all = Vec::new();
    for _ in 0..MOST_WATCHERS {
        all.push(watch(&place.runs, &id, Offsets::default(), &shutdown).unwrap());
    }
    let refused = watch(&place.runs, &id, Offsets::default(), &shutdown);
    assert_eq!(refused.err().unwrap().kind, Kind::Busy);
    all.pop();
    drop(watch(&place.runs, &id, Offsets::default(), &shutdown).unwrap());
}
