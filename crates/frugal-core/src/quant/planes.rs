//! How levels of few bits are laid into bytes, shared by all block formats.
//!
//! Every format stores its levels in planes. A plane of `BITS` bits in runs of `RUN` bytes puts
//! level `i` of a run into byte `i % RUN`, at bit `BITS * (i / RUN)`; the next run follows when its
//! bytes are full. A level of five bits is a plane of four and a plane of one.

/// Adds the bits of a plane to levels, moved up by `UP` bits.
#[inline]
pub(super) fn unpack<const BITS: usize, const RUN: usize, const UP: u32>(
    plane: &[u8],
    levels: &mut [u8],
) {
    let mask = u8::MAX >> (8 - BITS);
    let runs = levels.chunks_exact_mut(RUN * 8 / BITS);
    for (bytes, levels) in plane.as_chunks::<RUN>().0.iter().zip(runs) {
        for (nth, levels) in levels.as_chunks_mut::<RUN>().0.iter_mut().enumerate() {
            for (level, byte) in levels.iter_mut().zip(bytes) {
                *level |= ((byte >> (BITS * nth)) & mask) << UP;
            }
        }
    }
}

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
    fn a_plane_puts_the_second_half_into_the_upper_bits() {
        let levels = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut plane = [0; 4];
        pack::<4, 2, 0>(&levels, &mut plane);
        assert_eq!(plane, [0x31, 0x42, 0x75, 0x86]);
        let mut back = [0; 8];
        unpack::<4, 2, 0>(&plane, &mut back);
        assert_eq!(back, levels);
    }

    #[test]
    fn two_planes_make_a_wider_level() {
        let levels: [u8; 32] = core::array::from_fn(|i| u8::try_from(i * 5 % 32).unwrap());
        let (mut low, mut high) = ([0; 16], [0; 4]);
        pack::<4, 16, 0>(&levels, &mut low);
        pack::<1, 1, 4>(&levels, &mut high);
        let mut back = [0; 32];
        unpack::<4, 16, 0>(&low, &mut back);
        unpack::<1, 1, 4>(&high, &mut back);
        assert_eq!(back, levels);
    }
}
