//! Calls of tools: how models are told of tools, how they write calls, and reading calls as they come.
//!
//! Families write calls each in their own way ([`Style`]). Which way a model has is found by trying
//! its template ([`Format::of`]): what the template makes of a call in a conversation is what the
//! model was taught to write. A model whose template declares no tools, or whose calls are written in
//! a way we cannot read, is told of the tools in a system message of ours, and asked for calls in the
//! form of Hermes, as text.
//!
//! Reading follows the law of this crate: where a mark is a control token of the vocabulary, the id
//! is the mark and its spelling is text. Only [`Style::Plain`], and Hermes on a vocabulary without
//! such tokens, read marks that are spelled.
//!
//! Does not do: drawing tokens by a [`Grammar`], running tools. Read next: `tools/parser.rs` for
//! reading, `tools/history.rs` for conversations with calls in them, `tools/probe.rs` for the trying.

mod body;
mod grammar;
mod history;
mod parser;
mod probe;

use std::collections::BTreeMap;

pub use self::grammar::{Count, Grammar, Piece, Tool};
pub use self::history::BadArguments;
pub use self::parser::{Event, Heard, Parser};
use crate::chat::Template;
use crate::tokenizer::Tokenizer;

/// Opens a call in the form of Hermes.
const OPEN: &str = "<tool_call>";
/// Closes it.
const CLOSE: &str = "</tool_call>";

/// How calls are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// DeepSeek V3 and R1: between control tokens, the arguments in a fence of Markdown.
    DeepseekV3,
    /// DeepSeek V3.1: between control tokens, the arguments as they are.
    DeepseekV31,
    /// Hermes and Qwen: a JSON object between `<tool_call>` and `</tool_call>`.
    Hermes,
    /// Llama 3: the whole answer is a JSON object.
    Llama,
    /// As Hermes, spelled as text, because a system message of ours asks for it.
    Plain,
}

/// What a control token does in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// `<｜tool▁calls▁begin｜>`.
    CallsBegin,
    /// `<｜tool▁calls▁end｜>`.
    CallsEnd,
    /// `<｜tool▁call▁begin｜>`.
    CallBegin,
    /// `<｜tool▁call▁end｜>`.
    CallEnd,
    /// `<｜tool▁sep｜>`.
    Separator,
    /// `<tool_call>`.
    Open,
    /// `</tool_call>`.
    Close,
    /// `<|python_tag|>`.
    Python,
}

const DEEPSEEK: [(&str, Mark); 5] = [
    ("<｜tool▁calls▁begin｜>", Mark::CallsBegin),
    ("<｜tool▁calls▁end｜>", Mark::CallsEnd),
    ("<｜tool▁call▁begin｜>", Mark::CallBegin),
    ("<｜tool▁call▁end｜>", Mark::CallEnd),
    ("<｜tool▁sep｜>", Mark::Separator),
];
const HERMES: [(&str, Mark); 2] = [(OPEN, Mark::Open), (CLOSE, Mark::Close)];
const LLAMA: [(&str, Mark); 1] = [("<|python_tag|>", Mark::Python)];

/// How arguments stand in a message that a template is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arguments {
    /// As the text of a JSON object.
    Text,
    /// As a JSON object.
    Object,
}

/// What one model does with tools; found once for a model, and cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    style: Style,
    arguments: Arguments,
    /// Whether a message may hold both text and calls.
    has_text_beside: bool,
    /// Whether conversations may begin with a system message.
    has_system: bool,
    marks: BTreeMap<u32, Mark>,
}

impl Format {
    /// Finds out by rendering short conversations.
    pub fn of(tokenizer: &Tokenizer, template: Option<&Template>) -> Self {
        let found = template.and_then(|template| probe::calls(template, tokenizer));
        let has_system = template.is_none_or(probe::takes_system);
        let (style, arguments, has_text_beside) = found
            .map_or((Style::Plain, Arguments::Text, true), |found| {
                (found.style, found.arguments, found.has_text_beside)
            });
        Self {
            style,
            arguments,
            has_text_beside,
            has_system,
            marks: marks(style, tokenizer),
        }
    }

    /// How calls are written.
    pub const fn style(&self) -> Style {
        self.style
    }

    /// The control tokens that a call may begin with: forbidding them forbids calls, except where
    /// calls are spelled as text.
    pub fn openings(&self) -> Vec<u32> {
        let opens = |mark: &Mark| {
            matches!(
                mark,
                Mark::CallsBegin | Mark::CallBegin | Mark::Open | Mark::Python
            )
        };
        let opening = self.marks.iter().filter(|(_, mark)| opens(mark));
        opening.map(|(id, _)| *id).collect()
    }

    /// Reads an answer in which tools of these names may be called.
    pub fn parser(&self, names: &[String]) -> Parser {
        Parser::new(self, names)
    }

    /// Whether `<tool_call>` is a mark where it is spelled.
    fn is_spelled(&self) -> bool {
        let has_token = || self.marks.values().any(|mark| *mark == Mark::Open);
        match self.style {
            Style::Plain => true,
            Style::Hermes => !has_token(),
            Style::DeepseekV3 | Style::DeepseekV31 | Style::Llama => false,
        }
    }
}

/// The marks of a style that are control tokens. A model that is told to write calls as text may
/// still write them as it was taught, so with [`Style::Plain`] all that the vocabulary has count.
fn marks(style: Style, tokenizer: &Tokenizer) -> BTreeMap<u32, Mark> {
    let all = DEEPSEEK.into_iter().chain(HERMES).chain(LLAMA);
    all.filter(|(_, mark)| match mark {
        Mark::Open | Mark::Close => matches!(style, Style::Hermes | Style::Plain),
        Mark::Python => style == Style::Llama,
        _ => matches!(style, Style::DeepseekV3 | Style::DeepseekV31 | Style::Plain),
    })
    .filter_map(|(name, mark)| Some((tokenizer.control(name)?, mark)))
    .collect()
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
