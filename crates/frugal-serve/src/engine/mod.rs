//! Many sequences continued together on one model: token ids in, token ids out.
//!
//! A thread a model (`run`) takes [`Job`]s from a queue that is fair among their owners
//! (`schedule`), reads prompts in parts between the steps of those who answer, shares what prompts
//! begin with (`prefix`) and sends [`Event`]s. It works on an object-safe [`TokenModel`], of which
//! [`loaded`] is the one over a back-end.
//!
//! What a sample says depends on its prompt, its settings and its seed alone, never on who else is
//! served, on the cache or on interruptions: a row's numbers do not depend on its company, tokens are
//! drawn by numbers derived from (seed, sample, position), and only what was computed as a prompt is
//! shared. For the same reason it does not depend on drafts: where a text repeats itself, the tokens
//! that followed before are computed in the step that draws the first of them, and as far as they turn
//! out to be those drawn, the step brings more tokens than one.

use std::fmt::Debug;

use frugal_core::backend::Sampling;
use frugal_model::cache::SequenceId;

mod events;
mod job;
mod likeliest;
pub mod loaded;
mod prefix;
mod run;
mod sample;
mod schedule;
mod turn;

#[cfg(test)]
mod tests;

pub use events::{Costs, End, Event, Token};
pub use job::{Asked, Engine, EngineSettings, Handle, Job, Load, Refusal, State};

/// What a model is, as far as serving needs to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    /// Tokens it knows.
    pub vocabulary: usize,
    /// Tokens of a sequence.
    pub positions: usize,
    /// Tokens of a page of the cache.
    pub page_rows: usize,
    /// Pages of the cache at most.
    pub max_pages: usize,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// FLOPs of a token without attention to those before it.
    pub flops_per_token: f64,
    /// FLOPs more for each token before it.
    pub flops_per_key: f64,
    /// Of a token's weights, the share of experts that it chose.
    pub share_of_choice: f32,
}

/// Which of two arithmetics rows are computed in; see `Backend::for_answers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Rows of a prompt.
    OfPrompts,
    /// Rows of an answer.
    OfAnswers,
}

/// Sees the logits of a row, by its place in its part.
pub type Watch<'a> = Box<dyn FnMut(usize, &[f32]) + 'a>;
/// Changes the logits of a row.
pub type Adjust<'a> = Box<dyn FnMut(&mut [f32]) + 'a>;

/// Rows that continue one sequence in a step.
#[expect(missing_debug_implementations, reason = "holds closures of one step")]
pub struct Part<'a> {
    /// Which.
    pub sequence: SequenceId,
    /// The tokens, at least one.
    pub ids: &'a [u32],
    /// Tokens that may follow them, of which rows are computed too.
    pub draft: &'a [u32],
    /// Sees the logits of every row, by the row's place in `ids`. Where a step is tried again it sees
    /// them again.
    pub watch: Option<Watch<'a>>,
    /// Draw what follows the last of the tokens, each for itself. Where there is a draft, only the first
    /// does, and each one after it draws what follows a token of it.
    pub draws: Vec<Draw<'a>>,
}

impl Part<'_> {
    /// Rows of its tokens and of its draft.
    pub const fn n_rows(&self) -> usize {
        self.ids.len() + self.draft.len()
    }
}

/// How one token is drawn.
#[expect(missing_debug_implementations, reason = "holds closures of one step")]
pub struct Draw<'a> {
    /// From which distribution.
    pub sampling: Sampling,
    /// By which number in [0, 1).
    pub uniform: f32,
    /// Changes the logits before the draw. Log-probabilities are those of the logits as they were.
    pub adjust: Option<Adjust<'a>>,
    /// Wants the log-probability of the token, and of so many likeliest ones.
    pub likeliest: Option<usize>,
}

/// A token drawn.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drawn {
    /// Which.
    pub id: u32,
    /// Its log-probability under the model (temperature 1, nothing adjusted), where wanted.
    pub log_prob: f32,
    /// The likeliest tokens, likeliest first, with theirs.
    pub likeliest: Vec<(u32, f32)>,
}

/// A model and its cache: what an engine works on. Ids in, ids out.
pub trait TokenModel: Send + Debug {
    /// What it is.
    fn facts(&self) -> Facts;
    /// Begins an empty sequence.
    fn open(&mut self) -> Result<SequenceId>;
    /// A sequence that begins with the first `length` tokens of another, whose pages it shares.
    fn fork(&mut self, of: SequenceId, length: usize) -> Result<SequenceId>;
    /// Forgets what a sequence has beyond `length` tokens.
    fn truncate(&mut self, sequence: SequenceId, length: usize) -> Result<()>;
    /// Ends a sequence and gives back its pages.
    fn free(&mut self, sequence: SequenceId) -> Result<()>;
    /// Pages that [`Self::step`] would take for `rows` more rows of a sequence.
    fn pages_for(&self, sequence: SequenceId, rows: usize) -> Result<usize>;
    /// Pages that can still be taken.
    fn vacant_pages(&self) -> usize;
    /// Continues sequences, each at most once, and draws where that is asked, in the order of parts
    /// and of their draws.
    ///
    /// On an error, and where it panics, the sequences are as long as they were.
    fn step(&mut self, parts: &mut [Part<'_>], rows: Rows) -> Result<Vec<Drawn>>;
}

/// Why an engine or its model gives up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model refuses.
    #[error(transparent)]
    Model(#[from] frugal_model::error::Error),
    /// The back-end refuses.
    #[error(transparent)]
    Compute(#[from] frugal_core::error::Error),
    /// The engine's thread has ended.
    #[error("the engine has stopped")]
    Stopped,
    /// The engine's thread could not begin.
    #[error("could not start the engine's thread")]
    Thread(#[source] std::io::Error),
    /// A step panicked; only the requests in it are lost.
    #[error("a step failed")]
    Panicked,
}

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;
