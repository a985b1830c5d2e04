//! Sixteen floats at a time: the one vector type all element-wise kernels are written in.
//!
//! A kernel is written once, generic in [`Lanes`], and compiled for each instruction set by the
//! [`kernel`] macro. Every set sees the same sixteen lanes and the same reduction tree (lane i with
//! i + 8, then 4, 2, 1), so that results differ between sets only where one fuses a multiplication
//! with an addition and another does not.
//!
//! It does not choose the instruction set ([`Level::of`] reads it off [`CpuFeatures`]) and knows
//! no operation of the model. Read next: [`super::norm`], the shortest user.
#![expect(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    reason = "lanes must melt into the function that enables their instruction set; exponents are \
              small integers"
)]

use frugal_core::dtype::e4m3_to_f32;
use frugal_core::quant::{Opener, Plain};

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::gemm::operands::round_bf16;

#[cfg(target_arch = "x86_64")]
pub(super) use super::vector_x86::{Avx2, Avx512};

/// Lanes of a vector.
pub(super) const WIDTH: usize = 16;

/// The vector instructions kernels are compiled for; a variant holds the proof that they exist.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    /// What the target has everywhere.
    Portable(Portable),
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Level {
    /// The best level `features` allows.
    pub(super) fn of(features: CpuFeatures) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = Avx512::of(features) {
            return Self::Avx512(lanes);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = Avx2::of(features) {
            return Self::Avx2(lanes);
        }
        // NEON is part of the 64-bit ARM target itself: the portable code is compiled to it.
        debug_assert!(features.supports(Isa::Portable));
        Self::Portable(Portable)
    }
}

/// Operations on sixteen f32 lanes.
pub(super) trait Lanes: Opener {
    /// The sixteen lanes.
    type V: Copy;
    /// Whether there are few registers: kernels then keep less in them.
    const IS_NARROW: bool;
    /// The level these lanes are of, to call another kernel.
    fn level(self) -> Level;
    /// All lanes equal.
    fn splat(self, x: f32) -> Self::V;
    /// Sixteen numbers.
    fn load(self, x: &[f32; WIDTH]) -> Self::V;
    /// Up to sixteen numbers, zeros after them.
    fn load_part(self, x: &[f32]) -> Self::V;
    /// Writes all lanes.
    fn store(self, v: Self::V, x: &mut [f32; WIDTH]);
    /// Writes the first `x.len()` lanes, at most sixteen.
    fn store_part(self, v: Self::V, x: &mut [f32]);
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// 1 / a to within 2^-22, for a from 1 to 2^120.
    #[inline(always)]
    fn inverse(self, a: Self::V) -> Self::V {
        self.div(self.splat(1.0), a)
    }
    /// a b + c, rounded once where the instructions allow.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a b, likewise.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; b where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; b where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// Square root.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// a 2^n for integers n in -160..=160.
    fn scale(self, a: Self::V, n: Self::V) -> Self::V;
    /// The first `n` lanes of a, the others of b.
    fn first(self, n: usize, a: Self::V, b: Self::V) -> Self::V;
    /// The sum of all lanes.
    fn sum(self, a: Self::V) -> f32;
    /// The largest lane, of lanes that are numbers.
    fn largest(self, a: Self::V) -> f32;
    /// Lane j of result i is lane i of row j.
    fn transpose(self, rows: [Self::V; WIDTH]) -> [Self::V; WIDTH];
    /// Sixteen e4m3.
    #[inline(always)]
    fn e4m3(self, bytes: &[u8; WIDTH]) -> Self::V {
        self.load(&bytes.map(e4m3_to_f32))
    }
    /// The nearest bf16, ties to even; a NaN whose bits are not all ones stays one.
    #[inline(always)]
    fn to_bf16(self, a: Self::V) -> Self::V {
        let mut all = [0.0; WIDTH];
        self.store(a, &mut all);
        self.load(&all.map(round_bf16))
    }
    /// Byte j of result i is byte i of row j.
    #[inline(always)]
    fn transpose_bytes(self, rows: &[[u8; WIDTH]; WIDTH]) -> [[u8; WIDTH]; WIDTH] {
        let mut turned = [[0; WIDTH]; WIDTH];
        for (j, row) in rows.iter().enumerate() {
            for (turned, byte) in turned.iter_mut().zip(row) {
                if let Some(place) = turned.get_mut(j) {
                    *place = *byte;
                }
            }
        }
        turned
    }
}

/// e^x in each lane. Relative error below 2^-22 where the result is normal (measured over all
/// exponents in the tests); 0 below -104, infinity above 89, NaN stays NaN.
///
/// *Source*: reduction by multiples of ln 2 in two parts, polynomial of Cephes' `expf`.
#[inline(always)]
pub(super) fn exp<L: Lanes>(l: L, x: L::V) -> L::V {
    let x = l.min(l.splat(89.0), l.max(l.splat(-104.0), x));
    let n = l.round(l.mul(x, l.splat(std::f32::consts::LOG2_E)));
    let r = l.neg_mul_add(n, l.splat(0.693_359_4), x);
    let r = l.neg_mul_add(n, l.splat(-2.121_944_4e-4), r);
    let mut p = l.splat(1.987_569_1e-4);
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        0.166_666_65,
        0.5,
    ] {
        p = l.mul_add(p, r, l.splat(c));
    }
    let p = l.mul_add(p, l.mul(r, r), l.add(r, l.splat(1.0)));
    l.scale(p, n)
}

/// 1 / (1 + e^-x) in each lane; no less than 2^-120.
#[inline(always)]
pub(super) fn sigmoid<L: Lanes>(l: L, x: L::V) -> L::V {
    let e = exp(l, l.sub(l.splat(0.0), x));
    let most = l.splat(1.329_228e36);
    l.inverse(l.add(l.splat(1.0), l.min(most, e)))
}

/// The sum of a b over two slices of equal length. Four running sums, joined in a fixed order.
#[inline(always)]
pub(super) fn dot<L: Lanes>(l: L, a: &[f32], b: &[f32]) -> f32 {
    let zero = l.splat(0.0);
    let mut sums = [zero; 4];
    let (a_quads, a_rest) = a.as_chunks::<{ 4 * WIDTH }>();
    let (b_quads, b_rest) = b.as_chunks::<{ 4 * WIDTH }>();
    for (a, b) in a_quads.iter().zip(b_quads) {
        let (a, _) = a.as_chunks::<WIDTH>();
        let (b, _) = b.as_chunks::<WIDTH>();
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum = l.mul_add(l.load(a), l.load(b), *sum);
        }
    }
    let (a, a_tail) = a_rest.as_chunks::<WIDTH>();
    let (b, b_tail) = b_rest.as_chunks::<WIDTH>();
    for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
        *sum = l.mul_add(l.load(a), l.load(b), *sum);
    }
    let [s0, s1, s2, s3] = sums;
    let s3 = l.mul_add(l.load_part(a_tail), l.load_part(b_tail), s3);
    l.sum(l.add(l.add(s0, s1), l.add(s2, s3)))
}

/// y += factor x over two slices of equal length.
#[inline(always)]
pub(super) fn axpy<L: Lanes>(l: L, factor: f32, x: &[f32], y: &mut [f32]) {
    let factor = l.splat(factor);
    let (xs, x_tail) = x.as_chunks::<WIDTH>();
    let (ys, y_tail) = y.as_chunks_mut::<WIDTH>();
    for (x, y) in xs.iter().zip(ys) {
        l.store(l.mul_add(factor, l.load(x), l.load(y)), y);
    }
    let tail = l.mul_add(factor, l.load_part(x_tail), l.load_part(y_tail));
    l.store_part(tail, y_tail);
}

/// y += x over two slices of equal length.
#[inline(always)]
pub(super) fn add_into<L: Lanes>(l: L, x: &[f32], y: &mut [f32]) {
    let (xs, x_tail) = x.as_chunks::<WIDTH>();
    let (ys, y_tail) = y.as_chunks_mut::<WIDTH>();
    for (x, y) in xs.iter().zip(ys) {
        l.store(l.add(l.load(y), l.load(x)), y);
    }
    l.store_part(l.add(l.load_part(y_tail), l.load_part(x_tail)), y_tail);
}

/// Copies between slices of equal length. Runs are short (one head), so that a call of `memcpy`
/// would cost more than the copy.
#[inline(always)]
pub(super) fn copy<L: Lanes>(l: L, x: &[f32], y: &mut [f32]) {
    let (xs, x_tail) = x.as_chunks::<WIDTH>();
    let (ys, y_tail) = y.as_chunks_mut::<WIDTH>();
    for (x, y) in xs.iter().zip(ys) {
        l.store(l.load(x), y);
    }
    l.store_part(l.load_part(x_tail), y_tail);
}

/// Asks for the cache lines of `x` to be brought near.
#[inline(always)]
pub(super) fn prefetch<T>(x: &[T]) {
    prefetch_near(x, 0, size_of_val(x));
}

/// Asks for the cache lines of `len` bytes from `first` bytes after the beginning of `x`, which need not
/// exist.
#[inline(always)]
pub(super) fn prefetch_near<T>(x: &[T], first: usize, len: usize) {
    each_line(x, first, len, hint::near);
}

/// The same into the second cache, where the first has no room for them yet.
#[inline(always)]
pub(super) fn prefetch_second<T>(x: &[T], first: usize, len: usize) {
    each_line(x, first, len, hint::second);
}

#[inline(always)]
fn each_line<T>(x: &[T], first: usize, len: usize, ask: impl Fn(*const T)) {
    for at in (0..len).step_by(64) {
        ask(x.as_ptr().wrapping_byte_add(first + at));
    }
}

/// Asking for the cache line of an address, where there is an instruction for it.
mod hint {
    #[cfg(target_arch = "x86_64")]
    pub(super) use crate::cpu::vector_x86::{prefetch as near, prefetch_second as second};

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn near<T>(_: *const T) {}
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn second<T>(_: *const T) {}
}

/// Declares a function on slices that is compiled once for each [`Level`] and takes the level
/// first: `kernel! { fn name<L>(l, arg: Type, ...) { body using the lanes l } }`, optionally with a
/// constant: `fn name<L, const R: usize>`. Kernels call each other through [`Lanes::level`]; what is
/// large or used in several places is a kernel of its own rather than inlined.
macro_rules! kernel {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<$L:ident $(, const $C:ident: usize)?>(
            $lanes:ident $(, $arg:ident: $ty:ty)* $(,)?
        ) $(-> $ret:ty)? $body:block
    ) => {
        $(#[$meta])*
        $vis fn $name $(<const $C: usize>)? (
            level: $crate::cpu::vector::Level $(, $arg: $ty)*
        ) $(-> $ret)? {
            #[allow(clippy::inline_always, reason = "melts into the functions below")]
            #[inline(always)]
            fn generic<$L: $crate::cpu::vector::Lanes $(, const $C: usize)?>(
                $lanes: $L $(, $arg: $ty)*
            ) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512 $(<const $C: usize>)? (
                lanes: $crate::cpu::vector::Avx512 $(, $arg: $ty)*
            ) $(-> $ret)? {
                generic::<_ $(, $C)?>(lanes $(, $arg)*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2 $(<const $C: usize>)? (
                lanes: $crate::cpu::vector::Avx2 $(, $arg: $ty)*
            ) $(-> $ret)? {
                generic::<_ $(, $C)?>(lanes $(, $arg)*)
            }

            match level {
                $crate::cpu::vector::Level::Portable(lanes) => generic::<_ $(, $C)?>(lanes $(, $arg)*),
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::vector::Level::Avx2(lanes) => {
                    // SAFETY: the lanes are the proof that the processor has the instructions.
                    unsafe { avx2 $(::<$C>)? (lanes $(, $arg)*) }
                }
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::vector::Level::Avx512(lanes) => {
                    // SAFETY: as above.
                    unsafe { avx512 $(::<$C>)? (lanes $(, $arg)*) }
                }
            }
        }
    };
}
pub(super) use kernel;

/// Lanes in an array, left to the compiler to vectorise for its target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

impl Opener for Portable {
    #[inline(always)]
    fn plane<const BITS: usize, const RUN: usize, const UP: u32>(
        self,
        plane: &[u8],
        levels: &mut [u8],
    ) {
        Plain.plane::<BITS, RUN, UP>(plane, levels);
    }
    #[inline(always)]
    fn signed(self, bytes: &[u8; 32], levels: &mut [u8; 32]) {
        Plain.signed(bytes, levels);
    }
    #[inline(always)]
    fn look_up(self, table: &[i8; WIDTH], levels: &mut [u8; 32]) {
        Plain.look_up(table, levels);
    }
    #[inline(always)]
    fn half(self, bytes: [u8; 2]) -> f32 {
        Plain.half(bytes)
    }
    #[inline(always)]
    fn multiples<const N: usize>(self, of: f32, by: &[u8; N], to: &mut [f32; WIDTH]) {
        Plain.multiples(of, by, to);
    }
    #[inline(always)]
    fn signed_multiples(self, of: f32, by: &[i8; WIDTH], to: &mut [f32; WIDTH]) {
        Plain.signed_multiples(of, by, to);
    }
}

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; WIDTH] {
    std::array::from_fn(f)
}

#[expect(clippy::indexing_slicing, reason = "lane numbers are below sixteen")]
impl Lanes for Portable {
    type V = [f32; WIDTH];
    const IS_NARROW: bool = true;
    #[inline(always)]
    fn level(self) -> Level {
        Level::Portable(self)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; WIDTH]
    }
    #[inline(always)]
    fn load(self, x: &[f32; WIDTH]) -> Self::V {
        *x
    }
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::V {
        let mut v = [0.0; WIDTH];
        for (v, x) in v.iter_mut().zip(x) {
            *v = *x;
        }
        v
    }
    #[inline(always)]
    fn store(self, v: Self::V, x: &mut [f32; WIDTH]) {
        *x = v;
    }
    #[inline(always)]
    fn store_part(self, v: Self::V, x: &mut [f32]) {
        for (x, v) in x.iter_mut().zip(v) {
            *x = v;
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        if cfg!(target_arch = "aarch64") {
            each(|i| a[i].mul_add(b[i], c[i]))
        } else {
            each(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        if cfg!(target_arch = "aarch64") {
            each(|i| (-a[i]).mul_add(b[i], c[i]))
        } else {
            each(|i| c[i] - a[i] * b[i])
        }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        each(|i| a[i].sqrt())
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // Adding and taking away 1.5 2^23 leaves the nearest integer for |a| < 2^22, without the
        // library call that rounding is on plain x86-64.
        let magic = 12_582_912.0;
        each(|i| (a[i] + magic) - magic)
    }
    #[inline(always)]
    fn scale(self, a: Self::V, n: Self::V) -> Self::V {
        // In two steps: 2^n itself may be below the normal range.
        each(|i| {
            let half = (n[i] * 0.5) as i32;
            let rest = n[i] as i32 - half;
            a[i] * power_of_two(half) * power_of_two(rest)
        })
    }
    #[inline(always)]
    fn first(self, n: usize, a: Self::V, b: Self::V) -> Self::V {
        each(|i| if i < n { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        let mut a = a;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] += a[i + half];
            }
        }
        a[0]
    }
    #[inline(always)]
    fn largest(self, a: Self::V) -> f32 {
        let mut a = a;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] = if a[i] > a[i + half] {
                    a[i]
                } else {
                    a[i + half]
                };
            }
        }
        a[0]
    }
    #[inline(always)]
    fn transpose(self, rows: [Self::V; WIDTH]) -> [Self::V; WIDTH] {
        let mut rows = rows;
        transpose_array(&mut rows);
        rows
    }
}

/// Transposes in memory.
#[inline(never)]
#[expect(
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "lane numbers are below sixteen"
)]
pub(super) fn transpose_array(rows: &mut [[f32; WIDTH]; WIDTH]) {
    for i in 1..WIDTH {
        for j in 0..i {
            (rows[i][j], rows[j][i]) = (rows[j][i], rows[i][j]);
        }
    }
}

/// 2^n for n in the exponent range of normal numbers.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n + 127).cast_unsigned() << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    kernel! { fn exp_of<L>(l, x: &[f32; WIDTH], y: &mut [f32; WIDTH]) { l.store(exp(l, l.load(x)), y); } }
    kernel! { fn dot_of<L>(l, a: &[f32], b: &[f32]) -> f32 { dot(l, a, b) } }
    kernel! { fn axpy_of<L>(l, x: &[f32], y: &mut [f32]) { axpy(l, 3.0, x, y); } }
    kernel! { fn folds_of<L>(l, x: &[f32; WIDTH]) -> (f32, f32) { (l.sum(l.load(x)), l.largest(l.load(x))) } }
    kernel! { fn transposed<L>(l, x: &mut [[f32; WIDTH]; WIDTH]) {
        let rows = l.transpose(x.map(|row| l.load(&row)));
        for (row, x) in rows.into_iter().zip(x) { l.store(row, x); }
    } }

    fn levels() -> Vec<Level> {
        CpuFeatures::detect().available().map(Level::of).collect()
    }

    #[test]
    fn exp_keeps_its_bound_and_its_edges() {
        for level in levels() {
            let mut worst = 0.0_f64;
            for step in 0..20_000 {
                let x: [f32; WIDTH] =
                    std::array::from_fn(|i| -87.0 + (step * 16 + i) as f32 * (175.0 / 320_000.0));
                let mut y = [0.0; WIDTH];
                exp_of(level, &x, &mut y);
                for (x, y) in x.into_iter().zip(y) {
                    let exact = f64::from(x).exp();
                    worst = worst.max((f64::from(y) / exact - 1.0).abs());
                }
            }
            assert!(worst < 2.0_f64.powi(-22), "{level:?}: {worst:e}");
            let mut x = [0.0; WIDTH];
            let edges = [
                f32::NEG_INFINITY,
                -200.0,
                -103.0,
                0.0,
                90.0,
                f32::INFINITY,
                f32::NAN,
            ];
            x[..edges.len()].copy_from_slice(&edges);
            let mut y = [0.0; WIDTH];
            exp_of(level, &x, &mut y);
            assert_eq!(y[0].to_bits(), 0);
            assert_eq!(y[1].to_bits(), 0);
            assert!(y[2] > 0.0 && y[2] < 1e-44);
            assert!((y[3] - 1.0).abs() < f32::EPSILON);
            assert!(y[4].is_infinite() && y[5].is_infinite() && y[6].is_nan());
        }
    }

    kernel! { fn sigmoid_of<L>(l, x: &[f32; WIDTH], y: &mut [f32; WIDTH]) { l.store(sigmoid(l, l.load(x)), y); } }

    #[test]
    fn sigmoid_keeps_its_bound_and_its_edges() {
        for level in levels() {
            for step in -160..160_i16 {
                let x: [f32; WIDTH] =
                    std::array::from_fn(|i| f32::from(step) * 0.5 + i as f32 * 0.03);
                let mut y = [0.0; WIDTH];
                sigmoid_of(level, &x, &mut y);
                for (x, y) in x.into_iter().zip(y) {
                    let exact = 1.0 / (1.0 + f64::from(-x).exp());
                    let error = (f64::from(y) / exact - 1.0).abs();
                    assert!(error < 2.0_f64.powi(-20), "{level:?} {x}: {error:e}");
                }
            }
            let mut y = [0.0; WIDTH];
            let mut x = [f32::NAN; WIDTH];
            x[..4].copy_from_slice(&[-500.0, 500.0, f32::INFINITY, f32::NEG_INFINITY]);
            sigmoid_of(level, &x, &mut y);
            assert!(
                y[0] < 1e-36 && y[3] < 1e-36 && y[4].is_nan(),
                "{level:?} {y:?}"
            );
            assert!((y[1] - 1.0).abs() < 1e-6 && (y[2] - 1.0).abs() < 1e-6);
        }
    }

    kernel! { fn e4m3_of<L>(l, x: &[u8; WIDTH], y: &mut [[f32; WIDTH]; 2]) {
        let [plain, narrow] = y;
        l.store(l.e4m3(x), plain);
        l.store(l.to_bf16(l.mul(l.e4m3(x), l.splat(0.3))), narrow);
    } }
    kernel! { fn bytes_of<L>(l, x: &[[u8; WIDTH]; WIDTH]) -> [[u8; WIDTH]; WIDTH] { l.transpose_bytes(x) } }

    #[test]
    fn every_level_reads_every_e4m3_and_turns_bytes() {
        for level in levels() {
            for first in (0..=u8::MAX).step_by(WIDTH) {
                let x: [u8; WIDTH] = std::array::from_fn(|i| first + i as u8);
                let mut y = [[0.0; WIDTH]; 2];
                e4m3_of(level, &x, &mut y);
                for (i, byte) in x.into_iter().enumerate() {
                    let exact = e4m3_to_f32(byte);
                    let narrow = half::bf16::from_f32(exact * 0.3).to_f32();
                    assert_eq!(y[0][i].to_bits(), exact.to_bits(), "{level:?} {byte:x}");
                    assert_eq!(y[1][i].to_bits(), narrow.to_bits(), "{level:?} {byte:x}");
                }
            }
            let x = std::array::from_fn(|i| std::array::from_fn(|j| (i * 16 + j) as u8));
            let y = bytes_of(level, &x);
            for i in 0..WIDTH {
                for j in 0..WIDTH {
                    assert_eq!(y[j][i], x[i][j], "{level:?} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn dot_and_axpy_take_every_length() {
        for level in levels() {
            for len in 0..200 {
                let a: Vec<f32> = (0..len).map(|i| (i % 7) as f32 - 3.0).collect();
                let b: Vec<f32> = (0..len).map(|i| (i % 5) as f32 - 2.0).collect();
                let exact: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
                assert!((dot_of(level, &a, &b) - exact).abs() < 1e-6);
                let mut y = b.clone();
                axpy_of(level, &a, &mut y);
                for ((a, b), y) in a.iter().zip(&b).zip(y) {
                    assert!((3.0 * a + b - y).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn every_level_folds_by_the_same_tree_and_transposes() {
        let x: [f32; WIDTH] = std::array::from_fn(|i| 1.0 / (i as f32 + 0.3) - 1.0);
        let (sum, largest) = folds_of(Level::Portable(Portable), &x);
        for level in levels() {
            let got = folds_of(level, &x);
            assert_eq!(got.0.to_bits(), sum.to_bits(), "{level:?}");
            assert_eq!(got.1.to_bits(), largest.to_bits(), "{level:?}");
            let mut square: [[f32; WIDTH]; WIDTH] =
                std::array::from_fn(|i| std::array::from_fn(|j| (i * 16 + j) as f32));
            transposed(level, &mut square);
            for (i, row) in square.iter().enumerate() {
                for (j, x) in row.iter().enumerate() {
                    assert!((x - (j * 16 + i) as f32).abs() < 0.5, "{level:?} {i} {j}");
                }
            }
        }
    }
}
