//! The models that are served: found as every verb finds them, put on the one device.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use anyhow::Context;
use frugal_core::backend::KeyBits;
use frugal_core::meter::Meter;
use frugal_model::cache::{CacheKind, CacheSettings};
use frugal_serve::engine::loaded::{Loaded, Memory};
use frugal_serve::models::{Library, Listed, Ready, Words};
use serde_json::{Value, json};

use crate::device::Device;
use crate::models::{Opened, Source};

/// Rows of a cache page.
const PAGE_ROWS: usize = 16;
/// How R1's makers sample, for models that say nothing.
const TEMPERATURE: f32 = 0.6;
const TOP_P: f32 = 0.95;

/// Models by the names they are served under.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) device: Arc<Device>,
    pub(super) sources: BTreeMap<String, Source>,
    /// Tokens a conversation may have.
    pub(super) context: usize,
    /// Conversations at a time.
    pub(super) max_sequences: usize,
    /// Bits of a number in the cache.
    pub(super) bits: KeyBits,
    /// What there is: read once, since files that are served must not change.
    pub(super) listed: OnceLock<Vec<Listed>>,
}

impl Library for Served {
    fn list(&self) -> Vec<Listed> {
        let listed = |(name, source): (&String, &Source)| {
            let opened = source.open();
            let bytes = opened.as_ref().map_or(0, |opened| opened.bytes);
            let about = opened.map_or_else(|_| json!({}), |opened| about(&opened, source));
            Listed {
                name: name.clone(),
                created: created(source),
                bytes,
                about,
            }
        };
        let all = || self.sources.iter().map(listed).collect();
        self.listed.get_or_init(all).clone()
    }

    fn open(&self, name: &str, cache_bytes: u64) -> Result<Ready, String> {
        self.ready(name, cache_bytes)
            .map_err(|error| format!("{error:#}"))
    }
}

impl Served {
    fn ready(&self, name: &str, cache_bytes: u64) -> anyhow::Result<Ready> {
        let source = (self.sources.get(name)).with_context(|| format!("no model {name}"))?;
        let opened = source.open()?;
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
    Ok(Words {
        tokenizer: text.tokenizer.clone(),
        tokenizer_config: serde_json::from_slice(&text.tokenizer_config)?,
        template,
        markup,
        stops,
        bos: text.first_token(&opened.config),
        temperature: text.generation.temperature.unwrap_or(TEMPERATURE),
        top_p: text.generation.top_p.unwrap_or(TOP_P),
        top_k: text.generation.top_k.unwrap_or(0),
    })
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
    json!({
        "architecture": format!("{:?}", opened.config.architecture),
        "max_model_len": opened.config.max_position_embeddings,
        "vocabulary": opened.config.vocab_size,
        "layers": opened.config.num_hidden_layers,
        "licence": source.licence(),
    })
}
