//! Whether a prompt opens or closes a thought.
//!
//! Templates have switches for thinking under several names; where one has none, or leaves the model
//! free where the request does not, the marks are put after what it wrote:
//!
//! | wanted | template leaves | put after it |
//! | --- | --- | --- |
//! | off | a thought opened | the end of it: an empty thought, as published models are trained with |
//! | off | the model free | an empty thought, unless the template has a switch and knows better |
//! | on | the model free | the mark that opens a thought |
//! | on | a thought closed | nothing can be done: the request is refused |
//!
//! White space around thoughts is part of the markup only where the template writes it: `<think>\n`
//! and `\n</think>\n\n` in R1's and Qwen's, nothing in V3.1's ([`Glue`]).

use frugal_text::chat::{Conversation, Ending, Moment, Template, message};
use frugal_text::reasoning::{Markup, Start};
use frugal_text::tools::Format;
use frugal_text::{Segment, Tokenizer};
use serde_json::{Map, Value, json};

use crate::answer::Thinking;
use crate::models::Words;
use crate::wire::error::Fault;

/// The names under which templates ask whether to think.
pub(super) const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// White space around thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glue {
    /// A line break after the opening mark and before the closing one, two after that.
    Lines,
    /// None.
    Bare,
}

/// What a model's template does; found once for a model by rendering short conversations.
#[derive(Debug, Clone, PartialEq)]
pub struct Manner {
    /// What it does with tools.
    pub format: Format,
    /// White space around thoughts.
    pub glue: Glue,
    /// Whether thinking can be switched in the template.
    pub has_switch: bool,
}

impl Manner {
    /// Finds out.
    pub fn of(words: &Words) -> Self {
        let Words {
            tokenizer,
            template,
            markup,
            ..
        } = words;
        let template = template.as_ref();
        let markup = markup.filter(Markup::can_think);
        let opening = |is_on: bool| template.and_then(|template| opening(template, is_on));
        let (on, off) = (opening(true), opening(false));
        let glue = markup.and_then(|markup| {
            on.iter()
                .chain(&template.and_then(remembered))
                .find_map(|segments| glue(segments, &markup))
        });
        Self {
            format: Format::of(tokenizer, template),
            glue: glue.unwrap_or(Glue::Lines),
            has_switch: on != off,
        }
    }

    /// What is put after a prompt, so that it is as wanted, and where it leaves off then.
    pub(super) fn settle(
        &self,
        wanted: Thinking,
        opened: &Opened,
        markup: &Markup,
    ) -> Result<(Vec<Segment>, Start), Fault> {
        let start = opened.start;
        let fault = |got: &str| {
            let expected = "a model that can think in this conversation";
            Fault::field("thinking", expected, got)
        };
        let nothing = Ok((Vec::new(), start));
        match (wanted, start) {
            (Thinking::Usual, _)
            | (Thinking::Off, Start::Answering)
            | (Thinking::On { .. }, Start::Thinking) => nothing,
            (Thinking::Off, _) if !markup.can_think() => nothing,
            (Thinking::On { .. }, _) if !markup.can_think() => Err(fault("one without thoughts")),
            (Thinking::On { .. }, Start::Answering) => {
                Err(fault("one whose template closes the thought"))
            }
            (Thinking::Off, Start::Fresh) if self.has_switch => nothing,
            (Thinking::Off, Start::Fresh) => {
                let mut all = self.open(markup);
                all.extend(self.close(&Opened::after(&all, markup), markup));
                Ok((all, Start::Answering))
            }
            (Thinking::Off, Start::Thinking) => Ok((self.close(opened, markup), Start::Answering)),
            (Thinking::On { .. }, Start::Fresh) => Ok((self.open(markup), Start::Thinking)),
        }
    }

    /// Opens a thought.
    pub(super) fn open(&self, markup: &Markup) -> Vec<Segment> {
        let mut all = vec![Segment::Control(markup.think)];
        if self.glue == Glue::Lines {
            all.push(Segment::Text("\n".to_string()));
        }
        all
    }

    /// Closes a thought.
    pub(super) fn close(&self, opened: &Opened, markup: &Markup) -> Vec<Segment> {
        let end = Segment::Control(markup.end_think);
        if self.glue == Glue::Bare {
            return vec![end];
        }
        // An empty thought is an empty line.
        let lines = match opened.text.as_str() {
            "" => "\n\n",
            "\n\n" => "",
            _ => "\n",
        };
        let text = |text: &str| Segment::Text(text.to_string());
        vec![text(lines), end, text("\n\n")]
    }
}

/// How a prompt leaves off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) start: Start,
    /// The text after the last control token.
    pub(super) text: String,
}

impl Opened {
    pub(super) fn after(segments: &[Segment], markup: &Markup) -> Self {
        let texts = segments.iter().rev().map_while(|segment| match segment {
            Segment::Text(text) => Some(text.as_str()),
            Segment::Control(_) => None,
        });
        let mut texts: Vec<&str> = texts.collect();
        texts.reverse();
        Self {
            start: Start::after(segments, markup),
            text: texts.concat(),
        }
    }

    /// The same of ids, whose text is decoded.
    pub(super) fn by_ids(ids: &[u32], tokenizer: &Tokenizer, markup: &Markup) -> Self {
        let control = ids.iter().rposition(|id| tokenizer.is_control(*id));
        let segments: Vec<Segment> = control
            .and_then(|at| ids.get(at))
            .map(|id| Segment::Control(*id))
            .into_iter()
            .collect();
        let rest = control.map_or(ids, |at| ids.get(at + 1..).unwrap_or_default());
        Self {
            start: Start::after(&segments, markup),
            text: tokenizer.decode(rest).unwrap_or_default(),
        }
    }
}

/// The variables of a template that say whether to think.
pub(super) fn variables(is_on: bool) -> Map<String, Value> {
    SWITCHES
        .iter()
        .map(|name| ((*name).to_string(), is_on.into()))
        .collect()
}

fn opening(template: &Template, is_on: bool) -> Option<Vec<Segment>> {
    let rendered = template.render(&Conversation {
        messages: &[message("user", "?")],
        tools: None,
        variables: &variables(is_on),
        ending: Ending::AssistantTurn,
        now: Some(Moment::from_unix_seconds(0)),
    });
    rendered.ok()
}

/// A conversation with a thought, for templates that keep them.
fn remembered(template: &Template) -> Option<Vec<Segment>> {
    let thought = json!({ "role": "assistant", "content": "b", "reasoning_content": "a" });
    let rendered = template.render(&Conversation {
        messages: &[message("user", "?"), thought],
        tools: None,
        variables: &variables(true),
        ending: Ending::AsIs,
        now: Some(Moment::from_unix_seconds(0)),
    });
    rendered.ok()
}

/// What follows the first mark that opens a thought.
fn glue(segments: &[Segment], markup: &Markup) -> Option<Glue> {
    let at = segments
        .iter()
        .position(|segment| *segment == Segment::Control(markup.think))?;
    let is_line =
        matches!(segments.get(at + 1), Some(Segment::Text(text)) if text.starts_with('\n'));
    Some(if is_line { Glue::Lines } else { Glue::Bare })
}
