//! Words of small models for the tests of this room.

use std::fs;
use std::path::PathBuf;

use frugal_text::Tokenizer;
use frugal_text::byte_level::letter_of;
use frugal_text::chat::Template;
use serde_json::{Map, Value, json};

use super::prompt::Manner;
use super::{Ask, Prompt};
use crate::models::Words;

/// Control tokens of DeepSeek.
pub(super) const DEEPSEEK: &str = "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> \
    <｜Assistant｜> <think> </think> <｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> \
    <｜tool▁call▁end｜> <｜tool▁sep｜> <｜tool▁outputs▁begin｜> <｜tool▁outputs▁end｜> \
    <｜tool▁output▁begin｜> <｜tool▁output▁end｜> <｜fim▁begin｜> <｜fim▁hole｜> <｜fim▁end｜>";
/// Control tokens of Qwen3.
pub(super) const QWEN: &str = "<|endoftext|> <|im_end|> <|im_start|> <think> </think> <tool_call> \
    </tool_call> <|fim_prefix|> <|fim_suffix|> <|fim_middle|> <|fim_pad|>";
/// Control tokens of Llama 3.
pub(super) const LLAMA: &str =
    "<|begin_of_text|> <|eot_id|> <|start_header_id|> <|end_header_id|> <|python_tag|>";
/// Those of a model that cannot think.
pub(super) const PLAIN: &str = "<bos> <eos> <start_of_turn> <end_of_turn>";

/// A vocabulary of single bytes, with control tokens from 256 on; of these the first begins texts and
/// the second ends answers.
pub(super) fn words(control: &str, template: Option<&str>) -> Words {
    let names: Vec<&str> = control.split_whitespace().collect();
    let vocab: Map<String, Value> = (0..=u8::MAX)
        .map(|byte| (letter_of(byte).to_string(), byte.into()))
        .collect();
    let added: Vec<Value> = (256..)
        .zip(&names)
        .map(|(id, name)| {
            json!({
                "id": id, "content": name, "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false,
            })
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
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes()).unwrap();
    let template =
        template.map(|source| Template::new(source, &tokenizer, names[0], names[1]).unwrap());
    let markup = template.as_ref().map(|template| template.markup().unwrap());
    Words {
        tokenizer,
        tokenizer_config: Value::Null,
        template,
        markup,
        stops: vec![257],
        bos: Some(256),
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
    }
}

/// Words with their manner.
pub(super) fn mannered(control: &str, template: Option<&str>) -> (Words, Manner) {
    let words = words(control, template);
    let manner = Manner::of(&words);
    (words, manner)
}

/// A published template, where it is at hand.
pub(super) fn published(name: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/chat-templates")
        .join(format!("{name}.jinja"));
    let text = fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("skipped: {} is not here", path.display());
    }
    text
}

/// A request with nothing but a prompt.
pub(super) fn ask(prompt: Prompt) -> Ask {
    let mut ask = Ask::of("m".into(), prompt);
    ask.max_tokens = Some(10);
    ask.tools.is_parallel = true;
    ask
}

/// A conversation to answer.
pub(super) fn chat(messages: Value) -> Prompt {
    let Value::Array(messages) = messages else {
        panic!("expected a list of messages, got {messages}")
    };
    Prompt::Chat {
        messages,
        variables: Map::new(),
        continues_last: false,
        opens_turn: true,
    }
}

/// A tool as OpenAI's API writes it.
pub(super) fn tool(name: &str) -> Value {
    json!({ "type": "function", "function": {
        "name": name, "description": "", "parameters": { "type": "object", "properties": {} },
    } })
}
