//! Routing and what follows it.
//!
//! The choice is defined to the bit (scores in f64 rounded to f32, compared in f32), so experts,
//! order and offsets must be equal; weights are a few roundings of their value. In the backward the
//! differences (dw - mean), (c - mean) and (1 - s) are taken at their magnitude before cancelling.
//! Dispatch is exact; the sums over k slots are sums of k + 1 terms.

use alloc::vec;
use alloc::vec::Vec;

use super::tolerance::{FLOOR, FUNCTION, gamma};
use super::{Draw, Suite, absolute, host, times};
use crate::backend::{Backend, Balance, GroupScore, Route, Router, Scoring, TrainBackend};
use crate::error::Result;
use crate::ops::math;
use crate::reference::{HostTensor, Reference};
use crate::shape::{Rows, Shape};

/// A router without groups.
fn plain_router(top_k: usize) -> Router {
    Router {
        top_k,
        n_group: 1,
        topk_group: 1,
        scoring: Scoring::Sigmoid,
        group_score: GroupScore::TopTwo,
        normalise: true,
        scale: 2.5,
    }
}

/// A route of random logits on both sides, the host's with the back-end's own weights.
pub(super) fn routes<B: TrainBackend>(
    s: &Suite<'_, B>,
    draw: &mut Draw,
    [rows, n_experts, top_k]: [usize; 3],
) -> Result<(Route<B::Tensor>, Route<HostTensor>)> {
    let logits = s.short(draw, Shape::matrix(rows, n_experts))?;
    let router = plain_router(top_k);
    let own = s.backend.route(&logits.own, None, &router)?;
    let expected = Reference.route(&logits.host, None, &router)?;
    let weights = host(expected.weights.shape(), &s.backend.get(&own.weights)?)?;
    let route = Route {
        weights,
        ..expected
    };
    Ok((own, route))
}

/// A random rule for E experts.
fn some_router(draw: &mut Draw, n_experts: usize) -> Router {
    let divisors: Vec<usize> = (1..=n_experts.min(8))
        .filter(|n| n_experts.is_multiple_of(*n))
        .collect();
    let n_group = divisors
        .get(draw.below(divisors.len()))
        .copied()
        .unwrap_or(1);
    let topk_group = 1 + draw.below(n_group);
    let reachable = n_experts / n_group * topk_group;
    Router {
        top_k: 1 + draw.below(reachable.min(8)),
        n_group,
        topk_group,
        scoring: draw.choose(Scoring::Sigmoid, &[Scoring::Softmax]),
        group_score: draw.choose(GroupScore::TopTwo, &[GroupScore::Max]),
        normalise: draw.below(2) == 0,
        scale: draw.choose(1.0, &[2.5]),
    }
}

/// Logits in steps of 1/4, so that scores are equal now and then, or free.
fn some_logits(draw: &mut Draw, shape: Shape) -> Result<HostTensor> {
    let is_coarse = draw.index() % 3 == 2;
    let numbers: Vec<f32> = (draw.normals(shape.elements()).into_iter())
        .map(|x| {
            if is_coarse {
                (x * 4.0).round() / 4.0
            } else {
                x
            }
        })
        .collect();
    host(shape, &numbers)
}

pub(super) fn route<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (rows, n_experts) = (draw.rows(65), draw.size(129));
    let router = some_router(draw, n_experts);
    let logits = some_logits(draw, Shape::matrix(rows, n_experts))?;
    let logits = s.twin(logits)?;
    let bias = draw.normals(n_experts);
    let bias: Vec<f32> = bias.iter().map(|b| b / 16.0).collect();
    let bias = s.twin(host(Shape::vector(n_experts), &bias)?)?;
    for with_bias in [true, false] {
        let own_bias = with_bias.then_some(&bias.own);
        let host_bias = with_bias.then_some(&bias.host);
        let own = s.backend.route(&logits.own, own_bias, &router)?;
        let expected = Reference.route(&logits.host, host_bias, &router)?;
        for (what, own, expected) in [
            ("experts", &own.experts, &expected.experts),
            ("order", &own.order, &expected.order),
            ("offsets", &own.offsets, &expected.offsets),
        ] {
            s.n_checks += 1;
            let is_shaped = s.backend.shape(own) == expected.shape();
            if !is_shaped || s.backend.get_indices(own)? != expected.indices()? {
                let detail = alloc::format!("expected the indices of the reference, {router:?}");
                s.fail(what, f64::INFINITY, detail);
            }
        }
        let bound = times(
            gamma(router.top_k + FUNCTION + 8),
            &absolute(&expected.weights)?,
        )?;
        s.near("weights", &own.weights, &expected.weights, &bound)?;
    }
    Ok(())
}

pub(super) fn route_backward<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (rows, n_experts) = (draw.rows(65), draw.size(65));
    let router = some_router(draw, n_experts);
    let logits = s.full(draw, Shape::matrix(rows, n_experts))?;
    let own = s.backend.route(&logits.own, None, &router)?;
    let expected = Reference.route(&logits.host, None, &router)?;
    let d_weights = s.full(draw, expected.weights.shape())?;
    let sequences = draw.sequences(rows)?;
    let balance = Balance {
        alpha: 0.3,
        rows: &sequences,
    };
    let loss = s
        .backend
        .balance_loss(&logits.own, &router, &own, balance)?;
    let right = Reference.balance_loss(&logits.host, &router, &expected, balance)?;
    let bound = gamma(rows + 2 * n_experts + FUNCTION + 16) * f64::from(right) + FLOOR;
    let loss = s.twin(host(Shape::vector(1), &[loss])?)?;
    let right = host(Shape::vector(1), &[right])?;
    s.near("balance loss", &loss.own, &right, &[bound])?;
    for balance in [None, Some(balance)] {
        let got = s
            .backend
            .route_backward(&logits.own, &router, &own, &d_weights.own, balance)?;
        let right =
            Reference.route_backward(&logits.host, &router, &expected, &d_weights.host, balance)?;
        let bound = slopes(&logits.host, &router, &expected, &d_weights.host, balance)?;
        s.near("d logits", &got, &right, &bound)?;
    }
    Ok(())
}

/// Bounds of d logits.
fn slopes(
    logits: &HostTensor,
    router: &Router,
    route: &Route<HostTensor>,
    d_weights: &HostTensor,
    balance: Option<Balance<'_>>,
) -> Result<Vec<f64>> {
    let n_experts = logits.shape().cols();
    let (k, rows) = (router.top_k, logits.shape().rows());
    let experts = route.experts.indices()?;
    let pulls = match balance {
        Some(balance) => pulls(experts, [k, n_experts], balance),
        None => vec![0.0; rows * n_experts],
    };
    let factor = gamma(3 * n_experts + 2 * k + 2 * FUNCTION + 24);
    let mut bounds = Vec::with_capacity(rows * n_experts);
    for t in 0..rows {
        let s = scores(math::row(logits.numbers()?, t, n_experts), router.scoring);
        let at = |e: &u32| s.get(*e as usize).copied().unwrap_or(0.0);
        let chosen = experts.iter().skip(t * k).take(k);
        let pairs = chosen.zip(math::row(d_weights.numbers()?, t, k));
        let sum: f64 = pairs.clone().map(|(e, _)| at(e)).sum();
        let along: f64 = (pairs.clone())
            .map(|(e, dw)| f64::from(dw.abs()) * at(e) / sum)
            .sum();
        let mut size = vec![0.0; n_experts];
        for (e, dw) in pairs {
            let dw = f64::from(dw.abs());
            let inner = if router.normalise {
                (dw + along) / sum
            } else {
                dw
            };
            if let Some(size) = size.get_mut(*e as usize) {
                *size += f64::from(router.scale) * inner;
            }
        }
        let total: f64 = s.iter().sum();
        let row_pulls = || pulls.iter().skip(t * n_experts).take(n_experts);
        let mean: f64 = s.iter().zip(row_pulls()).map(|(s, c)| s * c / total).sum();
        for (size, c) in size.iter_mut().zip(row_pulls()) {
            *size += (c + mean) / total;
        }
        let spread: f64 = match router.scoring {
            Scoring::Sigmoid => 0.0,
            Scoring::Softmax => s.iter().zip(&size).map(|(s, d)| s * d).sum(),
        };
        let each = |(s, d): (&f64, &f64)| factor * s * (d + spread) + FLOOR;
        bounds.extend(s.iter().zip(&size).map(each));
    }
    Ok(bounds)
}

fn scores(logits: &[f32], scoring: Scoring) -> Vec<f64> {
    let logits = logits.iter().map(|x| f64::from(*x));
    match scoring {
        Scoring::Sigmoid => logits.map(math::sigmoid).collect(),
        Scoring::Softmax => {
            let powers: Vec<f64> = logits.map(math::exp).collect();
            let sum: f64 = powers.iter().sum();
            powers.iter().map(|e| e / sum).collect()
        }
    }
}

/// alpha f_i / (T_b sequences) of each row and expert, written once more from the equations.
fn pulls(experts: &[u32], [k, n_experts]: [usize; 2], balance: Balance<'_>) -> Vec<f64> {
    let rows: &Rows = balance.rows;
    let n = rows.ranges().filter(|range| !range.is_empty()).count();
    let mut pulls = Vec::new();
    for range in rows.ranges() {
        let length = range.len() as f64;
        let own = experts.iter().skip(range.start * k).take(range.len() * k);
        for _ in range {
            for expert in 0..n_experts {
                let count = own.clone().filter(|e| **e as usize == expert).count();
                let f = n_experts as f64 / (k as f64 * length) * count as f64;
                pulls.push(f64::from(balance.alpha) * f / (length * n as f64));
            }
        }
    }
    pulls
}

pub(super) fn dispatch_combine<B: TrainBackend>(
    s: &mut Suite<'_, B>,
    draw: &mut Draw,
) -> Result<()> {
    let (rows, n_experts, width) = (draw.rows(33), draw.size(33), draw.size(129));
    let top_k = 1 + draw.below(n_experts.min(8));
    let (own_route, route) = routes(s, draw, [rows, n_experts, top_k])?;
    let x = s.full(draw, Shape::matrix(rows, width))?;
    let own = s.backend.dispatch(&x.own, &own_route)?;
    s.exact("dispatch", &own, &Reference.dispatch(&x.host, &route)?)?;

    let ys = s.full(draw, Shape::matrix(rows * top_k, width))?;
    let ays = absolute(&ys.host)?;
    let own = s.backend.combine(&ys.own, &own_route)?;
    let expected = Reference.combine(&ys.host, &route)?;
    let size = Reference.combine(&ays, &route)?;
    s.near("combine", &own, &expected, &times(gamma(top_k + 2), &size)?)?;

    let own = s.backend.dispatch_backward(&ys.own, &own_route)?;
    let expected = Reference.dispatch_backward(&ys.host, &route)?;
    let size = Reference.dispatch_backward(&ays, &route)?;
    s.near(
        "dispatch dx",
        &own,
        &expected,
        &times(gamma(top_k + 1), &size)?,
    )?;

    let own = s.backend.combine_backward(&ys.own, &own_route, &x.own)?;
    let expected = Reference.combine_backward(&ys.host, &route, &x.host)?;
    let size = Reference.combine_backward(&ays, &route, &absolute(&x.host)?)?;
    s.near(
        "combine dys",
        &own.0,
        &expected.0,
        &times(gamma(2), &size.0)?,
    )?;
    let bound = times(gamma(width + 2), &size.1)?;
    s.near("combine dweights", &own.1, &expected.1, &bound)
}
