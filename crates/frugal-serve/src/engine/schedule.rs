//! Who begins next: owners in turn, by what they have been given so far.
//!
//! The owner who has been given the fewest tokens comes first. One who comes back after a while
//! starts level with the least served of those present: nobody saves up turns.

use std::collections::{BTreeMap, VecDeque};

#[derive(Debug)]
struct Owner<T> {
    waiting: VecDeque<T>,
    /// Tokens computed for it, counted from when it came.
    given: u64,
    /// Its jobs that have not ended.
    jobs: usize,
}

/// Entries that wait, by owner.
#[derive(Debug)]
pub(super) struct Queue<T> {
    owners: BTreeMap<u64, Owner<T>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let owners = BTreeMap::new();
        Self { owners }
    }
}

impl<T> Queue<T> {
    /// Lets a new job wait behind the others of its owner; it is the owner's until [`Self::end`].
    pub(super) fn push(&mut self, owner: u64, entry: T) {
        let owner = self.owner(owner);
        owner.jobs += 1;
        owner.waiting.push_back(entry);
    }

    /// Puts an entry of a job that had begun before the others of its owner.
    pub(super) fn put_back(&mut self, owner: u64, entry: T) {
        self.owner(owner).waiting.push_front(entry);
    }

    /// The entry whose turn it is.
    pub(super) fn first(&self) -> Option<&T> {
        let (_, owner) = self.whose_turn()?;
        owner.waiting.front()
    }

    /// Takes that entry, which begins.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (name, _) = self.whose_turn()?;
        self.owners.get_mut(&name)?.waiting.pop_front()
    }

    /// Tokens have been computed for an owner.
    pub(super) fn charge(&mut self, owner: u64, tokens: usize) {
        if let Some(owner) = self.owners.get_mut(&owner) {
            owner.given += tokens as u64;
        }
    }

    /// One of an owner's jobs has ended; owners without any are forgotten.
    pub(super) fn end(&mut self, name: u64) {
        if let Some(owner) = self.owners.get_mut(&name) {
            owner.jobs = owner.jobs.saturating_sub(1);
            if owner.jobs == 0 {
                self.owners.remove(&name);
            }
        }
    }

    /// Removes entries that wait and that nobody wants any more.
    pub(super) fn remove_if(&mut self, mut is_unwanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        for owner in self.owners.values_mut() {
            if owner.waiting.iter().any(&mut is_unwanted) {
                let (gone, kept): (VecDeque<T>, VecDeque<T>) =
                    (owner.waiting.drain(..)).partition(&mut is_unwanted);
                removed.extend(gone);
                owner.waiting = kept;
            }
        }
        removed
    }

    /// Entries that wait.
    pub(super) fn len(&self) -> usize {
        self.owners.values().map(|owner| owner.waiting.len()).sum()
    }

    fn whose_turn(&self) -> Option<(u64, &Owner<T>)> {
        let waiting = (self.owners.iter()).filter(|(_, owner)| !owner.waiting.is_empty());
        let first = waiting.min_by_key(|(name, owner)| (owner.given, **name));
        first.map(|(name, owner)| (*name, owner))
    }

    fn owner(&mut self, name: u64) -> &mut Owner<T> {
        let least = self.owners.values().map(|owner| owner.given).min();
        self.owners.entry(name).or_insert_with(|| Owner {
            waiting: VecDeque::new(),
            given: least.unwrap_or(0),
            jobs: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_take_turns_by_what_they_were_given() {
        let mut queue = Queue::default();
        for entry in 0..4 {
            queue.push(1, (1, entry));
        }
        assert_eq!(queue.pop(), Some((1, 0)));
        queue.charge(1, 100);
        queue.push(2, (2, 0));
        queue.push(2, (2, 1));
        // The second owner starts level with the first, and is then behind by nothing.
        assert_eq!(queue.pop(), Some((1, 1)));
        queue.charge(1, 50);
        assert_eq!(queue.pop(), Some((2, 0)));
        queue.charge(2, 10);
        assert_eq!(queue.pop(), Some((2, 1)));
        queue.put_back(2, (2, 1));
        assert_eq!(queue.first(), Some(&(2, 1)));
        assert_eq!(queue.len(), 3);
    }

    #[test]
    fn owners_without_jobs_are_forgotten() {
        let mut queue = Queue::default();
        for name in 0..1000 {
            queue.push(name, ());
            assert_eq!(queue.pop(), Some(()));
            queue.end(name);
        }
        assert!(queue.owners.is_empty());
        queue.push(7, ());
        assert_eq!(queue.remove_if(|()| true).len(), 1);
        queue.end(7);
        assert!(queue.owners.is_empty());
        // Two samples of one job are put back and begin again: it is one job still.
        queue.push(7, ());
        assert_eq!(queue.pop(), Some(()));
        queue.put_back(7, ());
        queue.put_back(7, ());
        assert_eq!((queue.pop(), queue.pop()), (Some(()), Some(())));
        queue.end(7);
        assert!(queue.owners.is_empty());
    }
}
