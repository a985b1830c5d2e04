//! A tokenizer's keys: those that make a file make a tokenizer that takes every text and gives it
//! back, and are found again in it.

use frugal_text::Tokenizer;
use frugal_text::byte_level::letter_of;
use frugal_text::gguf::{self, TokenizerKeys};

use crate::memory;
use crate::text::{self, RoundTrip, TEXTS};

const MEGABYTES: usize = 256;

const PRE: [&str; 8] = [
    "gpt-2",
    "qwen2",
    "llama-bpe",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "default",
    "",
];

/// Checks the keys that some bytes spell.
///
/// After two bytes of choices come lines: `=TEXT` a token, `NTEXT` with a digit one of that type,
/// `+A B` a merge, `<LETTER` makes that byte's letter control, `b`, `e`, `p`, `u` and a number the
/// tokens of that use, others a text to encode.
pub fn check(data: &[u8]) -> bool {
    let Some(([pre, flags], rest)) = data.split_first_chunk() else {
        return false;
    };
    let rest = String::from_utf8_lossy(rest);
    let mut keys = TokenizerKeys {
        model: if flags & 1 == 0 { "gpt2" } else { "llama" }.to_string(),
        pre: PRE[usize::from(*pre) % PRE.len()].to_string(),
        tokens: (0..=u8::MAX)
            .map(|byte| letter_of(byte).to_string())
            .collect(),
        token_types: vec![1; 256],
        add_bos: [None, Some(false), Some(true), None][usize::from(flags >> 1) % 4],
        ..TokenizerKeys::default()
    };
    let mut texts = Vec::new();
    for line in rest.lines() {
        texts.extend(take(&mut keys, line));
    }
    texts.extend(TEXTS);
    // Expressions take long to compile, so not every input loads what it wrote.
    let loads = flags & 0xC0 == 0;
    memory::within(MEGABYTES, || laws(&keys, loads.then_some(&texts)))
}

/// Follows a line; a text where it is one.
fn take<'a>(keys: &mut TokenizerKeys, line: &'a str) -> Option<&'a str> {
    let mut chars = line.chars();
    let first = chars.next()?;
    let rest = chars.as_str();
    let id = rest.parse::<u32>().ok();
    match first {
        '=' | '0'..='9' => {
            let kind = first.to_digit(10).map_or(1, |digit| digit as i32);
            keys.tokens.push(rest.to_string());
            keys.token_types.push(kind);
        }
        '+' => keys.merges.push(rest.to_string()),
        '<' => {
            let at = keys.tokens.iter().position(|token| token == rest);
            if let Some(kind) = at.and_then(|at| keys.token_types.get_mut(at)) {
                *kind = 3;
            }
        }
        'b' if id.is_some() => keys.bos = id,
        'e' if id.is_some() => keys.eos = id,
        'p' if id.is_some() => keys.pad = id,
        'u' if id.is_some() => keys.unk = id,
        _ => return Some(line),
    }
    None
}

fn laws(keys: &TokenizerKeys, texts: Option<&Vec<&str>>) -> bool {
    let file = match gguf::tokenizer_json(keys) {
        Ok(file) => file,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let config = gguf::tokenizer_config_json(keys).unwrap();
    if let Ok(padded) = gguf::padded(keys.clone(), keys.tokens.len() + 3)
        && let Ok(padded) = gguf::tokenizer_json(&padded)
    {
        assert_eq!(padded, file, "fillers are left out");
    }
    if let Ok(found) = gguf::vocabulary(&file, Some(&config)) {
        let again = gguf::tokenizer_json(&found).unwrap();
        assert_eq!(
            String::from_utf8(again).unwrap(),
            String::from_utf8(file.clone()).unwrap()
        );
    }
    let Some(texts) = texts else {
        return true;
    };
    let Ok(tokenizer) = Tokenizer::from_json(&file) else {
        return false;
    };
    text::laws(&tokenizer, texts, RoundTrip::Exact);
    for (kind, (id, token)) in keys.token_types.iter().zip((0u32..).zip(&keys.tokens)) {
        match kind {
            2 | 3 => assert!(tokenizer.is_control(id), "{token:?}"),
            1 | 6 if ![keys.bos, keys.eos].contains(&Some(id)) => {
                assert!(!tokenizer.is_control(id), "{token:?}");
                assert_eq!(tokenizer.token_name(id).as_ref(), Some(token));
            }
            _ => {}
        }
    }
    true
}
