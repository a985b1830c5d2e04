//! What can go wrong between a checkpoint and its tokens.

use alloc::string::String;

use crate::cache::CacheKind;

/// Result of this crate.
pub type Result<T> = core::result::Result<T, Error>;

/// A refusal: what was expected and what came.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation of the back-end refused.
    #[error(transparent)]
    Core(#[from] frugal_core::error::Error),
    /// A file that is not JSON of the expected kind.
    #[error("{file}: {reason}")]
    Json {
        /// Which file.
        file: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// A field of a config has a value this crate does not follow.
    #[error("config.json: {field}: expected {expected}, got {got}")]
    Config {
        /// The published name of the field.
        field: String,
        /// What is supported or possible.
        expected: String,
        /// What came.
        got: String,
    },
    /// A field that is neither supported nor known to be harmless.
    #[error("config.json: unknown field {field} = {value}, which may change the result")]
    UnknownField {
        /// Its name.
        field: String,
        /// Its value.
        value: String,
    },
    /// Two parameter trees of different models.
    #[error("two parameter trees differ in structure: {left} tensors and {right} tensors")]
    Structure {
        /// Leaves of the first.
        left: usize,
        /// Leaves of the second.
        right: usize,
    },
    /// A checkpoint file that is no safetensors file.
    #[error("checkpoint file {index}: {reason}")]
    File {
        /// Which one, from 0.
        index: usize,
        /// What the parser said.
        reason: String,
    },
    /// A checkpoint without tensors that its config asks for, or with others.
    #[error("checkpoint: {what} tensors: {names}")]
    Tensors {
        /// "missing" or "unknown" or "repeated".
        what: &'static str,
        /// The first few.
        names: String,
    },
    /// A tensor that is not as its config says.
    #[error("checkpoint: {name}: expected {expected}, got {got}")]
    Tensor {
        /// Its name in the file.
        name: String,
        /// Shape, format or scales.
        expected: String,
        /// What came.
        got: String,
    },
    /// A file that is no GGUF file.
    #[error("gguf: byte {at}, {of}: {reason}")]
    Gguf {
        /// Where.
        at: usize,
        /// The key or tensor that is described there.
        of: String,
        /// What was expected and what came.
        reason: String,
    },
    /// A key of a GGUF file that is missing, or has a value that this crate does not follow.
    #[error("gguf: {key}: expected {expected}, got {got}")]
    GgufKey {
        /// The key.
        key: String,
        /// What is supported or possible.
        expected: String,
        /// What came.
        got: String,
    },
    /// Whoever takes the bytes of a file that is written could not.
    #[error("writing a checkpoint: {reason}")]
    Write {
        /// What it said.
        reason: String,
    },
    /// The cache cannot hold what this model computes.
    #[error("expected a {expected} cache for this attention, got {got:?}")]
    CacheKind {
        /// The kinds that fit.
        expected: &'static str,
        /// The kind that came.
        got: CacheKind,
    },
    /// A cache that was used otherwise than it allows.
    #[error("cache: expected {expected}, got {got}")]
    Cache {
        /// What it allows.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// All pages are taken.
    #[error("cache: all {max_pages} pages of {page_rows} rows are in use")]
    CacheFull {
        /// The limit.
        max_pages: usize,
        /// Rows of a page.
        page_rows: usize,
    },
    /// A generation that cannot be begun.
    #[error("generate: expected {expected}, got {got}")]
    Request {
        /// What is possible.
        expected: String,
        /// What came.
        got: String,
    },
    /// The caller asked to stop.
    #[error("generation was interrupted")]
    Interrupted,
}
