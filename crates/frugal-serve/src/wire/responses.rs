//! OpenAI's responses, without a memory: each request brings its whole conversation.
//!
//! [`parse`] reads a request, `items` its input; `encode` writes the answer as events or whole.
//! What only a server with a memory can do (`previous_response_id`, `conversation`, `background`,
//! `store: true`, prompts and files kept there) is refused by name.
//!
//! Thinking as chat completions spell it, and `verify`, are taken as well. What is accepted without
//! effect is listed in [`WITHOUT_EFFECT`], what of it may stand in items in `items`.

use serde_json::{Map, Value, json};

use super::effort::{self, Own};
use super::error::Fault;
use super::fields::{self, Fields};
use super::form::named_schema;
use super::sampled::{MOST_TOKENS, NAME_BYTES, model};
use super::thinking::Thoughts;
use super::tools::{Toolbox, is_function};
use super::{turns, unused, verify};
use crate::answer::{Ask, Form, Limits, ToolChoice, Tools};

mod encode;
mod items;
#[cfg(test)]
mod tests;

use super::head::Head;
pub use encode::{Encoder, Event};

/// Fields of requests that change nothing here, and why.
pub const WITHOUT_EFFECT: [(&str, &str); 11] = [
    (
        "metadata",
        "repeated in the answer, and nothing else: nothing is stored",
    ),
    (
        "prompt_cache_key",
        "what prompts share is found by their tokens",
    ),
    unused::CACHE_RETENTION,
    ("reasoning.generate_summary", "the thought itself is given"),
    ("reasoning.summary", "the thought itself is given"),
    ("safety_identifier", "nobody is reported to anybody"),
    ("service_tier", "there is one tier; the answer names it"),
    unused::OBFUSCATION,
    (
        "text.format.description",
        "what a schema says holds without more words",
    ),
    ("text.format.strict", "a schema always holds"),
    (
        "text.verbosity",
        "no model here has learnt it; say it in words",
    ),
];

/// How a response is written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Out {
    /// As events, or whole.
    pub stream: bool,
    /// Fields of [`WITHOUT_EFFECT`] that the client sent, to be told in a header.
    pub unused: Vec<&'static str>,
    /// With log-probabilities.
    pub(super) wants_logprobs: bool,
    /// What the response repeats of the request, defaults included.
    pub(super) echoed: Map<String, Value>,
}

/// Reads a request.
///
/// # Errors
/// Names the field that is missing, out of range, unknown, or more than is offered.
pub fn parse(body: &Value, limits: &Limits) -> Result<(Ask, Out), Fault> {
    let mut fields = Fields::of(body, "")?;
    let model = model(&mut fields)?;
    has_no_memory(&mut fields)?;
    let thoughts = thoughts(&mut fields, limits)?;
    let messages = items::conversation(&mut fields, limits)?;
    let mut ask = Ask::of(model, turns::prompt(messages, thoughts.variables));
    ask.thinking = thoughts.thinking;
    ask.max_tokens = fields.count("max_output_tokens", 1..=MOST_TOKENS)?;
    ask.sampled.temperature = fields.number("temperature", 0.0..=2.0)?;
    ask.sampled.top_p = fields.number("top_p", 0.0..=1.0)?;
    ask.likeliest = likeliest(&mut fields, limits)?;
    ask.form = form(&mut fields, limits)?;
    ask.tools = tools(&mut fields, limits)?;
    ask.verify = verify::take(&mut fields, limits)?;
    let user = fields.text("user", NAME_BYTES)?;
    ask.user = user.filter(|user| !user.is_empty()).map(str::to_owned);
    let stream = fields.flag("stream")?.unwrap_or(false);
    if let Some(mut options) = fields.object("stream_options")? {
        if !stream {
            return Err(fields.against("stream_options", "only together with stream: true"));
        }
        options.flag("include_obfuscation")?;
        options.finish()?;
    }
    unused::of_openai(&mut fields)?;
    fields.finish()?;
    let out = Out {
        stream,
        unused: unused::sent(body, &WITHOUT_EFFECT),
        wants_logprobs: ask.likeliest.is_some(),
        echoed: echoed(body),
    };
    Ok((ask, out))
}

fn has_no_memory(fields: &mut Fields<'_>) -> Result<(), Fault> {
    let kept = "nothing is stored here: send the whole conversation in input";
    fields.refuse("previous_response_id", kept)?;
    fields.refuse("conversation", kept)?;
    fields.refuse("prompt", "no prompts are stored here: write it into input")?;
    fields.refuse("max_tool_calls", "no tool is called by the server itself")?;
    if fields.flag("background")? == Some(true) {
        return Err(fields.against("background", "answers are not stored: wait for them"));
    }
    if fields.flag("store")? == Some(true) {
        return Err(fields.against("store", "nothing is stored here: leave it out, or false"));
    }
    fields.word("truncation", &[("disabled", ())])?;
    Ok(())
}

fn likeliest(fields: &mut Fields<'_>, limits: &Limits) -> Result<Option<usize>, Fault> {
    let top = fields.count("top_logprobs", 0..=limits.likeliest)?;
    let mut wanted = top.is_some_and(|top| top > 0);
    let known = [
        ("message.output_text.logprobs", true),
        ("reasoning.encrypted_content", false),
    ];
    for (index, value) in fields
        .list("include", 16)?
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let Some((_, logprobs)) = known.iter().find(|(word, _)| Some(*word) == value.as_str())
        else {
            let at = fields::item("include", index);
            let words = fields::one_of(known.iter().map(|(word, _)| *word));
            return Err(Fault::field(&at, &words, fields::shown(value)));
        };
        wanted |= logprobs;
    }
    Ok(wanted.then(|| top.unwrap_or(0)))
}

/// `reasoning`, and the spellings of chat completions.
fn thoughts(fields: &mut Fields<'_>, limits: &Limits) -> Result<Thoughts, Fault> {
    let mut own = Own {
        thinking: fields.take("thinking").cloned(),
        effort: None,
    };
    if let Some(mut reasoning) = fields.object("reasoning")? {
        let effort = reasoning.take("effort");
        own.effort = effort.map(|word| ("reasoning.effort", word));
        let summaries = ["auto", "concise", "detailed"].map(|kind| (kind, ()));
        reasoning.word("summary", &summaries)?;
        reasoning.word("generate_summary", &summaries)?;
        reasoning.finish()?;
    }
    effort::take(fields, own, limits)
}

fn form(fields: &mut Fields<'_>, limits: &Limits) -> Result<Form, Fault> {
    let Some(mut text) = fields.object("text")? else {
        return Ok(Form::Free);
    };
    text.word("verbosity", &unused::VERBOSITIES)?;
    let form = match text.object("format")? {
        None => Form::Free,
        Some(mut format) => {
            let form = formatted(&mut format, limits)?;
            format.finish()?;
            form
        }
    };
    text.finish()?;
    Ok(form)
}

fn formatted(format: &mut Fields<'_>, limits: &Limits) -> Result<Form, Fault> {
    let words = ["text", "json_object", "json_schema"];
    match format.text("type", NAME_BYTES)? {
        Some("text") => Ok(Form::Free),
        Some("json_object") => Ok(Form::JsonObject),
        Some("json_schema") => {
            if !format.has("schema") {
                return Err(format.missing("schema"));
            }
            named_schema(format, limits)
        }
        Some(other) => Err(format.wrong("type", &fields::one_of(words.into_iter()), &other.into())),
        None => Err(format.missing("type")),
    }
}

fn tools(fields: &mut Fields<'_>, limits: &Limits) -> Result<Tools, Fault> {
    let mut toolbox = Toolbox::new(limits);
    let tools = fields.list("tools", limits.tools)?.unwrap_or_default();
    for (index, tool) in tools.iter().enumerate() {
        let mut tool = Fields::of(tool, &fields::item("tools", index))?;
        is_function(&mut tool)?;
        toolbox.add(&mut tool, "parameters")?;
        tool.finish()?;
    }
    let choice = match fields.take("tool_choice") {
        None => None,
        Some(value) => Some(choice(value, &toolbox, limits)?),
    };
    let is_parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    toolbox.close(choice, is_parallel)
}

fn choice(value: &Value, tools: &Toolbox<'_>, limits: &Limits) -> Result<ToolChoice, Fault> {
    const AT: &str = "tool_choice";
    match value.as_str() {
        Some("auto") => return Ok(ToolChoice::Auto),
        Some("none") => return Ok(ToolChoice::None),
        Some("required") => return Ok(ToolChoice::Required(None)),
        Some(_) => {
            let expected = "auto, none, required, or an object";
            return Err(Fault::field(AT, expected, fields::shown(value)));
        }
        None => {}
    }
    let mut object = Fields::of(value, AT)?;
    let kinds = [("function", false), ("allowed_tools", true)];
    let choice = match object.word("type", &kinds)? {
        None => return Err(object.missing("type")),
        Some(false) => ToolChoice::Required(Some(vec![tools.known(&mut object)?])),
        Some(true) => {
            let modes = [("auto", false), ("required", true)];
            let Some(must) = object.word("mode", &modes)? else {
                return Err(object.missing("mode"));
            };
            let mut names = Vec::new();
            let listed = object.list("tools", limits.tools)?.unwrap_or_default();
            for (index, tool) in listed.iter().enumerate() {
                let at = fields::item(&object.path("tools"), index);
                let mut tool = Fields::of(tool, &at)?;
                is_function(&mut tool)?;
                names.push(tools.known(&mut tool)?);
                tool.finish()?;
            }
            if names.is_empty() {
                return Err(object.against("tools", "expected at least one tool, got none"));
            }
            if must {
                ToolChoice::Required(Some(names))
            } else {
                ToolChoice::AutoOf(names)
            }
        }
    };
    object.finish()?;
    Ok(choice)
}

/// What a response repeats of its request, with what holds where the request says nothing.
fn echoed(body: &Value) -> Map<String, Value> {
    let null = Value::Null;
    let defaults = [
        ("instructions", null.clone()),
        ("max_output_tokens", null.clone()),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("prompt_cache_key", null.clone()),
        ("reasoning", json!({ "effort": null, "summary": null })),
        ("safety_identifier", null.clone()),
        ("temperature", null.clone()),
        ("text", json!({ "format": { "type": "text" } })),
        ("tool_choice", "auto".into()),
        ("tools", json!([])),
        ("top_logprobs", 0.into()),
        ("top_p", null),
    ];
    let echoed = defaults.into_iter().map(|(name, default)| {
        let given = body.get(name).filter(|value| !value.is_null());
        (name.to_owned(), given.cloned().unwrap_or(default))
    });
    let mut echoed: Map<String, Value> = echoed.collect();
    // The official description takes no null for it.
    if let Some(user) = body.get("user").filter(|user| !user.is_null()) {
        echoed.insert("user".into(), user.clone());
    }
    // Clients count on these keys, given or not.
    let tools = echoed.get_mut("tools").and_then(Value::as_array_mut);
    let tools = tools.into_iter().flatten();
    for tool in tools.filter_map(Value::as_object_mut) {
        for name in ["description", "parameters", "strict"] {
            tool.entry(name).or_insert(Value::Null);
        }
    }
    echoed
}
