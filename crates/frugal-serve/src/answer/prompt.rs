//! From an Ask to token ids.
//!
//! A conversation goes through the model's template (`prompt/chat.rs`), which also decides how it thinks
//! (`prompt/thinking.rs`); texts and ids go as they are. Control tokens come from templates, from ids that a
//! client gives as ids, and from nothing else.
//!
//! Rendering and encoding are bounded (by the template's steps, and by the size of a body), but not
//! short: callers do this off the threads that serve connections.
//!
//! Does not do: steering, drawing, and what becomes of the ids; that is read in `speak`.

use frugal_text::Tokenizer;
use frugal_text::chat::Moment;
use frugal_text::reasoning::{Markup, Start};
use frugal_text::tools::{Count, Format, Grammar, Tool};

use self::thinking::Opened;
pub use self::thinking::{Glue, Manner};
use super::{Ask, Prompt, Thinking, ToolChoice};
use crate::models::Words;
use crate::wire::error::{Fault, Kind};

mod chat;
mod thinking;

/// An id that no vocabulary has.
pub(super) const NO_TOKEN: u32 = u32::MAX;
/// How much of a template's own words goes to clients, in bytes.
const MAX_REFUSAL_BYTES: usize = 200;

/// Control tokens for what stands between two texts: before the prefix, before the suffix, before the
/// middle. DeepSeek's, Qwen's, and those of StarCoder.
const MIDDLE: [[&str; 3]; 3] = [
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
];
/// Control tokens that end a middle beside the model's own ends, where it has them.
const MIDDLE_ENDS: [&str; 4] = [
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<|endoftext|>",
];

/// Where a prompt is made.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The model's words.
    pub words: &'a Words,
    /// Its manner, found once.
    pub manner: &'a Manner,
    /// Tokens that a sequence may have.
    pub positions: usize,
    /// The time that a template may ask for.
    pub now: Moment,
}

/// A prompt ready for the engine, and what its answers are read with.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The prompt.
    pub ids: Vec<u32>,
    /// The most tokens of each answer: those asked for, or those that fit.
    pub max_tokens: usize,
    /// Tokens that end an answer: the model's own, unless they are to be passed over, and those asked
    /// for.
    pub stop: Vec<u32>,
    /// The marks of thinking; a plain prompt is continued without any, unless thinking is asked for.
    pub markup: Markup,
    /// Where the prompt leaves off.
    pub start: Start,
    /// White space around thoughts.
    pub glue: Glue,
    /// The calls that may be read out of an answer.
    pub calls: Option<Calls>,
    /// Control tokens that must not be drawn: those that begin calls, where none may be made.
    pub forbidden: Vec<u32>,
}

/// Calls that an answer may or must have.
#[derive(Debug, Clone, PartialEq)]
pub struct Calls {
    /// How they are written.
    pub format: Format,
    /// The tools that may be called.
    pub tools: Vec<Tool>,
    /// How many calls an answer may have.
    pub count: Count,
    /// Whether it must have one.
    pub must: bool,
}

impl Calls {
    /// What calls look like. Where one must be made, the answer is this; where one may, this is what
    /// follows [`Format::openings`].
    pub fn grammar(&self) -> Grammar {
        self.format.grammar(&self.tools, self.count)
    }
}

/// Makes the prompt of a request.
///
/// # Errors
/// What the model or its template cannot do, naming the field that asks for it; more tokens than
/// there is room for.
pub fn prepare(ask: &Ask, place: &Place<'_>) -> Result<Prepared, Fault> {
    let Words { tokenizer, bos, .. } = place.words;
    let is_chat = matches!(ask.prompt, Prompt::Chat { .. });
    if !is_chat && !ask.tools.tools.is_empty() {
        return Err(Fault::field("tools", "a conversation", "a plain prompt"));
    }
    let mut prepared = match &ask.prompt {
        Prompt::Chat { .. } => chat::prepare(ask, place)?,
        Prompt::Text(text) => {
            let text = encoded(tokenizer, text, "prompt")?;
            plain(
                bos.iter().copied().chain(text).collect(),
                ask.thinking,
                place,
            )?
        }
        Prompt::Ids(ids) => {
            let in_vocabulary = tokenizer.vocab_size();
            if let Some(id) = ids.iter().find(|id| **id as usize >= in_vocabulary) {
                let expected = format!("ids of the vocabulary, below {in_vocabulary}");
                return Err(Fault::field("prompt", &expected, id));
            }
            plain(ids.clone(), ask.thinking, place)?
        }
        Prompt::Middle { prefix, suffix } => middle(ask, place, prefix, suffix)?,
    };
    if prepared.ids.is_empty() {
        return Err(Fault::field("prompt", "at least one token", "none"));
    }
    prepared.max_tokens = room(ask, place, prepared.ids.len(), is_chat)?;
    if !ask.ignores_end {
        prepared.stop.extend(&place.words.stops);
    }
    prepared.stop.extend(&ask.stop_ids);
    prepared.stop.sort_unstable();
    prepared.stop.dedup();
    Ok(prepared)
}

/// How many tokens an answer may have.
fn room(ask: &Ask, place: &Place<'_>, prompt: usize, is_chat: bool) -> Result<usize, Fault> {
    let positions = place.positions;
    let left = positions.saturating_sub(prompt);
    let fault = |asked: String| {
        let message = format!(
            "this model has room for {positions} tokens, prompt and answer together; the prompt has \
             {prompt}, {asked}"
        );
        Fault::new(Kind::ContextLength, message).at(if is_chat { "messages" } else { "prompt" })
    };
    match ask.max_tokens {
        Some(max) if max <= left && prompt <= positions => Ok(max),
        Some(max) => Err(fault(format!("the answer may have {max}"))),
        None if left > 0 => Ok(left),
        None => Err(fault("which leaves none for the answer".to_string())),
    }
}

/// A prompt that is continued as it is. All that follows is the answer, unless thinking is asked for.
fn plain(mut ids: Vec<u32>, thinking: Thinking, place: &Place<'_>) -> Result<Prepared, Fault> {
    let Words {
        tokenizer, stops, ..
    } = place.words;
    let mut prepared = Prepared {
        ids: Vec::new(),
        max_tokens: 0,
        stop: Vec::new(),
        markup: Markup::without_thinking(stops.first().copied().unwrap_or(NO_TOKEN)),
        start: Start::Answering,
        glue: place.manner.glue,
        calls: None,
        forbidden: Vec::new(),
    };
    if thinking != Thinking::Usual {
        let markup = place.words.markup.unwrap_or(prepared.markup);
        let opened = Opened::by_ids(&ids, tokenizer, &markup);
        let (more, start) = place.manner.settle(thinking, &opened, &markup)?;
        ids.extend(
            tokenizer
                .encode_segments(&more)
                .map_err(|error| refused(&error, "prompt"))?,
        );
        prepared.markup = markup;
        prepared.start = start;
    }
    prepared.ids = ids;
    Ok(prepared)
}

/// The middle between two texts.
fn middle(ask: &Ask, place: &Place<'_>, prefix: &str, suffix: &str) -> Result<Prepared, Fault> {
    let Words { tokenizer, bos, .. } = place.words;
    let marks = MIDDLE.iter().find_map(|names| {
        let [before, hole, after] = names.map(|name| tokenizer.control(name));
        Some([before?, hole?, after?])
    });
    let Some([before, hole, after]) = marks else {
        let expected = "a model with tokens for what stands between two texts";
        return Err(Fault::field("suffix", expected, "one without"));
    };
    if matches!(ask.thinking, Thinking::On { .. }) {
        let expected =
            "none with a suffix, since what stands between two texts is not thought about";
        return Err(Fault::field("thinking", expected, "some"));
    }
    let mut ids: Vec<u32> = bos.iter().copied().collect();
    ids.push(before);
    ids.extend(encoded(tokenizer, prefix, "prompt")?);
    ids.push(hole);
    ids.extend(encoded(tokenizer, suffix, "suffix")?);
    ids.push(after);
    let mut prepared = plain(ids, Thinking::Usual, place)?;
    if !ask.ignores_end {
        let ends = MIDDLE_ENDS.iter().chain(MIDDLE.iter().flatten());
        prepared.stop = ends.filter_map(|name| tokenizer.control(name)).collect();
    }
    Ok(prepared)
}

/// The tools that may be called, as they are told of and as calls of them are read.
fn allowed(ask: &Ask) -> Result<Vec<serde_json::Value>, Fault> {
    let name_of = |tool: &serde_json::Value| {
        let name = tool.pointer("/function/name");
        name.and_then(serde_json::Value::as_str).map(String::from)
    };
    let all = &ask.tools.tools;
    let names = match &ask.tools.choice {
        ToolChoice::None => return Ok(Vec::new()),
        ToolChoice::Auto | ToolChoice::Required(None) => None,
        ToolChoice::Required(Some(names)) | ToolChoice::AutoOf(names) => Some(names),
    };
    let must = matches!(ask.tools.choice, ToolChoice::Required(_));
    let Some(names) = names else {
        return if must && all.is_empty() {
            Err(Fault::field("tool_choice", "tools to choose from", "none"))
        } else {
            Ok(all.clone())
        };
    };
    if let Some(name) = names
        .iter()
        .find(|name| !all.iter().any(|tool| name_of(tool).as_ref() == Some(*name)))
    {
        let got = format!("{:?}", cut(name, 64));
        return Err(Fault::field("tool_choice", "names of tools", got));
    }
    if must && names.is_empty() {
        return Err(Fault::field("tool_choice", "tools to choose from", "none"));
    }
    let is_named =
        |tool: &&serde_json::Value| name_of(tool).is_some_and(|one| names.contains(&one));
    Ok(all.iter().filter(is_named).cloned().collect())
}

fn encoded(tokenizer: &Tokenizer, text: &str, param: &str) -> Result<Vec<u32>, Fault> {
    tokenizer
        .encode(text)
        .map_err(|error| refused(&error, param))
}

/// What a template or a tokenizer refuses, in words for clients: only what `raise_exception` says is
/// passed on.
fn refused(error: &frugal_text::Error, param: &str) -> Fault {
    use frugal_text::Error;
    let message = match error {
        Error::Refused(said) => format!(
            "{param}: the model's chat template refuses this conversation: {}",
            cut(said, MAX_REFUSAL_BYTES)
        ),
        Error::Template(_) | Error::Chat(_) => {
            format!("{param}: the model's chat template cannot write this conversation")
        }
        Error::TooLarge { what, limit, got } => {
            format!("{param}: expected at most {limit} {what}, got {got}")
        }
        Error::UnknownWord(word) => format!(
            "{param}: expected words that the model knows, got {:?}",
            cut(word, 64)
        ),
        Error::Library { .. } | Error::ControlInText(_) => {
            format!("{param}: expected text that the model's vocabulary can write")
        }
        _ => return Fault::new(Kind::Internal, "the prompt could not be made"),
    };
    Fault::new(Kind::Invalid, message).at(param)
}

/// The beginning of a text, whole characters in so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
