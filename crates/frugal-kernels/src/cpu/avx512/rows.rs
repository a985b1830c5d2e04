//! Bytes of sixteen rows of blocks, side by side.

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _mm_loadu_si128, _mm256_loadu_si256, _mm512_and_si512,
    _mm512_broadcast_i32x4, _mm512_castsi256_si512, _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps,
    _mm512_cvtph_ps, _mm512_i32gather_epi32, _mm512_inserti64x4, _mm512_mask_broadcast_i32x4,
    _mm512_mul_ps, _mm512_mullo_epi32, _mm512_or_si512, _mm512_set1_epi32, _mm512_setr_epi32,
    _mm512_shuffle_i32x4, _mm512_srli_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use crate::cpu::stored::SixteenRows;

/// Where a byte of each of sixteen rows lies.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Rows {
    at: *const u8,
    /// Bytes of a row.
    pub(in crate::cpu) stride: usize,
    /// Row times stride.
    offsets: __m512i,
}

impl Rows {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::cpu) fn of(rows: SixteenRows<'_>) -> Self {
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
    pub(in crate::cpu) fn plus(self, bytes: usize) -> Self {
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
    pub(in crate::cpu) unsafe fn words(self) -> __m512i {
        // SAFETY: as the caller vouches.
        unsafe { _mm512_i32gather_epi32::<1>(self.offsets, self.at.cast()) }
    }

    /// N bytes of one row.
    ///
    /// # Safety
    /// They are inside the rows.
    #[inline]
    pub(in crate::cpu) unsafe fn bytes<const N: usize>(self, row: usize) -> [u8; N] {
        // SAFETY: as the caller vouches; bytes need no alignment.
        unsafe { *self.at.wrapping_add(row * self.stride).cast() }
    }

    /// The first of these bytes of the first row.
    pub(in crate::cpu) fn start(self) -> *const u8 {
        self.at
    }

    /// 32 bytes of each of two rows.
    ///
    /// # Safety
    /// They are inside the rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::cpu) unsafe fn pair(self, rows: [usize; 2]) -> __m512i {
        let [first, second] = rows.map(|row| -> __m256i {
            let at = self.at.wrapping_add(row * self.stride);
            // SAFETY: as the caller vouches.
            unsafe { _mm256_loadu_si256(at.cast()) }
        });
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
    }

    /// Sixteen bytes of each of two rows, each twice.
    ///
    /// # Safety
    /// They are inside the rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::cpu) unsafe fn twin(self, rows: [usize; 2]) -> __m512i {
        let [first, second] = rows.map(|row| {
            let at = self.at.wrapping_add(row * self.stride);
            // SAFETY: as the caller vouches.
            unsafe { _mm_loadu_si128(at.cast()) }
        });
        _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(first), 0xff00, second)
    }
}

/// Of eight vectors of two rows, those of vector i, by the order that
/// [`products`](super::integer::products) and [`turned`] want.
#[inline]
pub(super) fn rows_of_vector(i: usize) -> [usize; 2] {
    let row = i + i / 4 * 4;
    [row, row + 4]
}

/// Vectors of two rows each, as [`rows_of_vector`] has them, turned: vector i has word i of all rows.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn turned(rows: &[__m512i; 8]) -> [__m512i; 8] {
    let [a, b, c, d, e, f, g, h] = *rows;
    // Word i of four rows, then word i + 4 of them, then both of four more.
    let (first, second) = (quads([a, b, c, d]), quads([e, f, g, h]));
    let mut out = *rows;
    for i in 0..4 {
        out[i] = _mm512_shuffle_i32x4::<0b10_00_10_00>(first[i], second[i]);
        out[i + 4] = _mm512_shuffle_i32x4::<0b11_01_11_01>(first[i], second[i]);
    }
    out
}

/// Turns 4 x 4 words in each quarter.
#[inline]
#[target_feature(enable = "avx512f")]
fn quads([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab, cd),
        _mm512_unpackhi_epi64(ab, cd),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// The numbers of the f16 in the lower halves of words.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::cpu) fn halves(words: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))
}

/// The factors and minima that blocks of Q4_K and Q5_K begin with, four groups a word, taken out
/// from the lowest byte on; see `frugal_core::quant::six_bit_pairs`.
pub(in crate::cpu) struct Head {
    numbers: [__m512; 2],
    words: [[__m512i; 2]; 2],
}

impl Head {
    /// The head of sixteen blocks.
    ///
    /// # Safety
    /// Their first sixteen bytes are inside the rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::cpu) unsafe fn of(block: Rows) -> Self {
        // SAFETY: as the caller vouches.
        let [both, a, b, c] = [0, 4, 8, 12].map(|at| unsafe { block.plus(at).words() });
        let last = |lower: __m512i, upper: __m512i| {
            let upper = and(_mm512_srli_epi32::<2>(upper), 0x3030_3030);
            _mm512_or_si512(and(lower, 0x0f0f_0f0f), upper)
        };
        Self {
            numbers: [halves(both), halves(_mm512_srli_epi32::<16>(both))],
            words: [
                [and(a, 0x3f3f_3f3f), and(b, 0x3f3f_3f3f)],
                [last(c, a), last(_mm512_srli_epi32::<4>(c), b)],
            ],
        }
    }

    /// Factors and minima of the rows for a group; groups come in their order.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::cpu) fn next(&mut self, group: usize) -> [__m512; 2] {
        let [d, dmin] = self.numbers;
        let [steps, lows] = self.words[group / 4];
        self.words[group / 4] = [_mm512_srli_epi32::<8>(steps), _mm512_srli_epi32::<8>(lows)];
        let of = |number, words| _mm512_mul_ps(number, _mm512_cvtepi32_ps(and(words, 0xff)));
        [of(d, steps), of(dmin, lows)]
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn and(words: __m512i, mask: i32) -> __m512i {
    _mm512_and_si512(words, _mm512_set1_epi32(mask))
}
