//! Dot products of bytes with 256-bit vectors; see the 512-bit ones.
//!
//! Products of an unsigned and a signed byte are added in pairs to 16 bits, which levels up to 128
//! cannot exceed; those of formats that have larger ones are made signed, and their signs go to the
//! other factor.
#![expect(
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "groups and rows are counted by constants that the arrays are sized by"
)]

use std::arch::x86_64::{
    __m256, __m256i, _mm256_abs_epi8, _mm256_add_epi32, _mm256_cvtepi32_ps, _mm256_fmadd_ps,
    _mm256_fnmadd_ps, _mm256_hadd_epi32, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_permute2x128_si256, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_sign_epi8, _mm256_storeu_ps,
    _mm256_sub_epi8,
};

use crate::cpu::gemm::integer::left::RowRun;
use crate::cpu::gemm::integer::panel::{Form, GROUP, PanelRun, ROW_LINES};
use crate::cpu::gemm::tile::LANES;

/// Rows of a vector.
pub(super) const HALF: usize = LANES / 2;
/// A format whose level of zero is larger has levels of eight bits.
const LARGEST_ZERO: i32 = 63;

/// Sums of R rows with sixteen, eight to a vector.
pub(super) type Totals<const R: usize> = [[__m256; 2]; R];

/// Adds a run to the sums of some rows.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn few(form: Form, panel: &PanelRun, rows: &[&RowRun], sums: &mut [[f32; LANES]]) {
    let (twos, rest) = rows.as_chunks::<2>();
    let (of_twos, of_rest) = sums.as_chunks_mut::<2>();
    for (two, sums) in twos.iter().zip(of_twos) {
        by_row(form, panel, *two, sums);
    }
    for (row, sums) in rest.iter().zip(of_rest) {
        by_row(form, panel, [*row], std::array::from_mut(sums));
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn by_row<const R: usize>(
    form: Form,
    panel: &PanelRun,
    x: [&RowRun; R],
    sums: &mut [[f32; LANES]; R],
) {
    if form.zero > LARGEST_ZERO {
        meet::<R, true>(form, panel, x, sums);
    } else {
        meet::<R, false>(form, panel, x, sums);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn meet<const R: usize, const SIGNED: bool>(
    form: Form,
    panel: &PanelRun,
    x: [&RowRun; R],
    sums: &mut [[f32; LANES]; R],
) {
    let mut totals = load(sums);
    for group in 0..panel.groups {
        for half in 0..2 {
            let levels = levels::<SIGNED>(form, panel, (half, group));
            for r in 0..R {
                let total = &mut totals[r][half];
                let inner = products::<SIGNED>(&levels, &x[r].levels[group]);
                if form.is_halved {
                    for (of_half, inner) in inner.into_iter().enumerate() {
                        let group = 2 * group + of_half;
                        let scales = Scales::of(panel, (half, group));
                        *total = add::<SIGNED>(form, (&scales, group), x[r], inner, *total);
                    }
                } else {
                    let inner = _mm256_add_epi32(inner[0], inner[1]);
                    let scales = Scales::of(panel, (half, group));
                    *total = add::<SIGNED>(form, (&scales, group), x[r], inner, *total);
                }
            }
        }
    }
    store(totals, sums);
}

/// The levels of eight rows for a group, from the first or the ninth row on.
#[inline]
#[target_feature(enable = "avx2")]
fn levels<const SIGNED: bool>(
    form: Form,
    panel: &PanelRun,
    (half, group): (usize, usize),
) -> [__m256i; HALF] {
    // Two's complement in a byte.
    let zero = _mm256_set1_epi8(form.zero.to_le_bytes()[0].cast_signed());
    std::array::from_fn(|row| {
        let line = &panel.levels[(half * HALF + row) * ROW_LINES + group / 2];
        let levels = &line.as_chunks::<GROUP>().0[group % 2];
        // SAFETY: 32 bytes.
        let levels = unsafe { _mm256_loadu_si256(levels.as_ptr().cast()) };
        if SIGNED {
            _mm256_sub_epi8(levels, zero)
        } else {
            levels
        }
    })
}

/// For eight rows the sum of products of the first half of a group, and of the second. Levels are
/// less their zero where SIGNED.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn products<const SIGNED: bool>(
    levels: &[__m256i; HALF],
    x: &[i8; GROUP],
) -> [__m256i; 2] {
    // SAFETY: 32 bytes.
    let x = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
    let ones = _mm256_set1_epi16(1);
    let p = levels.each_ref().map(|w| {
        let pairs = if SIGNED {
            _mm256_maddubs_epi16(_mm256_abs_epi8(*w), _mm256_sign_epi8(x, *w))
        } else {
            _mm256_maddubs_epi16(*w, x)
        };
        _mm256_madd_epi16(pairs, ones)
    });
    let a = join(p[0], p[1], p[2], p[3]);
    let b = join(p[4], p[5], p[6], p[7]);
    [
        _mm256_permute2x128_si256::<0x20>(a, b),
        _mm256_permute2x128_si256::<0x31>(a, b),
    ]
}

/// In each half the sums of the halves of four vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn join(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d))
}

/// What the sums of a group are multiplied by, for eight rows, and what is taken from them.
pub(super) struct Scales {
    pub(super) factors: __m256,
    pub(super) minima: __m256,
}

impl Scales {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(panel: &PanelRun, (half, group): (usize, usize)) -> Self {
        Self {
            factors: eight(&panel.factors[group], half),
            minima: eight(&panel.minima[group], half),
        }
    }
}

/// `total + inner * (factors * scale) - minima * offset` of one group, eight rows; `inner` is of
/// levels less their zero where SIGNED, of levels else.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn add<const SIGNED: bool>(
    form: Form,
    (scales, group): (&Scales, usize),
    x: &RowRun,
    inner: __m256i,
    total: __m256,
) -> __m256 {
    let inner = if SIGNED {
        inner
    } else {
        _mm256_add_epi32(inner, _mm256_set1_epi32(x.corrections[group]))
    };
    let factors = _mm256_mul_ps(scales.factors, _mm256_set1_ps(x.scales[group]));
    let total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(inner), factors, total);
    if form.has_minima {
        _mm256_fnmadd_ps(scales.minima, _mm256_set1_ps(x.offsets[group]), total)
    } else {
        total
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load<const R: usize>(sums: &[[f32; LANES]; R]) -> Totals<R> {
    std::array::from_fn(|r| [eight(&sums[r], 0), eight(&sums[r], 1)])
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store<const R: usize>(totals: Totals<R>, sums: &mut [[f32; LANES]; R]) {
    for (sums, totals) in sums.iter_mut().zip(totals) {
        for (to, total) in sums.as_chunks_mut::<HALF>().0.iter_mut().zip(totals) {
            // SAFETY: eight floats.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), total) };
        }
    }
}

/// The first or the second eight of sixteen numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn eight(row: &[f32; LANES], half: usize) -> __m256 {
    // SAFETY: eight floats.
    unsafe { _mm256_loadu_ps(row.as_chunks::<HALF>().0[half].as_ptr()) }
}
