//! The tokenizer's keys as plain data. What they mean is a matter of the room of text.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Gguf;
use super::config::{text, token_id};
use super::value::{Array, Value};
use crate::error::{Error, Result};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const PAD: &str = "tokenizer.ggml.padding_token_id";
const UNK: &str = "tokenizer.ggml.unknown_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const TEMPLATE: &str = "tokenizer.chat_template";
/// How llama.cpp cuts text where a file does not say.
const DEFAULT: &str = "default";
/// The type of an ordinary token, for files that state none.
const NORMAL: i32 = 1;

/// A tokenizer as a file describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizerKeys {
    /// Which kind: `gpt2` for byte-level BPE.
    pub model: String,
    /// How text is cut before merging; `default` where an older file does not say.
    pub pre: String,
    /// The text of each token, in the kind's own alphabet.
    pub tokens: Vec<String>,
    /// 1 ordinary, 2 unknown, 3 control, 4 added by the user, 5 unused, 6 a byte.
    pub token_types: Vec<i32>,
    /// Pairs that merge, the first first, each with a space between.
    pub merges: Vec<String>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The token that ends one.
    pub eos: Option<u32>,
    /// The token that fills up a batch.
    pub pad: Option<u32>,
    /// The token that stands for what has none.
    pub unk: Option<u32>,
    /// Whether a text is begun with the first of them; none where the file leaves it to its kind.
    pub add_bos: Option<bool>,
    /// The chat template, in Jinja.
    pub chat_template: Option<String>,
}

/// The tokenizer's keys of a file; none where it has no tokenizer.
pub(super) fn tokenizer(gguf: &Gguf) -> Result<Option<TokenizerKeys>> {
    match gguf.keys.get(MODEL).map(Value::text) {
        None | Some(Some("none" | "no_vocab")) => return Ok(None),
        Some(_) => {}
    }
    let refuse = |key: &str, expected: &str, got: String| Error::GgufKey {
        key: key.to_owned(),
        expected: expected.to_owned(),
        got,
    };
    let maybe_text = |key: &str| match gguf.keys.get(key) {
        None => Ok(None),
        Some(_) => text(gguf, key).map(|text| Some(text.to_owned())),
    };
    let texts = |key: &str| match gguf.keys.get(key) {
        Some(Value::Array(Array::String(texts))) => Ok(texts.clone()),
        Some(other) => Err(refuse(key, "an array of texts", other.to_string())),
        None => Ok(Vec::new()),
    };
    let tokens = texts(TOKENS)?;
    if tokens.is_empty() {
        return Err(refuse(TOKENS, "an array of texts", "none".to_owned()));
    }
    let token_types = match gguf.keys.get(TYPES) {
        Some(Value::Array(Array::I32(types))) => types.clone(),
        Some(other) => return Err(refuse(TYPES, "an array of i32", other.to_string())),
        None => alloc::vec![NORMAL; tokens.len()],
    };
    if token_types.len() != tokens.len() {
        let expected = format!("as many as the {} tokens", tokens.len());
        return Err(refuse(TYPES, &expected, token_types.len().to_string()));
    }
    let add_bos = match gguf.keys.get(ADD_BOS) {
        None => None,
        Some(Value::Bool(flag)) => Some(*flag),
        Some(other) => return Err(refuse(ADD_BOS, "true or false", other.to_string())),
    };
    Ok(Some(TokenizerKeys {
        model: text(gguf, MODEL)?.to_owned(),
        pre: maybe_text(PRE)?.unwrap_or_else(|| DEFAULT.to_owned()),
        tokens,
        token_types,
        merges: texts(MERGES)?,
        bos: token_id(gguf, BOS)?,
        eos: token_id(gguf, EOS)?,
        pad: token_id(gguf, PAD)?,
        unk: token_id(gguf, UNK)?,
        add_bos,
        chat_template: maybe_text(TEMPLATE)?,
    }))
}

impl TokenizerKeys {
    /// Whether a token is other than ordinary text.
    pub(super) fn is_special(&self, id: u32) -> bool {
        let index = usize::try_from(id).unwrap_or(usize::MAX);
        self.token_types
            .get(index)
            .is_some_and(|kind| *kind != NORMAL)
    }

    /// The keys as a file holds them.
    pub(super) fn to_keys(&self) -> Vec<(String, Value)> {
        let mut keys = alloc::vec![(MODEL.to_owned(), Value::String(self.model.clone()))];
        let mut push = |key: &str, value: Option<Value>| {
            keys.extend(value.map(|value| (key.to_owned(), value)));
        };
        push(PRE, Some(Value::String(self.pre.clone())));
        push(
            TOKENS,
            Some(Value::Array(Array::String(self.tokens.clone()))),
        );
        push(
            TYPES,
            Some(Value::Array(Array::I32(self.token_types.clone()))),
        );
        let has_merges = !self.merges.is_empty();
        let merges = has_merges.then(|| Value::Array(Array::String(self.merges.clone())));
        push(MERGES, merges);
        push(BOS, self.bos.map(Value::U32));
        push(EOS, self.eos.map(Value::U32));
        push(PAD, self.pad.map(Value::U32));
        push(UNK, self.unk.map(Value::U32));
        push(ADD_BOS, self.add_bos.map(Value::Bool));
        push(TEMPLATE, self.chat_template.clone().map(Value::String));
        keys
    }
}
