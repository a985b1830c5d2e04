//! The tokenizer's keys of a GGUF file.

use std::path::Path;

use frugal_core::stored::SharedBytes;
use frugal_model::checkpoint::gguf::{Gguf, TokenizerKeys};

pub(super) fn read(file: &Path) -> TokenizerKeys {
    let bytes = SharedBytes::from(std::fs::read(file).unwrap());
    Gguf::parse(bytes).unwrap().tokenizer().unwrap().unwrap()
}
