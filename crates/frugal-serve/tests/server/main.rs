//! The HTTP base on real sockets, with toy routes and no model.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, which the lints' exceptions for tests do not see"
)]

mod bodies;
#[path = "../client/mod.rs"]
mod bytes;
mod connections;
mod departures;
mod drain;
mod envelopes;
mod gates;
mod logs;
mod tls;
mod toy;
