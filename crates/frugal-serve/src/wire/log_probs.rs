//! Log-probabilities in OpenAI's two shapes.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::answer::TokenText;

/// What OpenAI writes for a log-probability too small to say, JSON having no infinities.
const LEAST: f64 = -9999.0;

/// Tokens as chat completions show them.
pub(super) fn items(tokens: &[TokenText]) -> Value {
    tokens.iter().map(chat_item).collect()
}

fn chat_item(token: &TokenText) -> Value {
    let triple = |bytes: &[u8], log_prob: Option<f32>| json!({ "token": spelled(bytes), "logprob": finite(log_prob), "bytes": bytes });
    let likeliest = token.likeliest.iter();
    let likeliest: Value = likeliest
        .map(|(_, bytes, log_prob)| triple(bytes, Some(*log_prob)))
        .collect();
    let mut item = triple(&token.bytes, token.log_prob);
    if let Some(item) = item.as_object_mut() {
        item.insert("top_logprobs".into(), likeliest);
    }
    item
}

fn finite(log_prob: Option<f32>) -> f64 {
    log_prob
        .map(f64::from)
        .filter(|x| x.is_finite())
        .unwrap_or(LEAST)
}

/// The text of a token; a part of a character is written as OpenAI does, so that two of them differ.
pub(super) fn spelled(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        }),
    }
}

/// Tokens as completions show them: four lists of the same length.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    tokens: Vec<String>,
    log_probs: Vec<Value>,
    likeliest: Vec<Value>,
    offsets: Vec<usize>,
}

impl Legacy {
    /// Adds a token that begins at a character of the text.
    pub(super) fn add(&mut self, token: &TokenText, offset: usize) {
        self.tokens.push(spelled(&token.bytes));
        self.offsets.push(offset);
        if token.log_prob.is_none() {
            self.log_probs.push(Value::Null);
            self.likeliest.push(Value::Null);
            return;
        }
        let chosen = finite(token.log_prob);
        self.log_probs.push(chosen.into());
        // Tokens may look alike; the likelier one stands, as readers take the greatest.
        let mut likeliest = Map::new();
        let others = token.likeliest.iter();
        let all = others
            .map(|(_, bytes, log_prob)| (bytes, finite(Some(*log_prob))))
            .chain([(&token.bytes, chosen)]);
        for (bytes, log_prob) in all {
            likeliest
                .entry(spelled(bytes))
                .or_insert_with(|| log_prob.into());
        }
        self.likeliest.push(likeliest.into());
    }

    /// The object `logprobs`, emptying this.
    pub(super) fn take(&mut self) -> Value {
        let Self {
            tokens,
            log_probs,
            likeliest,
            offsets,
        } = std::mem::take(self);
        json!({
            "tokens": tokens,
            "token_logprobs": log_probs,
            "top_logprobs": likeliest,
            "text_offset": offsets,
        })
    }
}

/// Follows where tokens begin in a text, in characters.
#[derive(Debug, Default)]
pub(super) struct Place(usize);

impl Place {
    /// The place after a text.
    pub(super) fn after(text: &str) -> Self {
        Self(text.chars().count())
    }

    /// Where a token begins that has these bytes of the text. In the midst of a character, it is the
    /// character's place.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> usize {
        let begins = |byte: &u8| byte & 0b1100_0000 != 0b1000_0000;
        let is_inside = bytes.first().is_some_and(|first| !begins(first));
        let place = self.0.saturating_sub(usize::from(is_inside));
        self.0 += bytes.iter().filter(|byte| begins(byte)).count();
        place
    }
}
