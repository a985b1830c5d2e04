//! Writing a block of sums to its place in the output.

use std::arch::x86_64::{
    __m512, __mmask16, _MM_HINT_ET0, _mm_prefetch, _mm512_add_ps, _mm512_load_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_storeu_ps,
};

use crate::cpu::gemm::finish::{Block, Output, Update};
use crate::cpu::gemm::tile::LANES;

/// As [`Output::write`].
///
/// # Safety
/// [`Output::check`] has accepted `block`, and no other thread uses its part of the output.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn write(output: &Output<'_>, block: &Block<'_>) {
    let is_plain = output.bias.is_none() && output.scale.to_bits() == 1.0_f32.to_bits();
    // SAFETY: as vouched for by the caller.
    unsafe {
        match (is_plain, block.update) {
            (true, Update::Set) => rows::<true, false>(output, block),
            (true, Update::Add) => rows::<true, true>(output, block),
            (false, Update::Set) => rows::<false, false>(output, block),
            (false, Update::Add) => rows::<false, true>(output, block),
        }
    }
}

/// # Safety
/// As [`write`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn rows<const IS_PLAIN: bool, const IS_ADDED: bool>(output: &Output<'_>, block: &Block<'_>) {
    let whole = block.cols / LANES;
    let tail: __mmask16 = (1 << (block.cols % LANES)) - 1;
    let scale = _mm512_set1_ps(output.scale);
    for r in 0..block.rows {
        // SAFETY: `check` found rows * stride sums.
        let sums = unsafe { block.acc.as_ptr().add(r * block.acc_stride) };
        // SAFETY: `check` found the block's last row inside the output.
        let place = unsafe { output.start().add(block.at + r * output.stride) };
        for p in 0..whole {
            // SAFETY: sums are on cache lines, a whole number of lines a row.
            let mut sum = unsafe { _mm512_load_ps(sums.add(p * LANES)) };
            if !IS_PLAIN {
                sum = scaled(output, sum, scale, (block.bias_at + p * LANES, !0));
            }
            if IS_ADDED {
                // SAFETY: a whole vector before the row's end, nobody else's.
                let old = unsafe { _mm512_loadu_ps(place.add(p * LANES)) };
                sum = _mm512_add_ps(old, sum);
            }
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(place.add(p * LANES), sum) };
        }
        if tail != 0 {
            // SAFETY: rows of sums are padded to whole lines.
            let mut sum = unsafe { _mm512_load_ps(sums.add(whole * LANES)) };
            if !IS_PLAIN {
                sum = scaled(output, sum, scale, (block.bias_at + whole * LANES, tail));
            }
            if IS_ADDED {
                // SAFETY: the mask ends at the row's end.
                let old = unsafe { _mm512_maskz_loadu_ps(tail, place.add(whole * LANES)) };
                sum = _mm512_add_ps(old, sum);
            }
            // SAFETY: the mask ends at the row's end.
            unsafe { _mm512_mask_storeu_ps(place.add(whole * LANES), tail, sum) };
        }
    }
}

/// `scale · sum + bias[at..]`; only the numbers in `mask` have a bias.
#[inline]
#[target_feature(enable = "avx512f")]
fn scaled(
    output: &Output<'_>,
    sum: __m512,
    scale: __m512,
    (at, mask): (usize, __mmask16),
) -> __m512 {
    let product = _mm512_mul_ps(sum, scale);
    let Some(bias) = output.bias else {
        return product;
    };
    // SAFETY: `check` found a bias for each of the block's columns; the mask ends with them.
    let bias = unsafe { _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(at)) };
    _mm512_add_ps(product, bias)
}

/// Asks for the cache lines of a block that will be written soon: the output is seldom near, and
/// its rows are too far apart for the processor to guess.
#[inline]
pub(crate) fn expect_write(output: &Output<'_>, (at, rows, cols): (usize, usize, usize)) {
    for r in 0..rows {
        let place = output.start().wrapping_add(at + r * output.stride);
        for line in 0..cols.div_ceil(LANES) {
            let address = place.wrapping_add(line * LANES).cast_const();
            // SAFETY: a hint; it reads and writes nothing, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(address.cast()) };
        }
    }
}
