//! Samples of a model, drawn on the weights that train: nothing is copied. For reinforcement learning
//! the cache keeps keys and values as training computes them, so that a token's log-probability is
//! the trainer's; elsewhere the latent, which is read faster.

use std::ops::ControlFlow;

use frugal_core::backend::{Backend, KeyBits, Sampling, TrainBackend};
use frugal_core::meter::Meter;
use frugal_core::shape::Rows;
use frugal_model::cache::{CacheKind, CacheSettings};
use frugal_model::config::ModelConfig;
use frugal_model::generate::{Batch, Drafting, Generator, GeneratorSettings, Request, Sample};
use frugal_model::transformer::{self, Model, Step};

use crate::error::Result;
use crate::learner::ghost_model;

/// Samples continued together: enough to fill the products of a small model.
const MAX_SEQUENCES: usize = 512;

/// Prompt rows computed together.
const PREFILL_ROWS: usize = 4096;

/// Rows of a cache page.
const PAGE_ROWS: usize = 16;

/// A prompt, how often it is continued, and the name of its random numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Continuations.
    pub n_samples: usize,
    /// Names the stream of random numbers of its samples.
    pub seed: u64,
}

/// How samples are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// How a token is drawn.
    pub sampling: Sampling,
    /// Most tokens of a sample.
    pub max_new_tokens: usize,
    /// A sample ends with the first of these.
    pub stop: Vec<u32>,
}

/// What a call brought and cost.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rollout {
    /// For each prompt its samples, in order.
    pub samples: Vec<Vec<Sample>>,
    /// Tokens drawn.
    pub tokens: u64,
    /// Model FLOPs, prompts computed once.
    pub flops: u64,
}

/// What the cache keeps of an MLA model's tokens; grouped-query models have one form only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// Keys and values as training computes them: a token's log-probability is the trainer's, bit
    /// for bit.
    AsTrained,
    /// The latent: several times less to read, and the log-probabilities agree up to the rounding of
    /// the absorbed products.
    Latent,
}

/// Draws samples of models of one config.
#[derive(Debug)]
pub struct Roller<'b, B: TrainBackend> {
    backend: &'b B,
    generator: Generator<B::Tensor>,
}

impl<'b, B: TrainBackend> Roller<'b, B> {
    /// A roller for models of `config` run at up to `n_positions` positions.
    ///
    /// # Errors
    /// If the cache does not fit the model.
    pub fn new(
        backend: &'b B,
        config: &ModelConfig,
        n_positions: usize,
        cached: Cached,
    ) -> Result<Self> {
        let settings = GeneratorSettings {
            cache: CacheSettings {
                bits: KeyBits::AsProducts,
                kind: match cached {
                    Cached::AsTrained => CacheKind::as_trained(config),
                    Cached::Latent => CacheKind::smallest(config),
                },
                page_rows: PAGE_ROWS,
                // Each sequence its own pages, and each prompt those it shares.
                max_pages: 2 * MAX_SEQUENCES * n_positions.div_ceil(PAGE_ROWS),
            },
            max_sequences: MAX_SEQUENCES,
            prefill_rows: PREFILL_ROWS,
            // So many sequences fill the products without drafts.
            drafting: Drafting::None,
        };
        Ok(Self {
            backend,
            generator: Generator::new(backend, config, settings)?,
        })
    }

    /// Continues every prompt.
    ///
    /// # Errors
    /// If a prompt is too long, or asks for more samples than are continued together.
    pub fn sample(
        &mut self,
        model: &Model<B::Tensor>,
        prompts: &[Prompt],
        draw: &Draw,
    ) -> Result<Rollout> {
        let requests: Vec<Request<'_>> = prompts
            .iter()
            .map(|p| Request {
                ids: &p.ids,
                n_samples: p.n_samples,
                seed: p.seed,
            })
            .collect();
        let batch = Batch {
            requests: &requests,
            sampling: draw.sampling,
            max_new_tokens: draw.max_new_tokens,
            stop: &draw.stop,
        };
        let samples = self
            .generator
            .generate(self.backend, model, &batch, &mut |_| {
                ControlFlow::Continue(())
            })?;
        let tokens = samples.iter().flatten().map(|s| s.ids.len() as u64).sum();
        let flops = flops(&model.config, prompts, &samples)?;
        Ok(Rollout {
            samples,
            tokens,
            flops,
        })
    }
}

/// What sampling cost: a token computed with a cache meets the same products and the same pairs as
/// a row of the whole sequence does, so the price is that of the sequences, with a prompt that
/// several samples share counted once, and of one row of the head for each token drawn.
fn flops(config: &ModelConfig, prompts: &[Prompt], samples: &[Vec<Sample>]) -> Result<u64> {
    let mut lengths = Vec::new();
    let mut shared = Vec::new();
    let mut drawn = 0usize;
    for (prompt, samples) in prompts.iter().zip(samples) {
        for (index, sample) in samples.iter().enumerate() {
            // The last token is drawn but never computed.
            lengths.push(row_count(
                prompt.ids.len() + sample.ids.len().saturating_sub(1),
            ));
            drawn += sample.ids.len();
            if index > 0 {
                shared.push(row_count(prompt.ids.len()));
            }
        }
    }
    let longest = lengths.iter().max().map_or(1, |n| *n as usize);
    let meter = Meter::new();
    let model = ghost_model(&meter, config, longest)?;
    let price = |lengths: &[u32]| -> Result<u64> {
        let rows = Rows::packed(lengths)?;
        let ids = vec![0; rows.n_rows()];
        meter.reset();
        transformer::hidden(
            &meter,
            &model,
            &Step {
                ids: &ids,
                rows: &rows,
            },
            None,
        )?;
        Ok(meter.price().model_flops())
    };
    let head = meter.shape(transformer::head(&model));
    let head_flops = 2 * (drawn * head.rows() * head.cols()) as u64;
    Ok(price(&lengths)?.saturating_sub(price(&shared)?) + head_flops)
}

fn row_count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}
