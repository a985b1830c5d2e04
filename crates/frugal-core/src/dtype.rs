//! Number formats as they are stored, and their decoding to f32.
//!
//! Rounding to a narrower format is to nearest, ties to even. e4m3 has no infinities: values
//! beyond 448 saturate, NaN stays NaN.

use alloc::vec::Vec;
use core::fmt;

use half::{bf16, f16};

use crate::error::{Error, Result, expect_count};
use crate::quant::BlockFormat;
use crate::shape::Shape;

/// How one number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// 8 bits, 4 of exponent, no infinities (OCP e4m3fn).
    F8E4M3,
    /// 8 bits, 5 of exponent (OCP e5m2).
    F8E5M2,
    /// Unsigned 32-bit index.
    U32,
}

impl DType {
    /// Bytes of one number.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::F8E4M3 | Self::F8E5M2 => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F8E4M3 => "f8_e4m3",
            Self::F8E5M2 => "f8_e5m2",
            Self::U32 => "u32",
        })
    }
}

/// Numbers on their way into a back-end, in the form they are stored in.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    /// Plain f32 values.
    F32(&'a [f32]),
    /// Little-endian bytes of `dtype`, row-major, as safetensors stores them.
    Bytes {
        /// The format of each number.
        dtype: DType,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// e4m3 bytes with one f32 factor for each block of a matrix, ragged at the edges: the
    /// published FP8 format. *Source*: DeepSeek-V3 `weight_scale_inv`.
    Fp8Blocks {
        /// e4m3 bytes, row-major.
        bytes: &'a [u8],
        /// `[ceil(N / block_rows), ceil(K / block_cols)]`: each block is multiplied by its factor.
        scales: &'a [f32],
        /// Rows and columns of a block.
        block: [usize; 2],
    },
    /// Blocks along each row, rows one after another.
    Blocks {
        /// The format of each block.
        format: BlockFormat,
        /// The blocks.
        bytes: &'a [u8],
    },
}

/// The f32 values of `data`.
///
/// # Errors
/// If the number of bytes or scales is not the one `shape` asks for, or the format holds indices.
pub fn decode(shape: Shape, data: Data<'_>) -> Result<Vec<f32>> {
    let elements = shape.checked_elements()?;
    match data {
        Data::F32(values) => {
            expect_count("decode", "values", elements, values.len())?;
            Ok(values.to_vec())
        }
        Data::Bytes { dtype, bytes } => decode_bytes(shape, dtype, bytes),
        Data::Fp8Blocks {
            bytes,
            scales,
            block,
        } => decode_fp8_blocks(shape, bytes, scales, block),
        Data::Blocks { format, bytes } => {
            if !shape.cols().is_multiple_of(format.block_values()) {
                let cols = shape.cols();
                return Err(Error::Ragged { format, cols });
            }
            let mut values = alloc::vec![0.0; elements];
            format.decode(bytes, &mut values)?;
            Ok(values)
        }
    }
}

fn expect_bytes(shape: Shape, dtype: DType, got: usize) -> Result<()> {
    let expected = shape
        .checked_elements()?
        .checked_mul(dtype.bytes())
        .ok_or(Error::TooLarge { shape })?;
    if expected == got {
        Ok(())
    } else {
        Err(Error::Bytes {
            shape,
            dtype,
            expected,
            got,
        })
    }
}

fn decode_bytes(shape: Shape, dtype: DType, bytes: &[u8]) -> Result<Vec<f32>> {
    expect_bytes(shape, dtype, bytes.len())?;
    let (wide, _) = bytes.as_chunks::<4>();
    let (pairs, _) = bytes.as_chunks::<2>();
    Ok(match dtype {
        DType::F32 => wide.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        DType::F16 => pairs
            .iter()
            .map(|b| f16::from_le_bytes(*b).to_f32())
            .collect(),
        DType::Bf16 => pairs
            .iter()
            .map(|b| bf16::from_le_bytes(*b).to_f32())
            .collect(),
        DType::F8E4M3 => bytes.iter().map(|b| e4m3_to_f32(*b)).collect(),
        DType::F8E5M2 => bytes.iter().map(|b| e5m2_to_f32(*b)).collect(),
        DType::U32 => {
            return Err(Error::Unsupported {
                op: "decode",
                backend: "f32 values",
                reason: "indices are no numbers",
            });
        }
    })
}

fn decode_fp8_blocks(
    shape: Shape,
    bytes: &[u8],
    scales: &[f32],
    block: [usize; 2],
) -> Result<Vec<f32>> {
    expect_bytes(shape, DType::F8E4M3, bytes.len())?;
    let [block_rows, block_cols] = block;
    if block_rows == 0 || block_cols == 0 {
        return Err(Error::Setting {
            op: "decode",
            reason: alloc::format!(
                "expected blocks of at least 1x1, got {block_rows}x{block_cols}"
            ),
        });
    }
    let scale_cols = shape.cols().div_ceil(block_cols);
    expect_count(
        "decode",
        "block scales",
        shape.rows().div_ceil(block_rows) * scale_cols,
        scales.len(),
    )?;
    let mut values = Vec::with_capacity(bytes.len());
    for (row, line) in bytes.chunks(shape.cols().max(1)).enumerate() {
        let row_scales = scales.iter().skip(row / block_rows * scale_cols);
        for (part, scale) in line.chunks(block_cols).zip(row_scales) {
            values.extend(part.iter().map(|b| e4m3_to_f32(*b) * scale));
        }
    }
    Ok(values)
}

/// The value of an e4m3 byte: bias 7, subnormals below 2^-6, `S.1111.111` is NaN.
///
/// Without branches, so that loops over it become vector code: the bits are laid into an f32 of
/// bias 127, and a subnormal gets the implicit bit it lacks and loses it again.
#[inline]
#[must_use]
pub const fn e4m3_to_f32(byte: u8) -> f32 {
    /// Exponent of the smallest normal number, 2^-6.
    const SMALLEST: u32 = 121 << 23;
    let magnitude = (byte & 0x7F) as u32;
    let normal = f32::from_bits((magnitude << 20) + (120 << 23));
    let subnormal = f32::from_bits((magnitude << 20) | SMALLEST) - f32::from_bits(SMALLEST);
    let value = if magnitude < 8 { subnormal } else { normal };
    let value = if magnitude == 0x7F { f32::NAN } else { value };
    f32::from_bits(value.to_bits() | ((byte & 0x80) as u32) << 24)
}

/// The nearest e4m3 byte, ties to even, saturating at 448; NaN stays NaN.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "below 448 the exponent lies in -6..=8 and the steps in 0..=16"
)]
pub fn f32_to_e4m3(value: f32) -> u8 {
    let sign = if value.is_sign_negative() { 0x80 } else { 0 };
    let magnitude = value.abs();
    if magnitude.is_nan() {
        return sign | 0x7F;
    }
    if magnitude >= 448.0 {
        return sign | 0x7E;
    }
    // Below the smallest normal number steps are 2^-9; above, 2^(exponent - 3).
    let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(-6);
    let step = f32::from_bits(((exponent - 3 + 127) as u32) << 23);
    let steps = libm::rintf(magnitude / step) as u32;
    // 8 steps are the implicit bit of a normal number; 16 carry into the next exponent by themselves.
    let code = ((exponent + 6) as u32 * 8 + steps).min(0x7E);
    sign | code as u8
}

/// The value of an e5m2 byte: the upper half of a binary16.
#[must_use]
pub fn e5m2_to_f32(byte: u8) -> f32 {
    f16::from_bits(u16::from(byte) << 8).to_f32()
}

/// Rounds to bf16 and back: what a bf16 product sees of a value.
#[must_use]
pub fn round_bf16(value: f32) -> f32 {
    bf16::from_f32(value).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn every_e4m3_byte_survives_a_round_trip() {
        for byte in 0..=255u8 {
            let value = e4m3_to_f32(byte);
            if value.is_nan() {
                assert!(e4m3_to_f32(f32_to_e4m3(value)).is_nan());
            } else {
                assert_eq!(f32_to_e4m3(value), byte, "{value}");
            }
        }
    }

    #[test]
    fn e4m3_rounds_to_nearest_even_and_saturates() {
        for (value, expected) in [
            (448.0, 448.0),
            (1e9, 448.0),
            (17.0, 16.0),
            (19.0, 20.0),
            (1.0 / 1024.0, 0.0),
            (3.0 / 1024.0, 4.0 / 1024.0),
            (-15.6, -16.0),
        ] {
            let got: f32 = e4m3_to_f32(f32_to_e4m3(value));
            assert_eq!(got.to_bits(), f32::to_bits(expected), "{value}");
        }
    }

    #[test]
    fn ragged_blocks_take_their_own_scale() {
        let bytes = vec![f32_to_e4m3(1.0); 6];
        let data = Data::Fp8Blocks {
            bytes: &bytes,
            scales: &[1.0, 2.0, 3.0, 4.0],
            block: [1, 2],
        };
        let values = decode(Shape::matrix(2, 3), data).unwrap();
        assert_eq!(values, [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]);
        let short = Data::Fp8Blocks {
            bytes: &bytes,
            scales: &[1.0],
            block: [1, 2],
        };
        assert!(decode(Shape::matrix(2, 3), short).is_err());
    }

    #[test]
    fn a_length_that_does_not_match_is_refused() {
        let data = Data::Bytes {
            dtype: DType::Bf16,
            bytes: &[0; 5],
        };
        assert!(matches!(
            decode(Shape::vector(3), data),
            Err(Error::Bytes { expected: 6, .. })
        ));
    }
}
