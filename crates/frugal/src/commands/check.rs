//! `frugal check`: a checkpoint against values that another implementation recorded.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use frugal_core::reference::Reference;
use frugal_run::consumption::{Stopwatch, peak_memory_bytes};
use frugal_train::check::{CheckReport, Closeness, Recorded, check_golden};
use serde_json::json;

use crate::cli::{Check, CheckOn, Common};
use crate::device::{self, Precision};
use crate::models;
use crate::output::{duration, metric, say, say_json, table};

/// Largest recording that is read.
const MAX_BYTES: u64 = 4 << 30;

pub(crate) fn run(common: &Common, arguments: &Check) -> anyhow::Result<ExitCode> {
    let exact = Closeness::F32(arguments.tolerance);
    let mut is_passed = true;
    let mut rows = Vec::new();
    for path in &arguments.folders {
        if !path.is_dir() {
            // A shell's star also names the README beside the folders.
            continue;
        }
        let about = || format!("checkpoint {}", path.display());
        let watch = Stopwatch::start();
        let golden = recording(path)?;
        let opened = models::at(path)?.open()?;
        let opened_in = watch.seconds();
        let recorded = Recorded {
            config: &opened.config,
            leaves: &opened.leaves,
            golden: &golden,
        };
        for on in arguments.on.back_ends() {
            let watch = Stopwatch::start();
            let report = match on {
                CheckOn::Reference => check_golden(&Reference, &recorded, exact),
                CheckOn::CpuBf16 => {
                    let device = device::open(common, Precision::Bf16)?;
                    check_golden(&device, &recorded, Closeness::Bf16)
                }
                _ => {
                    let device = device::open(common, Precision::F32)?;
                    check_golden(&device, &recorded, exact)
                }
            }
            .with_context(about)?;
            is_passed &= report.is_passed();
            let peak = peak_memory_bytes().unwrap_or(0);
            if common.json {
                say_json(&json!({
                    "event": "check", "folder": path, "back_end": on.name(),
                    "passed": report.is_passed(), "lines": report.lines,
                    "opened_seconds": opened_in, "seconds": watch.seconds(),
                    "peak_memory_bytes": peak,
                }))?;
            }
            let mut row = row(&opened.name, on.name(), &report);
            row.extend([
                duration(opened_in),
                duration(watch.seconds()),
                format!("{}B", metric(peak as f64)),
            ]);
            rows.push(row);
        }
    }
    anyhow::ensure!(
        !rows.is_empty(),
        "expected at least one folder with a model and golden.safetensors"
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
            "opened in",
            "checked in",
            "peak memory",
        ];
        say(table(&head, &rows));
        say(format!(
            "errors are relative to the largest recorded value of a tensor; {:.0e} is allowed \
             in f32, in bf16 twice the error recorded for it",
            arguments.tolerance
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

/// The recorded values beside a checkpoint.
fn recording(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let path = folder.join("golden.safetensors");
    let at = || format!("cannot read {}", path.display());
    let size = fs::metadata(&path).with_context(at)?.len();
    anyhow::ensure!(
        size <= MAX_BYTES,
        "expected at most {MAX_BYTES} bytes in {}, got {size}",
        path.display()
    );
    fs::read(&path).with_context(at)
}
