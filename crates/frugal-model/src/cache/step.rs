//! A step over cached sequences: taking pages for its rows, and what each layer sees of them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

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
    /// Takes the pages that a step's rows will be written to, at the ends of their sequences.
    pub(crate) fn reserve<B: Backend<Tensor = T>>(
        self,
        b: &B,
        rows: &Rows,
    ) -> Result<Reserved<'a, T>> {
        for (id, start) in self.sequences.iter().zip(starts(rows)) {
            let held = self.cache.length(*id)?;
            if let Some(position) = start
                && position != held
            {
                return Err(Error::Cache {
                    expected: "a step that continues its sequence",
                    got: format!("position {position} where {held} tokens are held"),
                });
            }
        }
        self.revisit(b, rows)
    }

    /// As [`Self::reserve`], for a layer that comes after the model's own: its rows are at positions
    /// whose tokens the cache holds already, or follow such rows.
    pub(crate) fn revisit<B: Backend<Tensor = T>>(
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
        let is_ascending = |pair: &[SequenceId]| pair.first() < pair.last();
        if !sequences.windows(2).all(is_ascending) {
            let mut sorted = sequences.to_vec();
            sorted.sort_unstable();
            if !sorted.windows(2).all(is_ascending) {
                return refuse("each sequence once in a step", format!("{sequences:?}"));
            }
        }
        let mut plan = Plan::new(cache.settings.page_rows, rows);
        for ((id, range), start) in sequences.iter().zip(rows.ranges()).zip(starts(rows)) {
            let start = start.unwrap_or(cache.length(*id)?);
            plan.is_fresh &= start == 0;
            let length = u32::try_from(range.len()).unwrap_or(u32::MAX);
            cache.extend(b, *id, (start, length))?;
            plan.push(cache, *id, (start as usize, range.len()))?;
        }
        Ok(Reserved {
            cache,
            sequences,
            plan,
        })
    }
}

/// The first position of each sequence of a step; none where it has no rows.
fn starts(rows: &Rows) -> impl Iterator<Item = Option<u32>> + '_ {
    let first = |range: Range<usize>| rows.positions().get(range).and_then(<[u32]>::first);
    rows.ranges().map(move |range| first(range).copied())
}

/// Where a step's rows go and what they see.
#[derive(Debug)]
struct Plan {
    slots: Vec<u32>,
    pages: Pages,
    is_fresh: bool,
}

impl Plan {
    fn new(page_rows: usize, rows: &Rows) -> Self {
        let n_sequences = rows.n_sequences();
        Self {
            slots: Vec::with_capacity(rows.n_rows()),
            pages: Pages {
                page_rows,
                tables: Vec::with_capacity(n_sequences),
                lengths: Vec::with_capacity(n_sequences),
            },
            is_fresh: true,
        }
    }

    /// Adds a sequence that goes on at row `start` for `length` rows, which it has pages for.
    fn push<T: Clone>(
        &mut self,
        cache: &Cache<T>,
        id: SequenceId,
        (start, length): (usize, usize),
    ) -> Result<()> {
        let page_rows = self.pages.page_rows;
        let end = start + length;
        let table = &cache.sequence(id)?.pages;
        for (index, page) in table.iter().enumerate().skip(start / page_rows) {
            let page_start = index * page_rows;
            let first = start.max(page_start).min(end);
            let last = end.min(page_start + page_rows).max(first);
            let rows = first.saturating_sub(page_start)..last.saturating_sub(page_start);
            if !rows.is_empty() {
                self.slots.extend(cache.page_rows_of(*page, rows));
            }
        }
        self.pages.tables.push(table.clone());
        self.pages
            .lengths
            .push(u32::try_from(end).unwrap_or(u32::MAX));
        Ok(())
    }
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
