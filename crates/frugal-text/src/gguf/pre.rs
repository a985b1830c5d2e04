//! The pre-tokenizers that GGUF files name: how text is cut into words before byte pairs are merged.
//!
//! Each is a list of regular expressions, applied one after another: what an expression matches in
//! a piece becomes a piece of its own, and what lies between matches goes on to the next expression
//! together with them. A name is all that a GGUF file holds, so this is a table of facts about
//! published tokenizers.

use serde_json::{Value, json};

use crate::{Error, Result};

/// GPT-2's, which the library has built in.
const GPT2: &[&str] =
    &[r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"];

/// Qwen2's: GPT-2's with single digits, line breaks kept together, contractions in any case.
const QWEN2: &[&str] = &[
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

/// Llama 3's: Qwen2's with up to three digits together.
const LLAMA3: &[&str] = &[
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

/// DeepSeek LLM's and V2's. The letters are those of alphabets with two cases.
#[expect(
    clippy::unicode_not_nfc,
    reason = "the signs of Ohm, Kelvin and Angstrom are in it"
)]
const DEEPSEEK_LLM: &[&str] = &[
    r"[\r\n]",
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    r"[一-龥ࠀ-一가-퟿]+",
    r"\p{N}+",
];

/// DeepSeek Coder's.
const DEEPSEEK_CODER: &[&str] = &[
    r"[\r\n]",
    r"\s?\p{L}+",
    r"\s?\p{P}+",
    r"[一-龥ࠀ-一가-퟿]+",
    r"\p{N}",
];

/// DeepSeek V3's and R1's.
const DEEPSEEK_V3: &[&str] = &[
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];

/// A pre-tokenizer that we can rebuild from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PreTokenizer {
    Gpt2,
    Qwen2,
    Llama3,
    DeepseekLlm,
    DeepseekCoder,
    DeepseekV3,
}

/// All of them, each with the names it has in GGUF files; we write the first.
const NAMES: [(PreTokenizer, &[&str]); 6] = [
    (PreTokenizer::Gpt2, &["gpt-2"]),
    (PreTokenizer::Qwen2, &["qwen2", "deepseek-r1-qwen"]),
    (PreTokenizer::Llama3, &["llama-bpe", "llama3", "llama-v3"]),
    (PreTokenizer::DeepseekLlm, &["deepseek-llm"]),
    (PreTokenizer::DeepseekCoder, &["deepseek-coder"]),
    (PreTokenizer::DeepseekV3, &["deepseek-v3"]),
];

impl PreTokenizer {
    /// By the name in `tokenizer.ggml.pre`. `default` is not among the names: files say it when
    /// their maker did not know which.
    pub(super) fn from_name(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(_, names)| names.contains(&name));
        found.map(|(one, _)| *one).ok_or_else(|| {
            let known: Vec<&str> = NAMES
                .iter()
                .flat_map(|(_, names)| *names)
                .copied()
                .collect();
            Error::Inconsistent(format!(
                "expected a pre-tokenizer among {}, got {name:?}",
                known.join(", ")
            ))
        })
    }

    /// The name to write.
    pub(super) fn name(self) -> &'static str {
        let mut names = NAMES.iter().filter(|(one, _)| *one == self);
        names
            .find_map(|(_, names)| names.first())
            .copied()
            .unwrap_or_default()
    }

    fn expressions(self) -> &'static [&'static str] {
        match self {
            Self::Gpt2 => GPT2,
            Self::Qwen2 => QWEN2,
            Self::Llama3 => LLAMA3,
            Self::DeepseekLlm => DEEPSEEK_LLM,
            Self::DeepseekCoder => DEEPSEEK_CODER,
            Self::DeepseekV3 => DEEPSEEK_V3,
        }
    }

    /// Whether a word that is in the vocabulary is taken whole, without looking at merges.
    pub(super) fn takes_whole_words(self) -> bool {
        self == Self::Llama3
    }

    /// Whether sequences begin with the beginning token where the file does not say.
    pub(super) fn begins_sequences(self) -> bool {
        self == Self::Llama3
    }

    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub(super) fn to_json(self) -> Value {
        let bytes = |cuts: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": cuts });
        if self == Self::Gpt2 {
            return bytes(true);
        }
        let cut = |expression: &&str| {
            json!({
                "type": "Split",
                "pattern": { "Regex": expression },
                "behavior": "Isolated",
                "invert": false,
            })
        };
        let steps: Vec<Value> = self
            .expressions()
            .iter()
            .map(cut)
            .chain([bytes(false)])
            .collect();
        json!({ "type": "Sequence", "pretokenizers": steps })
    }

    /// Recognises the `pre_tokenizer` of a `tokenizer.json` by its expressions.
    pub(super) fn recognise(pre_tokenizer: &Value) -> Result<Self> {
        let unknown = |why: &str| Err(Error::NotInGguf(format!("its pre-tokenizer {why}")));
        let one = std::slice::from_ref(pre_tokenizer);
        let steps = match pre_tokenizer.get("pretokenizers") {
            Some(Value::Array(steps)) => steps.as_slice(),
            _ => one,
        };
        let Some((bytes, cuts)) = steps.split_last() else {
            return unknown("has no steps");
        };
        if bytes.get("type").is_none_or(|t| t != "ByteLevel")
            || bytes.get("add_prefix_space").is_none_or(|v| v != false)
        {
            return unknown("does not end in plain bytes");
        }
        // The library cuts as GPT-2 does unless told not to.
        if bytes.get("use_regex").is_none_or(|v| v != false) {
            return if cuts.is_empty() {
                Ok(Self::Gpt2)
            } else {
                unknown("cuts a second time, as GPT-2's")
            };
        }
        let Some(cuts) = cuts.iter().map(expression).collect::<Option<Vec<String>>>() else {
            return unknown("has a step that is no plain expression");
        };
        let same = |one: &Self| {
            let expected = one.expressions();
            expected.len() == cuts.len() && expected.iter().zip(&cuts).all(|(a, b)| is_same(a, b))
        };
        let mut all = NAMES.iter().map(|(one, _)| *one);
        all.find(same).map_or_else(
            || unknown(&format!("has expressions of no known name: {cuts:?}")),
            Ok,
        )
    }
}

/// The expression of a step that isolates what it matches; digits have a step of their own in
/// DeepSeek's files.
fn expression(step: &Value) -> Option<String> {
    match step.get("type")?.as_str()? {
        "Split" if step.get("behavior")? == "Isolated" && step.get("invert")? == false => {
            let written = step.get("pattern")?.get("Regex")?.as_str()?;
            Some(written.replace('\r', r"\r").replace('\n', r"\n"))
        }
        "Digits" if step.get("individual_digits")? == true => Some(r"\p{N}".to_string()),
        "Digits" => Some(r"\p{N}+".to_string()),
        _ => None,
    }
}

/// DeepSeek LLM's own file isolates single digits where its GGUF name joins them. As none of its
/// tokens has two digits, the ids are the same.
fn is_same(ours: &str, theirs: &str) -> bool {
    let digits = [r"\p{N}", r"\p{N}+"];
    ours == theirs || (ours == digits[1] && theirs == digits[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_written_and_recognised() {
        for (one, names) in NAMES {
            for name in names {
                assert_eq!(PreTokenizer::from_name(name).unwrap(), one);
            }
            assert_eq!(one.name(), names[0]);
            assert_eq!(PreTokenizer::recognise(&one.to_json()).unwrap(), one);
        }
    }

    #[test]
    fn an_unknown_name_is_named_with_the_known_ones() {
        for name in ["", "default", "gpt-4o"] {
            let told = PreTokenizer::from_name(name).unwrap_err().to_string();
            assert!(told.contains(&format!("{name:?}")), "{told}");
            assert!(
                told.contains("deepseek-v3") && told.contains("llama-bpe"),
                "{told}"
            );
        }
    }

    #[test]
    fn published_spellings_are_recognised() {
        // DeepSeek's files hold line breaks themselves and count digits in a step of their own.
        let mut coder = PreTokenizer::DeepseekCoder.to_json();
        coder["pretokenizers"][0]["pattern"]["Regex"] = json!("[\r\n]");
        coder["pretokenizers"][4] = json!({ "type": "Digits", "individual_digits": true });
        assert_eq!(
            PreTokenizer::recognise(&coder).unwrap(),
            PreTokenizer::DeepseekCoder
        );
        let mut v2 = PreTokenizer::DeepseekLlm.to_json();
        v2["pretokenizers"][5] = json!({ "type": "Digits", "individual_digits": true });
        assert_eq!(
            PreTokenizer::recognise(&v2).unwrap(),
            PreTokenizer::DeepseekLlm
        );
    }

    #[test]
    fn other_pre_tokenizers_have_no_name() {
        type Change = fn(&mut Value);
        let changes: [Change; 6] = [
            |p| p["pretokenizers"][0]["pattern"]["Regex"] = json!(r"\p{L}+"),
            |p| p["pretokenizers"][0]["behavior"] = json!("Removed"),
            |p| p["pretokenizers"][1]["add_prefix_space"] = json!(true),
            |p| p["pretokenizers"][1]["use_regex"] = json!(true),
            |p| p["pretokenizers"] = json!([]),
            |p| *p = json!({ "type": "WhitespaceSplit" }),
        ];
        for change in changes {
            let mut other = PreTokenizer::Qwen2.to_json();
            change(&mut other);
            let refused = PreTokenizer::recognise(&other);
            assert!(
                matches!(refused, Err(Error::NotInGguf(_))),
                "{other}: {refused:?}"
            );
        }
        assert!(PreTokenizer::recognise(&Value::Null).is_err());
    }
}
