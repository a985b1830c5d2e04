//! What can go wrong on the bottom floor.

use alloc::string::String;

use crate::{dtype::DType, quant::BlockFormat, shape::Shape};

/// Result of a back-end operation.
pub type Result<T> = core::result::Result<T, Error>;

/// A refused operation: which one, what was expected and what came.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has another shape than the operation needs.
    #[error("{op}: expected {what} of shape {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// Which argument.
        what: &'static str,
        /// The shape it needs, as written in its doc.
        expected: String,
        /// The shape that came.
        got: Shape,
    },
    /// A list has another number of entries than the operation needs.
    #[error("{op}: expected {expected} {what}, got {got}")]
    Count {
        /// The operation.
        op: &'static str,
        /// What is counted.
        what: &'static str,
        /// How many are needed.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// An index points outside of what it indexes.
    #[error("{op}: {what} {index} is outside of 0..{limit}")]
    Index {
        /// The operation.
        op: &'static str,
        /// What the index names.
        what: &'static str,
        /// The index.
        index: usize,
        /// How many there are.
        limit: usize,
    },
    /// A setting that no computation can follow.
    #[error("{op}: {reason}")]
    Setting {
        /// The operation.
        op: &'static str,
        /// What was expected and what came.
        reason: String,
    },
    /// Only shapes of one to three dimensions exist.
    #[error("expected a shape of 1 to 3 dimensions, got {got}")]
    Rank {
        /// The number of dimensions that came.
        got: usize,
    },
    /// A shape whose element count does not fit a machine word.
    #[error("shape {shape} has more elements than can be addressed")]
    TooLarge {
        /// The shape.
        shape: Shape,
    },
    /// Rows or positions beyond 32 bits.
    #[error("rows or positions of a step do not fit 32 bits")]
    PositionOverflow,
    /// Bytes that do not have the length their shape and format say.
    #[error("expected {expected} bytes for {shape} in {dtype}, got {got}")]
    Bytes {
        /// The shape.
        shape: Shape,
        /// The format.
        dtype: DType,
        /// Bytes needed.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// Rows that do not fill whole blocks.
    #[error("expected rows of a multiple of {} numbers for {format}, got {cols}", format.block_values())]
    Ragged {
        /// The format.
        format: BlockFormat,
        /// Numbers of a row.
        cols: usize,
    },
    /// The back-end does not have this operation in this form.
    #[error("{op} is not available on {backend}: {reason}")]
    Unsupported {
        /// The operation.
        op: &'static str,
        /// The back-end.
        backend: &'static str,
        /// Why, and what to use instead.
        reason: &'static str,
    },
}

/// Refuses a tensor whose shape differs from the one needed.
///
/// # Errors
/// [`Error::Shape`] if `got` is not `expected`.
pub fn expect_shape(
    op: &'static str,
    what: &'static str,
    expected: Shape,
    got: Shape,
) -> Result<()> {
    if expected == got {
        Ok(())
    } else {
        Err(Error::Shape {
            op,
            what,
            expected: alloc::format!("{expected}"),
            got,
        })
    }
}

/// Refuses a list of the wrong length.
///
/// # Errors
/// [`Error::Count`] if `got` is not `expected`.
pub fn expect_count(
    op: &'static str,
    what: &'static str,
    expected: usize,
    got: usize,
) -> Result<()> {
    if expected == got {
        Ok(())
    } else {
        Err(Error::Count {
            op,
            what,
            expected,
            got,
        })
    }
}

/// Refuses the first index that is not below `limit`.
///
/// # Errors
/// [`Error::Index`] naming it.
pub fn expect_indices(
    op: &'static str,
    what: &'static str,
    indices: &[u32],
    limit: usize,
) -> Result<()> {
    match indices.iter().find(|index| **index as usize >= limit) {
        Some(index) => Err(Error::Index {
            op,
            what,
            index: *index as usize,
            limit,
        }),
        None => Ok(()),
    }
}
