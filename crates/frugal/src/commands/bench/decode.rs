//! Generation: reading a prompt, and the tokens after it.
//!
//! Both go through the generator that everything else uses, at the likeliest token and without an
//! end, so that all streams have one length.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context;
use frugal_core::backend::{Backend, KeyBits, Sampling};
use frugal_core::rng::Rng;
use frugal_model::cache::{CacheKind, CacheSettings};
use frugal_model::generate::{Batch, Drafting, Generator, GeneratorSettings, Progress, Request};
use frugal_run::consumption::Stopwatch;
use serde_json::{Value, json};

use super::{Case, Done, Measurement, Unit, subject};
use crate::cli::{BenchDecode, BenchPrefill, Common, Draft, Trials};
use crate::device::{self, Device, Precision};
use crate::export::stored_in;
use crate::forecast::least::{Generation, Streams, Work, generation};
use crate::models::{self, OnDevice, Opened};
use crate::speaker::drafting;

/// Rows of a cache page.
const PAGE_ROWS: usize = 16;

/// Reading a prompt, the first token of the answer included.
pub(super) fn prefill(common: &Common, arguments: &BenchPrefill) -> anyhow::Result<()> {
    let streams = Streams {
        n: 1,
        prompt: arguments.tokens.max(1),
        tokens: 1,
    };
    let job = Job {
        what: "prefill",
        opened: subject::stored(common, &arguments.subject, &arguments.storage)?,
        streams,
        drafts: vec![Draft::None],
        bits: KeyBits::AsProducts,
        texts: None,
        marks: vec![("tokens", json!(streams.prompt))],
        done: Spoken::reading,
    };
    job.show(common, arguments.trials)
}

/// Tokens after the first, of all streams together.
pub(super) fn run(common: &Common, arguments: &BenchDecode) -> anyhow::Result<()> {
    let streams = Streams {
        n: arguments.streams.max(1),
        prompt: arguments.prompt.max(1),
        tokens: arguments.tokens.max(1),
    };
    let opened = subject::stored(common, &arguments.subject, &arguments.storage)?;
    let text = arguments.text.as_deref();
    let texts = text.map(|file| texts_of(file, &opened, streams));
    let texts = texts.transpose()?;
    let mut drafts = vec![arguments.draft];
    if texts.is_some() && arguments.draft != Draft::None {
        drafts.insert(0, Draft::None);
    }
    let job = Job {
        what: "decode",
        opened,
        streams,
        drafts,
        bits: arguments.cache_bits.into(),
        texts,
        marks: vec![
            ("streams", json!(streams.n)),
            ("prompt", json!(streams.prompt)),
            ("tokens", json!(streams.tokens)),
        ],
        done: Spoken::answering,
    };
    job.show(common, arguments.trials)
}

/// For each stream its part of a text: what it begins with and what follows.
fn texts_of(file: &Path, opened: &Opened, of: Streams) -> anyhow::Result<Vec<Vec<u32>>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let ids: Vec<u32> = if text.starts_with('[') {
        serde_json::from_str(&text)
            .with_context(|| format!("expected a JSON list of token ids in {}", file.display()))?
    } else {
        opened.text()?.tokenizer.encode(&text)?
    };
    let (each, vocabulary) = (positions(of), opened.config.vocab_size);
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
        anyhow::bail!(
            "expected ids below {vocabulary} in {}, got {id}",
            file.display()
        );
    }
    let texts: Vec<Vec<u32>> = ids
        .chunks_exact(each)
        .take(of.n)
        .map(<[u32]>::to_vec)
        .collect();
    let (needed, got) = (each * of.n, ids.len());
    anyhow::ensure!(
        texts.len() == of.n,
        "expected {needed} tokens in {}, got {got}",
        file.display()
    );
    Ok(texts)
}

/// What is spoken, and which part of it is timed.
struct Job {
    what: &'static str,
    opened: Opened,
    streams: Streams,
    /// Who drafts, in turns.
    drafts: Vec<Draft>,
    /// In which keys and values are kept.
    bits: KeyBits,
    /// What is said, if not what is drawn.
    texts: Option<Vec<Vec<u32>>>,
    marks: Vec<(&'static str, Value)>,
    done: fn(&Spoken, &Generation, Streams) -> Done,
}

impl Job {
    fn show(self, common: &Common, trials: Trials) -> anyhow::Result<()> {
        let Self {
            opened,
            streams,
            drafts,
            bits,
            texts,
            done,
            ..
        } = self;
        let device = device::open(common, Precision::Bf16)?;
        let formats = models::formats(&opened);
        let least = generation(
            &opened.config,
            &formats,
            streams,
            (bits, device.key_dtype()),
        )?;
        let model = opened.load(&device, positions(streams))?;
        let mut cases = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let drafting = drafting(draft);
            let settings = (streams, drafting, bits);
            let mut speaker = Speaker::new(&device, &model, settings, texts.as_deref())?;
            let mut marks = vec![
                ("model", json!(opened.name)),
                ("format", json!(stored_in(&opened).to_string())),
            ];
            marks.extend(self.marks.clone());
            if self.what == "decode" {
                let bits = if bits == KeyBits::Eight { "8" } else { "full" };
                marks.push(("cache_bits", json!(bits)));
                marks.push(("draft", json!(format!("{draft:?}").to_lowercase())));
            }
            cases.push(Case {
                marks,
                precision: Precision::Bf16,
                forecast_bytes: Some(least.held_bytes),
                run: Box::new(move || Ok(done(&speaker.speak()?, &least, streams))),
            });
        }
        let measurement = Measurement {
            what: self.what,
            unit: Unit::Tokens,
            device: &device,
            cases,
        };
        measurement.show(common, trials)
    }
}

/// The first token comes with the prompt.
const fn positions(of: Streams) -> usize {
    of.prompt + of.tokens + 1
}

/// A model that continues the same prompts again and again.
struct Speaker<'d> {
    device: &'d Device,
    model: &'d OnDevice,
    generator: Generator<<Device as Backend>::Tensor>,
    prompts: Vec<Vec<u32>>,
    max_new_tokens: usize,
}

/// How long that took.
struct Spoken {
    /// Until all streams had their first token.
    prompt_seconds: f64,
    /// From then on.
    rest_seconds: f64,
    /// Tokens of then on.
    tokens: usize,
    /// Of each sequence.
    tokens_per_step: Option<f64>,
}

impl Spoken {
    fn reading(&self, least: &Generation, of: Streams) -> Done {
        Done {
            count: (of.n * of.prompt) as f64,
            seconds: self.prompt_seconds,
            least: least.prefill,
            tokens_per_step: None,
        }
    }

    fn answering(&self, least: &Generation, of: Streams) -> Done {
        let tokens = self.tokens as f64;
        let steps = tokens / of.n as f64;
        Done {
            count: tokens,
            seconds: self.rest_seconds,
            tokens_per_step: self.tokens_per_step,
            least: Work {
                flops: least.step.flops * steps,
                bytes: least.step.bytes * steps,
            },
        }
    }
}

impl<'d> Speaker<'d> {
    fn new(
        device: &'d Device,
        model: &'d OnDevice,
        (of, drafting, bits): (Streams, Drafting, KeyBits),
        texts: Option<&[Vec<u32>]>,
    ) -> anyhow::Result<Self> {
        let settings = GeneratorSettings {
            cache: CacheSettings {
                kind: CacheKind::smallest(&model.config),
                bits,
                page_rows: PAGE_ROWS,
                // Each stream its own pages, and each prompt those it was computed in.
                max_pages: 2 * of.n * (positions(of).div_ceil(PAGE_ROWS) + 2),
            },
            max_sequences: of.n,
            prefill_rows: of.n * of.prompt,
            drafting,
        };
        let mut generator = Generator::new(device, &model.config, settings)?;
        let vocabulary = u32::try_from(model.config.vocab_size)?;
        let mut rng = Rng::derive(&[3]);
        let mut prompt = || (0..of.prompt).map(|_| rng.below(vocabulary)).collect();
        let mut prompts: Vec<Vec<u32>> = (0..of.n).map(|_| prompt()).collect();
        if let Some(texts) = texts {
            let parts = texts.iter().map(|text| text.split_at(of.prompt));
            let (first, rest): (Vec<_>, Vec<_>) =
                parts.map(|(a, b)| (a.to_vec(), b.to_vec())).unzip();
            prompts = first;
            generator.follow(rest);
        }
        Ok(Self {
            device,
            generator,
            prompts,
            max_new_tokens: of.tokens + 1,
            model,
        })
    }

    fn speak(&mut self) -> anyhow::Result<Spoken> {
        let requests: Vec<Request<'_>> = self
            .prompts
            .iter()
            .map(|ids| Request {
                ids,
                n_samples: 1,
                seed: 0,
            })
            .collect();
        let batch = Batch {
            requests: &requests,
            sampling: Sampling::GREEDY,
            max_new_tokens: self.max_new_tokens,
            stop: &[],
        };
        let watch = Stopwatch::start();
        let (mut prompt_seconds, mut first, mut last) = (0.0, 0, 0);
        let mut on_step = |progress: Progress| {
            if first == 0 && progress.waiting == 0 {
                prompt_seconds = watch.seconds();
                first = progress.tokens;
            }
            last = progress.tokens;
            ControlFlow::Continue(())
        };
        self.generator
            .generate(self.device, self.model, &batch, &mut on_step)?;
        Ok(Spoken {
            tokens_per_step: self.generator.drafted().tokens_per_step(),
            prompt_seconds,
            rest_seconds: watch.seconds() - prompt_seconds,
            tokens: last - first,
        })
    }
}
