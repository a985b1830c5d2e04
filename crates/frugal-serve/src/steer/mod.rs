//! What may come next in a sample, beside what the model finds likely.
//!
//! A [`Steering`] is asked before every token and told every token. It works on ids and logits alone;
//! it runs on the engine's thread, so each of its parts does a bounded amount of work a token. Parts,
//! in the order in which they act:
//!
//! 1. tokens that are forced: the end of a thought and what follows it (`thinking`);
//! 2. biases and penalties (`bias`);
//! 3. the push towards the end of a thought (`thinking`, `circles`);
//! 4. the grammar (`grammar`): last, so that nothing violates it.
//!
//! [`Rules`] says what is asked of all samples of a job; what became of one is in its [`Record`],
//! which the side that waits for the answer keeps.

mod bias;
mod circles;
mod grammar;
mod thinking;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use frugal_text::reasoning::State;

pub use self::bias::Weights;
use self::bias::{Prepared, Weighing};
pub use self::grammar::{Compiled, Grammars, Piece, Source};
use self::grammar::{Follower, Standing};
pub use self::thinking::{Closed, Thoughts, Watch};
use self::thinking::{Step, Thinking};

/// What is asked of the samples of a job.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Biases and penalties.
    pub weights: Weights,
    /// How long it may think; none for models without marks of thinking.
    pub thoughts: Option<Thoughts>,
    /// The form of the answer.
    pub grammar: Option<Arc<Compiled>>,
}

impl Rules {
    /// Asks for nothing.
    pub const NONE: Self = Self {
        weights: Weights::NONE,
        thoughts: None,
        grammar: None,
    };

    /// The steering of `n` samples after a prompt. Copies the grammar for each, so it is done off
    /// the engine's thread.
    pub fn steer(&self, prompt: &[u32], n: usize) -> Vec<Steering> {
        let weights = Prepared::new(&self.weights, prompt);
        let thoughts = self.thoughts.clone().map(Arc::new);
        let is_free = weights.is_none() && thoughts.is_none();
        let steering = || {
            if is_free && self.grammar.is_none() {
                return Steering::default();
            }
            Steering {
                parts: Some(Box::new(Parts {
                    forced: VecDeque::new(),
                    weights: weights.clone().map(Weighing::new),
                    thinking: thoughts.clone().map(Thinking::new),
                    grammar: self.grammar.as_deref().map(Follower::new),
                })),
                record: Arc::default(),
            }
        };
        std::iter::repeat_with(steering).take(n).collect()
    }
}

/// What became of a sample, as far as steering goes. Written by the engine's thread, complete once
/// the sample has ended.
#[derive(Debug, Default)]
pub struct Record {
    thought_tokens: AtomicUsize,
    /// One more than the place in [`CLOSED`]; 0 for none.
    closed: AtomicU8,
    is_stuck: AtomicU8,
}

/// Reasons in the order of their numbers in a [`Record`].
const CLOSED: [Closed; 3] = [Closed::Budget, Closed::Asked, Closed::Circles];

impl Record {
    /// Tokens of the thought, its marks left out.
    pub fn thought_tokens(&self) -> usize {
        self.thought_tokens.load(Ordering::Acquire)
    }

    /// Why the thought was closed, if the model did not close it by itself.
    pub fn closed(&self) -> Option<Closed> {
        let number = usize::from(self.closed.load(Ordering::Acquire));
        CLOSED.get(number.checked_sub(1)?).copied()
    }

    /// Whether the sample ended because its grammar could not be followed any further: the answer is
    /// not of the form that was asked for.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Acquire) != 0
    }

    fn close(&self, why: Closed) {
        let number = (1..).zip(CLOSED).find(|(_, reason)| *reason == why);
        self.closed
            .store(number.map_or(0, |(n, _)| n), Ordering::Release);
    }
}

/// Steers one sample.
///
/// ```
/// use frugal_serve::steer::{Next, Rules, Weights};
///
/// let weights = Weights { bias: vec![(0, -100.0)], ..Weights::NONE };
/// let rules = Rules { weights, ..Rules::NONE };
/// let mut steering = rules.steer(&[1, 2, 3], 1).remove(0);
/// assert_eq!(steering.next(false), Next::Adjusted);
/// let mut logits = [2.0, 1.0];
/// steering.adjust(&mut logits);
/// assert_eq!(logits, [f32::NEG_INFINITY, 1.0]);
/// steering.took(1);
/// ```
#[derive(Debug, Default)]
pub struct Steering {
    /// None where nothing is asked.
    parts: Option<Box<Parts>>,
    record: Arc<Record>,
}

#[derive(Debug)]
struct Parts {
    /// Tokens that come now, whatever is likely.
    forced: VecDeque<u32>,
    weights: Option<Weighing>,
    thinking: Option<Thinking>,
    grammar: Option<Follower>,
}

/// What is to come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A token drawn from the model's logits as they are.
    Free,
    /// A token drawn after [`Steering::adjust`].
    Adjusted,
    /// This token.
    Forced(u32),
    /// Nothing: the sample is complete.
    Nothing,
}

impl Steering {
    /// What is to come next. `is_to_answer` once somebody wants the thought to end.
    ///
    /// May be asked again before the token comes.
    pub fn next(&mut self, is_to_answer: bool) -> Next {
        let Some(parts) = &mut self.parts else {
            return Next::Free;
        };
        let next = parts.next(is_to_answer);
        if next.is_err() {
            self.record.is_stuck.store(1, Ordering::Release);
        }
        next.unwrap_or(Next::Nothing)
    }

    /// Changes the logits of the next token, as [`Self::next`] has found.
    pub fn adjust(&mut self, logits: &mut [f32]) {
        if let Some(parts) = &mut self.parts {
            parts.adjust(logits);
        }
    }

    /// The next token is this one.
    pub fn took(&mut self, id: u32) {
        let Some(parts) = &mut self.parts else { return };
        parts.took(id);
        if let Some(thinking) = &parts.thinking {
            let record = &self.record;
            record
                .thought_tokens
                .store(thinking.tokens(), Ordering::Release);
            if let Some(why) = thinking.closed() {
                record.close(why);
            }
        }
    }

    /// What becomes of the sample; kept by whoever waits for the answer.
    pub fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record)
    }
}

/// The grammar cannot be followed any further.
struct Stuck;

impl Parts {
    fn next(&mut self, is_to_answer: bool) -> Result<Next, Stuck> {
        if let Some(id) = self.forced.front() {
            return Ok(Next::Forced(*id));
        }
        let mut is_adjusted = self.weights.as_ref().is_some_and(Weighing::acts);
        let mut opening = None;
        let mut is_answer = true;
        if let Some(thinking) = &mut self.thinking {
            if let Some(end) = thinking.forced(is_to_answer) {
                return Ok(Next::Forced(end));
            }
            is_adjusted |= thinking.bonus().is_some();
            opening = thinking.opening();
            is_answer = thinking.state() != State::Thinking;
        }
        if is_answer && let Some(grammar) = &mut self.grammar {
            is_adjusted = true;
            match grammar.stand(opening) {
                Standing::Open => {}
                Standing::Complete => return Ok(Next::Nothing),
                Standing::Stuck => return Err(Stuck),
            }
        }
        Ok(if is_adjusted {
            Next::Adjusted
        } else {
            Next::Free
        })
    }

    fn adjust(&mut self, logits: &mut [f32]) {
        if let Some(weights) = &mut self.weights {
            weights.apply(logits);
        }
        let bonus = self.thinking.as_ref().and_then(Thinking::bonus);
        if let Some((id, bonus)) = bonus
            && let Some(logit) = logits.get_mut(id as usize)
        {
            *logit += bonus;
        }
        let grammar = self.grammar.as_ref();
        if let Some(grammar) = grammar {
            grammar.mask(logits);
        }
        if let Some(weights) = &self.weights {
            weights.restore(logits, |id| {
                grammar.is_none_or(|grammar| grammar.allows(id))
            });
        }
    }

    fn took(&mut self, id: u32) {
        if self.forced.pop_front().is_some_and(|forced| forced != id) {
            self.forced.clear();
        }
        if let Some(weights) = &mut self.weights {
            weights.took(id);
        }
        if let Some(grammar) = &mut self.grammar {
            grammar.took(id);
        }
        if let Some(thinking) = &mut self.thinking {
            let step = thinking.took(id);
            // A grammar would not let the model write what its template has after a thought.
            if step == Step::Cut || (step == Step::Ended && self.grammar.is_some()) {
                self.forced.extend(thinking.after());
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "all values are exact")]
mod tests;
