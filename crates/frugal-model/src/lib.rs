//! From token ids to token ids: one definition of the DeepSeek, Qwen and Llama families.
//!
//! This room knows the published configs ([`config`]), the parameters and their names ([`params`]),
//! the forward pass, the cache, generation, and checkpoints as bytes. It knows no chip: everything
//! is said in the operations of [`frugal_core::backend::Backend`]. It does no input or output and
//! no text; it neither trains nor prices, but is read by the back-ends that do.
//!
//! Read [`transformer`] first, then [`mla`], [`moe`] and [`params`]; the rest as needed:
//! [`gqa`], [`mlp`], [`rope`], [`mtp`], then [`cache`], [`generate`] and [`stream`], then [`checkpoint`] and
//! [`init`].
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod cache;
pub mod checkpoint;
pub mod config;
pub mod error;
pub mod generate;
pub mod gqa;
pub mod init;
pub mod json;
pub mod mla;
pub mod mlp;
pub mod moe;
pub mod mtp;
pub mod params;
pub mod rope;
pub mod stream;
pub mod transformer;
