//! Calls of every style, whole, in pieces, and garbled.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::testing::{CONTROL, tokenizer};
use super::*;
use crate::chat::{Conversation, Ending, Moment, message};
use crate::tokenizer::Segment;

const STYLES: [Style; 5] = [
    Style::DeepseekV3,
    Style::DeepseekV31,
    Style::Hermes,
    Style::Llama,
    Style::Plain,
];

fn all() -> Tokenizer {
    tokenizer(&CONTROL.split(' ').collect::<Vec<_>>())
}

fn format_of(style: Style, tokenizer: &Tokenizer) -> Format {
    Format {
        style,
        arguments: Arguments::Text,
        has_text_beside: true,
        has_system: true,
        marks: marks(style, tokenizer),
    }
}

/// An answer with control tokens between braces of `⟦⟧`, as (id, spelling) or text.
fn items(answer: &str, tokenizer: &Tokenizer) -> Vec<(Option<u32>, String)> {
    let mut all = Vec::new();
    for part in answer.split('⟦') {
        match part.split_once('⟧') {
            Some((name, text)) => {
                all.push((Some(tokenizer.control(name).unwrap()), name.to_string()));
                all.push((None, text.to_string()));
            }
            None => all.push((None, part.to_string())),
        }
    }
    all
}

/// What is read, each event on a line; the laws of places are checked on the way.
fn read(parser: &mut Parser, items: &[(Option<u32>, String)]) -> String {
    let source: String = items.iter().map(|(_, text)| text.as_str()).collect();
    let mut heard = Vec::new();
    for (id, text) in items {
        heard.extend(match id {
            Some(id) => parser.control(*id, text),
            None => parser.text(text),
        });
    }
    heard.extend(parser.finish());
    let (mut last, mut lines) = (0, Vec::<(char, String)>::new());
    for Heard { event, upto } in heard {
        assert!(last <= upto && upto <= source.len(), "{upto}");
        if let Event::Text(text) = &event {
            assert!(source[last..upto].ends_with(text), "{text:?}");
        }
        last = upto;
        let (kind, text) = match event {
            Event::Text(text) => ('t', text),
            Event::CallBegins { name } => ('c', name),
            Event::CallArguments(text) => ('a', text),
            Event::CallEnds => ('e', String::new()),
        };
        match lines.last_mut() {
            Some((same, before)) if *same == kind && "ta".contains(kind) => before.push_str(&text),
            _ => lines.push((kind, text)),
        }
    }
    let shown = lines.iter().map(|(kind, text)| format!("{kind}:{text}"));
    shown.collect::<Vec<_>>().join("|")
}

fn check(style: Style, tokenizer: &Tokenizer, rows: &[(&str, &str)]) {
    let format = format_of(style, tokenizer);
    let names = ["f", "get_weather", "function"].map(String::from);
    for (answer, expected) in rows {
        let items = items(answer, tokenizer);
        let whole = read(&mut format.parser(&names), &items);
        assert_eq!(&whole, expected, "{style:?}: {answer}");
        let chars: Vec<(Option<u32>, String)> = items
            .iter()
            .flat_map(|(id, text)| match id {
                Some(_) => vec![(*id, text.clone())],
                None => text.chars().map(|c| (None, c.to_string())).collect(),
            })
            .collect();
        let single = read(&mut format.parser(&names), &chars);
        assert_eq!(single, whole, "{style:?}, by characters: {answer}");
    }
}

#[test]
fn deepseek_calls_are_read() {
    const FIRST: &str = "⟦<｜tool▁calls▁begin｜>⟧⟦<｜tool▁call▁begin｜>⟧";
    let rows = [
        (
            "sure⟦<｜tool▁calls▁begin｜>⟧⟦<｜tool▁call▁begin｜>⟧function⟦<｜tool▁sep｜>⟧f\n```json\n{\"a\": \"}ü\\\"\"}\n```⟦<｜tool▁call▁end｜>⟧\n⟦<｜tool▁call▁begin｜>⟧function⟦<｜tool▁sep｜>⟧get_weather\n```json\n{}\n```⟦<｜tool▁call▁end｜>⟧⟦<｜tool▁calls▁end｜>⟧",
            "t:sure|c:f|a:{\"a\": \"}ü\\\"\"}|e:|c:get_weather|a:{}|e:",
        ),
        (
            "⟦<｜tool▁calls▁begin｜>⟧⟦<｜tool▁call▁begin｜>⟧f⟦<｜tool▁sep｜>⟧{\"a\": [1]}⟦<｜tool▁call▁end｜>⟧⟦<｜tool▁call▁begin｜>⟧function⟦<｜tool▁sep｜>⟧{}⟦<｜tool▁call▁end｜>⟧⟦<｜tool▁calls▁end｜>⟧ so",
            "c:f|a:{\"a\": [1]}|e:|c:function|a:{}|e:|t: so",
        ),
        // The list is not opened, the call not closed.
        (
            "⟦<｜tool▁call▁begin｜>⟧f⟦<｜tool▁sep｜>⟧\n{\"a\": 1}\n⟦<｜tool▁call▁begin｜>⟧f⟦<｜tool▁sep｜>⟧{\"a\": ",
            "c:f|a:{\"a\": 1}|e:|c:f|a:{\"a\": |e:",
        ),
        // Arguments that are cut off by a mark, and a fence without a name for its language.
        (
            "⟦<｜tool▁call▁begin｜>⟧function⟦<｜tool▁sep｜>⟧f \n```\n{\"a\": \"⟦<｜tool▁call▁end｜>⟧x",
            "c:f|a:{\"a\": \"|e:|t:x",
        ),
        // No calls.
        ("⟦<｜tool▁calls▁begin｜>⟧hm", "t:<｜tool▁calls▁begin｜>hm"),
        (
            "⟦<｜tool▁calls▁begin｜>⟧⟦<｜tool▁calls▁end｜>⟧",
            "t:<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>",
        ),
        (
            "⟦<｜tool▁call▁begin｜>⟧function⟦<｜tool▁sep｜>⟧nobody\n```json\n{}",
            "t:<｜tool▁call▁begin｜>function<｜tool▁sep｜>nobody\n```json\n{}",
        ),
        (
            "⟦<｜tool▁call▁begin｜>⟧much too long for any name⟦<｜tool▁sep｜>⟧",
            "t:<｜tool▁call▁begin｜>much too long for any name<｜tool▁sep｜>",
        ),
        (
            "⟦<｜tool▁call▁begin｜>⟧f⟦<｜tool▁sep｜>⟧12",
            "t:<｜tool▁call▁begin｜>f<｜tool▁sep｜>12",
        ),
        // A spelled mark is text.
        (
            "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}",
            "t:<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}",
        ),
    ];
    for style in [Style::DeepseekV3, Style::DeepseekV31] {
        check(style, &all(), &rows);
        assert!(rows[0].0.contains(FIRST));
    }
}

#[test]
fn hermes_calls_are_read_by_their_tokens() {
    let rows = [
        (
            "Well.\n⟦<tool_call>⟧\n{\"name\": \"f\", \"arguments\": {\"a\": \"</tool_call>\"}}\n⟦</tool_call>⟧\n⟦<tool_call>⟧{\"name\":\"get_weather\",\"arguments\":{}}⟦</tool_call>⟧\n",
            "t:Well.\n|c:f|a:{\"a\": \"</tool_call>\"}|e:|c:get_weather|a:{}|e:",
        ),
        // Fields in another order, escapes in a name, fields that do not matter, none.
        (
            "⟦<tool_call>⟧{\"arguments\": {\"a\": [{}]}, \"id\": \"x\", \"name\": \"\\u0066\"}⟦</tool_call>⟧",
            "c:f|a:{\"a\": [{}]}|e:",
        ),
        (
            "⟦<tool_call>⟧{\"name\": \"f\", \"arguments\": {}, \"id\": \"}\"}⟦</tool_call>⟧ so",
            "c:f|a:{}|e:|t: so",
        ),
        (
            "⟦<tool_call>⟧{\"name\": \"f\"}⟦</tool_call>⟧",
            "c:f|a:{}|e:",
        ),
        // Closing marks and brackets that are missing.
        (
            "⟦<tool_call>⟧{\"name\": \"f\", \"arguments\": {}⟦</tool_call>⟧",
            "c:f|a:{}|e:",
        ),
        (
            "⟦<tool_call>⟧{\"name\": \"f\", \"arguments\": {\"a\"⟦</tool_call>⟧",
            "c:f|a:{\"a\"|e:",
        ),
        (
            "⟦<tool_call>⟧{\"name\": \"f\", \"arguments\": {}}\nso",
            "c:f|a:{}|e:|t:\nso",
        ),
        // No calls.
        (
            "⟦<tool_call>⟧{\"name\": \"nobody\", \"arguments\": {}}⟦</tool_call>⟧",
            "t:<tool_call>{\"name\": \"nobody\", \"arguments\": {}}</tool_call>",
        ),
        (
            "⟦<tool_call>⟧{\"name\": \"f\", \"arguments\": 1}",
            "t:<tool_call>{\"name\": \"f\", \"arguments\": 1}",
        ),
        (
            "⟦<tool_call>⟧{\"arguments\": {x}, \"name\": \"f\"}",
            "t:<tool_call>{\"arguments\": {x}, \"name\": \"f\"}",
        ),
        (
            "⟦<tool_call>⟧{\"arguments\": {\"a\"]}, \"name\": \"f\"}",
            "t:<tool_call>{\"arguments\": {\"a\"]}, \"name\": \"f\"}",
        ),
        (
            "⟦<tool_call>⟧⟦<tool_call>⟧{\"name\": \"f\", \"arguments\": {}}⟦</tool_call>⟧",
            "t:<tool_call>|c:f|a:{}|e:",
        ),
        // Spelled marks are text, since there are tokens.
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>",
            "t:<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>",
        ),
    ];
    check(Style::Hermes, &all(), &rows);
}

#[test]
fn spelled_calls_are_read_where_there_are_no_tokens() {
    let rows = [
        (
            "<b>Well <tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"</tool_call>\"}}\n</tool_call>\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\nso",
            "t:<b>Well |c:f|a:{\"a\": \"</tool_call>\"}|e:|c:f|a:{}|e:|t:\nso",
        ),
        (
            "<<tool_call><tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_cal",
            "t:<<tool_call>|c:f|a:{}|e:|t:</tool_cal",
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": </tool_call>x",
            "c:f|a:{\"a\": |e:|t:x",
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {}</tool_call>x",
            "c:f|a:{}|e:|t:x",
        ),
        ("a <tool_cal", "t:a <tool_cal"),
        ("a < b <tool_caller>", "t:a < b <tool_caller>"),
    ];
    for style in [Style::Hermes, Style::Plain] {
        check(style, &tokenizer(&["<eos>"]), &rows);
    }
    // What the model was taught counts as well.
    let taught = [(
        "⟦<tool_call>⟧{\"name\": \"f\", \"arguments\": {}}⟦</tool_call>⟧⟦<｜tool▁call▁begin｜>⟧f⟦<｜tool▁sep｜>⟧{}",
        "c:f|a:{}|e:|c:f|a:{}|e:",
    )];
    check(Style::Plain, &all(), &taught);
}

#[test]
fn a_whole_answer_is_a_call_for_llama() {
    let rows = [
        (
            " {\"name\": \"f\", \"parameters\": {\"a\": 1}}\n",
            "c:f|a:{\"a\": 1}|e:",
        ),
        (
            "⟦<|python_tag|>⟧{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}",
            "c:f|a:{}|e:",
        ),
        (
            "{\"name\": \"f\", \"parameters\": {}} so",
            "c:f|a:{}|e:|t: so",
        ),
        // Answers that are JSON, or anything else.
        ("{\"name\": \"f\"}", "t:{\"name\": \"f\"}"),
        ("{\"answer\": 1}", "t:{\"answer\": 1}"),
        (
            "so {\"name\": \"f\", \"parameters\": {}}",
            "t:so {\"name\": \"f\", \"parameters\": {}}",
        ),
        ("⟦<|python_tag|>⟧print(1)", "t:<|python_tag|>print(1)"),
        (" \n", "t: \n"),
    ];
    check(Style::Llama, &all(), &rows);
}

fn published(name: &str) -> Option<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/chat-templates")
        .join(format!("{name}.jinja"));
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("skipped: {} is not here", path.display());
    }
    text
}

/// Declares tools as the model card of V3.1 says, and writes calls as our own template does.
fn deepseek_v31() -> String {
    let source = crate::chat::Builtin::DeepseekV31.source();
    let turns = source.split_once("{%- set ns").unwrap().1;
    format!("{{{{- tools | tojson if tools else '' -}}}}{{%- set ns{turns}")
}

#[test]
fn templates_tell_the_style() {
    let tokenizer = all();
    let rows = [
        ("qwen2.5", Style::Hermes, Arguments::Object, true, true),
        ("qwen3", Style::Hermes, Arguments::Text, true, true),
        ("llama3.1", Style::Llama, Arguments::Object, false, true),
        // They write calls, and declare no tools.
        ("deepseek-v3", Style::Plain, Arguments::Text, true, true),
        (
            "deepseek-r1-distill-qwen",
            Style::Plain,
            Arguments::Text,
            true,
            true,
        ),
        (
            "deepseek-r1-tool",
            Style::Plain,
            Arguments::Text,
            true,
            true,
        ),
        // They write calls in ways of their own.
        ("glm4-moe", Style::Plain, Arguments::Text, true, true),
        ("gpt-oss", Style::Plain, Arguments::Text, true, true),
        ("phi3", Style::Plain, Arguments::Text, true, true),
        ("gemma", Style::Plain, Arguments::Text, true, false),
    ];
    for (name, style, arguments, has_text_beside, has_system) in rows {
        let Some(source) = published(name) else {
            return;
        };
        let template = Template::new(&source, &tokenizer, "<bos>", "<eos>").unwrap();
        let format = Format::of(&tokenizer, Some(&template));
        let marks = marks(style, &tokenizer);
        let expected = Format {
            style,
            arguments,
            has_text_beside,
            has_system,
            marks,
        };
        assert_eq!(format, expected, "{name}");
    }
    let v31 = Template::new(&deepseek_v31(), &tokenizer, "<bos>", "<eos>").unwrap();
    assert_eq!(
        Format::of(&tokenizer, Some(&v31)).style(),
        Style::DeepseekV31
    );
    let v3 = deepseek_v31()
        .replace("+ call.function.name +", "+ 'function' +")
        .replace(
            "<｜tool▁sep｜>'",
            "<｜tool▁sep｜>' + call.function.name + '\\n```json\\n'",
        );
    let v3 = Template::new(&v3, &tokenizer, "<bos>", "<eos>").unwrap();
    assert_eq!(Format::of(&tokenizer, Some(&v3)).style(), Style::DeepseekV3);
    assert_eq!(Format::of(&tokenizer, None).style(), Style::Plain);
}

/// What a template writes of a call is what is read as a call, and what the grammar allows.
#[test]
fn calls_are_read_as_templates_write_them() {
    let tokenizer = all();
    let conversation = json!([
        { "role": "user", "content": "?" },
        { "role": "assistant", "content": "", "tool_calls": [
            { "id": "a", "type": "function",
              "function": { "name": "f", "arguments": "{\"a\": \"<eos>ü\"}" } },
        ] },
    ]);
    let mut sources: Vec<String> = ["qwen2.5", "qwen3", "llama3.1"]
        .iter()
        .filter_map(|name| published(name))
        .collect();
    sources.push(deepseek_v31());
    for source in sources {
        let template = Template::new(&source, &tokenizer, "<bos>", "<eos>").unwrap();
        let format = Format::of(&tokenizer, Some(&template));
        let messages = format.history(conversation.as_array().unwrap()).unwrap();
        let render = |messages: &[Value]| {
            let conversation = Conversation {
                messages,
                tools: None,
                variables: &serde_json::Map::new(),
                ending: Ending::AsIs,
                now: Some(Moment::from_unix_seconds(0)),
            };
            template.render(&conversation).unwrap()
        };
        let mut parser = format.parser(&["f".to_string()]);
        let mut events = Vec::new();
        // Llama's calls are whole answers: what was said before has to go.
        let before = render(&messages[..1]).len();
        for segment in render(&messages).iter().skip(before) {
            events.extend(match segment {
                Segment::Control(id) if parser.is_mark(*id) => {
                    parser.control(*id, &tokenizer.token_name(*id).unwrap())
                }
                Segment::Text(text) if text.contains("\"a\"") || text == "f" => parser.text(text),
                _ => Vec::new(),
            });
        }
        events.extend(parser.finish());
        let told: Vec<Event> = events.into_iter().map(|heard| heard.event).collect();
        let read = told
            .iter()
            .skip_while(|event| matches!(event, Event::Text(_)))
            .take(3)
            .cloned()
            .collect::<Vec<_>>();
        let expected = [
            Event::CallBegins { name: "f".into() },
            Event::CallArguments("{\"a\": \"<eos>ü\"}".into()),
            Event::CallEnds,
        ];
        assert_eq!(read, expected, "{:?}: {told:?}", format.style());
    }
}

#[test]
fn what_the_grammar_allows_is_read_as_calls() {
    let tokenizer = all();
    let tools = [
        json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }),
        json!({ "type": "function", "function": { "name": "get_weather" } }),
    ]
    .map(|tool| Tool::from_openai(&tool).unwrap());
    let names = ["f", "get_weather"].map(String::from);
    for style in STYLES {
        for vocabulary in [&tokenizer, &self::tokenizer(&["<eos>"])] {
            let has_marks = vocabulary.control(OPEN).is_some();
            if !has_marks && matches!(style, Style::DeepseekV3 | Style::DeepseekV31) {
                continue;
            }
            let format = format_of(style, vocabulary);
            let Grammar {
                before,
                calls,
                between,
                after,
                count,
            } = format.grammar(&tools, Count::Many);
            let mut pieces = before;
            pieces.extend(calls[0].clone());
            if count == Count::Many {
                pieces.extend(between);
                pieces.extend(calls[1].clone());
            }
            pieces.extend(after);
            let items: Vec<(Option<u32>, String)> = pieces
                .into_iter()
                .map(|piece| match piece {
                    Piece::Control(id) => (Some(id), vocabulary.token_name(id).unwrap()),
                    Piece::Text(text) => (None, text),
                    Piece::Json(_) => (None, "{\"x\": \"\\\"}\"}".to_string()),
                })
                .collect();
            let one = "c:f|a:{\"x\": \"\\\"}\"}|e:";
            let two = format!("{one}|c:get_weather|a:{{\"x\": \"\\\"}}\"}}|e:");
            let expected = if style == Style::Llama { one } else { &two };
            assert_eq!(
                read(&mut format.parser(&names), &items),
                expected,
                "{style:?}"
            );
        }
    }
    let without = Tool::from_openai(&json!({ "function": { "name": "f" } })).unwrap();
    assert_eq!(without.parameters["additionalProperties"], false);
    assert_eq!(Tool::from_openai(&json!({ "function": {} })), None);
}

#[test]
fn arguments_without_a_name_are_drawn_only_where_a_schema_speaks_of_them() {
    let one = json!({ "a": { "type": "integer" } });
    let rows = [
        (json!({ "properties": {} }), Some(false)),
        (json!({ "type": "object", "properties": one }), Some(false)),
        (
            json!({ "properties": one, "additionalProperties": true }),
            Some(true),
        ),
        (
            json!({ "properties": one, "anyOf": [{ "required": ["a"] }] }),
            None,
        ),
        (json!({ "type": "object" }), None),
    ];
    for (parameters, more) in rows {
        let function = json!({ "function": { "name": "f", "parameters": parameters } });
        let tool = Tool::from_openai(&function).unwrap();
        let said = tool.parameters.get("additionalProperties");
        assert_eq!(
            said.and_then(serde_json::Value::as_bool),
            more,
            "{parameters}"
        );
    }
}

#[test]
fn openings_are_the_tokens_that_begin_calls() {
    let tokenizer = all();
    let names = |style| -> Vec<String> {
        let openings = format_of(style, &tokenizer).openings();
        openings
            .iter()
            .map(|id| tokenizer.token_name(*id).unwrap())
            .collect()
    };
    assert_eq!(
        names(Style::DeepseekV3),
        ["<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"]
    );
    assert_eq!(names(Style::Hermes), ["<tool_call>"]);
    assert_eq!(names(Style::Llama), ["<|python_tag|>"]);
}

fn called(content: &Value, arguments: &Value) -> Vec<Value> {
    vec![
        message("system", "S"),
        message("user", "U"),
        json!({ "role": "assistant", "content": content, "reasoning_content": "R", "tool_calls": [
            { "id": "1", "function": { "name": "f\"", "arguments": arguments } },
        ] }),
        json!({ "role": "tool", "tool_call_id": "1", "content": "A" }),
        json!({ "role": "tool", "tool_call_id": "2", "content": null }),
        json!({ "role": "assistant", "content": null, "tool_calls": [] }),
    ]
}

#[test]
fn history_is_given_in_the_form_that_the_template_takes() {
    let tokenizer = all();
    let mut format = format_of(Style::Hermes, &tokenizer);
    let text = json!("{\"a\": 1}");
    // Text stays text, to the letter; objects become text.
    let messages = format
        .history(&called(&json!(""), &json!("{\"a\":1 }")))
        .unwrap();
    assert_eq!(
        messages[2]["tool_calls"][0]["function"]["arguments"],
        "{\"a\":1 }"
    );
    assert_eq!(messages[2]["tool_calls"][0]["type"], "function");
    assert_eq!(messages[2]["content"], Value::Null);
    assert_eq!(
        (&messages[4]["content"], &messages[5]),
        (&json!(""), &json!({ "role": "assistant", "content": "" }))
    );
    let messages = format
        .history(&called(&json!("so"), &json!({ "a": 1 })))
        .unwrap();
    assert_eq!(
        messages[2]["tool_calls"][0]["function"]["arguments"],
        "{\"a\":1}"
    );
    assert_eq!(messages[2]["content"], "so");
    // Where the template drops text beside calls, there are two messages.
    format.has_text_beside = false;
    let messages = format.history(&called(&json!("so"), &text)).unwrap();
    assert_eq!(messages.len(), 7);
    assert_eq!(
        messages[2],
        json!({ "role": "assistant", "content": "so", "reasoning_content": "R" })
    );
    assert_eq!(
        (
            &messages[3]["content"],
            messages[3].get("reasoning_content")
        ),
        (&Value::Null, None)
    );
    // Objects are read from text, and nothing is made up.
    format.arguments = Arguments::Object;
    let messages = format.history(&called(&Value::Null, &text)).unwrap();
    assert_eq!(
        messages[2]["tool_calls"][0]["function"]["arguments"],
        json!({ "a": 1 })
    );
    let messages = format.history(&called(&Value::Null, &json!(""))).unwrap();
    assert_eq!(
        messages[2]["tool_calls"][0]["function"]["arguments"],
        json!({})
    );
    for bad in [json!("{"), json!("[]"), json!("1")] {
        let refused = format.history(&called(&Value::Null, &bad));
        assert_eq!(
            refused,
            Err(BadArguments {
                message: 2,
                call: 0
            }),
            "{bad}"
        );
    }
}

#[test]
fn a_model_that_knows_no_tools_is_told_in_words() {
    let mut format = format_of(Style::Plain, &tokenizer(&["<eos>"]));
    let mut messages = format
        .history(&called(&json!("so"), &json!("{\"a\": 1}")))
        .unwrap();
    assert_eq!(
        messages[2]["content"],
        "so\n<tool_call>\n{\"name\": \"f\\\"\", \"arguments\": {\"a\": 1}}\n</tool_call>"
    );
    assert_eq!(messages[2]["reasoning_content"], "R");
    assert_eq!(
        messages[3],
        message(
            "user",
            "<tool_response>\nA\n</tool_response>\n<tool_response>\n\n</tool_response>"
        )
    );
    assert_eq!(messages.len(), 5);
    let tools = [
        json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" }, "strict": true } }),
    ];
    format.declare(&mut messages, &tools, Count::One);
    let told = messages[0]["content"].as_str().unwrap();
    assert!(told.starts_with("S\n\nYou may call tools."), "{told}");
    assert!(
        told.contains("\n{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}\n"),
        "{told}"
    );
    assert!(told.contains("Call one tool at most."), "{told}");
    let declared = |format: &Format, mut messages: Vec<Value>| {
        format.declare(&mut messages, &tools, Count::Many);
        let first = &messages[0];
        (
            messages.len(),
            first["role"].clone(),
            first["content"].as_str().unwrap().ends_with("\n\nU"),
        )
    };
    let user = || vec![message("user", "U")];
    assert_eq!(declared(&format, user()), (2, json!("system"), false));
    format.has_system = false;
    assert_eq!(declared(&format, user()), (1, json!("user"), true));
    assert_eq!(
        declared(&format, vec![message("assistant", "x")]),
        (2, json!("user"), false)
    );
}

/// Pieces of all formats, in any order.
fn garbage() -> impl Strategy<Value = Vec<(bool, String)>> {
    let text = prop_oneof![
        Just("\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"\"}}\n".to_string()),
        Just("{\"arguments\": {\"a\": [1, \"ü\"]}, \"name\": \"f\"}".to_string()),
        Just("{\"name\": \"f\", \"parameters\": {".to_string()),
        Just("function".to_string()),
        Just("f".to_string()),
        Just("f\n```json\n{\"a\": 1}\n```".to_string()),
        Just("</tool_call>".to_string()),
        Just("<tool_call>".to_string()),
        Just("<tool_".to_string()),
        "[ \n{}\\[\\]\"<>:,a0ü一-]{0,6}",
        "\\PC{0,4}",
    ];
    let control = (0..26_usize).prop_map(|at| CONTROL.split(' ').nth(at).unwrap().to_string());
    proptest::collection::vec(
        prop_oneof![3 => text.prop_map(|t| (false, t)), 2 => control.prop_map(|t| (true, t))],
        0..12,
    )
}

static ALL: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(all);
static NONE: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(|| tokenizer(&["<eos>"]));

proptest! {
    /// Whatever comes in whatever pieces: no panic, the same events, and where no call is read, the
    /// answer to the letter.
    #[test]
    fn pieces_do_not_matter_and_nothing_is_lost(
        answer in garbage(),
        cuts in proptest::collection::vec(0_usize..40, 0..12),
        style in proptest::sample::select(STYLES.to_vec()),
        has_tokens in any::<bool>(),
    ) {
        let vocabulary = if has_tokens { &*ALL } else { &*NONE };
        let format = format_of(style, vocabulary);
        let names = ["f".to_string()];
        // Texts that follow each other are one, so that only the cuts tell pieces apart.
        let mut items: Vec<(Option<u32>, String)> = Vec::new();
        for (is_control, text) in answer {
            let id = if is_control { vocabulary.control(&text) } else { None };
            match items.last_mut() {
                Some((None, before)) if id.is_none() => before.push_str(&text),
                _ => items.push((id, text)),
            }
        }
        let source: String = items.iter().map(|(_, text)| text.as_str()).collect();
        let mut cuts = cuts.into_iter().cycle();
        let mut pieces = Vec::new();
        for (id, text) in &items {
            let mut rest = text.as_str();
            while id.is_none() && !rest.is_empty() {
                let n = cuts.next().map_or(rest.len(), |n| n % 7 + 1);
                let at = rest.char_indices().nth(n).map_or(rest.len(), |(at, _)| at);
                let (head, tail) = rest.split_at(at);
                pieces.push((None, head.to_string()));
                rest = tail;
            }
            if id.is_some() {
                pieces.push((*id, text.clone()));
            }
        }
        let whole = read(&mut format.parser(&names), &items);
        prop_assert_eq!(&read(&mut format.parser(&names), &pieces), &whole);
        if !whole.contains("c:f") {
            prop_assert_eq!(whole.strip_prefix("t:").unwrap_or_default(), source);
        }
    }
}
