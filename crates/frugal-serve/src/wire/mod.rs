//! The shapes of each dialect: bytes to an [`Ask`](crate::answer::Ask), [`Said`](crate::answer::Said) to bytes.

pub mod chat;
pub mod completions;
pub mod error;
pub(crate) mod fields;
pub mod messages;
pub mod ollama;
pub mod responses;
