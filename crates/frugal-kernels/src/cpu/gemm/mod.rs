//! Matrix products in f32 and bf16, all summed in f32.
//!
//! Four storeys: this file checks shapes; `rows` and `columns` cut the work; `engine` prepares
//! operands and walks over blocks; `cpu::{amx, avx512, avx2, neon, portable}` multiply one block.
//!
//! Laws, held bit for bit: a row of a forward product or an input gradient depends on nothing but
//! that row and the weight (not on the other rows, their number, the cut of groups or the threads),
//! so decoding repeats training; a weight gradient does not depend on the number of threads.
//!
//! In bf16 both operands are rounded to nearest even; subnormals may become zero. NaN and
//! infinities go through as the arithmetic says. An empty reduction gives zero sums.
//!
//! It knows nothing of layers or of who owns a weight: packing again after an update is the
//! caller's duty.

#![expect(
    clippy::indexing_slicing,
    reason = "indices come from views and offsets checked at the entrances below"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "a mutable view is used up: its borrow ends with the call"
)]

mod aligned;
mod columns;
mod engine;
mod error;
pub(crate) mod finish;
pub(crate) mod integer;
pub(crate) mod operands;
mod peak;
mod rows;
mod stored;
pub(crate) mod tile;
mod view;
mod weight;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use error::GemmError;
pub use finish::{Finish, Update};
pub use peak::measure_peak;
pub use view::{Factor, HeadMat, HeadMatMut, HeadShape, Mat, MatMut, Stack, StackMut, StackShape};
pub use weight::PackedWeight;

use self::columns::ColumnProduct;
use self::engine::Engine;
use self::error::expect;
use self::finish::Output;
use self::integer::IntegerProduct;
use self::rows::RowProduct;
use self::stored::StoredProduct;
use self::view::{Layout, Numbers, Operand};
use self::weight::Panels;
use super::detect::CpuFeatures;
use super::pool::Pool;
use super::stored::StoredWeight;

/// What operands are rounded to before they are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Not at all.
    F32,
    /// bf16, to nearest even.
    Bf16,
}

/// How products with weights in blocks are formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockProducts {
    /// Numbers are decoded and rounded as [`Precision`] says: the result of the same weight put.
    Decoded,
    /// Activations are rounded to 8 bits, and levels are multiplied as whole numbers; see
    /// [`frugal_core::quant::integer`]. Products that are to be exact stay [`Self::Decoded`].
    Integer,
    /// [`Self::Integer`] for the tokens of answers, else [`Self::Decoded`]: with tile registers many
    /// rows are faster decoded, while one row would wait for the decoding.
    IntegerForAnswers,
}

/// A weight in the form of its file, and how it is multiplied.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredFactor<'a> {
    pub(super) weight: &'a StoredWeight,
    pub(super) precision: Precision,
    pub(super) is_integer: bool,
}

/// Outputs of this many numbers (1 MB) are seldom in the second cache when they are written: what
/// is read for them is as large.
const FAR_NUMBERS: usize = 256 * 1024;

/// The products of one machine on one pool of threads.
#[derive(Debug, Clone, Copy)]
pub struct Gemm<'p> {
    pool: &'p Pool,
    features: CpuFeatures,
}

/// A checked left operand, output and the names for complaints.
struct Rows<'a> {
    op: &'static str,
    left: Operand<'a>,
    output: (&'a mut [f32], Layout),
    finish: Finish<'a>,
}

impl<'p> Gemm<'p> {
    /// Products with the kernels that `features` name, on the threads of `pool`.
    pub const fn new(pool: &'p Pool, features: CpuFeatures) -> Self {
        Self { pool, features }
    }

    /// Packs a weight.
    pub fn pack(&self, weight: Stack<'_>, precision: Precision) -> PackedWeight {
        let mut packed = PackedWeight::new(precision);
        self.repack(&mut packed, weight);
        packed
    }

    /// Packs a weight that has changed, into the memory of `packed`.
    ///
    /// *Cost*: one pass over the weight; the transposed form is made at the next [`Self::nn`].
    pub fn repack(&self, packed: &mut PackedWeight, weight: Stack<'_>) {
        let format = Engine::choose(self.features, packed.precision()).format();
        packed.fill(self.pool, self.features, format, weight);
    }

    /// `out [M, N] (=|+=) scale · a [M, K] · Wᵀ + bias`, with W `[N, K]`.
    ///
    /// # Errors
    /// If shapes disagree or the weight was packed for other kernels.
    pub fn nt<'a>(
        &self,
        a: impl Into<Factor<'a>>,
        weight: &PackedWeight,
        out: MatMut<'_>,
        finish: Finish<'_>,
    ) -> Result<(), GemmError> {
        let op = "nt";
        self.check_weight(op, weight)?;
        self.dense_rows(
            Rows::of_matrices(op, a.into(), out, finish),
            weight.forward(),
            weight,
        )
    }

    /// As [`Self::nt`] with a weight in the form of its file.
    pub(super) fn stored_nt(
        &self,
        a: Factor<'_>,
        factor: StoredFactor<'_>,
        out: MatMut<'_>,
        finish: Finish<'_>,
    ) -> Result<(), GemmError> {
        let op = "nt";
        expect(op, "groups", 1, factor.weight.stacked())?;
        let all = 0..a.layout.rows;
        self.stored_rows(
            Rows::of_matrices(op, a, out, finish),
            factor,
            std::iter::once(all),
        )
    }

    /// As [`Self::grouped_nt`] with weights in the form of their file.
    pub(super) fn stored_grouped_nt(
        &self,
        x: Factor<'_>,
        offsets: &[u32],
        factor: StoredFactor<'_>,
        out: MatMut<'_>,
        finish: Finish<'_>,
    ) -> Result<(), GemmError> {
        let op = "grouped_nt";
        check_offsets(op, offsets, factor.weight.stacked(), x.layout.rows)?;
        self.stored_rows(
            Rows::of_matrices(op, x, out, finish),
            factor,
            group_rows(offsets),
        )
    }

    /// `out [M, K] (=|+=) scale · dy [M, N] · W + bias`, with W `[N, K]`.
    ///
    /// # Errors
    /// If shapes disagree or the weight was packed for other kernels.
    pub fn nn<'a>(
        &self,
        dy: impl Into<Factor<'a>>,
        weight: &PackedWeight,
        out: MatMut<'_>,
        finish: Finish<'_>,
    ) -> Result<(), GemmError> {
        let op = "nn";
        self.check_weight(op, weight)?;
        let panels = weight.backward(self.pool, self.features);
        let rows = Rows::of_matrices(op, dy.into(), out, finish);
        self.dense_rows(rows, panels, weight)
    }

    /// `dw [N, K] (=|+=) dy [M, N]ᵀ · x [M, K]`.
    ///
    /// # Errors
    /// If shapes disagree.
    pub fn tn<'a>(
        &self,
        dy: impl Into<Factor<'a>>,
        x: impl Into<Factor<'a>>,
        dw: MatMut<'_>,
        (precision, update): (Precision, Update),
    ) -> Result<(), GemmError> {
        let (dy, x) = (dy.into(), x.into());
        let rows = 0..dy.layout.rows;
        let (left, right) = ((dy.numbers, dy.layout), (x.numbers, x.layout));
        let product = self.column_product(
            "tn",
            (left, right),
            (dw.data, dw.layout),
            (precision, update),
        )?;
        product.run(std::iter::once(rows));
        Ok(())
    }

    /// As [`Self::nt`] with a weight for each group: rows `offsets[g]..offsets[g + 1]` of `x` and
    /// `out` are those of group g. Rows from `offsets[G]` on are left alone.
    ///
    /// # Errors
    /// If shapes disagree, offsets descend or leave the rows, or the weight was packed for other
    /// kernels.
    pub fn grouped_nt<'a>(
        &self,
        x: impl Into<Factor<'a>>,
        offsets: &[u32],
        weight: &PackedWeight,
        out: MatMut<'_>,
        finish: Finish<'_>,
    ) -> Result<(), GemmError> {
        let op = "grouped_nt";
        self.check_weight(op, weight)?;
        let rows = Rows::of_matrices(op, x.into(), out, finish);
        self.grouped_rows(rows, offsets, weight.forward(), weight)
    }

    /// As [`Self::nn`] with a weight for each group; see [`Self::grouped_nt`].
    ///
    /// # Errors
    /// As [`Self::grouped_nt`].
    pub fn grouped_nn<'a>(
        &self,
        dy: impl Into<Factor<'a>>,
        offsets: &[u32],
        weight: &PackedWeight,
        out: MatMut<'_>,
        finish: Finish<'_>,
    ) -> Result<(), GemmError> {
        let op = "grouped_nn";
        self.check_weight(op, weight)?;
        let panels = weight.backward(self.pool, self.features);
        let rows = Rows::of_matrices(op, dy.into(), out, finish);
        self.grouped_rows(rows, offsets, panels, weight)
    }

    /// As [`Self::tn`] for each group; see [`Self::grouped_nt`]. A group without rows has a
    /// gradient of zero.
    ///
    /// # Errors
    /// If shapes disagree, or offsets descend or leave the rows.
    pub fn grouped_tn<'a>(
        &self,
        dy: impl Into<Factor<'a>>,
        x: impl Into<Factor<'a>>,
        offsets: &[u32],
        dw: StackMut<'_>,
        (precision, update): (Precision, Update),
    ) -> Result<(), GemmError> {
        let op = "grouped_tn";
        let (dy, x) = (dy.into(), x.into());
        check_offsets(op, offsets, dw.layout.groups, dy.layout.rows)?;
        let (left, right) = ((dy.numbers, dy.layout), (x.numbers, x.layout));
        let product =
            self.column_product(op, (left, right), (dw.data, dw.layout), (precision, update))?;
        product.run(group_rows(offsets));
        Ok(())
    }

    /// As [`Self::nt`] for each head: W `[H, b, a]` takes columns a to columns b.
    ///
    /// # Errors
    /// If shapes disagree or the weight was packed for other kernels.
    pub fn heads_nt(
        &self,
        x: HeadMat<'_>,
        weight: &PackedWeight,
        out: HeadMatMut<'_>,
        finish: Finish<'_>,
    ) -> Result<(), GemmError> {
        let op = "heads_nt";
        self.check_weight(op, weight)?;
        let rows = Rows::of_heads(op, x, out, finish);
        self.head_rows(rows, weight.forward(), weight)
    }

    /// As [`Self::nn`] for each head: W `[H, b, a]` takes columns b to columns a.
    ///
    /// # Errors
    /// If shapes disagree or the weight was packed for other kernels.
    pub fn heads_nn(
        &self,
        dy: HeadMat<'_>,
        weight: &PackedWeight,
        out: HeadMatMut<'_>,
        finish: Finish<'_>,
    ) -> Result<(), GemmError> {
        let op = "heads_nn";
        self.check_weight(op, weight)?;
        let panels = weight.backward(self.pool, self.features);
        self.head_rows(Rows::of_heads(op, dy, out, finish), panels, weight)
    }

    /// As [`Self::tn`] for each head.
    ///
    /// # Errors
    /// If shapes disagree.
    pub fn heads_tn(
        &self,
        dy: HeadMat<'_>,
        x: HeadMat<'_>,
        dw: StackMut<'_>,
        (precision, update): (Precision, Update),
    ) -> Result<(), GemmError> {
        let op = "heads_tn";
        expect(op, "heads of dy", dw.layout.groups, dy.layout.groups)?;
        expect(op, "heads of x", dw.layout.groups, x.layout.groups)?;
        let rows = std::iter::repeat_n(0..dy.layout.rows, dy.layout.groups);
        let left = (Numbers::Single(dy.data), dy.layout);
        let right = (Numbers::Single(x.data), x.layout);
        let product =
            self.column_product(op, (left, right), (dw.data, dw.layout), (precision, update))?;
        product.run(rows);
        Ok(())
    }

    fn check_weight(&self, op: &'static str, weight: &PackedWeight) -> Result<(), GemmError> {
        let engine = Engine::choose(self.features, weight.precision());
        if weight.groups() > 0 && weight.format() != engine.format() {
            let got = weight.precision();
            return Err(GemmError::Packed { op, got });
        }
        Ok(())
    }

    fn dense_rows(
        &self,
        rows: Rows<'_>,
        panels: &Panels,
        weight: &PackedWeight,
    ) -> Result<(), GemmError> {
        expect(rows.op, "groups", 1, weight.groups())?;
        let all = 0..rows.left.1.rows;
        self.row_product(rows, panels, (weight.precision(), 1))?
            .run(std::iter::once(all));
        Ok(())
    }

    fn grouped_rows(
        &self,
        rows: Rows<'_>,
        offsets: &[u32],
        panels: &Panels,
        weight: &PackedWeight,
    ) -> Result<(), GemmError> {
        check_offsets(rows.op, offsets, weight.groups(), rows.left.1.rows)?;
        self.row_product(rows, panels, (weight.precision(), weight.groups()))?
            .run(group_rows(offsets));
        Ok(())
    }

    fn head_rows(
        &self,
        rows: Rows<'_>,
        panels: &Panels,
        weight: &PackedWeight,
    ) -> Result<(), GemmError> {
        let heads = weight.groups();
        expect(rows.op, "heads of the input", heads, rows.left.1.groups)?;
        expect(rows.op, "heads of the output", heads, rows.output.1.groups)?;
        let each = 0..rows.left.1.rows;
        self.row_product(rows, panels, (weight.precision(), heads))?
            .run(std::iter::repeat_n(each, heads));
        Ok(())
    }

    /// Checks a product with rows; `groups` is how many weights (and biases) it has.
    fn row_product<'a>(
        &self,
        rows: Rows<'a>,
        panels: &'a Panels,
        (precision, groups): (Precision, usize),
    ) -> Result<RowProduct<'a>, GemmError>
    where
        'p: 'a,
    {
        rows.expect_weight(groups, panels.outputs, panels.depth)?;
        let Rows {
            left,
            output,
            finish,
            ..
        } = rows;
        let (stride, output_group) = (output.1.row_stride, output.1.group_stride);
        let is_far = output.0.len() >= FAR_NUMBERS;
        Ok(RowProduct {
            is_far,
            pool: self.pool,
            features: self.features,
            engine: Engine::choose(self.features, precision),
            left: left.0,
            left_layout: left.1,
            right: panels,
            update: finish.update,
            output: Output::new(output.0, stride, (finish.scale, finish.bias), self.features),
            output_group,
        })
    }

    /// Checks a product with a weight in the form of its file and forms it.
    fn stored_rows(
        &self,
        rows: Rows<'_>,
        factor: StoredFactor<'_>,
        groups: impl Iterator<Item = Range<usize>> + Clone,
    ) -> Result<(), GemmError> {
        let right = factor.weight;
        rows.expect_weight(right.stacked(), right.rows(), right.cols())?;
        let Rows {
            op,
            left: (left, left_layout),
            output,
            finish,
        } = rows;
        let Numbers::Single(left) = left else {
            return Err(GemmError::Narrow { op });
        };
        let (pool, features, update) = (self.pool, self.features, finish.update);
        let scale = (finish.scale, finish.bias);
        let output = Output::new(output.0, output.1.row_stride, scale, features);
        if factor.is_integer && right.block_format().is_some() {
            let product = IntegerProduct {
                pool,
                features,
                left,
                left_layout,
                right,
                output,
                update,
            };
            product.run(groups);
        } else {
            let product = StoredProduct {
                pool,
                features,
                precision: factor.precision,
                left,
                left_layout,
                right,
                output,
                update,
            };
            product.run(groups);
        }
        Ok(())
    }

    /// Checks a product with columns.
    fn column_product<'a>(
        &self,
        op: &'static str,
        (left, right): (Operand<'a>, Operand<'a>),
        output: (&'a mut [f32], Layout),
        (precision, update): (Precision, Update),
    ) -> Result<ColumnProduct<'a>, GemmError>
    where
        'p: 'a,
    {
        expect(op, "rows of x", left.1.rows, right.1.rows)?;
        expect(op, "rows of dw", left.1.cols, output.1.rows)?;
        expect(op, "columns of dw", right.1.cols, output.1.cols)?;
        Ok(ColumnProduct {
            pool: self.pool,
            features: self.features,
            engine: Engine::choose(self.features, precision),
            left,
            right,
            output: output.0,
            output_layout: output.1,
            update,
        })
    }
}

impl<'a> Rows<'a> {
    /// Refuses what `groups` weights `[outputs, depth]` cannot be multiplied with.
    fn expect_weight(&self, groups: usize, outputs: usize, depth: usize) -> Result<(), GemmError> {
        let (op, left, output) = (self.op, self.left.1, self.output.1);
        expect(op, "input columns", depth, left.cols)?;
        expect(op, "output columns", outputs, output.cols)?;
        expect(op, "output rows", left.rows, output.rows)?;
        match self.finish.bias {
            Some(bias) => expect(op, "biases", groups * outputs, bias.len()),
            None => Ok(()),
        }
    }

    const fn of_matrices(
        op: &'static str,
        a: Factor<'a>,
        out: MatMut<'a>,
        finish: Finish<'a>,
    ) -> Self {
        Self {
            op,
            left: (a.numbers, a.layout),
            output: (out.data, out.layout),
            finish,
        }
    }

    const fn of_heads(
        op: &'static str,
        x: HeadMat<'a>,
        out: HeadMatMut<'a>,
        finish: Finish<'a>,
    ) -> Self {
        Self {
            op,
            left: (Numbers::Single(x.data), x.layout),
            output: (out.data, out.layout),
            finish,
        }
    }
}

/// Checks that offsets name `groups` ascending ranges of at most `rows` rows.
fn check_offsets(
    op: &'static str,
    offsets: &[u32],
    groups: usize,
    rows: usize,
) -> Result<(), GemmError> {
    expect(op, "offsets", groups + 1, offsets.len())?;
    if let Some(two) = offsets.windows(2).find(|two| two[1] < two[0]) {
        return Err(GemmError::Offsets {
            op,
            before: two[0],
            got: two[1],
        });
    }
    match offsets.last() {
        Some(&last) if last as usize > rows => expect(op, "rows", last as usize, rows),
        _ => Ok(()),
    }
}

fn group_rows(offsets: &[u32]) -> impl Iterator<Item = Range<usize>> + Clone {
    offsets
        .windows(2)
        .map(|two| two[0] as usize..two[1] as usize)
}
