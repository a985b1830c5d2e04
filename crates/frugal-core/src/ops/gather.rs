//! Rows of a table: `y[i] = table[ids[i]]`, `table [V, D]`. No arithmetic.
//!
//! Backward: `dtable[v]` gains the sum of `dy[i]` over the i with `ids[i] = v`.

use alloc::vec::Vec;

use super::check::TableDims;
use super::math::{Sums, row};

/// `[ids.len(), D]`.
#[must_use]
pub fn forward(table: &[f32], ids: &[u32], dims: TableDims) -> Vec<f32> {
    ids.iter()
        .flat_map(|id| row(table, *id as usize, dims.width))
        .copied()
        .collect()
}

/// Adds to the gradient of the table.
pub fn backward(ids: &[u32], dy: &[f32], dims: TableDims, d_table: &mut [f32]) {
    let mut sums = Sums::new(dims.table_rows * dims.width);
    for (i, id) in ids.iter().enumerate() {
        sums.add(*id as usize * dims.width, 1.0, row(dy, i, dims.width));
    }
    sums.add_into(d_table);
}
