//! Words and numbers: the bottom floor of Frugal.
//!
//! This room defines what the others talk in: shapes and their letters ([`shape`]), stored number
//! formats ([`dtype`], and in blocks [`quant`]), the one trait between model and chips ([`backend`]), what each operation
//! means ([`ops`], and [`mod@reference`] made of them), and what it costs ([`meter`]). It does no input
//! or output, knows no model and no device, and needs no standard library.
//!
//! Read [`backend`] first, then a file of [`ops`].
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod backend;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod dtype;
pub mod error;
pub mod meter;
pub mod ops;
pub mod quant;
pub mod reference;
pub mod rng;
pub mod shape;
pub mod stored;
