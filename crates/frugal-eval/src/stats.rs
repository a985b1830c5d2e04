//! How sure a score is: pass@k without bias, the majority vote, Wilson and bootstrap intervals.

use frugal_core::rng::Rng;
use serde::{Deserialize, Serialize};

/// The normal quantile of 95 % intervals.
pub const Z_95: f64 = 1.959_963_984_540_054;
/// Resamples of a bootstrap where nobody asks for another number.
pub const RESAMPLES: usize = 1_000;

/// A value with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What a statistic cannot be made of.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatsError {
    /// Counts that contradict each other.
    #[error("expected correct <= n and 1 <= k <= n, got n = {n}, correct = {correct}, k = {k}")]
    Counts {
        /// Samples.
        n: usize,
        /// Right ones.
        correct: usize,
        /// Draws.
        k: usize,
    },
    /// No scores.
    #[error("expected at least one score, got none")]
    Empty,
    /// Lists that should be about the same problems.
    #[error("expected scores of the same problems, got {left} and {right}")]
    Lengths {
        /// The first list's length.
        left: usize,
        /// The second list's length.
        right: usize,
    },
}

/// The chance that at least one of `k` answers, drawn without replacement from `n` of which
/// `correct` are right, is right (Chen et al., 2021): `1 - C(n - c, k) / C(n, k)`.
pub fn pass_at_k(n: usize, correct: usize, k: usize) -> Result<f64, StatsError> {
    if correct > n || k == 0 || k > n {
        return Err(StatsError::Counts { n, correct, k });
    }
    let wrong = n - correct;
    if wrong < k {
        return Ok(1.0);
    }
    // C(n - c, k) / C(n, k) as a product of factors at most 1.
    let all_wrong: f64 = (wrong + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    Ok(1.0 - all_wrong)
}

/// The vote with most voices, the earliest of those with equally many; nothing without votes.
pub fn majority<'a>(votes: &[&'a str]) -> Option<&'a str> {
    let count = |vote: &str| votes.iter().filter(|other| **other == vote).count();
    let mut best: Option<(&str, usize)> = None;
    for vote in votes {
        let voices = count(vote);
        if best.is_none_or(|(_, most)| voices > most) {
            best = Some((vote, voices));
        }
    }
    best.map(|(vote, _)| vote)
}

/// A share with Wilson's 95 % interval, for independent yes-or-no outcomes.
pub fn wilson(correct: usize, n: usize) -> Result<Estimate, StatsError> {
    if n == 0 {
        return Err(StatsError::Empty);
    }
    if correct > n {
        return Err(StatsError::Counts { n, correct, k: 1 });
    }
    let (share, count, z2) = (correct as f64 / n as f64, n as f64, Z_95 * Z_95);
    let centre = (share + z2 / (2.0 * count)) / (1.0 + z2 / count);
    let spread = (share * (1.0 - share) / count + z2 / (4.0 * count * count)).sqrt();
    let half = Z_95 / (1.0 + z2 / count) * spread;
    let (low, high) = ((centre - half).max(0.0), (centre + half).min(1.0));
    Ok(Estimate {
        value: share,
        low,
        high,
    })
}

/// The mean with a percentile bootstrap interval over the scores.
pub fn bootstrap_mean(
    scores: &[f64],
    resamples: usize,
    rng: &mut Rng,
) -> Result<Estimate, StatsError> {
    if scores.is_empty() || resamples == 0 {
        return Err(StatsError::Empty);
    }
    let n = scores.len();
    let mut means: Vec<f64> = Vec::with_capacity(resamples);
    let draws = u32::try_from(n).unwrap_or(u32::MAX);
    for _ in 0..resamples {
        let sum: f64 = (0..n)
            .map(|_| {
                scores
                    .get(rng.below(draws) as usize)
                    .copied()
                    .unwrap_or_default()
            })
            .sum();
        means.push(sum / n as f64);
    }
    means.sort_by(f64::total_cmp);
    let value = scores.iter().sum::<f64>() / n as f64;
    let at = |numerator: usize| means.get(numerator * (resamples - 1) / 1_000).copied();
    let (low, high) = (at(25).unwrap_or(value), at(975).unwrap_or(value));
    Ok(Estimate { value, low, high })
}

/// The mean difference `left - right` of two score lists over the same problems, with a paired
/// bootstrap interval.
pub fn bootstrap_difference(
    left: &[f64],
    right: &[f64],
    resamples: usize,
    rng: &mut Rng,
) -> Result<Estimate, StatsError> {
    if left.len() != right.len() {
        return Err(StatsError::Lengths {
            left: left.len(),
            right: right.len(),
        });
    }
    let differences: Vec<f64> = left.iter().zip(right).map(|(a, b)| a - b).collect();
    bootstrap_mean(&differences, resamples, rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use proptest::prelude::{prop_assert, proptest};

    #[derive(Deserialize)]
    struct Row {
        n: usize,
        c: usize,
        k: usize,
        pass_at_k: f64,
    }

    #[test]
    fn the_recorded_pass_at_k_agree() {
        let Some(text) = fixture::data("rl-vectors/pass_at_k.jsonl") else {
            return;
        };
        for line in text.lines() {
            let row: Row = serde_json::from_str(line).unwrap();
            let got = pass_at_k(row.n, row.c, row.k).unwrap();
            // The recorded numbers have twelve decimals.
            assert!((got - row.pass_at_k).abs() < 1e-11, "{line}: {got}");
        }
        assert!(pass_at_k(3, 4, 1).is_err() && pass_at_k(3, 1, 4).is_err());
        assert!(pass_at_k(3, 1, 0).is_err() && pass_at_k(0, 0, 1).is_err());
    }

    #[test]
    fn the_majority_is_the_first_of_the_most_frequent() {
        assert_eq!(majority(&["a", "b", "b", "a", "c"]), Some("a"));
        assert_eq!(majority(&["c", "b", "b"]), Some("b"));
        assert_eq!(majority(&[]), None);
    }

    #[test]
    fn wilson_intervals_are_the_textbook_ones() {
        // 8 of 10: 0.4902 to 0.9433 (Wilson's formula worked by hand).
        let interval = wilson(8, 10).unwrap();
        assert!((interval.low - 0.4902).abs() < 5e-5 && (interval.high - 0.9433).abs() < 5e-5);
        let none = wilson(0, 500).unwrap();
        assert!(none.low.abs() < 1e-12 && none.high > 0.005 && none.high < 0.01);
        assert!(wilson(1, 0).is_err() && wilson(2, 1).is_err());
    }

    #[test]
    fn a_bootstrap_knows_a_difference_from_noise() {
        let mut rng = Rng::derive(&[5]);
        let coin = |rng: &mut Rng, p: f32| f64::from(u8::from(rng.uniform() < p));
        let a: Vec<f64> = (0..400).map(|_| coin(&mut rng, 0.6)).collect();
        let b: Vec<f64> = (0..400).map(|_| coin(&mut rng, 0.3)).collect();
        let apart = bootstrap_difference(&a, &b, RESAMPLES, &mut rng).unwrap();
        assert!(apart.low > 0.0 && apart.low < apart.value && apart.value < apart.high);
        let same = bootstrap_difference(&a, &a, RESAMPLES, &mut rng).unwrap();
        assert!(same.low.abs() < 1e-12 && same.high.abs() < 1e-12);
        // The half width for a mean of 400 coin flips is about 1.96 sqrt(p (1 - p) / 400) = 0.048.
        let mean = bootstrap_mean(&a, RESAMPLES, &mut rng).unwrap();
        let half = (mean.high - mean.low) / 2.0;
        assert!((0.040..0.056).contains(&half), "{half}");
        assert!(bootstrap_difference(&a, &[1.0], 10, &mut rng).is_err());
        assert_eq!(bootstrap_mean(&[], 10, &mut rng), Err(StatsError::Empty));
    }

    proptest! {
        #[test]
        fn pass_at_k_grows_with_k_and_stays_a_chance(n in 1_usize..40, c in 0_usize..40, k in 1_usize..40) {
            let (c, k) = (c.min(n), k.min(n));
            let here = pass_at_k(n, c, k).unwrap();
            prop_assert!((0.0..=1.0).contains(&here));
            prop_assert!((pass_at_k(n, c, 1).unwrap() - c as f64 / n as f64).abs() < 1e-9);
            if k < n {
                prop_assert!(pass_at_k(n, c, k + 1).unwrap() >= here - 1e-12);
            }
            let interval = wilson(c, n).unwrap();
            prop_assert!(interval.low <= interval.value + 1e-12 && interval.value <= interval.high + 1e-12);
        }
    }
}
