//! Accumulators of the leaves' gradients, kept from step to step.

use frugal_core::backend::TrainBackend;
use frugal_core::error::Result;

/// One accumulator for each leaf, made when its first gradient comes.
///
/// A leaf that no gradient reached since the last [`Grads::clear`] has none: an optimiser leaves it
/// alone. Whether storage is at hand from an earlier step makes no difference to what is read, so a
/// resumed run sees what an uninterrupted one would.
#[derive(Debug, Clone)]
pub struct Grads<T> {
    entries: Vec<Entry<T>>,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    tensor: Option<T>,
    is_live: bool,
}

impl<T> Grads<T> {
    /// Accumulators for `n` leaves.
    #[must_use]
    pub fn new(n: usize) -> Self {
        let entry = || Entry {
            tensor: None,
            is_live: false,
        };
        Self {
            entries: std::iter::repeat_with(entry).take(n).collect(),
        }
    }

    /// How many leaves there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no leaves.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The gradient of a leaf, if one reached it.
    #[must_use]
    pub fn get(&self, leaf: usize) -> Option<&T> {
        let entry = self.entries.get(leaf)?;
        entry.tensor.as_ref().filter(|_| entry.is_live)
    }

    /// Sets all gradients to zero and keeps their storage.
    ///
    /// # Errors
    /// If the back-end refuses.
    pub fn clear<B: TrainBackend<Tensor = T>>(&mut self, backend: &B) -> Result<()> {
        for entry in self.entries.iter_mut().filter(|entry| entry.is_live) {
            if let Some(tensor) = &mut entry.tensor {
                backend.clear(tensor)?;
            }
            entry.is_live = false;
        }
        Ok(())
    }

    /// Takes the accumulator out to be added to: zeros or a sum so far, if there is storage.
    pub(super) fn take(&mut self, leaf: usize) -> Option<T> {
        self.entries.get_mut(leaf)?.tensor.take()
    }

    /// Takes the sum so far, leaving cleared storage behind.
    pub(super) fn take_live(&mut self, leaf: usize) -> Option<T> {
        let entry = self.entries.get_mut(leaf).filter(|entry| entry.is_live)?;
        entry.tensor.take()
    }

    /// Puts a sum back.
    pub(super) fn put(&mut self, leaf: usize, tensor: T) {
        if let Some(entry) = self.entries.get_mut(leaf) {
            entry.tensor = Some(tensor);
            entry.is_live = true;
        }
    }
}
