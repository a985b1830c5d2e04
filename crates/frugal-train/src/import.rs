//! Import: a published checkpoint becomes a stage's checkpoint, its weights in f32, its words as they
//! came, so that whatever a recipe does to a model it can do to this one.
//!
//! This crate opens no paths: the caller finds the checkpoint, maps its files and hands it over as
//! [`Imported`]. A run remembers what it imported and goes on with nothing else.

use frugal_core::backend::TrainBackend;
use frugal_model::checkpoint::{Leaf, write};
use frugal_model::config::ModelConfig;
use frugal_model::params::{Params, Spec};
use frugal_run::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::room::Room;
use crate::stage::{File, Outcome, Stage};
use crate::{artifact, card};

/// The file that says what was imported.
const ORIGIN: &str = "import.json";

/// A published checkpoint as its files hold it.
#[derive(Debug)]
pub struct Imported {
    /// What it is called.
    pub name: String,
    /// What tells it from another of that name.
    pub digest: String,
    /// What it is.
    pub config: ModelConfig,
    /// Its parameters where they lie.
    pub leaves: Params<Leaf>,
}

/// What a run remembers of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    model: String,
    digest: String,
}

/// The stage.
#[derive(Debug)]
pub struct Import<'a, B> {
    room: &'a Room<'a, B>,
    imported: &'a Imported,
}

impl Imported {
    /// Refuses a model that cannot be used at so many positions.
    ///
    /// # Errors
    /// If it has fewer.
    pub fn check(&self, positions: usize) -> Result<()> {
        let most = self.config.max_position_embeddings;
        if positions <= most {
            return Ok(());
        }
        Err(refused(format!(
            "expected positions of at most {most}, which is all that {} has, got {positions}",
            self.name
        )))
    }

    /// Refuses to go on with another model than the run was started with.
    pub(crate) fn expect_same(&self, left: &Checkpoint) -> Result<()> {
        let was: Origin =
            serde_json::from_slice(&left.read(ORIGIN)?).map_err(|error| Error::State {
                reason: format!("{ORIGIN}: {error}"),
            })?;
        if was.digest == self.digest {
            return Ok(());
        }
        Err(refused(format!(
            "expected the model that the run was started with ({}, digest {}), got {} with digest {}",
            was.model, was.digest, self.name, self.digest
        )))
    }
}

fn refused(reason: String) -> Error {
    Error::Setting {
        place: "import",
        reason,
    }
}

impl<'a, B: TrainBackend> Import<'a, B> {
    /// Imports `imported`.
    pub fn new(room: &'a Room<'a, B>, imported: &'a Imported) -> Self {
        Self { room, imported }
    }
}

impl<B: TrainBackend> Stage for Import<'_, B> {
    fn n_steps(&self) -> u64 {
        1
    }

    fn step(&mut self, _step: u64) -> Result<Outcome> {
        let Imported {
            name,
            digest,
            config,
            ..
        } = self.imported;
        let count = Params::<Spec>::spec(config)?.count(config);
        let mut outcome = Outcome::default();
        outcome.metric("model", name.as_str());
        outcome.metric("digest", digest.as_str());
        outcome.metric("parameters", count.total + count.mtp);
        Ok(outcome)
    }

    fn save(&self) -> Result<Vec<File>> {
        // All there is to go on from is the import itself.
        Ok(Vec::new())
    }

    fn restore(&mut self, _state: &Checkpoint) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<File>> {
        let Imported {
            name,
            digest,
            config,
            leaves,
        } = self.imported;
        let weights = write(config, leaves, &artifact::in_shards())?;
        let how = "its weights as published, in f32";
        let card = card::of(self.room, config, how)?;
        let mut files = artifact::folder(config, weights, self.room.companions, card);
        let origin = Origin {
            model: name.clone(),
            digest: digest.clone(),
        };
        let bytes = serde_json::to_vec(&origin).map_err(|error| Error::State {
            reason: format!("{ORIGIN}: {error}"),
        })?;
        files.push((ORIGIN.to_owned(), bytes));
        Ok(files)
    }
}
