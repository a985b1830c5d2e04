//! Blocks of 256 numbers in 16 groups of 16 with a signed factor each, a small integer times a
//! factor of the whole block: `(d * factor) * (level - zero)`.
//!
//! `d` is f16, little-endian. Levels lie in [planes](super::planes).
#![expect(
    clippy::inline_always,
    reason = "blocks melt into the vector code of their opener"
)]

use super::{Block, Opened, Opener, fit, planes};

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
    const GROUP: usize = 16;
    const BITS: u32 = 3;
    const ZERO: u8 = 4;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn open<O: Opener>(o: O, block: &[u8; 110], into: Opened<'_, 256>) {
        let [planes @ .., a, b] = block;
        let (third, rest) = planes.split_at(32);
        let (lower, packed) = rest.split_at(64);
        let (fours, twos) = packed.split_at(8);
        let mut steps = [0; 16];
        o.plane::<4, 8, 0>(fours, &mut steps);
        o.plane::<2, 4, 4>(twos, &mut steps);
        let steps = steps.map(|step| step.cast_signed() - 32);
        o.signed_multiples(o.half([*a, *b]), &steps, into.factors);
        o.plane::<2, 32, 0>(lower, into.levels);
        o.plane::<1, 32, 2>(third, into.levels);
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
    const GROUP: usize = 16;
    const BITS: u32 = 6;
    const ZERO: u8 = 32;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn open<O: Opener>(o: O, block: &[u8; 210], into: Opened<'_, 256>) {
        let [planes @ .., a, b] = block;
        let (lower, rest) = planes.split_at(128);
        let (upper, steps) = rest.split_at(64);
        let steps: [u8; 16] = steps.try_into().unwrap_or_default();
        let steps = steps.map(u8::cast_signed);
        o.signed_multiples(o.half([*a, *b]), &steps, into.factors);
        o.plane::<4, 64, 0>(lower, into.levels);
        o.plane::<2, 32, 4>(upper, into.levels);
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
