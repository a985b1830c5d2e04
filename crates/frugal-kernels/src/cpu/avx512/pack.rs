//! Packing f32 into pairs of bf16, rounded to nearest even, subnormals to zero.
//!
//! Two primitives: sixteen pairs out of 32 neighbours of a row (the reduction runs along the row),
//! and sixteen pairs out of the same 16 columns of two rows (the reduction runs down the rows).
//! Either may be followed by a transposition of 16 x 16 pairs, which swaps "reduction first" and
//! "output first". Past the rect's edge pairs are zero.

use std::arch::x86_64::{
    __m512bh, __m512i, __mmask16, _MM_HINT_T0, _mm_prefetch, _mm256_maskz_loadu_epi16,
    _mm512_castsi256_si512, _mm512_cvtne2ps_pbh, _mm512_inserti64x4, _mm512_loadu_epi16,
    _mm512_loadu_si512, _mm512_maskz_loadu_ps, _mm512_permutex2var_epi16, _mm512_permutexvar_epi16,
    _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;

use half::bf16;

use crate::cpu::gemm::operands::Element;
use crate::cpu::gemm::tile::{DEPTH, LANES, Place, Rect, TILE_WORDS};

/// Numbers that are packed: f32 are rounded on the way, bf16 go as they are.
pub(crate) trait Packable: Element {
    /// Two runs of sixteen numbers as bf16, the first in the lower half; zero where the mask is.
    ///
    /// # Safety
    /// The machine has AVX-512 with bf16, and the numbers that the masks name can be read.
    unsafe fn halves(first: (*const Self, __mmask16), second: (*const Self, __mmask16)) -> __m512i;
}

impl Packable for f32 {
    #[expect(clippy::inline_always, reason = "melts into kernels")]
    #[inline(always)]
    unsafe fn halves(first: (*const Self, __mmask16), second: (*const Self, __mmask16)) -> __m512i {
        // SAFETY: the caller vouches for instructions and memory; the vector types of the result
        // differ in name only.
        unsafe {
            let low = _mm512_maskz_loadu_ps(first.1, first.0);
            let high = _mm512_maskz_loadu_ps(second.1, second.0);
            transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }
}

impl Packable for bf16 {
    #[expect(clippy::inline_always, reason = "melts into kernels")]
    #[inline(always)]
    unsafe fn halves(first: (*const Self, __mmask16), second: (*const Self, __mmask16)) -> __m512i {
        // SAFETY: the caller vouches for instructions and memory.
        unsafe {
            let low = _mm256_maskz_loadu_epi16(first.1, first.0.cast());
            let high = _mm256_maskz_loadu_epi16(second.1, second.0.cast());
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        }
    }
}

impl<T: Packable> Rect<'_, T> {
    /// Numbers `col..col + 16` of `row`, none past the edges.
    #[inline]
    fn run(&self, row: usize, col: usize) -> (*const T, __mmask16) {
        let start = self.data.as_ptr().wrapping_add(row * self.stride + col);
        let left = if row < self.rows {
            self.cols.saturating_sub(col)
        } else {
            0
        };
        (start, if left >= LANES { !0 } else { (1 << left) - 1 })
    }

    /// Sixteen pairs along `row`, from `col` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn along(&self, row: usize, col: usize) -> __m512i {
        // SAFETY: `check` found all rows inside the data; the masks end at the last column.
        unsafe { T::halves(self.run(row, col), self.run(row, col + LANES)) }
    }

    /// Sixteen pairs (row, row + 1) of columns `col..col + 16`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn down(&self, row: usize, col: usize) -> __m512i {
        // SAFETY: as in `along`.
        let halves = unsafe { T::halves(self.run(row, col), self.run(row + 1, col)) };
        _mm512_permutexvar_epi16(index(&INTERLEAVE), halves)
    }

    /// Sixteen pairs of the row at `start` and the next, neither of which ends within sixteen.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn two_rows(&self, order: __m512i, start: usize) -> __m512i {
        let row = |at: usize| self.data[at..].first_chunk::<LANES>();
        match (row(start), row(start + self.stride)) {
            (Some(first), Some(second)) => interleaved(order, first, second),
            _ => _mm512_setzero_si512(),
        }
    }
}

#[repr(C, align(64))]
pub(super) struct Index([i16; 32]);

/// 0, 16, 1, 17, ...: the two halves of a vector, one number of each in turn.
pub(super) static INTERLEAVE: Index = Index(interleave(0, 16));
/// The lower halves of two vectors in turn.
static INTERLEAVE_LOW: Index = Index(interleave(0, 32));
/// The upper halves of two vectors in turn.
static INTERLEAVE_HIGH: Index = Index(interleave(16, 48));

const fn interleave(mut first: i16, mut second: i16) -> [i16; 32] {
    let mut index = [0; 32];
    let mut i = 0;
    while i < 32 {
        index[i] = first;
        index[i + 1] = second;
        first += 1;
        second += 1;
        i += 2;
    }
    index
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn index(numbers: &Index) -> __m512i {
    // SAFETY: 32 numbers of 16 bits are 512 bits.
    unsafe { _mm512_loadu_epi16(numbers.0.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(out: &mut [u32], at: usize, vector: __m512i) {
    let place: &mut [u32] = &mut out[at..at + LANES];
    // SAFETY: the slice holds exactly sixteen words.
    unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), vector) };
}

/// Rows to pairs along each row, `cols` padded to whole tiles: vector (row, col / 32).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) fn rows_to_pairs<T: Packable>(rect: &Rect<'_, T>, place: Place, out: &mut [u32]) {
    rect.check();
    for row in 0..rect.rows {
        let at = (row / LANES) * place.block + (row % LANES) * place.row;
        let (whole, rest) = rect.row(row).as_chunks::<DEPTH>();
        for (step, numbers) in whole.iter().enumerate() {
            store(out, at + step * place.step, pairs_of(numbers));
        }
        if !rest.is_empty() {
            let vector = rect.along(row, whole.len() * DEPTH);
            store(out, at + whole.len() * place.step, vector);
        }
    }
}

/// Pairs of rows, column blocks of 16, `rows` padded to whole tiles: vector (row / 2, col / 16).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) fn row_pairs<T: Packable>(rect: &Rect<'_, T>, place: Place, out: &mut [u32]) {
    rect.check();
    let order = index(&INTERLEAVE);
    for pair in 0..rect.rows.div_ceil(DEPTH) * LANES {
        let at = (pair / LANES) * place.block + (pair % LANES) * place.row;
        let mut done = 0;
        if 2 * pair + 1 < rect.rows {
            let (first, _) = rect.row(2 * pair).as_chunks::<LANES>();
            let (second, _) = rect.row(2 * pair + 1).as_chunks::<LANES>();
            for (block, (x, y)) in first.iter().zip(second).enumerate() {
                store(out, at + block * place.step, interleaved(order, x, y));
            }
            done = first.len();
        }
        for block in done..rect.cols.div_ceil(LANES) {
            let vector = rect.down(2 * pair, block * LANES);
            store(out, at + block * place.step, vector);
        }
    }
}

/// Sixteen pairs out of 32 neighbours.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pairs_of<T: Packable>(numbers: &[T; DEPTH]) -> __m512i {
    let start = numbers.as_ptr();
    // SAFETY: twice sixteen numbers.
    unsafe { T::halves((start, !0), (start.add(LANES), !0)) }
}

/// Sixteen pairs, one of each row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn interleaved<T: Packable>(order: __m512i, first: &[T; LANES], second: &[T; LANES]) -> __m512i {
    // SAFETY: sixteen numbers each.
    let halves = unsafe { T::halves((first.as_ptr(), !0), (second.as_ptr(), !0)) };
    _mm512_permutexvar_epi16(order, halves)
}

/// Rows to panels: for each 16 rows, whole tiles of (pair along the row, row). A panel is
/// `cols.div_ceil(32) * 256` words.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) fn rows_to_panels(rect: &Rect<'_>, out: &mut [u32]) {
    rect.check();
    let steps = rect.cols.div_ceil(DEPTH);
    for block in 0..rect.rows.div_ceil(LANES) {
        for step in 0..steps {
            let mut tile = [_mm512_setzero_si512(); LANES];
            for (r, vector) in tile.iter_mut().enumerate() {
                *vector = rect.along(block * LANES + r, step * DEPTH);
            }
            store_tile(&transposed(&tile), out, (block * steps + step) * TILE_WORDS);
        }
    }
}

/// Columns to left tiles: for each 16 columns, whole tiles of (column, pair down the rows). A block
/// is `rows.div_ceil(32) * 256` words.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) fn cols_to_tiles<T: Packable>(rect: &Rect<'_, T>, out: &mut [u32]) {
    rect.check();
    let steps = rect.rows.div_ceil(DEPTH);
    let order = index(&INTERLEAVE);
    for step in 0..steps {
        for block in 0..rect.cols.div_ceil(LANES) {
            let mut tile = [_mm512_setzero_si512(); LANES];
            let (row, col) = (step * DEPTH, block * LANES);
            if row + DEPTH <= rect.rows && col + LANES <= rect.cols {
                let start = row * rect.stride + col;
                for (pair, vector) in tile.iter_mut().enumerate() {
                    let at = start + 2 * pair * rect.stride;
                    *vector = rect.two_rows(order, at);
                    // Sixteen columns at a time of 32 rows are too many streams for the processor
                    // to foresee: ask for the same place of the next 32 rows.
                    expect_read(rect.data, at + DEPTH * rect.stride);
                    expect_read(rect.data, at + (DEPTH + 1) * rect.stride);
                }
            } else {
                for (pair, vector) in tile.iter_mut().enumerate() {
                    *vector = rect.down(row + 2 * pair, col);
                }
            }
            store_tile(&transposed(&tile), out, (block * steps + step) * TILE_WORDS);
        }
    }
}

/// A tile of the transposed matrix: (16 output rows, 32 deep) becomes half a tile in each of two
/// panels of `out_panel` words, whose pairs `pair..pair + 8` it fills. `out` is one or two panels.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn flip_tile(words: &[u32], pair: usize, out_panel: usize, out: &mut [u32]) {
    let mut tile = [_mm512_setzero_si512(); LANES];
    for (r, vector) in tile.iter_mut().enumerate() {
        let row = &words[r * LANES..(r + 1) * LANES];
        // SAFETY: the slice holds exactly sixteen words.
        *vector = unsafe { _mm512_loadu_si512(row.as_ptr().cast()) };
    }
    let rows = transposed(&tile);
    for (i, two) in rows.chunks_exact(2).enumerate() {
        let row = (pair + i) * LANES;
        store(
            out,
            row,
            _mm512_permutex2var_epi16(two[0], index(&INTERLEAVE_LOW), two[1]),
        );
        if out_panel < out.len() {
            let high = _mm512_permutex2var_epi16(two[0], index(&INTERLEAVE_HIGH), two[1]);
            store(out, out_panel + row, high);
        }
    }
}

/// A hint that the number at `at`, if there is one, is read soon.
#[inline]
fn expect_read<T>(data: &[T], at: usize) {
    let address = data.as_ptr().wrapping_add(at);
    // SAFETY: a hint; it reads and writes nothing, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_tile(tile: &[__m512i; LANES], out: &mut [u32], at: usize) {
    let place = &mut out[at..at + TILE_WORDS];
    for (r, &vector) in tile.iter().enumerate() {
        store(place, r * LANES, vector);
    }
}

/// Transposes 16 x 16 words: pairs of rows, then of 64-bit halves, then of 128-bit lanes twice.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transposed(rows: &[__m512i; LANES]) -> [__m512i; LANES] {
    let mut pairs = [_mm512_setzero_si512(); LANES];
    for i in (0..LANES).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    // quads[4 g + c], 128-bit lane l: column 4 l + c of rows 4 g .. 4 g + 4.
    let mut quads = [_mm512_setzero_si512(); LANES];
    for g in (0..LANES).step_by(4) {
        quads[g] = _mm512_unpacklo_epi64(pairs[g], pairs[g + 2]);
        quads[g + 1] = _mm512_unpackhi_epi64(pairs[g], pairs[g + 2]);
        quads[g + 2] = _mm512_unpacklo_epi64(pairs[g + 1], pairs[g + 3]);
        quads[g + 3] = _mm512_unpackhi_epi64(pairs[g + 1], pairs[g + 3]);
    }
    let mut out = [_mm512_setzero_si512(); LANES];
    for c in 0..4 {
        let low_even = _mm512_shuffle_i32x4::<0x88>(quads[c], quads[4 + c]);
        let low_odd = _mm512_shuffle_i32x4::<0xdd>(quads[c], quads[4 + c]);
        let high_even = _mm512_shuffle_i32x4::<0x88>(quads[8 + c], quads[12 + c]);
        let high_odd = _mm512_shuffle_i32x4::<0xdd>(quads[8 + c], quads[12 + c]);
        out[c] = _mm512_shuffle_i32x4::<0x88>(low_even, high_even);
        out[4 + c] = _mm512_shuffle_i32x4::<0x88>(low_odd, high_odd);
        out[8 + c] = _mm512_shuffle_i32x4::<0xdd>(low_even, high_even);
        out[12 + c] = _mm512_shuffle_i32x4::<0xdd>(low_odd, high_odd);
    }
    out
}
