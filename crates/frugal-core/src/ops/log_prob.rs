//! ln softmax of one target a row, and the entropy.
//!
//! Logits are l = hidden headᵀ, rounded to f32; with z = l / temperature:
//! ln p_v = z_v - ln sum e^z, entropy = -sum p ln p in nats, where p = 0 counts 0. A logit of -inf
//! is a token of probability 0; +inf or NaN in a row makes its results NaN, and so do logits that
//! are all -inf. Backward: dl_v = d (1[v = target] - p_v) / temperature, then as [`linear`]; the
//! entropy carries no gradient.
#![expect(
    clippy::indexing_slicing,
    reason = "the checks hold targets below V and rows below T"
)]

use alloc::vec::Vec;

use super::check::LinearDims;
use super::linear;
use super::math::{Sums, exp, ln, round, row};

/// The log-probabilities of one row of logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogSoftmax {
    temperature: f64,
    max: f64,
    /// ln sum e^(z - max).
    log_sum: f64,
}

impl LogSoftmax {
    /// Of `logits / temperature`.
    #[must_use]
    pub fn of(logits: &[f32], temperature: f32) -> Self {
        let temperature = f64::from(temperature);
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let max = f64::from(max) / temperature;
        let sum: f64 = logits
            .iter()
            .map(|l| exp(f64::from(*l) / temperature - max))
            .sum();
        Self {
            temperature,
            max,
            log_sum: ln(sum),
        }
    }

    /// ln p of a token with this logit.
    #[must_use]
    pub fn log_prob(&self, logit: f32) -> f64 {
        f64::from(logit) / self.temperature - self.max - self.log_sum
    }

    /// -sum p ln p.
    #[must_use]
    pub fn entropy(&self, logits: &[f32]) -> f64 {
        -logits
            .iter()
            .map(|l| p_times(self.log_prob(*l), self.log_prob(*l)))
            .sum::<f64>()
    }
}

/// e^log_p * x, and 0 where e^log_p is 0, whatever x.
pub(super) fn p_times(log_p: f64, x: f64) -> f64 {
    let p = exp(log_p);
    if p == 0.0 { 0.0 } else { p * x }
}

/// The logits of one row, rounded to f32.
pub(super) fn logits(hidden: &[f32], weight: &[f32], t: usize, dims: LinearDims) -> Vec<f32> {
    linear::forward(
        row(hidden, t, dims.k),
        weight,
        None,
        LinearDims { rows: 1, ..dims },
    )
}

/// ln p of the targets and the entropies, both `[T]`. In the dims N is V and K is D.
#[must_use]
pub fn forward(
    hidden: &[f32],
    weight: &[f32],
    targets: &[u32],
    temperature: f32,
    dims: LinearDims,
) -> (Vec<f32>, Vec<f32>) {
    targets
        .iter()
        .enumerate()
        .map(|(t, target)| {
            let logits = logits(hidden, weight, t, dims);
            let softmax = LogSoftmax::of(&logits, temperature);
            let log_prob = softmax.log_prob(logits[*target as usize]);
            (round(log_prob), round(softmax.entropy(&logits)))
        })
        .unzip()
}

/// Carries gradients of logits through the head: d hidden; adds to the gradient of the weight.
/// `d_logits` gives those of a row from its logits.
pub(super) fn through_head(
    hidden: &[f32],
    weight: &[f32],
    dims: LinearDims,
    d_weight: &mut [f32],
    mut d_logits: impl FnMut(usize, &[f32]) -> Vec<f64>,
) -> Vec<f32> {
    let LinearDims { rows, n, k } = dims;
    let mut d_hidden = Sums::new(rows * k);
    let mut d_head = Sums::new(n * k);
    for t in 0..rows {
        let logits = logits(hidden, weight, t, dims);
        for (v, d) in d_logits(t, &logits).into_iter().enumerate() {
            d_hidden.add(t * k, d, row(weight, v, k));
            d_head.add(v * k, d, row(hidden, t, k));
        }
    }
    d_head.add_into(d_weight);
    d_hidden.rounded()
}

/// What the backward reads.
#[derive(Debug, Clone, Copy)]
pub struct LogProbBackward<'a> {
    /// `[T, D]`.
    pub hidden: &'a [f32],
    /// `[V, D]`.
    pub weight: &'a [f32],
    /// `[T]`.
    pub targets: &'a [u32],
    /// As in the forward.
    pub temperature: f32,
    /// `[T]`: d of ln p.
    pub d: &'a [f32],
}

/// d hidden; adds to the gradient of the head.
pub fn backward(input: LogProbBackward<'_>, dims: LinearDims, d_weight: &mut [f32]) -> Vec<f32> {
    through_head(input.hidden, input.weight, dims, d_weight, |t, logits| {
        let softmax = LogSoftmax::of(logits, input.temperature);
        let factor = f64::from(input.d[t]) / f64::from(input.temperature);
        let mut d: Vec<f64> = logits
            .iter()
            .map(|l| -factor * exp(softmax.log_prob(*l)))
            .collect();
        d[input.targets[t] as usize] += factor;
        d
    })
}
