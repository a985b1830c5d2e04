//! Few rows of activations past an opened panel.

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::gemm::tile::LANES;

use super::left::RowRun;
use super::panel::{Form, GROUP, GROUPS, PanelRun};

/// Rows that meet a panel together: each keeps its sums in one register, and up to these the loads
/// of the panel are shared.
pub(crate) const MOST: usize = 4;

/// Sums of some rows with the sixteen of a panel.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct Sums<const R: usize>(pub(crate) [[f32; LANES]; R]);

impl<const R: usize> Sums<R> {
    pub(crate) const ZERO: Self = Self([[0.0; LANES]; R]);
}

/// Whether more than a few rows go through tile registers.
pub(super) fn has_tiles(features: CpuFeatures) -> bool {
    features.supports(Isa::Amx)
}

/// Adds a run to the sums of R rows.
type Kernel<const R: usize> = unsafe fn(Form, &PanelRun, [&RowRun; R], &mut [[f32; LANES]; R]);

/// The kernels of a machine, for one to four rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Few {
    one: Kernel<1>,
    two: Kernel<2>,
    three: Kernel<3>,
    four: Kernel<4>,
}

impl Few {
    pub(super) fn choose(features: CpuFeatures) -> Self {
        #[cfg(target_arch = "x86_64")]
        if features.supports(Isa::Avx512Bf16) {
            use crate::cpu::avx512::integer::meet;
            return Self {
                one: meet::<1>,
                two: meet::<2>,
                three: meet::<3>,
                four: meet::<4>,
            };
        } else if features.supports(Isa::Avx2) {
            use crate::cpu::avx2::integer::meet;
            return Self {
                one: meet::<1>,
                two: meet::<2>,
                three: meet::<3>,
                four: meet::<4>,
            };
        }
        debug_assert!(!features.supports(Isa::Avx2));
        Self {
            one: meet::<1>,
            two: meet::<2>,
            three: meet::<3>,
            four: meet::<4>,
        }
    }

    /// Adds a run to the sums of the first `count` rows.
    pub(super) fn meet(
        self,
        form: Form,
        panel: &PanelRun,
        [a, b, c, d]: [&RowRun; MOST],
        (count, sums): (usize, &mut Sums<MOST>),
    ) {
        let sums = &mut sums.0;
        // SAFETY: `choose` took the kernels that the features allow.
        unsafe {
            match count {
                1 => (self.one)(form, panel, [a], first_rows(sums)),
                2 => (self.two)(form, panel, [a, b], first_rows(sums)),
                3 => (self.three)(form, panel, [a, b, c], first_rows(sums)),
                _ => (self.four)(form, panel, [a, b, c, d], sums),
            }
        }
    }
}

fn first_rows<const R: usize>(sums: &mut [[f32; LANES]; MOST]) -> &mut [[f32; LANES]; R] {
    const { assert!(R <= MOST) };
    match sums.first_chunk_mut() {
        Some(rows) => rows,
        None => unreachable!("R is at most MOST"),
    }
}

/// Plain loops, for machines without kernels of their own.
fn meet<const R: usize>(
    form: Form,
    panel: &PanelRun,
    x: [&RowRun; R],
    sums: &mut [[f32; LANES]; R],
) {
    let width = if form.is_halved { GROUP / 2 } else { GROUP };
    for (sums, x) in sums.iter_mut().zip(x) {
        let levels = x.levels.as_flattened();
        for (group, a) in levels.chunks_exact(width).enumerate() {
            for (row, sum) in sums.iter_mut().enumerate() {
                let levels = &panel.levels[row].as_flattened()[group * width..][..width];
                let inner: i32 = levels
                    .iter()
                    .zip(a)
                    .map(|(w, a)| i32::from(*w) * i32::from(*a))
                    .sum();
                let inner = inner + x.corrections[group];
                *sum += inner as f32 * (panel.factors[group][row] * x.scales[group]);
                if form.has_minima {
                    *sum -= panel.minima[group][row] * x.offsets[group];
                }
            }
        }
    }
    debug_assert_eq!(x.first().map_or(GROUPS, |x| x.levels.len()), GROUPS);
}
