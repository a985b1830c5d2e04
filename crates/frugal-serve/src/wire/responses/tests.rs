use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::answer::{Prompt, Said, Thinking};
use crate::wire::samples::{self, with};

fn body(changes: &Value) -> Value {
    with(&json!({ "model": "m", "input": "Hi" }), changes)
}

fn accepted(changes: &Value) -> (Ask, Out) {
    let body = body(changes);
    parse(&body, &Limits::USUAL).unwrap_or_else(|fault| panic!("{body}: {fault}"))
}

fn messages(input: &Value) -> Value {
    match accepted(&json!({ "input": input })).0.prompt {
        Prompt::Chat { messages, .. } => messages.into(),
        other => panic!("{other:?}"),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn fields_act() {
    type Check = fn(&Ask, &Out) -> bool;
    let schema = json!({ "type": "object" });
    let tool = json!({ "type": "function", "name": "f", "parameters": schema, "strict": true });
    let format = json!({ "type": "json_schema", "name": "n", "schema": schema, "strict": true });
    let rows: Vec<(Value, Check)> = vec![
        (json!({}), |ask, out| {
            let mut usual = Ask::of("m".into(), ask.prompt.clone());
            usual.tools.is_parallel = true;
            *ask == usual && !out.stream
        }),
        (
            json!({ "max_output_tokens": 9, "temperature": 0.5, "top_p": 0.25 }),
            |ask, _| {
                ask.max_tokens == Some(9)
                    && ask.sampled.temperature == Some(0.5)
                    && ask.sampled.top_p == Some(0.25)
            },
        ),
        (json!({ "top_logprobs": 3 }), |ask, out| {
            ask.likeliest == Some(3) && out.wants_logprobs
        }),
        (
            json!({ "include": ["message.output_text.logprobs"] }),
            |ask, _| ask.likeliest == Some(0),
        ),
        (
            json!({ "include": ["reasoning.encrypted_content"], "top_logprobs": 0 }),
            |ask, out| ask.likeliest.is_none() && !out.wants_logprobs,
        ),
        (
            json!({ "reasoning": { "effort": "none", "summary": "auto" } }),
            |ask, _| ask.thinking == Thinking::Off,
        ),
        (json!({ "reasoning": { "effort": "low" } }), |ask, _| {
            ask.thinking == Thinking::On { budget: Some(2048) }
        }),
        (
            json!({ "thinking": { "type": "enabled", "budget_tokens": 5 },
                    "reasoning": { "effort": "low" } }),
            |ask, _| ask.thinking == Thinking::On { budget: Some(5) },
        ),
        (json!({ "thinking": { "type": "disabled" } }), |ask, _| {
            ask.thinking == Thinking::Off
        }),
        (
            json!({ "text": { "format": { "type": "text" }, "verbosity": "low" } }),
            |ask, _| ask.form == Form::Free,
        ),
        (
            json!({ "text": { "format": { "type": "json_object" } } }),
            |ask, _| ask.form == Form::JsonObject,
        ),
        (json!({ "text": { "format": format } }), |ask, _| {
            ask.form == Form::JsonSchema(json!({ "type": "object" }))
        }),
        (
            json!({ "tools": [tool], "parallel_tool_calls": false }),
            |ask, _| {
                ask.tools.choice == ToolChoice::Auto
                    && !ask.tools.is_parallel
                    && ask.tools.tools
                        == [json!({ "type": "function", "function": {
                            "name": "f", "parameters": { "type": "object" }, "strict": true,
                        }})]
            },
        ),
        (
            json!({ "tools": [tool], "tool_choice": "required" }),
            |ask, _| ask.tools.choice == ToolChoice::Required(None),
        ),
        (
            json!({ "tools": [tool], "tool_choice": { "type": "function", "name": "f" } }),
            |ask, _| ask.tools.choice == ToolChoice::Required(Some(vec!["f".into()])),
        ),
        (
            json!({ "tools": [tool], "tool_choice": { "type": "allowed_tools", "mode": "auto",
                    "tools": [{ "type": "function", "name": "f" }] } }),
            |ask, _| ask.tools.choice == ToolChoice::AutoOf(vec!["f".into()]),
        ),
        (json!({ "user": "a" }), |ask, _| {
            ask.user.as_deref() == Some("a")
        }),
        (
            json!({ "reasoning_effort": "low", "reasoning": { "effort": "low" } }),
            |ask, _| ask.thinking == Thinking::On { budget: Some(2048) },
        ),
        (
            json!({ "verify": { "samples": 3, "checker": "majority" } }),
            |ask, _| ask.verify.as_ref().unwrap().samples == 3,
        ),
        (
            json!({ "stream": true, "stream_options": { "include_obfuscation": false },
                    "store": false, "background": false, "truncation": "disabled",
                    "service_tier": "auto", "prompt_cache_key": "k",
                    "metadata": { "a": "b" } }),
            |_, out| {
                out.stream
                    && out.unused
                        == [
                            "metadata",
                            "prompt_cache_key",
                            "service_tier",
                            "stream_options.include_obfuscation",
                        ]
                    && out.echoed.get("metadata") == Some(&json!({ "a": "b" }))
                    && out.echoed.get("prompt_cache_key") == Some(&json!("k"))
            },
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
    let tool = json!({ "type": "function", "name": "f" });
    let image = json!([{ "content": [{ "type": "input_image" }], "role": "user" }]);
    let call = json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" });
    let rows = [
        (json!({ "model": null }), "model"),
        (json!({ "input": null }), "input"),
        (json!({ "input": 3 }), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": ["Hi"] }), "input[0]"),
        (json!({ "input": [{ "content": "Hi" }] }), "input[0].role"),
        (
            json!({ "input": [{ "role": "tool", "content": "Hi" }] }),
            "input[0].role",
        ),
        (json!({ "input": [{ "role": "user" }] }), "input[0].content"),
        (
            json!({ "input": [{ "role": "user", "content": "a", "x": 1 }] }),
            "input[0].x",
        ),
        (json!({ "input": image }), "input[0].content[0].type"),
        (
            json!({ "input": [{ "type": "item_reference", "id": "i" }] }),
            "input[0].type",
        ),
        (
            json!({ "input": [{ "type": "web_search_call", "id": "i" }] }),
            "input[0].type",
        ),
        (json!({ "input": [call] }), "input"),
        (
            json!({ "input": [call, { "role": "user", "content": "a" }] }),
            "input[1]",
        ),
        (json!({ "input": [call, call] }), "input[1]"),
        (
            json!({ "input": [{ "type": "function_call_output", "call_id": "c", "output": "" }] }),
            "input[0]",
        ),
        (
            json!({ "input": [{ "type": "reasoning", "id": "r", "summary": [],
                                "encrypted_content": "x" }] }),
            "input[0].encrypted_content",
        ),
        (
            json!({ "previous_response_id": "resp_1" }),
            "previous_response_id",
        ),
        (json!({ "conversation": "conv_1" }), "conversation"),
        (json!({ "prompt": { "id": "p" } }), "prompt"),
        (json!({ "max_tool_calls": 1 }), "max_tool_calls"),
        (json!({ "background": true }), "background"),
        (json!({ "store": true }), "store"),
        (json!({ "truncation": "auto" }), "truncation"),
        (
            json!({ "include": ["message.input_image.image_url"] }),
            "include[0]",
        ),
        (json!({ "max_output_tokens": 0 }), "max_output_tokens"),
        (json!({ "temperature": 2.5 }), "temperature"),
        (json!({ "top_p": -0.1 }), "top_p"),
        (json!({ "top_logprobs": 21 }), "top_logprobs"),
        (
            json!({ "reasoning": { "effort": "huge" } }),
            "reasoning.effort",
        ),
        (json!({ "reasoning": { "mode": "pro" } }), "reasoning.mode"),
        (
            json!({ "reasoning": { "effort": "low" }, "reasoning_effort": "high" }),
            "reasoning_effort",
        ),
        (
            json!({ "reasoning": { "effort": "low" }, "thinking": { "type": "disabled" } }),
            "reasoning.effort",
        ),
        (
            json!({ "verify": { "samples": 3, "checker": "code" } }),
            "verify.checker",
        ),
        (json!({ "stream_options": {} }), "stream_options"),
        (
            json!({ "thinking": { "type": "between_tools" } }),
            "thinking.type",
        ),
        (
            json!({ "thinking": { "type": "disabled", "budget_tokens": 3 } }),
            "thinking.budget_tokens",
        ),
        (
            json!({ "text": { "format": { "type": "grammar" } } }),
            "text.format.type",
        ),
        (
            json!({ "text": { "format": { "type": "json_schema", "name": "n" } } }),
            "text.format.schema",
        ),
        (
            json!({ "text": { "format": { "type": "json_schema", "name": "n", "schema": 1 } } }),
            "text.format.schema",
        ),
        (
            json!({ "tools": [{ "type": "web_search" }] }),
            "tools[0].type",
        ),
        (
            json!({ "tools": [{ "type": "function", "name": "a b" }] }),
            "tools[0].name",
        ),
        (json!({ "tools": [tool, tool] }), "tools[1].name"),
        (json!({ "tool_choice": "required" }), "tool_choice"),
        (json!({ "tool_choice": "any" }), "tool_choice"),
        (
            json!({ "tools": [tool], "tool_choice": { "type": "function", "name": "g" } }),
            "tool_choice.name",
        ),
        (
            json!({ "tools": [tool], "tool_choice": { "type": "file_search" } }),
            "tool_choice.type",
        ),
        (json!({ "metadata": { "a": 1 } }), "metadata"),
        (json!({ "service_tier": "gold" }), "service_tier"),
        (json!({ "stream": "yes" }), "stream"),
        (json!({ "seed": 1 }), "seed"),
    ];
    for (changes, param) in rows {
        let fault = parse(&body(&changes), &Limits::USUAL).expect_err(&changes.to_string());
        assert_eq!(fault.param.as_deref(), Some(param), "{changes}: {fault}");
        assert_eq!(fault.kind.status(), 400);
    }
    let long = body(&json!({ "tools": [{ "type": "function", "name": "f",
        "parameters": { "description": "x".repeat(Limits::USUAL.schema_bytes) } }] }));
    let fault = parse(&long, &Limits::USUAL).unwrap_err();
    assert_eq!(fault.kind, crate::wire::error::Kind::Schema);
}

#[test]
fn items_become_messages() {
    let rows = [
        (json!("Hi"), json!([{ "role": "user", "content": "Hi" }])),
        (
            json!([
                { "role": "developer", "content": "Be brief" },
                { "type": "message", "role": "user", "content": [
                    { "type": "input_text", "text": "a" }, { "type": "input_text", "text": "b" }] },
                { "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": null,
                  "content": [{ "type": "reasoning_text", "text": "Hm" }] },
                { "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                  "content": [{ "type": "output_text", "text": "4", "annotations": [],
                                "logprobs": [] }] },
                { "role": "user", "content": "c" },
            ]),
            json!([
                { "role": "system", "content": "Be brief" },
                { "role": "user", "content": "a\nb" },
                { "role": "assistant", "content": "4", "reasoning_content": "Hm" },
                { "role": "user", "content": "c" },
            ]),
        ),
        (
            json!([
                { "role": "user", "content": "a" },
                { "type": "reasoning", "id": "rs_1", "content": null,
                  "summary": [{ "type": "summary_text", "text": "Hm" }] },
                { "type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}" },
                { "type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}",
                  "id": "fc_2", "status": "completed", "namespace": null },
                { "type": "function_call_output", "call_id": "c2", "output": "2" },
                { "type": "function_call_output", "call_id": "c1",
                  "output": [{ "type": "input_text", "text": "1" }] },
                { "role": "assistant", "content": "x" },
                { "role": "assistant", "content": "y" },
            ]),
            json!([
                { "role": "user", "content": "a" },
                { "role": "assistant", "content": null, "reasoning_content": "Hm", "tool_calls": [
                    { "id": "c1", "type": "function",
                      "function": { "name": "f", "arguments": "{}" } },
                    { "id": "c2", "type": "function",
                      "function": { "name": "g", "arguments": "{}" } }] },
                { "role": "tool", "tool_call_id": "c2", "name": "g", "content": "2" },
                { "role": "tool", "tool_call_id": "c1", "name": "f", "content": "1" },
                { "role": "assistant", "content": "x" },
                { "role": "assistant", "content": "y" },
            ]),
        ),
    ];
    for (input, expected) in rows {
        assert_eq!(messages(&input), expected, "{input}");
    }
}

fn encoder(changes: &Value) -> Encoder {
    let head = Head {
        id: "resp_1".into(),
        created: 1_700_000_000,
        model: "m".into(),
    };
    Encoder::new(head, accepted(changes).1)
}

/// Events, a line each, without what is the same in all; their order is checked here.
fn streamed(said: Vec<Said>) -> String {
    let mut encoder = encoder(&json!({ "stream": true }));
    let events = said.into_iter().flat_map(|said| encoder.push(said));
    let lines = events.enumerate().map(|(number, (name, mut data))| {
        let fields = data.as_object_mut().unwrap();
        assert_eq!(fields.remove("type"), Some(name.into()));
        assert_eq!(fields.remove("sequence_number"), Some(number.into()));
        if let Some(response) = fields.remove("response") {
            let items = response["output"].as_array().unwrap().len();
            return format!("{name}: {} with {items}", response["status"]);
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
fn a_plain_response() {
    insta::assert_snapshot!(streamed(samples::plain()), @r#"
    response.created: "in_progress" with 0
    response.in_progress: "in_progress" with 0
    response.output_item.added: {"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"in_progress","role":"assistant","content":[]}}
    response.content_part.added: {"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    response.output_text.delta: {"item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"Hel","logprobs":[]}
    response.output_text.delta: {"item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"lo","logprobs":[]}
    response.output_text.done: {"item_id":"msg_1_0","output_index":0,"content_index":0,"text":"Hello","logprobs":[]}
    response.content_part.done: {"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}}
    response.output_item.done: {"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}]}}
    response.completed: "completed" with 1
    "#);
    insta::assert_snapshot!(samples::lines(&whole(samples::plain(), &json!({}))), @r#"
    instructions: null
    max_output_tokens: null
    metadata: {}
    parallel_tool_calls: true
    prompt_cache_key: null
    reasoning: {"effort":null,"summary":null}
    safety_identifier: null
    temperature: null
    text: {"format":{"type":"text"}}
    tool_choice: "auto"
    tools: []
    top_logprobs: 0
    top_p: null
    previous_response_id: null
    conversation: null
    max_tool_calls: null
    prompt: null
    id: "resp_1"
    object: "response"
    created_at: 1700000000
    model: "m"
    status: "completed"
    output: [{"id":"msg_1_0","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}]}]
    background: false
    store: false
    truncation: "disabled"
    service_tier: "default"
    incomplete_details: null
    error: null
    usage: {"input_tokens":12,"input_tokens_details":{"cached_tokens":8,"cache_write_tokens":0},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":17,"cost":{"flops":0.0,"core_seconds":0.0,"joules":0.0,"joules_are":"","money":0.0,"currency":""}}
    completed_at: 1700000002
    "#);
}

#[test]
fn a_thoughtful_response() {
    insta::assert_snapshot!(streamed(samples::thoughtful()), @r#"
    response.created: "in_progress" with 0
    response.in_progress: "in_progress" with 0
    response.output_item.added: {"output_index":0,"item":{"id":"rs_1_0","type":"reasoning","status":"in_progress","summary":[],"content":[]}}
    response.content_part.added: {"item_id":"rs_1_0","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":""}}
    response.reasoning_text.delta: {"item_id":"rs_1_0","output_index":0,"content_index":0,"delta":"Hm"}
    response.reasoning_text.delta: {"item_id":"rs_1_0","output_index":0,"content_index":0,"delta":"."}
    response.reasoning_text.done: {"item_id":"rs_1_0","output_index":0,"content_index":0,"text":"Hm."}
    response.content_part.done: {"item_id":"rs_1_0","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":"Hm."}}
    response.output_item.done: {"output_index":0,"item":{"id":"rs_1_0","type":"reasoning","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"Hm."}]}}
    response.output_item.added: {"output_index":1,"item":{"id":"msg_1_1","type":"message","status":"in_progress","role":"assistant","content":[]}}
    response.content_part.added: {"item_id":"msg_1_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    response.output_text.delta: {"item_id":"msg_1_1","output_index":1,"content_index":0,"delta":"4","logprobs":[]}
    response.output_text.done: {"item_id":"msg_1_1","output_index":1,"content_index":0,"text":"4","logprobs":[]}
    response.content_part.done: {"item_id":"msg_1_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"4","annotations":[],"logprobs":[]}}
    response.output_item.done: {"output_index":1,"item":{"id":"msg_1_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"4","annotations":[],"logprobs":[]}]}}
    response.completed: "completed" with 2
    "#);
}

#[test]
fn a_calling_response() {
    insta::assert_snapshot!(streamed(samples::calling()), @r#"
    response.created: "in_progress" with 0
    response.in_progress: "in_progress" with 0
    response.output_item.added: {"output_index":0,"item":{"id":"fc_1_0","type":"function_call","status":"in_progress","call_id":"call_0","name":"look_up","arguments":""}}
    response.function_call_arguments.delta: {"item_id":"fc_1_0","output_index":0,"delta":"{\"q\""}
    response.function_call_arguments.delta: {"item_id":"fc_1_0","output_index":0,"delta":":1}"}
    response.function_call_arguments.done: {"item_id":"fc_1_0","output_index":0,"name":"look_up","arguments":"{\"q\":1}"}
    response.output_item.done: {"output_index":0,"item":{"id":"fc_1_0","type":"function_call","status":"completed","call_id":"call_0","name":"look_up","arguments":"{\"q\":1}"}}
    response.output_item.added: {"output_index":1,"item":{"id":"fc_1_1","type":"function_call","status":"in_progress","call_id":"call_1","name":"look_up","arguments":""}}
    response.function_call_arguments.delta: {"item_id":"fc_1_1","output_index":1,"delta":"{}"}
    response.function_call_arguments.done: {"item_id":"fc_1_1","output_index":1,"name":"look_up","arguments":"{}"}
    response.output_item.done: {"output_index":1,"item":{"id":"fc_1_1","type":"function_call","status":"completed","call_id":"call_1","name":"look_up","arguments":"{}"}}
    response.completed: "completed" with 2
    "#);
}

#[test]
fn a_response_cut_short_is_incomplete() {
    insta::assert_snapshot!(streamed(samples::cut()), @r#"
    response.created: "in_progress" with 0
    response.in_progress: "in_progress" with 0
    response.output_item.added: {"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"in_progress","role":"assistant","content":[]}}
    response.content_part.added: {"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    response.output_text.delta: {"item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"So","logprobs":[]}
    response.output_text.done: {"item_id":"msg_1_0","output_index":0,"content_index":0,"text":"So","logprobs":[]}
    response.content_part.done: {"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"So","annotations":[],"logprobs":[]}}
    response.output_item.done: {"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"So","annotations":[],"logprobs":[]}]}}
    response.output_item.added: {"output_index":1,"item":{"id":"fc_1_1","type":"function_call","status":"in_progress","call_id":"call_0","name":"look_up","arguments":""}}
    response.function_call_arguments.delta: {"item_id":"fc_1_1","output_index":1,"delta":"{\"q"}
    response.function_call_arguments.done: {"item_id":"fc_1_1","output_index":1,"name":"look_up","arguments":"{\"q"}
    response.output_item.done: {"output_index":1,"item":{"id":"fc_1_1","type":"function_call","status":"incomplete","call_id":"call_0","name":"look_up","arguments":"{\"q"}}
    response.incomplete: "incomplete" with 2
    "#);
    let cut = whole(samples::cut(), &json!({}));
    assert_eq!(cut["status"], "incomplete");
    assert_eq!(
        cut["incomplete_details"],
        json!({ "reason": "max_output_tokens" })
    );
    assert_eq!(cut["output"][1]["status"], "incomplete");
}

#[test]
fn a_failed_response_says_so() {
    insta::assert_snapshot!(streamed(samples::failing()), @r#"
    response.created: "in_progress" with 0
    response.in_progress: "in_progress" with 0
    response.output_item.added: {"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"in_progress","role":"assistant","content":[]}}
    response.content_part.added: {"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    response.output_text.delta: {"item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"So","logprobs":[]}
    response.output_text.done: {"item_id":"msg_1_0","output_index":0,"content_index":0,"text":"So","logprobs":[]}
    response.content_part.done: {"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"So","annotations":[],"logprobs":[]}}
    response.output_item.done: {"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","text":"So","annotations":[],"logprobs":[]}]}}
    response.failed: "failed" with 1
    "#);
    let mut failed = encoder(&json!({}));
    for said in samples::failing() {
        failed.push(said);
    }
    assert_eq!(failed.whole().unwrap_err().message, "a step failed");
    assert!(encoder(&json!({})).whole().is_err());
}

#[test]
fn log_probabilities_are_given_where_wanted() {
    let part =
        |changes: Value| whole(samples::plain(), &changes)["output"][0]["content"][0].clone();
    assert_eq!(part(json!({}))["logprobs"], json!([]));
    let wanted = part(json!({ "top_logprobs": 2 }));
    insta::assert_snapshot!(wanted["logprobs"][0], @r#"{"token":"Hel","logprob":-0.5,"bytes":[72,101,108],"top_logprobs":[{"token":"Hel","logprob":-0.5,"bytes":[72,101,108]},{"token":"bytes:\\xff","logprob":-9999.0,"bytes":[255]}]}"#);
}

const WORDS: &[&str] = &[
    "model",
    "input",
    "instructions",
    "type",
    "message",
    "role",
    "user",
    "assistant",
    "content",
    "input_text",
    "output_text",
    "text",
    "reasoning",
    "summary",
    "effort",
    "low",
    "function_call",
    "function_call_output",
    "call_id",
    "name",
    "arguments",
    "output",
    "tools",
    "function",
    "parameters",
    "tool_choice",
    "required",
    "allowed_tools",
    "mode",
    "format",
    "json_schema",
    "schema",
    "include",
    "metadata",
    "thinking",
    "enabled",
    "budget_tokens",
    "stream",
    "top_p",
];

proptest! {
    #[test]
    fn any_json_gives_an_ask_or_a_fault(
        body in prop_oneof![
            samples::json(WORDS),
            samples::nearly(json!({ "model": "m", "input": "Hi" }), WORDS),
        ]
    ) {
        if let Err(fault) = parse(&body, &Limits::USUAL) {
            prop_assert!(fault.message.len() < 400, "{}", fault.message);
        }
    }
}
