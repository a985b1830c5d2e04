//! One sequence continued token by token: a conversation.
//!
//! The cache is kept from turn to turn: what a new context shares with the one before is not
//! computed again. Many sequences at a time are in [`crate::generate`], and so is what a draft is.

use core::fmt::Debug;

use frugal_core::backend::{Backend, Picked, Sampling};
use frugal_core::shape::Rows;

use crate::cache::{Cache, CacheSettings};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::generate::engine::{Engine, row_number, share_of_choice};
use crate::generate::{Drafted, Drafting, Track};
use crate::transformer::Model;

/// How a stream keeps and computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSettings {
    /// The cache.
    pub cache: CacheSettings,
    /// Rows of a context computed at a time.
    pub prefill_rows: usize,
    /// Who drafts.
    pub drafting: Drafting,
}

/// How the next tokens are decided.
#[derive(Debug, Clone, Copy)]
pub struct Drawing<'a> {
    /// From which distribution.
    pub sampling: Sampling,
    /// Tokens after which nothing is drawn.
    pub stop: &'a [u32],
    /// Name the random numbers, one for each position.
    pub words: [u64; 3],
}

/// A sequence, its cache and what the cache holds.
#[derive(Debug)]
pub struct Stream<T> {
    cache: Cache<T>,
    track: Track,
    /// Tokens of the context that was last read as a prompt: those after it were drawn.
    n_prompt: usize,
    /// Of [`share_of_choice`].
    chosen: f32,
    settings: StreamSettings,
    drafted: Drafted,
}

impl<T: Clone + Debug> Stream<T> {
    /// An empty sequence for models of one config.
    ///
    /// # Errors
    /// If the cache does not fit the model, or the model has no layer to draft with.
    pub fn new<B: Backend<Tensor = T>>(
        b: &B,
        config: &ModelConfig,
        settings: StreamSettings,
    ) -> Result<Self> {
        let mut cache = settings.drafting.cache(b, config, settings.cache)?;
        let track = Track::new(cache.open()?, [0; 3]);
        Ok(Self {
            cache,
            track,
            n_prompt: 0,
            chosen: share_of_choice(config)?,
            settings,
            drafted: Drafted::default(),
        })
    }

    /// The tokens computed so far.
    pub fn ids(&self) -> &[u32] {
        let held = self.cache.length(self.track.sequence).unwrap_or(0);
        self.track.ids.get(..held as usize).unwrap_or(&[])
    }

    /// What drafting has come to since the beginning.
    pub const fn drafted(&self) -> Drafted {
        self.drafted
    }

    /// How many tokens of `context` need not be computed: what it shares with the tokens computed
    /// so far, but never its last, whose logits are wanted.
    pub fn shared(&self, context: &[u32]) -> usize {
        let same = self.ids().iter().zip(context).take_while(|(a, b)| a == b);
        same.count().min(context.len().saturating_sub(1))
    }

    /// Makes the sequence `context` and draws what comes after it: one token, and where a draft was
    /// right those after it, up to `most`.
    ///
    /// `on_part` is told after each part how many tokens of the context are done; if it answers
    /// false the call ends with [`Error::Interrupted`], and what was computed is kept.
    ///
    /// # Errors
    /// If the context is empty or longer than the model has positions, or the back-end refuses.
    pub fn extend<B: Backend<Tensor = T>>(
        &mut self,
        (b, model): (&B, &Model<T>),
        (context, most): (&[u32], usize),
        drawing: &Drawing<'_>,
        on_part: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Picked> {
        let positions = b.shape(&model.rope).rows();
        if context.is_empty() || context.len() > positions || most == 0 {
            return Err(Error::Request {
                expected: alloc::format!("1 token or more after a context of 1 to {positions}"),
                got: alloc::format!("{most} after {}", context.len()),
            });
        }
        // The last token drawn, and its draft, are computed as answers are; what is said anew is a
        // prompt again, though the cache may hold most of it.
        let is_answer = self.track.ids == context && context.len() > self.n_prompt;
        if !is_answer {
            self.n_prompt = context.len();
        }
        let answering = is_answer.then(|| model.for_answers(b));
        let engine = Engine {
            b,
            model: answering.as_ref().unwrap_or(model),
            sampling: drawing.sampling,
            drafting: self.settings.drafting,
            chosen: self.chosen,
            stop: drawing.stop,
        };
        self.turn_to(context)?;
        self.track.words = drawing.words;
        self.track.limit = context.len() + most.min(positions + 1 - context.len());
        self.fill(&engine, on_part)?;
        if is_answer {
            engine.look_back(core::slice::from_mut(&mut self.track));
        } else {
            self.track.draft.clear();
        }
        let left = self.track.limit - context.len() - 1;
        self.track.draft.truncate(left);
        let picked = self.step(&engine)?;
        if !on_part(context.len()) {
            return Err(Error::Interrupted);
        }
        Ok(picked)
    }

    /// Forgets what `context` does not share.
    fn turn_to(&mut self, context: &[u32]) -> Result<()> {
        let shared = self.shared(context);
        self.cache
            .truncate(self.track.sequence, row_number(shared)?)?;
        let ids = &mut self.track.ids;
        // A draft was made for the very tokens drawn last.
        if ids != context {
            self.track.draft.clear();
            ids.truncate(shared);
            ids.extend_from_slice(context.get(shared..).unwrap_or(&[]));
        }
        Ok(())
    }

    /// Computes all parts of the context but the last.
    fn fill<B: Backend<Tensor = T>>(
        &mut self,
        engine: &Engine<'_, B>,
        on_part: &mut dyn FnMut(usize) -> bool,
    ) -> Result<()> {
        let part = self.settings.prefill_rows.max(1);
        let sequences = [self.track.sequence];
        loop {
            let held = self.ids().len();
            let rest = self.track.ids.get(held..).unwrap_or(&[]);
            if rest.len() <= part {
                return Ok(());
            }
            let ids = rest.get(..part).unwrap_or(rest);
            let n_rows = row_number(ids.len())?;
            self.track.start = row_number(held)?;
            self.track.rows = 0..n_rows;
            let rows = Rows::new(&[n_rows], &[self.track.start])?;
            let hidden = engine.hidden(&mut self.cache, ids, &rows, &sequences)?;
            engine.follow(&mut self.cache, core::slice::from_ref(&self.track), &hidden)?;
            if !on_part(held + part) {
                return Err(Error::Interrupted);
            }
        }
    }

    /// Computes the rest and the draft, and draws.
    fn step<B: Backend<Tensor = T>>(&mut self, engine: &Engine<'_, B>) -> Result<Picked> {
        let cache = &mut self.cache;
        let tracks = core::slice::from_mut(&mut self.track);
        let (hidden, mut picked) = engine.step(cache, tracks)?;
        let mut taken = 0;
        let mut count = |_: &Track, log_probs: &[f32]| taken = log_probs.len();
        let counts = engine.settle(cache, tracks, &picked, &mut count)?;
        self.drafted.add(&counts);
        if let Some(ahead) = engine.follow(cache, tracks, &hidden)? {
            engine.look_ahead(cache, tracks, ahead)?;
        }
        picked.ids.truncate(taken);
        picked.log_probs.truncate(taken);
        Ok(picked)
    }
}
