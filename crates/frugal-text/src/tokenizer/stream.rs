//! Ids to text while they come in, one at a time.
//!
//! Byte-level tokens end inside of characters, so what can be shown is not a function of one id. A
//! decoder holds back the bytes of an unfinished character, and nothing else; all its pieces joined
//! are what [`Tokenizer::decode`] gives for all ids.

use super::{Decoding, Tokenizer};
use crate::byte_level::bytes_of;
use crate::{Error, Result};

/// What stands for bytes that are no UTF-8.
const REPLACEMENT: char = '\u{FFFD}';
/// How many ids the decoder of a foreign kind looks at together.
const MAX_WINDOW: usize = 64;
/// How many of them stay as context for the next ones.
const KEPT_WINDOW: usize = 8;

/// Turns ids into text, one at a time; made by [`Tokenizer::decoder`].
///
/// ```
/// use frugal_text::{Tokenizer, word_level};
///
/// let words = ["one".to_string(), "two".to_string()];
/// let tokenizer = Tokenizer::from_json(&word_level::tokenizer_json(&words, &word_level::CONTROL)?)?;
/// let mut decoder = tokenizer.decoder();
/// assert_eq!(decoder.push(5)?, "two");
/// assert_eq!(decoder.push(4)?, " one");
/// assert_eq!(decoder.finish()?, "");
/// # Ok::<(), frugal_text::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    /// The beginning of a character.
    unfinished: Vec<u8>,
    /// Ids that a foreign decoder sees together, and how many bytes of their text are out.
    window: Vec<u32>,
    shown: usize,
    has_begun: bool,
    piece: String,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            unfinished: Vec::new(),
            window: Vec::new(),
            shown: 0,
            has_begun: false,
            piece: String::new(),
        }
    }

    /// Takes the next id and gives the text that is certain now, which may be none. Control tokens
    /// are spelled out.
    ///
    /// *Errors*: an id that the vocabulary lacks.
    pub fn push(&mut self, id: u32) -> Result<&str> {
        self.piece.clear();
        let added = self
            .tokenizer
            .added
            .get(&id)
            .map(|added| added.content.as_str());
        let name = match added {
            Some(content) => content.to_string(),
            None => self
                .tokenizer
                .inner
                .id_to_token(id)
                .ok_or(Error::UnknownId {
                    id,
                    vocab_size: self.tokenizer.vocab_size,
                })?,
        };
        if self.has_begun && self.tokenizer.decoding == Decoding::Words {
            self.piece.push(' ');
        }
        self.has_begun = true;
        match self.tokenizer.decoding {
            _ if added.is_some() => {
                self.end_run()?;
                self.piece.push_str(&name);
            }
            Decoding::Words => self.piece.push_str(&name),
            Decoding::Bytes => {
                self.unfinished.extend(bytes_of(&name));
                self.take_whole_characters();
            }
            Decoding::Foreign => self.widen(id)?,
        }
        Ok(&self.piece)
    }

    /// What was held back: a replacement character where the ids ended inside of a character.
    pub fn finish(mut self) -> Result<String> {
        self.piece.clear();
        self.end_run()?;
        Ok(self.piece)
    }

    /// Ends a run of the model's own tokens: whatever was held back will not be continued.
    fn end_run(&mut self) -> Result<()> {
        if !self.unfinished.is_empty() {
            self.piece.push(REPLACEMENT);
            self.unfinished.clear();
        }
        if !self.window.is_empty() {
            let text = self.tokenizer.decode_plain(&self.window)?;
            self.piece
                .push_str(text.get(self.shown..).unwrap_or_default());
            self.window.clear();
            self.shown = 0;
        }
        Ok(())
    }

    /// Moves whole characters from the bytes to the piece. Bytes that cannot become one are replaced
    /// as `String::from_utf8_lossy` does.
    fn take_whole_characters(&mut self) {
        let mut rest = self.unfinished.as_slice();
        let left = loop {
            let error = match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.piece.push_str(text);
                    break 0;
                }
                Err(error) => error,
            };
            let (whole, after) = rest.split_at(error.valid_up_to());
            self.piece
                .push_str(std::str::from_utf8(whole).unwrap_or_default());
            let Some(bad) = error.error_len() else {
                break after.len();
            };
            self.piece.push(REPLACEMENT);
            rest = after.get(bad..).unwrap_or_default();
        };
        let taken = self.unfinished.len() - left;
        self.unfinished.drain(..taken);
    }

    /// Decodes the last ids together and shows what is new. Text that may still change, as the
    /// library writes it, ends in a replacement character.
    fn widen(&mut self, id: u32) -> Result<()> {
        self.window.push(id);
        let text = self.tokenizer.decode_plain(&self.window)?;
        let Some(new) = text
            .get(self.shown..)
            .filter(|_| !text.ends_with(REPLACEMENT))
        else {
            return Ok(());
        };
        self.piece.push_str(new);
        self.shown = text.len();
        if self.window.len() >= MAX_WINDOW {
            let surplus = self.window.len() - KEPT_WINDOW;
            self.window.drain(..surplus);
            self.shown = self.tokenizer.decode_plain(&self.window)?.len();
        }
        Ok(())
    }
}
