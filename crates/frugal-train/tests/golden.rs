//! Loss, gradients, tokens and logits of nine models made by transformers, over the tape.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::PathBuf;

use frugal_core::reference::Reference;
use frugal_model::checkpoint;
use frugal_model::config::ModelConfig;
use frugal_train::check::{CheckReport, Closeness, Recorded, TOLERANCE, check_golden};
use frugal_train::error::Result;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../frugal-model/tests/golden")
        .join(name)
}

fn read(name: &str) -> (String, Vec<u8>, Vec<u8>) {
    let bytes = |file: &str| std::fs::read(folder(name).join(file)).unwrap();
    let config = String::from_utf8(bytes("config.json")).unwrap();
    (
        config,
        bytes("model.safetensors"),
        bytes("golden.safetensors"),
    )
}

fn check(config: &str, weights: &[u8], golden: &[u8]) -> Result<CheckReport> {
    let config = ModelConfig::from_json(config)?;
    let (config, leaves) = checkpoint::read(&config, &[weights.to_vec().into()])?;
    let recorded = Recorded {
        config: &config,
        leaves: &leaves,
        golden,
    };
    check_golden(&Reference, &recorded, Closeness::F32(TOLERANCE))
}

/// The model of a folder is that of transformers; returns how many gradients were compared.
fn passes(name: &str) -> usize {
    let (config, weights, golden) = read(name);
    let report = check(&config, &weights, &golden).unwrap();
    for line in report.lines.iter().filter(|line| !line.is_passed()) {
        eprintln!("{name}: {} differs by {:e}", line.name, line.error);
    }
    assert!(report.is_passed(), "{name} differs");
    let worst = report.worst_gradient().unwrap();
    eprintln!("{name}: worst is {} with {:e}", worst.name, worst.error);
    let gradients = report.lines.iter().filter(|l| l.name.starts_with("grad."));
    gradients.count()
}

#[test]
fn deepseek_models_are_those_of_transformers() {
    for name in [
        "deepseek_v2",
        "deepseek_v2_lite",
        "deepseek_v3",
        "deepseek_v3_fp8",
        "deepseek_v3_mtp",
        "deepseek_v3_yarn",
    ] {
        assert!(passes(name) > 30, "{name}");
    }
}

#[test]
fn dense_models_are_those_of_transformers() {
    for name in ["llama3", "qwen2", "qwen3"] {
        assert!(passes(name) > 20, "{name}");
    }
}

#[test]
fn a_changed_recording_does_not_pass_and_a_damaged_one_is_refused() {
    let (config, weights, golden) = read("qwen2");
    // The last number of the file, whatever tensor it belongs to.
    let mut changed = golden.clone();
    let last = golden.len() - 4;
    changed[last..].copy_from_slice(&1e6f32.to_le_bytes());
    let report = check(&config, &weights, &changed).unwrap();
    assert_eq!(report.lines.iter().filter(|l| !l.is_passed()).count(), 1);

    assert!(check(&config, &weights, &golden[..last]).is_err());
    let error = check(&config, &weights, &weights).unwrap_err();
    assert_eq!(error.to_string(), "recorded values: input_ids is missing");
    let (other, _, _) = read("qwen3");
    assert!(check(&other, &weights, &golden).is_err());
}
