//! Checks a `tokenizer.json` and prepares it for the library.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::parts;
use super::{MAX_ADDED, MAX_FILE_BYTES, MAX_SPELLING_BYTES, MAX_VOCABULARY};
use crate::{Error, Result, json};

/// An entry of `added_tokens`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the fields of the file"
)]
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) special: bool,
    /// Text that is matched like any other token; not a field of the file.
    #[serde(skip)]
    pub(super) plain: bool,
}

/// A file that is consistent and holds no control token any more.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) root: Value,
    pub(super) added: BTreeMap<u32, Added>,
    /// One more than the highest id.
    pub(super) vocab_size: usize,
}

/// Which added tokens are text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Plain<'a> {
    /// Those that the file does not call special and that are not spelled like markup.
    ByRule,
    /// Those named, which must be there.
    Named(&'a [&'a str]),
}

impl Plain<'_> {
    fn holds(self, token: &Added) -> bool {
        match self {
            Self::ByRule => !token.special && !is_markup(&token.content),
            Self::Named(names) => names.contains(&token.content.as_str()),
        }
    }
}

/// Whether a spelling is that of markup: `<think>`, `<｜User｜>`, `[gMASK]`. DeepSeek and Qwen add
/// their marks without calling them special, so that other tools print them; and DeepSeek adds `ü`
/// in the same way, which is text.
fn is_markup(spelling: &str) -> bool {
    let bare = spelling.trim_matches(|c: char| c.is_whitespace() || c == '▁');
    let between = |open, close| bare.starts_with(open) && bare.ends_with(close) && bare.len() > 2;
    between('<', '>') || between('[', ']')
}

/// Reads a file, checks it, and takes the control tokens out.
pub(super) fn settle(bytes: &[u8], plain: Plain<'_>) -> Result<Settled> {
    within("bytes of a tokenizer file", MAX_FILE_BYTES, bytes.len())?;
    let Value::Object(mut root) = json::read("tokenizer file", bytes)? else {
        return Err(inconsistent("expected an object"));
    };
    parts::check(&root)?;
    let (added, kept) = match root.remove("added_tokens") {
        Some(Value::Array(entries)) => read_added(entries, plain)?,
        None | Some(Value::Null) => (BTreeMap::new(), Vec::new()),
        Some(_) => return Err(inconsistent("expected added_tokens to be a list")),
    };
    if let Plain::Named(names) = plain
        && let Some(name) = names
            .iter()
            .find(|name| !added.values().any(|a| a.content == **name))
    {
        return Err(inconsistent(format!(
            "expected an added token {name:?}, to be used as text"
        )));
    }
    root.insert("added_tokens".into(), Value::Array(kept));
    for unasked in ["post_processor", "truncation", "padding"] {
        root.insert(unasked.into(), Value::Null);
    }
    let Some(Value::Object(model)) = root.get_mut("model") else {
        return Err(inconsistent("expected an object named model"));
    };
    let in_model = match model.get_mut("vocab") {
        Some(Value::Object(vocab)) => settle_vocabulary(vocab, &added)?,
        Some(Value::Array(pieces)) => check_pieces(pieces, &added)?,
        _ => {
            return Err(inconsistent(
                "expected model.vocab to be an object or a list",
            ));
        }
    };
    let in_added = added.keys().next_back().map_or(0, |id| *id as usize + 1);
    // Merges left out by chance are an exercise for training; here the same text has the same ids.
    model.shift_remove("dropout");
    refuse_affixes(model)?;
    require_all_bytes(model)?;
    Ok(Settled {
        root: Value::Object(root),
        added,
        vocab_size: in_model.max(in_added),
    })
}

pub(super) fn inconsistent(what: impl Into<String>) -> Error {
    Error::Inconsistent(what.into())
}

fn within(what: &'static str, limit: usize, got: usize) -> Result<()> {
    if got > limit {
        Err(Error::TooLarge { what, limit, got })
    } else {
        Ok(())
    }
}

/// Reads and checks the added tokens (limits, no id twice, no spelling twice), and keeps the entries
/// of the plain ones.
fn read_added(entries: Vec<Value>, plain: Plain<'_>) -> Result<(BTreeMap<u32, Added>, Vec<Value>)> {
    within("added tokens", MAX_ADDED, entries.len())?;
    let mut spellings = BTreeSet::new();
    let (mut added, mut kept) = (BTreeMap::new(), Vec::new());
    for entry in entries {
        let what = "an added token";
        let mut one = Added::deserialize(&entry).map_err(|source| Error::Json { what, source })?;
        within(
            "bytes of an added token",
            MAX_SPELLING_BYTES,
            one.content.len(),
        )?;
        check_id(u64::from(one.id), &one.content)?;
        if one.content.is_empty() {
            return Err(inconsistent(format!(
                "added token {} is spelled with nothing",
                one.id
            )));
        }
        if !spellings.insert(one.content.clone()) {
            return Err(inconsistent(format!(
                "added token {:?} comes twice",
                one.content
            )));
        }
        one.plain = plain.holds(&one);
        if one.plain {
            kept.push(entry);
        }
        if let Some(other) = added.insert(one.id, one) {
            return Err(inconsistent(format!(
                "two added tokens have the id {}",
                other.id
            )));
        }
    }
    Ok((added, kept))
}

fn check_id(id: u64, token: &str) -> Result<u32> {
    let small = u32::try_from(id)
        .ok()
        .filter(|id| (*id as usize) < MAX_VOCABULARY);
    small.ok_or_else(|| {
        inconsistent(format!(
            "expected ids below {MAX_VOCABULARY}, got {id} for {token:?}"
        ))
    })
}

/// Checks the vocabulary, takes the control tokens out and puts plain added tokens in (the library
/// would number them anew otherwise). Returns one more than the highest id.
fn settle_vocabulary(
    vocab: &mut Map<String, Value>,
    added: &BTreeMap<u32, Added>,
) -> Result<usize> {
    within("tokens of a vocabulary", MAX_VOCABULARY, vocab.len())?;
    let mut by_id = BTreeMap::new();
    for (token, id) in &*vocab {
        let number = id.as_u64().ok_or_else(|| {
            inconsistent(format!("expected a number as id of {token:?}, got {id}"))
        })?;
        if let Some(other) = by_id.insert(check_id(number, token)?, token.as_str()) {
            return Err(inconsistent(format!(
                "{other:?} and {token:?} share the id {id}"
            )));
        }
    }
    let n_ids = by_id.keys().next_back().map_or(0, |id| *id as usize + 1);
    for Added { id, content, .. } in added.values() {
        let there = vocab.get(content).and_then(Value::as_u64);
        if there.is_some_and(|there| there != u64::from(*id))
            || by_id.get(id).is_some_and(|token| token != content)
        {
            return Err(inconsistent(format!(
                "expected added token {content:?} with id {id} to agree with the vocabulary, which has {there:?} for it and {:?} for its id",
                by_id.get(id)
            )));
        }
    }
    let control: BTreeSet<&str> = added
        .values()
        .filter(|a| !a.plain)
        .map(|a| a.content.as_str())
        .collect();
    vocab.retain(|token, _| !control.contains(token.as_str()));
    for one in added.values().filter(|a| a.plain) {
        vocab.insert(one.content.clone(), one.id.into());
    }
    Ok(n_ids)
}

/// Checks a vocabulary whose ids are positions (Unigram). Nothing can be taken out of it, so what
/// such a model makes of text is checked when it is encoded; nor can plain tokens be put in.
fn check_pieces(pieces: &[Value], added: &BTreeMap<u32, Added>) -> Result<usize> {
    within("tokens of a vocabulary", MAX_VOCABULARY, pieces.len())?;
    for Added {
        id, content, plain, ..
    } in added.values()
    {
        let there = pieces
            .get(*id as usize)
            .and_then(|piece| piece.get(0)?.as_str());
        if there.is_some_and(|there| there != content) || (*plain && there.is_none()) {
            return Err(inconsistent(format!(
                "expected added token {content:?} with id {id} to agree with the vocabulary, which has {there:?} there"
            )));
        }
    }
    Ok(pieces.len())
}

/// Whether this letter of the byte-level alphabet stands for a byte that no UTF-8 text has (C0, C1,
/// F5 to FF, each its own letter). DeepSeek's vocabularies leave these out and give their letters,
/// `ü` for FC, to added tokens.
pub(super) fn is_never_in_text(letter: char) -> bool {
    matches!(letter, '\u{C0}' | '\u{C1}' | '\u{F5}'..='\u{FF}')
}

/// Marks of word parts are no business of byte-level models, and the library cuts them off tokens
/// without looking.
fn refuse_affixes(model: &Map<String, Value>) -> Result<()> {
    for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
        let affix = model.get(name).unwrap_or(&Value::Null);
        if !(affix.is_null() || affix == "") {
            return Err(inconsistent(format!("expected no {name}, got {affix}")));
        }
    }
    Ok(())
}

/// A byte-pair model without an unknown token silently drops characters that it lacks. It may be
/// loaded only if it has all bytes of UTF-8, as letters or in the spelling of byte fallback.
fn require_all_bytes(model: &Map<String, Value>) -> Result<()> {
    let has_unknown = model.get("unk_token").is_some_and(|v| !v.is_null());
    if !model.contains_key("merges") || has_unknown {
        return Ok(());
    }
    let expected: Vec<String> = if model.get("byte_fallback") == Some(&Value::Bool(true)) {
        (0..=u8::MAX)
            .map(|byte| format!("<0x{byte:02X}>"))
            .collect()
    } else {
        let letters = ByteLevel::alphabet()
            .into_iter()
            .filter(|c| !is_never_in_text(*c));
        letters.map(String::from).collect()
    };
    let has = |token: &&String| {
        model
            .get("vocab")
            .is_some_and(|v| v.get(token.as_str()).is_some())
    };
    match expected.len() - expected.iter().filter(has).count() {
        0 => Ok(()),
        missing => Err(inconsistent(format!(
            "expected every byte in a byte-pair vocabulary without unknown token, {missing} are missing"
        ))),
    }
}
