//! `frugal chat`: problems typed by hand, the thinking shown apart from the answer.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use frugal_core::backend::Sampling;
use frugal_eval::encode::Codec;
use frugal_eval::judge::judge;
use frugal_eval::task::Task;
use frugal_eval::tasks;
use frugal_model::transformer::Model;
use frugal_run::checkpoint::Checkpoints;
use frugal_run::recipe::Recipe;
use frugal_train::artifact;
use frugal_train::rollout::{Cached, Draw, Prompt, Roller};
use serde_json::json;

use crate::cli::{Chat, Common};
use crate::commands::run::recipe_of;
use crate::device::{self, Device, Precision};
use crate::output::{say, say_json, tell};

/// Longest line that is read.
const MAX_LINE_BYTES: u64 = 64 * 1024;

pub(crate) fn run(common: &Common, arguments: &Chat) -> anyhow::Result<ExitCode> {
    let (folder, stage) = place(arguments)?;
    let recipe = recipe_of(&folder)?;
    let task = tasks::by_name(&recipe.task.name, None)?;
    let (_, codec) = Codec::for_task(task.as_ref())?;
    let device = device::open(common, Precision::Bf16)?;
    let (name, model) = open(&device, &folder, &recipe, stage.as_deref())?;
    let n_positions = frugal_core::backend::Backend::shape(&device, &model.rope).rows();
    let mut roller = Roller::new(&device, &model.config, n_positions, Cached::Latent)?;
    let mut rng = frugal_core::rng::Rng::derive(&[1]);
    let level = task.level();
    let example = task.problem(&mut rng, &level)?.question;
    let is_terminal = io::stdin().is_terminal() && !common.json;
    if is_terminal {
        tell(format!(
            "{name} knows {}: type a problem like `{example}`; Ctrl-D ends",
            task.name()
        ));
    }
    let mut reader = io::stdin().lock();
    for turn in 0u64.. {
        if is_terminal {
            drop(write!(io::stderr(), "> "));
        }
        let mut line = String::new();
        let read = io::Read::take(&mut reader, MAX_LINE_BYTES).read_line(&mut line)?;
        if read == 0 {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let asked = Asked {
            task: task.as_ref(),
            codec: &codec,
            line: line.trim(),
            turn,
        };
        if let Err(error) = answer(common, arguments, &asked, &model, &mut roller) {
            tell(format!("{error:#}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One problem as typed.
struct Asked<'a> {
    task: &'a dyn Task,
    codec: &'a Codec,
    line: &'a str,
    turn: u64,
}

fn answer(
    common: &Common,
    arguments: &Chat,
    asked: &Asked<'_>,
    model: &Model<<Device as frugal_core::backend::Backend>::Tensor>,
    roller: &mut Roller<'_, Device>,
) -> anyhow::Result<()> {
    let Asked {
        task,
        codec,
        line,
        turn,
    } = asked;
    let problem = task.parse(line)?;
    let ids = codec.prompt(&problem)?;
    let n_positions = model.config.max_position_embeddings;
    anyhow::ensure!(
        ids.len() < n_positions,
        "expected at most {n_positions} tokens, got {}",
        ids.len()
    );
    let room = n_positions - ids.len();
    let draw = Draw {
        sampling: Sampling {
            temperature: arguments.temperature,
            ..Sampling::PLAIN
        },
        max_new_tokens: arguments.max_tokens.clamp(1, room),
        stop: vec![codec.eos()],
    };
    let prompt = Prompt {
        ids,
        n_samples: 1,
        seed: arguments.seed.rotate_left(32) ^ turn,
    };
    let rollout = roller.sample(model, &[prompt], &draw)?;
    let sample = rollout.samples.first().and_then(|samples| samples.first());
    let sample = sample.context("the model gave no answer")?;
    let parts = codec.split(&sample.ids);
    let judged = judge(*task, &problem, &sample.ids, codec)?;
    let thinking = codec.decode(parts.thinking.unwrap_or_default())?;
    let answer = codec.decode(parts.answer)?;
    if common.json {
        return say_json(&json!({
            "event": "answer", "question": problem.question, "thinking": thinking,
            "answer": answer, "correct": judged.correct, "finished": sample.is_finished,
            "tokens": rollout.tokens, "flops": rollout.flops,
        }));
    }
    if !thinking.is_empty() {
        say(format!("  thinking ({} tokens)", judged.thinking_tokens));
        for line in wrapped(&thinking) {
            say(format!("  | {line}"));
        }
    }
    let verdict = if judged.correct { "right" } else { "wrong" };
    say(format!("{answer}   [{verdict}]"));
    Ok(())
}

/// Lines of about 72 columns, broken between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let is_full = lines
            .last()
            .is_some_and(|line| line.len() + word.len() > 72);
        if is_full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The run's folder and the stage, where the path names a checkpoint inside a run.
fn place(arguments: &Chat) -> anyhow::Result<(PathBuf, Option<String>)> {
    let path = &arguments.model;
    if path.join("recipe.toml").is_file() {
        return Ok((path.clone(), arguments.stage.clone()));
    }
    // RUN/checkpoints/STAGE/final
    let full = path
        .canonicalize()
        .with_context(|| format!("cannot read {}", path.display()))?;
    let run = full
        .ancestors()
        .find(|above| above.join("recipe.toml").is_file());
    let run = run.with_context(|| {
        format!(
            "expected a run's folder or a checkpoint in one, got {}",
            path.display()
        )
    })?;
    let stage = full
        .strip_prefix(run.join("checkpoints"))
        .ok()
        .and_then(|below| {
            below
                .components()
                .next()
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
        });
    Ok((run.to_owned(), arguments.stage.clone().or(stage)))
}

/// The model of a stage; without a name r1's, else the last there is.
pub(crate) fn open(
    device: &Device,
    folder: &Path,
    recipe: &Recipe,
    stage: Option<&str>,
) -> anyhow::Result<(
    String,
    Model<<Device as frugal_core::backend::Backend>::Tensor>,
)> {
    let checkpoints = Checkpoints::new(&folder.join("checkpoints"), recipe.run.keep_checkpoints);
    let with_models = || {
        recipe
            .stages
            .iter()
            .filter(|s| s.settings.leaves_checkpoint())
    };
    let candidates: Vec<&str> = if let Some(name) = stage {
        vec![name]
    } else {
        let r1 = with_models().filter(|s| s.name == "r1");
        r1.chain(with_models().rev())
            .map(|s| s.name.as_str())
            .collect()
    };
    for name in &candidates {
        if let Some(left) = checkpoints.final_of(name)? {
            let model = artifact::open(device, &left, recipe.n_positions())?;
            return Ok(((*name).to_owned(), model));
        }
    }
    let known: Vec<&str> = with_models().map(|s| s.name.as_str()).collect();
    anyhow::bail!(
        "expected a finished stage of {} ({}), got {}",
        folder.display(),
        known.join(", "),
        stage.unwrap_or("a run that has finished none")
    )
}
