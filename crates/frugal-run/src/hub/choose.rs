//! Which files of a repository or folder make the model: those of one safetensors checkpoint, or
//! one GGUF file. Pickles and programs are never taken. Names only; nothing is opened here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::name::{Choice, is_plain};

/// The list of a sharded checkpoint's tensors and their files.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// Largest file beside the weights: the index of the largest checkpoints has ten megabytes.
pub(crate) const MAX_SMALL_BYTES: u64 = 128 << 20;
/// Files beside the weights, in the order they are fetched: what can refuse the model comes first.
const SMALL: [&str; 8] = [
    "config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    INDEX,
    "README.md",
];
const MOST_LICENCES: usize = 8;
const MOST_SHARDS: usize = 2_000;

/// How the weights lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A folder of safetensors.
    Checkpoint,
    /// One file.
    Gguf,
}

/// The files of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) shape: Shape,
    /// Everything but the weights.
    pub(crate) small: Vec<String>,
    /// The weights; of a GGUF model exactly one.
    pub(crate) weights: Vec<String>,
}

/// Chooses among `names`; `index` is the content of [`INDEX`] where there is one.
pub(crate) fn choose(
    names: &[&str],
    choice: &Choice,
    index: Option<&[u8]>,
) -> Result<Chosen, String> {
    let has_weights = names.iter().any(|name| is_top_safetensors(name));
    match choice {
        Choice::Only if has_weights => checkpoint(names, index),
        Choice::Only => gguf(names, None),
        Choice::Gguf(part) => gguf(names, Some(part)),
    }
}

fn is_top_safetensors(name: &str) -> bool {
    is_plain(name) && name.ends_with(".safetensors")
}

fn checkpoint(names: &[&str], index: Option<&[u8]>) -> Result<Chosen, String> {
    if !names.contains(&"config.json") {
        return Err("expected config.json beside the safetensors, got none".into());
    }
    let has = |name: &str| names.contains(&name);
    let weights: Vec<String> = if let Some(index) = index {
        let shards = shards_of(index)?;
        if let Some(missing) = shards.iter().find(|shard| !has(shard)) {
            return Err(format!("{INDEX} names {missing}, which is not there"));
        }
        shards.into_iter().collect()
    } else if has("model.safetensors") {
        vec!["model.safetensors".into()]
    } else {
        let all: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| is_top_safetensors(name))
            .collect();
        let [one] = all.as_slice() else {
            let all = listed(&all);
            return Err(format!(
                "expected model.safetensors or {INDEX}, got neither beside {all}"
            ));
        };
        vec![(*one).to_owned()]
    };
    Ok(Chosen {
        shape: Shape::Checkpoint,
        small: small(names, &SMALL),
        weights,
    })
}

#[derive(Deserialize)]
struct Index {
    // A map and not a set of files, though only its values matter: that is how it is written.
    weight_map: BTreeMap<String, String>,
}

fn shards_of(index: &[u8]) -> Result<BTreeSet<String>, String> {
    let index: Index = serde_json::from_slice(index)
        .map_err(|error| format!("expected a weight_map in {INDEX}, got {error}"))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if shards.is_empty() || shards.len() > MOST_SHARDS {
        let got = shards.len();
        return Err(format!(
            "expected 1 to {MOST_SHARDS} files in {INDEX}, got {got}"
        ));
    }
    match shards.iter().find(|shard| !is_top_safetensors(shard)) {
        Some(odd) => Err(format!(
            "expected plain names of safetensors in {INDEX}, got {odd:?}"
        )),
        None => Ok(shards),
    }
}

fn gguf(names: &[&str], part: Option<&str>) -> Result<Chosen, String> {
    let all: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| name.to_ascii_lowercase().ends_with(".gguf"))
        .collect();
    let found = match part {
        None => all
            .iter()
            .copied()
            .filter(|name| !last(name).to_ascii_lowercase().starts_with("mmproj"))
            .collect(),
        Some(part) => fitting(&all, part),
    };
    let wanted = part.map_or_else(String::new, |part| format!(" with `{part}` in its name"));
    if all.is_empty() {
        return Err(format!(
            "expected safetensors or one GGUF file{wanted}, got neither"
        ));
    }
    let [one] = found.as_slice() else {
        let got = if found.is_empty() {
            format!("none among {}", listed(&all))
        } else {
            listed(&found)
        };
        return Err(format!(
            "expected one GGUF file{wanted}, got {got}; name one after a colon"
        ));
    };
    if let Some(parts) = parts_of(one) {
        return Err(format!(
            "expected a GGUF file in one piece, got {one} of {parts} parts, which are not joined \
             here"
        ));
    }
    if !is_plain(last(one)) {
        return Err(format!(
            "expected a plain name of letters, digits, dots, dashes and underscores, got {one:?}"
        ));
    }
    Ok(Chosen {
        shape: Shape::Gguf,
        small: small(names, &["README.md"]),
        weights: vec![(*one).to_owned()],
    })
}

/// The files that `part` names: in full, else as a whole word of the name, else anywhere in it.
fn fitting<'a>(all: &[&'a str], part: &str) -> Vec<&'a str> {
    let part = part.to_ascii_lowercase();
    let is_word = |name: &str| {
        let stem = name.strip_suffix(".gguf").unwrap_or(name);
        stem.split(['-', '.', '/']).any(|word| word == part)
    };
    let tests: [&dyn Fn(&str) -> bool; 4] = [
        &|name| name == part,
        &|name| last(name) == part,
        &is_word,
        &|name| last(name).contains(&part),
    ];
    let found = tests.iter().map(|test| -> Vec<&str> {
        let names = all.iter().copied();
        names
            .filter(|name| test(&name.to_ascii_lowercase()))
            .collect()
    });
    found
        .into_iter()
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// Of how many parts the file is one, if it is one of several.
fn parts_of(name: &str) -> Option<u32> {
    let stem = name.get(..name.len().saturating_sub(".gguf".len()))?;
    let (before, of) = stem.rsplit_once("-of-")?;
    let (_, number) = before.rsplit_once('-')?;
    let is_number = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let parts = of
        .parse()
        .ok()
        .filter(|_| is_number(number) && is_number(of))?;
    (parts != 1).then_some(parts)
}

fn small(names: &[&str], wanted: &[&str]) -> Vec<String> {
    let is_licence = |name: &&&str| {
        let upper = name.to_ascii_uppercase();
        let is_text = match upper.rsplit_once('.') {
            None => true,
            Some((_, ending)) => matches!(ending, "MD" | "TXT" | "RST"),
        };
        is_plain(name) && is_text && (upper.starts_with("LICENSE") || upper.starts_with("LICENCE"))
    };
    let mut small: Vec<String> = wanted
        .iter()
        .filter(|name| names.contains(name))
        .map(|name| (*name).to_owned())
        .collect();
    let licences = names.iter().filter(is_licence).take(MOST_LICENCES);
    small.extend(licences.map(|name| (*name).to_owned()));
    small
}

/// What of a GGUF file's name its repository's name does not say: `Q4_K_M`.
pub(crate) fn tag(repository: &str, file: &str) -> String {
    let stem = last(file);
    let stem = stem
        .get(..stem.len().saturating_sub(".gguf".len()))
        .unwrap_or(stem);
    let base = last(repository);
    let base = ["-GGUF", "-gguf"]
        .iter()
        .find_map(|ending| base.strip_suffix(ending))
        .unwrap_or(base);
    let head = stem.get(..base.len()).unwrap_or_default();
    let rest = if head.eq_ignore_ascii_case(base) {
        stem.get(base.len()..).unwrap_or_default()
    } else {
        stem
    };
    match rest.trim_start_matches(['-', '.', '_']) {
        "" => "gguf".to_owned(),
        rest => rest.to_owned(),
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Some of the names, for a sentence.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| name.escape_debug().to_string())
        .collect();
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gguf_of(part: &str) -> Choice {
        Choice::Gguf(part.into())
    }

    #[test]
    fn a_checkpoint_is_its_data_and_never_a_program_or_pickle() {
        let names = [
            ".gitattributes",
            "LICENSE",
            "LICENSE-MODEL",
            "LICENSE.py",
            "README.md",
            "config.json",
            "figures/benchmark.png",
            "model.safetensors",
            "modeling_deepseek.py",
            "original/model.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
        ];
        let chosen = choose(&names, &Choice::Only, None).unwrap();
        assert_eq!(chosen.shape, Shape::Checkpoint);
        assert_eq!(chosen.weights, ["model.safetensors"]);
        let small = [
            "config.json",
            "tokenizer.json",
            "README.md",
            "LICENSE",
            "LICENSE-MODEL",
        ];
        assert_eq!(chosen.small, small);
    }

    #[test]
    fn an_index_says_which_shards() {
        let names = [
            "config.json",
            "consolidated.safetensors",
            "model-1.safetensors",
            "model-2.safetensors",
            INDEX,
        ];
        let index = br#"{"metadata":{"total_size":1},
            "weight_map":{"b":"model-2.safetensors","a":"model-1.safetensors"}}"#;
        let chosen = choose(&names, &Choice::Only, Some(index)).unwrap();
        assert_eq!(
            chosen.weights,
            ["model-1.safetensors", "model-2.safetensors"]
        );
        for (index, expected) in [
            (
                r#"{"weight_map":{"a":"model-3.safetensors"}}"#,
                "which is not there",
            ),
            (r#"{"weight_map":{"a":"../x.safetensors"}}"#, "plain names"),
            (r#"{"weight_map":{"a":"x.py"}}"#, "plain names"),
            (r#"{"weight_map":{}}"#, "got 0"),
            ("[]", "expected a weight_map"),
        ] {
            let error = choose(&names, &Choice::Only, Some(index.as_bytes())).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn weights_without_a_clear_choice_are_refused() {
        let error = choose(&["model.safetensors"], &Choice::Only, None).unwrap_err();
        assert!(error.contains("expected config.json"), "{error}");
        let two = ["config.json", "a.safetensors", "b.safetensors"];
        let error = choose(&two, &Choice::Only, None).unwrap_err();
        assert!(
            error.ends_with("got neither beside a.safetensors, b.safetensors"),
            "{error}"
        );
        let error = choose(&["pytorch_model.bin"], &Choice::Only, None).unwrap_err();
        assert!(error.contains("got neither"), "{error}");
    }

    #[test]
    fn one_gguf_file_is_found_by_its_word() {
        let names = [
            "README.md",
            "big/m-Q8_0-00001-of-00002.gguf",
            "big/m-Q8_0-00002-of-00002.gguf",
            "m-Q4_K_M.gguf",
            "m-Q4_K_S.gguf",
            "m-Q6_K.gguf",
            "mmproj-m.gguf",
        ];
        let one = |part: &str| choose(&names, &gguf_of(part), None);
        for part in ["Q4_K_M", "q4_k_m", "m-Q4_K_M.gguf"] {
            let chosen = one(part).unwrap();
            assert_eq!(chosen.weights, ["m-Q4_K_M.gguf"], "{part}");
            assert_eq!(chosen.small, ["README.md"]);
        }
        let error = one("Q4_K").unwrap_err();
        assert!(
            error.contains("got m-Q4_K_M.gguf, m-Q4_K_S.gguf;"),
            "{error}"
        );
        let error = one("Q2_K").unwrap_err();
        assert!(error.contains("got none among big/m-Q8_0"), "{error}");
        let error = one("m-Q8_0-00001-of-00002.gguf").unwrap_err();
        assert!(
            error.contains("of 2 parts, which are not joined here"),
            "{error}"
        );
        let error = choose(&names, &Choice::Only, None).unwrap_err();
        assert!(error.contains("name one after a colon"), "{error}");
        let chosen = choose(&["x.gguf", "mmproj.gguf"], &Choice::Only, None).unwrap();
        assert_eq!(chosen.weights, ["x.gguf"]);
        let chosen = choose(&["x-00001-of-00001.gguf"], &Choice::Only, None).unwrap();
        assert_eq!(chosen.weights, ["x-00001-of-00001.gguf"]);
    }

    #[test]
    fn a_tag_is_what_the_file_says_more_than_the_repository() {
        let repository = "unsloth/DeepSeek-R1-Distill-Qwen-1.5B-GGUF";
        for (file, expected) in [
            ("DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf", "Q4_K_M"),
            ("sub/deepseek-r1-distill-qwen-1.5b.Q8_0.gguf", "Q8_0"),
            ("DeepSeek-R1-Distill-Qwen-1.5B.gguf", "gguf"),
            ("ggml-model-f16.gguf", "ggml-model-f16"),
        ] {
            assert_eq!(tag(repository, file), expected);
        }
    }
}
