//! Choosing experts, and what flows back through the choice.
//!
//! Scores and weights are formed in f64 and ranked as `frugal_core::ops::route` does, so that the
//! choices are the reference's; what is ours is the speed: no allocation a row, and f64 exponentials
//! that the compiler vectorises. Rows go to their experts in [`super::moe`].
#![expect(
    clippy::cast_possible_truncation,
    reason = "scores are formed in f64 and rounded once; experts are fewer than 2^32"
)]

use frugal_core::backend::{Balance, GroupScore, Route, Router, Scoring};
use frugal_core::dtype::DType;
use frugal_core::error::{Result, expect_indices};
use frugal_core::ops::check::{self, RouteDims};
use frugal_core::shape::Shape;

use super::backend::Cpu;
use super::moe::{plan, shapes};
use super::tensor::Tensor;
use super::vector::kernel;

/// Rows of a piece of routing work.
const PIECE: usize = 256;
/// Added to the sum of the chosen scores before dividing.
const SUM_FLOOR: f64 = 1e-20;

/// e^x for |x| below 700 (clamped to it), relative error below 2^-50. Branch-free, so that loops
/// over it are vectorised. Taylor polynomial after reduction by multiples of ln 2.
#[inline(always)]
fn exp64(x: f64) -> f64 {
    /// Adding it leaves the nearest integer in the low bits.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let x = if x < -700.0 { -700.0 } else { x };
    let x = if x > 700.0 { 700.0 } else { x };
    let shifted = x * std::f64::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * 0.693_147_180_369_123_8 - n * 1.908_214_929_270_587_7e-10;
    let mut p = 1.0 / 6_227_020_800.0;
    for factorial in [
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
        1.0,
        1.0,
    ] {
        p = p * r + 1.0 / factorial;
    }
    f64::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 52))
}

/// s of one row of logits.
#[expect(clippy::inline_always, reason = "melts into the kernel")]
#[inline(always)]
fn score(logits: &[f32], scoring: Scoring, scores: &mut [f64]) {
    match scoring {
        Scoring::Sigmoid => {
            for (s, x) in scores.iter_mut().zip(logits) {
                let x = f64::from(*x);
                let e = exp64(-x.abs());
                let top = if x >= 0.0 { 1.0 } else { e };
                *s = top / (1.0 + e);
            }
        }
        Scoring::Softmax => {
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for (s, x) in scores.iter_mut().zip(logits) {
                *s = exp64(f64::from(*x) - f64::from(max));
            }
            let sum: f64 = scores.iter().sum();
            for s in scores.iter_mut() {
                *s /= sum;
            }
        }
    }
}

/// An integer that orders as the score does, then by lower index: NaN below every number, both
/// zeros equal, and nothing as low as [`TAKEN`]. Choosing is then finding the largest, without a
/// branch that the processor would mispredict.
#[expect(clippy::inline_always, reason = "melts into the kernel")]
#[inline(always)]
fn rank(score: f32, index: u32) -> i64 {
    let bits = (score + 0.0).to_bits().cast_signed();
    let ordered = bits ^ ((bits >> 31) & i32::MAX);
    let ordered = if score.is_nan() {
        i32::MIN + 1
    } else {
        ordered
    };
    i64::from(ordered) << 32 | i64::from(!index)
}

/// Rank of what cannot be chosen any more.
const TAKEN: i64 = i64::MIN;

/// The index in a rank.
#[expect(clippy::inline_always, reason = "melts into the kernel")]
#[inline(always)]
fn index_of(rank: i64) -> usize {
    !(rank.cast_unsigned() as u32) as usize
}

/// Ranks that are compared at once; lists of them are padded with [`TAKEN`].
const LANES: usize = 16;

/// The highest rank.
#[expect(clippy::inline_always, reason = "melts into the kernel")]
#[inline(always)]
fn best(ranks: &[i64]) -> i64 {
    let (parts, _) = ranks.as_chunks::<LANES>();
    let mut highest = [TAKEN; LANES];
    for part in parts {
        for (highest, rank) in highest.iter_mut().zip(part) {
            *highest = (*highest).max(*rank);
        }
    }
    highest.iter().copied().fold(TAKEN, i64::max)
}

/// Takes the highest rank out.
#[expect(clippy::inline_always, reason = "melts into the kernel")]
#[inline(always)]
fn take_best(ranks: &mut [i64]) -> usize {
    let index = index_of(best(ranks));
    if let Some(rank) = ranks.get_mut(index) {
        *rank = TAKEN;
    }
    index
}

/// Room for one row.
struct Desk {
    scores: Vec<f64>,
    selection: Vec<f32>,
    /// Of the experts, and of the groups.
    ranks: Vec<i64>,
    groups: Vec<i64>,
}

impl Desk {
    fn new(n_experts: usize, n_group: usize) -> Self {
        Self {
            scores: vec![0.0; n_experts],
            selection: vec![0.0; n_experts],
            ranks: vec![TAKEN; n_experts.next_multiple_of(LANES)],
            groups: vec![TAKEN; n_group.next_multiple_of(LANES)],
        }
    }

    /// Takes the experts of all groups but the best out of the ranks.
    #[expect(clippy::inline_always, reason = "melts into the kernel")]
    #[inline(always)]
    fn keep_best_groups(&mut self, router: &Router) {
        let size = (self.selection.len() / router.n_group.max(1)).max(1);
        let at = |rank| {
            self.selection
                .get(index_of(rank))
                .copied()
                .unwrap_or(f32::NAN)
        };
        let members = self.ranks.chunks_exact(size);
        for ((ranks, group), number) in members.zip(&mut self.groups).zip(0..router.n_group as u32)
        {
            let (mut first, mut second) = (TAKEN, TAKEN);
            for rank in ranks {
                second = second.max(first.min(*rank));
                first = first.max(*rank);
            }
            let value = match router.group_score {
                GroupScore::TopTwo if size > 1 => at(first) + at(second),
                _ => at(first),
            };
            *group = rank(value, number);
        }
        for _ in 0..router.topk_group {
            take_best(&mut self.groups);
        }
        let groups = self.ranks.chunks_exact_mut(size).zip(&self.groups);
        for (ranks, group) in groups.take(router.n_group) {
            if *group != TAKEN {
                ranks.fill(TAKEN);
            }
        }
    }
}

struct Choice<'a> {
    logits: &'a [f32],
    bias: Option<&'a [f32]>,
    router: &'a Router,
    n_experts: usize,
}

kernel! {
    fn choose_rows<L>(_l, choice: &Choice<'_>, experts: &mut [u32], weights: &mut [f32]) {
        let Choice { logits, bias, router, n_experts } = *choice;
        let mut desk = Desk::new(n_experts, router.n_group);
        let rows = logits.chunks_exact(n_experts.max(1));
        let results = experts.chunks_exact_mut(router.top_k).zip(weights.chunks_exact_mut(router.top_k));
        for (logits, (experts, weights)) in rows.zip(results) {
            score(logits, router.scoring, &mut desk.scores);
            for (c, s) in desk.selection.iter_mut().zip(&desk.scores) {
                *c = *s as f32;
            }
            if let Some(bias) = bias {
                for (c, b) in desk.selection.iter_mut().zip(bias) {
                    *c += b;
                }
            }
            for ((r, c), index) in desk.ranks.iter_mut().zip(&desk.selection).zip(0..) {
                *r = rank(*c, index);
            }
            if router.n_group > router.topk_group {
                desk.keep_best_groups(router);
            }
            let mut sum = SUM_FLOOR;
            let mut chosen = 0.0;
            for (expert, weight) in experts.iter_mut().zip(weights.iter_mut()) {
                let index = take_best(&mut desk.ranks);
                let s = desk.scores.get(index).copied().unwrap_or(0.0) as f32;
                *expert = index as u32;
                *weight = s;
                chosen += f64::from(s);
            }
            sum += chosen;
            let divisor = if router.normalise { sum } else { 1.0 };
            for weight in weights {
                *weight = (f64::from(*weight) / divisor * f64::from(router.scale)) as f32;
            }
        }
    }
}

pub(super) fn route(
    cpu: &Cpu,
    logits: &Tensor,
    bias: Option<&Tensor>,
    router: &Router,
) -> Result<Route<Tensor>> {
    let dims = check::route(logits.shape(), bias.map(Tensor::shape), router)?;
    let values = logits.floats("route")?;
    let values: &[f32] = &values;
    let bias = bias.map(|bias| bias.floats("route")).transpose()?;
    let shape = Shape::matrix(dims.rows, dims.top_k);
    let mut experts = cpu.memory.take(dims.slots() * size_of::<u32>());
    let chosen = experts
        .u32s_mut()
        .get_mut(..dims.slots())
        .unwrap_or_default();
    let weights = cpu.produce(shape, |weights| {
        let piece = PIECE * dims.top_k;
        cpu.pool.for_each_chunk_pair(
            (&mut *chosen, piece),
            (weights, piece),
            |i, experts, weights| {
                let start = i * PIECE * dims.n_experts;
                let choice = Choice {
                    logits: values.get(start..).unwrap_or(&[]),
                    bias: bias.as_deref(),
                    router,
                    n_experts: dims.n_experts,
                };
                choose_rows(cpu.level, &choice, experts, weights);
            },
        );
    })?;
    let (order, offsets) = plan(cpu, chosen, dims);
    Ok(Route {
        experts: Tensor::new(shape, DType::U32, experts),
        weights,
        order,
        offsets,
    })
}

/// For each sequence and expert: alpha f / (rows of the sequence * sequences with rows).
fn balance_pull(experts: &[u32], balance: &Balance<'_>, dims: RouteDims) -> Vec<f64> {
    let (k, n_experts) = (dims.top_k, dims.n_experts);
    let mut pull = vec![0.0; balance.rows.n_sequences() * n_experts];
    let n_full = balance
        .rows
        .ranges()
        .filter(|rows| !rows.is_empty())
        .count() as f64;
    for (rows, pull) in balance.rows.ranges().zip(pull.chunks_exact_mut(n_experts)) {
        let length = rows.len() as f64;
        for expert in experts.get(rows.start * k..rows.end * k).unwrap_or(&[]) {
            if let Some(count) = pull.get_mut(*expert as usize) {
                *count += 1.0;
            }
        }
        let factor =
            n_experts as f64 / (k as f64 * length) * f64::from(balance.alpha) / (length * n_full);
        for pull in pull {
            *pull *= factor;
        }
    }
    pull
}

/// The sequence of a row; among empty ones at the same place, the one that has it.
fn sequence_of(balance: &Balance<'_>, row: usize) -> usize {
    let offsets = balance.rows.offsets();
    offsets
        .partition_point(|start| *start as usize <= row)
        .saturating_sub(1)
}

struct RouteGrads<'a> {
    logits: &'a [f32],
    experts: &'a [u32],
    d_weights: &'a [f32],
    router: &'a Router,
    n_experts: usize,
    /// The pull of each row's sequence, in order; none without balance loss.
    pulls: Option<&'a [&'a [f64]]>,
}

kernel! {
    fn route_rows_backward<L>(_l, given: &RouteGrads<'_>, d_logits: &mut [f32]) {
        let n_experts = given.n_experts.max(1);
        let (router, k) = (given.router, given.router.top_k);
        let mut s = vec![0.0; n_experts];
        let mut ds = vec![0.0; n_experts];
        let rows = given.logits.chunks_exact(n_experts).zip(d_logits.chunks_exact_mut(n_experts));
        let chosen = given.experts.chunks_exact(k).zip(given.d_weights.chunks_exact(k));
        for (t, ((logits, d_logits), (experts, dw))) in rows.zip(chosen).enumerate() {
            score(logits, router.scoring, &mut s);
            ds.fill(0.0);
            let at = |e: &u32| s.get(*e as usize).copied().unwrap_or(0.0);
            let sum = SUM_FLOOR + experts.iter().map(at).sum::<f64>();
            let along: f64 = experts.iter().zip(dw).map(|(e, dw)| at(e) * f64::from(*dw)).sum();
            for (e, dw) in experts.iter().zip(dw) {
                let dw = f64::from(*dw);
                let inner = if router.normalise { (dw - along / sum) / sum } else { dw };
                if let Some(ds) = ds.get_mut(*e as usize) {
                    *ds += f64::from(router.scale) * inner;
                }
            }
            if let Some(pull) = given.pulls.and_then(|pulls| pulls.get(t)) {
                let total: f64 = s.iter().sum();
                let mean = s.iter().zip(*pull).map(|(s, c)| s * c).sum::<f64>() / total;
                for (ds, c) in ds.iter_mut().zip(*pull) {
                    *ds += (c - mean) / total;
                }
            }
            let mean: f64 = match router.scoring {
                Scoring::Sigmoid => 0.0,
                Scoring::Softmax => s.iter().zip(&ds).map(|(s, ds)| s * ds).sum(),
            };
            for (d, (s, ds)) in d_logits.iter_mut().zip(s.iter().zip(&ds)) {
                *d = match router.scoring {
                    Scoring::Sigmoid => ds * s * (1.0 - s),
                    Scoring::Softmax => s * (ds - mean),
                } as f32;
            }
        }
    }
}

pub(super) fn route_backward(
    cpu: &Cpu,
    (logits, router): (&Tensor, &Router),
    route: &Route<Tensor>,
    d_weights: &Tensor,
    balance: Option<Balance<'_>>,
) -> Result<Tensor> {
    const OP: &str = "route_backward";
    let dims = check::route_backward(
        logits.shape(),
        router,
        &shapes(route),
        d_weights.shape(),
        balance.as_ref(),
    )?;
    let (logit_values, d_values) = (logits.floats(OP)?, d_weights.floats(OP)?);
    let (logit_values, d_values): (&[f32], &[f32]) = (&logit_values, &d_values);
    let experts = chosen(OP, route, dims)?;
    let pull = balance.map(|balance| balance_pull(experts, &balance, dims));
    let (k, n_experts) = (dims.top_k, dims.n_experts);
    cpu.produce(logits.shape(), |d_logits| {
        cpu.pool
            .for_each_chunk(d_logits, PIECE * n_experts, |i, d_logits| {
                let rows = i * PIECE..i * PIECE + d_logits.len() / n_experts;
                let pulls: Option<Vec<&[f64]>> =
                    balance.zip(pull.as_ref()).map(|(balance, pull)| {
                        rows.clone()
                            .map(|row| {
                                let start = sequence_of(&balance, row) * n_experts;
                                pull.get(start..start + n_experts).unwrap_or(&[])
                            })
                            .collect()
                    });
                let given = RouteGrads {
                    logits: logit_values.get(rows.start * n_experts..).unwrap_or(&[]),
                    experts: experts.get(rows.start * k..).unwrap_or(&[]),
                    d_weights: d_values.get(rows.start * k..).unwrap_or(&[]),
                    router,
                    n_experts,
                    pulls: pulls.as_deref(),
                };
                route_rows_backward(cpu.level, &given, d_logits);
            });
    })
}

fn chosen<'a>(op: &'static str, route: &'a Route<Tensor>, dims: RouteDims) -> Result<&'a [u32]> {
    let experts = route.experts.indices(op)?;
    expect_indices(op, "expert", experts, dims.n_experts)?;
    Ok(experts)
}

kernel! {
    /// The sum over rows and experts of s / sum s * pull.
    fn balance_rows<L>(_l, logits: &[f32], scoring: Scoring, pulls: &[&[f64]]) -> f64 {
        let mut loss = 0.0;
        let Some(n_experts) = pulls.first().map(|pull| pull.len().max(1)) else {
            return loss;
        };
        let mut s = vec![0.0; n_experts];
        for (logits, pull) in logits.chunks_exact(n_experts).zip(pulls) {
            score(logits, scoring, &mut s);
            let total: f64 = s.iter().sum();
            loss += s.iter().zip(*pull).map(|(s, c)| s / total * c).sum::<f64>();
        }
        loss
    }
}

pub(super) fn balance_loss(
    cpu: &Cpu,
    (logits, router): (&Tensor, &Router),
    route: &Route<Tensor>,
    balance: Balance<'_>,
) -> Result<f32> {
    const OP: &str = "balance_loss";
    let dims = check::balance_loss(logits.shape(), router, &shapes(route), &balance)?;
    let values = logits.floats(OP)?;
    let values: &[f32] = &values;
    let pull = balance_pull(chosen(OP, route, dims)?, &balance, dims);
    let n_experts = dims.n_experts;
    let mut sums = vec![0.0_f64; dims.rows.div_ceil(PIECE)];
    cpu.pool.for_each_chunk(&mut sums, 1, |i, sum| {
        let rows = i * PIECE..((i + 1) * PIECE).min(dims.rows);
        let pulls: Vec<&[f64]> = rows
            .clone()
            .map(|row| {
                let start = sequence_of(&balance, row) * n_experts;
                pull.get(start..start + n_experts).unwrap_or(&[])
            })
            .collect();
        let logits = values.get(rows.start * n_experts..).unwrap_or(&[]);
        sum.fill(balance_rows(cpu.level, logits, router.scoring, &pulls));
    });
    Ok(sums.iter().sum::<f64>() as f32)
}
