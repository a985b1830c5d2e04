//! Blocks opened with vectors of bytes: the parts of [`Opener`] on AVX2 and AVX-512.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "slices are cut into runs of constant length; a level has at most eight bits"
)]

use std::arch::x86_64::{
    __m128i, __m256i, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtss_f32, _mm_loadl_epi64,
    _mm_loadu_si128, _mm_srli_epi16, _mm256_add_epi8, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps,
    _mm256_cvtepu8_epi32, _mm256_loadu_si256, _mm256_mul_ps, _mm256_or_si256, _mm256_set_m128i,
    _mm256_set1_epi8, _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_set1_ps, _mm256_setr_epi64x,
    _mm256_shuffle_epi8, _mm256_sll_epi16, _mm256_srl_epi16, _mm256_storeu_ps, _mm256_storeu_si256,
};

use frugal_core::quant::{Opener, Plain};

use super::vector_x86::{Avx2, Avx512};

/// Declares an [`Opener`] of functions that enable AVX2; `half` is the one that differs.
macro_rules! opener {
    ($lanes:ident, |$bytes:ident| $half:expr) => {
        impl Opener for $lanes {
            #[inline(always)]
            fn plane<const BITS: usize, const RUN: usize, const UP: u32>(
                self,
                bytes: &[u8],
                levels: &mut [u8],
            ) {
                // SAFETY: the lanes are the proof that the processor has the instructions.
                unsafe { plane::<BITS, RUN, UP>(bytes, levels) }
            }
            #[inline(always)]
            fn signed(self, bytes: &[u8; 32], levels: &mut [u8; 32]) {
                // SAFETY: as above.
                unsafe { signed(bytes, levels) }
            }
            #[inline(always)]
            fn look_up(self, table: &[i8; 16], levels: &mut [u8; 32]) {
                // SAFETY: as above.
                unsafe { look_up(table, levels) }
            }
            #[inline(always)]
            fn half(self, $bytes: [u8; 2]) -> f32 {
                $half
            }
            #[inline(always)]
            fn multiples<const N: usize>(self, of: f32, by: &[u8; N], to: &mut [f32; 16]) {
                // SAFETY: as above.
                unsafe { multiples(of, by, to) }
            }
            #[inline(always)]
            fn signed_multiples(self, of: f32, by: &[i8; 16], to: &mut [f32; 16]) {
                // SAFETY: as above.
                unsafe { signed_multiples(of, by, to) }
            }
        }
    };
}

// Not every level with AVX2 promises the conversion of f16; that of AVX-512 includes it.
opener!(Avx2, |bytes| Plain.half(bytes));
opener!(Avx512, |bytes| {
    // SAFETY: as above.
    unsafe { half_512(bytes) }
});

#[inline]
#[target_feature(enable = "avx512f")]
fn half_512(bytes: [u8; 2]) -> f32 {
    let word = _mm_cvtsi32_si128(i32::from(u16::from_le_bytes(bytes)));
    _mm_cvtss_f32(_mm_cvtph_ps(word))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_half(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(vector: __m256i, bytes: &mut [u8; 32]) {
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}

/// Puts bits at `UP` of levels; those at 0 replace.
#[inline]
#[target_feature(enable = "avx2")]
fn put<const UP: u32>(bits: __m256i, levels: &mut [u8; 32]) {
    if UP == 0 {
        store(bits, levels);
    } else {
        let moved = _mm256_sll_epi16(bits, _mm_cvtsi32_si128(UP.cast_signed()));
        store(_mm256_or_si256(load(levels), moved), levels);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn plane<const BITS: usize, const RUN: usize, const UP: u32>(plane: &[u8], levels: &mut [u8]) {
    let mask = _mm256_set1_epi8((u8::MAX >> (8 - BITS)).cast_signed());
    let (places, _) = levels.as_chunks_mut::<32>();
    if RUN.is_multiple_of(32) {
        // Vector v of a run gives its nth bits to vector `v + nth * RUN / 32` of the run's levels.
        let (vectors, _) = plane.as_chunks::<32>();
        let wide = RUN / 32;
        let down = _mm_cvtsi32_si128(i32::from(BITS as u8));
        let runs = places.chunks_exact_mut(wide * 8 / BITS);
        for (bytes, places) in vectors.chunks_exact(wide).zip(runs) {
            for (v, bytes) in bytes.iter().enumerate() {
                let mut bytes = load(bytes);
                for nth in 0..8 / BITS {
                    put::<UP>(_mm256_and_si256(bytes, mask), &mut places[v + nth * wide]);
                    bytes = _mm256_srl_epi16(bytes, down);
                }
            }
        }
    } else if RUN == 16 && BITS == 4 {
        for (bytes, place) in plane.as_chunks::<16>().0.iter().zip(places) {
            let low = load_half(bytes);
            let both = _mm256_set_m128i(_mm_srli_epi16::<4>(low), low);
            put::<UP>(_mm256_and_si256(both, mask), place);
        }
    } else if RUN == 1 && BITS == 1 {
        // Byte i of the word to lanes 8 i to 8 i + 7, of which each looks at its bit.
        let spread = _mm256_setr_epi64x(
            0,
            0x0101_0101_0101_0101,
            0x0202_0202_0202_0202,
            0x0303_0303_0303_0303,
        );
        let own = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
        for (word, place) in plane.as_chunks::<4>().0.iter().zip(places) {
            let word = _mm256_set1_epi32(i32::from_le_bytes(*word));
            let lanes = _mm256_and_si256(_mm256_shuffle_epi8(word, spread), own);
            let is_set = _mm256_cmpeq_epi8(lanes, own);
            put::<UP>(_mm256_and_si256(is_set, mask), place);
        }
    } else {
        Plain.plane::<BITS, RUN, UP>(plane, levels);
    }
}

/// What turns signed bytes into levels that count from 128.
#[inline]
#[target_feature(enable = "avx2")]
fn from_signed(bytes: __m256i) -> __m256i {
    _mm256_add_epi8(bytes, _mm256_set1_epi8(i8::MIN))
}

#[inline]
#[target_feature(enable = "avx2")]
fn signed(bytes: &[u8; 32], levels: &mut [u8; 32]) {
    store(from_signed(load(bytes)), levels);
}

#[inline]
#[target_feature(enable = "avx2")]
fn look_up(table: &[i8; 16], levels: &mut [u8; 32]) {
    let table = load_half(&table.map(i8::cast_unsigned));
    let numbers = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), load(levels));
    store(from_signed(numbers), levels);
}

/// Eight of sixteen products.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply(of: f32, by: __m256i, to: &mut [f32; 8]) {
    let products = _mm256_mul_ps(_mm256_set1_ps(of), _mm256_cvtepi32_ps(by));
    // SAFETY: eight floats.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), products) };
}

/// Eight bytes in the lower half.
#[inline]
#[target_feature(enable = "avx2")]
fn load_eight(bytes: &[u8; 8]) -> __m128i {
    // SAFETY: eight bytes.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn multiples(of: f32, by: &[u8], to: &mut [f32; 16]) {
    let (places, _) = to.as_chunks_mut::<8>();
    for (by, to) in by.as_chunks::<8>().0.iter().zip(places) {
        multiply(of, _mm256_cvtepu8_epi32(load_eight(by)), to);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn signed_multiples(of: f32, by: &[i8; 16], to: &mut [f32; 16]) {
    let (places, _) = to.as_chunks_mut::<8>();
    for (by, to) in by
        .map(i8::cast_unsigned)
        .as_chunks::<8>()
        .0
        .iter()
        .zip(places)
    {
        multiply(of, _mm256_cvtepi8_epi32(load_eight(by)), to);
    }
}
