//! `frugal plan`: a recipe resolved for a budget, nothing run; or what a model needs here, nothing
//! loaded. Also what `run` resolves with.

mod model;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use frugal_run::plan::{Controls, Plan};
use frugal_run::recipe::Recipe;
use serde_json::json;

use crate::cli::{Chosen, Common, PlanOf};
use crate::output::{say, say_json};

/// The recipes that come with the program.
const SHIPPED: [(&str, &str); 2] = [
    ("r1-tiny", include_str!("../../../../recipes/r1-tiny.toml")),
    ("cups", include_str!("../../../../recipes/cups.toml")),
];

/// A recipe that comes with the program, as it is written.
pub(crate) fn shipped(name: &str) -> anyhow::Result<Recipe> {
    let found = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
    let (_, text) = found.with_context(|| format!("no recipe {name} comes with the program"))?;
    let none: [&str; 0] = [];
    Ok(Recipe::from_toml(text, &none)?)
}

/// Whether a person means a recipe: one that comes with the program, or a TOML file.
fn is_recipe(name: &str) -> bool {
    let path = Path::new(name);
    SHIPPED.iter().any(|(shipped, _)| *shipped == name)
        || path.extension().is_some_and(|end| end == "toml")
}

/// The plan that the flags ask for.
pub(crate) fn of(chosen: &Chosen) -> anyhow::Result<Plan> {
    let mut overrides = chosen.overrides.clone();
    overrides.extend(chosen.seed.map(|seed| format!("seed={seed}")));
    let shipped = SHIPPED.iter().find(|(name, _)| *name == chosen.recipe);
    let recipe = match shipped {
        Some((_, text)) => Recipe::from_toml(text, &overrides)?,
        None if Path::new(&chosen.recipe).exists() => {
            Recipe::from_file(Path::new(&chosen.recipe), &overrides)?
        }
        None => {
            let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
            return Err(crate::output::Usage(format!(
                "expected a recipe's file or one of {}, got {}",
                names.join(", "),
                chosen.recipe
            ))
            .into());
        }
    };
    let controls = if chosen.controls {
        Controls::Run
    } else {
        Controls::Skip
    };
    let minutes = chosen.budget.unwrap_or(recipe.reference_minutes);
    Plan::resolve(&recipe, minutes, controls).with_context(|| format!("recipe {}", chosen.recipe))
}

pub(crate) fn run(common: &Common, arguments: &PlanOf) -> anyhow::Result<ExitCode> {
    if !is_recipe(&arguments.chosen.recipe) {
        return model::run(common, arguments);
    }
    let plan = of(&arguments.chosen)?;
    if common.json {
        say_json(&json!({ "event": "plan", "recipe": plan.recipe.to_toml()? }))?;
    } else {
        say(&plan);
    }
    Ok(ExitCode::SUCCESS)
}
