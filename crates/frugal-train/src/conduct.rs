//! A run: the stages of a plan, one after another, each from the checkpoints before it.
//!
//! Stages do not call each other; this file hands each the checkpoints it asks for. A run that was
//! stopped goes on at the first stage that has left nothing yet.

use frugal_core::backend::TrainBackend;
use frugal_eval::encode::Codec;
use frugal_eval::knobs::{Level, Mix};
use frugal_eval::task::Task;
use frugal_model::transformer::Model;
use frugal_run::checkpoint::Checkpoint;
use frugal_run::ledger::Work;
use frugal_run::plan::Plan;
use frugal_run::recipe::{
    EvalSettings, ModelShape, Precision, Recipe, Stage as Written, StageSettings,
};

use crate::artifact::{self, Companions, Vocabulary};
use crate::data::Sample;
use crate::distill::{Distill, Pupil};
use crate::error::{Error, Result};
use crate::exam::{Exam, Examined};
use crate::grpo::Grpo;
use crate::import::{Import, Imported};
use crate::pretrain::Pretrain;
use crate::reject::Reject;
use crate::room::{Origin, Room};
use crate::sft::Sft;
use crate::stage::{Books, Limit, Name, Stage, Start, Watcher, drive, work_of};
use crate::traces;

/// What a run is made of, beside its plan and its books.
#[derive(Debug)]
pub struct Ensemble<'a, B> {
    /// What computes stages in bf16, sampling and evaluation.
    pub bf16: &'a B,
    /// What computes stages that ask for f32.
    pub f32: &'a B,
    /// What is taught.
    pub task: &'a dyn Task,
    /// Words and ids.
    pub codec: &'a Codec,
    /// What goes with every model.
    pub companions: &'a Companions,
    /// The published checkpoint of the recipe's import; `codec` and `companions` are then its own.
    pub imported: Option<&'a Imported>,
}

impl<'a, B> Ensemble<'a, B> {
    /// What the recipe imports, if it imports.
    fn imported(&self, recipe: &Recipe) -> Result<Option<&'a Imported>> {
        let Some((stage, settings)) = recipe.import() else {
            return Ok(None);
        };
        let imported = self.imported.ok_or_else(|| Error::Setting {
            place: "run",
            reason: format!(
                "expected the checkpoint that stage {} imports, got none",
                stage.name
            ),
        })?;
        imported.check(settings.positions as usize)?;
        Ok(Some(imported))
    }
}

/// Runs every stage of a plan that is not done yet.
///
/// # Errors
/// [`Error::Interrupted`] or [`Error::Stopped`] after a clean checkpoint; whatever stops a stage
/// otherwise.
pub fn conduct<B: TrainBackend>(
    plan: &Plan,
    ensemble: &Ensemble<'_, B>,
    books: &mut Books<'_>,
    watcher: &mut dyn Watcher,
) -> Result<()> {
    let recipe = &plan.recipe;
    let imported = ensemble.imported(recipe)?;
    let mut left: Vec<(&Written, Checkpoint)> = Vec::new();
    let mut is_made_anew = false;
    for written in &recipe.stages {
        let state = if is_made_anew {
            books.forget(&written.name)?;
            None
        } else {
            books.latest(&written.name, watcher)?
        };
        if let Some(done) = state.as_ref().filter(|state| state.is_final()) {
            if let (StageSettings::Import(_), Some(imported)) = (&written.settings, imported) {
                imported.expect_same(done)?;
            }
            left.push((written, done.clone()));
            continue;
        }
        is_made_anew = true;
        let room = room_for(recipe, written, ensemble)?;
        let before = Before {
            recipe,
            left: &left,
            imported,
        };
        let mut stage = stage_of(&room, written, &before)?;
        let limit = match &written.match_compute {
            Some(name) => Some(Limit {
                flops: work_of(before.checkpoint(name)?)?.flops(),
            }),
            None => None,
        };
        let start = Start {
            state,
            after: left.last().map(|(_, checkpoint)| checkpoint.position()),
            limit,
        };
        let name = Name {
            stage: &written.name,
            kind: written.settings.kind(),
        };
        let done = drive(stage.as_mut(), name, start, books, watcher)?;
        drop(stage);
        left.push((written, done));
    }
    Ok(())
}

/// What a model is asked outside of a run.
#[derive(Debug)]
pub struct Questions<'a> {
    /// The task.
    pub task: &'a dyn Task,
    /// Its problems as the model reads them.
    pub codec: &'a Codec,
    /// How hard they are.
    pub level: Level,
    /// Two models asked with one seed are asked the same problems; a run asks with its own.
    pub seed: u64,
}

/// Examines a model outside of a run.
///
/// # Errors
/// If the task has too few held-out problems, or the back-end refuses.
pub fn examine<B: TrainBackend>(
    backend: &B,
    (name, model): (&str, &Model<B::Tensor>),
    questions: &Questions<'_>,
    settings: EvalSettings,
) -> Result<(Examined, Work)> {
    let none = Companions {
        tokenizer: Vec::new(),
        tokenizer_config: Vec::new(),
        others: Vec::new(),
    };
    let room = Room {
        backend,
        task: questions.task,
        codec: questions.codec,
        level: questions.level.clone(),
        mix: questions.task.mix(),
        seed: questions.seed,
        stage: "eval".to_owned(),
        n_positions: backend.shape(&model.rope).rows(),
        companions: &none,
        vocabulary: Vocabulary::of_model(&model.config),
        origin: Origin::Nothing,
        glance_steps: 0,
        glance_problems: 0,
    };
    let exam = Exam::new(&room, Vec::new(), settings)?;
    let (examined, outcome) = exam.examine(name, model)?;
    Ok((examined, outcome.work))
}

/// What earlier stages left.
struct Before<'a> {
    recipe: &'a Recipe,
    left: &'a [(&'a Written, Checkpoint)],
    imported: Option<&'a Imported>,
}

impl Before<'_> {
    fn checkpoint(&self, name: &str) -> Result<&Checkpoint> {
        let found = self.left.iter().find(|(stage, _)| stage.name == name);
        found
            .map(|(_, checkpoint)| checkpoint)
            .ok_or_else(|| Error::Setting {
                place: "run",
                reason: format!("expected the stage {name} before those that need it, got none"),
            })
    }

    fn model<B: TrainBackend>(
        &self,
        room: &Room<'_, B>,
        name: Option<&String>,
    ) -> Result<Option<Model<B::Tensor>>> {
        name.map(|name| artifact::open(room.backend, self.checkpoint(name)?, room.n_positions))
            .transpose()
    }

    fn traces(&self, name: Option<&String>, max_samples: u32) -> Result<Option<Vec<Sample>>> {
        name.map(|name| traces::samples(self.checkpoint(name)?, max_samples as usize))
            .transpose()
    }

    fn shape(&self, written: &Written) -> Result<&ModelShape> {
        let name = written.model.as_deref().unwrap_or_default();
        self.recipe.models.get(name).ok_or_else(|| Error::Setting {
            place: "run",
            reason: format!("expected a model named {name} in the recipe, got none"),
        })
    }
}

fn room_for<'a, B: TrainBackend>(
    recipe: &Recipe,
    written: &Written,
    ensemble: &Ensemble<'a, B>,
) -> Result<Room<'a, B>> {
    let task = ensemble.task;
    let level: Level = recipe.task.difficulty(&task.level(), &written.difficulty)?;
    let mix: Mix = recipe.task.mix(&task.mix())?;
    Ok(Room {
        backend: match precision_of(&written.settings) {
            Precision::F32 => ensemble.f32,
            Precision::Bf16 => ensemble.bf16,
        },
        task,
        codec: ensemble.codec,
        level,
        mix,
        seed: recipe.seed,
        stage: written.name.clone(),
        n_positions: recipe.n_positions(),
        companions: ensemble.companions,
        vocabulary: match ensemble.imported {
            Some(imported) => Vocabulary::of_model(&imported.config),
            None => Vocabulary::of_words(ensemble.codec.vocab_size()),
        },
        origin: origin_of(recipe, written, ensemble.imported),
        glance_steps: u64::from(recipe.run.evaluate_steps),
        glance_problems: recipe.run.evaluate_problems as usize,
    })
}

fn origin_of(recipe: &Recipe, written: &Written, imported: Option<&Imported>) -> Origin {
    let Some(imported) = imported else {
        return Origin::Nothing;
    };
    let root = recipe.root_of(written).map(|root| &root.settings);
    match root {
        Some(StageSettings::Import(_)) => Origin::Imported(imported.name.clone()),
        _ => Origin::WordsOf(imported.name.clone()),
    }
}

fn precision_of(settings: &StageSettings) -> Precision {
    match settings {
        StageSettings::Pretrain(settings) => settings.precision,
        StageSettings::Sft(settings) => settings.precision,
        StageSettings::Grpo(settings) => settings.precision,
        StageSettings::Distill(settings) => settings.precision,
        // Nothing is computed.
        StageSettings::Import(_) => Precision::F32,
        StageSettings::Reject(_) | StageSettings::Eval(_) => Precision::Bf16,
    }
}

fn stage_of<'r, B: TrainBackend>(
    room: &'r Room<'r, B>,
    written: &Written,
    before: &Before<'r>,
) -> Result<Box<dyn Stage + 'r>> {
    let start = || -> Result<Model<B::Tensor>> {
        match before.model(room, written.from.as_ref())? {
            Some(model) => Ok(model),
            None => room.new_model(before.shape(written)?),
        }
    };
    Ok(match &written.settings {
        StageSettings::Import(_) => {
            let imported = before.imported.ok_or_else(|| Error::Setting {
                place: "run",
                reason: "expected a checkpoint to import, got none".into(),
            })?;
            Box::new(Import::new(room, imported))
        }
        StageSettings::Pretrain(settings) => Box::new(Pretrain::new(
            room,
            before.shape(written)?,
            settings.clone(),
        )?),
        StageSettings::Sft(settings) => {
            let traces = before.traces(written.traces.as_ref(), settings.max_samples)?;
            Box::new(Sft::new(room, start()?, traces, settings.clone())?)
        }
        StageSettings::Grpo(settings) => {
            Box::new(Grpo::new(room, start()?, settings.as_ref().clone())?)
        }
        StageSettings::Reject(settings) => Box::new(Reject::new(room, start()?, settings.clone())?),
        StageSettings::Distill(settings) => {
            let pupil = Pupil {
                student: start()?,
                teacher: before.model(room, written.teacher.as_ref())?,
                traces: before.traces(written.traces.as_ref(), 0)?,
            };
            Box::new(Distill::new(room, pupil, settings.clone())?)
        }
        StageSettings::Eval(settings) => {
            let is_asked = |stage: &Written| {
                let is_named = match &written.from {
                    Some(name) => stage.name == *name,
                    None => settings.only.is_empty() || settings.only.contains(&stage.name),
                };
                is_named && stage.settings.leaves_checkpoint()
            };
            let candidates = before.left.iter().filter(|(stage, _)| is_asked(stage));
            let named = candidates.map(|(stage, left)| (stage.name.clone(), left.clone()));
            Box::new(Exam::new(room, named.collect(), settings.clone())?)
        }
    })
}
