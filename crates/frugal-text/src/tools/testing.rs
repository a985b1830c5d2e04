//! Small vocabularies for the tests of this room.

use serde_json::{Map, Value, json};

use crate::byte_level::letter_of;
use crate::tokenizer::Tokenizer;

/// The control tokens that published templates spell.
pub(super) const CONTROL: &str = "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> \
    <｜Assistant｜> <think> </think> <｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> \
    <｜tool▁call▁end｜> <｜tool▁sep｜> <｜tool▁outputs▁begin｜> <｜tool▁outputs▁end｜> \
    <｜tool▁output▁begin｜> <｜tool▁output▁end｜> <|im_start|> <|im_end|> <|endoftext|> <tool_call> \
    </tool_call> <|begin_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <|eom_id|> \
    <|python_tag|> <|user|> <|assistant|> <|system|> <|end|> <|observation|> <bos> <eos> \
    <start_of_turn> <end_of_turn> [gMASK] <sop> <|start|> <|message|> <|channel|> <|call|> <|return|>";

/// A vocabulary of single bytes, with control tokens from 256 on.
pub(super) fn tokenizer(control: &[&str]) -> Tokenizer {
    let vocab: Map<String, Value> = (0..=u8::MAX)
        .map(|byte| (letter_of(byte).to_string(), byte.into()))
        .collect();
    let added: Vec<Value> = (256..)
        .zip(control)
        .map(|(id, name)| json!({ "id": id, "content": name, "special": true }))
        .map(|mut token| {
            for field in ["single_word", "lstrip", "rstrip", "normalized"] {
                token[field] = false.into();
            }
            token
        })
        .collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
    });
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocab, "merges": [],
        },
    });
    Tokenizer::from_json(file.to_string().as_bytes()).unwrap()
}
