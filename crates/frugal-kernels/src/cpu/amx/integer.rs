//! Tile registers: products of bytes, sixteen rows of a panel by sixteen rows of activations, one
//! group at a time, since each group has factors of its own.
//!
//! A group's sums start from the correction for the level of zero and are whole numbers; they pass
//! through memory to the vector registers, which keep the sixteen by sixteen totals.

use std::arch::asm;
use std::arch::x86_64::{
    __m512, _mm512_cvtepi32_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_load_ps,
    _mm512_load_si512, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
};
use std::marker::PhantomData;

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::gemm::integer::left::TileRun;
use crate::cpu::gemm::integer::panel::{Form, GROUP, GROUPS, PanelRun};
use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::RUN;
use crate::cpu::vector::{Avx512, Lanes};

use super::{Config, claim, release};

/// Groups that are under way at once, each in an accumulator of its own.
const AT_ONCE: usize = 4;

/// Accumulators are registers 0 to 3, levels 4 and 5 (16 rows of a group's bytes), activations 6 and
/// 7 (a row for each four columns).
const fn config(group: usize) -> Config {
    let (bytes, quads) = (group as u16, (group / 4) as u8);
    let mut config = Config::FULL;
    let mut register = 4;
    while register < 8 {
        if register < 6 {
            config.row_bytes[register] = bytes;
        } else {
            config.rows[register] = quads;
        }
        register += 1;
    }
    config
}

static WHOLE: Config = config(GROUP);
static HALVED: Config = config(GROUP / 2);

/// Sums of the groups under way, on their way from tiles to vectors.
#[repr(C, align(64))]
struct Inner([[[i32; LANES]; LANES]; AT_ONCE]);

/// The tile registers of this thread, configured for products of bytes.
#[derive(Debug)]
pub(crate) struct ByteTiles {
    form: Form,
    lanes: Avx512,
    stays_on_its_thread: PhantomData<*const ()>,
}

impl ByteTiles {
    /// Configures the tile registers of this thread.
    ///
    /// # Panics
    /// If the machine has none, or this thread has them in use.
    pub(crate) fn load(features: CpuFeatures, form: Form) -> Self {
        assert!(
            features.supports(Isa::Amx),
            "tile registers are in use only where detected"
        );
        let Some(lanes) = Avx512::of(features) else {
            unreachable!("machines with tile registers have 512-bit vectors")
        };
        claim(if form.is_halved { &HALVED } else { &WHOLE });
        Self {
            form,
            lanes,
            stays_on_its_thread: PhantomData,
        }
    }

    /// `sums[row of x][row of the panel]` over as many runs as both have.
    pub(crate) fn multiply(
        &self,
        panel: &[PanelRun],
        x: &[TileRun],
        sums: &mut [[f32; LANES]; LANES],
    ) {
        assert_eq!(panel.len(), x.len(), "runs of both sides");
        // SAFETY: `self` shows that the machine has 512-bit vectors and this thread configured tiles.
        unsafe { multiply(self.form, (panel, x), self.lanes, sums) };
    }
}

impl Drop for ByteTiles {
    fn drop(&mut self) {
        release();
    }
}

/// # Safety
/// Tiles are configured on this thread for the form.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn multiply(
    form: Form,
    (panel, x): (&[PanelRun], &[TileRun]),
    lanes: Avx512,
    sums: &mut [[f32; LANES]; LANES],
) {
    let mut totals = [_mm512_setzero_ps(); LANES];
    let mut inner = Inner([[[0; LANES]; LANES]; AT_ONCE]);
    let groups = if form.is_halved { 2 * GROUPS } else { GROUPS };
    for (panel, x) in panel.iter().zip(x) {
        for first in (0..groups).step_by(AT_ONCE) {
            // SAFETY: the caller vouches for the tiles; `first + 3` is a group of the run.
            unsafe {
                if form.is_halved {
                    four_groups::<{ GROUP / 2 }>(panel, x, first, &mut inner);
                } else {
                    four_groups::<GROUP>(panel, x, first, &mut inner);
                }
            }
            for (i, inner) in inner.0.iter().enumerate() {
                add_group(form, (panel, x, first + i), inner, &mut totals);
            }
        }
    }
    // Lanes are rows of x so far.
    for (row, total) in sums.iter_mut().zip(lanes.transpose(totals)) {
        lanes.store(total, row);
    }
}

/// Adds a group, for all rows: `inner * (factor * scales) - minimum * offsets`.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_group(
    form: Form,
    (panel, x, group): (&PanelRun, &TileRun, usize),
    inner: &[[i32; LANES]; LANES],
    totals: &mut [__m512; LANES],
) {
    let scales = aligned(&x.scales[group]);
    let (factors, minima) = (&panel.factors[group], &panel.minima[group]);
    for row in 0..LANES {
        // SAFETY: sixteen numbers, on a cache line since all rows before are whole lines.
        let inner = unsafe { _mm512_load_si512(inner[row].as_ptr().cast()) };
        let factor = _mm512_mul_ps(_mm512_set1_ps(factors[row]), scales);
        totals[row] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(inner), factor, totals[row]);
    }
    if form.has_minima {
        let offsets = aligned(&x.offsets[group]);
        for row in 0..LANES {
            totals[row] = _mm512_fnmadd_ps(_mm512_set1_ps(minima[row]), offsets, totals[row]);
        }
    }
}

/// Sixteen numbers of a [`TileRun`], which begins on a cache line and is made of whole lines.
#[inline]
#[target_feature(enable = "avx512f")]
fn aligned(numbers: &[f32; LANES]) -> __m512 {
    // SAFETY: sixteen floats on a cache line.
    unsafe { _mm512_load_ps(numbers.as_ptr()) }
}

/// Sums of products of four groups of G columns from `first` on.
///
/// # Safety
/// Tiles are configured for groups of G; `first + 3` is a group of a run.
#[inline]
unsafe fn four_groups<const G: usize>(
    panel: &PanelRun,
    x: &TileRun,
    first: usize,
    inner: &mut Inner,
) {
    let levels = panel.levels.as_ptr().cast::<u8>().wrapping_add(first * G);
    let quads = x
        .levels
        .as_ptr()
        .cast::<u8>()
        .wrapping_add(first * G * LANES);
    let corrections = x.corrections.as_ptr().wrapping_add(first);
    // SAFETY: a group's levels are G bytes in each of 16 rows RUN apart, its quads G / 4 rows of 64
    // bytes, its corrections one row of 64 bytes that is read 16 times over; four groups of each
    // follow `first` as the caller vouches, and `inner` has room for four tiles.
    unsafe {
        asm!(
            "tileloadd tmm0, [{z} + {zero}]",
            "tileloadd tmm1, [{z} + {zero} + 64]",
            "tileloadd tmm4, [{w} + {w_row}]",
            "tileloadd tmm6, [{x} + {line}]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{w} + {w_row} + {g}]",
            "tileloadd tmm7, [{x} + {line} + 16 * {g}]",
            "tdpbusd tmm1, tmm5, tmm7",
            "tileloadd tmm2, [{z} + {zero} + 128]",
            "tileloadd tmm3, [{z} + {zero} + 192]",
            "tileloadd tmm4, [{w} + {w_row} + 2 * {g}]",
            "tileloadd tmm6, [{x} + {line} + 32 * {g}]",
            "tdpbusd tmm2, tmm4, tmm6",
            "tileloadd tmm5, [{w} + {w_row} + 3 * {g}]",
            "tileloadd tmm7, [{x} + {line} + 48 * {g}]",
            "tdpbusd tmm3, tmm5, tmm7",
            "tilestored [{c} + {line}], tmm0",
            "tilestored [{c} + {line} + 1024], tmm1",
            "tilestored [{c} + {line} + 2048], tmm2",
            "tilestored [{c} + {line} + 3072], tmm3",
            w = in(reg) levels, x = in(reg) quads, z = in(reg) corrections,
            c = in(reg) inner.0.as_mut_ptr(),
            w_row = in(reg) RUN, line = in(reg) 64_usize, zero = in(reg) 0_usize,
            g = const G,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
