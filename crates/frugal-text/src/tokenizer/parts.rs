//! Which parts of the library a `tokenizer.json` may ask for.
//!
//! The library trusts its files: some parts panic, loop or grow without end on parameters that make
//! no sense. Allowed here are the parts that the byte-level tokenizers of DeepSeek, Qwen and Llama
//! use, and SentencePiece's as Hugging Face writes them, with parameters inside of what they need.

use serde_json::{Map, Value};

use super::file::inconsistent;
use crate::Result;

const MODELS: &[&str] = &["BPE", "WordLevel", "Unigram"];
const NORMALIZERS: &[&str] = &[
    "Sequence",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Lowercase",
    "Prepend",
    "Replace",
];
const PRE_TOKENIZERS: &[&str] = &[
    "Sequence",
    "ByteLevel",
    "Split",
    "Digits",
    "Whitespace",
    "WhitespaceSplit",
    "Metaspace",
];
const DECODERS: &[&str] = &[
    "Sequence",
    "ByteLevel",
    "Metaspace",
    "Replace",
    "ByteFallback",
    "Fuse",
    "Strip",
];

/// The most steps of a part, sequences within sequences included.
const MAX_STEPS: usize = 32;
/// The most that all replacements of a part together may lengthen a text.
const MAX_GROWTH: usize = 64;
/// The longest expression, in bytes. DeepSeek LLM's has 900.
const MAX_EXPRESSION_BYTES: usize = 4096;

/// Refuses parts that are not among those allowed, or ask for too much.
pub(super) fn check(root: &Map<String, Value>) -> Result<()> {
    let model = root.get("model").unwrap_or(&Value::Null);
    // Old files do not name the type of their model.
    if let Some(name) = model.get("type") {
        check_name("model", MODELS, name)?;
    }
    for (part, allowed) in [
        ("normalizer", NORMALIZERS),
        ("pre_tokenizer", PRE_TOKENIZERS),
        ("decoder", DECODERS),
    ] {
        let mut totals = Totals {
            n_steps: 0,
            growth: 1,
        };
        if let Some(step) = root.get(part).filter(|step| !step.is_null()) {
            totals.check(part, allowed, step)?;
        }
    }
    Ok(())
}

fn check_name(part: &str, allowed: &[&str], name: &Value) -> Result<()> {
    if name.as_str().is_some_and(|name| allowed.contains(&name)) {
        return Ok(());
    }
    Err(inconsistent(format!(
        "expected a {part} among {}, got {name}",
        allowed.join(", ")
    )))
}

struct Totals {
    n_steps: usize,
    growth: usize,
}

impl Totals {
    /// Depth is bounded by the JSON parser, which nests no deeper than 128.
    fn check(&mut self, part: &str, allowed: &[&str], step: &Value) -> Result<()> {
        check_name(part, allowed, step.get("type").unwrap_or(&Value::Null))?;
        let bytes_of = |name: &str| step.get(name).and_then(Value::as_str).map_or(0, str::len);
        self.n_steps += 1;
        for text in ["content", "prepend"] {
            self.growth = self.growth.saturating_mul(bytes_of(text).max(1));
        }
        let expression = step.get("pattern").map_or(0, |p| p.to_string().len());
        let strips_end = step.get("stop").is_some_and(|n| n != 0);
        let start = step.get("start").and_then(Value::as_u64).unwrap_or(0);
        let prepends_nothing = step.get("prepend").is_some_and(|text| text == "");
        // The library loses its place in a text where nothing is replaced by something.
        let replaces = step.get("type").is_some_and(|name| name == "Replace");
        let replaced = step
            .pointer("/pattern/String")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let wrong = [
            (self.n_steps > MAX_STEPS, "has too many steps"),
            (self.growth > MAX_GROWTH, "makes texts too long"),
            (
                expression > MAX_EXPRESSION_BYTES,
                "has too long an expression",
            ),
            (prepends_nothing, "prepends nothing"),
            (
                replaces && replaced.is_empty(),
                "replaces what is not a fixed text",
            ),
            (strips_end || start > 16, "strips more than a beginning"),
        ];
        if let Some((_, why)) = wrong.iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(inconsistent(format!("the {part} {why}")));
        }
        let steps = ["normalizers", "pretokenizers", "decoders"];
        let steps = steps.iter().filter_map(|name| step.get(*name)?.as_array());
        for inner in steps.flatten() {
            self.check(part, allowed, inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_allowed(part: &str, value: Value) -> bool {
        check(&Map::from_iter([(part.to_string(), value)])).is_ok()
    }

    #[test]
    fn what_published_files_ask_for_is_allowed() {
        let llama2 = json!({ "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ] });
        assert!(is_allowed("decoder", llama2));
        let llama2 = json!({ "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ] });
        assert!(is_allowed("normalizer", llama2));
        assert!(is_allowed("decoder", Value::Null));
    }

    #[test]
    fn what_the_library_does_not_survive_is_refused() {
        let replace = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aa" });
        let rows = [
            (
                "decoder",
                json!({ "type": "Strip", "content": " ", "start": 0, "stop": 1 }),
            ),
            (
                "decoder",
                json!({ "type": "Strip", "content": " ", "start": 99, "stop": 0 }),
            ),
            ("decoder", json!({ "type": "CTC" })),
            (
                "decoder",
                json!({ "type": "Replace", "pattern": { "Regex": "a" }, "content": "" }),
            ),
            (
                "normalizer",
                json!({ "type": "Replace", "pattern": { "String": "" }, "content": "a" }),
            ),
            ("normalizer", json!({ "type": "Prepend", "prepend": "" })),
            ("decoder", json!({})),
            ("decoder", json!([])),
            (
                "decoder",
                json!({ "type": "Sequence", "decoders": vec![replace.clone(); 9] }),
            ),
            (
                "decoder",
                json!({ "type": "Sequence", "decoders": vec![json!({ "type": "Fuse" }); 40] }),
            ),
            (
                "normalizer",
                json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" }),
            ),
            (
                "normalizer",
                json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "x".repeat(99) }] }),
            ),
            (
                "pre_tokenizer",
                json!({ "type": "FixedLength", "length": 0 }),
            ),
            (
                "pre_tokenizer",
                json!({ "type": "Split", "pattern": { "Regex": "a".repeat(5000) } }),
            ),
            ("model", json!({ "type": "WordPiece" })),
        ];
        for (part, value) in rows {
            assert!(!is_allowed(part, value.clone()), "{part}: {value}");
        }
        assert!(is_allowed(
            "normalizer",
            json!({ "type": "Sequence", "normalizers": vec![replace; 6] })
        ));
    }
}
