//! Blocks multiplied from where they lie: a few rows of activations with sixteen rows of the formats
//! that most models come in, without opening them first.
//!
//! One row meets levels as they lie, and sums are added across lanes. For more the levels are turned,
//! once for all of them, so that a lane is a row of the weight and nothing is left to add.
//!
//! The sums are those of [`super::integer`], in the same order.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_mask_blend_epi32, _mm512_mul_ps,
    _mm512_or_si512, _mm512_set1_epi8, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi16,
    _mm512_slli_epi32, _mm512_srai_epi32, _mm512_srli_epi16, _mm512_srli_epi32, _mm512_xor_si512,
};

use frugal_core::quant::BlockFormat;

use crate::cpu::gemm::integer::left::RowRun;
use crate::cpu::gemm::integer::meet::DirectKernel;
use crate::cpu::gemm::integer::panel::{Form, GROUP, GROUPS};
use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::{SixteenRows, block_bytes};

use super::integer::{Scales, add_group, add_half, load, products, products_turned, store};
use super::rows::{Head, Rows, halves, rows_of_vector, turned};

/// The kernel for a format, if it has one.
pub(crate) fn kernel<const R: usize>(format: BlockFormat) -> Option<DirectKernel<R>> {
    match format {
        BlockFormat::Q8_0 => Some(small::<R, { block_bytes::Q8_0 }>),
        BlockFormat::Q4_0 => Some(small::<R, { block_bytes::Q4_0 }>),
        BlockFormat::Q4K => Some(large::<R, { block_bytes::Q4_K }>),
        BlockFormat::Q5K => Some(large::<R, { block_bytes::Q5_K }>),
        BlockFormat::Q6K => Some(large::<R, { block_bytes::Q6_K }>),
        _ => None,
    }
}

/// Blocks of one group: Q8_0 and Q4_0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn small<const R: usize, const BYTES: usize>(
    form: Form,
    rows: SixteenRows<'_>,
    x: [&[RowRun]; R],
    sums: &mut [[f32; LANES]; R],
) {
    let all = Rows::of(rows);
    let mut totals = sums.map(|row| load(&row));
    for group in 0..all.stride / BYTES {
        let (run, within) = (group / GROUPS, group % GROUPS);
        rows.rows().ask_some_ahead(run, 2 * within..2 * within + 2);
        let block = all.plus(group * BYTES);
        let levels = block.plus(2);
        // SAFETY: the rows have all their blocks, of which this is one; the first word of a
        // block is its factor and two bytes of its levels.
        let (factors, levels) = unsafe {
            let factors = halves(block.words());
            if BYTES == block_bytes::Q8_0 {
                let sign = _mm512_set1_epi8(i8::MIN);
                (
                    factors,
                    eight::<R>(|rows| _mm512_xor_si512(levels.pair(rows), sign)),
                )
            } else {
                // The lower halves of bytes in even quarters, the upper ones, times 16, in odd.
                let mask = alternate_halves();
                (
                    factors,
                    eight::<R>(|rows| _mm512_and_si512(levels.twin(rows), mask)),
                )
            }
        };
        let scales = Scales {
            factors,
            minima: factors,
        };
        for r in 0..R {
            let x = &x[r][run];
            let [low, high] = inner::<R>(&levels, &x.levels[within]);
            let high = if BYTES == block_bytes::Q8_0 {
                high
            } else {
                _mm512_srai_epi32::<4>(high)
            };
            totals[r] = add_group(form, (&scales, within), x, [low, high], totals[r]);
        }
    }
    store(totals, sums);
}

/// Sixteen rows in eight vectors, of which `two` gives one; turned for more than one row.
#[inline]
#[target_feature(enable = "avx512f")]
fn eight<const R: usize>(two: impl Fn([usize; 2]) -> __m512i) -> [__m512i; LANES / 2] {
    let mut rows = [_mm512_setzero_si512(); LANES / 2];
    for (i, vector) in rows.iter_mut().enumerate() {
        *vector = two(rows_of_vector(i));
    }
    if R == 1 { rows } else { turned(&rows) }
}

/// For each row of the weight the sum of products of the first half of a group, and of the second;
/// levels as [`eight`] gave them.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn inner<const R: usize>(levels: &[__m512i; LANES / 2], x: &[i8; GROUP]) -> [__m512i; 2] {
    if R == 1 {
        products(levels, x)
    } else {
        products_turned(levels, x)
    }
}

/// 16 bytes of 0x0f, 16 of 0xf0, and again.
#[inline]
#[target_feature(enable = "avx512f")]
fn alternate_halves() -> __m512i {
    let low = _mm512_set1_epi64(0x0f0f_0f0f_0f0f_0f0f);
    let high = _mm512_slli_epi32::<4>(low);
    _mm512_mask_blend_epi32(0xf0f0, low, high)
}

/// Blocks of 256 numbers: Q4_K, Q5_K and Q6_K.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn large<const R: usize, const BYTES: usize>(
    form: Form,
    rows: SixteenRows<'_>,
    x: [&[RowRun]; R],
    sums: &mut [[f32; LANES]; R],
) {
    let all = Rows::of(rows);
    let mut totals = sums.map(|row| load(&row));
    for run in 0..all.stride / BYTES {
        let block = all.plus(run * BYTES);
        let x: [&RowRun; R] = std::array::from_fn(|r| &x[r][run]);
        // SAFETY: the rows have all their blocks, of which this is one.
        unsafe {
            if BYTES == block_bytes::Q6_K {
                six_bits(form, (rows, run, block), x, &mut totals);
            } else {
                with_minima::<R, BYTES>(form, (rows, run, block), x, &mut totals);
            }
        }
    }
    store(totals, sums);
}

/// # Safety
/// Sixteen blocks of Q4_K or Q5_K.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn with_minima<const R: usize, const BYTES: usize>(
    form: Form,
    (rows, run, block): (SixteenRows<'_>, usize, Rows),
    x: [&RowRun; R],
    totals: &mut [__m512; R],
) {
    // SAFETY: the head is sixteen bytes.
    let mut head = unsafe { Head::of(block) };
    let has_fifth = BYTES == block_bytes::Q5_K;
    let lower = block.plus(if has_fifth { 16 + GROUP } else { 16 });
    // The fifth bits of all groups; without them what is read here is not looked at.
    // SAFETY: 32 bytes follow the head.
    let mut fifth = eight::<R>(|rows| unsafe { block.plus(16).pair(rows) });
    let (low, bit) = (_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0x10));
    for pair in 0..GROUPS / 2 {
        rows.rows().ask_some_ahead(run, 4 * pair..4 * pair + 4);
        // SAFETY: the levels of two groups are 32 bytes.
        let raw = eight::<R>(|rows| unsafe { lower.plus(pair * GROUP).pair(rows) });
        for (nth, mask) in [0x0f_u8, 0xf0].into_iter().enumerate() {
            let group = 2 * pair + nth;
            let [factors, minima] = head.next(group);
            let scales = Scales { factors, minima };
            let levels = if has_fifth {
                let levels = std::array::from_fn(|i| {
                    let four = if nth == 0 {
                        raw[i]
                    } else {
                        _mm512_srli_epi16::<4>(raw[i])
                    };
                    let one = _mm512_and_si512(_mm512_slli_epi16::<4>(fifth[i]), bit);
                    _mm512_or_si512(_mm512_and_si512(four, low), one)
                });
                fifth = fifth.map(|bits| _mm512_srli_epi16::<1>(bits));
                levels
            } else {
                let mask = _mm512_set1_epi8(mask.cast_signed());
                raw.map(|raw| _mm512_and_si512(raw, mask))
            };
            for r in 0..R {
                let [mut low, mut high] = inner::<R>(&levels, &x[r].levels[group]);
                if nth == 1 && !has_fifth {
                    // The upper halves of bytes are 16 times their levels.
                    (low, high) = (_mm512_srai_epi32::<4>(low), _mm512_srai_epi32::<4>(high));
                }
                totals[r] = add_group(form, (&scales, group), x[r], [low, high], totals[r]);
            }
        }
    }
}

/// # Safety
/// Sixteen blocks of Q6_K.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn six_bits<const R: usize>(
    form: Form,
    (rows, run, block): (SixteenRows<'_>, usize, Rows),
    x: [&RowRun; R],
    totals: &mut [__m512; R],
) {
    // SAFETY: the block's last word is two bytes of steps and its factor.
    let d = halves(_mm512_srli_epi32::<16>(unsafe { block.plus(206).words() }));
    let (four, two) = (_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0x30));
    for half in 0..2 {
        // SAFETY: a half has 64 bytes of lower bits, 32 of upper ones.
        let [first, second, upper] = [half * 64, half * 64 + 32, 128 + half * 32]
            .map(|at| eight::<R>(|rows| unsafe { block.plus(at).pair(rows) }));
        for nth in 0..4 {
            let group = half * 4 + nth;
            rows.rows().ask_some_ahead(run, 2 * group..2 * group + 2);
            let lower = if nth % 2 == 0 { &first } else { &second };
            let levels = std::array::from_fn(|i| {
                let lower = if nth < 2 {
                    lower[i]
                } else {
                    _mm512_srli_epi16::<4>(lower[i])
                };
                let upper = match nth {
                    0 => _mm512_slli_epi16::<4>(upper[i]),
                    1 => _mm512_slli_epi16::<2>(upper[i]),
                    2 => upper[i],
                    _ => _mm512_srli_epi16::<2>(upper[i]),
                };
                _mm512_or_si512(_mm512_and_si512(lower, four), _mm512_and_si512(upper, two))
            });
            // SAFETY: two steps and what follows them are inside the block.
            let steps = unsafe { block.plus(192 + 2 * group).words() };
            let scales = [
                _mm512_slli_epi32::<24>(steps),
                _mm512_slli_epi32::<16>(steps),
            ]
            .map(|step| {
                let step = _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(step));
                let factors = _mm512_mul_ps(d, step);
                Scales {
                    factors,
                    minima: factors,
                }
            });
            for r in 0..R {
                let inner = inner::<R>(&levels, &x[r].levels[group]);
                for (half, scales) in scales.iter().enumerate() {
                    totals[r] = add_half(
                        form,
                        (scales, 2 * group + half),
                        x[r],
                        inner[half],
                        totals[r],
                    );
                }
            }
        }
    }
}
