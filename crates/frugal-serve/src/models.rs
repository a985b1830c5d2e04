//! Models by name: found, loaded when first asked for, unloaded when memory is wanted.
//!
//! Where they come from is the binary's business, behind [`Library`]; and so is, behind [`Catalogue`],
//! what the page shows of all models that are kept here, served or not, and does with them.

use std::fmt::Debug;
use std::sync::Arc;

pub use frugal_run::Stop;
pub use frugal_run::hub::{Wanted, Watch};

use frugal_text::Tokenizer;
use frugal_text::chat::Template;
use frugal_text::reasoning::Markup;
use serde_json::Value;

use crate::engine::TokenModel;

/// A model that could be served.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Unix seconds at which its files came to be.
    pub created: i64,
    /// Bytes of its weights.
    pub bytes: u64,
    /// Tokens that a conversation with it may have, where that is known.
    pub context: Option<usize>,
    /// How it samples where a request does not say.
    pub sampling: Option<Sampling>,
    /// What its card and files say: base, licence, parameters, format; shown as it is.
    pub about: Value,
}

/// How a model samples where a request does not say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// How evenly likely and unlikely tokens are drawn.
    pub temperature: f32,
    /// Share of all probability that is drawn from.
    pub top_p: f32,
    /// Tokens that are drawn from; 0 keeps all.
    pub top_k: usize,
}

/// What goes between text and ids for one model.
#[derive(Debug)]
pub struct Words {
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// Its `tokenizer_config.json`, for `/tokenizer_info`.
    pub tokenizer_config: Value,
    /// Its chat template.
    pub template: Option<Template>,
    /// The marks of thinking.
    pub markup: Option<Markup>,
    /// Tokens that end an answer.
    pub stops: Vec<u32>,
    /// The token that texts begin with.
    pub bos: Option<u32>,
    /// How the makers sample: temperature, top-p, top-k.
    pub temperature: f32,
    /// See temperature.
    pub top_p: f32,
    /// See temperature; 0 keeps all.
    pub top_k: usize,
}

/// A model ready to compute.
#[derive(Debug)]
pub struct Ready {
    /// The model and its cache.
    pub model: Box<dyn TokenModel>,
    /// Its words.
    pub words: Arc<Words>,
}

/// Where models come from.
pub trait Library: Send + Sync + Debug {
    /// Those that could be served. May read files: called on threads that may wait.
    fn list(&self) -> Vec<Listed>;
    /// Opens one, within so many bytes for its cache.
    ///
    /// # Errors
    /// In words for the operator.
    fn open(&self, name: &str, cache_bytes: u64) -> Result<Ready, String>;
}

/// A model as the page shows it, as far as it is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    /// The name it is served under, else its name in the store.
    pub name: String,
    /// Its name in the store, where it lies there: then it can be verified and removed.
    pub stored: Option<String>,
    /// Bytes of its files.
    pub bytes: u64,
    /// All parameters.
    pub parameters: Option<u64>,
    /// Parameters that one token passes through.
    pub active_parameters: Option<u64>,
    /// How its weights are stored: `BF16`, `Q4_K+Q6_K`.
    pub format: Option<String>,
    /// Its family: `DeepseekV3ForCausalLM`.
    pub architecture: Option<String>,
    /// Its licence.
    pub licence: Option<String>,
    /// What it was made from.
    pub base_models: Vec<String>,
    /// How it was made from that: a word of its card, or the kind of a run's stage.
    pub method: Option<String>,
    /// Who taught it, where somebody did.
    pub teacher: Option<String>,
    /// Its address on a hub, or the path it was taken from.
    pub origin: Option<Origin>,
    /// Unix seconds at which it came to be here.
    pub created: i64,
    /// Tokens that a conversation with it may have.
    pub context: Option<usize>,
    /// For a model of a run: those it came from there, the first one first.
    pub before: Vec<Ancestor>,
    /// What it cost to make, where that is recorded.
    pub cost: Option<Cost>,
}

/// Where a model's files came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A repository of a hub, as people open it, and the commit.
    Hub {
        /// Its address.
        address: String,
        /// The commit.
        revision: String,
    },
    /// A path of this machine, which not everyone is told.
    Path(String),
}

/// A model that another came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ancestor {
    /// Its name.
    pub name: String,
    /// How it was made.
    pub method: Option<String>,
    /// Who taught it, where somebody did.
    pub teacher: Option<String>,
}

/// What it cost to make a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// FLOPs.
    pub flops: f64,
    /// Seconds of one core.
    pub core_seconds: f64,
    /// Energy.
    pub joules: f64,
    /// Money, in each currency that was paid in.
    pub money: Vec<(String, f64)>,
}

/// How fast a model will be here and what it needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Tokens of an answer in a second, in the middle of a conversation.
    pub tokens_per_second: f64,
    /// Tokens of a prompt in a second.
    pub prompt_tokens_per_second: f64,
    /// Bytes of weights and of one conversation at full length.
    pub memory_bytes: u64,
}

/// The models that are kept here, and what can be done with them. Everything here may take long: it
/// is called on threads that may wait.
pub trait Catalogue: Send + Sync + Debug {
    /// All models, in order of name.
    ///
    /// # Errors
    /// In words for the log.
    fn entries(&self) -> Result<Vec<Entry>, String>;
    /// What its makers wrote of a model for people, if they did.
    fn card(&self, name: &str) -> Option<String>;
    /// How fast a model will be here.
    ///
    /// # Errors
    /// In words for the operator, here and below.
    fn forecast(&self, name: &str) -> Result<Forecast, String>;
    /// Fetches a model, until asked to stop; its name.
    fn pull(&self, wanted: &Wanted, stop: &Stop, watch: &mut Watch<'_>) -> Result<String, String>;
    /// Holds a stored model's files against their digests; what differs, none where all is well.
    fn verify(
        &self,
        stored: &str,
        stop: &Stop,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<String>, String>;
    /// Removes a stored model. Nobody loads it meanwhile.
    fn remove(&self, stored: &str) -> Result<(), String>;
}
