//! A run's progress: a bar for each stage on a terminal, plain lines in a pipe, JSON lines for
//! machines, nothing when asked to be quiet.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use frugal_run::ledger::Entry;
use frugal_train::stage::{Progress, Watcher};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::Common;
use crate::output::{duration, metric, say, tell};

/// How progress is told.
enum How {
    Bar(Option<ProgressBar>),
    Lines,
    Json,
    Quiet,
}

/// Tells the progress of a run, and hears Ctrl-C.
pub(crate) struct Teller {
    how: How,
    interrupted: Arc<AtomicBool>,
}

/// Seconds between plain lines of a stage.
const LINE_SECONDS: f64 = 5.0;

impl Teller {
    /// Chooses how to tell, and takes over Ctrl-C: the first asks for a checkpoint and an end, the
    /// second ends at once.
    pub(crate) fn new(common: &Common) -> anyhow::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The order matters: the shutdown must see the flag of the signal before.
            signal_hook::flag::register_conditional_shutdown(
                signal,
                130,
                Arc::clone(&interrupted),
            )?;
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let how = if common.json {
            How::Json
        } else if common.quiet {
            How::Quiet
        } else if std::io::stderr().is_terminal() {
            How::Bar(None)
        } else {
            How::Lines
        };
        Ok(Self { how, interrupted })
    }
}

fn number(metrics: &BTreeMap<String, Value>, name: &str) -> Option<f64> {
    metrics.get(name).and_then(Value::as_f64)
}

/// Loss or reward, accuracy, length, tokens a second: what one wants to see of a step.
fn words(progress: &Progress<'_>) -> String {
    let metrics = progress.metrics;
    let mut parts = Vec::new();
    for (name, label) in [
        ("loss", "loss"),
        ("divergence", "divergence"),
        ("reward", "reward"),
        ("accuracy", "accuracy"),
        ("thinking_tokens", "thinking"),
    ] {
        if let Some(value) = number(metrics, name) {
            parts.push(match label {
                "thinking" => format!("{label} {value:.0}"),
                _ => format!("{label} {value:.3}"),
            });
        }
    }
    if let Some(Value::String(checkpoint)) = metrics.get("checkpoint") {
        let pass = metrics
            .get("score")
            .and_then(|s| s.pointer("/pass_at_1/value"));
        let pass = pass.and_then(Value::as_f64).unwrap_or_default();
        parts.push(format!("{checkpoint} {:.1} %", 100.0 * pass));
    }
    if progress.seconds > 0.0 && progress.tokens > 0 {
        parts.push(format!(
            "{}tokens/s",
            metric(progress.tokens as f64 / progress.seconds)
        ));
    }
    parts.join("  ")
}

impl Watcher for Teller {
    fn begin(&mut self, stage: &str, kind: &str, step: u64, n_steps: u64) {
        match &mut self.how {
            How::Bar(bar) => {
                let style = ProgressStyle::with_template(
                    "{prefix:18} {bar:24} {pos:>5}/{len:<5} {elapsed:>4} +{eta:<4} {msg}",
                )
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
                let new =
                    ProgressBar::with_draw_target(Some(n_steps), ProgressDrawTarget::stderr());
                new.set_style(style);
                new.set_prefix(stage.to_owned());
                new.set_position(step);
                *bar = Some(new);
            }
            How::Lines => tell(format!(
                "{stage}: {kind}, {n_steps} steps, from step {step}"
            )),
            How::Json => say(json!({
                "event": "stage", "stage": stage, "kind": kind, "step": step, "steps": n_steps,
            })),
            How::Quiet => {}
        }
    }

    fn step(&mut self, progress: &Progress<'_>) {
        match &self.how {
            How::Bar(Some(bar)) => {
                bar.set_position(progress.step);
                bar.set_message(words(progress));
            }
            How::Lines => {
                let slot = |seconds: f64| (seconds / LINE_SECONDS).floor();
                let is_new =
                    slot(progress.stage_seconds) > slot(progress.stage_seconds - progress.seconds);
                if is_new || progress.step == progress.n_steps {
                    tell(format!(
                        "{} {}/{}  {}",
                        progress.stage,
                        progress.step,
                        progress.n_steps,
                        words(progress)
                    ));
                }
            }
            How::Json => say(json!({
                "event": "step",
                "stage": progress.stage,
                "kind": progress.kind,
                "step": progress.step,
                "steps": progress.n_steps,
                "seconds": progress.seconds,
                "tokens": progress.tokens,
                "metrics": progress.metrics,
            })),
            How::Bar(None) | How::Quiet => {}
        }
    }

    fn end(&mut self, stage: &str, entry: &Entry) {
        match &mut self.how {
            How::Bar(bar) => {
                if let Some(bar) = bar.take() {
                    bar.finish();
                }
            }
            How::Lines => tell(format!(
                "{stage}: done in {}, {}FLOP",
                duration(entry.used.wall_seconds),
                metric(entry.work.flops())
            )),
            How::Json => say(json!({ "event": "stage_end", "stage": stage, "cost": entry })),
            How::Quiet => {}
        }
    }

    fn warn(&mut self, message: &str) {
        match &self.how {
            How::Json => say(json!({ "event": "warning", "message": message })),
            How::Bar(Some(bar)) => bar.println(format!("warning: {message}")),
            _ => tell(format!("warning: {message}")),
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
