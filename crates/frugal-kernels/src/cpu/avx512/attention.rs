//! The vector half of attention on tiles: scores to weights, and weights to slopes.
//!
//! A block is sixteen queries by up to four vectors of keys. Everything is done query by query, or
//! with a query a lane, so that a query's numbers do not depend on the others of its block.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_permutexvar_epi16, _mm512_setzero_si512,
};
use std::mem::transmute;

use super::pack::{INTERLEAVE, index, pairs_of, store, store_tile, transposed};
use crate::cpu::gemm::tile::{DEPTH, LANES, TILE_WORDS};
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
pub(crate) struct Gathered<'a> {
    pub(crate) values: &'a [f32],
    /// Where each row begins.
    pub(crate) starts: &'a [usize],
    /// Columns of a row.
    pub(crate) width: usize,
}

impl Gathered<'_> {
    /// Sixteen numbers from `column` on of the row at `start`, zeros past its end.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn vector(&self, l: Avx512, start: usize, column: usize) -> __m512 {
        if column >= self.width {
            return l.splat(0.0);
        }
        let row = &self.values[start + column..start + self.width];
        match row.first_chunk() {
            Some(all) => l.load(all),
            None => l.load_part(row),
        }
    }
}

/// Keys to panels of sixteen, pairs along the columns: the columns are the reduction's from step
/// `first` on of `steps`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) fn keys_to_panels(
    l: Avx512,
    keys: &Gathered<'_>,
    (first, steps): (usize, usize),
    out: &mut [u32],
) {
    for (panel, starts) in keys.starts.chunks(LANES).enumerate() {
        for step in 0..keys.width.div_ceil(DEPTH) {
            let column = step * DEPTH;
            let mut tile = [_mm512_setzero_si512(); LANES];
            for (vector, start) in tile.iter_mut().zip(starts) {
                let row = &keys.values[start + column..start + keys.width];
                *vector = match row.first_chunk() {
                    Some(numbers) => pairs_of(numbers),
                    None => words(_mm512_cvtne2ps_pbh(
                        keys.vector(l, *start, column + LANES),
                        keys.vector(l, *start, column),
                    )),
                };
            }
            let at = (panel * steps + first + step) * TILE_WORDS;
            store_tile(&transposed(&tile), out, at);
        }
    }
}

/// Values to panels of sixteen columns, pairs of rows: the rows are the reduction, zeros up to whole
/// steps; a panel is `panel` words.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) fn values_to_panels(l: Avx512, values: &Gathered<'_>, panel: usize, out: &mut [u32]) {
    let order = index(&INTERLEAVE);
    for pair in 0..values.starts.len().div_ceil(DEPTH) * LANES {
        let at = pair / LANES * TILE_WORDS + pair % LANES * LANES;
        for block in 0..values.width.div_ceil(LANES) {
            let row = |index: usize| match values.starts.get(index) {
                Some(start) => values.vector(l, *start, block * LANES),
                None => l.splat(0.0),
            };
            let pairs = across(order, row(2 * pair), row(2 * pair + 1));
            store(out, block * panel + at, pairs);
        }
    }
}
