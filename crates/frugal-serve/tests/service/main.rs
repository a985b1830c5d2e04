//! The whole server in process, over tiny models on the plain back-end: what clients are promised, and
//! what they must not be able to do.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, which the lints' exceptions for tests do not see"
)]

mod answers;
#[path = "../client/mod.rs"]
mod bytes;
mod client;
mod ends;
mod forms;
mod fuzz;
mod holes;
mod host;
mod house;
mod limits;
mod model;
mod routes;
mod runs;
mod same;
mod shelf;
mod stock;
mod thoughts;
mod web;
