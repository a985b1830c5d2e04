//! Checkpoint in, checkpoint out.
//!
//! [`tape`] is the recording back-end that gives the model's gradients, [`optim`] and [`schedule`] move
//! parameters by them, [`objective`] says what reinforcement learning and distillation want, [`data`]
//! turns samples into steps, [`balance`] keeps experts evenly used. [`check`] compares a
//! model with values that another implementation recorded.
//!
//! This crate makes no text, grades nothing, and never names a concrete device: it is generic over
//! [`TrainBackend`](frugal_core::backend::TrainBackend). Read [`tape`] first.
#![forbid(unsafe_code)]

pub mod artifact;
pub mod balance;
pub mod bench;
mod card;
pub mod check;
pub mod compare;
pub mod conduct;
pub mod data;
pub mod distill;
pub mod error;
pub mod exam;
mod experience;
pub mod grpo;
pub mod import;
pub mod learner;
pub mod objective;
pub mod optim;
pub mod pretrain;
pub mod reject;
pub mod rollout;
pub mod room;
pub mod schedule;
pub mod sft;
pub mod stage;
pub mod tape;
pub mod traces;
