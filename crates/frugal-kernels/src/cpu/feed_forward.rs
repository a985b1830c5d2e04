//! A feed-forward that learns, some rows at a time: what lies between its products stays in the
//! second cache, and what the backward needs is kept in bf16, as its products take it.
//!
//! Only the gradient sees that gate and up were rounded: the output has the bits of the same products
//! and SwiGLU one after another, as inference forms them. In f32 it is exactly those.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use frugal_core::backend::{FeedForward, FeedForwardSaved};
use frugal_core::error::{Result, expect_shape};
use frugal_core::ops::check;
use frugal_core::shape::Shape;
use half::bf16;

use super::activation::{swiglu_backward_piece, swiglu_in_place};
use super::backend::Cpu;
use super::gemm::{
    Factor, Finish, GemmError, MatMut, PackedWeight, Precision, StackMut, StackShape, Update,
};
use super::moe;
use super::pool::DisjointMut;
use super::tensor::{Tensor, WeightPart, narrow_all, widen_all, with_wide};

const OP: &str = "feed_forward";
/// Most rows of a block, and f32 numbers between its products.
const MOST_ROWS: usize = 128;
const MOST_NUMBERS: usize = 64 * 1024;
/// Numbers that are in the first cache from one pass to the next.
const NEAR: usize = 1024;

/// Some rows that share their weights.
struct Block {
    group: usize,
    rows: Range<usize>,
}

/// A checked feed-forward with its weights packed: gate, up, down.
struct Ready<'a> {
    cpu: &'a Cpu,
    weights: [Arc<PackedWeight>; 3],
    blocks: Vec<Block>,
    /// Rows of each expert; none for one weight.
    offsets: Option<&'a [u32]>,
    rows: usize,
    /// Widths: of x, between, of the output.
    k: usize,
    n: usize,
    d: usize,
}

/// Whether it is computed in blocks.
fn is_blocked(cpu: &Cpu, of: &FeedForward<'_, Tensor>) -> bool {
    let weights = [of.gate, of.up, of.down];
    cpu.precision == Precision::Bf16 && weights.iter().all(|weight| weight.stored().is_none())
}

impl<'a> Ready<'a> {
    fn new(cpu: &'a Cpu, of: &FeedForward<'a, Tensor>) -> Result<Self> {
        expect_shape(OP, "up", of.gate.shape(), of.up.shape())?;
        let (x, gate, down) = (of.x.shape(), of.gate.shape(), of.down.shape());
        let (rows, [k, n, d], offsets) = match of.route {
            None => {
                let first = check::linear(x, gate, None)?;
                let between = Shape::matrix(first.rows, first.n);
                let second = check::linear(between, down, None)?;
                (first.rows, [first.k, first.n, second.n], None)
            }
            Some(route) => {
                let shapes = moe::shapes(route);
                let first = check::grouped_linear(x, gate, &shapes)?;
                let between = Shape::matrix(first.route.slots(), first.n);
                let second = check::grouped_linear(between, down, &shapes)?;
                let (_, offsets) = moe::followed(OP, first.route, route)?;
                let widths = [first.k, first.n, second.n];
                (first.route.slots(), widths, Some(offsets))
            }
        };
        let pack = |weight: &Tensor| weight.packed(cpu.gemm(), cpu.precision, &WeightPart::Whole);
        Ok(Self {
            cpu,
            weights: [pack(of.gate)?, pack(of.up)?, pack(of.down)?],
            blocks: blocks(rows, n, offsets),
            offsets,
            rows,
            k,
            n,
            d,
        })
    }

    /// The product of a block's rows with weight `which`, backward where `is_back`.
    fn product(
        &self,
        block: &Block,
        (a, which): (Factor<'_>, usize),
        (to, cols): (&mut [f32], usize),
        (is_back, finish): (bool, Finish<'_>),
    ) -> std::result::Result<(), GemmError> {
        let Some(weight) = self.weights.get(which) else {
            return Ok(());
        };
        let (gemm, rows) = (self.cpu.gemm(), block.rows.len());
        let to = MatMut::dense(to, rows, cols)?;
        let Some(offsets) = self.offsets else {
            return if is_back {
                gemm.nn(a, weight, to, finish)
            } else {
                gemm.nt(a, weight, to, finish)
            };
        };
        // All rows of the block are one expert's.
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let of_block = |g| if g > block.group { rows } else { 0 };
        let offsets: Vec<u32> = (0..offsets.len()).map(of_block).collect();
        if is_back {
            gemm.grouped_nn(a, &offsets, weight, to, finish)
        } else {
            gemm.grouped_nt(a, &offsets, weight, to, finish)
        }
    }

    /// Runs `task` on every block with memory for `numbers` f32 a row.
    fn run(
        &self,
        numbers: usize,
        task: impl Fn(&Block, &mut [f32]) -> std::result::Result<(), GemmError> + Sync,
    ) -> Result<()> {
        let failed = OnceLock::new();
        self.cpu.pool.run(self.blocks.len(), |i| {
            let Some(block) = self.blocks.get(i) else {
                return;
            };
            with_wide(numbers * block.rows.len() + 4 * NEAR, |wide| {
                if let Err(error) = task(block, wide) {
                    failed.get_or_init(|| error);
                }
            });
        });
        match failed.into_inner() {
            Some(error) => Err(self.cpu.refused(OP)(error)),
            None => Ok(()),
        }
    }
}

fn blocks(rows: usize, n: usize, offsets: Option<&[u32]>) -> Vec<Block> {
    let height = (MOST_NUMBERS / n.max(1) / 32 * 32).clamp(32, MOST_ROWS);
    let mut blocks = Vec::new();
    let mut cut = |group, rows: Range<usize>| {
        for start in rows.clone().step_by(height) {
            let rows = start..(start + height).min(rows.end);
            blocks.push(Block { group, rows });
        }
    };
    match offsets {
        None => cut(0, 0..rows),
        Some(offsets) => {
            let ends = offsets.iter().skip(1);
            for (group, (start, end)) in offsets.iter().zip(ends).enumerate() {
                cut(group, *start as usize..*end as usize);
            }
        }
    }
    blocks
}

/// Rows of a tensor that blocks write, each its own.
struct Out<'a, T> {
    data: DisjointMut<'a, T>,
    cols: usize,
}

impl<'a, T> Out<'a, T> {
    fn new(data: &'a mut [T], cols: usize) -> Self {
        let data = DisjointMut::new(data);
        Self { data, cols }
    }

    /// The rows of a block.
    ///
    /// # Safety
    /// No other thread uses them.
    #[expect(clippy::mut_from_ref, reason = "the rows of a block are one task's")]
    unsafe fn rows(&self, block: &Block) -> &mut [T] {
        let range = block.rows.start * self.cols..block.rows.end * self.cols;
        // SAFETY: the caller vouches for the rows.
        unsafe { self.data.slice(range) }
    }
}

pub(super) fn feed_forward_saved(
    cpu: &Cpu,
    of: &FeedForward<'_, Tensor>,
) -> Result<FeedForwardSaved<Tensor>> {
    if !is_blocked(cpu, of) {
        return of.by_parts(cpu);
    }
    let ready = Ready::new(cpu, of)?;
    let (rows, n, d) = (ready.rows, ready.n, ready.d);
    let x = of.x.numbers(OP)?;
    let between = Shape::matrix(rows, n);
    let mut blanks = [
        cpu.narrow(between)?,
        cpu.narrow(between)?,
        cpu.narrow(between)?,
    ];
    let mut output = cpu.blank(Shape::matrix(rows, d))?;
    let outputs = Out::new(output.values(), d);
    let narrow = blanks.each_mut().map(|blank| Out::new(blank.values(), n));
    ready.run(2 * n, |block, wide| {
        let a = x.rows(block.rows.clone(), ready.k)?;
        let numbers = block.rows.len() * n;
        let (gate, rest) = wide.split_at_mut(numbers);
        let up = rest.get_mut(..numbers).unwrap_or_default();
        let forward = (false, Finish::SET);
        ready.product(block, (a, 0), (gate, n), forward)?;
        ready.product(block, (a, 1), (up, n), forward)?;
        // SAFETY: blocks share out the rows (offsets ascend), and each is run once.
        let to = narrow.each_ref().map(|out| unsafe { out.rows(block) });
        let [gates, ups, gated] = to;
        let pieces = gate.chunks(NEAR).zip(up.chunks_mut(NEAR));
        let kept = gates.chunks_mut(NEAR).zip(ups.chunks_mut(NEAR));
        for ((gate, up), ((gates, ups), gated)) in pieces.zip(kept.zip(gated.chunks_mut(NEAR))) {
            narrow_all(cpu.level, gate, gates);
            narrow_all(cpu.level, up, ups);
            swiglu_in_place(cpu.level, gate, up);
            narrow_all(cpu.level, up, gated);
        }
        // SAFETY: as above.
        let to = unsafe { outputs.rows(block) };
        let gated = Factor::narrow(gated, block.rows.len(), n)?;
        ready.product(block, (gated, 2), (to, d), forward)
    })?;
    let [gate, up, gated] = blanks.map(super::tensor::NarrowBlank::done);
    Ok(FeedForwardSaved {
        output: output.done(),
        gate,
        up,
        gated,
    })
}

pub(super) fn feed_forward_backward(
    cpu: &Cpu,
    of: &FeedForward<'_, Tensor>,
    saved: &FeedForwardSaved<Tensor>,
    dy: &Tensor,
    to: [&mut Tensor; 3],
) -> Result<Tensor> {
    let narrow = (saved.gate.stored_bf16(), saved.up.stored_bf16());
    let (Some(gates), Some(ups), true) = (narrow.0, narrow.1, is_blocked(cpu, of)) else {
        return of.back_by_parts(cpu, saved, dy, to);
    };
    let ready = Ready::new(cpu, of)?;
    let (rows, [k, n, d]) = (ready.rows, [ready.k, ready.n, ready.d]);
    let between = Shape::matrix(rows, n);
    for (what, tensor, shape) in [
        ("gate", &saved.gate, between),
        ("up", &saved.up, between),
        ("gated", &saved.gated, between),
        ("dy", dy, Shape::matrix(rows, d)),
    ] {
        expect_shape(OP, what, shape, tensor.shape())?;
    }
    let mut slopes = [cpu.narrow(between)?, cpu.narrow(between)?];
    let mut dx = cpu.blank(of.x.shape())?;
    let dys = dy.numbers(OP)?;
    {
        let dx = Out::new(dx.values(), k);
        let slopes = slopes.each_mut().map(|blank| Out::new(blank.values(), n));
        ready.run(n, |block, wide| {
            let numbers = block.rows.len() * n;
            let (d_gated, near) = wide.split_at_mut(numbers);
            let a = dys.rows(block.rows.clone(), d)?;
            ready.product(block, (a, 2), (d_gated, n), (true, Finish::SET))?;
            // SAFETY: blocks share out the rows (offsets ascend), and each is run once.
            let [d_gate, d_up] = slopes.each_ref().map(|out| unsafe { out.rows(block) });
            let range = block.rows.start * n..block.rows.end * n;
            let given = (gates.get(range.clone()), ups.get(range));
            let given = (given.0.unwrap_or(&[]), given.1.unwrap_or(&[]));
            slopes_of(cpu, given, d_gated, [&mut *d_gate, &mut *d_up], near);
            // SAFETY: as above.
            let to = unsafe { dx.rows(block) };
            let [d_gate, d_up] = [d_gate, d_up].map(|d| Factor::narrow(d, block.rows.len(), n));
            ready.product(block, (d_gate?, 0), (&mut *to, k), (true, Finish::SET))?;
            ready.product(block, (d_up?, 1), (to, k), (true, Finish::ADD))
        })?;
    }
    let [d_gate, d_up] = slopes.map(super::tensor::NarrowBlank::done);
    let pairs = [(&d_gate, of.x), (&d_up, of.x), (dy, &saved.gated)];
    for ((left, right), d_weight) in pairs.into_iter().zip(to) {
        ready.add_gradient(left, right, d_weight)?;
    }
    Ok(dx.done())
}

/// d gate and d up of a block, rounded, from the saved gate and up and the slope of what they made.
fn slopes_of(
    cpu: &Cpu,
    (gates, ups): (&[bf16], &[bf16]),
    d_gated: &[f32],
    [d_gates, d_ups]: [&mut [bf16]; 2],
    near: &mut [f32],
) {
    let (gate, near) = near.split_at_mut(NEAR);
    let (up, near) = near.split_at_mut(NEAR);
    let (d_gate, d_up) = near.split_at_mut(NEAR);
    let given = gates
        .chunks(NEAR)
        .zip(ups.chunks(NEAR))
        .zip(d_gated.chunks(NEAR));
    let to = d_gates.chunks_mut(NEAR).zip(d_ups.chunks_mut(NEAR));
    for (((gates, ups), dy), (d_gates, d_ups)) in given.zip(to) {
        let len = dy.len();
        let [gate, up, d_gate, d_up] = [&mut *gate, &mut *up, &mut *d_gate, &mut *d_up]
            .map(|near| near.get_mut(..len).unwrap_or_default());
        widen_all(cpu.level, gates, gate);
        widen_all(cpu.level, ups, up);
        swiglu_backward_piece(cpu.level, [gate, up, dy], d_gate, d_up);
        narrow_all(cpu.level, d_gate, d_gates);
        narrow_all(cpu.level, d_up, d_ups);
    }
}

impl Ready<'_> {
    /// d_weight += dyᵀ x, by experts where there are such.
    fn add_gradient(&self, dy: &Tensor, x: &Tensor, d_weight: &mut Tensor) -> Result<()> {
        let (rows, [n, k]) = (self.rows, [dy.shape().cols(), x.shape().cols()]);
        let (dy, x) = (dy.numbers(OP)?, x.numbers(OP)?);
        let refused = self.cpu.refused(OP);
        let dy = dy.matrix(rows, n).map_err(&refused)?;
        let x = x.matrix(rows, k).map_err(&refused)?;
        let (gemm, update) = (self.cpu.gemm(), (self.cpu.precision, Update::Add));
        d_weight
            .change(OP, |d_weight| match self.offsets {
                None => gemm.tn(dy, x, MatMut::dense(d_weight, n, k)?, update),
                Some(offsets) => {
                    let shape = StackShape::dense(offsets.len() - 1, n, k);
                    gemm.grouped_tn(dy, x, offsets, StackMut::new(d_weight, shape)?, update)
                }
            })?
            .map_err(&refused)
    }
}
