//! Anthropic's messages, and the count of their tokens.
//!
//! [`parse`] and [`parse_count`] read a request, `blocks` its conversation; `encode` writes the
//! answer as events or whole. Turns of the same side, one after another, are one turn; where the
//! assistant's turn is last, it is continued. A model thinks as it likes unless `thinking` or
//! `output_config.effort` says otherwise, as in DeepSeek's version of this interface; thinking as chat
//! completions spell it, and `verify`, are taken as well. What is accepted without effect is listed in
//! [`WITHOUT_EFFECT`], what of it may stand in blocks in `blocks`.

use serde_json::{Value, json};

use super::effort::{self, Own};
use super::error::Fault;
use super::fields::{self, Fields};
use super::form::schema;
use super::sampled::{MOST_TOKENS, NAME_BYTES, listed_stops, model};
use super::tools::Toolbox;
use super::{turns, unused, verify};
use crate::answer::{Ask, Form, Limits, ToolChoice, Tools};

mod blocks;
mod encode;
#[cfg(test)]
mod tests;

pub use encode::{Encoder, Event, SIGNATURE};

/// Fields of requests that change nothing here, and why.
pub const WITHOUT_EFFECT: [(&str, &str); 2] = [
    (
        "cache_control",
        "what prompts share is found by their tokens",
    ),
    ("service_tier", "there is one tier; the answer names it"),
];

/// How a message is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Out {
    /// As events, or whole.
    pub stream: bool,
    /// Fields of [`WITHOUT_EFFECT`] that the client sent, to be told in a header.
    pub unused: Vec<&'static str>,
    /// The client's stop texts: an end with one of them is another reason than an end by itself.
    pub(super) stops: Vec<String>,
    pub(super) thoughts: Thoughts,
}

/// Whether thoughts are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Thoughts {
    #[default]
    Given,
    /// Their blocks are, without text.
    Omitted,
}

/// Reads a request of `/v1/messages`.
///
/// # Errors
/// Names the field that is missing, out of range, unknown, or more than is offered.
pub fn parse(body: &Value, limits: &Limits) -> Result<(Ask, Out), Fault> {
    let mut fields = Fields::of(body, "")?;
    let (mut ask, thoughts) = asked(&mut fields, limits)?;
    let Some(most) = fields.count("max_tokens", 1..=MOST_TOKENS)? else {
        return Err(fields.missing("max_tokens"));
    };
    let budget = body.pointer("/thinking/budget_tokens");
    if let Some(budget) = budget.filter(|budget| budget.as_u64() >= Some(most as u64)) {
        let expected = format!("less than max_tokens, {most}");
        return Err(Fault::field("thinking.budget_tokens", &expected, budget));
    }
    ask.max_tokens = Some(most);
    ask.sampled.temperature = fields.number("temperature", 0.0..=1.0)?;
    ask.sampled.top_p = fields.number("top_p", 0.0..=1.0)?;
    ask.sampled.top_k = fields.count("top_k", 0..=MOST_TOKENS)?;
    ask.stop = listed_stops(&mut fields, "stop_sequences", limits)?;
    ask.user = user(&mut fields)?;
    let tiers = ["auto", "standard_only"].map(|tier| (tier, ()));
    fields.word("service_tier", &tiers)?;
    let out = Out {
        stream: fields.flag("stream")?.unwrap_or(false),
        unused: unused::sent(body, &WITHOUT_EFFECT),
        stops: ask.stop.clone(),
        thoughts,
    };
    fields.finish()?;
    Ok((ask, out))
}

/// Reads a request of `/v1/messages/count_tokens`: a request whose prompt is to be counted.
///
/// # Errors
/// As [`parse`].
pub fn parse_count(body: &Value, limits: &Limits) -> Result<Ask, Fault> {
    let mut fields = Fields::of(body, "")?;
    let (ask, _) = asked(&mut fields, limits)?;
    fields.finish()?;
    Ok(ask)
}

/// The answer of `/v1/messages/count_tokens`.
pub fn counted(tokens: usize) -> Value {
    json!({ "input_tokens": tokens })
}

/// What both routes read.
fn asked(fields: &mut Fields<'_>, limits: &Limits) -> Result<(Ask, Thoughts), Fault> {
    let model = model(fields)?;
    fields.refuse("container", "no code is run here")?;
    fields.refuse("mcp_servers", "no other server is asked")?;
    cache_control(fields)?;
    let mut own = Own::default();
    let mut form = Form::Free;
    if let Some(mut config) = fields.object("output_config")? {
        let effort = config.take("effort");
        own.effort = effort.map(|word| ("output_config.effort", word));
        form = formed(&mut config, limits)?;
        config.finish()?;
    }
    let mut shown = Thoughts::Given;
    if let Some(mut object) = fields.object("thinking")? {
        (own.thinking, shown) = thinking(&mut object)?;
        object.finish()?;
    }
    let thoughts = effort::take(fields, own, limits)?;
    let messages = blocks::conversation(fields, limits)?;
    let prompt = turns::prompt_going_on(messages, thoughts.variables);
    let mut ask = Ask::of(model, prompt);
    ask.thinking = thoughts.thinking;
    ask.form = form;
    ask.tools = tools(fields, limits)?;
    ask.verify = verify::take(fields, limits)?;
    Ok((ask, shown))
}

/// Anthropic's `thinking` as chat completions have it, and whether thoughts are shown. `adaptive`
/// says no more than nothing: the model thinks as it likes.
fn thinking(object: &mut Fields<'_>) -> Result<(Option<Value>, Thoughts), Fault> {
    let words = [("enabled", true), ("disabled", true), ("adaptive", false)];
    let says = object.word("type", &words)?;
    let says = says.ok_or_else(|| object.missing("type"))?;
    let displays = [
        ("summarized", Thoughts::Given),
        ("omitted", Thoughts::Omitted),
    ];
    let shown = object.word("display", &displays)?.unwrap_or_default();
    if !says {
        object.refuse("budget_tokens", "only where thinking is enabled")?;
        return Ok((None, shown));
    }
    let (kind, budget) = (object.take("type"), object.take("budget_tokens"));
    Ok((
        Some(json!({ "type": kind, "budget_tokens": budget })),
        shown,
    ))
}

/// Takes `cache_control`, which may stand on almost anything.
fn cache_control(fields: &mut Fields<'_>) -> Result<(), Fault> {
    let Some(mut control) = fields.object("cache_control")? else {
        return Ok(());
    };
    control.word("type", &[("ephemeral", ())])?;
    control.word("ttl", &[("5m", ()), ("1h", ())])?;
    control.finish()
}

fn formed(config: &mut Fields<'_>, limits: &Limits) -> Result<Form, Fault> {
    let Some(mut format) = config.object("format")? else {
        return Ok(Form::Free);
    };
    if format.word("type", &[("json_schema", ())])?.is_none() {
        return Err(format.missing("type"));
    }
    let Some(value) = format.take("schema") else {
        return Err(format.missing("schema"));
    };
    let schema = schema(value, &format.path("schema"), limits)?;
    format.finish()?;
    Ok(Form::JsonSchema(schema))
}

fn user(fields: &mut Fields<'_>) -> Result<Option<String>, Fault> {
    let Some(mut metadata) = fields.object("metadata")? else {
        return Ok(None);
    };
    let user = metadata.text("user_id", NAME_BYTES)?.map(str::to_owned);
    metadata.finish()?;
    Ok(user)
}

fn tools(fields: &mut Fields<'_>, limits: &Limits) -> Result<Tools, Fault> {
    let mut toolbox = Toolbox::new(limits);
    let tools = fields.list("tools", limits.tools)?.unwrap_or_default();
    for (index, tool) in tools.iter().enumerate() {
        let mut tool = Fields::of(tool, &fields::item("tools", index))?;
        tool.word("type", &[("custom", ())])?;
        if !tool.has("input_schema") {
            return Err(tool.missing("input_schema"));
        }
        toolbox.add(&mut tool, "input_schema")?;
        tool.flag("eager_input_streaming")?;
        cache_control(&mut tool)?;
        tool.finish()?;
    }
    let (choice, is_parallel) = match fields.object("tool_choice")? {
        None => (None, true),
        Some(mut object) => {
            let choice = choice(&mut object, &toolbox)?;
            let is_single = object.flag("disable_parallel_tool_use")?.unwrap_or(false);
            object.finish()?;
            (Some(choice), !is_single)
        }
    };
    toolbox.close(choice, is_parallel)
}

fn choice(object: &mut Fields<'_>, tools: &Toolbox<'_>) -> Result<ToolChoice, Fault> {
    let words = [("auto", 0), ("any", 1), ("none", 2), ("tool", 3)];
    Ok(match object.word("type", &words)? {
        None => return Err(object.missing("type")),
        Some(0) => ToolChoice::Auto,
        Some(1) => ToolChoice::Required(None),
        Some(2) => ToolChoice::None,
        Some(_) => ToolChoice::Required(Some(vec![tools.known(object)?])),
    })
}
