//! A model's files against their recorded digests.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;

use super::{CARD, Model, ModelsError, Store, card, entries};
use crate::hub::{Hashes, Progress, StoredFile, Watch};
use crate::store::{At, Stop, StoreError};

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// One way in which a model is not what was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Difference {
    /// A file is gone, or is no file any more.
    Missing {
        /// Its name.
        file: String,
    },
    /// A file has another length.
    Bytes {
        /// Its name.
        file: String,
        /// As recorded.
        expected: u64,
        /// As found.
        got: u64,
    },
    /// A file has other bytes.
    Digest {
        /// Its name.
        file: String,
        /// As recorded.
        expected: String,
        /// As found.
        got: String,
    },
    /// Something lies there that was not recorded.
    Extra {
        /// Its name.
        file: String,
    },
    /// The card in the folder says other things than the record.
    Card {
        /// In which way.
        message: String,
    },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { file } => write!(f, "{file}: expected a file, found none"),
            Self::Bytes {
                file,
                expected,
                got,
            } => write!(f, "{file}: expected {expected} bytes, found {got}"),
            Self::Digest {
                file,
                expected,
                got,
            } => write!(f, "{file}: expected sha256 {expected}, found {got}"),
            Self::Extra { file } => write!(f, "{file}: expected no such file"),
            Self::Card { message } => write!(f, "{CARD}: {message}"),
        }
    }
}

impl Store {
    /// Every difference between a model's files and its record, in order of name; none is good.
    ///
    /// # Errors
    /// No such model, a folder that is gone, a file that cannot be read.
    pub fn verify(
        &self,
        name: &str,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Difference>, ModelsError> {
        self.verify_until(&Stop::default(), name, watch)
    }

    /// The same, until somebody asks to stop.
    ///
    /// # Errors
    /// As [`Self::verify`], and if it was stopped.
    pub fn verify_until(
        &self,
        stop: &Stop,
        name: &str,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Difference>, ModelsError> {
        let model = self.find(name)?;
        let folder = self.folder_of(&model.name)?;
        if !folder.is_dir() {
            return Err(ModelsError::Damaged {
                name: model.name,
                message: format!("expected folder {}, found none", folder.display()),
            });
        }
        let mut differences = Vec::new();
        for file in &model.files {
            differences.extend(of_file((&folder, file), stop, watch)?);
        }
        for path in entries(&folder)? {
            let found = path.file_name().unwrap_or_default().to_string_lossy();
            if found != CARD && !model.files.iter().any(|file| *file.name == *found) {
                let file = found.escape_debug().to_string();
                differences.push(Difference::Extra { file });
            }
        }
        differences.extend(of_card(&folder, &model));
        Ok(differences)
    }
}

fn of_file(
    (folder, file): (&Path, &StoredFile),
    stop: &Stop,
    watch: &mut Watch<'_>,
) -> Result<Option<Difference>, StoreError> {
    let path = folder.join(&file.name);
    let name = file.name.clone();
    let found = match path.symlink_metadata() {
        Ok(found) if found.is_file() => found,
        _ => return Ok(Some(Difference::Missing { file: name })),
    };
    if found.len() != file.bytes {
        return Ok(Some(Difference::Bytes {
            file: name,
            expected: file.bytes,
            got: found.len(),
        }));
    }
    let mut open = File::open(&path).at("read", &path)?;
    let got = hashed(&mut open, &path, file, watch, &mut |_| stop.check())?;
    Ok((got != file.sha256).then(|| Difference::Digest {
        file: name,
        expected: file.sha256.clone(),
        got,
    }))
}

fn of_card(folder: &Path, model: &Model) -> Option<Difference> {
    let message = match card::read(folder) {
        Ok(card) if card == *model => return None,
        Ok(_) => "expected what the record says, found something else".to_owned(),
        Err(error) => error.to_string(),
    };
    Some(Difference::Card { message })
}

/// The digest of a file as it is read to its end, each chunk passed on to `write`.
pub(super) fn hashed(
    source: &mut impl Read,
    path: &Path,
    file: &StoredFile,
    watch: &mut Watch<'_>,
    write: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<String, StoreError> {
    watch(&Progress::Begin {
        file: &file.name,
        have: 0,
        bytes: file.bytes,
    });
    let mut hashes = Hashes::plain();
    let mut chunk = vec![0; CHUNK];
    let mut have = 0;
    loop {
        let read = source.read(&mut chunk).at("read", path)?;
        let got = chunk.get(..read).unwrap_or_default();
        if got.is_empty() {
            break;
        }
        hashes.update(got);
        write(got)?;
        have += got.len() as u64;
        watch(&Progress::Bytes {
            file: &file.name,
            have,
            bytes: file.bytes,
        });
    }
    if have != file.bytes {
        let message = format!("expected {} bytes, found {have} while reading", file.bytes);
        return Err(StoreError::Damaged {
            path: path.to_owned(),
            message,
        });
    }
    watch(&Progress::End {
        file: &file.name,
        bytes: have,
    });
    Ok(hashes.finish().sha256)
}
