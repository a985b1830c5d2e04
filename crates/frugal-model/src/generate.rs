//! Generation: many prompts, several samples each, on given weights, with a cache.
//!
//! A prompt is computed once and its samples share its pages. Samples retire as they end and
//! waiting prompts take their place. Each token is decided by a uniform number derived from
//! (request seed, sample, position), so that a sample does not depend on what else is in the
//! batch. Nor does it depend on drafts ([`Drafting`]), which save steps where they are right. Token
//! ids in, token ids out: text is made elsewhere.
//!
//! Who begins and who ends is in `generate/run.rs`, a step in `engine.rs`, why drafts change nothing
//! in `draft.rs`. One sequence for a conversation is [`crate::stream`].

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::ops::ControlFlow;

use frugal_core::backend::{Backend, Sampling};

use crate::cache::{Cache, CacheSettings};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::transformer::Model;

mod draft;
pub(crate) mod engine;
mod ngram;
mod run;

pub(crate) use draft::Track;
pub use draft::{Drafted, Drafter, Drafting};
pub use engine::{price_of_a_row, share_of_choice};
pub use ngram::Lookup;
use run::Run;

/// One prompt and how many continuations of it are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The prompt, at least one token.
    pub ids: &'a [u32],
    /// Continuations.
    pub n_samples: usize,
    /// Names the stream of random numbers of this request.
    pub seed: u64,
}

/// What is asked for in one call.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The prompts.
    pub requests: &'a [Request<'a>],
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// The most tokens of a sample.
    pub max_new_tokens: usize,
    /// A sample ends with the first of these tokens.
    pub stop: &'a [u32],
}

/// One continuation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// The new tokens, the stop token included.
    pub ids: Vec<u32>,
    /// ln p of each, as [`Picked::log_probs`](frugal_core::backend::Picked::log_probs).
    pub log_probs: Vec<f32>,
    /// Whether it ended with a stop token rather than for want of room.
    pub is_finished: bool,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Tokens drawn so far.
    pub tokens: usize,
    /// Samples being continued.
    pub live: usize,
    /// Requests not begun.
    pub waiting: usize,
}

/// How many sequences and rows are computed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeneratorSettings {
    /// The cache.
    pub cache: CacheSettings,
    /// Samples continued together, at least those of one request.
    pub max_sequences: usize,
    /// Prompt rows computed together; a longer prompt is computed alone.
    pub prefill_rows: usize,
    /// Who drafts.
    pub drafting: Drafting,
}

/// A cache and what is needed to fill it. Reused from call to call, also when weights change.
#[derive(Debug)]
pub struct Generator<T> {
    cache: Cache<T>,
    settings: GeneratorSettings,
    drafted: Drafted,
    texts: Vec<Vec<u32>>,
}

impl<T: Clone + Debug> Generator<T> {
    /// A generator for models of one config.
    ///
    /// # Errors
    /// If the cache does not fit the model, or the model has no layer to draft with.
    pub fn new<B: Backend<Tensor = T>>(
        b: &B,
        config: &ModelConfig,
        settings: GeneratorSettings,
    ) -> Result<Self> {
        let cache = settings.drafting.cache(b, config, settings.cache)?;
        Ok(Self {
            cache,
            settings,
            drafted: Drafted::default(),
            texts: Vec::new(),
        })
    }

    /// From now on the first samples of a call take their tokens from these texts, one each, for as
    /// long as they last: all is computed, drafted and judged as ever, but not drawn. For measuring on a
    /// text that the model would not write. Log-probabilities stay those of what was drawn.
    pub fn follow(&mut self, texts: Vec<Vec<u32>>) {
        self.texts = texts;
    }

    /// What drafting came to in the last call.
    pub const fn drafted(&self) -> Drafted {
        self.drafted
    }

    /// Continues every request; the result has one list of samples a request, in order.
    ///
    /// `on_step` is called after each step; [`ControlFlow::Break`] ends the call.
    ///
    /// # Errors
    /// [`Error::Request`] before anything is computed if a request cannot be met,
    /// [`Error::Interrupted`] if `on_step` said so, [`Error::CacheFull`] if pages run out.
    pub fn generate<B: Backend<Tensor = T>>(
        &mut self,
        b: &B,
        model: &Model<T>,
        batch: &Batch<'_>,
        on_step: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Sample>>> {
        self.check(b, model, batch)?;
        self.cache.clear();
        let answering = model.for_answers(b);
        let mut run = Run::new(b, [model, &answering], batch, self.settings.drafting)?;
        run.texts = &self.texts;
        let mut tokens = 0;
        while run.begun < batch.requests.len() || !run.live.is_empty() {
            let admitted = self.admit(&run);
            tokens += if admitted > 0 {
                run.prefill(&mut self.cache, admitted)?
            } else {
                run.decode(&mut self.cache)?
            };
            let progress = Progress {
                tokens,
                live: run.live.len(),
                waiting: batch.requests.len() - run.begun,
            };
            self.drafted = run.drafted;
            if on_step(progress).is_break() {
                self.cache.clear();
                return Err(Error::Interrupted);
            }
        }
        Ok(run.samples())
    }

    fn check<B: Backend<Tensor = T>>(
        &self,
        b: &B,
        model: &Model<T>,
        batch: &Batch<'_>,
    ) -> Result<()> {
        let positions = b.shape(&model.rope).rows();
        let refuse = |expected: &str, got: &dyn ToString| {
            Err(Error::Request {
                expected: expected.to_string(),
                got: got.to_string(),
            })
        };
        if batch.max_new_tokens == 0 {
            return refuse("at least one new token", &0);
        }
        for request in batch.requests {
            if request.ids.is_empty() {
                return refuse("a prompt of at least one token", &"an empty one");
            }
            let samples = request.n_samples;
            if samples == 0 || samples > self.settings.max_sequences {
                let limit = self.settings.max_sequences;
                return refuse(&format!("1 to {limit} samples of a prompt"), &samples);
            }
            let longest = request.ids.len().saturating_add(batch.max_new_tokens);
            if longest > positions {
                let expected = format!("prompt and new tokens within {positions} positions");
                return refuse(&expected, &longest);
            }
        }
        Ok(())
    }

    /// How many waiting requests may begin now.
    fn admit<B: Backend<Tensor = T>>(&self, run: &Run<'_, B>) -> usize {
        let mut sequences = run.live.len();
        let mut rows = 0usize;
        let mut admitted = 0;
        for request in run.batch.requests.iter().skip(run.begun) {
            sequences += request.n_samples;
            rows += request.ids.len();
            let too_long = rows > self.settings.prefill_rows && admitted > 0;
            if sequences > self.settings.max_sequences || too_long {
                break;
            }
            admitted += 1;
        }
        admitted
    }
}
