//! Products of blocks with activations of 8 bits, as many-core and vector machines like them.
//!
//! Each run of [`GROUP`] activations is rounded to whole numbers of -127 to 127 with one scale. A
//! group of levels meets its activations in whole numbers, exactly; what is rounded is the sum over
//! groups, in their order:
//!
//! `y = sum over groups of (factor * scale) * sum(a * (level - zero)) - minimum * (scale * sum(a))`
//!
//! Since the inner sums are exact, every machine, every number of rows and every cut of the work
//! gives the same result, up to whether multiplication and addition round once or twice.

use alloc::vec;
use alloc::vec::Vec;

use super::{Block, BlockFormat, Groups, Opened, Plain};
use crate::error::Result;
use crate::with_block;

/// Activations that share a scale.
pub const GROUP: usize = 32;

/// Activations of which the largest is smaller count as zeros: below, one over the scale overflows.
pub const LEAST: f32 = 1e-30;

/// Rounds a group of activations and gives their scale. Of a group with an infinity or a NaN the
/// scale is NaN.
#[expect(
    clippy::inline_always,
    reason = "melts into the vector code of its caller"
)]
#[inline(always)]
pub fn round_group(values: &[f32; GROUP], levels: &mut [i8; GROUP]) -> f32 {
    // As whole numbers the bits of floats without sign have the order of the floats, and NaN comes
    // after infinity.
    let largest = values
        .iter()
        .fold(0, |most: u32, x| most.max(x.to_bits() & 0x7fff_ffff));
    let largest = f32::from_bits(largest);
    let is_some = largest.is_finite() && largest >= LEAST;
    let inverse = if is_some { 127.0 / largest } else { 0.0 };
    for (level, x) in levels.iter_mut().zip(values) {
        *level = nearest(x * inverse);
    }
    if is_some {
        largest / 127.0
    } else {
        // Zero; of an infinity or a NaN, NaN.
        largest * 0.0
    }
}

/// The nearest whole number, ties to even, of numbers far below 2^22 (NaN gives some level).
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low byte is the number, in two's complement"
)]
pub(super) fn nearest(x: f32) -> i8 {
    // Adding 1.5 * 2^23 leaves no bits below one, and the number in the lowest bits.
    ((x + 12_582_912.0).to_bits() as u8).cast_signed()
}

/// One row of blocks times one row of activations.
///
/// # Errors
/// If the bytes are not those of `x.len()` numbers.
pub fn product(format: BlockFormat, bytes: &[u8], x: &[f32]) -> Result<f32> {
    crate::error::expect_count(
        "product",
        "bytes",
        format.expect_bytes_of(x.len())?,
        bytes.len(),
    )?;
    let mut rounded = vec![0; x.len()];
    let (groups, _) = rounded.as_chunks_mut::<GROUP>();
    let scales: Vec<f32> = x
        .as_chunks::<GROUP>()
        .0
        .iter()
        .zip(groups)
        .map(|(values, levels)| round_group(values, levels))
        .collect();
    Ok(with_block!(format, B => blocks::<B, _, _>(bytes, &rounded, &scales)))
}

fn blocks<B: Block<BYTES, VALUES>, const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    rounded: &[i8],
    scales: &[f32],
) -> f32 {
    let mut y = 0.0;
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let rounded = rounded.chunks_exact(VALUES);
    let scales = scales.chunks_exact(VALUES / GROUP);
    for (block, (rounded, scales)) in blocks.iter().zip(rounded.zip(scales)) {
        let mut levels = [0; VALUES];
        let (mut factors, mut minima): (Groups, Groups) = ([0.0; 16], [0.0; 16]);
        let into = Opened {
            levels: &mut levels,
            factors: &mut factors,
            minima: &mut minima,
        };
        B::open(Plain, block, into);
        let groups = levels.chunks(B::GROUP).zip(rounded.chunks(B::GROUP));
        for (group, (levels, rounded)) in groups.enumerate() {
            let of = |numbers: &[f32]| numbers.get(group).copied().unwrap_or_default();
            let scale = scales
                .get(group * B::GROUP / GROUP)
                .copied()
                .unwrap_or_default();
            let pairs = levels.iter().zip(rounded);
            let inner: i32 = pairs
                .map(|(level, a)| (i32::from(*level) - i32::from(B::ZERO)) * i32::from(*a))
                .sum();
            let sum: i32 = rounded.iter().map(|a| i32::from(*a)).sum();
            y += inner as f32 * (of(&factors) * scale);
            if B::HAS_MINIMA {
                y -= of(&minima) * (scale * sum as f32);
            }
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_round_to_the_nearest_even_level() {
        let mut values = [0.0; GROUP];
        values[..6].copy_from_slice(&[127.0, -127.0, 0.5, 1.5, -2.5, 63.4]);
        let mut levels = [1; GROUP];
        let scale = round_group(&values, &mut levels);
        assert!((scale - 1.0).abs() < 1e-6);
        assert_eq!(levels[..7], [127, -127, 0, 2, -2, 63, 0]);
    }

    #[test]
    fn zeros_have_no_scale_and_what_is_not_finite_has_no_number() {
        let mut levels = [1; GROUP];
        for tiny in [0.0, 1e-38, -1e-31] {
            assert!(round_group(&[tiny; GROUP], &mut levels).abs() < 1e-37);
            assert_eq!(levels, [0; GROUP]);
        }
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; GROUP];
            values[7] = odd;
            assert!(round_group(&values, &mut levels).is_nan());
        }
    }

    #[test]
    fn a_product_is_near_that_of_the_decoded_numbers() {
        let mut rng = crate::rng::Rng::derive(&[7]);
        for format in BlockFormat::ALL {
            let weights: Vec<f32> = (0..512).map(|_| rng.normal()).collect();
            let x: Vec<f32> = (0..512).map(|_| rng.normal()).collect();
            let bytes = format.encode(&weights).unwrap();
            let mut decoded = vec![0.0; 512];
            format.decode(&bytes, &mut decoded).unwrap();
            let exact: f32 = decoded.iter().zip(&x).map(|(w, x)| w * x).sum();
            let own = product(format, &bytes, &x).unwrap();
            // 512 errors of half a step, a step being a 127th of about 2.5, at random.
            let bound = 4.0 * 0.29 * (2.5 / 127.0) * 512f32.sqrt();
            assert!((own - exact).abs() < bound, "{format}: {own} {exact}");
        }
    }
}
