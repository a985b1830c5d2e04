//! Updates.
//!
//! *AdamW*: the moments are sums of two products; the step is their quotient, so the first moment's
//! error is taken at its magnitude before cancelling and the rest as a few roundings.
//! *Muon*: Newton-Schulz applies p(x) = 3.4445 x - 4.7750 x³ + 2.0315 x⁵ to singular values below
//! 1.21, where |p'| <= 4.0, so an error in the Frobenius norm grows by less than 4 an iteration;
//! each iteration adds gamma(n + 2 k + 16) (the widths of its three products) times at most 11 |X|
//! with |X| <= 1.21 sqrt(min(n, k)). This is a worst case; real errors are far below. Products of
//! the iteration may follow a bf16 policy, of which the worst case says nothing (4^5 u > 1). There
//! only the purpose of the update is held: the direction is off by less than [`BF16_TURN`] of its
//! norm. That the steps are the right ones is what the f32 policy of the same back-end shows.

use alloc::vec::Vec;

use super::tolerance::{FLOOR, FUNCTION, U_F32, gamma};
use super::{Draw, Rounding, Suite, Twin, host};
use crate::backend::{AdamW, Backend, Muon, TrainBackend};
use crate::error::Result;
use crate::ops::optim::{MUON_SIZE, NEWTON_SCHULZ_STEPS, corrections};
use crate::reference::{HostTensor, Reference};
use crate::shape::Shape;

/// How far a direction found with bf16 products may be from the exact one, relative to its norm.
const BF16_TURN: f64 = 0.4;

pub(super) fn adamw<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let shape = Shape::matrix(draw.rows(33), draw.size(129));
    let mut p = s.full(draw, shape)?;
    let g = s.full(draw, shape)?;
    let is_first = draw.below(2) == 0;
    let mut moments = if is_first {
        let zeros = Reference.zeros(shape)?;
        [s.twin(zeros.clone())?, s.twin(zeros)?]
    } else {
        let m = s.full(draw, shape)?;
        let squares: Vec<f32> = draw
            .normals(shape.elements())
            .iter()
            .map(|x| x * x)
            .collect();
        [m, s.twin(host(shape, &squares)?)?]
    };
    let step = AdamW {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: draw.choose(0.95, &[0.999]),
        epsilon: 1e-8,
        weight_decay: draw.choose(0.1, &[0.0]),
        step: if is_first { 1 } else { 7 },
        gradient_scale: draw.choose(1.0, &[0.25]),
    };
    let old = [
        p.host.clone(),
        moments[0].host.clone(),
        moments[1].host.clone(),
    ];
    let [m, v] = &mut moments;
    s.backend
        .adamw(&mut p.own, &g.own, [&mut m.own, &mut v.own], &step)?;
    Reference.adamw(&mut p.host, &g.host, [&mut m.host, &mut v.host], &step)?;

    let [c1, c2] = corrections(&step);
    let rate = f64::from(step.learning_rate);
    let old_state = old[0].numbers()?.iter().zip(old[1].numbers()?);
    let new_state = m.host.numbers()?.iter().zip(v.host.numbers()?);
    let mut bounds = [Vec::new(), Vec::new(), Vec::new()];
    let all = old_state.zip(new_state).zip(g.host.numbers()?);
    for (((p, old_m), (m, v)), g) in all {
        let g = f64::from(g * step.gradient_scale);
        let m_size = f64::from(step.beta1) * f64::from(old_m.abs())
            + (1.0 - f64::from(step.beta1)) * g.abs();
        let m_error = gamma(6) * m_size;
        let p = f64::from(p.abs());
        let quotient = 1.0 / (c1 * ((f64::from(*v) / c2).sqrt() + f64::from(step.epsilon)));
        let moved = rate * quotient * (m_error + gamma(2 * FUNCTION + 8) * f64::from(m.abs()));
        let decayed = rate * f64::from(step.weight_decay) * p * gamma(6);
        let size = p + rate * quotient * m_size;
        bounds[0].push(moved + decayed + 4.0 * U_F32 * size + FLOOR);
        bounds[1].push(m_error + FLOOR);
        bounds[2].push(gamma(8) * f64::from(*v) + FLOOR);
    }
    let [p_bound, m_bound, v_bound] = bounds;
    s.near("param", &p.own, &p.host, &p_bound)?;
    s.near("first moment", &m.own, &m.host, &m_bound)?;
    s.near("second moment", &v.own, &v.host, &v_bound)
}

pub(super) fn muon<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (stacked, n, k) = (draw.size(3), draw.rows(33), draw.size(65));
    let shape = if stacked == 1 {
        Shape::matrix(n, k)
    } else {
        Shape::stack(stacked, n, k)
    };
    let (mut p, mut m) = (s.full(draw, shape)?, s.full(draw, shape)?);
    let mut g = s.full(draw, shape)?;
    if draw.index() == 3 {
        let zeros = Reference.zeros(shape)?;
        (m, g) = (s.twin(zeros.clone())?, s.twin(zeros)?);
    }
    let step = Muon {
        learning_rate: 0.02,
        momentum: 0.95,
        weight_decay: 0.1,
        gradient_scale: 0.5,
    };
    let sizes = m.host.numbers()?.iter().zip(g.host.numbers()?);
    let m_bound: Vec<f64> = sizes
        .map(|(m, g)| gamma(4) * f64::from(m.abs() + g.abs()) + FLOOR)
        .collect();
    s.backend.muon(&mut p.own, &g.own, &mut m.own, &step)?;
    let old = p.host.clone();
    Reference.muon(&mut p.host, &g.host, &mut m.host, &step)?;
    s.near("momentum", &m.own, &m.host, &m_bound)?;
    if s.rounding == Rounding::Bf16 {
        return turn(s, &p, &old, &step);
    }
    let norm = 1.21 * (n.min(k) as f64).sqrt();
    let mut error = gamma(n * k + 16) * 2.0;
    for _ in 0..NEWTON_SCHULZ_STEPS {
        error = 4.0 * error + gamma(n.min(k) + 2 * n.max(k) + 16) * 11.0 * norm;
    }
    let rate = f64::from(step.learning_rate);
    let moved = rate * MUON_SIZE * (n.max(k) as f64).sqrt() * error;
    let p_bound: Vec<f64> = (p.host.numbers()?.iter())
        .map(|p| moved + gamma(8) * (f64::from(p.abs()) + rate))
        .collect();
    s.near("param", &p.own, &p.host, &p_bound)
}

/// Compares the directions of each matrix of a stack as a whole.
fn turn<B: TrainBackend>(
    s: &mut Suite<'_, B>,
    p: &Twin<B::Tensor>,
    old: &HostTensor,
    step: &Muon,
) -> Result<()> {
    let got = s.backend.get(&p.own)?;
    let (right, old) = (p.host.numbers()?, old.numbers()?);
    let each = p.host.shape().rows_each() * p.host.shape().cols();
    let decay = f64::from(step.learning_rate) * f64::from(step.weight_decay);
    s.n_checks += 1;
    if got.len() != right.len() {
        s.fail(
            "param",
            f64::INFINITY,
            "expected the shape of before".into(),
        );
        return Ok(());
    }
    for matrix in 0..p.host.shape().stacked() {
        let (mut apart, mut norm) = (0.0, FLOOR);
        let numbers = got.iter().zip(right).zip(old);
        for ((got, right), old) in numbers.skip(matrix * each).take(each) {
            let moved = f64::from(*old) * (1.0 - decay) - f64::from(*right);
            apart += (f64::from(*got) - f64::from(*right)).powi(2);
            // Half a unit of the parameter is what storing it may lose.
            norm += moved * moved + (U_F32 * f64::from(*old)).powi(2) / BF16_TURN.powi(2);
        }
        let ratio = (apart / norm).sqrt() / BF16_TURN;
        if ratio > 1.0 || ratio.is_nan() {
            let detail = alloc::format!("matrix {matrix} turned by {:.3}", ratio * BF16_TURN);
            s.fail("param", ratio, detail);
        }
        s.closest = s.closest.max(ratio.min(1.0));
    }
    Ok(())
}

/// In f64: 1e-12 is room for 2^13 roundings.
pub(super) fn norm_squared<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (rows, cols, n) = (draw.rows(65), draw.size(65), draw.size(129));
    let a = s.full(draw, Shape::matrix(rows, cols))?;
    let b = s.full(draw, Shape::vector(n))?;
    let own = s.backend.norm_squared(&[&a.own, &b.own])?;
    let right = Reference.norm_squared(&[&a.host, &b.host])?;
    s.n_checks += 1;
    let ratio = super::ratio(own, right, 1e-12 * right);
    if ratio > 1.0 {
        let detail = alloc::format!("expected {right:e}, got {own:e}");
        s.fail("norm", ratio, detail);
    }
    Ok(())
}
