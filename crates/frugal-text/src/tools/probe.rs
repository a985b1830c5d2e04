//! What a template does with tools, found by rendering short conversations.
//!
//! Names and words of the conversations are unlikely to be a template's own. A conversation that a
//! template refuses tells that it cannot have it.

use serde_json::{Map, Value, json};

use super::{Arguments, OPEN, Style};
use crate::chat::{Conversation, Ending, Moment, Template, message};
use crate::tokenizer::{Segment, Tokenizer};

const NAME: &str = "frugal_probe";
const RAW: &str = r#"{"key": "frugal"}"#;
const WORDS: &str = "beside calls";
const RESULT: &str = "the probe's result";

/// What was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) style: Style,
    pub(super) arguments: Arguments,
    pub(super) has_text_beside: bool,
}

/// How a template writes calls; nothing if it declares no tools, or writes them in a way unknown
/// here.
pub(super) fn calls(template: &Template, tokenizer: &Tokenizer) -> Option<Found> {
    let user = message("user", "?");
    let declared = render(template, std::slice::from_ref(&user), Ending::AssistantTurn)?;
    let is_declared = declared
        .iter()
        .any(|segment| matches!(segment, Segment::Text(text) if text.contains(NAME)));
    if !is_declared {
        return None;
    }
    let written = |arguments: Arguments, content: &Value| {
        let conversation = [
            user.clone(),
            call(arguments, content),
            json!({ "role": "tool", "tool_call_id": "call_0", "name": NAME, "content": RESULT }),
        ];
        let segments = render(template, &conversation, Ending::AsIs)?;
        let has = |what: &str| {
            segments
                .iter()
                .any(|segment| matches!(segment, Segment::Text(text) if text.contains(what)))
        };
        (has(RAW) && has(RESULT)).then(|| (has(WORDS), segments.clone()))
    };
    // The text is preferred: it comes back to the model to the letter.
    let (arguments, (_, segments)) = [Arguments::Text, Arguments::Object]
        .into_iter()
        .find_map(|arguments| Some((arguments, written(arguments, &Value::Null)?)))?;
    let has_text_beside = written(arguments, &WORDS.into()).is_some_and(|(has_words, _)| has_words);
    Some(Found {
        style: style(&segments, tokenizer)?,
        arguments,
        has_text_beside,
    })
}

/// Whether a conversation may begin with a system message.
pub(super) fn takes_system(template: &Template) -> bool {
    let conversation = [message("system", WORDS), message("user", "?")];
    let segments = render_plain(template, &conversation, Ending::AssistantTurn, None);
    segments.is_some_and(|segments| {
        segments
            .iter()
            .any(|segment| matches!(segment, Segment::Text(text) if text.contains(WORDS)))
    })
}

fn call(arguments: Arguments, content: &Value) -> Value {
    let arguments = match arguments {
        Arguments::Text => json!(RAW),
        Arguments::Object => json!({ "key": "frugal" }),
    };
    json!({
        "role": "assistant",
        "content": content,
        "tool_calls": [{
            "id": "call_0",
            "type": "function",
            "function": { "name": NAME, "arguments": arguments },
        }],
    })
}

fn render(template: &Template, messages: &[Value], ending: Ending) -> Option<Vec<Segment>> {
    let tools = json!([{
        "type": "function",
        "function": {
            "name": NAME,
            "description": "looks up",
            "parameters": {
                "type": "object",
                "properties": { "key": { "type": "string", "description": "what" } },
                "required": ["key"],
            },
        },
    }]);
    render_plain(template, messages, ending, Some(&tools))
}

fn render_plain(
    template: &Template,
    messages: &[Value],
    ending: Ending,
    tools: Option<&Value>,
) -> Option<Vec<Segment>> {
    let rendered = template.render(&Conversation {
        messages,
        tools,
        variables: &Map::new(),
        ending,
        now: Some(Moment::from_unix_seconds(0)),
    });
    rendered.ok()
}

/// Tells the style of a call by what stands around it.
fn style(segments: &[Segment], tokenizer: &Tokenizer) -> Option<Style> {
    let is = |id: &u32, name: &str| tokenizer.control(name) == Some(*id);
    let before_separator = segments.windows(2).find_map(|pair| match pair {
        [Segment::Text(text), Segment::Control(id)] if is(id, "<｜tool▁sep｜>") => Some(text),
        _ => None,
    });
    match before_separator.map(String::as_str) {
        Some("function") => return Some(Style::DeepseekV3),
        Some(NAME) => return Some(Style::DeepseekV31),
        Some(_) => return None,
        None => {}
    }
    let hermes = format!(r#"{{"name": "{NAME}", "arguments": {RAW}}}"#);
    let llama = format!(r#"{{"name": "{NAME}", "parameters": {RAW}}}"#);
    for (at, segment) in segments.iter().enumerate() {
        let Segment::Text(text) = segment else {
            continue;
        };
        if let Some((before, _)) = text.split_once(&hermes) {
            let is_spelled = before.trim_end().ends_with(OPEN);
            let control = at.checked_sub(1).and_then(|at| segments.get(at));
            let is_marked = before.trim().is_empty()
                && matches!(control, Some(Segment::Control(id)) if is(id, OPEN));
            return (is_spelled || is_marked).then_some(Style::Hermes);
        }
        if text.starts_with(&llama) || text.trim_start().starts_with(&llama) {
            return Some(Style::Llama);
        }
    }
    None
}
