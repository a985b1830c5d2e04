//! The part of Ollama's interface that editors and desks use.
//!
//! [`parse_chat`] and [`parse_generate`] read a request, `options` its `options`; `encode` writes
//! the answer as lines or whole; `bodies` tells about models. An empty conversation, or an empty
//! prompt, asks that the model be loaded, as there.
//!
//! Accepted without effect:
//!
//! | Field | Why |
//! |---|---|
//! | `keep_alive` of a question | models leave when memory is wanted, the least used first |
//! | `shift`, `truncate: false` | nothing is cut off a prompt: what is too long is refused |
//! | `verbose` of `/api/show` | all that is known is shown |
//! | `context: []`, `images: []`, `template: ""` | nothing is asked for |
//! | some `options` | see `options` |
//!
//! Thinking as chat completions spell it, `tool_choice`, `parallel_tool_calls` and `verify` are taken
//! as well.

use serde_json::{Map, Value, json};

use super::effort::{self, Own};
use super::error::Fault;
use super::fields::{self, Fields};
use super::form::schema;
use super::sampled::{NAME_BYTES, model, short_name};
use super::thinking::Thoughts;
use super::tools;
use super::turns::{self, Call, Conversation, Turns};
use super::verify;
use crate::answer::{Ask, Form, Limits, Prompt};

mod bodies;
mod encode;
mod options;
#[cfg(test)]
mod tests;

pub use bodies::{Known, Running, running, show, tags, version};
pub use encode::Encoder;

/// What a request wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// An answer.
    Answer(Box<Ask>, Out),
    /// The model in memory, so that the next question is answered sooner; see [`Out::loaded`].
    Load {
        /// Its name.
        model: String,
        /// For the answer.
        out: Out,
    },
    /// The model out of memory (`keep_alive: 0`); see [`Out::unloaded`].
    Unload {
        /// Its name.
        model: String,
        /// For the answer.
        out: Out,
    },
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Out {
    /// As lines, which is usual here, or whole.
    pub stream: bool,
    pub(super) route: Route,
    pub(super) wants_logprobs: bool,
    /// Tokens that the client wants room for.
    num_ctx: Option<usize>,
}

/// Which route an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Chat,
    Generate,
}

impl Out {
    /// Checks that a model has as many positions as the client counts on.
    ///
    /// # Errors
    /// If it has fewer: a conversation that grows into them would be refused later.
    pub fn check_positions(&self, positions: usize) -> Result<(), Fault> {
        match self.num_ctx {
            Some(wanted) if wanted > positions => {
                let expected = format!("at most the model's {positions} positions");
                Err(Fault::field("options.num_ctx", &expected, wanted))
            }
            _ => Ok(()),
        }
    }

    /// The answer to [`Wanted::Load`].
    pub fn loaded(&self, head: &super::Head) -> Value {
        self.nothing_said(head, "load")
    }

    /// The answer to [`Wanted::Unload`].
    pub fn unloaded(&self, head: &super::Head) -> Value {
        self.nothing_said(head, "unload")
    }

    fn nothing_said(&self, head: &super::Head, reason: &str) -> Value {
        let mut body = Map::new();
        match self.route {
            Route::Chat => {
                let message = json!({ "role": "assistant", "content": "" });
                body.insert("message".into(), message);
            }
            Route::Generate => {
                body.insert("response".into(), "".into());
            }
        }
        body.insert("model".into(), head.model.as_str().into());
        body.insert("created_at".into(), bodies::stamp(head.created).into());
        body.insert("done".into(), true.into());
        body.insert("done_reason".into(), reason.into());
        body.into()
    }
}

/// Reads a request of `/api/show`: the name of a model.
///
/// # Errors
/// Names the field that is missing or unknown.
pub fn parse_show(body: &Value) -> Result<String, Fault> {
    let mut fields = Fields::of(body, "")?;
    // Older clients call it `name`.
    let name = fields.text("name", NAME_BYTES)?;
    let model = fields.text("model", NAME_BYTES)?.or(name);
    fields.flag("verbose")?;
    let Some(model) = model else {
        return Err(fields.missing("model"));
    };
    fields.finish()?;
    Ok(model.to_owned())
}

/// Reads a request of `/api/chat`.
///
/// # Errors
/// Names the field that is missing, out of range, unknown, or more than is offered.
pub fn parse_chat(body: &Value, limits: &Limits) -> Result<Wanted, Fault> {
    let mut fields = Fields::of(body, "")?;
    let model = model(&mut fields)?;
    let found = fields
        .list("messages", limits.messages)?
        .unwrap_or_default();
    let thoughts = thoughts(&mut fields, limits)?;
    let mut ask = Ask::of(model, Prompt::Text(String::new()));
    ask.tools = tools::take(&mut fields, limits)?;
    ask.thinking = thoughts.thinking;
    if !found.is_empty() {
        let mut talk = Conversation::new(limits, Turns::Apart);
        for (index, value) in found.iter().enumerate() {
            message(&mut talk, value, &fields::item("messages", index), limits)?;
        }
        let messages = talk.finish("messages")?;
        ask.prompt = turns::prompt_going_on(messages, thoughts.variables);
    }
    let (out, is_kept) = common(&mut fields, &mut ask, Route::Chat, limits)?;
    fields.finish()?;
    Ok(wanted(ask, out, is_kept, found.is_empty()))
}

/// Reads a request of `/api/generate`.
///
/// # Errors
/// As [`parse_chat`].
pub fn parse_generate(body: &Value, limits: &Limits) -> Result<Wanted, Fault> {
    let mut fields = Fields::of(body, "")?;
    let model = model(&mut fields)?;
    let prompt = fields
        .text("prompt", limits.body_bytes)?
        .unwrap_or_default();
    let suffix = fields
        .text("suffix", limits.body_bytes)?
        .unwrap_or_default();
    let system = fields
        .text("system", limits.body_bytes)?
        .unwrap_or_default();
    let is_raw = fields.flag("raw")?.unwrap_or(false);
    if !fields
        .text("template", NAME_BYTES)?
        .unwrap_or_default()
        .is_empty()
    {
        return Err(fields.against("template", "templates are the model's own"));
    }
    has_none(
        &mut fields,
        "context",
        "send the conversation to /api/chat instead",
    )?;
    has_none(&mut fields, "images", "no model here sees")?;
    let has_system = !system.is_empty();
    if has_system && (is_raw || !suffix.is_empty()) {
        return Err(fields.against("system", "there is no place for it beside raw or suffix"));
    }
    let thoughts = thoughts(&mut fields, limits)?;
    let prompt_wanted = match (is_raw, suffix.is_empty()) {
        (_, false) => Prompt::Middle {
            prefix: prompt.to_owned(),
            suffix: suffix.to_owned(),
        },
        (true, true) => Prompt::Text(prompt.to_owned()),
        (false, true) => {
            let mut talk = Conversation::new(limits, Turns::Apart);
            if has_system {
                talk.tell("system", system, "system")?;
            }
            talk.tell("user", prompt, "prompt")?;
            turns::prompt(talk.finish("prompt")?, thoughts.variables)
        }
    };
    let mut ask = Ask::of(model, prompt_wanted);
    ask.thinking = thoughts.thinking;
    let (out, is_kept) = common(&mut fields, &mut ask, Route::Generate, limits)?;
    fields.finish()?;
    let is_empty = prompt.is_empty() && suffix.is_empty();
    Ok(wanted(ask, out, is_kept, is_empty))
}

/// Whether the model is to stay after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

fn wanted(ask: Ask, out: Out, kept: Kept, is_empty: bool) -> Wanted {
    let model = ask.model.clone();
    match kept {
        _ if !is_empty => Wanted::Answer(Box::new(ask), out),
        Kept::Yes => Wanted::Load { model, out },
        Kept::No => Wanted::Unload { model, out },
    }
}

/// What both routes read.
fn common(
    fields: &mut Fields<'_>,
    ask: &mut Ask,
    route: Route,
    limits: &Limits,
) -> Result<(Out, Kept), Fault> {
    ask.verify = verify::take(fields, limits)?;
    ask.form = form(fields, limits)?;
    let num_ctx = options::read(fields, ask, limits)?;
    let top = fields.count("top_logprobs", 0..=limits.likeliest)?;
    let wants_logprobs = fields.flag("logprobs")?.unwrap_or(false);
    if top.is_some_and(|top| top > 0) && !wants_logprobs {
        return Err(fields.against("top_logprobs", "only beside logprobs: true"));
    }
    ask.likeliest = wants_logprobs.then(|| top.unwrap_or(0));
    fields.flag("shift")?;
    if fields.flag("truncate")? == Some(true) {
        let why = "no prompt is cut off here: one that is too long is refused";
        return Err(fields.against("truncate", why));
    }
    let out = Out {
        stream: fields.flag("stream")?.unwrap_or(true),
        route,
        wants_logprobs,
        num_ctx,
    };
    Ok((out, keep_alive(fields)?))
}

/// `think`, true or false or a word of effort, and the spellings of chat completions.
fn thoughts(fields: &mut Fields<'_>, limits: &Limits) -> Result<Thoughts, Fault> {
    let think = fields.take("think");
    let said = think.and_then(Value::as_bool).map(|is_on| {
        let kind = if is_on { "enabled" } else { "disabled" };
        json!({ "type": kind })
    });
    if said.is_some() && fields.has("thinking") {
        return Err(fields.against("thinking", "expected think or thinking, got both"));
    }
    let own = Own {
        effort: think.filter(|_| said.is_none()).map(|word| ("think", word)),
        thinking: fields.take("thinking").cloned().or(said),
    };
    effort::take(fields, own, limits)
}

fn form(fields: &mut Fields<'_>, limits: &Limits) -> Result<Form, Fault> {
    match fields.take("format") {
        None => Ok(Form::Free),
        Some(Value::String(word)) if word.is_empty() => Ok(Form::Free),
        Some(Value::String(word)) if word == "json" => Ok(Form::JsonObject),
        Some(value @ Value::Object(_)) => schema(value, "format", limits).map(Form::JsonSchema),
        Some(other) => Err(fields.wrong("format", "\"json\" or a JSON schema", other)),
    }
}

/// Seconds, or a text such as `5m`, `-1` or `1h30m`.
fn keep_alive(fields: &mut Fields<'_>) -> Result<Kept, Fault> {
    let Some(value) = fields.take("keep_alive") else {
        return Ok(Kept::Yes);
    };
    let is_part = |byte: u8| byte.is_ascii_digit() || b"-.hmsun".contains(&byte);
    let is_nothing = match value {
        Value::Number(seconds) => seconds.as_f64() == Some(0.0),
        Value::String(text) if text.len() <= 32 && text.bytes().all(is_part) => {
            let has = |part: std::ops::RangeInclusive<u8>| text.bytes().any(|b| part.contains(&b));
            has(b'0'..=b'0') && !has(b'1'..=b'9')
        }
        _ => return Err(fields.wrong("keep_alive", "seconds, or a duration such as 5m", value)),
    };
    Ok(if is_nothing { Kept::No } else { Kept::Yes })
}

/// Refuses a list that holds anything.
fn has_none(fields: &mut Fields<'_>, name: &'static str, why: &str) -> Result<(), Fault> {
    match fields.take(name) {
        None => Ok(()),
        Some(Value::Array(items)) if items.is_empty() => Ok(()),
        Some(_) => Err(fields.against(name, why)),
    }
}

fn message(talk: &mut Conversation, value: &Value, at: &str, limits: &Limits) -> Result<(), Fault> {
    let mut fields = Fields::of(value, at)?;
    let roles = ["system", "user", "assistant", "tool"].map(|role| (role, role));
    let Some(role) = fields.word("role", &roles)? else {
        return Err(fields.missing("role"));
    };
    let text = fields.text("content", limits.body_bytes)?;
    has_none(&mut fields, "images", "no model here sees")?;
    talk.end_turn(at)?;
    match role {
        "assistant" => assistant(talk, &mut fields, text, at, limits)?,
        "tool" => {
            let text = text.ok_or_else(|| fields.missing("content"))?;
            let tool = fields.text("tool_name", NAME_BYTES)?;
            // Most clients send no ids: a result then belongs to the first call of its tool.
            let id = match fields.text("tool_call_id", NAME_BYTES)? {
                Some(id) => id.to_owned(),
                None => talk.first_waiting(tool).unwrap_or_default(),
            };
            talk.result(&id, text, at)?;
        }
        _ => {
            let text = text.ok_or_else(|| fields.missing("content"))?;
            talk.tell(role, text, at)?;
        }
    }
    fields.finish()
}

fn assistant(
    talk: &mut Conversation,
    fields: &mut Fields<'_>,
    text: Option<&str>,
    at: &str,
    limits: &Limits,
) -> Result<(), Fault> {
    if let Some(thought) = fields.text("thinking", limits.body_bytes)?
        && !thought.is_empty()
    {
        talk.think(thought, at)?;
    }
    let calls = fields.list("tool_calls", limits.tools)?.unwrap_or_default();
    match text {
        Some(text) if !text.is_empty() || calls.is_empty() => talk.say(text, at)?,
        None if calls.is_empty() => return Err(fields.missing("content")),
        _ => {}
    }
    for (index, value) in calls.iter().enumerate() {
        let here = fields::item(&fields.path("tool_calls"), index);
        let call = call(value, &here)?;
        talk.call(call, &here)?;
    }
    Ok(())
}

fn call(value: &Value, at: &str) -> Result<Call, Fault> {
    let mut fields = Fields::of(value, at)?;
    let id = fields.text("id", NAME_BYTES)?;
    fields.word("type", &[("function", ())])?;
    let Some(mut function) = fields.object("function")? else {
        return Err(fields.missing("function"));
    };
    let name = short_name(&mut function)?.to_owned();
    function.count("index", 0..=NAME_BYTES)?;
    let arguments = match function.take("arguments") {
        None => "{}".to_owned(),
        Some(arguments) if arguments.is_object() => arguments.to_string(),
        Some(other) => return Err(function.wrong("arguments", "an object", other)),
    };
    function.finish()?;
    fields.finish()?;
    Ok(Call {
        id: id.map_or_else(|| id_of_place(at), str::to_owned),
        name,
        arguments,
    })
}

/// Where the client sends no id, the place of the call tells it from all others: `call_2_0` is that
/// of `messages[2].tool_calls[0]`.
fn id_of_place(at: &str) -> String {
    let numbers = at.split(|c: char| !c.is_ascii_digit());
    let numbers = numbers.filter(|number| !number.is_empty());
    numbers.fold("call".to_owned(), |id, number| format!("{id}_{number}"))
}
