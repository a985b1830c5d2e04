//! The models that are served: found as every verb finds them, put on the one device.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::UNIX_EPOCH;

use anyhow::Context;
use frugal_core::backend::KeyBits;
use frugal_core::meter::Meter;
use frugal_model::cache::{CacheKind, CacheSettings};
use frugal_run::models::Facts;
use frugal_serve::engine::loaded::{Loaded, Memory};
use frugal_serve::models::{Library, Listed, Ready, Sampling, Words};
use serde_json::{Value, json};

use crate::device::Device;
use crate::facts;
use crate::models::{Opened, Source, Text};

/// Rows of a cache page.
const PAGE_ROWS: usize = 16;
/// How R1's makers sample, for models that say nothing.
const TEMPERATURE: f32 = 0.6;
const TOP_P: f32 = 0.95;

/// Models by the names they are served under.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) device: Arc<Device>,
    sources: RwLock<BTreeMap<String, Arc<Held>>>,
    /// Tokens a conversation may have.
    pub(super) context: usize,
    /// Conversations at a time.
    pub(super) max_sequences: usize,
    /// Bits of a number in the cache.
    pub(super) bits: KeyBits,
}

/// A model that is served, and what is known of it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) source: Source,
    /// Read once, since files that are served must not change.
    known: OnceLock<Known>,
}

/// What a model's files say.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) bytes: u64,
    pub(super) created: i64,
    pub(super) context: Option<usize>,
    pub(super) facts: Option<Facts>,
    sampling: Option<Sampling>,
    about: Value,
}

impl Library for Served {
    fn list(&self) -> Vec<Listed> {
        let all = self.all().into_iter();
        all.map(|(name, held)| {
            let known = self.known(&held).clone();
            Listed {
                name,
                created: known.created,
                bytes: known.bytes,
                context: known.context,
                sampling: known.sampling,
                about: known.about,
            }
        })
        .collect()
    }

    fn open(&self, name: &str, cache_bytes: u64) -> Result<Ready, String> {
        self.ready(name, cache_bytes)
            .map_err(|error| format!("{error:#}"))
    }
}

/// How models are opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Tokens a conversation may have.
    pub(super) context: usize,
    /// Conversations at a time.
    pub(super) max_sequences: usize,
    /// Bits of a number in the cache.
    pub(super) bits: KeyBits,
}

impl Served {
    pub(super) fn new(
        device: Arc<Device>,
        sources: BTreeMap<String, Source>,
        manner: Manner,
    ) -> Self {
        let sources = sources.into_iter();
        let held = sources.map(|(name, source)| (name, Arc::new(Held::of(source))));
        Self {
            device,
            sources: RwLock::new(held.collect()),
            context: manner.context,
            max_sequences: manner.max_sequences,
            bits: manner.bits,
        }
    }

    /// All, by the names they are served under.
    pub(super) fn all(&self) -> Vec<(String, Arc<Held>)> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        let all = sources.iter();
        all.map(|(name, held)| (name.clone(), Arc::clone(held)))
            .collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<Held>> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        sources.get(name).cloned()
    }

    /// Serves one more, unless something is served under its name.
    pub(super) fn add(&self, source: Source) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        let name = source.name.clone();
        sources
            .entry(name)
            .or_insert_with(|| Arc::new(Held::of(source)));
    }

    /// Serves what lies at a path no more.
    pub(super) fn forget(&self, path: &Path) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|_, held| held.source.path() != path);
    }

    pub(super) fn known<'a>(&self, held: &'a Held) -> &'a Known {
        held.known.get_or_init(|| self.look_at(&held.source))
    }

    fn look_at(&self, source: &Source) -> Known {
        let opened = source.open().ok();
        let opened = opened.as_ref();
        let sampling = opened.and_then(|opened| {
            let usual = sampling(opened.text.as_ref()?);
            Some(usual)
        });
        Known {
            bytes: opened.map_or(0, |opened| opened.bytes),
            created: created(source),
            context: opened.map(|opened| opened.positions(self.context)),
            facts: opened.and_then(|opened| facts::of(opened).ok()),
            sampling,
            about: opened.map_or_else(|| json!({}), |opened| about(opened, source)),
        }
    }

    fn ready(&self, name: &str, cache_bytes: u64) -> anyhow::Result<Ready> {
        let held = self.find(name);
        let held = held.with_context(|| format!("no model {name}"))?;
        let opened = held.source.open()?;
        let words = words(&opened)?;
        let positions = opened.positions(self.context);
        let memory = self.memory(&opened, positions, cache_bytes)?;
        let model = opened.load(&self.device, positions)?;
        let model = Loaded::new(Arc::clone(&self.device), model, memory)?;
        Ok(Ready {
            model: Box::new(model),
            words: Arc::new(words),
        })
    }

    /// As many pages as all conversations at full length need, or as the bytes allow.
    fn memory(
        &self,
        opened: &Opened,
        positions: usize,
        cache_bytes: u64,
    ) -> anyhow::Result<Memory> {
        let settings = CacheSettings {
            kind: CacheKind::for_company(&opened.config),
            page_rows: PAGE_ROWS,
            max_pages: 1,
            bits: self.bits,
        };
        let meter = Meter::new().with_keys_in(self.device.key_dtype());
        let page_bytes = settings.page_bytes(&meter, &opened.config)?;
        let of_all = positions.div_ceil(PAGE_ROWS) * self.max_sequences;
        let allowed = usize::try_from(cache_bytes / page_bytes.max(1)).unwrap_or(usize::MAX);
        let max_pages = of_all.min(allowed);
        anyhow::ensure!(
            max_pages > 0,
            "expected room for at least one page of {page_bytes} bytes, got {cache_bytes} bytes"
        );
        Ok(Memory {
            cache: CacheSettings {
                max_pages,
                ..settings
            },
            page_bytes,
            weight_bytes: opened.bytes,
        })
    }
}

fn words(opened: &Opened) -> anyhow::Result<Words> {
    let text = opened.text()?;
    let template = match text.template(None) {
        Ok(template) => Some(template),
        Err(error) => {
            tracing::warn!(
                model = opened.name,
                error = format!("{error:#}"),
                "no chat template: the model answers completions only"
            );
            None
        }
    };
    let markup = template
        .as_ref()
        .and_then(|template| template.markup().ok());
    let mut stops = opened.stops()?;
    stops.extend(markup.map(|markup| markup.eos));
    stops.sort_unstable();
    stops.dedup();
    let sampling = sampling(text);
    Ok(Words {
        tokenizer: text.tokenizer.clone(),
        tokenizer_config: serde_json::from_slice(&text.tokenizer_config)?,
        template,
        markup,
        stops,
        bos: text.first_token(&opened.config),
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
    })
}

/// As a model's makers sample, else as R1's do.
fn sampling(text: &Text) -> Sampling {
    let said = &text.generation;
    Sampling {
        temperature: said.temperature.unwrap_or(TEMPERATURE),
        top_p: said.top_p.unwrap_or(TOP_P),
        top_k: said.top_k.unwrap_or(0),
    }
}

impl Held {
    fn of(source: Source) -> Self {
        Self {
            source,
            known: OnceLock::new(),
        }
    }
}

fn created(source: &Source) -> i64 {
    let modified = fs::metadata(source.path()).and_then(|about| about.modified());
    let since = modified
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}

fn about(opened: &Opened, source: &Source) -> Value {
    let template = opened
        .text
        .as_ref()
        .and_then(|text| text.template(None).ok());
    let markup = template.and_then(|template| template.markup().ok());
    json!({
        "architecture": format!("{:?}", opened.config.architecture),
        "max_model_len": opened.config.max_position_embeddings,
        "vocabulary": opened.config.vocab_size,
        "layers": opened.config.num_hidden_layers,
        "licence": source.licence(),
        "thinks": markup.is_some(),
    })
}
