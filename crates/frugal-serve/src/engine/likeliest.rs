//! Log-probabilities of single rows, on the host.

use std::cmp::Ordering;

/// ln p of a token; minus infinity for one that the vocabulary lacks.
pub(super) fn log_prob(logits: &[f32], id: u32) -> f32 {
    let logit = usize::try_from(id).ok().and_then(|id| logits.get(id));
    logit.map_or(f32::NEG_INFINITY, |logit| {
        normalised(*logit, log_sum(logits))
    })
}

/// The likeliest tokens with ln p of each, likeliest first, of equals the lower id.
pub(super) fn likeliest(logits: &[f32], most: usize) -> Vec<(u32, f32)> {
    let by_rank = |a: &(u32, f32), b: &(u32, f32)| -> Ordering {
        b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0))
    };
    if most == 0 {
        return Vec::new();
    }
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    if ranked.len() > most {
        ranked.select_nth_unstable_by(most - 1, by_rank);
        ranked.truncate(most);
    }
    ranked.sort_unstable_by(by_rank);
    let sum = log_sum(logits);
    ranked
        .into_iter()
        .map(|(id, logit)| (id, normalised(logit, sum)))
        .collect()
}

/// ln of the sum of e^logit, in f64.
fn log_sum(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(*logit - largest).exp())
        .sum();
    f64::from(largest) + sum.ln()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "log-probabilities are told in f32"
)]
fn normalised(logit: f32, log_sum: f64) -> f32 {
    (f64::from(logit) - log_sum) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_in_order_and_sum_to_one() {
        let logits = [0.5, 2.0, -1.0, 2.0, f32::NEG_INFINITY];
        let all = likeliest(&logits, 9);
        assert_eq!(
            all.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            [1, 3, 0, 2, 4]
        );
        let mass: f32 = all.iter().map(|(_, log_prob)| log_prob.exp()).sum();
        assert!((mass - 1.0).abs() < 1e-6);
        assert_eq!(likeliest(&logits, 2), all[..2]);
        assert_eq!(likeliest(&logits, 0), []);
        assert!((log_prob(&logits, 3) - all[1].1).abs() < f32::EPSILON);
        assert!(log_prob(&logits, 77).is_infinite());
    }
}
