//! What must hold of every tokenizer, however it was made.

use frugal_text::{Segment, Tokenizer};

/// Texts that have found something somewhere: white space, marks that join, characters of all
/// lengths, spellings of control tokens, letters of the byte alphabet.
pub(crate) const TEXTS: [&str; 5] = [
    "",
    " the <s>plain one</s>\n\n  th",
    "é\u{301}世界🙂\u{0}\u{AD}Ġü",
    "<think>1234567 <|im_end|>\r\n\t </think>don't",
    "\u{F0000}▁ ａ\u{200D}क्षि   ",
];

/// Whether decoding gives back the text that was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoundTrip {
    /// Byte for byte.
    Exact,
    /// The file asks for changes of the text.
    Free,
}

/// Encodes and decodes some texts.
pub(crate) fn laws(tokenizer: &Tokenizer, texts: &[&str], round_trip: RoundTrip) {
    for text in texts {
        let Ok(ids) = tokenizer.encode(text) else {
            assert_eq!(round_trip, RoundTrip::Free, "{text:?} cannot be encoded");
            continue;
        };
        assert!(ids.iter().all(|id| !tokenizer.is_control(*id)), "{text:?}");
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        let decoded = tokenizer.decode(&ids).unwrap();
        if round_trip == RoundTrip::Exact {
            assert_eq!(decoded, **text);
            assert_eq!(streamed(tokenizer, &ids), decoded);
        }
    }
    controls(tokenizer, texts, round_trip);
    for id in [0, 1, tokenizer.vocab_size() as u32, u32::MAX] {
        let known = tokenizer.token_name(id).is_some();
        assert_eq!(tokenizer.decode(&[id]).is_ok(), known, "{id}");
    }
}

/// Control tokens come from segments, as many as there are.
fn controls(tokenizer: &Tokenizer, texts: &[&str], round_trip: RoundTrip) {
    let mut segments = Vec::new();
    for ((_, id), text) in tokenizer.controls().zip(texts) {
        segments.extend([Segment::Control(id), Segment::Text((*text).to_string())]);
    }
    let Ok(ids) = tokenizer.encode_segments(&segments) else {
        assert_eq!(round_trip, RoundTrip::Free);
        return;
    };
    let given: Vec<u32> = segments.iter().filter_map(control).collect();
    let is_control = |id: &u32| tokenizer.is_control(*id);
    let found: Vec<u32> = ids.iter().copied().filter(is_control).collect();
    assert_eq!(found, given);
}

/// The id of a segment that is a control token.
pub(crate) fn control(segment: &Segment) -> Option<u32> {
    match segment {
        Segment::Control(id) => Some(*id),
        Segment::Text(_) => None,
    }
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut decoder = tokenizer.decoder();
    let mut text = String::new();
    for id in ids {
        text.push_str(decoder.push(*id).unwrap());
    }
    text + &decoder.finish().unwrap()
}
