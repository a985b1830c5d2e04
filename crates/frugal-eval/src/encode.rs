//! Trusted generator text to token ids and back, for word-level tokenizers.
//!
//! Questions, thoughts and facts are made by this crate's generators, which spell control tokens
//! as words; here, and only here, those become control ids. Text from outside must go through
//! [`crate::task::Task::parse`] first, which leaves nothing but a question.

use std::collections::HashMap;

use frugal_text::Tokenizer;
use frugal_text::reasoning::{self, Parts};
use frugal_text::word_level::{BOS, CONTROL, END_THINK, EOS, THINK, tokenizer_json};

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

/// A line as ids, from `<bos>` to `<eos>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedLine {
    /// All ids.
    pub ids: Vec<u32>,
    /// How many of them are the prompt, `<bos>` included.
    pub n_prompt: usize,
}

/// Words and ids of one word-level tokenizer.
#[derive(Debug)]
pub struct Codec {
    names: Vec<String>,
    // Looked up only, never walked through.
    ids: HashMap<String, u32>,
    bos: u32,
    eos: u32,
    think: u32,
    end_think: u32,
}

impl Codec {
    /// The codec of a checkpoint's tokenizer.
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
        let (bos, eos) = (control(BOS)?, control(EOS)?);
        let (think, end_think) = (control(THINK)?, control(END_THINK)?);
        Ok(Self {
            names,
            ids,
            bos,
            eos,
            think,
            end_think,
        })
    }

    /// The tokenizer file and the codec of a task's words.
    pub fn for_task(task: &dyn Task) -> Result<(Vec<u8>, Self), EncodeError> {
        let file = tokenizer_json(&task.words(), &CONTROL)?;
        let codec = Self::new(&Tokenizer::from_json(&file)?)?;
        Ok((file, codec))
    }

    /// The ids of words separated by white space; control tokens may be spelled.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let unknown = |word: &str| EncodeError::UnknownWord(word.to_owned());
        let id = |word: &str| self.ids.get(word).copied().ok_or_else(|| unknown(word));
        text.split_whitespace().map(id).collect()
    }

    /// The words of ids, separated by single spaces, control tokens spelled.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EncodeError> {
        Ok(self.words(ids)?.join(" "))
    }

    /// The words of ids one by one.
    pub fn words(&self, ids: &[u32]) -> Result<Vec<&str>, EncodeError> {
        let word = |id: &u32| {
            let name = usize::try_from(*id).ok().and_then(|at| self.names.get(at));
            let vocab_size = self.names.len();
            name.map(String::as_str).ok_or(EncodeError::UnknownId {
                id: *id,
                vocab_size,
            })
        };
        ids.iter().map(word).collect()
    }

    /// The ids a model is given for a problem: `<bos>` and the question.
    pub fn prompt(&self, problem: &Problem) -> Result<Vec<u32>, EncodeError> {
        self.with_bos(&problem.question)
    }

    /// `<bos>` and the words of `text`.
    pub fn with_bos(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let mut ids = vec![self.bos];
        ids.extend(self.encode(text)?);
        Ok(ids)
    }

    /// A corpus line as ids.
    pub fn line(&self, line: &Line) -> Result<EncodedLine, EncodeError> {
        let mut ids = self.with_bos(&line.prompt)?;
        let n_prompt = ids.len();
        ids.extend(self.encode(&line.continuation)?);
        ids.push(self.eos);
        Ok(EncodedLine { ids, n_prompt })
    }

    /// A model's continuation taken apart into thinking and answer.
    pub fn split<'a>(&self, ids: &'a [u32]) -> Parts<'a> {
        reasoning::split(ids, self.think, self.end_think, self.eos)
    }

    /// The number of ids.
    pub fn vocab_size(&self) -> usize {
        self.names.len()
    }

    /// The id of `<eos>`.
    pub fn eos(&self) -> u32 {
        self.eos
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Countdown;
    use frugal_text::Segment;

    #[test]
    fn ids_are_the_tokenizers() {
        let (file, codec) = Codec::for_task(&Countdown::default()).unwrap();
        let tokenizer = Tokenizer::from_json(&file).unwrap();
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
