//! What must hold of every file, whatever its bytes: one check for each target of the fuzzer.
//!
//! A check panics where a law is broken, and says whether the file was accepted. The programs in
//! `fuzz_targets` call them on made-up bytes, `tests/seeds.rs` on the files in `seeds`. How to run
//! them: `README.md`.

#![forbid(unsafe_code)]

pub mod config;
pub mod gguf;
pub mod gguf_vocabulary;
mod memory;
pub mod quant;
pub mod recipe;
pub mod safetensors;
pub mod template;
mod text;
pub mod tokenizer;

/// A check: whether the bytes were accepted.
pub type Check = fn(&[u8]) -> bool;

/// All checks, under the names of their targets.
pub const CHECKS: [(&str, Check); 8] = [
    ("config", config::check),
    ("gguf", gguf::check),
    ("gguf_vocabulary", gguf_vocabulary::check),
    ("quant", quant::check),
    ("recipe", recipe::check),
    ("safetensors", safetensors::check),
    ("template", template::check),
    ("tokenizer", tokenizer::check),
];
