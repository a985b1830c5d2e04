//! Text to token ids and back.
//!
//! - [`tokenizer`]: a `tokenizer.json` turned into ids, with one law: *text never becomes a control
//!   token*. Control tokens enter a sequence only by id, through [`Segment::Control`].
//! - [`gguf`]: a `tokenizer.json` from the keys of a GGUF file, and back.
//! - [`train`]: a vocabulary of byte pairs from text.
//! - [`byte_level`]: the alphabet of byte-level vocabularies.
//! - [`word_level`]: the tokenizer files of the tiny models, one token per word.
//! - [`chat`]: published Jinja chat templates, rendered to segments instead of to one string, so
//!   that what a user typed stays text.
//! - [`reasoning`]: which of the generated ids are thinking and which are the answer; [`stops`]: which
//!   of them end it.
//! - [`tools`]: how models are told of tools, and how their calls are written and read.
//!
//! No files, no clock and no model here: bytes, dates and ids come in as arguments. Read
//! `tokenizer.rs` first.

#![forbid(unsafe_code)]

pub mod byte_level;
pub mod chat;
mod error;
pub mod gguf;
mod json;
pub mod reasoning;
mod stops;
pub mod tokenizer;
pub mod tools;
pub mod train;
pub mod word_level;

pub use error::{Error, Result};
pub use stops::stops;
pub use tokenizer::{Decoder, Segment, Tokenizer};
