//! Products: gamma of the inner width times the product of absolute operands.
//!
//! Operands that bf16 holds leave only the sums to differ, under either policy. A second draw with
//! all bits of f32 grants the policy two roundings of operands; an exact product none.

use super::tolerance::{U_BF16, gamma};
use super::{Draw, Rounding, Suite, absolute, times};
use crate::backend::{Backend, HeadDirection, HeadProduct, Linear, Product, TrainBackend};
use crate::error::Result;
use crate::reference::{HostTensor, Reference};
use crate::shape::Shape;

/// What rounding both operands of a product adds.
fn both(rounding: Rounding, product: Product) -> f64 {
    match (rounding, product) {
        (Rounding::Bf16, Product::Policy) => 2.0 * U_BF16 + U_BF16 * U_BF16,
        _ => 0.0,
    }
}

/// The absolute operands of a layer, for the magnitudes of its results.
fn layer<'a, T>(weight: &'a T, bias: Option<&'a T>, product: Product) -> Linear<'a, T> {
    Linear {
        weight,
        bias,
        product,
    }
}

/// T, N and K, now and then with a long sum or none.
fn sizes(draw: &mut Draw) -> (usize, usize, usize) {
    let (rows, n) = (draw.rows(65), draw.size(96));
    match draw.index() {
        2 => (3, 2, 0),
        3 => (2, 5, 1031),
        4 => (130, 3, 17),
        _ => (rows, n, draw.size(129)),
    }
}

pub(super) fn linear<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (rows, n, k) = sizes(draw);
    let shapes = [
        Shape::matrix(rows, k),
        Shape::matrix(n, k),
        Shape::vector(n),
    ];
    for product in [Product::Policy, Product::Exact] {
        let short = [
            s.short(draw, shapes[0])?,
            s.short(draw, shapes[1])?,
            s.short(draw, shapes[2])?,
        ];
        let full = [
            s.full(draw, shapes[0])?,
            s.full(draw, shapes[1])?,
            s.full(draw, shapes[2])?,
        ];
        for ([x, w, bias], extra) in [(short, 0.0), (full, both(s.rounding, product))] {
            let factor = gamma(k + 2) + extra;
            let (ax, aw, ab) = (
                absolute(&x.host)?,
                absolute(&w.host)?,
                absolute(&bias.host)?,
            );
            for with_bias in [true, false] {
                let pick = |bias| with_bias.then_some(bias);
                let own = layer(&w.own, pick(&bias.own), product);
                let own = s.backend.linear(&x.own, own)?;
                let host_bias = with_bias.then_some(&bias.host);
                let expected = Reference.linear(&x.host, layer(&w.host, host_bias, product))?;
                let absolute_bias = with_bias.then_some(&ab);
                let size = Reference.linear(&ax, layer(&aw, absolute_bias, product))?;
                s.near("y", &own, &expected, &times(factor, &size)?)?;
            }
        }
    }
    Ok(())
}

pub(super) fn linear_backward<B: TrainBackend>(
    s: &mut Suite<'_, B>,
    draw: &mut Draw,
) -> Result<()> {
    let (rows, n, k) = sizes(draw);
    for product in [Product::Policy, Product::Exact] {
        let x = s.short(draw, Shape::matrix(rows, k))?;
        let w = s.short(draw, Shape::matrix(n, k))?;
        let bias = s.short(draw, Shape::vector(n))?;
        let dy = s.short(draw, Shape::matrix(rows, n))?;
        let (mut dw, mut db) = (
            s.short(draw, w.host.shape())?,
            s.short(draw, bias.host.shape())?,
        );
        let (mut size_w, mut size_b) = (absolute(&dw.host)?, absolute(&db.host)?);
        let own = s.backend.linear_backward(
            &x.own,
            layer(&w.own, Some(&bias.own), product),
            &dy.own,
            &mut dw.own,
            Some(&mut db.own),
        )?;
        let expected = Reference.linear_backward(
            &x.host,
            layer(&w.host, Some(&bias.host), product),
            &dy.host,
            &mut dw.host,
            Some(&mut db.host),
        )?;
        let size = Reference.linear_backward(
            &absolute(&x.host)?,
            layer(&absolute(&w.host)?, Some(&absolute(&bias.host)?), product),
            &absolute(&dy.host)?,
            &mut size_w,
            Some(&mut size_b),
        )?;
        s.near("dx", &own, &expected, &times(gamma(n + 2), &size)?)?;
        s.near("dw", &dw.own, &dw.host, &times(gamma(rows + 2), &size_w)?)?;
        s.near("db", &db.own, &db.host, &times(gamma(rows + 2), &size_b)?)?;
    }
    Ok(())
}

pub(super) fn per_head_linear<B: TrainBackend>(
    s: &mut Suite<'_, B>,
    draw: &mut Draw,
) -> Result<()> {
    let (rows, n_heads) = (draw.rows(17), draw.size(5));
    let (block, latent) = (draw.size(33), draw.size(65));
    let start = draw.below(block);
    let used = start..start + draw.below(block - start + 1);
    let passed = draw.below(18);
    let weight = s.short(draw, Shape::matrix(n_heads * block, latent))?;
    for direction in [HeadDirection::IntoLatent, HeadDirection::FromLatent] {
        let product = HeadProduct {
            n_heads,
            block,
            rows: used.clone(),
            direction,
            passed,
        };
        let inner = match direction {
            HeadDirection::IntoLatent => used.len(),
            HeadDirection::FromLatent => latent,
        };
        let x = s.short(draw, Shape::matrix(rows, n_heads * (inner + passed)))?;
        let own = s.backend.per_head_linear(&x.own, &weight.own, &product)?;
        let expected = Reference.per_head_linear(&x.host, &weight.host, &product)?;
        let absolutes = (absolute(&x.host)?, absolute(&weight.host)?);
        let size = Reference.per_head_linear(&absolutes.0, &absolutes.1, &product)?;
        s.near("y", &own, &expected, &times(gamma(inner + 2), &size)?)?;
    }
    Ok(())
}

pub(super) fn grouped_linear<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let rows = draw.rows(65);
    let (n_experts, n, k) = (draw.size(16), draw.size(65), draw.size(65));
    let top_k = 1 + draw.below(n_experts.min(4));
    let (own_route, route) = super::routing::routes(s, draw, [rows, n_experts, top_k])?;
    let slots = rows * top_k;
    let xs = s.short(draw, Shape::matrix(slots, k))?;
    let w = s.short(draw, Shape::stack(n_experts, n, k))?;
    let dy = s.short(draw, Shape::matrix(slots, n))?;
    let (axs, aw) = (absolute(&xs.host)?, absolute(&w.host)?);
    let own = s.backend.grouped_linear(&xs.own, &w.own, &own_route)?;
    let expected = Reference.grouped_linear(&xs.host, &w.host, &route)?;
    let size = Reference.grouped_linear(&axs, &aw, &route)?;
    s.near("y", &own, &expected, &times(gamma(k + 2), &size)?)?;

    let mut dw = s.short(draw, w.host.shape())?;
    let mut size_w: HostTensor = absolute(&dw.host)?;
    let own =
        s.backend
            .grouped_linear_backward(&xs.own, &w.own, &own_route, &dy.own, &mut dw.own)?;
    let expected =
        Reference.grouped_linear_backward(&xs.host, &w.host, &route, &dy.host, &mut dw.host)?;
    let ady = absolute(&dy.host)?;
    let size = Reference.grouped_linear_backward(&axs, &aw, &route, &ady, &mut size_w)?;
    s.near("dxs", &own, &expected, &times(gamma(n + 2), &size)?)?;
    s.near("dw", &dw.own, &dw.host, &times(gamma(slots + 2), &size_w)?)
}
