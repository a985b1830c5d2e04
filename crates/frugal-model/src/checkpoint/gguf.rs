//! GGUF files: one file of typed keys, tokenizer and tensors, in the four architectures of this crate.
//!
//! [`Gguf::parse`] reads what a file says and trusts nothing but its length; [`config`] and [`read`]
//! make a model of it, [`Gguf::tokenizer`] gives the tokenizer's keys as plain data, and [`GgufPlan`]
//! writes one. Tensors stay where they lie: only rows that the format stores in another order are
//! copied. What a block format means is in [`frugal_core::quant`].
//!
//! *Source*: the format's own description (ggml, `docs/gguf.md`), and for each architecture the keys
//! and tensors that llama.cpp reads and its converter writes.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use frugal_core::quant::Format;
use frugal_core::stored::SharedBytes;

use crate::error::{Error, Result};

mod arrange;
mod config;
mod deepseek;
mod fields;
mod keys;
mod kind;
mod mixture;
mod names;
mod parse;
mod read;
mod stretch;
mod tokenizer;
mod value;
mod write;

pub use config::config;
pub use kind::Kind;
pub use mixture::Mixture;
pub use read::{load, load_stored, read};
pub use tokenizer::TokenizerKeys;
pub use value::{Array, Value};
pub use write::{GgufPlan, GgufSettings, PlannedTensor};

/// A file's keys and tensors.
#[derive(Debug, Clone)]
pub struct Gguf {
    /// 2 or 3.
    pub version: u32,
    /// Every key with its value.
    pub keys: BTreeMap<String, Value>,
    /// Every tensor, in the order of the file.
    pub tensors: Vec<TensorInfo>,
}

/// A tensor of a file.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// First to last dimension: the reverse of how the file lists them.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub kind: Kind,
    /// Where it begins in its file.
    pub offset: usize,
    /// Its bytes.
    pub bytes: SharedBytes,
}

impl TensorInfo {
    /// The format of its numbers, where this crate can decode them.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming the tensor and its format.
    pub fn format(&self) -> Result<Format> {
        self.kind.format().ok_or_else(|| Error::Tensor {
            name: self.name.clone(),
            expected: "a format that can be decoded".to_string(),
            got: self.kind.to_string(),
        })
    }
}

impl Gguf {
    /// Reads a whole file, or one of several that make up a model.
    ///
    /// # Errors
    /// [`Error::Gguf`] with the byte and the key or tensor.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the tensors keep a share of the bytes"
    )]
    pub fn parse(bytes: SharedBytes) -> Result<Self> {
        parse::parse(&bytes)
    }

    /// The tokenizer's keys; none where the file has no tokenizer.
    ///
    /// # Errors
    /// [`Error::GgufKey`] for one that is missing or of another type, or for another number of types
    /// than of tokens.
    pub fn tokenizer(&self) -> Result<Option<TokenizerKeys>> {
        tokenizer::tokenizer(self)
    }

    /// One model of the files it was split into, in order. The keys are those of the first.
    ///
    /// # Errors
    /// If the files are not all of one split, or a tensor lies in two of them.
    pub fn joined(files: Vec<Self>) -> Result<Self> {
        let expected = files.len();
        let mut joined: Option<Self> = None;
        for (index, file) in files.into_iter().enumerate() {
            let no = file.split_key("split.no")?.unwrap_or(0);
            let count = file.split_key("split.count")?.unwrap_or(1).max(1);
            if no != index || count != expected {
                return Err(Error::GgufKey {
                    key: "split.no".to_string(),
                    expected: format!("file {index} of {expected}"),
                    got: format!("file {no} of {count}"),
                });
            }
            match &mut joined {
                None => joined = Some(file),
                Some(joined) => joined.tensors.extend(file.tensors),
            }
        }
        let joined = joined.ok_or_else(|| Error::GgufKey {
            key: "split.count".to_string(),
            expected: "at least one file".to_string(),
            got: "none".to_string(),
        })?;
        let n_tensors = joined.tensors.len();
        match joined.split_key("split.tensors.count")? {
            Some(count) if expected > 1 && count != n_tensors => {
                return Err(Error::GgufKey {
                    key: "split.tensors.count".to_string(),
                    expected: format!("the {n_tensors} tensors of the files"),
                    got: count.to_string(),
                });
            }
            _ => {}
        }
        joined.refuse_repeated()?;
        Ok(joined)
    }

    fn split_key(&self, key: &str) -> Result<Option<usize>> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(value) => value.count().map(Some).ok_or_else(|| Error::GgufKey {
                key: key.to_string(),
                expected: "a count".to_string(),
                got: value.to_string(),
            }),
        }
    }

    fn refuse_repeated(&self) -> Result<()> {
        let mut seen = alloc::collections::BTreeSet::new();
        for tensor in &self.tensors {
            if !seen.insert(tensor.name.as_str()) {
                return Err(Error::Tensors {
                    what: "repeated",
                    names: tensor.name.clone(),
                });
            }
        }
        Ok(())
    }
}
