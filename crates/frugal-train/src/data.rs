//! From samples to steps.
//!
//! A [`Sample`] is token ids with a mark on those that are learnt. [`pack`] puts samples into a
//! [`Step`]: sequences one after another, each isolated from the others by its row offsets, without
//! padding. [`stream`] makes steps of an endless generated corpus, [`epochs`] of a finite set; both
//! know step i from i alone, so a resumed run needs no state of theirs.
//!
//! Making and encoding text is frugal-eval's and frugal-text's.

pub mod epochs;
pub mod pack;
pub mod stream;

pub use pack::{MICRO_BATCH_ROWS, MtpStep, Sample, Step};
