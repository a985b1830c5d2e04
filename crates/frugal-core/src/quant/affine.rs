//! Blocks of 256 numbers in groups with a factor and a minimum each, both small integers times a
//! factor of the whole block: `(d * factor) * level - dmin * minimum`.
//!
//! `d` and `dmin` are f16, little-endian. Levels lie in [planes](super::planes).

use super::{Block, fit, half, planes};

/// 84 bytes: 16 bytes of one group of 16 numbers each (factor in the lower half, minimum in the
/// upper), 64 bytes of 2-bit levels in runs of 32, `d`, `dmin`.
#[derive(Debug, Clone, Copy)]
pub struct Q2K;

/// 144 bytes: `d`, `dmin`, 12 bytes of factors and minima of 8 groups of 32 numbers
/// ([`six_bit_pairs`]), 128 bytes of 4-bit levels in runs of 32.
#[derive(Debug, Clone, Copy)]
pub struct Q4K;

/// 176 bytes: `d`, `dmin`, 12 bytes as in [`Q4K`], 32 bytes of fifth bits in one run, 128 bytes of
/// lower bits as in [`Q4K`].
#[derive(Debug, Clone, Copy)]
pub struct Q5K;

impl Block<84, 256> for Q2K {
    #[inline]
    fn decode(block: &[u8; 84], values: &mut [f32; 256]) {
        let mut pairs = [0; 32];
        planes::unpack::<4, 16, 0>(&block[..16], &mut pairs);
        let (factors, minima) = pairs.split_at(16);
        let mut levels = [0; 256];
        planes::unpack::<2, 32, 0>(&block[16..80], &mut levels);
        let d = [half(block[80], block[81]), half(block[82], block[83])];
        scale::<16>(d, factors, minima, &levels, values);
    }

    fn encode(values: &[f32; 256]) -> Option<[u8; 84]> {
        let fit = fit::block::<16, 16>(values, &grid(3.0, 15.0))?;
        let mut block = [0; 84];
        let mut pairs = [0; 32];
        pairs[..16].copy_from_slice(&fit.factors.map(i8::cast_unsigned));
        pairs[16..].copy_from_slice(&fit.minima.map(i8::cast_unsigned));
        planes::pack::<4, 16, 0>(&pairs, &mut block[..16]);
        planes::pack::<2, 32, 0>(&fit.levels, &mut block[16..80]);
        block[80..82].copy_from_slice(&fit.d.to_le_bytes());
        block[82..].copy_from_slice(&fit.dmin.to_le_bytes());
        Some(block)
    }
}

impl Block<144, 256> for Q4K {
    #[inline]
    fn decode(block: &[u8; 144], values: &mut [f32; 256]) {
        let [a, b, c, d, rest @ ..] = block;
        let (packed, lower) = rest.split_at(12);
        let (factors, minima) = packed.first_chunk().map(six_bit_pairs).unwrap_or_default();
        let mut levels = [0; 256];
        planes::unpack::<4, 32, 0>(lower, &mut levels);
        scale::<32>(
            [half(*a, *b), half(*c, *d)],
            &factors,
            &minima,
            &levels,
            values,
        );
    }

    fn encode(values: &[f32; 256]) -> Option<[u8; 144]> {
        let fit = fit::block::<8, 32>(values, &grid(15.0, 63.0))?;
        let mut block = [0; 144];
        block[..2].copy_from_slice(&fit.d.to_le_bytes());
        block[2..4].copy_from_slice(&fit.dmin.to_le_bytes());
        block[4..16].copy_from_slice(&pack_six_bit_pairs(
            fit.factors.map(i8::cast_unsigned),
            fit.minima.map(i8::cast_unsigned),
        ));
        planes::pack::<4, 32, 0>(&fit.levels, &mut block[16..]);
        Some(block)
    }
}

impl Block<176, 256> for Q5K {
    #[inline]
    fn decode(block: &[u8; 176], values: &mut [f32; 256]) {
        let [a, b, c, d, rest @ ..] = block;
        let (packed, planes) = rest.split_at(12);
        let (factors, minima) = packed.first_chunk().map(six_bit_pairs).unwrap_or_default();
        let (fifth, lower) = planes.split_at(32);
        let mut levels = [0; 256];
        planes::unpack::<4, 32, 0>(lower, &mut levels);
        planes::unpack::<1, 32, 4>(fifth, &mut levels);
        scale::<32>(
            [half(*a, *b), half(*c, *d)],
            &factors,
            &minima,
            &levels,
            values,
        );
    }

    fn encode(values: &[f32; 256]) -> Option<[u8; 176]> {
        let fit = fit::block::<8, 32>(values, &grid(31.0, 63.0))?;
        let mut block = [0; 176];
        block[..2].copy_from_slice(&fit.d.to_le_bytes());
        block[2..4].copy_from_slice(&fit.dmin.to_le_bytes());
        block[4..16].copy_from_slice(&pack_six_bit_pairs(
            fit.factors.map(i8::cast_unsigned),
            fit.minima.map(i8::cast_unsigned),
        ));
        planes::pack::<1, 32, 4>(&fit.levels, &mut block[16..48]);
        planes::pack::<4, 32, 0>(&fit.levels, &mut block[48..]);
        Some(block)
    }
}

/// What levels and factors of so many bits can hold.
const fn grid(level: f32, factor: f32) -> fit::Grid {
    fit::Grid {
        levels: [0.0, level],
        factors: [0.0, factor],
        minimum: factor,
    }
}

/// The numbers of groups of `WIDTH` levels, given the block's two factors and each group's.
#[inline]
fn scale<const WIDTH: usize>(
    [d, dmin]: [f32; 2],
    factors: &[u8],
    minima: &[u8],
    levels: &[u8; 256],
    values: &mut [f32; 256],
) {
    let groups = levels.as_chunks::<WIDTH>().0;
    let groups = values.as_chunks_mut::<WIDTH>().0.iter_mut().zip(groups);
    for ((values, levels), (factor, minimum)) in groups.zip(factors.iter().zip(minima)) {
        let factor = d * f32::from(*factor);
        let minimum = dmin * f32::from(*minimum);
        for (value, level) in values.iter_mut().zip(levels) {
            *value = factor * f32::from(*level) - minimum;
        }
    }
}

/// The factors and minima of 8 groups, 6 bits each.
///
/// Bytes 0..4 hold factors 0..4 and bytes 4..8 minima 0..4 in their lower six bits; bytes 8..12 the
/// lower four bits of factors 4..8 and, above them, of minima 4..8, whose two upper bits are those
/// of bytes 0..4 and 4..8.
#[must_use]
#[inline]
#[expect(clippy::indexing_slicing, reason = "3 * 4 bytes, 2 * 4 factors")]
pub fn six_bit_pairs(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut factors, mut minima) = ([0; 8], [0; 8]);
    for nth in 0..4 {
        factors[nth] = packed[nth] & 63;
        minima[nth] = packed[nth + 4] & 63;
        factors[nth + 4] = packed[nth + 8] & 15 | packed[nth] >> 6 << 4;
        minima[nth + 4] = packed[nth + 8] >> 4 | packed[nth + 4] >> 6 << 4;
    }
    (factors, minima)
}

/// The way back of [`six_bit_pairs`].
#[expect(clippy::indexing_slicing, reason = "3 * 4 bytes, 2 * 4 factors")]
fn pack_six_bit_pairs(factors: [u8; 8], minima: [u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for nth in 0..4 {
        packed[nth] = factors[nth] | factors[nth + 4] >> 4 << 6;
        packed[nth + 4] = minima[nth] | minima[nth + 4] >> 4 << 6;
        packed[nth + 8] = factors[nth + 4] & 15 | minima[nth + 4] << 4;
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bit_pairs_come_back() {
        let factors = [0, 63, 17, 42, 63, 16, 15, 33];
        let minima = [63, 0, 48, 1, 16, 62, 31, 5];
        let packed = pack_six_bit_pairs(factors, minima);
        assert_eq!(six_bit_pairs(&packed), (factors, minima));
    }
}
