//! RMS norm over runs of columns, forward and backward.
//!
//! A run is read twice while it is in the first-level cache. The gradient of the weight is summed
//! in pieces of a size that depends on the width alone, then the pieces in order, so that it does
//! not depend on the number of threads. Meaning: `frugal_core::ops::rms_norm`.

use frugal_core::error::Result;
use frugal_core::ops::check;
use frugal_core::shape::Shape;

use super::backend::Cpu;
use super::pool::DisjointMut;
use super::tensor::Tensor;
use super::vector::{WIDTH, dot, kernel};

/// Numbers of a piece of work: large enough to be worth handing out, small enough for the
/// first-level cache.
const PIECE: usize = 8192;

fn runs_of_a_piece(width: usize) -> usize {
    (PIECE / width.max(1)).clamp(4, 512)
}

pub(super) fn rms_norm(cpu: &Cpu, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let dims = check::rms_norm(x.shape(), weight.shape(), eps)?;
    let (input, weight) = (x.floats("rms_norm")?, weight.floats("rms_norm")?);
    cpu.produce(x.shape(), |y| {
        let piece = runs_of_a_piece(dims.width) * dims.width;
        let input: &[f32] = &input;
        let weight: &[f32] = &weight;
        cpu.pool.for_each_chunk(y, piece, |i, y| {
            let start = i * piece;
            let x = input.get(start..start + y.len()).unwrap_or(&[]);
            norm_runs(cpu.level, x, weight, eps, y);
        });
    })
}

/// As [`rms_norm`] of the first columns of each row; the others pass.
pub(super) fn rms_norm_first(cpu: &Cpu, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let (width, first) = (x.shape().cols(), weight.shape().elements());
    if first >= width {
        return rms_norm(cpu, x, weight, eps);
    }
    check::rms_norm(Shape::matrix(x.shape().rows(), first), weight.shape(), eps)?;
    let (input, weight) = (x.floats("rms_norm")?, weight.floats("rms_norm")?);
    cpu.produce(x.shape(), |y| {
        let piece = runs_of_a_piece(width) * width;
        let (input, weight): (&[f32], &[f32]) = (&input, &weight);
        cpu.pool.for_each_chunk(y, piece, |i, y| {
            let x = input.get(i * piece..).unwrap_or(&[]);
            for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                let ((x, x_rest), (y, y_rest)) = (x.split_at(first), y.split_at_mut(first));
                norm_runs(cpu.level, x, weight, eps, y);
                y_rest.copy_from_slice(x_rest);
            }
        });
    })
}

/// As [`rms_norm`], for products to read.
pub(super) fn rms_norm_for_products(
    cpu: &Cpu,
    x: &Tensor,
    weight: &Tensor,
    eps: f32,
) -> Result<Tensor> {
    let dims = check::rms_norm(x.shape(), weight.shape(), eps)?;
    let (input, weight) = (x.floats("rms_norm")?, weight.floats("rms_norm")?);
    let (input, weight): (&[f32], &[f32]) = (&input, &weight);
    let piece = runs_of_a_piece(dims.width) * dims.width;
    cpu.produce_for_products(x.shape(), piece, |start, y| {
        let x = input.get(start..start + y.len()).unwrap_or(&[]);
        norm_runs(cpu.level, x, weight, eps, y);
    })
}

/// dx is added to `so_far`, where there is such.
pub(super) fn rms_norm_backward(
    cpu: &Cpu,
    (x, weight, eps): (&Tensor, &Tensor, f32),
    so_far: Option<Tensor>,
    dy: &Tensor,
    d_weight: &mut Tensor,
) -> Result<Tensor> {
    const OP: &str = "rms_norm_backward";
    let dims =
        check::rms_norm_backward(x.shape(), weight.shape(), eps, dy.shape(), d_weight.shape())?;
    let width = dims.width;
    let piece = runs_of_a_piece(width) * width;
    let (x_values, dy_values, weight) = (x.floats(OP)?, dy.floats(OP)?, weight.floats(OP)?);
    let pieces = x_values.len().div_ceil(piece);
    let mut sums = cpu.memory.take_f32(pieces * width);
    let sums = sums
        .f32s_mut()
        .get_mut(..pieces * width)
        .unwrap_or_default();
    let is_added = so_far.is_some();
    let mut dx = match so_far {
        Some(so_far) => so_far,
        None => cpu.blank(x.shape())?.done(),
    };
    dx.change(OP, |dx| {
        let (x, dy, weight): (&[f32], &[f32], &[f32]) = (&x_values, &dy_values, &weight);
        cpu.pool
            .for_each_chunk_pair((dx, piece), (&mut *sums, width), |i, dx, sums| {
                let range = i * piece..i * piece + dx.len();
                let given = Given {
                    x: x.get(range.clone()).unwrap_or(&[]),
                    dy: dy.get(range).unwrap_or(&[]),
                    weight,
                    eps,
                    is_added,
                };
                norm_runs_backward(cpu.level, &given, dx, sums);
            });
    })?;
    d_weight.change(OP, |d_weight| add_pieces(cpu, sums, d_weight))?;
    Ok(dx)
}

/// Adds pieces of `total.len()` numbers to `total`, in order.
pub(super) fn add_pieces(cpu: &Cpu, pieces: &[f32], total: &mut [f32]) {
    sum_rows(cpu.level, pieces, total);
}

/// total += the sum of the rows of x `[T, total.len()]`, in pieces of fixed size, then in order.
pub(super) fn add_columns(cpu: &Cpu, x: &[f32], total: &mut [f32]) {
    let width = total.len();
    if width == 0 || x.is_empty() {
        return;
    }
    let piece = runs_of_a_piece(width) * width;
    let pieces = x.len().div_ceil(piece);
    let mut sums = cpu.memory.take_f32(pieces * width);
    let sums = sums
        .f32s_mut()
        .get_mut(..pieces * width)
        .unwrap_or_default();
    {
        let shared = DisjointMut::new(&mut *sums);
        cpu.pool.run(pieces, |i| {
            // SAFETY: each index has its own range and is run once.
            let own = unsafe { shared.slice(i * width..(i + 1) * width) };
            own.fill(0.0);
            let end = ((i + 1) * piece).min(x.len());
            sum_rows(cpu.level, x.get(i * piece..end).unwrap_or(&[]), own);
        });
    }
    add_pieces(cpu, sums, total);
}

kernel! {
    /// total += each row of `rows`, in order.
    fn sum_rows<L>(l, rows: &[f32], total: &mut [f32]) {
        for row in rows.chunks_exact(total.len().max(1)) {
            super::vector::add_into(l, row, total);
        }
    }
}

kernel! {
    fn norm_runs<L>(l, x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
        let width = weight.len().max(1);
        let (w_parts, w_tail) = weight.as_chunks::<WIDTH>();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let inverse = l.splat(1.0 / (dot(l, x, x) / width as f32 + eps).sqrt());
            let (x_parts, x_tail) = x.as_chunks::<WIDTH>();
            let (y_parts, y_tail) = y.as_chunks_mut::<WIDTH>();
            for ((x, w), y) in x_parts.iter().zip(w_parts).zip(y_parts) {
                l.store(l.mul(l.mul(l.load(x), inverse), l.load(w)), y);
            }
            if !y_tail.is_empty() {
                let scaled = l.mul(l.load_part(x_tail), inverse);
                l.store_part(l.mul(scaled, l.load_part(w_tail)), y_tail);
            }
        }
    }
}

/// What the backward reads.
struct Given<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    /// Whether dx is added to what is there.
    is_added: bool,
}

kernel! {
    /// With r = 1 / sqrt(mean(x²) + eps): dx = r w dy - x r³ mean(x w dy); sets `sums` to the sum
    /// over runs of dy x r.
    fn norm_runs_backward<L>(l, given: &Given<'_>, dx: &mut [f32], sums: &mut [f32]) {
        let width = given.weight.len().max(1);
        let (w_parts, w_tail) = given.weight.as_chunks::<WIDTH>();
        let is_added = given.is_added;
        sums.fill(0.0);
        let runs = given.x.chunks_exact(width).zip(given.dy.chunks_exact(width));
        for ((x, dy), dx) in runs.zip(dx.chunks_exact_mut(width)) {
            let (x_parts, x_tail) = x.as_chunks::<WIDTH>();
            let (dy_parts, dy_tail) = dy.as_chunks::<WIDTH>();
            let mut squares = l.splat(0.0);
            let mut along = l.splat(0.0);
            for ((x, dy), w) in x_parts.iter().zip(dy_parts).zip(w_parts) {
                let x = l.load(x);
                squares = l.mul_add(x, x, squares);
                along = l.mul_add(x, l.mul(l.load(dy), l.load(w)), along);
            }
            if !x_tail.is_empty() {
                let x = l.load_part(x_tail);
                squares = l.mul_add(x, x, squares);
                along = l.mul_add(x, l.mul(l.load_part(dy_tail), l.load_part(w_tail)), along);
            }
            let r = 1.0 / (l.sum(squares) / width as f32 + given.eps).sqrt();
            let pull = l.splat(l.sum(along) / width as f32 * r * r * r);
            let r = l.splat(r);
            let (dx_parts, dx_tail) = dx.as_chunks_mut::<WIDTH>();
            let (sum_parts, sum_tail) = sums.as_chunks_mut::<WIDTH>();
            let inputs = x_parts.iter().zip(dy_parts).zip(w_parts);
            for (((x, dy), w), (dx, sum)) in inputs.zip(dx_parts.iter_mut().zip(sum_parts)) {
                let (x, scaled) = (l.load(x), l.mul(l.load(dy), r));
                let slope = l.neg_mul_add(x, pull, l.mul(scaled, l.load(w)));
                l.store(if is_added { l.add(l.load(dx), slope) } else { slope }, dx);
                l.store(l.mul_add(scaled, x, l.load(sum)), sum);
            }
            if !dx_tail.is_empty() {
                let (x, scaled) = (l.load_part(x_tail), l.mul(l.load_part(dy_tail), r));
                let slope = l.neg_mul_add(x, pull, l.mul(scaled, l.load_part(w_tail)));
                let slope = if is_added { l.add(l.load_part(dx_tail), slope) } else { slope };
                l.store_part(slope, dx_tail);
                l.store_part(l.mul_add(scaled, x, l.load_part(sum_tail)), sum_tail);
            }
        }
    }
}
