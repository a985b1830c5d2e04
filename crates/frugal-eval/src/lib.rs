//! Questions and judges: the tasks a model is taught and examined with, the graders that decide,
//! and the statistics that say how sure the decision is.
//!
//! This room does no input or output; rows of a data file come in as text. Read [`task`] first,
//! then [`tasks`].
#![forbid(unsafe_code)]

pub mod grade;
pub mod knobs;
pub mod task;
pub mod tasks;

#[cfg(test)]
mod fixture;
