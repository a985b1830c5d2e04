//! What the client adds to logits: biases, penalties, and tokens that may not come.
//!
//! In this order, so that a later part is not scaled by an earlier one:
//!
//! 1. *repetition penalty*: logits of tokens in the prompt or the sample are divided where positive
//!    and multiplied where not (CTRL, arXiv 1909.05858, as Hugging Face and vLLM have it);
//! 2. *presence and frequency penalty*: off the logit of each token of the sample, once and for each
//!    time it came (OpenAI's definition; thoughts count, as vLLM has it);
//! 3. *bias*: added; −100 forbids, and +100 outweighs anything a model says;
//! 4. *forbidden tokens*: those that end a sample, where the client wants them passed over.
//!
//! A token cannot be drawn from nothing. Where all that a grammar allows is forbidden, or all there
//! is, the forbidden tokens come back with the logits they had ([`Weighing::restore`]): a grammar is
//! a promise about the whole text and a bias a wish about one token, and an answer that ends in the
//! middle helps nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A bias from here on forbids.
const FORBIDS: f32 = -100.0;

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Added to logits, −100 to 100; −100 forbids.
    pub bias: Vec<(u32, f32)>,
    /// Off the logit of each token of the sample.
    pub presence: f32,
    /// Off the logit for each time it came.
    pub frequency: f32,
    /// Divides positive and multiplies other logits of tokens of prompt and sample; 1 does nothing.
    pub repetition: f32,
    /// Tokens that may not come: the model's ends, where they are to be passed over.
    pub forbidden: Vec<u32>,
}

impl Weights {
    /// Changes nothing.
    pub const NONE: Self = Self {
        bias: Vec::new(),
        presence: 0.0,
        frequency: 0.0,
        repetition: 1.0,
        forbidden: Vec::new(),
    };

    fn counts(&self) -> bool {
        self.presence != 0.0 || self.frequency != 0.0 || self.repeats()
    }

    #[expect(clippy::float_cmp, reason = "exactly one is what changes nothing")]
    fn repeats(&self) -> bool {
        self.repetition != 1.0
    }
}

/// The weights of a job, made ready once for all its samples.
#[derive(Debug)]
pub(super) struct Prepared {
    weights: Weights,
    /// The prompt's tokens, each once, in order; empty where nobody asks.
    prompt: Vec<u32>,
}

impl Prepared {
    /// None where nothing is asked.
    pub(super) fn new(weights: &Weights, prompt: &[u32]) -> Option<Arc<Self>> {
        if weights == &Weights::NONE {
            return None;
        }
        let mut seen = Vec::new();
        if weights.repeats() {
            seen = prompt.to_vec();
            seen.sort_unstable();
            seen.dedup();
        }
        Some(Arc::new(Self {
            weights: weights.clone(),
            prompt: seen,
        }))
    }
}

/// The weights at work in one sample.
#[derive(Debug)]
pub(super) struct Weighing {
    of: Arc<Prepared>,
    /// How often each token came.
    counts: BTreeMap<u32, u32>,
    /// What the logits of forbidden tokens were.
    lost: Vec<(u32, f32)>,
}

impl Weighing {
    pub(super) fn new(of: Arc<Prepared>) -> Self {
        Self {
            of,
            counts: BTreeMap::new(),
            lost: Vec::new(),
        }
    }

    /// Whether there is anything to change now.
    pub(super) fn acts(&self) -> bool {
        let weights = &self.of.weights;
        !weights.bias.is_empty()
            || !weights.forbidden.is_empty()
            || !self.of.prompt.is_empty()
            || (weights.counts() && !self.counts.is_empty())
    }

    /// The next token is this one.
    pub(super) fn took(&mut self, id: u32) {
        if self.of.weights.counts() {
            *self.counts.entry(id).or_default() += 1;
        }
    }

    /// Changes the logits.
    pub(super) fn apply(&mut self, logits: &mut [f32]) {
        let Prepared { weights, prompt } = &*self.of;
        let mut change = |id: u32, how: &dyn Fn(f32) -> f32| {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = how(*logit);
            }
        };
        if weights.repeats() {
            let penalty = weights.repetition;
            let rarer = |logit: f32| {
                if logit > 0.0 {
                    logit / penalty
                } else {
                    logit * penalty
                }
            };
            for id in prompt {
                change(*id, &rarer);
            }
            let is_new = |id: &&u32| prompt.binary_search(id).is_err();
            for id in self.counts.keys().filter(is_new) {
                change(*id, &rarer);
            }
        }
        if weights.presence != 0.0 || weights.frequency != 0.0 {
            for (id, n) in &self.counts {
                let penalty = weights.presence + weights.frequency * *n as f32;
                change(*id, &|logit| logit - penalty);
            }
        }
        self.lost.clear();
        for (id, bias) in &weights.bias {
            if *bias > FORBIDS {
                change(*id, &|logit| logit + bias);
            }
        }
        let by_bias = weights.bias.iter().filter(|(_, bias)| *bias <= FORBIDS);
        let forbidden = by_bias.map(|(id, _)| id).chain(&weights.forbidden);
        for id in forbidden {
            if let Some(logit) = logits.get_mut(*id as usize) {
                self.lost.push((*id, *logit));
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Gives the forbidden tokens back what they had, where nothing else is left.
    pub(super) fn restore(&self, logits: &mut [f32], is_allowed: impl Fn(u32) -> bool) {
        if self.lost.is_empty() || logits.iter().any(|logit| *logit > f32::NEG_INFINITY) {
            return;
        }
        // Backwards: a token that is forbidden twice had its logit the first time.
        for (id, logit) in self.lost.iter().rev() {
            if is_allowed(*id)
                && let Some(place) = logits.get_mut(*id as usize)
            {
                *place = *logit;
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "all values are exact")]
mod tests {
    use super::*;

    const NO: f32 = f32::NEG_INFINITY;

    fn check(weights: &Weights, prompt: &[u32], sample: &[u32], expected: [f32; 4]) {
        let mut weighing = Weighing::new(Prepared::new(weights, prompt).unwrap());
        for id in sample {
            weighing.took(*id);
        }
        let before = [1.0, -2.0, 0.0, 4.0];
        let mut logits = before;
        weighing.apply(&mut logits);
        assert_eq!(logits, expected, "{weights:?}");
        assert!(weighing.acts() || logits == before);
    }

    #[test]
    fn each_part_alone_and_all_together() {
        let none = Weights::NONE;
        assert!(Prepared::new(&none, &[1, 2]).is_none());
        let bias = Weights {
            bias: vec![(0, 100.0), (1, -100.0), (3, -0.5), (99, 5.0), (98, -100.0)],
            ..none.clone()
        };
        check(&bias, &[], &[], [101.0, NO, 0.0, 3.5]);
        let presence = Weights {
            presence: 0.5,
            ..none.clone()
        };
        check(&presence, &[0], &[], [1.0, -2.0, 0.0, 4.0]);
        check(&presence, &[0], &[1, 3, 1], [1.0, -2.5, 0.0, 3.5]);
        let frequency = Weights {
            frequency: -0.5,
            ..none.clone()
        };
        check(&frequency, &[0], &[1, 3, 1], [1.0, -1.0, 0.0, 4.5]);
        let repetition = Weights {
            repetition: 2.0,
            ..none.clone()
        };
        // Tokens that are in the prompt and in the sample are penalised once.
        check(&repetition, &[3, 1, 3], &[1, 0, 0], [0.5, -4.0, 0.0, 2.0]);
        let forbidden = Weights {
            forbidden: vec![2, 77],
            ..none
        };
        check(&forbidden, &[], &[], [1.0, -2.0, NO, 4.0]);
        let all = Weights {
            bias: vec![(3, 1.0)],
            presence: 0.25,
            frequency: 0.25,
            repetition: 2.0,
            forbidden: vec![0],
        };
        check(&all, &[1], &[3, 3], [NO, -4.0, 0.0, 2.25]);
    }

    #[test]
    fn counting_grows_with_the_tokens_that_came_and_only_where_asked() {
        let bias = Weights {
            bias: vec![(0, 1.0)],
            ..Weights::NONE
        };
        let mut weighing = Weighing::new(Prepared::new(&bias, &[1; 1000]).unwrap());
        weighing.took(3);
        assert!(weighing.counts.is_empty() && weighing.of.prompt.is_empty());
    }

    #[test]
    fn what_is_forbidden_comes_back_where_nothing_else_is_left() {
        let weights = Weights {
            bias: vec![(0, -100.0), (1, -100.0)],
            forbidden: vec![0, 2],
            ..Weights::NONE
        };
        let mut weighing = Weighing::new(Prepared::new(&weights, &[]).unwrap());
        let mut logits = [1.0, 2.0, 3.0, 4.0];
        weighing.apply(&mut logits);
        weighing.restore(&mut logits, |_| true);
        assert_eq!(logits, [NO, NO, NO, 4.0]);
        // A grammar allows 0 and 2 alone.
        logits = [1.0, 2.0, 3.0, 4.0];
        weighing.apply(&mut logits);
        logits[3] = NO;
        weighing.restore(&mut logits, |id| id % 2 == 0);
        assert_eq!(logits, [1.0, NO, 3.0, NO]);
    }
}
