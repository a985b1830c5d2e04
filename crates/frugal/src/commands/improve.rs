//! `frugal sft`, `grpo`, `reject` and `distill`: one stage on a published checkpoint. Each verb builds a
//! recipe (import, the stage, an examination) and follows it as `frugal run` does: the same folder,
//! ledger, report, and `--resume`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use frugal_model::config::ModelConfig;
use frugal_model::init::InitSettings;
use frugal_model::params::{Params, Spec};
use frugal_run::consumption::Stopwatch;
use frugal_run::plan::{Controls, Plan};
use frugal_run::recipe::{Recipe, StageSettings};
use frugal_train::artifact::{Vocabulary, config_of, fresh};
use frugal_train::bench::{TrainBench, TrainShape};

use crate::cli::{Common, Distill, Improve, Student};
use crate::commands::run::{Place, follow, old_folder, recipe_of};
use crate::device::{self, Device, Precision};
use crate::models::{self, Opened, Source};
use crate::output::Usage;

/// Parameters below which the defaults of recipes are meant; larger models want smaller steps.
const SMALL: u64 = 5_000_000;
/// Problems of the examination, fewer than a recipe's: a published model takes longer over each.
const PROBLEMS: u32 = 64;
/// The step that is timed.
const TRIAL: TrainShape = TrainShape {
    sequences: 4,
    length: 128,
};
/// Tokens of the vocabulary of the model that is timed.
const TRIAL_VOCABULARY: usize = 8192;
/// The stage that imports.
const START: &str = "start";
/// Sections of a recipe that an override may name instead of a stage.
const SECTIONS: [&str; 3] = ["task", "run", "model"];

/// What is done with the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Fine-tuned on the completions of the task's corpus.
    Sft,
    /// Reinforced.
    Grpo,
    /// Sampled, and what is right kept.
    Reject,
    /// Made to teach a new model of that family.
    Distill(Student),
}

pub(crate) fn distill(common: &Common, arguments: &Distill) -> anyhow::Result<ExitCode> {
    run(common, &arguments.improve, Deed::Distill(arguments.student))
}

pub(crate) fn run(common: &Common, arguments: &Improve, deed: Deed) -> anyhow::Result<ExitCode> {
    let source = models::find(common, &arguments.which)?;
    let checkpoint = checkpoint_of(&source, arguments)?;
    let name = recipe_name(deed, &source.name);
    let out = arguments.out.as_deref();
    if arguments.resume {
        let plan = begun(&old_folder(&name, out)?, &checkpoint)?;
        return follow(common, &plan, Place::Old(out));
    }
    let opened = source.open()?;
    let written = written(deed, &name, &checkpoint, (arguments, &opened))?;
    let mut overrides = overrides(deed, &arguments.overrides);
    overrides.extend(arguments.seed.map(|seed| format!("seed={seed}")));
    let mut recipe = Recipe::from_toml(&written, &overrides)?;
    recipe.reference_minutes = forecast_minutes(common, &recipe, &opened.config)?;
    let minutes = arguments.budget.unwrap_or(recipe.reference_minutes);
    let plan = Plan::resolve(&recipe, minutes, Controls::Run)?;
    follow(common, &plan, Place::New(out))
}

impl Deed {
    /// The stage's name and kind.
    const fn stage(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Grpo => "grpo",
            Self::Reject => "reject",
            Self::Distill(_) => "distill",
        }
    }
}

/// The model as a recipe names it: in full where it is a path, so that the run can be resumed from
/// any folder.
fn checkpoint_of(source: &Source, arguments: &Improve) -> anyhow::Result<String> {
    if !Path::new(&arguments.which.model).exists() {
        return Ok(arguments.which.model.clone());
    }
    let path = source.path();
    let path = path
        .canonicalize()
        .with_context(|| format!("cannot read {}", path.display()))?;
    let text = path.to_str();
    let text = text.with_context(|| format!("expected a path in UTF-8, got {}", path.display()))?;
    Ok(text.to_owned())
}

/// Names become folders: lower-case letters, digits and dashes.
fn recipe_name(deed: Deed, model: &str) -> String {
    let plain = |c: char| {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '-'
        }
    };
    let model: String = model.chars().take(40).map(plain).collect();
    format!("{}-{}", deed.stage(), model.trim_matches('-'))
}

/// The plan of a run that was begun: that of its own recipe.
fn begun(folder: &Path, checkpoint: &str) -> anyhow::Result<Plan> {
    let recipe = recipe_of(folder)?;
    let was = recipe
        .import()
        .map(|(_, settings)| settings.checkpoint.as_str());
    if was != Some(checkpoint) {
        return Err(Usage(format!(
            "expected the model that the run in {} was started with ({}), got {checkpoint}",
            folder.display(),
            was.unwrap_or("none")
        ))
        .into());
    }
    let minutes = recipe.reference_minutes;
    Ok(Plan::resolve(&recipe, minutes, Controls::Run)?)
}

/// `field=value` means the verb's own stage; `evaluation.problems=8` and `run.seed=1` stay as they are.
fn overrides(deed: Deed, given: &[String]) -> Vec<String> {
    let own = deed.stage();
    let names = [own, START, "answers", "evaluation"];
    let whole = |text: &String| {
        let path = text.split('=').next().unwrap_or_default();
        let head = path.split_once('.').map(|(head, _)| head.trim());
        let is_whole = head.is_some_and(|head| names.contains(&head) || SECTIONS.contains(&head));
        if is_whole {
            text.clone()
        } else {
            format!("{own}.{}", text.trim_start())
        }
    };
    given.iter().map(whole).collect()
}

/// The recipe.
fn written(
    deed: Deed,
    name: &str,
    checkpoint: &str,
    (arguments, opened): (&Improve, &Opened),
) -> anyhow::Result<String> {
    let config = &opened.config;
    let positions = arguments.positions.min(config.max_position_embeddings);
    let answer = positions / 2;
    let is_small = Params::<Spec>::spec(config)?.count(config).total < SMALL;
    let about = format!("{} of {} on {}.", deed.stage(), opened.name, arguments.task);
    // A string of JSON is one of TOML.
    let text = |value: &str| serde_json::to_string(value);
    let head = format!(
        "name = {}\nabout = {}\nreference_minutes = 1.0\n[task]\nname = {}\n",
        text(name)?,
        text(&about)?,
        text(&arguments.task)?
    );
    let student = match deed {
        Deed::Distill(student) => format!(
            "[model.student]\narchitecture = \"{}\"\nmax_position_embeddings = {positions}\n",
            student.name()
        ),
        _ => String::new(),
    };
    let import = format!(
        "[[stage]]\nname = \"{START}\"\nkind = \"import\"\ncheckpoint = {}\npositions = {positions}\n",
        text(checkpoint)?
    );
    // What is kept by rejection is no model.
    let examined = match deed {
        Deed::Reject => format!("\"{START}\""),
        _ => format!("\"{START}\", \"{}\"", deed.stage()),
    };
    let exam = format!(
        "[[stage]]\nname = \"evaluation\"\nkind = \"eval\"\nonly = [{examined}]\n\
         problems = {PROBLEMS}\nmax_new_tokens = {answer}\n"
    );
    let rates = if is_small { "" } else { rates(deed) };
    Ok([
        &head,
        &student,
        &import,
        &stages(deed, answer),
        rates,
        &exam,
    ]
    .concat())
}

fn stages(deed: Deed, answer: usize) -> String {
    let stage = |name: &str, kind: &str, more: &str| {
        format!("[[stage]]\nname = \"{name}\"\nkind = \"{kind}\"\n{more}\n")
    };
    let from = format!("from = \"{START}\"");
    let sampled = format!("{from}\nmax_new_tokens = {answer}");
    let own = deed.stage();
    match deed {
        Deed::Sft => stage(own, own, &from),
        Deed::Grpo | Deed::Reject => stage(own, own, &sampled),
        Deed::Distill(_) => {
            let learn = format!(
                "model = \"student\"\nteacher = \"{START}\"\ntraces = \"answers\"\n\
                 max_new_tokens = {answer}"
            );
            stage("answers", "reject", &sampled) + &stage(own, own, &learn)
        }
    }
}

/// Rates for models that have learnt much already. *Source*: for fine-tuning those of the 1.5B model
/// that was distilled from R1 (report, table 6); for reinforcement what peers use from half a
/// billion parameters on. A student begins from nothing and keeps the recipe's.
fn rates(deed: Deed) -> &'static str {
    match deed {
        Deed::Sft => {
            "optim.learning_rate = 1e-4\noptim.muon_learning_rate = 1e-4\n\
             optim.schedule = \"cosine\"\noptim.final_share = 0.1\noptim.warmup_steps = 3\n"
        }
        Deed::Grpo => "optim.learning_rate = 1e-6\noptim.muon_learning_rate = 1e-6\n",
        Deed::Reject | Deed::Distill(_) => "",
    }
}

/// Minutes that the stages will take here, by training steps of a few layers that are timed first.
/// The examination is not in it, since the budget does not scale that.
fn forecast_minutes(
    common: &Common,
    recipe: &Recipe,
    imported: &ModelConfig,
) -> anyhow::Result<f64> {
    let device = device::open(common, Precision::Bf16)?;
    let mut seconds = 0.0;
    for stage in &recipe.stages {
        let (learnt, drawn) = tokens(&stage.settings);
        if learnt + drawn > 0.0 {
            let config = match recipe.model_of(stage) {
                Some((_, shape)) => config_of(shape, &Vocabulary::of_model(imported))?,
                None => imported.clone(),
            };
            let active = Params::<Spec>::spec(&config)?.count(&config).active as f64;
            // A token that is drawn costs a third of one that is learnt, at about a third of the
            // rate: its products have few rows.
            seconds += 6.0 * active * (learnt + drawn) / training_rate(&device, config)?;
        }
    }
    // Two digits: a forecast has no more.
    let minutes = seconds / 60.0;
    let rounded = format!("{minutes:.1e}").parse::<f64>()?;
    Ok(rounded.max(f64::MIN_POSITIVE))
}

/// FLOPs per second of training steps, timed on the first layers and a part of the vocabulary: those
/// of a large model take as long as all of a small one.
fn training_rate(device: &Device, mut config: ModelConfig) -> anyhow::Result<f64> {
    let dense = config.moe.map_or(0, |moe| moe.first_k_dense_replace);
    config.num_hidden_layers = config.num_hidden_layers.min(2.max(dense + 1));
    config.num_nextn_predict_layers = 0;
    config.vocab_size = config.vocab_size.min(TRIAL_VOCABULARY);
    (config.bos_token_id, config.eos_token_id) = (None, Vec::new());
    let active = Params::<Spec>::spec(&config)?.count(&config).active as f64;
    let shape = TrainShape {
        length: TRIAL.length.min(config.max_position_embeddings),
        ..TRIAL
    };
    let model = fresh(device, config, 1, &InitSettings::PAPER, shape.length)?;
    let mut bench = TrainBench::new(device, model, shape)?;
    // The first step makes buffers that later ones find.
    bench.step()?;
    let watch = Stopwatch::start();
    let learnt = bench.step()?;
    Ok(6.0 * active * learnt.tokens as f64 / watch.seconds().max(1e-9))
}

/// Tokens that a stage learns and draws, answers taken for half as long as they may be.
fn tokens(settings: &StageSettings) -> (f64, f64) {
    let count = |factors: [u32; 3]| factors.iter().map(|f| f64::from(*f)).product::<f64>();
    let answers = |factors: [u32; 3], longest: u32| count(factors) * f64::from(longest) / 2.0;
    match settings {
        StageSettings::Pretrain(s) => (count([s.steps, s.tokens_per_step, 1]), 0.0),
        StageSettings::Sft(s) => (count([s.steps, s.tokens_per_step, 1]), 0.0),
        StageSettings::Grpo(s) => {
            let drawn = answers(
                [s.steps, s.prompts_per_step, s.group_size],
                s.max_new_tokens,
            );
            (drawn, drawn)
        }
        StageSettings::Reject(s) => {
            let drawn = answers([s.prompts, s.samples_per_prompt, 1], s.max_new_tokens);
            (0.0, drawn)
        }
        StageSettings::Distill(s) => {
            let per_step = [s.on_policy_steps, s.prompts_per_step, s.samples_per_prompt];
            let drawn = answers(per_step, s.max_new_tokens);
            (
                count([s.sequence_steps, s.tokens_per_step, 1]) + drawn,
                drawn,
            )
        }
        StageSettings::Import(_) | StageSettings::Eval(_) => (0.0, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_field_is_one_of_the_verbs_own_stage() {
        let given = [
            "steps=3",
            "optim.learning_rate=1e-3",
            "evaluation.problems=8",
            "run.checkpoint_steps=2",
            "grpo.group_size=4",
            "reward=a.b",
        ];
        let expected = [
            "grpo.steps=3",
            "grpo.optim.learning_rate=1e-3",
            "evaluation.problems=8",
            "run.checkpoint_steps=2",
            "grpo.group_size=4",
            "grpo.reward=a.b",
        ];
        assert_eq!(overrides(Deed::Grpo, &given.map(str::to_owned)), expected);
    }

    #[test]
    fn names_of_models_become_names_of_recipes() {
        let name = recipe_name(Deed::Sft, "DeepSeek-R1-Distill-Qwen-1.5B");
        assert_eq!(name, "sft-deepseek-r1-distill-qwen-1-5b");
        let long = recipe_name(Deed::Distill(Student::Qwen3), &"x".repeat(200));
        assert_eq!(long.len(), "distill-".len() + 40);
    }
}
