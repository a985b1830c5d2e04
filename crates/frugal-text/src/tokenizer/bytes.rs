//! The bytes of single tokens, for those who must know what a token would write before it comes.

use super::{Decoding, Tokenizer};
use crate::byte_level::bytes_of;

impl Tokenizer {
    /// What a token adds to a text that has begun; it may be a part of a character. None for control
    /// tokens and for ids without a token.
    ///
    /// The spaces that [`Self::decode`] puts between words are not the tokens'
    /// ([`Self::puts_spaces`]).
    pub fn text_bytes(&self, id: u32) -> Option<Vec<u8>> {
        if let Some(added) = self.added.get(&id) {
            return added.plain.then(|| added.content.clone().into_bytes());
        }
        let name = self.inner.id_to_token(id)?;
        Some(match self.decoding {
            Decoding::Words => name.into_bytes(),
            Decoding::Bytes => bytes_of(&name),
            Decoding::Foreign => match byte_of(&name) {
                Some(byte) => vec![byte],
                None => self.foreign(id, &name).into_bytes(),
            },
        })
    }

    /// The same, with control tokens spelled out. Nothing for an id that the vocabulary lacks.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        match self.added.get(&id) {
            Some(added) => Some(added.content.clone().into_bytes()),
            None => self.text_bytes(id),
        }
    }

    /// Whether decoding puts a space between any two tokens, so that texts are whole words only.
    pub fn puts_spaces(&self) -> bool {
        self.decoding == Decoding::Words
    }

    /// What a token of a foreign decoder adds after a letter, which keeps the spaces that such
    /// decoders take off the beginning of texts.
    fn foreign(&self, id: u32, name: &str) -> String {
        let after_letter = self.inner.token_to_id("a").and_then(|letter| {
            let text = self.inner.decode(&[letter, id], false).ok()?;
            text.strip_prefix('a').map(str::to_owned)
        });
        after_letter.unwrap_or_else(|| name.replace('▁', " "))
    }
}

/// The byte of SentencePiece's tokens for bytes, as in `<0x0A>`.
fn byte_of(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_one = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_one.then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::word_level;

    #[test]
    fn words_and_control() {
        let words = ["one".to_string()];
        let file = word_level::tokenizer_json(&words, &word_level::CONTROL).unwrap();
        let tokenizer = Tokenizer::from_json(&file).unwrap();
        assert!(tokenizer.puts_spaces());
        assert_eq!(tokenizer.text_bytes(4).as_deref(), Some(&b"one"[..]));
        assert_eq!(
            (tokenizer.text_bytes(0), tokenizer.text_bytes(99)),
            (None, None)
        );
    }

    #[test]
    fn bytes_of_pieces() {
        let mut vocab: Map<String, Value> = (0..=u8::MAX)
            .map(|byte| (format!("<0x{byte:02X}>"), u32::from(byte).into()))
            .collect();
        for (piece, id) in ["▁", "a", "▁ab", "é", "<0xgg>"].iter().zip(256..) {
            vocab.insert((*piece).to_string(), id.into());
        }
        let file = json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
            "post_processor": null,
            "decoder": { "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
                { "type": "ByteFallback" }, { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
            ] },
            "model": { "type": "BPE", "byte_fallback": true, "unk_token": null, "vocab": vocab, "merges": [] },
        });
        let tokenizer = Tokenizer::from_json(file.to_string().as_bytes()).unwrap();
        let rows: [(u32, &[u8]); 7] = [
            (10, b"\n"),
            (0xC3, &[0xC3]),
            (256, b" "),
            (257, b"a"),
            (258, b" ab"),
            (259, "é".as_bytes()),
            (260, b"<0xgg>"),
        ];
        for (id, bytes) in rows {
            assert_eq!(tokenizer.text_bytes(id).as_deref(), Some(bytes), "{id}");
        }
        assert!(!tokenizer.puts_spaces());
    }
}
