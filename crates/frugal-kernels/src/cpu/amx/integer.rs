//! Tile registers: products of bytes, sixteen rows of a weight by sixteen rows of activations, one
//! group at a time, since each group has factors of its own.
//!
//! A pipeline of three steps, two groups each: levels are opened, tiles multiply them, and vectors
//! add the sums, which pass through memory, to the sixteen by sixteen totals. Each step is behind
//! the one before it by two groups, so that neither memory nor tiles nor vectors wait.
#![expect(
    clippy::indexing_slicing,
    reason = "groups and rows are counted by constants that the arrays are sized by"
)]

use std::arch::asm;
use std::arch::x86_64::{
    __m512, _mm512_add_epi32, _mm512_cvtepi32_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_load_ps, _mm512_load_si512, _mm512_mul_ps, _mm512_set1_ps, _mm512_store_ps,
};
use std::marker::PhantomData;

use frugal_core::quant::BlockFormat;

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::gemm::integer::left::TileRun;
use crate::cpu::gemm::integer::panel::{Form, GROUP, LINE, PanelRun};
use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::{RUN, SixteenRows};

use super::source::{Levels, Opened, Q4, Q4K, Q6K, Q8, Source};
use super::{Config, claim, release};

/// Accumulators are registers 0 and 1, levels 4 and 5 (16 rows of a group's bytes), activations 6 and
/// 7 (a row for each four columns).
#[expect(
    clippy::cast_possible_truncation,
    reason = "a group has 16 or 32 bytes"
)]
const fn config(group: usize) -> Config {
    let mut config = Config::FULL;
    let mut register = 4;
    while register < 8 {
        if register < 6 {
            config.row_bytes[register] = group as u16;
        } else {
            config.rows[register] = (group / 4) as u8;
        }
        register += 1;
    }
    config
}

static WHOLE: Config = config(GROUP);
static HALVED: Config = config(GROUP / 2);

/// Totals of sixteen rows of a weight, of each those of sixteen activations.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct Totals(pub(crate) [[f32; LANES]; LANES]);

impl Totals {
    pub(crate) const ZERO: Self = Self([[0.0; LANES]; LANES]);
}

/// Two groups of sixteen rows on their way.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Pair {
    /// Room for levels that do not lie as tiles want them.
    pub(super) levels: [[[u8; GROUP]; LANES]; 2],
    pub(super) factors: [[f32; LANES]; 2],
    pub(super) minima: [[f32; LANES]; 2],
    inner: [[[i32; LANES]; LANES]; 2],
    at: Levels,
}

impl Pair {
    const EMPTY: Self = Self {
        levels: [[[0; GROUP]; LANES]; 2],
        factors: [[0.0; LANES]; 2],
        minima: [[0.0; LANES]; 2],
        inner: [[[0; LANES]; LANES]; 2],
        at: Levels::NOWHERE,
    };
}

/// Pairs that are under way, a power of two.
const UNDER_WAY: usize = 4;

/// The tile registers of this thread, configured for products of bytes.
#[derive(Debug)]
pub(crate) struct ByteTiles {
    form: Form,
    pairs: Box<[Pair; UNDER_WAY]>,
    stays_on_its_thread: PhantomData<*const ()>,
}

impl ByteTiles {
    /// Configures the tile registers of this thread for groups of the form's width.
    ///
    /// # Panics
    /// If the machine has none, or this thread has them in use.
    pub(crate) fn load(features: CpuFeatures, form: Form) -> Self {
        assert!(
            features.supports(Isa::Amx),
            "tile registers are in use only where detected"
        );
        claim(if form.is_halved { &HALVED } else { &WHOLE });
        Self {
            form,
            pairs: Box::new([const { Pair::EMPTY }; UNDER_WAY]),
            stays_on_its_thread: PhantomData,
        }
    }

    /// Adds some runs, levels by row, to the totals of sixteen activations.
    pub(crate) fn multiply(&mut self, panel: &[PanelRun], x: &[TileRun], totals: &mut Totals) {
        // SAFETY: `self` shows that the machine has 512-bit vectors, as all with tile registers, and
        // that this thread has configured tiles for the form's groups; a panel has all its levels.
        unsafe {
            if self.form.is_halved {
                self.add::<_, false>(Opened::<{ GROUP / 2 }>(panel), panel.len() * RUN, x, totals);
            } else {
                self.add::<_, false>(Opened::<GROUP>(panel), panel.len() * RUN, x, totals);
            }
        }
    }

    /// Adds all of sixteen stored rows from where they lie, where that is known for their format;
    /// says whether it is.
    ///
    /// # Panics
    /// If the tiles are configured for groups of another form.
    pub(crate) fn multiply_stored(
        &mut self,
        (format, rows): (BlockFormat, SixteenRows<'_>),
        x: &[TileRun],
        totals: &mut Totals,
    ) -> bool {
        let cols =
            rows.bytes().1.unsigned_abs() as usize / format.block_bytes() * format.block_values();
        if !cols.is_multiple_of(2 * GROUP) {
            return false;
        }
        assert_eq!(self.form, Form::of(format));
        // SAFETY: as above, the form being the format's; the rows have all their blocks.
        unsafe {
            match format {
                BlockFormat::Q8_0 => self.add::<_, true>(Q8::of(rows), cols, x, totals),
                BlockFormat::Q4_0 => self.add::<_, false>(Q4::of(rows), cols, x, totals),
                BlockFormat::Q4K => self.add::<_, false>(Q4K::of(rows), cols, x, totals),
                BlockFormat::Q6K => self.add::<_, false>(Q6K::of(rows), cols, x, totals),
                _ => return false,
            }
        }
        true
    }

    /// # Safety
    /// Tiles are configured on this thread for the groups of the source, which has `cols` columns, a
    /// multiple of two groups.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn add<S: Source, const SIGNED: bool>(
        &mut self,
        mut source: S,
        cols: usize,
        x: &[TileRun],
        totals: &mut Totals,
    ) {
        let form = Form {
            // Signed bytes have nothing to correct.
            zero: if SIGNED { 0 } else { self.form.zero },
            ..self.form
        };
        let mut sums: [__m512; LANES] = std::array::from_fn(|row| line(&totals.0[row]));
        let pairs = cols / (2 * S::COLUMNS);
        let of_run = RUN / (2 * S::COLUMNS);
        for step in 0..pairs + 2 {
            if step < pairs {
                let pair = &mut self.pairs[step % UNDER_WAY];
                // SAFETY: the caller vouches for the columns.
                pair.at = unsafe { source.open(step, pair) };
            }
            if let Some(step) = step.checked_sub(1).filter(|step| *step < pairs) {
                let pair = &mut self.pairs[step % UNDER_WAY];
                let quads = S::COLUMNS / 4 * 2 * (step % of_run);
                let quads = x[step / of_run].levels[quads..].as_ptr().cast();
                // SAFETY: the caller vouches for the tiles, and the source for its levels; `quads`
                // are those of two groups of a run.
                unsafe {
                    if SIGNED {
                        multiply_signed_pair(S::COLUMNS, (pair.at, quads), &mut pair.inner);
                    } else {
                        multiply_pair(S::COLUMNS, (pair.at, quads), &mut pair.inner);
                    }
                }
            }
            if let Some(step) = step.checked_sub(2) {
                let pair = &self.pairs[step % UNDER_WAY];
                let x = &x[step / of_run];
                for nth in 0..2 {
                    let group = 2 * (step % of_run) + nth;
                    add_group::<S>(form, (pair, nth), (x, group), &mut sums);
                }
            }
        }
        for (row, sum) in totals.0.iter_mut().zip(sums) {
            // SAFETY: sixteen floats on a cache line: rows are whole lines of an aligned struct.
            unsafe { _mm512_store_ps(row.as_mut_ptr(), sum) };
        }
    }
}

impl Drop for ByteTiles {
    fn drop(&mut self) {
        release();
    }
}

/// Adds a group, for all rows: `inner * (factor * scales) - minimum * offsets`.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_group<S: Source>(
    form: Form,
    (pair, nth): (&Pair, usize),
    (x, group): (&TileRun, usize),
    sums: &mut [__m512; LANES],
) {
    let scales = line(&x.scales[group]);
    // SAFETY: sixteen numbers on a cache line, as all rows of these structs.
    let numbers = |row: &[i32; LANES]| unsafe { _mm512_load_si512(row.as_ptr().cast()) };
    let correction = numbers(&x.corrections[group]);
    let (factors, minima) = (&pair.factors[nth], &pair.minima[nth]);
    for row in 0..LANES {
        let mut inner = numbers(&pair.inner[nth][row]);
        if form.zero != 0 {
            inner = _mm512_add_epi32(inner, correction);
        }
        let factor = _mm512_mul_ps(_mm512_set1_ps(factors[row]), scales);
        sums[row] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(inner), factor, sums[row]);
    }
    if form.has_minima {
        let offsets = line(&x.offsets[group]);
        for row in 0..LANES {
            sums[row] = _mm512_fnmadd_ps(_mm512_set1_ps(minima[row]), offsets, sums[row]);
        }
    }
}

/// Sixteen numbers that are a cache line of an aligned struct.
#[inline]
#[target_feature(enable = "avx512f")]
fn line(numbers: &[f32; LANES]) -> __m512 {
    debug_assert!(numbers.as_ptr().addr().is_multiple_of(LINE));
    // SAFETY: sixteen floats on a cache line.
    unsafe { _mm512_load_ps(numbers.as_ptr()) }
}

/// Declares the sums of products of two groups of so many columns, for an instruction.
macro_rules! multiply_pair {
    ($(#[$doc:meta])* $name:ident, $instruction:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Tiles are configured for groups of `columns`; the levels are those of two groups, and the
        /// quads as many.
        #[inline]
        unsafe fn $name(
            columns: usize,
            (levels, quads): (Levels, *const u8),
            inner: &mut [[[i32; LANES]; LANES]; 2],
        ) {
            // SAFETY: a group's levels are a column each in sixteen rows, as the caller vouches, its
            // quads a quarter as many rows of 64 bytes, and `inner` has room for two tiles.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tileloadd tmm4, [{w} + {w_row}]",
                    "tileloadd tmm6, [{x} + {line}]",
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    "tilezero tmm1",
                    "tileloadd tmm5, [{w_next} + {w_row}]",
                    "tileloadd tmm7, [{x_next} + {line}]",
                    concat!($instruction, " tmm1, tmm5, tmm7"),
                    "tilestored [{c} + {line}], tmm0",
                    "tilestored [{c} + {line} + 1024], tmm1",
                    w = in(reg) levels.start,
                    w_next = in(reg) levels.start.wrapping_add(levels.step),
                    x = in(reg) quads,
                    x_next = in(reg) quads.wrapping_add(columns * LANES),
                    c = in(reg) inner.as_mut_ptr(),
                    w_row = in(reg) levels.row, line = in(reg) LINE,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _,
                    out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

multiply_pair! {
    /// Levels without sign.
    multiply_pair, "tdpbusd"
}
multiply_pair! {
    /// Signed bytes.
    multiply_signed_pair, "tdpbssd"
}
