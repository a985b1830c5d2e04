//! A parameter where it lies in a file.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;

use frugal_core::backend::Backend;
use frugal_core::dtype::{DType, Data, decode};
use frugal_core::error::expect_count;
use frugal_core::shape::Shape;
use frugal_core::stored::{SharedBytes, Stored, decode_parts};

use super::numbers::Numbers;
use crate::error::Result;
use crate::params::{Role, Spec};

/// A parameter where it lies in a file's bytes: one tensor, or one for each expert.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// What it is.
    pub spec: Spec,
    /// One, or one an expert.
    pub parts: Vec<Stored>,
}

impl Leaf {
    /// The numbers, experts one after another.
    ///
    /// # Errors
    /// None for a leaf that was read from a file: its sizes were checked there.
    pub fn values(&self) -> Result<Vec<f32>> {
        Ok(decode_parts(self.spec.shape, &self.parts)?)
    }

    /// The parameter on a back-end, as plain numbers.
    ///
    /// # Errors
    /// Those of the back-end.
    pub fn put<B: Backend>(&self, b: &B) -> Result<B::Tensor> {
        if let [part] = self.parts.as_slice() {
            return Ok(b.put(self.spec.shape, part.data())?);
        }
        if let Some((dtype, parts)) = self.all_plain() {
            let bytes = &parts.concat();
            return Ok(b.put(self.spec.shape, Data::Bytes { dtype, bytes })?);
        }
        Ok(b.put(self.spec.shape, Data::F32(&self.values()?))?)
    }

    /// The parameter on a back-end, in the form it is stored in where that saves reading it: matrices
    /// and tables. Norms, biases and the router are small and exact, and always put.
    ///
    /// # Errors
    /// Those of the back-end.
    pub fn keep<B: Backend>(&self, b: &B) -> Result<B::Tensor> {
        match self.spec.role {
            Role::Matrix | Role::Experts | Role::Embedding | Role::Head => {
                Ok(b.keep(self.spec.shape, &self.parts)?)
            }
            Role::Norm | Role::Router | Role::RouterBias | Role::Bias => self.put(b),
        }
    }

    /// The parts' bytes where all are plain numbers of one format.
    fn all_plain(&self) -> Option<(DType, Vec<&[u8]>)> {
        let mut format = None;
        let mut all = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let Stored::Plain { dtype, bytes } = part else {
                return None;
            };
            if *format.get_or_insert(*dtype) != *dtype {
                return None;
            }
            all.push(&**bytes);
        }
        format.map(|dtype| (dtype, all))
    }
}

impl Numbers for Leaf {
    fn check(&self, spec: &Spec) -> Result<()> {
        let parts = self.parts.len();
        Ok(expect_count("write", "parts", spec.shape.stacked(), parts)?)
    }

    fn stored(&self, part: usize) -> Option<&Stored> {
        self.parts.get(part)
    }

    fn rows(&self, spec: &Spec, part: usize, rows: Range<usize>) -> Result<Cow<'_, [f32]>> {
        let shape = spec.file_shape();
        let all = shape.rows_each();
        let Some(whole) = self.parts.get(part) else {
            let index = self.parts.len();
            expect_count("write", "parts", part + 1, index)?;
            return Ok(Cow::Owned(Vec::new()));
        };
        let n = rows.len();
        let Some(cut) = cut(whole, shape.cols(), rows.clone()) else {
            // Rows that cut through blocks of several rows: decode all and take some.
            let mut values = decode(shape, whole.data())?;
            values.truncate(rows.end.min(all) * shape.cols());
            values.drain(..rows.start.min(all) * shape.cols());
            return Ok(Cow::Owned(values));
        };
        Ok(Cow::Owned(decode(
            Shape::matrix(n, shape.cols()),
            cut.data(),
        )?))
    }
}

/// Some rows of a tensor of `cols` columns; none where they would cut through a block.
pub(super) fn cut(whole: &Stored, cols: usize, rows: Range<usize>) -> Option<Stored> {
    let slice = |bytes: &SharedBytes, row: usize| {
        bytes.slice(rows.start.checked_mul(row)?..rows.end.checked_mul(row)?)
    };
    Some(match whole {
        Stored::Plain { dtype, bytes } => Stored::Plain {
            dtype: *dtype,
            bytes: slice(bytes, cols.checked_mul(dtype.bytes())?)?,
        },
        Stored::Blocks { format, bytes } => Stored::Blocks {
            format: *format,
            bytes: slice(bytes, format.bytes_of(cols)?)?,
        },
        Stored::Fp8Blocks {
            bytes,
            scales,
            block,
        } => {
            let [down, across] = *block;
            if rows.start.checked_rem(down)? != 0 {
                return None;
            }
            let row = cols.div_ceil(across);
            let blocks = (rows.start / down) * row..rows.end.div_ceil(down) * row;
            Stored::Fp8Blocks {
                bytes: slice(bytes, cols)?,
                scales: scales.get(blocks)?.into(),
                block: *block,
            }
        }
    })
}
