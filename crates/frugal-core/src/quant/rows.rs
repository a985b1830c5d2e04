//! Rows of keys and values in 8 bits: how a cache keeps them where it is asked to be small.
//!
//! A row is cut into groups of [`GROUP`] neighbours, which do not cross from one of its parts to the
//! next; the last of a part may be shorter. A group has one scale, its largest magnitude over 127 to
//! the nearest bf16, and each number is the nearest whole multiple of it, of -127 to 127. A number is
//! then off by half a scale at most, which is 0.4 % of the largest of its group.
//!
//! Levels have 7 bits and scales 8, so that what is read back, `level * scale`, is exact in f32; and
//! a group's largest number always gets the level 127 (a bf16 is within 1/256 of what it rounds, and
//! 127 * 257/256 is below 127.5, 127 * 257/258 above 126.5), so that numbers read back and rounded
//! again are the same: a row may be moved as it lies or by way of its numbers.
//!
//! Groups whose scale would be below 1e-32 are zeros; those that hold an infinity, a NaN or a number
//! beyond 2.5e38 are NaN throughout. Zeros lose their sign.

use core::ops::Range;

use half::bf16;

use super::integer::{GROUP, nearest};

/// Scales below count as zero: one over them overflows.
const LEAST: f32 = 1e-32;
/// Scales above count as no number: 127 times them overflows.
const MOST: f32 = 2e36;
/// Bytes of a scale.
pub const SCALE: usize = 2;
/// Numbers that are decoded together where all are of one group.
pub const RUN: usize = 16;

/// How rows of numbers are laid into bytes: of each row the levels, then the scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EightBitRows {
    parts: [usize; 2],
}

impl EightBitRows {
    /// Rows of two parts of so many columns, the second of which may be none.
    #[must_use]
    pub const fn new(parts: [usize; 2]) -> Self {
        Self { parts }
    }

    /// Numbers of a row.
    #[must_use]
    #[inline]
    pub const fn width(self) -> usize {
        self.parts[0] + self.parts[1]
    }

    /// Bytes of a row.
    #[must_use]
    #[inline]
    pub const fn row_bytes(self) -> usize {
        let groups = self.parts[0].div_ceil(GROUP) + self.parts[1].div_ceil(GROUP);
        self.width() + SCALE * groups
    }

    /// The bytes of a row that hold what is read of some columns: levels, and scales.
    #[must_use]
    #[inline]
    pub const fn reach(self, columns: &Range<usize>) -> [Range<usize>; 2] {
        let scales = if columns.start < columns.end {
            let (first, _) = self.group(columns.start);
            let (last, _) = self.group(columns.end - 1);
            self.width() + SCALE * first..self.width() + SCALE * (last + 1)
        } else {
            0..0
        };
        [columns.start..columns.end, scales]
    }

    /// The group of a column, and the column after its last.
    #[inline]
    const fn group(self, column: usize) -> (usize, usize) {
        let first = self.parts[0];
        if column < first {
            let group = column / GROUP;
            let end = (group + 1) * GROUP;
            return (group, if end < first { end } else { first });
        }
        let group = (column - first) / GROUP;
        let end = first + (group + 1) * GROUP;
        let last = self.width();
        let end = if end < last { end } else { last };
        (first.div_ceil(GROUP) + group, end)
    }

    /// Writes a row's numbers to its bytes, as many as both are of.
    pub fn encode(self, values: &[f32], row: &mut [u8]) {
        let Some((levels, scales)) = row.split_at_mut_checked(self.width()) else {
            return;
        };
        let parts = values.split_at_checked(self.parts[0]);
        let levels = levels.split_at_mut_checked(self.parts[0]);
        let (Some(values), Some(levels)) = (parts, levels) else {
            return;
        };
        let first = values.0.chunks(GROUP).zip(levels.0.chunks_mut(GROUP));
        let second = values.1.chunks(GROUP).zip(levels.1.chunks_mut(GROUP));
        let (scales, _) = scales.as_chunks_mut::<SCALE>();
        for ((values, levels), place) in first.chain(second).zip(scales) {
            *place = encode_group(values, levels).to_le_bytes();
        }
    }

    /// The numbers of a row from column `from` on, as many as there is room for.
    #[inline]
    pub fn decode(self, row: &[u8], from: usize, values: &mut [f32]) {
        let (mut column, mut rest) = (from, values);
        while !rest.is_empty() && column < self.width() {
            let (group, end) = self.group(column);
            let end = end.min(column + rest.len());
            let (now, later) = rest.split_at_mut(end - column);
            let scale = row
                .get(self.scale_at(group)..)
                .and_then(<[u8]>::first_chunk);
            let scale = wide(scale.copied().unwrap_or_default());
            for (value, level) in now.iter_mut().zip(row.get(column..end).unwrap_or(&[])) {
                *value = number(*level, scale);
            }
            (column, rest) = (end, later);
        }
    }

    /// Where in any row the scale of the [`RUN`] columns from `from` on lies, if they are of one group.
    #[inline]
    #[must_use]
    pub const fn run_at(self, from: usize) -> Option<usize> {
        let (group, end) = self.group(from);
        if from + RUN <= end {
            Some(self.scale_at(group))
        } else {
            None
        }
    }

    #[inline]
    const fn scale_at(self, group: usize) -> usize {
        self.width() + SCALE * group
    }

    /// Rounds a row of numbers to those it would be read back as.
    pub fn round(self, values: &mut [f32], row: &mut [u8]) {
        self.encode(values, row);
        self.decode(row, 0, values);
    }
}

/// The numbers of levels of one group and its scale.
#[expect(clippy::inline_always, reason = "melts into vector code")]
#[inline(always)]
#[must_use]
pub fn decode_run(levels: &[u8; RUN], scale: [u8; SCALE]) -> [f32; RUN] {
    let scale = wide(scale);
    let mut numbers = [0.0; RUN];
    for (to, level) in numbers.iter_mut().zip(levels) {
        *to = number(*level, scale);
    }
    numbers
}

#[expect(clippy::inline_always, reason = "melts into vector code")]
#[inline(always)]
fn wide(scale: [u8; SCALE]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(scale)) << 16)
}

#[expect(clippy::inline_always, reason = "melts into vector code")]
#[inline(always)]
fn number(level: u8, scale: f32) -> f32 {
    f32::from(level.cast_signed()) * scale
}

/// Rounds a group and gives its scale.
fn encode_group(values: &[f32], levels: &mut [u8]) -> bf16 {
    // As whole numbers the bits of floats without sign have the order of the floats, and NaN comes
    // after infinity.
    let largest = values
        .iter()
        .fold(0, |most: u32, x| most.max(x.to_bits() & 0x7fff_ffff));
    let scale = bf16::from_f32(f32::from_bits(largest) / 127.0);
    let wide = f32::from(scale);
    if !(LEAST..=MOST).contains(&wide) {
        levels.fill(0);
        return if wide < LEAST { bf16::ZERO } else { bf16::NAN };
    }
    let inverse = 1.0 / wide;
    for (level, x) in levels.iter_mut().zip(values) {
        *level = nearest(x * inverse).cast_unsigned();
    }
    scale
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::rng::Rng;

    fn rounded(rows: EightBitRows, values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        rows.round(&mut values, &mut vec![0xee; rows.row_bytes()]);
        values
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn a_number_is_off_by_half_a_scale_at_most_and_rounds_to_itself() {
        let mut rng = Rng::derive(&[11]);
        for parts in [
            [0, 0],
            [1, 0],
            [31, 33],
            [64, 32],
            [80, 0],
            [0, 5],
            [37, 16],
        ] {
            let rows = EightBitRows::new(parts);
            for scale in [1e-37, 1e-31, 1.3e-30, 1e-3, 1.0, 7e30, 2e38] {
                let values: Vec<f32> = (0..rows.width())
                    .map(|_| (rng.uniform() - 0.5) * scale)
                    .collect();
                let got = rounded(rows, &values);
                assert_eq!(bits(&rounded(rows, &got)), bits(&got), "{parts:?} {scale}");
                let (first, second) = (0..parts[0], parts[0]..rows.width());
                for part in [first, second] {
                    let pairs = values[part.clone()]
                        .chunks(GROUP)
                        .zip(got[part].chunks(GROUP));
                    for (values, got) in pairs {
                        let largest = values.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
                        // A scale is within 1/256 of a 127th; what counts as zeros is below 127e-32.
                        let bound = largest / 127.0 * 0.5 * (1.0 + 1.0 / 200.0) + 1.3e-30;
                        for (x, y) in values.iter().zip(got) {
                            assert!((x - y).abs() <= bound, "{parts:?} {scale}: {x} {y}");
                        }
                    }
                }
            }
        }
    }

    /// Every fraction of a bf16 scale: the largest number keeps the level 127.
    #[test]
    fn the_largest_number_has_the_largest_level() {
        for step in 0..100_000_u32 {
            let x = f32::from_bits(1.0_f32.to_bits() + step * 83);
            let mut levels = [0; 2];
            encode_group(&[x, -x], &mut levels);
            assert_eq!(levels.map(u8::cast_signed), [127, -127], "{x}");
        }
    }

    #[test]
    fn zeros_stay_zeros_and_what_is_no_number_takes_its_group_along() {
        let rows = EightBitRows::new([64, 8]);
        let mut values = vec![0.0; 72];
        values[3] = -0.0;
        assert_eq!(bits(&rounded(rows, &values)), vec![0; 72]);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let mut values = vec![1.0; 72];
            values[40] = odd;
            let got = rounded(rows, &values);
            let near = |x: &f32| (x - 1.0).abs() < 0.005;
            assert!(got[..32].iter().chain(&got[64..]).all(near), "{odd}");
            assert!(got[32..64].iter().all(|x| x.is_nan()), "{odd}");
            assert_eq!(bits(&rounded(rows, &got)), bits(&got));
        }
    }

    #[test]
    fn any_columns_can_be_read_alone() {
        let rows = EightBitRows::new([70, 33]);
        let mut rng = Rng::derive(&[12]);
        let values: Vec<f32> = (0..rows.width()).map(|_| rng.normal()).collect();
        let mut row = vec![0; rows.row_bytes()];
        rows.encode(&values, &mut row);
        let mut all = vec![0.0; rows.width()];
        rows.decode(&row, 0, &mut all);
        for from in 0..rows.width() {
            for len in [0, 1, 15, 16, 17, 40] {
                let end = (from + len).min(rows.width());
                if let Some(at) = rows.run_at(from) {
                    let levels = row[from..].first_chunk().unwrap();
                    let run = decode_run(levels, *row[at..].first_chunk().unwrap());
                    assert_eq!(bits(&run), bits(&all[from..from + RUN]), "{from}");
                }
                let mut some = vec![0.0; end - from];
                rows.decode(&row, from, &mut some);
                assert_eq!(bits(&some), bits(&all[from..end]), "{from} {len}");
            }
        }
        assert_eq!(rows.row_bytes(), 103 + 2 * (3 + 2));
        assert_eq!(rows.reach(&(68..72)), [68..72, 107..111]);
    }
}
