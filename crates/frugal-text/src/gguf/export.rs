//! From a `tokenizer.json` to the keys of a GGUF file.
//!
//! What a GGUF file cannot say is refused, not dropped: other models than byte-level pairs (our
//! own tiny models have one token per word, and no bytes to fall back on), expressions without a
//! name, other normal forms. One exception: Qwen's files ask for Unicode's NFC, which llama.cpp
//! leaves to whoever writes the text.

use serde_json::{Map, Value};

use super::pre::PreTokenizer;
use super::{TokenizerKeys, filler, inconsistent, kind};
use crate::tokenizer::{AddedToken, added_tokens};
use crate::{Error, Result, json};

/// The most ids without a token, which become fillers.
const MAX_HOLES: usize = 1 << 16;

/// Reads a `tokenizer.json`, and the `tokenizer_config.json` beside it for the names of the
/// beginning and the end and for the chat template.
///
/// *Errors*: [`Error::NotInGguf`] for a tokenizer that cannot be written so (write the GGUF file
/// without vocabulary then); others for files that are broken.
pub fn vocabulary(tokenizer: &[u8], config: Option<&[u8]>) -> Result<TokenizerKeys> {
    let added = added_tokens(tokenizer)?;
    let root = json::read("tokenizer file", tokenizer)?;
    let config: Value =
        config.map_or(Ok(Value::Null), |c| json::read("tokenizer_config.json", c))?;
    let model = root.get("model").unwrap_or(&Value::Null);
    check_model(model)?;
    check_normalizer(root.get("normalizer").unwrap_or(&Value::Null))?;
    let pre = PreTokenizer::recognise(root.get("pre_tokenizer").unwrap_or(&Value::Null))?;
    let takes_whole_words = model.get("ignore_merges").is_some_and(|v| v == true);
    if takes_whole_words != pre.takes_whole_words() {
        return Err(refused(format!(
            "ignore_merges is {takes_whole_words}, while the pre-tokenizer {} goes with {}",
            pre.name(),
            pre.takes_whole_words()
        )));
    }
    let no_tokens = Map::new();
    let vocab = model
        .get("vocab")
        .and_then(Value::as_object)
        .unwrap_or(&no_tokens);
    let (tokens, token_types) = by_id(vocab, &added)?;
    let id = |name: &str| named(&config, name, &added, vocab);
    let bos = id("bos_token")?;
    Ok(TokenizerKeys {
        model: "gpt2".into(),
        pre: pre.name().into(),
        merges: merges(model)?,
        bos,
        eos: id("eos_token")?,
        pad: id("pad_token")?,
        unk: id("unk_token")?,
        add_bos: config
            .get("add_bos_token")
            .and_then(Value::as_bool)
            .or_else(|| Some(begins_with_special(&root))),
        chat_template: crate::chat::template_source(&config).map(String::from),
        tokens,
        token_types,
    })
}

fn refused(why: impl Into<String>) -> Error {
    Error::NotInGguf(why.into())
}

fn check_model(model: &Value) -> Result<()> {
    let name = model.get("type").and_then(Value::as_str);
    // Old files leave the type out; merges give byte pairs away.
    let is_pairs = name.map_or_else(|| model.get("merges").is_some(), |name| name == "BPE");
    if !is_pairs {
        return Err(refused(format!(
            "expected byte-level pairs (BPE), got {}",
            name.unwrap_or("a model without type")
        )));
    }
    if model.get("byte_fallback").is_some_and(|v| v == true) {
        return Err(refused(
            "expected byte-level pairs, got pairs of characters with byte_fallback",
        ));
    }
    if let Some(unknown) = model.get("unk_token").filter(|v| !v.is_null()) {
        return Err(refused(format!(
            "expected no unknown token in the model, got {unknown}"
        )));
    }
    Ok(())
}

fn check_normalizer(normalizer: &Value) -> Result<()> {
    let steps = match normalizer.get("normalizers") {
        Some(Value::Array(steps)) => steps.as_slice(),
        _ if normalizer.is_null() => &[],
        _ => std::slice::from_ref(normalizer),
    };
    match steps
        .iter()
        .find(|step| step.get("type").is_none_or(|name| name != "NFC"))
    {
        Some(other) => Err(refused(format!(
            "expected no normaliser but NFC, got {other}"
        ))),
        None => Ok(()),
    }
}

/// Tokens and their types in the order of their ids.
fn by_id(vocab: &Map<String, Value>, added: &[AddedToken]) -> Result<(Vec<String>, Vec<i32>)> {
    let mut rows: Vec<Option<(&str, i32)>> = Vec::new();
    let in_vocab = vocab
        .iter()
        .map(|(token, id)| (id.as_u64(), token.as_str(), kind::NORMAL));
    let in_added = added.iter().map(|token| {
        let kind = if token.special {
            kind::CONTROL
        } else {
            kind::USER_DEFINED
        };
        (Some(token.id.into()), token.content.as_str(), kind)
    });
    // Added tokens come last, so that their type stands where the vocabulary has them too.
    for (id, token, kind) in in_vocab.chain(in_added) {
        let id = id.and_then(|id| usize::try_from(id).ok());
        let id = id.ok_or_else(|| inconsistent(format!("expected an id for {token:?}")))?;
        if id >= rows.len() {
            rows.resize(id + 1, None);
        }
        if let Some(row) = rows.get_mut(id) {
            *row = Some((token, kind));
        }
    }
    let holes = rows.iter().filter(|row| row.is_none()).count();
    if holes > MAX_HOLES {
        return Err(refused(format!(
            "expected at most {MAX_HOLES} ids without token, got {holes}"
        )));
    }
    let row = |(id, row): (usize, Option<(&str, i32)>)| match row {
        Some((token, kind)) => Ok((token.to_string(), kind)),
        None if vocab.contains_key(&filler(id))
            || added.iter().any(|a| a.content == filler(id)) =>
        {
            Err(refused(format!(
                "id {id} has no token, and the name of a filler is taken"
            )))
        }
        None => Ok((filler(id), kind::UNUSED)),
    };
    let rows: Result<Vec<(String, i32)>> = rows.into_iter().enumerate().map(row).collect();
    Ok(rows?.into_iter().unzip())
}

/// Merges as strings; the library's newer files write them as pairs.
fn merges(model: &Value) -> Result<Vec<String>> {
    let written = model.get("merges").and_then(Value::as_array);
    let written = written.ok_or_else(|| inconsistent("expected model.merges to be a list"))?;
    let joined = |merge: &Value| match merge {
        Value::String(merge) => Some(merge.clone()),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(left), Value::String(right)]
                if !left.contains(' ') && !right.contains(' ') =>
            {
                Some(format!("{left} {right}"))
            }
            _ => None,
        },
        _ => None,
    };
    written
        .iter()
        .map(|merge| {
            joined(merge)
                .ok_or_else(|| inconsistent(format!("expected a merge of two tokens, got {merge}")))
        })
        .collect()
}

/// The id of a token that the config names.
fn named(
    config: &Value,
    name: &str,
    added: &[AddedToken],
    vocab: &Map<String, Value>,
) -> Result<Option<u32>> {
    let Some(spelling) = crate::chat::token_named(config, name) else {
        return Ok(None);
    };
    let in_added = added
        .iter()
        .find(|token| token.content == spelling)
        .map(|token| token.id);
    let in_vocab = || u32::try_from(vocab.get(spelling)?.as_u64()?).ok();
    match in_added.or_else(in_vocab) {
        Some(id) => Ok(Some(id)),
        None => Err(inconsistent(format!(
            "tokenizer_config.json names {spelling:?} as {name}, which is not in the vocabulary"
        ))),
    }
}

/// Whether post-processing puts a special token before a text.
fn begins_with_special(root: &Value) -> bool {
    let processor = root.get("post_processor").unwrap_or(&Value::Null);
    let steps = match processor.get("processors") {
        Some(Value::Array(steps)) => steps.as_slice(),
        _ => std::slice::from_ref(processor),
    };
    let first = |step: &Value| step.get("single")?.get(0)?.get("SpecialToken").cloned();
    steps.iter().any(|step| first(step).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::small;
    use super::super::{tokenizer_config_json, tokenizer_json};
    use super::*;
    use crate::word_level;

    type Change = fn(&mut Value);

    const KINDS: [&str; 6] = [
        "gpt-2",
        "qwen2",
        "llama-bpe",
        "deepseek-llm",
        "deepseek-coder",
        "deepseek-v3",
    ];

    #[test]
    fn a_vocabulary_survives_the_way_through_json() {
        for pre in KINDS {
            let mut before = small(pre);
            before.add_bos = Some(pre.starts_with("deepseek"));
            let file = tokenizer_json(&before).unwrap();
            let config = tokenizer_config_json(&before).unwrap();
            let after = vocabulary(&file, Some(&config)).unwrap();
            // An end of type 1 is control here, and is written as such; the last token was unused.
            before.token_types[261] = kind::CONTROL;
            before.token_types[262] = kind::CONTROL;
            let after = crate::gguf::padded(after, before.tokens.len()).unwrap();
            assert_eq!(after, before);
            let again = tokenizer_json(&after).unwrap();
            assert!(again == file, "{pre}");
        }
    }

    #[test]
    fn without_a_config_the_file_itself_says_what_it_can() {
        let before = small("llama-bpe");
        let after = vocabulary(&tokenizer_json(&before).unwrap(), None).unwrap();
        assert_eq!(
            (after.bos, after.eos, after.add_bos),
            (None, None, Some(true))
        );
        assert_eq!(after.chat_template, None);
    }

    #[test]
    fn pairs_holes_and_old_merges_are_read() {
        let mut file: Value =
            serde_json::from_slice(&tokenizer_json(&small("qwen2")).unwrap()).unwrap();
        file["model"]["merges"] = json!(["t h", "th e", "Ġ the"]);
        file["normalizer"] = json!({ "type": "NFC" });
        file["added_tokens"][0]["id"] = json!(300);
        file["model"]["vocab"]
            .as_object_mut()
            .unwrap()
            .remove("<｜begin｜>");
        let after = vocabulary(file.to_string().as_bytes(), None).unwrap();
        assert_eq!(after.merges, small("qwen2").merges);
        assert_eq!(
            (after.tokens.len(), after.tokens[258].as_str()),
            (301, "[PAD258]")
        );
        assert_eq!(
            (after.token_types[258], after.token_types[300]),
            (kind::UNUSED, kind::CONTROL)
        );
    }

    #[test]
    fn what_a_gguf_file_cannot_say_is_refused() {
        let words = word_level::tokenizer_json(&["a".to_string()], &word_level::CONTROL).unwrap();
        let told = vocabulary(&words, None).unwrap_err();
        assert!(
            matches!(&told, Error::NotInGguf(why) if why.contains("WordLevel")),
            "{told}"
        );
        let changes: [Change; 6] = [
            |f| f["normalizer"] = json!({ "type": "Lowercase" }),
            |f| f["normalizer"] = json!({ "type": "Sequence", "normalizers": [{ "type": "NFD" }] }),
            |f| f["pre_tokenizer"] = json!({ "type": "WhitespaceSplit" }),
            |f| f["model"]["ignore_merges"] = json!(true),
            |f| f["model"]["unk_token"] = json!("<unk>"),
            |f| f["added_tokens"][0]["id"] = json!(1_000_000),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut file: Value =
                serde_json::from_slice(&tokenizer_json(&small("qwen2")).unwrap()).unwrap();
            file["model"]["vocab"]
                .as_object_mut()
                .unwrap()
                .remove("<｜begin｜>");
            change(&mut file);
            let got = vocabulary(file.to_string().as_bytes(), None);
            assert!(matches!(got, Err(Error::NotInGguf(_))), "{at}: {got:?}");
        }
        let file = tokenizer_json(&small("qwen2")).unwrap();
        assert!(vocabulary(&file, Some(b"{\"bos_token\": \"<s>\"}")).is_err());
        assert!(vocabulary(b"{}", None).is_err() && vocabulary(&file, Some(b"{")).is_err());
    }
}
