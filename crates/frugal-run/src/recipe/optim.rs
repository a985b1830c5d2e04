//! How parameters move: the optimiser, its rates, and the schedule of the learning rate.
//! The arithmetic itself lives with the trainer.

use serde::{Deserialize, Serialize};

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// Adam with decoupled weight decay, on every parameter.
    Adamw,
    /// Muon on matrices, AdamW on everything else.
    Muon,
}

/// How the learning rate moves after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Stays at the peak.
    Constant,
    /// Falls in a straight line from the peak to the final share, over all remaining steps.
    Linear,
    /// Falls along half a cosine from the peak to the final share.
    Cosine,
    /// Warm-up, stable, decay: constant, then a straight line over the last `decay_share` of the
    /// steps.
    Wsd,
}

/// Settings of the optimiser. Every kind of stage has its own defaults, so there is no `Default`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimSettings {
    /// The update rule.
    pub optimizer: Optimizer,
    /// Peak learning rate of AdamW.
    pub learning_rate: f64,
    /// Peak learning rate of matrices under Muon, whose updates are scaled to the size of AdamW's;
    /// unused by `adamw`.
    pub muon_learning_rate: f64,
    /// Momentum of Muon; unused by `adamw`.
    pub muon_momentum: f64,
    /// Decay of AdamW's mean of gradients.
    pub beta1: f64,
    /// Decay of AdamW's mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of AdamW's second moment.
    pub epsilon: f64,
    /// Decoupled decay of matrices, multiplied by the learning rate. Vectors do not decay.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 switches clipping off.
    pub clip_norm: f64,
    /// Steps over which the learning rate rises from 0 to its peak. Scaled with the budget.
    pub warmup_steps: u32,
    /// What the learning rate does after that.
    pub schedule: Schedule,
    /// Share of the steps, from the end, over which `wsd` decays.
    pub decay_share: f64,
    /// The learning rate of the last step as a share of the peak.
    pub final_share: f64,
}

impl OptimSettings {
    /// Pretraining below 5M parameters: rate and schedule of the countdown trial that worked,
    /// moments and decay of DeepSeek V3.
    pub(crate) fn pretrain() -> Self {
        Self {
            optimizer: Optimizer::Adamw,
            learning_rate: 2e-3,
            muon_learning_rate: 2e-3,
            muon_momentum: 0.95,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: 1.0,
            warmup_steps: 40,
            schedule: Schedule::Wsd,
            decay_share: 0.4,
            final_share: 0.0,
        }
    }

    /// Supervised fine-tuning: 0.8 of the pretraining rate, no warm-up, linear over the last half
    /// (nanochat's choice).
    pub(crate) fn sft() -> Self {
        Self {
            learning_rate: 1.6e-3,
            muon_learning_rate: 1.6e-3,
            warmup_steps: 0,
            decay_share: 0.5,
            ..Self::pretrain()
        }
    }

    /// Reinforcement learning: a tenth of the pretraining rate, short warm-up, straight to 0,
    /// and no decay, since the start is what must not be forgotten.
    pub(crate) fn grpo() -> Self {
        Self {
            learning_rate: 2e-4,
            muon_learning_rate: 2e-4,
            weight_decay: 0.0,
            warmup_steps: 10,
            schedule: Schedule::Linear,
            decay_share: 1.0,
            ..Self::pretrain()
        }
    }
}
