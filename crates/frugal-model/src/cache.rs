//! The paged cache of keys and values.
//!
//! A sequence is a list of pages of equal size; page p is rows `p * page_rows ..` of one store a
//! layer. Sequences that begin alike share pages: [`Cache::fork`] copies page numbers only, and the
//! first of several owners to write into a shared page copies that page. The stores grow by
//! doubling up to a limit, so memory follows use.
//!
//! Attention sees a layer's store through [`LayerCache`]; nothing here knows what the rows mean.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use frugal_core::backend::{Backend, Context, Pages};
use frugal_core::shape::{Rows, Shape};

use crate::config::{AttentionConfig, ModelConfig};
use crate::error::{Error, Result};

/// What a cache keeps of each token and layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// MLA's latent and rotated key part, C + R numbers: attention is absorbed.
    Latent,
    /// MLA's keys and values of each head: attention is naive, as in training.
    Expanded,
    /// Keys and values of grouped-query attention.
    Grouped,
}

impl CacheKind {
    /// The smallest kind that fits a model.
    pub const fn smallest(config: &ModelConfig) -> Self {
        match config.attention {
            AttentionConfig::Mla(_) => Self::Latent,
            AttentionConfig::Gqa(_) => Self::Grouped,
        }
    }

    /// The kind over which attention computes what it computes in training, in the same order.
    pub const fn as_trained(config: &ModelConfig) -> Self {
        match config.attention {
            AttentionConfig::Mla(_) => Self::Expanded,
            AttentionConfig::Gqa(_) => Self::Grouped,
        }
    }

    /// Columns of a layer's stores.
    fn widths(self, config: &ModelConfig) -> Result<(usize, Option<usize>)> {
        let heads = config.num_attention_heads;
        match (self, &config.attention) {
            (Self::Latent, AttentionConfig::Mla(mla)) => {
                Ok((mla.kv_lora_rank + mla.qk_rope_head_dim, None))
            }
            (Self::Expanded, AttentionConfig::Mla(mla)) => Ok((
                heads * (mla.qk_nope_head_dim + mla.v_head_dim),
                Some(mla.qk_rope_head_dim),
            )),
            (Self::Grouped, AttentionConfig::Gqa(gqa)) => {
                let width = gqa.num_key_value_heads * gqa.head_dim;
                Ok((width, Some(width)))
            }
            (got, AttentionConfig::Mla(_)) => Err(Error::CacheKind {
                expected: "latent or expanded",
                got,
            }),
            (got, AttentionConfig::Gqa(_)) => Err(Error::CacheKind {
                expected: "grouped",
                got,
            }),
        }
    }
}

/// How a cache is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// What it keeps.
    pub kind: CacheKind,
    /// Rows of a page.
    pub page_rows: usize,
    /// The most pages it may grow to.
    pub max_pages: usize,
}

/// A sequence in a cache. Valid until freed; the number is then used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SequenceId(u32);

/// Which pages are free, and how many owners the others have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagePool {
    owners: Vec<u32>,
    free: Vec<u32>,
}

impl PagePool {
    /// A pool without pages.
    pub const fn new() -> Self {
        Self {
            owners: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Pages that exist.
    pub fn n_pages(&self) -> usize {
        self.owners.len()
    }

    /// Pages with an owner.
    pub fn in_use(&self) -> usize {
        self.owners.len() - self.free.len()
    }

    /// Adds free pages up to `n_pages`; the lowest numbers are taken first.
    fn grow(&mut self, n_pages: usize) {
        let old = self.owners.len();
        self.owners.resize(n_pages.max(old), 0);
        let added = (old..self.owners.len()).rev();
        let mut free: Vec<u32> = added.filter_map(|page| u32::try_from(page).ok()).collect();
        free.append(&mut self.free);
        self.free = free;
    }

    fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.share(page);
        Some(page)
    }

    fn share(&mut self, page: u32) {
        if let Some(owners) = self.owners.get_mut(page as usize) {
            *owners += 1;
        }
    }

    fn release(&mut self, page: u32) {
        if let Some(owners) = self.owners.get_mut(page as usize) {
            *owners = owners.saturating_sub(1);
            if *owners == 0 {
                self.free.push(page);
            }
        }
    }

    fn is_shared(&self, page: u32) -> bool {
        self.owners
            .get(page as usize)
            .is_some_and(|owners| *owners > 1)
    }
}

impl Default for PagePool {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, Clone, Default)]
struct Sequence {
    pages: Vec<u32>,
    length: u32,
}

#[derive(Debug, Clone)]
struct Store<T> {
    first: T,
    second: Option<T>,
}

/// Keys and values of many sequences, for all layers of a model.
#[derive(Debug, Clone)]
pub struct Cache<T> {
    settings: CacheSettings,
    widths: (usize, Option<usize>),
    layers: Vec<Store<T>>,
    pool: PagePool,
    sequences: Vec<Option<Sequence>>,
}

impl<T: Clone> Cache<T> {
    /// An empty cache for a model.
    ///
    /// # Errors
    /// If the kind does not fit the model's attention, or a page has no rows.
    pub fn new<B: Backend<Tensor = T>>(
        b: &B,
        config: &ModelConfig,
        settings: CacheSettings,
    ) -> Result<Self> {
        let widths = settings.kind.widths(config)?;
        let rows = settings.page_rows.checked_mul(settings.max_pages);
        if settings.page_rows == 0 || rows.is_none_or(|rows| u32::try_from(rows).is_err()) {
            return Err(Error::Cache {
                expected: "pages of at least one row, in all no more than 32 bits can number",
                got: format!(
                    "{} pages of {} rows",
                    settings.max_pages, settings.page_rows
                ),
            });
        }
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for _ in 0..config.num_hidden_layers {
            let zeros = |width| b.zeros(Shape::matrix(0, width));
            layers.push(Store {
                first: zeros(widths.0)?,
                second: widths.1.map(zeros).transpose()?,
            });
        }
        Ok(Self {
            settings,
            widths,
            layers,
            pool: PagePool::new(),
            sequences: Vec::new(),
        })
    }

    /// The pages and their owners.
    pub const fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// What it keeps.
    pub const fn settings(&self) -> &CacheSettings {
        &self.settings
    }

    /// Begins an empty sequence.
    ///
    /// # Errors
    /// If more sequences are open than 32 bits can number.
    pub fn open(&mut self) -> Result<SequenceId> {
        self.insert(Sequence::default())
    }

    /// A second sequence that begins like `id` and shares its pages.
    ///
    /// # Errors
    /// If `id` is not open.
    pub fn fork(&mut self, id: SequenceId) -> Result<SequenceId> {
        let copy = self.sequence(id)?.clone();
        for page in &copy.pages {
            self.pool.share(*page);
        }
        self.insert(copy)
    }

    /// Ends a sequence and gives back its pages.
    ///
    /// # Errors
    /// If `id` is not open.
    pub fn free(&mut self, id: SequenceId) -> Result<()> {
        let slot = self.sequences.get_mut(id.0 as usize);
        let sequence = slot.and_then(Option::take).ok_or_else(|| not_open(id))?;
        for page in sequence.pages {
            self.pool.release(page);
        }
        Ok(())
    }

    /// Ends all sequences.
    pub fn clear(&mut self) {
        for sequence in core::mem::take(&mut self.sequences).into_iter().flatten() {
            for page in sequence.pages {
                self.pool.release(page);
            }
        }
    }

    /// How many tokens a sequence holds.
    ///
    /// # Errors
    /// If `id` is not open.
    pub fn length(&self, id: SequenceId) -> Result<u32> {
        Ok(self.sequence(id)?.length)
    }

    fn insert(&mut self, sequence: Sequence) -> Result<SequenceId> {
        let vacant = self.sequences.iter().position(Option::is_none);
        let index = vacant.unwrap_or(self.sequences.len());
        let id = u32::try_from(index).map_err(|_| Error::Cache {
            expected: "fewer sequences than 32 bits can number",
            got: format!("{index}"),
        })?;
        match self.sequences.get_mut(index) {
            Some(slot) => *slot = Some(sequence),
            None => self.sequences.push(Some(sequence)),
        }
        Ok(SequenceId(id))
    }

    fn sequence(&self, id: SequenceId) -> Result<&Sequence> {
        let slot = self.sequences.get(id.0 as usize).and_then(Option::as_ref);
        slot.ok_or_else(|| not_open(id))
    }

    fn sequence_mut(&mut self, id: SequenceId) -> Result<&mut Sequence> {
        let slot = self
            .sequences
            .get_mut(id.0 as usize)
            .and_then(Option::as_mut);
        slot.ok_or_else(|| not_open(id))
    }

    /// Makes room for `length` more rows of a sequence: copies a shared last page, adds pages.
    fn extend<B: Backend<Tensor = T>>(&mut self, b: &B, id: SequenceId, length: u32) -> Result<()> {
        let page_rows = self.settings.page_rows;
        let held = self.length(id)? as usize;
        let begun = held / page_rows;
        let shared = self.sequence(id)?.pages.get(begun).copied();
        if let Some(old) = shared.filter(|page| length > 0 && self.pool.is_shared(*page)) {
            let new = self.take_page(b)?;
            self.copy_page(b, old, new, held % page_rows)?;
            self.pool.release(old);
            if let Some(page) = self.sequence_mut(id)?.pages.get_mut(begun) {
                *page = new;
            }
        }
        let needed = (held + length as usize).div_ceil(page_rows);
        while self.sequence(id)?.pages.len() < needed {
            let page = self.take_page(b)?;
            self.sequence_mut(id)?.pages.push(page);
        }
        Ok(())
    }

    fn take_page<B: Backend<Tensor = T>>(&mut self, b: &B) -> Result<u32> {
        if self.pool.in_use() == self.pool.n_pages() {
            self.grow(b)?;
        }
        self.pool.take().ok_or(Error::CacheFull {
            max_pages: self.settings.max_pages,
            page_rows: self.settings.page_rows,
        })
    }

    fn copy_page<B: Backend<Tensor = T>>(
        &mut self,
        b: &B,
        old: u32,
        new: u32,
        n_rows: usize,
    ) -> Result<()> {
        let from = self.page_rows_of(old, 0..n_rows);
        let to = self.page_rows_of(new, 0..n_rows);
        for store in &mut self.layers {
            b.copy_rows(&mut store.first, &from, &to)?;
            if let Some(second) = &mut store.second {
                b.copy_rows(second, &from, &to)?;
            }
        }
        Ok(())
    }

    /// Row numbers in the store. They fit: the constructor bounds pages times rows to 32 bits.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the constructor"
    )]
    fn page_rows_of(&self, page: u32, rows: core::ops::Range<usize>) -> Vec<u32> {
        let begin = page as usize * self.settings.page_rows;
        rows.map(|row| (begin + row) as u32).collect()
    }

    /// Doubles the stores, up to the limit.
    fn grow<B: Backend<Tensor = T>>(&mut self, b: &B) -> Result<()> {
        let old = self.pool.n_pages();
        let new = (2 * old).max(8).min(self.settings.max_pages);
        if new <= old {
            return Ok(());
        }
        let kept: Vec<u32> =
            (0..u32::try_from(old * self.settings.page_rows).unwrap_or(0)).collect();
        let n_rows = new * self.settings.page_rows;
        let larger = |store: &T, width: usize| -> Result<T> {
            let mut grown = b.zeros(Shape::matrix(n_rows, width))?;
            b.append(&mut grown, &b.gather(store, &kept)?, &kept)?;
            Ok(grown)
        };
        for store in &mut self.layers {
            store.first = larger(&store.first, self.widths.0)?;
            if let (Some(second), Some(width)) = (&mut store.second, self.widths.1) {
                *second = larger(second, width)?;
            }
        }
        self.pool.grow(new);
        Ok(())
    }
}

fn not_open(id: SequenceId) -> Error {
    Error::Cache {
        expected: "an open sequence",
        got: format!("sequence {}", id.0),
    }
}

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
