//! The printable alphabet in which byte-level vocabularies write their tokens.
//!
//! Every byte has one letter: printable Latin-1 characters stand for themselves, the other 68 bytes
//! take the letters from U+0100 on, in their order. GPT-2 introduced it and DeepSeek, Qwen and
//! Llama 3 kept it. Decoding whole sequences is `tokenizer`'s.

/// The letter of a byte.
pub fn letter_of(byte: u8) -> char {
    if is_its_own_letter(byte) {
        return char::from(byte);
    }
    let letters = (FIRST..=LAST).zip(BORROWED);
    letters
        .filter(|(_, borrower)| *borrower == byte)
        .map(|(letter, _)| letter)
        .next()
        .unwrap_or_default()
}

/// The byte of a letter; none if it is no letter of this alphabet.
pub fn byte_of(letter: char) -> Option<u8> {
    match u8::try_from(letter) {
        Ok(byte) => is_its_own_letter(byte).then_some(byte),
        Err(_) if letter <= LAST => BORROWED.get(letter as usize - FIRST as usize).copied(),
        Err(_) => None,
    }
}

/// The letter of the first byte that is not its own, 0.
const FIRST: char = '\u{100}';
/// The letter of the last byte that is not its own, 0xAD.
const LAST: char = '\u{143}';

/// The bytes that borrow a letter, in the order of their letters.
const BORROWED: [u8; 68] = {
    let mut bytes = [0; 68];
    let (mut at, mut byte) = (0, u8::MIN);
    while byte < u8::MAX {
        if !is_its_own_letter(byte) {
            #[expect(clippy::indexing_slicing, reason = "checked when it is compiled")]
            {
                bytes[at] = byte;
            }
            at += 1;
        }
        byte += 1;
    }
    bytes
};

const fn is_its_own_letter(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..)
}

/// The bytes of a token. A token that is not written in the alphabet stands for its own characters,
/// as the tokenizers library reads it.
pub(crate) fn bytes_of(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn every_byte_has_one_letter_and_it_is_the_librarys() {
        let letters: BTreeSet<char> = (0..=u8::MAX).map(letter_of).collect();
        assert_eq!(letters.len(), 256);
        assert_eq!(letters, ByteLevel::alphabet().into_iter().collect());
        for byte in 0..=u8::MAX {
            assert_eq!(byte_of(letter_of(byte)), Some(byte));
        }
        assert_eq!(
            (letter_of(b' '), letter_of(b'\n'), letter_of(0xAD)),
            ('Ġ', 'Ċ', LAST)
        );
        for other in [' ', '\u{AD}', '\u{144}', '一', char::MAX] {
            assert_eq!(byte_of(other), None);
        }
    }

    #[test]
    fn tokens_outside_of_the_alphabet_stand_for_themselves() {
        assert_eq!(bytes_of("Ġth"), b" th");
        assert_eq!(bytes_of("a b"), b"a b");
        assert_eq!(bytes_of("ä¸"), [0xE4, 0xB8]);
    }
}
