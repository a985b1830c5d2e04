//! FP8 in blocks spread to tiles of bf16.
//!
//! A block has one factor and its numbers are of 128 magnitudes: what each of them becomes is
//! multiplied and rounded once, and then looked up, 64 bytes at a time.

#![expect(
    clippy::cast_possible_truncation,
    reason = "bytes are counted up to 128"
)]

use std::arch::x86_64::{
    __m512i, _mm512_loadu_si512, _mm512_mul_ps, _mm512_permutex2var_epi8, _mm512_permutexvar_epi64,
    _mm512_set1_epi8, _mm512_set1_ps, _mm512_setr_epi64, _mm512_ternarylogic_epi32,
    _mm512_unpackhi_epi8, _mm512_unpacklo_epi8,
};
use std::ops::Range;

use frugal_core::dtype::e4m3_to_f32;

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::Fp8Rows;

use super::spread::{Place, load, rounded};

/// Bytes that are looked up together.
const LINE: usize = 64;

/// Spreads some columns of rows and asks for those that will be spread soon; unless blocks or columns end
/// within a line, in which case nothing is done and the answer is no.
pub(in crate::cpu) fn spread(
    features: CpuFeatures,
    (rows, cols): (Fp8Rows<'_>, Range<usize>),
    tiles: &mut [u32],
) -> bool {
    assert!(features.supports(Isa::Amx));
    let ends = [rows.block_cols(), cols.start, cols.end];
    let is_in_lines = ends.iter().all(|end| end.is_multiple_of(LINE));
    if is_in_lines {
        // SAFETY: the features name the instructions.
        unsafe { lines(rows, cols, Place(tiles)) };
    }
    is_in_lines
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512vbmi")]
fn lines(rows: Fp8Rows<'_>, cols: Range<usize>, mut tiles: Place<'_>) {
    let start = cols.start;
    for (part, cols, factor) in rows.parts(cols) {
        let table = Table::of(factor);
        for row in part {
            rows.ask_ahead(row, cols.clone());
            let (lines, _) = rows.bytes(row, cols.clone()).as_chunks();
            for (nth, line) in ((cols.start - start) / LINE..).zip(lines) {
                let [first, second] = table.look_up(line);
                tiles.store((2 * nth, row), first);
                tiles.store((2 * nth + 1, row), second);
            }
        }
    }
}

/// The bf16 of each magnitude times a factor: lower bytes and upper bytes.
struct Table {
    lower: [__m512i; 2],
    upper: [__m512i; 2],
}

impl Table {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512vbmi")]
    fn of(factor: f32) -> Self {
        let numbers = |i: usize| _mm512_mul_ps(load(&MAGNITUDES[i]), _mm512_set1_ps(factor));
        let words = |i: usize| rounded([numbers(2 * i), numbers(2 * i + 1)]);
        let words = [[words(0), words(1)], [words(2), words(3)]];
        let bytes = |of: &[u8; LINE]| {
            let of = bytes(of);
            words.map(|[low, high]| _mm512_permutex2var_epi8(low, of, high))
        };
        Self {
            lower: bytes(&EVERY_OTHER[0]),
            upper: bytes(&EVERY_OTHER[1]),
        }
    }

    /// The numbers of a line, in two vectors.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn look_up(&self, line: &[u8; LINE]) -> [__m512i; 2] {
        /// a ^ (b & c)
        const SIGNED: i32 = 0x78;
        // Eights of the first half beside those of the second: what is joined is then in order.
        let order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
        let line = _mm512_permutexvar_epi64(order, bytes(line));
        // The instruction looks at seven bits.
        let of = |[low, high]: [__m512i; 2]| _mm512_permutex2var_epi8(low, line, high);
        let sign = _mm512_set1_epi8(i8::MIN);
        let upper = _mm512_ternarylogic_epi32::<SIGNED>(of(self.upper), line, sign);
        let lower = of(self.lower);
        [
            _mm512_unpacklo_epi8(lower, upper),
            _mm512_unpackhi_epi8(lower, upper),
        ]
    }
}

/// The numbers of the bytes without a sign.
static MAGNITUDES: [[f32; LANES]; LINE / LANES * 2] = {
    let mut all = [[0.0; LANES]; LINE / LANES * 2];
    let mut byte = 0;
    while byte < 2 * LINE {
        all[byte / LANES][byte % LANES] = e4m3_to_f32(byte as u8);
        byte += 1;
    }
    all
};

/// The even bytes of two vectors, and the odd ones.
static EVERY_OTHER: [[u8; LINE]; 2] = {
    let mut all = [[0; LINE]; 2];
    let mut at = 0;
    while at < 2 * LINE {
        all[at % 2][at / 2] = at as u8;
        at += 1;
    }
    all
};

#[inline]
#[target_feature(enable = "avx512f")]
fn bytes(of: &[u8; LINE]) -> __m512i {
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(of.as_ptr().cast()) }
}
