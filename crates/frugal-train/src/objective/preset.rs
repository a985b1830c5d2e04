//! The objective that a recipe's settings name: how rewards become advantages, and these a loss.
//!
//! The published presets are written once, in [`frugal_run::recipe::Preset`]; this file reads them.
//!
//! With one update on the batch just sampled all ratios are 1: nothing is clipped, and objectives
//! differ only in their advantage, their weighing of tokens and their KL.
//! [`Objective::is_same_on_policy`] says which coincide then, so that nobody compares noise.

use frugal_run::recipe::{
    Advantage as AdvantageSetting, GrpoSettings, KlWeight, Level, Normaliser,
    Surrogate as SurrogateSetting,
};

use super::advantage::Advantage;
use super::kl::{Estimator, Penalty, Weight};
use super::policy::{Aggregation, Policy, RatioLevel, Surrogate};

/// Added to the deviation of a group. *Source*: TRL; the papers print none.
const EPSILON: f64 = 1e-4;

/// How rewards become advantages, and advantages a loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// Rewards of a group to advantages.
    pub advantage: Advantage,
    /// Advantages to a loss.
    pub policy: Policy,
}

impl Objective {
    /// What the settings say.
    #[must_use]
    pub fn of(settings: &GrpoSettings) -> Self {
        let (low, high) = (settings.clip_low, settings.clip_high);
        let policy = Policy {
            ratio: match settings.level {
                Level::Token => RatioLevel::Token,
                Level::Sequence => RatioLevel::Sequence,
            },
            surrogate: match settings.surrogate {
                SurrogateSetting::Clip => Surrogate::Clip {
                    low,
                    high,
                    dual: None,
                },
                SurrogateSetting::Weight => Surrogate::Cispo { low, high },
                SurrogateSetting::Reinforce => Surrogate::Reinforce,
            },
            kl: (settings.kl_beta > 0.0).then_some(Penalty {
                beta: settings.kl_beta,
                estimator: Estimator::K3,
                weight: match settings.kl_weight {
                    KlWeight::Plain => Weight::Plain,
                    KlWeight::Ratio => Weight::Ratio,
                },
            }),
            aggregation: match settings.normaliser {
                Normaliser::PerToken => Aggregation::TokenMean,
                Normaliser::PerSequence => Aggregation::SequenceMean,
                Normaliser::TokenBudget => Aggregation::FixedLength {
                    max_length: settings.max_new_tokens as usize,
                },
            },
            stale_limit: (settings.stale_limit > 0.0).then_some(settings.stale_limit),
        };
        let advantage = match settings.advantage {
            AdvantageSetting::Center => Advantage::Centered,
            AdvantageSetting::Std => Advantage::Standardized {
                ddof: 1,
                epsilon: EPSILON,
            },
        };
        Self { advantage, policy }
    }

    /// Whether two objectives have the same gradient while all ratios are 1 and all tokens of an
    /// answer have one advantage.
    #[must_use]
    pub fn is_same_on_policy(&self, other: &Self) -> bool {
        self.advantage == other.advantage
            && self.policy.aggregation == other.policy.aggregation
            && self.policy.kl == other.policy.kl
    }
}

#[cfg(test)]
mod tests {
    use frugal_run::recipe::Preset;

    use super::super::policy::{Advantages, Batch, Totals};
    use super::*;

    const PRESETS: [Preset; 8] = [
        Preset::Frugal,
        Preset::Grpo,
        Preset::DrGrpo,
        Preset::Dapo,
        Preset::Gspo,
        Preset::Cispo,
        Preset::Reinforce,
        Preset::DeepseekV32,
    ];

    /// The gradient of an on-policy batch: two groups of two answers.
    fn gradient(objective: &Objective) -> Vec<f64> {
        let lengths = [2, 1, 3, 1];
        let log_prob = [-0.5, -1.0, -0.2, -2.0, -0.1, -0.7, -0.3];
        let reference = [-0.6, -0.8, -0.2, -2.5, -0.4, -0.7, -0.1];
        let mut advantages = objective.advantage.of(&[1.0, 0.0]);
        advantages.extend(objective.advantage.of(&[0.25, 0.75]));
        let batch = Batch {
            lengths: &lengths,
            log_prob: &log_prob,
            old: &log_prob,
            reference: Some(&reference),
            advantages: Advantages::Sequence(&advantages),
            totals: Totals::of(&lengths),
        };
        objective.policy.loss(&batch).unwrap().d_log_prob
    }

    #[test]
    fn presets_said_to_coincide_on_policy_do_and_others_do_not() {
        let mut pairs = 0;
        for (i, a) in PRESETS.into_iter().enumerate() {
            for b in PRESETS.into_iter().skip(i + 1) {
                let of = |preset| Objective::of(&GrpoSettings::with_preset(preset));
                let (a, b) = (of(a), of(b));
                let same = gradient(&a)
                    .iter()
                    .zip(gradient(&b))
                    .all(|(a, b)| (a - b).abs() < 1e-12);
                assert_eq!(same, a.is_same_on_policy(&b), "{a:?} {b:?}");
                pairs += usize::from(same);
            }
        }
        // Our default is Dr. GRPO with a higher clip, and DAPO's loss is CISPO's.
        assert_eq!(pairs, 2);
    }

    #[test]
    fn presets_are_what_was_published() {
        let policy = |preset| Objective::of(&GrpoSettings::with_preset(preset)).policy;
        let grpo = policy(Preset::Grpo);
        assert_eq!(grpo.kl.map(|kl| kl.beta), Some(0.001));
        assert_eq!(grpo.aggregation, Aggregation::SequenceMean);
        assert_eq!(policy(Preset::Gspo).ratio, RatioLevel::Sequence);
        let cispo = Surrogate::Cispo {
            low: 1.0,
            high: 5.0,
        };
        assert_eq!(policy(Preset::Cispo).surrogate, cispo);
        assert_eq!(policy(Preset::Dapo).aggregation, Aggregation::TokenMean);
        assert_eq!(policy(Preset::Reinforce).surrogate, Surrogate::Reinforce);
        let masked = policy(Preset::DeepseekV32);
        assert_eq!(masked.stale_limit, Some(0.5));
        assert_eq!(masked.kl.map(|kl| kl.weight), Some(Weight::Ratio));
    }
}
