//! Shapes, and the alphabet in which every doc comment of the workspace states them.
//!
//! | Letter | Meaning |
//! |---|---|
//! | B | sequences in a step |
//! | T | token rows of a step, all sequences one after another |
//! | S | cached tokens |
//! | D | hidden width |
//! | H | heads (Hkv: key-value heads) |
//! | N, K | output and input width of a product |
//! | C, R | latent width, rope width |
//! | E, k | experts, experts per token |
//! | V | vocabulary |
//! | P | positions of a rope table |
//! | G | group size in reinforcement learning |
//!
//! Activations are `[T, D]`, weights `[N, K]`, stacked experts `[E, N, K]`.

use core::fmt;

use crate::error::{Error, Result};

/// A tensor's extent: one, two or three dimensions, the last one contiguous.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 3],
    rank: u8,
}

impl Shape {
    /// `[n]`.
    #[must_use]
    pub const fn vector(n: usize) -> Self {
        Self {
            dims: [1, 1, n],
            rank: 1,
        }
    }

    /// `[rows, cols]`.
    #[must_use]
    pub const fn matrix(rows: usize, cols: usize) -> Self {
        Self {
            dims: [1, rows, cols],
            rank: 2,
        }
    }

    /// `[e, n, k]`.
    #[must_use]
    pub const fn stack(e: usize, n: usize, k: usize) -> Self {
        Self {
            dims: [e, n, k],
            rank: 3,
        }
    }

    /// The shape with the given dimensions, first to last.
    ///
    /// # Errors
    /// If there are none or more than three.
    pub fn from_dims(dims: &[usize]) -> Result<Self> {
        match *dims {
            [n] => Ok(Self::vector(n)),
            [rows, cols] => Ok(Self::matrix(rows, cols)),
            [e, n, k] => Ok(Self::stack(e, n, k)),
            _ => Err(Error::Rank { got: dims.len() }),
        }
    }

    /// The dimensions, first to last.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        self.dims.get(3 - self.rank as usize..).unwrap_or(&[])
    }

    /// Width of the last dimension.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.dims[2]
    }

    /// Product of all dimensions but the last.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.dims[0] * self.dims[1]
    }

    /// First dimension of a stack, 1 otherwise.
    #[must_use]
    pub const fn stacked(&self) -> usize {
        self.dims[0]
    }

    /// `n` of `[e, n, k]`, the rows of a matrix, 1 for a vector.
    #[must_use]
    pub const fn rows_each(&self) -> usize {
        self.dims[1]
    }

    /// How many elements there are.
    ///
    /// # Errors
    /// If the product does not fit a `usize`: files from outside may claim any dimensions.
    pub fn checked_elements(&self) -> Result<usize> {
        self.dims[0]
            .checked_mul(self.dims[1])
            .and_then(|n| n.checked_mul(self.dims[2]))
            .ok_or(Error::TooLarge { shape: *self })
    }

    /// How many elements there are, for shapes that exist as tensors already.
    #[must_use]
    pub const fn elements(&self) -> usize {
        self.dims[0] * self.dims[1] * self.dims[2]
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.dims().iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

/// Where the sequences of a step begin and which position each row has.
///
/// A step's tokens are rows one after another; there is no padding anywhere. One layout serves
/// packed training, prefill and decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    offsets: alloc::vec::Vec<u32>,
    positions: alloc::vec::Vec<u32>,
}

impl Rows {
    /// Sequences of the given lengths, each starting at its own first position.
    ///
    /// # Errors
    /// If `lengths` and `starts` differ in number, or the rows or positions do not fit a `u32`.
    pub fn new(lengths: &[u32], starts: &[u32]) -> Result<Self> {
        if lengths.len() != starts.len() {
            return Err(Error::Count {
                op: "rows",
                what: "start positions",
                expected: lengths.len(),
                got: starts.len(),
            });
        }
        let mut offsets = alloc::vec![0u32];
        let mut positions = alloc::vec::Vec::new();
        let mut end = 0u32;
        for (&length, &start) in lengths.iter().zip(starts) {
            let limit = start.checked_add(length).ok_or(Error::PositionOverflow)?;
            end = end.checked_add(length).ok_or(Error::PositionOverflow)?;
            offsets.push(end);
            positions.extend(start..limit);
        }
        Ok(Self { offsets, positions })
    }

    /// Whole sequences of the given lengths, each starting at position 0.
    ///
    /// # Errors
    /// As [`Rows::new`].
    pub fn packed(lengths: &[u32]) -> Result<Self> {
        Self::new(lengths, &alloc::vec![0; lengths.len()])
    }

    /// `[B + 1]`: sequence b is rows `offsets[b]..offsets[b + 1]`.
    #[must_use]
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// `[T]`: the position of each row in its own sequence.
    #[must_use]
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// T.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.positions.len()
    }

    /// B.
    #[must_use]
    pub fn n_sequences(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The row range of each sequence, in order.
    pub fn ranges(&self) -> impl Iterator<Item = core::ops::Range<usize>> + '_ {
        self.offsets
            .iter()
            .zip(self.offsets.iter().skip(1))
            .map(|(a, b)| *a as usize..*b as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, vec};

    #[test]
    fn shapes_print_as_written() {
        assert_eq!(format!("{}", Shape::stack(2, 3, 4)), "[2, 3, 4]");
        assert_eq!(format!("{}", Shape::vector(5)), "[5]");
        assert_eq!(Shape::matrix(0, 7).elements(), 0);
    }

    #[test]
    fn a_shape_too_large_to_count_is_refused() {
        let shape = Shape::matrix(usize::MAX, 2);
        assert!(matches!(
            shape.checked_elements(),
            Err(Error::TooLarge { .. })
        ));
    }

    #[test]
    fn rows_keep_offsets_and_positions() {
        let rows = Rows::new(&[2, 0, 3], &[5, 9, 0]).unwrap();
        assert_eq!(rows.offsets(), [0, 2, 2, 5]);
        assert_eq!(rows.positions(), [5, 6, 0, 1, 2]);
        assert_eq!(
            rows.ranges().collect::<vec::Vec<_>>(),
            vec![0..2, 2..2, 2..5]
        );
        assert!(Rows::new(&[1], &[u32::MAX]).is_err());
    }
}
