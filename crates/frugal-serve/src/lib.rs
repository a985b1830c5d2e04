#![forbid(unsafe_code)]
//! Requests in, streams out.
//!
//! ```text
//! routes      one file a route: bytes in, an Ask; Said out, bytes           (async, HTTP)
//! wire        the shapes of each dialect, and of its errors                 (plain data)
//! answer      Ask -> prompt ids; ids -> Said: thinking, answer, tool calls  (text)
//! steer       what may come next: penalties, thinking budget, grammar       (ids and logits)
//! engine      many sequences on one model, ids in, ids out                  (a thread a model)
//! service     models, prompts, jobs and accounts: an Ask in, a stream of Said out
//! server      listening, TLS, guards, log                                  (async, HTTP)
//! web         the page people use: its files, sessions, conversations, models   (async, HTTP)
//! host        all of it, from the operator's settings
//! client      the other side: asks any such server, for measuring and judging it
//! doctor      conformance cases for any such server, and the score
//! ```
//!
//! Every dialect (OpenAI chat, completions and responses, Anthropic messages, Ollama) is a thin pair
//! of translations to and from [`answer::Ask`] and [`answer::Said`]: what a field means is decided
//! once. Read next: [`engine`], then [`answer`].
//!
//! This room does not know where models come from ([`models::Library`] is given by the binary), nor
//! how answers are graded.

pub mod answer;
pub mod aside;
pub mod client;
pub mod config;
pub mod doctor;
pub mod engine;
pub mod host;
pub mod keys;
pub mod metrics;
pub mod models;
pub mod quota;
pub mod routes;
pub mod server;
pub mod service;
pub mod shelf;
pub mod steer;
pub mod web;
pub mod wire;
