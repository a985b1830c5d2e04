//! Names of models and the folders they have: `NAME` or `OWNER/NAME`, with `:TAG` for one GGUF file
//! of several. A folder spells the colon `+`, which no other part of a name may hold, so names and
//! folders answer each other one to one.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::ModelsError;
use crate::hub::is_plain;

/// The full name of a model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelName {
    owner: Option<String>,
    name: String,
    tag: Option<String>,
}

impl FromStr for ModelName {
    type Err = ModelsError;

    fn from_str(text: &str) -> Result<Self, ModelsError> {
        let refuse = |message: &str| ModelsError::Name {
            name: text.escape_debug().to_string(),
            message: message.to_owned(),
        };
        let (path, tag) = match text.split_once(':') {
            Some((path, tag)) => (path, Some(tag.to_owned())),
            None => (text, None),
        };
        let (owner, name) = match path.split_once('/') {
            Some((owner, name)) => (Some(owner.to_owned()), name.to_owned()),
            None => (None, path.to_owned()),
        };
        let is_part = |part: &String| is_plain(part) && !part.contains('+');
        if !owner.iter().chain([&name]).all(is_part) || !tag.iter().all(|tag| is_plain(tag)) {
            return Err(refuse(
                "expected NAME or OWNER/NAME of letters, digits, dots, dashes and underscores, and \
                 perhaps :TAG",
            ));
        }
        Ok(Self { owner, name, tag })
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(owner) = &self.owner {
            write!(f, "{owner}/")?;
        }
        f.write_str(&self.name)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
    }
}

impl ModelName {
    /// The parts of its path in the store.
    pub(super) fn parts(&self) -> Vec<String> {
        let last = match &self.tag {
            Some(tag) => format!("{}+{tag}", self.name),
            None => self.name.clone(),
        };
        self.owner.iter().cloned().chain([last]).collect()
    }

    pub(super) fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The name that a folder of the store stands for, if it does.
    pub(super) fn of_folder(parts: &[&Path]) -> Option<Self> {
        let parts: Option<Vec<&str>> = parts
            .iter()
            .map(|part| part.file_name().and_then(|name| name.to_str()))
            .collect();
        let text = parts?.join("/").replacen('+', ":", 1);
        text.parse().ok()
    }

    /// Refuses to call a distilled model by its teacher's name: what `original` says, this name
    /// must say too.
    pub(super) fn expect_honest(&self, original: &str) -> Result<(), ModelsError> {
        let last = original.rsplit('/').next().unwrap_or_default();
        let (last, name) = (last.to_ascii_lowercase(), self.name.to_ascii_lowercase());
        let Some((teacher, _)) = last.split_once("distill") else {
            return Ok(());
        };
        let teacher = teacher.trim_end_matches(['-', '_', '.']);
        if teacher.is_empty() || !name.contains(teacher) || name.contains("distill") {
            return Ok(());
        }
        Err(ModelsError::Name {
            name: self.to_string(),
            message: format!(
                "{} is a distilled model, expected a name that says so",
                original.escape_debug()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_folders_answer_each_other() {
        for (text, folder) in [
            ("r1-tiny", vec!["r1-tiny"]),
            (
                "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
                vec!["deepseek-ai", "DeepSeek-R1-Distill-Qwen-1.5B"],
            ),
            ("o/n-GGUF:Q4_K_M", vec!["o", "n-GGUF+Q4_K_M"]),
            ("n:a+b", vec!["n+a+b"]),
        ] {
            let name: ModelName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(name.parts(), folder);
            let paths: Vec<&Path> = folder.iter().map(Path::new).collect();
            assert_eq!(ModelName::of_folder(&paths).unwrap(), name);
        }
        let refused = [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "..",
            "a/..",
            ".a",
            "a\\b",
            "a b",
            "a:",
            "a:b/c",
            "a+b",
            "a:b:c",
            "a\n",
            "a/.incoming",
        ];
        for text in refused {
            let error = text.parse::<ModelName>().unwrap_err();
            assert!(matches!(error, ModelsError::Name { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn a_distilled_model_is_never_called_by_its_teachers_name() {
        let original = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B";
        for name in [
            "DeepSeek-R1",
            "deepseek-r1",
            "me/DeepSeek-R1:1.5b",
            "deepseek-r1-1.5b",
        ] {
            let error = name.parse::<ModelName>().unwrap().expect_honest(original);
            let error = error.unwrap_err().to_string();
            assert!(error.contains("expected a name that says so"), "{error}");
        }
        for name in ["DeepSeek-R1-Distill-Qwen-1.5B", "r1-distill", "my-model"] {
            name.parse::<ModelName>()
                .unwrap()
                .expect_honest(original)
                .unwrap();
        }
        let name: ModelName = "R1".parse().unwrap();
        name.expect_honest("deepseek-ai/DeepSeek-R1").unwrap();
    }
}
