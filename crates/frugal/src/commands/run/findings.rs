//! What a run found: the results table, the report, the bill, the last JSON line.

use std::path::Path;
use std::process::ExitCode;

use frugal_eval::report::{
    self, Checkpoint as Row, Controls, Followed, FollowedAnswer, HomeTotal, ModelLine, Report,
    Timing,
};
use frugal_model::config::ModelConfig;
use frugal_model::params::{Params, Spec};
use frugal_run::folder::RunFolder;
use frugal_run::journal::read_records;
use frugal_run::ledger::{Bill, Ledger};
use frugal_run::plan::Plan;
use frugal_run::recipe::StageSettings;
use frugal_train::artifact::{Vocabulary, config_of};
use frugal_train::exam::{self, Examined};
use frugal_train::import::Imported;
use serde_json::{Value, json};

use crate::cli::Common;
use crate::commands::cost;
use crate::output::{grouped, say, say_json, table};

/// A run that came to its end.
pub(super) struct Ran<'a> {
    /// What it was to do.
    pub(super) plan: &'a Plan,
    /// Where it did it.
    pub(super) folder: &'a RunFolder,
    /// Where it is billed.
    pub(super) ledger: &'a Ledger,
    /// Its number there.
    pub(super) run: i64,
    /// On what it ran.
    pub(super) machine: String,
    /// What it started from.
    pub(super) imported: Option<&'a Imported>,
}

/// Writes the report and says what the run found.
pub(super) fn publish(common: &Common, ran: &Ran<'_>) -> anyhow::Result<ExitCode> {
    let bill = ran.ledger.bill(ran.run)?;
    let examined = examined(ran.plan, ran.folder)?;
    let report = assemble(ran, &bill, &examined)?;
    let path = ran.folder.write_report(&report::render(&report))?;
    if common.json {
        return results(ran.plan, &bill, &report, &path);
    }
    say("");
    if !report.checkpoints.is_empty() {
        say(results_table(&report.checkpoints));
        say("");
        for sentence in report::story(&report) {
            say(&sentence.text);
        }
        say("");
    }
    say(cost::of_run(&bill));
    say(format!("report {}", path.display()));
    Ok(ExitCode::SUCCESS)
}

/// What each exam of the run found, with whether it was a control.
struct Exams {
    main: Vec<Examined>,
    controls: Vec<Examined>,
}

fn examined(plan: &Plan, folder: &RunFolder) -> anyhow::Result<Exams> {
    let checkpoints = folder.checkpoints(plan.recipe.run.keep_checkpoints);
    let mut exams = Exams {
        main: Vec::new(),
        controls: Vec::new(),
    };
    for stage in &plan.recipe.stages {
        if !matches!(stage.settings, StageSettings::Eval(_)) {
            continue;
        }
        if let Some(left) = checkpoints.final_of(&stage.name)? {
            let found = exam::scores(&left)?;
            if stage.control {
                exams.controls.extend(found);
            } else {
                exams.main.extend(found);
            }
        }
    }
    Ok(exams)
}

fn row(examined: &Examined) -> Row {
    Row {
        name: examined.checkpoint.clone(),
        score: examined.score.clone(),
        pass_rates: examined.pass_rates.clone(),
    }
}

fn assemble(ran: &Ran<'_>, bill: &Bill, exams: &Exams) -> anyhow::Result<Report> {
    let (recipe, folder) = (&ran.plan.recipe, ran.folder);
    let records = |path: &Path| -> anyhow::Result<Vec<Value>> {
        Ok(read_records(path)?.collect::<Result<_, _>>()?)
    };
    let journal = records(folder.journal()?.path())?;
    let samples = records(folder.samples()?.path())?;
    let timings: Vec<Timing> = read_records(folder.timings()?.path())?.collect::<Result<_, _>>()?;
    let (bills, total) = ran.ledger.everything()?;
    let task = frugal_eval::tasks::by_name(&recipe.task.name, None)?;
    Ok(Report {
        about: recipe.about.clone(),
        task: recipe.task.name.clone(),
        machine: ran.machine.clone(),
        models: models(ran)?,
        journal,
        timings,
        checkpoints: exams.main.iter().map(row).collect(),
        followed: followed(&samples),
        self_check_words: task
            .self_check_words()
            .iter()
            .map(|w| (*w).to_owned())
            .collect(),
        controls: controls(exams),
        bill: bill.clone(),
        watts_per_core: recipe.run.watts_per_core,
        home: Some(HomeTotal {
            runs: bills.len(),
            total,
        }),
        recipe_text: recipe.to_toml()?,
    })
}

fn models(ran: &Ran<'_>) -> anyhow::Result<Vec<ModelLine>> {
    let recipe = &ran.plan.recipe;
    let vocabulary = if let Some(imported) = ran.imported {
        Vocabulary::of_model(&imported.config)
    } else {
        let task = frugal_eval::tasks::by_name(&recipe.task.name, None)?;
        // Control tokens stand before the words.
        Vocabulary::of_words(task.words().len() + frugal_text::word_level::CONTROL.len())
    };
    let imported = ran.imported.map(|i| line(&i.name, &i.config));
    let new = recipe
        .models
        .iter()
        .map(|(name, shape)| line(name, &config_of(shape, &vocabulary)?));
    imported.into_iter().chain(new).collect()
}

fn line(name: &str, config: &ModelConfig) -> anyhow::Result<ModelLine> {
    let count = Params::<Spec>::spec(config)?.count(config);
    Ok(ModelLine {
        name: name.to_owned(),
        description: format!(
            "{:?}, {} layers of {}, {} parameters ({} active)",
            config.architecture,
            config.num_hidden_layers,
            config.hidden_size,
            grouped(count.total + count.mtp),
            grouped(count.active)
        ),
    })
}

/// The questions that every exam shows, with each checkpoint's answer.
fn followed(samples: &[Value]) -> Vec<Followed> {
    let text = |sample: &Value, field: &str| {
        sample
            .get(field)
            .and_then(Value::as_str)
            .map(ToOwned::to_owned)
    };
    let mut all: Vec<Followed> = Vec::new();
    for sample in samples {
        let (Some(checkpoint), Some(question), Some(answer)) = (
            text(sample, "checkpoint"),
            text(sample, "question"),
            text(sample, "text"),
        ) else {
            continue;
        };
        let is_correct = sample
            .get("correct")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let answer = FollowedAnswer {
            checkpoint,
            text: answer,
            is_correct,
        };
        match all
            .iter_mut()
            .find(|followed| followed.question == question)
        {
            Some(followed) => followed.answers.push(answer),
            None => all.push(Followed {
                question,
                answers: vec![answer],
            }),
        }
    }
    all
}

/// The controls by the names that recipes give them.
fn controls(exams: &Exams) -> Option<Controls> {
    if exams.controls.is_empty() {
        return None;
    }
    let of = |name: &str| {
        exams
            .controls
            .iter()
            .find(|examined| examined.checkpoint == name)
    };
    let tokens = |name: &str| {
        let found = exams
            .main
            .iter()
            .find(|examined| examined.checkpoint == name);
        found.map_or(0.0, |examined| examined.score.mean_tokens)
    };
    Some(Controls {
        random_reward: of("random-reward").map(row),
        continued_sft: of("continued-sft").map(row),
        base_curve: of("base").and_then(|base| base.curve.clone()),
        // Both are the same model, so an answer's cost is as its length.
        base_flops_per_answer: tokens("base"),
        tuned_flops_per_answer: tokens("r1-zero"),
    })
}

fn results_table(checkpoints: &[Row]) -> String {
    let percent = |e: &frugal_eval::stats::Estimate| {
        format!(
            "{:.1} [{:.1}, {:.1}]",
            100.0 * e.value,
            100.0 * e.low,
            100.0 * e.high
        )
    };
    let rows: Vec<Vec<String>> = checkpoints
        .iter()
        .map(|Row { name, score, .. }| {
            vec![
                name.clone(),
                percent(&score.pass_at_1),
                percent(&score.greedy),
                percent(&score.pass_at_8),
                percent(&score.majority_at_8),
                format!("{:.1}", score.mean_thinking_tokens),
                format!("{:.2}", score.self_checks),
                format!("{:.1}", 100.0 * score.in_form),
            ]
        })
        .collect();
    let head = [
        "checkpoint",
        "pass@1 %",
        "greedy %",
        "pass@8 %",
        "majority@8 %",
        "thinking",
        "self-checks",
        "in form %",
    ];
    table(&head, &rows)
}

/// The one line that ends a run's JSON.
fn results(plan: &Plan, bill: &Bill, report: &Report, path: &Path) -> anyhow::Result<ExitCode> {
    let checkpoints: Vec<Value> = report
        .checkpoints
        .iter()
        .map(|Row { name, score, .. }| {
            json!({
                "name": name,
                "pass_at_1": score.pass_at_1.value,
                "greedy": score.greedy.value,
                "pass_at_8": score.pass_at_8.value,
                "majority_at_8": score.majority_at_8.value,
                "mean_thinking_tokens": score.mean_thinking_tokens,
                "in_form": score.in_form,
                "self_checks": score.self_checks,
                "intervals": {
                    "pass_at_1": [score.pass_at_1.low, score.pass_at_1.high],
                    "greedy": [score.greedy.low, score.greedy.high],
                    "pass_at_8": [score.pass_at_8.low, score.pass_at_8.high],
                    "majority_at_8": [score.majority_at_8.low, score.majority_at_8.high],
                },
            })
        })
        .collect();
    let used = bill.total.used.as_ref();
    say_json(&json!({
        "event": "results",
        "recipe": plan.recipe.name,
        "seed": plan.recipe.seed,
        "checkpoints": checkpoints,
        "seconds": used.map(|used| used.wall_seconds),
        "peak_memory_bytes": used.and_then(|used| used.peak_memory_bytes),
        "flops": bill.total.work.flops(),
        "cost": {
            "money": bill.total.money,
            "core_seconds": used.map(|used| used.core_seconds),
            "joules": used.map(|used| used.joules),
            "energy_method": used.map(|used| used.energy_method.label()),
        },
        "report": path,
    }))?;
    Ok(ExitCode::SUCCESS)
}
