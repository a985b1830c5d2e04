//! `frugal eval`: one checkpoint of a run on the held-out problems.

use std::process::ExitCode;

use frugal_eval::encode::Codec;
use frugal_eval::tasks;
use frugal_run::checkpoint::Checkpoints;
use frugal_run::ledger::Work;
use frugal_run::recipe::EvalSettings;
use frugal_train::conduct::examine;
use serde_json::json;

use crate::cli::{Common, Eval};
use crate::commands::run::recipe_of;
use crate::device::{self, Precision};
use crate::output::{metric, say, say_json, table};

pub(crate) fn run(common: &Common, arguments: &Eval) -> anyhow::Result<ExitCode> {
    let recipe = recipe_of(&arguments.run)?;
    let task = tasks::by_name(&recipe.task.name, None)?;
    let (_, codec) = Codec::for_task(task.as_ref())?;
    let device = device::open(common, Precision::Bf16)?;
    let root = arguments.run.join("checkpoints");
    let checkpoints = Checkpoints::new(&root, recipe.run.keep_checkpoints);
    let Some(left) = checkpoints.final_of(&arguments.stage)? else {
        anyhow::bail!(
            "expected a finished stage {} in {}, got none",
            arguments.stage,
            arguments.run.display()
        );
    };
    let settings = EvalSettings {
        problems: arguments.problems,
        samples: arguments.samples,
        ..EvalSettings::default()
    };
    let named = (arguments.stage.clone(), left);
    let (examined, work): (_, Work) =
        examine(&recipe, &device, (task.as_ref(), &codec), named, settings)?;
    let score = &examined.score;
    if common.json {
        say_json(&json!({
            "event": "score", "checkpoint": arguments.stage, "score": score,
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
    say(table(&[&arguments.stage, "", "from", "to"], &rows));
    say(format!(
        "{} held-out problems, mean thinking {:.1} tokens, {:.1} % in form, {}FLOP",
        score.problems,
        score.mean_thinking_tokens,
        100.0 * score.in_form,
        metric(work.flops())
    ));
    Ok(ExitCode::SUCCESS)
}
