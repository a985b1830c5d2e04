//! What a cache asks a back-end for: a store of keys or values. How 8 bits are laid out is
//! [`crate::quant::rows`].

use crate::quant::rows::EightBitRows;
use crate::shape::Shape;

/// How precisely a store keeps keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyBits {
    /// As attention's products read them: in fewer bits than other numbers where they read no more,
    /// so that results are the same.
    AsProducts,
    /// Rounded to 8 bits, with a scale for each few: see [`crate::quant::rows`]. What is read back is
    /// the same on every back-end.
    Eight,
}

/// A store of keys or values that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyStore {
    /// S.
    pub rows: usize,
    /// Columns, in two parts whose numbers may differ in size (C and R of a latent cache); the second
    /// may be none.
    pub parts: [usize; 2],
    /// How precisely.
    pub bits: KeyBits,
}

impl KeyStore {
    /// Its shape.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        Shape::matrix(self.rows, self.parts[0] + self.parts[1])
    }

    /// How its rows are laid out where they are of 8 bits.
    #[must_use]
    pub fn eight_bits(&self) -> Option<EightBitRows> {
        (self.bits == KeyBits::Eight).then(|| EightBitRows::new(self.parts))
    }
}
