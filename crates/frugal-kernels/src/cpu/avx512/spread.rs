//! Rows of stored weights spread to tiles of bf16, rounded to nearest even, subnormals to zero.
//!
//! Levels of few bits are looked up: a group's numbers are a table of at most 32, multiplied and
//! rounded once a group rather than once a number.

use std::arch::x86_64::{
    __m256i, __m512, __m512bh, __m512i, _mm_loadu_si128, _mm256_cvtepu8_epi16, _mm256_loadu_si256,
    _mm256_srli_epi16, _mm512_castsi256_si512, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps,
    _mm512_cvtepu8_epi16, _mm512_cvtepu8_epi32, _mm512_cvtne2ps_pbh, _mm512_inserti64x4,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_or_si512, _mm512_permutexvar_epi16,
    _mm512_set1_ps, _mm512_srli_epi16, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
};
use std::mem::transmute;

use frugal_core::quant::{Block, BlockFormat, Groups, Opened};
use frugal_core::with_block;

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::gemm::tile::{DEPTH, LANES, TILE_WORDS};
use crate::cpu::stored::{RUN, SixteenRows, StoredRows, block_bytes};
use crate::cpu::vector::Avx512;

use super::rows::{Head, Rows, halves};

pub(in crate::cpu) use super::fp8::spread as fp8;

/// Tiles that follow each other, of which rows are written one by one.
pub(super) struct Place<'a>(pub(super) &'a mut [u32]);

impl Place<'_> {
    /// Writes the 32 numbers of a row of a tile.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn store(&mut self, (tile, row): (usize, usize), numbers: __m512i) {
        let place = &mut self.0[tile * TILE_WORDS + row * LANES..][..LANES];
        // SAFETY: the slice holds exactly sixteen words.
        unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), numbers) };
    }
}

/// Spreads a run of rows in blocks and asks for those that will be spread soon.
pub(in crate::cpu) fn blocks(
    features: CpuFeatures,
    (lanes, format): (Avx512, BlockFormat),
    (rows, run): (StoredRows<'_>, usize),
    tiles: &mut [u32],
) {
    assert!(features.supports(Isa::Avx512Bf16));
    let tiles = Place(tiles);
    let kernel = match format {
        BlockFormat::Q8_0 => Some(eight_bits as Kernel),
        BlockFormat::Q4_0 => Some(four_bits as Kernel),
        BlockFormat::Q4K => Some(four_bits_with_minima as Kernel),
        _ => None,
    };
    if let Some((kernel, sixteen)) = kernel.zip(rows.sixteen()) {
        // SAFETY: the features name the instructions.
        unsafe { kernel(sixteen, run, tiles) };
        return;
    }
    rows.ask_ahead(run);
    // SAFETY: the features name the instructions.
    with_block!(format, B => unsafe { blocks_of::<B, _, _>(lanes, (rows, run), tiles) });
}

/// Spreads numbers of row number `row`, a multiple of 32 of them.
pub(in crate::cpu) fn numbers(
    features: CpuFeatures,
    numbers: &[f32],
    row: usize,
    tiles: &mut [u32],
) {
    assert!(features.supports(Isa::Avx512Bf16));
    // SAFETY: the features name the instructions.
    unsafe { round(numbers, row, Place(tiles)) };
}

/// Spreads a run of sixteen rows of one format.
type Kernel = for<'a, 'b> unsafe fn(SixteenRows<'a>, usize, Place<'b>);

/// Blocks of one group, `BYTES` long, of a run: with `spread(block, factors, tile)`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn small<const BYTES: usize>(
    rows: SixteenRows<'_>,
    run: usize,
    mut spread: impl FnMut(Rows, &Aligned, usize),
) {
    let all = Rows::of(rows);
    let count = (all.stride / BYTES - run * TILES).min(TILES);
    for tile in 0..count {
        rows.rows().ask_some_ahead(run, 2 * tile..2 * tile + 2);
        let block = all.plus((run * TILES + tile) * BYTES);
        // SAFETY: the rows have all their blocks, of which this is one.
        let factors = halves(unsafe { block.words() });
        spread(block, &Aligned::of(factors), tile);
    }
}

/// Tiles of a run.
const TILES: usize = RUN / DEPTH;

/// A number for each of sixteen rows.
#[repr(C, align(64))]
struct Aligned([f32; LANES]);

impl Aligned {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn of(numbers: __m512) -> Self {
        let mut aligned = Self([0.0; LANES]);
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(aligned.0.as_mut_ptr(), numbers) };
        aligned
    }
}

/// Q8_0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn eight_bits(rows: SixteenRows<'_>, run: usize, mut tiles: Place<'_>) {
    small::<{ block_bytes::Q8_0 }>(rows, run, |block, factors, tile| {
        for (row, factor) in factors.0.iter().enumerate() {
            // SAFETY: a block has 32 bytes of levels after its factor.
            let halves: [[u8; LANES]; 2] = [2, 18].map(|at| unsafe { block.plus(at).bytes(row) });
            let numbers = halves.map(|levels| {
                // SAFETY: sixteen bytes.
                let levels = unsafe { _mm_loadu_si128(levels.as_ptr().cast()) };
                let levels = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(levels));
                _mm512_mul_ps(_mm512_set1_ps(*factor), levels)
            });
            tiles.store((tile, row), rounded(numbers));
        }
    });
}

/// Q4_0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn four_bits(rows: SixteenRows<'_>, run: usize, mut tiles: Place<'_>) {
    let levels = _mm512_sub_ps(load(&COUNT[0]), _mm512_set1_ps(8.0));
    small::<{ block_bytes::Q4_0 }>(rows, run, |block, factors, tile| {
        for (row, factor) in factors.0.iter().enumerate() {
            let table = _mm512_mul_ps(_mm512_set1_ps(*factor), levels);
            // SAFETY: a block has sixteen bytes of levels after its factor.
            let bytes: [u8; LANES] = unsafe { block.plus(2).bytes(row) };
            // SAFETY: sixteen bytes.
            let lower = _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
            let upper = _mm256_srli_epi16::<4>(lower);
            let index = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(lower), upper);
            tiles.store((tile, row), looked_up(table, index));
        }
    });
}

/// Q4_K.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn four_bits_with_minima(rows: SixteenRows<'_>, run: usize, mut tiles: Place<'_>) {
    let all = Rows::of(rows);
    let block = all.plus(run * block_bytes::Q4_K);
    // SAFETY: the rows have all their blocks, of which this is one; its head is sixteen bytes.
    let mut head = unsafe { Head::of(block) };
    let levels = load(&COUNT[0]);
    for tile in (0..TILES).step_by(2) {
        rows.rows().ask_some_ahead(run, 2 * tile..2 * tile + 4);
        let scales = [0, 1].map(|nth| head.next(tile + nth).map(|numbers| Aligned::of(numbers)));
        for row in 0..LANES {
            // SAFETY: the levels of two groups are 32 bytes.
            let bytes: [u8; DEPTH] = unsafe { block.plus(16 + tile / 2 * DEPTH).bytes(row) };
            let mut index = _mm512_cvtepu8_epi16(load_bytes(&bytes));
            for (nth, [factors, minima]) in scales.iter().enumerate() {
                let table = _mm512_mul_ps(_mm512_set1_ps(factors.0[row]), levels);
                let table = _mm512_sub_ps(table, _mm512_set1_ps(minima.0[row]));
                tiles.store((tile + nth, row), looked_up(table, index));
                index = _mm512_srli_epi16::<4>(index);
            }
        }
    }
}

/// For each index what a table of sixteen says; its bits from the fifth on do not count.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn looked_up(table: __m512, index: __m512i) -> __m512i {
    // The instruction looks at five bits: both halves of its table are the same.
    _mm512_permutexvar_epi16(index, rounded([table, table]))
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn round(numbers: &[f32], row: usize, mut tiles: Place<'_>) {
    for (tile, numbers) in numbers.as_chunks::<DEPTH>().0.iter().enumerate() {
        let (halves, _) = numbers.as_chunks::<LANES>();
        tiles.store((tile, row), rounded([load(&halves[0]), load(&halves[1])]));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
fn blocks_of<B: Block<BYTES, VALUES>, const BYTES: usize, const VALUES: usize>(
    lanes: Avx512,
    (rows, run): (StoredRows<'_>, usize),
    mut tiles: Place<'_>,
) {
    for (row, bytes) in rows.run(run).enumerate() {
        for (nth, block) in bytes.as_chunks::<BYTES>().0.iter().enumerate() {
            let first = nth * VALUES / DEPTH;
            block_of::<B, _, _>(lanes, block, (first, row), &mut tiles);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
fn block_of<B: Block<BYTES, VALUES>, const BYTES: usize, const VALUES: usize>(
    lanes: Avx512,
    block: &[u8; BYTES],
    (tile, row): (usize, usize),
    to: &mut Place<'_>,
) {
    let mut levels = [0; VALUES];
    let (mut factors, mut minima): (Groups, Groups) = ([0.0; LANES], [0.0; LANES]);
    let into = Opened {
        levels: &mut levels,
        factors: &mut factors,
        minima: &mut minima,
    };
    B::open(lanes, block, into);
    for (i, levels) in levels.as_chunks::<DEPTH>().0.iter().enumerate() {
        // One group, or two of half the width.
        let [first, second] = [i * DEPTH / B::GROUP, (i * DEPTH + LANES) / B::GROUP];
        let scale = |group: usize, numbers: __m512| {
            let multiplied = _mm512_mul_ps(_mm512_set1_ps(factors[group]), numbers);
            if B::HAS_MINIMA {
                _mm512_sub_ps(multiplied, _mm512_set1_ps(minima[group]))
            } else {
                multiplied
            }
        };
        let zero = _mm512_set1_ps(f32::from(B::ZERO));
        let numbers = if first == second && B::BITS <= 5 || B::BITS <= 4 {
            let first_table = scale(first, _mm512_sub_ps(load(&COUNT[0]), zero));
            let second_table = if first == second && B::BITS <= 4 {
                first_table
            } else {
                let of = if first == second {
                    &COUNT[1]
                } else {
                    &COUNT[0]
                };
                scale(second, _mm512_sub_ps(load(of), zero))
            };
            let table = rounded([first_table, second_table]);
            let mut index = _mm512_cvtepu8_epi16(load_bytes(levels));
            if first != second {
                index = _mm512_or_si512(index, second_half());
            }
            _mm512_permutexvar_epi16(index, table)
        } else {
            let (halves, _) = levels.as_chunks::<LANES>();
            let wide = |levels: &[u8; LANES]| {
                // SAFETY: sixteen bytes.
                let levels = unsafe { _mm_loadu_si128(levels.as_ptr().cast()) };
                _mm512_sub_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(levels)), zero)
            };
            rounded([
                scale(first, wide(&halves[0])),
                scale(second, wide(&halves[1])),
            ])
        };
        to.store((tile + i, row), numbers);
    }
}

/// 0 to 31.
static COUNT: [[f32; LANES]; 2] = {
    let mut count = [[0.0; LANES]; 2];
    let mut i = 1;
    while i < DEPTH {
        count[i / LANES][i % LANES] = count[(i - 1) / LANES][(i - 1) % LANES] + 1.0;
        i += 1;
    }
    count
};

/// What leads the upper sixteen to the second half of a table.
#[inline]
#[target_feature(enable = "avx512f")]
fn second_half() -> __m512i {
    static HALF: [u16; DEPTH] = {
        let mut half = [0; DEPTH];
        let mut i = LANES;
        while i < DEPTH {
            half[i] = 16;
            i += 1;
        }
        half
    };
    // SAFETY: 32 numbers of 16 bits are 512 bits.
    unsafe { _mm512_loadu_si512(HALF.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(numbers: &[f32; LANES]) -> __m512 {
    // SAFETY: sixteen floats.
    unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_bytes(bytes: &[u8; DEPTH]) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Two vectors as bf16, the first in the lower half.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn rounded([low, high]: [__m512; 2]) -> __m512i {
    // SAFETY: both are 512 bits; the vector types differ in name only.
    unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}
