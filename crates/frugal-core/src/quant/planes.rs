//! How levels of few bits are laid into bytes, shared by all block formats.
//!
//! Every format stores its levels in planes. A plane of `BITS` bits in runs of `RUN` bytes puts
//! level `i` of a run into byte `i % RUN`, at bit `BITS * (i / RUN)`; the next run follows when its
//! bytes are full. A level of five bits is a plane of four and a plane of one.

/// How the parts of a block are opened: plain loops ([`Plain`]), or a machine's vectors.
pub trait Opener: Copy {
    /// Takes the bits of a plane to bit `UP` of levels; those at bit 0 replace what is there, others
    /// are added to it.
    fn plane<const BITS: usize, const RUN: usize, const UP: u32>(
        self,
        plane: &[u8],
        levels: &mut [u8],
    );
    /// Signed bytes as levels that count from 128.
    fn signed(self, bytes: &[u8; 32], levels: &mut [u8; 32]);
    /// Replaces levels of four bits by what a table of signed bytes says, counting from 128.
    fn look_up(self, table: &[i8; 16], levels: &mut [u8; 32]);
    /// The number of an f16.
    fn half(self, bytes: [u8; 2]) -> f32;
    /// A number times each of some small integers without sign.
    fn multiples<const N: usize>(self, of: f32, by: &[u8; N], to: &mut [f32; 16]);
    /// A number times each of 16 small signed integers.
    fn signed_multiples(self, of: f32, by: &[i8; 16], to: &mut [f32; 16]);
}

/// Plain loops.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Opener for Plain {
    fn plane<const BITS: usize, const RUN: usize, const UP: u32>(
        self,
        plane: &[u8],
        levels: &mut [u8],
    ) {
        let mask = u8::MAX >> (8 - BITS);
        let runs = levels.chunks_exact_mut(RUN * 8 / BITS);
        for (bytes, levels) in plane.as_chunks::<RUN>().0.iter().zip(runs) {
            for (nth, levels) in levels.as_chunks_mut::<RUN>().0.iter_mut().enumerate() {
                for (level, byte) in levels.iter_mut().zip(bytes) {
                    let bits = ((byte >> (BITS * nth)) & mask) << UP;
                    *level = if UP == 0 { bits } else { *level | bits };
                }
            }
        }
    }

    fn signed(self, bytes: &[u8; 32], levels: &mut [u8; 32]) {
        for (level, byte) in levels.iter_mut().zip(bytes) {
            *level = byte ^ SIGN;
        }
    }

    fn look_up(self, table: &[i8; 16], levels: &mut [u8; 32]) {
        for level in levels {
            let number = table.get(usize::from(*level)).copied();
            *level = number.unwrap_or_default().cast_unsigned() ^ SIGN;
        }
    }

    fn half(self, bytes: [u8; 2]) -> f32 {
        let bits = u32::from(u16::from_le_bytes(bytes));
        let (sign, rest) = ((bits & 0x8000) << 16, bits & 0x7fff);
        // The exponent counts from 15 in f16 and from 127 in f32; its last value means infinity or
        // NaN.
        let shifted = (rest << 13) + (112 << 23);
        let normal = if rest < 0x7c00 {
            shifted
        } else {
            shifted + (112 << 23)
        };
        let subnormal = (rest as f32 * (1.0 / 16_777_216.0)).to_bits();
        f32::from_bits(sign | if rest < 0x400 { subnormal } else { normal })
    }

    fn multiples<const N: usize>(self, of: f32, by: &[u8; N], to: &mut [f32; 16]) {
        for (to, by) in to.iter_mut().zip(by) {
            *to = of * f32::from(*by);
        }
    }

    fn signed_multiples(self, of: f32, by: &[i8; 16], to: &mut [f32; 16]) {
        for (to, by) in to.iter_mut().zip(by) {
            *to = of * f32::from(*by);
        }
    }
}

/// Turns a signed byte into a level that counts from 128.
const SIGN: u8 = 0x80;

/// Adds the `BITS` bits of levels from bit `UP` on to a plane.
#[inline]
pub(super) fn pack<const BITS: usize, const RUN: usize, const UP: u32>(
    levels: &[u8],
    plane: &mut [u8],
) {
    let mask = u8::MAX >> (8 - BITS);
    let runs = levels.chunks_exact(RUN * 8 / BITS);
    for (bytes, levels) in plane.as_chunks_mut::<RUN>().0.iter_mut().zip(runs) {
        for (nth, levels) in levels.as_chunks::<RUN>().0.iter().enumerate() {
            for (level, byte) in levels.iter().zip(bytes.iter_mut()) {
                *byte |= ((level >> UP) & mask) << (BITS * nth);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_is_what_its_sixteen_bits_say() {
        for bits in 0..=u16::MAX {
            let own = Plain.half(bits.to_le_bytes());
            let theirs = half::f16::from_bits(bits).to_f32();
            assert!(
                own.to_bits() == theirs.to_bits() || own.is_nan() && theirs.is_nan(),
                "{bits:#x}: {own} {theirs}"
            );
        }
    }

    #[test]
    fn a_plane_puts_the_second_half_into_the_upper_bits() {
        let levels = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut plane = [0; 4];
        pack::<4, 2, 0>(&levels, &mut plane);
        assert_eq!(plane, [0x31, 0x42, 0x75, 0x86]);
        let mut back = [0; 8];
        Plain.plane::<4, 2, 0>(&plane, &mut back);
        assert_eq!(back, levels);
    }

    #[test]
    fn two_planes_make_a_wider_level() {
        let levels: [u8; 32] = core::array::from_fn(|i| u8::try_from(i * 5 % 32).unwrap());
        let (mut low, mut high) = ([0; 16], [0; 4]);
        pack::<4, 16, 0>(&levels, &mut low);
        pack::<1, 1, 4>(&levels, &mut high);
        let mut back = [0; 32];
        Plain.plane::<4, 16, 0>(&low, &mut back);
        Plain.plane::<1, 1, 4>(&high, &mut back);
        assert_eq!(back, levels);
    }
}
