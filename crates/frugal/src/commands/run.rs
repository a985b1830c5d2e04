//! `frugal run`: a recipe from its first stage to its report.

mod findings;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use frugal_eval::encode::Codec;
use frugal_eval::tasks;
use frugal_run::folder::RunFolder;
use frugal_run::ledger::{Ledger, Outcome, Price, RunStart};
use frugal_run::plan::Plan;
use frugal_run::recipe::Recipe;
use frugal_text::word_level;
use frugal_train::artifact::Companions;
use frugal_train::conduct::{Ensemble, conduct};
use frugal_train::error::Error as TrainError;
use frugal_train::stage::{Books, Terms};

use crate::cli::{Common, Run};
use crate::commands::plan;
use crate::device::{self, Precision};
use crate::home;
use crate::output::{Usage, say};
use crate::progress::Teller;

/// Where runs are put unless `--out` says otherwise.
const RUNS: &str = "runs";

/// Runs of one recipe that are numbered by themselves.
const MOST_RUNS: u32 = 100_000;

pub(crate) fn run(common: &Common, arguments: &Run) -> anyhow::Result<ExitCode> {
    let mut teller = Teller::new(common)?;
    let plan = plan::of(&arguments.chosen)?;
    let recipe_toml = plan.recipe.to_toml()?;
    let folder = open_folder(&plan, &recipe_toml, arguments)?;
    if !common.quiet && !common.json {
        say(&plan);
        say(format!("into {}\n", folder.path().display()));
    }
    let bf16 = device::open(common, Precision::Bf16)?;
    let f32 = device::open(common, Precision::F32)?;
    let peak = device::peak(&bf16, Precision::Bf16);
    let ledger = Ledger::open(&home::of(common)?)?;
    let run = begin(&ledger, &plan, &folder)?;
    let terms = Terms {
        run,
        checkpoint_steps: u64::from(plan.recipe.run.checkpoint_steps),
        keep_checkpoints: plan.recipe.run.keep_checkpoints,
        price: Price {
            per_core_hour: plan.recipe.run.price_per_core_hour,
            currency: plan.recipe.run.currency.clone(),
        },
        watts_per_core: plan.recipe.run.watts_per_core,
        threads: bf16.threads(),
        peak_flops_per_second: peak,
    };
    let task = tasks::by_name(&plan.recipe.task.name, None)?;
    let (tokenizer, codec) = Codec::for_task(task.as_ref())?;
    let companions = Companions {
        tokenizer,
        tokenizer_config: word_level::tokenizer_config_json(plan.recipe.n_positions()),
    };
    let ensemble = Ensemble {
        bf16: &bf16,
        f32: &f32,
        task: task.as_ref(),
        codec: &codec,
        companions: &companions,
    };
    let mut books = Books::open(&folder, &ledger, terms)?;
    let conducted = conduct(&plan, &ensemble, &mut books, &mut teller);
    drop(books);
    let outcome = match &conducted {
        Ok(()) => Outcome::Done,
        Err(TrainError::Interrupted { .. }) => Outcome::Interrupted,
        Err(_) => Outcome::Failed,
    };
    ledger.finish(run, outcome)?;
    conducted
        .with_context(|| format!("run {} in {}", plan.recipe.name, folder.path().display()))?;
    let machine = format!(
        "{:?}, {} threads, {}FLOP/s of bf16 products",
        bf16.isa(),
        bf16.threads(),
        crate::output::metric(peak)
    );
    findings::publish(common, &plan, &folder, &ledger, run, machine)
}

/// The run's number in the ledger: a new one, or that of the run that is continued.
fn begin(ledger: &Ledger, plan: &Plan, folder: &RunFolder) -> anyhow::Result<i64> {
    let path = folder
        .path()
        .canonicalize()
        .context("the run folder went away")?;
    let path = path.to_string_lossy().into_owned();
    if let Some(run) = ledger.resume(&path)? {
        return Ok(run);
    }
    Ok(ledger.begin(&RunStart {
        recipe: plan.recipe.name.clone(),
        seed: plan.recipe.seed,
        budget_minutes: plan.budget_minutes,
        folder: path,
    })?)
}

/// `--out`, else the next free folder of the recipe's name; with `--resume` the last one.
fn open_folder(plan: &Plan, recipe_toml: &str, arguments: &Run) -> anyhow::Result<RunFolder> {
    let name = &plan.recipe.name;
    if arguments.resume {
        let path = match &arguments.out {
            Some(path) => path.clone(),
            None => last_folder(name).ok_or_else(|| {
                Usage(format!(
                    "expected a run of {name} under {RUNS}/ to resume, found none"
                ))
            })?,
        };
        let folder = RunFolder::open(&path)?;
        folder.expect_recipe(recipe_toml)?;
        return Ok(folder);
    }
    let path = arguments.out.clone().unwrap_or_else(|| free_folder(name));
    Ok(RunFolder::create(&path, recipe_toml)?)
}

fn numbered(name: &str, number: u32) -> PathBuf {
    let folder = if number == 1 {
        name.to_owned()
    } else {
        format!("{name}-{number}")
    };
    Path::new(RUNS).join(folder)
}

fn free_folder(name: &str) -> PathBuf {
    (1..MOST_RUNS)
        .map(|number| numbered(name, number))
        .find(|path| !path.exists())
        .unwrap_or_default()
}

fn last_folder(name: &str) -> Option<PathBuf> {
    (1..MOST_RUNS)
        .map(|number| numbered(name, number))
        .take_while(|path| path.exists())
        .last()
}

/// The recipe that a run folder was made with.
pub(crate) fn recipe_of(folder: &Path) -> anyhow::Result<Recipe> {
    let path = folder.join("recipe.toml");
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "expected a run's folder with recipe.toml, got {}",
            folder.display()
        )
    })?;
    let none: [&str; 0] = [];
    Ok(Recipe::from_toml(&text, &none)?)
}
