//! A divergence between two next-token distributions: teacher P, student Q.
//!
//! Both are softmax(logits / temperature) of their own head, logits rounded to f32. With
//! M = beta P + (1 - beta) Q the value and its gradient in the student's logits l (tau the temperature):
//!
//! | Kind | Value | d l_i |
//! |---|---|---|
//! | forward | sum p (ln p - ln q) | (q_i - p_i) / tau |
//! | reverse | sum q (ln q - ln p) | q_i (ln q_i - ln p_i - value) / tau |
//! | Jensen-Shannon | beta KL(P, M) + (1 - beta) KL(Q, M) | q_i (g_i - sum q g) / tau, g = (1 - beta)(ln q - ln m) |
//!
//! A term of probability 0 counts 0; the other side's 0 then makes the value infinite where the
//! kind says so. The teacher gets no gradient. There is no factor tau²: the caller scales.
//! *Source*: Hinton et al., 1503.02531; Agarwal et al., 2306.13649.
#![expect(
    clippy::indexing_slicing,
    reason = "the checks hold both sides at T rows"
)]

use alloc::vec::Vec;

use super::check::{DivergenceDims, LinearDims};
use super::log_prob::{LogSoftmax, logits, p_times, through_head};
use super::math::{exp, ln, round};
use crate::backend::{Divergence, DivergenceKind};

/// The two heads and their hidden rows.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// Student's hidden `[T, D]` and head `[V, D]`.
    pub student: [&'a [f32]; 2],
    /// Teacher's hidden `[T, D']` and head `[V, D']`.
    pub teacher: [&'a [f32]; 2],
}

fn sides(dims: DivergenceDims) -> (LinearDims, LinearDims) {
    let side = |k| LinearDims {
        rows: dims.rows,
        n: dims.vocabulary,
        k,
    };
    (side(dims.student), side(dims.teacher))
}

/// (ln q, ln p) of each token.
fn log_probs(student: &[f32], teacher: &[f32], temperature: f32) -> Vec<(f64, f64)> {
    let q = LogSoftmax::of(student, temperature);
    let p = LogSoftmax::of(teacher, temperature);
    student
        .iter()
        .zip(teacher)
        .map(|(s, t)| (q.log_prob(*s), p.log_prob(*t)))
        .collect()
}

/// ln(beta e^p + (1 - beta) e^q).
fn log_mixture(log_q: f64, log_p: f64, beta: f64) -> f64 {
    let (a, b) = (log_p + ln(beta), log_q + ln(1.0 - beta));
    let max = a.max(b);
    if max == f64::NEG_INFINITY {
        max
    } else {
        max + ln(exp(a - max) + exp(b - max))
    }
}

fn value(pairs: &[(f64, f64)], kind: DivergenceKind) -> f64 {
    let term = |(q, p): &(f64, f64)| match kind {
        DivergenceKind::Forward => p_times(*p, p - q),
        DivergenceKind::Reverse => p_times(*q, q - p),
        DivergenceKind::JensenShannon { beta } => {
            let beta = f64::from(beta);
            let m = log_mixture(*q, *p, beta);
            beta * p_times(*p, p - m) + (1.0 - beta) * p_times(*q, q - m)
        }
    };
    pairs.iter().map(term).sum()
}

/// The divergence of one row of logits.
#[must_use]
pub fn row(student: &[f32], teacher: &[f32], divergence: Divergence) -> f32 {
    let pairs = log_probs(student, teacher, divergence.temperature);
    round(value(&pairs, divergence.kind))
}

/// Its gradient in the student's logits.
#[must_use]
pub fn row_backward(student: &[f32], teacher: &[f32], divergence: Divergence) -> Vec<f64> {
    let pairs = log_probs(student, teacher, divergence.temperature);
    let tau = f64::from(divergence.temperature);
    let from_slope = |slope: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
        let mean: f64 = pairs.iter().map(|(q, p)| p_times(*q, slope(*q, *p))).sum();
        pairs
            .iter()
            .map(|(q, p)| p_times(*q, slope(*q, *p) - mean) / tau)
            .collect()
    };
    match divergence.kind {
        DivergenceKind::Forward => pairs
            .iter()
            .map(|(q, p)| (exp(*q) - exp(*p)) / tau)
            .collect(),
        DivergenceKind::Reverse => from_slope(&|q, p| q - p),
        DivergenceKind::JensenShannon { beta } => {
            let beta = f64::from(beta);
            from_slope(&|q, p| (1.0 - beta) * (q - log_mixture(q, p, beta)))
        }
    }
}

/// The divergence of each row `[T]`.
#[must_use]
pub fn forward(heads: Heads<'_>, divergence: Divergence, dims: DivergenceDims) -> Vec<f32> {
    let (own, other) = sides(dims);
    (0..dims.rows)
        .map(|t| {
            let student = logits(heads.student[0], heads.student[1], t, own);
            let teacher = logits(heads.teacher[0], heads.teacher[1], t, other);
            row(&student, &teacher, divergence)
        })
        .collect()
}

/// d of the student's hidden from `d [T]`; adds to the gradient of its head.
pub fn backward(
    heads: Heads<'_>,
    divergence: Divergence,
    d: &[f32],
    dims: DivergenceDims,
    d_weight: &mut [f32],
) -> Vec<f32> {
    let (own, other) = sides(dims);
    let [hidden, weight] = heads.student;
    through_head(hidden, weight, own, d_weight, |t, student| {
        let teacher = logits(heads.teacher[0], heads.teacher[1], t, other);
        let slopes = row_backward(student, &teacher, divergence);
        slopes.into_iter().map(|g| g * f64::from(d[t])).collect()
    })
}
