//! Prompts that have been read, found again by what they begin with.
//!
//! Each kept prompt is a sequence in the cache, whose pages it shares with whoever began alike. They
//! stand in the order of their tokens, so what shares most with a new prompt is one of its two
//! neighbours there: tokens are compared, not hashes, and a find costs a few comparisons of prompts.
//! Spaces keep the prompts of one client from being noticed by another, by the time that theirs take.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use frugal_model::cache::SequenceId;

/// A space and the tokens of a prompt.
type Key = (u64, Arc<[u32]>);

#[derive(Debug)]
struct Kept {
    sequence: SequenceId,
    /// When it was used last.
    used: u64,
}

/// Kept prompts, by use.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    by_tokens: BTreeMap<Key, Kept>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    /// Tokens of all of them.
    tokens: usize,
}

/// What a prompt shares with a kept one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) sequence: SequenceId,
    /// Tokens.
    pub(super) length: usize,
}

impl Prompts {
    /// What shares most with a prompt, but never its last token, whose logits are wanted.
    pub(super) fn find(&mut self, space: u64, prompt: &[u32]) -> Option<Found> {
        let wanted: Key = (space, Arc::from(prompt));
        let before = self.by_tokens.range(..=&wanted).next_back();
        let after = (Bound::Excluded(&wanted), Bound::Unbounded);
        let after = self.by_tokens.range(after).next();
        let most = prompt.len().saturating_sub(1);
        let mut best: Option<(Found, Key)> = None;
        for (key, kept) in before.into_iter().chain(after) {
            let length = if key.0 == space {
                shared(&key.1, prompt).min(most)
            } else {
                0
            };
            if length > best.as_ref().map_or(0, |(found, _)| found.length) {
                let sequence = kept.sequence;
                best = Some((Found { sequence, length }, key.clone()));
            }
        }
        let (found, key) = best?;
        self.use_again(&key);
        Some(found)
    }

    /// Keeps a prompt that was read. Gives back the sequences that are not needed any more: its own
    /// where the prompt is kept already, those of prompts that it begins with.
    pub(super) fn keep(
        &mut self,
        (space, prompt): (u64, &Arc<[u32]>),
        sequence: SequenceId,
    ) -> Vec<SequenceId> {
        let key: Key = (space, Arc::clone(prompt));
        let after = self.by_tokens.range(&key..).next();
        if let Some((longer, _)) = after
            && longer.0 == space
            && longer.1.starts_with(prompt)
        {
            let longer = longer.clone();
            self.use_again(&longer);
            return vec![sequence];
        }
        let mut unneeded = Vec::new();
        while let Some((shorter, _)) = self.by_tokens.range(..&key).next_back()
            && shorter.0 == space
            && prompt.starts_with(&shorter.1)
        {
            let shorter = shorter.clone();
            unneeded.extend(self.remove(&shorter));
        }
        self.uses += 1;
        self.by_use.insert(self.uses, key.clone());
        let used = self.uses;
        self.tokens += prompt.len();
        self.by_tokens.insert(key, Kept { sequence, used });
        unneeded
    }

    /// Forgets the prompt that has not been used for longest.
    pub(super) fn forget_oldest(&mut self) -> Option<SequenceId> {
        let (_, key) = self.by_use.first_key_value()?;
        let key = key.clone();
        self.remove(&key)
    }

    /// The same, if all together have more tokens than this. Those that branch off a long text share
    /// its pages, but each has all its tokens to be found by.
    pub(super) fn forget_beyond(&mut self, tokens: usize) -> Option<SequenceId> {
        if self.tokens > tokens {
            self.forget_oldest()
        } else {
            None
        }
    }

    fn use_again(&mut self, key: &Key) {
        if let Some(kept) = self.by_tokens.get_mut(key) {
            self.by_use.remove(&kept.used);
            self.uses += 1;
            kept.used = self.uses;
            self.by_use.insert(self.uses, key.clone());
        }
    }

    fn remove(&mut self, key: &Key) -> Option<SequenceId> {
        let kept = self.by_tokens.remove(key)?;
        self.by_use.remove(&kept.used);
        self.tokens -= key.1.len();
        Some(kept.sequence)
    }
}

/// How many tokens two texts begin alike with.
fn shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use frugal_core::reference::Reference;
    use frugal_model::cache::{Cache, CacheKind, CacheSettings};
    use proptest::prelude::*;

    use super::*;

    /// As many sequences as wanted, of a cache that computes nothing.
    fn sequences(n: usize) -> Vec<SequenceId> {
        let config = crate::engine::tests::config();
        let settings = CacheSettings {
            kind: CacheKind::for_company(&config),
            page_rows: 4,
            max_pages: 4,
            bits: frugal_core::backend::KeyBits::AsProducts,
        };
        let mut cache = Cache::new(&Reference, &config, settings).unwrap();
        (0..n).map(|_| cache.open().unwrap()).collect()
    }

    #[test]
    fn a_longer_prompt_takes_the_place_of_what_it_begins_with() {
        let ids = sequences(4);
        let mut prompts = Prompts::default();
        let prompt = |tokens: &[u32]| -> Arc<[u32]> { Arc::from(tokens) };
        assert_eq!(prompts.keep((0, &prompt(&[1, 2])), ids[0]), []);
        assert_eq!(prompts.keep((0, &prompt(&[1, 2, 3, 4])), ids[1]), [ids[0]]);
        assert_eq!(prompts.keep((0, &prompt(&[1, 2, 3])), ids[2]), [ids[2]]);
        assert_eq!(prompts.find(1, &[1, 2, 3, 4, 5]), None);
        assert_eq!(prompts.keep((1, &prompt(&[1, 2])), ids[3]), []);
        let found = prompts.find(0, &[1, 2, 9, 9]);
        let sequence = ids[1];
        assert_eq!(
            found,
            Some(Found {
                sequence,
                length: 2
            })
        );
        assert_eq!(prompts.forget_oldest(), Some(ids[3]));
        assert_eq!(prompts.forget_beyond(4), None);
        assert_eq!(prompts.forget_beyond(3), Some(ids[1]));
        assert_eq!(prompts.forget_oldest(), None);
        assert_eq!(prompts.tokens, 0);
    }

    proptest! {
        #[test]
        fn what_is_found_is_the_longest_there_is(
            kept in proptest::collection::vec((0_u64..2, proptest::collection::vec(0_u32..3, 1..6)), 0..12),
            wanted in proptest::collection::vec(0_u32..3, 1..6),
        ) {
            let ids = sequences(kept.len());
            let mut prompts = Prompts::default();
            for ((space, tokens), id) in kept.iter().zip(&ids) {
                prompts.keep((*space, &Arc::from(&tokens[..])), *id);
            }
            let longest = kept.iter().filter(|(space, _)| *space == 0);
            let longest = longest.map(|(_, tokens)| shared(tokens, &wanted)).max().unwrap_or(0);
            let found = prompts.find(0, &wanted).map_or(0, |found| found.length);
            prop_assert_eq!(found, longest.min(wanted.len() - 1));
        }
    }
}
