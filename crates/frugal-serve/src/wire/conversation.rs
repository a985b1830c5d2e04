//! A conversation: messages checked one by one and written anew, so that templates see the same
//! whatever nulls, parts and order of fields the client sends.
//!
//! ```text
//! system, developer   content                          developer is the same as system
//! user                content
//! assistant           content, refusal, reasoning_content or reasoning, tool_calls, prefix
//! tool                content, tool_call_id            of a call before it
//! all but tool        name
//! ```
//!
//! Content is a text, or parts of text, which are joined by line breaks as other servers do.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::Fault;
use super::fields::{Fields, item, shown};
use super::sampled::{NAME_BYTES, short_name};
use crate::answer::{Limits, Prompt};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    System,
    User,
    Assistant,
    Tool,
}

const ROLES: [(&str, Role); 5] = [
    ("system", Role::System),
    ("developer", Role::System),
    ("user", Role::User),
    ("assistant", Role::Assistant),
    ("tool", Role::Tool),
];

/// What the last message was found to be.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    is_prefix: bool,
    /// An assistant's, without calls: it can be continued.
    is_open: bool,
}

/// Takes `messages`, `continue_final_message` and `add_generation_prompt`.
pub(super) fn prompt(
    fields: &mut Fields<'_>,
    limits: &Limits,
    variables: Map<String, Value>,
) -> Result<Prompt, Fault> {
    let (messages, last) = messages(fields, limits)?;
    let continues = fields.flag("continue_final_message")?;
    if last.is_prefix && continues == Some(false) {
        let why = "contradicts prefix of the last message";
        return Err(fields.against("continue_final_message", why));
    }
    let continues_last = continues.unwrap_or(last.is_prefix);
    if continues_last && !last.is_open {
        let why = "expected the last message to be the assistant's, without tool_calls";
        return Err(fields.against("continue_final_message", why));
    }
    let opens = fields.flag("add_generation_prompt")?;
    if continues_last && opens == Some(true) {
        let why = "contradicts continuing the last message";
        return Err(fields.against("add_generation_prompt", why));
    }
    Ok(Prompt::Chat {
        messages,
        variables,
        continues_last,
        opens_turn: opens.unwrap_or(!continues_last),
    })
}

fn messages(fields: &mut Fields<'_>, limits: &Limits) -> Result<(Vec<Value>, Last), Fault> {
    let values = fields.list("messages", limits.messages)?;
    let values = values.ok_or_else(|| fields.missing("messages"))?;
    if values.is_empty() {
        return Err(fields.against("messages", "expected at least one message"));
    }
    let mut written = Vec::with_capacity(values.len());
    let (mut calls, mut last) = (Calls::default(), Last::default());
    for (index, value) in values.iter().enumerate() {
        let mut message = Fields::of(value, &item("messages", index))?;
        if last.is_prefix {
            let path = format!("{}.prefix", item("messages", index - 1));
            return Err(Fault::field(
                &path,
                "no prefix but in the last message",
                "true",
            ));
        }
        let one;
        (one, last) = self::message(&mut message, &mut calls, limits)?;
        message.finish()?;
        written.push(Value::Object(one));
    }
    Ok((written, last))
}

fn message<'a>(
    fields: &mut Fields<'a>,
    calls: &mut Calls<'a>,
    limits: &Limits,
) -> Result<(Map<String, Value>, Last), Fault> {
    let role = match fields.take("role").and_then(Value::as_str) {
        Some("function") => {
            return Err(fields.against("role", "function is no longer offered: expected tool"));
        }
        _ => fields.word("role", &ROLES)?,
    };
    let role = role.ok_or_else(|| fields.missing("role"))?;
    let mut written = Map::new();
    written.insert("role".into(), word_of(role).into());
    let mut last = Last::default();
    if role == Role::Assistant {
        last = assistant(fields, &mut written, calls, limits)?;
    } else {
        let content = content(fields, role)?.ok_or_else(|| fields.missing("content"))?;
        written.insert("content".into(), content.into());
    }
    if role == Role::Tool {
        let id = fields.text("tool_call_id", NAME_BYTES)?;
        let id = id.ok_or_else(|| fields.missing("tool_call_id"))?;
        if !calls.answer(id) {
            let why = "expected the id of a tool call before it that has no result yet";
            return Err(fields.against("tool_call_id", why));
        }
        written.insert("tool_call_id".into(), id.into());
    }
    if let Some(name) = fields.text("name", NAME_BYTES)? {
        written.insert("name".into(), name.into());
    }
    Ok((written, last))
}

const fn word_of(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

fn assistant<'a>(
    fields: &mut Fields<'a>,
    written: &mut Map<String, Value>,
    calls: &mut Calls<'a>,
    limits: &Limits,
) -> Result<Last, Fault> {
    let content = content(fields, Role::Assistant)?;
    // A refusal is an answer in words like any other; bodies of the API hold one or the other.
    let refusal = fields.text("refusal", limits.body_bytes)?;
    if content.is_some() && refusal.is_some() {
        return Err(fields.against("refusal", "expected content or refusal, got both"));
    }
    let content = content.or(refusal.map(str::to_owned));
    let thought = thought(fields, limits)?;
    let made = tool_calls(fields, calls, limits)?;
    // What answers hold and clients send back, empty.
    fields.refuse("function_call", "no longer offered: expected tool_calls")?;
    fields.refuse("audio", "no audio here")?;
    fields.list("annotations", 0)?;
    if content.is_none() && thought.is_none() && made.is_empty() {
        return Err(fields.missing("content"));
    }
    let last = Last {
        is_prefix: fields.flag("prefix")? == Some(true),
        is_open: made.is_empty(),
    };
    if last.is_prefix && !last.is_open {
        return Err(fields.against("prefix", "not together with tool_calls"));
    }
    written.insert("content".into(), content.into());
    if let Some(thought) = thought {
        written.insert("reasoning_content".into(), thought.into());
    }
    if !made.is_empty() {
        written.insert("tool_calls".into(), made.into());
    }
    Ok(last)
}

/// `reasoning_content` or `reasoning`, by whichever name the client got it.
fn thought<'a>(fields: &mut Fields<'a>, limits: &Limits) -> Result<Option<&'a str>, Fault> {
    let usual = fields.text("reasoning_content", limits.body_bytes)?;
    let other = fields.text("reasoning", limits.body_bytes)?;
    match (usual, other) {
        (Some(usual), Some(other)) if usual != other => {
            Err(fields.against("reasoning", "contradicts reasoning_content"))
        }
        _ => Ok(usual.or(other)),
    }
}

fn content(fields: &mut Fields<'_>, role: Role) -> Result<Option<String>, Fault> {
    let Some(value) = fields.take("content") else {
        return Ok(None);
    };
    let kinds: &[&'static str] = match role {
        Role::Assistant => &["text", "refusal"],
        _ => &["text"],
    };
    joined(value, &fields.path("content"), kinds).map(Some)
}

/// A text, or parts of kinds that hold their text under their kind's name.
pub(super) fn joined(value: &Value, path: &str, kinds: &[&'static str]) -> Result<String, Fault> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let Some(parts) = value.as_array().filter(|parts| !parts.is_empty()) else {
        return Err(Fault::field(
            path,
            "a string or parts of text",
            shown(value),
        ));
    };
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.push_str(self::part(part, &item(path, index), kinds)?);
    }
    Ok(text)
}

fn part<'a>(value: &'a Value, path: &str, kinds: &[&'static str]) -> Result<&'a str, Fault> {
    let mut fields = Fields::of(value, path)?;
    let words: Vec<(&str, &'static str)> = kinds.iter().map(|kind| (*kind, *kind)).collect();
    let name = fields.word("type", &words)?;
    let name = name.ok_or_else(|| fields.missing("type"))?;
    let text = fields.text(name, usize::MAX)?;
    let text = text.ok_or_else(|| fields.missing(name))?;
    fields.finish()?;
    Ok(text)
}

/// Calls that have no result yet, by id. Clients may use an id again in a later turn.
#[derive(Debug, Default)]
struct Calls<'a>(BTreeMap<&'a str, usize>);

impl<'a> Calls<'a> {
    fn make(&mut self, id: &'a str) {
        *self.0.entry(id).or_default() += 1;
    }

    fn answer(&mut self, id: &str) -> bool {
        match self.0.get_mut(id) {
            Some(open) if *open > 0 => {
                *open -= 1;
                true
            }
            _ => false,
        }
    }
}

fn tool_calls<'a>(
    fields: &mut Fields<'a>,
    calls: &mut Calls<'a>,
    limits: &Limits,
) -> Result<Vec<Value>, Fault> {
    let values = fields.list("tool_calls", limits.tools)?.unwrap_or_default();
    let path = fields.path("tool_calls");
    let mut made = Vec::with_capacity(values.len());
    let mut ids: Vec<&str> = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let mut call = Fields::of(value, &item(&path, index))?;
        // Clients that put streamed pieces together may leave the place in; it says nothing new.
        if call
            .count("index", 0..=limits.tools)?
            .is_some_and(|place| place != index)
        {
            return Err(call.against("index", "expected the call's place in the list"));
        }
        call.word("type", &[("function", ())])?;
        let id = call
            .text("id", NAME_BYTES)?
            .ok_or_else(|| call.missing("id"))?;
        if id.is_empty() || ids.contains(&id) {
            return Err(call.against("id", "expected ids that differ"));
        }
        let function = call.object("function")?;
        let mut function = function.ok_or_else(|| call.missing("function"))?;
        let name = short_name(&mut function)?;
        let arguments = function.text("arguments", limits.body_bytes)?;
        let arguments = arguments.ok_or_else(|| function.missing("arguments"))?;
        function.finish()?;
        call.finish()?;
        ids.push(id);
        calls.make(id);
        made.push(json!({
            "id": id,
            "type": "function",
            "function": { "name": name, "arguments": arguments },
        }));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(body: &Value) -> Result<Prompt, Fault> {
        let mut fields = Fields::of(body, "")?;
        let limits = Limits {
            messages: 8,
            tools: 4,
            ..Limits::USUAL
        };
        let prompt = prompt(&mut fields, &limits, Map::new())?;
        fields.finish()?;
        Ok(prompt)
    }

    fn call(id: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}})
    }

    fn user() -> Value {
        json!({"role": "user", "content": "u"})
    }

    #[test]
    fn messages_are_written_anew() {
        let body = json!({"messages": [
            {"content": "be short", "role": "developer", "name": "boss"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": null},
            {
                "role": "assistant", "content": null, "refusal": null, "audio": null, "function_call": null,
                "annotations": [], "reasoning": "hm", "tool_calls": [
                    {"index": 0, "function": {"arguments": "{\"x\": 1}", "name": "f"}, "id": "c1", "type": "function"},
                    call("c2"),
                ],
            },
            {"role": "tool", "tool_call_id": "c2", "content": "2"},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "1"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "reasoning_content": "", "tool_calls": []},
            {"role": "assistant", "refusal": "never", "tool_calls": null},
        ]});
        let Prompt::Chat {
            messages,
            continues_last,
            opens_turn,
            ..
        } = taken(&body).unwrap()
        else {
            panic!("a chat");
        };
        assert!(!continues_last && opens_turn);
        let lines: Vec<String> = messages.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"role":"system","content":"be short","name":"boss"}
        {"role":"user","content":"a\nb"}
        {"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}},{"id":"c2","type":"function","function":{"name":"f","arguments":"{}"}}]}
        {"role":"tool","content":"2","tool_call_id":"c2"}
        {"role":"tool","content":"1","tool_call_id":"c1"}
        {"role":"assistant","content":"no","reasoning_content":""}
        {"role":"assistant","content":"never"}
        "#);
    }

    #[test]
    fn last_messages_are_answered_or_continued() {
        let last = |last: Value| json!({"messages": [user(), last]});
        let with = |name: &str, value: bool| {
            let mut body = last(json!({"role": "assistant", "content": "x"}));
            body[name] = value.into();
            body
        };
        let both = |continues: bool, opens: bool| {
            let mut body = with("continue_final_message", continues);
            body["add_generation_prompt"] = opens.into();
            body
        };
        let prefix = json!({"role": "assistant", "content": "x", "prefix": true});
        let rows = [
            (last(user()), Ok((false, true))),
            (
                last(json!({"role": "assistant", "content": "x"})),
                Ok((false, true)),
            ),
            (
                last(json!({"role": "assistant", "content": "x", "prefix": false})),
                Ok((false, true)),
            ),
            (last(prefix.clone()), Ok((true, false))),
            (
                last(
                    json!({"role": "assistant", "content": "", "reasoning_content": "r", "prefix": true}),
                ),
                Ok((true, false)),
            ),
            (with("continue_final_message", true), Ok((true, false))),
            (with("add_generation_prompt", false), Ok((false, false))),
            (both(true, false), Ok((true, false))),
            (both(false, true), Ok((false, true))),
            (both(true, true), Err("add_generation_prompt")),
            (
                json!({"messages": [user()], "continue_final_message": true}),
                Err("continue_final_message"),
            ),
            (
                json!({"messages": [user(), {"role": "assistant", "tool_calls": [call("c")], "prefix": true}]}),
                Err("messages[1].prefix"),
            ),
            (
                json!({"messages": [user(), {"role": "assistant", "tool_calls": [call("c")]}], "continue_final_message": true}),
                Err("continue_final_message"),
            ),
            (
                json!({"messages": [user(), prefix], "continue_final_message": false}),
                Err("continue_final_message"),
            ),
            (
                json!({"messages": [{"role": "assistant", "content": "x", "prefix": true}, user()]}),
                Err("messages[0].prefix"),
            ),
            (
                json!({"messages": [{"role": "user", "content": "x", "prefix": true}]}),
                Err("messages[0].prefix"),
            ),
        ];
        for (body, expected) in rows {
            let found = taken(&body).map(|prompt| match prompt {
                Prompt::Chat {
                    continues_last,
                    opens_turn,
                    ..
                } => (continues_last, opens_turn),
                _ => panic!("a chat"),
            });
            let found = found.map_err(|fault| fault.param.unwrap());
            assert_eq!(found, expected.map_err(str::to_owned), "{body}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn messages_are_refused_by_name() {
        let one = |message: Value| json!({"messages": [message]});
        let part = |part: Value| {
            one(json!({"role": "user", "content": [{"type": "text", "text": ""}, part]}))
        };
        let said = |message: Value| {
            let mut message = message;
            message["role"] = "assistant".into();
            one(message)
        };
        let made = |call: Value| said(json!({"tool_calls": [call]}));
        let after = |id: &str| {
            json!({"messages": [
                {"role": "assistant", "tool_calls": [call("c1")]},
                {"role": "tool", "tool_call_id": "c1", "content": ""},
                {"role": "tool", "tool_call_id": id, "content": ""},
            ]})
        };
        let rows = [
            (json!({}), "messages"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": "hello"}), "messages"),
            (json!({"messages": vec![user(); 9]}), "messages"),
            (one(json!("hello")), "messages[0]"),
            (one(json!({"content": "x"})), "messages[0].role"),
            (
                one(json!({"role": "bot", "content": "x"})),
                "messages[0].role",
            ),
            (
                one(json!({"role": "function", "name": "f", "content": "x"})),
                "messages[0].role",
            ),
            (one(json!({"role": "user"})), "messages[0].content"),
            (
                one(json!({"role": "user", "content": null})),
                "messages[0].content",
            ),
            (
                one(json!({"role": "user", "content": 5})),
                "messages[0].content",
            ),
            (
                one(json!({"role": "user", "content": []})),
                "messages[0].content",
            ),
            (
                one(json!({"role": "user", "content": "x", "name": 5})),
                "messages[0].name",
            ),
            (
                one(json!({"role": "user", "content": "x", "reasoning_content": "r"})),
                "messages[0].reasoning_content",
            ),
            (
                one(json!({"role": "user", "content": "x", "mood": "good"})),
                "messages[0].mood",
            ),
            (part(json!("x")), "messages[0].content[1]"),
            (part(json!({"text": "x"})), "messages[0].content[1].type"),
            (
                part(json!({"type": "image_url", "image_url": {"url": "http://x"}})),
                "messages[0].content[1].type",
            ),
            (
                part(json!({"type": "input_audio", "input_audio": {}})),
                "messages[0].content[1].type",
            ),
            (
                part(json!({"type": "refusal", "refusal": "x"})),
                "messages[0].content[1].type",
            ),
            (part(json!({"type": "text"})), "messages[0].content[1].text"),
            (
                part(json!({"type": "text", "text": "x", "cache_control": {}})),
                "messages[0].content[1].cache_control",
            ),
            (said(json!({})), "messages[0].content"),
            (
                said(json!({"content": null, "tool_calls": []})),
                "messages[0].content",
            ),
            (
                said(json!({"content": "x", "refusal": "y"})),
                "messages[0].refusal",
            ),
            (
                said(json!({"content": "x", "reasoning": "a", "reasoning_content": "b"})),
                "messages[0].reasoning",
            ),
            (
                said(json!({"content": "x", "function_call": {}})),
                "messages[0].function_call",
            ),
            (
                said(json!({"content": "x", "audio": {"id": "a"}})),
                "messages[0].audio",
            ),
            (
                said(json!({"content": "x", "annotations": [1]})),
                "messages[0].annotations",
            ),
            (said(json!({"tool_calls": {}})), "messages[0].tool_calls"),
            (
                said(json!({"tool_calls": vec![call("c"); 5]})),
                "messages[0].tool_calls",
            ),
            (
                said(json!({"tool_calls": [call("c"), call("c")]})),
                "messages[0].tool_calls[1].id",
            ),
            (
                made(json!({"type": "function", "function": {"name": "f", "arguments": "{}"}})),
                "messages[0].tool_calls[0].id",
            ),
            (
                made(json!({"id": "c", "type": "custom"})),
                "messages[0].tool_calls[0].type",
            ),
            (
                made(json!({"id": "c", "index": 1})),
                "messages[0].tool_calls[0].index",
            ),
            (
                made(json!({"id": "c"})),
                "messages[0].tool_calls[0].function",
            ),
            (
                made(json!({"id": "c", "function": {"arguments": "{}"}})),
                "messages[0].tool_calls[0].function.name",
            ),
            (
                made(json!({"id": "c", "function": {"name": "f"}})),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (
                made(json!({"id": "c", "function": {"name": "f", "arguments": {}}})),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (
                one(json!({"role": "tool", "content": "x"})),
                "messages[0].tool_call_id",
            ),
            (
                one(json!({"role": "tool", "tool_call_id": "c", "content": "x"})),
                "messages[0].tool_call_id",
            ),
            (after("c2"), "messages[2].tool_call_id"),
            (after("c1"), "messages[2].tool_call_id"),
        ];
        for (body, param) in rows {
            assert_eq!(
                taken(&body).unwrap_err().param.as_deref(),
                Some(param),
                "{body}"
            );
        }
    }
}
