use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::answer::{Check as Checker, Finish, Prompt, Said, Thinking};
use crate::wire::Head;
use crate::wire::samples::{self, with};

fn body(changes: &Value) -> Value {
    let least = json!({
        "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "Hi" }],
    });
    with(&least, changes)
}

fn accepted(changes: &Value) -> (Ask, Out) {
    let body = body(changes);
    parse(&body, &Limits::USUAL).unwrap_or_else(|fault| panic!("{body}: {fault}"))
}

#[test]
fn fields_act() {
    type Check = fn(&Ask, &Out) -> bool;
    let schema = json!({ "type": "object" });
    let tool = json!({ "name": "f", "description": "d", "input_schema": schema,
                       "cache_control": { "type": "ephemeral" } });
    let rows: Vec<(Value, Check)> = vec![
        (json!({}), |ask, out| {
            ask.max_tokens == Some(9) && ask.thinking == Thinking::Usual && !out.stream
        }),
        (
            json!({ "temperature": 1, "top_p": 0.5, "top_k": 5 }),
            |ask, _| {
                ask.sampled.temperature == Some(1.0)
                    && ask.sampled.top_p == Some(0.5)
                    && ask.sampled.top_k == Some(5)
            },
        ),
        (json!({ "stop_sequences": ["a", "b"] }), |ask, out| {
            ask.stop == ["a", "b"] && out.stops == ask.stop
        }),
        (
            json!({ "metadata": { "user_id": "u" }, "stream": true }),
            |ask, out| ask.user.as_deref() == Some("u") && out.stream,
        ),
        (
            json!({ "service_tier": "auto", "cache_control": { "type": "ephemeral" } }),
            |_, out| out.unused == ["cache_control", "service_tier"],
        ),
        (
            json!({ "thinking": { "type": "enabled", "budget_tokens": 8 } }),
            |ask, _| ask.thinking == Thinking::On { budget: Some(8) },
        ),
        (json!({ "thinking": { "type": "disabled" } }), |ask, _| {
            ask.thinking == Thinking::Off
        }),
        (
            json!({ "thinking": { "type": "adaptive", "display": "omitted" } }),
            |ask, out| ask.thinking == Thinking::Usual && out.thoughts == Thoughts::Omitted,
        ),
        (
            json!({ "thinking": { "type": "adaptive" }, "output_config": { "effort": "low" } }),
            |ask, _| ask.thinking == Thinking::On { budget: Some(2048) },
        ),
        (json!({ "output_config": { "effort": "max" } }), |ask, _| {
            ask.thinking == Thinking::On { budget: None }
        }),
        (json!({ "thinking_token_budget": 0 }), |ask, _| {
            ask.thinking == Thinking::Off
        }),
        (
            json!({ "output_config": { "format": { "type": "json_schema", "schema": schema } } }),
            |ask, _| ask.form == Form::JsonSchema(json!({ "type": "object" })),
        ),
        (json!({ "tools": [tool] }), |ask, _| {
            ask.tools.choice == ToolChoice::Auto
                && ask.tools.is_parallel
                && ask.tools.tools
                    == [json!({ "type": "function", "function": {
                        "name": "f", "description": "d", "parameters": { "type": "object" },
                    }})]
        }),
        (
            json!({ "tools": [tool], "tool_choice": {
                "type": "any", "disable_parallel_tool_use": true } }),
            |ask, _| ask.tools.choice == ToolChoice::Required(None) && !ask.tools.is_parallel,
        ),
        (
            json!({ "tools": [tool], "tool_choice": { "type": "tool", "name": "f" } }),
            |ask, _| ask.tools.choice == ToolChoice::Required(Some(vec!["f".into()])),
        ),
        (
            json!({ "tools": [tool], "tool_choice": { "type": "none" } }),
            |ask, _| ask.tools.choice == ToolChoice::None,
        ),
        (
            json!({ "verify": { "samples": 3, "checker": "math" } }),
            |ask, _| ask.verify.as_ref().unwrap().checker == Checker::Math,
        ),
    ];
    for (changes, check) in rows {
        let (ask, out) = accepted(&changes);
        assert!(check(&ask, &out), "{changes}: {ask:?} {out:?}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn faults_name_their_field() {
    let tool = json!({ "name": "f", "input_schema": {} });
    let say = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    let call = json!({ "type": "tool_use", "id": "t", "name": "f", "input": {} });
    let calling = json!({ "role": "assistant", "content": [call] });
    let result = json!({ "type": "tool_result", "tool_use_id": "t" });
    let rows = [
        (json!({ "model": null }), "model"),
        (json!({ "max_tokens": null }), "max_tokens"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "messages": null }), "messages"),
        (json!({ "messages": [] }), "messages"),
        (
            json!({ "messages": [{ "content": "Hi" }] }),
            "messages[0].role",
        ),
        (
            json!({ "messages": [{ "role": "tool", "content": "Hi" }] }),
            "messages[0].role",
        ),
        (
            json!({ "messages": [{ "role": "user" }] }),
            "messages[0].content",
        ),
        (say(json!(3)), "messages[0].content"),
        (
            say(json!([{ "type": "image" }])),
            "messages[0].content[0].type",
        ),
        (
            say(json!([{ "type": "document" }])),
            "messages[0].content[0].type",
        ),
        (
            say(json!([{ "type": "thinking" }])),
            "messages[0].content[0].type",
        ),
        (
            say(json!([{ "type": "text" }])),
            "messages[0].content[0].text",
        ),
        (
            say(json!([{ "type": "text", "text": "a", "citations": [] }])),
            "messages[0].content[0].citations",
        ),
        (
            say(json!([{ "type": "text", "text": "a", "cache_control": { "ttl": "2h" } }])),
            "messages[0].content[0].cache_control.ttl",
        ),
        (say(json!([result])), "messages[0].content[0]"),
        (json!({ "messages": [calling] }), "messages"),
        (
            json!({ "messages": [calling, { "role": "user", "content": "Hi" }] }),
            "messages[1].content",
        ),
        (
            json!({ "messages": [calling, { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "image" }] }] }] }),
            "messages[1].content[0].content[0].type",
        ),
        (
            json!({ "messages": [{ "role": "assistant", "content": [
                { "type": "tool_use", "id": "t", "name": "f", "input": "{}" }] }] }),
            "messages[0].content[0].input",
        ),
        (json!({ "system": 3 }), "system"),
        (json!({ "system": [{ "type": "image" }] }), "system[0].type"),
        (json!({ "container": "c" }), "container"),
        (json!({ "mcp_servers": [] }), "mcp_servers"),
        (json!({ "temperature": 1.5 }), "temperature"),
        (json!({ "stop_sequences": [""] }), "stop_sequences[0]"),
        (json!({ "stop_sequences": "a" }), "stop_sequences"),
        (json!({ "metadata": { "a": 1 } }), "metadata.a"),
        (
            json!({ "thinking": { "type": "between_tools" } }),
            "thinking.type",
        ),
        (
            json!({ "thinking": { "type": "enabled", "budget_tokens": 9 } }),
            "thinking.budget_tokens",
        ),
        (
            json!({ "thinking": { "type": "adaptive", "budget_tokens": 3 } }),
            "thinking.budget_tokens",
        ),
        (
            json!({ "output_config": { "effort": "huge" } }),
            "output_config.effort",
        ),
        (
            json!({ "output_config": { "effort": "low" }, "thinking": { "type": "disabled" } }),
            "output_config.effort",
        ),
        (
            json!({ "output_config": { "format": { "type": "json_schema" } } }),
            "output_config.format.schema",
        ),
        (
            json!({ "tools": [{ "type": "bash_20250124", "name": "bash" }] }),
            "tools[0].type",
        ),
        (
            json!({ "tools": [{ "name": "f" }] }),
            "tools[0].input_schema",
        ),
        (json!({ "tools": [tool, tool] }), "tools[1].name"),
        (json!({ "tool_choice": { "type": "any" } }), "tool_choice"),
        (
            json!({ "tools": [tool], "tool_choice": { "type": "tool", "name": "g" } }),
            "tool_choice.name",
        ),
        (json!({ "top_logprobs": 3 }), "top_logprobs"),
    ];
    for (changes, param) in rows {
        let fault = parse(&body(&changes), &Limits::USUAL).expect_err(&changes.to_string());
        assert_eq!(fault.param.as_deref(), Some(param), "{changes}: {fault}");
        assert_eq!(fault.kind.status(), 400);
    }
}

#[test]
fn blocks_become_messages() {
    let body = json!({
        "model": "m",
        "system": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }],
        "messages": [
            { "role": "user", "content": "c" },
            { "role": "user", "content": [{ "type": "text", "text": "d" }] },
            { "role": "assistant", "content": [
                { "type": "redacted_thinking", "data": "x" },
                { "type": "thinking", "thinking": "Hm", "signature": SIGNATURE },
                { "type": "text", "text": "e" },
                { "type": "tool_use", "id": "t1", "name": "f", "input": { "q": 1 } },
                { "type": "tool_use", "id": "t2", "name": "g", "input": {} },
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "t2", "is_error": true, "content": "no" },
                { "type": "tool_result", "tool_use_id": "t1",
                  "content": [{ "type": "text", "text": "1" }, { "type": "text", "text": "2" }] },
                { "type": "text", "text": "g" },
            ] },
            { "role": "assistant", "content": "So" },
        ],
    });
    let Prompt::Chat {
        messages,
        continues_last,
        opens_turn,
        ..
    } = parse_count(&body, &Limits::USUAL).unwrap().prompt
    else {
        panic!("no conversation");
    };
    assert!(continues_last && !opens_turn);
    let call = |id: &str, name: &str, arguments: &str| {
        json!({ "id": id, "type": "function",
                "function": { "name": name, "arguments": arguments } })
    };
    assert_eq!(
        messages,
        [
            json!({ "role": "system", "content": "a\nb" }),
            json!({ "role": "user", "content": "c\nd" }),
            json!({ "role": "assistant", "content": "e", "reasoning_content": "Hm",
                    "tool_calls": [call("t1", "f", "{\"q\":1}"), call("t2", "g", "{}")] }),
            json!({ "role": "tool", "tool_call_id": "t2", "name": "g", "content": "Error: no" }),
            json!({ "role": "tool", "tool_call_id": "t1", "name": "f", "content": "1\n2" }),
            json!({ "role": "user", "content": "g" }),
            json!({ "role": "assistant", "content": "So" }),
        ]
    );
    let fault = parse_count(&with(&body, &json!({ "max_tokens": 1 })), &Limits::USUAL);
    assert_eq!(fault.unwrap_err().param.as_deref(), Some("max_tokens"));
    assert_eq!(counted(7), json!({ "input_tokens": 7 }));
}

fn encoder(changes: &Value) -> Encoder {
    let head = Head {
        id: "msg_1".into(),
        created: 1_700_000_000,
        model: "m".into(),
    };
    Encoder::new(head, accepted(changes).1)
}

/// Events, a line each, without what is the same in all.
fn streamed(said: Vec<Said>) -> String {
    let mut encoder = encoder(&json!({ "stream": true }));
    let events = said.into_iter().flat_map(|said| encoder.push(said));
    let lines = events.map(|(name, mut data)| {
        let fields = data.as_object_mut().unwrap();
        assert_eq!(fields.remove("type"), Some(name.into()));
        if let Some(usage) = fields.get_mut("usage") {
            usage.as_object_mut().unwrap().remove("cost");
        }
        if let Some(message) = fields.get_mut("message") {
            let usage = message["usage"].as_object_mut().unwrap();
            usage.remove("cost");
        }
        format!("{name}: {data}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn whole(said: Vec<Said>, changes: &Value) -> Value {
    let mut encoder = encoder(changes);
    for said in said {
        assert_eq!(encoder.push(said), []);
    }
    encoder.whole().unwrap()
}

#[test]
fn a_plain_message() {
    insta::assert_snapshot!(streamed(samples::plain()), @r#"
    message_start: {"message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":4,"cache_read_input_tokens":8,"cache_creation_input_tokens":0,"output_tokens":0,"output_tokens_details":{"thinking_tokens":0},"service_tier":"standard"}}}
    ping: {}
    content_block_start: {"content_block":{"type":"text","text":""},"index":0}
    content_block_delta: {"delta":{"type":"text_delta","text":"Hel"},"index":0}
    content_block_delta: {"delta":{"type":"text_delta","text":"lo"},"index":0}
    content_block_stop: {"index":0}
    message_delta: {"usage":{"input_tokens":4,"cache_read_input_tokens":8,"cache_creation_input_tokens":0,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2},"service_tier":"standard"},"delta":{"stop_reason":"end_turn","stop_sequence":null}}
    message_stop: {}
    "#);
    insta::assert_snapshot!(samples::lines(&whole(samples::plain(), &json!({}))), @r#"
    id: "msg_1"
    type: "message"
    role: "assistant"
    model: "m"
    stop_reason: "end_turn"
    stop_sequence: null
    usage: {"input_tokens":4,"cache_read_input_tokens":8,"cache_creation_input_tokens":0,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2},"service_tier":"standard","cost":{"flops":0.0,"core_seconds":0.0,"joules":0.0,"joules_are":"","money":0.0,"currency":""}}
    content: [{"type":"text","text":"Hello"}]
    "#);
}

#[test]
fn a_thoughtful_message() {
    insta::assert_snapshot!(streamed(samples::thoughtful()), @r#"
    message_start: {"message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":4,"cache_read_input_tokens":8,"cache_creation_input_tokens":0,"output_tokens":0,"output_tokens_details":{"thinking_tokens":0},"service_tier":"standard"}}}
    ping: {}
    content_block_start: {"content_block":{"type":"thinking","thinking":"","signature":""},"index":0}
    content_block_delta: {"delta":{"type":"thinking_delta","thinking":"Hm"},"index":0}
    content_block_delta: {"delta":{"type":"thinking_delta","thinking":"."},"index":0}
    content_block_delta: {"delta":{"type":"signature_delta","signature":"frugal-unsigned"},"index":0}
    content_block_stop: {"index":0}
    content_block_start: {"content_block":{"type":"text","text":""},"index":1}
    content_block_delta: {"delta":{"type":"text_delta","text":"4"},"index":1}
    content_block_stop: {"index":1}
    message_delta: {"usage":{"input_tokens":4,"cache_read_input_tokens":8,"cache_creation_input_tokens":0,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2},"service_tier":"standard"},"delta":{"stop_reason":"end_turn","stop_sequence":null}}
    message_stop: {}
    "#);
    let omitted = json!({ "thinking": { "type": "adaptive", "display": "omitted" } });
    assert_eq!(
        whole(samples::thoughtful(), &omitted)["content"],
        json!([{ "type": "thinking", "thinking": "", "signature": SIGNATURE },
               { "type": "text", "text": "4" }])
    );
}

#[test]
fn a_calling_message() {
    insta::assert_snapshot!(streamed(samples::calling()), @r#"
    message_start: {"message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":4,"cache_read_input_tokens":8,"cache_creation_input_tokens":0,"output_tokens":0,"output_tokens_details":{"thinking_tokens":0},"service_tier":"standard"}}}
    ping: {}
    content_block_start: {"content_block":{"type":"tool_use","id":"call_0","name":"look_up","input":{}},"index":0}
    content_block_delta: {"delta":{"type":"input_json_delta","partial_json":"{\"q\""},"index":0}
    content_block_delta: {"delta":{"type":"input_json_delta","partial_json":":1}"},"index":0}
    content_block_stop: {"index":0}
    content_block_start: {"content_block":{"type":"tool_use","id":"call_1","name":"look_up","input":{}},"index":1}
    content_block_delta: {"delta":{"type":"input_json_delta","partial_json":"{}"},"index":1}
    content_block_stop: {"index":1}
    message_delta: {"usage":{"input_tokens":4,"cache_read_input_tokens":8,"cache_creation_input_tokens":0,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2},"service_tier":"standard"},"delta":{"stop_reason":"tool_use","stop_sequence":null}}
    message_stop: {}
    "#);
    let message = whole(samples::calling(), &json!({}));
    insta::assert_snapshot!(message["content"], @r#"[{"type":"tool_use","id":"call_0","name":"look_up","input":{"q":1}},{"type":"tool_use","id":"call_1","name":"look_up","input":{}}]"#);
}

#[test]
fn a_message_cut_short_calls_nothing() {
    insta::assert_snapshot!(streamed(samples::cut()), @r#"
    message_start: {"message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":4,"cache_read_input_tokens":8,"cache_creation_input_tokens":0,"output_tokens":0,"output_tokens_details":{"thinking_tokens":0},"service_tier":"standard"}}}
    ping: {}
    content_block_start: {"content_block":{"type":"text","text":""},"index":0}
    content_block_delta: {"delta":{"type":"text_delta","text":"So"},"index":0}
    content_block_stop: {"index":0}
    content_block_start: {"content_block":{"type":"tool_use","id":"call_0","name":"look_up","input":{}},"index":1}
    content_block_delta: {"delta":{"type":"input_json_delta","partial_json":"{\"q"},"index":1}
    content_block_stop: {"index":1}
    message_delta: {"usage":{"input_tokens":4,"cache_read_input_tokens":8,"cache_creation_input_tokens":0,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2},"service_tier":"standard"},"delta":{"stop_reason":"max_tokens","stop_sequence":null}}
    message_stop: {}
    "#);
    let message = whole(samples::cut(), &json!({}));
    assert_eq!(message["stop_reason"], "max_tokens");
    assert_eq!(
        message["content"][1],
        json!({ "type": "text", "text": "{\"q" })
    );
}

#[test]
fn stop_texts_of_the_client_are_told_from_the_models_own() {
    let said = |stop| {
        let said = [samples::begun(), samples::answer("So")];
        let ended = samples::ended(Finish::Stop, Some(stop));
        whole(
            said.into_iter().chain(ended).collect(),
            &json!({ "stop_sequences": ["END"] }),
        )
    };
    let [theirs, ours] = [said("END"), said("<eos>")];
    assert_eq!(
        [&theirs["stop_reason"], &theirs["stop_sequence"]],
        ["stop_sequence", "END"]
    );
    assert_eq!(
        [&ours["stop_reason"], &ours["stop_sequence"]],
        [&json!("end_turn"), &json!(null)]
    );
}

#[test]
fn a_failed_message_says_so() {
    let mut failed = encoder(&json!({ "stream": true }));
    let events: Vec<Event> = samples::failing()
        .into_iter()
        .flat_map(|said| failed.push(said))
        .collect();
    let (name, data) = events.last().unwrap();
    assert_eq!(*name, "error");
    assert_eq!(
        *data,
        json!({ "type": "error", "error": { "type": "api_error", "message": "a step failed" } })
    );
    assert_eq!(failed.whole().unwrap_err().message, "a step failed");
    assert!(encoder(&json!({})).whole().is_err());
}

const WORDS: &[&str] = &[
    "model",
    "messages",
    "max_tokens",
    "system",
    "type",
    "role",
    "user",
    "assistant",
    "content",
    "text",
    "thinking",
    "signature",
    "redacted_thinking",
    "data",
    "tool_use",
    "id",
    "name",
    "input",
    "tool_result",
    "tool_use_id",
    "is_error",
    "tools",
    "input_schema",
    "tool_choice",
    "any",
    "tool",
    "disable_parallel_tool_use",
    "enabled",
    "budget_tokens",
    "output_config",
    "effort",
    "format",
    "json_schema",
    "schema",
    "stop_sequences",
    "metadata",
    "user_id",
    "cache_control",
    "top_k",
];

proptest! {
    #[test]
    fn any_json_gives_an_ask_or_a_fault(
        body in prop_oneof![
            samples::json(WORDS),
            samples::nearly(body(&json!({})), WORDS),
        ]
    ) {
        for result in [
            parse(&body, &Limits::USUAL).map(|(ask, _)| ask),
            parse_count(&body, &Limits::USUAL),
        ] {
            if let Err(fault) = result {
                prop_assert!(fault.message.len() < 400, "{}", fault.message);
            }
        }
    }
}
