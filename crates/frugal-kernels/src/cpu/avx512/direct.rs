//! Blocks multiplied from where they lie: a few rows of activations with sixteen rows of the formats
//! that most models come in, without opening them first.
//!
//! The sums are those of [`super::integer`], in the same order.

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _mm_loadu_si128, _mm256_loadu_si256, _mm512_and_si512,
    _mm512_broadcast_i32x4, _mm512_castsi256_si512, _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps,
    _mm512_cvtph_ps, _mm512_i32gather_epi32, _mm512_inserti64x4, _mm512_mask_blend_epi32,
    _mm512_mask_broadcast_i32x4, _mm512_mul_ps, _mm512_mullo_epi32, _mm512_or_si512,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setr_epi32, _mm512_slli_epi16,
    _mm512_slli_epi32, _mm512_srai_epi32, _mm512_srli_epi16, _mm512_srli_epi32, _mm512_xor_si512,
};

use frugal_core::quant::BlockFormat;

use crate::cpu::gemm::integer::left::RowRun;
use crate::cpu::gemm::integer::panel::{Form, GROUP, GROUPS};
use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::SixteenRows;

use super::integer::{Scales, add_group, add_half, load, products, store};

/// Sixteen rows, and the sums of R rows of activations with them.
type Kernel<const R: usize> =
    unsafe fn(Form, SixteenRows<'_>, [&[RowRun]; R], &mut [[f32; LANES]; R]);

/// The kernel for a format, if it has one.
pub(crate) fn kernel<const R: usize>(format: BlockFormat) -> Option<Kernel<R>> {
    match format {
        BlockFormat::Q8_0 => Some(small::<R, 34>),
        BlockFormat::Q4_0 => Some(small::<R, 18>),
        BlockFormat::Q4K => Some(large::<R, 144>),
        BlockFormat::Q6K => Some(large::<R, 210>),
        _ => None,
    }
}

/// Where a byte of each of sixteen rows lies.
#[derive(Clone, Copy)]
struct Rows {
    at: *const u8,
    stride: usize,
    /// Row times stride.
    offsets: __m512i,
}

impl Rows {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn of(rows: SixteenRows<'_>) -> Self {
        let (bytes, stride) = rows.bytes();
        let count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        Self {
            at: bytes.as_ptr(),
            stride: stride.unsigned_abs() as usize,
            offsets: _mm512_mullo_epi32(count, _mm512_set1_epi32(stride)),
        }
    }

    /// The same so many bytes on.
    #[inline]
    fn plus(self, bytes: usize) -> Self {
        Self {
            at: self.at.wrapping_add(bytes),
            ..self
        }
    }

    /// Four bytes of each row.
    ///
    /// # Safety
    /// They are inside the rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn words(self) -> __m512i {
        // SAFETY: as the caller vouches.
        unsafe { _mm512_i32gather_epi32::<1>(self.offsets, self.at.cast()) }
    }

    /// 32 bytes of two rows, by the order that [`products`] wants: in vector i of eight.
    ///
    /// # Safety
    /// They are inside the rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn pairs(self) -> [__m512i; LANES / 2] {
        std::array::from_fn(|i| {
            let row = i + i / 4 * 4;
            let bytes = |row: usize| -> __m256i {
                let at = self.at.wrapping_add(row * self.stride);
                // SAFETY: as the caller vouches.
                unsafe { _mm256_loadu_si256(at.cast()) }
            };
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(bytes(row)), bytes(row + 4))
        })
    }

    /// Sixteen bytes of two rows, each twice.
    ///
    /// # Safety
    /// They are inside the rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn twins(self) -> [__m512i; LANES / 2] {
        std::array::from_fn(|i| {
            let row = i + i / 4 * 4;
            let bytes = |row: usize| {
                let at = self.at.wrapping_add(row * self.stride);
                // SAFETY: as the caller vouches.
                unsafe { _mm_loadu_si128(at.cast()) }
            };
            let first = _mm512_broadcast_i32x4(bytes(row));
            _mm512_mask_broadcast_i32x4(first, 0xff00, bytes(row + 4))
        })
    }
}

/// The numbers of the f16 in the lower halves of words.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(words: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))
}

/// Blocks of one group: Q8_0 (34 bytes) and Q4_0 (18).
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
            if BYTES == 34 {
                let sign = _mm512_set1_epi8(i8::MIN);
                (
                    factors,
                    levels.pairs().map(|levels| _mm512_xor_si512(levels, sign)),
                )
            } else {
                // The lower halves of bytes in even quarters, the upper ones, times 16, in odd.
                let mask = alternate_halves();
                (
                    factors,
                    levels.twins().map(|levels| _mm512_and_si512(levels, mask)),
                )
            }
        };
        let scales = Scales {
            factors,
            minima: factors,
        };
        for r in 0..R {
            let x = &x[r][run];
            let [low, high] = products(&levels, &x.levels[within]);
            let high = if BYTES == 34 {
                high
            } else {
                _mm512_srai_epi32::<4>(high)
            };
            totals[r] = add_group(form, (&scales, within), x, [low, high], totals[r]);
        }
    }
    store(totals, sums);
}

/// 16 bytes of 0x0f, 16 of 0xf0, and again.
#[inline]
#[target_feature(enable = "avx512f")]
fn alternate_halves() -> __m512i {
    let low = _mm512_set1_epi64(0x0f0f_0f0f_0f0f_0f0f);
    let high = _mm512_slli_epi32::<4>(low);
    _mm512_mask_blend_epi32(0xf0f0, low, high)
}

/// Blocks of 256 numbers: Q4_K (144 bytes) and Q6_K (210).
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
            if BYTES == 144 {
                four_bits(form, (rows, run, block), x, &mut totals);
            } else {
                six_bits(form, (rows, run, block), x, &mut totals);
            }
        }
    }
    store(totals, sums);
}

/// # Safety
/// Sixteen blocks of Q4_K.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn four_bits<const R: usize>(
    form: Form,
    (rows, run, block): (SixteenRows<'_>, usize, Rows),
    x: [&RowRun; R],
    totals: &mut [__m512; R],
) {
    // SAFETY: the head is sixteen bytes.
    let [both, a, b, c] = [0, 4, 8, 12].map(|at| unsafe { block.plus(at).words() });
    let (d, dmin) = (halves(both), halves(_mm512_srli_epi32::<16>(both)));
    let and = |words: __m512i, mask: i32| _mm512_and_si512(words, _mm512_set1_epi32(mask));
    // The pairs of six bits, four groups a word; see `frugal_core::quant::six_bit_pairs`.
    let last = |lower: __m512i, upper: __m512i| {
        _mm512_or_si512(
            and(lower, 0x0f0f_0f0f),
            and(_mm512_srli_epi32::<2>(upper), 0x3030_3030),
        )
    };
    let mut steps = [and(a, 0x3f3f_3f3f), last(c, a)];
    let mut lows = [and(b, 0x3f3f_3f3f), last(_mm512_srli_epi32::<4>(c), b)];
    for pair in 0..GROUPS / 2 {
        rows.rows().ask_some_ahead(run, 4 * pair..4 * pair + 4);
        // SAFETY: the levels of two groups are 32 bytes.
        let raw = unsafe { block.plus(16 + pair * GROUP).pairs() };
        for (nth, mask) in [0x0f_u8, 0xf0].into_iter().enumerate() {
            let (group, word) = (2 * pair + nth, pair / 2);
            let of = |number: __m512, words: __m512i| {
                _mm512_mul_ps(number, _mm512_cvtepi32_ps(and(words, 0xff)))
            };
            let scales = Scales {
                factors: of(d, steps[word]),
                minima: of(dmin, lows[word]),
            };
            steps[word] = _mm512_srli_epi32::<8>(steps[word]);
            lows[word] = _mm512_srli_epi32::<8>(lows[word]);
            let mask = _mm512_set1_epi8(mask.cast_signed());
            let levels = raw.map(|raw| _mm512_and_si512(raw, mask));
            for r in 0..R {
                let [mut low, mut high] = products(&levels, &x[r].levels[group]);
                if nth == 1 {
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
            .map(|at| unsafe { block.plus(at).pairs() });
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
                let inner = products(&levels, &x[r].levels[group]);
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
