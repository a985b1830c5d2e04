//! Which ids end an answer.
//!
//! A checkpoint says it in up to two places: `generation_config.json`, whose word is final where it
//! has one, and `config.json`. Files without the former, GGUF files among them, often name the end
//! of a text only, while the model was taught to end its turn with another token; there the known
//! spellings of such tokens count as well.

use serde_json::Value;

use crate::tokenizer::Tokenizer;
use crate::{Error, Result, json};

/// Control tokens that end a turn or a text in the families we run.
const ENDS: [&str; 7] = [
    "<｜end▁of▁sentence｜>",
    "<|EOT|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
];

/// The ids at which generation stops, in ascending order: those of `generation_config.json`, and where
/// it names none, those of `config.json` (`eos`) and the known ends among the control tokens.
///
/// *Errors*: a file that is not JSON, an id that is no number or not in the vocabulary.
pub fn stops(
    tokenizer: &Tokenizer,
    generation_config: Option<&[u8]>,
    eos: &[u32],
) -> Result<Vec<u32>> {
    let what = "generation_config.json";
    let config: Value =
        generation_config.map_or(Ok(Value::Null), |config| json::read(what, config))?;
    let named = match config.get("eos_token_id") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(several)) => several.iter().map(number).collect::<Result<_>>()?,
        Some(one) => vec![number(one)?],
    };
    let mut all = if named.is_empty() {
        let known = ENDS.iter().filter_map(|name| tokenizer.control(name));
        eos.iter().copied().chain(known).collect()
    } else {
        named
    };
    all.sort_unstable();
    all.dedup();
    match all.iter().find(|id| tokenizer.token_name(**id).is_none()) {
        Some(id) => Err(Error::UnknownId {
            id: *id,
            vocab_size: tokenizer.vocab_size(),
        }),
        None => Ok(all),
    }
}

fn number(id: &Value) -> Result<u32> {
    let small = id.as_u64().and_then(|id| u32::try_from(id).ok());
    small.ok_or_else(|| {
        Error::Inconsistent(format!(
            "expected ids as eos_token_id in generation_config.json, got {id}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word_level;

    #[test]
    fn the_ends_come_from_the_files_and_else_from_their_spelling() {
        let names = ["<s>", "</s>", "<|endoftext|>", "<|im_end|>"];
        let file = word_level::tokenizer_json(&["a".to_string()], &names).unwrap();
        let tokenizer = Tokenizer::from_json(&file).unwrap();
        let rows: [(Option<&str>, &[u32], &[u32]); 7] = [
            (None, &[], &[2, 3]),
            (None, &[1], &[1, 2, 3]),
            (Some("{}"), &[2], &[2, 3]),
            (Some(r#"{"eos_token_id": null}"#), &[], &[2, 3]),
            (Some(r#"{"eos_token_id": 1}"#), &[], &[1]),
            (Some(r#"{"eos_token_id": [3, 1, 3]}"#), &[1], &[1, 3]),
            (Some(r#"{"eos_token_id": 1}"#), &[2], &[1]),
        ];
        for (config, eos, expected) in rows {
            assert_eq!(
                stops(&tokenizer, config.map(str::as_bytes), eos).unwrap(),
                expected,
                "{config:?}"
            );
        }
        for config in [
            "{",
            r#"{"eos_token_id": "1"}"#,
            r#"{"eos_token_id": [-1]}"#,
            r#"{"eos_token_id": 5}"#,
        ] {
            assert!(
                stops(&tokenizer, Some(config.as_bytes()), &[]).is_err(),
                "{config}"
            );
        }
        assert!(stops(&tokenizer, None, &[5]).is_err());
    }
}
