//! The operations that stay within a row.
//!
//! *rms_norm*: the mean square is a sum of n positive terms, so its relative error is gamma(n + 2)
//! and that of r = 1 / sqrt half of it plus a root: y = w x r is relative to |y| by gamma(n + 12).
//! In dx two terms may cancel: the bound takes both at their magnitude, each with r³ and a sum.
//! *swiglu*: a sigmoid is e^x and a division; 1 - s is taken at its magnitude before cancelling, 1.
//! *rope*: two products and a sum.
//! *gather*'s backward, *add*: plain sums; *split* and *join*: exact.

use alloc::vec;
use alloc::vec::Vec;

use super::tolerance::{FLOOR, FUNCTION, gamma};
use super::{Draw, Suite, absolute, times};
use crate::backend::{Backend, RopeColumns, RopePairs, TrainBackend};
use crate::error::Result;
use crate::ops::math;
use crate::reference::{HostTensor, Reference};
use crate::shape::Shape;

pub(super) fn gather<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (n_ids, table_rows, width) = (draw.rows(65), draw.size(33), draw.size(65));
    let table = s.full(draw, Shape::matrix(table_rows, width))?;
    let ids = draw.indices(n_ids, table_rows);
    let own = s.backend.gather(&table.own, &ids)?;
    s.exact("rows", &own, &Reference.gather(&table.host, &ids)?)?;
    let dy = s.full(draw, Shape::matrix(n_ids, width))?;
    let mut d = s.full(draw, table.host.shape())?;
    let mut size = absolute(&d.host)?;
    s.backend.gather_backward(&ids, &dy.own, &mut d.own)?;
    Reference.gather_backward(&ids, &dy.host, &mut d.host)?;
    Reference.gather_backward(&ids, &absolute(&dy.host)?, &mut size)?;
    s.near("d table", &d.own, &d.host, &times(gamma(n_ids + 1), &size)?)
}

pub(super) fn rms_norm<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (rows, heads, width) = (draw.rows(33), draw.size(3), draw.size(129));
    let eps = draw.choose(1e-6, &[1e-5, 0.5]);
    let x = s.full(draw, Shape::matrix(rows, heads * width))?;
    let w = s.full(draw, Shape::vector(width))?;
    let own = s.backend.rms_norm(&x.own, &w.own, eps)?;
    let expected = Reference.rms_norm(&x.host, &w.host, eps)?;
    let bound = times(gamma(width + 12), &absolute(&expected)?)?;
    s.near("y", &own, &expected, &bound)?;

    let dy = s.full(draw, x.host.shape())?;
    let mut dw = s.full(draw, w.host.shape())?;
    let prior = dw.host.clone();
    let own = s
        .backend
        .rms_norm_backward(&x.own, &w.own, eps, &dy.own, &mut dw.own)?;
    let expected = Reference.rms_norm_backward(&x.host, &w.host, eps, &dy.host, &mut dw.host)?;
    let operands = [&x.host, &w.host, &dy.host, &prior];
    let (dx_bound, dw_bound) = norm_bounds(operands, eps)?;
    s.near("dx", &own, &expected, &dx_bound)?;
    s.near("dw", &dw.own, &dw.host, &dw_bound)
}

/// Bounds of dx and dw from x, w, dy and what dw held.
fn norm_bounds(operands: [&HostTensor; 4], eps: f32) -> Result<(Vec<f64>, Vec<f64>)> {
    let [x, w, dy, prior] = operands;
    let (x, dy, w, prior) = (x.numbers()?, dy.numbers()?, w.numbers()?, prior.numbers()?);
    let width = w.len();
    let runs = x.len() / width;
    let mut dx = Vec::with_capacity(x.len());
    let mut dw: Vec<f64> = prior.iter().map(|p| f64::from(p.abs())).collect();
    for run in 0..runs {
        let (x, dy) = (math::row(x, run, width), math::row(dy, run, width));
        let r = 1.0 / math::sqrt(math::dot(x, x) / width as f64 + f64::from(eps));
        let g = |i: usize| -> f64 {
            let pair = w.get(i).zip(dy.get(i));
            pair.map_or(0.0, |(w, dy)| f64::from(w.abs()) * f64::from(dy.abs()))
        };
        let sum: f64 = (x.iter().enumerate())
            .map(|(i, x)| g(i) * f64::from(x.abs()))
            .sum();
        for (i, x) in x.iter().enumerate() {
            let along = f64::from(x.abs()) * r * r * r / width as f64 * sum;
            dx.push(gamma(3 * width + 32) * (r * g(i) + along) + FLOOR);
        }
        for ((dw, dy), x) in dw.iter_mut().zip(dy).zip(x) {
            *dw += f64::from(dy.abs()) * f64::from(x.abs()) * r;
        }
    }
    let dw = dw.into_iter().map(|d| gamma(runs + width + 16) * d + FLOOR);
    Ok((dx, dw.collect()))
}

pub(super) fn swiglu<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let shape = Shape::matrix(draw.rows(33), draw.size(129));
    // Gates up to where e^x leaves f32 in one draw of four.
    let reach = if draw.index() % 4 == 3 { 30.0 } else { 2.0 };
    let gate: Vec<f32> = (draw.normals(shape.elements()).iter())
        .map(|x| x * reach)
        .collect();
    let gate = s.twin(super::host(shape, &gate)?)?;
    let (up, dy) = (s.full(draw, shape)?, s.full(draw, shape)?);
    let own = s.backend.swiglu(&gate.own, &up.own)?;
    let expected = Reference.swiglu(&gate.host, &up.host)?;
    let bound = times(gamma(FUNCTION + 8), &absolute(&expected)?)?;
    s.near("y", &own, &expected, &bound)?;

    let own = s.backend.swiglu_backward(&gate.own, &up.own, &dy.own)?;
    let expected = Reference.swiglu_backward(&gate.host, &up.host, &dy.host)?;
    let bound = times(gamma(FUNCTION + 8), &absolute(&expected.1)?)?;
    s.near("du", &own.1, &expected.1, &bound)?;
    let numbers = (gate.host.numbers()?, up.host.numbers()?, dy.host.numbers()?);
    let bound: Vec<f64> = (numbers.0.iter().zip(numbers.1).zip(numbers.2))
        .map(|((g, u), dy)| {
            let g = f64::from(*g);
            let product = f64::from(*u).abs() * f64::from(*dy).abs();
            gamma(2 * FUNCTION + 16) * product * math::sigmoid(g) * (1.0 + g.abs()) + FLOOR
        })
        .collect();
    s.near("dg", &own.0, &expected.0, &bound)
}

pub(super) fn add<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let shape = Shape::matrix(draw.rows(33), draw.size(129));
    let (a, b) = (s.full(draw, shape)?, s.full(draw, shape)?);
    let own = s.backend.add(&a.own, &b.own)?;
    s.exact("y", &own, &Reference.add(&a.host, &b.host)?)
}

pub(super) fn split_join<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (rows, n_heads) = (draw.rows(33), draw.size(7));
    let widths: Vec<usize> = (0..=draw.below(3))
        .map(|_| draw.below(2) * draw.size(33))
        .collect();
    let cols = n_heads * widths.iter().sum::<usize>();
    let x = s.full(draw, Shape::matrix(rows, cols))?;
    let own = s.backend.split(&x.own, n_heads, &widths)?;
    let expected = Reference.split(&x.host, n_heads, &widths)?;
    if own.len() != expected.len() {
        let detail = alloc::format!("expected {} parts, got {}", expected.len(), own.len());
        s.fail("parts", f64::INFINITY, detail);
    }
    for (own, expected) in own.iter().zip(&expected) {
        s.exact("part", own, expected)?;
    }
    let parts: Vec<&B::Tensor> = own.iter().collect();
    let joined = s.backend.join(&parts, n_heads)?;
    s.exact("join", &joined, &x.host)
}

pub(super) fn rope<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (rows, n_heads, positions) = (draw.rows(33), draw.size(5), draw.size(33));
    let (offset, width, rest) = (draw.below(9), 2 * draw.size(33), draw.below(3));
    let table = s.full(draw, Shape::matrix(positions, width))?;
    let at = draw.indices(rows, positions);
    for pairs in [RopePairs::Interleaved, RopePairs::Halves] {
        let columns = RopeColumns {
            n_heads,
            head_width: offset + width + rest,
            offset,
            width,
            pairs,
        };
        let x = s.full(draw, Shape::matrix(rows, n_heads * columns.head_width))?;
        // |a c| + |b s| comes of absolute operands once the sine's sign is turned for the first of a
        // pair; turning it for both and adding covers either.
        let (ax, table_size) = (absolute(&x.host)?, absolute(&table.host)?);
        let plus = Reference.rope(&ax, &table_size, &at, columns)?;
        let minus = Reference.rope_backward(&ax, &table_size, &at, columns)?;
        let mut bound = vec![FLOOR; ax.shape().elements()];
        for side in [plus, minus] {
            for (bound, side) in bound.iter_mut().zip(side.numbers()?) {
                *bound += gamma(4) * f64::from(side.abs());
            }
        }
        let own = s.backend.rope(&x.own, &table.own, &at, columns)?;
        let expected = Reference.rope(&x.host, &table.host, &at, columns)?;
        s.near("y", &own, &expected, &bound)?;
        let own = s.backend.rope_backward(&x.own, &table.own, &at, columns)?;
        let expected = Reference.rope_backward(&x.host, &table.host, &at, columns)?;
        s.near("dx", &own, &expected, &bound)?;
    }
    Ok(())
}
