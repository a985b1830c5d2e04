//! Blocks of 32 numbers with one f16 factor.
//!
//! The first five are written by rule, so that the same numbers give the same bytes as the field's
//! tools write; only the factors of IQ4_NL are searched. f16 factors and the 32-bit word of fifth
//! bits are little-endian. Levels are first quantised with the factor in f32, then the factor is
//! rounded: that too is the rule.
#![expect(
    clippy::inline_always,
    reason = "blocks melt into the vector code of their opener"
)]

use super::{Block, Opened, Opener, fit, planes, to_half};

/// 18 bytes: f16 `d`, 16 bytes of 4-bit levels (numbers 0..16 in the lower halves, 16..32 in the
/// upper). A number is `d * (level - 8)`.
#[derive(Debug, Clone, Copy)]
pub struct Q4_0;

/// 20 bytes: f16 `d`, f16 `m`, 16 bytes of 4-bit levels as in [`Q4_0`]. A number is
/// `d * level + m`.
#[derive(Debug, Clone, Copy)]
pub struct Q4_1;

/// 22 bytes: f16 `d`, 32-bit word of fifth bits (bit i for number i), 16 bytes of lower bits as in
/// [`Q4_0`]. A number is `d * (level - 16)`.
#[derive(Debug, Clone, Copy)]
pub struct Q5_0;

/// 24 bytes: f16 `d`, f16 `m`, then levels as in [`Q5_0`]. A number is `d * level + m`.
#[derive(Debug, Clone, Copy)]
pub struct Q5_1;

/// 34 bytes: f16 `d`, 32 signed bytes. A number is `d * byte`.
#[derive(Debug, Clone, Copy)]
pub struct Q8_0;

/// 18 bytes: f16 `d`, 16 bytes of 4-bit levels as in [`Q4_0`]. A number is
/// `d * IQ4_NL_LEVELS[level]`.
#[derive(Debug, Clone, Copy)]
pub struct Iq4Nl;

/// The uneven levels of [`Iq4Nl`], denser around zero.
pub const IQ4_NL_LEVELS: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

impl Block<18, 32> for Q4_0 {
    const GROUP: usize = 32;
    const BITS: u32 = 4;
    const ZERO: u8 = 8;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn open<O: Opener>(o: O, block: &[u8; 18], into: Opened<'_, 32>) {
        into.factors[0] = o.half([block[0], block[1]]);
        o.plane::<4, 16, 0>(&block[2..], into.levels);
    }

    fn encode(values: &[f32; 32]) -> Option<[u8; 18]> {
        let d = extreme(values) / -8.0;
        let mut block = [0; 18];
        block[..2].copy_from_slice(&to_half(d)?.to_le_bytes());
        let levels = signed_levels(values, d, 8);
        planes::pack::<4, 16, 0>(&levels, &mut block[2..]);
        Some(block)
    }
}

impl Block<20, 32> for Q4_1 {
    const GROUP: usize = 32;
    const BITS: u32 = 4;
    const ZERO: u8 = 0;
    const HAS_MINIMA: bool = true;

    #[inline(always)]
    fn open<O: Opener>(o: O, block: &[u8; 20], into: Opened<'_, 32>) {
        into.factors[0] = o.half([block[0], block[1]]);
        into.minima[0] = -o.half([block[2], block[3]]);
        o.plane::<4, 16, 0>(&block[4..], into.levels);
    }

    fn encode(values: &[f32; 32]) -> Option<[u8; 20]> {
        let (low, high) = bounds(values);
        let d = (high - low) / 15.0;
        let mut block = [0; 20];
        block[..2].copy_from_slice(&to_half(d)?.to_le_bytes());
        block[2..4].copy_from_slice(&to_half(low)?.to_le_bytes());
        let levels = levels_above(values, low, d, 15);
        planes::pack::<4, 16, 0>(&levels, &mut block[4..]);
        Some(block)
    }
}

impl Block<22, 32> for Q5_0 {
    const GROUP: usize = 32;
    const BITS: u32 = 5;
    const ZERO: u8 = 16;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn open<O: Opener>(o: O, block: &[u8; 22], into: Opened<'_, 32>) {
        into.factors[0] = o.half([block[0], block[1]]);
        o.plane::<4, 16, 0>(&block[6..], into.levels);
        o.plane::<1, 1, 4>(&block[2..6], into.levels);
    }

    fn encode(values: &[f32; 32]) -> Option<[u8; 22]> {
        let d = extreme(values) / -16.0;
        let mut block = [0; 22];
        block[..2].copy_from_slice(&to_half(d)?.to_le_bytes());
        pack_five_bits(&signed_levels(values, d, 16), &mut block[2..]);
        Some(block)
    }
}

impl Block<24, 32> for Q5_1 {
    const GROUP: usize = 32;
    const BITS: u32 = 5;
    const ZERO: u8 = 0;
    const HAS_MINIMA: bool = true;

    #[inline(always)]
    fn open<O: Opener>(o: O, block: &[u8; 24], into: Opened<'_, 32>) {
        into.factors[0] = o.half([block[0], block[1]]);
        into.minima[0] = -o.half([block[2], block[3]]);
        o.plane::<4, 16, 0>(&block[8..], into.levels);
        o.plane::<1, 1, 4>(&block[4..8], into.levels);
    }

    fn encode(values: &[f32; 32]) -> Option<[u8; 24]> {
        let (low, high) = bounds(values);
        let d = (high - low) / 31.0;
        let mut block = [0; 24];
        block[..2].copy_from_slice(&to_half(d)?.to_le_bytes());
        block[2..4].copy_from_slice(&to_half(low)?.to_le_bytes());
        pack_five_bits(&levels_above(values, low, d, 31), &mut block[4..]);
        Some(block)
    }
}

impl Block<34, 32> for Q8_0 {
    const GROUP: usize = 32;
    const BITS: u32 = 8;
    const ZERO: u8 = 128;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn open<O: Opener>(o: O, block: &[u8; 34], into: Opened<'_, 32>) {
        let [a, b, bytes @ ..] = block;
        into.factors[0] = o.half([*a, *b]);
        o.signed(bytes, into.levels);
    }

    #[expect(clippy::cast_possible_truncation, reason = "levels lie in -127..=127")]
    fn encode(values: &[f32; 32]) -> Option<[u8; 34]> {
        let d = extreme(values).abs() / 127.0;
        let mut block = [0; 34];
        block[..2].copy_from_slice(&to_half(d)?.to_le_bytes());
        let inverse = inverse(d);
        for (byte, value) in block[2..].iter_mut().zip(values) {
            let level = (value * inverse).clamp(-127.0, 127.0);
            // Ties go away from zero. Adding a half and cutting off would not do: the float just
            // below a half would become one.
            let whole = level.abs() as i32;
            let up = i32::from(level.abs() - whole as f32 >= 0.5);
            let level = if level < 0.0 {
                -(whole + up)
            } else {
                whole + up
            };
            *byte = (level as i8).cast_unsigned();
        }
        Some(block)
    }
}

impl Block<18, 32> for Iq4Nl {
    const GROUP: usize = 32;
    const BITS: u32 = 8;
    const ZERO: u8 = 128;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn open<O: Opener>(o: O, block: &[u8; 18], into: Opened<'_, 32>) {
        into.factors[0] = o.half([block[0], block[1]]);
        o.plane::<4, 16, 0>(&block[2..], into.levels);
        o.look_up(&IQ4_NL_LEVELS, into.levels);
    }

    fn encode(values: &[f32; 32]) -> Option<[u8; 18]> {
        let (d, levels) = fit::table(values, &IQ4_NL_LEVELS)?;
        let mut block = [0; 18];
        block[..2].copy_from_slice(&d.to_le_bytes());
        planes::pack::<4, 16, 0>(&levels, &mut block[2..]);
        Some(block)
    }
}

fn pack_five_bits(levels: &[u8; 32], bytes: &mut [u8]) {
    let (fifth, lower) = bytes.split_at_mut(4);
    planes::pack::<4, 16, 0>(levels, lower);
    planes::pack::<1, 1, 4>(levels, fifth);
}

/// The number farthest from zero, with its sign; of equal ones the first.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(
        0.0,
        |most: f32, x| {
            if x.abs() > most.abs() { *x } else { most }
        },
    )
}

fn bounds(values: &[f32; 32]) -> (f32, f32) {
    let first = values[0];
    values
        .iter()
        .fold((first, first), |(low, high), x| (low.min(*x), high.max(*x)))
}

/// One over a factor; of zero, zero.
fn inverse(factor: f32) -> f32 {
    if factor == 0.0 { 0.0 } else { 1.0 / factor }
}

/// Levels around `zero`, cut off after adding a half. In f64, where the product and the sum are
/// exact enough that no machine's fused multiplication would give another level.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded just before"
)]
fn signed_levels(values: &[f32; 32], factor: f32, zero: u8) -> [u8; 32] {
    let inverse = f64::from(inverse(factor));
    let (zero, top) = (f64::from(zero), f64::from(2 * zero - 1));
    values.map(|x| (f64::from(x) * inverse + (zero + 0.5)).clamp(0.0, top) as u8)
}

/// Levels above the least number, cut off after adding a half.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded just before"
)]
fn levels_above(values: &[f32; 32], low: f32, factor: f32, top: u8) -> [u8; 32] {
    let (inverse, top) = (inverse(factor), f32::from(top));
    values.map(|x| ((x - low) * inverse + 0.5).clamp(0.0, top) as u8)
}
