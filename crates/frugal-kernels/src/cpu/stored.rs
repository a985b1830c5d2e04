//! Weights in the form of their file, decoded where they are used.
//!
//! Nothing is copied when such a weight is made: a mapped file stays mapped. Products decode some
//! rows at a time (`gemm::stored`), a gather the rows it is asked for. Read-only by construction.

use std::ops::Range;
use std::sync::LazyLock;

use frugal_core::dtype::{DType, e4m3_to_f32};
use frugal_core::error::{Error, Result, expect_count};
use frugal_core::quant::{self, BlockFormat, Format};
use frugal_core::shape::Shape;
use frugal_core::stored::Stored;
use frugal_core::with_block;
use half::{bf16, f16};

use super::detect::{CpuFeatures, Isa};
use super::gemm::tile::LANES;
use super::vector::{Level, kernel, prefetch_near, prefetch_second};

/// Columns that are decoded at a time start at multiples of this: whole blocks of every format.
pub(super) const RUN: usize = 256;

/// A matrix or a stack of them, each row as its file has it.
#[derive(Debug)]
pub(super) struct StoredWeight {
    /// The whole, or one matrix of the stack each.
    parts: Vec<Stored>,
    /// Rows of one part.
    rows_each: usize,
    cols: usize,
    stacked: usize,
}

impl StoredWeight {
    /// Checks that every part has the bytes and factors its shape asks for.
    pub(super) fn new(shape: Shape, parts: &[Stored]) -> Result<Self> {
        let rows = shape.rows();
        if parts.len() != 1 {
            expect_count("keep", "matrices", shape.stacked(), parts.len())?;
        }
        let rows_each = rows.checked_div(parts.len()).unwrap_or(0);
        let each = Shape::matrix(rows_each, shape.cols());
        for part in parts {
            check(each, part)?;
        }
        Ok(Self {
            parts: parts.to_vec(),
            rows_each,
            cols: shape.cols(),
            stacked: shape.stacked(),
        })
    }

    /// Matrices of the stack.
    pub(super) fn stacked(&self) -> usize {
        self.stacked
    }

    /// Rows of one matrix.
    pub(super) fn rows(&self) -> usize {
        (self.rows_each * self.parts.len())
            .checked_div(self.stacked)
            .unwrap_or(0)
    }

    /// Numbers of a row.
    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    /// The form of all parts, where they have one in common.
    fn format(&self) -> Option<Format> {
        let mut formats = self.parts.iter().map(Stored::format);
        let first = formats.next()?;
        formats.all(|format| format == first).then_some(first)
    }

    /// The block format of all parts, where they have one in common.
    pub(super) fn block_format(&self) -> Option<BlockFormat> {
        match self.format() {
            Some(Format::Blocks(format)) => Some(format),
            _ => None,
        }
    }

    /// Up to `count` rows of the whole stack from `first` on, of one matrix.
    pub(super) fn rows_at(&self, first: usize, count: usize) -> StoredRows<'_> {
        let rows_each = self.rows_each.max(1);
        let (part, row) = (self.parts.get(first / rows_each), first % rows_each);
        let (bytes, values): (&[u8], _) = match part {
            Some(Stored::Plain { dtype, bytes }) => (bytes, (dtype.bytes(), 1)),
            Some(Stored::Fp8Blocks { bytes, .. }) => (bytes, (1, 1)),
            Some(Stored::Blocks { format, bytes }) => {
                (bytes, (format.block_bytes(), format.block_values()))
            }
            None => (&[], (1, 1)),
        };
        let row_bytes = self.cols / values.1 * values.0;
        let run_bytes = RUN / values.1 * values.0;
        StoredRows {
            bytes: bytes.get(row * row_bytes..).unwrap_or(&[]),
            ahead: Ahead::of(bytes.len()),
            row_bytes,
            run_bytes,
            runs: self.cols.div_ceil(RUN),
            runs_ahead: AHEAD_BYTES.div_ceil(run_bytes.max(1)),
            count,
            together: count,
        }
    }

    /// Rows as [`Self::rows_at`] gave them from `first` on, with their factors if they are FP8 in blocks.
    pub(super) fn fp8_rows<'a>(
        &'a self,
        first: usize,
        rows: StoredRows<'a>,
    ) -> Option<Fp8Rows<'a>> {
        let part = self.parts.get(first.checked_div(self.rows_each)?)?;
        let Stored::Fp8Blocks { scales, block, .. } = part else {
            return None;
        };
        Some(Fp8Rows {
            rows,
            scales,
            block: *block,
            first: first % self.rows_each,
            across: self.cols.div_ceil(block[1]),
        })
    }

    /// Whether all rows are bf16.
    pub(super) fn is_bf16(&self) -> bool {
        self.format() == Some(Format::Plain(DType::Bf16))
    }

    /// Decodes columns `start..start + to.len()` of a row of the whole stack; `start` is a multiple
    /// of [`RUN`], and so is the end unless it is the row's.
    pub(super) fn decode(&self, level: Level, row: usize, start: usize, to: &mut [f32]) {
        let Some(part) = self.parts.get(row / self.rows_each.max(1)) else {
            return;
        };
        let row = row % self.rows_each.max(1);
        let at = row * self.cols + start;
        match part {
            Stored::Plain { dtype, bytes } => {
                let width = dtype.bytes();
                let range = at * width..(at + to.len()) * width;
                decode_plain(level, *dtype, bytes.get(range).unwrap_or(&[]), to);
            }
            Stored::Fp8Blocks {
                bytes,
                scales,
                block: [block_rows, block_cols],
            } => {
                let across = self.cols.div_ceil(*block_cols);
                let scales = scales.get(row / block_rows * across..).unwrap_or(&[]);
                let bytes = bytes.get(at..at + to.len()).unwrap_or(&[]);
                decode_plain(level, DType::F8E4M3, bytes, to);
                scale_runs(level, to, start, *block_cols, scales);
            }
            Stored::Blocks { format, bytes } => {
                let first = at / format.block_values() * format.block_bytes();
                let len = to.len() / format.block_values() * format.block_bytes();
                let bytes = bytes.get(first..first + len).unwrap_or(&[]);
                decode_blocks(level, *format, bytes, to);
            }
        }
    }
}

/// Some rows as they lie in their file, to be read a run of columns at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredRows<'a> {
    /// The bytes of these rows and of those after them.
    bytes: &'a [u8],
    ahead: Ahead,
    row_bytes: usize,
    run_bytes: usize,
    runs: usize,
    /// How many runs ahead bytes are asked for.
    runs_ahead: usize,
    count: usize,
    /// Rows after which those follow whose first run is read after the last one of these.
    together: usize,
}

/// Some rows of e4m3 with factors for blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fp8Rows<'a> {
    rows: StoredRows<'a>,
    scales: &'a [f32],
    block: [usize; 2],
    /// Number of the first row in its matrix.
    first: usize,
    /// Blocks side by side.
    across: usize,
}

/// Sixteen rows, all of whose bytes are there.
#[derive(Debug, Clone, Copy)]
pub(super) struct SixteenRows<'a> {
    rows: StoredRows<'a>,
    bytes: &'a [u8],
    row_bytes: i32,
}

/// Bytes of a block of the formats that have kernels of their own.
#[cfg(target_arch = "x86_64")]
pub(super) mod block_bytes {
    pub(in crate::cpu) const Q8_0: usize = 34;
    pub(in crate::cpu) const Q4_0: usize = 18;
    pub(in crate::cpu) const Q4_K: usize = 144;
    pub(in crate::cpu) const Q5_K: usize = 176;
    pub(in crate::cpu) const Q6_K: usize = 210;
}

/// How bytes are asked for ahead of their use, so that memory is never idle: sixteen rows read side by
/// side are more than the processor's own foresight follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ahead {
    /// Not at all.
    Not,
    /// A little of each row at a time.
    ByRow,
    /// The next as many rows, byte after byte.
    InOrder,
}

/// Whether bytes are asked for in order, as measured: on Zen 4 that is 1.5 to 2.7 times as fast; on
/// Sapphire Rapids, the first with tile registers, asking by row reaches nine tenths of what memory
/// gives.
static READS_IN_ORDER: LazyLock<bool> = LazyLock::new(|| !CpuFeatures::detect().supports(Isa::Amx));

impl Ahead {
    /// For a matrix of so many bytes.
    fn of(bytes: usize) -> Self {
        if bytes <= NEAR_BYTES {
            Self::Not
        } else if *READS_IN_ORDER {
            Self::InOrder
        } else {
            Self::ByRow
        }
    }
}

/// Bytes asked for in order at most: they must stay in the second cache until they are read.
const MOST_IN_ORDER: usize = 512 * 1024;

/// How many bytes before their use those of a row are asked for.
const AHEAD_BYTES: usize = 512;

/// A matrix of so many bytes is in a cache where the model is: asking ahead takes longer than waiting.
const NEAR_BYTES: usize = 128 * 1024;

/// Rows that bytes are asked for ahead of their use where they are opened row by row: some kilobytes.
const AHEAD_ROWS: usize = 4;

impl<'a> StoredRows<'a> {
    /// Rows.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The same as a part of so many rows that are gone through together, run by run.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn among(self, together: usize) -> Self {
        Self { together, ..self }
    }

    /// All bytes of the rows.
    pub(super) fn whole(&self) -> &'a [u8] {
        self.bytes.get(..self.count * self.row_bytes).unwrap_or(&[])
    }

    /// The bytes of one run of each row.
    pub(super) fn run(self, run: usize) -> impl ExactSizeIterator<Item = &'a [u8]> {
        (0..self.count).map(move |row| self.piece(row, run..run + 1))
    }

    /// The same, if they are sixteen whose bytes an `i32` can count.
    pub(super) fn sixteen(self) -> Option<SixteenRows<'a>> {
        let bytes = self.whole();
        i32::try_from(bytes.len()).ok()?;
        let row_bytes = i32::try_from(self.row_bytes).ok()?;
        let is_whole = self.count == LANES && bytes.len() == LANES * self.row_bytes;
        is_whole.then_some(SixteenRows {
            rows: self,
            bytes,
            row_bytes,
        })
    }

    /// Sixteen of the rows from `first` on, as [`Self::sixteen`].
    pub(super) fn sixteen_from(self, first: usize) -> Option<SixteenRows<'a>> {
        let bytes = self.bytes.get(first * self.row_bytes..)?;
        let (count, rest) = (LANES, self);
        Self {
            bytes,
            count,
            together: count,
            ..rest
        }
        .sixteen()
    }

    /// The bytes of some runs of one row, as far as there are any.
    pub(super) fn runs_of(&self, row: usize, runs: Range<usize>) -> &'a [u8] {
        if row >= self.count {
            return &[];
        }
        self.piece(row, runs)
    }

    /// The bytes that will be opened when four more rows of these runs have been: of these rows,
    /// or of the next as many, the runs after these or the first ones.
    pub(super) fn runs_ahead(&self, row: usize, runs: Range<usize>) -> &'a [u8] {
        let ahead = row + AHEAD_ROWS;
        if ahead < self.count {
            return self.piece(ahead, runs);
        }
        let ahead = ahead - self.count;
        if runs.end < self.runs {
            self.piece(ahead, runs.end..runs.end + runs.len())
        } else {
            self.piece(self.count + ahead, 0..runs.len())
        }
    }

    fn piece(&self, row: usize, runs: Range<usize>) -> &'a [u8] {
        let start = row * self.row_bytes;
        let from = (runs.start * self.run_bytes).min(self.row_bytes);
        let to = (runs.end * self.run_bytes).min(self.row_bytes);
        self.bytes.get(start + from..start + to).unwrap_or(&[])
    }

    /// Asks for all of the rows, which nobody has asked for before.
    pub(super) fn ask_first(&self) {
        if self.is_in_order() {
            prefetch_second(self.bytes, 0, self.count * self.row_bytes);
        }
    }

    fn is_in_order(&self) -> bool {
        self.ahead == Ahead::InOrder && self.together * self.row_bytes <= MOST_IN_ORDER
    }

    /// Asks for what follows run number `run`: a later run of these rows, or an early one of the
    /// next as many rows.
    pub(super) fn ask_ahead(&self, run: usize) {
        self.ask_some_ahead(run, 0..self.count);
    }

    /// As [`Self::ask_ahead`], for some of the rows: memory takes only so many wishes at a time.
    #[inline]
    pub(super) fn ask_some_ahead(&self, run: usize, rows: Range<usize>) {
        if self.ahead == Ahead::Not {
            return;
        }
        if self.is_in_order() {
            let done = (run * self.count + rows.start) * self.run_bytes;
            let next = self.together * self.row_bytes + done;
            prefetch_second(self.bytes, next, rows.len() * self.run_bytes);
            return;
        }
        let next = run + self.runs_ahead;
        let (skipped, next) = if next < self.runs {
            (0, next)
        } else {
            (self.together, next - self.runs)
        };
        let first = next * self.run_bytes;
        let len = self.run_bytes.min(self.row_bytes);
        for row in rows {
            prefetch_near(self.bytes, (skipped + row) * self.row_bytes + first, len);
        }
    }
}

impl<'a> Fp8Rows<'a> {
    /// Columns.
    pub(super) fn cols(&self) -> usize {
        self.rows.row_bytes
    }

    /// Columns of a block.
    pub(super) fn block_cols(&self) -> usize {
        self.block[1]
    }

    /// The bytes of some columns of a row.
    pub(super) fn bytes(&self, row: usize, cols: Range<usize>) -> &'a [u8] {
        let start = row * self.rows.row_bytes;
        let bytes = self.rows.bytes.get(start + cols.start..start + cols.end);
        bytes.unwrap_or(&[])
    }

    /// Asks for the bytes that lie somewhat after some columns of a row: in that row, or in the one that
    /// is read after it.
    #[inline]
    pub(super) fn ask_ahead(&self, row: usize, cols: Range<usize>) {
        let StoredRows {
            row_bytes,
            together,
            ..
        } = self.rows;
        let next = cols.start + AHEAD_BYTES;
        let (row, next) = if next < row_bytes {
            (row, next)
        } else {
            (row + together, next - row_bytes)
        };
        if self.rows.ahead != Ahead::Not {
            prefetch_near(self.rows.bytes, row * row_bytes + next, cols.len());
        }
    }

    /// The factors of sixteen rows for the block of a column; every NaN is the same one.
    pub(super) fn factors(&self, col: usize) -> [f32; LANES] {
        let [height, width] = self.block;
        std::array::from_fn(|row| {
            let at = (self.first + row) / height * self.across + col / width;
            let factor = self.scales.get(at).copied().unwrap_or(f32::NAN);
            if factor.is_nan() { f32::NAN } else { factor }
        })
    }

    /// The parts of some columns that have one factor: rows, columns, and the factor.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn parts(
        self,
        cols: Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>, f32)> {
        let [height, width] = self.block;
        let all_rows = self.first..self.first + self.rows.count;
        let down = all_rows.start / height..all_rows.end.div_ceil(height);
        let across = cols.start / width..cols.end.div_ceil(width);
        let inside = |block: Range<usize>, all: &Range<usize>| {
            block.start.max(all.start)..block.end.min(all.end)
        };
        down.flat_map(move |i| across.clone().map(move |j| (i, j)))
            .map(move |(i, j)| {
                let factor = self.scales.get(i * self.across + j);
                let rows = inside(i * height..(i + 1) * height, &all_rows);
                (
                    rows.start - self.first..rows.end - self.first,
                    inside(j * width..(j + 1) * width, &cols),
                    factor.copied().unwrap_or(f32::NAN),
                )
            })
    }
}

impl<'a> SixteenRows<'a> {
    /// To be asked for ahead.
    pub(super) fn rows(self) -> StoredRows<'a> {
        self.rows
    }

    /// All bytes, and how many a row has.
    pub(super) fn bytes(self) -> (&'a [u8], i32) {
        (self.bytes, self.row_bytes)
    }
}

fn check(shape: Shape, part: &Stored) -> Result<()> {
    let format = part.format();
    let needed = match format {
        // The factors lie apart.
        Format::Fp8Blocks([rows, cols]) => {
            if rows == 0 || cols == 0 {
                return Err(Error::Setting {
                    op: "keep",
                    reason: format!("expected blocks of at least 1x1, got {rows}x{cols}"),
                });
            }
            if let Stored::Fp8Blocks { scales, .. } = part {
                let grid = shape.rows().div_ceil(rows) * shape.cols().div_ceil(cols);
                expect_count("keep", "block scales", grid, scales.len())?;
            }
            shape.checked_elements()? as u64
        }
        Format::Plain(DType::U32) => {
            return Err(Error::Setting {
                op: "keep",
                reason: "expected numbers, got indices".into(),
            });
        }
        _ => format.bytes(shape)?,
    };
    let got = part.bytes().len();
    expect_count(
        "keep",
        "bytes",
        usize::try_from(needed).unwrap_or(usize::MAX),
        got,
    )
}

kernel! {
    /// Numbers that stand by themselves.
    fn decode_plain<L>(l, dtype: DType, bytes: &[u8], to: &mut [f32]) {
        match dtype {
            DType::F32 => {
                for (to, from) in to.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *to = f32::from_le_bytes(*from);
                }
            }
            DType::Bf16 => {
                for (to, from) in to.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *to = bf16::from_le_bytes(*from).to_f32();
                }
            }
            DType::F16 => {
                for (to, from) in to.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *to = f16::from_le_bytes(*from).to_f32();
                }
            }
            DType::F8E4M3 => {
                let (sixteens, rest) = bytes.as_chunks::<LANES>();
                let (places, last) = to.as_chunks_mut::<LANES>();
                for (to, from) in places.iter_mut().zip(sixteens) {
                    l.store(l.e4m3(from), to);
                }
                for (to, from) in last.iter_mut().zip(rest) {
                    *to = e4m3_to_f32(*from);
                }
            }
            DType::F8E5M2 => {
                for (to, from) in to.iter_mut().zip(bytes) {
                    *to = f16::from_bits(u16::from(*from) << 8).to_f32();
                }
            }
            DType::U32 => to.fill(f32::NAN),
        }
    }
}

kernel! {
    /// Multiplies columns from `start` on by the factor of their block.
    fn scale_runs<L>(_l, values: &mut [f32], start: usize, block: usize, scales: &[f32]) {
        let mut done = 0;
        while done < values.len() {
            let index = (start + done) / block;
            let end = ((index + 1) * block - start).min(values.len());
            let scale = scales.get(index).copied().unwrap_or(f32::NAN);
            for value in values.get_mut(done..end).unwrap_or_default() {
                *value *= scale;
            }
            done = end;
        }
    }
}

kernel! {
    /// Whole blocks.
    fn decode_blocks<L>(l, format: BlockFormat, bytes: &[u8], to: &mut [f32]) {
        with_block!(format, B => quant::decode_blocks::<_, B, _, _>(l, bytes, to));
    }
}
