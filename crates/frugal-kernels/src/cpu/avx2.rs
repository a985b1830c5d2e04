//! Inner product kernel for AVX2 with fused multiply-add.

pub(crate) mod direct;
pub(crate) mod integer;

use std::arch::x86_64::{
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

use crate::cpu::gemm::tile::{LANES, Tile};

/// Rows of a block: 6 rows of two vectors, the panel's two and one broadcast fill 15 of 16 registers.
pub(crate) const ROWS: usize = 6;
/// Panels of a block.
pub(crate) const PANELS: usize = 1;
/// f32 of a vector.
const HALF: usize = LANES / 2;

/// One block in f32.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn tile_f32(tile: &Tile<'_, f32>, acc: &mut [f32]) {
    tile.check(ROWS, PANELS, acc.len());
    match tile.rows {
        1 => rows::<1>(tile, acc),
        2 => rows::<2>(tile, acc),
        3 => rows::<3>(tile, acc),
        4 => rows::<4>(tile, acc),
        5 => rows::<5>(tile, acc),
        _ => rows::<6>(tile, acc),
    }
}

#[target_feature(enable = "avx2,fma")]
fn rows<const R: usize>(tile: &Tile<'_, f32>, acc: &mut [f32]) {
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    let (a, b) = (tile.a.as_ptr(), tile.b.as_ptr());
    for step in 0..tile.steps {
        // SAFETY: `check` found the panel's rows up to `steps` inside `b`.
        let low = unsafe { _mm256_loadu_ps(b.add(step * LANES)) };
        // SAFETY: as above, second half of the same row.
        let high = unsafe { _mm256_loadu_ps(b.add(step * LANES + HALF)) };
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `check` found the last row's last step inside `a`; r is a row of the block.
            let x = _mm256_set1_ps(unsafe { *a.add(r * tile.a_row + step * tile.a_step) });
            sum[0] = _mm256_fmadd_ps(x, low, sum[0]);
            sum[1] = _mm256_fmadd_ps(x, high, sum[1]);
        }
    }
    let out = acc.as_mut_ptr();
    for (r, sum) in sums.iter().enumerate() {
        for (h, &vector) in sum.iter().enumerate() {
            // SAFETY: `check` found room for rows * 16 sums.
            unsafe { _mm256_storeu_ps(out.add(r * LANES + h * HALF), vector) };
        }
    }
}
