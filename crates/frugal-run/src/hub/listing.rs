//! What the hub says a repository holds.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::HubError;
use super::name::{Wanted, is_plain, is_safe_path};

/// Longest listing that is read: tens of thousands of files.
pub(super) const MAX_BYTES: u64 = 16 << 20;
const MOST_FILES: usize = 20_000;

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Its name as the hub has it now, which differs from the one asked for where it has moved.
    pub id: String,
    /// The commit, or the revision asked for where the hub names none.
    pub revision: String,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    bytes: Option<u64>,
    digest: Option<Digest>,
}

/// A file of a repository that can be fetched and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the repository.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What its bytes must hash to.
    pub digest: Digest,
}

impl RemoteFile {
    /// The last part of its path: its name on this disk.
    #[must_use]
    pub fn plain_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

/// How the hub names the bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    /// Of large files: SHA-256 of the bytes.
    Sha256(String),
    /// Of small files: SHA-1 of git's header and the bytes.
    GitBlob(String),
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(hex) => write!(f, "sha256 {hex}"),
            Self::GitBlob(hex) => write!(f, "git blob {hex}"),
        }
    }
}

/// The answer's fields that are needed; the many others are not read.
#[derive(Deserialize)]
struct Wire {
    id: Option<String>,
    sha: Option<String>,
    siblings: Vec<WireFile>,
}

#[derive(Deserialize)]
struct WireFile {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<WireLfs>,
}

#[derive(Deserialize)]
struct WireLfs {
    sha256: String,
    size: u64,
}

impl Listing {
    pub(super) fn parse(wanted: &Wanted, body: &[u8]) -> Result<Self, HubError> {
        let refuse = |message: String| HubError::Listing {
            name: wanted.id.clone(),
            message,
        };
        let wire: Wire = serde_json::from_slice(body)
            .map_err(|error| refuse(format!("expected a list of files, got {error}")))?;
        if wire.siblings.len() > MOST_FILES {
            let got = wire.siblings.len();
            return Err(refuse(format!(
                "expected at most {MOST_FILES} files, got {got}"
            )));
        }
        let mut files = BTreeMap::new();
        for file in wire.siblings {
            let name = file.rfilename.clone();
            if !is_safe_path(&name) {
                return Err(refuse(format!(
                    "expected paths inside the repository, got {name:?}"
                )));
            }
            let entry = entry(file).map_err(|message| refuse(format!("{name:?}: {message}")))?;
            if files.insert(name.clone(), entry).is_some() {
                return Err(refuse(format!("expected {name:?} once, got it twice")));
            }
        }
        let id = wire.id.unwrap_or_else(|| wanted.id.clone());
        if id.split('/').count() > 2 || !id.split('/').all(is_plain) {
            return Err(refuse(format!(
                "expected the repository's name, got {id:?}"
            )));
        }
        let revision = match wire.sha {
            None => wanted.revision.clone(),
            Some(sha) => hex_of(&sha, 40)
                .ok_or_else(|| refuse(format!("expected a commit of 40 digits, got {sha:?}")))?,
        };
        Ok(Self {
            id,
            revision,
            files,
        })
    }

    /// The paths of all files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// A file by its path.
    ///
    /// # Errors
    /// One that is not listed, or listed without size or digest.
    pub fn file(&self, name: &str) -> Result<RemoteFile, HubError> {
        let entry = self.files.get(name).ok_or_else(|| {
            HubError::NotFound(format!("file {name} in {} at {}", self.id, self.revision))
        })?;
        match (entry.bytes, &entry.digest) {
            (Some(bytes), Some(digest)) => Ok(RemoteFile {
                name: name.to_owned(),
                bytes,
                digest: digest.clone(),
            }),
            _ => Err(HubError::Listing {
                name: self.id.clone(),
                message: format!("expected size and digest of {name}, got none to check it by"),
            }),
        }
    }
}

fn entry(file: WireFile) -> Result<Entry, String> {
    let digest = |hex: &str, digits| {
        hex_of(hex, digits)
            .ok_or_else(|| format!("expected a digest of {digits} hexadecimal digits, got {hex:?}"))
    };
    if let Some(lfs) = file.lfs {
        if file.size.is_some_and(|size| size != lfs.size) {
            let size = file.size.unwrap_or_default();
            return Err(format!("expected one size, got {size} and {}", lfs.size));
        }
        return Ok(Entry {
            bytes: Some(lfs.size),
            digest: Some(Digest::Sha256(digest(&lfs.sha256, 64)?)),
        });
    }
    let blob = file.blob_id.map(|blob| digest(&blob, 40)).transpose()?;
    Ok(Entry {
        bytes: file.size,
        digest: blob.map(Digest::GitBlob),
    })
}

fn hex_of(text: &str, digits: usize) -> Option<String> {
    let is_hex = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Listing, HubError> {
        Listing::parse(&"o/n".parse().unwrap(), body.as_bytes())
    }

    #[test]
    fn large_files_go_by_sha256_and_small_ones_by_git_blob() {
        let (commit, blob, sha) = ("A".repeat(40), "b".repeat(40), "c".repeat(64));
        let body = format!(
            r#"{{"id":"o/n","sha":"{commit}","gated":false,"siblings":[
            {{"rfilename":"config.json","size":3,"blobId":"{blob}"}},
            {{"rfilename":"sub/m.safetensors","size":9,"blobId":"{blob}",
              "lfs":{{"sha256":"{sha}","size":9,"pointerSize":134}}}},
            {{"rfilename":"odd"}}]}}"#
        );
        let listing = parse(&body).unwrap();
        assert_eq!(listing.revision, "a".repeat(40));
        assert_eq!(listing.names().count(), 3);
        let file = listing.file("config.json").unwrap();
        assert_eq!(file.digest, Digest::GitBlob(blob));
        let file = listing.file("sub/m.safetensors").unwrap();
        assert_eq!((file.plain_name(), file.bytes), ("m.safetensors", 9));
        assert_eq!(file.digest, Digest::Sha256(sha));
        let error = listing.file("odd").unwrap_err().to_string();
        assert!(error.contains("got none to check it by"), "{error}");
        let error = listing.file("gone").unwrap_err();
        assert!(matches!(error, HubError::NotFound(_)), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_listing_names_stays_inside_or_is_refused(name in "\\PC{0,40}|[./\\\\a\u{0}]{0,12}") {
            let body = serde_json::json!({ "siblings": [{ "rfilename": name }] }).to_string();
            if let Ok(listing) = parse(&body) {
                let root = std::path::Path::new("/root");
                for name in listing.names() {
                    let path = root.join(name);
                    let is_plain = |part: std::path::Component<'_>| {
                        matches!(part, std::path::Component::Normal(_))
                    };
                    proptest::prop_assert!(path.strip_prefix(root).unwrap().components().all(is_plain));
                    let has_odd = name.contains(['\\', '\u{0}']);
                    proptest::prop_assert!(!has_odd);
                }
            }
        }

        #[test]
        fn any_bytes_are_a_listing_or_an_error(body: Vec<u8>) {
            let read = Listing::parse(&"o/n".parse().unwrap(), &body);
            proptest::prop_assert!(read.is_err());
        }
    }

    #[test]
    fn listings_that_cannot_be_right_are_refused() {
        let named = |name: &str| format!(r#"{{"siblings":[{{"rfilename":{name:?}}}]}}"#);
        let long = "x".repeat(2000);
        for (body, expected) in [
            (named("../../etc/passwd"), "inside the repository"),
            (named("/etc/passwd"), "inside the repository"),
            (named("a//b"), "inside the repository"),
            (named("a/./b"), "inside the repository"),
            (named("a\\b"), "inside the repository"),
            (named(&long), "inside the repository"),
            (named(""), "inside the repository"),
            (r#"{"siblings":[{"rfilename":"a\u0000"}]}"#.into(), "inside"),
            (
                r#"{"siblings":[{"rfilename":"a\u001b[2J"}]}"#.into(),
                "inside",
            ),
            (
                r#"{"siblings":[{"rfilename":"a"},{"rfilename":"a"}]}"#.into(),
                "twice",
            ),
            (
                r#"{"siblings":[{"rfilename":"a","size":-1}]}"#.into(),
                "list of files",
            ),
            (
                r#"{"siblings":[{"rfilename":"a","size":1e30}]}"#.into(),
                "list of files",
            ),
            (
                r#"{"siblings":[{"rfilename":"a","blobId":"xyz"}]}"#.into(),
                "40 hexadecimal",
            ),
            (r#"{"siblings":[],"sha":"../../x"}"#.into(), "40 digits"),
            (r#"{"siblings":[],"id":"../x"}"#.into(), "repository's name"),
            (r#"{"error":"gone"}"#.into(), "list of files"),
            ("<html>".into(), "list of files"),
        ] {
            let error = parse(&body).unwrap_err();
            assert!(matches!(error, HubError::Listing { .. }), "{error}");
            let error = error.to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\u{1b}'), "{error}");
        }
        let many: Vec<String> = (0..=MOST_FILES)
            .map(|index| format!(r#"{{"rfilename":"f{index}"}}"#))
            .collect();
        let error = parse(&format!(r#"{{"siblings":[{}]}}"#, many.join(","))).unwrap_err();
        assert!(error.to_string().contains("at most 20000 files"), "{error}");
    }
}
