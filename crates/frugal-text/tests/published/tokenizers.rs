//! Tokenizers rebuilt from GGUF keys, against ids made by other implementations.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use frugal_text::gguf::{self, TokenizerKeys};
use frugal_text::train::{self, Training};
use frugal_text::{Segment, Tokenizer};
use serde_json::{Value, json};
use tokenizers::{
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
};

use super::{data, gguf_keys, rows, tiktoken};

fn unzipped(path: PathBuf) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// The base vocabulary of Qwen2 with the control tokens its chat models have.
fn qwen2(folder: &Path) -> TokenizerKeys {
    let tiktoken::Ranked { mut tokens, merges } =
        tiktoken::read(&unzipped(folder.join("qwen.tiktoken.gz")));
    assert_eq!((tokens.len(), merges.len()), (151_643, 151_387));
    let mut token_types = vec![1; tokens.len()];
    let added = [
        ("<|endoftext|>", 3),
        ("<|im_start|>", 3),
        ("<|im_end|>", 3),
        ("<tool_call>", 4),
        ("</tool_call>", 4),
    ];
    for (token, kind) in added {
        tokens.push(token.into());
        token_types.push(kind);
    }
    TokenizerKeys {
        model: "gpt2".into(),
        pre: "qwen2".into(),
        tokens,
        token_types,
        merges,
        eos: Some(151_645),
        ..TokenizerKeys::default()
    }
}

fn gpt2(folder: &Path) -> TokenizerKeys {
    let vocab: Value = serde_json::from_str(&unzipped(folder.join("gpt2_vocab.json.gz"))).unwrap();
    let merges = unzipped(folder.join("gpt2_merges.txt.gz"));
    let merges = merges
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.is_empty());
    let mut tokens = vec![String::new(); 50_257];
    for (token, id) in vocab.as_object().unwrap() {
        tokens[usize::try_from(id.as_u64().unwrap()).unwrap()].clone_from(token);
    }
    let mut token_types = vec![1; tokens.len()];
    token_types[50_256] = 3;
    TokenizerKeys {
        model: "gpt2".into(),
        pre: "gpt-2".into(),
        merges: merges.map(String::from).collect(),
        tokens,
        token_types,
        bos: Some(50_256),
        eos: Some(50_256),
        ..TokenizerKeys::default()
    }
}

pub(super) fn deepseek_coder(folder: &Path) -> TokenizerKeys {
    gguf_keys::read(&folder.join("ggml-vocab-deepseek-coder.gguf"))
}

pub(super) type Loaded = Option<(TokenizerKeys, Tokenizer)>;

fn loaded(vocabulary: fn(&Path) -> TokenizerKeys) -> Loaded {
    let vocabulary = vocabulary(&data("tokenizer")?);
    let tokenizer = Tokenizer::from_json(&gguf::tokenizer_json(&vocabulary).unwrap()).unwrap();
    Some((vocabulary, tokenizer))
}

pub(super) static QWEN2: LazyLock<Loaded> = LazyLock::new(|| loaded(qwen2));
static GPT2: LazyLock<Loaded> = LazyLock::new(|| loaded(gpt2));
static DEEPSEEK_CODER: LazyLock<Loaded> = LazyLock::new(|| loaded(deepseek_coder));

/// Encodes, decodes and streams every row, and counts them.
fn agreeing(name: &str, tokenizer: &Tokenizer) -> usize {
    let rows = rows(data(&format!("tokenizer/vectors_{name}.jsonl")).unwrap());
    for row in &rows {
        let text = row["text"].as_str().unwrap();
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(json!(ids), row["ids"], "{name}: {text:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{name}");
        let mut decoder = tokenizer.decoder();
        let mut streamed = String::new();
        for id in &ids {
            let piece = decoder.push(*id).unwrap();
            assert!(
                !piece.contains('\u{FFFD}') || text.contains('\u{FFFD}'),
                "{name}: {piece:?}"
            );
            streamed.push_str(piece);
        }
        assert_eq!(decoder.finish().unwrap(), "", "{name}: {text:?}");
        assert_eq!(streamed, text, "{name}");
    }
    rows.len()
}

/// Takes some seconds: it finds 151,387 merges and loads them without optimisation.
#[test]
fn qwen2_from_its_keys_gives_the_published_ids() {
    let Some((_, tokenizer)) = &*QWEN2 else {
        return;
    };
    assert_eq!(agreeing("qwen2", tokenizer), 305);
    assert_eq!(tokenizer.vocab_size(), 151_648);
}

#[test]
fn gpt2_from_its_keys_gives_the_published_ids() {
    let Some((_, tokenizer)) = &*GPT2 else {
        return;
    };
    assert_eq!(agreeing("gpt2", tokenizer), 305);
    assert_eq!(tokenizer.vocab_size(), 50_257);
    let ids = tokenizer.encode("a<|endoftext|>").unwrap();
    assert!(!ids.contains(&50_256));
    assert_eq!(tokenizer.decode(&ids).unwrap(), "a<|endoftext|>");
}

#[test]
fn deepseek_coder_from_its_file_gives_the_published_ids() {
    let Some((vocabulary, tokenizer)) = &*DEEPSEEK_CODER else {
        return;
    };
    assert_eq!(agreeing("deepseek-coder", tokenizer), 305);
    assert_eq!(
        (vocabulary.tokens.len(), vocabulary.merges.len()),
        (32_256, 31_757)
    );
    assert!(gguf::begins_sequences(vocabulary));
    // Letters are text; marks and fillers are control, although their type is the same.
    assert_eq!(tokenizer.controls().count(), 256 - 13);
    assert_eq!(tokenizer.control("<|User|>"), Some(32_019));
    assert_eq!(tokenizer.encode("ü").unwrap(), [32_009]);
}

/// Ids with and without the control tokens that a text spells.
#[test]
fn spelled_control_tokens_are_control_only_as_segments() {
    let Some((_, tokenizer)) = &*QWEN2 else {
        return;
    };
    let rows = rows(data("tokenizer/special_qwen2.jsonl").unwrap());
    assert_eq!(rows.len(), 5);
    for row in rows {
        let text = row["text"].as_str().unwrap();
        assert_eq!(
            json!(tokenizer.encode(text).unwrap()),
            row["ids_plain"],
            "{text:?}"
        );
        let segments = cut_at_controls(text, tokenizer);
        let ids = tokenizer.encode_segments(&segments).unwrap();
        assert_eq!(json!(ids), row["ids_special"], "{text:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

fn cut_at_controls(text: &str, tokenizer: &Tokenizer) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut rest = text;
    while let Some((at, name, id)) = tokenizer
        .controls()
        .filter_map(|(name, id)| Some((rest.find(name)?, name, id)))
        .min()
    {
        segments.push(Segment::Text(rest[..at].to_string()));
        segments.push(Segment::Control(id));
        rest = &rest[at + name.len()..];
    }
    segments.push(Segment::Text(rest.to_string()));
    segments
}

/// Words as the expressions cut them, for each pre-tokenizer that has vectors.
#[test]
fn words_are_cut_as_published() {
    let Some(path) = data("tokenizer/presplit.jsonl") else {
        return;
    };
    let rows = rows(path);
    let mut n_checked = 0;
    for name in ["qwen2", "deepseek-llm", "deepseek-coder", "deepseek-v3"] {
        let vocabulary = TokenizerKeys {
            model: "gpt2".into(),
            pre: name.into(),
            ..TokenizerKeys::default()
        };
        let file: Value =
            serde_json::from_slice(&gguf::tokenizer_json(&vocabulary).unwrap()).unwrap();
        let cutter: PreTokenizerWrapper =
            serde_json::from_value(file["pre_tokenizer"].clone()).unwrap();
        for row in &rows {
            let text = row["text"].as_str().unwrap();
            let mut pieces = PreTokenizedString::from(text);
            cutter.pre_tokenize(&mut pieces).unwrap();
            let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let pieces: Vec<&str> = pieces
                .iter()
                .map(|(_, (from, to), _)| &text[*from..*to])
                .collect();
            assert_eq!(json!(pieces), row[name], "{name}: {text:?}");
            n_checked += 1;
        }
    }
    assert_eq!(n_checked, 4 * 305);
}

/// There and back: what is written from a tokenizer.json is what it was made from.
#[test]
fn published_vocabularies_survive_the_way_through_json() {
    for loaded in [&*GPT2, &*DEEPSEEK_CODER] {
        let Some((vocabulary, tokenizer)) = loaded else {
            return;
        };
        let config = gguf::tokenizer_config_json(vocabulary).unwrap();
        let after = gguf::vocabulary(&tokenizer.to_json(), Some(&config)).unwrap();
        let add_bos = Some(gguf::begins_sequences(vocabulary));
        assert!(
            after
                == TokenizerKeys {
                    add_bos,
                    ..vocabulary.clone()
                },
            "{}",
            after.pre
        );
    }
}

/// A vocabulary made of a text by another implementation: all tokens, all merges, in their order.
#[test]
fn training_makes_the_expected_vocabulary() {
    let Some(folder) = data("tokenizer/bpe_train") else {
        return;
    };
    let text = fs::read_to_string(folder.join("corpus.en")).unwrap();
    let training = Training {
        pre: "gpt-2",
        control: &["<|endoftext|>"],
        n_tokens: 500,
    };
    let made = train::byte_pairs(&[&text], &training).unwrap();
    let merges = fs::read_to_string(folder.join("merges.txt")).unwrap();
    assert_eq!(made.merges, merges.lines().collect::<Vec<_>>());
    assert_eq!(made.merges.len(), 243);
    let expected: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("vocab.json")).unwrap()).unwrap();
    let tokens: Vec<&str> = expected
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(made.tokens, tokens);
    assert_eq!(made.tokens.len(), 500);
}
