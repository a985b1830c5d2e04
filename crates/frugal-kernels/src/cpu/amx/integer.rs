//! Tile registers: products of bytes, sixteen rows of a weight by sixteen rows of activations, one
//! group at a time, since each group has factors of its own.
//!
//! A group's sums are whole numbers; they pass through memory to the vector registers, which keep the
//! sixteen by sixteen totals.
#![expect(
    clippy::indexing_slicing,
    reason = "groups and rows are counted by constants that the arrays are sized by"
)]

use std::arch::asm;
use std::arch::x86_64::{
    __m512, _mm512_add_epi32, _mm512_cvtepi32_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_load_ps, _mm512_load_si512, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_si512,
    _mm512_store_ps,
};
use std::marker::PhantomData;

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::gemm::integer::left::TileRun;
use crate::cpu::gemm::integer::panel::{Form, GROUP, GROUPS, LINE, PanelRun};
use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::{RUN, SixteenRows};

use super::{Config, claim, release};

/// Bytes of a block of Q8_0, the first two its factor.
const Q8_0_BYTES: usize = 34;
/// Groups that are under way at once, each in an accumulator of its own.
const AT_ONCE: usize = 4;

/// Accumulators are registers 0 to 3, levels 4 and 5 (16 rows of a group's bytes), activations 6 and
/// 7 (a row for each four columns).
#[expect(
    clippy::cast_possible_truncation,
    reason = "a group has 16 or 32 bytes"
)]
const fn config(group: usize) -> Config {
    let mut config = Config::FULL;
    let mut register = AT_ONCE;
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

/// Sums of the groups under way, on their way from tiles to vectors.
#[derive(Debug)]
#[repr(C, align(64))]
struct Inner([[[i32; LANES]; LANES]; AT_ONCE]);

/// The tile registers of this thread, configured for products of bytes.
#[derive(Debug)]
pub(crate) struct ByteTiles {
    form: Form,
    inner: [Inner; 2],
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
            inner: [const { Inner([[[0; LANES]; LANES]; AT_ONCE]) }; 2],
            stays_on_its_thread: PhantomData,
        }
    }

    /// Adds a run, levels by row, to the totals of sixteen activations.
    pub(crate) fn multiply(&mut self, panel: &PanelRun, x: &TileRun, totals: &mut Totals) {
        let levels = Levels {
            start: panel.levels.as_ptr().cast(),
            row: RUN,
        };
        // SAFETY: `self` shows that the machine has 512-bit vectors, as all with tile registers, and
        // that this thread has configured tiles for the form's groups; a panel has all its levels.
        unsafe {
            if self.form.is_halved {
                self.add::<{ GROUP / 2 }, { GROUP / 2 }>((panel, levels), x, totals);
            } else {
                self.add::<GROUP, GROUP>((panel, levels), x, totals);
            }
        }
    }

    /// As [`Self::multiply`] with levels that lie in whole runs of blocks of Q8_0.
    pub(crate) fn multiply_stored(
        &mut self,
        (panel, rows, run): (&PanelRun, SixteenRows<'_>, usize),
        x: &TileRun,
        totals: &mut Totals,
    ) {
        let (bytes, row_bytes) = rows.bytes();
        let row = row_bytes.unsigned_abs() as usize;
        assert!(!self.form.is_halved && (run + 1) * GROUPS * Q8_0_BYTES <= row);
        let start = bytes.as_ptr().wrapping_add(run * GROUPS * Q8_0_BYTES + 2);
        // SAFETY: as above; all blocks of the run are inside the rows.
        unsafe { self.add::<GROUP, Q8_0_BYTES>((panel, Levels { start, row }), x, totals) };
    }

    /// # Safety
    /// Tiles are configured on this thread for groups of G; the levels are a run of sixteen rows.
    #[target_feature(enable = "avx512f")]
    unsafe fn add<const G: usize, const STEP: usize>(
        &mut self,
        (panel, levels): (&PanelRun, Levels),
        x: &TileRun,
        totals: &mut Totals,
    ) {
        let form = Form {
            // Signed bytes have nothing to correct.
            zero: if STEP == G { self.form.zero } else { 0 },
            ..self.form
        };
        let mut sums: [__m512; LANES] = std::array::from_fn(|row| line(&totals.0[row]));
        // While vectors add up four groups, tiles are at the next four.
        let fours = GROUPS * GROUP / G / AT_ONCE;
        for four in 0..=fours {
            let [now, next] = &mut self.inner;
            let (now, next) = if four % 2 == 0 {
                (now, next)
            } else {
                (next, now)
            };
            let first = four * AT_ONCE;
            // SAFETY: the caller vouches for the tiles and the levels; these are groups of the run.
            unsafe {
                if four < fours && STEP == G {
                    four_groups::<G, STEP>(levels, x, first, next);
                } else if four < fours {
                    four_signed_groups::<G, STEP>(levels, x, first, next);
                }
            }
            if four > 0 {
                for (i, inner) in now.0.iter().enumerate() {
                    add_group(form, (panel, x, first - AT_ONCE + i), inner, &mut sums);
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
fn add_group(
    form: Form,
    (panel, x, group): (&PanelRun, &TileRun, usize),
    inner: &[[i32; LANES]; LANES],
    sums: &mut [__m512; LANES],
) {
    let scales = line(&x.scales[group]);
    // SAFETY: sixteen numbers on a cache line, as all rows of the struct.
    let correction = unsafe { _mm512_load_si512(x.corrections[group].as_ptr().cast()) };
    let correction = if form.zero == 0 {
        _mm512_setzero_si512()
    } else {
        correction
    };
    let (factors, minima) = (&panel.factors[group], &panel.minima[group]);
    for row in 0..LANES {
        // SAFETY: as above.
        let inner = unsafe { _mm512_load_si512(inner[row].as_ptr().cast()) };
        let inner = _mm512_cvtepi32_ps(_mm512_add_epi32(inner, correction));
        let factor = _mm512_mul_ps(_mm512_set1_ps(factors[row]), scales);
        sums[row] = _mm512_fmadd_ps(inner, factor, sums[row]);
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

/// Where the levels of a run lie: of group g from `start + g * STEP` on, rows `row` bytes apart.
#[derive(Debug, Clone, Copy)]
struct Levels {
    start: *const u8,
    row: usize,
}

/// Declares the sums of products of four groups of G columns from `first` on, for an instruction.
macro_rules! four_groups {
    ($(#[$doc:meta])* $name:ident, $instruction:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Tiles are configured for groups of G; `first + 3` is a group of a run, and of the levels.
        #[inline]
        unsafe fn $name<const G: usize, const STEP: usize>(
            levels: Levels,
            x: &TileRun,
            first: usize,
            inner: &mut Inner,
        ) {
            let quads = x.levels.as_ptr().cast::<u8>().wrapping_add(first * G * LANES);
            // SAFETY: a group's levels are G bytes in each of 16 rows, as the caller vouches, its
            // quads G / 4 rows of 64 bytes, and `inner` has room for four tiles.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tileloadd tmm4, [{w} + {w_row}]",
                    "tileloadd tmm6, [{x} + {line}]",
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    "tilezero tmm1",
                    "tileloadd tmm5, [{w} + {w_row} + {step}]",
                    "tileloadd tmm7, [{x} + {line} + 16 * {g}]",
                    concat!($instruction, " tmm1, tmm5, tmm7"),
                    "tilezero tmm2",
                    "tileloadd tmm4, [{w} + {w_row} + 2 * {step}]",
                    "tileloadd tmm6, [{x} + {line} + 32 * {g}]",
                    concat!($instruction, " tmm2, tmm4, tmm6"),
                    "tilezero tmm3",
                    "tileloadd tmm5, [{w} + {w_row} + 3 * {step}]",
                    "tileloadd tmm7, [{x} + {line} + 48 * {g}]",
                    concat!($instruction, " tmm3, tmm5, tmm7"),
                    "tilestored [{c} + {line}], tmm0",
                    "tilestored [{c} + {line} + 1024], tmm1",
                    "tilestored [{c} + {line} + 2048], tmm2",
                    "tilestored [{c} + {line} + 3072], tmm3",
                    w = in(reg) levels.start.wrapping_add(first * STEP),
                    x = in(reg) quads,
                    c = in(reg) inner.0.as_mut_ptr(),
                    w_row = in(reg) levels.row, line = in(reg) LINE,
                    g = const G, step = const STEP,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

four_groups! {
    /// Levels without sign.
    four_groups, "tdpbusd"
}
four_groups! {
    /// Signed bytes.
    four_signed_groups, "tdpbssd"
}
