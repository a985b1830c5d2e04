//! Moving rows and columns: split, join, gather and its backward.
//!
//! Nothing is computed but the sums of the gather's backward, which adds rows in the order of the
//! ids whatever the number of threads, because work is divided by columns. Moving rows to experts
//! is in [`super::moe`].

use frugal_core::error::Result;
use frugal_core::ops::check;
use frugal_core::shape::Shape;

use super::backend::Cpu;
use super::pool::DisjointMut;
use super::tensor::Tensor;
use super::vector::{add_into, copy, kernel};

/// Numbers of a piece of work.
const PIECE: usize = 16 * 1024;

fn rows_of_a_piece(width: usize) -> usize {
    (PIECE / width.max(1)).clamp(1, 1024)
}

pub(super) fn split(
    cpu: &Cpu,
    x: &Tensor,
    n_heads: usize,
    widths: &[usize],
) -> Result<Vec<Tensor>> {
    let dims = check::split(x.shape(), n_heads, widths)?;
    if widths.len() == 1 {
        return Ok(vec![x.clone()]);
    }
    let values = x.floats("split")?;
    let values: &[f32] = &values;
    let mut offset = 0;
    let mut parts = Vec::with_capacity(widths.len());
    for width in widths {
        let shape = Shape::matrix(dims.rows, n_heads * width);
        let runs = Runs {
            width: *width,
            from: (dims.head_width, offset),
            to: (*width, 0),
        };
        parts.push(cpu.produce(shape, |y| {
            let rows = rows_of_a_piece(shape.cols());
            cpu.pool.for_each_chunk(y, rows * shape.cols(), |i, y| {
                let start = (i * rows * n_heads * dims.head_width).min(values.len());
                copy_runs(cpu.level, runs, values.get(start..).unwrap_or(&[]), y);
            });
        })?);
        offset += width;
    }
    Ok(parts)
}

/// Copies the last `passed` columns of each head to the last of the same head of another width.
pub(super) fn pass(
    cpu: &Cpu,
    (from, from_head): (&[f32], usize),
    (to, to_head): (&mut [f32], usize),
    passed: usize,
) {
    if passed == 0 {
        return;
    }
    let heads = rows_of_a_piece(to_head);
    let runs = Runs {
        width: passed,
        from: (from_head, from_head - passed),
        to: (to_head, to_head - passed),
    };
    cpu.pool.for_each_chunk(to, heads * to_head, |i, y| {
        let start = (i * heads * from_head).min(from.len());
        copy_runs(cpu.level, runs, from.get(start..).unwrap_or(&[]), y);
    });
}

pub(super) fn join(cpu: &Cpu, parts: &[&Tensor], n_heads: usize) -> Result<Tensor> {
    let shapes: Vec<Shape> = parts.iter().map(|part| part.shape()).collect();
    let dims = check::join(&shapes, n_heads)?;
    if let [only] = parts {
        return Ok((*only).clone());
    }
    let values = parts
        .iter()
        .map(|part| part.floats("join"))
        .collect::<Result<Vec<_>>>()?;
    let shape = Shape::matrix(dims.rows, n_heads * dims.head_width);
    cpu.produce(shape, |y| {
        let rows = rows_of_a_piece(shape.cols());
        cpu.pool.for_each_chunk(y, rows * shape.cols(), |i, y| {
            let mut offset = 0;
            for (values, width) in values.iter().zip(&dims.widths) {
                let runs = Runs {
                    width: *width,
                    from: (*width, 0),
                    to: (dims.head_width, offset),
                };
                let start = (i * rows * n_heads * width).min(values.len());
                copy_runs(cpu.level, runs, values.get(start..).unwrap_or(&[]), y);
                offset += width;
            }
        });
    })
}

/// Runs of `width` columns, one a head, between rows of two layouts (head width, offset).
#[derive(Clone, Copy)]
struct Runs {
    width: usize,
    from: (usize, usize),
    to: (usize, usize),
}

kernel! {
    /// Copies the runs of as many rows as both sides have.
    fn copy_runs<L>(l, runs: Runs, x: &[f32], y: &mut [f32]) {
        let (from, to) = (runs.from, runs.to);
        // Heads of a row lie one after another on both sides, so that rows need no loop.
        let heads = x.chunks_exact(from.0.max(1)).zip(y.chunks_exact_mut(to.0.max(1)));
        for (x, y) in heads {
            let x = x.get(from.1..from.1 + runs.width).unwrap_or(&[]);
            copy(l, x, y.get_mut(to.1..to.1 + runs.width).unwrap_or_default());
        }
    }
}

pub(super) fn gather(cpu: &Cpu, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let dims = check::gather(table.shape(), ids)?;
    if let Some(stored) = table.stored() {
        return cpu.produce(Shape::matrix(ids.len(), dims.width), |y| {
            cpu.pool.for_each_chunk(y, dims.width.max(1), |i, y| {
                let row = ids.get(i).map_or(0, |id| *id as usize);
                stored.decode(cpu.level, row, 0, y);
            });
        });
    }
    if let Some(stored) = table.stored_eight_bits() {
        return cpu.produce(Shape::matrix(ids.len(), dims.width), |y| {
            let rows = rows_of_a_piece(dims.width);
            cpu.pool.for_each_chunk(y, rows * dims.width, |i, y| {
                for (y, id) in y
                    .chunks_exact_mut(dims.width.max(1))
                    .zip(ids.iter().skip(i * rows))
                {
                    stored.decode(*id as usize, y);
                }
            });
        });
    }
    let values = table.floats("gather")?;
    let values: &[f32] = &values;
    cpu.produce(Shape::matrix(ids.len(), dims.width), |y| {
        copy_rows(
            cpu,
            values,
            |i| ids.get(i).map_or(0, |id| *id as usize),
            (y, dims.width),
        );
    })
}

/// Row i of `to` is row `from(i)` of `values`.
pub(super) fn copy_rows(
    cpu: &Cpu,
    values: &[f32],
    from: impl Fn(usize) -> usize + Sync,
    (to, width): (&mut [f32], usize),
) {
    let rows = rows_of_a_piece(width);
    cpu.pool.for_each_chunk(to, rows * width, |i, to| {
        for (r, to) in to.chunks_exact_mut(width.max(1)).enumerate() {
            let start = from(i * rows + r) * width;
            to.copy_from_slice(values.get(start..start + width).unwrap_or(&[]));
        }
    });
}

pub(super) fn gather_backward(
    cpu: &Cpu,
    ids: &[u32],
    dy: &Tensor,
    d_table: &mut Tensor,
) -> Result<()> {
    const OP: &str = "gather_backward";
    /// Columns of a piece of work.
    const COLUMNS: usize = 64;
    let dims = check::gather_backward(ids, dy.shape(), d_table.shape())?;
    let values = dy.floats(OP)?;
    let values: &[f32] = &values;
    d_table.change(OP, |table| {
        let width = dims.width;
        let table = DisjointMut::new(table);
        cpu.pool.run(width.div_ceil(COLUMNS), |i| {
            let columns = i * COLUMNS..((i + 1) * COLUMNS).min(width);
            for (row, id) in values.chunks_exact(width).zip(ids) {
                let start = *id as usize * width;
                let range = start + columns.start..start + columns.end;
                // SAFETY: tasks have columns of their own, and a task holds one slice at a time.
                let to = unsafe { table.slice(range) };
                add_row(cpu.level, row.get(columns.clone()).unwrap_or(&[]), to);
            }
        });
    })
}

kernel! {
    fn add_row<L>(l, x: &[f32], y: &mut [f32]) {
        add_into(l, x, y);
    }
}
