//! Where a model is built before it has its place: `models/.incoming/NAME`, one process at a time,
//! told apart by a lock that the system releases when the process ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::{CARD, Model, ModelName, ModelsError, card, entries};
use crate::store::{At, StoreError, sync_folder};

/// Hidden, so that it can be no model's name.
pub(super) const INCOMING: &str = ".incoming";
const LOCKS: &str = ".locks";
const TRASH: &str = ".removed";

/// A model being built, locked.
#[derive(Debug)]
pub(super) struct Incoming {
    root: PathBuf,
    name: ModelName,
    folder: PathBuf,
    // Held for its lock.
    _lock: File,
}

impl Incoming {
    /// Makes or finds the folder; what an earlier attempt left is in it.
    pub(super) fn open(root: &Path, name: &ModelName) -> Result<Self, ModelsError> {
        let locks = root.join(INCOMING).join(LOCKS);
        fs::create_dir_all(&locks).at("make", &locks)?;
        let path = locks.join(name.parts().join("--"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = options.open(&path).at("open", &path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ModelsError::Busy {
                    name: name.to_string(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(error).at("lock", &path)?,
        }
        let folder = name
            .parts()
            .iter()
            .fold(root.join(INCOMING), |folder, part| folder.join(part));
        fs::create_dir_all(&folder).at("make", &folder)?;
        Ok(Self {
            root: root.to_owned(),
            name: name.clone(),
            folder,
            _lock: lock,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes what an earlier attempt left.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        self.keep_only(&[])
    }

    fn keep_only(&self, names: &[&str]) -> Result<(), StoreError> {
        for path in entries(&self.folder)? {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| names.contains(&name)) {
                continue;
            }
            let removed = if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.at("remove", &path)?;
        }
        Ok(())
    }

    /// Gives up and gives the room back.
    pub(super) fn discard(self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.folder).at("remove", &self.folder)?;
        self.forget_owner();
        Ok(())
    }

    fn forget_owner(&self) {
        if self.name.owner().is_some()
            && let Some(owner) = self.folder.parent()
        {
            // Refused while something else of this owner comes in, as it should be.
            drop(fs::remove_dir(owner));
        }
    }

    /// Gives the whole model its place at `to`, by one rename.
    pub(super) fn finish(self, model: &Model, to: &Path) -> Result<(), ModelsError> {
        let in_the_way = |path: &Path| ModelsError::InTheWay {
            name: self.name.to_string(),
            path: path.to_owned(),
        };
        let kept: Vec<&str> = model.files.iter().map(|file| file.name.as_str()).collect();
        self.keep_only(&kept)?;
        card::write(&self.folder, model)?;
        sync_folder(&self.folder)?;
        let owner = to.parent().unwrap_or(&self.root);
        if owner != self.root && owner.join(CARD).exists() {
            // A model cannot hold another one.
            return Err(in_the_way(owner));
        }
        fs::create_dir_all(owner).at("make", owner)?;
        sync_folder(&self.root)?;
        if to.symlink_metadata().is_ok() {
            return Err(in_the_way(to));
        }
        fs::rename(&self.folder, to).at("rename", &self.folder)?;
        sync_folder(owner)?;
        self.forget_owner();
        Ok(())
    }
}

/// An unused place to move a model to that is to be removed.
pub(super) fn trash(root: &Path, name: &ModelName) -> Result<PathBuf, StoreError> {
    let folder = root.join(INCOMING).join(TRASH);
    fs::create_dir_all(&folder).at("make", &folder)?;
    let path = folder.join(name.parts().join("--"));
    if path.exists() {
        // From a removal that was killed.
        fs::remove_dir_all(&path).at("remove", &path)?;
    }
    Ok(path)
}
