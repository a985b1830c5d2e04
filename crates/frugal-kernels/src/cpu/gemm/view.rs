//! Operands: slices with a checked geometry.

use half::bf16;

use super::error::GemmError;
use super::tile::{Rect, Source};

/// Geometry of a view: `groups` matrices of `rows` by `cols`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) groups: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) group_stride: usize,
}

impl Layout {
    /// Checks that the view stays within `len` numbers.
    fn within(self, len: usize) -> Result<Self, GemmError> {
        let refused = |needed| GemmError::View {
            rows: self.groups.saturating_mul(self.rows),
            cols: self.cols,
            stride: self.row_stride,
            needed,
            got: len,
        };
        if self.groups == 0 || self.rows == 0 {
            return Ok(self);
        }
        let needed = (self.groups - 1)
            .checked_mul(self.group_stride)
            .zip((self.rows - 1).checked_mul(self.row_stride))
            .and_then(|(g, r)| g.checked_add(r)?.checked_add(self.cols))
            .ok_or_else(|| refused(usize::MAX))?;
        if needed > len {
            return Err(refused(needed));
        }
        Ok(self)
    }

    /// As [`Self::within`] for a view that is written: no number may belong to two rows.
    fn within_apart(self, len: usize) -> Result<Self, GemmError> {
        let checked = self.within(len)?;
        if self.groups == 0 || self.rows == 0 {
            return Ok(checked);
        }
        let group_end = (self.rows - 1) * self.row_stride + self.cols;
        let rows_apart = self.rows < 2 || self.row_stride >= self.cols;
        let stacked = rows_apart && self.group_stride >= group_end;
        let side_by_side = self.group_stride >= self.cols
            && (self.rows < 2
                || self.row_stride >= (self.groups - 1) * self.group_stride + self.cols);
        if rows_apart && (self.groups < 2 || stacked || side_by_side) {
            Ok(checked)
        } else {
            Err(GemmError::View {
                rows: self.groups * self.rows,
                cols: self.cols,
                stride: self.row_stride,
                needed: group_end,
                got: self.group_stride.min(self.row_stride),
            })
        }
    }
}

/// The numbers of an operand.
#[derive(Debug, Clone, Copy)]
pub(super) enum Numbers<'a> {
    Single(&'a [f32]),
    Narrow(&'a [bf16]),
}

impl<'a> Numbers<'a> {
    /// Some rows and columns of group g.
    pub(super) fn part(
        self,
        (layout, g): (Layout, usize),
        rows: (usize, usize),
        cols: (usize, usize),
    ) -> Source<'a> {
        match self {
            Self::Single(data) => Source::Single(group(data, layout, g).part(rows, cols)),
            Self::Narrow(data) => Source::Narrow(group(data, layout, g).part(rows, cols)),
        }
    }
}

/// Numbers with their geometry.
pub(super) type Operand<'a> = (Numbers<'a>, Layout);

/// A matrix to be multiplied: of f32, or of bf16, which products in bf16 need not round again.
#[derive(Debug, Clone, Copy)]
pub struct Factor<'a> {
    pub(super) numbers: Numbers<'a>,
    pub(super) layout: Layout,
}

impl<'a> Factor<'a> {
    /// Rows of bf16 one after another.
    ///
    /// # Errors
    /// If they leave `data`.
    pub fn narrow(data: &'a [bf16], rows: usize, cols: usize) -> Result<Self, GemmError> {
        let layout = matrix(rows, cols, cols).within(data.len())?;
        let numbers = Numbers::Narrow(data);
        Ok(Self { numbers, layout })
    }
}

impl<'a> From<Mat<'a>> for Factor<'a> {
    fn from(mat: Mat<'a>) -> Self {
        Self {
            numbers: Numbers::Single(mat.data),
            layout: mat.layout,
        }
    }
}

/// Group g of a layout over `data`.
pub(super) fn group<T>(data: &[T], layout: Layout, g: usize) -> Rect<'_, T> {
    Rect {
        data: data.get(g * layout.group_stride..).unwrap_or(&[]),
        stride: layout.row_stride,
        rows: layout.rows,
        cols: layout.cols,
    }
}

/// How heads lie in the rows of an activation: head h is columns `h * head_stride..` of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// T.
    pub rows: usize,
    /// H.
    pub heads: usize,
    /// Columns of each head that take part.
    pub cols: usize,
    /// Numbers from row to row.
    pub row_stride: usize,
    /// Numbers from head to head.
    pub head_stride: usize,
}

impl HeadShape {
    const fn layout(self) -> Layout {
        Layout {
            groups: self.heads,
            rows: self.rows,
            cols: self.cols,
            row_stride: self.row_stride,
            group_stride: self.head_stride,
        }
    }
}

/// Declares a read-only view and its mutable twin with the same geometry.
macro_rules! views {
    ($(#[$doc:meta])* $name:ident, $(#[$doc_mut:meta])* $name_mut:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name<'a> {
            pub(super) data: &'a [f32],
            pub(super) layout: Layout,
        }

        $(#[$doc_mut])*
        #[derive(Debug)]
        pub struct $name_mut<'a> {
            pub(super) data: &'a mut [f32],
            pub(super) layout: Layout,
        }
    };
}

views!(
    /// A matrix of rows `stride` numbers apart.
    Mat,
    /// A matrix to be written.
    MatMut
);
views!(
    /// Matrices of one shape, `[G, rows, cols]`: the experts' or the heads' weights.
    Stack,
    /// Matrices to be written.
    StackMut
);
views!(
    /// An activation `[T, H * cols]` seen head by head.
    HeadMat,
    /// An activation to be written head by head.
    HeadMatMut
);

const fn matrix(rows: usize, cols: usize, stride: usize) -> Layout {
    Layout {
        groups: 1,
        rows,
        cols,
        row_stride: stride,
        group_stride: 0,
    }
}

impl<'a> Mat<'a> {
    /// A view of `rows` rows of `cols`, `stride` numbers apart.
    ///
    /// # Errors
    /// If it leaves `data`.
    pub fn new(
        data: &'a [f32],
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Result<Self, GemmError> {
        let layout = matrix(rows, cols, stride).within(data.len())?;
        Ok(Self { data, layout })
    }

    /// Rows one after another.
    ///
    /// # Errors
    /// If they leave `data`.
    pub fn dense(data: &'a [f32], rows: usize, cols: usize) -> Result<Self, GemmError> {
        Self::new(data, rows, cols, cols)
    }
}

impl<'a> MatMut<'a> {
    /// A view of `rows` rows of `cols`, `stride` numbers apart.
    ///
    /// # Errors
    /// If it leaves `data` or its rows overlap.
    pub fn new(
        data: &'a mut [f32],
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Result<Self, GemmError> {
        let layout = matrix(rows, cols, stride).within_apart(data.len())?;
        Ok(Self { data, layout })
    }

    /// Rows one after another.
    ///
    /// # Errors
    /// If they leave `data`.
    pub fn dense(data: &'a mut [f32], rows: usize, cols: usize) -> Result<Self, GemmError> {
        Self::new(data, rows, cols, cols)
    }
}

/// Geometry of a [`Stack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackShape {
    /// Matrices.
    pub groups: usize,
    /// Rows of each, N.
    pub rows: usize,
    /// Columns of each, K.
    pub cols: usize,
    /// Numbers from row to row.
    pub row_stride: usize,
    /// Numbers from matrix to matrix.
    pub group_stride: usize,
}

impl StackShape {
    /// Matrices one after another.
    pub const fn dense(groups: usize, rows: usize, cols: usize) -> Self {
        Self {
            groups,
            rows,
            cols,
            row_stride: cols,
            group_stride: rows * cols,
        }
    }

    const fn layout(self) -> Layout {
        Layout {
            groups: self.groups,
            rows: self.rows,
            cols: self.cols,
            row_stride: self.row_stride,
            group_stride: self.group_stride,
        }
    }
}

impl<'a> Stack<'a> {
    /// A view of matrices.
    ///
    /// # Errors
    /// If it leaves `data`.
    pub fn new(data: &'a [f32], shape: StackShape) -> Result<Self, GemmError> {
        let layout = shape.layout().within(data.len())?;
        Ok(Self { data, layout })
    }
}

impl<'a> From<Mat<'a>> for Stack<'a> {
    fn from(mat: Mat<'a>) -> Self {
        Self {
            data: mat.data,
            layout: mat.layout,
        }
    }
}

impl<'a> StackMut<'a> {
    /// A view of matrices.
    ///
    /// # Errors
    /// If it leaves `data` or its rows overlap.
    pub fn new(data: &'a mut [f32], shape: StackShape) -> Result<Self, GemmError> {
        let layout = shape.layout().within_apart(data.len())?;
        Ok(Self { data, layout })
    }
}

impl<'a> HeadMat<'a> {
    /// A view of heads.
    ///
    /// # Errors
    /// If it leaves `data`.
    pub fn new(data: &'a [f32], shape: HeadShape) -> Result<Self, GemmError> {
        let layout = shape.layout().within(data.len())?;
        Ok(Self { data, layout })
    }
}

impl<'a> HeadMatMut<'a> {
    /// A view of heads.
    ///
    /// # Errors
    /// If it leaves `data` or its rows or heads overlap.
    pub fn new(data: &'a mut [f32], shape: HeadShape) -> Result<Self, GemmError> {
        let layout = shape.layout().within_apart(data.len())?;
        Ok(Self { data, layout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_outside_their_data_are_refused() {
        assert!(Mat::new(&[0.0; 11], 3, 4, 4).is_err());
        assert!(Mat::new(&[0.0; 10], 3, 2, 4).is_ok());
        assert!(Mat::new(&[], 0, 4, 4).is_ok());
        assert!(Mat::new(&[0.0; 4], usize::MAX, 2, usize::MAX).is_err());
        assert!(Stack::new(&[0.0; 23], StackShape::dense(2, 3, 4)).is_err());
    }

    #[test]
    fn written_rows_may_not_overlap() {
        let data = &mut [0.0; 64];
        assert!(MatMut::new(data, 3, 4, 3).is_err());
        let heads = |head_stride, row_stride| HeadShape {
            rows: 2,
            heads: 3,
            cols: 4,
            row_stride,
            head_stride,
        };
        assert!(HeadMatMut::new(data, heads(4, 12)).is_ok());
        assert!(HeadMatMut::new(data, heads(5, 20)).is_ok());
        assert!(HeadMatMut::new(data, heads(3, 12)).is_err());
        assert!(HeadMatMut::new(data, heads(4, 11)).is_err());
        assert!(HeadMatMut::new(data, heads(8, 4)).is_ok());
    }
}
