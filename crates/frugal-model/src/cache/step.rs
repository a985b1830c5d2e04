//! A step over cached sequences: taking pages for its rows, and what each layer sees of them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use frugal_core::backend::{Backend, Context, Pages};
use frugal_core::shape::Rows;

use super::{Cache, CacheKind, SequenceId, Store};
use crate::error::{Error, Result};

/// A cache and which of its sequences a step continues, in the order of the step's rows.
#[derive(Debug)]
pub struct Cached<'a, T> {
    /// The cache.
    pub cache: &'a mut Cache<T>,
    /// One for each sequence of the step, all different.
    pub sequences: &'a [SequenceId],
}

impl<'a, T: Clone> Cached<'a, T> {
    /// Takes the pages that a step's rows will be written to.
    pub(crate) fn reserve<B: Backend<Tensor = T>>(
        self,
        b: &B,
        rows: &Rows,
    ) -> Result<Reserved<'a, T>> {
        let Cached { cache, sequences } = self;
        let refuse = |expected, got: String| Err(Error::Cache { expected, got });
        if sequences.len() != rows.n_sequences() {
            let got = format!("{} for {}", sequences.len(), rows.n_sequences());
            return refuse("one cached sequence for each of the step", got);
        }
        let mut sorted = sequences.to_vec();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
            return refuse("each sequence once in a step", format!("{sequences:?}"));
        }
        let page_rows = cache.settings.page_rows;
        let mut pages = Pages {
            page_rows,
            tables: Vec::with_capacity(sequences.len()),
            lengths: Vec::with_capacity(sequences.len()),
        };
        let mut slots = Vec::with_capacity(rows.n_rows());
        let mut is_fresh = true;
        for (id, range) in sequences.iter().zip(rows.ranges()) {
            let held = cache.length(*id)?;
            let first = rows
                .positions()
                .get(range.start)
                .filter(|_| !range.is_empty());
            if let Some(position) = first
                && *position != held
            {
                let got = format!("position {position} where {held} tokens are held");
                return refuse("a step that continues its sequence", got);
            }
            is_fresh &= held == 0;
            let length = u32::try_from(range.len()).unwrap_or(u32::MAX);
            cache.extend(b, *id, length)?;
            let table = cache.sequence(*id)?.pages.clone();
            let held = held as usize;
            for (index, page) in table.iter().enumerate().skip(held / page_rows) {
                let begin = held.max(index * page_rows) - index * page_rows;
                let end = (held + range.len()).min((index + 1) * page_rows);
                let end = end.saturating_sub(index * page_rows).max(begin);
                slots.extend(cache.page_rows_of(*page, begin..end));
            }
            pages.tables.push(table);
            pages
                .lengths
                .push(u32::try_from(held + range.len()).unwrap_or(u32::MAX));
        }
        Ok(Reserved {
            cache,
            sequences,
            plan: Plan {
                slots,
                pages,
                is_fresh,
            },
        })
    }
}

/// Where a step's rows go and what they see.
#[derive(Debug)]
struct Plan {
    slots: Vec<u32>,
    pages: Pages,
    is_fresh: bool,
}

/// A step under way. The sequences grow only when it is committed, so a failed step leaves them as
/// they were.
#[derive(Debug)]
pub(crate) struct Reserved<'a, T> {
    cache: &'a mut Cache<T>,
    sequences: &'a [SequenceId],
    plan: Plan,
}

impl<T: Clone> Reserved<'_, T> {
    /// The store of one layer.
    pub(crate) fn layer(&mut self, index: usize) -> Result<LayerCache<'_, T>> {
        let n_layers = self.cache.layers.len();
        let store = self
            .cache
            .layers
            .get_mut(index)
            .ok_or_else(|| Error::Cache {
                expected: "a model of as many layers as the cache was made for",
                got: format!("layer {index} of {n_layers}"),
            })?;
        Ok(LayerCache {
            kind: self.cache.settings.kind,
            store,
            plan: &self.plan,
        })
    }

    /// The rows of the step now belong to their sequences.
    pub(crate) fn commit(self) {
        for (id, length) in self.sequences.iter().zip(&self.plan.pages.lengths) {
            if let Ok(sequence) = self.cache.sequence_mut(*id) {
                sequence.length = *length;
            }
        }
    }
}

/// One layer's part of a cache, during one step.
#[derive(Debug)]
pub(crate) struct LayerCache<'a, T> {
    kind: CacheKind,
    store: &'a mut Store<T>,
    plan: &'a Plan,
}

impl<'a, T> LayerCache<'a, T> {
    pub(crate) const fn kind(&self) -> CacheKind {
        self.kind
    }

    /// Whether no sequence of the step held anything before it.
    pub(crate) const fn is_fresh(&self) -> bool {
        self.plan.is_fresh
    }

    /// Writes the step's rows.
    pub(crate) fn append<B: Backend<Tensor = T>>(
        &mut self,
        b: &B,
        first: &T,
        second: Option<&T>,
    ) -> Result<()> {
        b.append(&mut self.store.first, first, &self.plan.slots)?;
        if let (Some(store), Some(rows)) = (&mut self.store.second, second) {
            b.append(store, rows, &self.plan.slots)?;
        }
        Ok(())
    }

    /// Where each sequence's keys lie in the stores.
    pub(crate) const fn context(&self) -> Context<'a> {
        Context::Paged(&self.plan.pages)
    }

    /// The only or first store.
    pub(crate) const fn first(&self) -> &T {
        &self.store.first
    }

    /// Both stores.
    pub(crate) fn pair(&self) -> Result<[&T; 2]> {
        match &self.store.second {
            Some(second) => Ok([&self.store.first, second]),
            None => Err(Error::CacheKind {
                expected: "expanded or grouped",
                got: self.kind,
            }),
        }
    }
}
