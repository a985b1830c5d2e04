//! A published checkpoint is fine-tuned, reinforced and made to teach, end to end: a tiny model of
//! Qwen2's shape with byte pairs and a chat template, as other tools would leave it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint's exception for tests does not see"
)]

mod support;

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use support::{CONTROL, Place, ROWS, TASK, publish};

/// Three cups and a few swaps: a blurted answer is right every third time.
const EASY: [&str; 8] = [
    "--set",
    "task.difficulty.largest=3",
    "--set",
    "task.difficulty.size_min=2",
    "--set",
    "task.difficulty.size_max=4",
    "--set",
    "run.evaluate_problems=4",
];

impl Place {
    /// The journal's lines of a stage.
    fn journal(&self, run: &str, stage: &str) -> Vec<Value> {
        let text = String::from_utf8(self.bytes(&format!("{run}/journal.jsonl"))).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["stage"] == stage)
            .collect()
    }
}

fn number(line: &Value, name: &str) -> f64 {
    line[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} in {line}"))
}

fn sft<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let own = [
        "sft",
        "model",
        "--task",
        TASK,
        "--out",
        out,
        "--positions=320",
    ];
    let sizes = [
        "--set=steps=60",
        "--set=tokens_per_step=1000",
        "--set=learning_rate=8e-3",
        "--set=evaluation.problems=4",
        "--set=evaluation.max_new_tokens=40",
    ];
    [&own[..], &sizes, &EASY, more].concat()
}

/// Slow: ten processes, about fifteen seconds in a debug build.
#[test]
fn a_published_model_is_fine_tuned_reinforced_and_made_to_teach() {
    let place = Place::new();
    place.run(&sft("tuned", &[]));
    let import = &place.journal("tuned", "start")[0];
    assert_eq!(
        (&import["model"], &import["kind"]),
        (&json!("model"), &json!("import"))
    );
    let steps = place.journal("tuned", "sft");
    let (first, last) = (number(&steps[0], "loss"), number(&steps[59], "loss"));
    eprintln!("loss {first:.3} to {last:.3}");
    assert!(first > 5.0 && last < 1.0, "{first} to {last}");

    // What is left is published again: words as they came, weights under the same names.
    let left = "tuned/checkpoints/sft/final";
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ] {
        let same = place.bytes(&format!("{left}/{name}")) == place.bytes(&format!("model/{name}"));
        assert!(same, "{name}");
    }
    let config = |path: &str| -> Value {
        serde_json::from_slice(&place.bytes(&format!("{path}/config.json"))).unwrap()
    };
    assert_eq!(config(left), config("model"));
    let card = String::from_utf8(place.bytes(&format!("{left}/README.md"))).unwrap();
    assert!(card.contains("base_model: \"model\""), "{card}");
    let scores = place.run(&["eval", "tuned", "--task", TASK, "--problems=4", "--json"]);
    let scores: Value = serde_json::from_str(scores.lines().last().unwrap()).unwrap();
    assert_eq!(scores["checkpoint"], "sft");
    let question = "c1 i01 c1 c2 i02 c1 c2 ?";
    place.run(&["chat", left, question, "--max-tokens=16"]);

    let sizes = [
        "--set=steps=2",
        "--set=warmup_steps=0",
        "--set=prompts_per_step=8",
        "--set=group_size=8",
        "--set=max_new_tokens=40",
        "--set=evaluation.problems=4",
        "--set=evaluation.max_new_tokens=40",
    ];
    let common = ["--task", TASK, "--positions=320"];
    let rl = ["grpo", "tuned", "--stage=sft", "--out=rl"];
    place.run(&[&rl[..], &common, &sizes, &EASY].concat());
    let steps = place.journal("rl", "grpo");
    assert_eq!(steps.len(), 2);
    let accuracy = number(&steps[0], "accuracy");
    eprintln!("right before reinforcement {accuracy:.2}");
    assert!(accuracy > 0.1 && number(&steps[0], "gradient_norm") > 0.0);
    let moved = place.bytes("rl/checkpoints/grpo/final/model.safetensors");
    assert!(moved != place.bytes("rl/checkpoints/start/final/model.safetensors"));

    let sizes = [
        "--set=answers.prompts=8",
        "--set=answers.max_new_tokens=40",
        "--set=sequence_steps=2",
        "--set=on_policy_steps=1",
        "--set=prompts_per_step=2",
        "--set=max_new_tokens=40",
        "--set=warmup_steps=0",
        "--set=model.student.hidden_size=32",
        "--set=evaluation.problems=4",
        "--set=evaluation.max_new_tokens=40",
    ];
    let taught = ["distill", left, "--out=taught"];
    place.run(&[&taught[..], &common, &sizes, &EASY].concat());
    let student = config("taught/checkpoints/distill/final");
    assert_eq!(student["vocab_size"], ROWS);
    assert_eq!(student["eos_token_id"], 2);
    assert_eq!(student["architectures"], json!(["Qwen3ForCausalLM"]));
    assert_eq!(place.journal("taught", "distill").len(), 3);
}

#[test]
fn a_killed_run_goes_on_to_the_same_journal_and_with_no_other_model() {
    let place = Place::new();
    let often = ["--set=run.checkpoint_steps=5", "--set=run.evaluate_steps=0"];
    place.run(&sft("whole", &often));
    let mut child = place.command(&sft("killed", &often)).spawn().unwrap();
    let saved = place.path("killed/checkpoints/sft/step-0000000005");
    while !saved.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let ends = !place.path("killed/checkpoints/sft/final").exists();
    assert!(ends, "the process ended before it could be killed");

    // Another file, other words: not the model that the run was started with.
    let resume = ["sft", "model", "--out", "killed", "--resume"];
    let config = place.path("model/tokenizer_config.json");
    let kept = fs::read(&config).unwrap();
    fs::write(&config, [&kept[..], b"\n"].concat()).unwrap();
    let told = place.refusal(&resume);
    assert!(
        told.contains("the model that the run was started with"),
        "{told}"
    );
    fs::write(&config, kept).unwrap();
    publish(&place.path("other"), &CONTROL);
    let told = place.refusal(&["sft", "other", "--out", "killed", "--resume"]);
    assert!(
        told.contains("the model that the run in killed was started with"),
        "{told}"
    );

    place.run(&resume);
    assert!(place.bytes("killed/journal.jsonl") == place.bytes("whole/journal.jsonl"));
    let weights =
        |run: &str| place.bytes(&format!("{run}/checkpoints/sft/final/model.safetensors"));
    assert!(weights("killed") == weights("whole"));
}

/// A recipe that imports, reinforces with the loss of DeepSeek-V3.2, and is run by `frugal run`.
const RECIPE: &str = r#"
name = "named"
[task]
name = "cups"
difficulty = { largest = 3, size_min = 2, size_max = 4 }
[run]
evaluate_steps = 0
[[stage]]
name = "start"
kind = "import"
checkpoint = "mine/tiny"
positions = 320
[[stage]]
name = "rl"
kind = "grpo"
from = "start"
preset = "deepseek_v32"
steps = 1
min_steps = 1
prompts_per_step = 2
group_size = 2
max_new_tokens = 8
min_solve_rate = 0.0
optim.warmup_steps = 0
"#;

#[test]
fn a_start_may_be_a_gguf_file_or_a_name_of_the_store() {
    let place = Place::new();
    place.run(&["export", "model", "tiny.gguf"]);
    let few = [
        "--set=prompts=3",
        "--set=max_new_tokens=8",
        "--set=evaluation.problems=4",
        "--set=evaluation.max_new_tokens=8",
    ];
    let reject = [
        "reject",
        "tiny.gguf",
        "--task",
        TASK,
        "--out=kept",
        "--positions=320",
    ];
    place.run(&[&reject[..], &few, &EASY].concat());
    assert_eq!(place.journal("kept", "reject")[0]["samples"], 12);

    place.run(&["pull", "model", "--name", "mine/tiny"]);
    fs::write(place.path("named.toml"), RECIPE).unwrap();
    place.run(&["run", "named.toml", "--out=named"]);
    assert_eq!(place.journal("named", "start")[0]["model"], "mine/tiny");
    assert_eq!(place.journal("named", "rl").len(), 1);
    // The file and the folder hold the same numbers.
    let weights =
        |run: &str| place.bytes(&format!("{run}/checkpoints/start/final/model.safetensors"));
    assert!(weights("kept") == weights("named"));
}

#[test]
fn what_cannot_be_a_start_is_refused_in_a_sentence() {
    let place = Place::new();
    let silent = place.path("silent");
    publish(&silent, &CONTROL[..3]);
    let told = place.refusal(&["sft", "silent", "--task", TASK, "--out=run"]);
    assert!(
        told.contains("control tokens <think> and </think>"),
        "{told}"
    );
    let plain = place.path("plain");
    publish(&plain, &CONTROL[..1]);
    fs::write(plain.join("tokenizer_config.json"), "{}").unwrap();
    let told = place.refusal(&["grpo", "plain", "--task", TASK, "--out=run"]);
    assert!(told.contains("chat template"), "{told}");
    fs::remove_file(silent.join("tokenizer.json")).unwrap();
    let told = place.refusal(&["reject", "silent", "--task", TASK, "--out=run"]);
    assert!(told.contains("expected a tokenizer"), "{told}");
    let told = place.refusal(&["distill", "absent", "--task", TASK, "--out=run"]);
    assert!(told.contains("absent"), "{told}");
    let far = ["sft", "model", "--out=run", "--set=start.positions=100000"];
    let told = place.refusal(&far);
    assert!(told.contains("positions of at most 512"), "{told}");
    assert!(!place.path("run").exists());
}
