//! `model.safetensors.index.json`: which tensor lies in which file.
//!
//! The stored `total_size` is neither checked nor trusted: that of the published DeepSeek-V3 is
//! twice its number of elements, whatever their width. Everything else is checked: each tensor must
//! lie in the file that the index names, and the files may hold no other.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use frugal_core::error::expect_count;
use frugal_core::stored::SharedBytes;
use serde::{Deserialize, Serialize};

use super::container::{Container, Unique};
use crate::error::{Error, Result};

const NAME: &str = "model.safetensors.index.json";

#[derive(Serialize)]
pub(super) struct Index {
    pub(super) metadata: Metadata,
    /// Tensor name to file name.
    pub(super) weight_map: BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(super) struct Metadata {
    pub(super) total_size: u64,
}

impl Index {
    pub(super) fn to_file(&self) -> Result<super::File> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| refuse(&error))?;
        let name = NAME.to_string();
        Ok(super::File { name, bytes })
    }
}

/// The names of a sharded checkpoint's files, sorted, from its index.
///
/// # Errors
/// [`Error::Json`] if it is no index, or names a file outside of its own folder.
pub fn file_names(index: &[u8]) -> Result<Vec<String>> {
    let names: BTreeSet<String> = weight_map(index)?.into_values().collect();
    for name in &names {
        if name.contains(['/', '\\']) || !name.ends_with(".safetensors") {
            return Err(refuse(&format!(
                "expected safetensors files beside the index, got {name:?}"
            )));
        }
    }
    Ok(names.into_iter().collect())
}

/// Checks that the files hold what their index says, each tensor in the file it names. `names` are
/// those of the files.
///
/// # Errors
/// [`Error::Json`] if it is no index, [`Error::File`] for bytes that are no safetensors file,
/// [`Error::Tensor`] naming the tensor, the file it should lie in and the one it lies in.
pub fn check_index(index: &[u8], names: &[String], files: &[SharedBytes]) -> Result<()> {
    let mut places = weight_map(index)?;
    expect_count("index", "files", names.len(), files.len())?;
    for (index, (name, file)) in names.iter().zip(files).enumerate() {
        let container = Container::parse(file).map_err(|reason| Error::File { index, reason })?;
        for tensor in container.tensors.into_keys() {
            let expected = places.remove(&tensor);
            if expected.as_deref() != Some(name) {
                let expected = expected.unwrap_or_else(|| "no file".to_string());
                return Err(Error::Tensor {
                    name: tensor,
                    expected: format!("to lie in {expected}, as the index has it"),
                    got: name.clone(),
                });
            }
        }
    }
    match places.pop_first() {
        None => Ok(()),
        Some((name, file)) => Err(Error::Tensor {
            name,
            expected: format!("to lie in {file}, as the index has it"),
            got: "no such tensor there".to_string(),
        }),
    }
}

fn weight_map(index: &[u8]) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Files {
        weight_map: Unique<String>,
    }
    let files: Files = serde_json::from_slice(index).map_err(|error| refuse(&error))?;
    Ok(files.weight_map.0)
}

fn refuse(reason: &dyn ToString) -> Error {
    Error::Json {
        file: NAME,
        reason: reason.to_string(),
    }
}
