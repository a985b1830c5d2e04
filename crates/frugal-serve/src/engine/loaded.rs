//! A model over a back-end, with its cache, as engines work on it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use frugal_core::backend::{Backend, Picked, Sampling};
use frugal_core::dtype::Data;
use frugal_core::meter::Meter;
use frugal_core::shape::{Rows as StepRows, Shape};
use frugal_model::cache::{Cache, CacheSettings, Cached, SequenceId};
use frugal_model::config::ModelConfig;
use frugal_model::generate::share_of_choice;
use frugal_model::params::{Params, Spec};
use frugal_model::transformer::{self, Model, Step};

use super::likeliest::{likeliest, log_prob};
use super::{Draw, Drawn, Error, Facts, Part, Result, Rows, TokenModel};

/// Rows whose logits are on the host at a time: a row of a large vocabulary is half a megabyte.
const WATCHED_ROWS: usize = 16;

/// A model, its two handles and its cache.
pub struct Loaded<B: Backend> {
    /// Shared with other models.
    b: Arc<B>,
    /// For rows of prompts and of answers.
    models: [Model<B::Tensor>; 2],
    cache: Cache<B::Tensor>,
    facts: Facts,
}

impl<B: Backend> fmt::Debug for Loaded<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// What memory a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The cache.
    pub cache: CacheSettings,
    /// Bytes of one of its pages.
    pub page_bytes: u64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
}

impl<B: Backend> Loaded<B> {
    /// A model with an empty cache. The cache's kind should be one whose rows do not depend on their
    /// company ([`CacheKind::for_company`](frugal_model::cache::CacheKind::for_company)).
    ///
    /// # Errors
    /// If the cache does not fit the model.
    pub fn new(b: Arc<B>, model: Model<B::Tensor>, memory: Memory) -> Result<Self> {
        let cache = Cache::new(&*b, &model.config, memory.cache)?;
        let [flops_per_token, flops_per_key] = flops(&model.config, memory.cache)?;
        // No sequence can be longer than the whole cache.
        let rows = memory.cache.max_pages * memory.cache.page_rows;
        let facts = Facts {
            vocabulary: b.shape(transformer::head(&model)).rows(),
            positions: b.shape(&model.rope).rows().min(rows),
            page_rows: memory.cache.page_rows,
            max_pages: memory.cache.max_pages,
            page_bytes: memory.page_bytes,
            weight_bytes: memory.weight_bytes,
            flops_per_token,
            flops_per_key,
            share_of_choice: share_of_choice(&model.config)?,
        };
        let answering = model.for_answers(&*b);
        Ok(Self {
            b,
            models: [model, answering],
            cache,
            facts,
        })
    }

    fn hidden(&mut self, parts: &[Part<'_>], rows: Rows) -> Result<B::Tensor> {
        let mut ids = Vec::new();
        let (mut lengths, mut starts) = (Vec::new(), Vec::new());
        for part in parts {
            ids.extend_from_slice(part.ids);
            ids.extend_from_slice(part.draft);
            lengths.push(u32::try_from(part.n_rows()).unwrap_or(u32::MAX));
            starts.push(self.cache.length(part.sequence)?);
        }
        let sequences: Vec<SequenceId> = parts.iter().map(|part| part.sequence).collect();
        let step_rows = StepRows::new(&lengths, &starts)?;
        let step = Step {
            ids: &ids,
            rows: &step_rows,
        };
        let cached = Cached {
            cache: &mut self.cache,
            sequences: &sequences,
        };
        let model = of(&self.models, rows);
        Ok(transformer::hidden(&*self.b, model, &step, Some(cached))?)
    }

    fn logits(&self, hidden: &B::Tensor, which: &[u32], rows: Rows) -> Result<B::Tensor> {
        let hidden = self.b.gather(hidden, which)?;
        Ok(transformer::logits(
            &*self.b,
            of(&self.models, rows),
            &hidden,
        )?)
    }

    /// Shows the logits of rows to those who watch them.
    fn show(&self, hidden: &B::Tensor, parts: &mut [Part<'_>], rows: Rows) -> Result<()> {
        let mut first = 0;
        for part in parts {
            let end = first + part.ids.len();
            if let Some(watch) = &mut part.watch {
                let all: Vec<u32> = numbers(first..end).collect();
                let mut row = 0;
                for some in all.chunks(WATCHED_ROWS) {
                    let logits = self.b.get(&self.logits(hidden, some, rows)?)?;
                    for logits in logits.chunks_exact(self.facts.vocabulary.max(1)) {
                        watch(row, logits);
                        row += 1;
                    }
                }
            }
            first += part.n_rows();
        }
        Ok(())
    }

    fn draw(&self, hidden: &B::Tensor, parts: &mut [Part<'_>], rows: Rows) -> Result<Vec<Drawn>> {
        let (mut last_rows, mut draws) = (Vec::new(), Vec::new());
        let mut first = 0;
        for part in parts {
            let last = first + part.ids.len() - 1;
            let step = usize::from(!part.draft.is_empty());
            first += part.n_rows();
            for (nth, draw) in part.draws.iter_mut().enumerate() {
                let row = last + nth * step;
                last_rows.extend(numbers(row..row + 1));
                draws.push(draw);
            }
        }
        if draws.is_empty() {
            return Ok(Vec::new());
        }
        let logits = self.logits(hidden, &last_rows, rows)?;
        let mut drawn = vec![Drawn::default(); draws.len()];
        let mut plain = Vec::new();
        for (row, draw) in draws.into_iter().enumerate() {
            let is_plain = draw.adjust.is_none();
            if is_plain && draw.likeliest.is_none() {
                plain.push((row, draw.sampling, draw.uniform));
            } else if let Some(slot) = drawn.get_mut(row) {
                let own = self
                    .b
                    .gather(&logits, &numbers(row..row + 1).collect::<Vec<u32>>())?;
                *slot = self.draw_looking(&own, draw)?;
            }
        }
        // Those who draw alike are drawn together.
        while let Some((_, sampling, _)) = plain.first().copied() {
            let (alike, others): (Vec<_>, Vec<_>) = plain
                .into_iter()
                .partition(|(_, other, _)| *other == sampling);
            plain = others;
            let uniforms: Vec<f32> = alike.iter().map(|(_, _, uniform)| *uniform).collect();
            let picked = if alike.len() == drawn.len() {
                self.b.pick(&logits, &sampling, &uniforms)?
            } else {
                let which: Vec<u32> = alike
                    .iter()
                    .flat_map(|(row, _, _)| numbers(*row..*row + 1))
                    .collect();
                self.b
                    .pick(&self.b.gather(&logits, &which)?, &sampling, &uniforms)?
            };
            for ((row, _, _), id) in alike.iter().zip(picked.ids) {
                if let Some(drawn) = drawn.get_mut(*row) {
                    drawn.id = id;
                }
            }
        }
        Ok(drawn)
    }

    /// One row that somebody changes or looks at.
    fn draw_looking(&self, logits: &B::Tensor, draw: &mut Draw<'_>) -> Result<Drawn> {
        let mut numbers = self.b.get(logits)?;
        let raw = draw.likeliest.map(|most| (numbers.clone(), most));
        let picked = match &mut draw.adjust {
            None => self.pick_one(logits, draw.sampling, draw.uniform)?,
            Some(adjust) => {
                adjust(&mut numbers);
                let shape = Shape::matrix(1, numbers.len());
                let adjusted = self.b.put(shape, Data::F32(&numbers))?;
                self.pick_one(&adjusted, draw.sampling, draw.uniform)?
            }
        };
        let id = picked.ids.first().copied().unwrap_or(0);
        let mut drawn = Drawn {
            id,
            ..Drawn::default()
        };
        if let Some((raw, most)) = raw {
            drawn.log_prob = log_prob(&raw, id);
            drawn.likeliest = likeliest(&raw, most);
        }
        Ok(drawn)
    }

    fn pick_one(&self, logits: &B::Tensor, sampling: Sampling, uniform: f32) -> Result<Picked> {
        Ok(self.b.pick(logits, &sampling, &[uniform])?)
    }
}

impl<B> TokenModel for Loaded<B>
where
    B: Backend + Send + Sync,
    B::Tensor: Send,
{
    fn facts(&self) -> Facts {
        self.facts
    }

    fn open(&mut self) -> Result<SequenceId> {
        Ok(self.cache.open()?)
    }

    fn fork(&mut self, of: SequenceId, length: usize) -> Result<SequenceId> {
        let fork = self.cache.fork(of)?;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        match self.cache.truncate(fork, length) {
            Ok(()) => Ok(fork),
            Err(error) => {
                self.cache.free(fork)?;
                Err(error.into())
            }
        }
    }

    fn truncate(&mut self, sequence: SequenceId, length: usize) -> Result<()> {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        Ok(self.cache.truncate(sequence, length)?)
    }

    fn free(&mut self, sequence: SequenceId) -> Result<()> {
        Ok(self.cache.free(sequence)?)
    }

    fn pages_for(&self, sequence: SequenceId, rows: usize) -> Result<usize> {
        let held = self.cache.length(sequence)?;
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        Ok(self.cache.pages_for(sequence, held, rows)?)
    }

    fn vacant_pages(&self) -> usize {
        self.cache.vacant_pages()
    }

    fn step(&mut self, parts: &mut [Part<'_>], rows: Rows) -> Result<Vec<Drawn>> {
        let starts = parts
            .iter()
            .map(|part| Ok((part.sequence, self.cache.length(part.sequence)?)))
            .collect::<Result<Vec<_>>>()?;
        // Whoever looks at logits or changes them may panic, after the sequences have grown.
        let drawn = catch_unwind(AssertUnwindSafe(|| {
            let hidden = self.hidden(parts, rows)?;
            self.show(&hidden, parts, rows)?;
            self.draw(&hidden, parts, rows)
        }));
        let drawn = drawn.unwrap_or(Err(Error::Panicked));
        if drawn.is_err() {
            for (sequence, length) in starts {
                self.cache.truncate(sequence, length)?;
            }
        }
        drawn
    }
}

/// The handle for rows of a kind.
const fn of<T>([prompts, answers]: &[Model<T>; 2], rows: Rows) -> &Model<T> {
    match rows {
        Rows::OfPrompts => prompts,
        Rows::OfAnswers => answers,
    }
}

/// Row numbers as back-ends count them.
fn numbers(rows: std::ops::Range<usize>) -> impl Iterator<Item = u32> {
    rows.map(|row| u32::try_from(row).unwrap_or(u32::MAX))
}

/// FLOPs of a token, and how many more for each token before it: the meter's counts at two lengths.
fn flops(config: &ModelConfig, cache: CacheSettings) -> Result<[f64; 2]> {
    let meter = Meter::new();
    let specs = Params::<Spec>::spec(config)?;
    let params = specs.try_map(|spec| meter.zeros(spec.shape))?;
    let far = config.max_position_embeddings.clamp(2, 1024);
    let model = Model::new(&meter, config.clone(), params, far)?;
    let settings = CacheSettings {
        max_pages: far.div_ceil(cache.page_rows),
        ..cache
    };
    let mut ghosts = Cache::new(&meter, config, settings)?;
    let sequence = ghosts.open()?;
    let mut price = |ids: &[u32]| -> Result<f64> {
        let start = ghosts.length(sequence)?;
        let rows = StepRows::new(&[u32::try_from(ids.len()).unwrap_or(u32::MAX)], &[start])?;
        meter.reset();
        let cached = Cached {
            cache: &mut ghosts,
            sequences: &[sequence],
        };
        let hidden = transformer::hidden(&meter, &model, &Step { ids, rows: &rows }, Some(cached))?;
        transformer::logits(&meter, &model, &hidden)?;
        Ok(meter.price().model_flops() as f64)
    };
    let near = price(&[0])?;
    price(&vec![0; far - 2])?;
    let distant = price(&[0])?;
    Ok([near, (distant - near) / (far - 2).max(1) as f64])
}
