//! Checkpoints as bytes: safetensors files under the published names, in one piece or in shards, and
//! GGUF files.
//!
//! Files come from outside: every claim is checked before memory is taken for it, nothing is partly
//! loaded, and a tensor that the config does not ask for is an error. Reading and writing the disk
//! is the caller's affair. [`read`] (and [`gguf::read`]) gives each parameter where it lies in the
//! bytes, as a [`Leaf`]; [`put`] and [`keep`] bring them to a back-end. [`FolderPlan`] and
//! [`gguf::GgufPlan`] write any tree of leaves or of plain numbers, a piece at a time.

use alloc::vec::Vec;

use frugal_core::backend::Backend;
use frugal_core::stored::SharedBytes;

use crate::config::ModelConfig;
use crate::error::Result;
use crate::params::Params;
use crate::transformer::Model;

mod container;
mod folder;
pub mod gguf;
mod index;
mod leaf;
mod numbers;
mod read;

pub use container::{Container, Held};
pub use folder::{File, FolderFormat, FolderPlan, PlannedFile, WriteSettings, write};
pub use index::{check_index, file_names};
pub use leaf::Leaf;
pub use numbers::{Numbers, Sink};
pub use read::read;

/// Reads the files of a checkpoint into a model for `n_positions` positions, as f32 or whatever the
/// back-end makes of a tensor that it is given: for training.
///
/// The model's config says what the files hold: its extra prediction layer may be absent, and
/// weights stored in e4m3 are plain numbers from here on.
///
/// # Errors
/// As [`read`] and [`Model::new`].
pub fn load<B: Backend>(
    b: &B,
    config: &ModelConfig,
    files: &[SharedBytes],
    n_positions: usize,
) -> Result<Model<B::Tensor>> {
    let (config, leaves) = read(config, files)?;
    put(b, config, &leaves, n_positions)
}

/// As [`load`], but the matrices stay in the form they are stored in where the back-end can multiply
/// from it: for inference.
///
/// # Errors
/// As [`read`] and [`Model::new`].
pub fn load_stored<B: Backend>(
    b: &B,
    config: &ModelConfig,
    files: &[SharedBytes],
    n_positions: usize,
) -> Result<Model<B::Tensor>> {
    let (config, leaves) = read(config, files)?;
    keep(b, config, &leaves, n_positions)
}

/// A model of leaves, each put on the back-end.
///
/// # Errors
/// Those of the back-end and of [`Model::new`].
pub fn put<B: Backend>(
    b: &B,
    config: ModelConfig,
    leaves: &Params<Leaf>,
    n_positions: usize,
) -> Result<Model<B::Tensor>> {
    let params = leaves.try_map(|leaf| leaf.put(b))?;
    Model::new(b, config, params, n_positions)
}

/// A model of leaves, the matrices kept as they are stored.
///
/// # Errors
/// Those of the back-end and of [`Model::new`].
pub fn keep<B: Backend>(
    b: &B,
    config: ModelConfig,
    leaves: &Params<Leaf>,
    n_positions: usize,
) -> Result<Model<B::Tensor>> {
    let params = leaves.try_map(|leaf| leaf.keep(b))?;
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
