//! `frugal quantize`: a model in fewer bits, and what was lost, measured on the spot.

use std::fs;
use std::process::ExitCode;

use anyhow::Context;
use frugal_core::backend::Backend;
use frugal_eval::evaluate::Score;
use frugal_run::recipe::EvalSettings;
use frugal_train::compare::{Comparison, compare};
use frugal_train::conduct::examine;
use serde::Serialize;
use serde_json::json;

use crate::card::Made;
use crate::cli::{Common, Quantize};
use crate::commands::eval::Examiner;
use crate::device::{self, Device, Precision};
use crate::export::{Target, write};
use crate::models::{self, OnDevice, Opened, Source};
use crate::output::{Usage, metric, say, say_json, table, tell};

/// Samples of a problem: as few as an exam takes.
const SAMPLES: u32 = 8;
/// Positions that the text is measured at.
const WINDOW: usize = 1024;

/// What was lost.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Loss {
    /// On a text.
    pub(crate) text: Comparison,
    /// On a task, before and after.
    pub(crate) task: Option<TaskLoss>,
}

/// A task before and after.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TaskLoss {
    pub(crate) task: String,
    pub(crate) before: Score,
    pub(crate) after: Score,
}

pub(crate) fn run(common: &Common, arguments: &Quantize) -> anyhow::Result<ExitCode> {
    let source = models::find(common, &arguments.which)?;
    let opened = source.open()?;
    let target = Target::of(&opened, &arguments.out, Some(&arguments.to))?;
    let ids = text_ids(&source, &opened, arguments)?;
    let examiner = arguments
        .task
        .as_deref()
        .map(|task| Examiner::of(&source, &opened, (Some(task), None)))
        .transpose()?;
    let device = device::open(common, Precision::Bf16)?;
    let bytes = write(&opened, &arguments.out, target)?;
    if !common.quiet && !common.json {
        tell(format!(
            "wrote {} ({}B, from {}B), measuring what was lost",
            arguments.out.display(),
            metric(bytes as f64),
            metric(opened.bytes as f64)
        ));
    }
    let other = models::at(&arguments.out)?.open()?;
    let positions = match &examiner {
        Some(_) => opened.positions(usize::MAX),
        None => opened.positions(WINDOW),
    };
    let pair = (
        opened.load(&device, positions)?,
        other.load(&device, positions)?,
    );
    let text = opened.text.as_ref();
    let first = text.and_then(|text| text.first_token(&opened.config));
    let loss = Loss {
        text: compare(&device, (&pair.0, &pair.1), &ids, first)?,
        task: match &examiner {
            Some(examiner) => Some(task_loss(&device, &pair, examiner, arguments)?),
            None => None,
        },
    };
    let made = Made {
        source: &source,
        opened: &opened,
        target,
        bytes,
        loss: Some(&loss),
    };
    made.leave_card(&arguments.out)?;
    if common.json {
        say_json(&json!({
            "event": "quantized", "model": opened.name, "path": arguments.out,
            "format": target.name(), "bytes": bytes, "bytes_before": opened.bytes, "loss": loss,
        }))?;
    } else {
        show(&loss);
    }
    Ok(ExitCode::SUCCESS)
}

/// The text that the loss is measured on, in the model's ids.
fn text_ids(source: &Source, opened: &Opened, arguments: &Quantize) -> anyhow::Result<Vec<u32>> {
    let mut ids = match (&arguments.text, &source.recipe) {
        (Some(path), _) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            opened.text()?.tokenizer.encode(&text)?
        }
        (None, Some(_)) => {
            // A run's tiny model knows no other text than its task's.
            Examiner::of(source, opened, (None, None))?.corpus(arguments.tokens)?
        }
        (None, None) => {
            return Err(
                Usage("expected --text FILE to measure the loss on, got none".into()).into(),
            );
        }
    };
    ids.truncate(arguments.tokens);
    Ok(ids)
}

fn task_loss(
    device: &Device,
    (before, after): &(OnDevice, OnDevice),
    examiner: &Examiner,
    arguments: &Quantize,
) -> anyhow::Result<TaskLoss> {
    let settings = EvalSettings {
        problems: arguments.problems,
        samples: SAMPLES,
        max_new_tokens: u32::try_from(arguments.max_tokens)?,
        ..EvalSettings::default()
    };
    let room = device.shape(&before.rope).rows();
    anyhow::ensure!(
        arguments.max_tokens < room,
        "expected --max-tokens below {room}, the positions of the model, got {}",
        arguments.max_tokens
    );
    let score = |name: &str, model: &OnDevice| -> anyhow::Result<Score> {
        let questions = examiner.questions();
        Ok(
            examine(device, (name, model), &questions, settings.clone())?
                .0
                .score,
        )
    };
    Ok(TaskLoss {
        task: examiner.task.name().to_owned(),
        before: score("before", before)?,
        after: score("after", after)?,
    })
}

fn show(loss: &Loss) {
    let Comparison {
        tokens,
        divergence,
        largest_divergence,
        agreement,
        perplexity_before,
        perplexity_after,
    } = loss.text;
    say(format!("on {tokens} tokens of text:"));
    say(format!(
        "  KL divergence       {divergence:.5} nats a token, {largest_divergence:.3} at most"
    ));
    say(format!("  same likeliest token {:.2} %", 100.0 * agreement));
    say(format!(
        "  perplexity          {perplexity_before:.4} before, {perplexity_after:.4} after"
    ));
    if let Some(task) = &loss.task {
        let row = |name: &str, score: &Score| {
            vec![
                name.to_owned(),
                format!("{:.1} %", 100.0 * score.pass_at_1.value),
                format!("{:.1} %", 100.0 * score.greedy.value),
                format!("{:.1}", score.mean_thinking_tokens),
                format!("{:.1}", score.mean_tokens),
            ]
        };
        let rows = [row("before", &task.before), row("after", &task.after)];
        let head = [task.task.as_str(), "pass@1", "greedy", "thinking", "tokens"];
        say(table(&head, &rows));
    }
}
