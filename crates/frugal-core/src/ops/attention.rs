//! Ragged causal attention over keys in any of three forms.
//!
//! For a query row i and head h, over the key rows j it sees ([`key_rows`]):
//! z_j = scale q_ih · k_jh, p_j = e^z_j / sum e^z, o_ih = sum_j p_j v_jh, log_sum = ln sum e^z.
//! A row that sees no key gives o = 0 and log_sum = -inf. All of a row is f64 inside; only o and
//! log_sum are rounded. Keys and values are read through the strided view of [`AttentionDims`].
//!
//! Backward, with dp_j = dy · v_j and m = sum_j p_j dp_j: ds_j = scale p_j (dp_j - m),
//! dq += ds_j k_j, dk_j += ds_j q, dv_j += p_j dy. Key columns that heads share collect from all of
//! them. Scores are formed again rather than kept. *Source*: Dao, 2205.14135, appendix B; MLA:
//! DeepSeek-V2, section 2.1.
#![expect(
    clippy::indexing_slicing,
    reason = "the checks hold every part inside its row and every page inside the store"
)]

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::check::{AttentionDims, KeyPart, KeyTensor};
use super::math::{Sums, dot, exp, ln, round, row};
use crate::backend::{Attention, Context};

/// The numbers an attention reads.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// `[T, H * q_width]`.
    pub q: &'a [f32],
    /// The first tensor of the keys.
    pub first: &'a [f32],
    /// The second; empty where the form has none.
    pub second: &'a [f32],
}

impl<'a> Operands<'a> {
    /// What query head `head` sees of row `row` in one part of the keys.
    #[must_use]
    pub fn part(&self, part: &KeyPart, row: usize, head: usize) -> &'a [f32] {
        let start = part.start(row, head);
        match part.tensor {
            KeyTensor::First => &self.first[start..start + part.width],
            KeyTensor::Second => &self.second[start..start + part.width],
        }
    }
}

/// The rows of the key tensors that a query row sees, in order.
///
/// `sequence` is the sequence's index, `rows` its range of query rows and `row` one of them.
#[must_use]
pub fn key_rows(
    context: Context<'_>,
    sequence: usize,
    rows: &Range<usize>,
    row: usize,
) -> Vec<usize> {
    match context {
        Context::Packed => (rows.start..=row).collect(),
        Context::Paged(pages) => {
            let hidden = rows.end - 1 - row;
            let seen = (pages.lengths[sequence] as usize).saturating_sub(hidden);
            let place = |key: usize| {
                let page = pages.tables[sequence][key / pages.page_rows] as usize;
                page * pages.page_rows + key % pages.page_rows
            };
            (0..seen).map(place).collect()
        }
    }
}

/// One query head: what it sees and with which probability.
struct QueryHead<'a> {
    slot: usize,
    head: usize,
    q: &'a [f32],
    keys: &'a [usize],
    p: Vec<f64>,
    log_sum: f64,
}

/// Calls `each` for every row and head, in order.
fn for_each_head(
    operands: &Operands<'_>,
    dims: &AttentionDims,
    attention: &Attention<'_>,
    mut each: impl FnMut(&QueryHead<'_>),
) {
    for (sequence, rows) in attention.rows.ranges().enumerate() {
        for t in rows.clone() {
            let keys = key_rows(attention.context, sequence, &rows, t);
            for head in 0..dims.n_heads {
                let slot = t * dims.n_heads + head;
                let q = row(operands.q, slot, dims.q_width);
                let (own, shared) = q.split_at(dims.key[0].width);
                let mut p: Vec<f64> = keys
                    .iter()
                    .map(|key| {
                        let score = dot(own, operands.part(&dims.key[0], *key, head))
                            + dot(shared, operands.part(&dims.key[1], *key, head));
                        score * f64::from(attention.scale)
                    })
                    .collect();
                let log_sum = softmax(&mut p);
                each(&QueryHead {
                    slot,
                    head,
                    q,
                    keys: &keys,
                    p,
                    log_sum,
                });
            }
        }
    }
}

/// Turns scores into probabilities; gives ln sum e^z.
fn softmax(scores: &mut [f64]) -> f64 {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for z in scores.iter_mut() {
        *z = exp(*z - max);
        sum += *z;
    }
    for z in scores.iter_mut() {
        *z /= sum;
    }
    if scores.is_empty() {
        f64::NEG_INFINITY
    } else {
        max + ln(sum)
    }
}

/// o `[T, H * value_width]` and log_sum `[T, H]`.
#[must_use]
pub fn forward(
    operands: &Operands<'_>,
    dims: &AttentionDims,
    attention: &Attention<'_>,
) -> (Vec<f32>, Vec<f32>) {
    let mut output = Sums::new(dims.rows * dims.n_heads * dims.value_width);
    let mut log_sum = vec![f32::NEG_INFINITY; dims.rows * dims.n_heads];
    for_each_head(operands, dims, attention, |at| {
        log_sum[at.slot] = round(at.log_sum);
        for (p, key) in at.p.iter().zip(at.keys) {
            let value = operands.part(&dims.value, *key, at.head);
            output.add(at.slot * dims.value_width, *p, value);
        }
    });
    (output.rounded(), log_sum)
}

/// Gradients of q, the first and the second tensor of the keys.
#[derive(Debug, Clone, PartialEq)]
pub struct OperandGrads {
    /// As q.
    pub q: Vec<f32>,
    /// As the first tensor.
    pub first: Vec<f32>,
    /// As the second tensor.
    pub second: Vec<f32>,
}

/// The gradients from dy `[T, H * value_width]`.
#[must_use]
pub fn backward(
    operands: &Operands<'_>,
    dims: &AttentionDims,
    attention: &Attention<'_>,
    dy: &[f32],
) -> OperandGrads {
    let mut d_q = Sums::new(operands.q.len());
    let mut d_first = Sums::new(operands.first.len());
    let mut d_second = Sums::new(operands.second.len());
    let mut add = |part: &KeyPart, at: &QueryHead<'_>, key: usize, factor: f64, x: &[f32]| {
        let sums = match part.tensor {
            KeyTensor::First => &mut d_first,
            KeyTensor::Second => &mut d_second,
        };
        sums.add(part.start(key, at.head), factor, x);
    };
    for_each_head(operands, dims, attention, |at| {
        let dy = row(dy, at.slot, dims.value_width);
        let dp: Vec<f64> = (at.keys.iter())
            .map(|key| dot(dy, operands.part(&dims.value, *key, at.head)))
            .collect();
        let mean = at.p.iter().zip(&dp).fold(0.0, |sum, (p, dp)| sum + p * dp);
        let (own, shared) = at.q.split_at(dims.key[0].width);
        for ((key, p), dp) in at.keys.iter().zip(&at.p).zip(&dp) {
            let ds = f64::from(attention.scale) * p * (dp - mean);
            let start = at.slot * dims.q_width;
            d_q.add(start, ds, operands.part(&dims.key[0], *key, at.head));
            d_q.add(
                start + own.len(),
                ds,
                operands.part(&dims.key[1], *key, at.head),
            );
            add(&dims.key[0], at, *key, ds, own);
            add(&dims.key[1], at, *key, ds, shared);
            add(&dims.value, at, *key, *p, dy);
        }
    });
    OperandGrads {
        q: d_q.rounded(),
        first: d_first.rounded(),
        second: d_second.rounded(),
    }
}
