//! Models by name: found, loaded when first asked for, unloaded when memory is wanted.
//!
//! Where they come from is the binary's business, behind [`Library`].

use std::fmt::Debug;
use std::sync::Arc;

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
    /// What its card and files say: base, licence, parameters, format; shown as it is.
    pub about: Value,
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
    /// Those that could be served.
    fn list(&self) -> Vec<Listed>;
    /// Opens one, within so many bytes for its cache.
    ///
    /// # Errors
    /// In words for the operator.
    fn open(&self, name: &str, cache_bytes: u64) -> Result<Ready, String>;
}
