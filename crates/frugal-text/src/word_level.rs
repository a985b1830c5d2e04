//! The tokenizer of the tiny models: one token per word, words separated by spaces.
//!
//! Writes the two files that other tools read as well: `tokenizer.json` (a `WordLevel` model behind
//! a split at white space, no normaliser, no post-processing) and `tokenizer_config.json` with the
//! chat template. There is no unknown token: a word outside the vocabulary is an error. Reading is
//! `tokenizer`'s.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// Begins every sequence.
pub const BOS: &str = "<bos>";
/// Ends every answer.
pub const EOS: &str = "<eos>";
/// Opens the thinking.
pub const THINK: &str = "<think>";
/// Closes the thinking.
pub const END_THINK: &str = "</think>";
/// The control tokens of the tiny models; their ids are their places in this list. Beginning and
/// end have the ids they have in DeepSeek's vocabularies.
pub const CONTROL: [&str; 4] = [BOS, EOS, THINK, END_THINK];

/// The name the library wants for an unknown token. It is in no vocabulary, which makes an unknown
/// word an error.
const ABSENT: &str = "<unk>";

/// Each question begins a sequence of its own, as in training. Thinking of earlier turns is cut, as
/// R1's template does; a last message keeps it, so that a finished sequence can be rendered.
const CHAT_TEMPLATE: &str = "\
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{ bos_token + ' ' + message.content }}
{%- elif message.role == 'assistant' -%}
{%- set content = message.content -%}
{%- if not loop.last and '</think>' in content -%}{%- set content = content.split('</think>')[-1] -%}{%- endif -%}
{{ ' ' + content.strip() + ' ' + eos_token }}{{ '' if loop.last else ' ' }}
{%- else -%}
{{ raise_exception('expected messages of user and assistant, got ' + message.role) }}
{%- endif -%}
{%- endfor -%}
{%- if tools -%}{{ raise_exception('this model knows no tools') }}{%- endif -%}";

/// A `tokenizer.json` with the control tokens as ids 0, 1, ... in the given order, then the words.
///
/// *Errors*: a word that is empty, has white space in it, or comes twice.
pub fn tokenizer_json(words: &[String], control: &[&str]) -> Result<Vec<u8>> {
    let mut seen = BTreeSet::from([ABSENT]);
    let mut vocab = Map::new();
    for word in control
        .iter()
        .copied()
        .chain(words.iter().map(String::as_str))
    {
        let bad = |why| {
            Err(Error::BadWord {
                word: word.to_string(),
                why,
            })
        };
        if word.is_empty() || word.contains(char::is_whitespace) {
            return bad("expected at least one character and no white space");
        }
        if !seen.insert(word) {
            return bad("it is there already, or is the name of the unknown token");
        }
        vocab.insert(word.to_string(), vocab.len().into());
    }
    let added: Vec<Value> = control
        .iter()
        .enumerate()
        .map(|(id, name)| added_token(id, name))
        .collect();
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": ABSENT },
    });
    Ok(format!("{file:#}\n").into_bytes())
}

/// Thinking marks are added but not special, as in DeepSeek's files: other tools then keep them when
/// they decode without special tokens.
fn added_token(id: usize, name: &str) -> Value {
    json!({
        "id": id,
        "content": name,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": false,
        "special": name != THINK && name != END_THINK,
    })
}

/// The `tokenizer_config.json` of a tiny model with [`CONTROL`] and room for `max_tokens`.
pub fn tokenizer_config_json(max_tokens: usize) -> Vec<u8> {
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    });
    format!("{config:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_lists_controls_first_and_marks_which_are_special() {
        let words = ["a", "b"].map(String::from);
        let file: Value =
            serde_json::from_slice(&tokenizer_json(&words, &CONTROL).unwrap()).unwrap();
        let vocab = file["model"]["vocab"].as_object().unwrap();
        let ids: Vec<u64> = vocab.values().map(|id| id.as_u64().unwrap()).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
        assert_eq!(
            (&vocab[BOS], &vocab[EOS], &vocab["b"]),
            (&0.into(), &1.into(), &5.into())
        );
        let special: Vec<bool> = file["added_tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["special"] == true)
            .collect();
        assert_eq!(special, [true, true, false, false]);
    }

    #[test]
    fn words_that_would_not_come_back_are_refused() {
        for word in ["", "a b", "a\u{a0}b", "<think>", "a", "<unk>"] {
            let words = ["a".to_string(), word.to_string()];
            assert!(
                matches!(tokenizer_json(&words, &CONTROL), Err(Error::BadWord { .. })),
                "{word:?}"
            );
        }
    }
}
