//! Blocks multiplied from where they lie with 256-bit vectors; see the 512-bit ones.
//!
//! Sixteen rows are taken as twice eight, a row a lane of the sums.
#![expect(
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "groups and rows are counted by constants that the arrays are sized by"
)]

use std::arch::x86_64::{
    __m256, __m256i, _mm_cvtsi32_si128, _mm_loadu_si128, _mm_packus_epi32, _mm_srli_epi16,
    _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_si128, _mm256_cvtepi32_ps,
    _mm256_cvtph_ps, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_mul_ps, _mm256_or_si256,
    _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_epi32, _mm256_setr_epi32, _mm256_slli_epi16,
    _mm256_slli_epi32, _mm256_srai_epi32, _mm256_srl_epi16, _mm256_srli_epi16, _mm256_srli_epi32,
};

use frugal_core::quant::BlockFormat;

use crate::cpu::gemm::integer::left::RowRun;
use crate::cpu::gemm::integer::meet::DirectKernel;
use crate::cpu::gemm::integer::panel::{Form, GROUP, GROUPS};
use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::{SixteenRows, block_bytes};

use super::integer::{HALF, Scales, Totals, add, load, products, store};

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

/// Where a byte of each of eight rows lies.
#[derive(Clone, Copy)]
struct Rows {
    at: *const u8,
    /// Bytes of a row.
    stride: usize,
}

impl Rows {
    fn of(rows: SixteenRows<'_>) -> Self {
        let (bytes, stride) = rows.bytes();
        Self {
            at: bytes.as_ptr(),
            stride: stride.unsigned_abs() as usize,
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

    /// The first or the second eight of sixteen rows.
    #[inline]
    fn eight(self, half: usize) -> Self {
        self.plus(half * HALF * self.stride)
    }

    #[inline]
    fn row(self, row: usize) -> *const u8 {
        self.at.wrapping_add(row * self.stride)
    }

    /// Four bytes of each row. Gathering is slow where processors are guarded against its leaks.
    ///
    /// # Safety
    /// They are inside the rows.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn words(self) -> __m256i {
        // SAFETY: as the caller vouches.
        let word = |row: usize| unsafe { self.row(row).cast::<i32>().read_unaligned() };
        _mm256_setr_epi32(
            word(0),
            word(1),
            word(2),
            word(3),
            word(4),
            word(5),
            word(6),
            word(7),
        )
    }

    /// 32 bytes of each row.
    ///
    /// # Safety
    /// They are inside the rows.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn vectors(self) -> [__m256i; HALF] {
        // SAFETY: as the caller vouches.
        std::array::from_fn(|row| unsafe { _mm256_loadu_si256(self.row(row).cast()) })
    }

    /// The lower halves of sixteen bytes of each row, and then the upper ones.
    ///
    /// # Safety
    /// They are inside the rows.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn nibbles(self) -> [__m256i; HALF] {
        let mask = _mm256_set1_epi8(0x0f);
        std::array::from_fn(|row| {
            // SAFETY: as the caller vouches.
            let bytes = unsafe { _mm_loadu_si128(self.row(row).cast()) };
            let upper = _mm_srli_epi16::<4>(bytes);
            _mm256_and_si256(_mm256_set_m128i(upper, bytes), mask)
        })
    }
}

/// The numbers of the f16 in the lower halves of words.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn halves(words: __m256i) -> __m256 {
    let words = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
    let (low, high) = (
        _mm256_castsi256_si128(words),
        _mm256_extracti128_si256::<1>(words),
    );
    _mm256_cvtph_ps(_mm_packus_epi32(low, high))
}

/// Blocks of one group: Q8_0 and Q4_0.
#[target_feature(enable = "avx2,fma,f16c")]
fn small<const R: usize, const BYTES: usize>(
    form: Form,
    rows: SixteenRows<'_>,
    x: [&[RowRun]; R],
    sums: &mut [[f32; LANES]; R],
) {
    let all = Rows::of(rows);
    let mut totals = load(sums);
    for group in 0..all.stride / BYTES {
        let (run, within) = (group / GROUPS, group % GROUPS);
        rows.rows().ask_some_ahead(run, 2 * within..2 * within + 2);
        for half in 0..2 {
            let block = all.plus(group * BYTES).eight(half);
            // SAFETY: the rows have all their blocks, of which this is one; the first word of a
            // block is its factor and two bytes of its levels.
            let (factors, levels) = unsafe {
                let levels = block.plus(2);
                let levels = if BYTES == block_bytes::Q8_0 {
                    levels.vectors()
                } else {
                    levels.nibbles()
                };
                (halves(block.words()), levels)
            };
            let scales = Scales {
                factors,
                minima: factors,
            };
            for r in 0..R {
                let (x, total) = (&x[r][run], &mut totals[r][half]);
                *total = if BYTES == block_bytes::Q8_0 {
                    whole::<true>(form, (&scales, within), &levels, x, *total)
                } else {
                    whole::<false>(form, (&scales, within), &levels, x, *total)
                };
            }
        }
    }
    store(totals, sums);
}

/// Adds a whole group of levels, less their zero where SIGNED.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn whole<const SIGNED: bool>(
    form: Form,
    at: (&Scales, usize),
    levels: &[__m256i; HALF],
    x: &RowRun,
    total: __m256,
) -> __m256 {
    let [low, high] = products::<SIGNED>(levels, &x.levels[at.1]);
    add::<SIGNED>(form, at, x, _mm256_add_epi32(low, high), total)
}

/// Blocks of 256 numbers: Q4_K, Q5_K and Q6_K.
#[target_feature(enable = "avx2,fma,f16c")]
fn large<const R: usize, const BYTES: usize>(
    form: Form,
    rows: SixteenRows<'_>,
    x: [&[RowRun]; R],
    sums: &mut [[f32; LANES]; R],
) {
    let all = Rows::of(rows);
    let mut totals = load(sums);
    for run in 0..all.stride / BYTES {
        let x: [&RowRun; R] = std::array::from_fn(|r| &x[r][run]);
        for half in 0..2 {
            let block = all.plus(run * BYTES).eight(half);
            let ask = |quarter: usize| {
                let row = half * HALF + 2 * quarter;
                rows.rows().ask_some_ahead(run, row..row + 2);
            };
            // SAFETY: the rows have all their blocks, of which this is one.
            unsafe {
                if BYTES == block_bytes::Q6_K {
                    six_bits(form, (block, half), x, &mut totals, ask);
                } else {
                    with_minima::<R, BYTES>(form, (block, half), x, &mut totals, ask);
                }
            }
        }
    }
    store(totals, sums);
}

/// The factors and minima that blocks of Q4_K begin with, as the 512-bit one has them.
struct Head {
    numbers: [__m256; 2],
    words: [[__m256i; 2]; 2],
}

impl Head {
    /// # Safety
    /// The first sixteen bytes are inside the rows.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn of(block: Rows) -> Self {
        // SAFETY: as the caller vouches.
        let [both, a, b, c] = unsafe {
            [
                block.words(),
                block.plus(4).words(),
                block.plus(8).words(),
                block.plus(12).words(),
            ]
        };
        Self {
            numbers: [halves(both), halves(_mm256_srli_epi32::<16>(both))],
            words: [
                [and(a, 0x3f3f_3f3f), and(b, 0x3f3f_3f3f)],
                [last(c, a), last(_mm256_srli_epi32::<4>(c), b)],
            ],
        }
    }

    /// Factors and minima of the rows for a group; groups come in their order.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn next(&mut self, group: usize) -> Scales {
        let [d, dmin] = self.numbers;
        let [steps, lows] = self.words[group / 4];
        self.words[group / 4] = [_mm256_srli_epi32::<8>(steps), _mm256_srli_epi32::<8>(lows)];
        Scales {
            factors: _mm256_mul_ps(d, _mm256_cvtepi32_ps(and(steps, 0xff))),
            minima: _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(and(lows, 0xff))),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn and(words: __m256i, mask: i32) -> __m256i {
    _mm256_and_si256(words, _mm256_set1_epi32(mask))
}

/// Steps of the last four groups: four bits here, two there.
#[inline]
#[target_feature(enable = "avx2")]
fn last(lower: __m256i, upper: __m256i) -> __m256i {
    let upper = and(_mm256_srli_epi32::<2>(upper), 0x3030_3030);
    _mm256_or_si256(and(lower, 0x0f0f_0f0f), upper)
}

/// # Safety
/// Eight blocks of Q4_K or Q5_K.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn with_minima<const R: usize, const BYTES: usize>(
    form: Form,
    (block, half): (Rows, usize),
    x: [&RowRun; R],
    totals: &mut Totals<R>,
    ask: impl Fn(usize),
) {
    let (mask, bit) = (_mm256_set1_epi8(0x0f), _mm256_set1_epi8(0x10));
    let has_fifth = BYTES == block_bytes::Q5_K;
    let lower = block.plus(if has_fifth { 16 + GROUP } else { 16 });
    // SAFETY: the head is sixteen bytes.
    let mut head = unsafe { Head::of(block) };
    for pair in 0..GROUPS / 2 {
        ask(pair);
        // SAFETY: the levels of two groups are 32 bytes.
        let raw = unsafe { lower.plus(pair * GROUP).vectors() };
        for group in [2 * pair, 2 * pair + 1] {
            let scales = head.next(group);
            // SAFETY: 32 bytes follow the head: in Q5_K the fifth bits, a bit for each group.
            let fifth = unsafe { block.plus(16).vectors() };
            let down = _mm_cvtsi32_si128(i32::try_from(group).unwrap_or(0));
            let levels = std::array::from_fn(|row| {
                let shifted = if group % 2 == 0 {
                    raw[row]
                } else {
                    _mm256_srli_epi16::<4>(raw[row])
                };
                let four = _mm256_and_si256(shifted, mask);
                if has_fifth {
                    let one = _mm256_slli_epi16::<4>(_mm256_srl_epi16(fifth[row], down));
                    _mm256_or_si256(four, _mm256_and_si256(one, bit))
                } else {
                    four
                }
            });
            for r in 0..R {
                let total = &mut totals[r][half];
                *total = whole::<false>(form, (&scales, group), &levels, x[r], *total);
            }
        }
    }
}

/// # Safety
/// Eight blocks of Q6_K.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn six_bits<const R: usize>(
    form: Form,
    (block, half): (Rows, usize),
    x: [&RowRun; R],
    totals: &mut Totals<R>,
    ask: impl Fn(usize),
) {
    // SAFETY: the block's last word is two bytes of steps and its factor.
    let d = halves(_mm256_srli_epi32::<16>(unsafe { block.plus(206).words() }));
    let (four, two) = (_mm256_set1_epi8(0x0f), _mm256_set1_epi8(0x30));
    for group in 0..GROUPS {
        if group % 2 == 0 {
            ask(group / 2);
        }
        let (part, nth) = (group / 4, group % 4);
        // SAFETY: a half of the block has 64 bytes of lower bits, 32 of upper ones; two steps and what
        // follows them are inside the block.
        let (lower, upper, steps) = unsafe {
            (
                block.plus(part * 64 + nth % 2 * 32).vectors(),
                block.plus(128 + part * 32).vectors(),
                block.plus(192 + 2 * group).words(),
            )
        };
        let levels = std::array::from_fn(|row| {
            let (lower, upper) = (lower[row], upper[row]);
            let lower = if nth < 2 {
                lower
            } else {
                _mm256_srli_epi16::<4>(lower)
            };
            let upper = match nth {
                0 => _mm256_slli_epi16::<4>(upper),
                1 => _mm256_slli_epi16::<2>(upper),
                2 => upper,
                _ => _mm256_srli_epi16::<2>(upper),
            };
            _mm256_or_si256(_mm256_and_si256(lower, four), _mm256_and_si256(upper, two))
        });
        let steps = [
            _mm256_slli_epi32::<24>(steps),
            _mm256_slli_epi32::<16>(steps),
        ];
        for r in 0..R {
            let total = &mut totals[r][half];
            let inner = products::<false>(&levels, &x[r].levels[group]);
            for (of_half, (inner, step)) in inner.into_iter().zip(steps).enumerate() {
                let step = _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(step));
                let factors = _mm256_mul_ps(d, step);
                let scales = Scales {
                    factors,
                    minima: factors,
                };
                *total = add::<false>(form, (&scales, 2 * group + of_half), x[r], inner, *total);
            }
        }
    }
}
