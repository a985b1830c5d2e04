//! The least that generation must do, as the meter counts it: products and attention, and the bytes
//! of weights and cache that are read once a step. Measured speeds are held against it.

use anyhow::Context;
use frugal_core::backend::KeyBits;
use frugal_core::dtype::DType;
use frugal_core::meter::{Ghost, Meter, Price};
use frugal_core::quant::Format;
use frugal_core::shape::Rows;
use frugal_model::cache::{Cache, CacheKind, CacheSettings, Cached, SequenceId};
use frugal_model::config::ModelConfig;
use frugal_model::params::{Params, Role, Spec};
use frugal_model::transformer::{self, Model, Step};

use crate::device::Limits;

/// Rows of a cache page; the last page of a sequence is half empty on average.
const PAGE_ROWS: usize = 16;

/// A parameter that a step reads.
pub(super) struct Part {
    pub(super) bytes: f64,
    pub(super) format: Format,
    pub(super) is_expert: bool,
}

/// What a step of many rows reads of the weights.
pub(super) fn parts_read(
    config: &ModelConfig,
    formats: &Params<(Spec, Format)>,
) -> anyhow::Result<Vec<Part>> {
    let extra = format!("model.layers.{}.", config.num_hidden_layers);
    let mut parts = Vec::new();
    for (spec, format) in formats.leaves() {
        // A look-up reads a row of the table, not the table.
        let is_table = spec.role == Role::Embedding && !config.tie_word_embeddings;
        if !is_table && !spec.name.starts_with(&extra) {
            parts.push(Part {
                bytes: format.bytes(spec.shape)? as f64,
                format: *format,
                is_expert: spec.role == Role::Experts,
            });
        }
    }
    Ok(parts)
}

/// How much of a layer's experts takes part.
pub(super) struct Share {
    /// Share of the experts that one token chooses.
    chosen: f64,
}

impl Share {
    pub(super) fn of(config: &ModelConfig) -> Self {
        let chosen = config.moe.map_or(1.0, |moe| {
            moe.num_experts_per_tok as f64 / moe.n_routed_experts.max(1) as f64
        });
        Self { chosen }
    }

    /// Share of the experts that some of so many rows choose, if they choose evenly.
    pub(super) fn of_rows(&self, rows: usize) -> f64 {
        1.0 - (1.0 - self.chosen).powf(rows as f64)
    }

    /// Rows of a prompt that each expert sees, as a share of the prompt: all of them read, each
    /// multiplied by fewer rows. Decoding an expert's weights costs the same for one row as for many.
    pub(super) fn rows_of_each(&self) -> f64 {
        self.chosen.max(0.5)
    }
}

/// Some sequences of a model as shapes, with a cache.
pub(super) struct Shadow {
    pub(super) meter: Meter,
    model: Model<Ghost>,
    cache: Cache<Ghost>,
    sequences: Vec<SequenceId>,
    pub(super) weight_bytes: u64,
}

impl Shadow {
    pub(super) fn new(
        config: &ModelConfig,
        formats: &Params<(Spec, Format)>,
        (n_sequences, context): (usize, usize),
        (bits, keys): (KeyBits, DType),
    ) -> anyhow::Result<Self> {
        let meter = Meter::new().with_keys_in(keys);
        let params = formats.try_map(|(spec, format)| meter.hold(spec.shape, *format))?;
        let weight_bytes = meter.live_bytes();
        let model = Model::new(&meter, config.clone(), params, context.max(2))?;
        let settings = CacheSettings {
            kind: CacheKind::smallest(config),
            bits,
            page_rows: PAGE_ROWS,
            max_pages: n_sequences * (context.div_ceil(PAGE_ROWS) + 1),
        };
        let mut cache = Cache::new(&meter, config, settings)?;
        let sequences = (0..n_sequences).map(|_| cache.open());
        Ok(Self {
            sequences: sequences.collect::<Result<_, _>>()?,
            meter,
            model,
            cache,
            weight_bytes,
        })
    }

    /// The price of the next `n` tokens of each sequence, without the head.
    pub(super) fn step(&mut self, n: usize) -> anyhow::Result<Price> {
        let length = u32::try_from(n).context("a conversation of so many tokens")?;
        let lengths = vec![length; self.sequences.len()];
        let starts = self.sequences.iter().map(|s| self.cache.length(*s));
        let rows = Rows::new(&lengths, &starts.collect::<Result<Vec<_>, _>>()?)?;
        self.meter.reset();
        let cached = Cached {
            cache: &mut self.cache,
            sequences: &self.sequences,
        };
        let ids = vec![0; n * lengths.len()];
        let step = Step {
            ids: &ids,
            rows: &rows,
        };
        transformer::hidden(&self.meter, &self.model, &step, Some(cached))?;
        Ok(self.meter.price())
    }
}

/// The least that must be done: products and attention, and bytes that must be read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    pub(crate) flops: f64,
    pub(crate) bytes: f64,
}

impl Work {
    /// Seconds that it takes at least: the longer of the two, since they go on side by side.
    pub(crate) fn seconds(self, limits: Limits) -> f64 {
        (self.flops / limits.flops).max(self.bytes / limits.bytes)
    }
}

/// Sequences that are generated side by side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    pub(crate) n: usize,
    /// Tokens each begins with.
    pub(crate) prompt: usize,
    /// Tokens each gets.
    pub(crate) tokens: usize,
}

/// What generation must do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Generation {
    /// For all prompts and the head's answer to the last row of each.
    pub(crate) prefill: Work,
    /// For one more token of each stream, half way.
    pub(crate) step: Work,
    /// Bytes of weights and of the cache at the end.
    pub(crate) held_bytes: u64,
}

/// What generation must do with a model whose parameters are stored in `formats`, keys and values in
/// `keys` (the format is that of products): the weights that some row needs are read once a step, experts as evenly chosen, and so is
/// the cache.
pub(crate) fn generation(
    config: &ModelConfig,
    formats: &Params<(Spec, Format)>,
    of: Streams,
    keys: (KeyBits, DType),
) -> anyhow::Result<Generation> {
    let context = of.prompt + of.tokens + 2;
    let mut shadow = Shadow::new(config, formats, (of.n, context), keys)?;
    let prefill = shadow.step(of.prompt)?;
    let first = shadow.step(1)?;
    let half = (of.tokens / 2).max(1);
    shadow.step(half)?;
    let later = shadow.step(1)?;
    // Two steps of one row differ in what they read of the cache alone, unless the first was the one
    // for which the store grew: then what is read of it counts as nothing.
    let cache_per_token = later.bytes.saturating_sub(first.bytes) as f64 / (half + 1) as f64;
    let head = (2 * config.vocab_size * config.hidden_size * of.n) as f64;
    let parts = parts_read(config, formats)?;
    let experts = Share::of(config);
    let work = |price: &Price, rows: usize, held: usize| Work {
        flops: price.model_flops() as f64 + head,
        bytes: parts
            .iter()
            .map(|part| {
                part.bytes
                    * if part.is_expert {
                        experts.of_rows(rows)
                    } else {
                        1.0
                    }
            })
            .sum::<f64>()
            + cache_per_token * held as f64,
    };
    Ok(Generation {
        prefill: work(&prefill, of.n * of.prompt, 0),
        step: work(&later, of.n, of.prompt + half),
        held_bytes: shadow.meter.live_bytes(),
    })
}
