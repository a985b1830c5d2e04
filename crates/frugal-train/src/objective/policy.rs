//! Policy losses: GRPO and its relatives over one ragged batch.
//!
//! One token's loss is -surrogate + beta KL; an [`Aggregation`] weighs the tokens into one number.
//! The functions return the loss and its derivative by each log-probability, with what one watches.
//!
//! Departure from the papers: a batch may be a part of an update (a micro-batch); denominators are
//! therefore given as [`Totals`] of the whole update, and losses and gradients of the parts add up.

use std::ops::Range;

use super::expect_length;
use super::kl::Penalty;
use crate::error::{Error, Result};

/// Whether the ratio policy / old policy belongs to a token or to a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RatioLevel {
    /// exp(ln p - ln p_old) of each token: GRPO.
    Token,
    /// exp of the mean of these over the answer, shared by its tokens: GSPO, 2507.18071.
    Sequence,
}

/// What is maximised of a ratio r and an advantage A.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Surrogate {
    /// min(r A, clip(r, 1 - low, 1 + high) A).
    Clip {
        /// How far below 1 the ratio may pull.
        low: f64,
        /// How far above 1.
        high: f64,
        /// For A < 0 the term is at least this times A. *Source*: 1912.09729, dual clip.
        dual: Option<f64>,
    },
    /// stop(clip(r, 1 - low, 1 + high)) A ln p: every token keeps a gradient. *Source*: MiniMax-M1,
    /// 2506.13585; `low` of 1 is off.
    Cispo {
        /// As above.
        low: f64,
        /// As above.
        high: f64,
    },
    /// A ln p.
    Reinforce,
}

/// How tokens are weighed into a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// The mean over answers of the mean over their tokens: GRPO. Long wrong answers are cheap.
    SequenceMean,
    /// The mean over all tokens: DAPO.
    TokenMean,
    /// The sum over tokens by a constant length and the number of answers: Dr. GRPO.
    FixedLength {
        /// The constant, usually the longest answer allowed.
        max_length: usize,
    },
}

/// A policy loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// What the ratio belongs to.
    pub ratio: RatioLevel,
    /// What is maximised.
    pub surrogate: Surrogate,
    /// The pull to a reference policy.
    pub kl: Option<Penalty>,
    /// How tokens are weighed.
    pub aggregation: Aggregation,
    /// Answers with a negative advantage whose mean ln(p_old / p) exceeds this lose their surrogate
    /// (not their KL). *Source*: DeepSeek-V3.2, 2512.02556, off-policy sequence masking.
    pub stale_limit: Option<f64>,
}

/// The advantages of a batch.
#[derive(Debug, Clone, Copy)]
pub enum Advantages<'a> {
    /// One an answer, the same for all its tokens.
    Sequence(&'a [f64]),
    /// One a token, as on-policy distillation has them.
    Token(&'a [f64]),
}

/// The denominators of one update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Answers, the empty ones included.
    pub sequences: usize,
    /// Their tokens.
    pub tokens: usize,
}

impl Totals {
    /// Those of answers of the given lengths.
    #[must_use]
    pub fn of(lengths: &[usize]) -> Self {
        Self {
            sequences: lengths.len(),
            tokens: lengths.iter().sum(),
        }
    }
}

/// The tokens of some answers, one answer after another.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Tokens of each answer.
    pub lengths: &'a [usize],
    /// ln p of each token under the policy that is trained.
    pub log_prob: &'a [f64],
    /// The same under the policy that sampled.
    pub old: &'a [f64],
    /// The same under the reference; needed by a KL term.
    pub reference: Option<&'a [f64]>,
    /// How much better than expected.
    pub advantages: Advantages<'a>,
    /// Of the whole update.
    pub totals: Totals,
}

/// Sums over tokens of what one watches; those of micro-batches add up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Watch {
    /// Tokens seen.
    pub tokens: usize,
    /// Tokens whose ratio was clipped.
    pub clipped: usize,
    /// Answers masked as stale.
    pub stale_sequences: usize,
    ratio: f64,
    kl: f64,
    drift: f64,
    /// The largest |ln p - ln p_old| of a token: on policy, the disagreement of trainer and sampler.
    pub largest_log_ratio: f64,
}

impl Watch {
    fn mean(&self, sum: f64) -> f64 {
        sum / self.tokens.max(1) as f64
    }

    /// The share of tokens whose ratio was clipped.
    #[must_use]
    pub fn clip_fraction(&self) -> f64 {
        self.mean(self.clipped as f64)
    }

    /// The mean ratio of a token.
    #[must_use]
    pub fn mean_ratio(&self) -> f64 {
        self.mean(self.ratio)
    }

    /// The mean KL term of a token, without beta; 0 without a reference.
    #[must_use]
    pub fn kl(&self) -> f64 {
        self.mean(self.kl)
    }

    /// The mean k3 distance to the policy that sampled.
    #[must_use]
    pub fn drift(&self) -> f64 {
        self.mean(self.drift)
    }

    /// Joins the sums of two micro-batches.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            clipped: self.clipped + other.clipped,
            stale_sequences: self.stale_sequences + other.stale_sequences,
            ratio: self.ratio + other.ratio,
            kl: self.kl + other.kl,
            drift: self.drift + other.drift,
            largest_log_ratio: self.largest_log_ratio.max(other.largest_log_ratio),
        }
    }
}

/// A loss to minimise.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// Its value.
    pub value: f64,
    /// Its derivative by each log-probability.
    pub d_log_prob: Vec<f64>,
    /// What one watches.
    pub watch: Watch,
}

/// One token as the loss sees it.
#[derive(Debug, Clone, Copy)]
struct Token {
    log_prob: f64,
    old: f64,
    reference: Option<f64>,
    advantage: f64,
}

/// A token's surrogate, its derivative by the ratio and by ln p directly, and whether it was clipped.
#[derive(Debug, Clone, Copy)]
struct Term {
    value: f64,
    by_ratio: f64,
    by_log_prob: f64,
    is_clipped: bool,
}

impl Surrogate {
    fn of(self, ratio: f64, token: Token) -> Term {
        let advantage = token.advantage;
        match self {
            Self::Clip { low, high, dual } => {
                let free = ratio * advantage;
                let clipped = ratio.clamp(1.0 - low, 1.0 + high) * advantage;
                let is_clipped = free > clipped;
                let value = free.min(clipped);
                let floor = dual.filter(|_| advantage < 0.0).map(|c| c * advantage);
                match floor {
                    Some(floor) if value < floor => Term {
                        value: floor,
                        by_ratio: 0.0,
                        by_log_prob: 0.0,
                        is_clipped,
                    },
                    _ => Term {
                        value,
                        by_ratio: if is_clipped { 0.0 } else { advantage },
                        by_log_prob: 0.0,
                        is_clipped,
                    },
                }
            }
            Self::Cispo { low, high } => {
                let weight = ratio.clamp(1.0 - low, 1.0 + high);
                Term {
                    value: weight * advantage * token.log_prob,
                    by_ratio: 0.0,
                    by_log_prob: weight * advantage,
                    is_clipped: ratio < 1.0 - low || ratio > 1.0 + high,
                }
            }
            Self::Reinforce => Term {
                value: advantage * token.log_prob,
                by_ratio: 0.0,
                by_log_prob: advantage,
                is_clipped: false,
            },
        }
    }

    /// Whether a clamp to these bounds has any meaning.
    fn check(self) -> Result<()> {
        let (Self::Clip { low, high, .. } | Self::Cispo { low, high }) = self else {
            return Ok(());
        };
        if low >= 0.0 && high >= 0.0 {
            return Ok(());
        }
        Err(Error::Setting {
            place: "policy loss",
            reason: format!("expected clip bounds of at least 0, got low {low} and high {high}"),
        })
    }
}

impl Aggregation {
    fn weight(self, length: usize, totals: Totals) -> f64 {
        let divisor = match self {
            Self::SequenceMean => totals.sequences * length,
            Self::TokenMean => totals.tokens,
            Self::FixedLength { max_length } => totals.sequences * max_length,
        };
        1.0 / divisor.max(1) as f64
    }
}

impl Batch<'_> {
    fn check(&self, policy: &Policy) -> Result<()> {
        let place = "policy loss";
        let n = self.lengths.iter().sum();
        expect_length(place, "log-probabilities", n, self.log_prob.len())?;
        expect_length(place, "old log-probabilities", n, self.old.len())?;
        match self.advantages {
            Advantages::Sequence(a) => {
                expect_length(place, "advantages", self.lengths.len(), a.len())?;
            }
            Advantages::Token(a) => expect_length(place, "advantages", n, a.len())?,
        }
        match self.reference {
            Some(reference) => {
                expect_length(place, "reference log-probabilities", n, reference.len())?;
            }
            None if policy.kl.is_some() => {
                return Err(Error::Setting {
                    place,
                    reason: "expected reference log-probabilities for the KL term, got none".into(),
                });
            }
            None => {}
        }
        policy.surrogate.check()
    }

    /// The tokens `range`, which are answer `sequence`; checked to exist.
    fn tokens(&self, sequence: usize, range: Range<usize>) -> impl Iterator<Item = Token> + Clone {
        let at = |list: &[f64], i: usize| list.get(i).copied().unwrap_or(f64::NAN);
        range.map(move |i| Token {
            log_prob: at(self.log_prob, i),
            old: at(self.old, i),
            reference: self.reference.map(|reference| at(reference, i)),
            advantage: match self.advantages {
                Advantages::Sequence(a) => at(a, sequence),
                Advantages::Token(a) => at(a, i),
            },
        })
    }
}

impl Policy {
    /// The loss of a batch.
    ///
    /// # Errors
    /// If lists differ in length, a KL term has no reference, or clip bounds are negative.
    pub fn loss(&self, batch: &Batch<'_>) -> Result<Loss> {
        batch.check(self)?;
        let mut loss = Loss {
            value: 0.0,
            d_log_prob: Vec::with_capacity(batch.log_prob.len()),
            watch: Watch::default(),
        };
        let mut start = 0;
        for (sequence, length) in batch.lengths.iter().enumerate() {
            let tokens = batch.tokens(sequence, start..start + length);
            let weight = self.aggregation.weight(*length, batch.totals);
            self.sequence(tokens, *length as f64, weight, &mut loss);
            start += length;
        }
        Ok(loss)
    }

    /// Adds one answer, each of its tokens weighing `weight`.
    fn sequence(
        &self,
        tokens: impl Iterator<Item = Token> + Clone,
        length: f64,
        weight: f64,
        loss: &mut Loss,
    ) {
        let log_ratios = tokens.clone().map(|t| t.log_prob - t.old);
        let mean_log_ratio = log_ratios.sum::<f64>() / length;
        let mean_advantage = tokens.clone().map(|t| t.advantage).sum::<f64>() / length;
        let is_stale = mean_advantage < 0.0
            && self
                .stale_limit
                .is_some_and(|limit| -mean_log_ratio > limit);
        loss.watch.stale_sequences += usize::from(is_stale);
        let first = loss.d_log_prob.len();
        // With one ratio for the whole answer every token moves it by ratio / length.
        let mut shared = 0.0;
        for token in tokens {
            let log_ratio = token.log_prob - token.old;
            let ratio = match self.ratio {
                RatioLevel::Token => log_ratio.exp(),
                RatioLevel::Sequence => mean_log_ratio.exp(),
            };
            let term = self.surrogate.of(ratio, token);
            let kept = if is_stale { 0.0 } else { weight };
            loss.value -= kept * term.value;
            let mut slope = -kept * term.by_log_prob;
            match self.ratio {
                RatioLevel::Token => slope -= kept * term.by_ratio * ratio,
                RatioLevel::Sequence => shared -= kept * term.by_ratio * ratio / length,
            }
            if let (Some(penalty), Some(reference)) = (&self.kl, token.reference) {
                let (value, by_log_prob) = penalty.of(token.log_prob, token.old, reference);
                loss.value += weight * penalty.beta * value;
                slope += weight * penalty.beta * by_log_prob;
                loss.watch.kl += value;
            }
            loss.d_log_prob.push(slope);
            loss.watch.tokens += 1;
            loss.watch.clipped += usize::from(term.is_clipped);
            loss.watch.ratio += ratio;
            loss.watch.drift += (-log_ratio).exp_m1() + log_ratio;
            loss.watch.largest_log_ratio = loss.watch.largest_log_ratio.max(log_ratio.abs());
        }
        for slope in loss.d_log_prob.iter_mut().skip(first) {
            *slope += shared;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kl::{Estimator, Weight};
    use super::super::vectors::{close, numbers, rows};
    use super::*;
    use serde_json::Value;

    /// The kept entries of `[B, T]` lists, one sequence after another.
    fn ragged(row: &Value, name: &str) -> Vec<f64> {
        let sequences = row[name].as_array().unwrap().iter();
        let masks = row["mask"].as_array().unwrap();
        sequences
            .zip(masks)
            .flat_map(|(values, mask)| {
                let kept = numbers(values).into_iter().zip(numbers(mask));
                kept.filter(|(_, m)| *m > 0.5).map(|(v, _)| v)
            })
            .collect()
    }

    fn policy(row: &Value) -> Policy {
        let beta = row["beta"].as_f64().unwrap();
        Policy {
            ratio: match row["ratio_level"].as_str().unwrap() {
                "token" => RatioLevel::Token,
                _ => RatioLevel::Sequence,
            },
            surrogate: Surrogate::Clip {
                low: row["eps_low"].as_f64().unwrap(),
                high: row["eps_high"].as_f64().unwrap(),
                dual: row["dual_clip"].as_f64(),
            },
            kl: (beta > 0.0).then_some(Penalty {
                beta,
                estimator: Estimator::K3,
                weight: Weight::Plain,
            }),
            aggregation: match row["aggregation"].as_str().unwrap() {
                "seq-mean-token-mean" => Aggregation::SequenceMean,
                "token-mean" => Aggregation::TokenMean,
                _ => Aggregation::FixedLength {
                    max_length: usize::try_from(row["max_len"].as_u64().unwrap()).unwrap(),
                },
            },
            stale_limit: None,
        }
    }

    #[test]
    fn losses_agree_with_the_vectors() {
        for row in rows("policy_loss") {
            let lengths: Vec<_> = row["mask"]
                .as_array()
                .unwrap()
                .iter()
                .map(numbers)
                .collect();
            let lengths: Vec<_> = lengths
                .iter()
                .map(|mask| mask.iter().filter(|m| **m > 0.5).count())
                .collect();
            let (log_prob, old) = (ragged(&row, "logp"), ragged(&row, "logp_old"));
            let (reference, advantages) = (ragged(&row, "logp_ref"), numbers(&row["advantages"]));
            let batch = Batch {
                lengths: &lengths,
                log_prob: &log_prob,
                old: &old,
                reference: Some(&reference),
                advantages: Advantages::Sequence(&advantages),
                totals: Totals::of(&lengths),
            };
            let loss = policy(&row).loss(&batch).unwrap();
            close("loss", &[loss.value], &[row["loss"].as_f64().unwrap()]);
            close("gradient", &loss.d_log_prob, &ragged(&row, "grad_logp"));
            let clip_fraction = row["clip_fraction"].as_f64().unwrap();
            close("clipped", &[loss.watch.clip_fraction()], &[clip_fraction]);
        }
    }

    const LENGTHS: [usize; 3] = [3, 0, 2];
    const OLD: [f64; 5] = [-1.0, -0.4, -2.0, -0.7, -1.5];
    const LOG_PROB: [f64; 5] = [-0.9, -0.6, -1.2, -0.75, -2.8];
    const REFERENCE: [f64; 5] = [-1.1, -0.5, -1.9, -0.6, -1.4];
    const ADVANTAGES: [f64; 3] = [0.8, 0.3, -1.1];

    fn batch<'a>(log_prob: &'a [f64], advantages: &'a [f64]) -> Batch<'a> {
        Batch {
            lengths: &LENGTHS,
            log_prob,
            old: &OLD,
            reference: Some(&REFERENCE),
            advantages: Advantages::Sequence(advantages),
            totals: Totals::of(&LENGTHS),
        }
    }

    fn v32() -> Policy {
        Policy {
            ratio: RatioLevel::Token,
            surrogate: Surrogate::Clip {
                low: 0.2,
                high: 0.2,
                dual: None,
            },
            kl: Some(Penalty {
                beta: 0.1,
                estimator: Estimator::K3,
                weight: Weight::Ratio,
            }),
            aggregation: Aggregation::SequenceMean,
            stale_limit: Some(0.5),
        }
    }

    #[test]
    fn a_stale_answer_with_negative_advantage_keeps_only_its_kl() {
        let kept = v32().loss(&batch(&LOG_PROB, &ADVANTAGES)).unwrap();
        assert_eq!(kept.watch.stale_sequences, 1);
        let no_pull = v32().loss(&batch(&LOG_PROB, &[0.8, 0.3, 0.0])).unwrap();
        close("loss", &[kept.value], &[no_pull.value]);
        close("gradient", &kept.d_log_prob, &no_pull.d_log_prob);
        let better = v32().loss(&batch(&LOG_PROB, &[0.8, 0.3, 1.1])).unwrap();
        assert_eq!(better.watch.stale_sequences, 0);
    }

    #[test]
    fn gradients_are_those_of_the_values() {
        let cispo = |x: f64| {
            // The stopped weight is that of the unmoved point.
            let weight = (LOG_PROB[4] - OLD[4]).exp().clamp(0.0, 6.0);
            -weight * ADVANTAGES[2] * x / 5.0
        };
        let policy = Policy {
            surrogate: Surrogate::Cispo {
                low: 1.0,
                high: 5.0,
            },
            kl: None,
            aggregation: Aggregation::TokenMean,
            stale_limit: None,
            ..v32()
        };
        let loss = policy.loss(&batch(&LOG_PROB, &ADVANTAGES)).unwrap();
        close("cispo", &loss.d_log_prob[4..], &[cispo(1.0)]);

        for ratio in [RatioLevel::Token, RatioLevel::Sequence] {
            let policy = Policy { ratio, ..v32() };
            let loss = policy.loss(&batch(&LOG_PROB, &ADVANTAGES)).unwrap();
            for (i, slope) in loss.d_log_prob.iter().enumerate() {
                let at = |step: f64| {
                    let mut moved = LOG_PROB;
                    moved[i] += step;
                    policy.loss(&batch(&moved, &ADVANTAGES)).unwrap().value
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((slope - numeric).abs() < 1e-8, "{ratio:?} {i}");
            }
        }
    }

    #[test]
    fn micro_batches_add_up() {
        let policy = Policy {
            aggregation: Aggregation::TokenMean,
            ..v32()
        };
        let whole = policy.loss(&batch(&LOG_PROB, &ADVANTAGES)).unwrap();
        let part = |range: Range<usize>, lengths: &[usize], advantages: &[f64]| {
            let part = Batch {
                lengths,
                log_prob: &LOG_PROB[range.clone()],
                old: &OLD[range.clone()],
                reference: Some(&REFERENCE[range]),
                advantages: Advantages::Sequence(advantages),
                totals: Totals::of(&LENGTHS),
            };
            policy.loss(&part).unwrap()
        };
        let (a, b) = (
            part(0..3, &LENGTHS[..2], &ADVANTAGES[..2]),
            part(3..5, &LENGTHS[2..], &ADVANTAGES[2..]),
        );
        close("loss", &[a.value + b.value], &[whole.value]);
        let joined = a.watch.with(&b.watch);
        close("kl", &[joined.kl()], &[whole.watch.kl()]);
        close("drift", &[joined.drift()], &[whole.watch.drift()]);
    }

    #[test]
    fn lists_that_do_not_match_are_refused() {
        let mut short = batch(&LOG_PROB, &ADVANTAGES);
        short.old = &OLD[1..];
        assert!(v32().loss(&short).is_err());
        let mut blind = batch(&LOG_PROB, &ADVANTAGES);
        blind.reference = None;
        assert!(v32().loss(&blind).is_err());
        let wrong = Policy {
            surrogate: Surrogate::Cispo {
                low: 0.2,
                high: -3.0,
            },
            ..v32()
        };
        assert!(wrong.loss(&batch(&LOG_PROB, &ADVANTAGES)).is_err());
    }
}
