//! Which experts a row goes to, with which weight, and the balance loss.
//!
//! *Scores*: s = sigmoid(logit), or softmax over the row; formed in f64 and rounded to f32.
//! *Choice*: by c = s + bias, one f32 addition. Experts stand in `n_group` groups of neighbours; a
//! group's score is the f32 sum of its two best c (of its one, where it has one) or its best c. The
//! best `topk_group` groups are kept, and of their experts the k with the best c are chosen, best
//! first. Equals: the lower index first. A NaN ranks below every number.
//! *Weights*: w = s of the chosen, without bias; divided by their sum plus 1e-20 if the router says
//! so; then times its scale.
//!
//! Back-ends should call [`forward`] itself: it costs T * E, and another order of rounding would
//! choose other experts.
//!
//! *Backward* of w with S = sum of the chosen s + 1e-20: ds_c = scale (dw_c - sum_j dw_j s_j / S) / S,
//! or scale dw_c without normalisation; other s get nothing, nor does the choice or the bias. Then
//! dl = ds s (1 - s), or dl_e = s_e (ds_e - sum_j ds_j s_j) for softmax.
//!
//! *Balance loss* of a sequence of T_b rows: alpha sum_i f_i P_i, f_i = E / (k T_b) times the number
//! of its rows that chose i, P_i the mean over its rows of s_i / sum_j s_j; averaged over the
//! sequences that have rows. f carries no gradient. *Source*: DeepSeek-V3 report, section 2.1.2. It
//! counts for f the choices made, with bias and groups, where equation 18 names the best scores.
#![expect(
    clippy::indexing_slicing,
    reason = "the checks hold chosen experts below E and rows below T"
)]

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::check::RouteDims;
use super::math::{exp, round, row, sigmoid};
use crate::backend::{Balance, GroupScore, Router, Scoring};
use crate::error::{Result, expect_indices};

/// Added to the sum of the chosen scores before dividing. *Source*: DeepSeek-V3 published code.
const SUM_FLOOR: f64 = 1e-20;

/// s of one row, in f64.
fn scores(logits: &[f32], scoring: Scoring) -> Vec<f64> {
    match scoring {
        Scoring::Sigmoid => logits.iter().map(|x| sigmoid(f64::from(*x))).collect(),
        Scoring::Softmax => {
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f64> = logits
                .iter()
                .map(|x| exp(f64::from(*x) - f64::from(max)))
                .collect();
            let sum: f64 = powers.iter().sum();
            powers.iter().map(|e| e / sum).collect()
        }
    }
}

/// d logits of one row from d scores.
fn scores_backward(scores: &[f64], d_scores: &[f64], scoring: Scoring) -> Vec<f32> {
    let pairs = scores.iter().zip(d_scores);
    match scoring {
        Scoring::Sigmoid => pairs.map(|(s, ds)| round(ds * s * (1.0 - s))).collect(),
        Scoring::Softmax => {
            let mean = pairs.clone().fold(0.0, |sum, (s, ds)| sum + s * ds);
            pairs.map(|(s, ds)| round(s * (ds - mean))).collect()
        }
    }
}

/// Greater first, NaN last; to be used with a stable sort, so that equals keep their order.
fn descending(a: f32, b: f32) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    }
}

/// The indices of `candidates` by descending score, equals in order of index.
fn ranked(candidates: impl Iterator<Item = usize>, score: impl Fn(usize) -> f32) -> Vec<usize> {
    let mut order: Vec<usize> = candidates.collect();
    order.sort_by(|a, b| descending(score(*a), score(*b)));
    order
}

/// The experts one row chooses by its selection scores.
fn choose(selection: &[f32], router: &Router) -> Vec<usize> {
    let group_size = selection.len() / router.n_group;
    let members = |group: usize| group * group_size..(group + 1) * group_size;
    let group_score = |group: usize| {
        let best = ranked(members(group), |e| selection[e]);
        match (router.group_score, best.get(1)) {
            (GroupScore::TopTwo, Some(second)) => selection[best[0]] + selection[*second],
            _ => selection[best[0]],
        }
    };
    let group_scores: Vec<f32> = (0..router.n_group).map(group_score).collect();
    let mut kept = ranked(0..router.n_group, |g| group_scores[g]);
    kept.truncate(router.topk_group);
    kept.sort_unstable();
    let mut chosen = ranked(kept.into_iter().flat_map(members), |e| selection[e]);
    chosen.truncate(router.top_k);
    chosen
}

/// Experts and weights, both `[T, k]`.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "experts are fewer than 2^32"
)]
pub fn forward(
    logits: &[f32],
    bias: Option<&[f32]>,
    router: &Router,
    dims: RouteDims,
) -> (Vec<u32>, Vec<f32>) {
    let mut experts = Vec::with_capacity(dims.slots());
    let mut weights = Vec::with_capacity(dims.slots());
    for t in 0..dims.rows {
        let scores: Vec<f32> = scores(row(logits, t, dims.n_experts), router.scoring)
            .into_iter()
            .map(round)
            .collect();
        let selection: Vec<f32> = match bias {
            Some(bias) => scores.iter().zip(bias).map(|(s, b)| s + b).collect(),
            None => scores.clone(),
        };
        let chosen = choose(&selection, router);
        let sum = chosen
            .iter()
            .fold(0.0, |sum, e| sum + f64::from(scores[*e]));
        let divisor = if router.normalise {
            sum + SUM_FLOOR
        } else {
            1.0
        };
        for expert in chosen {
            let weight = f64::from(scores[expert]) / divisor * f64::from(router.scale);
            experts.push(expert as u32);
            weights.push(round(weight));
        }
    }
    (experts, weights)
}

/// The plan of the expert products from the chosen experts `[T * k]`, row by row: (order `[T * k]`,
/// offsets `[E + 1]`). A counting sort, so within an expert slots stay in order of row.
///
/// # Errors
/// If an expert is not below `n_experts`, or positions do not fit 32 bits.
pub fn plan(experts: &[u32], n_experts: usize) -> Result<(Vec<u32>, Vec<u32>)> {
    expect_indices("route plan", "expert", experts, n_experts)?;
    let slots = u32::try_from(experts.len()).map_err(|_| crate::error::Error::PositionOverflow)?;
    let mut offsets = vec![0u32; n_experts + 1];
    for expert in experts {
        offsets[*expert as usize + 1] += 1;
    }
    for e in 0..n_experts {
        offsets[e + 1] += offsets[e];
    }
    let mut next = offsets.clone();
    let mut order = vec![0u32; experts.len()];
    for (position, expert) in (0..slots).zip(experts) {
        let slot = &mut next[*expert as usize];
        order[*slot as usize] = position;
        *slot += 1;
    }
    Ok((order, offsets))
}

/// What a router's backward and balance loss read.
#[derive(Debug, Clone, Copy)]
pub struct Routed<'a> {
    /// `[T, E]`.
    pub logits: &'a [f32],
    /// `[T, k]`: the chosen experts.
    pub experts: &'a [u32],
    /// The rule they were chosen by.
    pub router: &'a Router,
}

/// d logits `[T, E]` from d weights `[T, k]` and the balance loss.
#[must_use]
pub fn backward(
    routed: Routed<'_>,
    d_weights: &[f32],
    balance: Option<Balance<'_>>,
    dims: RouteDims,
) -> Vec<f32> {
    let RouteDims {
        top_k, n_experts, ..
    } = dims;
    let router = routed.router;
    let pull = balance.map(|balance| balance_pull(&routed, balance, dims));
    let mut d_logits = Vec::with_capacity(dims.rows * n_experts);
    for t in 0..dims.rows {
        let s = scores(row(routed.logits, t, n_experts), router.scoring);
        let chosen = &routed.experts[t * top_k..(t + 1) * top_k];
        let dw = row(d_weights, t, top_k);
        let pairs = chosen.iter().zip(dw);
        let sum = SUM_FLOOR + chosen.iter().map(|e| s[*e as usize]).sum::<f64>();
        let along = pairs
            .clone()
            .map(|(e, dw)| f64::from(*dw) * s[*e as usize])
            .sum::<f64>();
        let mut d_scores = vec![0.0; n_experts];
        for (expert, dw) in pairs {
            let dw = f64::from(*dw);
            let inner = if router.normalise {
                (dw - along / sum) / sum
            } else {
                dw
            };
            d_scores[*expert as usize] += f64::from(router.scale) * inner;
        }
        if let Some(pull) = &pull {
            let total: f64 = s.iter().sum();
            let pull = &pull[t * n_experts..(t + 1) * n_experts];
            let mean = s.iter().zip(pull).map(|(s, c)| s * c).sum::<f64>() / total;
            for (ds, c) in d_scores.iter_mut().zip(pull) {
                *ds += (c - mean) / total;
            }
        }
        d_logits.extend(scores_backward(&s, &d_scores, router.scoring));
    }
    d_logits
}

/// The factor of each row's normalised score in the loss: alpha f_i / (T_b * sequences) `[T, E]`.
fn balance_pull(routed: &Routed<'_>, balance: Balance<'_>, dims: RouteDims) -> Vec<f64> {
    let (k, n_experts) = (dims.top_k, dims.n_experts);
    let n_sequences = balance
        .rows
        .ranges()
        .filter(|rows| !rows.is_empty())
        .count();
    let mut pull = Vec::with_capacity(dims.rows * n_experts);
    for rows in balance.rows.ranges() {
        let length = rows.len() as f64;
        let mut chosen = vec![0.0; n_experts];
        for expert in &routed.experts[rows.start * k..rows.end * k] {
            chosen[*expert as usize] += 1.0;
        }
        let f = |count: &f64| count * n_experts as f64 / (k as f64 * length);
        let share = f64::from(balance.alpha) / (length * n_sequences as f64);
        for _ in rows {
            pull.extend(chosen.iter().map(|count| f(count) * share));
        }
    }
    pull
}

/// The value of the balance loss; 0 for a step without rows.
#[must_use]
pub fn balance_loss(routed: Routed<'_>, balance: Balance<'_>, dims: RouteDims) -> f32 {
    let pull = balance_pull(&routed, balance, dims);
    let mut loss = 0.0;
    for t in 0..dims.rows {
        let s = scores(row(routed.logits, t, dims.n_experts), routed.router.scoring);
        let total: f64 = s.iter().sum();
        let pull = &pull[t * dims.n_experts..(t + 1) * dims.n_experts];
        loss += s.iter().zip(pull).map(|(s, c)| s / total * c).sum::<f64>();
    }
    round(loss)
}
