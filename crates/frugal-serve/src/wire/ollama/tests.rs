use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::answer::{Said, Thinking, ToolChoice};
use crate::models::Listed;
use crate::wire::Head;
use crate::wire::samples::{self, with};

type Parse = fn(&Value, &Limits) -> Result<Wanted, Fault>;

fn chat(changes: &Value) -> Value {
    let least = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
    with(&least, changes)
}

fn generate(changes: &Value) -> Value {
    with(&json!({ "model": "m", "prompt": "Hi" }), changes)
}

fn asked(parse: Parse, body: &Value) -> (Ask, Out) {
    match parse(body, &Limits::USUAL) {
        Ok(Wanted::Answer(ask, out)) => (*ask, out),
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn fields_act_on_both_routes() {
    type Check = fn(&Ask, &Out) -> bool;
    let rows: Vec<(Value, Check)> = vec![
        (json!({}), |ask, out| {
            out.stream && ask.thinking == Thinking::Usual && ask.max_tokens.is_none()
        }),
        (json!({ "stream": false }), |_, out| !out.stream),
        (json!({ "think": true }), |ask, _| {
            ask.thinking == Thinking::On { budget: None }
        }),
        (json!({ "think": false }), |ask, _| {
            ask.thinking == Thinking::Off
        }),
        (json!({ "think": "low" }), |ask, _| {
            ask.thinking == Thinking::On { budget: Some(2048) }
        }),
        (
            json!({ "think": true, "thinking_token_budget": 7 }),
            |ask, _| ask.thinking == Thinking::On { budget: Some(7) },
        ),
        (json!({ "format": "json" }), |ask, _| {
            ask.form == Form::JsonObject
        }),
        (json!({ "format": "" }), |ask, _| ask.form == Form::Free),
        (json!({ "format": { "type": "object" } }), |ask, _| {
            ask.form == Form::JsonSchema(json!({ "type": "object" }))
        }),
        (json!({ "logprobs": true, "top_logprobs": 2 }), |ask, _| {
            ask.likeliest == Some(2)
        }),
        (
            json!({ "options": { "num_predict": -1, "stop": ["a"], "seed": 3 } }),
            |ask, _| ask.max_tokens.is_none() && ask.stop == ["a"] && ask.sampled.seed == Some(3),
        ),
        (
            json!({ "options": { "num_predict": 7, "stop": "a", "seed": -1 } }),
            |ask, _| ask.max_tokens == Some(7) && ask.stop == ["a"] && ask.sampled.seed.is_none(),
        ),
        (
            json!({ "options": { "temperature": 0.5, "top_k": 4, "top_p": 0.25, "min_p": 0.125,
                                 "repeat_penalty": 1.5, "presence_penalty": 1,
                                 "frequency_penalty": -1, "repeat_last_n": -1 } }),
            |ask, _| {
                ask.sampled
                    == crate::answer::Sampled {
                        temperature: Some(0.5),
                        top_k: Some(4),
                        top_p: Some(0.25),
                        min_p: Some(0.125),
                        presence_penalty: 1.0,
                        frequency_penalty: -1.0,
                        repetition_penalty: 1.5,
                        bias: Vec::new(),
                        seed: None,
                    }
            },
        ),
        (
            json!({ "options": { "repeat_penalty": 1.5, "repeat_last_n": 0 } }),
            |ask, _| ask.sampled == crate::answer::Sampled::usual(),
        ),
        (
            json!({ "options": { "num_ctx": 4096, "num_gpu": 99, "num_thread": 8, "num_keep": 5,
                                 "use_mmap": true, "mirostat": 0, "tfs_z": 1.0, "typical_p": 1,
                                 "penalize_newline": true, "repeat_last_n": 64 },
                    "keep_alive": "5m" }),
            |_, out| {
                out.check_positions(4096).is_ok()
                    && out.check_positions(4095).unwrap_err().param.as_deref()
                        == Some("options.num_ctx")
            },
        ),
    ];
    for (changes, check) in rows {
        for (parse, body) in [
            (parse_chat as Parse, chat(&changes)),
            (parse_generate, generate(&changes)),
        ] {
            let (ask, out) = asked(parse, &body);
            assert!(check(&ask, &out), "{body}: {ask:?} {out:?}");
        }
    }
}

#[test]
fn faults_name_their_field() {
    let options = |options: Value| json!({ "options": options });
    let rows = [
        (json!({ "model": null }), "model"),
        (json!({ "think": "huge" }), "think"),
        (json!({ "think": 3 }), "think"),
        (
            json!({ "think": false, "thinking_token_budget": 7 }),
            "thinking_token_budget",
        ),
        (json!({ "format": "xml" }), "format"),
        (json!({ "keep_alive": "soon" }), "keep_alive"),
        (json!({ "keep_alive": true }), "keep_alive"),
        (json!({ "stream": "no" }), "stream"),
        (json!({ "truncate": true }), "truncate"),
        (json!({ "top_logprobs": 3 }), "top_logprobs"),
        (json!({ "options": 3 }), "options"),
        (options(json!({ "temperature": 3 })), "options.temperature"),
        (options(json!({ "num_predict": 0 })), "options.num_predict"),
        (options(json!({ "num_predict": -3 })), "options.num_predict"),
        (options(json!({ "num_ctx": 0 })), "options.num_ctx"),
        (options(json!({ "mirostat": 1 })), "options.mirostat"),
        (options(json!({ "tfs_z": 0.5 })), "options.tfs_z"),
        (
            options(json!({ "penalize_newline": false })),
            "options.penalize_newline",
        ),
        (options(json!({ "vocab_only": true })), "options.vocab_only"),
        (options(json!({ "stop": "" })), "options.stop"),
        (options(json!({ "stop": [""] })), "options.stop[0]"),
        (
            options(json!({ "repeat_penalty": 1.1, "repeat_last_n": 64 })),
            "options.repeat_last_n",
        ),
        (options(json!({ "frobnicate": 1 })), "options.frobnicate"),
        (json!({ "frobnicate": 1 }), "frobnicate"),
    ];
    let message = |message: Value| json!({ "messages": [message] });
    let of_chat = [
        (json!({ "messages": "Hi" }), "messages"),
        (message(json!({ "content": "Hi" })), "messages[0].role"),
        (message(json!({ "role": "user" })), "messages[0].content"),
        (
            message(json!({ "role": "user", "content": "Hi", "images": ["x"] })),
            "messages[0].images",
        ),
        (
            message(json!({ "role": "tool", "content": "Hi" })),
            "messages[0]",
        ),
        (
            message(json!({ "role": "assistant" })),
            "messages[0].content",
        ),
        (
            message(json!({ "role": "assistant", "tool_calls": [{ "function": {
                "name": "f", "arguments": "{}" } }] })),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            json!({ "tools": [{ "type": "function" }] }),
            "tools[0].function",
        ),
        (json!({ "prompt": "Hi" }), "prompt"),
    ];
    let of_generate = [
        (json!({ "template": "{{ .Prompt }}" }), "template"),
        (json!({ "context": [1, 2] }), "context"),
        (json!({ "images": ["x"] }), "images"),
        (json!({ "raw": true, "system": "a" }), "system"),
        (json!({ "suffix": "b", "system": "a" }), "system"),
        (json!({ "messages": [] }), "messages"),
    ];
    let all = rows.iter().flat_map(|(changes, param)| {
        let both = [
            (parse_chat as Parse, chat(changes)),
            (parse_generate, generate(changes)),
        ];
        both.map(|(parse, body)| (parse, body, *param))
    });
    let all = all
        .chain(
            of_chat
                .iter()
                .map(|(changes, param)| (parse_chat as Parse, chat(changes), *param)),
        )
        .chain(
            of_generate
                .iter()
                .map(|(changes, param)| (parse_generate as Parse, generate(changes), *param)),
        );
    for (parse, body, param) in all {
        let fault = parse(&body, &Limits::USUAL).expect_err(&body.to_string());
        assert_eq!(fault.param.as_deref(), Some(param), "{body}: {fault}");
        assert_eq!(fault.kind.status(), 400);
    }
}

#[test]
fn conversations_become_messages() {
    let body = chat(&json!({ "messages": [
        { "role": "system", "content": "a" },
        { "role": "user", "content": "b", "images": null },
        { "role": "assistant", "content": "", "thinking": "Hm", "tool_calls": [
            { "function": { "name": "f", "arguments": { "q": 1 } } },
            { "function": { "name": "g", "arguments": {} } }] },
        { "role": "tool", "tool_name": "g", "content": "2" },
        { "role": "tool", "content": "1" },
        { "role": "assistant", "content": "So" },
    ], "tools": [{ "type": "function", "function": { "name": "f" } }] }));
    let (ask, _) = asked(parse_chat, &body);
    assert_eq!(ask.tools.choice, ToolChoice::Auto);
    let Prompt::Chat {
        messages,
        continues_last: true,
        opens_turn: false,
        ..
    } = ask.prompt
    else {
        panic!("{:?}", ask.prompt);
    };
    let id = |call: usize| format!("call_2_{call}");
    let call = |number: usize, name: &str, arguments: &str| {
        json!({ "id": id(number), "type": "function",
                "function": { "name": name, "arguments": arguments } })
    };
    assert_eq!(
        messages,
        [
            json!({ "role": "system", "content": "a" }),
            json!({ "role": "user", "content": "b" }),
            json!({ "role": "assistant", "content": null, "reasoning_content": "Hm",
                    "tool_calls": [call(0, "f", "{\"q\":1}"), call(1, "g", "{}")] }),
            json!({ "role": "tool", "tool_call_id": id(1), "name": "g", "content": "2" }),
            json!({ "role": "tool", "tool_call_id": id(0), "name": "f", "content": "1" }),
            json!({ "role": "assistant", "content": "So" }),
        ]
    );
}

#[test]
fn prompts_are_raw_or_conversations_or_have_a_middle() {
    let rows = [
        (json!({ "raw": true }), Prompt::Text("Hi".into())),
        (
            json!({ "suffix": "b" }),
            Prompt::Middle {
                prefix: "Hi".into(),
                suffix: "b".into(),
            },
        ),
        (
            json!({ "system": "a", "context": [], "images": [], "template": "" }),
            turns::prompt(
                vec![
                    json!({ "role": "system", "content": "a" }),
                    json!({ "role": "user", "content": "Hi" }),
                ],
                Map::new(),
            ),
        ),
    ];
    for (changes, prompt) in rows {
        assert_eq!(
            asked(parse_generate, &generate(&changes)).0.prompt,
            prompt,
            "{changes}"
        );
    }
}

#[test]
fn nothing_asked_is_a_wish_to_load() {
    let head = Head {
        id: String::new(),
        created: 0,
        model: "m".into(),
    };
    let rows = [
        (
            parse_chat as Parse,
            chat(&json!({ "messages": [] })),
            "load",
        ),
        (
            parse_chat,
            chat(&json!({ "messages": null, "keep_alive": -1 })),
            "load",
        ),
        (
            parse_chat,
            chat(&json!({ "messages": null, "keep_alive": 0 })),
            "unload",
        ),
        (parse_generate, generate(&json!({ "prompt": "" })), "load"),
        (
            parse_generate,
            generate(&json!({ "prompt": null, "keep_alive": "0s" })),
            "unload",
        ),
    ];
    for (parse, body, reason) in rows {
        let answer = match parse(&body, &Limits::USUAL).unwrap() {
            Wanted::Load { out, .. } => out.loaded(&head),
            Wanted::Unload { out, .. } => out.unloaded(&head),
            Wanted::Answer(..) => panic!("{body}"),
        };
        assert_eq!(answer["done_reason"], reason, "{body}");
    }
    let show = json!({ "model": "m", "verbose": true });
    assert_eq!(parse_show(&show).unwrap(), "m");
    assert_eq!(parse_show(&json!({ "name": "m" })).unwrap(), "m");
    assert_eq!(
        parse_show(&json!({})).unwrap_err().param.as_deref(),
        Some("model")
    );
}

fn encoder(parse: Parse, body: &Value) -> Encoder {
    let head = Head {
        id: String::new(),
        created: 1_700_000_000,
        model: "m".into(),
    };
    Encoder::new(head, asked(parse, body).1, 0.25)
}

/// Lines, without what is the same in all.
fn streamed(parse: Parse, body: &Value, said: Vec<Said>) -> String {
    let mut encoder = encoder(parse, body);
    let lines = said.into_iter().flat_map(|said| encoder.push(said));
    let lines = lines.map(|mut line| {
        let fields = line.as_object_mut().unwrap();
        assert_eq!(fields.remove("model"), Some("m".into()));
        assert!(fields.remove("created_at").is_some());
        fields.remove("cost");
        line.to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn plain_answers() {
    let body = generate(&json!({}));
    insta::assert_snapshot!(streamed(parse_generate, &body, samples::plain()), @r#"
    {"response":"Hel","done":false}
    {"response":"lo","done":false}
    {"response":"","eval_count":5,"eval_duration":1500000000,"done":true,"done_reason":"stop","total_duration":2250000000,"load_duration":250000000,"prompt_eval_count":12,"prompt_eval_duration":500000000}
    "#);
    let mut whole = encoder(parse_chat, &chat(&json!({ "stream": false })));
    for said in samples::plain() {
        assert_eq!(whole.push(said).len(), 0);
    }
    insta::assert_snapshot!(samples::lines(&whole.whole().unwrap()), @r#"
    message: {"content":"Hello","role":"assistant"}
    model: "m"
    created_at: "2023-11-14T22:13:22Z"
    done: true
    done_reason: "stop"
    total_duration: 2250000000
    load_duration: 250000000
    prompt_eval_count: 12
    prompt_eval_duration: 500000000
    eval_count: 5
    eval_duration: 1500000000
    cost: {"flops":0.0,"core_seconds":0.0,"joules":0.0,"joules_are":"","money":0.0,"currency":""}
    "#);
}

#[test]
fn other_answers() {
    let body = chat(&json!({}));
    let streamed = |said| streamed(parse_chat, &body, said);
    insta::assert_snapshot!(streamed(samples::thoughtful()), @r#"
    {"message":{"content":"","thinking":"Hm","role":"assistant"},"done":false}
    {"message":{"content":"","thinking":".","role":"assistant"},"done":false}
    {"message":{"content":"4","role":"assistant"},"done":false}
    {"message":{"content":"","role":"assistant"},"eval_count":5,"eval_duration":1500000000,"done":true,"done_reason":"stop","total_duration":2250000000,"load_duration":250000000,"prompt_eval_count":12,"prompt_eval_duration":500000000}
    "#);
    insta::assert_snapshot!(streamed(samples::calling()), @r#"
    {"message":{"content":"","tool_calls":[{"id":"call_0","function":{"index":0,"name":"look_up","arguments":{"q":1}}}],"role":"assistant"},"done":false}
    {"message":{"content":"","tool_calls":[{"id":"call_1","function":{"index":1,"name":"look_up","arguments":{}}}],"role":"assistant"},"done":false}
    {"message":{"content":"","role":"assistant"},"eval_count":5,"eval_duration":1500000000,"done":true,"done_reason":"stop","total_duration":2250000000,"load_duration":250000000,"prompt_eval_count":12,"prompt_eval_duration":500000000}
    "#);
    insta::assert_snapshot!(streamed(samples::cut()), @r#"
    {"message":{"content":"So","role":"assistant"},"done":false}
    {"message":{"content":"{\"q","role":"assistant"},"done":false}
    {"message":{"content":"","role":"assistant"},"eval_count":5,"eval_duration":1500000000,"done":true,"done_reason":"length","total_duration":2250000000,"load_duration":250000000,"prompt_eval_count":12,"prompt_eval_duration":500000000}
    "#);
}

#[test]
fn log_probabilities_are_given_where_wanted() {
    let body = generate(&json!({ "logprobs": true, "top_logprobs": 1 }));
    let lines = streamed(parse_generate, &body, samples::plain());
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["logprobs"][0]["token"], "Hel");
    assert_eq!(first["logprobs"][0]["top_logprobs"][0]["logprob"], -0.5);
}

#[test]
fn failed_answers_say_so() {
    let mut failed = encoder(parse_chat, &chat(&json!({})));
    let lines = samples::failing()
        .into_iter()
        .flat_map(|said| failed.push(said));
    assert_eq!(lines.last(), Some(json!({ "error": "a step failed" })));
    assert_eq!(failed.whole().unwrap_err().message, "a step failed");
    assert!(encoder(parse_chat, &chat(&json!({}))).whole().is_err());
}

#[test]
fn models_are_told_about() {
    let model = Listed {
        name: "r1-tiny".into(),
        created: 1_709_164_800,
        bytes: 1000,
        context: None,
        sampling: None,
        about: json!({ "family": "deepseek", "parameters": 1_500_000, "licence": "MIT" }),
    };
    insta::assert_snapshot!(tags(std::slice::from_ref(&model)), @r#"{"models":[{"name":"r1-tiny","model":"r1-tiny","digest":"","details":{"parent_model":"","format":"","family":"deepseek","families":["deepseek"],"parameter_size":"1.5M","quantization_level":""},"size":1000,"modified_at":"2024-02-29T00:00:00Z"}]}"#);
    let one = Running {
        listed: &model,
        bytes: 2000,
        positions: 64,
    };
    let running = running(&[one]);
    assert_eq!(running["models"][0]["context_length"], 64);
    assert_eq!(running["models"][0]["size_vram"], 0);
    let known = Known {
        positions: Some(64),
        can: vec!["thinking"],
    };
    insta::assert_snapshot!(samples::lines(&show(&model, &known)), @r#"
    license: "MIT"
    modelfile: ""
    parameters: ""
    template: ""
    details: {"parent_model":"","format":"","family":"deepseek","families":["deepseek"],"parameter_size":"1.5M","quantization_level":""}
    model_info: {"general.architecture":"deepseek","general.basename":"r1-tiny","general.parameter_count":1500000,"deepseek.context_length":64}
    capabilities: ["completion","thinking"]
    modified_at: "2024-02-29T00:00:00Z"
    "#);
    assert!(version()["version"].is_string());
}

#[test]
fn stamps_are_dates() {
    for (seconds, expected) in [
        (-5, "1970-01-01T00:00:00Z"),
        (0, "1970-01-01T00:00:00Z"),
        (951_827_696, "2000-02-29T12:34:56Z"),
        (1_735_689_599, "2024-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(bodies::stamp(seconds), expected);
    }
}

const WORDS: &[&str] = &[
    "model",
    "messages",
    "prompt",
    "suffix",
    "system",
    "raw",
    "template",
    "context",
    "role",
    "user",
    "assistant",
    "tool",
    "content",
    "thinking",
    "images",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "tool_name",
    "tools",
    "parameters",
    "type",
    "think",
    "low",
    "format",
    "json",
    "options",
    "temperature",
    "num_predict",
    "stop",
    "seed",
    "num_ctx",
    "repeat_last_n",
    "keep_alive",
    "stream",
    "logprobs",
    "top_logprobs",
];

proptest! {
    #[test]
    fn any_json_is_understood_or_a_fault(
        body in prop_oneof![
            samples::json(WORDS),
            samples::nearly(chat(&json!({})), WORDS),
            samples::nearly(generate(&json!({})), WORDS),
        ]
    ) {
        for parse in [parse_chat as Parse, parse_generate] {
            if let Err(fault) = parse(&body, &Limits::USUAL) {
                prop_assert!(fault.message.len() < 400, "{}", fault.message);
            }
        }
        let _ = parse_show(&body);
    }
}
