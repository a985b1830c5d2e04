//! Weights in the layout of the kernels.
//!
//! Panels of 16 outputs, the reduction one step after another: f32, or pairs of bf16 padded to
//! whole tiles. The panels of the transposed matrix, for input gradients, are made from the first
//! ones when first asked for, so that a model that only infers never pays for them.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::cpu::detect::CpuFeatures;
use crate::cpu::pool::Pool;

use super::Precision;
use super::aligned::Aligned;
use super::engine::Format;
use super::operands::{Right, pair_panel, round_bf16};
#[cfg(target_arch = "x86_64")]
use super::tile::{DEPTH, TILE_WORDS};
use super::tile::{LANES, Rect};
use super::view::{Stack, group};

/// Panels of `groups` matrices, one after another.
#[derive(Debug)]
pub(super) struct Panels {
    single: Aligned<f32>,
    pairs: Aligned<u32>,
    /// Outputs of a matrix.
    pub(super) outputs: usize,
    /// Length of the reduction.
    pub(super) depth: usize,
    format: Format,
}

impl Panels {
    const fn new(format: Format) -> Self {
        Self {
            single: Aligned::new(),
            pairs: Aligned::new(),
            outputs: 0,
            depth: 0,
            format,
        }
    }

    /// Panels of one matrix.
    pub(super) const fn count(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Words of one panel.
    const fn panel(&self) -> usize {
        match self.format {
            Format::Single | Format::Rounded => self.depth * LANES,
            Format::Pairs => pair_panel(self.depth),
        }
    }

    /// The panels of matrix `group`.
    pub(super) fn group(&self, group: usize) -> Right<'_> {
        let words = self.count() * self.panel();
        match self.format {
            Format::Single | Format::Rounded => {
                Right::Single(&self.single.as_slice()[group * words..][..words])
            }
            Format::Pairs => Right::Pairs(&self.pairs.as_slice()[group * words..][..words]),
        }
    }

    fn reshape(&mut self, format: Format, groups: usize, outputs: usize, depth: usize) {
        self.format = format;
        self.outputs = outputs;
        self.depth = depth;
        let words = groups * self.count() * self.panel();
        let (single, pairs) = match format {
            Format::Single | Format::Rounded => (words, 0),
            Format::Pairs => (0, words),
        };
        self.single.set_len(single);
        self.pairs.set_len(pairs);
    }
}

/// A weight `[N, K]`, or a stack of them `[G, N, K]`, packed for the kernels of one back-end.
pub struct PackedWeight {
    precision: Precision,
    groups: usize,
    forward: Panels,
    backward: OnceLock<Panels>,
    /// Memory of the last transposed panels, for the next ones.
    spare: Mutex<Option<Panels>>,
}

impl std::fmt::Debug for PackedWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedWeight")
            .field("precision", &self.precision)
            .field("groups", &self.groups)
            .field("rows", &self.rows())
            .field("cols", &self.cols())
            .finish_non_exhaustive()
    }
}

impl PackedWeight {
    /// Nothing yet: to be filled by [`Gemm::repack`](super::Gemm::repack).
    pub const fn new(precision: Precision) -> Self {
        Self {
            precision,
            groups: 0,
            forward: Panels::new(Format::Single),
            backward: OnceLock::new(),
            spare: Mutex::new(None),
        }
    }

    /// The precision products with it are formed in.
    pub const fn precision(&self) -> Precision {
        self.precision
    }

    /// G.
    pub const fn groups(&self) -> usize {
        self.groups
    }

    /// N.
    pub const fn rows(&self) -> usize {
        self.forward.outputs
    }

    /// K.
    pub const fn cols(&self) -> usize {
        self.forward.depth
    }

    pub(super) const fn format(&self) -> Format {
        self.forward.format
    }

    pub(super) const fn forward(&self) -> &Panels {
        &self.forward
    }

    /// The panels of the transposed matrices, made now if they are not there.
    pub(super) fn backward(&self, pool: &Pool, features: CpuFeatures) -> &Panels {
        self.backward.get_or_init(|| {
            let spare = self
                .spare
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let mut panels = spare.unwrap_or_else(|| Panels::new(self.format()));
            panels.reshape(self.format(), self.groups, self.cols(), self.rows());
            match self.format() {
                Format::Single | Format::Rounded => flip_single(pool, &self.forward, &mut panels),
                Format::Pairs => {
                    flip_pairs(pool, features, (&self.forward, self.groups), &mut panels);
                }
            }
            panels
        })
    }

    /// Packs `weight`, reusing memory.
    pub(super) fn fill(
        &mut self,
        pool: &Pool,
        features: CpuFeatures,
        format: Format,
        weight: Stack<'_>,
    ) {
        if let Some(old) = self.backward.take() {
            *self.spare.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(old);
        }
        let layout = weight.layout;
        self.groups = layout.groups;
        self.forward
            .reshape(format, layout.groups, layout.rows, layout.cols);
        let (count, panel) = (self.forward.count(), self.forward.panel());
        let rows_of = |index: usize| {
            let (g, first) = (index / count, index % count * LANES);
            let rows = LANES.min(layout.rows - first);
            group(weight.data, layout, g).part((first, rows), (0, layout.cols))
        };
        if format == Format::Pairs {
            let out = self.forward.pairs.as_mut_slice();
            pool.for_each_chunk(out, panel, |i, out| pack_pairs(features, &rows_of(i), out));
        } else {
            let is_rounded = format == Format::Rounded;
            let out = self.forward.single.as_mut_slice();
            pool.for_each_chunk(out, panel, |i, out| {
                pack_single(&rows_of(i), out, is_rounded);
            });
        }
    }
}

/// Up to 16 rows to one f32 panel.
pub(super) fn pack_single(rect: &Rect<'_>, out: &mut [f32], is_rounded: bool) {
    if rect.rows < LANES {
        out.fill(0.0);
    }
    for row in 0..rect.rows {
        for (step, &x) in out.chunks_exact_mut(LANES).zip(rect.row(row)) {
            step[row] = if is_rounded { round_bf16(x) } else { x };
        }
    }
}

/// Panels of the transposed matrices, f32.
fn flip_single(pool: &Pool, from: &Panels, to: &mut Panels) {
    let (count, panel, rows) = (to.count(), to.panel(), from.outputs);
    let (from_panel, from_words) = (from.panel(), from.count() * from.panel());
    let (cols, source) = (to.outputs, from.single.as_slice());
    pool.for_each_chunk(to.single.as_mut_slice(), panel, |index, out| {
        let first = index % count * LANES;
        let width = LANES.min(cols - first);
        let matrix = &source[index / count * from_words..][..from_words];
        for (n, out) in out.chunks_exact_mut(LANES).enumerate().take(rows) {
            let row = &matrix[n / LANES * from_panel..][..from_panel];
            for (c, place) in out.iter_mut().enumerate() {
                *place = if c < width {
                    row[(first + c) * LANES + n % LANES]
                } else {
                    0.0
                };
            }
        }
    });
}

/// Up to 16 rows to one panel of pairs.
#[cfg(target_arch = "x86_64")]
pub(super) fn pack_pairs(features: CpuFeatures, rect: &Rect<'_>, out: &mut [u32]) {
    super::operands::wide::rows_to_panels(features, rect, out);
}

/// Panels of the transposed matrices, pairs: each tile becomes half a tile in two panels.
#[cfg(target_arch = "x86_64")]
fn flip_pairs(
    pool: &Pool,
    features: CpuFeatures,
    (from, groups): (&Panels, usize),
    to: &mut Panels,
) {
    use crate::cpu::pool::DisjointMut;
    let (count, panel) = (to.count(), to.panel());
    if panel == 0 {
        return;
    }
    let (from_count, from_panel) = (from.count(), from.panel());
    let steps = from.depth.div_ceil(DEPTH);
    let source = from.pairs.as_slice();
    let out = DisjointMut::new(to.pairs.as_mut_slice());
    pool.run(groups * steps, |index| {
        let (g, step) = (index / steps, index % steps);
        let panels = (count - 2 * step).min(2);
        let first = (g * count + 2 * step) * panel;
        // SAFETY: each (group, step) has panels of its own, and each index is run once.
        let out = unsafe { out.slice(first..first + panels * panel) };
        for half in out.chunks_exact_mut(panel) {
            // Past the last source panel nothing is written below; padding must be zero.
            half[from_count * (LANES / 2) * LANES..].fill(0);
        }
        for p in 0..from_count {
            let tile =
                &source[(g * from_count + p) * from_panel + step * TILE_WORDS..][..TILE_WORDS];
            super::operands::wide::flip_tile(features, tile, (p * LANES / 2, panel), out);
        }
    });
}

/// Pairs exist only where there are instructions for them.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn pack_pairs(_: CpuFeatures, rect: &Rect<'_>, _: &mut [u32]) {
    debug_assert_eq!(rect.rows, 0);
}

/// Pairs exist only where there are instructions for them.
#[cfg(not(target_arch = "x86_64"))]
fn flip_pairs(_: &Pool, _: CpuFeatures, (_, groups): (&Panels, usize), _: &mut Panels) {
    debug_assert_eq!(groups, 0);
}
