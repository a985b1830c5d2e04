//! Dot products of bytes: a few rows of activations with the sixteen rows of a panel.

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _mm256_loadu_si256, _mm512_add_epi32, _mm512_broadcast_i64x4,
    _mm512_castsi256_si512, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_fnmadd_ps, _mm512_inserti64x4, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4,
    _mm512_storeu_ps, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};

use crate::cpu::gemm::integer::left::RowRun;
use crate::cpu::gemm::integer::panel::{Form, GROUP, PanelRun, QUAD, ROW_LINES};
use crate::cpu::gemm::tile::LANES;

/// Adds a run, levels by row, to the sums of some rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn by_row<const R: usize>(
    form: Form,
    panel: &PanelRun,
    x: [&RowRun; R],
    sums: &mut [[f32; LANES]; R],
) {
    let mut totals = sums.map(|row| load(&row));
    for group in 0..panel.groups {
        let levels = pairs(panel, group);
        for r in 0..R {
            let inner = products(&levels, &x[r].levels[group]);
            if form.is_halved {
                for (half, inner) in inner.into_iter().enumerate() {
                    let group = 2 * group + half;
                    let scales = Scales::of(panel, group);
                    totals[r] = add_half(form, (&scales, group), x[r], inner, totals[r]);
                }
            } else {
                let scales = Scales::of(panel, group);
                totals[r] = add_group(form, (&scales, group), x[r], inner, totals[r]);
            }
        }
    }
    store(totals, sums);
}

/// Adds a run, levels turned, to the sums of some rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(crate) fn many(form: Form, panel: &PanelRun, rows: &[&RowRun], sums: &mut [[f32; LANES]]) {
    let (mut rows, mut sums) = (rows, sums);
    while !rows.is_empty() {
        let taken = match rows.len() {
            8.. => some::<8>(form, panel, rows, sums),
            6..8 => some::<6>(form, panel, rows, sums),
            4..6 => some::<4>(form, panel, rows, sums),
            2..4 => some::<2>(form, panel, rows, sums),
            _ => some::<1>(form, panel, rows, sums),
        };
        (rows, sums) = (&rows[taken..], &mut sums[taken..]);
    }
}

/// The first R rows; gives R.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn some<const R: usize>(
    form: Form,
    panel: &PanelRun,
    rows: &[&RowRun],
    sums: &mut [[f32; LANES]],
) -> usize {
    if let (Some(rows), Some(sums)) = (rows.first_chunk::<R>(), sums.first_chunk_mut::<R>()) {
        if form.is_halved {
            turned::<R, { GROUP / 2 }>(form, panel, *rows, sums);
        } else {
            turned::<R, GROUP>(form, panel, *rows, sums);
        }
    }
    R
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn turned<const R: usize, const G: usize>(
    form: Form,
    panel: &PanelRun,
    x: [&RowRun; R],
    sums: &mut [[f32; LANES]; R],
) {
    let mut totals = sums.map(|row| load(&row));
    let groups = panel.groups * GROUP / G;
    for (group, lines) in panel.levels.chunks_exact(G / QUAD).take(groups).enumerate() {
        let mut inner: [__m512i; R] =
            std::array::from_fn(|r| _mm512_set1_epi32(x[r].corrections[group]));
        for (quad, line) in lines.iter().enumerate() {
            // SAFETY: 64 bytes.
            let levels = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
            for r in 0..R {
                let four = x[r].levels.as_flattened()[group * G + quad * QUAD..].first_chunk();
                let four =
                    i32::from_ne_bytes(four.copied().unwrap_or_default().map(i8::cast_unsigned));
                inner[r] = _mm512_dpbusd_epi32(inner[r], levels, _mm512_set1_epi32(four));
            }
        }
        let scales = Scales::of(panel, group);
        for r in 0..R {
            totals[r] = scaled(form, (&scales, group), x[r], inner[r], totals[r]);
        }
    }
    store(totals, sums);
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store<const R: usize>(totals: [__m512; R], sums: &mut [[f32; LANES]; R]) {
    for (row, total) in sums.iter_mut().zip(totals) {
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(row.as_mut_ptr(), total) };
    }
}

/// The levels of a group: in vector i rows i and i + 4, or from the fifth on i + 4 and i + 8.
#[inline]
#[target_feature(enable = "avx512f")]
fn pairs(panel: &PanelRun, group: usize) -> [__m512i; LANES / 2] {
    let of_row = |row: usize| {
        let (groups, _) = panel.levels[row * ROW_LINES + group / 2].as_chunks::<GROUP>();
        bytes(&groups[group % 2])
    };
    std::array::from_fn(|i| {
        let row = i + i / 4 * 4;
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(of_row(row)), of_row(row + 4))
    })
}

/// For each row the sum of products of the first half of a group, and of the second.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) fn products(levels: &[__m512i; LANES / 2], x: &[i8; GROUP]) -> [__m512i; 2] {
    // SAFETY: 32 bytes.
    let x = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(x.as_ptr().cast()) });
    let p = levels
        .each_ref()
        .map(|w| _mm512_dpbusd_epi32(_mm512_setzero_si512(), *w, x));
    // Quarters of four sums each: first and second half of rows 0 to 3 and of rows 4 to 7.
    let a = join(p[0], p[1], p[2], p[3]);
    let b = join(p[4], p[5], p[6], p[7]);
    [
        _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b),
    ]
}

/// As [`products`], given for each four columns the levels of all rows.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) fn products_turned(levels: &[__m512i; LANES / 2], x: &[i8; GROUP]) -> [__m512i; 2] {
    let (quads, _) = x.as_chunks::<QUAD>();
    let mut sums = [_mm512_setzero_si512(); 2];
    for (half, sum) in sums.iter_mut().enumerate() {
        for quad in 4 * half..4 * half + 4 {
            let four = i32::from_ne_bytes(quads[quad].map(i8::cast_unsigned));
            *sum = _mm512_dpbusd_epi32(*sum, levels[quad], _mm512_set1_epi32(four));
        }
    }
    sums
}

/// In each quarter the sums of the quarters of four vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn join(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

/// What the sums of a group are multiplied by, row by row, and what is taken from them.
pub(super) struct Scales {
    pub(super) factors: __m512,
    pub(super) minima: __m512,
}

impl Scales {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn of(panel: &PanelRun, group: usize) -> Self {
        Self {
            factors: load(&panel.factors[group]),
            minima: load(&panel.minima[group]),
        }
    }
}

/// Adds a whole group, given the sums of its halves.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn add_group(
    form: Form,
    at: (&Scales, usize),
    x: &RowRun,
    [low, high]: [__m512i; 2],
    total: __m512,
) -> __m512 {
    add_half(form, at, x, _mm512_add_epi32(low, high), total)
}

/// As [`scaled`], with what corrects the level of zero.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn add_half(
    form: Form,
    (scales, group): (&Scales, usize),
    x: &RowRun,
    inner: __m512i,
    total: __m512,
) -> __m512 {
    let inner = _mm512_add_epi32(inner, _mm512_set1_epi32(x.corrections[group]));
    scaled(form, (scales, group), x, inner, total)
}

/// `total + inner * (factors * scale) - minima * offset` of one group.
#[inline]
#[target_feature(enable = "avx512f")]
fn scaled(
    form: Form,
    (scales, group): (&Scales, usize),
    x: &RowRun,
    inner: __m512i,
    total: __m512,
) -> __m512 {
    let factors = _mm512_mul_ps(scales.factors, _mm512_set1_ps(x.scales[group]));
    let total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(inner), factors, total);
    if form.has_minima {
        _mm512_fnmadd_ps(scales.minima, _mm512_set1_ps(x.offsets[group]), total)
    } else {
        total
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(row: &[f32; LANES]) -> __m512 {
    // SAFETY: sixteen floats.
    unsafe { _mm512_loadu_ps(row.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn bytes(group: &[u8; GROUP]) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(group.as_ptr().cast()) }
}
