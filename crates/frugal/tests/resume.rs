//! A run that is killed at random moments and resumed leaves the journal of an uninterrupted one,
//! bit for bit; Ctrl-C and a request to stop leave a checkpoint and exit code 130; damage is stepped
//! over; a page beside a run changes nothing of it.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which the lint's exception for tests does not see"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use frugal_core::rng::Rng;

const RECIPE: &str = r#"
name = "kill"
about = "A run to be killed."
seed = 3
reference_minutes = 1.0
[task]
name = "countdown"
[run]
checkpoint_steps = 3
evaluate_steps = 5
evaluate_problems = 4
[model.main]
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 2
kv_lora_rank = 16
qk_nope_head_dim = 8
qk_rope_head_dim = 8
v_head_dim = 8
intermediate_size = 32
moe_intermediate_size = 16
n_routed_experts = 4
max_position_embeddings = 320
[[stage]]
name = "base"
kind = "pretrain"
model = "main"
steps = 14
min_steps = 1
tokens_per_step = 300
optim.warmup_steps = 2
[[stage]]
name = "r1-zero"
kind = "grpo"
from = "base"
steps = 5
min_steps = 1
prompts_per_step = 3
group_size = 4
max_new_tokens = 12
drop_groups_without_signal = false
kl_beta = 0.01
reference_refresh_steps = 2
min_solve_rate = 0.0
optim.warmup_steps = 1
[[stage]]
name = "more"
kind = "sft"
from = "r1-zero"
match_compute = "base"
steps = 40
tokens_per_step = 200
[[stage]]
name = "evaluation"
kind = "eval"
problems = 4
max_new_tokens = 8
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kill.toml"), RECIPE).unwrap();
        Self { folder }
    }

    fn run_folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn start(&self, flags: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_frugal"))
            .args(["run", "kill.toml", "--out", "run", "--home", "home", "-q"])
            .args(flags)
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs to the end.
    fn finish(&self, flags: &[&str]) {
        let done = self.start(flags).wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{told}");
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.run_folder().join("journal.jsonl")).unwrap()
    }

    fn has_begun(&self) -> bool {
        self.run_folder().join("recipe.toml").exists()
    }
}

fn files_below(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, name));
        } else if path.file_name().is_some_and(|n| n == name) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Slow: several processes, about twenty seconds in a debug build.
#[test]
fn a_run_killed_at_random_points_and_resumed_leaves_the_same_journal_and_weights() {
    let whole = Place::new();
    whole.finish(&[]);
    let expected = whole.journal();
    assert_eq!(
        expected.lines().count(),
        expected.lines().filter(|l| l.contains("stage")).count()
    );

    let killed = Place::new();
    let mut rng = Rng::derive(&[41]);
    let mut n_killed = 0;
    for _ in 0..6 {
        let flags: &[&str] = if killed.has_begun() {
            &["--resume"]
        } else {
            &[]
        };
        let mut child = killed.start(flags);
        std::thread::sleep(Duration::from_millis(150 + u64::from(rng.below(900))));
        if child.try_wait().unwrap().is_none() {
            n_killed += 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(
        n_killed >= 1,
        "every process ended before it could be killed"
    );
    let flags: &[&str] = if killed.has_begun() {
        &["--resume"]
    } else {
        &[]
    };
    killed.finish(flags);
    assert_eq!(killed.journal(), expected);
    let weights = |place: &Place| -> Vec<Vec<u8>> {
        let checkpoints = place.run_folder().join("checkpoints");
        let files = files_below(&checkpoints, "model.safetensors").into_iter();
        files
            .filter(|p| p.to_string_lossy().contains("final"))
            .map(|p| fs::read(p).unwrap())
            .collect()
    };
    assert_eq!(weights(&killed), weights(&whole));
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_a_checkpoint_and_exits_with_130() {
    let place = Place::new();
    let mut child = place.start(&[
        "--set",
        "base.steps=100000",
        "--set",
        "run.checkpoint_steps=100000",
    ]);
    while !place.run_folder().join("timings.jsonl").exists() && child.try_wait().unwrap().is_none()
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let done = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(130), "{told}");
    assert!(told.contains("--resume continues"), "{told}");
    let base = place.run_folder().join("checkpoints/base");
    assert_eq!(files_below(&base, "optimizer.safetensors").len(), 1);
}

#[test]
fn a_run_asked_to_stop_goes_on_from_its_folder_to_the_same_journal() {
    let longer: &[&str] = &["--set", "base.steps=40"];
    let whole = Place::new();
    whole.finish(longer);
    let stopped = Place::new();
    let mut child = stopped.start(longer);
    while !stopped.run_folder().join("timings.jsonl").exists()
        && child.try_wait().unwrap().is_none()
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    let by_folder = |flag: &str| {
        Command::new(env!("CARGO_BIN_EXE_frugal"))
            .args(["run", "run", flag, "--home", "home", "-q"])
            .current_dir(stopped.folder.path())
            .output()
            .unwrap()
    };
    let asked = by_folder("--stop");
    assert!(asked.status.success(), "{asked:?}");
    let done = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(130), "{told}");
    assert!(told.contains("as asked"), "{told}");
    assert!(stopped.journal().len() < whole.journal().len());
    // What does not run cannot be asked.
    let asked = by_folder("--stop");
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    let done = by_folder("--resume");
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    assert_eq!(stopped.journal(), whole.journal());
}

/// What a page beside a run answers of the one run it knows.
#[cfg(unix)]
fn ask(address: &str) -> serde_json::Value {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!("GET /web/runs HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let runs: serde_json::Value = serde_json::from_str(body).unwrap();
    runs.pointer("/data/0").unwrap().clone()
}

#[cfg(unix)]
#[test]
fn a_page_beside_a_run_shows_it_and_changes_nothing() {
    use std::io::{BufRead, BufReader};
    let alone = Place::new();
    alone.finish(&[]);
    let shown = Place::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_frugal"))
        .args(["run", "kill.toml", "--out", "run", "--home", "home"])
        .args(["--json", "--web=127.0.0.1:0"])
        .current_dir(shown.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut address = None;
    let mut is_done = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["event"] == "page" {
            address = line["addresses"][0].as_str().map(str::to_owned);
        }
        // It is looked at while it runs.
        if line["event"] == "step"
            && let Some(address) = &address
        {
            assert_eq!(ask(address)["state"], "running");
        }
        if line["event"] == "results" {
            is_done = true;
            break;
        }
    }
    assert!(is_done);
    let address = address.unwrap();
    let mut run = ask(&address);
    // The folder is let go of when the report is written, after the results were said.
    for _ in 0..600 {
        if run["state"] != "running" {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        run = ask(&address);
    }
    assert_eq!(run["state"], "done", "{run}");
    assert_eq!(run["name"], "run", "{run}");
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(shown.journal(), alone.journal());
}

#[test]
fn a_damaged_checkpoint_is_stepped_over_with_a_warning() {
    let whole = Place::new();
    whole.finish(&[]);
    let damaged = Place::new();
    damaged.finish(&[]);
    // The stage is made again from the state before, and those after it with it.
    let checkpoints = damaged.run_folder().join("checkpoints");
    let weights = checkpoints.join("r1-zero/final/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let done = damaged.start(&["--resume"]).wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    assert!(told.contains("warning"), "{told}");
    assert_eq!(damaged.journal(), whole.journal());
}

#[test]
fn wrong_usage_is_one_sentence_and_exit_code_2() {
    let place = Place::new();
    for (flags, expected) in [
        (&["--set", "base.stepz=3"][..], "stepz"),
        (&["--set", "base.steps=many"][..], "steps"),
        (&["--set", "model.main.num_experts_per_tok=9"][..], "9"),
        (&["--budget=0"][..], "minutes above 0"),
    ] {
        let done = place.start(flags).wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{flags:?}: {told}");
        assert!(told.contains(expected), "{flags:?}: {told}");
        assert_eq!(told.trim().lines().count(), 1, "{told}");
    }
}
