//! The manifest of a checkpoint, and the writing of files under digest.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{CheckpointFile, Content, MANIFEST, Position, plain_name};
use crate::store::{At, StoreError, hex};

/// The digests of a checkpoint, in `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) version: u32,
    pub(super) stage: String,
    pub(super) position: Position,
    pub(super) files: Vec<FileDigest>,
    /// SHA-256 of this manifest with this field empty.
    pub(super) digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileDigest {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl Manifest {
    pub(super) fn own_digest(&self, path: &Path) -> Result<String, StoreError> {
        let bare = Self {
            digest: String::new(),
            ..self.clone()
        };
        let bytes = serde_json::to_vec(&bare).map_err(|error| StoreError::Line {
            path: path.into(),
            message: error.to_string(),
        })?;
        Ok(hex(&Sha256::digest(bytes)))
    }
}

pub(super) fn write_files<'a>(
    folder: &Path,
    stage: &str,
    position: Position,
    files: impl IntoIterator<Item = CheckpointFile<'a>>,
) -> Result<Manifest, StoreError> {
    let mut digests: Vec<FileDigest> = Vec::new();
    for file in files {
        plain_name(folder, &file.name)?;
        if file.name == MANIFEST || digests.iter().any(|other| other.name == file.name) {
            let message = format!("expected a file name of its own, got `{}` again", file.name);
            return Err(StoreError::Refused {
                path: folder.into(),
                message,
            });
        }
        let path = folder.join(&file.name);
        digests.push(write_file(&path, file).at("write", &path)?);
    }
    let mut manifest = Manifest {
        version: 1,
        stage: stage.into(),
        position,
        files: digests,
        digest: String::new(),
    };
    manifest.digest = manifest.own_digest(folder)?;
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(|error| StoreError::Line {
        path: folder.into(),
        message: error.to_string(),
    })?;
    let path = folder.join(MANIFEST);
    let content = CheckpointFile {
        name: MANIFEST.into(),
        content: Content::Bytes(bytes),
    };
    write_file(&path, content).at("write", &path)?;
    Ok(manifest)
}

fn write_file(path: &Path, file: CheckpointFile<'_>) -> io::Result<FileDigest> {
    let mut out = BufWriter::with_capacity(1 << 16, File::create_new(path)?);
    let mut hashing = Hashing::new(&mut out);
    match file.content {
        Content::Bytes(bytes) => hashing.write_all(&bytes)?,
        Content::Writer(write) => write(&mut hashing)?,
    }
    let (bytes, sha256) = hashing.finish();
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()?;
    Ok(FileDigest {
        name: file.name,
        bytes,
        sha256,
    })
}

/// Counts and digests what passes through.
pub(super) struct Hashing<'a> {
    into: &'a mut dyn Write,
    bytes: u64,
    sha: Sha256,
}

impl<'a> Hashing<'a> {
    pub(super) fn new(into: &'a mut dyn Write) -> Self {
        Self {
            into,
            bytes: 0,
            sha: Sha256::new(),
        }
    }

    pub(super) fn finish(self) -> (u64, String) {
        (self.bytes, hex(&self.sha.finalize()))
    }
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.sha.update(bytes.get(..written).unwrap_or(bytes));
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}
