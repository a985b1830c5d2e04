//! The paged cache of keys and values.
//!
//! A sequence is a list of pages of equal size; page p is rows `p * page_rows ..` of one store a
//! layer. Sequences that begin alike share pages: [`Cache::fork`] copies page numbers only, and the
//! first of several owners to write into a shared page copies that page. The stores grow by
//! doubling up to a limit, so memory follows use.
//!
//! Attention sees a layer's store through `LayerCache` (`cache/step.rs`); nothing here knows what
//! the rows mean.

use alloc::format;
use alloc::vec::Vec;

use frugal_core::backend::{Backend, KeyBits, KeyStore};
use frugal_core::meter::Meter;

use crate::config::{AttentionConfig, ModelConfig};
use crate::error::{Error, Result};

mod pool;
mod step;

pub use pool::PagePool;
pub use step::Cached;
pub(crate) use step::LayerCache;

/// What a cache keeps of each token and layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// MLA's latent and rotated key part, C + R numbers: attention is absorbed, but naive in a step
    /// whose sequences all begin in it, which is faster for long prompts.
    Latent,
    /// The same numbers, and attention is absorbed in every step: what a row gives does not depend
    /// on where its prompt was cut, nor on who else is in the step.
    Absorbed,
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

    /// As small, and each row's result a matter of its own sequence alone.
    pub const fn for_company(config: &ModelConfig) -> Self {
        match config.attention {
            AttentionConfig::Mla(_) => Self::Absorbed,
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

    /// Columns of a layer's stores, those of parts whose numbers differ in size apart.
    fn parts(self, config: &ModelConfig) -> Result<Parts> {
        let heads = config.num_attention_heads;
        match (self, &config.attention) {
            (Self::Latent | Self::Absorbed, AttentionConfig::Mla(mla)) => {
                Ok(([mla.kv_lora_rank, mla.qk_rope_head_dim], None))
            }
            (Self::Expanded, AttentionConfig::Mla(mla)) => Ok((
                [heads * (mla.qk_nope_head_dim + mla.v_head_dim), 0],
                Some([mla.qk_rope_head_dim, 0]),
            )),
            (Self::Grouped, AttentionConfig::Gqa(gqa)) => {
                let width = gqa.num_key_value_heads * gqa.head_dim;
                Ok(([width, 0], Some([width, 0])))
            }
            (got, AttentionConfig::Mla(_)) => Err(Error::CacheKind {
                expected: "latent, absorbed or expanded",
                got,
            }),
            (got, AttentionConfig::Gqa(_)) => Err(Error::CacheKind {
                expected: "grouped",
                got,
            }),
        }
    }
}

/// Columns of the first store of a layer and of the second.
type Parts = ([usize; 2], Option<[usize; 2]>);

/// How a cache is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// What it keeps.
    pub kind: CacheKind,
    /// How precisely. What is computed from rows that are not read back from the cache (MLA's of a
    /// sequence that begins) is not rounded.
    pub bits: KeyBits,
    /// Rows of a page.
    pub page_rows: usize,
    /// The most pages it may grow to.
    pub max_pages: usize,
}

impl CacheSettings {
    const fn store(&self, rows: usize, parts: [usize; 2]) -> KeyStore {
        let bits = self.bits;
        KeyStore { rows, parts, bits }
    }
}

impl CacheSettings {
    /// Bytes of a page over all layers of a model, on a back-end that keeps keys as this meter does.
    ///
    /// # Errors
    /// If the kind does not fit the model's attention.
    pub fn page_bytes(&self, meter: &Meter, config: &ModelConfig) -> Result<u64> {
        let (first, second) = self.kind.parts(config)?;
        let before = meter.live_bytes();
        let store = |parts| meter.key_store(&self.store(self.page_rows, parts));
        let _held = (store(first)?, second.map(store).transpose()?);
        let of_a_layer = meter.live_bytes() - before;
        Ok(of_a_layer * config.num_hidden_layers as u64)
    }
}

/// A sequence in a cache. Valid until freed; the number is then used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SequenceId(u32);

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
    parts: Parts,
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
        Self::of_layers(b, config, settings, config.num_hidden_layers)
    }

    /// A cache of more layers than the model's own: those that draft.
    pub(crate) fn of_layers<B: Backend<Tensor = T>>(
        b: &B,
        config: &ModelConfig,
        settings: CacheSettings,
        n_layers: usize,
    ) -> Result<Self> {
        let parts = settings.kind.parts(config)?;
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
        let mut layers = Vec::with_capacity(n_layers);
        for _ in 0..n_layers {
            let empty = |parts| b.key_store(&settings.store(0, parts));
            layers.push(Store {
                first: empty(parts.0)?,
                second: parts.1.map(empty).transpose()?,
            });
        }
        Ok(Self {
            settings,
            parts,
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
        let mut copy = self.sequence(id)?.clone();
        // A step that failed may have left pages beyond the length; those stay with their owner.
        let used = (copy.length as usize).div_ceil(self.settings.page_rows);
        copy.pages.truncate(used);
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

    /// Forgets what a sequence holds beyond its first `length` tokens.
    ///
    /// # Errors
    /// If `id` is not open or holds fewer tokens.
    pub fn truncate(&mut self, id: SequenceId, length: u32) -> Result<()> {
        let page_rows = self.settings.page_rows;
        let sequence = self.sequence_mut(id)?;
        if length > sequence.length {
            return Err(Error::Cache {
                expected: "a length that the sequence has reached",
                got: format!("{length} of {}", sequence.length),
            });
        }
        sequence.length = length;
        let kept = (length as usize)
            .div_ceil(page_rows)
            .min(sequence.pages.len());
        for page in sequence.pages.split_off(kept) {
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

    /// Pages that can still be taken.
    pub fn vacant_pages(&self) -> usize {
        self.settings.max_pages - self.pool.in_use()
    }

    /// Pages that a step would take for rows `start..start + length` of a sequence.
    ///
    /// # Errors
    /// If `id` is not open.
    pub fn pages_for(&self, id: SequenceId, start: u32, length: u32) -> Result<usize> {
        let pages = &self.sequence(id)?.pages;
        let is_taken = |index: &usize| {
            let page = pages.get(*index);
            page.is_none_or(|page| self.pool.is_shared(*page))
        };
        Ok(self.touched(start, length).filter(is_taken).count())
    }

    /// The pages of a sequence, by their place in it, that rows `start..start + length` lie in.
    fn touched(&self, start: u32, length: u32) -> core::ops::Range<usize> {
        let page_rows = self.settings.page_rows;
        let (start, length) = (start as usize, length as usize);
        let first = start / page_rows;
        let end = (start + length).div_ceil(page_rows);
        first..if length == 0 { first } else { end }
    }

    /// Makes rows `start..start + length` of a sequence its own, `start` no later than its end:
    /// copies pages that others share, adds pages.
    fn extend<B: Backend<Tensor = T>>(
        &mut self,
        b: &B,
        id: SequenceId,
        (start, length): (u32, u32),
    ) -> Result<()> {
        let page_rows = self.settings.page_rows;
        let held = self.length(id)? as usize;
        for index in self.touched(start, length) {
            match self.sequence(id)?.pages.get(index).copied() {
                None => {
                    let page = self.take_page(b)?;
                    self.sequence_mut(id)?.pages.push(page);
                }
                Some(old) if self.pool.is_shared(old) => {
                    let new = self.take_page(b)?;
                    let n_rows = held.saturating_sub(index * page_rows).min(page_rows);
                    self.copy_page(b, old, new, n_rows)?;
                    self.pool.release(old);
                    if let Some(page) = self.sequence_mut(id)?.pages.get_mut(index) {
                        *page = new;
                    }
                }
                Some(_) => {}
            }
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
        let from: Vec<u32> = self.page_rows_of(old, 0..n_rows).collect();
        let to: Vec<u32> = self.page_rows_of(new, 0..n_rows).collect();
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
    fn page_rows_of(
        &self,
        page: u32,
        rows: core::ops::Range<usize>,
    ) -> impl Iterator<Item = u32> + use<T> {
        let begin = page as usize * self.settings.page_rows;
        rows.map(move |row| (begin + row) as u32)
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
        let settings = self.settings;
        let larger = |store: &T, parts: [usize; 2]| -> Result<T> {
            let mut grown = b.key_store(&settings.store(n_rows, parts))?;
            b.append(&mut grown, &b.gather(store, &kept)?, &kept)?;
            Ok(grown)
        };
        for store in &mut self.layers {
            store.first = larger(&store.first, self.parts.0)?;
            if let (Some(second), Some(parts)) = (&mut store.second, self.parts.1) {
                *second = larger(second, parts)?;
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
