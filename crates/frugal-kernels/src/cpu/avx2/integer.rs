//! Dot products of bytes with 256-bit vectors; see the 512-bit ones.
#![expect(
    clippy::indexing_slicing,
    reason = "groups and rows are counted by constants that the arrays are sized by"
)]

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps,
    _mm256_cvtepu8_epi16, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_hadd_epi32, _mm256_loadu_ps,
    _mm256_madd_epi16, _mm256_mul_ps, _mm256_permute2x128_si256, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_storeu_ps,
};

use crate::cpu::gemm::integer::left::RowRun;
use crate::cpu::gemm::integer::panel::{Form, GROUP, GROUPS, PanelRun, ROW_LINES};
use crate::cpu::gemm::tile::LANES;

/// Rows of a vector.
const HALF: usize = LANES / 2;

/// Adds a run to the sums of some rows.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn few(form: Form, panel: &PanelRun, rows: &[&RowRun], sums: &mut [[f32; LANES]]) {
    for (x, sums) in rows.iter().zip(sums) {
        for first in [0, HALF] {
            let mut total = load(sums, first);
            for group in 0..GROUPS {
                let [low, high] = products(panel, (first, group), &x.levels[group]);
                if form.is_halved {
                    for (half, inner) in [low, high].into_iter().enumerate() {
                        let at = (first, 2 * group + half);
                        total = add_group(form, (panel, at), x, inner, total);
                    }
                } else {
                    let inner = _mm256_add_epi32(low, high);
                    total = add_group(form, (panel, (first, group)), x, inner, total);
                }
            }
            // SAFETY: `first` is 0 or 8, and eight of sixteen floats follow it.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr().add(first), total) };
        }
    }
}

/// For eight rows the sum of products of the first half of a group, and of the second.
#[inline]
#[target_feature(enable = "avx2")]
fn products(panel: &PanelRun, (first, group): (usize, usize), x: &[i8; GROUP]) -> [__m256i; 2] {
    [0, GROUP / 2].map(|half| {
        // SAFETY: `half` is 0 or 16, and sixteen of 32 bytes follow it.
        let x = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(x.as_ptr().add(half).cast()) });
        let p: [__m256i; HALF] = std::array::from_fn(|row| {
            let line = &panel.levels[(first + row) * ROW_LINES + group / 2];
            let levels = line.as_chunks::<GROUP>().0[group % 2].as_ptr();
            // SAFETY: as above.
            let levels = unsafe { _mm_loadu_si128(levels.add(half).cast()) };
            _mm256_madd_epi16(_mm256_cvtepu8_epi16(levels), x)
        });
        let a = join(p[0], p[1], p[2], p[3]);
        let b = join(p[4], p[5], p[6], p[7]);
        _mm256_add_epi32(
            _mm256_permute2x128_si256::<0x20>(a, b),
            _mm256_permute2x128_si256::<0x31>(a, b),
        )
    })
}

/// In each half the sums of the halves of four vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn join(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d))
}

/// `total + inner * (factors * scale) - minima * offset` of one group, eight rows.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_group(
    form: Form,
    (panel, (first, group)): (&PanelRun, (usize, usize)),
    x: &RowRun,
    inner: __m256i,
    total: __m256,
) -> __m256 {
    let inner = _mm256_add_epi32(inner, _mm256_set1_epi32(x.corrections[group]));
    let factors = _mm256_mul_ps(
        load(&panel.factors[group], first),
        _mm256_set1_ps(x.scales[group]),
    );
    let total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(inner), factors, total);
    if form.has_minima {
        let minima = load(&panel.minima[group], first);
        _mm256_fnmadd_ps(minima, _mm256_set1_ps(x.offsets[group]), total)
    } else {
        total
    }
}

/// Eight numbers of sixteen, from 0 or 8 on.
#[inline]
#[target_feature(enable = "avx2")]
fn load(row: &[f32; LANES], first: usize) -> __m256 {
    debug_assert!(first + HALF <= LANES);
    // SAFETY: callers pass 0 or 8 for the first of eight among sixteen.
    unsafe { _mm256_loadu_ps(row.as_ptr().add(first)) }
}
