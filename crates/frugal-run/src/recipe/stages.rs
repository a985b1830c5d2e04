//! Settings of every kind of stage but GRPO (see [`super::grpo`]): import, pretraining, supervised
//! fine-tuning, rejection sampling, distillation, evaluation. Defaults are those for models below
//! 5M parameters. What the stages do with them is the trainer's business.

use serde::{Deserialize, Serialize};

use super::OptimSettings;

/// The number format of products during training. Master weights, sums, logits and
/// log-probabilities are f32 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Everything in f32.
    F32,
    /// Operands of products rounded to bf16.
    Bf16,
}

/// A published checkpoint that later stages start from: its weights in f32, its words as they came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportSettings {
    /// A folder with `config.json`, a GGUF file, a run's folder, or the name of a model that was
    /// pulled. A relative path is relative to the current folder.
    pub checkpoint: String,
    /// Positions that the models of the run are used at, at most as many as the checkpoint has.
    pub positions: u32,
}

impl Default for ImportSettings {
    fn default() -> Self {
        Self {
            checkpoint: String::new(),
            positions: 512,
        }
    }
}

/// Next-token training on the task's base corpus, from nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainSettings {
    /// Optimiser steps at the recipe's reference budget.
    pub steps: u32,
    /// Fewest steps at any budget.
    pub min_steps: u32,
    /// Tokens per optimiser step, in isolated packed samples.
    pub tokens_per_step: u32,
    /// Weight of the multi-token-prediction loss; V3 used 0.3, then 0.1.
    pub mtp_weight: f64,
    /// Weight of the sequence-wise balance loss (V3: 1e-4).
    pub balance_alpha: f64,
    /// Step by which a router bias moves against its expert's load (V3: 1e-3).
    pub bias_update_speed: f64,
    /// Number format of products.
    pub precision: Precision,
    /// The optimiser.
    pub optim: OptimSettings,
}

impl Default for PretrainSettings {
    fn default() -> Self {
        Self {
            steps: 2000,
            min_steps: 200,
            tokens_per_step: 2800,
            mtp_weight: 0.3,
            balance_alpha: 1e-4,
            bias_update_speed: 1e-3,
            precision: Precision::Bf16,
            optim: OptimSettings::pretrain(),
        }
    }
}

/// Next-token training on the completions of kept traces (`traces` names the stage that kept
/// them), or, without `traces`, on the completions of the task's own corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftSettings {
    /// Optimiser steps at the recipe's reference budget.
    pub steps: u32,
    /// Fewest steps at any budget.
    pub min_steps: u32,
    /// Tokens per optimiser step, in isolated packed samples.
    pub tokens_per_step: u32,
    /// The stage ends early after this many passes over its samples; 0 for no limit.
    pub max_epochs: u32,
    /// Only this many samples are used, the first in order; 0 for all. A cold start is small.
    pub max_samples: u32,
    /// Share of the samples held out to watch the loss on.
    pub hold_out_share: f64,
    /// Weight of the multi-token-prediction loss.
    pub mtp_weight: f64,
    /// Weight of the sequence-wise balance loss.
    pub balance_alpha: f64,
    /// Step by which a router bias moves against its expert's load.
    pub bias_update_speed: f64,
    /// Number format of products.
    pub precision: Precision,
    /// The optimiser.
    pub optim: OptimSettings,
}

impl Default for SftSettings {
    fn default() -> Self {
        Self {
            steps: 100,
            min_steps: 20,
            tokens_per_step: 2800,
            max_epochs: 3,
            max_samples: 0,
            hold_out_share: 0.05,
            mtp_weight: 0.1,
            balance_alpha: 1e-4,
            bias_update_speed: 1e-3,
            precision: Precision::Bf16,
            optim: OptimSettings::sft(),
        }
    }
}

/// Which of a prompt's correct samples are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The first in sampling order: does not change how long the model thinks.
    First,
    /// The shortest, ties by sampling order.
    Shortest,
}

/// Rejection sampling: sample from a checkpoint, keep what is correct and in form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RejectSettings {
    /// Prompts to sample at the recipe's reference budget.
    pub prompts: u32,
    /// Fewest prompts at any budget.
    pub min_prompts: u32,
    /// Samples drawn per prompt.
    pub samples_per_prompt: u32,
    /// Correct samples kept per prompt, at most.
    pub keep_per_prompt: u32,
    /// Which ones.
    pub keep: Keep,
    /// Sampling temperature.
    pub temperature: f64,
    /// Most tokens a sample may have; a sample cut there is not kept.
    pub max_new_tokens: u32,
}

impl RejectSettings {
    /// Prompts that are put together in one step.
    pub const PROMPTS_PER_STEP: u32 = 256;

    /// Steps the prompts take.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        u64::from(self.prompts.div_ceil(Self::PROMPTS_PER_STEP))
    }
}

impl Default for RejectSettings {
    fn default() -> Self {
        Self {
            prompts: 512,
            min_prompts: 64,
            samples_per_prompt: 4,
            keep_per_prompt: 1,
            keep: Keep::First,
            temperature: 1.0,
            max_new_tokens: 256,
        }
    }
}

/// What on-policy distillation brings down, per token of the student's own samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    /// KL(student, teacher): seeks the teacher's modes.
    ReverseKl,
    /// KL(teacher, student): covers all the teacher does.
    ForwardKl,
    /// The generalised Jensen-Shannon divergence, mixed by `jsd_beta`.
    Jsd,
}

/// Distillation: first on the teacher's kept samples, then by the teacher's token distributions
/// on the student's own samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillSettings {
    /// Sequence-level steps at the reference budget, on kept traces of the teacher; 0 for none.
    pub sequence_steps: u32,
    /// Fewest sequence-level steps at any budget.
    pub min_sequence_steps: u32,
    /// Tokens per sequence-level step.
    pub tokens_per_step: u32,
    /// On-policy steps at the reference budget; 0 for none.
    pub on_policy_steps: u32,
    /// Fewest on-policy steps at any budget.
    pub min_on_policy_steps: u32,
    /// Prompts per on-policy step.
    pub prompts_per_step: u32,
    /// Samples of the student per prompt.
    pub samples_per_prompt: u32,
    /// What is minimised on the student's samples.
    pub divergence: Divergence,
    /// Weight of the teacher in the mixture of `jsd`; unused by the others.
    pub jsd_beta: f64,
    /// Temperature at which the student samples.
    pub temperature: f64,
    /// Most tokens a sample of the student may have.
    pub max_new_tokens: u32,
    /// Peak learning rate of the on-policy steps; the rest of their optimiser is `optim`.
    pub on_policy_learning_rate: f64,
    /// Number format of products.
    pub precision: Precision,
    /// The optimiser.
    pub optim: OptimSettings,
}

impl Default for DistillSettings {
    fn default() -> Self {
        Self {
            sequence_steps: 400,
            min_sequence_steps: 40,
            tokens_per_step: 2800,
            on_policy_steps: 20,
            min_on_policy_steps: 5,
            prompts_per_step: 32,
            samples_per_prompt: 4,
            divergence: Divergence::ReverseKl,
            jsd_beta: 0.5,
            temperature: 1.0,
            max_new_tokens: 256,
            on_policy_learning_rate: 2e-4,
            precision: Precision::Bf16,
            optim: OptimSettings::pretrain(),
        }
    }
}

/// Evaluation on the held-out problems: of the checkpoint `from`, or of every earlier checkpoint
/// where `from` is not given. The numbers do not scale with the budget, so that results compare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalSettings {
    /// Only the checkpoints of these stages; empty for all.
    pub only: Vec<String>,
    /// Held-out problems.
    pub problems: u32,
    /// Samples per problem, besides the greedy one.
    pub samples: u32,
    /// Sampling temperature.
    pub temperature: f64,
    /// Most tokens a sample may have.
    pub max_new_tokens: u32,
}

impl Default for EvalSettings {
    fn default() -> Self {
        Self {
            only: Vec::new(),
            problems: 500,
            samples: 8,
            temperature: 1.0,
            max_new_tokens: 256,
        }
    }
}
