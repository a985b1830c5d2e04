//! A run's folder in words: the recipe's stages, which of them are done, what evaluations found.
//!
//! The folder may be anybody's: whatever in it cannot be read is left out or named as a problem, and
//! never fails the rest.

use frugal_run::folder::{RunFolder, StopRequest};
use frugal_run::inside::Inside;
use frugal_run::ledger::Outcome;
use frugal_run::recipe::{MAX_RECIPE_BYTES, Recipe, Stage as Written, StageSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::progress::Progress;

/// Bytes of an evaluation's scores that are read; every problem's share of right samples is in them.
const MOST_SCORE_BYTES: u64 = 8 << 20;
/// Where a resumed run's words go.
pub const RESUME_LOG: &str = "resume.log";
/// Bytes of them that are shown.
const LOG_BYTES: u64 = 4 << 10;

/// How a run or a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// A process works on it.
    Running,
    /// It came to its end.
    Done,
    /// An error ended it.
    Failed,
    /// It ended before its end, and can be gone on with.
    Stopped,
    /// Its turn has not come.
    Waiting,
}

/// What the recipe of a folder says.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) recipe: String,
    pub(super) about: String,
    pub(super) task: String,
    pub(super) seed: u64,
    pub(super) budget_minutes: f64,
    pub(super) text: String,
    stages: Vec<Planned>,
    /// Why the recipe could not be read.
    pub(super) problem: Option<String>,
}

#[derive(Debug)]
struct Planned {
    name: String,
    kind: &'static str,
    of: u64,
    from: Option<String>,
    teacher: Option<String>,
    is_control: bool,
}

/// A stage as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Stage {
    name: String,
    kind: &'static str,
    state: State,
    /// Steps done.
    steps: u64,
    /// Steps there are to be, at most.
    of: u64,
    /// The stage whose model it starts from.
    from: Option<String>,
    /// The stage whose model teaches it.
    teacher: Option<String>,
    /// Whether it is run to compare with.
    control: bool,
    /// On the wall, by the timings.
    seconds: f64,
    tokens_trained: u64,
    tokens_generated: u64,
}

impl Stage {
    /// How it stands.
    pub(super) fn state(&self) -> State {
        self.state
    }
}

impl Described {
    /// Reads the recipe of a folder.
    pub(super) fn of(inside: &Inside) -> Self {
        let text = match inside.read_text(&["recipe.toml"], MAX_RECIPE_BYTES as u64) {
            Ok(text) => text,
            Err(error) => return Self::unknown(String::new(), error.to_string()),
        };
        let none: [&str; 0] = [];
        match Recipe::from_toml(&text, &none) {
            Ok(recipe) => Self {
                stages: recipe
                    .stages
                    .iter()
                    .map(|stage| planned(&recipe, stage))
                    .collect(),
                recipe: recipe.name,
                about: recipe.about,
                task: recipe.task.name,
                seed: recipe.seed,
                budget_minutes: recipe.reference_minutes,
                text,
                problem: None,
            },
            Err(error) => Self::unknown(text, error.to_string()),
        }
    }

    fn unknown(text: String, problem: String) -> Self {
        Self {
            recipe: String::new(),
            about: String::new(),
            task: String::new(),
            seed: 0,
            budget_minutes: 0.0,
            text,
            stages: Vec::new(),
            problem: Some(problem),
        }
    }

    /// Whether a stage is run to compare with, so that its results are not the run's.
    pub(super) fn is_control(&self, stage: &str) -> bool {
        let mut found = self.stages.iter().filter(|planned| planned.name == stage);
        found.any(|planned| planned.is_control)
    }

    /// Whether every stage has left what it leaves.
    fn is_done(&self, inside: &Inside) -> bool {
        !self.stages.is_empty() && self.stages.iter().all(|stage| has_left(inside, stage))
    }

    /// How the run stands: by its lock, else by what the ledger knows, else by what it left.
    pub(super) fn state(&self, inside: &Inside, outcome: Option<Outcome>) -> State {
        if RunFolder::is_in_use(inside.path()) {
            return State::Running;
        }
        match outcome {
            Some(Outcome::Done) => State::Done,
            Some(Outcome::Failed) => State::Failed,
            _ if self.is_done(inside) => State::Done,
            _ => State::Stopped,
        }
    }

    /// The stages as they stand.
    pub(super) fn stages(&self, inside: &Inside, run: State, progress: &Progress) -> Vec<Stage> {
        let mut is_later = false;
        self.stages
            .iter()
            .map(|planned| {
                let is_done = !is_later && has_left(inside, planned);
                let state = match (is_done, is_later) {
                    (true, _) => State::Done,
                    (false, true) => State::Waiting,
                    // All are done, as far as anybody knows who does not see their checkpoints.
                    (false, false) if run == State::Done => State::Done,
                    (false, false) => run,
                };
                is_later |= state != State::Done;
                let steps = progress.steps(&planned.name);
                let used = progress.used(&planned.name).unwrap_or_default();
                // A stage may end before its last step: for want of data, or by its budget.
                let is_short = state == State::Done && steps > 0;
                Stage {
                    name: planned.name.clone(),
                    kind: planned.kind,
                    state,
                    steps,
                    of: if is_short {
                        steps
                    } else {
                        planned.of.max(steps)
                    },
                    from: planned.from.clone(),
                    teacher: planned.teacher.clone(),
                    control: planned.is_control,
                    seconds: used.seconds,
                    tokens_trained: used.tokens_trained,
                    tokens_generated: used.tokens_generated,
                }
            })
            .collect()
    }

    /// What the evaluations found, in the order of the recipe.
    pub(super) fn scores(&self, inside: &Inside) -> Vec<Exam> {
        let exams = self.stages.iter().filter(|stage| stage.kind == "eval");
        exams
            .filter_map(|stage| {
                let parts = ["checkpoints", &stage.name, "final", "scores.json"];
                let bytes = inside.read(&parts, MOST_SCORE_BYTES).ok()?;
                Some(Exam {
                    stage: stage.name.clone(),
                    control: stage.is_control,
                    checkpoints: serde_json::from_slice(&bytes).ok()?,
                })
            })
            .collect()
    }
}

/// Whether somebody asked the run of a folder to stop.
pub(super) fn is_stopping(inside: &Inside) -> bool {
    StopRequest::is_left_in(inside.path())
}

/// The end of what a resumed run said.
pub(super) fn log(inside: &Inside) -> Option<String> {
    let text = inside.read_end(&[RESUME_LOG], LOG_BYTES).ok()?;
    (!text.trim().is_empty()).then_some(text)
}

fn planned(recipe: &Recipe, stage: &Written) -> Planned {
    Planned {
        name: stage.name.clone(),
        kind: stage.settings.kind(),
        of: n_steps(recipe, stage),
        from: stage.from.clone(),
        teacher: stage.teacher.clone(),
        is_control: stage.control,
    }
}

/// Steps a stage makes at most.
fn n_steps(recipe: &Recipe, stage: &Written) -> u64 {
    match &stage.settings {
        StageSettings::Import(_) => 1,
        StageSettings::Pretrain(settings) => settings.steps.into(),
        StageSettings::Sft(settings) => settings.steps.into(),
        StageSettings::Grpo(settings) => settings.steps.into(),
        StageSettings::Reject(settings) => settings.n_steps(),
        StageSettings::Distill(settings) => {
            u64::from(settings.sequence_steps) + u64::from(settings.on_policy_steps)
        }
        StageSettings::Eval(settings) => {
            let before = recipe.stages.iter();
            let before = before.take_while(|other| other.name != stage.name);
            let is_asked = |other: &&Written| {
                let is_named = match &stage.from {
                    Some(name) => other.name == *name,
                    None => settings.only.is_empty() || settings.only.contains(&other.name),
                };
                is_named && other.settings.leaves_checkpoint()
            };
            before.filter(is_asked).count() as u64
        }
    }
}

/// Whether a stage has left what it leaves. A folder that is complete has its manifest.
fn has_left(inside: &Inside, stage: &Planned) -> bool {
    inside.has(&["checkpoints", &stage.name, "final", "manifest.json"])
}

/// What an evaluation found.
#[derive(Debug, Serialize)]
pub(super) struct Exam {
    stage: String,
    /// Whether it is one of the controls.
    control: bool,
    checkpoints: Vec<Examined>,
}

/// What it found of one checkpoint: numbers that the page shows as they are. The shares of every
/// single problem are left out.
#[derive(Debug, Serialize, Deserialize)]
struct Examined {
    checkpoint: String,
    score: Value,
    #[serde(default)]
    curve: Option<Curve>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Curve {
    samples: u64,
    points: Value,
    mean_tokens: f64,
}
