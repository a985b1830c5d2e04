//! A run: the recipe as written, the plan as resolved, the folder it fills, the checkpoints it can
//! be continued from, the journal of its numbers and the bill of what it cost; and the models of a
//! home, fetched by name.
//!
//! This room knows no model and no training: it reads settings and keeps bytes safe. Nothing
//! below it reads a file of settings, and nothing outside it reads the wall clock.
//! Start with [`recipe`], then [`plan`]; [`folder`], [`checkpoint`] and [`journal`] are what a run
//! leaves behind, and [`inside`] how such a folder is read by whoever did not fill it;
//! [`consumption`] measures and [`ledger`] bills; [`models`] keeps what [`hub`] fetches.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod consumption;
pub mod folder;
pub mod hub;
pub mod inside;
pub mod journal;
pub mod ledger;
pub mod models;
pub mod plan;
pub mod recipe;
mod store;

pub use store::{Stop, StoreError, digest_of};
