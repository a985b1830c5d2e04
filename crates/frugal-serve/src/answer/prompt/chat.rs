//! Conversations.

use frugal_text::Segment;
use frugal_text::chat::{Conversation, Ending, RESERVED, Template};
use frugal_text::reasoning::{Markup, Start};
use frugal_text::tools::{Count, Tool};
use frugal_text::word_level::{END_THINK, THINK};
use serde_json::{Map, Value};

use super::thinking::{self, Opened, SWITCHES};
use super::{Calls, NO_TOKEN, Place, Prepared, allowed, refused};
use crate::answer::{Ask, Prompt, Thinking, ToolChoice};
use crate::wire::error::{Fault, Kind};

/// Characters for private use, of which one that a conversation lacks marks a place in it. Not those
/// that templates are rendered with.
const PRIVATE: std::ops::RangeInclusive<char> = '\u{100000}'..='\u{10FFFD}';

/// How the conversation is rendered, and what it is rendered with.
struct Scene<'a> {
    place: &'a Place<'a>,
    template: &'a Template,
    markup: Markup,
    thinking: Thinking,
    messages: Vec<Value>,
    tools: Option<Value>,
    variables: Map<String, Value>,
}

/// Makes the prompt of a conversation.
pub(super) fn prepare(ask: &Ask, place: &Place<'_>) -> Result<Prepared, Fault> {
    let Prompt::Chat {
        messages,
        variables,
        continues_last,
        opens_turn,
    } = &ask.prompt
    else {
        return Err(Fault::new(Kind::Internal, "expected a conversation"));
    };
    let Some(template) = &place.words.template else {
        let expected = "a model with a chat template";
        return Err(Fault::field(
            "messages",
            expected,
            "one that continues plain text",
        ));
    };
    if *continues_last {
        check_last(messages)?;
    }
    let format = &place.manner.format;
    let told = allowed(ask)?;
    let count = if ask.tools.is_parallel {
        Count::Many
    } else {
        Count::One
    };
    let mut messages = history(place, messages)?;
    let is_theirs = format.is_declared_by_template();
    if !told.is_empty() && !is_theirs {
        format.declare(&mut messages, &told, count);
    }
    let mut scene = Scene {
        place,
        template,
        markup: markup(place),
        thinking: ask.thinking,
        messages,
        tools: (is_theirs && !told.is_empty()).then(|| told.clone().into()),
        variables: switched(variables, ask.thinking)?,
    };
    let (segments, start) = if *continues_last {
        scene.continued()?
    } else {
        scene.opened(*opens_turn)?
    };
    let ids = place
        .words
        .tokenizer
        .encode_segments(&segments)
        .map_err(|error| refused(&error, "messages"))?;
    let tools: Vec<Tool> = told.iter().filter_map(Tool::from_openai).collect();
    // Without tools at all the model is as free as ever.
    let forbidden = match ask.tools.choice {
        ToolChoice::None => format.openings(),
        _ => Vec::new(),
    };
    let calls = (!tools.is_empty()).then(|| Calls {
        format: format.clone(),
        tools,
        count,
        must: matches!(ask.tools.choice, ToolChoice::Required(_)),
    });
    Ok(Prepared {
        ids,
        max_tokens: 0,
        stop: Vec::new(),
        markup: scene.markup,
        start,
        glue: place.manner.glue,
        calls,
        forbidden,
    })
}

fn markup(place: &Place<'_>) -> Markup {
    let eos = place.words.stops.first().copied().unwrap_or(NO_TOKEN);
    place
        .words
        .markup
        .unwrap_or_else(|| Markup::without_thinking(eos))
}

/// Checks that the last message can be continued.
fn check_last(messages: &[Value]) -> Result<(), Fault> {
    let last = messages.last();
    let has_calls = |last: &Value| {
        let calls = last.get("tool_calls").and_then(Value::as_array);
        calls.is_some_and(|calls| !calls.is_empty())
    };
    match last
        .and_then(|last| last.get("role"))
        .and_then(Value::as_str)
    {
        None => Err(not_continued("no message")),
        Some("assistant") if last.is_some_and(has_calls) => Err(not_continued("tool_calls")),
        Some("assistant") => Ok(()),
        Some(_) => Err(not_continued("a message of somebody else")),
    }
}

fn not_continued(got: &str) -> Fault {
    let expected = "an assistant's text to continue as the last message";
    Fault::field("messages", expected, got)
}

/// Messages as the template takes them. What roles are called there is older than what the API calls
/// them.
fn history(place: &Place<'_>, messages: &[Value]) -> Result<Vec<Value>, Fault> {
    let mut messages = messages.to_vec();
    for message in &mut messages {
        let renamed = match message.get("role").and_then(Value::as_str) {
            Some("developer") => "system",
            Some("function") => "tool",
            Some(_) => continue,
            None => {
                return Err(Fault::field(
                    "messages",
                    "messages with a role",
                    "one without",
                ));
            }
        };
        if let Some(role) = message.get_mut("role") {
            *role = renamed.into();
        }
    }
    place.manner.format.history(&messages).map_err(|bad| {
        let param = format!(
            "messages[{}].tool_calls[{}].function.arguments",
            bad.message, bad.call
        );
        Fault::field(&param, "the text of a JSON object", "something else")
    })
}

/// The client's variables, and those that follow from thinking.
fn switched(given: &Map<String, Value>, thinking: Thinking) -> Result<Map<String, Value>, Fault> {
    let param = "chat_template_kwargs";
    if let Some(name) = RESERVED.iter().find(|name| given.contains_key(**name)) {
        return Err(Fault::field(param, "variables of the template's own", name));
    }
    let mut all = given.clone();
    let is_on = match thinking {
        Thinking::Usual => return Ok(all),
        Thinking::Off => false,
        Thinking::On { .. } => true,
    };
    if let Some(name) = SWITCHES
        .iter()
        .find(|name| given.get(**name).is_some_and(|value| *value != is_on))
    {
        let expected = format!("{name} as the rest of the request has it");
        return Err(Fault::field(param, &expected, "the opposite"));
    }
    all.extend(thinking::variables(is_on));
    Ok(all)
}

impl Scene<'_> {
    fn render(&self, ending: Ending) -> Result<Vec<Segment>, Fault> {
        let conversation = Conversation {
            messages: &self.messages,
            tools: self.tools.as_ref(),
            variables: &self.variables,
            ending,
            now: Some(self.place.now),
        };
        let rendered = self.template.render(&conversation);
        rendered.map_err(|error| refused(&error, "messages"))
    }

    /// The conversation, with the assistant's turn opened or not.
    fn opened(&self, opens_turn: bool) -> Result<(Vec<Segment>, Start), Fault> {
        if !opens_turn {
            let segments = self.render(Ending::AsIs)?;
            let start = Start::after(&segments, &self.markup);
            return Ok((segments, start));
        }
        let mut segments = self.render(Ending::AssistantTurn)?;
        let opened = Opened::after(&segments, &self.markup);
        let manner = self.place.manner;
        let (more, start) = manner.settle(self.thinking, &opened, &self.markup)?;
        segments.extend(more);
        Ok((segments, start))
    }

    /// The conversation up to the end of what the assistant said last.
    ///
    /// The template writes the turn with a character in place of that text, and is cut there: so the
    /// text comes to its end as the client wrote it, and nothing follows. A thought given with it is
    /// put before it, in place of one that the template writes; without a text after it, the thought
    /// itself is continued. A text that is continued is an answer: whether to think is decided.
    fn continued(&mut self) -> Result<(Vec<Segment>, Start), Fault> {
        let (thought, text) = self.last_said()?;
        let mut head = self.head()?;
        let manner = self.place.manner;
        let has_thought = thought.is_some();
        if let Some(thought) = thought {
            drop_thought(&mut head, &self.markup);
            head.extend(manner.open(&self.markup));
            head.push(Segment::Text(thought));
        }
        let opened = Opened::after(&head, &self.markup);
        if text.is_empty() {
            let (more, start) = manner.settle(self.thinking, &opened, &self.markup)?;
            head.extend(more);
            return Ok((head, start));
        }
        if has_thought {
            head.extend(manner.close(&opened, &self.markup));
        }
        head.push(Segment::Text(text));
        Ok((head, Start::Answering))
    }

    /// Takes the thought, if any, and the text out of the last message.
    fn last_said(&mut self) -> Result<(Option<String>, String), Fault> {
        let Some(Value::Object(last)) = self.messages.last_mut() else {
            return Err(not_continued("no message"));
        };
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let thought = text(last.shift_remove("reasoning_content"));
        let content = text(last.shift_remove("content"));
        if !self.markup.can_think() {
            return if thought.is_empty() {
                Ok((None, content))
            } else {
                Err(not_continued(
                    "one with thoughts, which this model has none of",
                ))
            };
        }
        if !thought.is_empty() {
            return Ok((Some(thought), content));
        }
        // A thought may also stand at the beginning of the text, as models write it.
        let bare = content.trim_start();
        match (bare.strip_prefix(THINK), content.split_once(END_THINK)) {
            (_, Some((thought, text))) => {
                let thought = thought.trim_start();
                let thought = thought.strip_prefix(THINK).unwrap_or(thought);
                let thought = thought.trim_matches('\n').to_string();
                Ok((Some(thought), text.trim_start_matches('\n').to_string()))
            }
            (Some(thought), None) => {
                let thought = thought.trim_start_matches('\n').to_string();
                Ok((Some(thought), String::new()))
            }
            (None, None) => Ok((None, content)),
        }
    }

    /// What the template writes up to the text of the last message.
    fn head(&mut self) -> Result<Vec<Segment>, Fault> {
        let fault = || {
            let message = "messages: the model's chat template cannot continue an answer";
            Fault::new(Kind::Invalid, message).at("messages")
        };
        let everything = Value::from(self.messages.clone()).to_string();
        let mut free = PRIVATE.filter(|c| !everything.contains(*c));
        let here = free.next().ok_or_else(fault)?;
        if let Some(Value::Object(last)) = self.messages.last_mut() {
            last.insert("content".into(), here.to_string().into());
        }
        let mut segments = self.render(Ending::AsIs)?;
        while let Some(segment) = segments.pop() {
            if let Segment::Text(text) = segment
                && let Some((before, _)) = text.rsplit_once(here)
            {
                segments.push(Segment::Text(before.to_string()));
                return Ok(segments);
            }
        }
        Err(fault())
    }
}

/// Takes the thought, or the end of one, away that a template writes before a text.
fn drop_thought(head: &mut Vec<Segment>, markup: &Markup) {
    let is_blank =
        |segment: &Segment| matches!(segment, Segment::Text(text) if text.trim().is_empty());
    let last = head.iter().rposition(|segment| !is_blank(segment));
    let Some(end) = last.filter(|at| head.get(*at) == Some(&Segment::Control(markup.end_think)))
    else {
        return;
    };
    let before = head.get(..end).unwrap_or_default();
    let opening = before.iter().rposition(|segment| !is_blank(segment));
    let opening = opening.filter(|at| before.get(*at) == Some(&Segment::Control(markup.think)));
    head.truncate(opening.unwrap_or(end));
}
