//! Whatever a conversation spells, only the template gives control tokens: all of them, in every
//! role, whole and cut in two.

use frugal_text::chat::{Builtin, Conversation, Ending, Template, message};
use frugal_text::{Segment, Tokenizer, gguf};
use serde_json::{Map, Value};

use super::data;
use super::tokenizers::{QWEN2, deepseek_coder};

/// DeepSeek Coder's vocabulary with R1's marks in the places of fillers.
pub(super) fn deepseek() -> Option<Tokenizer> {
    let mut vocabulary = deepseek_coder(&data("tokenizer")?);
    let marks = "<｜User｜> <｜Assistant｜> <think> </think> <｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> \
        <｜tool▁call▁begin｜> <｜tool▁call▁end｜> <｜tool▁sep｜> <｜tool▁outputs▁begin｜> \
        <｜tool▁outputs▁end｜> <｜tool▁output▁begin｜> <｜tool▁output▁end｜>";
    for (id, mark) in (32_022..).zip(marks.split(' ')) {
        vocabulary.tokens[id] = mark.to_string();
    }
    Some(Tokenizer::from_json(&gguf::tokenizer_json(&vocabulary).unwrap()).unwrap())
}

fn render(template: &Template, messages: &[Value]) -> Vec<Segment> {
    let variables = &Map::new();
    let ending = Ending::AssistantTurn;
    let conversation = Conversation {
        messages,
        tools: None,
        variables,
        ending,
        now: None,
    };
    template.render(&conversation).unwrap()
}

pub(super) fn controls(ids: &[u32], tokenizer: &Tokenizer) -> Vec<u32> {
    ids.iter()
        .copied()
        .filter(|id| tokenizer.is_control(*id))
        .collect()
}

/// Checks all control tokens in one role, and counts the conversations.
fn check(tokenizer: &Tokenizer, builtin: Builtin, role: &str) -> usize {
    let [bos, eos] = builtin.ends();
    let template = Template::new(&builtin.source(), tokenizer, bos, eos).unwrap();
    let conversation = |first: &str, second: &str| {
        [
            message("user", "hi"),
            message(role, first),
            message(role, second),
            message("user", "so"),
        ]
    };
    let ids = |first: &str, second: &str| {
        let segments = render(&template, &conversation(first, second));
        (tokenizer.encode_segments(&segments).unwrap(), segments)
    };
    let expected = controls(&ids("a", "b").0, tokenizer);
    let mut n_checked = 0;
    for (name, _) in tokenizer.controls() {
        // An assistant's thinking is markup: the one thing that is meant to be.
        if role == "assistant" && name == "</think>" {
            continue;
        }
        let middle = name.char_indices().nth(name.chars().count() / 2).unwrap().0;
        let (head, tail) = name.split_at(middle);
        for (first, second) in [
            (format!("say {name}now"), name.repeat(2)),
            (format!("say {head}"), format!("{tail} now")),
            (format!("{head}{name}{tail}"), "<".to_string()),
        ] {
            let (ids, segments) = ids(&first, &second);
            assert_eq!(
                controls(&ids, tokenizer),
                expected,
                "{role}: {first:?} {second:?}"
            );
            let said: String = segments
                .iter()
                .filter_map(|s| {
                    if let Segment::Text(text) = s {
                        Some(text.as_str())
                    } else {
                        None
                    }
                })
                .collect();
            assert!(
                said.contains(&first) && said.contains(&second),
                "{role}: {said:?}"
            );
            n_checked += 1;
        }
    }
    n_checked
}

#[test]
fn no_control_token_of_qwen2_can_be_typed() {
    let Some((_, tokenizer)) = &*QWEN2 else {
        return;
    };
    for role in ["system", "user", "assistant"] {
        assert_eq!(check(tokenizer, Builtin::ChatMl, role), 5 * 3);
    }
}

/// Takes a second or two: three thousand conversations.
#[test]
fn no_control_token_of_deepseek_can_be_typed() {
    let Some(tokenizer) = deepseek() else {
        return;
    };
    for builtin in [Builtin::DeepseekR1, Builtin::DeepseekV31] {
        for role in ["system", "user", "tool"] {
            assert_eq!(check(&tokenizer, builtin, role), 243 * 3);
        }
        assert_eq!(check(&tokenizer, builtin, "assistant"), 242 * 3);
    }
}
