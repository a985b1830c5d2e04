//! `frugal run`: a recipe from its first stage to its report. Also what the verbs that build a small
//! recipe run it with.

mod findings;
mod page;
mod start;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use frugal_eval::tasks;
use frugal_run::folder::{RunFolder, StopRequest};
use frugal_run::ledger::{Ledger, Outcome, Price, RunStart};
use frugal_run::plan::{Controls, Plan};
use frugal_run::recipe::Recipe;
use frugal_train::conduct::{Ensemble, conduct};
use frugal_train::error::Error as TrainError;
use frugal_train::stage::{Books, Terms};

use crate::cli::{Chosen, Common, Run};
use crate::commands::plan;
use crate::device::{self, Precision};
use crate::home;
use crate::output::{Usage, say, tell};
use crate::progress::Teller;

use findings::Ran;
use page::Page;
use start::Beginning;

/// Where runs are put unless `--out` says otherwise.
const RUNS: &str = "runs";

/// The file that makes a folder a run's.
const RECIPE: &str = "recipe.toml";

/// Runs of one recipe that are numbered by themselves.
const MOST_RUNS: u32 = 100_000;

/// The folder of a run, and whether it is there already.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// A new one, where said or the next free one.
    New(Option<&'a Path>),
    /// One to go on with, where said or the last one.
    Old(Option<&'a Path>),
}

pub(crate) fn run(common: &Common, arguments: &Run) -> anyhow::Result<ExitCode> {
    if arguments.stop {
        return stop(arguments);
    }
    let plan = if arguments.resume && names_folder(arguments) {
        of_folder(arguments)?
    } else {
        plan::of(&arguments.chosen)?
    };
    let name = &plan.recipe.name;
    let path = match (&arguments.out, arguments.resume) {
        (Some(out), _) => out.clone(),
        (None, true) if names_folder(arguments) => arguments.chosen.recipe.clone().into(),
        (None, true) => old_folder(name, None)?,
        (None, false) => free_folder(name),
    };
    let page = arguments.web.map(|at| Page::start(common, at, &path));
    let page = page.transpose()?;
    let place = if arguments.resume {
        Place::Old(Some(&path))
    } else {
        Place::New(Some(&path))
    };
    let done = follow(common, &plan, place);
    match page {
        Some(page) => page.stay(common, done),
        None => done,
    }
}

/// Whether a run's folder was named where a recipe is as a rule.
fn names_folder(arguments: &Run) -> bool {
    Path::new(&arguments.chosen.recipe).join(RECIPE).is_file()
}

/// The plan of the run in a folder, as it was started.
fn of_folder(arguments: &Run) -> anyhow::Result<Plan> {
    let Chosen {
        recipe,
        budget,
        overrides,
        seed,
        controls,
    } = &arguments.chosen;
    if budget.is_some() || !overrides.is_empty() || seed.is_some() || *controls {
        return Err(Usage(format!(
            "expected the run in {recipe} to go on as it was started, got other settings for it"
        ))
        .into());
    }
    let recipe = recipe_of(Path::new(recipe))?;
    let minutes = recipe.reference_minutes;
    Ok(Plan::resolve(&recipe, minutes, Controls::Run)?)
}

/// Asks a run to stop: the one in the folder that is named, else the last of the recipe's name.
fn stop(arguments: &Run) -> anyhow::Result<ExitCode> {
    let path = if names_folder(arguments) {
        PathBuf::from(&arguments.chosen.recipe)
    } else {
        let plan = plan::of(&arguments.chosen)?;
        old_folder(&plan.recipe.name, arguments.out.as_deref())?
    };
    StopRequest::leave(&path)?;
    tell(format!(
        "asked the run in {} to stop; it writes a checkpoint after the step it is in",
        path.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Runs a plan from where it stands to its report.
pub(crate) fn follow(common: &Common, plan: &Plan, place: Place<'_>) -> anyhow::Result<ExitCode> {
    let mut teller = Teller::new(common)?;
    let task = tasks::by_name(&plan.recipe.task.name, None)?;
    // Whatever is wrong with a model is said before a folder is made for its run.
    let beginning = Beginning::of(common, &plan.recipe, task.as_ref())?;
    let recipe_toml = plan.recipe.to_toml()?;
    let folder = open_folder(plan, &recipe_toml, place)?;
    if !common.quiet && !common.json {
        say(plan);
        say(format!("into {}\n", folder.path().display()));
    }
    let bf16 = device::open(common, Precision::Bf16)?;
    let f32 = device::open(common, Precision::F32)?;
    let peak = device::peak(&bf16, Precision::Bf16);
    let ledger = Ledger::open(&home::of(common)?)?;
    let run = begin(&ledger, plan, &folder)?;
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
    let ensemble = Ensemble {
        bf16: &bf16,
        f32: &f32,
        task: task.as_ref(),
        codec: &beginning.codec,
        companions: &beginning.companions,
        imported: beginning.imported.as_ref(),
    };
    let mut books = Books::open(&folder, &ledger, terms)?;
    let conducted = conduct(plan, &ensemble, &mut books, &mut teller);
    drop(books);
    let outcome = match &conducted {
        Ok(()) => Outcome::Done,
        Err(TrainError::Interrupted { .. }) => Outcome::Interrupted,
        Err(TrainError::Stopped { .. }) => Outcome::Stopped,
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
    let ran = Ran {
        plan,
        folder: &folder,
        ledger: &ledger,
        run,
        machine,
        imported: beginning.imported.as_ref(),
    };
    findings::publish(common, &ran)
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
fn open_folder(plan: &Plan, recipe_toml: &str, place: Place<'_>) -> anyhow::Result<RunFolder> {
    let name = &plan.recipe.name;
    match place {
        Place::New(out) => {
            let path = out.map_or_else(|| free_folder(name), Path::to_owned);
            Ok(RunFolder::create(&path, recipe_toml)?)
        }
        Place::Old(out) => {
            let folder = RunFolder::open(&old_folder(name, out)?)?;
            folder.expect_recipe(recipe_toml)?;
            Ok(folder)
        }
    }
}

/// The folder of a run to go on with: where said, else the last of its name.
pub(crate) fn old_folder(name: &str, out: Option<&Path>) -> Result<PathBuf, Usage> {
    let found = out.map(Path::to_owned).or_else(|| last_folder(name));
    found.ok_or_else(|| {
        Usage(format!(
            "expected a run of {name} under {RUNS}/ to resume, found none"
        ))
    })
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
    let path = folder.join(RECIPE);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "expected a run's folder with recipe.toml, got {}",
            folder.display()
        )
    })?;
    let none: [&str; 0] = [];
    Ok(Recipe::from_toml(&text, &none)?)
}
