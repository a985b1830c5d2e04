//! From sums to the output: scale, bias, store or add, and the ragged right edge.

use std::ops::Range;

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::pool::DisjointMut;

use super::tile::LANES;

/// Whether a result replaces what is there or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// C = ...
    Set,
    /// C += ...
    Add,
}

/// What happens to the sums of a product: `out (=|+=) scale · sum + bias`.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// Replace or add.
    pub update: Update,
    /// Factor on the sums; 1 changes no bit.
    pub scale: f32,
    /// One number for each output column (for stacks and heads: of each group, one after another).
    pub bias: Option<&'a [f32]>,
}

impl Finish<'_> {
    /// `out = sum`.
    pub const SET: Self = Self {
        update: Update::Set,
        scale: 1.0,
        bias: None,
    };
    /// `out += sum`.
    pub const ADD: Self = Self {
        update: Update::Add,
        scale: 1.0,
        bias: None,
    };
}

/// An output that tasks write block by block, each its own.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    data: DisjointMut<'a, f32>,
    pub(crate) stride: usize,
    pub(crate) scale: f32,
    pub(crate) bias: Option<&'a [f32]>,
    features: CpuFeatures,
}

#[cfg(target_arch = "x86_64")]
pub(crate) use crate::cpu::amx::Destination;
/// Where there are no tiles nothing goes straight to its place.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Destination {}

/// A block of sums and its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    /// Sums, on cache lines.
    pub(crate) acc: &'a [f32],
    /// Sums from row to row, a multiple of 16.
    pub(crate) acc_stride: usize,
    /// Rows to write.
    pub(crate) rows: usize,
    /// Columns to write.
    pub(crate) cols: usize,
    /// Index of the block's first number in the output.
    pub(crate) at: usize,
    /// Index of its first column in the bias.
    pub(crate) bias_at: usize,
    /// Replace or add.
    pub(crate) update: Update,
}

/// Sums of some rows of activations with one panel of a weight.
#[derive(Debug, Clone)]
pub(crate) struct PanelSums<'a> {
    /// Sixteen for each row, on cache lines.
    pub(crate) acc: &'a [f32],
    pub(crate) rows: Range<usize>,
    /// The weight's group and the panel in it.
    pub(crate) panel: (usize, usize),
    /// Rows of a group of the weight.
    pub(crate) outputs: usize,
    /// Replace or add.
    pub(crate) update: Update,
}

impl<'a> Output<'a> {
    pub(crate) fn new(
        data: &'a mut [f32],
        stride: usize,
        (scale, bias): (f32, Option<&'a [f32]>),
        features: CpuFeatures,
    ) -> Self {
        Self {
            data: DisjointMut::new(data),
            stride,
            scale,
            bias,
            features,
        }
    }

    /// First number of the output.
    pub(crate) const fn start(&self) -> *mut f32 {
        self.data.start()
    }

    /// Refuses a block that would leave the output, the bias or its own sums.
    ///
    /// # Panics
    /// If it would.
    pub(crate) fn check(&self, block: &Block<'_>) {
        if block.rows == 0 {
            return;
        }
        let end = block.at + (block.rows - 1) * self.stride + block.cols;
        assert!(end <= self.data.len(), "end {end} of {}", self.data.len());
        let lines = block.cols.next_multiple_of(16);
        assert!(block.acc_stride.is_multiple_of(16) && lines <= block.acc_stride);
        assert!((block.rows - 1) * block.acc_stride + lines <= block.acc.len());
        assert!(block.acc.as_ptr().addr().is_multiple_of(64));
        assert!(
            self.bias
                .is_none_or(|b| block.bias_at + block.cols <= b.len())
        );
    }

    /// The place of a block of whole tiles whose sums need nothing done to them.
    ///
    /// # Safety
    /// No other thread uses the block's part of the output until its sums are there.
    pub(crate) unsafe fn destination(
        &self,
        (at, rows, cols): (usize, usize, usize),
        update: Update,
    ) -> Option<Destination> {
        let is_whole = rows > 0 && rows.is_multiple_of(LANES) && cols.is_multiple_of(LANES);
        if !is_whole || self.bias.is_some() || self.scale.to_bits() != 1.0_f32.to_bits() {
            return None;
        }
        assert!(at + (rows - 1) * self.stride + cols <= self.data.len());
        #[cfg(target_arch = "x86_64")]
        return Some(Destination {
            first: self.data.start().wrapping_add(at),
            row_bytes: self.stride * size_of::<f32>(),
            is_added: update == Update::Add,
        });
        #[cfg(not(target_arch = "x86_64"))]
        return None;
    }

    /// Says that the block of `rows` and `cols` at `at` will be written soon. Only a hint.
    #[inline]
    pub(crate) fn expect_write(&self, (at, rows, cols): (usize, usize, usize)) {
        #[cfg(target_arch = "x86_64")]
        if self.features.supports(Isa::Avx512) {
            crate::cpu::avx512::finish::expect_write(self, (at, rows, cols));
        }
        debug_assert!(rows == 0 || at + cols <= self.data.len());
    }

    /// Writes the sums of a panel.
    ///
    /// # Safety
    /// No other thread uses the panel's columns of these rows.
    pub(crate) unsafe fn write_panel(&self, sums: &PanelSums<'_>) {
        let (group, col) = (sums.panel.0, sums.panel.1 * LANES);
        let block = Block {
            acc: sums.acc,
            acc_stride: LANES,
            rows: sums.rows.len(),
            cols: LANES.min(sums.outputs - col),
            at: sums.rows.start * self.stride + col,
            bias_at: group * sums.outputs + col,
            update: sums.update,
        };
        // SAFETY: as the caller vouches.
        unsafe { self.write(&block) };
    }

    /// Writes a block.
    ///
    /// # Safety
    /// No other thread uses the block's part of the output.
    pub(crate) unsafe fn write(&self, block: &Block<'_>) {
        self.check(block);
        #[cfg(target_arch = "x86_64")]
        if self.features.supports(Isa::Avx512) {
            // SAFETY: the features name AVX-512, the block was checked, and the caller vouches for
            // its part of the output.
            unsafe { crate::cpu::avx512::finish::write(self, block) };
            return;
        }
        debug_assert!(!self.features.supports(Isa::Avx512));
        for (r, sums) in block
            .acc
            .chunks(block.acc_stride)
            .take(block.rows)
            .enumerate()
        {
            let at = block.at + r * self.stride;
            // SAFETY: the caller vouches that nobody else uses the block's part of the output.
            let out = unsafe { self.data.slice(at..at + block.cols) };
            self.write_row(out, sums, block);
        }
    }

    fn write_row(&self, out: &mut [f32], sums: &[f32], block: &Block<'_>) {
        for (c, (place, &sum)) in out.iter_mut().zip(sums).enumerate() {
            let mut value = sum * self.scale;
            if let Some(bias) = self.bias {
                value += bias[block.bias_at + c];
            }
            *place = match block.update {
                Update::Set => value,
                Update::Add => *place + value,
            };
        }
    }
}
