//! The lanes of x86-64: two 256-bit registers, or one of 512 bits.
//!
//! Next: [`super::vector`], whose trait this implements.
#![expect(
    clippy::inline_always,
    reason = "lanes must melt into the function that enables their instruction set"
)]
#![allow(
    clippy::wildcard_imports,
    reason = "the names of instructions are unmistakable"
)]

use std::arch::x86_64::*;

use super::detect::{CpuFeatures, Isa};
use super::vector::{Lanes, Level, WIDTH, transpose_array};

/// Asks for the cache line of an address.
#[inline(always)]
pub(super) fn prefetch<T>(at: *const T) {
    // SAFETY: the instruction is in every x86-64 processor and only a hint; any address will do.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// The same, to the second cache.
#[inline(always)]
pub(super) fn prefetch_second<T>(at: *const T) {
    // SAFETY: as above.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
}

/// Proof of AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn of(features: CpuFeatures) -> Option<Self> {
        features.supports(Isa::Avx2).then_some(Self(()))
    }
}

/// Proof of AVX-512 F, BW, DQ and VL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn of(features: CpuFeatures) -> Option<Self> {
        features.supports(Isa::Avx512).then_some(Self(()))
    }
}

/// A method of one instruction on registers.
macro_rules! wide {
    ($name:ident($($arg:ident),*) = $instruction:expr) => {
        #[inline(always)]
        fn $name(self, $($arg: Self::V),*) -> Self::V {
            // SAFETY: the lanes are the proof that the processor has the instruction.
            unsafe { $instruction($($arg),*) }
        }
    };
}

/// A method of one instruction on each half.
macro_rules! halves {
    ($name:ident($($arg:ident),*) = $instruction:expr) => {
        #[inline(always)]
        fn $name(self, $($arg: Self::V),*) -> Self::V {
            // SAFETY: the lanes are the proof that the processor has the instruction.
            let low = unsafe { $instruction($($arg.0),*) };
            // SAFETY: as above.
            let high = unsafe { $instruction($($arg.1),*) };
            (low, high)
        }
    };
}

impl Lanes for Avx512 {
    type V = __m512;
    const IS_NARROW: bool = false;
    #[inline(always)]
    fn level(self) -> Level {
        Level::Avx512(self)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: the lanes are the proof that the processor has the instruction.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, x: &[f32; WIDTH]) -> Self::V {
        // SAFETY: as above; the reference covers the sixteen numbers read.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::V {
        // SAFETY: as above; the mask leaves out what lies after the slice.
        unsafe { _mm512_maskz_loadu_ps(mask(x.len()), x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: Self::V, x: &mut [f32; WIDTH]) {
        // SAFETY: as above; the reference covers the sixteen numbers written.
        unsafe { _mm512_storeu_ps(x.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_part(self, v: Self::V, x: &mut [f32]) {
        // SAFETY: as above; the mask leaves out what lies after the slice.
        unsafe { _mm512_mask_storeu_ps(x.as_mut_ptr(), mask(x.len()), v) }
    }
    wide!(add(a, b) = _mm512_add_ps);
    wide!(sub(a, b) = _mm512_sub_ps);
    wide!(mul(a, b) = _mm512_mul_ps);
    wide!(div(a, b) = _mm512_div_ps);
    /// The processor's estimate to 14 bits and one step of Newton's: a third of a division's time.
    #[inline(always)]
    fn inverse(self, a: Self::V) -> Self::V {
        // SAFETY: as above.
        let estimate = unsafe { _mm512_rcp14_ps(a) };
        let error = self.neg_mul_add(a, estimate, self.splat(1.0));
        self.mul_add(estimate, error, estimate)
    }
    wide!(mul_add(a, b, c) = _mm512_fmadd_ps);
    wide!(neg_mul_add(a, b, c) = _mm512_fnmadd_ps);
    wide!(max(a, b) = _mm512_max_ps);
    wide!(min(a, b) = _mm512_min_ps);
    wide!(sqrt(a) = _mm512_sqrt_ps);
    wide!(round(a) = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>);
    wide!(scale(a, n) = _mm512_scalef_ps);
    #[inline(always)]
    fn first(self, n: usize, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { _mm512_mask_mov_ps(b, mask(n), a) }
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        // SAFETY: as above.
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn largest(self, a: Self::V) -> f32 {
        // SAFETY: as above.
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    fn transpose(self, rows: [Self::V; WIDTH]) -> [Self::V; WIDTH] {
        // SAFETY: as above.
        unsafe { transpose_512(rows) }
    }
    #[inline(always)]
    fn e4m3(self, bytes: &[u8; WIDTH]) -> Self::V {
        // SAFETY: as above.
        let numbers = unsafe { _mm512_cvtph_ps(e4m3_to_f16(bytes)) };
        self.mul(numbers, self.splat(E4M3_OF_F16))
    }
    #[inline(always)]
    fn to_bf16(self, a: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { to_bf16_512(a) }
    }
    #[inline(always)]
    fn transpose_bytes(self, rows: &[[u8; WIDTH]; WIDTH]) -> [[u8; WIDTH]; WIDTH] {
        // SAFETY: as above.
        unsafe { transpose_bytes(rows) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn to_bf16_512(a: __m512) -> __m512 {
    let bits = _mm512_castps_si512(a);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    _mm512_castsi512_ps(_mm512_and_si512(sum, _mm512_set1_epi32(!0xffff)))
}

/// What the f16 with the bits of an e4m3 is multiplied by: its exponents count from 15 rather than 7.
const E4M3_OF_F16: f32 = 256.0;

/// Sign, exponent and fraction of e4m3 in the places of f16's. Subnormals are those of f16, and so is
/// NaN made to be.
#[inline]
#[target_feature(enable = "avx2")]
fn e4m3_to_f16(bytes: &[u8; WIDTH]) -> __m256i {
    // SAFETY: sixteen bytes.
    let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    let places = _mm256_set1_epi16(0xbf80_u16.cast_signed());
    let half = _mm256_and_si256(_mm256_slli_epi16::<7>(_mm256_cvtepi8_epi16(bytes)), places);
    let nan = _mm256_set1_epi16(0x3f80);
    let is_nan = _mm256_cmpeq_epi16(_mm256_and_si256(half, nan), nan);
    let to_nan = _mm256_set1_epi16(0x3f80 ^ 0x7e00);
    _mm256_xor_si256(half, _mm256_and_si256(is_nan, to_nan))
}

/// Four rounds, each of which puts the bytes of row i + 8 between those of row i.
#[inline]
#[target_feature(enable = "sse2")]
#[expect(clippy::indexing_slicing, reason = "row numbers are below sixteen")]
fn transpose_bytes(rows: &[[u8; WIDTH]; WIDTH]) -> [[u8; WIDTH]; WIDTH] {
    let mut all = [_mm_setzero_si128(); WIDTH];
    for (to, row) in all.iter_mut().zip(rows) {
        // SAFETY: sixteen bytes.
        *to = unsafe { _mm_loadu_si128(row.as_ptr().cast()) };
    }
    for _ in 0..4 {
        let from = all;
        for i in 0..WIDTH / 2 {
            all[2 * i] = _mm_unpacklo_epi8(from[i], from[i + WIDTH / 2]);
            all[2 * i + 1] = _mm_unpackhi_epi8(from[i], from[i + WIDTH / 2]);
        }
    }
    let mut turned = [[0; WIDTH]; WIDTH];
    for (to, row) in turned.iter_mut().zip(all) {
        // SAFETY: sixteen bytes.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), row) };
    }
    turned
}

/// The first `len` of sixteen lanes.
#[inline(always)]
const fn mask(len: usize) -> __mmask16 {
    if len >= WIDTH {
        u16::MAX
    } else {
        (1 << len) - 1
    }
}

/// Four rounds: pairs of rows, of pairs, of quarters, of halves.
#[inline]
#[target_feature(enable = "avx512f")]
#[expect(clippy::large_types_passed_by_value, reason = "sixteen registers")]
fn transpose_512(rows: [__m512; WIDTH]) -> [__m512; WIDTH] {
    let [
        r0,
        r1,
        r2,
        r3,
        r4,
        r5,
        r6,
        r7,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
    ] = rows;
    // Each group of four rows becomes four registers whose quarter q holds columns
    // 4 q + c of the group.
    let quad = |a, b, c, d| {
        let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let (ab_low, ab_high) = (_mm512_castps_pd(ab_low), _mm512_castps_pd(ab_high));
        let (cd_low, cd_high) = (_mm512_castps_pd(cd_low), _mm512_castps_pd(cd_high));
        [
            _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low)),
            _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high)),
        ]
    };
    let [a0, a1, a2, a3] = quad(r0, r1, r2, r3);
    let [b0, b1, b2, b3] = quad(r4, r5, r6, r7);
    let [c0, c1, c2, c3] = quad(r8, r9, r10, r11);
    let [d0, d1, d2, d3] = quad(r12, r13, r14, r15);
    // For one column c of each quarter: a 4 x 4 transposition of quarters.
    let quarters = |a, b, c, d| {
        let ab_even = _mm512_shuffle_f32x4::<0x88>(a, b);
        let ab_odd = _mm512_shuffle_f32x4::<0xDD>(a, b);
        let cd_even = _mm512_shuffle_f32x4::<0x88>(c, d);
        let cd_odd = _mm512_shuffle_f32x4::<0xDD>(c, d);
        [
            _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even),
            _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd),
            _mm512_shuffle_f32x4::<0xDD>(ab_even, cd_even),
            _mm512_shuffle_f32x4::<0xDD>(ab_odd, cd_odd),
        ]
    };
    let [t0, t4, t8, t12] = quarters(a0, b0, c0, d0);
    let [t1, t5, t9, t13] = quarters(a1, b1, c1, d1);
    let [t2, t6, t10, t14] = quarters(a2, b2, c2, d2);
    let [t3, t7, t11, t15] = quarters(a3, b3, c3, d3);
    [
        t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, t15,
    ]
}

impl Lanes for Avx2 {
    type V = (__m256, __m256);
    const IS_NARROW: bool = true;
    #[inline(always)]
    fn level(self) -> Level {
        Level::Avx2(self)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: the lanes are the proof that the processor has the instruction.
        let v = unsafe { _mm256_set1_ps(x) };
        (v, v)
    }
    #[inline(always)]
    fn load(self, x: &[f32; WIDTH]) -> Self::V {
        let (halves, _) = x.as_chunks::<8>();
        let [low, high] = halves else {
            return self.splat(0.0);
        };
        // SAFETY: as above; the reference covers the eight numbers read.
        let low = unsafe { _mm256_loadu_ps(low.as_ptr()) };
        // SAFETY: as above.
        let high = unsafe { _mm256_loadu_ps(high.as_ptr()) };
        (low, high)
    }
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::V {
        let mut all = [0.0; WIDTH];
        for (all, x) in all.iter_mut().zip(x) {
            *all = *x;
        }
        self.load(&all)
    }
    #[inline(always)]
    fn store(self, v: Self::V, x: &mut [f32; WIDTH]) {
        let (halves, _) = x.as_chunks_mut::<8>();
        if let [low, high] = halves {
            // SAFETY: as above; the reference covers the eight numbers written.
            unsafe { _mm256_storeu_ps(low.as_mut_ptr(), v.0) };
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(high.as_mut_ptr(), v.1) };
        }
    }
    #[inline(always)]
    fn store_part(self, v: Self::V, x: &mut [f32]) {
        let mut all = [0.0; WIDTH];
        self.store(v, &mut all);
        for (x, all) in x.iter_mut().zip(all) {
            *x = all;
        }
    }
    halves!(add(a, b) = _mm256_add_ps);
    halves!(sub(a, b) = _mm256_sub_ps);
    halves!(mul(a, b) = _mm256_mul_ps);
    halves!(div(a, b) = _mm256_div_ps);
    halves!(mul_add(a, b, c) = _mm256_fmadd_ps);
    halves!(neg_mul_add(a, b, c) = _mm256_fnmadd_ps);
    halves!(max(a, b) = _mm256_max_ps);
    halves!(min(a, b) = _mm256_min_ps);
    halves!(sqrt(a) = _mm256_sqrt_ps);
    halves!(round(a) = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>);
    #[inline(always)]
    fn scale(self, a: Self::V, n: Self::V) -> Self::V {
        // SAFETY: as above.
        let low = unsafe { scale_256(a.0, n.0) };
        // SAFETY: as above.
        let high = unsafe { scale_256(a.1, n.1) };
        (low, high)
    }
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "lane numbers are below sixteen")]
    fn first(self, n: usize, a: Self::V, b: Self::V) -> Self::V {
        let (mut from_a, mut from_b) = ([0.0; WIDTH], [0.0; WIDTH]);
        self.store(a, &mut from_a);
        self.store(b, &mut from_b);
        self.load(&std::array::from_fn(|i| {
            if i < n { from_a[i] } else { from_b[i] }
        }))
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        // SAFETY: as above.
        unsafe { sum_256(_mm256_add_ps(a.0, a.1)) }
    }
    #[inline(always)]
    fn largest(self, a: Self::V) -> f32 {
        // SAFETY: as above.
        unsafe { largest_256(_mm256_max_ps(a.0, a.1)) }
    }
    #[inline(always)]
    fn transpose(self, rows: [Self::V; WIDTH]) -> [Self::V; WIDTH] {
        let mut array = [[0.0; WIDTH]; WIDTH];
        let mut turned = rows;
        for (v, row) in rows.into_iter().zip(&mut array) {
            self.store(v, row);
        }
        transpose_array(&mut array);
        for (v, row) in turned.iter_mut().zip(&array) {
            *v = self.load(row);
        }
        turned
    }
    #[inline(always)]
    fn e4m3(self, bytes: &[u8; WIDTH]) -> Self::V {
        // SAFETY: as above.
        let numbers = unsafe { halves_256(e4m3_to_f16(bytes)) };
        self.mul(numbers, self.splat(E4M3_OF_F16))
    }
    #[inline(always)]
    fn to_bf16(self, a: Self::V) -> Self::V {
        // SAFETY: as above.
        let low = unsafe { to_bf16_256(a.0) };
        // SAFETY: as above.
        let high = unsafe { to_bf16_256(a.1) };
        (low, high)
    }
    #[inline(always)]
    fn transpose_bytes(self, rows: &[[u8; WIDTH]; WIDTH]) -> [[u8; WIDTH]; WIDTH] {
        // SAFETY: as above.
        unsafe { transpose_bytes(rows) }
    }
}

/// The numbers of sixteen f16.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn halves_256(halves: __m256i) -> (__m256, __m256) {
    let high = _mm256_extracti128_si256::<1>(halves);
    (
        _mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
        _mm256_cvtph_ps(high),
    )
}

#[inline]
#[target_feature(enable = "avx2")]
fn to_bf16_256(a: __m256) -> __m256 {
    let bits = _mm256_castps_si256(a);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    _mm256_castsi256_ps(_mm256_and_si256(sum, _mm256_set1_epi32(!0xffff)))
}

/// a 2^n in two steps: 2^n itself may be below the normal range.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn scale_256(a: __m256, n: __m256) -> __m256 {
    let n = _mm256_cvtps_epi32(n);
    let half = _mm256_srai_epi32::<1>(n);
    let power = |n| {
        let biased = _mm256_add_epi32(n, _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
    };
    let a = _mm256_mul_ps(a, power(half));
    _mm256_mul_ps(a, power(_mm256_sub_epi32(n, half)))
}

/// Lane i with i + 4, then 2, 1.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sum_256(a: __m256) -> f32 {
    let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn largest_256(a: __m256) -> f32 {
    let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps::<1>(a, a)))
}
