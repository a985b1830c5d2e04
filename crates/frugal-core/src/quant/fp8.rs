//! The published FP8 format: e4m3 bytes with an f32 factor for each rectangle of a matrix, apart
//! from them.
//!
//! Weights are in rectangles of 128x128, activations in 1x128. The way back is
//! [`Data::Fp8Blocks`](crate::dtype::Data::Fp8Blocks). *Source*: DeepSeek-V3 `weight_scale_inv`.

use alloc::vec::Vec;

use super::expect_finite;
use crate::dtype::{e4m3_to_f32, f32_to_e4m3};
use crate::error::{Error, Result, expect_count};

/// The largest e4m3 number.
const LARGEST: f32 = 448.0;

/// How a rectangle's factor is chosen from its farthest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    /// The farthest number over 448.
    Float,
    /// The next power of two from there up, as units with power-of-two factors need.
    PowerOfTwo,
}

/// The e4m3 bytes and factors of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Fp8Blocks {
    /// e4m3, row-major.
    pub bytes: Vec<u8>,
    /// `[ceil(N / block_rows), ceil(K / block_cols)]`: what each rectangle is multiplied by.
    pub scales: Vec<f32>,
}

/// The matrix `[N, K]` in rectangles, ragged at the lower and right edges.
///
/// A rectangle of zeros has factor 1; one of numbers so small that their factor is subnormal has
/// the smallest normal factor.
///
/// # Errors
/// If the values are not those of the shape, one is not finite or would not be when rounded, or a
/// rectangle is empty.
pub fn encode_blocks(
    values: &[f32],
    [rows, cols]: [usize; 2],
    block: [usize; 2],
    scales: Scales,
) -> Result<Fp8Blocks> {
    let [block_rows, block_cols] = block;
    if block_rows == 0 || block_cols == 0 {
        return Err(Error::Setting {
            op: "encode",
            reason: alloc::format!(
                "expected blocks of at least 1x1, got {block_rows}x{block_cols}"
            ),
        });
    }
    expect_count("encode", "values", rows.saturating_mul(cols), values.len())?;
    expect_finite(values)?;
    let across = cols.div_ceil(block_cols);
    let mut all = Vec::with_capacity(rows.div_ceil(block_rows) * across);
    let mut bytes = Vec::with_capacity(values.len());
    if values.is_empty() {
        return Ok(Fp8Blocks { bytes, scales: all });
    }
    for band in values.chunks(block_rows.saturating_mul(cols)) {
        let mut farthest = alloc::vec![0.0f32; across];
        for line in band.chunks(cols) {
            for (farthest, part) in farthest.iter_mut().zip(line.chunks(block_cols)) {
                *farthest = part.iter().fold(*farthest, |most, x| most.max(x.abs()));
            }
        }
        let factors = farthest.iter().map(|x| scale(*x, scales));
        let factors: Vec<f32> = factors.collect();
        for (farthest, factor) in farthest.iter().zip(&factors) {
            expect_in_reach(*farthest, *factor)?;
        }
        for line in band.chunks(cols) {
            for (part, factor) in line.chunks(block_cols).zip(&factors) {
                bytes.extend(part.iter().map(|x| f32_to_e4m3(x / factor)));
            }
        }
        all.extend(factors);
    }
    Ok(Fp8Blocks { bytes, scales: all })
}

/// Refuses a number at the end of f32 that would be rounded beyond it.
fn expect_in_reach(farthest: f32, factor: f32) -> Result<()> {
    if (e4m3_to_f32(f32_to_e4m3(farthest / factor)) * factor).is_finite() {
        return Ok(());
    }
    Err(Error::Setting {
        op: "encode",
        reason: alloc::format!("expected numbers that stay finite when rounded, got {farthest}"),
    })
}

/// The factor of a rectangle, by which its farthest number does not exceed the largest.
fn scale(farthest: f32, scales: Scales) -> f32 {
    if farthest == 0.0 {
        return 1.0;
    }
    let scale = (farthest / LARGEST).max(f32::MIN_POSITIVE);
    match scales {
        Scales::Float => scale,
        Scales::PowerOfTwo => {
            // A normal float is a power of two when its fraction is zero; if not, the next one
            // has an exponent of one more.
            const FRACTION: u32 = (1 << 23) - 1;
            f32::from_bits((scale.to_bits() + FRACTION) & !FRACTION)
        }
    }
}

/// The nearest e5m2 byte, ties to even, infinite beyond 57344 as in IEEE 754; NaN stays NaN.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "below 2^16 the exponent lies in -14..=15 and the steps in 0..=8"
)]
pub fn f32_to_e5m2(value: f32) -> u8 {
    let sign = if value.is_sign_negative() { 0x80 } else { 0 };
    let magnitude = value.abs();
    if magnitude.is_nan() {
        return sign | 0x7F;
    }
    if magnitude >= 65536.0 {
        return sign | 0x7C;
    }
    // As for e4m3: below the smallest normal number steps are 2^-16; above, 2^(exponent - 2).
    let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(-14);
    let step = f32::from_bits(((exponent - 2 + 127) as u32) << 23);
    let steps = libm::rintf(magnitude / step) as u32;
    // 4 steps are the implicit bit; 8 carry into the next exponent, past the last into infinity.
    let code = (exponent + 14) as u32 * 4 + steps;
    sign | code as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::{Data, decode, e5m2_to_f32};
    use crate::shape::Shape;

    #[test]
    fn a_power_of_two_is_the_next_one_up() {
        for (farthest, expected) in [
            (448.0, 1.0),
            (448.1, 2.0),
            (224.0, 0.5),
            (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
            (0.0, 1.0),
        ] {
            let got: f32 = scale(farthest, Scales::PowerOfTwo);
            assert_eq!(got.to_bits(), f32::to_bits(expected), "{farthest}");
        }
    }

    #[test]
    fn ragged_rectangles_come_back_within_a_step() {
        let values: Vec<f32> = (0..35u8).map(|i| (f32::from(i) - 17.0) * 0.37).collect();
        for scales in [Scales::Float, Scales::PowerOfTwo] {
            let block = [2, 3];
            let coded = encode_blocks(&values, [5, 7], block, scales).unwrap();
            assert_eq!(coded.scales.len(), 9);
            let data = Data::Fp8Blocks {
                bytes: &coded.bytes,
                scales: &coded.scales,
                block,
            };
            let back = decode(Shape::matrix(5, 7), data).unwrap();
            for (x, y) in values.iter().zip(back) {
                assert!((x - y).abs() <= x.abs() / 16.0 + 1e-3, "{x} became {y}");
            }
        }
    }

    #[test]
    fn zeros_and_the_smallest_numbers_stay_what_they_are() {
        let values = [0.0, 0.0, 1e-45, -1e-40];
        let coded = encode_blocks(&values, [2, 2], [1, 2], Scales::Float).unwrap();
        assert_eq!(coded.scales, [1.0, f32::MIN_POSITIVE]);
        assert_eq!(coded.bytes.first(), Some(&0));
        assert!(coded.bytes.iter().all(|byte| byte & 0x7F != 0x7F));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let float = Scales::Float;
        assert!(encode_blocks(&[1.0; 3], [2, 2], [1, 1], float).is_err());
        assert!(encode_blocks(&[1.0; 4], [2, 2], [0, 1], float).is_err());
        let broken = [1.0, 2.0, f32::NAN, 4.0];
        let error = encode_blocks(&broken, [2, 2], [1, 1], float).unwrap_err();
        assert!(alloc::format!("{error}").contains("index 2"), "{error}");
        let none = encode_blocks(&[], [0, 4], [128, 128], float).unwrap();
        assert!(none.bytes.is_empty() && none.scales.is_empty());
    }

    #[test]
    fn every_finite_e5m2_byte_survives_a_round_trip() {
        for byte in 0..=255u8 {
            let value = e5m2_to_f32(byte);
            if value.is_nan() {
                assert!(e5m2_to_f32(f32_to_e5m2(value)).is_nan());
            } else {
                assert_eq!(f32_to_e5m2(value), byte, "{value}");
            }
        }
    }
}
