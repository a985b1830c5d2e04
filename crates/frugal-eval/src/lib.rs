//! Questions and judges: the tasks a model is taught and examined with, the graders that decide,
//! and the statistics that say how sure the decision is.
//!
//! This room does not know a model: [`evaluate`] and [`probe`] ask through an
//! [`evaluate::Sampler`] that takes and returns token ids. It does no input or output; rows of a
//! data file come in as text. Read [`task`] first, then [`tasks`].
#![forbid(unsafe_code)]

pub mod corpus;
pub mod encode;
pub mod evaluate;
pub mod grade;
pub mod judge;
pub mod knobs;
pub mod probe;
pub mod report;
pub mod rewards;
pub mod split;
pub mod stats;
pub mod task;
pub mod tasks;

#[cfg(test)]
mod fixture;
