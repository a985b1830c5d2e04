//! What can be wrong with a product.

use super::Precision;

/// A product that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GemmError {
    /// A view does not fit its data.
    #[error(
        "expected {rows} rows of {cols} with stride {stride} to fit (needs {needed}), got {got} numbers"
    )]
    View {
        /// Rows, over all groups.
        rows: usize,
        /// Columns.
        cols: usize,
        /// Numbers from row to row.
        stride: usize,
        /// Numbers the view would reach.
        needed: usize,
        /// Numbers there are.
        got: usize,
    },
    /// Two operands disagree.
    #[error("{op}: expected {what} {expected}, got {got}")]
    Mismatch {
        /// The product.
        op: &'static str,
        /// What was compared.
        what: &'static str,
        /// What the other operand says.
        expected: usize,
        /// What this one says.
        got: usize,
    },
    /// Group offsets descend.
    #[error("{op}: expected ascending offsets, got {got} after {before}")]
    Offsets {
        /// The product.
        op: &'static str,
        /// The offset before.
        before: u32,
        /// The offset that is smaller.
        got: u32,
    },
    /// The left operand of a weight in the form of its file is bf16.
    #[error("{op}: expected f32 for a weight in the form of its file, got bf16")]
    Narrow {
        /// The product.
        op: &'static str,
    },
    /// The weight was packed for other kernels.
    #[error(
        "{op}: expected a weight packed by this back-end, got one packed for another in {got:?}"
    )]
    Packed {
        /// The product.
        op: &'static str,
        /// The weight's precision.
        got: Precision,
    },
}

/// Refuses two numbers that should be equal.
pub(super) fn expect(
    op: &'static str,
    what: &'static str,
    expected: usize,
    got: usize,
) -> Result<(), GemmError> {
    if expected == got {
        Ok(())
    } else {
        Err(GemmError::Mismatch {
            op,
            what,
            expected,
            got,
        })
    }
}
