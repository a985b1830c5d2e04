//! Dot products of bytes: a few rows of activations with the sixteen rows of a panel.

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _mm256_loadu_si256, _mm512_add_epi32, _mm512_broadcast_i64x4,
    _mm512_castsi256_si512, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_fnmadd_ps, _mm512_inserti64x4, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_ps,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use crate::cpu::gemm::integer::left::RowRun;
use crate::cpu::gemm::integer::panel::{Form, GROUP, GROUPS, PanelRun};
use crate::cpu::gemm::tile::LANES;

/// Adds a run to the sums of R rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(crate) fn meet<const R: usize>(
    form: Form,
    panel: &PanelRun,
    x: [&RowRun; R],
    sums: &mut [[f32; LANES]; R],
) {
    let mut totals = sums.map(|row| load(&row));
    for group in 0..GROUPS {
        let levels = pairs(panel, group);
        for r in 0..R {
            let [low, high] = products(levels, &x[r].levels[group]);
            if form.is_halved {
                for (half, inner) in [low, high].into_iter().enumerate() {
                    totals[r] = add_group(form, (panel, 2 * group + half), x[r], inner, totals[r]);
                }
            } else {
                let inner = _mm512_add_epi32(low, high);
                totals[r] = add_group(form, (panel, group), x[r], inner, totals[r]);
            }
        }
    }
    for (row, total) in sums.iter_mut().zip(totals) {
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(row.as_mut_ptr(), total) };
    }
}

/// The levels of a group: in vector i rows i and i + 4, or from the fifth on i + 4 and i + 8.
#[inline]
#[target_feature(enable = "avx512f")]
fn pairs(panel: &PanelRun, group: usize) -> [__m512i; LANES / 2] {
    std::array::from_fn(|i| {
        let row = i + i / 4 * 4;
        let low = _mm512_castsi256_si512(bytes(&panel.levels[row][group]));
        _mm512_inserti64x4::<1>(low, bytes(&panel.levels[row + 4][group]))
    })
}

/// For each row the sum of products of the first half of a group, and of the second.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn products(levels: [__m512i; LANES / 2], x: &[i8; GROUP]) -> [__m512i; 2] {
    // SAFETY: 32 bytes.
    let x = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(x.as_ptr().cast()) });
    let p = levels.map(|w| _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, x));
    // Quarters of four sums each: first and second half of rows 0 to 3 and of rows 4 to 7.
    let a = join(p[0], p[1], p[2], p[3]);
    let b = join(p[4], p[5], p[6], p[7]);
    [
        _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b),
    ]
}

/// In each quarter the sums of the quarters of four vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn join(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

/// `total + inner * (factors * scale) - minima * offset` of one group.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_group(
    form: Form,
    (panel, group): (&PanelRun, usize),
    x: &RowRun,
    inner: __m512i,
    total: __m512,
) -> __m512 {
    let inner = _mm512_add_epi32(inner, _mm512_set1_epi32(x.corrections[group]));
    let factors = _mm512_mul_ps(load(&panel.factors[group]), _mm512_set1_ps(x.scales[group]));
    let total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(inner), factors, total);
    if form.has_minima {
        _mm512_fnmadd_ps(
            load(&panel.minima[group]),
            _mm512_set1_ps(x.offsets[group]),
            total,
        )
    } else {
        total
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(row: &[f32; LANES]) -> __m512 {
    // SAFETY: sixteen floats.
    unsafe { _mm512_loadu_ps(row.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn bytes(group: &[u8; GROUP]) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(group.as_ptr().cast()) }
}
