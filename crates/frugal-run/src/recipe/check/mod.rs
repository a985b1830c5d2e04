//! What no type can say: ranges, sizes that must divide, names that must exist. Each refusal spells
//! out the arithmetic.

mod model;
mod place;

use super::{
    DistillSettings, EvalSettings, GrpoSettings, ImportSettings, Level, OptimSettings, Overlong,
    Recipe, RejectSettings, RunSettings, Schedule, Stage, StageSettings, Surrogate,
};
use model::model;
use place::{At, Checked, Need};

/// Most positions of an imported model that are used: above any published model's.
const MAX_POSITIONS: u32 = 1 << 24;

/// Words that overrides read as sections.
const RESERVED: [&str; 8] = [
    "name",
    "about",
    "seed",
    "reference_minutes",
    "task",
    "run",
    "model",
    "stage",
];

/// Checks a recipe that has been read.
pub(super) fn recipe(recipe: &Recipe) -> Checked {
    named("the recipe", &recipe.name)?;
    let top = At("the recipe");
    top.above_zero("reference_minutes", recipe.reference_minutes)?;
    if i64::try_from(recipe.seed).is_err() {
        let message = format!(
            "expected a seed of at most {}, got {}",
            i64::MAX,
            recipe.seed
        );
        return top.refuse(message);
    }
    named("section `task`", &recipe.task.name)?;
    run(&recipe.run)?;
    for (name, shape) in &recipe.models {
        let place = super::model_place(name);
        named(&place, name)?;
        model(At(&place), shape)?;
    }
    if recipe.stages.is_empty() {
        return top.refuse("expected at least one [[stage]], got none");
    }
    for (at, stage) in recipe.stages.iter().enumerate() {
        let earlier = recipe.stages.get(..at).unwrap_or_default();
        let place = format!("stage `{}`", stage.name);
        named(&format!("stage number {}", at + 1), &stage.name)?;
        if RESERVED.contains(&stage.name.as_str()) {
            return At(&place).refuse("expected a name that is not the name of a section");
        }
        if earlier.iter().any(|other| other.name == stage.name) {
            return At(&place).refuse("expected a name of its own, but an earlier stage has it");
        }
        references(recipe, earlier, stage, At(&place))?;
        settings(recipe, stage, At(&place))?;
    }
    Ok(())
}

/// Names become folders, so they are kept to lower-case words.
fn named(place: &str, name: &str) -> Checked {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts && name.len() <= 48 && name.chars().all(fits) {
        return Ok(());
    }
    let shown: String = name.chars().take(48).collect();
    At(place).refuse(format!(
        "expected a name of at most 48 lower-case letters, digits, - and _, got `{shown}`"
    ))
}

fn run(run: &RunSettings) -> Checked {
    let at = At("section `run`");
    at.at_least("checkpoint_steps", run.checkpoint_steps, 1)?;
    at.at_least("keep_checkpoints", run.keep_checkpoints, 2)?;
    at.at_least("evaluate_problems", run.evaluate_problems, 1)?;
    at.not_negative("price_per_core_hour", run.price_per_core_hour)?;
    at.above_zero("watts_per_core", run.watts_per_core)?;
    if run.currency.is_empty() || run.currency.len() > 8 {
        return at.refuse(format!(
            "expected a currency such as USD, got `{}`",
            run.currency
        ));
    }
    Ok(())
}
fn references(recipe: &Recipe, earlier: &[Stage], stage: &Stage, at: At<'_>) -> Checked {
    use Need::{May, Must, No};
    let (from, teacher, traces, model) = match &stage.settings {
        StageSettings::Import(_) => (No, No, No, No),
        StageSettings::Pretrain(_) => (No, No, No, Must),
        StageSettings::Sft(_) => (Must, No, May, No),
        StageSettings::Grpo(_) | StageSettings::Reject(_) => (Must, No, No, No),
        StageSettings::Distill(s) => {
            let teacher = if s.on_policy_steps > 0 { Must } else { May };
            let traces = if s.sequence_steps > 0 { Must } else { May };
            let start = if stage.from.is_some() {
                (Must, No)
            } else {
                (May, Must)
            };
            (start.0, teacher, traces, start.1)
        }
        StageSettings::Eval(_) => (May, No, No, No),
    };
    let names = |fits: &dyn Fn(&Stage) -> bool| -> Vec<&str> {
        earlier
            .iter()
            .filter(|other| fits(other))
            .map(|other| other.name.as_str())
            .collect()
    };
    let checkpoints = names(&|other| other.settings.leaves_checkpoint());
    let kept = names(&|other| matches!(other.settings, StageSettings::Reject(_)));
    let models: Vec<&str> = recipe.models.keys().map(String::as_str).collect();
    let kind = stage.settings.kind();
    at.reference("from", stage.from.as_deref(), from, &checkpoints, kind)?;
    at.reference(
        "teacher",
        stage.teacher.as_deref(),
        teacher,
        &checkpoints,
        kind,
    )?;
    at.reference("traces", stage.traces.as_deref(), traces, &kept, kind)?;
    at.reference("model", stage.model.as_deref(), model, &models, kind)?;
    let is_import = |stage: &Stage| matches!(stage.settings, StageSettings::Import(_));
    let matched = if stage.settings.leaves_checkpoint() && !is_import(stage) {
        May
    } else {
        No
    };
    at.reference(
        "match_compute",
        stage.match_compute.as_deref(),
        matched,
        &names(&|other| !is_import(other)),
        kind,
    )?;
    let leans_on = [
        &stage.from,
        &stage.teacher,
        &stage.traces,
        &stage.match_compute,
    ];
    for name in leans_on.into_iter().flatten() {
        if !stage.control
            && earlier
                .iter()
                .any(|other| other.control && other.name == *name)
        {
            return at.refuse(format!(
                "leans on `{name}`, which only runs when controls are asked for"
            ));
        }
    }
    Ok(())
}

fn settings(recipe: &Recipe, stage: &Stage, at: At<'_>) -> Checked {
    match &stage.settings {
        StageSettings::Import(s) => import(recipe, stage, at, s),
        StageSettings::Pretrain(s) => {
            at.floor("steps", s.steps, "min_steps", s.min_steps)?;
            at.at_least("steps", s.steps, 1)?;
            at.at_least("tokens_per_step", s.tokens_per_step, 1)?;
            at.not_negative("mtp_weight", s.mtp_weight)?;
            at.not_negative("balance_alpha", s.balance_alpha)?;
            at.not_negative("bias_update_speed", s.bias_update_speed)?;
            optim(at, &s.optim, s.steps)
        }
        StageSettings::Sft(s) => {
            at.floor("steps", s.steps, "min_steps", s.min_steps)?;
            at.at_least("steps", s.steps, 1)?;
            at.at_least("tokens_per_step", s.tokens_per_step, 1)?;
            at.share("hold_out_share", s.hold_out_share)?;
            at.not_negative("mtp_weight", s.mtp_weight)?;
            at.not_negative("balance_alpha", s.balance_alpha)?;
            at.not_negative("bias_update_speed", s.bias_update_speed)?;
            optim(at, &s.optim, s.steps)
        }
        StageSettings::Grpo(s) => {
            grpo(at, s)?;
            at.fits_context(recipe, stage, s.max_new_tokens)
        }
        StageSettings::Reject(s) => {
            reject(at, s)?;
            at.fits_context(recipe, stage, s.max_new_tokens)
        }
        StageSettings::Distill(s) => {
            distill(at, s)?;
            at.fits_context(recipe, stage, s.max_new_tokens)
        }
        StageSettings::Eval(s) => {
            eval(at, s)?;
            at.fits_context(recipe, stage, s.max_new_tokens)
        }
    }
}

fn import(recipe: &Recipe, stage: &Stage, at: At<'_>, s: &ImportSettings) -> Checked {
    if s.checkpoint.trim().is_empty() {
        return at.refuse(
            "expected a checkpoint to import (a folder, a GGUF file or a model's name), got none",
        );
    }
    at.within("positions", s.positions, 2, MAX_POSITIONS)?;
    // The run has one codec, that of the model it imports.
    match recipe.import() {
        Some((first, _)) if first.name != stage.name => at.refuse(format!(
            "a run starts from one published checkpoint, but stage `{}` imports one already",
            first.name
        )),
        _ => Ok(()),
    }
}

fn grpo(at: At<'_>, s: &GrpoSettings) -> Checked {
    at.floor("steps", s.steps, "min_steps", s.min_steps)?;
    at.at_least("steps", s.steps, 1)?;
    at.at_least("prompts_per_step", s.prompts_per_step, 1)?;
    if s.group_size < 2 {
        return at.refuse(format!(
            "group_size must be 2 or more, since a sample is judged against the mean of its \
             group, got {}",
            s.group_size
        ));
    }
    at.samples(
        "prompts_per_step",
        s.prompts_per_step,
        "group_size",
        s.group_size,
    )?;
    at.at_least("updates_per_batch", s.updates_per_batch, 1)?;
    if !s.prompts_per_step.is_multiple_of(s.updates_per_batch) {
        return at.refuse(format!(
            "updates_per_batch {} must divide prompts_per_step: {} prompts x {} samples = {} \
             samples per step, and {} prompts / {} updates is not whole",
            s.updates_per_batch,
            s.prompts_per_step,
            s.group_size,
            s.samples_per_step(),
            s.prompts_per_step,
            s.updates_per_batch
        ));
    }
    at.not_negative("consistency_weight", s.consistency_weight)?;
    at.not_negative("clip_low", s.clip_low)?;
    at.above_zero("clip_high", s.clip_high)?;
    at.not_negative("kl_beta", s.kl_beta)?;
    at.not_negative("stale_limit", s.stale_limit)?;
    at.share("min_solve_rate", s.min_solve_rate)?;
    at.share("min_forced_accuracy", s.min_forced_accuracy)?;
    at.at_least("gate_problems", s.gate_problems, 1)?;
    at.not_negative("bias_update_speed", s.bias_update_speed)?;
    at.above_zero("temperature", s.temperature)?;
    at.at_least("max_new_tokens", s.max_new_tokens, 1)?;
    if s.overlong == Overlong::Penalty {
        at.within("overlong_tokens", s.overlong_tokens, 1, s.max_new_tokens)?;
    }
    if s.surrogate != Surrogate::Clip && s.level == Level::Sequence {
        return at.refuse("only surrogate `clip` is defined per sequence, expected level `token`");
    }
    optim(at, &s.optim, s.steps.saturating_mul(s.updates_per_batch))
}

fn reject(at: At<'_>, s: &RejectSettings) -> Checked {
    at.floor("prompts", s.prompts, "min_prompts", s.min_prompts)?;
    at.at_least("prompts", s.prompts, 1)?;
    at.at_least("samples_per_prompt", s.samples_per_prompt, 1)?;
    at.within(
        "keep_per_prompt",
        s.keep_per_prompt,
        1,
        s.samples_per_prompt,
    )?;
    at.samples(
        "prompts",
        s.prompts,
        "samples_per_prompt",
        s.samples_per_prompt,
    )?;
    at.above_zero("temperature", s.temperature)?;
    at.at_least("max_new_tokens", s.max_new_tokens, 1)
}

fn distill(at: At<'_>, s: &DistillSettings) -> Checked {
    at.floor(
        "sequence_steps",
        s.sequence_steps,
        "min_sequence_steps",
        s.min_sequence_steps,
    )?;
    at.floor(
        "on_policy_steps",
        s.on_policy_steps,
        "min_on_policy_steps",
        s.min_on_policy_steps,
    )?;
    if s.sequence_steps == 0 && s.on_policy_steps == 0 {
        return at.refuse("expected sequence_steps or on_policy_steps above 0, got 0 and 0");
    }
    at.at_least("tokens_per_step", s.tokens_per_step, 1)?;
    at.at_least("prompts_per_step", s.prompts_per_step, 1)?;
    at.at_least("samples_per_prompt", s.samples_per_prompt, 1)?;
    at.samples(
        "prompts_per_step",
        s.prompts_per_step,
        "samples_per_prompt",
        s.samples_per_prompt,
    )?;
    at.share("jsd_beta", s.jsd_beta)?;
    at.above_zero("temperature", s.temperature)?;
    at.at_least("max_new_tokens", s.max_new_tokens, 1)?;
    at.above_zero("on_policy_learning_rate", s.on_policy_learning_rate)?;
    optim(
        at,
        &s.optim,
        s.sequence_steps.saturating_add(s.on_policy_steps),
    )
}

fn eval(at: At<'_>, s: &EvalSettings) -> Checked {
    at.at_least("problems", s.problems, 1)?;
    at.at_least("samples", s.samples, 1)?;
    at.samples("problems", s.problems, "samples", s.samples)?;
    at.above_zero("temperature", s.temperature)?;
    at.at_least("max_new_tokens", s.max_new_tokens, 1)
}

fn optim(at: At<'_>, s: &OptimSettings, updates: u32) -> Checked {
    at.above_zero("optim.learning_rate", s.learning_rate)?;
    at.above_zero("optim.muon_learning_rate", s.muon_learning_rate)?;
    for (field, value) in [
        ("optim.beta1", s.beta1),
        ("optim.beta2", s.beta2),
        ("optim.muon_momentum", s.muon_momentum),
    ] {
        if !(0.0..1.0).contains(&value) {
            return at.refuse(format!(
                "{field} must be 0 or more and below 1, got {value}"
            ));
        }
    }
    at.above_zero("optim.epsilon", s.epsilon)?;
    at.not_negative("optim.weight_decay", s.weight_decay)?;
    at.not_negative("optim.clip_norm", s.clip_norm)?;
    at.share("optim.decay_share", s.decay_share)?;
    at.share("optim.final_share", s.final_share)?;
    if s.warmup_steps >= updates && s.warmup_steps > 0 {
        return at.refuse(format!(
            "optim.warmup_steps must be below the {updates} optimiser steps of the stage, got {}",
            s.warmup_steps
        ));
    }
    // The rounding of the decay's length must not make a sum above 1 of an exact 1.
    let used = f64::from(s.warmup_steps) + s.decay_share * f64::from(updates);
    if s.schedule == Schedule::Wsd && used > f64::from(updates) + 0.5 {
        return at.refuse(format!(
            "warm-up of {} steps and decay over {} of {updates} steps overlap",
            s.warmup_steps, s.decay_share
        ));
    }
    Ok(())
}
