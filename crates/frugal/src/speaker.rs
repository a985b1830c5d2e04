//! One answer after another on one conversation's cache.

use std::ops::ControlFlow;

use frugal_core::backend::{Backend, KeyBits, Sampling};
use frugal_core::rng::key;
use frugal_model::cache::{CacheKind, CacheSettings};
use frugal_model::error::Error as ModelError;
use frugal_model::generate::{Drafted, Drafting, Lookup};
use frugal_model::stream::{Drawing, Stream, StreamSettings};
use frugal_run::consumption::Stopwatch;

use crate::cli::Draft;
use crate::device::Device;
use crate::models::OnDevice;

/// The most tokens that the extra layer drafts: it was trained for one, and is right about a second
/// where the text is plain.
const MTP_TOKENS: usize = 2;

/// Who drafts, as the flag names it.
pub(crate) const fn drafting(draft: Draft) -> Drafting {
    match draft {
        Draft::None => Drafting::None,
        Draft::Lookup => Drafting::Lookup(Lookup::USUAL),
        Draft::Mtp => Drafting::Mtp { most: MTP_TOKENS },
    }
}

/// Rows of a cache page.
const PAGE_ROWS: usize = 16;
/// Prompt rows computed between two looks at the interruption.
const PREFILL_ROWS: usize = 512;

/// Continues a conversation.
pub(crate) struct Speaker<'a> {
    device: &'a Device,
    model: &'a OnDevice,
    stream: Stream<<Device as Backend>::Tensor>,
    /// How tokens are drawn.
    pub(crate) sampling: Sampling,
    stops: Vec<u32>,
    seed: u64,
    turn: u64,
}

/// What came of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spoken {
    /// The new tokens, the one that ends the answer included.
    pub(crate) ids: Vec<u32>,
    /// Whether it ended by itself.
    pub(crate) is_finished: bool,
    /// Tokens of the prompt that were computed, as against found in the cache.
    pub(crate) prompt_tokens: usize,
    /// Seconds until the first token.
    pub(crate) prompt_seconds: f64,
    /// Seconds from the first token to the last.
    pub(crate) answer_seconds: f64,
    /// What drafting came to.
    pub(crate) drafted: Drafted,
}

impl Spoken {
    /// Tokens of the answer per second, the first one apart.
    pub(crate) fn tokens_per_second(&self) -> Option<f64> {
        let n = self.ids.len().checked_sub(1).filter(|n| *n > 0)?;
        (self.answer_seconds > 0.0).then(|| n as f64 / self.answer_seconds)
    }
}

impl<'a> Speaker<'a> {
    /// An empty conversation.
    pub(crate) fn new(
        device: &'a Device,
        model: &'a OnDevice,
        drawing: (Sampling, Drafting, KeyBits),
        stops: Vec<u32>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let positions = device.shape(&model.rope).rows();
        let (sampling, drafting, bits) = drawing;
        let settings = StreamSettings {
            cache: CacheSettings {
                kind: CacheKind::smallest(&model.config),
                bits,
                page_rows: PAGE_ROWS,
                max_pages: positions.div_ceil(PAGE_ROWS),
            },
            prefill_rows: PREFILL_ROWS,
            drafting,
        };
        Ok(Self {
            device,
            model,
            stream: Stream::new(device, &model.config, settings)?,
            sampling,
            stops,
            seed,
            turn: 0,
        })
    }

    /// Tokens a conversation may have.
    pub(crate) fn positions(&self) -> usize {
        self.device.shape(&self.model.rope).rows()
    }

    /// Continues `context` by up to `max_tokens`, each shown to `on_token` as it is drawn; breaking
    /// off there, or before the first token by `is_stopped`, ends the answer.
    pub(crate) fn speak(
        &mut self,
        context: &[u32],
        max_tokens: usize,
        is_stopped: &dyn Fn() -> bool,
        on_token: &mut dyn FnMut(u32) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<Spoken> {
        self.turn += 1;
        let mut ids = context.to_vec();
        let mut spoken = Spoken {
            prompt_tokens: ids.len() - self.stream.shared(&ids),
            ..Spoken::default()
        };
        let most = max_tokens.min(self.positions().saturating_sub(ids.len()));
        let stop = &*self.stops;
        let drawing = Drawing {
            sampling: self.sampling,
            stop,
            words: [key("chat"), self.seed, self.turn],
        };
        let before = self.stream.drafted();
        let mut watch = Stopwatch::start();
        'answer: while spoken.ids.len() < most {
            let mut go_on = |_| !is_stopped();
            let after = (&*ids, most - spoken.ids.len());
            let by = (self.device, self.model);
            let picked = match self.stream.extend(by, after, &drawing, &mut go_on) {
                Err(ModelError::Interrupted) => break,
                other => other?,
            };
            if spoken.ids.is_empty() {
                spoken.prompt_seconds = watch.seconds();
                watch = Stopwatch::start();
            }
            for id in picked.ids {
                ids.push(id);
                spoken.ids.push(id);
                spoken.is_finished = stop.contains(&id);
                if spoken.is_finished || on_token(id)?.is_break() {
                    break 'answer;
                }
            }
        }
        spoken.drafted = self.stream.drafted().since(&before);
        spoken.answer_seconds = if spoken.ids.is_empty() {
            0.0
        } else {
            watch.seconds()
        };
        Ok(spoken)
    }
}
