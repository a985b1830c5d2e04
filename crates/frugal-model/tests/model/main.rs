//! The model against independent values, laws and hostile files.
//!
//! Golden folders come from transformers (`tests/golden/README.md`).
//! The modules are marked as tests so that the lints on unwrapping and indexing let them be.

#[cfg(test)]
mod checkpoints;
#[cfg(test)]
mod configs;
#[cfg(test)]
mod containers;
#[cfg(test)]
mod drafts;
#[cfg(test)]
mod gguf;
#[cfg(test)]
mod goldens;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod support;
