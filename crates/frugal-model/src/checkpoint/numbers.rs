//! What a writer takes its numbers from, and how they become bytes of a format, a run of rows at a
//! time, so that no whole model and no whole table is held in f32.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::Range;

use frugal_core::dtype::DType;
use frugal_core::error::expect_count;
use frugal_core::quant::{Format, fp8};
use frugal_core::stored::Stored;
use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::params::Spec;

/// About how many numbers are turned at a time.
const RUN: usize = 1 << 20;
/// Rows of the blocks of the published FP8 format.
const FP8_ROWS: usize = 128;

/// What takes the bytes of a file, one piece after another.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// The numbers of one parameter: plain values, or a [`Leaf`](super::Leaf) of a file.
pub trait Numbers {
    /// Refuses numbers that are not those of a parameter.
    ///
    /// # Errors
    /// If there are more or fewer.
    fn check(&self, spec: &Spec) -> Result<()>;

    /// One part (the parameter, or one expert's matrix) as it lies in a file, if it does.
    fn stored(&self, part: usize) -> Option<&Stored>;

    /// The numbers of some rows of a part.
    ///
    /// # Errors
    /// If there are no such rows.
    fn rows(&self, spec: &Spec, part: usize, rows: Range<usize>) -> Result<Cow<'_, [f32]>>;
}

impl Numbers for Vec<f32> {
    fn check(&self, spec: &Spec) -> Result<()> {
        let elements = spec.shape.elements();
        Ok(expect_count("write", "values", elements, self.len())?)
    }

    fn stored(&self, _part: usize) -> Option<&Stored> {
        None
    }

    fn rows(&self, spec: &Spec, part: usize, rows: Range<usize>) -> Result<Cow<'_, [f32]>> {
        let shape = spec.file_shape();
        let first = part * shape.elements();
        let range = first + rows.start * shape.cols()..first + rows.end * shape.cols();
        let needed = range.end;
        let values = self.get(range).unwrap_or_default();
        if values.is_empty() {
            expect_count("write", "values", needed, self.len())?;
        }
        Ok(Cow::Borrowed(values))
    }
}

/// A part of a parameter, and what it is to be written in.
pub(super) struct Piece<'a, L> {
    pub(super) numbers: &'a L,
    pub(super) spec: &'a Spec,
    pub(super) part: usize,
    pub(super) format: Format,
    /// How e4m3 factors are chosen.
    pub(super) scales: fp8::Scales,
}

impl<L: Numbers> Piece<'_, L> {
    /// The part as it lies in a file, if it lies there in the very format.
    pub(super) fn verbatim(&self) -> Option<&Stored> {
        let stored = self.numbers.stored(self.part)?;
        let as_scaled = match stored {
            Stored::Fp8Blocks { scales, .. } if self.scales == fp8::Scales::PowerOfTwo => {
                scales.iter().all(|scale| is_power_of_two(*scale))
            }
            _ => true,
        };
        (stored.format() == self.format && as_scaled).then_some(stored)
    }

    /// All numbers of the part.
    pub(super) fn values(&self) -> Result<Cow<'_, [f32]>> {
        let rows = 0..self.spec.file_shape().rows_each();
        self.numbers.rows(self.spec, self.part, rows)
    }

    /// The bytes of the part, factors of e4m3 left out.
    pub(super) fn stream(&self, sink: Sink<'_>) -> Result<()> {
        if let Some(stored) = self.verbatim() {
            return sink(stored.bytes());
        }
        self.each_run(&mut |values, cols| {
            sink(&encode(self.format, self.scales, values, cols, self.spec)?.0)
        })
    }

    /// The factors of e4m3, as bytes of f32.
    pub(super) fn stream_scales(&self, sink: Sink<'_>) -> Result<()> {
        if let Some(Stored::Fp8Blocks { scales, .. }) = self.verbatim() {
            return sink(&bytes_of_f32(scales));
        }
        self.each_run(&mut |values, cols| {
            let (_, scales) = encode(self.format, self.scales, values, cols, self.spec)?;
            sink(&bytes_of_f32(&scales))
        })
    }

    fn each_run(&self, f: &mut dyn FnMut(&[f32], usize) -> Result<()>) -> Result<()> {
        let shape = self.spec.file_shape();
        let rows = shape.rows_each();
        let step = self.run_rows();
        let mut start = 0;
        while start < rows {
            let end = rows.min(start.saturating_add(step));
            let values = self.numbers.rows(self.spec, self.part, start..end)?;
            f(&values, shape.cols())?;
            start = end;
        }
        Ok(())
    }

    /// Rows of a run: whole blocks of source and target.
    fn run_rows(&self) -> usize {
        let shape = self.spec.file_shape();
        let whole = match self.numbers.stored(self.part) {
            Some(Stored::Fp8Blocks { block, .. }) => block[0],
            _ => 1,
        };
        let unit = FP8_ROWS.max(whole);
        if unit.is_multiple_of(FP8_ROWS) && unit.is_multiple_of(whole) {
            (RUN / shape.cols().max(1)).max(1).next_multiple_of(unit)
        } else {
            shape.rows_each().max(1)
        }
    }
}

/// Whether a positive number has no mantissa.
pub(super) fn is_power_of_two(scale: f32) -> bool {
    scale.is_normal() && scale > 0.0 && scale.to_bits().trailing_zeros() >= 23
}

fn bytes_of_f32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Rows of numbers in a format, and the factors of e4m3.
pub(super) fn encode(
    format: Format,
    scales: fp8::Scales,
    values: &[f32],
    cols: usize,
    spec: &Spec,
) -> Result<(Vec<u8>, Vec<f32>)> {
    let refuse = |error: &frugal_core::error::Error| Error::Tensor {
        name: spec.name.clone(),
        expected: format!("numbers that {format} can hold"),
        got: error.to_string(),
    };
    let bytes = match format {
        Format::Plain(DType::F32) => bytes_of_f32(values),
        Format::Plain(DType::F16) => narrow(values, spec, |x| {
            let y = f16::from_f32(x);
            (y.to_le_bytes(), y.is_finite())
        })?,
        Format::Plain(DType::Bf16) => narrow(values, spec, |x| {
            let y = bf16::from_f32(x);
            (y.to_le_bytes(), y.is_finite())
        })?,
        Format::Plain(other) => {
            return Err(Error::Tensor {
                name: spec.name.clone(),
                expected: "a format that can be written".to_owned(),
                got: other.to_string(),
            });
        }
        Format::Blocks(format) => format.encode(values).map_err(|error| refuse(&error))?,
        Format::Fp8Blocks(block) => {
            let rows = values.len().checked_div(cols).unwrap_or(0);
            let encoded = fp8::encode_blocks(values, [rows, cols], block, scales)
                .map_err(|error| refuse(&error))?;
            return Ok((encoded.bytes, encoded.scales));
        }
    };
    Ok((bytes, Vec::new()))
}

/// Numbers of two bytes; one that only the wider format could hold is refused, not made infinite.
fn narrow(
    values: &[f32],
    spec: &Spec,
    convert: impl Fn(f32) -> ([u8; 2], bool),
) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2 * values.len());
    for x in values {
        let (pair, is_finite) = convert(*x);
        if x.is_finite() && !is_finite {
            return Err(too_wide(spec, *x));
        }
        bytes.extend(pair);
    }
    Ok(bytes)
}

fn too_wide(spec: &Spec, x: f32) -> Error {
    Error::Tensor {
        name: spec.name.clone(),
        expected: "numbers that the format can hold".to_owned(),
        got: x.to_string(),
    }
}
