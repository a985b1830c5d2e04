//! The conversation of a message: strings and blocks, to OpenAI's messages.
//!
//! Accepted without effect:
//!
//! | Field | Why |
//! |---|---|
//! | `cache_control` | what prompts share is found by their tokens |
//! | `redacted_thinking` | nobody here can read it: it comes from other servers |
//! | `signature` of a thought | thoughts are not signed here, see [`SIGNATURE`](super::SIGNATURE) |

use serde_json::Value;

use super::cache_control;
use crate::answer::Limits;
use crate::wire::error::Fault;
use crate::wire::fields::{self, Fields};
use crate::wire::sampled::{NAME_BYTES, short_name};
use crate::wire::turns::{Call, Conversation, Turns};

/// Before what a tool says that has failed: the conversation has no other place for that.
const FAILED: &str = "Error: ";

#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Thinking,
    RedactedThinking,
    ToolUse,
    ToolResult,
}

type Kinds = [(&'static str, Kind)];

const OF_USERS: &Kinds = &[("text", Kind::Text), ("tool_result", Kind::ToolResult)];
const OF_ASSISTANTS: &Kinds = &[
    ("text", Kind::Text),
    ("thinking", Kind::Thinking),
    ("redacted_thinking", Kind::RedactedThinking),
    ("tool_use", Kind::ToolUse),
];
const OF_SYSTEM: &Kinds = &[("text", Kind::Text)];

/// Who speaks, where, and within which limits.
#[derive(Debug, Clone, Copy)]
struct Speaker<'a> {
    role: &'static str,
    kinds: &'static Kinds,
    limits: &'a Limits,
}

/// Takes `system` and `messages`.
pub(super) fn conversation(fields: &mut Fields<'_>, limits: &Limits) -> Result<Vec<Value>, Fault> {
    let mut talk = Conversation::new(limits, Turns::Joined);
    let speaker = |role: &'static str, kinds: &'static Kinds| Speaker {
        role,
        kinds,
        limits,
    };
    if fields.take("system").is_some() {
        contents(&mut talk, fields, "system", speaker("system", OF_SYSTEM))?;
    }
    let Some(messages) = fields.list("messages", limits.messages)? else {
        return Err(fields.missing("messages"));
    };
    if messages.is_empty() {
        return Err(fields.against("messages", "expected at least one message, got none"));
    }
    for (index, value) in messages.iter().enumerate() {
        let mut message = Fields::of(value, &fields::item("messages", index))?;
        let roles = [
            ("user", speaker("user", OF_USERS)),
            ("assistant", speaker("assistant", OF_ASSISTANTS)),
            ("system", speaker("system", OF_SYSTEM)),
        ];
        let Some(speaker) = message.word("role", &roles)? else {
            return Err(message.missing("role"));
        };
        contents(&mut talk, &mut message, "content", speaker)?;
        message.finish()?;
    }
    talk.finish("messages")
}

fn contents(
    talk: &mut Conversation,
    fields: &mut Fields<'_>,
    name: &'static str,
    speaker: Speaker<'_>,
) -> Result<(), Fault> {
    let at = fields.path(name);
    match fields.take(name) {
        None => Err(fields.missing(name)),
        Some(Value::String(text)) => speak(talk, speaker.role, text, &at),
        Some(Value::Array(blocks)) => {
            for (index, value) in blocks.iter().enumerate() {
                block(talk, value, &fields::item(&at, index), speaker)?;
            }
            Ok(())
        }
        Some(other) => Err(fields.wrong(name, "a text or an array of blocks", other)),
    }
}

fn speak(talk: &mut Conversation, role: &str, text: &str, at: &str) -> Result<(), Fault> {
    match role {
        "assistant" => talk.say(text, at),
        _ => talk.tell(role, text, at),
    }
}

fn block(
    talk: &mut Conversation,
    value: &Value,
    at: &str,
    speaker: Speaker<'_>,
) -> Result<(), Fault> {
    let mut fields = Fields::of(value, at)?;
    let most = speaker.limits.body_bytes;
    let Some(kind) = fields.word("type", speaker.kinds)? else {
        return Err(fields.missing("type"));
    };
    match kind {
        Kind::Text => {
            let text = text(&mut fields, speaker.limits)?;
            speak(talk, speaker.role, text, at)?;
        }
        Kind::Thinking => {
            let Some(text) = fields.text("thinking", most)? else {
                return Err(fields.missing("thinking"));
            };
            fields.text("signature", most)?;
            if !text.is_empty() {
                talk.think(text, at)?;
            }
        }
        Kind::RedactedThinking => {
            fields.text("data", most)?;
        }
        Kind::ToolUse => call(talk, &mut fields, at)?,
        Kind::ToolResult => result(talk, &mut fields, at, speaker.limits)?,
    }
    fields.finish()
}

/// Takes what a text block has beside its type.
fn text<'a>(fields: &mut Fields<'a>, limits: &Limits) -> Result<&'a str, Fault> {
    cache_control(fields)?;
    fields.refuse("citations", "nothing is cited here")?;
    let text = fields.text("text", limits.body_bytes)?;
    text.ok_or_else(|| fields.missing("text"))
}

fn call(talk: &mut Conversation, fields: &mut Fields<'_>, at: &str) -> Result<(), Fault> {
    cache_control(fields)?;
    fields.refuse("caller", "tools are called by the model alone")?;
    let id = fields.text("id", NAME_BYTES)?;
    let id = id.ok_or_else(|| fields.missing("id"))?.to_owned();
    let name = short_name(fields)?.to_owned();
    let arguments = match fields.take("input") {
        Some(input) if input.is_object() => input.to_string(),
        Some(other) => return Err(fields.wrong("input", "an object", other)),
        None => return Err(fields.missing("input")),
    };
    let call = Call {
        id,
        name,
        arguments,
    };
    talk.call(call, at)
}

fn result(
    talk: &mut Conversation,
    fields: &mut Fields<'_>,
    at: &str,
    limits: &Limits,
) -> Result<(), Fault> {
    cache_control(fields)?;
    let id = fields.text("tool_use_id", NAME_BYTES)?;
    let id = id.ok_or_else(|| fields.missing("tool_use_id"))?;
    let mut said = match fields.flag("is_error")? {
        Some(true) => FAILED.to_owned(),
        _ => String::new(),
    };
    match fields.take("content") {
        None => {}
        Some(Value::String(text)) => said.push_str(text),
        Some(Value::Array(blocks)) => {
            for (index, value) in blocks.iter().enumerate() {
                let at = fields::item(&fields.path("content"), index);
                let mut block = Fields::of(value, &at)?;
                if block.word("type", &[("text", ())])?.is_none() {
                    return Err(block.missing("type"));
                }
                if index > 0 {
                    said.push('\n');
                }
                said.push_str(text(&mut block, limits)?);
                block.finish()?;
            }
        }
        Some(other) => return Err(fields.wrong("content", "a text or an array of blocks", other)),
    }
    talk.result(id, &said, at)
}
