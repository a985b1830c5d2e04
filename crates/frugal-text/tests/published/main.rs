//! Published tokenizers and chat templates, against vectors made by other implementations.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test may fail as loudly as the tests"
)]

mod controls;
mod gguf_keys;
mod hostile;
mod tiktoken;
mod tokenizers;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use frugal_text::chat::{Builtin, Conversation, Ending, Moment, Template, message};
use frugal_text::{Error, Segment, Tokenizer, word_level};
use serde_json::{Map, Value};

/// 20 January 2025, the day on which the vectors' templates were rendered.
const DAY: u64 = 1_737_331_200;

/// The control tokens that the templates spell, apart from the roles of gpt-oss and others.
const CONTROL: &str = "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> <｜Assistant｜> <think> </think> \
    <｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> <｜tool▁call▁end｜> <｜tool▁sep｜> \
    <｜tool▁outputs▁begin｜> <｜tool▁outputs▁end｜> <｜tool▁output▁begin｜> <｜tool▁output▁end｜> \
    <|im_start|> <|im_end|> <|endoftext|> <tool_call> </tool_call> <tool_response> </tool_response> \
    <|begin_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <|eom_id|> <|python_tag|> \
    <|user|> <|assistant|> <|system|> <|end|> <|observation|> <bos> <eos> <start_of_turn> <end_of_turn> \
    [gMASK] <sop> <|start|> <|message|> <|channel|> <|call|> <|return|> <|startoftext|> <s> </s>";

fn data(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not here", path.display());
    None
}

fn rows(path: PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn spelled(segments: &[Segment], names: &[&str]) -> String {
    let spell = |segment: &Segment| match segment {
        Segment::Control(id) => names[*id as usize].to_string(),
        Segment::Text(text) => text.clone(),
    };
    segments.iter().map(spell).collect()
}

#[test]
fn templates_render_as_jinja2_renders_them() {
    let Some(folder) = data("chat-templates") else {
        return;
    };
    let mut names: Vec<&str> = CONTROL.split(' ').collect();
    let cases = rows(folder.join("cases.jsonl"));
    let more: BTreeSet<&str> = cases
        .iter()
        .flat_map(|c| [&c["bos_token"], &c["eos_token"]])
        .filter_map(Value::as_str)
        .collect();
    names.extend(
        more.iter()
            .filter(|name| !name.is_empty() && !CONTROL.split(' ').any(|c| c == **name)),
    );
    let tokenizer =
        Tokenizer::from_json(&word_level::tokenizer_json(&[], &names).unwrap()).unwrap();
    assert_eq!(cases.len(), 221);
    let mut failures = Vec::new();
    let mut templates = BTreeMap::new();
    for case in &cases {
        let text = |field: &str| case[field].as_str().unwrap_or_default();
        let key = (text("template"), text("bos_token"), text("eos_token"));
        let template = templates.entry(key).or_insert_with(|| {
            let source = fs::read_to_string(folder.join(format!("{}.jinja", key.0))).unwrap();
            Template::new(&source, &tokenizer, key.1, key.2).unwrap()
        });
        let mut variables = Map::new();
        if let Some(value) = case.get("enable_thinking") {
            variables.insert("enable_thinking".into(), value.clone());
        }
        let rendered = template.render(&Conversation {
            messages: case["messages"].as_array().unwrap(),
            tools: case.get("tools"),
            variables: &variables,
            ending: if case["add_generation_prompt"] == true {
                Ending::AssistantTurn
            } else {
                Ending::AsIs
            },
            now: Some(Moment::from_unix_seconds(DAY)),
        });
        let expected = case["expected"].as_str();
        let agrees = match (&rendered, expected) {
            (Ok(segments), Some(expected)) => spelled(segments, &names) == expected,
            (Err(Error::Refused(message)), None) => message == text("error"),
            (Err(Error::Template(_)), None) => text("error").starts_with("runtime"),
            _ => false,
        };
        if !agrees {
            let got = rendered.map(|segments| spelled(&segments, &names));
            failures.push(format!(
                "{} {}:\n  {got:?}\n  {expected:?} {}",
                text("template"),
                text("case"),
                text("error")
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn no_published_template_lets_a_user_speak_in_control_tokens() {
    let Some(folder) = data("chat-templates") else {
        return;
    };
    let names: Vec<&str> = CONTROL.split(' ').collect();
    let tokenizer =
        Tokenizer::from_json(&word_level::tokenizer_json(&[], &names).unwrap()).unwrap();
    let hostile = names.join("\n");
    let mut n_templates = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "jinja") {
            continue;
        }
        n_templates += 1;
        let source = fs::read_to_string(&path).unwrap();
        let template = Template::new(&source, &tokenizer, "<bos>", "<eos>").unwrap();
        let render = |content: &str| {
            let messages = [
                message("user", content),
                message("assistant", "x"),
                message("user", content),
            ];
            template
                .render(&Conversation {
                    messages: &messages,
                    tools: None,
                    variables: &Map::new(),
                    ending: Ending::AssistantTurn,
                    now: Some(Moment::from_unix_seconds(DAY)),
                })
                .unwrap()
        };
        let control = |segments: &[Segment]| -> Vec<Segment> {
            segments
                .iter()
                .filter(|s| matches!(s, Segment::Control(_)))
                .cloned()
                .collect()
        };
        let segments = render(&hostile);
        assert!(!control(&segments).is_empty(), "{}", path.display());
        assert_eq!(
            control(&segments),
            control(&render("neutral")),
            "{}",
            path.display()
        );
        assert_eq!(
            spelled(&segments, &names).matches(&hostile).count(),
            2,
            "{}",
            path.display()
        );
    }
    assert_eq!(n_templates, 12);
}

/// Where a checkpoint has lost its template, the builtin one writes what the published one wrote.
/// Left out are cases with tools, which the builtin ones do not declare, and what Qwen's templates
/// say of their own: a system message where there is none, and blank thinking.
#[test]
fn builtin_templates_write_what_published_ones_write() {
    let Some(folder) = data("chat-templates") else {
        return;
    };
    let names: Vec<&str> = CONTROL.split(' ').collect();
    let tokenizer =
        Tokenizer::from_json(&word_level::tokenizer_json(&[], &names).unwrap()).unwrap();
    let own_system = "user user-nogen multi-nogen think-history think-last empty whitespace \
        two-users assistant-first reasoning-field";
    let pairs = [
        (Builtin::DeepseekR1, "deepseek-v3", 15, ""),
        (Builtin::Llama3, "llama3", 15, ""),
        (Builtin::ChatMl, "qwen2.5", 15, own_system),
        (Builtin::ChatMl, "qwen3", 30, "multi-nogen"),
    ];
    let cases = rows(folder.join("cases.jsonl"));
    for (builtin, published, n_cases, differing) in pairs {
        let mut differ = Vec::new();
        let mut n_seen = 0;
        for case in cases
            .iter()
            .filter(|c| c["template"] == published && c.get("tools").is_none())
        {
            let [bos, eos] = ["bos_token", "eos_token"].map(|name| case[name].as_str().unwrap());
            let template = Template::new(&builtin.source(), &tokenizer, bos, eos).unwrap();
            let mut variables = Map::new();
            if let Some(value) = case.get("enable_thinking") {
                variables.insert("enable_thinking".into(), value.clone());
            }
            let rendered = template.render(&Conversation {
                messages: case["messages"].as_array().unwrap(),
                tools: None,
                variables: &variables,
                ending: if case["add_generation_prompt"] == true {
                    Ending::AssistantTurn
                } else {
                    Ending::AsIs
                },
                now: None,
            });
            let text = spelled(&rendered.unwrap(), &names);
            n_seen += 1;
            if text != case["expected"].as_str().unwrap() {
                differ.push(case["case"].as_str().unwrap());
            }
        }
        differ.dedup();
        assert_eq!(
            (n_seen, differ.join(" ").as_str()),
            (n_cases, differing),
            "{published}"
        );
    }
}
