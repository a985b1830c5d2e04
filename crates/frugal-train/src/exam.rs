//! Evaluation as a stage: every checkpoint on the same held-out problems, one checkpoint a step.
//!
//! Numbers go to the journal; each problem's share of right samples goes to `scores.json`, for
//! paired comparisons; the first problems' likeliest answers go to `samples.jsonl`, so that one can
//! follow them through the stages. Nothing is tuned on what is seen here.

use frugal_core::backend::TrainBackend;
use frugal_core::rng::Rng;
use frugal_eval::evaluate::{self, K, PassCurve, SampleRequest, Score};
use frugal_eval::split::{self, Side};
use frugal_eval::task::Problem;
use frugal_model::transformer::Model;
use frugal_run::checkpoint::Checkpoint;
use frugal_run::ledger::Work;
use frugal_run::recipe::EvalSettings;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::artifact;
use crate::error::{Error, Result};
use crate::rollout::Cached;
use crate::room::{Examinee, Room};
use crate::stage::{File, Outcome, Stage};

/// The file's name in the stage's final checkpoint.
pub const SCORES: &str = "scores.json";

/// Problems whose answers are shown.
const FOLLOWED: usize = 3;

/// What the examination of one checkpoint found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Examined {
    /// The stage that left the checkpoint.
    pub checkpoint: String,
    /// The numbers.
    pub score: Score,
    /// Share of right samples of each problem, in order.
    pub pass_rates: Vec<f64>,
    /// pass@k beyond 8, where more samples were asked for.
    pub curve: Option<PassCurve>,
}

/// The stage.
#[derive(Debug)]
pub struct Exam<'a, B> {
    room: &'a Room<'a, B>,
    settings: EvalSettings,
    candidates: Vec<(String, Checkpoint)>,
    problems: Vec<Problem>,
    seed: u64,
    examined: Vec<Examined>,
}

impl<'a, B: TrainBackend> Exam<'a, B> {
    /// Examines the checkpoints that the named stages left. All exams of a run ask the same
    /// problems.
    ///
    /// # Errors
    /// If the task has too few held-out problems.
    pub fn new(
        room: &'a Room<'a, B>,
        candidates: Vec<(String, Checkpoint)>,
        settings: EvalSettings,
    ) -> Result<Self> {
        let seed = Rng::derive(&[room.seed, frugal_core::rng::key("exam")]).next_u64();
        let n = settings.problems as usize;
        let problems = split::problems(room.task, &room.level, Side::HeldOut, seed, n)?;
        Ok(Self {
            room,
            settings,
            candidates,
            problems,
            seed,
            examined: Vec::new(),
        })
    }

    /// Examines one model.
    ///
    /// # Errors
    /// If the task or the back-end refuses.
    pub fn examine(&self, name: &str, model: &Model<B::Tensor>) -> Result<(Examined, Outcome)> {
        let Room { task, codec, .. } = self.room;
        let mut roller = self.room.roller(model, Cached::Latent)?;
        let mut examinee = Examinee {
            room: self.room,
            model,
            roller: &mut roller,
            work: Work::default(),
        };
        #[expect(clippy::cast_possible_truncation, reason = "logits are f32")]
        let settings = evaluate::Settings {
            samples: K,
            temperature: self.settings.temperature as f32,
            max_new_tokens: self.settings.max_new_tokens as usize,
            seed: self.seed,
        };
        let found = evaluate::evaluate(*task, &self.problems, codec, &mut examinee, &settings)?;
        let n_samples = self.settings.samples as usize;
        let curve = if n_samples > K {
            let request = SampleRequest {
                n: n_samples,
                temperature: settings.temperature,
                max_new_tokens: settings.max_new_tokens,
                seed: self.seed ^ 1,
            };
            let ks: Vec<usize> = std::iter::successors(Some(1), |k| Some(2 * k))
                .take_while(|k| *k <= n_samples)
                .collect();
            let model = (*codec, &mut examinee as &mut dyn evaluate::Sampler);
            Some(evaluate::pass_at(
                *task,
                &self.problems,
                model,
                &request,
                &ks,
            )?)
        } else {
            None
        };
        let mut outcome = Outcome {
            work: examinee.work,
            ..Outcome::default()
        };
        outcome.metric("checkpoint", name);
        outcome.metric(
            "score",
            serde_json::to_value(&found.score).unwrap_or_default(),
        );
        for record in found.records.iter().take(FOLLOWED) {
            outcome.samples.push(json!({
                "stage": self.room.stage,
                "checkpoint": name,
                "question": record.question,
                "text": record.greedy.text,
                "correct": record.greedy.correct,
            }));
        }
        let examined = Examined {
            checkpoint: name.to_owned(),
            score: found.score,
            pass_rates: found.pass_rates,
            curve,
        };
        Ok((examined, outcome))
    }
}

/// Reads what an exam left.
///
/// # Errors
/// If the file is missing or damaged.
pub fn scores(checkpoint: &Checkpoint) -> Result<Vec<Examined>> {
    let damaged = |error: serde_json::Error| Error::State {
        reason: error.to_string(),
    };
    serde_json::from_slice(&checkpoint.read(SCORES)?).map_err(damaged)
}

impl<B: TrainBackend> Stage for Exam<'_, B> {
    fn n_steps(&self) -> u64 {
        self.candidates.len() as u64
    }

    fn step(&mut self, step: u64) -> Result<Outcome> {
        let index = usize::try_from(step).unwrap_or(usize::MAX);
        let Some((name, checkpoint)) = self.candidates.get(index) else {
            return Ok(Outcome {
                is_last: true,
                ..Outcome::default()
            });
        };
        let model = artifact::open(self.room.backend, checkpoint, self.room.n_positions)?;
        let (examined, outcome) = self.examine(name, &model)?;
        self.examined.push(examined);
        Ok(outcome)
    }

    fn save(&self) -> Result<Vec<File>> {
        let bytes = serde_json::to_vec(&self.examined).map_err(|error| Error::State {
            reason: error.to_string(),
        })?;
        Ok(vec![(SCORES.to_owned(), bytes)])
    }

    fn restore(&mut self, state: &Checkpoint) -> Result<()> {
        self.examined = scores(state)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<File>> {
        self.save()
    }
}
