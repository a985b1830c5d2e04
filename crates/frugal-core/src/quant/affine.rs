//! Blocks of 256 numbers in groups with a factor and a minimum each, both small integers times a
//! factor of the whole block: `(d * factor) * level - dmin * minimum`.
//!
//! `d` and `dmin` are f16, little-endian. Levels lie in [planes](super::planes).
#![expect(
    clippy::inline_always,
    reason = "blocks melt into the vector code of their opener"
)]

use super::{Block, Groups, Opened, Opener, fit, planes};

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
    const GROUP: usize = 16;
    const BITS: u32 = 2;
    const ZERO: u8 = 0;
    const HAS_MINIMA: bool = true;

    #[inline(always)]
    fn open<O: Opener>(o: O, block: &[u8; 84], into: Opened<'_, 256>) {
        let [groups @ .., a, b, c, d] = block;
        let (pairs, lower) = groups.split_at(16);
        let mut steps = [0; 32];
        o.plane::<4, 16, 0>(pairs, &mut steps);
        let [of_factors, of_minima] = [o.half([*a, *b]), o.half([*c, *d])];
        if let ([factors, minima], _) = steps.as_chunks::<16>() {
            o.multiples(of_factors, factors, into.factors);
            o.multiples(of_minima, minima, into.minima);
        }
        o.plane::<2, 32, 0>(lower, into.levels);
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
    const GROUP: usize = 32;
    const BITS: u32 = 4;
    const ZERO: u8 = 0;
    const HAS_MINIMA: bool = true;

    #[inline(always)]
    fn open<O: Opener>(o: O, block: &[u8; 144], into: Opened<'_, 256>) {
        let (head, lower) = block.split_at(16);
        open_head(o, head, into.factors, into.minima);
        o.plane::<4, 32, 0>(lower, into.levels);
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
    const GROUP: usize = 32;
    const BITS: u32 = 5;
    const ZERO: u8 = 0;
    const HAS_MINIMA: bool = true;

    #[inline(always)]
    fn open<O: Opener>(o: O, block: &[u8; 176], into: Opened<'_, 256>) {
        let (head, planes) = block.split_at(16);
        open_head(o, head, into.factors, into.minima);
        let (fifth, lower) = planes.split_at(32);
        o.plane::<4, 32, 0>(lower, into.levels);
        o.plane::<1, 32, 4>(fifth, into.levels);
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

/// Opens what [`Q4K`] and [`Q5K`] begin with.
#[inline(always)]
fn open_head<O: Opener>(o: O, head: &[u8], factors: &mut Groups, minima: &mut Groups) {
    let [a, b, c, d, packed @ ..] = head else {
        return;
    };
    let (steps, lows) = packed.first_chunk().map(six_bit_pairs).unwrap_or_default();
    o.multiples(o.half([*a, *b]), &steps, factors);
    o.multiples(o.half([*c, *d]), &lows, minima);
}

/// The factors and minima of 8 groups, 6 bits each.
///
/// Bytes 0..4 hold factors 0..4 and bytes 4..8 minima 0..4 in their lower six bits; bytes 8..12 the
/// lower four bits of factors 4..8 and, above them, of minima 4..8, whose two upper bits are those
/// of bytes 0..4 and 4..8.
#[must_use]
#[inline]
pub fn six_bit_pairs(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    // Four bytes at a time: none of the shifted fields leaves its byte once masked.
    let word = |at: usize| packed.get(at..at + 4).and_then(|word| word.try_into().ok());
    let [a, b, c] = [0, 4, 8].map(|at| u32::from_le_bytes(word(at).unwrap_or_default()));
    let first = |word: u32| word & 0x3f3f_3f3f;
    let last = |lower: u32, upper: u32| (lower & 0x0f0f_0f0f) | ((upper >> 2) & 0x3030_3030);
    let join = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)).to_le_bytes();
    (join(first(a), last(c, a)), join(first(b), last(c >> 4, b)))
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
