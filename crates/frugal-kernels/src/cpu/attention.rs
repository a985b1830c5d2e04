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
//! Where products are rounded to bf16 and there are tile registers, the units run on those instead:
//! `attention_amx`. Meaning: `frugal_core::ops::attention`. Backward: [`super::attention_backward`].
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "`check::attention` holds every part inside its row and every page inside the store; \
              inner functions melt into the kernel; loops over registers are by number"
)]

use std::ops::Range;

use frugal_core::backend::{Attention, AttentionSaved, Context, Keys};
use frugal_core::error::Result;
use frugal_core::ops::check::{self, AttentionDims, KeyShapes};
use frugal_core::shape::Shape;

#[cfg(target_arch = "x86_64")]
use super::amx::Tiles;
#[cfg(target_arch = "x86_64")]
use super::attention_amx;
use super::attention_tiles::{
    Operands, PaddedRows, ROWS, Reach, RowsAt, Source, TILE, Tile, Unit, carve, copy_part,
    padded_starts, products, tensors, transpose_part, weighted_rows,
};
use super::backend::Cpu;
use super::pool::DisjointMut;
use super::tensor::Tensor;
use super::vector::{Lanes, Level, WIDTH, exp, kernel};

/// Tasks that the units are dealt into at most.
const MOST_TASKS: usize = 64;
/// Query rows of a sequence from which on heads with common keys are separate units: the
/// transposition is then cheap beside the products, and the state of a unit stays small.
const SEPARATE_ROWS: usize = 16;
/// Short sequences for each thread from which on there is work enough without cutting them by heads.
const SEQUENCES_A_THREAD: usize = 4;

/// What a unit's queries have made of the keys so far.
pub(super) struct State<'a> {
    /// Output sums, a padded row for each query.
    pub(super) sums: &'a mut [f32],
    /// Largest score.
    pub(super) largest: &'a mut [f32],
    /// Sum of e^(score - largest).
    pub(super) totals: &'a mut [f32],
}

impl<'a> State<'a> {
    /// Before the first key.
    pub(super) fn begin(
        sums: &'a mut [f32],
        largest: &'a mut [f32],
        totals: &'a mut [f32],
    ) -> Self {
        sums.fill(0.0);
        largest.fill(f32::NEG_INFINITY);
        totals.fill(0.0);
        Self {
            sums,
            largest,
            totals,
        }
    }
}

/// Memory of a unit.
struct Desk<'a> {
    /// Transposed keys, a row of [`TILE`] for each column.
    keys: &'a mut [[f32; TILE]],
    state: State<'a>,
}

impl<'a> Desk<'a> {
    fn sizes(operands: &Operands<'_>, n_queries: usize) -> [usize; 4] {
        let padded = operands.value_padded();
        // A last block that is not full computes its last query several times.
        let room = n_queries + ROWS - 1;
        [operands.dims.q_width * TILE, room * padded, room, room]
    }

    fn new(memory: &'a mut [f32], operands: &Operands<'_>, n_queries: usize) -> Self {
        let [keys, sums, largest, totals] = carve(memory, Self::sizes(operands, n_queries));
        let (keys, _) = keys.as_chunks_mut::<TILE>();
        Self {
            keys,
            state: State::begin(sums, largest, totals),
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
    (tile, index): (&Tile, usize),
    desk: &mut Desk<'_>,
    weights: &mut Weights<R>,
) {
    let mut queries: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        let query = (index + r).min(unit.n_queries() - 1);
        let (row, head) = unit.query(query);
        queries[r] = operands.query(row, head);
        weights.seen[r] = (unit.seen(query) - tile.start).min(tile.len);
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
        let before = desk.state.largest[index + r];
        let now = before.max(l.largest(largest));
        desk.state.largest[index + r] = now;
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
        let total = &mut desk.state.totals[index + r];
        *total = *total * weights.factors[r] + fresh[r];
    }
}

kernel! {
    /// Lets R queries from `index` on meet a tile.
    fn meet<L, const R: usize>(l, at: (&Operands<'_>, &Unit<'_>), tile: (&Tile, RowsAt<'_>), index: usize, desk: &mut Desk<'_>) {
        let (tile, values) = tile;
        let mut weights = Weights { p: [[0.0; TILE]; R], seen: [0; R], factors: [1.0; WIDTH] };
        let place = (tile, index);
        let last = (index + R).min(at.1.n_queries()) - 1;
        let most = (at.1.seen(last) - tile.start).min(tile.len);
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
                1 => add_values::<L, R, 1>(l, place, &weights, values, desk),
                2 => add_values::<L, R, 2>(l, place, &weights, values, desk),
                3 => add_values::<L, R, 3>(l, place, &weights, values, desk),
                _ => add_values::<L, R, 4>(l, place, &weights, values, desk),
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
    values: RowsAt<'_>,
    desk: &mut Desk<'_>,
) {
    let Weights { p, seen, factors } = weights;
    let mut sums = [[l.splat(0.0); N]; R];
    for r in 0..R {
        let start = (index + r) * padded + from;
        let (parts, _) = desk.state.sums[start..start + N * WIDTH].as_chunks::<WIDTH>();
        let factor = l.splat(factors[r]);
        for n in 0..N {
            sums[r][n] = l.mul(l.load(&parts[n]), factor);
        }
    }
    // Keys that all R see, then those that only the later ones do: a key that a query does not see
    // must not reach it even with weight 0, which times infinity is no number.
    let values = (values, from);
    let shared = seen[0];
    weighted_rows(l, p.each_ref(), values, 0..shared, &mut sums);
    for r in 1..R {
        let mut own = [sums[r]];
        weighted_rows(l, [&p[r]], values, shared..seen[r], &mut own);
        sums[r] = own[0];
    }
    for r in 0..R {
        let start = (index + r) * padded + from;
        let (parts, _) = desk.state.sums[start..start + N * WIDTH].as_chunks_mut::<WIDTH>();
        for n in 0..N {
            l.store(sums[r][n], &mut parts[n]);
        }
    }
}

/// Where results go: columns of a unit's heads in a unit's rows.
pub(super) struct Results<'a> {
    output: DisjointMut<'a, f32>,
    log_sum: Option<DisjointMut<'a, f32>>,
}

kernel! {
    fn attend<L>(l, operands: &Operands<'_>, unit: &Unit<'_>, memory: &mut [f32], results: &Results<'_>) {
        let n_queries = unit.n_queries();
        let AttentionDims { key: [own, shared], value, .. } = operands.dims;
        let padded = operands.value_padded();
        let (copies, memory) = memory.split_at_mut(padded * TILE);
        let mut desk = Desk::new(memory, operands, n_queries);
        let (level, head) = (l.level(), unit.heads.start);
        // A few queries read the values where they lie; more of them share a copy.
        let in_place = match operands.part(value).source {
            Source::F32(values) if n_queries <= ROWS && value.width == padded => Some(values),
            _ => None,
        };
        for tile in unit.tiles() {
            let (own_columns, shared_columns) = desk.keys.split_at_mut(own.width);
            transpose_part(level, operands.part(own), head, &tile, own_columns);
            transpose_part(level, operands.part(shared), head, &tile, shared_columns);
            let starts = if in_place.is_some() {
                tile.starts(value, head)
            } else {
                let values = PaddedRows { values: copies, padded, offset: 0 };
                copy_part(level, operands.part(value), head, &tile, values);
                padded_starts(padded)
            };
            let values = RowsAt { values: in_place.unwrap_or(copies), starts: &starts };
            let (at, with) = ((operands, unit), (&tile, values));
            let mut index = tile.first_query;
            while !L::IS_NARROW && index + 1 < n_queries {
                meet::<ROWS>(level, at, with, index, &mut desk);
                index += ROWS;
            }
            while index < n_queries {
                meet::<1>(level, at, with, index, &mut desk);
                index += 1;
            }
        }
        finish(level, operands, unit, (&desk.state, 0), results);
    }
}

kernel! {
    /// Divides by the totals and writes the rows out; the state's queries begin at its number.
    pub(super) fn finish<L>(l, operands: &Operands<'_>, unit: &Unit<'_>, state: (&State<'_>, usize), results: &Results<'_>) {
        let (state, base) = state;
        let AttentionDims { n_heads, value_width, .. } = operands.dims;
        let padded = operands.value_padded();
        for index in 0..unit.n_queries() {
            let (row, head) = unit.query(index);
            let total = state.totals[base + index];
            let slot = row * n_heads + head;
            let range = slot * value_width..(slot + 1) * value_width;
            // SAFETY: units share no pair of row and head, and a pair's results are its own.
            let output = unsafe { results.output.slice(range) };
            // No key: the sums are zeros, and so is the result.
            let inverse = l.splat(if total == 0.0 { 0.0 } else { 1.0 / total });
            let sums = &state.sums[(base + index) * padded..][..padded];
            for (to, from) in output.chunks_mut(WIDTH).zip(sums.chunks_exact(WIDTH)) {
                l.store_part(l.mul(l.load_part(from), inverse), to);
            }
            if let Some(log_sum) = &results.log_sum {
                // SAFETY: as above.
                let place = unsafe { log_sum.slice(slot..slot + 1) };
                place.fill(state.largest[base + index] + total.ln());
            }
        }
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
    // A sequence's keys are fetched once where one thread serves all its heads.
    let is_short = longest < SEPARATE_ROWS;
    let together = if is_short && sequences.len() >= SEQUENCES_A_THREAD * cpu.threads() {
        groups
    } else {
        1
    };
    let kind = Kind::of(cpu);
    let needed = kind.needed(operands, longest * heads, together);
    let parts = groups / together.max(1);
    deal(cpu, sequences.len() * parts, |items| {
        let [mut words, mut numbers] = needed.map(|len| cpu.memory.take_f32(len));
        let session = kind.begin(longest * heads);
        let unit = |item: usize, group: usize| {
            let (sequence, part) = (item / parts, item % parts);
            let rows = sequences[sequence].clone();
            let group = part * together + group;
            let heads = group * heads..(group + 1) * heads;
            match attention.context {
                Context::Packed => Unit::packed(rows, heads),
                Context::Paged(pages) => Unit::paged(rows, heads, pages, sequence),
            }
        };
        let mut units = Vec::with_capacity(together);
        for item in items.clone() {
            units.clear();
            units.extend((0..together).map(|group| unit(item, group)));
            let is_next_near = is_short && item + 1 < items.end;
            let following = is_next_near.then(|| unit(item + 1, 0));
            let memory = (words.u32s_mut(), numbers.f32s_mut());
            let at = (operands, &*units, following.as_ref());
            session.attend(cpu.level, at, memory, results);
        }
    });
}

/// Which kernels a back-end's attention runs on.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Vectors,
    #[cfg(target_arch = "x86_64")]
    Tiles(attention_amx::Machine),
}

impl Kind {
    pub(super) fn of(cpu: &Cpu) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(machine) = attention_amx::Machine::of(cpu) {
            return Self::Tiles(machine);
        }
        debug_assert!(cpu.threads() > 0);
        Self::Vectors
    }

    /// Memory of units that go together: words and numbers.
    fn needed(self, operands: &Operands<'_>, n_queries: usize, n_units: usize) -> [usize; 2] {
        match self {
            Self::Vectors => {
                let desk = Desk::sizes(operands, n_queries).iter().sum::<usize>();
                [0, operands.value_padded() * TILE + desk]
            }
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(_) => attention_amx::needed(operands, n_queries, n_units),
        }
    }

    /// Ready on this thread, for units of up to `queries` query rows.
    pub(super) fn begin(self, queries: usize) -> Session {
        match self {
            Self::Vectors => Session::Vectors,
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(machine) => {
                Session::Tiles(machine, Tiles::load_for(machine.features, queries))
            }
        }
    }
}

/// [`Kind`] on a thread.
pub(super) enum Session {
    Vectors,
    #[cfg(target_arch = "x86_64")]
    Tiles(attention_amx::Machine, Tiles),
}

impl Session {
    fn attend(
        &self,
        level: Level,
        (operands, units, following): (&Operands<'_>, &[Unit<'_>], Option<&Unit<'_>>),
        (words, numbers): (&mut [u32], &mut [f32]),
        results: &Results<'_>,
    ) {
        match self {
            Self::Vectors => {
                for (i, unit) in units.iter().enumerate() {
                    if let Some(next) = units.get(i + 1).or(following) {
                        let reach = Reach::new(operands, next.heads.clone());
                        next.tiles().for_each(|tile| reach.prefetch(&tile, (0, 1)));
                    }
                    attend(level, operands, unit, numbers, results);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(machine, tiles) => {
                let memory = (words, numbers);
                let at = (operands, units, following);
                attention_amx::attend((*machine, tiles), at, memory, results);
            }
        }
    }
}

/// Whether keys and values are rounded to bf16 before they are multiplied.
pub(super) fn rounds_keys(cpu: &Cpu) -> bool {
    !matches!(Kind::of(cpu), Kind::Vectors)
}

pub(super) fn attention(
    cpu: &Cpu,
    q: &Tensor,
    keys: Keys<'_, Tensor>,
    attention: &Attention<'_>,
) -> Result<Tensor> {
    let dims = check::attention(q.shape(), KeyShapes::of(keys, Tensor::shape), attention)?;
    forward(cpu, q, keys, attention, (dims, None))
}

pub(super) fn attention_saved(
    cpu: &Cpu,
    q: &Tensor,
    keys: Keys<'_, Tensor>,
    attention: &Attention<'_>,
) -> Result<AttentionSaved<Tensor>> {
    let dims = check::attention_saved(q.shape(), KeyShapes::of(keys, Tensor::shape), attention)?;
    let mut log_sum = cpu.blank(Shape::matrix(dims.rows, dims.n_heads))?;
    let output = forward(cpu, q, keys, attention, (dims, Some(log_sum.values())))?;
    let log_sum = log_sum.done();
    Ok(AttentionSaved { output, log_sum })
}

/// The output; the log-sums go where they are kept.
fn forward(
    cpu: &Cpu,
    q: &Tensor,
    keys: Keys<'_, Tensor>,
    attention: &Attention<'_>,
    (dims, log_sum): (AttentionDims, Option<&mut [f32]>),
) -> Result<Tensor> {
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
    cpu.produce(output, |output| {
        let results = Results {
            output: DisjointMut::new(output),
            log_sum: log_sum.map(DisjointMut::new),
        };
        run(cpu, &operands, attention, &results);
    })
}
