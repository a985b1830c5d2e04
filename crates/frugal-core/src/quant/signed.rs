//! Blocks of 256 numbers in 16 groups of 16 with a signed factor each, a small integer times a
//! factor of the whole block: `(d * factor) * (level - zero)`.
//!
//! `d` is f16, little-endian. Levels lie in [planes](super::planes).

use super::{Block, fit, half, planes};

/// 110 bytes: 32 bytes of third bits in one run, 64 bytes of the lower two bits in runs of 32, 12
/// bytes of factors, `d`. Levels count from 4.
///
/// A factor has six bits and counts from 32: 8 bytes of lower fours in one run, 4 bytes of upper
/// twos in one run.
#[derive(Debug, Clone, Copy)]
pub struct Q3K;

/// 210 bytes: 128 bytes of the lower four bits in runs of 64, 64 bytes of the upper two in runs of
/// 32, 16 signed bytes of factors, `d`. Levels count from 32.
#[derive(Debug, Clone, Copy)]
pub struct Q6K;

impl Block<110, 256> for Q3K {
    #[inline]
    fn decode(block: &[u8; 110], values: &mut [f32; 256]) {
        let mut factors = [0; 16];
        planes::unpack::<4, 8, 0>(&block[96..104], &mut factors);
        planes::unpack::<2, 4, 4>(&block[104..108], &mut factors);
        let factors = factors.map(|factor| factor.cast_signed() - 32);
        let mut levels = [0; 256];
        planes::unpack::<2, 32, 0>(&block[32..96], &mut levels);
        planes::unpack::<1, 32, 2>(&block[..32], &mut levels);
        scale(half(block[108], block[109]), factors, 4.0, &levels, values);
    }

    fn encode(values: &[f32; 256]) -> Option<[u8; 110]> {
        let fit = fit::block::<16, 16>(values, &grid(4.0, 32.0))?;
        let mut block = [0; 110];
        planes::pack::<1, 32, 2>(&fit.levels, &mut block[..32]);
        planes::pack::<2, 32, 0>(&fit.levels, &mut block[32..96]);
        let factors = fit.factors.map(|factor| (factor + 32).cast_unsigned());
        planes::pack::<4, 8, 0>(&factors, &mut block[96..104]);
        planes::pack::<2, 4, 4>(&factors, &mut block[104..108]);
        block[108..].copy_from_slice(&fit.d.to_le_bytes());
        Some(block)
    }
}

impl Block<210, 256> for Q6K {
    #[inline]
    fn decode(block: &[u8; 210], values: &mut [f32; 256]) {
        let mut levels = [0; 256];
        planes::unpack::<4, 64, 0>(&block[..128], &mut levels);
        planes::unpack::<2, 32, 4>(&block[128..192], &mut levels);
        let factors = block[192..208].first_chunk().copied().unwrap_or_default();
        let factors = factors.map(u8::cast_signed);
        scale(half(block[208], block[209]), factors, 32.0, &levels, values);
    }

    fn encode(values: &[f32; 256]) -> Option<[u8; 210]> {
        let fit = fit::block::<16, 16>(values, &grid(32.0, 128.0))?;
        let mut block = [0; 210];
        planes::pack::<4, 64, 0>(&fit.levels, &mut block[..128]);
        planes::pack::<2, 32, 4>(&fit.levels, &mut block[128..192]);
        block[192..208].copy_from_slice(&fit.factors.map(i8::cast_unsigned));
        block[208..].copy_from_slice(&fit.d.to_le_bytes());
        Some(block)
    }
}

/// What signed levels and factors can hold.
const fn grid(level: f32, factor: f32) -> fit::Grid {
    fit::Grid {
        levels: [-level, level - 1.0],
        factors: [-factor, factor - 1.0],
        minimum: 0.0,
    }
}

/// The numbers of 16 groups of levels that count from `zero`.
#[inline]
fn scale(d: f32, factors: [i8; 16], zero: f32, levels: &[u8; 256], values: &mut [f32; 256]) {
    let groups = levels.as_chunks::<16>().0;
    let groups = values.as_chunks_mut::<16>().0.iter_mut().zip(groups);
    for ((values, levels), factor) in groups.zip(factors) {
        let factor = d * f32::from(factor);
        for (value, level) in values.iter_mut().zip(levels) {
            *value = factor * (f32::from(*level) - zero);
        }
    }
}
