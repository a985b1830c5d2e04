//! Writing a block of sums to its place in the output.

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_load_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_mul_ps, _mm512_set1_ps,
};

use crate::cpu::gemm::finish::{Block, Output, Update};
use crate::cpu::gemm::tile::LANES;

/// As [`Output::write`]: the caller has checked that the block lies inside the output and that the
/// sums are where `block` says, on cache lines.
///
/// # Safety
/// [`Output::check`] has accepted `block`, and no other thread uses its part of the output.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn write(output: &Output<'_>, block: &Block<'_>) {
    let scale = _mm512_set1_ps(output.scale);
    let one = output.scale.to_bits() == 1.0_f32.to_bits();
    for r in 0..block.rows {
        for p in 0..block.cols.div_ceil(LANES) {
            let left = block.cols - p * LANES;
            let mask: __mmask16 = if left >= LANES { !0 } else { (1 << left) - 1 };
            // SAFETY: `check` found rows * stride sums, each row a whole number of lines.
            let mut sum: __m512 =
                unsafe { _mm512_load_ps(block.acc.as_ptr().add(r * block.acc_stride + p * LANES)) };
            if !one {
                sum = _mm512_mul_ps(sum, scale);
            }
            if let Some(bias) = output.bias {
                // SAFETY: `check` found `cols` numbers from `bias_at` on; the mask ends there.
                let b = unsafe {
                    _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(block.bias_at + p * LANES))
                };
                sum = _mm512_add_ps(sum, b);
            }
            // SAFETY: `check` found the block's last row inside the output.
            let place = unsafe { output.start().add(block.at + r * output.stride + p * LANES) };
            if block.update == Update::Add {
                // SAFETY: the masked numbers are inside the output and nobody else's.
                let old = unsafe { _mm512_maskz_loadu_ps(mask, place) };
                sum = _mm512_add_ps(old, sum);
            }
            // SAFETY: as above.
            unsafe { _mm512_mask_storeu_ps(place, mask, sum) };
        }
    }
}
