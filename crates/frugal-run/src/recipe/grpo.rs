//! Settings of reinforcement learning with groups (GRPO) and its relatives, and the presets that
//! name published choices. Formulas: the trainer's `grpo` stage.
//!
//! A preset fixes the *loss* (ratio, clip, advantage, normaliser, KL, treatment of groups and of
//! over-long samples). Sizes, rates and temperature are not part of it and keep their defaults.

use serde::{Deserialize, Serialize};

use super::{OptimSettings, Precision};

/// A published choice of loss. Fields written beside it win over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Our defaults: mean-centred, constant token budget, no KL, groups without signal refilled.
    Frugal,
    /// GRPO with the numbers R1 printed: clip 10, KL 0.001, reference refreshed every 400 steps.
    Grpo,
    /// Dr. GRPO: no deviation, no length in the normaliser.
    DrGrpo,
    /// DAPO: asymmetric clip, groups without signal refilled, mean over all tokens, soft length
    /// penalty.
    Dapo,
    /// GSPO: one ratio per sequence, clipped very tightly.
    Gspo,
    /// CISPO: the ratio is a truncated constant weight, every token keeps its gradient.
    Cispo,
    /// Plain policy gradient: no ratio, no clip, the mean of the group as baseline.
    Reinforce,
    /// DeepSeek-V3.2: the KL estimate weighted by the ratio, stale answers without merit masked.
    DeepseekV32,
}

/// What is subtracted from and divided out of the rewards of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advantage {
    /// Reward minus the mean of the group.
    Center,
    /// The same divided by the standard deviation of the group.
    Std,
}

/// How the terms of a batch become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normaliser {
    /// Mean over all tokens of the batch (DAPO).
    PerToken,
    /// Mean over each sequence, then over sequences (GRPO).
    PerSequence,
    /// Sum over tokens, divided by samples times `max_new_tokens` (Dr. GRPO).
    TokenBudget,
}

/// What one ratio of probabilities covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// One ratio per token.
    Token,
    /// The geometric mean of the ratios of a sequence, shared by its tokens (GSPO).
    Sequence,
}

/// What the ratio does in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surrogate {
    /// The smaller of the ratio's and the clipped ratio's product with the advantage (PPO).
    Clip,
    /// The truncated ratio as a constant weight of the log-probability (CISPO).
    Weight,
    /// The advantage times the log-probability, without a ratio.
    Reinforce,
}

/// How a token's estimate of the KL is weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlWeight {
    /// As it is.
    Plain,
    /// Times the ratio, which makes it unbiased on samples of an older policy.
    Ratio,
}

/// What happens to a sample that reached `max_new_tokens` without ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlong {
    /// Its tokens carry no gradient; its reward still counts in the group's mean.
    Mask,
    /// Its reward is 0.
    Zero,
    /// The reward falls by up to 1 over the last `overlong_tokens` before the limit.
    Penalty,
}

/// What is rewarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reward {
    /// 1 if the checker accepts the answer and the form is kept, else 0.
    Exact,
    /// A coin that ignores the answer, with the current solve rate: a control that must not learn.
    Random,
}

/// Reinforcement learning on checkable answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoSettings {
    /// Where the loss settings below come from unless written.
    pub preset: Preset,
    /// Rollout steps at the recipe's reference budget.
    pub steps: u32,
    /// Fewest steps at any budget.
    pub min_steps: u32,
    /// Prompts per step. Samples per step are `prompts_per_step` times `group_size`.
    pub prompts_per_step: u32,
    /// Samples per prompt.
    pub group_size: u32,
    /// What is rewarded.
    pub reward: Reward,
    /// Weight of the consistency reward, added to the exact one; 0 for none.
    pub consistency_weight: f64,
    /// What the ratio does in the loss.
    pub surrogate: Surrogate,
    /// What one ratio covers.
    pub level: Level,
    /// The ratio is clipped below at 1 minus this.
    pub clip_low: f64,
    /// The ratio is clipped above at 1 plus this.
    pub clip_high: f64,
    /// Weight of the per-token KL to the reference policy; 0 keeps no reference.
    pub kl_beta: f64,
    /// How a token's estimate of that KL is weighted.
    pub kl_weight: KlWeight,
    /// Answers with a negative advantage whose mean log-probability fell by more than this since
    /// they were sampled lose their gradient; 0 for none. Without effect on policy.
    pub stale_limit: f64,
    /// Every so many steps the reference becomes the current policy; 0 for never.
    pub reference_refresh_steps: u32,
    /// Centre, or also divide by the deviation.
    pub advantage: Advantage,
    /// How the terms of a batch become one number.
    pub normaliser: Normaliser,
    /// Groups whose rewards are all equal are dropped and new prompts drawn in their place.
    pub drop_groups_without_signal: bool,
    /// At most so many extra rounds of prompts are drawn to refill a step.
    pub refill_rounds: u32,
    /// What happens to samples that do not end.
    pub overlong: Overlong,
    /// Width of the ramp of `overlong = "penalty"`, in tokens.
    pub overlong_tokens: u32,
    /// Sampling temperature. The log-probabilities of training use the same.
    pub temperature: f64,
    /// Most tokens a sample may have.
    pub max_new_tokens: u32,
    /// Optimiser steps per rollout step, each on an equal share of its groups; 1 is on policy.
    pub updates_per_batch: u32,
    /// The stage refuses to start below this share of right answers of its start model.
    pub min_solve_rate: f64,
    /// The stage refuses to start when the model, made to think, is right less often than this;
    /// 0 switches the check off.
    pub min_forced_accuracy: f64,
    /// Problems sampled for the two checks above.
    pub gate_problems: u32,
    /// Step by which a router bias moves against its expert's load.
    pub bias_update_speed: f64,
    /// Number format of products.
    pub precision: Precision,
    /// The optimiser.
    pub optim: OptimSettings,
}

impl Default for GrpoSettings {
    fn default() -> Self {
        Self {
            preset: Preset::Frugal,
            steps: 40,
            min_steps: 10,
            prompts_per_step: 32,
            group_size: 16,
            reward: Reward::Exact,
            consistency_weight: 0.0,
            surrogate: Surrogate::Clip,
            level: Level::Token,
            clip_low: 0.2,
            clip_high: 0.28,
            kl_beta: 0.0,
            kl_weight: KlWeight::Plain,
            stale_limit: 0.0,
            reference_refresh_steps: 0,
            advantage: Advantage::Center,
            normaliser: Normaliser::TokenBudget,
            drop_groups_without_signal: true,
            refill_rounds: 2,
            overlong: Overlong::Zero,
            overlong_tokens: 32,
            temperature: 1.0,
            max_new_tokens: 256,
            updates_per_batch: 1,
            min_solve_rate: 0.02,
            min_forced_accuracy: 0.0,
            gate_problems: 64,
            bias_update_speed: 0.0,
            precision: Precision::Bf16,
            optim: OptimSettings::grpo(),
        }
    }
}

impl GrpoSettings {
    /// The defaults with the loss of `preset`. Sources: DeepSeek-R1 (Nature version) sections 2.1
    /// and 3.2.1; arXiv 2503.20783, 2503.14476, 2507.18071, 2506.13585, 2512.02556 (which prints
    /// neither the factor of its KL, here R1's, nor the limit of its mask, here TRL's).
    #[must_use]
    pub fn with_preset(preset: Preset) -> Self {
        let plain = Self {
            preset,
            clip_high: 0.2,
            advantage: Advantage::Std,
            normaliser: Normaliser::PerSequence,
            drop_groups_without_signal: false,
            ..Self::default()
        };
        match preset {
            Preset::Frugal => Self::default(),
            Preset::Grpo => Self {
                clip_low: 10.0,
                clip_high: 10.0,
                kl_beta: 1e-3,
                reference_refresh_steps: 400,
                ..plain
            },
            Preset::DrGrpo => Self {
                advantage: Advantage::Center,
                normaliser: Normaliser::TokenBudget,
                ..plain
            },
            Preset::Dapo => Self {
                clip_high: 0.28,
                normaliser: Normaliser::PerToken,
                drop_groups_without_signal: true,
                overlong: Overlong::Penalty,
                ..plain
            },
            Preset::Gspo => Self {
                level: Level::Sequence,
                clip_low: 3e-4,
                clip_high: 4e-4,
                ..plain
            },
            Preset::Cispo => Self {
                surrogate: Surrogate::Weight,
                clip_low: 1.0,
                clip_high: 5.0,
                normaliser: Normaliser::PerToken,
                ..plain
            },
            Preset::Reinforce => Self {
                surrogate: Surrogate::Reinforce,
                advantage: Advantage::Center,
                normaliser: Normaliser::PerToken,
                ..plain
            },
            Preset::DeepseekV32 => Self {
                advantage: Advantage::Center,
                kl_beta: 1e-3,
                kl_weight: KlWeight::Ratio,
                stale_limit: 0.5,
                ..plain
            },
        }
    }

    /// Samples of one rollout step: prompts times group.
    #[must_use]
    pub fn samples_per_step(&self) -> u64 {
        u64::from(self.prompts_per_step) * u64::from(self.group_size)
    }
}
