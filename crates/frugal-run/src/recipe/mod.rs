//! The recipe as a person writes it: a name, a seed, a task, model shapes and an ordered list of
//! stages. Every field is known, typed and documented; anything else is refused in one sentence.
//!
//! ```toml
//! name = "small"
//! reference_minutes = 1.0
//! [task]
//! name = "countdown"
//! [model.main]
//! hidden_size = 64
//! num_attention_heads = 2
//! [[stage]]
//! name = "base"
//! kind = "pretrain"
//! model = "main"
//! optim.learning_rate = 1e-3
//! [[stage]]
//! name = "r1-zero"
//! kind = "grpo"
//! from = "base"
//! preset = "dapo"
//! ```
//!
//! Steps are stated for `reference_minutes`; [`crate::plan`] turns them into the steps of a budget.
//! What the numbers do is decided elsewhere: the model in `frugal-model`, the stages in
//! `frugal-train`.

mod check;
mod error;
mod grpo;
mod model;
mod optim;
mod overrides;
pub(crate) mod schema;
mod stage;
mod stages;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use error::RecipeError;
pub use grpo::{
    Advantage, GrpoSettings, KlWeight, Level, Normaliser, Overlong, Preset, Reward, Surrogate,
};
pub use model::{Architecture, ModelShape};
pub use optim::{OptimSettings, Optimizer, Schedule};
pub use stage::{Stage, StageSettings};
use stage::{StageOut, stage_schema};
pub use stages::{
    DistillSettings, Divergence, EvalSettings, ImportSettings, Keep, Precision, PretrainSettings,
    RejectSettings, SftSettings,
};
pub use task::{RunSettings, TaskSettings};

use crate::store::read_text;

/// Largest accepted recipe. The ones we ship have a few kB.
pub const MAX_RECIPE_BYTES: usize = 256 * 1024;

/// A checked recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Its name, also the default name of the run folder.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// Every random draw follows from this, the stage's name, the step and an index.
    pub seed: u64,
    /// The budget in minutes for which the steps are stated.
    pub reference_minutes: f64,
    /// What it is about.
    pub task: TaskSettings,
    /// How the process behaves.
    pub run: RunSettings,
    /// Model shapes by the name that stages use.
    pub models: BTreeMap<String, ModelShape>,
    /// The stages in their order.
    pub stages: Vec<Stage>,
    /// Fields set by override, as (stage, field): the budget does not scale them.
    pub(crate) pinned: BTreeSet<(String, String)>,
}

/// The top of a recipe; also, as defaults, its schema.
#[derive(Debug, Serialize, Deserialize)]
struct RecipeHead {
    name: String,
    about: String,
    seed: u64,
    reference_minutes: f64,
    task: TaskSettings,
    run: RunSettings,
    model: Table,
    stage: Vec<Table>,
}

#[derive(Serialize)]
struct RecipeOut<'a> {
    name: &'a str,
    about: &'a str,
    seed: u64,
    reference_minutes: f64,
    task: &'a TaskSettings,
    run: &'a RunSettings,
    model: &'a BTreeMap<String, ModelShape>,
    stage: Vec<StageOut<'a>>,
}

const TOP: &str = "the recipe";

impl Recipe {
    /// Reads a recipe file, as [`Self::from_toml`].
    ///
    /// # Errors
    /// As there, and a file that cannot be read or is too large.
    pub fn from_file<S: AsRef<str>>(path: &Path, overrides: &[S]) -> Result<Self, RecipeError> {
        Self::from_toml(&read_text(path, MAX_RECIPE_BYTES)?, overrides)
    }

    /// Reads a recipe, after laying `overrides` (`stage.field=value`) over its text.
    ///
    /// # Errors
    /// One sentence saying which field of which stage or section is wrong, what was expected and
    /// what came.
    pub fn from_toml<S: AsRef<str>>(text: &str, overrides: &[S]) -> Result<Self, RecipeError> {
        if text.len() > MAX_RECIPE_BYTES {
            return Err(RecipeError::TooLarge {
                bytes: text.len(),
                limit: MAX_RECIPE_BYTES,
            });
        }
        let mut written: Table = text.parse().map_err(|error| syntax(text, &error))?;
        let mut pinned = BTreeSet::new();
        for text in overrides {
            pinned.extend(overrides::apply(&mut written, text.as_ref())?);
        }
        let mut recipe = Self::from_written(&written)?;
        recipe.pinned = pinned;
        recipe.lower_floors_of_pinned_counts();
        check::recipe(&recipe)?;
        Ok(recipe)
    }

    fn from_written(written: &Table) -> Result<Self, RecipeError> {
        let merged = schema::lay_over(&top_schema()?, written, TOP)?;
        let head: RecipeHead = schema::from_table(merged, TOP)?;
        let mut models = BTreeMap::new();
        for (name, shape) in &head.model {
            models.insert(name.clone(), read_model(name, shape)?);
        }
        let stages = head
            .stage
            .iter()
            .enumerate()
            .map(|(at, written)| Stage::from_written(at, written))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: head.name,
            about: head.about,
            seed: head.seed,
            reference_minutes: head.reference_minutes,
            task: head.task,
            run: head.run,
            models,
            stages,
            pinned: BTreeSet::new(),
        })
    }

    /// A count set by override is meant as it stands, so no floor lies above it.
    fn lower_floors_of_pinned_counts(&mut self) {
        for stage in &mut self.stages {
            for count in stage.settings.scaled_counts() {
                if self
                    .pinned
                    .contains(&(stage.name.clone(), count.field.to_owned()))
                {
                    *count.floor = (*count.floor).min(*count.value);
                }
            }
        }
    }

    /// Checks the recipe again, after its numbers were resolved.
    pub(crate) fn check(&self) -> Result<(), RecipeError> {
        check::recipe(self)
    }

    /// The recipe with every field written out. Reading it back gives an equal recipe.
    ///
    /// # Errors
    /// A seed above the largest whole number of TOML.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        let out = RecipeOut {
            name: &self.name,
            about: &self.about,
            seed: self.seed,
            reference_minutes: self.reference_minutes,
            task: &self.task,
            run: &self.run,
            model: &self.models,
            stage: self.stages.iter().map(Stage::out).collect(),
        };
        toml::to_string(&out).map_err(|error| RecipeError::bad(TOP, error.to_string()))
    }

    /// The stage of that name.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The stage that imports a published checkpoint, with its settings.
    #[must_use]
    pub fn import(&self) -> Option<(&Stage, &ImportSettings)> {
        self.stages.iter().find_map(|stage| match &stage.settings {
            StageSettings::Import(settings) => Some((stage, settings)),
            _ => None,
        })
    }

    /// Positions that every model of the recipe has: the fewest of any.
    #[must_use]
    pub fn n_positions(&self) -> usize {
        let shapes = self.models.values();
        let positions = shapes.map(|shape| shape.max_position_embeddings);
        let imported = self.import().map(|(_, settings)| settings.positions);
        positions.chain(imported).min().unwrap_or(0) as usize
    }

    /// The shape of the model that `stage` works on: its own, or that of the stage it starts from.
    /// None for an imported one.
    #[must_use]
    pub fn model_of<'a>(&'a self, stage: &'a Stage) -> Option<(&'a str, &'a ModelShape)> {
        let name = self.root_of(stage)?.model.as_ref()?;
        let (name, shape) = self.models.get_key_value(name)?;
        Some((name, shape))
    }

    /// The stage at which the model of `stage` begins: one that makes or imports it.
    #[must_use]
    pub fn root_of<'a>(&'a self, mut stage: &'a Stage) -> Option<&'a Stage> {
        // A stage starts from an earlier one, so this ends after at most all of them.
        for _ in 0..=self.stages.len() {
            match &stage.from {
                Some(name) => stage = self.stage(name)?,
                None => return Some(stage),
            }
        }
        None
    }
}

/// The known fields of the top of a recipe. `model` and `stage` are read by their own schemas.
fn top_schema() -> Result<Table, RecipeError> {
    let defaults = RecipeHead {
        name: String::new(),
        about: String::new(),
        seed: 1,
        reference_minutes: 8.0,
        task: TaskSettings::default(),
        run: RunSettings::default(),
        model: Table::new(),
        stage: Vec::new(),
    };
    schema::table_of(&defaults, TOP)
}

fn model_place(name: &str) -> String {
    format!("model `{name}`")
}

fn read_model(name: &str, shape: &Value) -> Result<ModelShape, RecipeError> {
    let place = model_place(name);
    let Value::Table(written) = shape else {
        return Err(RecipeError::bad(
            format!("field `model.{name}` of {TOP}"),
            format!("expected a section [model.NAME], got the value {shape}"),
        ));
    };
    schema::read(&model_defaults(written, &place)?, written, &place)
}

/// The defaults of the family that a written shape names.
fn model_defaults(written: &Table, place: &str) -> Result<ModelShape, RecipeError> {
    #[derive(Deserialize)]
    struct ArchitectureOnly {
        architecture: Architecture,
    }
    let Some(value) = written.get("architecture") else {
        return Ok(ModelShape::default());
    };
    let table = Table::from_iter([("architecture".to_owned(), value.clone())]);
    let only: ArchitectureOnly = schema::from_table(table, place)?;
    Ok(ModelShape::of(only.architecture))
}

fn syntax(text: &str, error: &toml::de::Error) -> RecipeError {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or("");
    let line = before.matches('\n').count() + 1;
    RecipeError::Syntax {
        line,
        message: error.message().replace('\n', ", "),
    }
}

#[cfg(test)]
mod tests;
