//! Rejection sampling: draw several answers a prompt, keep those that are right and in form.
//!
//! Departures from DeepSeek-R1: no judge model and no rewriting; the filter is the grader, the form,
//! and, for the cleaned cold start, thinking that is entirely in the task's way of thinking.

use frugal_core::backend::TrainBackend;
use frugal_eval::judge::{Judged, judge};
use frugal_model::generate::Sample;
use frugal_model::transformer::Model;
use frugal_run::checkpoint::Checkpoint;
use frugal_run::recipe::{Keep, RejectSettings};

use crate::error::Result;
use crate::rollout::{Cached, Roller};
use crate::room::Room;
use crate::stage::{File, Outcome, Stage};
use crate::traces::{self, TRACES, Trace};

/// The stage.
#[derive(Debug)]
pub struct Reject<'a, B: TrainBackend> {
    room: &'a Room<'a, B>,
    settings: RejectSettings,
    model: Model<B::Tensor>,
    roller: Roller<'a, B>,
    kept: Vec<Trace>,
}

impl<'a, B: TrainBackend> Reject<'a, B> {
    /// Samples `model`.
    ///
    /// # Errors
    /// If the cache does not fit the model.
    pub fn new(
        room: &'a Room<'a, B>,
        model: Model<B::Tensor>,
        settings: RejectSettings,
    ) -> Result<Self> {
        Ok(Self {
            roller: room.roller(&model, Cached::Latent)?,
            room,
            settings,
            model,
            kept: Vec::new(),
        })
    }
}

impl<B: TrainBackend> Stage for Reject<'_, B> {
    fn n_steps(&self) -> u64 {
        self.settings.n_steps()
    }

    fn step(&mut self, step: u64) -> Result<Outcome> {
        let Room { task, codec, .. } = self.room;
        let begun = u32::try_from(step)
            .unwrap_or(u32::MAX)
            .saturating_mul(RejectSettings::PROMPTS_PER_STEP);
        let n = RejectSettings::PROMPTS_PER_STEP.min(self.settings.prompts.saturating_sub(begun));
        let n_samples = self.settings.samples_per_prompt as usize;
        let (problems, prompts) = self.room.prompts(step, 0..u64::from(n), n_samples)?;
        let max_new_tokens = self.settings.max_new_tokens as usize;
        let draw = self.room.draw(self.settings.temperature, max_new_tokens);
        let rollout = self.roller.sample(&self.model, &prompts, &draw)?;
        let (mut n_drawn, mut n_right, before) = (0usize, 0usize, self.kept.len());
        for ((problem, prompt), samples) in problems.iter().zip(&prompts).zip(&rollout.samples) {
            let mut right = Vec::new();
            for sample in samples {
                n_drawn += 1;
                let judged = judge(*task, problem, &sample.ids, codec)?;
                if sample.is_finished && is_kept(&judged) {
                    right.push(sample);
                }
            }
            n_right += right.len();
            if self.settings.keep == Keep::Shortest {
                right.sort_by_key(|sample| sample.ids.len());
            }
            let chosen = right
                .into_iter()
                .take(self.settings.keep_per_prompt as usize);
            self.kept.extend(chosen.map(|sample: &Sample| Trace {
                prompt: prompt.ids.clone(),
                completion: sample.ids.clone(),
            }));
        }
        let mut outcome = Outcome::default();
        outcome.metric("accuracy", n_right as f64 / n_drawn.max(1) as f64);
        outcome.metric("kept", self.kept.len() - before);
        outcome.metric("samples", n_drawn);
        outcome.work.tokens_generated = rollout.tokens;
        outcome.work.flops_rollout = rollout.flops as f64;
        Ok(outcome)
    }

    fn save(&self) -> Result<Vec<File>> {
        Ok(vec![(TRACES.to_owned(), traces::write(&self.kept)?)])
    }

    fn restore(&mut self, state: &Checkpoint) -> Result<()> {
        self.kept = traces::parse(&state.read(TRACES)?)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<File>> {
        self.save()
    }
}

/// Right, in form, and thought in the task's own way from beginning to end (or not at all).
fn is_kept(judged: &Judged) -> bool {
    judged.correct && (!judged.has_thinking || judged.consistency >= 1.0)
}
