//! What every stage of a run shares: the back-end, the task, its words, and where random numbers
//! come from.

use std::ops::Range;

use frugal_core::backend::{Sampling, TrainBackend};
use frugal_core::rng::{Rng, key};
use frugal_eval::encode::Codec;
use frugal_eval::evaluate::{BoxError, SampleRequest, Sampled, Sampler};
use frugal_eval::judge::judge;
use frugal_eval::knobs::{Level, Mix};
use frugal_eval::split::{self, Side};
use frugal_eval::task::{Problem, Task};
use frugal_model::init::{Deviation, InitSettings, OutputInit};
use frugal_model::transformer::Model;
use frugal_run::ledger::Work;
use frugal_run::recipe::{ModelShape, OptimSettings, Optimizer as Rule, Schedule as Shape};

use crate::artifact::{self, Companions, Vocabulary, config_of};
use crate::data::{MICRO_BATCH_ROWS, Sample, Step};
use crate::error::{Error, Result};
use crate::learner::{LearnerSettings, Learnt};
use crate::optim::{MuonSettings, Settings};
use crate::rollout::{Cached, Draw, Prompt, Roller};
use crate::schedule::{Decay, Schedule};
use crate::stage::Outcome;

/// What a stage works with.
#[derive(Debug)]
pub struct Room<'a, B> {
    /// What computes.
    pub backend: &'a B,
    /// What is taught.
    pub task: &'a dyn Task,
    /// Words and ids.
    pub codec: &'a Codec,
    /// How hard the problems are.
    pub level: Level,
    /// What the base corpus is mixed from.
    pub mix: Mix,
    /// The run's seed.
    pub seed: u64,
    /// The stage's name.
    pub stage: String,
    /// Positions that models are run at.
    pub n_positions: usize,
    /// What goes with every model.
    pub companions: &'a Companions,
    /// The ids that a new model is to know.
    pub vocabulary: Vocabulary,
    /// What the stage's model descends from.
    pub origin: Origin,
    /// A look at the model is journaled every so many steps; 0 for never.
    pub glance_steps: u64,
    /// Problems of such a look.
    pub glance_problems: usize,
}

/// What a model descends from, for its card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It began from nothing, in the words of its task.
    Nothing,
    /// The published model of that name.
    Imported(String),
    /// It began from nothing, in the words of the published model of that name.
    WordsOf(String),
}

impl<B: TrainBackend> Room<'_, B> {
    /// Names a stream of random numbers of this stage.
    pub(crate) fn key(&self, purpose: &str) -> [u64; 3] {
        [self.seed, key(&self.stage), key(purpose)]
    }

    /// A model of a recipe's shape, from nothing.
    pub(crate) fn new_model(&self, shape: &ModelShape) -> Result<Model<B::Tensor>> {
        let config = config_of(shape, &self.vocabulary)?;
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        let matrices = match shape.initializer_range {
            range if range > 0.0 => Deviation::Fixed(range as f32),
            _ => Deviation::PerRootWidth(1.0),
        };
        let settings = InitSettings {
            matrices,
            embedding: matrices,
            head: matrices,
            outputs: OutputInit::Zero,
        };
        artifact::fresh(self.backend, config, self.seed, &settings, self.n_positions)
    }

    /// A roller for a model.
    pub(crate) fn roller(&self, model: &Model<B::Tensor>, cached: Cached) -> Result<Roller<'_, B>> {
        Roller::new(self.backend, &model.config, self.n_positions, cached)
    }

    /// Training problems number `indices` of a step, each with the prompt that asks for `n_samples`
    /// answers. They follow from (seed, stage, step, index).
    pub(crate) fn prompts(
        &self,
        step: u64,
        indices: Range<u64>,
        n_samples: usize,
    ) -> Result<(Vec<Problem>, Vec<Prompt>)> {
        let prompt = |index| {
            let mut rng = Rng::derive(&[&self.key("prompts")[..], &[step, index]].concat());
            let problem = split::draw(self.task, &mut rng, &self.level, Side::Training)?;
            let prompt = Prompt {
                ids: self.codec.prompt(&problem)?,
                n_samples,
                seed: rng.next_u64(),
            };
            Ok((problem, prompt))
        };
        let drawn: Vec<_> = indices.map(prompt).collect::<Result<_>>()?;
        Ok(drawn.into_iter().unzip())
    }

    /// Refuses a sample that is longer than the models of the run can read.
    pub(crate) fn fitting(&self, sample: Sample) -> Result<Sample> {
        if sample.n_rows() <= self.n_positions {
            return Ok(sample);
        }
        Err(Error::Setting {
            place: "corpus",
            reason: format!(
                "expected lines of at most {} tokens, the positions that the run's models are used \
                 at, got one of {}",
                self.n_positions,
                sample.n_rows()
            ),
        })
    }

    /// Whether this step ends with a look at the model.
    pub(crate) fn is_glance(&self, step: u64, n_steps: u64) -> bool {
        self.glance_steps > 0
            && ((step + 1).is_multiple_of(self.glance_steps) || step + 1 == n_steps)
    }

    /// How the model does on a few training problems, one sample each: accuracy, thinking, form.
    pub(crate) fn glance(
        &self,
        model: &Model<B::Tensor>,
        roller: &mut Roller<'_, B>,
        max_new_tokens: usize,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let seed = self
            .key("glance")
            .iter()
            .fold(0, |a: u64, b| a.rotate_left(17) ^ b);
        let n = self.glance_problems;
        let problems = split::problems(self.task, &self.level, Side::Training, seed, n)?;
        let prompts = problems
            .iter()
            .zip(0u64..)
            .map(|(problem, index)| {
                let ids = self.codec.prompt(problem)?;
                Ok(Prompt {
                    ids,
                    n_samples: 1,
                    seed: seed ^ index,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let longest = prompts.iter().map(|prompt| prompt.ids.len()).max();
        let space = self.n_positions.saturating_sub(longest.unwrap_or(0));
        if space == 0 {
            return Ok(());
        }
        let draw = self.draw(1.0, max_new_tokens.min(space));
        let rollout = roller.sample(model, &prompts, &draw)?;
        let (mut correct, mut in_form, mut thinking) = (0usize, 0usize, 0usize);
        for (problem, samples) in problems.iter().zip(&rollout.samples) {
            for sample in samples {
                let judged = judge(self.task, problem, &sample.ids, self.codec)?;
                correct += usize::from(judged.correct);
                in_form += usize::from(judged.in_form);
                thinking += judged.thinking_tokens;
            }
        }
        let share = |count: usize| count as f64 / n.max(1) as f64;
        outcome.metric("accuracy", share(correct));
        outcome.metric("in_form", share(in_form));
        outcome.metric("thinking_tokens", share(thinking));
        outcome.work.tokens_generated += rollout.tokens;
        outcome.work.flops_rollout += rollout.flops as f64;
        Ok(())
    }

    /// How samples are drawn at a temperature; 0 takes the likeliest token.
    pub(crate) fn draw(&self, temperature: f64, max_new_tokens: usize) -> Draw {
        #[expect(clippy::cast_possible_truncation, reason = "logits are f32")]
        let temperature = temperature as f32;
        Draw {
            sampling: Sampling {
                temperature,
                ..Sampling::PLAIN
            },
            max_new_tokens,
            stop: vec![self.codec.eos()],
        }
    }
}

/// Samples of a model for the examiners of `frugal-eval`, counting what they cost.
pub(crate) struct Examinee<'r, 'a, B: TrainBackend> {
    pub(crate) room: &'r Room<'a, B>,
    pub(crate) model: &'r Model<B::Tensor>,
    pub(crate) roller: &'r mut Roller<'a, B>,
    pub(crate) work: Work,
}

impl<B: TrainBackend> Sampler for Examinee<'_, '_, B> {
    fn sample(
        &mut self,
        prompts: &[Vec<u32>],
        request: &SampleRequest,
    ) -> std::result::Result<Vec<Vec<Sampled>>, BoxError> {
        let prompts: Vec<Prompt> = prompts
            .iter()
            .zip(0u64..)
            .map(|(ids, index)| Prompt {
                ids: ids.clone(),
                n_samples: request.n,
                seed: request.seed.rotate_left(32) ^ index,
            })
            .collect();
        let draw = self
            .room
            .draw(f64::from(request.temperature), request.max_new_tokens);
        let rollout = self.roller.sample(self.model, &prompts, &draw)?;
        self.work.tokens_generated += rollout.tokens;
        self.work.flops_rollout += rollout.flops as f64;
        let sampled = |sample: frugal_model::generate::Sample| Sampled {
            ids: sample.ids,
            finished: sample.is_finished,
        };
        let samples = rollout.samples.into_iter();
        Ok(samples
            .map(|samples| samples.into_iter().map(sampled).collect())
            .collect())
    }
}

/// A recipe's optimiser as the learner takes it.
#[expect(clippy::cast_possible_truncation, reason = "updates are formed in f32")]
pub(crate) fn learner_settings(
    optim: &OptimSettings,
    mtp_weight: f64,
    balance_alpha: f64,
    bias_update_speed: f64,
) -> LearnerSettings {
    let muon = (optim.optimizer == Rule::Muon).then(|| MuonSettings {
        momentum: optim.muon_momentum as f32,
        rate_factor: (optim.muon_learning_rate / optim.learning_rate.max(f64::MIN_POSITIVE)) as f32,
    });
    LearnerSettings {
        optim: Settings {
            beta1: optim.beta1 as f32,
            beta2: optim.beta2 as f32,
            epsilon: optim.epsilon as f32,
            weight_decay: optim.weight_decay as f32,
            clip_norm: (optim.clip_norm > 0.0).then_some(optim.clip_norm),
            muon,
        },
        mtp_weight,
        balance_alpha,
        bias_update_speed,
    }
}

/// A recipe's schedule over `n_steps`, from `peak`.
pub(crate) fn schedule(optim: &OptimSettings, peak: f64, n_steps: u64) -> Result<Schedule> {
    let schedule = Schedule {
        peak,
        floor_share: optim.final_share,
        warmup_steps: u64::from(optim.warmup_steps).min(n_steps),
        total_steps: n_steps,
        decay: match optim.schedule {
            Shape::Constant => Decay::Constant,
            Shape::Linear => Decay::Linear,
            Shape::Cosine => Decay::Cosine,
            Shape::Wsd => Decay::Wsd {
                decay_share: optim.decay_share,
            },
        },
    };
    schedule.check()?;
    Ok(schedule)
}

/// The numbers of an update, into the journal and the bill.
pub(crate) fn note(learnt: &Learnt, rate: f64, outcome: &mut Outcome) {
    outcome.metric("loss", learnt.loss);
    if learnt.mtp_loss > 0.0 {
        outcome.metric("mtp_loss", learnt.mtp_loss);
    }
    if learnt.entropy > 0.0 {
        outcome.metric("entropy", learnt.entropy);
    }
    outcome.metric("gradient_norm", learnt.gradient_norm);
    outcome.metric("learning_rate", rate);
    if !learnt.loads.is_empty() {
        outcome.metric("max_violation", learnt.max_violation);
        outcome.metric("balance_loss", learnt.balance_loss);
    }
    if !learnt.is_applied {
        outcome.metric("skipped", "the gradient's norm is not finite");
    }
    outcome.work.tokens_trained += learnt.tokens;
    outcome.work.flops_forward += learnt.forward_flops as f64;
    outcome.work.flops_backward += learnt.backward_flops as f64;
}

/// For each layer the share of rows every expert received, every tenth step.
pub(crate) fn note_loads(learnt: &Learnt, step: u64, outcome: &mut Outcome) {
    if learnt.loads.is_empty() || !step.is_multiple_of(10) {
        return;
    }
    let shares = |loads: &Vec<u64>| -> Vec<f64> {
        let total = loads.iter().sum::<u64>().max(1) as f64;
        loads
            .iter()
            .map(|load| (*load as f64 / total * 1e4).round() / 1e4)
            .collect()
    };
    let shares: Vec<Vec<f64>> = learnt.loads.iter().map(shares).collect();
    outcome.metric("expert_load", shares);
}

/// Lays samples out, in their order, in micro-batches of at most [`MICRO_BATCH_ROWS`] rows (a longer
/// sample gets its own). Returns each with the indices of its samples.
pub(crate) fn micro_batches(samples: &[Sample]) -> Result<Vec<(Step, Vec<usize>)>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut rows = MICRO_BATCH_ROWS;
    for (index, sample) in samples.iter().enumerate() {
        rows += sample.n_rows();
        if rows > MICRO_BATCH_ROWS {
            batches.push(Vec::new());
            rows = sample.n_rows();
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(index);
        }
    }
    batches
        .into_iter()
        .map(|batch| {
            let step = Step::of(batch.iter().filter_map(|index| samples.get(*index)))?;
            Ok((step, batch))
        })
        .collect()
}
