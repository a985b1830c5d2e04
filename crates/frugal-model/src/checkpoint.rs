//! Checkpoints as bytes: safetensors files under the published names, in one piece or in shards.
//!
//! Files come from outside: every claim is checked before memory is taken for it, nothing is partly
//! loaded, and a tensor that the config does not ask for is an error. Reading and writing the disk
//! is the caller's affair. [`read`] gives each parameter where it lies in the bytes, [`load`] puts
//! them on a back-end, [`save`] gets them back.

use alloc::vec::Vec;

use frugal_core::backend::Backend;

use crate::config::ModelConfig;
use crate::error::Result;
use crate::transformer::Model;

mod index;
mod read;
mod write;

pub use index::file_names;
pub use read::{Stored, read};
pub use write::{File, WriteSettings, write};

/// Reads the files of a checkpoint into a model for `n_positions` positions.
///
/// The model's config says what the files hold: its extra prediction layer may be absent, and
/// weights stored in e4m3 are plain numbers from here on.
///
/// # Errors
/// As [`read`] and [`Model::new`].
pub fn load<B: Backend>(
    b: &B,
    config: &ModelConfig,
    files: &[&[u8]],
    n_positions: usize,
) -> Result<Model<B::Tensor>> {
    let (config, stored) = read(config, files)?;
    let params = stored.try_map(|leaf| leaf.put(b))?;
    Model::new(b, config, params, n_positions)
}

/// Writes the parameters of a model.
///
/// # Errors
/// As [`write()`], or if the back-end cannot give the numbers back.
pub fn save<B: Backend>(
    b: &B,
    model: &Model<B::Tensor>,
    settings: &WriteSettings,
) -> Result<Vec<File>> {
    let values = model.params.try_map(|leaf| b.get(leaf))?;
    write(&model.config, &values, settings)
}
