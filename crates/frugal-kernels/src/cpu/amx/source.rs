//! Where tiles of bytes get a weight's levels from, two groups of sixteen rows at a time.
#![expect(
    clippy::indexing_slicing,
    reason = "groups and rows are counted by constants that the arrays are sized by"
)]

use crate::cpu::avx512::rows::{Head, Rows, halves};
use crate::cpu::gemm::integer::panel::{GROUP, GROUPS, PanelRun};
use crate::cpu::gemm::tile::LANES;
use crate::cpu::stored::{RUN, SixteenRows, block_bytes};
use std::arch::x86_64::{
    __m512, __m512i, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_mask_blend_epi32, _mm512_mul_ps,
    _mm512_or_si512, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_slli_epi16, _mm512_slli_epi32, _mm512_srai_epi32, _mm512_srli_epi16, _mm512_srli_epi32,
    _mm512_srlv_epi16, _mm512_store_ps, _mm512_store_si512,
};

use super::integer::Pair;

/// Where the levels of two groups lie: a row every `row` bytes, the second group `step` bytes after the
/// first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    pub(super) start: *const u8,
    pub(super) row: usize,
    pub(super) step: usize,
}

impl Levels {
    pub(super) const NOWHERE: Self = Self {
        start: std::ptr::null(),
        row: 0,
        step: 0,
    };

    /// Whole groups in the room of a pair.
    pub(super) fn whole(pair: &Pair) -> Self {
        Self {
            start: pair.levels.as_ptr().cast(),
            row: GROUP,
            step: GROUP * LANES,
        }
    }
}

/// Groups of sixteen rows.
pub(super) trait Source {
    /// Columns of a group.
    const COLUMNS: usize;

    /// Opens groups `2 * pair` and the next: factors and minima, and the levels where they do not lie
    /// as tiles want them. Pairs come in their order, and what follows is asked for ahead.
    ///
    /// # Safety
    /// The rows have these groups; the machine has 512-bit vectors of bytes.
    unsafe fn open(&mut self, pair: usize, to: &mut Pair) -> Levels;
}

/// Runs that are open already.
pub(super) struct Opened<'a, const COLUMNS: usize>(pub(super) &'a [PanelRun]);

impl<const COLUMNS: usize> Source for Opened<'_, COLUMNS> {
    const COLUMNS: usize = COLUMNS;

    #[inline]
    unsafe fn open(&mut self, pair: usize, to: &mut Pair) -> Levels {
        let of_run = RUN / (2 * COLUMNS);
        let (run, first) = (&self.0[pair / of_run], pair % of_run * 2);
        for nth in 0..2 {
            to.factors[nth] = run.factors[first + nth];
            to.minima[nth] = run.minima[first + nth];
        }
        let levels = run.levels.as_ptr().cast::<u8>();
        Levels {
            start: levels.wrapping_add(first * COLUMNS),
            row: RUN,
            step: COLUMNS,
        }
    }
}

/// Rows of blocks of one group, `BYTES` long: a factor, then levels.
struct Small<'a, const BYTES: usize> {
    rows: SixteenRows<'a>,
    all: Rows,
}

impl<'a, const BYTES: usize> Small<'a, BYTES> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn of(rows: SixteenRows<'a>) -> Self {
        Self {
            rows,
            all: Rows::of(rows),
        }
    }

    /// The factors of two blocks; gives the first block.
    ///
    /// # Safety
    /// The rows have these blocks.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn open(&self, pair: usize, to: &mut Pair) -> Rows {
        let (run, within) = (2 * pair / GROUPS, 2 * pair % GROUPS);
        self.rows
            .rows()
            .ask_some_ahead(run, 2 * within..2 * within + 4);
        let first = self.all.plus(2 * pair * BYTES);
        for (nth, factors) in to.factors.iter_mut().enumerate() {
            // SAFETY: a block begins with its factor and two bytes of levels.
            put(halves(unsafe { first.plus(nth * BYTES).words() }), factors);
        }
        first
    }
}

/// Blocks of Q8_0, whose signed levels are multiplied where they lie.
pub(super) struct Q8<'a>(Small<'a, { block_bytes::Q8_0 }>);

impl<'a> Q8<'a> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn of(rows: SixteenRows<'a>) -> Self {
        Self(Small::of(rows))
    }
}

impl Source for Q8<'_> {
    const COLUMNS: usize = GROUP;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn open(&mut self, pair: usize, to: &mut Pair) -> Levels {
        // SAFETY: as the caller vouches.
        let first = unsafe { self.0.open(pair, to) };
        Levels {
            start: first.plus(2).start(),
            row: first.stride,
            step: block_bytes::Q8_0,
        }
    }
}

/// Blocks of Q4_0.
pub(super) struct Q4<'a>(Small<'a, { block_bytes::Q4_0 }>);

impl<'a> Q4<'a> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn of(rows: SixteenRows<'a>) -> Self {
        Self(Small::of(rows))
    }
}

impl Source for Q4<'_> {
    const COLUMNS: usize = GROUP;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn open(&mut self, pair: usize, to: &mut Pair) -> Levels {
        // SAFETY: as the caller vouches.
        let first = unsafe { self.0.open(pair, to) };
        let (mask, shift) = (_mm512_set1_epi8(15), odd_quarters_by_four());
        for (nth, levels) in to.levels.iter_mut().enumerate() {
            for (two, to) in levels.as_chunks_mut().0.iter_mut().enumerate() {
                // SAFETY: a block has sixteen bytes of levels after its factor.
                let twins = unsafe {
                    first
                        .plus(block_bytes::Q4_0 * nth + 2)
                        .twin([2 * two, 2 * two + 1])
                };
                keep(_mm512_and_si512(_mm512_srlv_epi16(twins, shift), mask), to);
            }
        }
        Levels::whole(to)
    }
}

/// Blocks of Q4_K.
pub(super) struct Q4K<'a> {
    rows: SixteenRows<'a>,
    all: Rows,
    head: Option<Head>,
}

impl<'a> Q4K<'a> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn of(rows: SixteenRows<'a>) -> Self {
        Self {
            rows,
            all: Rows::of(rows),
            head: None,
        }
    }
}

impl Source for Q4K<'_> {
    const COLUMNS: usize = GROUP;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn open(&mut self, pair: usize, to: &mut Pair) -> Levels {
        let (run, within) = (2 * pair / GROUPS, 2 * pair % GROUPS);
        self.rows
            .rows()
            .ask_some_ahead(run, 2 * within..2 * within + 4);
        let block = self.all.plus(run * block_bytes::Q4_K);
        if within == 0 {
            // SAFETY: the head of a block is sixteen bytes.
            self.head = Some(unsafe { Head::of(block) });
        }
        if let Some(head) = &mut self.head {
            for nth in 0..2 {
                let [factors, minima] = head.next(within + nth);
                put(factors, &mut to.factors[nth]);
                put(minima, &mut to.minima[nth]);
            }
        }
        let mask = _mm512_set1_epi8(15);
        let [lower, upper] = &mut to.levels;
        let places = lower
            .as_chunks_mut()
            .0
            .iter_mut()
            .zip(upper.as_chunks_mut().0);
        for (two, (lower, upper)) in places.enumerate() {
            // SAFETY: the levels of two groups are 32 bytes.
            let both = unsafe { block.plus(16 + within * LANES).pair([2 * two, 2 * two + 1]) };
            keep(_mm512_and_si512(both, mask), lower);
            keep(_mm512_and_si512(_mm512_srli_epi16::<4>(both), mask), upper);
        }
        Levels::whole(to)
    }
}

/// Blocks of Q6_K, whose groups have 16 columns.
pub(super) struct Q6K<'a> {
    rows: SixteenRows<'a>,
    all: Rows,
    /// Factors of the blocks.
    d: __m512,
}

impl<'a> Q6K<'a> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn of(rows: SixteenRows<'a>) -> Self {
        Self {
            rows,
            all: Rows::of(rows),
            d: _mm512_setzero_ps(),
        }
    }
}

impl Source for Q6K<'_> {
    const COLUMNS: usize = GROUP / 2;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn open(&mut self, pair: usize, to: &mut Pair) -> Levels {
        let (run, within) = (pair / GROUPS, pair % GROUPS);
        self.rows
            .rows()
            .ask_some_ahead(run, 2 * within..2 * within + 2);
        let block = self.all.plus(run * block_bytes::Q6_K);
        if within == 0 {
            // SAFETY: the block's last word is two bytes of steps and its factor.
            self.d = halves(_mm512_srli_epi32::<16>(unsafe { block.plus(206).words() }));
        }
        // SAFETY: two steps and what follows them are inside the block.
        let steps = unsafe { block.plus(192 + 2 * within).words() };
        let steps = [
            _mm512_slli_epi32::<24>(steps),
            _mm512_slli_epi32::<16>(steps),
        ];
        for (step, factors) in steps.into_iter().zip(&mut to.factors) {
            let step = _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(step));
            put(_mm512_mul_ps(self.d, step), factors);
        }
        let (half, quarter) = (within / 4, within % 4);
        let (four, two) = (_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0x30));
        for (nth, to) in to.levels[0].as_chunks_mut().0.iter_mut().enumerate() {
            // SAFETY: a half has 64 bytes of lower bits, 32 of upper ones.
            let [lower, upper] = [half * 64 + quarter % 2 * 32, 128 + half * 32]
                .map(|at| unsafe { block.plus(at).pair([2 * nth, 2 * nth + 1]) });
            let lower = if quarter < 2 {
                lower
            } else {
                _mm512_srli_epi16::<4>(lower)
            };
            let upper = match quarter {
                0 => _mm512_slli_epi16::<4>(upper),
                1 => _mm512_slli_epi16::<2>(upper),
                2 => upper,
                _ => _mm512_srli_epi16::<2>(upper),
            };
            let (lower, upper) = (_mm512_and_si512(lower, four), _mm512_and_si512(upper, two));
            keep(_mm512_or_si512(lower, upper), to);
        }
        Levels {
            start: to.levels.as_ptr().cast(),
            row: GROUP,
            step: GROUP / 2,
        }
    }
}

/// For words of 16 bits: 4 in odd quarters of a vector, nothing in even ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn odd_quarters_by_four() -> __m512i {
    _mm512_mask_blend_epi32(0xf0f0, _mm512_setzero_si512(), _mm512_set1_epi16(4))
}

/// Writes the levels of two rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn keep(levels: __m512i, to: &mut [[u8; GROUP]; 2]) {
    // SAFETY: 64 bytes on a cache line: two rows of a pair's levels, which begin on one.
    unsafe { _mm512_store_si512(to.as_mut_ptr().cast(), levels) };
}

/// Writes a number for each row.
#[inline]
#[target_feature(enable = "avx512f")]
fn put(numbers: __m512, to: &mut [f32; LANES]) {
    // SAFETY: sixteen floats on a cache line: a row of a pair's factors or minima.
    unsafe { _mm512_store_ps(to.as_mut_ptr(), numbers) };
}
