//! Steps on random tokens, to measure a machine by: of training, and of reinforcement learning.

use frugal_core::backend::{Sampling, TrainBackend};
use frugal_core::rng::Rng;
use frugal_model::transformer::Model;

use crate::data::{Sample, Step};
use crate::error::Result;
use crate::experience::{Experience, Terms};
use crate::learner::{Goal, Learner, LearnerSettings, Learnt};
use crate::objective::advantage::Advantage;
use crate::objective::policy::{Aggregation, Policy, RatioLevel, Surrogate};
use crate::optim::Settings;
use crate::rollout::{Cached, Draw, Prompt, Roller};

/// As pretraining sets them.
const LEARNER: LearnerSettings = LearnerSettings {
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
/// So small that the model stays near its beginning, and steps cost alike.
const RATE: f64 = 1e-5;

/// Sequences of a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainShape {
    /// Sequences of a step.
    pub sequences: usize,
    /// Tokens that each learns.
    pub length: usize,
}

/// A model that trains on sequences of one length, by AdamW.
#[derive(Debug)]
pub struct TrainBench<'b, B: TrainBackend> {
    learner: Learner<'b, B>,
    shape: TrainShape,
    rng: Rng,
}

impl<'b, B: TrainBackend> TrainBench<'b, B> {
    /// Trains `model`, which must have positions for the sequences.
    ///
    /// # Errors
    /// If the back-end cannot hold the moments.
    pub fn new(backend: &'b B, model: Model<B::Tensor>, shape: TrainShape) -> Result<Self> {
        Ok(Self {
            learner: Learner::new(backend, model, LEARNER)?,
            shape,
            rng: Rng::derive(&[1]),
        })
    }

    /// One update on fresh random tokens.
    ///
    /// # Errors
    /// If the back-end refuses.
    pub fn step(&mut self) -> Result<Learnt> {
        let vocabulary = vocabulary(&self.learner);
        let rng = &mut self.rng;
        let samples: Vec<Sample> = (0..self.shape.sequences)
            .map(|_| Sample::plain(random_ids(rng, vocabulary, self.shape.length + 1)))
            .collect();
        let steps = Step::of(&samples)?.micro_batches()?;
        self.learner.update(&steps, &mut Goal::CrossEntropy, RATE)
    }

    /// Most bytes that a step keeps by the meter's count.
    pub fn forecast_bytes(&self) -> u64 {
        self.learner.forecast_bytes()
    }
}

/// Prompts and answers of a step of reinforcement learning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpoShape {
    /// Prompts of a step.
    pub prompts: usize,
    /// Answers to each.
    pub samples: usize,
    /// Tokens of a prompt.
    pub prompt_tokens: usize,
    /// Tokens of every answer.
    pub new_tokens: usize,
}

/// What a step of reinforcement learning did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GrpoDone {
    /// Answers drawn and learnt from.
    pub samples: usize,
    /// Mean reward of an answer.
    pub reward: f64,
    /// Model FLOPs, of sampling and of the update.
    pub flops: u64,
}

/// A model that is rewarded for even token ids: a group of answers to each of some random prompts is
/// drawn on the weights that train, rewarded, and learnt from in one update, as [`crate::grpo`] does.
/// No token ends an answer, so that all have one length.
#[derive(Debug)]
pub struct GrpoBench<'b, B: TrainBackend> {
    backend: &'b B,
    learner: Learner<'b, B>,
    roller: Roller<'b, B>,
    shape: GrpoShape,
    rng: Rng,
}

impl<'b, B: TrainBackend> GrpoBench<'b, B> {
    /// Improves `model`, which must have positions for prompts with their answers.
    ///
    /// # Errors
    /// If the back-end cannot hold the moments or the cache.
    pub fn new(backend: &'b B, model: Model<B::Tensor>, shape: GrpoShape) -> Result<Self> {
        let positions = shape.prompt_tokens + shape.new_tokens;
        Ok(Self {
            backend,
            roller: Roller::new(backend, &model.config, positions, Cached::AsTrained)?,
            learner: Learner::new(backend, model, LEARNER)?,
            shape,
            rng: Rng::derive(&[2]),
        })
    }

    /// One step on fresh random prompts.
    ///
    /// # Errors
    /// If the back-end refuses.
    pub fn step(&mut self) -> Result<GrpoDone> {
        let vocabulary = vocabulary(&self.learner);
        let rng = &mut self.rng;
        let prompts: Vec<Prompt> = (0..self.shape.prompts)
            .map(|_| Prompt {
                ids: random_ids(rng, vocabulary, self.shape.prompt_tokens),
                n_samples: self.shape.samples,
                seed: rng.next_u64(),
            })
            .collect();
        let draw = Draw {
            sampling: Sampling::PLAIN,
            max_new_tokens: self.shape.new_tokens,
            stop: Vec::new(),
        };
        let rollout = self.roller.sample(self.learner.model(), &prompts, &draw)?;
        let mut experience = Experience::default();
        let mut reward = 0.0;
        for (prompt, answers) in prompts.iter().zip(&rollout.samples) {
            let rewards: Vec<f64> = answers.iter().map(|a| even_share(&a.ids)).collect();
            reward += rewards.iter().sum::<f64>();
            let advantages = Advantage::Centered.of(&rewards);
            for (answer, advantage) in answers.iter().zip(advantages) {
                experience.push(&prompt.ids, answer, advantage);
            }
        }
        let samples = experience.len();
        let terms = Terms {
            policy: self.policy(),
            temperature: 1.0,
            reference: None,
            sequences: samples,
            rate: RATE,
        };
        let (learnt, _) = experience.learn(self.backend, &mut self.learner, &terms)?;
        Ok(GrpoDone {
            samples,
            reward: reward / samples.max(1) as f64,
            flops: rollout.flops + learnt.forward_flops + learnt.backward_flops,
        })
    }

    /// Most bytes that the update keeps by the meter's count; the cache has gone by then or is less.
    pub fn forecast_bytes(&self) -> u64 {
        self.learner.forecast_bytes()
    }

    /// As recipes have it unless they say otherwise.
    const fn policy(&self) -> Policy {
        Policy {
            ratio: RatioLevel::Token,
            surrogate: Surrogate::Clip {
                low: 0.2,
                high: 0.2,
                dual: None,
            },
            kl: None,
            aggregation: Aggregation::FixedLength {
                max_length: self.shape.new_tokens,
            },
            stale_limit: None,
        }
    }
}

fn vocabulary<B: TrainBackend>(learner: &Learner<'_, B>) -> u32 {
    u32::try_from(learner.model().config.vocab_size).unwrap_or(u32::MAX)
}

fn random_ids(rng: &mut Rng, vocabulary: u32, n: usize) -> Vec<u32> {
    (0..n).map(|_| rng.below(vocabulary)).collect()
}

/// The share of ids that are even.
fn even_share(ids: &[u32]) -> f64 {
    let even = ids.iter().filter(|id| id.is_multiple_of(2)).count();
    even as f64 / ids.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use frugal_core::reference::Reference;
    use frugal_model::config::ModelConfig;
    use frugal_model::init::InitSettings;

    use super::*;
    use crate::artifact::fresh;

    const CONFIG: &str = r#"{"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3","vocab_size":32,
        "hidden_size":16,"intermediate_size":16,"num_hidden_layers":1,"num_attention_heads":2,
        "num_key_value_heads":1,"head_dim":8,"max_position_embeddings":16,"rms_norm_eps":1e-6,
        "rope_theta":10000.0,"tie_word_embeddings":true,"hidden_act":"silu"}"#;

    fn model() -> Model<<Reference as frugal_core::backend::Backend>::Tensor> {
        let config = ModelConfig::from_json(CONFIG).unwrap();
        fresh(&Reference, config, 1, &InitSettings::PAPER, 8).unwrap()
    }

    #[test]
    fn a_training_step_learns_every_token_and_says_what_it_needs() {
        let shape = TrainShape {
            sequences: 2,
            length: 5,
        };
        let mut bench = TrainBench::new(&Reference, model(), shape).unwrap();
        let learnt = bench.step().unwrap();
        assert_eq!(learnt.tokens, 10);
        assert!(learnt.is_applied && learnt.backward_flops > learnt.forward_flops);
        // Weights, gradients and two moments, and then some.
        let numbers = (32 * 16 + 3 * 16 * 16 + 2 * 16 * 16 + 2 * 8 * 16) as u64;
        assert!(bench.forecast_bytes() > 4 * 4 * numbers);
    }

    #[test]
    fn a_step_of_reinforcement_draws_and_learns_all_answers() {
        let shape = GrpoShape {
            prompts: 2,
            samples: 3,
            prompt_tokens: 2,
            new_tokens: 4,
        };
        let mut bench = GrpoBench::new(&Reference, model(), shape).unwrap();
        let done = bench.step().unwrap();
        assert_eq!(done.samples, 6);
        assert!(done.flops > 0 && (0.0..=1.0).contains(&done.reward));
        assert!(bench.forecast_bytes() > 0);
    }
}
