//! Block products: f32, and pairs of bf16 with the dot product instruction.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_epi32,
    _mm512_loadu_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_storeu_ps,
};
use std::mem::transmute;

use crate::cpu::gemm::tile::{LANES, Tile};

/// Rows of a block: 8 rows of 3 vectors, the panels' 3 and a broadcast fill 28 of 32 registers, and
/// 24 products to 11 loads keep both multipliers busy.
pub(crate) const ROWS: usize = 8;
/// Panels of a block.
pub(crate) const PANELS: usize = 3;

/// Calls `$block::<rows, panels>` for the sizes found at run time.
macro_rules! by_size {
    ($block:ident, $tile:expr, $acc:expr) => {
        match ($tile.rows, $tile.panels) {
            (1, 1) => $block::<1, 1>($tile, $acc),
            (2, 1) => $block::<2, 1>($tile, $acc),
            (3, 1) => $block::<3, 1>($tile, $acc),
            (4, 1) => $block::<4, 1>($tile, $acc),
            (5, 1) => $block::<5, 1>($tile, $acc),
            (6, 1) => $block::<6, 1>($tile, $acc),
            (7, 1) => $block::<7, 1>($tile, $acc),
            (_, 1) => $block::<8, 1>($tile, $acc),
            (1, 2) => $block::<1, 2>($tile, $acc),
            (2, 2) => $block::<2, 2>($tile, $acc),
            (3, 2) => $block::<3, 2>($tile, $acc),
            (4, 2) => $block::<4, 2>($tile, $acc),
            (5, 2) => $block::<5, 2>($tile, $acc),
            (6, 2) => $block::<6, 2>($tile, $acc),
            (7, 2) => $block::<7, 2>($tile, $acc),
            (_, 2) => $block::<8, 2>($tile, $acc),
            (1, _) => $block::<1, 3>($tile, $acc),
            (2, _) => $block::<2, 3>($tile, $acc),
            (3, _) => $block::<3, 3>($tile, $acc),
            (4, _) => $block::<4, 3>($tile, $acc),
            (5, _) => $block::<5, 3>($tile, $acc),
            (6, _) => $block::<6, 3>($tile, $acc),
            (7, _) => $block::<7, 3>($tile, $acc),
            _ => $block::<8, 3>($tile, $acc),
        }
    };
}

/// One block in f32.
#[target_feature(enable = "avx512f")]
pub(crate) fn tile_f32(tile: &Tile<'_, f32>, acc: &mut [f32]) {
    tile.check(ROWS, PANELS, acc.len());
    by_size!(block_f32, tile, acc);
}

/// One block of bf16 pairs. The instruction rounds each product's sum to nearest even and treats
/// subnormals as zero.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) fn tile_pairs(tile: &Tile<'_, u32>, acc: &mut [f32]) {
    tile.check(ROWS, PANELS, acc.len());
    by_size!(block_pairs, tile, acc);
}

#[target_feature(enable = "avx512f")]
fn block_f32<const R: usize, const P: usize>(tile: &Tile<'_, f32>, acc: &mut [f32]) {
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    let (a, b) = (tile.a.as_ptr(), tile.b.as_ptr());
    for step in 0..tile.steps {
        let mut right = [_mm512_setzero_ps(); P];
        for (p, vector) in right.iter_mut().enumerate() {
            // SAFETY: `check` found the last panel's rows up to `steps` inside `b`.
            *vector = unsafe { _mm512_loadu_ps(b.add(p * tile.b_panel + step * LANES)) };
        }
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `check` found the last row's last step inside `a`; r is a row of the block.
            let left = _mm512_set1_ps(unsafe { *a.add(r * tile.a_row + step * tile.a_step) });
            for (s, &vector) in sum.iter_mut().zip(&right) {
                *s = _mm512_fmadd_ps(left, vector, *s);
            }
        }
    }
    store(&sums, acc);
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn block_pairs<const R: usize, const P: usize>(tile: &Tile<'_, u32>, acc: &mut [f32]) {
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    let (a, b) = (tile.a.as_ptr().cast::<i32>(), tile.b.as_ptr().cast::<i32>());
    for step in 0..tile.steps {
        let mut right = [_mm512_setzero_si512(); P];
        for (p, vector) in right.iter_mut().enumerate() {
            // SAFETY: `check` found the last panel's rows up to `steps` inside `b`.
            *vector = unsafe { _mm512_loadu_epi32(b.add(p * tile.b_panel + step * LANES)) };
        }
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `check` found the last row's last step inside `a`; r is a row of the block.
            let left = _mm512_set1_epi32(unsafe { *a.add(r * tile.a_row + step * tile.a_step) });
            for (s, &vector) in sum.iter_mut().zip(&right) {
                *s = _mm512_dpbf16_ps(*s, as_pairs(left), as_pairs(vector));
            }
        }
    }
    store(&sums, acc);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn as_pairs(words: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits; the vector types differ in name only.
    unsafe { transmute::<__m512i, __m512bh>(words) }
}

#[target_feature(enable = "avx512f")]
fn store<const R: usize, const P: usize>(sums: &[[__m512; P]; R], acc: &mut [f32]) {
    let out = acc.as_mut_ptr();
    for (r, sum) in sums.iter().enumerate() {
        for (p, &vector) in sum.iter().enumerate() {
            // SAFETY: `check` found room for rows * panels * 16 sums.
            unsafe { _mm512_storeu_ps(out.add((r * P + p) * LANES), vector) };
        }
    }
}
