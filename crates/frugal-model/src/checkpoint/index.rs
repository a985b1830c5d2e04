//! `model.safetensors.index.json`: which tensor lies in which file.
//!
//! The stored `total_size` is neither checked nor trusted: that of the published DeepSeek-V3 is
//! twice its number of elements, whatever their width.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const NAME: &str = "model.safetensors.index.json";

#[derive(Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) metadata: Metadata,
    /// Tensor name to file name.
    pub(super) weight_map: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
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
    #[derive(Deserialize)]
    struct Files {
        weight_map: BTreeMap<String, String>,
    }
    let files: Files = serde_json::from_slice(index).map_err(|error| refuse(&error))?;
    let names: BTreeSet<String> = files.weight_map.into_values().collect();
    for name in &names {
        if name.contains(['/', '\\']) || !name.ends_with(".safetensors") {
            return Err(refuse(&alloc::format!(
                "expected safetensors files beside the index, got {name:?}"
            )));
        }
    }
    Ok(names.into_iter().collect())
}

fn refuse(reason: &dyn ToString) -> Error {
    Error::Json {
        file: NAME,
        reason: reason.to_string(),
    }
}
