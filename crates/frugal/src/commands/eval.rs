//! `frugal eval`: a model on the held-out problems of a task.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use frugal_core::rng::{Rng, key};
use frugal_eval::corpus;
use frugal_eval::encode::{Codec, is_of_task};
use frugal_eval::knobs::Level;
use frugal_eval::task::Task;
use frugal_eval::tasks;
use frugal_run::recipe::EvalSettings;
use frugal_train::conduct::{Questions, examine};
use serde_json::json;

use crate::cli::{Common, Eval};
use crate::device::{self, Precision};
use crate::models::{self, Opened, Source};
use crate::output::{Usage, metric, say, say_json, table};

/// The seed of models that are no run's.
const SEED: u64 = 1;

pub(crate) fn run(common: &Common, arguments: &Eval) -> anyhow::Result<ExitCode> {
    let source = models::find(common, &arguments.which)?;
    let opened = source.open()?;
    let asked = (arguments.task.as_deref(), arguments.data.as_deref());
    let examiner = Examiner::of(&source, &opened, asked)?;
    let device = device::open(common, Precision::Bf16)?;
    let model = opened.load(&device, opened.positions(usize::MAX))?;
    let settings = EvalSettings {
        problems: arguments.problems,
        samples: arguments.samples,
        max_new_tokens: u32::try_from(arguments.max_tokens)?,
        ..EvalSettings::default()
    };
    let (examined, work) = examine(
        &device,
        (&source.name, &model),
        &examiner.questions(),
        settings,
    )?;
    let score = &examined.score;
    if common.json {
        say_json(&json!({
            "event": "score", "checkpoint": source.name, "task": examiner.task.name(), "score": score,
            "curve": examined.curve, "tokens": work.tokens_generated, "flops": work.flops(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = [
        ("pass@1", &score.pass_at_1),
        ("greedy", &score.greedy),
        ("pass@8", &score.pass_at_8),
        ("majority@8", &score.majority_at_8),
    ]
    .iter()
    .map(|(name, e)| {
        let percent = |value: f64| format!("{:.1} %", 100.0 * value);
        vec![
            (*name).to_owned(),
            percent(e.value),
            percent(e.low),
            percent(e.high),
        ]
    })
    .collect();
    say(table(&[&source.name, "", "from", "to"], &rows));
    say(format!(
        "{} held-out problems, mean thinking {:.1} tokens, {:.1} % in form, {}FLOP",
        score.problems,
        score.mean_thinking_tokens,
        100.0 * score.in_form,
        metric(work.flops())
    ));
    Ok(ExitCode::SUCCESS)
}

/// A task with the words of a model.
pub(crate) struct Examiner {
    pub(crate) task: Box<dyn Task>,
    codec: Codec,
    level: Level,
    seed: u64,
}

impl Examiner {
    /// The task of that name, else that of the model's run.
    pub(crate) fn of(
        source: &Source,
        opened: &Opened,
        (task, data): (Option<&str>, Option<&Path>),
    ) -> anyhow::Result<Self> {
        let recipe = source.recipe.as_ref();
        let own = recipe.map(|recipe| recipe.task.name.as_str());
        let name = task.or(own).ok_or_else(|| {
            Usage(format!(
                "expected --task with a model that is no run's, one of {}",
                tasks::NAMES.join(", ")
            ))
        })?;
        let rows = data
            .map(|path| {
                fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            })
            .transpose()?;
        let task = tasks::by_name(name, rows.as_deref())?;
        let text = opened.text()?;
        let codec = if is_of_task(&text.tokenizer, task.as_ref()) {
            Codec::new(&text.tokenizer)?
        } else {
            Codec::for_chat(
                text.tokenizer.clone(),
                text.template(None)?,
                task.instruction(),
            )
            .context("expected a chat model that marks its thinking")?
        };
        let level = match recipe.filter(|_| own == Some(name)) {
            Some(recipe) => {
                let stage = recipe.stage(&source.name);
                let over = stage.map(|stage| stage.difficulty.clone());
                let over = over.unwrap_or_default();
                recipe.task.difficulty(&task.level(), &over)?
            }
            None => task.level(),
        };
        Ok(Self {
            codec,
            level,
            seed: recipe.map_or(SEED, |recipe| recipe.seed),
            task,
        })
    }

    /// What the model is asked.
    pub(crate) fn questions(&self) -> Questions<'_> {
        Questions {
            task: self.task.as_ref(),
            codec: &self.codec,
            level: self.level.clone(),
            seed: self.seed,
        }
    }

    /// Lines of the task's base corpus, as many as give so many tokens.
    pub(crate) fn corpus(&self, tokens: usize) -> anyhow::Result<Vec<u32>> {
        let mix = self.task.mix();
        let mut ids = Vec::new();
        for index in 0u64.. {
            if ids.len() >= tokens {
                break;
            }
            let mut rng = Rng::derive(&[self.seed, key("corpus"), index]);
            let line = corpus::line(self.task.as_ref(), &mut rng, &self.level, &mix)?;
            ids.extend(self.codec.line(&line)?.ids);
        }
        Ok(ids)
    }
}
