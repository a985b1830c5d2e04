//! Which kernels let activations meet an opened panel.

use frugal_core::quant::BlockFormat;

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::SixteenRows;

use super::left::RowRun;
use super::panel::{Form, GROUP, PanelRun, ROW_LINES};

/// Rows that meet a panel together at most.
pub(crate) const MOST: usize = 8;

/// Sums of R rows with the sixteen of a panel.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct Sums<const R: usize>(pub(crate) [[f32; LANES]; R]);

impl<const R: usize> Sums<R> {
    pub(crate) const ZERO: Self = Self([[0.0; LANES]; R]);
}

/// Adds a run to the sums of some rows, at least one and at most [`MOST`].
type Kernel = unsafe fn(Form, &PanelRun, &[&RowRun], &mut [[f32; LANES]]);

/// Adds all runs of sixteen stored rows to the sums of R rows, each given by its runs.
pub(in crate::cpu) type DirectKernel<const R: usize> =
    unsafe fn(Form, SixteenRows<'_>, [&[RowRun]; R], &mut [[f32; LANES]; R]);

/// Kernels that multiply blocks from where they lie, for so many rows together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direct {
    one: DirectKernel<1>,
    two: DirectKernel<2>,
    four: DirectKernel<4>,
    /// Where there are registers for it.
    eight: Option<DirectKernel<MOST>>,
}

impl Direct {
    /// The kernels for a format, if the machine has any.
    pub(super) fn choose(features: CpuFeatures, format: BlockFormat) -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if features.supports(Isa::Avx512Bf16) {
            use crate::cpu::avx512::direct::kernel;
            return Some(Self {
                one: kernel(format)?,
                two: kernel(format)?,
                four: kernel(format)?,
                eight: kernel(format),
            });
        } else if features.supports(Isa::Avx2) {
            use crate::cpu::avx2::direct::kernel;
            return Some(Self {
                one: kernel(format)?,
                two: kernel(format)?,
                four: kernel(format)?,
                eight: None,
            });
        }
        let _ = (features, format);
        None
    }

    /// Rows up to which that is sooner than opening what more would share.
    pub(super) const fn most(self) -> usize {
        if self.eight.is_some() { 4 * MOST } else { MOST }
    }

    /// The sums of one row.
    pub(super) fn meet_one(self, form: Form, stored: SixteenRows<'_>, row: &[RowRun]) -> Sums<1> {
        let mut sums = Sums::ZERO;
        // SAFETY: `choose` took the kernel that the features allow.
        unsafe { (self.one)(form, stored, [row], &mut sums.0) };
        sums
    }

    /// The sums of the first `count` of some rows, each given by its runs, with sixteen stored rows.
    pub(super) fn meet(
        self,
        form: Form,
        stored: SixteenRows<'_>,
        (rows, count): (&[&[RowRun]; MOST], usize),
    ) -> Sums<MOST> {
        assert!((1..=MOST).contains(&count), "{count} rows");
        let mut sums = Sums::ZERO;
        let mut with = Meeting {
            form,
            stored,
            rows,
            sums: &mut sums,
        };
        match (count, self.eight) {
            (1, _) => with.run(self.one, 0),
            (2, _) => with.run(self.two, 0),
            (3..=4, _) => with.run(self.four, 0),
            (_, Some(eight)) => with.run(eight, 0),
            (more, None) => {
                with.run(self.four, 0);
                match more - MOST / 2 {
                    1 => with.run(self.one, MOST / 2),
                    2 => with.run(self.two, MOST / 2),
                    _ => with.run(self.four, MOST / 2),
                }
            }
        }
        sums
    }
}

/// Sixteen stored rows and those that they meet.
struct Meeting<'a> {
    form: Form,
    stored: SixteenRows<'a>,
    rows: &'a [&'a [RowRun]; MOST],
    sums: &'a mut Sums<MOST>,
}

impl Meeting<'_> {
    /// Lets R of the rows be met by a kernel that [`Direct::choose`] has taken.
    fn run<const R: usize>(&mut self, kernel: DirectKernel<R>, first: usize) {
        let rows = self.rows[first..].first_chunk();
        let sums = self.sums.0[first..].first_chunk_mut();
        if let (Some(rows), Some(sums)) = (rows, sums) {
            // SAFETY: `Direct::choose` took the kernels that the features allow.
            unsafe { kernel(self.form, self.stored, *rows, sums) };
        }
    }
}

/// The kernels of a machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernels {
    /// For levels by row.
    few: Kernel,
    /// For turned levels, where that is worth the turning: from how many rows on.
    many: Option<(usize, Kernel)>,
}

impl Kernels {
    pub(super) fn choose(features: CpuFeatures) -> Self {
        #[cfg(target_arch = "x86_64")]
        if features.supports(Isa::Avx512Bf16) {
            use crate::cpu::avx512::integer;
            return Self {
                few: integer::few,
                // Adding across lanes costs each row about half as much as the turning costs all.
                many: Some((3, integer::many)),
            };
        } else if features.supports(Isa::Avx2) {
            return Self {
                few: crate::cpu::avx2::integer::few,
                many: None,
            };
        }
        debug_assert!(!features.supports(Isa::Avx2));
        Self {
            few: plain,
            many: None,
        }
    }

    /// Whether levels are to be turned for so many rows.
    pub(super) fn wants_turned(&self, rows: usize) -> bool {
        self.many.is_some_and(|(from, _)| rows >= from)
    }

    /// Adds a run, whose levels are turned or not, to the sums of up to [`MOST`] rows.
    pub(super) fn meet(
        &self,
        is_turned: bool,
        (form, panel): (Form, &PanelRun),
        rows: &[&RowRun],
        sums: &mut Sums<MOST>,
    ) {
        assert!((1..=MOST).contains(&rows.len()), "{} rows", rows.len());
        let kernel = match self.many {
            Some((_, many)) if is_turned => many,
            _ => self.few,
        };
        let sums = &mut sums.0[..rows.len()];
        // SAFETY: `choose` took the kernels that the features allow.
        unsafe { kernel(form, panel, rows, sums) };
    }
}

/// Plain loops, for machines without kernels of their own.
fn plain(form: Form, panel: &PanelRun, rows: &[&RowRun], sums: &mut [[f32; LANES]]) {
    let width = if form.is_halved { GROUP / 2 } else { GROUP };
    for (sums, x) in sums.iter_mut().zip(rows) {
        let groups = x.levels[..panel.groups].as_flattened().chunks_exact(width);
        for (group, a) in groups.enumerate() {
            for (row, sum) in sums.iter_mut().enumerate() {
                let levels = panel.levels[row * ROW_LINES..][..ROW_LINES].as_flattened();
                let pairs = levels[group * width..].iter().zip(a);
                let inner: i32 = pairs.map(|(w, a)| i32::from(*w) * i32::from(*a)).sum();
                let inner = inner + x.corrections[group];
                *sum += inner as f32 * (panel.factors[group][row] * x.scales[group]);
                if form.has_minima {
                    *sum -= panel.minima[group][row] * x.offsets[group];
                }
            }
        }
    }
}
