//! Float functions with and without a standard library, and sums in f64 over rows.
#![expect(
    clippy::indexing_slicing,
    reason = "row access is by index throughout; lengths are the callers' dims"
)]

use alloc::vec;
use alloc::vec::Vec;

#[cfg(feature = "std")]
mod float {
    pub(super) fn exp(x: f64) -> f64 {
        x.exp()
    }
    pub(super) fn ln(x: f64) -> f64 {
        x.ln()
    }
    pub(super) fn sqrt(x: f64) -> f64 {
        x.sqrt()
    }
    pub(super) fn pow(x: f64, y: f64) -> f64 {
        x.powf(y)
    }
}

#[cfg(not(feature = "std"))]
mod float {
    pub(super) use libm::{exp, log as ln, pow, sqrt};
}

/// e^x.
#[must_use]
pub fn exp(x: f64) -> f64 {
    float::exp(x)
}

/// The natural logarithm.
#[must_use]
pub fn ln(x: f64) -> f64 {
    float::ln(x)
}

/// The square root.
#[must_use]
pub fn sqrt(x: f64) -> f64 {
    float::sqrt(x)
}

/// x^y.
#[must_use]
pub fn pow(x: f64, y: f64) -> f64 {
    float::pow(x, y)
}

/// 1 / (1 + e^-x), without overflow for any x.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + exp(-x))
    } else {
        let e = exp(x);
        e / (1.0 + e)
    }
}

/// The nearest f32.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the one place where f64 sums become f32"
)]
pub fn round(x: f64) -> f32 {
    x as f32
}

/// Row `i` of rows of `width` numbers; also where `width` is 0.
#[must_use]
pub fn row(x: &[f32], i: usize, width: usize) -> &[f32] {
    &x[i * width..(i + 1) * width]
}

/// As [`row`], to be written.
pub fn row_mut(x: &mut [f32], i: usize, width: usize) -> &mut [f32] {
    &mut x[i * width..(i + 1) * width]
}

/// Sum of products in f64.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .fold(0.0, |sum, (a, b)| sum + f64::from(*a) * f64::from(*b))
}

/// Sums in f64 on their way to f32.
#[derive(Debug)]
pub struct Sums(Vec<f64>);

impl Sums {
    /// `n` sums of nothing.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self(vec![0.0; n])
    }

    /// Adds `factor * x` to the sums from `start` on.
    pub fn add(&mut self, start: usize, factor: f64, x: &[f32]) {
        for (sum, x) in self.0[start..start + x.len()].iter_mut().zip(x) {
            *sum += factor * f64::from(*x);
        }
    }

    /// The sums, rounded.
    #[must_use]
    pub fn rounded(&self) -> Vec<f32> {
        self.0.iter().map(|sum| round(*sum)).collect()
    }

    /// Adds the sums to an accumulator, rounding once.
    pub fn add_into(&self, accumulator: &mut [f32]) {
        for (a, sum) in accumulator.iter_mut().zip(&self.0) {
            *a = round(f64::from(*a) + sum);
        }
    }
}
