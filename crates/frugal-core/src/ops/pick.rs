//! Drawing a token from logits.
//!
//! Probabilities are softmax(logits / temperature), in f64. Ranked by probability, equals by lower
//! id, the first `top_k` are kept; of these the shortest prefix whose renormalised mass reaches
//! `top_p`; of these the ones at least `min_p` times the likeliest. The token is the first, in id
//! order, whose cumulative kept mass exceeds uniform times all kept mass; the last kept one where
//! rounding leaves none. Temperature 0 takes the likeliest, the first of equals.
//!
//! The log-probability is that of [`LogSoftmax`] at the temperature (at 1 for temperature 0), before
//! any truncation. Logits of -inf are never drawn. Logits with NaN or +inf, or all -inf, hold no
//! distribution and are refused.
#![expect(
    clippy::indexing_slicing,
    reason = "ids come from ranges over the logits"
)]

use alloc::format;
use alloc::vec::Vec;

use super::log_prob::LogSoftmax;
use super::math::{exp, round};
use crate::backend::Sampling;
use crate::error::{Error, Result};

/// The token drawn from one row and its log-probability.
///
/// # Errors
/// If the logits hold no distribution.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a vocabulary is far below 2^32"
)]
pub fn row(logits: &[f32], sampling: &Sampling, uniform: f32) -> Result<(u32, f32)> {
    let tempered = if sampling.temperature > 0.0 {
        sampling.temperature
    } else {
        1.0
    };
    let softmax = LogSoftmax::of(logits, tempered);
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if logits.iter().any(|l| l.is_nan()) || !best.is_finite() {
        return Err(Error::Setting {
            op: "pick",
            reason: format!(
                "expected logits with a finite maximum and no NaN, got a maximum of {best}"
            ),
        });
    }
    let id = if sampling.temperature > 0.0 {
        draw(&kept(logits, &softmax, sampling), f64::from(uniform))
    } else {
        logits.iter().position(|l| *l >= best).unwrap_or(0)
    };
    Ok((id as u32, round(softmax.log_prob(logits[id]))))
}

/// The tokens that truncation keeps, in id order, each with its share of what is kept.
///
/// This is the distribution [`row`] draws from at temperatures above 0.
#[must_use]
pub fn support(logits: &[f32], sampling: &Sampling) -> Vec<(usize, f64)> {
    let softmax = LogSoftmax::of(logits, sampling.temperature);
    let mut kept = kept(logits, &softmax, sampling);
    let mass: f64 = kept.iter().map(|(_, p)| p).sum();
    for (_, p) in &mut kept {
        *p /= mass;
    }
    kept
}

fn kept(logits: &[f32], softmax: &LogSoftmax, sampling: &Sampling) -> Vec<(usize, f64)> {
    let p = |id: usize| exp(softmax.log_prob(logits[id]));
    let mut kept: Vec<(usize, f64)> = (0..logits.len())
        .map(|id| (id, p(id)))
        .filter(|(_, p)| *p > 0.0)
        .collect();
    let is_plain = sampling.top_k == 0 && sampling.top_p >= 1.0 && sampling.min_p <= 0.0;
    if is_plain {
        return kept;
    }
    // The sort is stable, so equals stay in id order.
    kept.sort_by(|a, b| b.1.total_cmp(&a.1));
    if sampling.top_k > 0 {
        kept.truncate(sampling.top_k);
    }
    if sampling.top_p < 1.0 {
        let mass: f64 = kept.iter().map(|(_, p)| p).sum();
        let wanted = f64::from(sampling.top_p) * mass;
        let mut reached = 0.0;
        let below = kept.iter().take_while(|(_, p)| {
            let is_short = reached < wanted;
            reached += p;
            is_short
        });
        let length = below.count();
        kept.truncate(length);
    }
    if let Some((_, likeliest)) = kept.first().copied() {
        let floor = f64::from(sampling.min_p) * likeliest;
        kept.retain(|(_, p)| *p >= floor);
    }
    kept.sort_unstable_by_key(|(id, _)| *id);
    kept
}

fn draw(kept: &[(usize, f64)], uniform: f64) -> usize {
    let mass: f64 = kept.iter().map(|(_, p)| p).sum();
    let mut reached = 0.0;
    for (id, p) in kept {
        reached += p;
        if reached > uniform * mass {
            return *id;
        }
    }
    kept.last().map_or(0, |(id, _)| *id)
}
