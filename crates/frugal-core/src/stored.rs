//! Numbers as they lie in a file, owned or mapped, so that a weight need not be copied to be used.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, Range};

use crate::dtype::{DType, Data, decode};
use crate::error::{Result, expect_count};
use crate::quant::{BlockFormat, Format};
use crate::shape::Shape;

/// Bytes that outlive whoever reads them: memory or a mapped file. Cloning and slicing share them.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// All bytes of an owner, which must give the same ones each time.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        let range = 0..(*owner).as_ref().len();
        Self { owner, range }
    }

    /// A part of them; none where they do not reach so far.
    #[must_use]
    pub fn slice(&self, part: Range<usize>) -> Option<Self> {
        if part.start > part.end || part.end > self.range.len() {
            return None;
        }
        let start = self.range.start + part.start;
        Some(Self {
            owner: Arc::clone(&self.owner),
            range: start..start + part.len(),
        })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.owner)
            .as_ref()
            .get(self.range.clone())
            .unwrap_or_default()
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(Arc::new(bytes))
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.range.len())
    }
}

/// One tensor as it lies in a file.
#[derive(Debug, Clone)]
pub enum Stored {
    /// Each number by itself.
    Plain {
        /// The format of each number.
        dtype: DType,
        /// Little-endian, row-major.
        bytes: SharedBytes,
    },
    /// Blocks along each row.
    Blocks {
        /// The format of each block.
        format: BlockFormat,
        /// Rows one after another.
        bytes: SharedBytes,
    },
    /// e4m3 with a factor for each block; see [`Data::Fp8Blocks`].
    Fp8Blocks {
        /// e4m3, row-major.
        bytes: SharedBytes,
        /// One factor a block, row-major.
        scales: Arc<[f32]>,
        /// Rows and columns of a block.
        block: [usize; 2],
    },
}

impl Stored {
    /// The same, borrowed.
    pub fn data(&self) -> Data<'_> {
        match self {
            Self::Plain { dtype, bytes } => Data::Bytes {
                dtype: *dtype,
                bytes,
            },
            Self::Blocks { format, bytes } => Data::Blocks {
                format: *format,
                bytes,
            },
            Self::Fp8Blocks {
                bytes,
                scales,
                block,
            } => Data::Fp8Blocks {
                bytes,
                scales,
                block: *block,
            },
        }
    }

    /// What it is stored in.
    pub fn format(&self) -> Format {
        match self {
            Self::Plain { dtype, .. } => Format::Plain(*dtype),
            Self::Blocks { format, .. } => Format::Blocks(*format),
            Self::Fp8Blocks { block, .. } => Format::Fp8Blocks(*block),
        }
    }

    /// Its numbers' bytes, without the factors that lie apart.
    pub fn bytes(&self) -> &SharedBytes {
        match self {
            Self::Plain { bytes, .. }
            | Self::Blocks { bytes, .. }
            | Self::Fp8Blocks { bytes, .. } => bytes,
        }
    }
}

/// The numbers of a tensor in one part, or of a stack in one part a matrix.
///
/// # Errors
/// If a part does not have the bytes its shape asks for, or their number is another.
pub fn decode_parts(shape: Shape, parts: &[Stored]) -> Result<Vec<f32>> {
    if let [whole] = parts {
        return decode(shape, whole.data());
    }
    expect_count("keep", "matrices", shape.stacked(), parts.len())?;
    let each = Shape::matrix(shape.rows_each(), shape.cols());
    let mut values = Vec::with_capacity(shape.checked_elements()?);
    for part in parts {
        values.extend(decode(each, part.data())?);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_shares_and_never_leaves_its_parent() {
        let all = SharedBytes::from(alloc::vec![1u8, 2, 3, 4, 5]);
        let part = all.slice(1..4).unwrap();
        assert_eq!(*part, [2, 3, 4]);
        assert_eq!(*part.slice(1..3).unwrap(), [3, 4]);
        assert!(part.slice(0..4).is_none());
        assert!(part.slice(3..3).unwrap().is_empty());
        let backwards = Range { start: 2, end: 1 };
        assert!(part.slice(backwards).is_none());
    }
}
