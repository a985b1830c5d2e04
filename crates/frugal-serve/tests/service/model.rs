//! Tiny models: random ones, and one that says what a script has it say.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use frugal_core::backend::{Backend, KeyBits};
use frugal_core::dtype::Data;
use frugal_core::reference::Reference;
use frugal_model::cache::{CacheKind, CacheSettings, SequenceId};
use frugal_model::config::ModelConfig;
use frugal_model::init::{Deviation, InitSettings, OutputInit, init};
use frugal_model::params::{Params, Spec};
use frugal_model::transformer::Model;
use frugal_serve::engine::loaded::{Loaded, Memory};
use frugal_serve::engine::{self, Drawn, Facts, Part, Rows, TokenModel};
use frugal_serve::models::Words;
use frugal_text::Tokenizer;
use frugal_text::chat::Template;
use frugal_text::gguf::tokenizer_json;
use frugal_text::train::{Training, byte_pairs};
use serde_json::{Value, json};

pub(crate) const CONTROL: [&str; 7] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
];
const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// Rows of the embedding, more than there are tokens.
const ROWS: usize = 320;
/// Tokens of a sequence at most.
pub(crate) const POSITIONS: usize = 1024;
/// Bytes that a model's weights are said to be.
pub(crate) const WEIGHT_BYTES: u64 = 1000;
/// Those of the model `huge`, as far as it is listed.
pub(crate) const HUGE_BYTES: u64 = 1 << 20;
/// Bytes that a page is said to be.
pub(crate) const PAGE_BYTES: u64 = 10;

static WORDS: LazyLock<Arc<Words>> = LazyLock::new(|| {
    let text = "user\nassistant\nsystem\nthe rain in the spain, the name of the arguments: \
                {\"name\": \"the\", \"arguments\": {}}\n\n";
    let training = Training {
        pre: "qwen2",
        control: &CONTROL,
        n_tokens: 300,
    };
    let vocabulary = byte_pairs(&[text], &training).unwrap();
    let tokenizer = Tokenizer::from_json(&tokenizer_json(&vocabulary).unwrap()).unwrap();
    let source = include_str!("template.jinja");
    let template = Template::new(source, &tokenizer, "", "<|im_end|>").unwrap();
    let stop = tokenizer.control("<|im_end|>").unwrap();
    Arc::new(Words {
        markup: Some(template.markup().unwrap()),
        tokenizer_config: json!({ "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>" }),
        template: Some(template),
        stops: vec![stop],
        bos: None,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        tokenizer,
    })
});

/// The words of all models here.
pub(crate) fn words() -> Arc<Words> {
    Arc::clone(&WORDS)
}

pub(crate) fn control(name: &str) -> u32 {
    words().tokenizer.control(name).unwrap()
}

/// A text as ids, in which the marks of calls are control tokens.
pub(crate) fn ids_of(text: &str) -> Vec<u32> {
    let words = words();
    let mut ids = Vec::new();
    for (index, piece) in text.split(OPEN).enumerate() {
        if index > 0 {
            ids.push(control(OPEN));
        }
        for (index, piece) in piece.split(CLOSE).enumerate() {
            if index > 0 {
                ids.push(control(CLOSE));
            }
            ids.extend(words.tokenizer.encode(piece).unwrap());
        }
    }
    ids
}

/// Which shape a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Qwen2,
    DeepseekV3,
}

fn config(kind: Kind) -> ModelConfig {
    let common = json!({
        "vocab_size": ROWS, "max_position_embeddings": POSITIONS, "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false,
        "eos_token_id": 2,
    });
    let own = match kind {
        Kind::Qwen2 => json!({
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
            "num_key_value_heads": 1, "intermediate_size": 48,
        }),
        Kind::DeepseekV3 => json!({
            "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
            "num_key_value_heads": 2, "intermediate_size": 48, "moe_intermediate_size": 16,
            "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 24,
            "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 12, "n_group": 2,
            "topk_group": 1, "n_routed_experts": 8, "n_shared_experts": 1,
            "num_experts_per_tok": 2, "norm_topk_prob": true, "routed_scaling_factor": 2.5,
            "scoring_func": "sigmoid", "topk_method": "noaux_tc",
        }),
    };
    let mut all = common;
    for (name, value) in own.as_object().unwrap() {
        all[name] = value.clone();
    }
    ModelConfig::from_json(&all.to_string()).unwrap()
}

/// A model with random weights and so many pages of 16 tokens.
pub(crate) fn random(kind: Kind, max_pages: usize) -> Loaded<Reference> {
    let config = config(kind);
    let deviation = Deviation::PerRootWidth(1.0);
    let settings = InitSettings {
        matrices: deviation,
        embedding: deviation,
        head: Deviation::PerRootWidth(2.0),
        outputs: OutputInit::Same,
    };
    let weights = init(&config, 5, &settings).unwrap();
    let specs = Params::<Spec>::spec(&config).unwrap();
    let params = specs
        .zip(&weights)
        .unwrap()
        .try_map(|(spec, values)| Reference.put(spec.shape, Data::F32(values)))
        .unwrap();
    let model = Model::new(&Reference, config.clone(), params, POSITIONS).unwrap();
    let memory = Memory {
        cache: CacheSettings {
            kind: CacheKind::for_company(&config),
            page_rows: 16,
            max_pages,
            bits: KeyBits::AsProducts,
        },
        page_bytes: PAGE_BYTES,
        weight_bytes: WEIGHT_BYTES,
    };
    Loaded::new(Arc::new(Reference), model, memory).unwrap()
}

/// What a scripted model says: after an opened turn it thinks, then answers, then ends.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// Its thought; none where it does not think by itself.
    pub(crate) thought: Option<String>,
    /// Whether it thinks only where its prompt has opened a thought.
    pub(crate) thinks_when_opened: bool,
    /// Whether the thought begins again and again.
    pub(crate) circles: bool,
    /// Its answer.
    pub(crate) answer: String,
    /// Whether it spells the marks of calls, as text.
    pub(crate) spells: bool,
    /// How long each step takes at least.
    pub(crate) pace: Duration,
    /// What breaks it.
    pub(crate) breaks: Breaks,
}

/// Ways to break a scripted model, from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaks {
    /// It panics outside of a step once this is set, which ends its engine.
    pub(crate) dies: Arc<AtomicBool>,
    /// Steps that it has made.
    pub(crate) steps: Arc<AtomicU64>,
}

impl Script {
    pub(crate) fn says(answer: &str) -> Self {
        Self {
            thought: None,
            thinks_when_opened: false,
            circles: false,
            spells: false,
            answer: answer.into(),
            pace: Duration::ZERO,
            breaks: Breaks::default(),
        }
    }

    pub(crate) fn thinking(mut self, thought: &str) -> Self {
        self.thought = Some(thought.into());
        self
    }

    pub(crate) fn circling(mut self, thought: &str) -> Self {
        self.circles = true;
        self.thinking(thought)
    }

    pub(crate) fn slowly(mut self, milliseconds: u64) -> Self {
        self.pace = Duration::from_millis(milliseconds);
        self
    }

    /// The token after these.
    fn next(&self, ids: &[u32]) -> u32 {
        let words = words();
        let id = |name: &str| words.tokenizer.control(name).unwrap();
        let [turn, think, end] = ["<|im_start|>", "<think>", "</think>"].map(id);
        let opened = ids
            .iter()
            .rposition(|id| *id == turn)
            .map_or(0, |at| at + 1);
        let said = &ids[opened..];
        let is_line = |id: &&u32| {
            let bytes = words.tokenizer.token_bytes(**id);
            bytes.is_some_and(|bytes| bytes.iter().all(|byte| *byte == b'\n'))
        };
        let go_on = |said: &[u32], text: &[u32], after: u32| {
            let lines = said.iter().take_while(is_line).count();
            text.get(said.len() - lines).copied().unwrap_or(after)
        };
        let ids_of = |text: &str| {
            if self.spells {
                return words.tokenizer.encode(text).unwrap();
            }
            ids_of(text)
        };
        let stop = words.stops[0];
        if let Some(at) = said.iter().rposition(|id| *id == end) {
            return go_on(&said[at + 1..], &ids_of(&self.answer), stop);
        }
        let thought = ids_of(self.thought.as_deref().unwrap_or_default());
        if let Some(at) = said.iter().rposition(|id| *id == think) {
            let thinks = &said[at + 1..];
            if self.circles {
                return thought[thinks.len() % thought.len()];
            }
            return go_on(thinks, &thought, end);
        }
        let opener = ids_of("assistant\n").len();
        let said = said.get(opener..).unwrap_or_default();
        if said.is_empty() && self.thought.is_some() && !self.thinks_when_opened {
            return think;
        }
        go_on(said, &ids_of(&self.answer), stop)
    }
}

/// A prompt with this in it makes a scripted model panic.
pub(crate) const POISON: &str = "\u{1}";

/// A model that follows a script, with a real cache.
#[derive(Debug)]
pub(crate) struct Scripted {
    inner: Loaded<Reference>,
    script: Script,
    poison: u32,
    ids: BTreeMap<SequenceId, Vec<u32>>,
}

impl Scripted {
    pub(crate) fn new(script: Script, max_pages: usize) -> Self {
        Self {
            inner: random(Kind::Qwen2, max_pages),
            script,
            poison: words().tokenizer.encode(POISON).unwrap()[0],
            ids: BTreeMap::new(),
        }
    }
}

impl TokenModel for Scripted {
    fn facts(&self) -> Facts {
        self.inner.facts()
    }

    fn open(&mut self) -> engine::Result<SequenceId> {
        let id = self.inner.open()?;
        self.ids.insert(id, Vec::new());
        Ok(id)
    }

    fn fork(&mut self, of: SequenceId, length: usize) -> engine::Result<SequenceId> {
        let id = self.inner.fork(of, length)?;
        let ids = self.ids[&of][..length].to_vec();
        self.ids.insert(id, ids);
        Ok(id)
    }

    fn truncate(&mut self, sequence: SequenceId, length: usize) -> engine::Result<()> {
        self.ids.get_mut(&sequence).unwrap().truncate(length);
        self.inner.truncate(sequence, length)
    }

    fn free(&mut self, sequence: SequenceId) -> engine::Result<()> {
        self.ids.remove(&sequence);
        self.inner.free(sequence)
    }

    fn pages_for(&self, sequence: SequenceId, rows: usize) -> engine::Result<usize> {
        self.inner.pages_for(sequence, rows)
    }

    fn vacant_pages(&self) -> usize {
        assert!(
            !self.script.breaks.dies.load(Ordering::Acquire),
            "it was told to"
        );
        self.inner.vacant_pages()
    }

    fn step(&mut self, parts: &mut [Part<'_>], rows: Rows) -> engine::Result<Vec<Drawn>> {
        thread::sleep(self.script.pace);
        self.script.breaks.steps.fetch_add(1, Ordering::Relaxed);
        for part in parts.iter_mut() {
            let mut all = self.ids[&part.sequence].clone();
            all.extend_from_slice(part.ids);
            let poisoned = part.ids.contains(&self.poison);
            if part.draws.is_empty() {
                assert!(!poisoned, "a secret of the model");
                continue;
            }
            let poison = self.poison as usize;
            let mut draft = part.draft.iter();
            for draw in &mut part.draws {
                let next = self.script.next(&all) as usize;
                all.extend(draft.next());
                let mut old = draw.adjust.take();
                draw.adjust = Some(Box::new(move |logits| {
                    // After the sequences have grown.
                    assert!(!poisoned, "a secret of the model");
                    logits[next] += 60.0;
                    // Only who asks for it.
                    logits[poison] -= 20.0;
                    if let Some(old) = &mut old {
                        old(logits);
                    }
                }));
            }
        }
        let drawn = self.inner.step(parts, rows)?;
        for part in parts {
            let ids = self.ids.get_mut(&part.sequence).unwrap();
            ids.extend_from_slice(part.ids);
            ids.extend_from_slice(part.draft);
        }
        Ok(drawn)
    }
}

/// The reading of a chat body's only choice.
pub(crate) fn message(body: &Value) -> &Value {
    &body["choices"][0]["message"]
}
