//! A `tokenizer.json` as published, wrapped so that text cannot become control.
//!
//! The tokenizers library looks for added tokens in any text it is given, and DeepSeek's files mark
//! `<think>` or `<｜User｜>` as added but not special, so its switch for special tokens does not
//! help. Here an added token is control if the file calls it special or it is spelled like markup
//! (`<...>`, `[...]`); others, such as the `ü` of DeepSeek LLM, are text that is matched before
//! anything else. Control tokens are taken out of the library's reach when the file is loaded: out of its list of added tokens
//! and out of the model's vocabulary. A last check refuses what a model may still produce.
//!
//! Also removed from the loaded copy: post-processing, truncation, padding and dropout, which
//! change ids unasked. [`Tokenizer::to_json`] gives the file back as it came.
//!
//! Does not do: chat templates (`chat`), reading files. The checks of hostile files are in
//! `tokenizer/file.rs` and `tokenizer/parts.rs`, decoding one id at a time in `tokenizer/stream.rs`,
//! the bytes of single tokens in `tokenizer/bytes.rs`.

mod bytes;
mod file;
mod parts;
mod stream;

use std::collections::BTreeMap;
use std::fmt;

use self::file::{Added, Plain, Settled};
pub use self::stream::Decoder;
use crate::{Error, Result};

/// The largest `tokenizer.json` we read, in bytes. DeepSeek V3's has 8 MB, Gemma's 33 MB.
pub const MAX_FILE_BYTES: usize = 64 << 20;
/// Ids must be below this. The largest published vocabularies have about 262,000.
pub const MAX_VOCABULARY: usize = 1 << 22;
/// The most added tokens. Gemma 3 has 6,400.
pub const MAX_ADDED: usize = 1 << 16;
/// The longest spelling of an added token, in bytes.
pub const MAX_SPELLING_BYTES: usize = 1 << 10;

/// A piece of a prompt: a control token by its id, or text that stays text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A control token.
    Control(u32),
    /// Text; spellings of control tokens in it mean nothing.
    Text(String),
}

/// Text to ids and back.
///
/// ```
/// use frugal_text::{Segment, Tokenizer, word_level};
///
/// let words = ["one".to_string(), "two".to_string()];
/// let tokenizer = Tokenizer::from_json(&word_level::tokenizer_json(&words, &word_level::CONTROL)?)?;
/// assert_eq!(tokenizer.encode("two one")?, [5, 4]);
/// assert!(tokenizer.encode("<think>").is_err());
/// let think = tokenizer.control("<think>").ok_or("no <think>")?;
/// let ids = tokenizer.encode_segments(&[Segment::Control(think), Segment::Text("one".into())])?;
/// assert_eq!(tokenizer.decode(&ids)?, "<think> one");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    added: BTreeMap<u32, Added>,
    control: BTreeMap<String, u32>,
    vocab_size: usize,
    is_word_level: bool,
    decoding: Decoding,
    file: Vec<u8>,
}

/// How tokens become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decoding {
    /// Without a decoder the library puts spaces between tokens, and so do we.
    Words,
    /// Each token stands for bytes.
    Bytes,
    /// A decoder that only the library knows.
    Foreign,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("control", &self.control.len())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; the module tells which added tokens are control.
    ///
    /// *Errors*: a file over [`MAX_FILE_BYTES`], not JSON, or not consistent.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        Self::load(bytes, Plain::ByRule)
    }

    /// As [`Self::from_json`], but the added tokens named in `plain` are text and all others
    /// control, however they are spelled.
    pub fn with_plain(bytes: &[u8], plain: &[&str]) -> Result<Self> {
        Self::load(bytes, Plain::Named(plain))
    }

    fn load(bytes: &[u8], plain: Plain<'_>) -> Result<Self> {
        let Settled {
            root,
            added,
            vocab_size,
        } = file::settle(bytes, plain)?;
        let field = |at| root.pointer(at).filter(|v| !v.is_null());
        let is_word_level = field("/model/type").is_some_and(|name| name == "WordLevel");
        let decoding = match field("/decoder") {
            None => Decoding::Words,
            Some(decoder) if decoder.get("type").is_some_and(|t| t == "ByteLevel") => {
                Decoding::Bytes
            }
            Some(_) => Decoding::Foreign,
        };
        let doing = "load the tokenizer";
        let inner: tokenizers::Tokenizer =
            serde_json::from_value(root).map_err(|source| Error::Library {
                doing,
                source: source.into(),
            })?;
        let control = added
            .values()
            .filter(|a| !a.plain)
            .map(|a| (a.content.clone(), a.id))
            .collect();
        let file = bytes.to_vec();
        Ok(Self {
            inner,
            added,
            control,
            vocab_size,
            is_word_level,
            decoding,
            file,
        })
    }

    /// The file this tokenizer was read from.
    pub fn to_json(&self) -> Vec<u8> {
        self.file.clone()
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a control token.
    pub fn control(&self, spelling: &str) -> Option<u32> {
        self.control.get(spelling).copied()
    }

    /// All control tokens with their ids, in the order of their spelling.
    pub fn controls(&self) -> impl Iterator<Item = (&str, u32)> {
        self.control
            .iter()
            .map(|(spelling, id)| (spelling.as_str(), *id))
    }

    /// Whether an id is a control token.
    pub fn is_control(&self, id: u32) -> bool {
        self.added.get(&id).is_some_and(|a| !a.plain)
    }

    /// A token as the vocabulary writes it (byte-level tokens in their printable alphabet).
    pub fn token_name(&self, id: u32) -> Option<String> {
        match self.added.get(&id) {
            Some(added) => Some(added.content.clone()),
            None => self.inner.id_to_token(id),
        }
    }

    /// Encodes text, without a token for its beginning or end. Never yields a control token: a text
    /// that spells one gives the tokens of its characters, or an error where there are none.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| self.refusal(text, e))?;
        let ids = encoding.get_ids().to_vec();
        match ids.iter().find(|id| self.is_control(**id)) {
            Some(id) => Err(Error::ControlInText(
                self.token_name(*id).unwrap_or_default(),
            )),
            None => Ok(ids),
        }
    }

    /// Encodes control tokens and text. Neighbouring texts are encoded as one; white space next to
    /// a control token goes where the file asks for it (`lstrip`, `rstrip`).
    pub fn encode_segments(&self, segments: &[Segment]) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let mut text = String::new();
        let mut trims_start = false;
        for segment in segments {
            match segment {
                Segment::Text(more) => text.push_str(more),
                Segment::Control(id) => {
                    let control = self.added.get(id).filter(|a| !a.plain);
                    let control = control.ok_or(Error::NotControl(*id))?;
                    let before = if trims_start {
                        text.trim_start()
                    } else {
                        &text
                    };
                    let before = if control.lstrip {
                        before.trim_end()
                    } else {
                        before
                    };
                    ids.extend(self.encode(before)?);
                    ids.push(*id);
                    trims_start = control.rstrip;
                    text.clear();
                }
            }
        }
        ids.extend(self.encode(if trims_start {
            text.trim_start()
        } else {
            &text
        })?);
        Ok(ids)
    }

    /// Decodes ids; control tokens are spelled out. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut pieces = Vec::new();
        for run in ids.chunk_by(|a, b| !self.added.contains_key(a) && !self.added.contains_key(b)) {
            match run {
                [id] if let Some(added) = self.added.get(id) => pieces.push(added.content.clone()),
                _ => pieces.push(self.decode_plain(run)?),
            }
        }
        let is_words = self.decoding == Decoding::Words;
        Ok(pieces.join(if is_words { " " } else { "" }))
    }

    /// Decodes ids as they come.
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder::new(self)
    }

    /// Decodes ids of the model's own vocabulary.
    fn decode_plain(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|id| self.inner.id_to_token(**id).is_none()) {
            return Err(Error::UnknownId {
                id: *id,
                vocab_size: self.vocab_size,
            });
        }
        self.inner
            .decode(ids, false)
            .map_err(|source| Error::Library {
                doing: "decode the ids",
                source,
            })
    }

    /// Names the word that a word-level vocabulary lacks.
    fn refusal(&self, text: &str, source: tokenizers::Error) -> Error {
        let is_missing = |word: &&str| self.inner.token_to_id(word).is_none();
        match text.split_whitespace().find(is_missing) {
            Some(word) if self.is_word_level => Error::UnknownWord(word.to_string()),
            _ => Error::Library {
                doing: "encode the text",
                source,
            },
        }
    }
}

/// An added token of a `tokenizer.json`, for writing it elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) content: String,
    pub(crate) special: bool,
}

/// Checks a `tokenizer.json` and gives its added tokens in the order of their ids.
pub(crate) fn added_tokens(bytes: &[u8]) -> Result<Vec<AddedToken>> {
    let added = file::settle(bytes, Plain::ByRule)?.added.into_values();
    let public = |Added {
                      id,
                      content,
                      special,
                      ..
                  }| AddedToken {
        id,
        content,
        special,
    };
    Ok(added.map(public).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::file::is_never_in_text;
    use super::*;
    use crate::word_level;

    const WORDS: [&str; 6] = ["1", "2", "+", "=", "try", "think"];

    type Mutation = fn(&mut Value);

    fn word_level_file() -> Value {
        let file =
            word_level::tokenizer_json(&WORDS.map(String::from), &word_level::CONTROL).unwrap();
        serde_json::from_slice(&file).unwrap()
    }

    fn load(file: &Value) -> Result<Tokenizer> {
        Tokenizer::from_json(file.to_string().as_bytes())
    }

    /// A byte-level model of single bytes and one merge, with controls inside and outside of its
    /// vocabulary, and with every switch set that could let them through.
    fn byte_level_file() -> Value {
        let mut alphabet: Vec<char> = ByteLevel::alphabet()
            .into_iter()
            .filter(|c| !is_never_in_text(*c))
            .collect();
        alphabet.sort_unstable();
        let mut vocab: Map<String, Value> = alphabet
            .iter()
            .enumerate()
            .map(|(id, c)| (c.to_string(), id.into()))
            .collect();
        vocab.insert("th".into(), 256.into());
        vocab.insert("<think>".into(), 257.into());
        json!({
            "version": "1.0",
            "truncation": { "max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right" },
            "padding": {
                "strategy": { "Fixed": 9 }, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 258, "pad_type_id": 0, "pad_token": "<｜end｜>",
            },
            "added_tokens": [
                { "id": 257, "content": "<think>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false },
                { "id": 258, "content": "<｜end｜>", "single_word": false, "lstrip": true, "rstrip": true, "normalized": false, "special": true },
                { "id": 259, "content": "ü", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false },
            ],
            "normalizer": null,
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{ "SpecialToken": { "id": "<think>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
                "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
                "special_tokens": { "<think>": { "id": "<think>", "ids": [257], "tokens": ["<think>"] } },
            },
            "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
            "model": {
                "type": "BPE", "dropout": 0.9, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
                "vocab": vocab, "merges": [["t", "h"]],
            },
        })
    }

    #[test]
    fn words_become_ids_in_order() {
        let tokenizer = load(&word_level_file()).unwrap();
        assert_eq!(tokenizer.vocab_size(), 10);
        assert_eq!(tokenizer.encode("  1 +\n2 = ").unwrap(), [4, 6, 5, 7]);
        assert_eq!(tokenizer.encode("").unwrap(), [0_u32; 0]);
        assert_eq!(
            tokenizer.decode(&[0, 4, 2, 8, 3, 1]).unwrap(),
            "<bos> 1 <think> try </think> <eos>"
        );
        assert_eq!(tokenizer.token_name(2).as_deref(), Some("<think>"));
        assert_eq!(tokenizer.token_name(9).as_deref(), Some("think"));
        assert_eq!(tokenizer.token_name(10), None);
        assert_eq!(tokenizer.token_bytes(9).as_deref(), Some(&b"think"[..]));
        assert_eq!(tokenizer.token_bytes(3).as_deref(), Some(&b"</think>"[..]));
        assert_eq!(tokenizer.token_bytes(10), None);
        assert_eq!(
            tokenizer.controls().map(|(_, id)| id).collect::<Vec<_>>(),
            [3, 0, 1, 2]
        );
        assert!(
            matches!(tokenizer.encode("1 three"), Err(Error::UnknownWord(word)) if word == "three")
        );
        assert!(
            matches!(tokenizer.encode("1 <think>"), Err(Error::UnknownWord(word)) if word == "<think>")
        );
        assert!(matches!(
            tokenizer.decode(&[4, 10]),
            Err(Error::UnknownId {
                id: 10,
                vocab_size: 10
            })
        ));
        assert_eq!(
            tokenizer.to_json(),
            word_level_file().to_string().into_bytes()
        );
    }

    #[test]
    fn byte_level_text_that_spells_control_stays_text() {
        let bytes = byte_level_file().to_string().into_bytes();
        let tokenizer = Tokenizer::with_plain(&bytes, &[]).unwrap();
        assert_eq!(tokenizer.vocab_size(), 260);
        for text in ["<think>", "a<｜end｜>", "ü", "<think><think>th"] {
            let ids = tokenizer.encode(text).unwrap();
            assert!(ids.iter().all(|id| *id < 257), "{text}: {ids:?}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
        assert_eq!(tokenizer.encode("th").unwrap(), [256]);
    }

    #[test]
    fn added_tokens_named_plain_are_text_and_keep_their_ids() {
        let bytes = byte_level_file().to_string().into_bytes();
        let named = Tokenizer::with_plain(&bytes, &["ü"]).unwrap();
        // By rule, neither special nor spelled like markup.
        let ruled = Tokenizer::from_json(&bytes).unwrap();
        for tokenizer in [named, ruled] {
            assert_eq!(tokenizer.encode("üth").unwrap(), [259, 256]);
            // Through the byte alphabet the token's spelling would be the byte 0xFC.
            assert_eq!(tokenizer.decode(&[259, 256]).unwrap(), "üth");
            assert_eq!(tokenizer.control("ü"), None);
            assert!(matches!(
                tokenizer.encode_segments(&[Segment::Control(259)]),
                Err(Error::NotControl(259))
            ));
        }
        assert!(Tokenizer::with_plain(&bytes, &["absent"]).is_err());
    }

    #[test]
    fn segments_join_texts_and_strip_where_the_file_says() {
        let tokenizer = load(&byte_level_file()).unwrap();
        let text = |text: &str| Segment::Text(text.to_string());
        let ids =
            tokenizer.encode_segments(&[text("t"), text("h"), Segment::Control(257), text("th")]);
        assert_eq!(ids.unwrap(), [256, 257, 256]);
        let ids = tokenizer.encode_segments(&[
            text("th \n"),
            Segment::Control(258),
            text("\n"),
            text(" th "),
        ]);
        assert_eq!(tokenizer.decode(&ids.unwrap()).unwrap(), "th<｜end｜>th ");
        assert!(matches!(
            tokenizer.encode_segments(&[Segment::Control(3)]),
            Err(Error::NotControl(3))
        ));
    }

    #[test]
    fn a_model_that_makes_control_from_text_is_caught() {
        let mut file = byte_level_file();
        file["model"] = json!({
            "type": "Unigram", "unk_id": 0, "byte_fallback": false,
            "vocab": [["<unk>", 0.0], ["<think>", -1.0], ["t", -2.0]],
        });
        file["pre_tokenizer"] = Value::Null;
        file["added_tokens"] = json!([{ "id": 1, "content": "<think>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false }]);
        let tokenizer = load(&file).unwrap();
        assert_eq!(tokenizer.encode("t").unwrap(), [2]);
        assert!(
            matches!(tokenizer.encode("t<think>"), Err(Error::ControlInText(name)) if name == "<think>")
        );
    }

    #[test]
    fn hostile_files_are_refused() {
        let mutations: [(&str, Mutation); 13] = [
            ("no model", |f| {
                f["model"] = Value::Null;
            }),
            ("no vocabulary", |f| {
                f["model"]["vocab"] = json!(3);
            }),
            ("an id that is no number", |f| {
                f["model"]["vocab"]["try"] = json!("8");
            }),
            ("a negative id", |f| {
                f["model"]["vocab"]["try"] = json!(-8);
            }),
            ("an id past the limit", |f| {
                f["model"]["vocab"]["try"] = json!(4_000_000_000_u32);
            }),
            ("an id twice", |f| {
                f["model"]["vocab"]["try"] = json!(4);
            }),
            ("an added id twice", |f| {
                f["added_tokens"][1]["id"] = json!(0);
            }),
            ("an added spelling twice", |f| {
                f["added_tokens"][1]["content"] = json!("<bos>");
            }),
            ("an empty spelling", |f| {
                f["added_tokens"][1]["content"] = json!("");
            }),
            ("a long spelling", |f| {
                f["added_tokens"][1]["content"] = json!("x".repeat(2000));
            }),
            ("control on a word's id", |f| {
                f["added_tokens"][1]["content"] = json!("<new>");
            }),
            ("control with another id", |f| {
                f["added_tokens"][1]["id"] = json!(77);
            }),
            ("added tokens that are no list", |f| {
                f["added_tokens"] = json!({});
            }),
        ];
        for (what, mutate) in mutations {
            let mut file = word_level_file();
            mutate(&mut file);
            assert!(load(&file).is_err(), "{what}");
        }
        let mut file = byte_level_file();
        file["model"]["vocab"].as_object_mut().unwrap().remove("a");
        assert!(
            matches!(load(&file), Err(Error::Inconsistent(_))),
            "a byte is missing"
        );
        assert!(matches!(
            Tokenizer::from_json(b"{"),
            Err(Error::Json { .. })
        ));
        assert!(Tokenizer::from_json("[".repeat(100_000).as_bytes()).is_err());
        let twice = word_level_file()
            .to_string()
            .replacen(r#""try":"#, r#""try":8,"try":"#, 1);
        assert!(
            matches!(Tokenizer::from_json(twice.as_bytes()), Err(Error::Json { source, .. }) if source.to_string().contains("\"try\" comes twice"))
        );
        let large = vec![b' '; MAX_FILE_BYTES + 1];
        assert!(matches!(
            Tokenizer::from_json(&large),
            Err(Error::TooLarge { .. })
        ));
    }

    fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
        let mut decoder = tokenizer.decoder();
        let mut text = String::new();
        for id in ids {
            text.push_str(decoder.push(*id).unwrap());
        }
        text + &decoder.finish().unwrap()
    }

    #[test]
    fn characters_come_whole() {
        let tokenizer = &*BYTES;
        let ids = tokenizer.encode("é€th").unwrap();
        let mut decoder = tokenizer.decoder();
        let pieces: Vec<String> = ids
            .iter()
            .map(|id| decoder.push(*id).unwrap().to_string())
            .collect();
        assert_eq!(pieces, ["", "é", "", "", "€", "th"]);
        assert!(matches!(
            decoder.push(9999),
            Err(Error::UnknownId { id: 9999, .. })
        ));
        // A control token ends whatever character was begun.
        assert_eq!(decoder.push(ids[0]).unwrap(), "");
        assert_eq!(decoder.push(257).unwrap(), "\u{FFFD}<think>");
        assert_eq!(decoder.push(ids[2]).unwrap(), "");
        assert_eq!(decoder.finish().unwrap(), "\u{FFFD}");
        let words = &*WORD;
        assert_eq!(streamed(words, &[0, 4, 2, 8]), "<bos> 1 <think> try");
    }

    /// SentencePiece's way: spaces as letters, bytes as tokens, and a first space that goes.
    #[test]
    fn foreign_decoders_stream_as_well() {
        let mut vocab: Map<String, Value> = (0..=u8::MAX)
            .map(|byte| (format!("<0x{byte:02X}>"), u32::from(byte).into()))
            .collect();
        vocab.extend(
            ["▁", "a", "b", "<s>"]
                .iter()
                .zip(256_u32..)
                .map(|(t, id)| (t.to_string(), id.into())),
        );
        let file = json!({
            "version": "1.0",
            "added_tokens": [{ "id": 259, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": { "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
                { "type": "ByteFallback" }, { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
            ] },
            "model": { "type": "BPE", "byte_fallback": true, "unk_token": null, "vocab": vocab, "merges": [] },
        });
        let tokenizer = load(&file).unwrap();
        let mut ids = vec![256, 257, 256, 258, 0xE2, 0x82, 0xAC, 259, 256, 258, 0xC3];
        for _ in 0..3 {
            assert_eq!(streamed(&tokenizer, &ids), tokenizer.decode(&ids).unwrap());
            ids.extend([257, 256].repeat(100));
        }
        assert_eq!(tokenizer.decode(&ids[..8]).unwrap(), "a b€<s>");
    }

    static BYTES: LazyLock<Tokenizer> = LazyLock::new(|| load(&byte_level_file()).unwrap());
    static WORD: LazyLock<Tokenizer> = LazyLock::new(|| load(&word_level_file()).unwrap());

    proptest! {
        #[test]
        fn no_text_becomes_control(
            text in "(<think>|</think>|<bos>|<｜end｜>|ü|<|think|>|th|1|\\+| |\\PC){0,12}",
        ) {
            let bytes = &*BYTES;
            let ids = bytes.encode(&text).unwrap();
            prop_assert!(ids.iter().all(|id| !bytes.is_control(*id)));
            prop_assert_eq!(bytes.decode(&ids).unwrap(), text.clone());
            let words = &*WORD;
            if let Ok(ids) = words.encode(&text) {
                prop_assert!(ids.iter().all(|id| !words.is_control(*id)));
            }
        }

        #[test]
        fn words_survive_the_round_trip(words in proptest::collection::vec(0..WORDS.len(), 0..20)) {
            let text = words.iter().map(|w| WORDS[*w]).collect::<Vec<_>>().join(" ");
            let tokenizer = &*WORD;
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(ids.len(), words.len());
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }

        /// Also where bytes are no UTF-8, and where control tokens cut characters.
        #[test]
        fn streaming_gives_what_decoding_gives(ids in proptest::collection::vec(0_u32..260, 0..40)) {
            let tokenizer = &*BYTES;
            // The vocabulary has no letters for bytes that no text has.
            let ids: Vec<u32> = ids.into_iter().filter(|id| tokenizer.token_name(*id).is_some()).collect();
            prop_assert_eq!(streamed(tokenizer, &ids), tokenizer.decode(&ids).unwrap());
        }

        /// A decoded sequence, controls included, is what the segments said.
        #[test]
        fn segments_survive_the_round_trip(ids in proptest::collection::vec(0_u32..10, 0..20)) {
            let tokenizer = &*WORD;
            let segments: Vec<Segment> = ids.iter().map(|id| if tokenizer.is_control(*id) { Segment::Control(*id) } else { Segment::Text(format!(" {}", tokenizer.token_name(*id).unwrap())) }).collect();
            prop_assert_eq!(tokenizer.encode_segments(&segments).unwrap(), ids);
        }
    }
}
