//! One sequence continued token by token: a conversation.
//!
//! The cache is kept from turn to turn: what a new context shares with the one before is not
//! computed again. Many sequences at a time are in [`crate::generate`].

use alloc::vec::Vec;
use core::fmt::Debug;

use frugal_core::backend::Backend;
use frugal_core::shape::Rows;

use crate::cache::{Cache, CacheSettings, Cached, SequenceId};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::transformer::{self, Model, Step};

/// A sequence, its cache and what the cache holds.
#[derive(Debug)]
pub struct Stream<T> {
    cache: Cache<T>,
    sequence: SequenceId,
    /// The tokens whose keys are in the cache.
    ids: Vec<u32>,
    prefill_rows: usize,
}

impl<T: Clone + Debug> Stream<T> {
    /// An empty sequence for models of one config; at most `prefill_rows` of a context are computed
    /// at a time.
    ///
    /// # Errors
    /// If the cache does not fit the model.
    pub fn new<B: Backend<Tensor = T>>(
        b: &B,
        config: &ModelConfig,
        settings: CacheSettings,
        prefill_rows: usize,
    ) -> Result<Self> {
        let mut cache = Cache::new(b, config, settings)?;
        let sequence = cache.open()?;
        Ok(Self {
            cache,
            sequence,
            ids: Vec::new(),
            prefill_rows: prefill_rows.max(1),
        })
    }

    /// The tokens computed so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// How many tokens of `context` need not be computed: what it shares with the tokens computed
    /// so far, but never its last, whose logits are wanted.
    pub fn shared(&self, context: &[u32]) -> usize {
        let same = self.ids.iter().zip(context).take_while(|(a, b)| a == b);
        same.count().min(context.len().saturating_sub(1))
    }

    /// Makes the sequence `context` and gives the logits `[1, V]` after its last token.
    ///
    /// `on_part` is told after each part how many tokens of the context are done; if it answers
    /// false the call ends with [`Error::Interrupted`], and what was computed is kept.
    ///
    /// # Errors
    /// If the context is empty or longer than the model has positions, or the back-end refuses.
    pub fn advance<B: Backend<Tensor = T>>(
        &mut self,
        b: &B,
        model: &Model<T>,
        context: &[u32],
        on_part: &mut dyn FnMut(usize) -> bool,
    ) -> Result<T> {
        let positions = b.shape(&model.rope).rows();
        if context.is_empty() || context.len() > positions {
            return Err(Error::Request {
                expected: alloc::format!("a context of 1 to {positions} tokens"),
                got: alloc::format!("{}", context.len()),
            });
        }
        let shared = self.shared(context);
        self.cache.truncate(self.sequence, row_count(shared)?)?;
        self.ids.truncate(shared);
        let mut logits = None;
        for part in context
            .get(shared..)
            .unwrap_or(&[])
            .chunks(self.prefill_rows)
        {
            let rows = Rows::new(&[row_count(part.len())?], &[row_count(self.ids.len())?])?;
            let step = Step {
                ids: part,
                rows: &rows,
            };
            let cached = Cached {
                cache: &mut self.cache,
                sequences: &[self.sequence],
            };
            let hidden = transformer::hidden(b, model, &step, Some(cached))?;
            self.ids.extend_from_slice(part);
            if self.ids.len() == context.len() {
                let last = b.gather(&hidden, &[row_count(part.len() - 1)?])?;
                logits = Some(transformer::logits(b, model, &last)?);
            }
            if !on_part(self.ids.len()) {
                return Err(Error::Interrupted);
            }
        }
        logits.ok_or(Error::Interrupted)
    }
}

fn row_count(rows: usize) -> Result<u32> {
    u32::try_from(rows).map_err(|_| frugal_core::error::Error::PositionOverflow.into())
}
