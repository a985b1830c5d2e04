//! Compiled grammars, kept for the next request that asks for the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Compiled;

/// The most that are kept. A grammar takes some hundred KiB, a large schema some MiB.
const MOST: usize = 64;

/// Grammars by the digest of what they were made of.
#[derive(Debug, Default)]
pub(super) struct Kept {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    grammars: BTreeMap<[u8; 32], (u64, Arc<Compiled>)>,
    /// Counts uses.
    now: u64,
}

impl Kept {
    pub(super) fn get(&self, digest: &[u8; 32]) -> Option<Arc<Compiled>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now += 1;
        let now = state.now;
        let (used, grammar) = state.grammars.get_mut(digest)?;
        *used = now;
        Some(Arc::clone(grammar))
    }

    /// Keeps a grammar; the one that was not used for the longest time goes.
    pub(super) fn put(&self, digest: [u8; 32], grammar: Arc<Compiled>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now += 1;
        let now = state.now;
        state.grammars.insert(digest, (now, grammar));
        if state.grammars.len() > MOST {
            let oldest = state.grammars.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                state.grammars.remove(&oldest);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state.lock().unwrap().grammars.len()
    }
}
