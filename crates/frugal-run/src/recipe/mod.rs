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
mod stages;
mod task;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use error::RecipeError;
pub use grpo::{Advantage, GrpoSettings, Level, Normaliser, Overlong, Preset, Reward, Surrogate};
pub use model::{Architecture, ModelShape};
pub use optim::{OptimSettings, Optimizer, Schedule};
pub use stages::{
    DistillSettings, Divergence, EvalSettings, Keep, Precision, PretrainSettings, RejectSettings,
    SftSettings,
};
pub use task::{RunSettings, TaskSettings};

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

/// One stage: checkpoint in, checkpoint (or kept traces, or scores) out.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its name: also the name of its checkpoint and of its stream of random numbers.
    pub name: String,
    /// The earlier stage whose checkpoint it starts from.
    pub from: Option<String>,
    /// The earlier stage whose checkpoint teaches it (distillation).
    pub teacher: Option<String>,
    /// The earlier `reject` stage whose kept traces it trains on.
    pub traces: Option<String>,
    /// The model shape it starts from nothing with.
    pub model: Option<String>,
    /// It ends when it has used as many FLOPs as this earlier stage, whatever its steps say.
    pub match_compute: Option<String>,
    /// A control: run only when controls are asked for.
    pub control: bool,
    /// Difficulty knobs laid over those of the task section.
    pub difficulty: Table,
    /// The settings of its kind.
    pub settings: StageSettings,
}

/// What a stage does, with its settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum StageSettings {
    /// Base training from nothing.
    Pretrain(PretrainSettings),
    /// Supervised fine-tuning.
    Sft(SftSettings),
    /// Reinforcement learning.
    Grpo(Box<GrpoSettings>),
    /// Rejection sampling.
    Reject(RejectSettings),
    /// Distillation.
    Distill(DistillSettings),
    /// Evaluation.
    Eval(EvalSettings),
}

impl StageSettings {
    /// The verb of the command line for this kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pretrain(_) => "pretrain",
            Self::Sft(_) => "sft",
            Self::Grpo(_) => "grpo",
            Self::Reject(_) => "reject",
            Self::Distill(_) => "distill",
            Self::Eval(_) => "eval",
        }
    }

    /// Whether the stage leaves a checkpoint that others can start from.
    #[must_use]
    pub fn leaves_checkpoint(&self) -> bool {
        !matches!(self, Self::Reject(_) | Self::Eval(_))
    }

    /// The defaults of the kind that a written stage names, with its preset where it has one.
    fn defaults(written: &Table, place: &str) -> Result<Self, RecipeError> {
        let text = |key| written.get(key).and_then(Value::as_str);
        Ok(match text("kind") {
            Some("pretrain") => Self::Pretrain(PretrainSettings::default()),
            Some("sft") => Self::Sft(SftSettings::default()),
            Some("grpo") => {
                let preset = match written.get("preset") {
                    None => Preset::Frugal,
                    Some(value) => {
                        let table = Table::from_iter([("preset".to_owned(), value.clone())]);
                        schema::from_table::<PresetOnly>(table, place)?.preset
                    }
                };
                Self::Grpo(Box::new(GrpoSettings::with_preset(preset)))
            }
            Some("reject") => Self::Reject(RejectSettings::default()),
            Some("distill") => Self::Distill(DistillSettings::default()),
            Some("eval") => Self::Eval(EvalSettings::default()),
            other => {
                let got = other.map_or("none".into(), |kind| format!("`{kind}`"));
                return Err(RecipeError::bad(
                    place,
                    format!(
                        "expected a kind of pretrain, sft, grpo, reject, distill or eval, got {got}"
                    ),
                ));
            }
        })
    }

    /// The same kind, read from a complete table.
    fn read_as(&self, table: Table, place: &str) -> Result<Self, RecipeError> {
        Ok(match self {
            Self::Pretrain(_) => Self::Pretrain(schema::from_table(table, place)?),
            Self::Sft(_) => Self::Sft(schema::from_table(table, place)?),
            Self::Grpo(_) => Self::Grpo(Box::new(schema::from_table(table, place)?)),
            Self::Reject(_) => Self::Reject(schema::from_table(table, place)?),
            Self::Distill(_) => Self::Distill(schema::from_table(table, place)?),
            Self::Eval(_) => Self::Eval(schema::from_table(table, place)?),
        })
    }
}

/// A count of a stage that follows the budget, with its floor.
pub(crate) struct ScaledCount<'a> {
    /// Name of the field.
    pub(crate) field: &'static str,
    /// The count.
    pub(crate) value: &'a mut u32,
    /// The fewest at any budget.
    pub(crate) floor: &'a mut u32,
}

impl StageSettings {
    /// The counts that follow the budget.
    pub(crate) fn scaled_counts(&mut self) -> Vec<ScaledCount<'_>> {
        let count = |field, value, floor| ScaledCount {
            field,
            value,
            floor,
        };
        match self {
            Self::Pretrain(s) => vec![count("steps", &mut s.steps, &mut s.min_steps)],
            Self::Sft(s) => vec![count("steps", &mut s.steps, &mut s.min_steps)],
            Self::Grpo(s) => vec![count("steps", &mut s.steps, &mut s.min_steps)],
            Self::Reject(s) => vec![count("prompts", &mut s.prompts, &mut s.min_prompts)],
            Self::Distill(s) => vec![
                count(
                    "sequence_steps",
                    &mut s.sequence_steps,
                    &mut s.min_sequence_steps,
                ),
                count(
                    "on_policy_steps",
                    &mut s.on_policy_steps,
                    &mut s.min_on_policy_steps,
                ),
            ],
            Self::Eval(_) => Vec::new(),
        }
    }

    /// The optimiser of the stage and how many updates it makes, where it has one.
    pub(crate) fn optim(&mut self) -> Option<(&mut OptimSettings, u32)> {
        match self {
            Self::Pretrain(s) => Some((&mut s.optim, s.steps)),
            Self::Sft(s) => Some((&mut s.optim, s.steps)),
            Self::Grpo(s) => Some((&mut s.optim, s.steps.saturating_mul(s.updates_per_batch))),
            Self::Distill(s) => Some((
                &mut s.optim,
                s.sequence_steps.saturating_add(s.on_policy_steps),
            )),
            Self::Reject(_) | Self::Eval(_) => None,
        }
    }
}

#[derive(Deserialize)]
struct PresetOnly {
    preset: Preset,
}

/// The fields that every kind of stage has, as written: an empty name is none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct StageHead {
    name: String,
    kind: String,
    from: String,
    teacher: String,
    traces: String,
    model: String,
    match_compute: String,
    control: bool,
}

/// A stage as it is written back: head, settings, and the table of knobs last.
#[derive(Serialize)]
struct StageOut<'a> {
    #[serde(flatten)]
    head: StageHead,
    #[serde(flatten)]
    settings: &'a StageSettings,
    difficulty: &'a Table,
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

    /// The shape of the model that `stage` works on: its own, or that of the stage it starts from.
    #[must_use]
    pub fn model_of<'a>(&'a self, mut stage: &'a Stage) -> Option<(&'a str, &'a ModelShape)> {
        // A stage starts from an earlier one, so this ends after at most all of them.
        for _ in 0..=self.stages.len() {
            if let Some(name) = &stage.model {
                return self
                    .models
                    .get_key_value(name)
                    .map(|(name, shape)| (name.as_str(), shape));
            }
            stage = self.stage(stage.from.as_deref()?)?;
        }
        None
    }
}

impl Stage {
    fn from_written(at: usize, written: &Table) -> Result<Self, RecipeError> {
        let place = stage_place(at, written);
        let (defaults, schema) = stage_schema(written, &place)?;
        let mut merged = schema::lay_over(&schema, written, &place)?;
        let difficulty = match merged.remove("difficulty") {
            Some(Value::Table(difficulty)) => difficulty,
            _ => Table::new(),
        };
        let mut head = Table::new();
        for key in schema::table_of(&StageHead::default(), &place)?.keys() {
            if let Some(value) = merged.remove(key) {
                head.insert(key.clone(), value);
            }
        }
        let head: StageHead = schema::from_table(head, &place)?;
        let some = |name: String| (!name.is_empty()).then_some(name);
        Ok(Self {
            name: head.name,
            from: some(head.from),
            teacher: some(head.teacher),
            traces: some(head.traces),
            model: some(head.model),
            match_compute: some(head.match_compute),
            control: head.control,
            difficulty,
            settings: defaults.read_as(merged, &place)?,
        })
    }

    fn out(&self) -> StageOut<'_> {
        let text = |name: &Option<String>| name.clone().unwrap_or_default();
        StageOut {
            head: StageHead {
                name: self.name.clone(),
                kind: self.settings.kind().to_owned(),
                from: text(&self.from),
                teacher: text(&self.teacher),
                traces: text(&self.traces),
                model: text(&self.model),
                match_compute: text(&self.match_compute),
                control: self.control,
            },
            settings: &self.settings,
            difficulty: &self.difficulty,
        }
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

/// The defaults of the stage's kind, and all its known fields.
fn stage_schema(written: &Table, place: &str) -> Result<(StageSettings, Table), RecipeError> {
    let defaults = StageSettings::defaults(written, place)?;
    let mut schema = schema::table_of(&StageHead::default(), place)?;
    schema.extend(schema::table_of(&defaults, place)?);
    schema.insert("difficulty".into(), Value::Table(Table::new()));
    Ok((defaults, schema))
}

fn stage_place(at: usize, written: &Table) -> String {
    match written.get("name").and_then(Value::as_str) {
        Some(name) => format!("stage `{name}`"),
        None => format!("stage number {}", at + 1),
    }
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
