//! The input of a response: a text or items, to messages.
//!
//! Accepted without effect: `id`, `status` and `phase` of items, `annotations` and `logprobs` of
//! texts, `name` of results. They come back because clients send what they were given.

use serde_json::Value;

use crate::answer::Limits;
use crate::wire::error::Fault;
use crate::wire::fields::{self, Fields};
use crate::wire::sampled::{NAME_BYTES, short_name};
use crate::wire::turns::{Call, Conversation, Turns};

/// Items of an input, for each message that a conversation may have: a message may be three items.
const ITEMS_PER_MESSAGE: usize = 4;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Message,
    Reasoning,
    Call,
    Output,
}

/// What kinds of items there are, as `type` says it.
const KINDS: [(&str, Kind); 4] = [
    ("message", Kind::Message),
    ("reasoning", Kind::Reasoning),
    ("function_call", Kind::Call),
    ("function_call_output", Kind::Output),
];

/// Takes `instructions` and `input`.
pub(super) fn conversation(fields: &mut Fields<'_>, limits: &Limits) -> Result<Vec<Value>, Fault> {
    let mut talk = Conversation::new(limits, Turns::Apart);
    if let Some(text) = fields.text("instructions", limits.body_bytes)? {
        talk.tell("system", text, "instructions")?;
    }
    match fields.take("input") {
        None => return Err(fields.missing("input")),
        Some(Value::String(text)) => talk.tell("user", text, "input")?,
        Some(Value::Array(_)) => {
            let most = limits.messages.saturating_mul(ITEMS_PER_MESSAGE);
            let items = fields.list("input", most)?.unwrap_or_default();
            if items.is_empty() {
                return Err(fields.against("input", "expected at least one item, got none"));
            }
            for (index, value) in items.iter().enumerate() {
                item(&mut talk, value, &fields::item("input", index), limits)?;
            }
        }
        Some(other) => return Err(fields.wrong("input", "a text or an array of items", other)),
    }
    talk.finish("input")
}

fn item(talk: &mut Conversation, value: &Value, at: &str, limits: &Limits) -> Result<(), Fault> {
    let mut fields = Fields::of(value, at)?;
    if fields.take("type").and_then(Value::as_str) == Some("item_reference") {
        return Err(fields.against("type", "nothing is stored here: send the item itself"));
    }
    let kind = fields.word("type", &KINDS)?.unwrap_or(Kind::Message);
    fields.text("id", NAME_BYTES)?;
    let statuses = ["in_progress", "completed", "incomplete"].map(|word| (word, ()));
    fields.word("status", &statuses)?;
    match kind {
        Kind::Message => message(talk, &mut fields, at, limits)?,
        Kind::Reasoning => reasoning(talk, &mut fields, at, limits)?,
        Kind::Call => call(talk, &mut fields, at, limits)?,
        Kind::Output => output(talk, &mut fields, at, limits)?,
    }
    fields.finish()
}

fn message(
    talk: &mut Conversation,
    fields: &mut Fields<'_>,
    at: &str,
    limits: &Limits,
) -> Result<(), Fault> {
    let roles = [
        ("user", "user"),
        ("assistant", "assistant"),
        ("system", "system"),
        ("developer", "system"),
    ];
    let Some(role) = fields.word("role", &roles)? else {
        return Err(fields.missing("role"));
    };
    fields.word("phase", &[("commentary", ()), ("final_answer", ())])?;
    let parts: &[&str] = match role {
        "assistant" => &["output_text", "refusal"],
        _ => &["input_text"],
    };
    let text = text_or_parts(fields, "content", parts, limits)?;
    match role {
        "assistant" => talk.say(&text, at),
        _ => talk.tell(role, &text, at),
    }
}

/// A thought given back. One of another server has a summary alone, which is what is left of it.
fn reasoning(
    talk: &mut Conversation,
    fields: &mut Fields<'_>,
    at: &str,
    limits: &Limits,
) -> Result<(), Fault> {
    fields.refuse(
        "encrypted_content",
        "thoughts are taken back in clear, in content",
    )?;
    let summary = parts(fields, "summary", &["summary_text"], limits)?;
    let content = parts(fields, "content", &["reasoning_text"], limits)?;
    match content.or(summary) {
        Some(text) if !text.is_empty() => talk.think(&text, at),
        _ => Ok(()),
    }
}

fn call(
    talk: &mut Conversation,
    fields: &mut Fields<'_>,
    at: &str,
    limits: &Limits,
) -> Result<(), Fault> {
    for name in ["namespace", "caller", "async"] {
        fields.refuse(name, "not offered")?;
    }
    let name = short_name(fields)?.to_owned();
    let Some(arguments) = fields.text("arguments", limits.body_bytes)? else {
        return Err(fields.missing("arguments"));
    };
    let call = Call {
        id: call_id(fields)?.to_owned(),
        name,
        arguments: arguments.to_owned(),
    };
    talk.call(call, at)
}

fn output(
    talk: &mut Conversation,
    fields: &mut Fields<'_>,
    at: &str,
    limits: &Limits,
) -> Result<(), Fault> {
    for name in ["namespace", "caller"] {
        fields.refuse(name, "not offered")?;
    }
    fields.text("name", NAME_BYTES)?;
    let text = text_or_parts(fields, "output", &["input_text"], limits)?;
    let id = call_id(fields)?;
    talk.result(id, &text, at)
}

fn call_id<'a>(fields: &mut Fields<'a>) -> Result<&'a str, Fault> {
    let id = fields.text("call_id", NAME_BYTES)?;
    id.ok_or_else(|| fields.missing("call_id"))
}

fn text_or_parts(
    fields: &mut Fields<'_>,
    name: &'static str,
    kinds: &[&str],
    limits: &Limits,
) -> Result<String, Fault> {
    match fields.take(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(_)) => Ok(parts(fields, name, kinds, limits)?.unwrap_or_default()),
        Some(other) => Err(fields.wrong(name, "a text or an array of parts", other)),
        None => Err(fields.missing(name)),
    }
}

/// Texts of parts; nothing if there is no such field or it is empty. What the model said in parts
/// is one text; what it is told stands on lines of its own.
fn parts(
    fields: &mut Fields<'_>,
    name: &'static str,
    kinds: &[&str],
    limits: &Limits,
) -> Result<Option<String>, Fault> {
    let found = fields.list(name, limits.messages)?.unwrap_or_default();
    let mut text = None::<String>;
    for (index, value) in found.iter().enumerate() {
        let mut part = Fields::of(value, &fields::item(&fields.path(name), index))?;
        let kind = part.text("type", NAME_BYTES)?;
        let Some(kind) = kind.filter(|kind| kinds.contains(kind)) else {
            let got = part.take("type").unwrap_or(&Value::Null);
            return Err(part.wrong("type", &fields::one_of(kinds.iter().copied()), got));
        };
        let key = if kind == "refusal" { "refusal" } else { "text" };
        let Some(more) = part.text(key, limits.body_bytes)? else {
            return Err(part.missing(key));
        };
        if kind == "output_text" {
            part.list("annotations", limits.messages)?;
            part.take("logprobs");
        }
        part.finish()?;
        let text = text.get_or_insert_default();
        if index > 0 && kind == "input_text" {
            text.push('\n');
        }
        text.push_str(more);
    }
    Ok(text)
}
