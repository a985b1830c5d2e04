//! Prompts of all kinds, for templates of all kinds.

use frugal_text::chat::Builtin;
use serde_json::{Map, Value, json};

use super::*;
use crate::answer::testing::{DEEPSEEK, LLAMA, PLAIN, QWEN, ask, chat, mannered, published, tool};
use crate::answer::{Thinking, Tools};

const ON: Thinking = Thinking::On { budget: None };
const POSITIONS: usize = 4096;

/// A template without a switch, in which the model opens its thoughts itself, as R1-0528 does.
const FREE: &str = "{{ bos_token }}{% for m in messages %}{{ m.role[0] + ':' + m.content + eos_token }}\
    {% endfor %}{% if add_generation_prompt %}a:{% endif %}";

fn made(model: &(Words, Manner), ask: &Ask) -> Result<Prepared, Fault> {
    let place = Place {
        words: &model.0,
        manner: &model.1,
        positions: POSITIONS,
        now: Moment::from_unix_seconds(0),
    };
    prepare(ask, &place)
}

/// The prompt, control tokens spelled between `⟦⟧`, and where it leaves off.
fn shown(model: &(Words, Manner), ask: &Ask) -> (String, Start) {
    let prepared = made(model, ask).unwrap();
    let tokenizer = &model.0.tokenizer;
    let mut text = Vec::new();
    for id in &prepared.ids {
        let bytes = tokenizer.token_bytes(*id).unwrap();
        if tokenizer.is_control(*id) {
            text.extend(["⟦".as_bytes(), &bytes, "⟧".as_bytes()].concat());
        } else {
            text.extend(bytes);
        }
    }
    (String::from_utf8(text).unwrap(), prepared.start)
}

fn fault(model: &(Words, Manner), ask: &Ask) -> (String, String) {
    let fault = made(model, ask).unwrap_err();
    assert!(fault.message.len() < 400, "{}", fault.message);
    (fault.param.unwrap_or_default(), fault.message)
}

fn hello(thinking: Thinking) -> Ask {
    Ask {
        thinking,
        ..ask(chat(
            json!([{ "role": "developer", "content": "S" }, { "role": "user", "content": "U" }]),
        ))
    }
}

#[test]
fn thinking_is_opened_and_closed_as_wanted() {
    let r1 = mannered(DEEPSEEK, Some(&Builtin::DeepseekR1.source()));
    let v31 = mannered(DEEPSEEK, Some(&Builtin::DeepseekV31.source()));
    let free = mannered(DEEPSEEK, Some(FREE));
    let chat_ml = mannered(QWEN, Some(&Builtin::ChatMl.source()));
    let llama = mannered(LLAMA, Some(&Builtin::Llama3.source()));
    assert_eq!(
        [&r1, &v31, &free, &chat_ml].map(|model| (model.1.glue, model.1.has_switch)),
        [
            (Glue::Lines, false),
            (Glue::Bare, true),
            (Glue::Lines, false),
            (Glue::Lines, true)
        ]
    );
    let rows = [
        (
            &r1,
            Thinking::Usual,
            "⟦<｜Assistant｜>⟧⟦<think>⟧\n",
            Start::Thinking,
        ),
        (&r1, ON, "⟦<｜Assistant｜>⟧⟦<think>⟧\n", Start::Thinking),
        (
            &r1,
            Thinking::Off,
            "⟦<｜Assistant｜>⟧⟦<think>⟧\n\n⟦</think>⟧\n\n",
            Start::Answering,
        ),
        (
            &v31,
            Thinking::Usual,
            "⟦<｜Assistant｜>⟧⟦</think>⟧",
            Start::Answering,
        ),
        (&v31, ON, "⟦<｜Assistant｜>⟧⟦<think>⟧", Start::Thinking),
        (
            &v31,
            Thinking::Off,
            "⟦<｜Assistant｜>⟧⟦</think>⟧",
            Start::Answering,
        ),
        (&free, Thinking::Usual, "a:", Start::Fresh),
        (&free, ON, "a:⟦<think>⟧\n", Start::Thinking),
        (
            &free,
            Thinking::Off,
            "a:⟦<think>⟧\n\n⟦</think>⟧\n\n",
            Start::Answering,
        ),
        (&chat_ml, Thinking::Usual, "assistant\n", Start::Fresh),
        (&chat_ml, ON, "assistant\n⟦<think>⟧\n", Start::Thinking),
        (
            &chat_ml,
            Thinking::Off,
            "assistant\n⟦<think>⟧\n\n⟦</think>⟧\n\n",
            Start::Answering,
        ),
        (
            &llama,
            Thinking::Usual,
            "⟦<|end_header_id|>⟧\n\n",
            Start::Fresh,
        ),
        (
            &llama,
            Thinking::Off,
            "⟦<|end_header_id|>⟧\n\n",
            Start::Fresh,
        ),
    ];
    for (model, thinking, end, start) in rows {
        let (text, leaves) = shown(model, &hello(thinking));
        assert!(text.ends_with(end), "{thinking:?}: {text}");
        assert_eq!(leaves, start, "{text}");
        assert!(text.contains('S') && !text.contains("developer"), "{text}");
    }
    let (param, message) = fault(&llama, &hello(ON));
    assert_eq!(param, "thinking", "{message}");
}

#[test]
fn published_templates_are_switched() {
    let (Some(qwen3), Some(glm)) = (published("qwen3"), published("glm4-moe")) else {
        return;
    };
    let qwen3 = mannered(QWEN, Some(&qwen3));
    assert_eq!((qwen3.1.glue, qwen3.1.has_switch), (Glue::Lines, true));
    let (text, start) = shown(&qwen3, &hello(Thinking::Off));
    assert!(text.ends_with("⟦<think>⟧\n\n⟦</think>⟧\n\n"), "{text}");
    assert_eq!(start, Start::Answering);
    let glm = mannered(
        "[gMASK] <|user|> <|assistant|> <|system|> <sop> <think> </think>",
        Some(&glm),
    );
    assert_eq!((glm.1.glue, glm.1.has_switch), (Glue::Bare, true));
    let (text, _) = shown(&glm, &hello(Thinking::Off));
    assert!(
        text.ends_with("/nothink⟦<|assistant|>⟧\n⟦<think>⟧⟦</think>⟧"),
        "{text}"
    );
}

fn continued(last: Value) -> Ask {
    let Prompt::Chat {
        mut messages,
        variables,
        ..
    } = chat(json!([{ "role": "user", "content": "U" }]))
    else {
        unreachable!("it is one");
    };
    messages.push(last);
    ask(Prompt::Chat {
        messages,
        variables,
        continues_last: true,
        opens_turn: false,
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn an_answer_is_continued_where_it_ends() {
    let r1 = mannered(DEEPSEEK, Some(&Builtin::DeepseekR1.source()));
    let v31 = mannered(DEEPSEEK, Some(&Builtin::DeepseekV31.source()));
    let llama = mannered(LLAMA, Some(&Builtin::Llama3.source()));
    let mut rows = vec![
        (
            &r1,
            json!("1 + 1 = "),
            Value::Null,
            "⟦<｜Assistant｜>⟧1 + 1 = ",
            Start::Answering,
        ),
        (
            &r1,
            json!("x"),
            json!("hm"),
            "⟦<｜Assistant｜>⟧⟦<think>⟧\nhm\n⟦</think>⟧\n\nx",
            Start::Answering,
        ),
        (
            &r1,
            json!(null),
            json!("hm"),
            "⟦<｜Assistant｜>⟧⟦<think>⟧\nhm",
            Start::Thinking,
        ),
        (
            &r1,
            json!("<think>\nhm\n</think>\n\nx"),
            Value::Null,
            "⟦<think>⟧\nhm\n⟦</think>⟧\n\nx",
            Start::Answering,
        ),
        (
            &r1,
            json!("<think>\nhm"),
            Value::Null,
            "⟦<｜Assistant｜>⟧⟦<think>⟧\nhm",
            Start::Thinking,
        ),
        (
            &r1,
            json!(""),
            Value::Null,
            "⟦<｜Assistant｜>⟧",
            Start::Fresh,
        ),
        (
            &v31,
            json!("x"),
            Value::Null,
            "⟦<｜Assistant｜>⟧⟦</think>⟧x",
            Start::Answering,
        ),
        (
            &v31,
            json!("x"),
            json!("hm"),
            "⟦<｜Assistant｜>⟧⟦<think>⟧hm⟦</think>⟧x",
            Start::Answering,
        ),
        (
            &v31,
            json!(""),
            json!("hm"),
            "⟦<｜Assistant｜>⟧⟦<think>⟧hm",
            Start::Thinking,
        ),
        (
            &llama,
            json!(" x <|eot_id|> "),
            Value::Null,
            "⟦<|end_header_id|>⟧\n\n x <|eot_id|> ",
            Start::Answering,
        ),
    ];
    let qwen3 = published("qwen3").map(|source| mannered(QWEN, Some(&source)));
    if let Some(qwen3) = &qwen3 {
        rows.extend([
            (
                qwen3,
                json!("x"),
                Value::Null,
                "assistant\n⟦<think>⟧\n\n⟦</think>⟧\n\nx",
                Start::Answering,
            ),
            (
                qwen3,
                json!("x"),
                json!("hm"),
                "assistant\n⟦<think>⟧\nhm\n⟦</think>⟧\n\nx",
                Start::Answering,
            ),
            (
                qwen3,
                json!(""),
                json!("hm"),
                "assistant\n⟦<think>⟧\nhm",
                Start::Thinking,
            ),
        ]);
    }
    for (model, content, reasoning, end, start) in rows {
        let mut last = json!({ "role": "assistant", "content": content });
        if !reasoning.is_null() {
            last["reasoning_content"] = reasoning;
        }
        let (text, leaves) = shown(model, &continued(last));
        assert!(text.ends_with(end), "{text} {end}");
        assert_eq!(leaves, start, "{text}");
    }
    // A thought that is continued can also be closed.
    let last = json!({ "role": "assistant", "content": "", "reasoning_content": "hm" });
    let closed = Ask {
        thinking: Thinking::Off,
        ..continued(last.clone())
    };
    assert!(
        shown(&r1, &closed)
            .0
            .ends_with("⟦<think>⟧\nhm\n⟦</think>⟧\n\n")
    );
    for (model, last) in [
        (&llama, last),
        (&r1, json!({ "role": "user", "content": "x" })),
        (
            &r1,
            json!({ "role": "assistant", "content": "x", "tool_calls": [{ "function": { "name": "f" } }] }),
        ),
    ] {
        assert_eq!(fault(model, &continued(last)).0, "messages");
    }
}

#[test]
fn a_turn_need_not_be_opened() {
    let r1 = mannered(DEEPSEEK, Some(&Builtin::DeepseekR1.source()));
    let mut ask = hello(Thinking::Usual);
    let Prompt::Chat { opens_turn, .. } = &mut ask.prompt else {
        unreachable!("it is one");
    };
    *opens_turn = false;
    assert_eq!(
        shown(&r1, &ask),
        (
            "⟦<｜begin▁of▁sentence｜>⟧S⟦<｜User｜>⟧U".to_string(),
            Start::Fresh
        )
    );
}

#[test]
fn variables_reach_the_template_and_agree_with_the_rest() {
    let source = FREE.replace("a:{% endif", "{{ style }}:{% endif");
    let model = mannered(DEEPSEEK, Some(&source));
    let with = |name: &str, value: Value, thinking| {
        let mut ask = hello(thinking);
        if let Prompt::Chat { variables, .. } = &mut ask.prompt {
            variables.insert(name.to_string(), value);
        }
        ask
    };
    let (text, _) = shown(&model, &with("style", "<think>".into(), Thinking::Usual));
    assert!(text.ends_with("⟧<think>:"), "{text}");
    assert!(made(&model, &with("thinking", true.into(), ON)).is_ok());
    for (name, value, thinking) in [
        ("messages", json!([]), Thinking::Usual),
        ("bos_token", json!("x"), Thinking::Usual),
        ("enable_thinking", json!(true), Thinking::Off),
        ("thinking", json!(false), ON),
    ] {
        let (param, message) = fault(&model, &with(name, value, thinking));
        assert_eq!(param, "chat_template_kwargs", "{message}");
    }
}

#[test]
fn texts_ids_and_middles_go_as_they_are() {
    let (deepseek, qwen, plain) = (
        mannered(DEEPSEEK, Some(&Builtin::DeepseekR1.source())),
        mannered(QWEN, None),
        mannered(PLAIN, None),
    );
    let text = |text: &str| ask(Prompt::Text(text.into()));
    let middle = || {
        ask(Prompt::Middle {
            prefix: "a<think>".into(),
            suffix: "b".into(),
        })
    };
    let rows = [
        (
            &deepseek,
            text("a<think>"),
            "⟦<｜begin▁of▁sentence｜>⟧a<think>",
            Start::Answering,
        ),
        (&plain, text(""), "⟦<bos>⟧", Start::Answering),
        (
            &deepseek,
            ask(Prompt::Ids(vec![260, 97])),
            "⟦<think>⟧a",
            Start::Answering,
        ),
        (
            &deepseek,
            middle(),
            "⟦<｜begin▁of▁sentence｜>⟧⟦<｜fim▁begin｜>⟧a<think>⟦<｜fim▁hole｜>⟧b⟦<｜fim▁end｜>⟧",
            Start::Answering,
        ),
        (
            &qwen,
            middle(),
            "⟦<|endoftext|>⟧⟦<|fim_prefix|>⟧a<think>⟦<|fim_suffix|>⟧b⟦<|fim_middle|>⟧",
            Start::Answering,
        ),
        // Thinking acts on plain prompts where it is asked for.
        (
            &deepseek,
            Ask {
                thinking: ON,
                ..text("a")
            },
            "⟦<｜begin▁of▁sentence｜>⟧a⟦<think>⟧\n",
            Start::Thinking,
        ),
        (
            &deepseek,
            Ask {
                thinking: Thinking::Off,
                ..ask(Prompt::Ids(vec![97, 260, 10]))
            },
            "a⟦<think>⟧\n\n⟦</think>⟧\n\n",
            Start::Answering,
        ),
    ];
    for (model, ask, expected, start) in rows {
        assert_eq!(shown(model, &ask), (expected.to_string(), start));
    }
    assert!(!made(&deepseek, &text("a")).unwrap().markup.can_think());
    // The middle ends where Qwen's end, too.
    assert_eq!(
        made(&qwen, &middle()).unwrap().stop,
        [256, 257, 263, 264, 265, 266]
    );
    let with_tools = Ask {
        tools: Tools {
            tools: vec![tool("f")],
            ..Tools::default()
        },
        ..text("a")
    };
    for (model, ask, param) in [
        (&plain, middle(), "suffix"),
        (
            &deepseek,
            Ask {
                thinking: ON,
                ..middle()
            },
            "thinking",
        ),
        (
            &plain,
            Ask {
                thinking: ON,
                ..text("a")
            },
            "thinking",
        ),
        (&plain, ask(Prompt::Ids(vec![97, 260])), "prompt"),
        (&plain, ask(Prompt::Ids(Vec::new())), "prompt"),
        (&plain, with_tools, "tools"),
        (&plain, hello(Thinking::Usual), "messages"),
    ] {
        let (got, message) = fault(model, &ask);
        assert_eq!(got, param, "{message}");
    }
}

#[test]
fn prompt_and_answer_have_to_fit() {
    let model = mannered(PLAIN, None);
    let with = |prompt: usize, max_tokens| Ask {
        max_tokens,
        ..ask(Prompt::Ids(vec![97; prompt]))
    };
    for (prompt, max_tokens, room) in [
        (96, None, Some(4000)),
        (96, Some(4000), Some(4000)),
        (96, Some(4001), None),
        (96, Some(usize::MAX), None),
        (4096, None, None),
        (4096, Some(0), Some(0)),
        (4097, Some(0), None),
        (4095, None, Some(1)),
    ] {
        let made = made(&model, &with(prompt, max_tokens));
        let got = made.as_ref().ok().map(|prepared| prepared.max_tokens);
        assert_eq!(got, room, "{prompt} {max_tokens:?}");
        if let Err(fault) = made {
            assert_eq!(fault.kind, Kind::ContextLength);
            assert!(
                fault.message.contains("4096") && fault.message.contains(&prompt.to_string()),
                "{fault}"
            );
        }
    }
}

#[test]
fn ends_are_the_models_and_those_asked_for() {
    let model = mannered(PLAIN, None);
    let with = |ignores_end| Ask {
        stop_ids: vec![97, 257],
        ignores_end,
        ..ask(Prompt::Text("a".into()))
    };
    assert_eq!(made(&model, &with(false)).unwrap().stop, [97, 257]);
    let only = Ask {
        stop_ids: vec![97],
        ..with(true)
    };
    assert_eq!(made(&model, &only).unwrap().stop, [97]);
}

#[test]
fn what_a_template_refuses_is_told_in_words_for_clients() {
    let long = "<".repeat(500);
    let source = format!(
        "{{% if messages[0].content == 'x' %}}{{{{ raise_exception('no é{long}') }}}}{{% endif %}}\
        {{{{ messages[0].content + messages[1].content }}}}"
    );
    let model = mannered(PLAIN, Some(&source));
    let (param, message) = fault(
        &model,
        &ask(chat(json!([{ "role": "user", "content": "x" }]))),
    );
    assert_eq!(param, "messages");
    assert!(
        message.ends_with(&format!("no é{}", "<".repeat(200 - 5))),
        "{message}"
    );
    let (_, message) = fault(
        &model,
        &ask(chat(json!([{ "role": "user", "content": "secret" }]))),
    );
    assert_eq!(
        message,
        "messages: the model's chat template cannot write this conversation"
    );
    let (param, _) = fault(&model, &ask(chat(json!([{ "content": "x" }]))));
    assert_eq!(param, "messages");
}

fn with_tools(choice: ToolChoice, is_parallel: bool) -> Ask {
    Ask {
        tools: Tools {
            tools: vec![tool("f"), tool("g")],
            choice,
            is_parallel,
        },
        ..hello(Thinking::Usual)
    }
}

#[test]
fn tools_are_told_of_and_their_calls_read_as_chosen() {
    let Some(qwen3) = published("qwen3") else {
        return;
    };
    let qwen3 = mannered(QWEN, Some(&qwen3));
    let deepseek = mannered(DEEPSEEK, Some(&Builtin::DeepseekR1.source()));
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_string())
            .collect::<Vec<_>>()
    };
    for model in [&qwen3, &deepseek] {
        for (choice, told, must) in [
            (ToolChoice::Auto, "fg", false),
            (ToolChoice::None, "", false),
            (ToolChoice::Required(None), "fg", true),
            (ToolChoice::Required(Some(names(&["g"]))), "g", true),
            (ToolChoice::AutoOf(names(&["f"])), "f", false),
            (ToolChoice::AutoOf(Vec::new()), "", false),
        ] {
            let ask = with_tools(choice.clone(), false);
            let (text, _) = shown(model, &ask);
            for name in ["f", "g"] {
                let is_told = text.contains(&format!("\"{name}\""));
                assert_eq!(is_told, told.contains(name), "{choice:?}: {text}");
            }
            assert!(text.contains('S'), "{text}");
            let prepared = made(model, &ask).unwrap();
            let read: String = prepared
                .calls
                .iter()
                .flat_map(|calls| &calls.tools)
                .map(|tool| tool.name.as_str())
                .collect();
            assert_eq!(read, told, "{choice:?}");
            assert_eq!(
                prepared.calls.as_ref().is_some_and(|calls| calls.must),
                must
            );
            assert!(prepared.calls.iter().all(|calls| calls.count == Count::One));
            let forbids = choice == ToolChoice::None;
            assert_eq!(!prepared.forbidden.is_empty(), forbids, "{choice:?}");
        }
        for choice in [
            ToolChoice::Required(Some(names(&["h"]))),
            ToolChoice::AutoOf(names(&["f", "h"])),
            ToolChoice::Required(Some(Vec::new())),
        ] {
            assert_eq!(fault(model, &with_tools(choice, true)).0, "tool_choice");
        }
        let none = Ask {
            tools: Tools {
                choice: ToolChoice::Required(None),
                ..Tools::default()
            },
            ..hello(Thinking::Usual)
        };
        assert_eq!(fault(model, &none).0, "tool_choice");
    }
    let grammar = |model: &(Words, Manner)| {
        let calls = made(model, &with_tools(ToolChoice::Auto, true))
            .unwrap()
            .calls
            .unwrap();
        (calls.grammar().calls[0].clone(), calls.count)
    };
    let (pieces, count) = grammar(&qwen3);
    assert_eq!(
        (&pieces[0], count),
        (&frugal_text::tools::Piece::Control(261), Count::Many)
    );
}

/// Every control token, wherever a client's or a model's word can stand.
#[test]
fn no_word_of_a_client_becomes_a_control_token() {
    let mut models = vec![
        mannered(DEEPSEEK, Some(&Builtin::DeepseekR1.source())),
        mannered(DEEPSEEK, Some(&Builtin::DeepseekV31.source())),
        mannered(QWEN, Some(&Builtin::ChatMl.source())),
        mannered(LLAMA, Some(&Builtin::Llama3.source())),
    ];
    for (control, name) in [
        (QWEN, "qwen3"),
        (QWEN, "qwen2.5"),
        (LLAMA, "llama3.1"),
        (DEEPSEEK, "deepseek-v3"),
    ] {
        models.extend(published(name).map(|source| mannered(control, Some(&source))));
    }
    let asked = |word: &str, continues_last: bool| {
        let arguments = json!({ word: word }).to_string();
        let mut messages = vec![
            json!({ "role": "developer", "content": word }),
            json!({ "role": "user", "content": word }),
            json!({ "role": "assistant", "content": word, "reasoning_content": word }),
            json!({ "role": "user", "content": word, "name": word }),
            json!({ "role": "assistant", "content": null, "tool_calls": [
                { "id": word, "type": "function", "function": { "name": word, "arguments": arguments } },
            ] }),
            json!({ "role": "tool", "tool_call_id": word, "name": word, "content": word }),
        ];
        if continues_last {
            messages.push(json!({ "role": "assistant", "content": word }));
        }
        let mut described = tool(word);
        described["function"]["description"] = word.into();
        described["function"]["parameters"]["properties"] =
            json!({ word: { "description": word } });
        Ask {
            tools: Tools {
                tools: vec![described],
                choice: ToolChoice::Auto,
                is_parallel: true,
            },
            ..ask(Prompt::Chat {
                messages,
                variables: Map::new(),
                continues_last,
                opens_turn: !continues_last,
            })
        }
    };
    for model in &models {
        let tokenizer = &model.0.tokenizer;
        let controls = |ask: &Ask| -> Vec<u32> {
            let ids = made(model, ask).unwrap().ids;
            ids.into_iter()
                .filter(|id| tokenizer.is_control(*id))
                .collect()
        };
        for continues_last in [false, true] {
            let expected = controls(&asked("wordless", continues_last));
            // An assistant's thinking is markup: the one thing that is meant to be.
            for (name, _) in tokenizer
                .controls()
                .filter(|(name, _)| !name.contains("think"))
            {
                for word in [name.to_string(), format!("a{name}{name}")] {
                    assert_eq!(controls(&asked(&word, continues_last)), expected, "{word}");
                }
            }
        }
    }
}
