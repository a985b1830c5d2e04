//! `tokenizer.json`: what is accepted can be used on any text, never makes control of text, and comes
//! back from a GGUF file's keys with the same ids.

use frugal_text::{Tokenizer, gguf};
use serde_json::Value;

use crate::memory;
use crate::text::{self, RoundTrip, TEXTS};

/// Expressions are compiled, and take some.
const MEGABYTES: usize = 256;

/// Checks a file.
pub fn check(data: &[u8]) -> bool {
    memory::within(MEGABYTES, || {
        let tokenizer = match Tokenizer::from_json(data) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return false;
            }
        };
        assert_eq!(tokenizer.to_json(), data);
        let root: Value = serde_json::from_slice(data).unwrap();
        text::laws(&tokenizer, &TEXTS, round_trip(&root));
        survives_gguf(&tokenizer, data, &root);
        true
    })
}

/// A file that GGUF keys can say is the same tokenizer again.
fn survives_gguf(tokenizer: &Tokenizer, file: &[u8], root: &Value) {
    let Ok(keys) = gguf::vocabulary(file, None) else {
        return;
    };
    let written = gguf::tokenizer_json(&keys).unwrap();
    let again = Tokenizer::from_json(&written).unwrap();
    let controls = |t: &Tokenizer| t.controls().map(|(_, id)| id).collect::<Vec<_>>();
    assert_eq!(controls(&again), controls(tokenizer));
    // The way there leaves Unicode's normal forms to whoever writes the text.
    if !root["normalizer"].is_null() {
        return;
    }
    for text in TEXTS {
        let (a, b) = (tokenizer.encode(text), again.encode(text));
        assert_eq!(a.ok(), b.ok(), "{text:?}");
    }
}

/// Files whose text is cut, and not changed, on its way to bytes.
fn round_trip(root: &Value) -> RoundTrip {
    let is = |value: &Value, name: &str| value["type"] == name;
    let model = &root["model"];
    let is_pairs = (is(model, "BPE") || model["type"].is_null()) && model["merges"].is_array();
    let plain = is_pairs
        && model["unk_token"].is_null()
        && model["byte_fallback"] != true
        && root["normalizer"].is_null()
        && is(&root["decoder"], "ByteLevel");
    let keeps = |step: &Value| {
        is(step, "ByteLevel") && step["add_prefix_space"] == false
            || is(step, "Split") && step["behavior"] != "Removed"
            || is(step, "Digits")
    };
    let pre = &root["pre_tokenizer"];
    let to_bytes = |step: &Value| is(step, "ByteLevel") && keeps(step);
    let cuts = match pre["pretokenizers"].as_array() {
        Some(steps) => {
            steps.iter().all(keeps) && steps.iter().filter(|step| to_bytes(step)).count() == 1
        }
        None => to_bytes(pre),
    };
    let added = root["added_tokens"].as_array();
    let strips = added.into_iter().flatten().any(|token| {
        let is_set = |name: &str| token[name] == true;
        is_set("lstrip") || is_set("rstrip")
    });
    if plain && cuts && !strips {
        RoundTrip::Exact
    } else {
        RoundTrip::Free
    }
}
