//! The tokenizer's keys of a GGUF file, as the binary hands them over.

use std::path::Path;

use frugal_core::stored::SharedBytes;
use frugal_model::checkpoint::gguf::{Gguf, TokenizerKeys};
use frugal_text::gguf::GgufVocabulary;

pub(super) fn read(file: &Path) -> GgufVocabulary {
    let bytes = SharedBytes::from(std::fs::read(file).unwrap());
    handed_over(Gguf::parse(bytes).unwrap().tokenizer().unwrap().unwrap())
}

pub(super) fn handed_over(keys: TokenizerKeys) -> GgufVocabulary {
    let TokenizerKeys {
        model,
        pre,
        tokens,
        token_types,
        merges,
        bos,
        eos,
        pad,
        unk,
        add_bos,
        chat_template,
    } = keys;
    GgufVocabulary {
        model,
        pre,
        tokens,
        token_types,
        merges,
        bos,
        eos,
        pad,
        unk,
        add_bos,
        chat_template,
    }
}
