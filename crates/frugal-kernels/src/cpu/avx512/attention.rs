//! The vector half of attention on tiles: scores to weights, and weights to slopes.
//!
//! A block is sixteen queries by up to four vectors of keys. Everything is done query by query, or
//! with a query a lane, so that a query's numbers do not depend on the others of its block.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, __mmask16, _mm_loadu_si128, _mm512_cvtepi8_epi32,
    _mm512_cvtepi32_ps, _mm512_cvtne2ps_pbh, _mm512_permutexvar_epi16, _mm512_setzero_si512,
    _mm512_storeu_si512,
};
use std::mem::transmute;
use std::ops::Range;

use half::bf16;

use super::pack::{INTERLEAVE, Packable, index, store, store_tile, transposed};
use crate::cpu::gemm::tile::{DEPTH, LANES, TILE_WORDS};
use crate::cpu::tensor::EightBits;
use crate::cpu::vector::{Lanes, exp};
use crate::cpu::vector_x86::Avx512;

/// A number for each query of a block.
pub(crate) type OfQueries = [f32; LANES];
/// Words of a block's weights as left tiles: two of 16 queries by 32 keys.
pub(crate) const WEIGHT_WORDS: usize = 2 * TILE_WORDS;
/// Vectors of keys in a block at most.
pub(crate) const MOST_VECTORS: usize = 4;

/// Products of sixteen queries with some keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scores<'a> {
    /// A row of `16 vectors` for each query.
    pub(crate) products: &'a [f32],
    /// Queries of the block, 1 to 16.
    pub(crate) queries: usize,
    /// Vectors of keys, 1 to 4.
    pub(crate) vectors: usize,
    /// Keys that each query sees, from the first on.
    pub(crate) seen: &'a [usize; LANES],
    /// What products are multiplied by.
    pub(crate) scale: f32,
}

impl Scores<'_> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn vector<const N: usize>(&self, l: Avx512, (query, n): (usize, usize)) -> __m512 {
        load(l, self.products, (query * N + n) * LANES)
    }

    /// How many of vector n's keys a query sees.
    #[inline]
    fn lanes(&self, (query, n): (usize, usize)) -> usize {
        self.seen[query].saturating_sub(n * LANES).min(LANES)
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn load(l: Avx512, from: &[f32], at: usize) -> __m512 {
    match from[at..].first_chunk::<LANES>() {
        Some(all) => l.load(all),
        None => l.splat(0.0),
    }
}

/// What a block's queries know of the keys so far.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    /// The largest score.
    pub(crate) largest: &'a mut OfQueries,
    /// The sum of e^(score - largest).
    pub(crate) totals: &'a mut OfQueries,
}

/// Turns scores into weights e^(score - largest), as left tiles; gives what earlier sums are
/// multiplied by, since the largest score may have grown. Keys not seen have the weight 0; rows of
/// tiles that are no query's are left as they were.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(crate) fn weigh(
    l: Avx512,
    scores: &Scores<'_>,
    running: &mut Running<'_>,
    weights: &mut [u32],
) -> OfQueries {
    match scores.vectors {
        1 => weigh_vectors::<1>(l, scores, running, weights),
        2 => weigh_vectors::<2>(l, scores, running, weights),
        3 => weigh_vectors::<3>(l, scores, running, weights),
        _ => weigh_vectors::<4>(l, scores, running, weights),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
fn weigh_vectors<const N: usize>(
    l: Avx512,
    scores: &Scores<'_>,
    running: &mut Running<'_>,
    weights: &mut [u32],
) -> OfQueries {
    if scores.queries <= FEW {
        return weigh_few::<N>(l, scores, running, weights);
    }
    let (zero, least) = (l.splat(0.0), l.splat(f32::NEG_INFINITY));
    let scale = l.splat(scores.scale);
    let mut rows = [least; LANES];
    for (r, row) in rows.iter_mut().enumerate().take(scores.queries) {
        for n in 0..N {
            let z = l.mul(scores.vector::<N>(l, (r, n)), scale);
            *row = l.max(*row, l.first(scores.lanes((r, n)), z, least));
        }
    }
    let mut fresh = least;
    for column in l.transpose(rows) {
        fresh = l.max(fresh, column);
    }
    let before = l.load(running.largest);
    let now = l.max(fresh, before);
    l.store(now, running.largest);
    // Before the first key both are -infinity: their difference is no number and the maximum takes
    // the other; the factor is then of sums that are 0.
    let factors = exp(l, l.max(l.sub(before, now), l.splat(-120.0)));
    rows = [zero; LANES];
    for (r, row) in rows.iter_mut().enumerate().take(scores.queries) {
        let shift = l.splat(running.largest[r]);
        let mut e = [zero; MOST_VECTORS];
        for (n, e) in e.iter_mut().enumerate().take(N) {
            let z = l.mul(scores.vector::<N>(l, (r, n)), scale);
            *e = l.first(scores.lanes((r, n)), exp(l, l.sub(z, shift)), zero);
            *row = l.add(*row, *e);
        }
        store_along::<N>(&e, weights, r);
    }
    let mut total = l.mul(l.load(running.totals), factors);
    for column in l.transpose(rows) {
        total = l.add(total, column);
    }
    l.store(total, running.totals);
    let mut by_query = [0.0; LANES];
    l.store(factors, &mut by_query);
    by_query
}

/// Queries up to which no lanes are gained by taking all of a block together.
const FEW: usize = 4;

/// The same numbers, query by query.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
fn weigh_few<const N: usize>(
    l: Avx512,
    scores: &Scores<'_>,
    running: &mut Running<'_>,
    weights: &mut [u32],
) -> OfQueries {
    let (zero, least) = (l.splat(0.0), l.splat(f32::NEG_INFINITY));
    let scale = l.splat(scores.scale);
    let mut factors = [0.0; LANES];
    for (r, factor) in factors.iter_mut().enumerate().take(scores.queries) {
        let mut z = [least; MOST_VECTORS];
        let mut fresh = least;
        for (n, z) in z.iter_mut().enumerate().take(N) {
            *z = l.mul(scores.vector::<N>(l, (r, n)), scale);
            fresh = l.max(fresh, l.first(scores.lanes((r, n)), *z, least));
        }
        let before = running.largest[r];
        let now = l.largest(fresh).max(before);
        running.largest[r] = now;
        let change = l.max(l.splat(before - now), l.splat(-120.0));
        let mut change_of = [0.0; LANES];
        l.store(exp(l, change), &mut change_of);
        *factor = change_of[0];
        let mut sum = zero;
        let mut e = [zero; MOST_VECTORS];
        for (n, (e, z)) in e.iter_mut().zip(z).enumerate().take(N) {
            let shifted = exp(l, l.sub(z, l.splat(now)));
            *e = l.first(scores.lanes((r, n)), shifted, zero);
            sum = l.add(sum, *e);
        }
        store_along::<N>(&e, weights, r);
        let mut lanes = [0.0; LANES];
        l.store(sum, &mut lanes);
        let begin = running.totals[r] * *factor;
        running.totals[r] = lanes.iter().fold(begin, |total, e| total + e);
    }
    factors
}

/// A query's numbers as a row of left tiles: pairs of neighbouring keys.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn store_along<const N: usize>(of_keys: &[__m512; MOST_VECTORS], tiles: &mut [u32], query: usize) {
    for step in 0..N.div_ceil(2) {
        let pairs = _mm512_cvtne2ps_pbh(of_keys[2 * step + 1], of_keys[2 * step]);
        store(tiles, step * TILE_WORDS + query * LANES, words(pairs));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn words(pairs: __m512bh) -> __m512i {
    // SAFETY: both are 512 bits; the vector types differ in name only.
    unsafe { transmute::<__m512bh, __m512i>(pairs) }
}

/// What the slopes of a block are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slopes<'a> {
    /// Of queries with keys.
    pub(crate) scores: Scores<'a>,
    /// Of dy with values, in rows as the scores'.
    pub(crate) pulls: &'a [f32],
    /// ln sum e^score of each query.
    pub(crate) log_sums: &'a OfQueries,
    /// dy · output of each query.
    pub(crate) means: &'a OfQueries,
}

/// Where weights and slopes go as right panels, whose reduction runs over queries.
#[derive(Debug)]
pub(crate) struct Panels<'a> {
    /// Weights, pairs of queries by keys.
    pub(crate) weights: &'a mut [u32],
    /// Slopes, likewise.
    pub(crate) slopes: &'a mut [u32],
    /// Words from a panel of sixteen keys to the next.
    pub(crate) panel: usize,
    /// Word of a panel that the block begins at.
    pub(crate) at: usize,
}

/// p = e^(score - log sum) and ds = scale p (pull - mean), both 0 for keys not seen: in panels over
/// queries, and ds as left tiles too.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(crate) fn slopes(l: Avx512, given: &Slopes<'_>, tiles: &mut [u32], panels: &mut Panels<'_>) {
    match given.scores.vectors {
        1 => slope_vectors::<1>(l, given, tiles, panels),
        2 => slope_vectors::<2>(l, given, tiles, panels),
        3 => slope_vectors::<3>(l, given, tiles, panels),
        _ => slope_vectors::<4>(l, given, tiles, panels),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
fn slope_vectors<const N: usize>(
    l: Avx512,
    given: &Slopes<'_>,
    tiles: &mut [u32],
    panels: &mut Panels<'_>,
) {
    let zero = l.splat(0.0);
    let scale = l.splat(given.scores.scale);
    let order = index(&INTERLEAVE);
    for pair in 0..LANES / 2 {
        let mut p = [[zero; MOST_VECTORS]; 2];
        let mut ds = [[zero; MOST_VECTORS]; 2];
        for half in 0..2 {
            let r = 2 * pair + half;
            let (log_sum, mean) = (l.splat(given.log_sums[r]), l.splat(given.means[r]));
            for n in 0..N {
                let lanes = given.scores.lanes((r, n));
                let z = l.mul(given.scores.vector::<N>(l, (r, n)), scale);
                let e = exp(l, l.sub(z, log_sum));
                let pull = load(l, given.pulls, (r * N + n) * LANES);
                p[half][n] = l.first(lanes, e, zero);
                let slope = l.mul(l.mul(e, scale), l.sub(pull, mean));
                ds[half][n] = l.first(lanes, slope, zero);
            }
            store_along::<N>(&ds[half], tiles, r);
        }
        for n in 0..N {
            let at = n * panels.panel + panels.at + pair * LANES;
            store(panels.weights, at, across(order, p[0][n], p[1][n]));
            store(panels.slopes, at, across(order, ds[0][n], ds[1][n]));
        }
    }
}

/// Pairs of two queries' numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn across(order: __m512i, first: __m512, second: __m512) -> __m512i {
    _mm512_permutexvar_epi16(order, words(_mm512_cvtne2ps_pbh(second, first)))
}

/// Columns of keys or values, wherever their rows are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gathered<'a, T> {
    pub(crate) values: &'a [T],
    /// Which rows.
    pub(crate) rows: &'a [usize],
    /// Numbers from a row to the next.
    pub(crate) stride: usize,
    /// The first number of row 0.
    pub(crate) first: usize,
    /// Columns of a row.
    pub(crate) width: usize,
}

impl<T> Gathered<'_, T> {
    /// The numbers of row `row` of all.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> &[T] {
        let start = row * self.stride + self.first;
        &self.values[start..start + self.width]
    }
}

impl<T: Packable> Gathered<'_, T> {
    /// Numbers `column..column + 16` of a row, none past its end or the last row.
    #[inline]
    fn run(&self, row: usize, column: usize) -> (*const T, __mmask16) {
        let Some(row) = self.rows.get(row) else {
            return (self.values.as_ptr(), 0);
        };
        let row = &self.row(*row)[column.min(self.width)..];
        let is_whole = row.len() >= LANES;
        (
            row.as_ptr(),
            if is_whole { !0 } else { (1 << row.len()) - 1 },
        )
    }

    /// Whether all rows have sixteen numbers from `column` on.
    const fn has_vector(&self, column: usize) -> bool {
        column + LANES <= self.width
    }

    /// Those.
    #[inline]
    fn vector(&self, row: usize, column: usize) -> *const T {
        let start = self.rows[row] * self.stride + self.first + column;
        let vector: &[T] = &self.values[start..start + LANES];
        vector.as_ptr()
    }
}

/// Keys in their two parts, of which the first is whole vectors wide or the second has no columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyRows<'a, T>(pub(crate) [Gathered<'a, T>; 2]);

impl<T: Packable> KeyRows<'_, T> {
    /// The part that has sixteen columns from `column` on, and which of its columns they are.
    fn part(&self, column: usize) -> (&Gathered<'_, T>, usize) {
        let [own, shared] = &self.0;
        match column.checked_sub(own.width) {
            Some(column) if shared.width > 0 => (shared, column),
            _ => (own, column),
        }
    }
}

/// Columns of rows of 8 bits, opened to bf16: into rows of `padded` numbers, from `offset` on, zeros
/// after them up to the next 32. Gives up where sixteen of them are not of one group.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) fn open_columns(
    l: Avx512,
    (stored, rows): (EightBits<'_>, &[usize]),
    columns: &Range<usize>,
    (out, padded, offset): (&mut [bf16], usize, usize),
) -> Option<()> {
    for column in columns.clone().step_by(DEPTH) {
        let low_at = stored.rows.run_at(column)?;
        let high = column + LANES;
        let high_at = if high < columns.end {
            Some(stored.rows.run_at(high)?)
        } else {
            None
        };
        let first = offset + column - columns.start;
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(padded)) {
            let row = stored.row(*row);
            let high = high_at.map_or(l.splat(0.0), |at| open_run(l, row, (high, at)));
            let low = open_run(l, row, (column, low_at));
            let place: &mut [bf16] = &mut out[first..first + DEPTH];
            let pairs = words(_mm512_cvtne2ps_pbh(high, low));
            // SAFETY: the slice holds exactly 32 numbers of 16 bits.
            unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), pairs) };
        }
    }
    Some(())
}

/// Sixteen numbers of a row: where their levels and their scale lie.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn open_run(l: Avx512, row: &[u8], (levels, scale): (usize, usize)) -> __m512 {
    let levels: &[u8] = &row[levels..levels + LANES];
    // SAFETY: the slice holds exactly sixteen bytes.
    let levels = unsafe { _mm_loadu_si128(levels.as_ptr().cast()) };
    let scale = u16::from_le_bytes([row[scale], row[scale + 1]]);
    let scale = l.splat(f32::from_bits(u32::from(scale) << 16));
    l.mul(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(levels)), scale)
}

/// Keys to panels of sixteen, pairs along the columns; the reduction is `steps` tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) fn keys_to_panels<T: Packable>(
    _proof: Avx512,
    keys: &KeyRows<'_, T>,
    steps: usize,
    out: &mut [u32],
) {
    let n_keys = keys.0[0].rows.len();
    for step in 0..steps {
        let (low, low_column) = keys.part(step * DEPTH);
        let (high, high_column) = keys.part(step * DEPTH + LANES);
        let is_whole = low.has_vector(low_column) && high.has_vector(high_column);
        for panel in 0..n_keys.div_ceil(LANES) {
            let mut tile = [_mm512_setzero_si512(); LANES];
            for (vector, key) in tile.iter_mut().zip(panel * LANES..n_keys) {
                // SAFETY: vectors and runs end with their rows.
                *vector = unsafe {
                    if is_whole {
                        let first = low.vector(key, low_column);
                        T::halves((first, !0), (high.vector(key, high_column), !0))
                    } else {
                        let first = low.run(key, low_column);
                        T::halves(first, high.run(key, high_column))
                    }
                };
            }
            let at = (panel * steps + step) * TILE_WORDS;
            store_tile(&transposed(&tile), out, at);
        }
    }
}

/// Values to panels of sixteen columns, pairs of rows: the rows are the reduction, zeros up to whole
/// steps; a panel is `panel` words.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) fn values_to_panels<T: Packable>(
    _proof: Avx512,
    values: &Gathered<'_, T>,
    panel: usize,
    out: &mut [u32],
) {
    let order = index(&INTERLEAVE);
    let n_rows = values.rows.len();
    for row in (0..n_rows.next_multiple_of(DEPTH)).step_by(2) {
        let at = row / DEPTH * TILE_WORDS + row % DEPTH / 2 * LANES;
        for block in 0..values.width.div_ceil(LANES) {
            let column = block * LANES;
            // SAFETY: vectors and runs end with their rows.
            let halves = unsafe {
                if row + 1 < n_rows && values.has_vector(column) {
                    let first = values.vector(row, column);
                    T::halves((first, !0), (values.vector(row + 1, column), !0))
                } else {
                    let first = values.run(row, column);
                    T::halves(first, values.run(row + 1, column))
                }
            };
            let pairs = _mm512_permutexvar_epi16(order, halves);
            store(out, block * panel + at, pairs);
        }
    }
}
