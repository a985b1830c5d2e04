//! Inner product kernel in plain Rust, written for the compiler's vectoriser: fixed-width chunks
//! and array sums. It runs everywhere and defines what the others compute, up to rounding.

#![expect(
    clippy::indexing_slicing,
    reason = "block kernels: sizes are checked once a block, before the loops"
)]

use crate::cpu::gemm::tile::{LANES, Tile};

/// Rows of a block: two rows of sixteen sums and one panel row fit sixteen 128-bit registers.
pub(crate) const ROWS: usize = 2;
/// Panels of a block.
pub(crate) const PANELS: usize = 1;

/// One block in f32.
pub(crate) fn tile_f32(tile: &Tile<'_, f32>, acc: &mut [f32]) {
    tile.check(ROWS, PANELS, acc.len());
    match tile.rows {
        1 => rows::<1>(tile, acc),
        _ => rows::<2>(tile, acc),
    }
}

fn rows<const R: usize>(tile: &Tile<'_, f32>, acc: &mut [f32]) {
    let mut sums = [[0.0_f32; LANES]; R];
    let (panel, _) = tile.b.as_chunks::<LANES>();
    for (step, b) in panel.iter().take(tile.steps).enumerate() {
        for (r, sum) in sums.iter_mut().enumerate() {
            let a = tile.a[r * tile.a_row + step * tile.a_step];
            for (s, &x) in sum.iter_mut().zip(b) {
                *s += a * x;
            }
        }
    }
    acc[..R * LANES].copy_from_slice(sums.as_flattened());
}
