//! Random numbers that can be named: every draw follows from a key such as
//! (run seed, stage, step, index), never from time, so a resumed run draws what an
//! uninterrupted one would have drawn.
//!
//! The generator is xoshiro256++ (Blackman and Vigna, 2018) seeded through SplitMix64. It is not
//! for secrets.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A deterministic stream of random numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rng {
    state: [u64; 4],
}

/// One step of SplitMix64: returns a well-mixed word and advances `state`.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Turns a name (of a stage, a task) into a key word for [`Rng::derive`] (FNV-1a, 64 bits).
#[must_use]
pub fn key(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

impl Rng {
    /// The stream named by `key`, for example `[run_seed, key("grpo"), step, index]`.
    #[must_use]
    pub fn derive(key: &[u64]) -> Self {
        let mut mixer = 0x4652_5547_414C_0001 ^ key.len() as u64;
        for word in key {
            mixer ^= *word;
            mixer = split_mix(&mut mixer);
        }
        let mut state = [0; 4];
        for word in &mut state {
            *word = split_mix(&mut mixer);
        }
        Self { state }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// An unbiased integer in `0..n`; 0 when `n` is 0 (Lemire's method with rejection).
    pub fn below(&mut self, n: u32) -> u32 {
        if n == 0 {
            return 0;
        }
        let threshold = u64::from(n.wrapping_neg() % n);
        loop {
            let product = (self.next_u64() >> 32) * u64::from(n);
            if product & 0xFFFF_FFFF >= threshold {
                return u32::try_from(product >> 32).unwrap_or(0);
            }
        }
    }

    /// A number in `[0, 1)` with 24 random bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / 16_777_216.0
    }

    /// A standard normal number (Box and Muller, one of the pair; the other is dropped to keep the
    /// stream's position simple).
    pub fn normal(&mut self) -> f32 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - f64::from(self.uniform())));
        let angle = core::f64::consts::TAU * f64::from(self.uniform());
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding to f32 is the purpose"
        )]
        let value = (radius * libm::cos(angle)) as f32;
        value
    }

    /// Puts `items` into a uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(u32::try_from(last + 1).unwrap_or(u32::MAX)) as usize;
            items.swap(last, other);
        }
    }

    /// One of `items`, or nothing if there are none.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(u32::try_from(items.len()).unwrap_or(u32::MAX)) as usize)
    }

    /// `n` numbers from a normal distribution with mean 0 and the given standard deviation.
    pub fn normals(&mut self, n: usize, deviation: f32) -> Vec<f32> {
        (0..n).map(|_| self.normal() * deviation).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_keys_give_different_streams() {
        let mut a = Rng::derive(&[1, 2, 3]);
        let mut b = Rng::derive(&[1, 3, 2]);
        let mut c = Rng::derive(&[1, 2, 3]);
        assert_ne!(a.next_u64(), b.next_u64());
        c.next_u64();
        assert_eq!(a, c);
    }

    #[test]
    fn uniform_numbers_have_the_right_mean_and_spread() {
        let mut rng = Rng::derive(&[7]);
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|_| f64::from(rng.uniform())).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        // Five standard errors: sqrt(1/12/n) = 0.0009 for the mean.
        assert!((mean - 0.5).abs() < 0.0046, "mean {mean}");
        assert!((variance - 1.0 / 12.0).abs() < 0.002, "variance {variance}");
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut rng = Rng::derive(&[9]);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[rng.below(7) as usize] += 1;
        }
        assert!(
            counts.iter().all(|c| (9_500..10_500).contains(c)),
            "{counts:?}"
        );
        assert_eq!(rng.below(0), 0);
    }
}
