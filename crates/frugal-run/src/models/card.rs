//! What a model says of itself: the head of its README as the hub writes it, and the card of the
//! store. Only what is written is known; nothing is guessed from names.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CARD, MAX_CARD_BYTES, Model};
use crate::hub::is_plain;
use crate::store::{StoreError, read_text, replace_file};

/// Longest head of a README that is read.
const MOST_HEAD_BYTES: usize = 64 << 10;
const MOST_VALUE_CHARS: usize = 200;
const MOST_BASES: usize = 16;
const VERSION: u32 = 1;

/// The head of a README: the hub's names of where a model comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// `license`; where that is `other`, its `license_name`.
    pub licence: Option<String>,
    /// `base_model`, several where models were merged.
    pub base_models: Vec<String>,
    /// `base_model_relation`: finetune, quantized, adapter, merge, or our own verb.
    pub method: Option<String>,
    /// `pipeline_tag`.
    pub pipeline: Option<String>,
}

impl Card {
    /// Reads the head of a README between its `---` lines. A small part of YAML: `key: value` and
    /// lists under a key; the rest is not looked at. A value that is too long or holds control
    /// characters counts as not given.
    #[must_use]
    pub fn parse(readme: &str) -> Self {
        let mut card = Self::default();
        let text = readme.strip_prefix('\u{feff}').unwrap_or(readme);
        let mut lines = text.lines();
        if lines.next().map(str::trim_end) != Some("---") {
            return card;
        }
        let (mut key, mut licence_name, mut bytes) = ("", None, 0);
        for line in lines {
            bytes += line.len();
            if line.trim_end() == "---" || bytes > MOST_HEAD_BYTES {
                break;
            }
            if let Some(item) = line.trim_start().strip_prefix("- ") {
                card.take(key, item, &mut licence_name);
            } else if let Some((name, value)) = line.split_once(':')
                && !line.starts_with([' ', '\t', '#'])
            {
                key = name.trim();
                let value = value.trim();
                let list = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
                match list {
                    Some(items) => items
                        .split(',')
                        .for_each(|item| card.take(key, item, &mut licence_name)),
                    None => card.take(key, value, &mut licence_name),
                }
            }
        }
        if card.licence.as_deref() == Some("other") && licence_name.is_some() {
            card.licence = licence_name;
        }
        card
    }

    fn take(&mut self, key: &str, value: &str, licence_name: &mut Option<String>) {
        let Some(value) = scalar(value) else { return };
        let place = match key {
            "license" => &mut self.licence,
            "license_name" => licence_name,
            "base_model_relation" => &mut self.method,
            "pipeline_tag" => &mut self.pipeline,
            "base_model" => {
                if self.base_models.len() < MOST_BASES {
                    self.base_models.push(value);
                }
                return;
            }
            _ => return,
        };
        place.get_or_insert(value);
    }

    /// The head of a README that says this, as the hub reads it.
    #[must_use]
    pub fn head(&self) -> String {
        let mut head = String::from("---\n");
        let mut line = |key: &str, value: &Option<String>| {
            if let Some(value) = value {
                // JSON's strings are YAML's too, and writing to a string cannot fail.
                let value = serde_json::Value::from(value.as_str());
                let _ = writeln!(head, "{key}: {value}");
            }
        };
        line("license", &self.licence);
        line("base_model_relation", &self.method);
        line("pipeline_tag", &self.pipeline);
        if !self.base_models.is_empty() {
            head.push_str("base_model:\n");
            for base in &self.base_models {
                let base = serde_json::Value::from(base.as_str());
                let _ = writeln!(head, "- {base}");
            }
        }
        head.push_str("---\n");
        head
    }
}

fn scalar(value: &str) -> Option<String> {
    let value = value.trim();
    // A comment begins after a space.
    let bare = || value.split(" #").next().unwrap_or(value).trim();
    let value = match value.chars().next()? {
        '"' => {
            // JSON's strings are YAML's too.
            let end = value.rfind('"')?;
            serde_json::from_str(value.get(..=end)?).ok()?
        }
        '\'' => value.get(1..value.rfind('\'')?)?.replace("\'\'", "'"),
        '#' => return None,
        _ => bare().to_owned(),
    };
    let is_null = matches!(value.as_str(), "" | "~" | "null" | "|" | ">");
    let is_short = value.chars().count() <= MOST_VALUE_CHARS;
    (!is_null && is_short && !value.chars().any(char::is_control)).then_some(value)
}

/// The head of the README in a folder; empty where there is none.
pub(super) fn of_folder(folder: &Path) -> Card {
    use std::io::Read;
    let mut head = Vec::new();
    let file = std::fs::File::open(folder.join("README.md"));
    let limit = 2 * MOST_HEAD_BYTES as u64;
    let read = file.and_then(|file| file.take(limit).read_to_end(&mut head));
    match read {
        // A README that was cut in the middle of a letter is still read up to there.
        Ok(_) => Card::parse(&String::from_utf8_lossy(&head)),
        Err(_) => Card::default(),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    model: Model,
}

/// Writes the store's card into a model's folder.
pub(super) fn write(folder: &Path, model: &Model) -> Result<(), StoreError> {
    let path = folder.join(CARD);
    let written = Written {
        version: VERSION,
        model: model.clone(),
    };
    let text = serde_json::to_vec_pretty(&written).map_err(|error| StoreError::Line {
        path: path.clone(),
        message: error.to_string(),
    })?;
    replace_file(&path, &text)
}

/// Reads the store's card of a folder.
pub(super) fn read(folder: &Path) -> Result<Model, StoreError> {
    let path = folder.join(CARD);
    let text = read_text(&path, MAX_CARD_BYTES)?;
    let damaged = |message: String| StoreError::Damaged {
        path: path.clone(),
        message,
    };
    let written: Written = serde_json::from_str(&text)
        .map_err(|error| damaged(format!("expected a model's card, got {error}")))?;
    if written.version != VERSION {
        let got = written.version;
        return Err(damaged(format!("expected version {VERSION}, got {got}")));
    }
    if let Some(file) = written
        .model
        .files
        .iter()
        .find(|file| !is_plain(&file.name))
    {
        let name = &file.name;
        return Err(damaged(format!("expected plain file names, got {name:?}")));
    }
    Ok(written.model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_readme_is_read_as_the_hub_writes_it() {
        let readme = "---\nlicense: mit\nlibrary_name: transformers\nbase_model:\n- Qwen/Qwen2.5-1.5B\n\
                      base_model_relation: 'quantized' # by us\npipeline_tag: text-generation\n\
                      tags:\n  - base_model\n---\n# Title\nlicense: gpl\n";
        let card = Card::parse(readme);
        assert_eq!(card.licence.as_deref(), Some("mit"));
        assert_eq!(card.base_models, ["Qwen/Qwen2.5-1.5B"]);
        assert_eq!(card.method.as_deref(), Some("quantized"));
        assert_eq!(card.pipeline.as_deref(), Some("text-generation"));
        assert_eq!(Card::parse(&format!("{}# x\n", card.head())), card);
    }

    #[test]
    fn lists_quotes_and_other_licences() {
        let card = Card::parse(
            "---\r\nlicense: other\r\nlicense_name: \"deepseek\"\r\nbase_model: [a/b, \"c/d\"]\r\n---\r\n",
        );
        assert_eq!(card.licence.as_deref(), Some("deepseek"));
        assert_eq!(card.base_models, ["a/b", "c/d"]);
        let card = Card::parse("---\nlicense:\n- apache-2.0\n- mit\nbase_model: a/b\n---\n");
        assert_eq!(card.licence.as_deref(), Some("apache-2.0"));
        assert_eq!(card.base_models, ["a/b"]);
    }

    #[test]
    fn any_value_comes_back_from_the_head_it_was_written_to() {
        let card = Card {
            licence: Some("it's \"odd\" # and: so".into()),
            base_models: vec!["a/b".into(), "- c".into(), "'".into()],
            method: Some("\\n".into()),
            pipeline: None,
        };
        assert_eq!(Card::parse(&card.head()), card);
        for odd in ["'", "\"", "\"\\", "''", "'a", "\"a", "#", "'\u{e9}"] {
            // Whatever it is taken for, it is no reason to stop.
            let card = Card::parse(&format!("---\nlicense: {odd}\nbase_model: a/b\n---\n"));
            assert_eq!(card.base_models, ["a/b"], "{odd}");
        }
    }

    proptest::proptest! {
        #[test]
        fn values_of_any_text_are_short_and_without_control(head in "(\\PC|\n|\u{1b}|license: |- |\"|'){0,80}") {
            let card = Card::parse(&format!("---\n{head}\n---\n"));
            let values = [card.licence, card.method, card.pipeline].into_iter().flatten();
            for value in values.chain(card.base_models) {
                proptest::prop_assert!(!value.chars().any(char::is_control));
                proptest::prop_assert!(value.chars().count() <= MOST_VALUE_CHARS);
            }
        }
    }

    #[test]
    fn what_is_not_said_is_not_known() {
        for readme in [
            "",
            "# Title\nlicense: mit\n",
            "---\n---\nlicense: mit\n",
            "---\nlicense:\n---\n",
        ] {
            assert_eq!(Card::parse(readme), Card::default(), "{readme:?}");
        }
        let hostile = format!(
            "---\nlicense: a\u{1b}[2Jb\nbase_model: {}\npipeline_tag: null\n---\n",
            "x".repeat(500)
        );
        assert_eq!(Card::parse(&hostile), Card::default());
        let endless = format!("---\n{}license: mit\n", "x: y\n".repeat(30_000));
        assert_eq!(Card::parse(&endless), Card::default());
    }
}
