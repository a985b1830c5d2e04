//! Pretraining: next-token prediction on the task's base corpus, from nothing.
//!
//! Departures from the DeepSeek-V3 report: samples are isolated from each other by their row
//! offsets (V3 packs without a mask); the corpus is endless, so a batch's size stays the same; no
//! fill-in-the-middle.

use frugal_core::backend::TrainBackend;
use frugal_eval::corpus;
use frugal_run::checkpoint::Checkpoint;
use frugal_run::recipe::{ModelShape, PretrainSettings};

use crate::data::Sample;
use crate::data::stream::Stream;
use crate::error::Result;
use crate::learner::{Goal, Learner};
use crate::rollout::{Cached, Roller};
use crate::room::{self, Room};
use crate::schedule::Schedule;
use crate::stage::{File, Outcome, Stage};
use crate::{artifact, card};

/// Most tokens of a look at the model.
const GLANCE_TOKENS: usize = 200;

/// The stage.
#[derive(Debug)]
pub struct Pretrain<'a, B: TrainBackend> {
    room: &'a Room<'a, B>,
    settings: PretrainSettings,
    learner: Learner<'a, B>,
    roller: Roller<'a, B>,
    schedule: Schedule,
}

impl<'a, B: TrainBackend> Pretrain<'a, B> {
    /// A model of `shape` that has seen nothing.
    ///
    /// # Errors
    /// If the shape or the settings are impossible.
    pub fn new(
        room: &'a Room<'a, B>,
        shape: &ModelShape,
        settings: PretrainSettings,
    ) -> Result<Self> {
        let model = room.new_model(shape)?;
        let learner_settings = room::learner_settings(
            &settings.optim,
            settings.mtp_weight,
            settings.balance_alpha,
            settings.bias_update_speed,
        );
        Ok(Self {
            roller: room.roller(&model, Cached::Latent)?,
            learner: Learner::new(room.backend, model, learner_settings)?,
            schedule: room::schedule(
                &settings.optim,
                settings.optim.learning_rate,
                u64::from(settings.steps),
            )?,
            room,
            settings,
        })
    }
}

impl<B: TrainBackend> Stage for Pretrain<'_, B> {
    fn n_steps(&self) -> u64 {
        u64::from(self.settings.steps)
    }

    fn step(&mut self, step: u64) -> Result<Outcome> {
        let Room {
            task,
            level,
            mix,
            codec,
            ..
        } = self.room;
        let n_rows = self.settings.tokens_per_step as usize;
        let stream = Stream::new(&self.room.key("corpus"), n_rows, |rng| {
            let line = corpus::line(*task, rng, level, mix)?;
            self.room.fitting(Sample::plain(codec.line(&line)?.ids))
        });
        let rate = self.schedule.at(step);
        let batch = stream.step(step)?.micro_batches()?;
        let learnt = self.learner.update(&batch, &mut Goal::CrossEntropy, rate)?;
        let mut outcome = Outcome::default();
        room::note(&learnt, rate, &mut outcome);
        room::note_loads(&learnt, step, &mut outcome);
        if self.room.is_glance(step, self.n_steps()) {
            let model = self.learner.model();
            self.room
                .glance(model, &mut self.roller, GLANCE_TOKENS, &mut outcome)?;
        }
        Ok(outcome)
    }

    fn save(&self) -> Result<Vec<File>> {
        artifact::saved(self.room.backend, &self.learner)
    }

    fn restore(&mut self, state: &Checkpoint) -> Result<()> {
        artifact::restore(self.room.backend, &mut self.learner, state)
    }

    fn finish(&mut self) -> Result<Vec<File>> {
        let model = self.learner.model();
        let how = format!("pretrained from nothing for {} steps", self.settings.steps);
        let card = card::of(self.room, &model.config, &how)?;
        artifact::finished(self.room.backend, model, self.room.companions, card)
    }
}
