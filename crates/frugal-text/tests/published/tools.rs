//! Whatever tools are named, described, called with or answer, only the template and calls in their
//! place give control tokens.

use std::fs;

use frugal_text::chat::{Builtin, Conversation, Ending, Template, message};
use frugal_text::tools::{Count, Format, Style};
use frugal_text::{Segment, Tokenizer};
use serde_json::{Map, Value, json};

use super::controls::{controls, deepseek};
use super::data;
use super::tokenizers::QWEN2;

/// A conversation with a tool, in which `word` stands wherever a client's or a model's word can.
fn rendered(template: &Template, format: &Format, word: &str) -> Vec<Segment> {
    let tools = json!([{
        "type": "function",
        "function": {
            "name": format!("f{word}"),
            "description": word,
            "parameters": { "type": "object", "properties": { word: { "description": word } } },
        },
    }]);
    let arguments = json!({ word: word }).to_string();
    let messages = [
        message("user", word),
        json!({ "role": "assistant", "content": word, "tool_calls": [
            { "id": word, "type": "function", "function": { "name": word, "arguments": arguments } },
        ] }),
        json!({ "role": "tool", "tool_call_id": word, "name": word, "content": word }),
        message("user", "so"),
    ];
    let mut messages = format.history(&messages).unwrap();
    let is_theirs = format.is_declared_by_template();
    if !is_theirs {
        format.declare(&mut messages, tools.as_array().unwrap(), Count::Many);
    }
    let conversation = Conversation {
        messages: &messages,
        tools: is_theirs.then_some(&tools),
        variables: &Map::new(),
        ending: Ending::AssistantTurn,
        now: None,
    };
    template.render(&conversation).unwrap()
}

/// Checks all control tokens, and counts them.
fn check(tokenizer: &Tokenizer, template: &Template, style: Style) -> usize {
    let format = Format::of(tokenizer, Some(template));
    assert_eq!(format.style(), style);
    let ids = |word: &str| {
        let segments = rendered(template, &format, word);
        let ids = tokenizer.encode_segments(&segments).unwrap();
        let places = |segment: &Value| segment.as_str().unwrap().matches(word).count();
        let texts = segments.iter().map(|segment| match segment {
            Segment::Text(text) => places(&json!(text)),
            Segment::Control(_) => 0,
        });
        (controls(&ids, tokenizer), texts.sum::<usize>())
    };
    let (expected, n_places) = ids("wordless");
    assert!(n_places >= 8, "{n_places}");
    let mut n_checked = 0;
    for (name, _) in tokenizer.controls() {
        // An assistant's thinking is markup: the one thing that is meant to be.
        if name == "</think>" {
            continue;
        }
        assert_eq!(ids(name).0, expected, "{name}");
        n_checked += 1;
    }
    n_checked
}

#[test]
fn no_tool_of_qwen2_can_speak_in_control_tokens() {
    let (Some((_, tokenizer)), Some(folder)) = (&*QWEN2, data("chat-templates")) else {
        return;
    };
    let source = fs::read_to_string(folder.join("qwen2.5.jinja")).unwrap();
    let template = Template::new(&source, tokenizer, "", "<|im_end|>").unwrap();
    assert_eq!(check(tokenizer, &template, Style::Hermes), 5);
    // Ours, which takes calls as text.
    let template = Template::new(&Builtin::ChatMl.source(), tokenizer, "", "<|im_end|>").unwrap();
    assert_eq!(check(tokenizer, &template, Style::Plain), 5);
}

/// Takes some seconds: five hundred conversations.
#[test]
fn no_tool_of_deepseek_can_speak_in_control_tokens() {
    let (Some(tokenizer), Some(folder)) = (deepseek(), data("chat-templates")) else {
        return;
    };
    let [bos, eos] = Builtin::DeepseekV3.ends();
    let source = fs::read_to_string(folder.join("deepseek-v3.jinja")).unwrap();
    let template = Template::new(&source, &tokenizer, bos, eos).unwrap();
    assert_eq!(check(&tokenizer, &template, Style::Plain), 242);
    // As the model card of V3.1 declares tools.
    let source = Builtin::DeepseekV31.source();
    let turns = source.split_once("{%- set ns").unwrap().1;
    let source = format!("{{{{- tools | tojson if tools else '' -}}}}{{%- set ns{turns}");
    let template = Template::new(&source, &tokenizer, bos, eos).unwrap();
    assert_eq!(check(&tokenizer, &template, Style::DeepseekV31), 242);
}
