//! Generation: many prompts, several samples each, on given weights, with a cache.
//!
//! A prompt is computed once and its samples share its pages. Samples retire as they end and
//! waiting prompts take their place. Each token is decided by a uniform number derived from
//! (request seed, sample, position), so that a sample does not depend on what else is in the
//! batch. Token ids in, token ids out: text is made elsewhere.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::ops::ControlFlow;

use frugal_core::backend::{Backend, Picked, Sampling};
use frugal_core::rng::{Rng, key};
use frugal_core::shape::Rows;

use crate::cache::{Cache, CacheSettings, Cached, SequenceId};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::transformer::{self, Model, Step};

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
    /// ln p of each, as [`Picked::log_probs`].
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
}

/// A cache and what is needed to fill it. Reused from call to call, also when weights change.
#[derive(Debug)]
pub struct Generator<T> {
    cache: Cache<T>,
    settings: GeneratorSettings,
}

/// A sample under way.
struct Live {
    request: usize,
    sample: usize,
    sequence: SequenceId,
    last_id: u32,
}

/// The state of one call.
struct Run<'a, B: Backend> {
    b: &'a B,
    model: &'a Model<B::Tensor>,
    batch: &'a Batch<'a>,
    samples: Vec<Vec<Sample>>,
    live: Vec<Live>,
    begun: usize,
}

impl<T: Clone + Debug> Generator<T> {
    /// A generator for models of one config.
    ///
    /// # Errors
    /// If the cache does not fit the model.
    pub fn new<B: Backend<Tensor = T>>(
        b: &B,
        config: &ModelConfig,
        settings: GeneratorSettings,
    ) -> Result<Self> {
        let cache = Cache::new(b, config, settings.cache)?;
        Ok(Self { cache, settings })
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
        let empty = |request: &Request<'_>| vec![Sample::default(); request.n_samples];
        let mut run = Run {
            b,
            model,
            batch,
            samples: batch.requests.iter().map(empty).collect(),
            live: Vec::new(),
            begun: 0,
        };
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
            if on_step(progress).is_break() {
                self.cache.clear();
                return Err(Error::Interrupted);
            }
        }
        Ok(run.samples)
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

impl<B: Backend> Run<'_, B> {
    /// Computes the next prompts and draws the first token of their samples.
    fn prefill(&mut self, cache: &mut Cache<B::Tensor>, n_requests: usize) -> Result<usize> {
        let first = self.begun;
        let requests = self.batch.requests.iter().skip(first).take(n_requests);
        let mut ids = Vec::new();
        let mut lengths = Vec::new();
        let mut prompts = Vec::new();
        let mut last_rows = Vec::new();
        for request in requests.clone() {
            ids.extend_from_slice(request.ids);
            lengths.push(row_number(request.ids.len())?);
            last_rows.push(row_number(ids.len() - 1)?);
            prompts.push(cache.open()?);
        }
        let rows = Rows::packed(&lengths)?;
        let logits = self.logits(cache, &ids, &rows, &prompts, Some(&last_rows))?;
        let mut rows_of_samples = Vec::new();
        let mut drawn = Vec::new();
        for ((offset, request), prompt) in requests.enumerate().zip(&prompts) {
            for sample in 0..request.n_samples {
                rows_of_samples.push(row_number(offset)?);
                drawn.push(Live {
                    request: first + offset,
                    sample,
                    sequence: cache.fork(*prompt)?,
                    last_id: 0,
                });
            }
            cache.free(*prompt)?;
        }
        self.begun += n_requests;
        let logits = self.b.gather(&logits, &rows_of_samples)?;
        self.draw(cache, drawn, &logits)
    }

    /// Continues all live samples by one token.
    fn decode(&mut self, cache: &mut Cache<B::Tensor>) -> Result<usize> {
        let live = core::mem::take(&mut self.live);
        let ids: Vec<u32> = live.iter().map(|live| live.last_id).collect();
        let sequences: Vec<SequenceId> = live.iter().map(|live| live.sequence).collect();
        let starts = sequences
            .iter()
            .map(|sequence| cache.length(*sequence))
            .collect::<Result<Vec<u32>>>()?;
        let rows = Rows::new(&vec![1; live.len()], &starts)?;
        let logits = self.logits(cache, &ids, &rows, &sequences, None)?;
        self.draw(cache, live, &logits)
    }

    /// Logits of a step's rows, or of the chosen ones only.
    fn logits(
        &self,
        cache: &mut Cache<B::Tensor>,
        ids: &[u32],
        rows: &Rows,
        sequences: &[SequenceId],
        chosen: Option<&[u32]>,
    ) -> Result<B::Tensor> {
        let cached = Cached { cache, sequences };
        let step = Step { ids, rows };
        let mut hidden = transformer::hidden(self.b, self.model, &step, Some(cached))?;
        if let Some(chosen) = chosen {
            hidden = self.b.gather(&hidden, chosen)?;
        }
        transformer::logits(self.b, self.model, &hidden)
    }

    /// Draws a token for each sample, row i of `logits` for sample i, and retires those that end.
    fn draw(
        &mut self,
        cache: &mut Cache<B::Tensor>,
        drawn: Vec<Live>,
        logits: &B::Tensor,
    ) -> Result<usize> {
        let uniforms: Vec<f32> = drawn.iter().map(|live| self.uniform(live)).collect();
        let Picked { ids, log_probs } = self.b.pick(logits, &self.batch.sampling, &uniforms)?;
        let n_drawn = drawn.len();
        for ((mut live, id), log_prob) in drawn.into_iter().zip(ids).zip(log_probs) {
            let samples = self.samples.get_mut(live.request);
            let Some(sample) = samples.and_then(|samples| samples.get_mut(live.sample)) else {
                continue;
            };
            sample.ids.push(id);
            sample.log_probs.push(log_prob);
            sample.is_finished = self.batch.stop.contains(&id);
            if sample.is_finished || sample.ids.len() >= self.batch.max_new_tokens {
                cache.free(live.sequence)?;
            } else {
                live.last_id = id;
                self.live.push(live);
            }
        }
        Ok(n_drawn)
    }

    /// The number that decides a sample's next token.
    fn uniform(&self, live: &Live) -> f32 {
        let request = self.batch.requests.get(live.request);
        let drawn = self
            .samples
            .get(live.request)
            .and_then(|samples| samples.get(live.sample));
        let seed = request.map_or(0, |request| request.seed);
        let prompt = request.map_or(0, |request| request.ids.len());
        let position = prompt + drawn.map_or(0, |sample| sample.ids.len());
        let words = [key("sample"), seed, live.sample as u64, position as u64];
        Rng::derive(&words).uniform()
    }
}

fn row_number(row: usize) -> Result<u32> {
    u32::try_from(row).map_err(|_| frugal_core::error::Error::PositionOverflow.into())
}
