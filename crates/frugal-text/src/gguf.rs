//! Tokenizers as GGUF files hold them, to and from `tokenizer.json`.
//!
//! A GGUF file has the tokens in order, a type for each, the merges, and the name of a
//! pre-tokenizer; the expressions behind that name are in `gguf/pre.rs`, the way back in
//! `gguf/export.rs`. Only byte-level pairs are known (`tokenizer.ggml.model` is `gpt2`): the
//! SentencePiece vocabularies of Llama 2's time are refused.
//!
//! Types become what Hugging Face's files say: control and unknown tokens are special; user-defined
//! ones are added but not special, and [`Tokenizer::from_json`](crate::Tokenizer::from_json) tells
//! by their spelling whether they are markup (`<think>`) or text (`ü`); unused ones are fillers for
//! rows of the embedding and are left out.
//!
//! Does not do: the file format itself; its keys come in as [`TokenizerKeys`].

mod export;
mod pre;

use serde_json::{Map, Value, json};

pub use self::export::vocabulary;
use self::pre::PreTokenizer;
use crate::tokenizer::{MAX_ADDED, MAX_FILE_BYTES, MAX_SPELLING_BYTES, MAX_VOCABULARY};
use crate::{Error, Result};
pub use frugal_model::checkpoint::gguf::TokenizerKeys;

/// The most merges. Llama 3 has 280,000 for 128,000 tokens.
pub const MAX_MERGES: usize = 1 << 22;

/// What a token is, by its number in `tokenizer.ggml.token_type`.
mod kind {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const UNUSED: i32 = 5;
    pub(super) const BYTE: i32 = 6;
}

/// The same keys with unused tokens up to as many as the embedding has rows, as llama.cpp wants it.
///
/// *Errors*: more tokens than rows.
pub fn padded(mut keys: TokenizerKeys, rows: usize) -> Result<TokenizerKeys> {
    if rows < keys.tokens.len() || rows > MAX_VOCABULARY {
        return Err(inconsistent(format!(
            "expected rows for {} tokens (at most {MAX_VOCABULARY}), got {rows}",
            keys.tokens.len()
        )));
    }
    keys.tokens.extend((keys.tokens.len()..rows).map(filler));
    keys.token_types.resize(rows, kind::UNUSED);
    Ok(keys)
}

/// Whether sequences begin with `bos`, by the file or else by its pre-tokenizer.
pub fn begins_sequences(keys: &TokenizerKeys) -> bool {
    let by_name = || PreTokenizer::from_name(&keys.pre).is_ok_and(PreTokenizer::begins_sequences);
    keys.bos.is_some() && keys.add_bos.unwrap_or_else(by_name)
}

fn spelling(keys: &TokenizerKeys, id: Option<u32>) -> Option<&str> {
    keys.tokens.get(id? as usize).map(String::as_str)
}

/// The name of a token that only fills a row.
fn filler(id: usize) -> String {
    format!("[PAD{id}]")
}

fn inconsistent(what: impl Into<String>) -> Error {
    Error::Inconsistent(what.into())
}

/// Writes the `tokenizer.json` of a vocabulary, for [`Tokenizer::from_json`](crate::Tokenizer::from_json)
/// and for other tools.
///
/// *Errors*: a model or pre-tokenizer that we do not know, lists of unlike length, a token twice, an
/// id or a merge outside of the vocabulary, more than the limits allow.
pub fn tokenizer_json(vocabulary: &TokenizerKeys) -> Result<Vec<u8>> {
    let pre = check_model(vocabulary)?;
    check_sizes(vocabulary)?;
    let ends = check_ids(vocabulary)?;
    let mut vocab = Map::new();
    let mut added = Vec::new();
    for (id, (token, kind)) in vocabulary
        .tokens
        .iter()
        .zip(&vocabulary.token_types)
        .enumerate()
    {
        let is_special = ends.contains(&Some(id)) || matches!(*kind, kind::CONTROL | kind::UNKNOWN);
        match *kind {
            kind::UNUSED if !is_special => continue,
            kind::NORMAL | kind::BYTE if !is_special => {}
            kind::NORMAL..=kind::BYTE => added.push(added_token(id, token, is_special)),
            other => {
                return Err(inconsistent(format!(
                    "expected token types 1 to 6, got {other} for token {id} ({token:?})"
                )));
            }
        }
        if vocab.insert(token.clone(), id.into()).is_some() {
            return Err(inconsistent(format!(
                "token {token:?} comes twice, again as {id}"
            )));
        }
    }
    within("added tokens", MAX_ADDED, added.len())?;
    let merges = split_merges(&vocabulary.merges, &vocab)?;
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": pre.to_json(),
        "post_processor": post_processor(vocabulary),
        "decoder": bytes,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": pre.takes_whole_words(),
            "vocab": vocab,
            "merges": merges,
        },
    });
    Ok(file.to_string().into_bytes())
}

/// Writes the `tokenizer_config.json` that goes with [`tokenizer_json`]: the names of tokens, and the
/// chat template if there is one.
///
/// *Errors*: an id outside of the vocabulary.
pub fn tokenizer_config_json(vocabulary: &TokenizerKeys) -> Result<Vec<u8>> {
    check_ids(vocabulary)?;
    let mut config = Map::from_iter([
        (
            "tokenizer_class".to_string(),
            "PreTrainedTokenizerFast".into(),
        ),
        ("clean_up_tokenization_spaces".to_string(), false.into()),
        (
            "add_bos_token".to_string(),
            begins_sequences(vocabulary).into(),
        ),
    ]);
    let texts = [
        ("bos_token", spelling(vocabulary, vocabulary.bos)),
        ("eos_token", spelling(vocabulary, vocabulary.eos)),
        ("pad_token", spelling(vocabulary, vocabulary.pad)),
        ("unk_token", spelling(vocabulary, vocabulary.unk)),
        ("chat_template", vocabulary.chat_template.as_deref()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            config.insert(name.to_string(), text.into());
        }
    }
    Ok(format!("{:#}\n", Value::Object(config)).into_bytes())
}

/// The `pre_tokenizer` of a `tokenizer.json`, by its name in GGUF files.
pub(crate) fn pre_tokenizer_json(name: &str) -> Result<Value> {
    PreTokenizer::from_name(name).map(PreTokenizer::to_json)
}

fn check_model(vocabulary: &TokenizerKeys) -> Result<PreTokenizer> {
    match vocabulary.model.as_str() {
        "gpt2" => PreTokenizer::from_name(&vocabulary.pre),
        "llama" => Err(inconsistent(
            "expected a vocabulary of byte-level pairs (gpt2), got one of SentencePiece (llama); \
             take the tokenizer.json of the original checkpoint",
        )),
        other => Err(inconsistent(format!(
            "expected a vocabulary of byte-level pairs (gpt2), got {other:?}"
        ))),
    }
}

fn within(what: &'static str, limit: usize, got: usize) -> Result<()> {
    if got > limit {
        return Err(Error::TooLarge { what, limit, got });
    }
    Ok(())
}

fn check_sizes(vocabulary: &TokenizerKeys) -> Result<()> {
    let TokenizerKeys {
        tokens,
        token_types,
        merges,
        ..
    } = vocabulary;
    within("tokens of a vocabulary", MAX_VOCABULARY, tokens.len())?;
    within("merges of a vocabulary", MAX_MERGES, merges.len())?;
    let bytes = tokens.iter().chain(merges).map(String::len).sum();
    within("bytes of a vocabulary", MAX_FILE_BYTES, bytes)?;
    if token_types.len() != tokens.len() {
        return Err(inconsistent(format!(
            "expected a type for each of {} tokens, got {}",
            tokens.len(),
            token_types.len()
        )));
    }
    Ok(())
}

/// Checks the ids, and gives those of the beginning and the end, which are control whatever their
/// type says.
fn check_ids(vocabulary: &TokenizerKeys) -> Result<[Option<usize>; 2]> {
    let TokenizerKeys {
        bos,
        eos,
        pad,
        unk,
        tokens,
        ..
    } = vocabulary;
    for id in [bos, eos, pad, unk].into_iter().flatten() {
        if *id as usize >= tokens.len() {
            return Err(Error::UnknownId {
                id: *id,
                vocab_size: tokens.len(),
            });
        }
    }
    Ok([bos.map(|id| id as usize), eos.map(|id| id as usize)])
}

fn added_token(id: usize, token: &str, is_special: bool) -> Value {
    json!({
        "id": id,
        "content": token,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": false,
        "special": is_special,
    })
}

/// Splits the merges, whose parts and products must be tokens.
fn split_merges<'a>(merges: &'a [String], vocab: &Map<String, Value>) -> Result<Vec<[&'a str; 2]>> {
    let split = |(rank, merge): (usize, &'a String)| {
        let refused = |why: &str| inconsistent(format!("merge {rank} ({merge:?}) {why}"));
        let (left, right) = merge
            .split_once(' ')
            .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
            .ok_or_else(|| refused("is not two tokens with a space between"))?;
        let product = format!("{left}{right}");
        if merge.len() > 2 * MAX_SPELLING_BYTES {
            return Err(refused("is too long"));
        }
        for token in [left, right, product.as_str()] {
            if !vocab.contains_key(token) {
                return Err(refused(&format!(
                    "needs {token:?}, which is not in the vocabulary"
                )));
            }
        }
        Ok([left, right])
    };
    merges.iter().enumerate().map(split).collect()
}

/// What other tools put before a sequence.
fn post_processor(vocabulary: &TokenizerKeys) -> Value {
    let bos = spelling(vocabulary, vocabulary.bos).filter(|_| begins_sequences(vocabulary));
    let Some(bos) = bos else {
        return Value::Null;
    };
    let begin = json!({ "SpecialToken": { "id": bos, "type_id": 0 } });
    let text = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
    json!({
        "type": "TemplateProcessing",
        "single": [begin, text("A")],
        "pair": [begin, text("A"), begin, text("B")],
        "special_tokens": { bos: { "id": bos, "ids": [vocabulary.bos], "tokens": [bos] } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byte_level::letter_of;
    use crate::{Segment, Tokenizer};

    /// All bytes, a few merges, and one token of each other type.
    pub(super) fn small(pre: &str) -> TokenizerKeys {
        let mut tokens: Vec<String> = (0..=u8::MAX).map(|b| letter_of(b).to_string()).collect();
        // Bytes that no text has: DeepSeek gives the letters of some to added tokens.
        tokens.retain(|letter| letter != "ü");
        tokens.extend(["th", "the", "Ġthe"].map(String::from));
        let mut token_types = vec![kind::NORMAL; tokens.len()];
        let others = [
            ("<｜begin｜>", kind::CONTROL),
            ("<think>", kind::USER_DEFINED),
            ("ü", kind::USER_DEFINED),
            ("<end>", kind::NORMAL),
            ("<unk>", kind::UNKNOWN),
            ("[PAD263]", kind::UNUSED),
        ];
        for (token, kind) in others {
            tokens.push(token.to_string());
            token_types.push(kind);
        }
        TokenizerKeys {
            model: "gpt2".into(),
            pre: pre.into(),
            tokens,
            token_types,
            merges: ["t h", "th e", "Ġ the"].map(String::from).into(),
            bos: Some(258),
            eos: Some(261),
            unk: Some(262),
            chat_template: Some("{{ bos_token }}".into()),
            ..TokenizerKeys::default()
        }
    }

    #[test]
    fn types_decide_what_is_control() {
        let file = tokenizer_json(&small("deepseek-llm")).unwrap();
        let tokenizer = Tokenizer::from_json(&file).unwrap();
        let controls: Vec<(&str, u32)> = tokenizer.controls().collect();
        assert_eq!(
            controls,
            [
                ("<end>", 261),
                ("<think>", 259),
                ("<unk>", 262),
                ("<｜begin｜>", 258)
            ]
        );
        assert_eq!(tokenizer.encode("the the").unwrap(), [256, 257]);
        assert_eq!(
            tokenizer.encode("füth").unwrap(),
            [tokenizer.encode("f").unwrap()[0], 260, 255]
        );
        assert!(
            tokenizer
                .encode("<think>")
                .unwrap()
                .iter()
                .all(|id| *id < 258)
        );
        assert_eq!(
            tokenizer.decode(&[258, 260, 257, 261]).unwrap(),
            "<｜begin｜>ü the<end>"
        );
        // The unused token is a row of the embedding, and nothing else.
        assert_eq!(
            (tokenizer.vocab_size(), tokenizer.token_name(263)),
            (263, None)
        );
    }

    #[test]
    fn the_config_names_tokens_and_carries_the_template() {
        let vocabulary = TokenizerKeys {
            add_bos: Some(true),
            ..small("qwen2")
        };
        let config = tokenizer_config_json(&vocabulary).unwrap();
        let tokenizer = Tokenizer::from_json(&tokenizer_json(&vocabulary).unwrap()).unwrap();
        let template = crate::chat::Template::from_config(&config, &tokenizer).unwrap();
        let rendered = template.render(&crate::chat::Conversation {
            messages: &[],
            tools: None,
            variables: &Map::new(),
            ending: crate::chat::Ending::AsIs,
            now: None,
        });
        assert_eq!(rendered.unwrap(), [Segment::Control(258)]);
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["eos_token"], "<end>");
        assert_eq!(config["add_bos_token"], true);
        assert_eq!(config.get("pad_token"), None);
    }

    #[test]
    fn the_beginning_is_put_where_the_file_or_its_kind_says() {
        let begins = |pre, add_bos| {
            begins_sequences(&TokenizerKeys {
                add_bos,
                ..small(pre)
            })
        };
        assert!(begins("llama-bpe", None) && !begins("qwen2", None));
        assert!(begins("qwen2", Some(true)) && !begins("llama-bpe", Some(false)));
        let file: Value =
            serde_json::from_slice(&tokenizer_json(&small("llama-bpe")).unwrap()).unwrap();
        assert_eq!(
            file["post_processor"]["special_tokens"]["<｜begin｜>"]["ids"],
            json!([258])
        );
        assert_eq!(file["model"]["ignore_merges"], true);
    }

    #[test]
    fn whole_words_need_no_merges_where_the_kind_says_so() {
        let mut vocabulary = small("llama-bpe");
        vocabulary.merges.clear();
        let ids = |v: &TokenizerKeys| {
            Tokenizer::from_json(&tokenizer_json(v).unwrap())
                .unwrap()
                .encode("the the")
                .unwrap()
        };
        assert_eq!(ids(&vocabulary), [256, 257]);
        vocabulary.pre = "qwen2".into();
        assert_eq!(ids(&vocabulary).len(), 7);
    }

    #[test]
    fn hostile_vocabularies_are_refused() {
        type Change = fn(&mut TokenizerKeys);
        let changes: [(&str, Change, &str); 16] = [
            (
                "sentence pieces",
                |v| v.model = "llama".into(),
                "SentencePiece",
            ),
            ("another model", |v| v.model = "bert".into(), "\"bert\""),
            ("no model", |v| v.model.clear(), "\"\""),
            (
                "an unknown pre-tokenizer",
                |v| v.pre = "default".into(),
                "\"default\"",
            ),
            (
                "a type too few",
                |v| {
                    v.token_types.pop();
                },
                "264 tokens, got 263",
            ),
            ("no types", |v| v.token_types.clear(), "got 0"),
            ("type 0", |v| v.token_types[3] = 0, "got 0 for token 3"),
            ("type 7", |v| v.token_types[3] = 7, "got 7 for token 3"),
            (
                "a token twice",
                |v| v.tokens[256] = "th".into(),
                "\"th\" comes twice, again as 256",
            ),
            ("a beginning outside", |v| v.bos = Some(264), "got 264"),
            (
                "an end outside",
                |v| v.eos = Some(u32::MAX),
                "got 4294967295",
            ),
            (
                "a merge of one",
                |v| v.merges[0] = "th".into(),
                "merge 0 (\"th\")",
            ),
            (
                "a merge of three",
                |v| v.merges[1] = "t h e".into(),
                "merge 1",
            ),
            (
                "a merge of nothing",
                |v| v.merges[2] = " the".into(),
                "merge 2",
            ),
            (
                "an unknown part",
                |v| v.merges[0] = "t xyz".into(),
                "\"xyz\"",
            ),
            (
                "an unknown product",
                |v| v.merges[0] = "h t".into(),
                "\"ht\"",
            ),
        ];
        for (what, change, told) in changes {
            let mut vocabulary = small("qwen2");
            change(&mut vocabulary);
            let error = tokenizer_json(&vocabulary).unwrap_err().to_string();
            assert!(error.contains(told), "{what}: {error}");
        }
        let mut without_a_byte = small("qwen2");
        without_a_byte.tokens[65] = "AA".into();
        let file = tokenizer_json(&without_a_byte).unwrap();
        assert!(matches!(
            Tokenizer::from_json(&file),
            Err(Error::Inconsistent(_))
        ));
        let mut many = small("qwen2");
        many.merges = vec!["t h".into(); MAX_MERGES + 1];
        assert!(matches!(tokenizer_json(&many), Err(Error::TooLarge { .. })));
        many = small("qwen2");
        many.tokens[0] = "x".repeat(MAX_FILE_BYTES);
        assert!(matches!(tokenizer_json(&many), Err(Error::TooLarge { .. })));
        many = small("qwen2");
        many.token_types[0] = kind::CONTROL;
        many.tokens[0] = "x".repeat(2 * MAX_SPELLING_BYTES);
        let file = tokenizer_json(&many).unwrap();
        assert!(matches!(
            Tokenizer::from_json(&file),
            Err(Error::TooLarge { .. })
        ));
    }

    #[test]
    fn rows_without_tokens_are_filled() {
        let filled = padded(small("qwen2"), 300).unwrap();
        assert_eq!(
            (filled.tokens.len(), filled.tokens[299].as_str()),
            (300, "[PAD299]")
        );
        let tokenizer = Tokenizer::from_json(&tokenizer_json(&filled).unwrap()).unwrap();
        assert_eq!(tokenizer.vocab_size(), 263);
        assert!(padded(small("qwen2"), 10).is_err() && padded(small("qwen2"), usize::MAX).is_err());
    }
}
