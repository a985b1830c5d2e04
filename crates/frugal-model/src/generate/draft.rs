//! What a draft is: tokens that may come next, guessed cheaply and judged by the model in one step.
//!
//! A token is decided by the model's logits and a uniform number of its own, and a row's logits do
//! not depend on the rows beside it. So all drafted positions are computed at once, each draws its
//! token as it would have alone, and as long as the tokens drawn are those drafted, the next
//! position was computed on the right context. What comes out is what plain decoding gives, bit for
//! bit, sampled or greedy; a draft decides only how many steps it takes.

use alloc::vec::Vec;
use core::ops::Range;

use frugal_core::backend::Backend;
use frugal_core::rng::Rng;

use super::ngram::{Lookup, look_up};
use crate::cache::{Cache, CacheSettings, SequenceId};
use crate::config::ModelConfig;
use crate::error::{Error, Result};

/// Who drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drafting {
    /// Nobody: one token a step.
    #[default]
    None,
    /// The text itself, where it repeats.
    Lookup(Lookup),
    /// The model's extra layer, applied again to its own guesses for more than one.
    Mtp {
        /// The most tokens of a draft.
        most: usize,
    },
}

impl Drafting {
    /// The cache of a model that is drafted for: with a layer more, where that layer drafts.
    pub(crate) fn cache<B: Backend>(
        &self,
        b: &B,
        config: &ModelConfig,
        settings: CacheSettings,
    ) -> Result<Cache<B::Tensor>> {
        let extra = usize::from(matches!(self, Self::Mtp { .. }));
        if extra > config.num_nextn_predict_layers {
            return Err(Error::Config {
                field: "num_nextn_predict_layers".into(),
                expected: "1, to draft with".into(),
                got: "no such layer".into(),
            });
        }
        Cache::of_layers(b, config, settings, config.num_hidden_layers + extra)
    }

    /// The most tokens of a draft.
    pub(crate) const fn most(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Lookup(rule) => rule.most,
            Self::Mtp { most } => *most,
        }
    }
}

/// What drafting came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drafted {
    /// Tokens that were drafted.
    pub drafted: u64,
    /// Those of them that the model drew.
    pub accepted: u64,
    /// Times that a sequence was continued, each bringing a token and what was accepted.
    pub steps: u64,
}

impl Drafted {
    pub(crate) const fn add(&mut self, more: &Self) {
        self.drafted += more.drafted;
        self.accepted += more.accepted;
        self.steps += more.steps;
    }

    /// What has come since `earlier`, a state of the same count.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            drafted: self.drafted - earlier.drafted,
            accepted: self.accepted - earlier.accepted,
            steps: self.steps - earlier.steps,
        }
    }

    /// Tokens of a step: 1 without drafts.
    pub fn tokens_per_step(&self) -> Option<f64> {
        let tokens = (self.steps + self.accepted) as f64;
        (self.steps > 0).then(|| tokens / self.steps as f64)
    }
}

/// How long the next draft may be, by what became of the last ones.
///
/// If a drafted token is right with probability q where those before it were, the k-th of a draft
/// brings q^k tokens; it is drafted while that is worth the row it costs.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Drafted tokens that were right, and all that were judged: those after a wrong one were not.
    /// Both fade.
    right: f32,
    judged: f32,
    /// What a row was worth last.
    price: f32,
    /// Steps to go without a draft, where none is worth its row.
    wait: u32,
    /// How many those were last time.
    patience: u32,
}

impl Pace {
    /// What is expected of a text not seen yet: 6 of 10, believed like four tokens seen.
    const FIRST: (f32, f32) = (2.4, 4.0);
    /// What a draft leaves of the weight of those before it.
    const FADING: f32 = 0.9;
    /// The most tokens that are remembered: a text that has run in circles may end.
    const MEMORY: f32 = 10.0;
    /// The most steps without a draft: an unlucky text pays one row in so many.
    const LONGEST_WAIT: u32 = 32;

    const fn new() -> Self {
        let (right, judged) = Self::FIRST;
        Self {
            right,
            judged,
            price: 0.0,
            wait: 0,
            patience: 0,
        }
    }

    /// Tokens of the next draft, up to `most`, if a row is worth `price` tokens.
    fn reach(&mut self, most: usize, price: f32) -> usize {
        self.price = price;
        if self.wait > 0 {
            return 0;
        }
        let q = self.right / self.judged;
        let mut chance = q;
        let mut reach = 0;
        while reach < most && chance >= price {
            reach += 1;
            chance *= q;
        }
        // One, to see whether the text has changed.
        reach.max(1).min(most)
    }

    fn learn(&mut self, drafted: usize, accepted: usize) {
        if drafted == 0 {
            self.wait = self.wait.saturating_sub(1);
            return;
        }
        let judged = accepted + usize::from(accepted < drafted);
        let right = Self::FADING * self.right + accepted as f32;
        let all = Self::FADING * self.judged + judged as f32;
        let kept = (Self::MEMORY / all).min(1.0);
        (self.right, self.judged) = (kept * right, kept * all);
        if accepted > 0 {
            self.patience = 0;
        } else if self.right < self.price * self.judged {
            self.patience = (2 * self.patience + 1).min(Self::LONGEST_WAIT);
            self.wait = self.patience;
        }
    }
}

/// Drafts by looking back, for a sequence that somebody else continues.
#[derive(Debug)]
pub struct Drafter {
    rule: Lookup,
    pace: Pace,
}

impl Drafter {
    /// Knows nothing of its sequence yet.
    pub const fn new(rule: Lookup) -> Self {
        let pace = Pace::new();
        Self { rule, pace }
    }

    /// Up to `most` tokens that may follow a text, which is asked for only where a draft pays; as many
    /// as are worth the `price` of a row, see [`price_of_a_row`](super::price_of_a_row).
    pub fn draft(&mut self, ids: impl FnOnce() -> Vec<u32>, most: usize, price: f32) -> Vec<u32> {
        let mut draft = Vec::new();
        let most = self.pace.reach(self.rule.most.min(most), price);
        if most > 0 {
            look_up(&ids(), self.rule, most, &mut draft);
        }
        draft
    }

    /// Hears how many of the last draft were right.
    pub fn learn(&mut self, drafted: usize, right: usize) {
        self.pace.learn(drafted, right);
    }
}

/// A sequence that is being continued.
#[derive(Debug)]
pub(crate) struct Track {
    /// What its owner knows it by.
    pub(crate) place: usize,
    /// Its keys: of all of `ids`, or all but the last few.
    pub(crate) sequence: SequenceId,
    /// The context and what was drawn.
    pub(crate) ids: Vec<u32>,
    /// It ends when `ids` have this length.
    pub(crate) limit: usize,
    /// Names its random numbers, together with a position.
    pub(crate) words: [u64; 3],
    /// Tokens that may come next.
    pub(crate) draft: Vec<u32>,
    /// Tokens that it takes instead of those drawn, the next one last.
    pub(crate) told: Vec<u32>,
    /// Its rows of the last step's hidden states; in the end those whose next token is drawn.
    pub(crate) rows: Range<u32>,
    /// The position of the first of these.
    pub(crate) start: u32,
    pace: Pace,
}

impl Track {
    pub(crate) const fn new(sequence: SequenceId, words: [u64; 3]) -> Self {
        Self {
            place: 0,
            sequence,
            ids: Vec::new(),
            limit: 0,
            words,
            draft: Vec::new(),
            told: Vec::new(),
            rows: 0..0,
            start: 0,
            pace: Pace::new(),
        }
    }

    /// The number that decides the token at a position.
    pub(crate) fn uniform(&self, position: usize) -> f32 {
        let [a, b, c] = self.words;
        Rng::derive(&[a, b, c, position as u64]).uniform()
    }

    /// How long a draft may be now, up to `most`, where a row is worth `price` tokens. The last token
    /// drawn is never computed, and a step brings one more than was drafted.
    pub(crate) fn reach(&mut self, most: usize, price: f32) -> usize {
        let left = self.limit.saturating_sub(self.ids.len() + 1);
        self.pace.reach(most.min(left), price)
    }

    /// Takes the tokens drawn for its last token and its draft, as far as they hold; says how many,
    /// the first of `stop` being the last.
    pub(crate) fn take(&mut self, drawn: &[u32], stop: &[u32], counts: &mut Drafted) -> usize {
        let mut said = drawn.to_vec();
        for (id, told) in said.iter_mut().zip(self.told.iter().rev()) {
            *id = *told;
        }
        let drawn = &said;
        let pairs = self.draft.iter().zip(drawn);
        let right = pairs
            .take_while(|(drafted, drawn)| drafted == drawn)
            .count();
        self.pace.learn(self.draft.len(), right);
        let held = drawn.get(..=right).unwrap_or(drawn);
        let ends = held.iter().position(|id| stop.contains(id));
        let taken = held.get(..ends.map_or(held.len(), |at| at + 1));
        let taken = taken.unwrap_or(held);
        self.told
            .truncate(self.told.len().saturating_sub(taken.len()));
        self.ids.extend_from_slice(taken);
        counts.steps += 1;
        counts.drafted += self.draft.len() as u64;
        counts.accepted += taken.len().saturating_sub(1) as u64;
        self.draft.clear();
        taken.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row in sixteen.
    const PRICE: f32 = 0.06;

    #[test]
    fn a_draft_grows_while_it_holds_and_is_left_alone_while_it_fails() {
        let mut pace = Pace::new();
        let first = pace.reach(16, PRICE);
        for _ in 0..6 {
            let reach = pace.reach(16, PRICE);
            pace.learn(reach, reach);
        }
        assert!(first < 8 && pace.reach(16, PRICE) == 16, "from {first}");
        assert!(Pace::new().reach(16, 0.5) < first, "of dear rows fewer");
        let mut in_vain = 0;
        for _ in 0..1_000 {
            let drafted = pace.reach(16, PRICE);
            in_vain += drafted;
            pace.learn(drafted, 0);
        }
        assert!(in_vain < 200, "{in_vain} rows");
        while pace.wait > 0 {
            pace.learn(0, 0);
        }
        pace.learn(1, 1);
        assert!(pace.reach(16, PRICE) > 0 && pace.patience == 0);
        assert_eq!(pace.reach(0, PRICE), 0);
    }
}
