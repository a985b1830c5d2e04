//! A tiny model as it is published, of Qwen2's shape with byte pairs and a chat template, and a place
//! to run the program in.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint's exception for tests does not see"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use frugal_eval::task::Task;
use frugal_eval::tasks;
use frugal_model::checkpoint::{FolderFormat, WriteSettings, write};
use frugal_model::config::ModelConfig;
use frugal_model::init::{Deviation, InitSettings, OutputInit, init};
use frugal_text::gguf::tokenizer_json;
use frugal_text::train::{Training, byte_pairs};
use serde_json::json;

pub(crate) const TASK: &str = "cups";
/// A Qwen-like template: turns between marks, the assistant's turn opened at the end.
const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n\
    {{ message['content'] }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
pub(crate) const CONTROL: [&str; 5] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
];
/// Rows of the embedding, more than the tokenizer has tokens, as published ones have.
pub(crate) const ROWS: usize = 448;
/// A folder as it is published.
pub(crate) fn publish(folder: &Path, control: &[&str]) {
    let task = tasks::by_name(TASK, None).unwrap();
    let text = sample_text(task.as_ref());
    let training = Training {
        pre: "qwen2",
        control,
        n_tokens: 400,
    };
    let mut vocabulary = byte_pairs(&[&text], &training).unwrap();
    vocabulary.eos = (control.len() > 2).then_some(2);
    let config = json!({
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": ROWS,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": true,
        "hidden_act": "silu",
        "eos_token_id": 2,
    });
    let config = ModelConfig::from_json(&config.to_string()).unwrap();
    let deviation = Deviation::PerRootWidth(1.0);
    let settings = InitSettings {
        matrices: deviation,
        embedding: deviation,
        head: deviation,
        outputs: OutputInit::Zero,
    };
    let weights = init(&config, 5, &settings).unwrap();
    let settings = WriteSettings {
        format: FolderFormat::Bf16,
        max_file_bytes: usize::MAX,
    };
    fs::create_dir_all(folder).unwrap();
    for file in write(&config, &weights, &settings).unwrap() {
        fs::write(folder.join(file.name), file.bytes).unwrap();
    }
    let tokenizer_config = json!({
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": TEMPLATE,
    });
    let generation = json!({ "eos_token_id": [2, 0], "temperature": 0.6 });
    for (name, bytes) in [
        ("config.json", config.to_json().into_bytes()),
        ("tokenizer.json", tokenizer_json(&vocabulary).unwrap()),
        ("tokenizer_config.json", tokenizer_config.to_string().into()),
        ("generation_config.json", generation.to_string().into()),
    ] {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// What the vocabulary is trained on: the task's words.
fn sample_text(task: &dyn Task) -> String {
    let mut rng = frugal_core::rng::Rng::derive(&[9]);
    let (level, mix) = (task.level(), task.mix());
    let lines = (0..40).map(|_| {
        let line = frugal_eval::corpus::line(task, &mut rng, &level, &mix).unwrap();
        [task.instruction(), &line.prompt, &line.continuation].join("\n")
    });
    format!("user\nassistant\n{}", lines.collect::<Vec<_>>().join("\n"))
}

pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// With the published model in `model`.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        publish(&folder.path().join("model"), &CONTROL);
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_frugal"));
        command
            .args(arguments)
            .args(["--home", "home", "--quiet"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn frugal(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Must succeed; its standard output.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let done = self.frugal(arguments);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{arguments:?}: {told}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// Must fail; what it complains of.
    pub(crate) fn refusal(&self, arguments: &[&str]) -> String {
        let done = self.frugal(arguments);
        assert!(!done.status.success(), "{arguments:?}");
        String::from_utf8(done.stderr).unwrap()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}
