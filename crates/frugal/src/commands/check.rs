//! `frugal check`: a checkpoint against values that another implementation recorded.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use frugal_core::reference::Reference;
use frugal_train::check::{CheckReport, GoldenFolder, TOLERANCE, check_golden};
use serde_json::json;

use crate::cli::{Check, CheckOn, Common};
use crate::device::{self, Precision};
use crate::output::{say, say_json, table};

/// Largest file that is read.
const MAX_BYTES: u64 = 4 << 30;

pub(crate) fn run(common: &Common, arguments: &Check) -> anyhow::Result<ExitCode> {
    let cpu = device::open(common, Precision::F32)?;
    let mut is_passed = true;
    let mut rows = Vec::new();
    for path in &arguments.folders {
        if !path.is_dir() {
            // A shell's star also names the README beside the folders.
            continue;
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let files = Files::read(path).with_context(|| format!("checkpoint {}", path.display()))?;
        let weights = [files.weights.into()];
        let folder = GoldenFolder {
            config: &files.config,
            weights: &weights,
            golden: &files.golden,
        };
        for (back_end, is_asked) in [
            ("reference", arguments.on != CheckOn::Cpu),
            ("cpu", arguments.on != CheckOn::Reference),
        ] {
            if !is_asked {
                continue;
            }
            let report = match back_end {
                "reference" => check_golden(&Reference, &folder),
                _ => check_golden(&cpu, &folder),
            }
            .with_context(|| format!("checkpoint {}", path.display()))?;
            is_passed &= report.is_passed();
            if common.json {
                say_json(&json!({
                    "event": "check", "folder": path, "back_end": back_end,
                    "passed": report.is_passed(), "lines": report.lines,
                }))?;
            }
            rows.push(row(&name, back_end, &report));
        }
    }
    anyhow::ensure!(
        !rows.is_empty(),
        "expected at least one folder with config.json, model.safetensors and golden.safetensors"
    );
    if !common.json {
        let head = [
            "checkpoint",
            "on",
            "logits",
            "loss",
            "worst gradient",
            "greedy",
            "mtp",
            "verdict",
        ];
        say(table(&head, &rows));
        say(format!(
            "errors are relative to the largest recorded value of a tensor; {TOLERANCE:.0e} is allowed"
        ));
    }
    Ok(if is_passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn row(name: &str, back_end: &str, report: &CheckReport) -> Vec<String> {
    let worst = |prefix: &str| {
        let lines = report
            .lines
            .iter()
            .filter(|line| line.name.starts_with(prefix));
        lines.map(|line| line.error).reduce(f64::max)
    };
    let shown = |error: Option<f64>| error.map_or("-".into(), |e| format!("{e:.1e}"));
    let greedy = match worst("greedy") {
        Some(share) if share <= 0.0 => "equal".into(),
        Some(share) => format!("{:.1} % differ", 100.0 * share),
        None => "-".into(),
    };
    let verdict = if report.is_passed() { "ok" } else { "FAILED" };
    vec![
        name.to_owned(),
        back_end.to_owned(),
        shown(worst("logits")),
        shown(worst("loss")),
        shown(report.worst_gradient().map(|line| line.error)),
        greedy,
        shown(worst("mtp_logits")),
        verdict.to_owned(),
    ]
}

struct Files {
    config: String,
    weights: Vec<u8>,
    golden: Vec<u8>,
}

impl Files {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let bytes = |name: &str| -> anyhow::Result<Vec<u8>> {
            let path = folder.join(name);
            let size = fs::metadata(&path)
                .with_context(|| format!("cannot read {}", path.display()))?
                .len();
            anyhow::ensure!(
                size <= MAX_BYTES,
                "expected at most {MAX_BYTES} bytes in {}, got {size}",
                path.display()
            );
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Self {
            config: String::from_utf8(bytes("config.json")?).context("config.json")?,
            weights: bytes("model.safetensors")?,
            golden: bytes("golden.safetensors")?,
        })
    }
}
