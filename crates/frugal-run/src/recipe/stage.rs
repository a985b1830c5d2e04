//! One stage: the head that all kinds share, the settings of its kind, and how both are read.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{
    DistillSettings, EvalSettings, GrpoSettings, ImportSettings, OptimSettings, Preset,
    PretrainSettings, RecipeError, RejectSettings, SftSettings, schema,
};

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
    /// A published checkpoint as a start.
    Import(ImportSettings),
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
            Self::Import(_) => "import",
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
    pub(super) fn defaults(written: &Table, place: &str) -> Result<Self, RecipeError> {
        let text = |key| written.get(key).and_then(Value::as_str);
        Ok(match text("kind") {
            Some("import") => Self::Import(ImportSettings::default()),
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
                        "expected a kind of import, pretrain, sft, grpo, reject, distill or eval, \
                         got {got}"
                    ),
                ));
            }
        })
    }

    /// The same kind, read from a complete table.
    fn read_as(&self, table: Table, place: &str) -> Result<Self, RecipeError> {
        Ok(match self {
            Self::Import(_) => Self::Import(schema::from_table(table, place)?),
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
            Self::Import(_) | Self::Eval(_) => Vec::new(),
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
            Self::Import(_) | Self::Reject(_) | Self::Eval(_) => None,
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
pub(super) struct StageHead {
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
pub(super) struct StageOut<'a> {
    #[serde(flatten)]
    head: StageHead,
    #[serde(flatten)]
    settings: &'a StageSettings,
    difficulty: &'a Table,
}

impl Stage {
    pub(super) fn from_written(at: usize, written: &Table) -> Result<Self, RecipeError> {
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

    pub(super) fn out(&self) -> StageOut<'_> {
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

/// The defaults of the stage's kind, and all its known fields.
pub(super) fn stage_schema(
    written: &Table,
    place: &str,
) -> Result<(StageSettings, Table), RecipeError> {
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
