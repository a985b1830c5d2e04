//! The usual formats opened sixteen rows at a time, levels by row.

use std::arch::x86_64::{
    __m256i, __m512, _mm_loadu_si128, _mm_srli_epi16, _mm256_and_si256, _mm256_loadu_si256,
    _mm256_set_m128i, _mm256_set1_epi8, _mm256_srli_epi16, _mm256_storeu_si256, _mm256_xor_si256,
};

use frugal_core::quant::BlockFormat;

use crate::cpu::detect::{CpuFeatures, Isa};
use crate::cpu::gemm::integer::panel::{GROUP, GROUPS, PanelRun, ROW_LINES};
use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::{SixteenRows, StoredRows};

use super::integer::store;
use super::rows::{Head, Rows, halves};

/// Opens as many runs as there is room for, from number `first` on; says whether it could.
pub(in crate::cpu) fn open(
    features: CpuFeatures,
    (format, rows): (BlockFormat, StoredRows<'_>),
    first: usize,
    to: &mut [PanelRun],
) -> bool {
    let kernel: unsafe fn(SixteenRows<'_>, usize, &mut PanelRun) = match format {
        BlockFormat::Q8_0 => eight_bits,
        BlockFormat::Q4_0 => four_bits,
        BlockFormat::Q4K => four_bits_with_minima,
        _ => return false,
    };
    let Some(rows) = rows.sixteen() else {
        return false;
    };
    assert!(features.supports(Isa::Avx512Bf16));
    for (run, to) in (first..).zip(to) {
        // SAFETY: the features name the instructions.
        unsafe { kernel(rows, run, to) };
    }
    true
}

/// The factors of a whole run of Q8_0, whose levels stay where they lie.
pub(in crate::cpu) fn factors(
    features: CpuFeatures,
    (rows, run): (SixteenRows<'_>, usize),
    to: &mut PanelRun,
) {
    assert!(features.supports(Isa::Avx512Bf16));
    // SAFETY: the features name the instructions.
    unsafe { factors_of(rows, run, to) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn factors_of(rows: SixteenRows<'_>, run: usize, to: &mut PanelRun) {
    let all = Rows::of(rows);
    for group in 0..(all.stride / 34 - run * GROUPS).min(GROUPS) {
        rows.rows().ask_some_ahead(run, 2 * group..2 * group + 2);
        let block = all.plus((run * GROUPS + group) * 34);
        // SAFETY: the rows have all their blocks, of which this is one.
        put(halves(unsafe { block.words() }), &mut to.factors[group]);
    }
}

/// Blocks of one group, `BYTES` long, of a run; `levels` gives those of a row's block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn small<const BYTES: usize>(
    rows: SixteenRows<'_>,
    run: usize,
    to: &mut PanelRun,
    levels: impl Fn(Rows, usize) -> __m256i,
) {
    let all = Rows::of(rows);
    let count = (all.stride / BYTES - run * GROUPS).min(GROUPS);
    if count < GROUPS {
        *to = PanelRun::EMPTY;
    }
    for group in 0..count {
        rows.rows().ask_some_ahead(run, 2 * group..2 * group + 2);
        let block = all.plus((run * GROUPS + group) * BYTES);
        // SAFETY: the rows have all their blocks, of which this is one.
        put(halves(unsafe { block.words() }), &mut to.factors[group]);
        for row in 0..LANES {
            keep(levels(block.plus(2), row), (row, group), to);
        }
    }
}

/// Writes the levels of a row's group.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn keep(levels: __m256i, (row, group): (usize, usize), to: &mut PanelRun) {
    let (places, _) = to.levels[row * ROW_LINES + group / 2].as_chunks_mut::<GROUP>();
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_si256(places[group % 2].as_mut_ptr().cast(), levels) };
}

#[inline]
#[target_feature(enable = "avx512f")]
fn put(numbers: __m512, to: &mut [f32; LANES]) {
    store([numbers], std::array::from_mut(to));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn eight_bits(rows: SixteenRows<'_>, run: usize, to: &mut PanelRun) {
    let sign = _mm256_set1_epi8(i8::MIN);
    small::<34>(rows, run, to, |block, row| {
        // SAFETY: a block has 32 bytes of levels after its factor.
        let bytes: [u8; GROUP] = unsafe { block.bytes(row) };
        _mm256_xor_si256(load(&bytes), sign)
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn four_bits(rows: SixteenRows<'_>, run: usize, to: &mut PanelRun) {
    let mask = _mm256_set1_epi8(15);
    small::<18>(rows, run, to, |block, row| {
        // SAFETY: a block has sixteen bytes of levels after its factor.
        let bytes: [u8; LANES] = unsafe { block.bytes(row) };
        // SAFETY: sixteen bytes.
        let lower = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(lower), lower), mask)
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn four_bits_with_minima(rows: SixteenRows<'_>, run: usize, to: &mut PanelRun) {
    let block = Rows::of(rows).plus(run * 144);
    // SAFETY: the rows have all their blocks, of which this is one; its head is sixteen bytes.
    let mut head = unsafe { Head::of(block) };
    let mask = _mm256_set1_epi8(15);
    for pair in 0..GROUPS / 2 {
        rows.rows().ask_some_ahead(run, 4 * pair..4 * pair + 4);
        for group in [2 * pair, 2 * pair + 1] {
            let [factors, minima] = head.next(group);
            put(factors, &mut to.factors[group]);
            put(minima, &mut to.minima[group]);
        }
        for row in 0..LANES {
            // SAFETY: the levels of two groups are 32 bytes.
            let bytes: [u8; GROUP] = unsafe { block.plus(16 + pair * GROUP).bytes(row) };
            let both = load(&bytes);
            keep(_mm256_and_si256(both, mask), (row, 2 * pair), to);
            let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(both), mask);
            keep(upper, (row, 2 * pair + 1), to);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn load(bytes: &[u8; GROUP]) -> __m256i {
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}
