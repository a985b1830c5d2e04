//! Log-probabilities, divergences and picking.
//!
//! A logit is a product of width D, so with operands that bf16 holds its error is gamma(D + 2) times
//! |h| |w|; divided by the temperature, the largest of a row is d. A log-probability is off by
//! t = 2 d, the sum of V exponentials (gamma(V) and a function), and f32 subtractions of numbers up
//! to the largest logit. What is made of log-probabilities is bounded by t through its derivative;
//! slopes on their way through the head are rounded by the policy once.

use alloc::vec::Vec;

use super::tolerance::{FLOOR, FUNCTION, U_F32, gamma, operand};
use super::{Draw, Suite, Twin, absolute, host};
use crate::backend::{
    Backend, Divergence, DivergenceKind, Head, Linear, Product, Sampling, TrainBackend,
};
use crate::error::Result;
use crate::ops::log_prob::LogSoftmax;
use crate::ops::{math, pick as pick_op};
use crate::reference::{HostTensor, Reference};
use crate::shape::Shape;

fn head<'a, T>(hidden: &'a T, weight: &'a T) -> Head<'a, T> {
    Head { hidden, weight }
}

fn product(weight: &HostTensor) -> Linear<'_, HostTensor> {
    Linear {
        weight,
        bias: None,
        product: Product::Policy,
    }
}

/// ln p of every token of every row, and the bound t of each row.
struct Distribution {
    vocabulary: usize,
    log_p: Vec<f64>,
    bounds: Vec<f64>,
}

impl Distribution {
    fn of(hidden: &HostTensor, weight: &HostTensor, temperature: f32) -> Result<Self> {
        let logits = Reference.linear(hidden, product(weight))?;
        let sizes = Reference.linear(&absolute(hidden)?, product(&absolute(weight)?))?;
        let (rows, vocabulary) = (logits.shape().rows(), logits.shape().cols());
        let width = hidden.shape().cols();
        let mut log_p = Vec::with_capacity(logits.shape().elements());
        let mut bounds = Vec::with_capacity(rows);
        for t in 0..rows {
            let logits = math::row(logits.numbers()?, t, vocabulary);
            let softmax = LogSoftmax::of(logits, temperature);
            log_p.extend(logits.iter().map(|l| softmax.log_prob(*l)));
            let largest = |x: &[f32]| x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            let size = largest(math::row(sizes.numbers()?, t, vocabulary));
            let error = gamma(width + 3) * f64::from(size / temperature);
            let logit = f64::from(largest(logits) / temperature);
            bounds.push(2.0 * error + gamma(vocabulary + FUNCTION + 4) + 8.0 * U_F32 * logit);
        }
        Ok(Self {
            vocabulary,
            log_p,
            bounds,
        })
    }

    fn row(&self, t: usize) -> impl Iterator<Item = f64> + Clone + '_ {
        let row = self.log_p.iter().skip(t * self.vocabulary);
        row.take(self.vocabulary).copied()
    }

    fn bound(&self, t: usize) -> f64 {
        self.bounds.get(t).copied().unwrap_or(0.0)
    }

    fn rows(&self) -> usize {
        self.bounds.len()
    }
}

/// T, V and D.
fn sizes(draw: &mut Draw) -> [usize; 3] {
    match draw.index() {
        2 => [3, 1031, 17],
        _ => [draw.rows(33), draw.size(129), draw.size(65)],
    }
}

/// Hidden rows with all but the policy's bits, and a head small enough for logits of order 1.
fn side<B: TrainBackend>(
    s: &Suite<'_, B>,
    draw: &mut Draw,
    [rows, vocabulary, width]: [usize; 3],
) -> Result<[Twin<B::Tensor>; 2]> {
    let hidden = s.short(draw, Shape::matrix(rows, width))?;
    // A power of two keeps the numbers ones that bf16 holds.
    let factor = 0.5f32.powi(i32::try_from(width.ilog2() / 2).unwrap_or(0));
    let weight = s.short(draw, Shape::matrix(vocabulary, width))?;
    let numbers: Vec<f32> = weight.host.numbers()?.iter().map(|w| w * factor).collect();
    let weight = s.twin(host(weight.host.shape(), &numbers)?)?;
    Ok([hidden, weight])
}

pub(super) fn log_prob<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let sizes = sizes(draw);
    let temperature = draw.choose(1.0, &[0.7, 1.5]);
    let [hidden, weight] = side(s, draw, sizes)?;
    let targets = draw.indices(sizes[0], sizes[1]);
    let own = head(&hidden.own, &weight.own);
    let own = s.backend.log_prob(own, &targets, temperature)?;
    let right = head(&hidden.host, &weight.host);
    let right = Reference.log_prob(right, &targets, temperature)?;
    let all = Distribution::of(&hidden.host, &weight.host, temperature)?;
    let mut bounds = Vec::new();
    let mut entropy_bounds = Vec::new();
    for (t, log_prob) in right.log_prob.numbers()?.iter().enumerate() {
        bounds.push(all.bound(t) + 2.0 * U_F32 * f64::from(log_prob.abs()));
        // d(p ln p) = (1 + ln p) p d ln p.
        let slope: f64 = all.row(t).map(|l| l.exp() * (1.0 + l.abs())).sum();
        entropy_bounds.push(slope * (all.bound(t) + gamma(sizes[1] + FUNCTION)) + FLOOR);
    }
    s.near("log_prob", &own.log_prob, &right.log_prob, &bounds)?;
    s.near("entropy", &own.entropy, &right.entropy, &entropy_bounds)
}

/// Bounds of d hidden and d weight where the slope of logit v in row t has magnitude and relative
/// error `slope(t)[v]`. The weight's accumulator held `prior`.
fn through_head(
    [hidden, weight, prior]: [&HostTensor; 3],
    extra: f64,
    mut slope: impl FnMut(usize) -> Vec<(f64, f64)>,
) -> Result<[Vec<f64>; 2]> {
    let (rows, width) = (hidden.shape().rows(), hidden.shape().cols());
    let vocabulary = weight.shape().rows();
    let mut d_hidden = alloc::vec![FLOOR; rows * width];
    let mut d_weight: Vec<f64> = (prior.numbers()?.iter())
        .map(|p| 2.0 * U_F32 * f64::from(p.abs()) + FLOOR)
        .collect();
    for t in 0..rows {
        for (v, (size, error)) in slope(t).into_iter().enumerate() {
            let relative = error + extra;
            let w = math::row(weight.numbers()?, v, width);
            let sums = d_hidden.iter_mut().skip(t * width);
            for (d, w) in sums.zip(w) {
                *d += size * (relative + gamma(vocabulary + 8)) * f64::from(w.abs());
            }
            let h = math::row(hidden.numbers()?, t, width);
            let sums = d_weight.iter_mut().skip(v * width);
            for (d, h) in sums.zip(h) {
                *d += size * (relative + gamma(rows + 8)) * f64::from(h.abs());
            }
        }
    }
    Ok([d_hidden, d_weight])
}

pub(super) fn log_prob_backward<B: TrainBackend>(
    s: &mut Suite<'_, B>,
    draw: &mut Draw,
) -> Result<()> {
    let sizes = sizes(draw);
    let temperature = draw.choose(1.0, &[0.7, 1.5]);
    let [hidden, weight] = side(s, draw, sizes)?;
    let targets = draw.indices(sizes[0], sizes[1]);
    let d = s.full(draw, Shape::vector(sizes[0]))?;
    let mut dw = s.full(draw, weight.host.shape())?;
    let prior = dw.host.clone();
    let own = head(&hidden.own, &weight.own);
    let own = s
        .backend
        .log_prob_backward(own, &targets, temperature, &d.own, &mut dw.own)?;
    let right = head(&hidden.host, &weight.host);
    let right = Reference.log_prob_backward(right, &targets, temperature, &d.host, &mut dw.host)?;
    let all = Distribution::of(&hidden.host, &weight.host, temperature)?;
    let factors = d.host.numbers()?;
    let slope = |t: usize| {
        let factor = factors.get(t).map_or(0.0, |d| f64::from(d.abs()));
        let target = targets.get(t).map(|target| *target as usize);
        let each = move |(v, l): (usize, f64)| {
            let hit = if Some(v) == target { 1.0 } else { 0.0 };
            (factor / f64::from(temperature) * (hit + l.exp()), t)
        };
        let sizes = all.row(t).enumerate().map(each);
        sizes.map(|(size, t)| (size, all.bound(t))).collect()
    };
    let tensors = [&hidden.host, &weight.host, &prior];
    let [dh_bound, dw_bound] = through_head(tensors, operand(s.rounding), slope)?;
    s.near("d hidden", &own, &right, &dh_bound)?;
    s.near("d weight", &dw.own, &dw.host, &dw_bound)
}

pub(super) fn divergence<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let sizes = sizes(draw);
    let teacher_width = draw.size(33);
    let temperature = draw.choose(1.0, &[0.7, 1.5]);
    let [hidden, weight] = side(s, draw, sizes)?;
    let [other, other_weight] = side(s, draw, [sizes[0], sizes[1], teacher_width])?;
    let q = Distribution::of(&hidden.host, &weight.host, temperature)?;
    let p = Distribution::of(&other.host, &other_weight.host, temperature)?;
    for kind in [
        DivergenceKind::Forward,
        DivergenceKind::Reverse,
        DivergenceKind::JensenShannon { beta: 0.3 },
    ] {
        let setting = Divergence { kind, temperature };
        let own = s.backend.divergence(
            head(&hidden.own, &weight.own),
            head(&other.own, &other_weight.own),
            setting,
        )?;
        let right = Reference.divergence(
            head(&hidden.host, &weight.host),
            head(&other.host, &other_weight.host),
            setting,
        )?;
        let bounds: Vec<f64> = (0..q.rows()).map(|t| value_bound(&q, &p, t)).collect();
        s.near("value", &own, &right, &bounds)?;

        let d = s.full(draw, Shape::vector(sizes[0]))?;
        let mut dw = s.full(draw, weight.host.shape())?;
        let prior = dw.host.clone();
        let own = s.backend.divergence_backward(
            head(&hidden.own, &weight.own),
            head(&other.own, &other_weight.own),
            setting,
            &d.own,
            &mut dw.own,
        )?;
        let right = Reference.divergence_backward(
            head(&hidden.host, &weight.host),
            head(&other.host, &other_weight.host),
            setting,
            &d.host,
            &mut dw.host,
        )?;
        let factors = d.host.numbers()?;
        let slope = |t: usize| {
            let factor = factors.get(t).map_or(0.0, |d| f64::from(d.abs()));
            slope_bounds(&q, &p, t, factor / f64::from(temperature))
        };
        let tensors = [&hidden.host, &weight.host, &prior];
        let [dh_bound, dw_bound] = through_head(tensors, operand(s.rounding), slope)?;
        s.near("d hidden", &own, &right, &dh_bound)?;
        s.near("d weight", &dw.own, &dw.host, &dw_bound)?;
    }
    Ok(())
}

/// A term is p (ln p - ln q) or its mirror: p carries an error t, each logarithm one too, and the
/// sum runs over V terms of up to p (|ln p| + |ln q|). One bound serves the three kinds, since the
/// mixture's logarithm lies between the two up to |ln beta| < 2.
fn value_bound(q: &Distribution, p: &Distribution, t: usize) -> f64 {
    let error = q.bound(t) + p.bound(t);
    let sum_error = gamma(q.vocabulary + 2 * FUNCTION);
    let each = |(q, p): (f64, f64)| {
        let weight = q.exp() + p.exp();
        weight * (error * (3.0 + (p - q).abs()) + sum_error * (2.0 + p.abs() + q.abs()))
    };
    q.row(t).zip(p.row(t)).map(each).sum::<f64>() + FLOOR
}

/// Magnitude and relative error of the slope of each logit, for the three kinds alike: p + q, and
/// q times a difference of logarithms less its mean, which the mixture shifts by less than 2.
fn slope_bounds(q: &Distribution, p: &Distribution, t: usize, factor: f64) -> Vec<(f64, f64)> {
    let pairs = || q.row(t).zip(p.row(t));
    let mean: f64 = pairs().map(|(q, p)| q.exp() * (q - p).abs()).sum();
    let error = 2.0 * (q.bound(t) + p.bound(t)) + gamma(q.vocabulary + 2 * FUNCTION);
    let each = |(q, p): (f64, f64)| {
        let differences = 4.0 + (q - p).abs() + mean;
        // Subtracting logarithms loses units of the larger one.
        let lost = 4.0 * U_F32 * (q.abs() + p.abs());
        let size = factor * (p.exp() + q.exp() * differences);
        (size, error + lost)
    };
    pairs().map(each).collect()
}

/// A token may differ from the reference's where the uniform lies within rounding of its share.
pub(super) fn pick<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let shape = Shape::matrix(draw.rows(33), draw.size(129));
    let numbers: Vec<f32> = draw
        .normals(shape.elements())
        .iter()
        .map(|x| x * 2.0)
        .collect();
    let logits = s.twin(host(shape, &numbers)?)?;
    let uniforms: Vec<f32> = (0..shape.rows()).map(|_| draw.uniform()).collect();
    let tempered = Sampling {
        temperature: 0.7,
        ..Sampling::PLAIN
    };
    for sampling in [
        Sampling::PLAIN,
        Sampling::GREEDY,
        tempered,
        Sampling {
            top_k: 5,
            ..tempered
        },
        Sampling {
            top_p: 0.8,
            ..tempered
        },
        Sampling {
            min_p: 0.1,
            ..tempered
        },
        Sampling {
            top_k: 20,
            top_p: 0.9,
            min_p: 0.02,
            ..tempered
        },
    ] {
        let own = s.backend.pick(&logits.own, &sampling, &uniforms)?;
        let right = Reference.pick(&logits.host, &sampling, &uniforms)?;
        s.n_checks += 1;
        if own.ids.len() != uniforms.len() || own.log_probs.len() != uniforms.len() {
            s.fail("ids", f64::INFINITY, "expected one token a row".into());
            continue;
        }
        let temperature = if sampling.temperature > 0.0 {
            sampling.temperature
        } else {
            1.0
        };
        let slack = gamma(shape.cols() + FUNCTION + 64);
        for (t, uniform) in uniforms.iter().enumerate() {
            let row = math::row(logits.host.numbers()?, t, shape.cols());
            let (got, wanted) = (own.ids.get(t).copied(), right.ids.get(t).copied());
            let is_near = sampling.temperature > 0.0
                && got.is_some_and(|got| {
                    let got = got as usize;
                    is_on_edge(
                        &pick_op::support(row, &sampling),
                        got,
                        f64::from(*uniform),
                        slack,
                    )
                });
            if got != wanted && !is_near {
                let detail =
                    alloc::format!("row {t}: expected {wanted:?}, got {got:?}, {sampling:?}");
                s.fail("ids", f64::INFINITY, detail);
            }
            let softmax = LogSoftmax::of(row, temperature);
            let logit = got.and_then(|got| row.get(got as usize)).copied();
            let right = logit.map_or(f64::NAN, |logit| softmax.log_prob(logit));
            let got = own.log_probs.get(t).copied().map_or(f64::NAN, f64::from);
            let bound = slack + 16.0 * U_F32 * (1.0 + right.abs());
            if super::ratio(got, right, bound) > 1.0 {
                let detail = alloc::format!("row {t}: expected {right}, got {got}, {sampling:?}");
                s.fail("log_probs", (got - right).abs() / bound, detail);
            }
        }
    }
    Ok(())
}

/// Whether `uniform` lies in the share of `id`, widened by `slack`.
fn is_on_edge(support: &[(usize, f64)], id: usize, uniform: f64, slack: f64) -> bool {
    let mut below = 0.0;
    for (token, p) in support {
        if *token == id {
            return uniform >= below - slack && uniform <= below + p + slack;
        }
        below += p;
    }
    false
}
