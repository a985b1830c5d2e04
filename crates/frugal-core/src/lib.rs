//! Words and numbers: the bottom floor of Frugal.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod rng;
