//! Laws that hold bit for bit on every back-end.
//!
//! A row's result depends on that row alone: not on how many rows come with it, nor on where it
//! stands among them. So a token decoded alone has the log-probability that training over the whole
//! sequence gives it, and a sample does not depend on its batch. And a call repeats.

use alloc::vec::Vec;
use core::ops::Range;

use super::attention::{Form, Sizes, laid_out, scattered};
use super::{Draw, Suite, host};
use crate::backend::{
    Context, GroupScore, Head, KeyBits, Linear, Product, RopeColumns, RopePairs, Router, Sampling,
    Scoring, TrainBackend,
};
use crate::dtype::DType;
use crate::error::Result;
use crate::ops::math;
use crate::reference::HostTensor;
use crate::shape::{Rows, Shape};

/// Some rows of a matrix, or some numbers of a vector.
fn cut(x: &HostTensor, rows: &Range<usize>) -> Result<HostTensor> {
    let width = if x.shape().dims().len() == 1 {
        1
    } else {
        x.shape().cols()
    };
    let numbers: Vec<f32> = (rows.clone())
        .map(|i| x.numbers().map(|x| math::row(x, i, width)))
        .collect::<Result<Vec<_>>>()?
        .concat();
    let shape = if x.shape().dims().len() == 1 {
        Shape::vector(rows.len())
    } else {
        Shape::matrix(rows.len(), width)
    };
    host(shape, &numbers)
}

/// Expects rows `rows` of `whole` to equal `part`.
fn same_rows<B: TrainBackend>(
    s: &mut Suite<'_, B>,
    what: &str,
    (whole, rows): (&B::Tensor, &Range<usize>),
    part: &B::Tensor,
) -> Result<()> {
    let whole = host(s.backend.shape(whole), &s.backend.get(whole)?)?;
    s.exact(what, part, &cut(&whole, rows)?)
}

/// One row, and a few in the middle, of `n`.
fn parts(draw: &mut Draw, n: usize) -> Vec<Range<usize>> {
    if n == 0 {
        return Vec::new();
    }
    let one = draw.below(n);
    let start = draw.below(n);
    let end = start + draw.below(n - start + 1);
    alloc::vec![one..one + 1, n - 1..n, start..end]
}

pub(super) fn rows_of_products<B: TrainBackend>(
    s: &mut Suite<'_, B>,
    draw: &mut Draw,
) -> Result<()> {
    let (rows, n, k) = (draw.rows(129), draw.size(65), draw.size(129));
    let x = s.full(draw, Shape::matrix(rows, k))?;
    let weight = s.full(draw, Shape::matrix(n, k))?;
    let bias = s.full(draw, Shape::vector(n))?;
    let targets = draw.indices(rows, n);
    for product in [Product::Policy, Product::Exact] {
        let layer = Linear {
            weight: &weight.own,
            bias: Some(&bias.own),
            product,
        };
        let whole = s.backend.linear(&x.own, layer)?;
        for range in parts(draw, rows) {
            let part = s.twin(cut(&x.host, &range)?)?;
            let part = s.backend.linear(&part.own, layer)?;
            same_rows(s, "linear", (&whole, &range), &part)?;
        }
    }
    let whole = s
        .backend
        .log_prob(read(&x.own, &weight.own), &targets, 0.9)?;
    for range in parts(draw, rows) {
        let part = s.twin(cut(&x.host, &range)?)?;
        let targets = targets.get(range.clone()).unwrap_or(&[]);
        let part = s
            .backend
            .log_prob(read(&part.own, &weight.own), targets, 0.9)?;
        same_rows(s, "log_prob", (&whole.log_prob, &range), &part.log_prob)?;
        same_rows(s, "entropy", (&whole.entropy, &range), &part.entropy)?;
    }
    Ok(())
}

fn read<'a, T>(hidden: &'a T, weight: &'a T) -> Head<'a, T> {
    Head { hidden, weight }
}

pub(super) fn rows_of_rowwise<B: TrainBackend>(
    s: &mut Suite<'_, B>,
    draw: &mut Draw,
) -> Result<()> {
    let (rows, half) = (draw.rows(65), draw.size(65));
    let shape = Shape::matrix(rows, 2 * half);
    let (x, up) = (s.full(draw, shape)?, s.full(draw, shape)?);
    let weight = s.full(draw, Shape::vector(half))?;
    let table = s.full(draw, Shape::matrix(9, 2 * half))?;
    let positions = draw.indices(rows, 9);
    let columns = RopeColumns {
        n_heads: 1,
        head_width: 2 * half,
        offset: 0,
        width: 2 * half,
        pairs: RopePairs::Interleaved,
    };
    let norm = s.backend.rms_norm(&x.own, &weight.own, 1e-6)?;
    let gated = s.backend.swiglu(&x.own, &up.own)?;
    let turned = s.backend.rope(&x.own, &table.own, &positions, columns)?;
    for range in parts(draw, rows) {
        let part = s.twin(cut(&x.host, &range)?)?;
        let part_up = s.twin(cut(&up.host, &range)?)?;
        let positions = positions.get(range.clone()).unwrap_or(&[]);
        let one = s.backend.rms_norm(&part.own, &weight.own, 1e-6)?;
        same_rows(s, "rms_norm", (&norm, &range), &one)?;
        let one = s.backend.swiglu(&part.own, &part_up.own)?;
        same_rows(s, "swiglu", (&gated, &range), &one)?;
        let one = s.backend.rope(&part.own, &table.own, positions, columns)?;
        same_rows(s, "rope", (&turned, &range), &one)?;
    }
    Ok(())
}

/// A row through router, experts and combination.
pub(super) fn rows_of_experts<B: TrainBackend>(
    s: &mut Suite<'_, B>,
    draw: &mut Draw,
) -> Result<()> {
    let (rows, width, n) = (draw.rows(65), draw.size(33), draw.size(33));
    let n_experts = draw.size(17);
    let router = Router {
        top_k: 1 + draw.below(n_experts.min(4)),
        n_group: 1,
        topk_group: 1,
        scoring: Scoring::Sigmoid,
        group_score: GroupScore::TopTwo,
        normalise: true,
        scale: 1.0,
    };
    let x = s.full(draw, Shape::matrix(rows, width))?;
    let logits = s.full(draw, Shape::matrix(rows, n_experts))?;
    let weight = s.full(draw, Shape::stack(n_experts, n, width))?;
    let through = |x: &B::Tensor, logits: &B::Tensor| {
        let route = s.backend.route(logits, None, &router)?;
        let xs = s.backend.dispatch(x, &route)?;
        let ys = s.backend.grouped_linear(&xs, &weight.own, &route)?;
        s.backend.combine(&ys, &route)
    };
    let whole = through(&x.own, &logits.own)?;
    let mut found = Vec::new();
    for range in parts(draw, rows) {
        let part = s.twin(cut(&x.host, &range)?)?;
        let part_logits = s.twin(cut(&logits.host, &range)?)?;
        found.push((range, through(&part.own, &part_logits.own)?));
    }
    for (range, part) in found {
        same_rows(s, "experts", (&whole, &range), &part)?;
    }
    Ok(())
}

pub(super) fn sequences<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let n_rows = draw.rows(96);
    let rows = draw.sequences(n_rows)?;
    let sizes = Sizes::of(draw);
    for form in [Form::Grouped, Form::Expanded, Form::Latent] {
        let columns = form.columns(&sizes);
        let q = s.full(draw, Shape::matrix(n_rows, columns[0]))?;
        let first = s.full(draw, Shape::matrix(n_rows, columns[1]))?;
        let second = s.full(draw, Shape::matrix(n_rows, columns[2]))?;
        let setting = sizes.setting(&rows, Context::Packed);
        let keys = form.keys(&sizes, &first.own, &second.own);
        let whole = s.backend.attention(&q.own, keys, &setting)?;
        for range in rows.ranges() {
            let alone = Rows::packed(&[u32::try_from(range.len()).unwrap_or(0)])?;
            let setting = sizes.setting(&alone, Context::Packed);
            let q = s.twin(cut(&q.host, &range)?)?;
            let first = s.twin(cut(&first.host, &range)?)?;
            let second = s.twin(cut(&second.host, &range)?)?;
            let keys = form.keys(&sizes, &first.own, &second.own);
            let part = s.backend.attention(&q.own, keys, &setting)?;
            same_rows(s, "attention", (&whole, &range), &part)?;
        }
    }
    Ok(())
}

/// The last rows of each sequence asked alone over pages equal those of the packed whole.
pub(super) fn pages<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let n_rows = draw.rows(129);
    let rows = draw.sequences(n_rows)?;
    let page_rows = draw.size(64);
    let lengths: Vec<usize> = rows.ranges().map(|range| range.len()).collect();
    let (pages, n_pages) = scattered(draw, page_rows, &lengths);
    let most = draw.choose(1, &[3, 16]);
    let asked: Vec<u32> = (lengths.iter())
        .filter_map(|length| (*length).min(most).try_into().ok())
        .collect();
    let decode = Rows::packed(&asked)?;
    let sizes = Sizes::of(draw);
    for form in [Form::Grouped, Form::Expanded, Form::Latent] {
        let columns = form.columns(&sizes);
        let q = s.full(draw, Shape::matrix(n_rows, columns[0]))?;
        let first = s.full(draw, Shape::matrix(n_rows, columns[1]))?;
        let second = s.full(draw, Shape::matrix(n_rows, columns[2]))?;
        let keys = form.keys(&sizes, &first.own, &second.own);
        let setting = sizes.setting(&rows, Context::Packed);
        let whole = s.backend.attention(&q.own, keys, &setting)?;
        let whole = host(s.backend.shape(&whole), &s.backend.get(&whole)?)?;
        let last_rows = |x: &HostTensor| -> Result<HostTensor> {
            let mut numbers = Vec::new();
            for (range, asked) in rows.ranges().zip(&asked) {
                let range = range.end - *asked as usize..range.end;
                numbers.extend_from_slice(cut(x, &range)?.numbers()?);
            }
            host(Shape::matrix(decode.n_rows(), x.shape().cols()), &numbers)
        };
        let q = s.twin(last_rows(&q.host)?)?;
        let first = s.twin(laid_out(&first.host, &rows, (&pages, n_pages))?)?;
        let second = s.twin(laid_out(&second.host, &rows, (&pages, n_pages))?)?;
        let keys = form.keys(&sizes, &first.own, &second.own);
        let setting = sizes.setting(&decode, Context::Paged(&pages));
        let own = s.backend.attention(&q.own, keys, &setting)?;
        s.exact("attention", &own, &last_rows(&whole)?)?;
        let n_slots = n_pages * page_rows;
        let slots: Vec<u32> = (0..).take(n_slots).collect();
        let stores = |bits| -> Result<[B::Tensor; 2]> {
            let [a, b] = form.key_stores(&sizes, (n_slots, bits));
            let mut stores = [s.backend.key_store(&a)?, s.backend.key_store(&b)?];
            s.backend.append(&mut stores[0], &first.own, &slots)?;
            s.backend.append(&mut stores[1], &second.own, &slots)?;
            Ok(stores)
        };
        let [a, b] = stores(KeyBits::AsProducts)?;
        let keys = form.keys(&sizes, &a, &b);
        let own = s.backend.attention(&q.own, keys, &setting)?;
        s.exact("attention over key stores", &own, &last_rows(&whole)?)?;
        // Of 8 bits: what the numbers that they are read back as give.
        let [a, b] = stores(KeyBits::Eight)?;
        let keys = form.keys(&sizes, &a, &b);
        let own = s.backend.attention(&q.own, keys, &setting)?;
        let plain = |x: &B::Tensor| s.backend.cast(x, DType::F32);
        let (a, b) = (plain(&a)?, plain(&b)?);
        let keys = form.keys(&sizes, &a, &b);
        let expected = s.backend.attention(&q.own, keys, &setting)?;
        s.same("attention over 8 bits", &own, &expected)?;
    }
    Ok(())
}

/// What [`Backend::pick`] reports is what [`Backend::log_prob`] says of the same rows.
pub(super) fn picked_log_probs<B: TrainBackend>(
    s: &mut Suite<'_, B>,
    draw: &mut Draw,
) -> Result<()> {
    let (rows, vocabulary, width) = (draw.rows(33), draw.size(129), draw.size(33));
    let hidden = s.full(draw, Shape::matrix(rows, width))?;
    let weight = s.full(draw, Shape::matrix(vocabulary, width))?;
    let layer = Linear {
        weight: &weight.own,
        bias: None,
        product: Product::Policy,
    };
    let logits = s.backend.linear(&hidden.own, layer)?;
    let uniforms: Vec<f32> = (0..rows).map(|_| draw.uniform()).collect();
    for (sampling, temperature) in [
        (Sampling::PLAIN, 1.0),
        (Sampling::GREEDY, 1.0),
        (
            Sampling {
                temperature: 0.7,
                top_k: 9,
                ..Sampling::PLAIN
            },
            0.7,
        ),
    ] {
        let picked = s.backend.pick(&logits, &sampling, &uniforms)?;
        let head = read(&hidden.own, &weight.own);
        let again = s.backend.log_prob(head, &picked.ids, temperature)?;
        let expected = host(Shape::vector(rows), &picked.log_probs)?;
        s.exact("log_probs", &again.log_prob, &expected)?;
    }
    Ok(())
}

/// The same gradients from the same call.
pub(super) fn repeats<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (rows, n, k) = (draw.rows(129), draw.size(65), draw.size(65));
    let x = s.full(draw, Shape::matrix(rows, k))?;
    let weight = s.full(draw, Shape::matrix(n, k))?;
    let dy = s.full(draw, Shape::matrix(rows, n))?;
    let d = s.full(draw, Shape::vector(rows))?;
    let targets = draw.indices(rows, n);
    let layer = Linear {
        weight: &weight.own,
        bias: None,
        product: Product::Policy,
    };
    let head = read(&x.own, &weight.own);
    let once = || -> Result<[B::Tensor; 3]> {
        let mut dw = s.backend.zeros(Shape::matrix(n, k))?;
        let dx = s
            .backend
            .linear_backward(&x.own, layer, &dy.own, &mut dw, None)?;
        let dh = s
            .backend
            .log_prob_backward(head, &targets, 1.0, &d.own, &mut dw)?;
        Ok([dx, dw, dh])
    };
    let (first, second) = (once()?, once()?);
    for (what, (first, second)) in ["dx", "dw", "d hidden"]
        .iter()
        .zip(first.iter().zip(&second))
    {
        s.same(what, first, second)?;
    }
    Ok(())
}
