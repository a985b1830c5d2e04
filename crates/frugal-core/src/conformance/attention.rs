//! Attention in its three forms, packed and paged, and its backward.
//!
//! A score is a product of width w times the scale, so its error is d = gamma(w + 6) times the
//! largest scale sum |q| |k| of the row (the 6 are the scale, the maximum's subtraction and their
//! rounding). A probability is then off by e^(2 d) - 1, the sum over n keys, the exponentials and
//! what the policy rounds of p: epsilon. The output is bounded by (epsilon + gamma(n)) sum p |v|.
//! Where the policy rounds keys and values too (those of 8 bits do not fit bf16), its u comes to d
//! times that largest sum, and to the values.
//! Backward: with a_j = |dy| · |v_j| and m = sum p a, a slope ds_j is bounded by its magnitude
//! scale p_j (a_j + m) times epsilon, once more the policy's rounding, and the f32 of the saved
//! log-sum; its products with q and k collect over rows and heads.

use alloc::vec;
use alloc::vec::Vec;

use super::tolerance::{FLOOR, FUNCTION, U_F32, gamma, operand};
use super::{Draw, Rounding, Suite, Twin, host};
use crate::backend::{Attention, Backend, Context, KeyBits, KeyStore, Keys, Pages, TrainBackend};
use crate::error::Result;
use crate::ops::attention::{Operands, key_rows};
use crate::ops::check::{self, AttentionDims, KeyPart, KeyShapes, KeyTensor};
use crate::ops::math;
use crate::reference::{HostTensor, Reference};
use crate::shape::{Rows, Shape};

/// Widths of one draw.
pub(super) struct Sizes {
    pub(super) n_heads: usize,
    pub(super) kv_heads: usize,
    pub(super) nope: usize,
    pub(super) rope: usize,
    pub(super) value: usize,
}

impl Sizes {
    pub(super) fn of(draw: &mut Draw) -> Self {
        let (n_heads, kv_heads) = draw.choose((4, 2), &[(1, 1), (3, 1), (3, 3), (6, 2)]);
        Self {
            n_heads,
            kv_heads,
            nope: draw.size(65),
            rope: draw.below(2) * draw.size(33),
            value: draw.size(65),
        }
    }

    pub(super) fn setting<'a>(&self, rows: &'a Rows, context: Context<'a>) -> Attention<'a> {
        Attention {
            n_heads: self.n_heads,
            scale: 1.0 / ((self.nope + self.rope) as f32).sqrt(),
            rows,
            context,
        }
    }
}

/// Which form the keys come in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Grouped,
    Expanded,
    Latent,
}

impl Form {
    /// Columns of q, the first and the second key tensor. Of latent keys the second is not used.
    pub(super) fn columns(self, sizes: &Sizes) -> [usize; 3] {
        let Sizes {
            n_heads,
            kv_heads,
            nope,
            rope,
            value,
        } = *sizes;
        match self {
            Self::Grouped => [n_heads * nope, kv_heads * nope, kv_heads * value],
            Self::Expanded => [n_heads * (nope + rope), n_heads * (nope + value), rope],
            Self::Latent => [n_heads * (nope + rope), nope + rope, 0],
        }
    }

    /// The stores that a cache would keep such keys in.
    pub(super) fn key_stores(self, sizes: &Sizes, (rows, bits): (usize, KeyBits)) -> [KeyStore; 2] {
        let [_, first, second] = self.columns(sizes);
        let first = match self {
            Self::Grouped | Self::Expanded => [first, 0],
            Self::Latent => [sizes.nope, sizes.rope],
        };
        [first, [second, 0]].map(|parts| KeyStore { rows, parts, bits })
    }

    pub(super) fn keys<'a, T>(self, sizes: &Sizes, first: &'a T, second: &'a T) -> Keys<'a, T> {
        match self {
            Self::Grouped => Keys::Grouped {
                k: first,
                v: second,
                n_kv_heads: sizes.kv_heads,
            },
            Self::Expanded => Keys::Expanded {
                kv: first,
                k_rope: second,
                nope: sizes.nope,
            },
            Self::Latent => Keys::Latent {
                latent: first,
                rank: sizes.nope,
            },
        }
    }
}

/// What is rounded.
#[derive(Clone, Copy)]
struct Roundings {
    /// Intermediate operands.
    policy: Rounding,
    /// Keys and values, where they are not numbers that bf16 holds. Of the forward alone.
    keys: Rounding,
}

impl Roundings {
    const fn of_short_keys(policy: Rounding) -> Self {
        Self {
            policy,
            keys: Rounding::F32,
        }
    }
}

/// Bounds of every result.
struct Bounds {
    output: Vec<f64>,
    log_sum: Vec<f64>,
    d_q: Vec<f64>,
    d_first: Vec<f64>,
    d_second: Vec<f64>,
}

fn absolute_dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    products.map(f64::abs).sum()
}

fn add_absolute(sums: &mut [f64], start: usize, factor: f64, x: &[f32]) {
    for (sum, x) in sums.iter_mut().skip(start).zip(x) {
        *sum += factor * f64::from(x.abs());
    }
}

/// Bounds of one step; `dy` may be all zeros where only the forward is wanted.
fn bounds(
    operands: &Operands<'_>,
    dims: &AttentionDims,
    attention: &Attention<'_>,
    dy: &[f32],
    rounding: Roundings,
) -> Bounds {
    let slots = dims.rows * dims.n_heads;
    let mut bounds = Bounds {
        output: vec![FLOOR; slots * dims.value_width],
        log_sum: vec![FLOOR; slots],
        d_q: vec![FLOOR; operands.q.len()],
        d_first: vec![FLOOR; operands.first.len()],
        d_second: vec![FLOOR; operands.second.len()],
    };
    for (sequence, rows) in attention.rows.ranges().enumerate() {
        for t in rows.clone() {
            let keys = key_rows(attention.context, sequence, &rows, t);
            for head in 0..dims.n_heads {
                let at = Place {
                    slot: t * dims.n_heads + head,
                    head,
                    keys: &keys,
                };
                add_head(&mut bounds, &at, (operands, dims, attention), dy, rounding);
            }
        }
    }
    bounds
}

/// One query head of one row.
struct Place<'a> {
    slot: usize,
    head: usize,
    keys: &'a [usize],
}

fn add_head(
    bounds: &mut Bounds,
    at: &Place<'_>,
    (operands, dims, attention): (&Operands<'_>, &AttentionDims, &Attention<'_>),
    dy: &[f32],
    rounding: Roundings,
) {
    let n = at.keys.len();
    let scale = f64::from(attention.scale).abs();
    let q = math::row(operands.q, at.slot, dims.q_width);
    let (own, shared) = q.split_at(dims.key[0].width);
    let part = |part: &KeyPart, key: usize| operands.part(part, key, at.head);
    let scores: Vec<(f64, f64)> = (at.keys.iter())
        .map(|key| {
            let (a, b) = (part(&dims.key[0], *key), part(&dims.key[1], *key));
            let z = f64::from(attention.scale) * (math::dot(own, a) + math::dot(shared, b));
            (z, scale * (absolute_dot(own, a) + absolute_dot(shared, b)))
        })
        .collect();
    let max = scores
        .iter()
        .map(|(z, _)| *z)
        .fold(f64::NEG_INFINITY, f64::max);
    let largest = scores.iter().map(|(_, size)| *size).fold(0.0, f64::max);
    let sum: f64 = scores.iter().map(|(z, _)| (z - max).exp()).sum();
    let p: Vec<f64> = scores.iter().map(|(z, _)| (z - max).exp() / sum).collect();
    let keys_error = operand(rounding.keys);
    let error = (gamma(dims.q_width + 6) + keys_error) * largest;
    let epsilon = (2.0 * error).exp_m1() + gamma(2 * n + FUNCTION + 4) + operand(rounding.policy);
    let log_sum = if n == 0 { 0.0 } else { (max + sum.ln()).abs() };
    if let Some(bound) = bounds.log_sum.get_mut(at.slot) {
        *bound += error + gamma(n + FUNCTION + 2) * (1.0 + log_sum);
    }
    let dy = math::row(dy, at.slot, dims.value_width);
    let value = |key: usize| part(&dims.value, key);
    let pull: Vec<f64> = (at.keys.iter())
        .map(|key| absolute_dot(dy, value(*key)))
        .collect();
    let mean: f64 = p.iter().zip(&pull).map(|(p, a)| p * a).sum();
    let terms = gamma(dims.rows * dims.n_heads + n + dims.value_width + 16);
    let slope_error = epsilon + operand(rounding.policy) + terms + 2.0 * U_F32 * (log_sum + 1.0);
    for ((key, p), pull) in at.keys.iter().zip(&p).zip(&pull) {
        let start = at.slot * dims.value_width;
        let forward = (epsilon + gamma(n + 2) + keys_error) * (1.0 + keys_error) * p;
        add_absolute(&mut bounds.output, start, forward, value(*key));
        let slope = slope_error * scale * p * (pull + mean);
        let q_start = at.slot * dims.q_width;
        add_absolute(&mut bounds.d_q, q_start, slope, part(&dims.key[0], *key));
        let rest = q_start + own.len();
        add_absolute(&mut bounds.d_q, rest, slope, part(&dims.key[1], *key));
        for (to, factor, x) in [
            (&dims.key[0], slope, own),
            (&dims.key[1], slope, shared),
            (&dims.value, slope_error * p, dy),
        ] {
            let sums = match to.tensor {
                KeyTensor::First => &mut bounds.d_first,
                KeyTensor::Second => &mut bounds.d_second,
            };
            add_absolute(sums, to.start(*key, at.head), factor, x);
        }
    }
}

/// q and the two key tensors on both sides.
type Inputs<T> = [Twin<T>; 3];

fn inputs<B: TrainBackend>(
    s: &Suite<'_, B>,
    draw: &mut Draw,
    [rows, key_rows]: [usize; 2],
    columns: [usize; 3],
) -> Result<Inputs<B::Tensor>> {
    Ok([
        s.short(draw, Shape::matrix(rows, columns[0]))?,
        s.short(draw, Shape::matrix(key_rows, columns[1]))?,
        s.short(draw, Shape::matrix(key_rows, columns[2]))?,
    ])
}

fn dims_and_bounds(
    hosts: [&HostTensor; 3],
    keys: Keys<'_, HostTensor>,
    attention: &Attention<'_>,
    dy: Option<&HostTensor>,
    rounding: Roundings,
) -> Result<Bounds> {
    let [q, first, second] = hosts;
    let dims = check::attention(q.shape(), KeyShapes::of(keys, HostTensor::shape), attention)?;
    let operands = Operands {
        q: q.numbers()?,
        first: first.numbers()?,
        second: second.numbers()?,
    };
    let none = vec![0.0; dims.rows * dims.n_heads * dims.value_width];
    let dy = dy.map_or(Ok(&none[..]), HostTensor::numbers)?;
    Ok(bounds(&operands, &dims, attention, dy, rounding))
}

/// Forward, saved forward and backward of a form that is trained; forward alone of latent keys.
fn packed<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw, form: Form) -> Result<()> {
    let n_rows = match draw.index() {
        2 => 131,
        _ => draw.rows(65),
    };
    let rows = draw.sequences(n_rows)?;
    let sizes = Sizes::of(draw);
    let setting = sizes.setting(&rows, Context::Packed);
    let [q, first, second] = inputs(s, draw, [n_rows, n_rows], form.columns(&sizes))?;
    let hosts = [&q.host, &first.host, &second.host];
    let host_keys = form.keys(&sizes, &first.host, &second.host);
    let own_keys = form.keys(&sizes, &first.own, &second.own);
    let expected = Reference.attention(&q.host, host_keys, &setting)?;
    let dy = s.short(draw, expected.shape())?;
    let bounds = dims_and_bounds(
        hosts,
        host_keys,
        &setting,
        Some(&dy.host),
        Roundings::of_short_keys(s.rounding),
    )?;
    let own = s.backend.attention(&q.own, own_keys, &setting)?;
    s.near("y", &own, &expected, &bounds.output)?;
    if form == Form::Latent {
        return Ok(());
    }
    let saved = s.backend.attention_saved(&q.own, own_keys, &setting)?;
    s.same("saved output", &saved.output, &own)?;
    let expected = Reference.attention_saved(&q.host, host_keys, &setting)?;
    s.near(
        "log_sum",
        &saved.log_sum,
        &expected.log_sum,
        &bounds.log_sum,
    )?;
    let grads = s
        .backend
        .attention_backward(&q.own, own_keys, &setting, &saved, &dy.own)?;
    let expected =
        Reference.attention_backward(&q.host, host_keys, &setting, &expected, &dy.host)?;
    s.near("dq", &grads.q, &expected.q, &bounds.d_q)?;
    s.near("d first", &grads.first, &expected.first, &bounds.d_first)?;
    s.near(
        "d second",
        &grads.second,
        &expected.second,
        &bounds.d_second,
    )
}

pub(super) fn grouped<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    packed(s, draw, Form::Grouped)
}

pub(super) fn expanded<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    packed(s, draw, Form::Expanded)
}

pub(super) fn latent<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    packed(s, draw, Form::Latent)
}

/// A key store with numbers of all bits in every row, on both sides.
fn stored<B: TrainBackend>(
    s: &Suite<'_, B>,
    draw: &mut Draw,
    store: &KeyStore,
) -> Result<Twin<B::Tensor>> {
    let rows = s.full(draw, store.shape())?;
    let slots: Vec<u32> = (0..).take(store.rows).collect();
    let mut host = Reference.key_store(store)?;
    Reference.append(&mut host, &rows.host, &slots)?;
    let mut own = s.backend.key_store(store)?;
    s.backend.append(&mut own, &rows.own, &slots)?;
    Ok(Twin { host, own })
}

/// Pages in shuffled order, some sequences with fewer keys than query rows, stores in f32, bf16
/// and 8 bits.
pub(super) fn paged<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let n_rows = draw.rows(17);
    let rows = draw.sequences(n_rows)?;
    let page_rows = draw.size(33);
    let lengths: Vec<usize> = (0..rows.n_sequences())
        .map(|_| draw.below(2) * draw.size(129))
        .collect();
    let (pages, n_pages) = scattered(draw, page_rows, &lengths);
    let sizes = Sizes::of(draw);
    for form in [Form::Grouped, Form::Expanded, Form::Latent] {
        let setting = sizes.setting(&rows, Context::Paged(&pages));
        let n_keys = n_pages * page_rows;
        let [q, first, second] = inputs(s, draw, [n_rows, n_keys], form.columns(&sizes))?;
        let keys = form.keys(&sizes, &first.host, &second.host);
        let expected = Reference.attention(&q.host, keys, &setting)?;
        let hosts = [&q.host, &first.host, &second.host];
        let bounds = dims_and_bounds(
            hosts,
            keys,
            &setting,
            None,
            Roundings::of_short_keys(s.rounding),
        )?;
        let own_keys = form.keys(&sizes, &first.own, &second.own);
        let own = s.backend.attention(&q.own, own_keys, &setting)?;
        s.near("y", &own, &expected, &bounds.output)?;
        // The numbers are ones that bf16 holds, so a narrow store changes nothing.
        let narrow = |x| s.backend.cast(x, crate::dtype::DType::Bf16);
        let (first, second) = (narrow(&first.own)?, narrow(&second.own)?);
        let own_keys = form.keys(&sizes, &first, &second);
        let own = s.backend.attention(&q.own, own_keys, &setting)?;
        s.near("y from a bf16 store", &own, &expected, &bounds.output)?;
        let [first, second] = form.key_stores(&sizes, (n_keys, KeyBits::Eight));
        let first = stored(s, draw, &first)?;
        let second = stored(s, draw, &second)?;
        let keys = form.keys(&sizes, &first.host, &second.host);
        let expected = Reference.attention(&q.host, keys, &setting)?;
        let hosts = [&q.host, &first.host, &second.host];
        let rounding = Roundings {
            policy: s.rounding,
            keys: s.rounding,
        };
        let bounds = dims_and_bounds(hosts, keys, &setting, None, rounding)?;
        let own_keys = form.keys(&sizes, &first.own, &second.own);
        let own = s.backend.attention(&q.own, own_keys, &setting)?;
        s.near("y from 8 bits", &own, &expected, &bounds.output)?;
    }
    Ok(())
}

/// Page tables for sequences of the given lengths, pages shuffled, and how many pages there are.
pub(super) fn scattered(draw: &mut Draw, page_rows: usize, lengths: &[usize]) -> (Pages, usize) {
    let needed = |length: &usize| length.div_ceil(page_rows);
    let n_pages = lengths.iter().map(needed).sum::<usize>() + 1;
    let mut free: Vec<u32> = (0..n_pages)
        .filter_map(|page| page.try_into().ok())
        .collect();
    draw.shuffle(&mut free);
    let mut free = free.into_iter();
    let tables = (lengths.iter())
        .map(|length| free.by_ref().take(needed(length)).collect())
        .collect();
    let pages = Pages {
        page_rows,
        tables,
        lengths: (lengths.iter())
            .filter_map(|length| (*length).try_into().ok())
            .collect(),
    };
    (pages, n_pages)
}

/// The rows of a host tensor laid out in a store as `pages` say.
pub(super) fn laid_out(
    x: &HostTensor,
    rows: &Rows,
    (pages, n_pages): (&Pages, usize),
) -> Result<HostTensor> {
    let width = x.shape().cols();
    let shape = Shape::matrix(n_pages * pages.page_rows, width);
    let mut store = vec![0.0; shape.elements()];
    for (sequence, range) in rows.ranges().enumerate() {
        let Some(last) = range.clone().last() else {
            continue;
        };
        let places = key_rows(Context::Paged(pages), sequence, &range, last);
        for (row, place) in range.zip(places) {
            math::row_mut(&mut store, place, width).copy_from_slice(math::row(
                x.numbers()?,
                row,
                width,
            ));
        }
    }
    host(shape, &store)
}
