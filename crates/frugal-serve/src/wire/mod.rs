//! The shapes of each dialect: bytes to an [`Ask`](crate::answer::Ask), [`Said`](crate::answer::Said) to bytes.

pub mod chat;
pub mod completions;
mod conversation;
#[cfg(test)]
mod described;
mod effort;
pub mod error;
pub(crate) mod fields;
mod form;
mod head;
mod log_probs;
pub mod messages;
pub mod models;
pub mod ollama;
pub mod responses;
mod sampled;
#[cfg(test)]
pub(crate) mod samples;
mod thinking;
pub mod tokens;
mod tools;
mod turns;
mod unused;
mod usage;
mod verify;

pub use head::Head;
pub use sampled::Streaming;
