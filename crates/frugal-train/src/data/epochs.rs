//! Steps over a finite set of samples, in shuffled epochs.
//!
//! Best fit in shuffled order, not in order of length: sorting would pack a little tighter, but would
//! give steps of only long and steps of only short samples.

use std::collections::BTreeMap;

use frugal_core::rng::Rng;

use super::pack::{Sample, Step};
use crate::error::{Error, Result};

/// A plan of steps over a set of samples; each epoch uses every sample once.
#[derive(Debug, Clone)]
pub struct Epochs {
    samples: Vec<Sample>,
    plan: Vec<Vec<usize>>,
}

impl Epochs {
    /// Plans `n_epochs` of steps of at most `max_rows` rows; the order follows from `key`.
    ///
    /// # Errors
    /// If a sample has no target or more rows than a step: nothing is cut or dropped silently.
    pub fn new(samples: Vec<Sample>, max_rows: usize, n_epochs: u64, key: &[u64]) -> Result<Self> {
        for (index, sample) in samples.iter().enumerate() {
            let n_rows = sample.n_rows();
            if n_rows == 0 || n_rows > max_rows {
                let reason = format!("expected 1 to {max_rows} rows, got {n_rows}");
                return Err(Error::Sample { index, reason });
            }
        }
        let lengths: Vec<usize> = samples.iter().map(Sample::n_rows).collect();
        let mut plan = Vec::new();
        for epoch in 0..n_epochs {
            let mut rng = Rng::derive(&[key, &[epoch]].concat());
            let mut order: Vec<usize> = (0..samples.len()).collect();
            rng.shuffle(&mut order);
            let mut bins = best_fit(&lengths, &order, max_rows);
            // Early bins are the fuller ones.
            rng.shuffle(&mut bins);
            plan.append(&mut bins);
        }
        Ok(Self { samples, plan })
    }

    /// Steps of all epochs together.
    #[must_use]
    pub fn n_steps(&self) -> usize {
        self.plan.len()
    }

    /// The samples.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Step `index` of the plan, or nothing after its end.
    ///
    /// # Errors
    /// If a sample's marks do not match its tokens.
    pub fn step(&self, index: usize) -> Result<Option<Step>> {
        let Some(chosen) = self.plan.get(index) else {
            return Ok(None);
        };
        Step::of(chosen.iter().filter_map(|i| self.samples.get(*i))).map(Some)
    }
}

/// Puts items into bins in `order`, each into the fullest bin that still has room (the oldest of
/// equals), or into a new one.
fn best_fit(lengths: &[usize], order: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut bins: Vec<Vec<usize>> = Vec::new();
    // Room left to the bins that have it, oldest first.
    let mut open: BTreeMap<usize, std::collections::BTreeSet<usize>> = BTreeMap::new();
    for item in order {
        let length = lengths.get(*item).copied().unwrap_or(0);
        let fit = open
            .range(length..)
            .find_map(|(room, bins)| bins.first().map(|bin| (*room, *bin)));
        let (room, bin) = fit.unwrap_or((capacity, bins.len()));
        if let Some(same_room) = open.get_mut(&room) {
            same_room.remove(&bin);
            if same_room.is_empty() {
                open.remove(&room);
            }
        }
        match bins.get_mut(bin) {
            Some(items) => items.push(*item),
            None => bins.push(vec![*item]),
        }
        open.entry(room.saturating_sub(length))
            .or_default()
            .insert(bin);
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_fullest_bin_with_room_is_chosen() {
        let lengths = [6, 5, 4, 3, 2, 9];
        let bins = best_fit(&lengths, &[0, 1, 2, 3, 4, 5], 10);
        assert_eq!(bins, [vec![0, 2], vec![1, 3, 4], vec![5]]);
    }

    proptest! {
        #[test]
        fn every_sample_is_used_once_an_epoch_and_no_step_overflows(
            lengths in prop::collection::vec(2usize..20, 1..60),
            seed in any::<u64>(),
        ) {
            let samples: Vec<_> = lengths
                .iter()
                .enumerate()
                .map(|(id, n)| Sample::plain(vec![u32::try_from(id).unwrap(); *n]))
                .collect();
            let epochs = Epochs::new(samples, 24, 2, &[seed]).unwrap();
            let mut seen = vec![0; lengths.len()];
            for index in 0..epochs.n_steps() {
                let step = epochs.step(index).unwrap().unwrap();
                prop_assert!(step.rows.n_rows() <= 24 && step.rows.n_rows() > 0);
                for range in step.rows.ranges() {
                    seen[step.ids[range.start] as usize] += 1;
                }
            }
            prop_assert!(seen.iter().all(|n| *n == 2));
            prop_assert!(epochs.step(epochs.n_steps()).unwrap().is_none());
        }
    }

    #[test]
    fn the_key_decides_the_order_and_nothing_else_does() {
        let samples: Vec<_> = (0..50).map(|id| Sample::plain(vec![id; 5])).collect();
        let plan = |key: &[u64]| Epochs::new(samples.clone(), 12, 3, key).unwrap().plan;
        assert_eq!(plan(&[1, 2]), plan(&[1, 2]));
        assert_ne!(plan(&[1, 2]), plan(&[1, 3]));
    }

    #[test]
    fn a_sample_that_fits_no_step_is_refused() {
        let long = vec![Sample::plain(vec![1; 12])];
        let error = Epochs::new(long, 10, 1, &[0]).unwrap_err();
        assert_eq!(error.to_string(), "sample 0: expected 1 to 10 rows, got 11");
    }
}
