//! The shapes of each dialect: bytes to an [`Ask`](crate::answer::Ask), [`Said`](crate::answer::Said) to bytes.

pub mod chat;
pub mod completions;
mod conversation;
pub mod error;
pub(crate) mod fields;
mod form;
mod log_probs;
pub mod messages;
pub mod models;
pub mod ollama;
pub mod responses;
mod sampled;
mod thinking;
pub mod tokens;
mod tools;
mod usage;

pub use sampled::Streaming;
