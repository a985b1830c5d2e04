//! Block formats: every pattern of bytes is a block of numbers, and numbers that came from blocks go
//! back into blocks near them.

use frugal_core::dtype::{DType, Data, decode};
use frugal_core::quant::BlockFormat;
use frugal_core::quant::fp8::{self, Scales};
use frugal_core::shape::Shape;

use crate::memory;

const MEGABYTES: usize = 16;
/// The size of the blocks that the published format has.
const FP8: [usize; 2] = [128, 128];

/// Checks a format, chosen by the first byte, on the others.
pub fn check(data: &[u8]) -> bool {
    let Some((choice, bytes)) = data.split_first() else {
        return false;
    };
    memory::within(MEGABYTES, || {
        let choice = usize::from(*choice) % (BlockFormat::ALL.len() + 2);
        match BlockFormat::ALL.get(choice) {
            Some(format) => blocks(*format, bytes),
            None if choice == BlockFormat::ALL.len() => scaled(bytes),
            None => plain(bytes),
        }
    })
}

fn blocks(format: BlockFormat, bytes: &[u8]) -> bool {
    let n = bytes.len() / format.block_bytes();
    let whole = &bytes[..n * format.block_bytes()];
    let mut values = vec![f32::from_bits(0x7FC0_1234); n * format.block_values()];
    format.decode(whole, &mut values).unwrap();
    assert_eq!(format.bytes_of(values.len()), Some(whole.len()));
    if whole.len() != bytes.len() {
        assert!(format.decode(bytes, &mut values).is_err());
    }
    assert!(values.iter().all(|x| x.to_bits() != 0x7FC0_1234));
    // A tensor decodes as its blocks do.
    let shape = Shape::matrix(n, format.block_values());
    if n > 0 {
        let whole = Data::Blocks {
            format,
            bytes: whole,
        };
        let tensor = decode(shape, whole).unwrap();
        assert!(
            tensor
                .iter()
                .zip(&values)
                .all(|(a, b)| a.to_bits() == b.to_bits())
        );
    }
    let encoded = format.encode(&values);
    if values.iter().any(|x| !x.is_finite()) {
        assert!(encoded.is_err());
        return true;
    }
    let encoded = match encoded {
        Ok(encoded) => encoded,
        Err(error) => {
            assert!(error.to_string().contains("f16"), "{error}");
            return true;
        }
    };
    assert_eq!(encoded.len(), whole.len());
    let mut again = vec![f32::NAN; values.len()];
    format.decode(&encoded, &mut again).unwrap();
    let width = format.block_values();
    for (values, again) in values.chunks(width).zip(again.chunks(width)) {
        let lost: f64 = values.iter().zip(again).map(|(a, b)| square(a - b)).sum();
        let all: f64 = values.iter().map(|x| square(*x)).sum();
        // Factors below the smallest of f16 are lost, with up to 32 levels of them, and 63 of those.
        let dust = square(63.0 * 32.0 * 2f32.powi(-24)) * width as f64;
        assert!(
            lost <= share_lost(format) * all + dust,
            "{format}: {lost} of {all} lost: {values:?} became {again:?}"
        );
    }
    true
}

/// The share of a block's squares that may be lost. Where all numbers but one lie between two
/// levels, each loses half a step: of 32 at a fifth of the one, an eighth in 4 bits. The search may
/// lose more of some to lose less of others, and never most of a block.
fn share_lost(format: BlockFormat) -> f64 {
    match format {
        BlockFormat::Q2K => 0.5,
        BlockFormat::Q3K => 0.4,
        BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q4K | BlockFormat::Iq4Nl => 0.15,
        BlockFormat::Q5_0 | BlockFormat::Q5_1 | BlockFormat::Q5K => 0.04,
        BlockFormat::Q6K | BlockFormat::Q8_0 => 0.01,
    }
}

fn square(x: f32) -> f64 {
    f64::from(x) * f64::from(x)
}

/// e4m3 with factors that lie apart.
fn scaled(bytes: &[u8]) -> bool {
    let Some(([rows, cols], bytes)) = bytes.split_first_chunk() else {
        return false;
    };
    let (rows, cols) = (usize::from(*rows) + 1, usize::from(*cols) + 1);
    let grid = rows.div_ceil(FP8[0]) * cols.div_ceil(FP8[1]);
    let Some((numbers, factors)) = bytes.split_at_checked(rows * cols) else {
        return false;
    };
    let factors: Vec<f32> = factors
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    let Some(factors) = factors.get(..grid) else {
        return false;
    };
    let shape = Shape::matrix(rows, cols);
    let values = stored(shape, numbers, factors);
    assert_eq!(values.len(), rows * cols);
    for scales in [Scales::Float, Scales::PowerOfTwo] {
        let encoded = fp8::encode_blocks(&values, [rows, cols], FP8, scales);
        if values.iter().any(|x| !x.is_finite()) {
            assert!(encoded.is_err());
            continue;
        }
        if let Err(error) = &encoded
            && error.to_string().contains("stay finite when rounded")
        {
            assert!(values.iter().any(|x| x.abs() > f32::MAX / 2.0));
            continue;
        }
        let fp8::Fp8Blocks {
            bytes: encoded,
            scales: found,
        } = encoded.unwrap();
        assert!(found.iter().all(|scale| scale.is_finite() && *scale > 0.0));
        let again = stored(shape, &encoded, &found);
        for (at, (a, b)) in values.iter().zip(again).enumerate() {
            let scale = found[at / cols / FP8[0] * cols.div_ceil(FP8[1]) + at % cols / FP8[1]];
            // Half a step: of three bits of fraction, or of the smallest numbers.
            let allowed = (a.abs() / 16.0).max(scale * 2f32.powi(-10)) * 1.01 + f32::from_bits(4);
            assert!((a - b).abs() <= allowed, "{a} became {b}, factor {scale}");
        }
    }
    true
}

fn stored(shape: Shape, bytes: &[u8], scales: &[f32]) -> Vec<f32> {
    let block = FP8;
    let data = Data::Fp8Blocks {
        bytes,
        scales,
        block,
    };
    decode(shape, data).unwrap()
}

fn plain(bytes: &[u8]) -> bool {
    for dtype in [DType::F32, DType::F16, DType::Bf16] {
        let n = bytes.len() / dtype.bytes();
        let Some(n) = Some(n).filter(|n| *n > 0) else {
            continue;
        };
        let whole = &bytes[..n * dtype.bytes()];
        let values = decode(
            Shape::vector(n),
            Data::Bytes {
                dtype,
                bytes: whole,
            },
        )
        .unwrap();
        assert_eq!(values.len(), n);
        let more = decode(
            Shape::vector(n + 1),
            Data::Bytes {
                dtype,
                bytes: whole,
            },
        );
        assert!(more.is_err());
    }
    true
}
