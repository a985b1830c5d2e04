//! Causal attention over ragged sequences, forward.
//!
//! Work is cut into units: one sequence and the heads that share keys. A unit walks over its keys in
//! tiles of 64; a tile's keys are transposed once (lanes are keys, so a score is a sum in column
//! order) and met by all query rows of the unit, four at a time, with a running maximum and sum
//! (online softmax), so that no more than 4 x 64 scores exist at once.
//!
//! What one query row of one head computes depends on its own keys alone: the same tiles, the same
//! order within a tile, neighbours in a block adding nothing but exact zeros. A row therefore has
//! the same bits in training, in prefill and alone in decode, with keys packed or in pages.
//!
//! Meaning: `frugal_core::ops::attention`. Backward: [`super::attention_backward`].
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "`check::attention` holds every part inside its row and every page inside the store; \
              inner functions melt into the kernel; loops over registers are by number"
)]

use std::ops::Range;

use frugal_core::backend::{Attention, AttentionSaved, Context, Keys, Pages};
use frugal_core::error::Result;
use frugal_core::ops::check::{self, AttentionDims, KeyPart, KeyShapes, KeyTensor};
use frugal_core::shape::Shape;
use half::bf16;

use super::backend::Cpu;
use super::pool::DisjointMut;
use super::tensor::{Tensor, widen};
use super::vector::{Lanes, WIDTH, exp, kernel};

/// Keys of a tile: four vectors, so that four rows keep their scores in sixteen registers.
pub(super) const TILE: usize = 64;
/// Query rows that meet a tile together.
pub(super) const ROWS: usize = 4;
/// Tasks that the units are dealt into at most.
const MOST_TASKS: usize = 64;
/// Query rows of a sequence from which on heads with common keys are separate units: the
/// transposition is then cheap beside the products, and the state of a unit stays small.
const SEPARATE_ROWS: usize = 16;

/// Numbers of a key tensor as they are stored.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

impl<'a> Source<'a> {
    pub(super) fn of(tensor: &'a Tensor) -> Self {
        match (tensor.stored_f32(), tensor.stored_bf16()) {
            (Some(values), _) => Self::F32(values),
            (None, Some(values)) => Self::Bf16(values),
            (None, None) => Self::F32(&[]),
        }
    }

    /// Up to sixteen numbers.
    #[inline(always)]
    fn load<L: Lanes>(self, l: L, range: Range<usize>) -> L::V {
        match self {
            Self::F32(values) => l.load_part(&values[range]),
            Self::Bf16(values) => {
                let mut wide = [0.0; WIDTH];
                widen(&values[range], &mut wide);
                l.load(&wide)
            }
        }
    }
}

/// Which rows of the key tensors a sequence's keys are.
#[derive(Clone, Copy)]
enum Places<'a> {
    From(usize),
    Paged { table: &'a [u32], page_rows: usize },
}

impl Places<'_> {
    #[inline(always)]
    fn row(self, key: usize) -> usize {
        match self {
            Self::From(start) => start + key,
            Self::Paged { table, page_rows } => {
                table[key / page_rows] as usize * page_rows + key % page_rows
            }
        }
    }
}

/// What all units read.
pub(super) struct Operands<'a> {
    pub(super) q: &'a [f32],
    pub(super) first: Source<'a>,
    pub(super) second: Source<'a>,
    pub(super) dims: AttentionDims,
    pub(super) scale: f32,
}

impl Operands<'_> {
    pub(super) fn part(&self, part: KeyPart) -> Part<'_> {
        let source = match part.tensor {
            KeyTensor::First => self.first,
            KeyTensor::Second => self.second,
        };
        Part { source, part }
    }

    /// One head of one row of q.
    #[inline(always)]
    pub(super) fn query(&self, row: usize, head: usize) -> &[f32] {
        let width = self.dims.q_width;
        let start = (row * self.dims.n_heads + head) * width;
        &self.q[start..start + width]
    }

    pub(super) fn value_padded(&self) -> usize {
        self.dims.value_width.next_multiple_of(WIDTH)
    }
}

/// One sequence and heads that share keys. Its queries are numbered row by row, head by head.
pub(super) struct Unit<'a> {
    pub(super) rows: Range<usize>,
    pub(super) heads: Range<usize>,
    places: Places<'a>,
    n_keys: usize,
}

impl<'a> Unit<'a> {
    /// The unit of a packed sequence.
    pub(super) fn packed(rows: Range<usize>, heads: Range<usize>) -> Self {
        Self {
            places: Places::From(rows.start),
            n_keys: rows.len(),
            rows,
            heads,
        }
    }

    fn paged(rows: Range<usize>, heads: Range<usize>, pages: &'a Pages, sequence: usize) -> Self {
        Self {
            places: Places::Paged {
                table: &pages.tables[sequence],
                page_rows: pages.page_rows,
            },
            n_keys: if rows.is_empty() {
                0
            } else {
                pages.lengths[sequence] as usize
            },
            rows,
            heads,
        }
    }

    pub(super) fn n_queries(&self) -> usize {
        self.rows.len() * self.heads.len()
    }

    /// Row and head of a query.
    #[inline(always)]
    pub(super) fn query(&self, index: usize) -> (usize, usize) {
        let heads = self.heads.len();
        (
            self.rows.start + index / heads,
            self.heads.start + index % heads,
        )
    }

    /// Keys that a query sees: the last row all of them, the one before one less.
    #[inline(always)]
    pub(super) fn seen(&self, index: usize) -> usize {
        let row = index / self.heads.len();
        self.n_keys.saturating_sub(self.rows.len() - 1 - row)
    }

    /// The tiles of its keys.
    pub(super) fn tiles(&self) -> impl Iterator<Item = Tile> + use<> {
        let n_keys = self.n_keys;
        let (n_rows, n_heads) = (self.rows.len(), self.heads.len());
        (0..n_keys.div_ceil(TILE)).map(move |i| Tile {
            start: i * TILE,
            len: TILE.min(n_keys - i * TILE),
            first_query: (i * TILE + n_rows).saturating_sub(n_keys) * n_heads,
        })
    }
}

/// A run of keys.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) start: usize,
    pub(super) len: usize,
    /// The first query that sees any of them.
    pub(super) first_query: usize,
}

/// Cuts a block of memory into parts.
pub(super) fn carve<const N: usize>(memory: &mut [f32], sizes: [usize; N]) -> [&mut [f32]; N] {
    let mut rest = memory;
    sizes.map(|size| {
        let (part, left) = std::mem::take(&mut rest).split_at_mut(size);
        rest = left;
        part
    })
}

/// A part of keys or values and where it is stored.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) source: Source<'a>,
    pub(super) part: KeyPart,
}

kernel! {
    /// Transposes the columns of one part of a tile: lanes become keys. `columns` has a row of
    /// [`TILE`] for each column; lanes beyond the tile are zeros.
    pub(super) fn transpose_part<L>(l, part: Part<'_>, unit: &Unit<'_>, tile: Tile, columns: &mut [[f32; TILE]]) {
        let Part { source, part } = part;
        let head = unit.heads.start;
        for lanes in 0..tile.len.div_ceil(WIDTH) {
            let from = lanes * WIDTH;
            let n_keys = WIDTH.min(tile.len - from);
            let mut starts = [0; WIDTH];
            for (i, start) in starts[..n_keys].iter_mut().enumerate() {
                *start = part.start(unit.places.row(tile.start + from + i), head);
            }
            let mut column = 0;
            while column < part.width {
                let width = WIDTH.min(part.width - column);
                let mut rows = [l.splat(0.0); WIDTH];
                for (row, start) in rows[..n_keys].iter_mut().zip(starts) {
                    *row = source.load(l, start + column..start + column + width);
                }
                let turned = l.transpose(rows);
                for (row, to) in turned.into_iter().zip(&mut columns[column..column + width]) {
                    let (parts, _) = to.as_chunks_mut::<WIDTH>();
                    l.store(row, &mut parts[lanes]);
                }
                column += WIDTH;
            }
        }
    }
}

/// Padded rows, one for each key of a tile, and the first column to write.
pub(super) struct PaddedRows<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) padded: usize,
    pub(super) offset: usize,
}

kernel! {
    /// Copies a part of a tile's rows; zeros follow the part up to the next sixteen.
    pub(super) fn copy_part<L>(l, part: Part<'_>, unit: &Unit<'_>, tile: Tile, to: PaddedRows<'_>) {
        let Part { source, part } = part;
        let PaddedRows { values, padded, offset } = to;
        for (key, row) in values.chunks_exact_mut(padded.max(1)).take(tile.len).enumerate() {
            let start = part.start(unit.places.row(tile.start + key), unit.heads.start);
            let mut column = 0;
            while column < part.width {
                let width = WIDTH.min(part.width - column);
                let values = source.load(l, start + column..start + column + width);
                let end = (offset + column + WIDTH).min(padded);
                l.store_part(values, &mut row[offset + column..end]);
                column += WIDTH;
            }
        }
    }
}

/// Products of R rows with N vectors of transposed keys: sums over columns in order.
#[inline(always)]
pub(super) fn products<L: Lanes, const R: usize, const N: usize>(
    l: L,
    rows: [&[f32]; R],
    columns: &[[f32; TILE]],
) -> [[L::V; N]; R] {
    let mut sums = [[l.splat(0.0); N]; R];
    let width = columns.len();
    let rows = rows.map(|row| &row[..width]);
    for (d, column) in columns.iter().enumerate() {
        let (parts, _) = column.as_chunks::<WIDTH>();
        let mut keys = [l.splat(0.0); N];
        for n in 0..N {
            keys[n] = l.load(&parts[n]);
        }
        for r in 0..R {
            let x = l.splat(rows[r][d]);
            for n in 0..N {
                sums[r][n] = l.mul_add(x, keys[n], sums[r][n]);
            }
        }
    }
    sums
}

/// sums[r] += factors[r][j] * rows[j] for j in `keys`, N vectors from column `from` on.
#[inline(always)]
pub(super) fn weighted_rows<L: Lanes, const R: usize, const N: usize>(
    l: L,
    factors: [&[f32; TILE]; R],
    (rows, padded, from): (&[f32], usize, usize),
    keys: Range<usize>,
    sums: &mut [[L::V; N]; R],
) {
    for j in keys {
        let start = j * padded + from;
        let (parts, _) = rows[start..start + N * WIDTH].as_chunks::<WIDTH>();
        let mut values = [l.splat(0.0); N];
        for n in 0..N {
            values[n] = l.load(&parts[n]);
        }
        for r in 0..R {
            let p = l.splat(factors[r][j]);
            for n in 0..N {
                sums[r][n] = l.mul_add(p, values[n], sums[r][n]);
            }
        }
    }
}

/// Memory of a unit.
struct Desk<'a> {
    /// Transposed keys, a row of [`TILE`] for each column.
    keys: &'a mut [[f32; TILE]],
    /// Values, padded rows.
    values: &'a mut [f32],
    /// Output sums so far, a padded row for each query.
    sums: &'a mut [f32],
    /// Largest score so far.
    largest: &'a mut [f32],
    /// Sum of e^(score - largest) so far.
    totals: &'a mut [f32],
}

impl<'a> Desk<'a> {
    fn sizes(operands: &Operands<'_>, n_queries: usize) -> [usize; 5] {
        let padded = operands.value_padded();
        [
            operands.dims.q_width * TILE,
            padded * TILE,
            n_queries * padded,
            n_queries,
            n_queries,
        ]
    }

    fn new(memory: &'a mut [f32], operands: &Operands<'_>, n_queries: usize) -> Self {
        let [keys, values, sums, largest, totals] = carve(memory, Self::sizes(operands, n_queries));
        sums.fill(0.0);
        largest.fill(f32::NEG_INFINITY);
        totals.fill(0.0);
        let (keys, _) = keys.as_chunks_mut::<TILE>();
        Self {
            keys,
            values,
            sums,
            largest,
            totals,
        }
    }
}

/// What a block of R queries made of a tile.
struct Weights<const R: usize> {
    /// e^(score - largest) of each key; 0 for those not seen.
    p: [[f32; TILE]; R],
    /// Keys of the tile that each query sees.
    seen: [usize; R],
    /// What earlier sums are multiplied by: the largest score may have grown.
    factors: [f32; WIDTH],
}

/// Scores of R queries from `index` on with N vectors of a tile's keys, turned into weights.
#[inline(always)]
fn weigh<L: Lanes, const R: usize, const N: usize>(
    l: L,
    (operands, unit): (&Operands<'_>, &Unit<'_>),
    (tile, index): (Tile, usize),
    desk: &mut Desk<'_>,
    weights: &mut Weights<R>,
) {
    let mut queries: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        let (row, head) = unit.query(index + r);
        queries[r] = operands.query(row, head);
        weights.seen[r] = (unit.seen(index + r) - tile.start).min(tile.len);
    }
    let scores = products::<L, R, N>(l, queries, desk.keys);
    let scale = l.splat(operands.scale);
    let minus_infinity = l.splat(f32::NEG_INFINITY);
    let mut changes = [0.0; WIDTH];
    let mut fresh = [0.0; R];
    for r in 0..R {
        let mut z = [minus_infinity; N];
        let mut largest = minus_infinity;
        for n in 0..N {
            let lanes = weights.seen[r].saturating_sub(n * WIDTH).min(WIDTH);
            z[n] = l.first(lanes, l.mul(scores[r][n], scale), minus_infinity);
            largest = l.max(largest, z[n]);
        }
        let before = desk.largest[index + r];
        let now = before.max(l.largest(largest));
        desk.largest[index + r] = now;
        changes[r] = before - now;
        let now = l.splat(now);
        let mut total = l.splat(0.0);
        let (parts, _) = weights.p[r].as_chunks_mut::<WIDTH>();
        for n in 0..N {
            let e = exp(l, l.sub(z[n], now));
            l.store(e, &mut parts[n]);
            total = l.add(total, e);
        }
        fresh[r] = l.sum(total);
    }
    if tile.start > 0 {
        l.store(exp(l, l.load(&changes)), &mut weights.factors);
    }
    for r in 0..R {
        let total = &mut desk.totals[index + r];
        *total = *total * weights.factors[r] + fresh[r];
    }
}

kernel! {
    /// Lets R queries from `index` on meet a tile.
    fn meet<L, const R: usize>(l, at: (&Operands<'_>, &Unit<'_>), tile: Tile, index: usize, desk: &mut Desk<'_>) {
        let mut weights = Weights { p: [[0.0; TILE]; R], seen: [0; R], factors: [1.0; WIDTH] };
        let place = (tile, index);
        let most = (at.1.seen(index + R - 1) - tile.start).min(tile.len);
        match most.div_ceil(WIDTH) {
            1 => weigh::<L, R, 1>(l, at, place, desk, &mut weights),
            2 => weigh::<L, R, 2>(l, at, place, desk, &mut weights),
            3 => weigh::<L, R, 3>(l, at, place, desk, &mut weights),
            _ => weigh::<L, R, 4>(l, at, place, desk, &mut weights),
        }
        let padded = at.0.value_padded();
        let mut from = 0;
        while from < padded {
            let place = (padded, from, index);
            match (padded - from) / WIDTH {
                1 => add_values::<L, R, 1>(l, place, &weights, desk),
                2 => add_values::<L, R, 2>(l, place, &weights, desk),
                3 => add_values::<L, R, 3>(l, place, &weights, desk),
                _ => add_values::<L, R, 4>(l, place, &weights, desk),
            }
            from += 4 * WIDTH;
        }
    }
}

/// sums = sums * factor + p V, for N vectors of columns from `from` on.
#[inline(always)]
fn add_values<L: Lanes, const R: usize, const N: usize>(
    l: L,
    (padded, from, index): (usize, usize, usize),
    weights: &Weights<R>,
    desk: &mut Desk<'_>,
) {
    let Weights { p, seen, factors } = weights;
    let mut sums = [[l.splat(0.0); N]; R];
    for r in 0..R {
        let start = (index + r) * padded + from;
        let (parts, _) = desk.sums[start..start + N * WIDTH].as_chunks::<WIDTH>();
        let factor = l.splat(factors[r]);
        for n in 0..N {
            sums[r][n] = l.mul(l.load(&parts[n]), factor);
        }
    }
    // Keys that all R see, then those that only the later ones do: a key that a query does not see
    // must not reach it even with weight 0, which times infinity is no number.
    let values = (&*desk.values, padded, from);
    let shared = seen[0];
    weighted_rows(l, p.each_ref(), values, 0..shared, &mut sums);
    for r in 1..R {
        let mut own = [sums[r]];
        weighted_rows(l, [&p[r]], values, shared..seen[r], &mut own);
        sums[r] = own[0];
    }
    for r in 0..R {
        let start = (index + r) * padded + from;
        let (parts, _) = desk.sums[start..start + N * WIDTH].as_chunks_mut::<WIDTH>();
        for n in 0..N {
            l.store(sums[r][n], &mut parts[n]);
        }
    }
}

/// Where results go: columns of a unit's heads in a unit's rows.
struct Results<'a> {
    output: DisjointMut<'a, f32>,
    log_sum: Option<DisjointMut<'a, f32>>,
}

kernel! {
    fn attend<L>(l, operands: &Operands<'_>, unit: &Unit<'_>, memory: &mut [f32], results: &Results<'_>) {
        let n_queries = unit.n_queries();
        let mut desk = Desk::new(memory, operands, n_queries);
        let AttentionDims { key: [own, shared], value, .. } = operands.dims;
        let padded = operands.value_padded();
        let level = l.level();
        for tile in unit.tiles() {
            let (own_columns, shared_columns) = desk.keys.split_at_mut(own.width);
            transpose_part(level, operands.part(own), unit, tile, own_columns);
            transpose_part(level, operands.part(shared), unit, tile, shared_columns);
            let values = PaddedRows { values: desk.values, padded, offset: 0 };
            copy_part(level, operands.part(value), unit, tile, values);
            let at = (operands, unit);
            let mut index = tile.first_query;
            while !L::IS_NARROW && index + ROWS <= n_queries {
                meet::<ROWS>(level, at, tile, index, &mut desk);
                index += ROWS;
            }
            while index < n_queries {
                meet::<1>(level, at, tile, index, &mut desk);
                index += 1;
            }
        }
        finish(l, (operands, unit), &desk, results);
    }
}

/// Divides by the totals and writes the rows out.
#[inline(always)]
fn finish<L: Lanes>(
    l: L,
    (operands, unit): (&Operands<'_>, &Unit<'_>),
    desk: &Desk<'_>,
    results: &Results<'_>,
) {
    let AttentionDims {
        n_heads,
        value_width,
        ..
    } = operands.dims;
    let padded = operands.value_padded();
    for index in 0..unit.n_queries() {
        let (row, head) = unit.query(index);
        let total = desk.totals[index];
        let slot = row * n_heads + head;
        // SAFETY: units share no pair of row and head, and a pair's results are its own.
        let output = unsafe {
            results
                .output
                .slice(slot * value_width..(slot + 1) * value_width)
        };
        // No key: the sums are zeros, and so is the result.
        let inverse = l.splat(if total == 0.0 { 0.0 } else { 1.0 / total });
        let sums = &desk.sums[index * padded..(index + 1) * padded];
        for (to, from) in output.chunks_mut(WIDTH).zip(sums.chunks_exact(WIDTH)) {
            l.store_part(l.mul(l.load_part(from), inverse), to);
        }
        if let Some(log_sum) = &results.log_sum {
            // SAFETY: as above.
            let place = unsafe { log_sum.slice(slot..slot + 1) };
            place.fill(desk.largest[index] + total.ln());
        }
    }
}

/// The two tensors of keys.
pub(super) fn tensors(keys: Keys<'_, Tensor>) -> (&Tensor, Option<&Tensor>) {
    match keys {
        Keys::Grouped { k, v, .. } => (k, Some(v)),
        Keys::Expanded { kv, k_rope, .. } => (kv, Some(k_rope)),
        Keys::Latent { latent, .. } => (latent, None),
    }
}

/// Deals `count` units out in runs.
pub(super) fn deal(cpu: &Cpu, count: usize, run: impl Fn(Range<usize>) + Sync) {
    let each = count.div_ceil(MOST_TASKS).max(1);
    cpu.pool.run(count.div_ceil(each), |i| {
        run(i * each..((i + 1) * each).min(count));
    });
}

/// Heads of a unit: those that share keys, unless there are rows enough to share among.
fn heads_of_a_unit(dims: &AttentionDims, longest: usize) -> usize {
    let is_common = dims.key[0].head_stride == 0 && dims.value.head_stride == 0;
    match (is_common, longest >= SEPARATE_ROWS) {
        (true, false) => dims.n_heads,
        (true, true) => 1,
        (false, _) => dims.key[0].group,
    }
}

fn run(cpu: &Cpu, operands: &Operands<'_>, attention: &Attention<'_>, results: &Results<'_>) {
    let sequences: Vec<Range<usize>> = attention.rows.ranges().collect();
    let longest = sequences.iter().map(Range::len).max().unwrap_or(0);
    let heads = heads_of_a_unit(&operands.dims, longest);
    let groups = operands.dims.n_heads / heads.max(1);
    let needed = Desk::sizes(operands, longest * heads).iter().sum();
    deal(cpu, sequences.len() * groups, |units| {
        let mut memory = cpu.memory.take_f32(needed);
        for index in units {
            let (sequence, group) = (index / groups, index % groups);
            let rows = sequences[sequence].clone();
            let heads = group * heads..(group + 1) * heads;
            let unit = match attention.context {
                Context::Packed => Unit::packed(rows, heads),
                Context::Paged(pages) => Unit::paged(rows, heads, pages, sequence),
            };
            attend(cpu.level, operands, &unit, memory.f32s_mut(), results);
        }
    });
}

pub(super) fn attention(
    cpu: &Cpu,
    q: &Tensor,
    keys: Keys<'_, Tensor>,
    attention: &Attention<'_>,
) -> Result<Tensor> {
    let dims = check::attention(q.shape(), KeyShapes::of(keys, Tensor::shape), attention)?;
    let (output, _) = forward(cpu, q, keys, attention, (dims, false))?;
    Ok(output)
}

pub(super) fn attention_saved(
    cpu: &Cpu,
    q: &Tensor,
    keys: Keys<'_, Tensor>,
    attention: &Attention<'_>,
) -> Result<AttentionSaved<Tensor>> {
    let dims = check::attention_saved(q.shape(), KeyShapes::of(keys, Tensor::shape), attention)?;
    let (output, log_sum) = forward(cpu, q, keys, attention, (dims, true))?;
    Ok(AttentionSaved { output, log_sum })
}

/// The output, and the log-sums where they are kept (an empty tensor where not).
fn forward(
    cpu: &Cpu,
    q: &Tensor,
    keys: Keys<'_, Tensor>,
    attention: &Attention<'_>,
    (dims, keeps): (AttentionDims, bool),
) -> Result<(Tensor, Tensor)> {
    let (first, second) = tensors(keys);
    first.expect_numbers("attention")?;
    if let Some(second) = second {
        second.expect_numbers("attention")?;
    }
    let q = q.floats("attention")?;
    let operands = Operands {
        q: &q,
        first: Source::of(first),
        second: second.map_or(Source::F32(&[]), Source::of),
        dims,
        scale: attention.scale,
    };
    let output = Shape::matrix(dims.rows, dims.n_heads * dims.value_width);
    let log_sum = Shape::matrix(dims.rows, if keeps { dims.n_heads } else { 0 });
    cpu.produce_pair([output, log_sum], |output, log_sum| {
        let results = Results {
            output: DisjointMut::new(output),
            log_sum: keeps.then(|| DisjointMut::new(log_sum)),
        };
        run(cpu, &operands, attention, &results);
    })
}
