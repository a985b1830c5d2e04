//! Llama 3's stretched rope, which GGUF files hold as the factors its frequencies are divided by and
//! not as the parameters they come from.

use alloc::vec::Vec;

use crate::config::{Llama3, RopeScaling};
use crate::rope;

/// Stretches of published models, the likeliest first: Llama 3.1 and 3.2, then neighbours.
const FACTORS: [f64; 6] = [8.0, 32.0, 4.0, 16.0, 2.0, 64.0];
/// *Source*: Llama 3.1, `apply_scaling` of its published `model.py`.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
/// The original context of Llama 3.
const ORIGINAL: usize = 8192;
/// Converters compute the factors in f32.
const TOLERANCE: f64 = 1e-5;

/// What the frequencies of a rope of `width` columns are divided by.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is the purpose"
)]
pub(super) fn factors(scaling: Llama3, width: usize, theta: f64) -> Vec<f32> {
    let plain = rope::frequencies(width, theta, &RopeScaling::None);
    let stretched = rope::frequencies(width, theta, &RopeScaling::Llama3(scaling));
    let pairs = plain.iter().zip(stretched);
    pairs
        .map(|(plain, stretched)| (plain / stretched) as f32)
        .collect()
}

/// The scaling whose factors are the stored ones; none if there is none among those published.
pub(super) fn recover(stored: &[f32], width: usize, theta: f64) -> Option<RopeScaling> {
    if stored.len() != width / 2 {
        return None;
    }
    if stored
        .iter()
        .all(|factor| f64::from(*factor - 1.0).abs() < TOLERANCE)
    {
        return Some(RopeScaling::None);
    }
    let originals = core::iter::once(ORIGINAL).chain((4..=20).map(|power| 1 << power));
    for original in originals {
        for factor in FACTORS {
            let scaling = Llama3 {
                factor,
                low_freq_factor: LOW,
                high_freq_factor: HIGH,
                original_max_position_embeddings: original,
            };
            let ours = factors(scaling, width, theta);
            let is_close =
                |(a, b): (&f32, &f32)| f64::from((a - b).abs()) <= TOLERANCE * f64::from(*b);
            if stored.iter().zip(&ours).all(is_close) {
                return Some(RopeScaling::Llama3(scaling));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_stretches_are_recognised_by_their_factors() {
        for (factor, original, width) in [(8.0, 8192, 128), (32.0, 8192, 64), (8.0, 64, 16)] {
            let scaling = Llama3 {
                factor,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: original,
            };
            let mut stored = factors(scaling, width, 500_000.0);
            let found = recover(&stored, width, 500_000.0);
            assert_eq!(found, Some(RopeScaling::Llama3(scaling)));
            stored[width / 2 - 1] *= 1.01;
            assert_eq!(recover(&stored, width, 500_000.0), None);
        }
        assert_eq!(recover(&[1.0; 8], 16, 1e4), Some(RopeScaling::None));
        assert_eq!(recover(&[1.0; 7], 16, 1e4), None);
    }
}
