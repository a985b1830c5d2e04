//! Inner product kernel for 64-bit ARM.

use std::arch::aarch64::{vdupq_n_f32, vfmaq_n_f32, vld1q_f32, vst1q_f32};

use crate::cpu::gemm::tile::{LANES, Tile};

/// Rows of a block: 6 rows of four vectors and the panel's four leave 4 of 32 registers.
pub(crate) const ROWS: usize = 6;
/// Panels of a block.
pub(crate) const PANELS: usize = 1;
/// f32 of a vector.
const QUARTER: usize = LANES / 4;

/// One block in f32.
#[target_feature(enable = "neon")]
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

#[target_feature(enable = "neon")]
fn rows<const R: usize>(tile: &Tile<'_, f32>, acc: &mut [f32]) {
    let mut sums = [[vdupq_n_f32(0.0); 4]; R];
    let (a, b) = (tile.a.as_ptr(), tile.b.as_ptr());
    for step in 0..tile.steps {
        let mut panel = [vdupq_n_f32(0.0); 4];
        for (q, vector) in panel.iter_mut().enumerate() {
            // SAFETY: `check` found the panel's rows up to `steps` inside `b`.
            *vector = unsafe { vld1q_f32(b.add(step * LANES + q * QUARTER)) };
        }
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `check` found the last row's last step inside `a`; r is a row of the block.
            let x = unsafe { *a.add(r * tile.a_row + step * tile.a_step) };
            for (s, &vector) in sum.iter_mut().zip(&panel) {
                *s = vfmaq_n_f32(*s, vector, x);
            }
        }
    }
    let out = acc.as_mut_ptr();
    for (r, sum) in sums.iter().enumerate() {
        for (q, &vector) in sum.iter().enumerate() {
            // SAFETY: `check` found room for rows * 16 sums.
            unsafe { vst1q_f32(out.add(r * LANES + q * QUARTER), vector) };
        }
    }
}
