//! Parameter updates and the gradient norm.
//!
//! AdamW is one pass over four arrays in f32; its factors are formed in f64. Muon forms its
//! Newton-Schulz products with [`super::gemm`] in f32 whatever the policy, since errors grow fourfold
//! an iteration, and never transposes: a tall matrix uses XᵀX. The norm is summed in f64, in pieces of fixed size.
//! Meaning: `frugal_core::ops::optim`.
#![expect(
    clippy::cast_possible_truncation,
    reason = "factors are formed in f64 and used in f32"
)]

use frugal_core::backend::{AdamW, Muon};
use frugal_core::error::Result;
use frugal_core::ops::check::{self, MuonDims};
use frugal_core::ops::optim::{
    MUON_NORM_FLOOR, MUON_SIZE, NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, corrections,
};

use super::backend::Cpu;
use super::gemm::{Finish, Mat, MatMut, PackedWeight, Precision, Stack, Update};
use super::pool::DisjointMut;
use super::tensor::Tensor;
use super::vector::{Lanes, WIDTH, kernel};

/// Numbers of a piece of work.
const PIECE: usize = 16 * 1024;

fn piece(x: &[f32], i: usize) -> &[f32] {
    let end = ((i + 1) * PIECE).min(x.len());
    x.get(i * PIECE..end).unwrap_or(&[])
}

/// Factors of an AdamW step.
#[derive(Clone, Copy)]
struct Factors {
    gradient: f32,
    keep: [f32; 2],
    take: [f32; 2],
    /// 1 / (1 - beta2^t).
    second: f32,
    /// learning rate / (1 - beta1^t).
    rate: f32,
    decay: f32,
    epsilon: f32,
}

impl Factors {
    fn of(step: &AdamW) -> Self {
        let [first, second] = corrections(step);
        let rate = f64::from(step.learning_rate);
        Self {
            gradient: step.gradient_scale,
            keep: [step.beta1, step.beta2],
            take: [step.beta1, step.beta2].map(|beta| (1.0 - f64::from(beta)) as f32),
            second: (1.0 / second) as f32,
            rate: (rate / first) as f32,
            decay: (rate * f64::from(step.weight_decay)) as f32,
            epsilon: step.epsilon,
        }
    }
}

/// One step of sixteen numbers: (parameter, first moment, second moment).
#[expect(clippy::inline_always, reason = "melts into the kernel")]
#[inline(always)]
fn adamw_lanes<L: Lanes>(l: L, f: Factors, state: [L::V; 3], g: L::V) -> [L::V; 3] {
    let [p, m, v] = state;
    let g = l.mul(g, l.splat(f.gradient));
    let m = l.mul_add(l.splat(f.keep[0]), m, l.mul(l.splat(f.take[0]), g));
    let v = l.mul_add(
        l.splat(f.keep[1]),
        v,
        l.mul(l.mul(l.splat(f.take[1]), g), g),
    );
    let size = l.add(l.sqrt(l.mul(v, l.splat(f.second))), l.splat(f.epsilon));
    let kept = l.neg_mul_add(l.splat(f.decay), p, p);
    let p = l.neg_mul_add(l.splat(f.rate), l.div(m, size), kept);
    [p, m, v]
}

kernel! {
    fn adamw_piece<L>(l, factors: Factors, state: [&mut [f32]; 3], gradient: &[f32]) {
        let [p, m, v] = state;
        let (p_parts, p_tail) = p.as_chunks_mut::<WIDTH>();
        let (m_parts, m_tail) = m.as_chunks_mut::<WIDTH>();
        let (v_parts, v_tail) = v.as_chunks_mut::<WIDTH>();
        let (g_parts, g_tail) = gradient.as_chunks::<WIDTH>();
        for ((p, m), (v, g)) in p_parts.iter_mut().zip(m_parts).zip(v_parts.iter_mut().zip(g_parts)) {
            let state = [l.load(p), l.load(m), l.load(v)];
            let [new_p, new_m, new_v] = adamw_lanes(l, factors, state, l.load(g));
            l.store(new_p, p);
            l.store(new_m, m);
            l.store(new_v, v);
        }
        let state = [l.load_part(p_tail), l.load_part(m_tail), l.load_part(v_tail)];
        let [new_p, new_m, new_v] = adamw_lanes(l, factors, state, l.load_part(g_tail));
        l.store_part(new_p, p_tail);
        l.store_part(new_m, m_tail);
        l.store_part(new_v, v_tail);
    }
}

pub(super) fn adamw(
    cpu: &Cpu,
    param: &mut Tensor,
    gradient: &Tensor,
    [first, second]: [&mut Tensor; 2],
    step: &AdamW,
) -> Result<()> {
    const OP: &str = "adamw";
    let moments = [first.shape(), second.shape()];
    check::adamw(param.shape(), gradient.shape(), moments, step)?;
    for tensor in [&*param, &*first, &*second] {
        tensor.expect_numbers(OP)?;
    }
    let gradient = gradient.floats(OP)?;
    let gradient: &[f32] = &gradient;
    let factors = Factors::of(step);
    param.change(OP, |p| {
        first.change(OP, |m| {
            second.change(OP, |v| {
                let m = DisjointMut::new(m);
                cpu.pool
                    .for_each_chunk_pair((p, PIECE), (v, PIECE), |i, p, v| {
                        // SAFETY: pieces of different indices do not overlap, and each is run once.
                        let m = unsafe { m.slice(i * PIECE..i * PIECE + p.len()) };
                        adamw_piece(cpu.level, factors, [p, m, v], piece(gradient, i));
                    });
            })
        })
    })??
}

kernel! {
    /// The sum of squares, in eight running sums of f64.
    fn squares<L>(_l, x: &[f32]) -> f64 {
        let mut sums = [0.0_f64; 8];
        let (parts, tail) = x.as_chunks::<8>();
        for part in parts {
            for (sum, x) in sums.iter_mut().zip(part) {
                *sum += f64::from(*x) * f64::from(*x);
            }
        }
        for (sum, x) in sums.iter_mut().zip(tail) {
            *sum += f64::from(*x) * f64::from(*x);
        }
        sums.iter().sum()
    }
}

fn sum_of_squares(cpu: &Cpu, x: &[f32]) -> f64 {
    let mut sums = vec![0.0; x.len().div_ceil(PIECE)];
    cpu.pool.for_each_chunk(&mut sums, 1, |i, sum| {
        sum.fill(squares(cpu.level, piece(x, i)));
    });
    sums.iter().sum()
}

pub(super) fn norm_squared(cpu: &Cpu, tensors: &[&Tensor]) -> Result<f64> {
    let mut total = 0.0;
    for tensor in tensors {
        total += sum_of_squares(cpu, &tensor.floats("norm_squared")?);
    }
    Ok(total)
}

kernel! {
    /// b = mu b + g; u = g + mu b, with g scaled first.
    fn nesterov<L>(_l, factors: (f32, f32), gradient: &[f32], b: &mut [f32], u: &mut [f32]) {
        let (momentum, scale) = factors;
        for ((b, u), g) in b.iter_mut().zip(u).zip(gradient) {
            let g = g * scale;
            *b = momentum * *b + g;
            *u = g + momentum * *b;
        }
    }
}

kernel! {
    /// y = a x.
    fn scaled<L>(_l, a: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = a * x;
        }
    }
}

kernel! {
    /// s = a s + b f.
    fn mixed<L>(_l, factors: (f32, f32), s: &mut [f32], f: &[f32]) {
        let (a, b) = factors;
        for (s, f) in s.iter_mut().zip(f) {
            *s = a * *s + b * f;
        }
    }
}

pub(super) fn muon(
    cpu: &Cpu,
    param: &mut Tensor,
    gradient: &Tensor,
    momentum: &mut Tensor,
    step: &Muon,
) -> Result<()> {
    const OP: &str = "muon";
    let dims = check::muon(param.shape(), gradient.shape(), momentum.shape(), step)?;
    param.expect_numbers(OP)?;
    momentum.expect_numbers(OP)?;
    let gradient = gradient.floats(OP)?;
    let each = dims.n * dims.k;
    let size = MUON_SIZE * (dims.n.max(dims.k) as f64).sqrt();
    let rate = f64::from(step.learning_rate);
    let (keep, take) = (
        (1.0 - rate * f64::from(step.weight_decay)) as f32,
        (-rate * size) as f32,
    );
    if each == 0 {
        return Ok(());
    }
    param.change(OP, |param| {
        momentum.change(OP, |momentum| -> Result<()> {
            let matrices = param
                .chunks_exact_mut(each)
                .zip(momentum.chunks_exact_mut(each));
            for ((param, momentum), gradient) in matrices.zip(gradient.chunks_exact(each)) {
                let mut update = cpu.memory.take_f32(each);
                let update = update.f32s_mut().get_mut(..each).unwrap_or_default();
                let factors = (step.momentum, step.gradient_scale);
                nesterov(cpu.level, factors, gradient, momentum, update);
                orthogonalise(cpu, update, dims)?;
                mixed(cpu.level, (keep, take), param, update);
            }
            Ok(())
        })
    })??
}

/// Newton-Schulz in place: singular values go near 1.
fn orthogonalise(cpu: &Cpu, x: &mut [f32], dims: MuonDims) -> Result<()> {
    let MuonDims { n, k, .. } = dims;
    let refused = cpu.refused("muon");
    let short = n.min(k);
    let norm = sum_of_squares(cpu, x).sqrt() + MUON_NORM_FLOOR;
    let [mut square, mut fourth, mut next] =
        [short * short, short * short, n * k].map(|len| cpu.memory.take_f32(len));
    let square = square
        .f32s_mut()
        .get_mut(..short * short)
        .unwrap_or_default();
    let fourth = fourth
        .f32s_mut()
        .get_mut(..short * short)
        .unwrap_or_default();
    let next = next.f32s_mut().get_mut(..n * k).unwrap_or_default();
    scaled(cpu.level, (1.0 / norm) as f32, x, next);
    x.copy_from_slice(next);
    let [a, b, c] = NEWTON_SCHULZ.map(|c| c as f32);
    let gemm = cpu.gemm();
    let mut packs = [(); 2].map(|()| PackedWeight::new(Precision::F32));
    let [pack, square_pack] = &mut packs;
    for _ in 0..NEWTON_SCHULZ_STEPS {
        let view = Mat::dense(x, n, k).map_err(&refused)?;
        let out = MatMut::dense(square, short, short).map_err(&refused)?;
        if n <= k {
            gemm.repack(pack, Stack::from(view));
            gemm.nt(view, pack, out, Finish::SET).map_err(&refused)?;
        } else {
            gemm.tn(view, view, out, (Precision::F32, Update::Set))
                .map_err(&refused)?;
        }
        // The square is symmetric, so its product with its transpose is its own square.
        let symmetric = Mat::dense(square, short, short).map_err(&refused)?;
        let out = MatMut::dense(fourth, short, short).map_err(&refused)?;
        gemm.repack(square_pack, Stack::from(symmetric));
        gemm.nt(symmetric, square_pack, out, Finish::SET)
            .map_err(&refused)?;
        mixed(cpu.level, (b, c), square, fourth);
        scaled(cpu.level, a, x, next);
        let polynomial = Mat::dense(square, short, short).map_err(&refused)?;
        let out = MatMut::dense(next, n, k).map_err(&refused)?;
        if n <= k {
            gemm.nn(polynomial, pack, out, Finish::ADD)
                .map_err(&refused)?;
        } else {
            gemm.repack(square_pack, Stack::from(polynomial));
            let view = Mat::dense(x, n, k).map_err(&refused)?;
            gemm.nt(view, square_pack, out, Finish::ADD)
                .map_err(&refused)?;
        }
        x.copy_from_slice(next);
    }
    Ok(())
}
