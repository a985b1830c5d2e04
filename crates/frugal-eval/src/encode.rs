//! Trusted generator text to token ids and back: in the words of a task's own tokenizer, or in the
//! chat form of a published one.
//!
//! Questions, thoughts and facts are made by this crate's generators, which spell control tokens
//! as words; here, and only here, those become control ids. Text from outside must go through
//! [`crate::task::Task::parse`] first, which leaves nothing but a question.

use std::collections::HashMap;

use frugal_text::chat::{Conversation, Ending, Template, message};
use frugal_text::reasoning::{self, Markup, Parts, Start};
use frugal_text::word_level::{BOS, CONTROL, END_THINK, EOS, THINK, tokenizer_json};
use frugal_text::{Segment, Tokenizer};

use crate::corpus::Line;
use crate::task::{Problem, Task};

/// What can go wrong between words and ids.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The tokenizer could not be made, or lacks a control token.
    #[error(transparent)]
    Tokenizer(#[from] frugal_text::Error),
    /// A word that is not of the vocabulary.
    #[error("expected words of the vocabulary, got {0:?}")]
    UnknownWord(String),
    /// An id that is not of the vocabulary.
    #[error("expected ids below {vocab_size}, got {id}")]
    UnknownId {
        /// The id.
        id: u32,
        /// The number of ids.
        vocab_size: usize,
    },
}

/// Whether a tokenizer is that of a task's own words, as a run's own models have it.
pub fn is_of_task(tokenizer: &Tokenizer, task: &dyn Task) -> bool {
    let control = CONTROL.iter().map(|name| (*name).to_owned());
    let names: Vec<String> = control.chain(task.words()).collect();
    tokenizer.vocab_size() == names.len()
        && (0..)
            .zip(&names)
            .all(|(id, name)| tokenizer.token_name(id).as_ref() == Some(name))
}

/// A line as ids, from `<bos>` to `<eos>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedLine {
    /// All ids.
    pub ids: Vec<u32>,
    /// How many of them are the prompt, `<bos>` included.
    pub n_prompt: usize,
}

/// Text and ids of one model.
#[derive(Debug)]
pub struct Codec {
    form: Form,
    markup: Markup,
    /// Whether the prompt leaves the model inside a block of thinking.
    start: Start,
}

#[derive(Debug)]
enum Form {
    /// A token a word; the prompt is `<bos>` and the question.
    Words {
        names: Vec<String>,
        // Looked up only, never walked through.
        ids: HashMap<String, u32>,
        bos: u32,
    },
    /// A published tokenizer; the prompt is a user's turn in the model's chat template.
    Chat(Box<Chat>),
}

#[derive(Debug)]
struct Chat {
    tokenizer: Tokenizer,
    template: Template,
    instruction: String,
}

impl Codec {
    /// The codec of a word-level tokenizer.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, EncodeError> {
        let vocab_size = tokenizer.vocab_size();
        let mut names = Vec::with_capacity(vocab_size);
        let mut ids = HashMap::with_capacity(vocab_size);
        for id in (0..).take(vocab_size) {
            let name = tokenizer.token_name(id).unwrap_or_default();
            ids.insert(name.clone(), id);
            names.push(name);
        }
        let control = |name: &str| {
            let missing = || frugal_text::Error::NoSuchControl(name.to_owned());
            tokenizer.control(name).ok_or_else(missing)
        };
        let bos = control(BOS)?;
        let markup = Markup {
            think: control(THINK)?,
            end_think: control(END_THINK)?,
            eos: control(EOS)?,
        };
        Ok(Self {
            form: Form::Words { names, ids, bos },
            markup,
            start: Start::Fresh,
        })
    }

    /// The tokenizer file and the codec of a task's words.
    pub fn for_task(task: &dyn Task) -> Result<(Vec<u8>, Self), EncodeError> {
        let file = tokenizer_json(&task.words(), &CONTROL)?;
        let codec = Self::new(&Tokenizer::from_json(&file)?)?;
        Ok((file, codec))
    }

    /// The codec of a chat model: a problem is `instruction` and the question in one turn of the
    /// user's. A model without marks for its thinking can be asked, but not taught to think.
    pub fn for_chat(
        tokenizer: Tokenizer,
        template: Template,
        instruction: &str,
    ) -> Result<Self, EncodeError> {
        let markup = template.markup()?;
        let chat = Chat {
            tokenizer,
            template,
            instruction: instruction.to_owned(),
        };
        let start = Start::after(&chat.turn("")?, &markup);
        Ok(Self {
            form: Form::Chat(Box::new(chat)),
            markup,
            start,
        })
    }

    /// The ids of text; the marks of thinking may be spelled as words, and in a task's own words
    /// every control token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        match &self.form {
            Form::Words { ids, .. } => {
                let unknown = |word: &str| EncodeError::UnknownWord(word.to_owned());
                let id = |word: &str| ids.get(word).copied().ok_or_else(|| unknown(word));
                text.split_whitespace().map(id).collect()
            }
            Form::Chat(chat) => Ok(chat.tokenizer.encode_segments(&self.segments(text)?)?),
        }
    }

    /// Text with spelled marks as segments, its words separated by single spaces.
    fn segments(&self, text: &str) -> Result<Vec<Segment>, EncodeError> {
        let mut segments = Vec::new();
        let mut run: Vec<&str> = Vec::new();
        let flush = |run: &mut Vec<&str>, segments: &mut Vec<Segment>| {
            if !run.is_empty() {
                segments.push(Segment::Text(run.join(" ")));
                run.clear();
            }
        };
        for word in text.split_whitespace() {
            let mark = match word {
                THINK => self.markup.think,
                END_THINK => self.markup.end_think,
                _ => {
                    run.push(word);
                    continue;
                }
            };
            if !self.markup.can_think() {
                return Err(frugal_text::Error::NoSuchControl(word.to_owned()).into());
            }
            flush(&mut run, &mut segments);
            segments.push(Segment::Control(mark));
        }
        flush(&mut run, &mut segments);
        Ok(segments)
    }

    /// The text of ids, control tokens spelled.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EncodeError> {
        match &self.form {
            Form::Words { .. } => Ok(self.words(ids)?.join(" ")),
            Form::Chat(chat) => chat.text(ids),
        }
    }

    /// The words of ids one by one.
    pub fn words(&self, ids: &[u32]) -> Result<Vec<String>, EncodeError> {
        let names = match &self.form {
            Form::Words { names, .. } => names,
            Form::Chat(chat) => {
                let text = chat.text(ids)?;
                return Ok(text.split_whitespace().map(str::to_owned).collect());
            }
        };
        let word = |id: &u32| {
            let name = usize::try_from(*id).ok().and_then(|at| names.get(at));
            let vocab_size = names.len();
            name.cloned().ok_or(EncodeError::UnknownId {
                id: *id,
                vocab_size,
            })
        };
        ids.iter().map(word).collect()
    }

    /// The ids a model is given for a problem.
    pub fn prompt(&self, problem: &Problem) -> Result<Vec<u32>, EncodeError> {
        self.with_bos(&problem.question)
    }

    /// The ids of a prompt: `<bos>` and the words of `text`, or a turn of the user's.
    pub fn with_bos(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        match &self.form {
            Form::Words { bos, .. } => {
                let mut ids = vec![*bos];
                ids.extend(self.encode(text)?);
                Ok(ids)
            }
            Form::Chat(chat) => Ok(chat.tokenizer.encode_segments(&chat.turn(text)?)?),
        }
    }

    /// A corpus line as ids.
    pub fn line(&self, line: &Line) -> Result<EncodedLine, EncodeError> {
        let mut ids = self.with_bos(&line.prompt)?;
        let n_prompt = ids.len();
        let continuation = self.encode(&line.continuation)?;
        // Where the prompt has opened the thinking, an answer without any closes it first.
        match (self.start, continuation.split_first()) {
            (Start::Thinking, Some((first, rest))) if *first == self.markup.think => {
                ids.extend(rest);
            }
            (Start::Thinking, _) => {
                ids.push(self.markup.end_think);
                ids.extend(continuation);
            }
            _ => ids.extend(continuation),
        }
        ids.push(self.markup.eos);
        Ok(EncodedLine { ids, n_prompt })
    }

    /// A model's continuation taken apart into thinking and answer.
    pub fn split<'a>(&self, ids: &'a [u32]) -> Parts<'a> {
        reasoning::split_from(ids, self.markup, self.start)
    }

    /// The number of ids.
    pub fn vocab_size(&self) -> usize {
        match &self.form {
            Form::Words { names, .. } => names.len(),
            Form::Chat(chat) => chat.tokenizer.vocab_size(),
        }
    }

    /// The id that ends an answer.
    pub fn eos(&self) -> u32 {
        self.markup.eos
    }
}

impl Chat {
    /// The text of ids. A published embedding may have more rows than its tokenizer has tokens; what
    /// a model says with one of these stands for nothing.
    fn text(&self, ids: &[u32]) -> Result<String, EncodeError> {
        let is_known = |id: &u32| self.tokenizer.token_name(*id).is_some();
        let mut text = String::new();
        for run in ids.chunk_by(|a, b| is_known(a) == is_known(b)) {
            if run.first().is_some_and(is_known) {
                text.push_str(&self.tokenizer.decode(run)?);
            } else {
                text.extend(run.iter().map(|_| char::REPLACEMENT_CHARACTER));
            }
        }
        Ok(text)
    }

    /// A user's turn, and what makes the assistant speak.
    fn turn(&self, question: &str) -> Result<Vec<Segment>, EncodeError> {
        let text = format!("{}\n{question}", self.instruction);
        let messages = [message("user", text.trim())];
        Ok(self.template.render(&Conversation {
            messages: &messages,
            tools: None,
            variables: &serde_json::Map::new(),
            ending: Ending::AssistantTurn,
            now: None,
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Countdown;

    #[test]
    fn ids_are_the_tokenizers() {
        let (file, codec) = Codec::for_task(&Countdown::default()).unwrap();
        let tokenizer = Tokenizer::from_json(&file).unwrap();
        assert!(is_of_task(&tokenizer, &Countdown::default()));
        assert!(!is_of_task(&tokenizer, &crate::tasks::Cups));
        let text = "<think> try 3 + 4 7 , 7 * 5 35 25 no </think> ( 3 + 4 ) * 5";
        let (thinking, answer) = text.split_once(" </think> ").unwrap();
        let control = |name| Segment::Control(tokenizer.control(name).unwrap());
        let segments = [
            control(BOS),
            Segment::Text("7 5 make 35".into()),
            control(THINK),
            Segment::Text(thinking.trim_start_matches("<think> ").into()),
            control(END_THINK),
            Segment::Text(answer.into()),
            control(EOS),
        ];
        let line = Line {
            prompt: "7 5 make 35".into(),
            continuation: text.into(),
        };
        let encoded = codec.line(&line).unwrap();
        assert_eq!(encoded.ids, tokenizer.encode_segments(&segments).unwrap());
        assert_eq!(encoded.n_prompt, 5);
        let all = codec.decode(&encoded.ids).unwrap();
        assert_eq!(all, format!("<bos> 7 5 make 35 {text} <eos>"));
        let parts = codec.split(encoded.ids.get(5..).unwrap());
        assert!(parts.well_formed);
        assert_eq!(codec.decode(parts.answer).unwrap(), answer);
    }

    #[test]
    fn what_is_not_of_the_vocabulary_is_named() {
        let (_, codec) = Codec::for_task(&Countdown::default()).unwrap();
        let error = codec.encode("7 seven").unwrap_err();
        assert!(error.to_string().contains("seven"), "{error}");
        assert!(codec.decode(&[u32::MAX]).is_err());
        assert_eq!(codec.vocab_size(), 4 + 100 + 13);
    }
}
