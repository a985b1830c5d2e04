//! Parameter updates. Each number is formed in f64 from f32 state and rounded once when stored.
//!
//! *AdamW*, with g = gradient_scale * gradient and t the step from 1 on:
//! m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g²,
//! p -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay p). The update reads m and v before
//! they are rounded. *Source*: Loshchilov and Hutter, 1711.05101, algorithm 2 with the schedule in lr.
//!
//! *Muon*, for each matrix: b = mu b + g, u = g + mu b, X = u / (|u| + 1e-7) in the Frobenius norm,
//! five times X = 3.4445 X + (-4.7750 A + 2.0315 A²) X with A = X Xᵀ (on the transpose where N > K),
//! p -= lr (0.2 sqrt(max(N, K)) X + decay p). The products that form A and X may follow a back-end's
//! policy; the rest is f32 or wider. *Source*: Jordan et al. 2024; the factor that matches
//! AdamW's size: Liu et al., 2502.16982.
#![expect(
    clippy::indexing_slicing,
    reason = "the dims say how long each slice is"
)]

use alloc::vec;
use alloc::vec::Vec;

use super::check::MuonDims;
use super::math::{pow, round, sqrt};
use crate::backend::{AdamW, Muon};

/// Newton-Schulz coefficients. *Source*: Jordan et al. 2024.
pub const NEWTON_SCHULZ: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Newton-Schulz iterations.
pub const NEWTON_SCHULZ_STEPS: usize = 5;
/// Added to the norm before dividing, so that a zero update stays zero.
pub const MUON_NORM_FLOOR: f64 = 1e-7;
/// Root mean square of an AdamW update, which Muon's is scaled to. *Source*: 2502.16982.
pub const MUON_SIZE: f64 = 0.2;

/// 1 - beta^t for the two moments.
#[must_use]
pub fn corrections(step: &AdamW) -> [f64; 2] {
    [step.beta1, step.beta2].map(|beta| 1.0 - pow(f64::from(beta), step.step as f64))
}

/// One AdamW step in place.
pub fn adamw(param: &mut [f32], gradient: &[f32], moments: [&mut [f32]; 2], step: &AdamW) {
    let [first, second] = moments;
    let [correction1, correction2] = corrections(step);
    let (beta1, beta2) = (f64::from(step.beta1), f64::from(step.beta2));
    let (rate, decay) = (f64::from(step.learning_rate), f64::from(step.weight_decay));
    let state = param.iter_mut().zip(gradient).zip(first).zip(second);
    for (((p, g), m), v) in state {
        let g = f64::from(*g) * f64::from(step.gradient_scale);
        let new_m = beta1 * f64::from(*m) + (1.0 - beta1) * g;
        let new_v = beta2 * f64::from(*v) + (1.0 - beta2) * g * g;
        let size = sqrt(new_v / correction2) + f64::from(step.epsilon);
        let old = f64::from(*p);
        *p = round(old - rate * (new_m / correction1 / size + decay * old));
        *m = round(new_m);
        *v = round(new_v);
    }
}

/// One Muon step in place on each matrix of a stack.
pub fn muon(
    param: &mut [f32],
    gradient: &[f32],
    momentum: &mut [f32],
    step: &Muon,
    dims: MuonDims,
) {
    let MuonDims { stacked, n, k } = dims;
    let (rate, decay) = (f64::from(step.learning_rate), f64::from(step.weight_decay));
    let size = MUON_SIZE * sqrt(n.max(k) as f64);
    for each in 0..stacked {
        let range = each * n * k..(each + 1) * n * k;
        let momentum = &mut momentum[range.clone()];
        let update: Vec<f64> = gradient[range.clone()]
            .iter()
            .zip(momentum)
            .map(|(g, b)| {
                let g = f64::from(*g) * f64::from(step.gradient_scale);
                let mu = f64::from(step.momentum);
                let new = mu * f64::from(*b) + g;
                *b = round(new);
                g + mu * new
            })
            .collect();
        let direction = orthogonal(&update, n, k);
        for (p, x) in param[range].iter_mut().zip(direction) {
            let old = f64::from(*p);
            *p = round(old - rate * (size * x + decay * old));
        }
    }
}

/// Newton-Schulz: a matrix `[n, k]` with the same singular vectors and singular values near 1.
#[must_use]
pub fn orthogonal(update: &[f64], n: usize, k: usize) -> Vec<f64> {
    if n > k {
        return transposed(&orthogonal(&transposed(update, n, k), k, n), k, n);
    }
    let norm = sqrt(update.iter().map(|x| x * x).sum()) + MUON_NORM_FLOOR;
    let mut x: Vec<f64> = update.iter().map(|x| x / norm).collect();
    let [a, b, c] = NEWTON_SCHULZ;
    for _ in 0..NEWTON_SCHULZ_STEPS {
        let square = product(&x, &transposed(&x, n, k), [n, k, n]);
        let fourth = product(&square, &square, [n, n, n]);
        let polynomial: Vec<f64> = (square.iter().zip(&fourth))
            .map(|(s, f)| b * s + c * f)
            .collect();
        let rest = product(&polynomial, &x, [n, n, k]);
        x = x.iter().zip(&rest).map(|(x, r)| a * x + r).collect();
    }
    x
}

fn transposed(x: &[f64], n: usize, k: usize) -> Vec<f64> {
    (0..k)
        .flat_map(|j| (0..n).map(move |i| x[i * k + j]))
        .collect()
}

/// a `[n, m]` times b `[m, k]`.
fn product(a: &[f64], b: &[f64], [n, m, k]: [usize; 3]) -> Vec<f64> {
    let mut y = vec![0.0; n * k];
    for i in 0..n {
        for j in 0..m {
            let factor = a[i * m + j];
            for (y, b) in y[i * k..(i + 1) * k].iter_mut().zip(&b[j * k..(j + 1) * k]) {
                *y += factor * b;
            }
        }
    }
    y
}
