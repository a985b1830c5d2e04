//! The operations on single numbers: SwiGLU with its backward, add, and adding in place.
//!
//! Meaning: `frugal_core::ops::elementwise`. The exponential is [`super::vector::exp`].

use frugal_core::error::Result;
use frugal_core::ops::check;

use super::backend::Cpu;
use super::tensor::Tensor;
use super::vector::{Lanes, WIDTH, add_into, kernel, sigmoid};

/// Numbers of a piece of work.
const PIECE: usize = 16 * 1024;

pub(super) fn swiglu(cpu: &Cpu, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    check::swiglu(gate.shape(), up.shape())?;
    let (gate_values, up_values) = (gate.floats("swiglu")?, up.floats("swiglu")?);
    let (g, u): (&[f32], &[f32]) = (&gate_values, &up_values);
    cpu.produce(gate.shape(), |y| {
        cpu.pool.for_each_chunk(y, PIECE, |i, y| {
            swiglu_piece(cpu.level, piece(g, i), piece(u, i), y);
        });
    })
}

pub(super) fn swiglu_backward(
    cpu: &Cpu,
    gate: &Tensor,
    up: &Tensor,
    dy: &Tensor,
) -> Result<(Tensor, Tensor)> {
    const OP: &str = "swiglu_backward";
    check::swiglu_backward(gate.shape(), up.shape(), dy.shape())?;
    let (gate_values, up_values, dy_values) = (gate.floats(OP)?, up.floats(OP)?, dy.floats(OP)?);
    let (g, u, d): (&[f32], &[f32], &[f32]) = (&gate_values, &up_values, &dy_values);
    cpu.produce_pair([gate.shape(), up.shape()], |d_gate, d_up| {
        cpu.pool
            .for_each_chunk_pair((d_gate, PIECE), (d_up, PIECE), |i, d_gate, d_up| {
                let given = [piece(g, i), piece(u, i), piece(d, i)];
                swiglu_backward_piece(cpu.level, given, d_gate, d_up);
            });
    })
}

pub(super) fn add(cpu: &Cpu, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check::add(a.shape(), b.shape())?;
    let (a_values, b_values) = (a.floats("add")?, b.floats("add")?);
    let (left, right): (&[f32], &[f32]) = (&a_values, &b_values);
    cpu.produce(a.shape(), |y| {
        cpu.pool.for_each_chunk(y, PIECE, |i, y| {
            add_piece(cpu.level, piece(left, i), piece(right, i), y);
        });
    })
}

pub(super) fn accumulate(cpu: &Cpu, dst: &mut Tensor, src: &Tensor) -> Result<()> {
    check::accumulate(dst.shape(), src.shape())?;
    let values = src.floats("accumulate")?;
    let values: &[f32] = &values;
    dst.change("accumulate", |dst| {
        cpu.pool.for_each_chunk(dst, PIECE, |i, dst| {
            add_to_piece(cpu.level, piece(values, i), dst);
        });
    })
}

fn piece(x: &[f32], i: usize) -> &[f32] {
    let end = ((i + 1) * PIECE).min(x.len());
    x.get(i * PIECE..end).unwrap_or(&[])
}

kernel! {
    /// Replaces `up` by silu(gate) * up.
    pub(super) fn swiglu_in_place<L>(l, gate: &[f32], up: &mut [f32]) {
        let (g_parts, g_tail) = gate.as_chunks::<WIDTH>();
        let (u_parts, u_tail) = up.as_chunks_mut::<WIDTH>();
        for (g, u) in g_parts.iter().zip(u_parts) {
            let g = l.load(g);
            l.store(l.mul(l.mul(g, sigmoid(l, g)), l.load(u)), u);
        }
        let g = l.load_part(g_tail);
        l.store_part(l.mul(l.mul(g, sigmoid(l, g)), l.load_part(u_tail)), u_tail);
    }
}

kernel! {
    fn swiglu_piece<L>(l, gate: &[f32], up: &[f32], y: &mut [f32]) {
        let (g_parts, g_tail) = gate.as_chunks::<WIDTH>();
        let (u_parts, u_tail) = up.as_chunks::<WIDTH>();
        let (y_parts, y_tail) = y.as_chunks_mut::<WIDTH>();
        for ((g, u), y) in g_parts.iter().zip(u_parts).zip(y_parts) {
            let g = l.load(g);
            l.store(l.mul(l.mul(g, sigmoid(l, g)), l.load(u)), y);
        }
        let g = l.load_part(g_tail);
        l.store_part(l.mul(l.mul(g, sigmoid(l, g)), l.load_part(u_tail)), y_tail);
    }
}

/// (d gate, d up) of sixteen numbers.
#[expect(clippy::inline_always, reason = "melts into the kernel")]
#[inline(always)]
fn swiglu_slopes<L: Lanes>(l: L, g: L::V, u: L::V, dy: L::V) -> (L::V, L::V) {
    let s = sigmoid(l, g);
    let one = l.splat(1.0);
    let slope = l.mul_add(g, l.sub(one, s), one);
    let scaled = l.mul(dy, s);
    (l.mul(l.mul(scaled, u), slope), l.mul(scaled, g))
}

kernel! {
    pub(super) fn swiglu_backward_piece<L>(l, given: [&[f32]; 3], d_gate: &mut [f32], d_up: &mut [f32]) {
        let [g, u, dy] = given;
        let (g_parts, g_tail) = g.as_chunks::<WIDTH>();
        let (u_parts, u_tail) = u.as_chunks::<WIDTH>();
        let (dy_parts, dy_tail) = dy.as_chunks::<WIDTH>();
        let (dg_parts, dg_tail) = d_gate.as_chunks_mut::<WIDTH>();
        let (du_parts, du_tail) = d_up.as_chunks_mut::<WIDTH>();
        let inputs = g_parts.iter().zip(u_parts).zip(dy_parts);
        for (((g, u), dy), (dg, du)) in inputs.zip(dg_parts.iter_mut().zip(du_parts)) {
            let slopes = swiglu_slopes(l, l.load(g), l.load(u), l.load(dy));
            l.store(slopes.0, dg);
            l.store(slopes.1, du);
        }
        let (g, u, dy) = (l.load_part(g_tail), l.load_part(u_tail), l.load_part(dy_tail));
        let slopes = swiglu_slopes(l, g, u, dy);
        l.store_part(slopes.0, dg_tail);
        l.store_part(slopes.1, du_tail);
    }
}

kernel! {
    fn add_piece<L>(l, a: &[f32], b: &[f32], y: &mut [f32]) {
        let (a_parts, a_tail) = a.as_chunks::<WIDTH>();
        let (b_parts, b_tail) = b.as_chunks::<WIDTH>();
        let (y_parts, y_tail) = y.as_chunks_mut::<WIDTH>();
        for ((a, b), y) in a_parts.iter().zip(b_parts).zip(y_parts) {
            l.store(l.add(l.load(a), l.load(b)), y);
        }
        l.store_part(l.add(l.load_part(a_tail), l.load_part(b_tail)), y_tail);
    }
}

kernel! {
    fn add_to_piece<L>(l, x: &[f32], y: &mut [f32]) {
        add_into(l, x, y);
    }
}
