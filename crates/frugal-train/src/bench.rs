//! Training steps on random tokens, to measure a machine by.

use frugal_core::backend::TrainBackend;
use frugal_core::rng::Rng;
use frugal_model::config::ModelConfig;
use frugal_model::init::InitSettings;

use crate::artifact;
use crate::data::{Sample, Step};
use crate::error::Result;
use crate::learner::{Goal, Learner, LearnerSettings, Learnt};
use crate::optim::Settings;

/// A model that trains on sequences of one length.
#[derive(Debug)]
pub struct TrainBench<'b, B: TrainBackend> {
    learner: Learner<'b, B>,
    sequences: usize,
    length: usize,
    vocabulary: u32,
}

impl<'b, B: TrainBackend> TrainBench<'b, B> {
    /// A model of `config` with random weights, as AdamW trains it.
    ///
    /// # Errors
    /// If the config is impossible for sequences of this length.
    pub fn new(
        backend: &'b B,
        config: ModelConfig,
        sequences: usize,
        length: usize,
        rng: &mut Rng,
    ) -> Result<Self> {
        let vocabulary = u32::try_from(config.vocab_size).unwrap_or(u32::MAX);
        let seed = rng.next_u64();
        let model = artifact::fresh(backend, config, seed, &InitSettings::PAPER, length.max(1))?;
        let settings = LearnerSettings {
            optim: Settings {
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.1,
                clip_norm: Some(1.0),
                muon: None,
            },
            mtp_weight: 0.3,
            balance_alpha: 1e-4,
            bias_update_speed: 1e-3,
        };
        let learner = Learner::new(backend, model, settings)?;
        Ok(Self {
            learner,
            sequences,
            length,
            vocabulary,
        })
    }

    /// One update on fresh random tokens.
    ///
    /// # Errors
    /// If the back-end refuses.
    pub fn step(&mut self, rng: &mut Rng) -> Result<Learnt> {
        let mut sample = || {
            Sample::plain(
                (0..=self.length)
                    .map(|_| rng.below(self.vocabulary))
                    .collect(),
            )
        };
        let samples: Vec<Sample> = (0..self.sequences).map(|_| sample()).collect();
        let steps = Step::of(&samples)?.micro_batches()?;
        self.learner.update(&steps, &mut Goal::CrossEntropy, 1e-3)
    }
}
