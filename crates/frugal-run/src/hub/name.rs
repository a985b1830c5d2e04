//! What a user asks of the hub: `NAME[@REVISION][:FILE]`, and which names may become paths.

use std::str::FromStr;

use super::HubError;

/// Longest part of a name that file systems keep with room for an ending.
const MOST_PART_BYTES: usize = 160;
/// Longest path inside a repository.
const MOST_PATH_BYTES: usize = 1024;

/// A repository at a revision, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `OWNER/NAME`, or `NAME` of the hub's oldest ones.
    pub id: String,
    /// A branch, tag or commit.
    pub revision: String,
    /// What of it.
    pub choice: Choice,
}

/// What of a repository is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The safetensors checkpoint, or the only GGUF file where there is no checkpoint.
    Only,
    /// One GGUF file: its name, or a part of it that only one file has, for example `Q4_K_M`.
    Gguf(String),
}

impl FromStr for Wanted {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let refuse = |message: &str| HubError::Name {
            name: text.escape_debug().to_string(),
            message: message.to_owned(),
        };
        let (name, choice) = match text.split_once(':') {
            Some((name, file)) if is_safe_path(file) => (name, Choice::Gguf(file.to_owned())),
            Some(_) => return Err(refuse("expected a file of the repository after the colon")),
            None => (text, Choice::Only),
        };
        let (id, revision) = name.split_once('@').unwrap_or((name, "main"));
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_plain(part)) {
            return Err(refuse(
                "expected OWNER/NAME of letters, digits, dots, dashes and underscores",
            ));
        }
        if !is_safe_path(revision) || !revision.split('/').all(is_plain) {
            return Err(refuse("expected a branch, tag or commit after the @"));
        }
        Ok(Self {
            id: id.to_owned(),
            revision: revision.to_owned(),
            choice,
        })
    }
}

/// Whether a name can be one part of a path on every system: letters, digits, dots, dashes,
/// underscores and plus signs, beginning with a letter, digit or underscore, not ending in a dot.
pub(crate) fn is_plain(part: &str) -> bool {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    part.len() <= MOST_PART_BYTES
        && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && !part.ends_with('.')
        && part.chars().all(is_kept)
}

/// Whether a path from elsewhere stays inside the folder it is joined to, on every system.
pub(crate) fn is_safe_path(path: &str) -> bool {
    path.len() <= MOST_PATH_BYTES
        && !path.chars().any(|c| c.is_control() || c == '\\')
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_revision_and_file() {
        let wanted = |text: &str| text.parse::<Wanted>().unwrap();
        let plain = wanted("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B");
        assert_eq!(plain.id, "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B");
        assert_eq!(plain.revision, "main");
        assert_eq!(plain.choice, Choice::Only);
        let full = wanted("o/n-GGUF@refs/pr/1:sub/n-Q4_K_M.gguf");
        assert_eq!(full.id, "o/n-GGUF");
        assert_eq!(full.revision, "refs/pr/1");
        assert_eq!(full.choice, Choice::Gguf("sub/n-Q4_K_M.gguf".into()));
        assert_eq!(wanted("gpt2").id, "gpt2");
    }

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for name in [
            "",
            "/",
            "a/",
            "/a",
            "../a",
            "a/..",
            "a/b/c",
            ".hidden/a",
            "a/-b",
            "a\\b",
            "a b",
            "a/b@",
            "a/b@../c",
            "a/b@x//y",
            "a/b:",
            "a/b:../c",
            "a/b:/etc/passwd",
            "a/b:c\\d",
            "a/b:c\u{7}",
            "a/b?x=1",
            "a/b#c",
            "a/b%2e%2e",
            "a/b.",
        ] {
            let error = name.parse::<Wanted>().unwrap_err();
            assert!(matches!(error, HubError::Name { .. }), "{name}: {error}");
        }
        assert!(
            "a/b\u{1b}[31m"
                .parse::<Wanted>()
                .unwrap_err()
                .to_string()
                .contains("\\u{1b}")
        );
    }
}
