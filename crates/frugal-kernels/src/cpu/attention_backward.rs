//! Backward of attention over packed sequences, with grouped or expanded keys.
//!
//! Units and tiles are those of the forward ([`super::attention`]). Probabilities are formed again
//! from the saved log-sums: p = e^(z - log_sum). With m = dy · output: ds = scale p (dy · v - m),
//! then dq += ds k, dk += ds q, dv += p dy. Sums run over queries in order within a tile and over
//! tiles in order, so gradients do not depend on the number of threads. Heads that share a key are
//! in one unit; the roped part that all heads share is summed by head first, then over heads.
//!
//! Units on tile registers: `attention_amx_backward`. Meaning: `frugal_core::ops::attention`.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "`check::attention_backward` holds every part inside its row; inner functions melt \
              into the kernel; loops over registers are by number"
)]

use std::ops::Range;

use frugal_core::backend::{Attention, AttentionGrads, AttentionSaved, Keys};
use frugal_core::error::Result;
use frugal_core::ops::check::{
    self, AttentionDims, AttentionGradShapes, KeyPart, KeyShapes, KeyTensor,
};
use frugal_core::shape::Shape;

use super::attention::{Kind, Session, deal};
#[cfg(target_arch = "x86_64")]
use super::attention_amx_backward;
use super::attention_tiles::{
    Operands, PaddedRows, ROWS, RowsAt, Source, TILE, Tile, Unit, carve, copy_part, padded_starts,
    products, tensors, transpose_part, weighted_rows,
};
use super::backend::Cpu;
use super::pool::DisjointMut;
use super::tensor::Tensor;
use super::vector::{Lanes, WIDTH, add_into, dot, exp, kernel};

/// What the backward reads beside the operands of the forward.
pub(super) struct Saved<'a> {
    pub(super) output: &'a [f32],
    pub(super) log_sum: &'a [f32],
    dy: &'a [f32],
}

/// Where gradients go. A part of the keys that all heads share has a column range for each head
/// here, to be summed afterwards.
pub(super) struct Gradients<'a> {
    q: DisjointMut<'a, f32>,
    first: DisjointMut<'a, f32>,
    second: DisjointMut<'a, f32>,
    /// The second key part by head, `[T, H * width]`.
    shared: DisjointMut<'a, f32>,
}

/// Memory of a unit.
struct Desk<'a> {
    /// Transposed keys and values of a tile.
    keys: &'a mut [[f32; TILE]],
    values: &'a mut [[f32; TILE]],
    /// Keys of a tile in padded rows.
    key_rows: &'a mut [f32],
    /// Gradients of a tile's keys and values, padded rows.
    d_keys: &'a mut [f32],
    d_values: &'a mut [f32],
    /// Gradient of each query so far, padded rows.
    d_queries: &'a mut [f32],
    /// dy · output of each query.
    means: &'a mut [f32],
}

impl<'a> Desk<'a> {
    fn sizes(operands: &Operands<'_>, n_queries: usize) -> [usize; 7] {
        let key = operands.dims.q_width.next_multiple_of(WIDTH);
        let value = operands.value_padded();
        [
            operands.dims.q_width * TILE,
            operands.dims.value_width * TILE,
            key * TILE,
            key * TILE,
            value * TILE,
            n_queries * key,
            n_queries,
        ]
    }

    fn new(memory: &'a mut [f32], operands: &Operands<'_>, n_queries: usize) -> Self {
        let [keys, values, key_rows, d_keys, d_values, d_queries, means] =
            carve(memory, Self::sizes(operands, n_queries));
        d_queries.fill(0.0);
        Self {
            keys: keys.as_chunks_mut::<TILE>().0,
            values: values.as_chunks_mut::<TILE>().0,
            key_rows,
            d_keys,
            d_values,
            d_queries,
            means,
        }
    }
}

pub(super) struct At<'a> {
    pub(super) operands: &'a Operands<'a>,
    pub(super) saved: &'a Saved<'a>,
    pub(super) unit: &'a Unit<'a>,
    pub(super) key_padded: usize,
    pub(super) value_padded: usize,
}

impl At<'_> {
    /// One head of one row of dy.
    #[inline(always)]
    pub(super) fn dy(&self, index: usize) -> &[f32] {
        let width = self.operands.dims.value_width;
        let start = self.slot(index) * width;
        &self.saved.dy[start..start + width]
    }

    #[inline(always)]
    pub(super) fn query(&self, index: usize) -> &[f32] {
        let (row, head) = self.unit.query(index);
        self.operands.query(row, head)
    }

    #[inline(always)]
    pub(super) fn slot(&self, index: usize) -> usize {
        let (row, head) = self.unit.query(index);
        row * self.operands.dims.n_heads + head
    }
}

/// Probabilities of R queries and the slopes of their scores, for a tile's keys.
struct Slopes<const R: usize> {
    p: [[f32; TILE]; R],
    ds: [[f32; TILE]; R],
    /// Keys that the last query sees.
    most: usize,
}

/// p and ds of R queries from `index` on, for N vectors of a tile's keys.
#[inline(always)]
fn slopes<L: Lanes, const R: usize, const N: usize>(
    l: L,
    at: &At<'_>,
    (tile, index): (&Tile, usize),
    (queries, dys): ([&[f32]; R], [&[f32]; R]),
    (desk, result): (&Desk<'_>, &mut Slopes<R>),
) {
    let scale = l.splat(at.operands.scale);
    let zero = l.splat(0.0);
    let scores = products::<L, R, N>(l, queries, desk.keys);
    for r in 0..R {
        let seen = (at.unit.seen(index + r) - tile.start).min(tile.len);
        let log_sum = l.splat(at.saved.log_sum[at.slot(index + r)]);
        let (parts, _) = result.p[r].as_chunks_mut::<WIDTH>();
        for n in 0..N {
            let e = exp(l, l.sub(l.mul(scores[r][n], scale), log_sum));
            let lanes = seen.saturating_sub(n * WIDTH).min(WIDTH);
            l.store(l.first(lanes, e, zero), &mut parts[n]);
        }
    }
    let d_p = products::<L, R, N>(l, dys, desk.values);
    for r in 0..R {
        let mean = l.splat(desk.means[index + r]);
        let (p_parts, _) = result.p[r].as_chunks::<WIDTH>();
        let (ds_parts, _) = result.ds[r].as_chunks_mut::<WIDTH>();
        for n in 0..N {
            let p = l.mul(l.load(&p_parts[n]), scale);
            l.store(l.mul(p, l.sub(d_p[r][n], mean)), &mut ds_parts[n]);
        }
    }
}

kernel! {
    /// Lets R queries from `index` on meet a tile.
    fn meet<L, const R: usize>(l, at: &At<'_>, tile: &Tile, index: usize, desk: &mut Desk<'_>) {
        let mut queries: [&[f32]; R] = [&[]; R];
        let mut dys: [&[f32]; R] = [&[]; R];
        for r in 0..R {
            queries[r] = at.query(index + r);
            dys[r] = at.dy(index + r);
        }
        let most = (at.unit.seen(index + R - 1) - tile.start).min(tile.len);
        let mut found = Slopes { p: [[0.0; TILE]; R], ds: [[0.0; TILE]; R], most };
        let (place, given) = ((tile, index), (queries, dys));
        match most.div_ceil(WIDTH) {
            1 => slopes::<L, R, 1>(l, at, place, given, (desk, &mut found)),
            2 => slopes::<L, R, 2>(l, at, place, given, (desk, &mut found)),
            3 => slopes::<L, R, 3>(l, at, place, given, (desk, &mut found)),
            _ => slopes::<L, R, 4>(l, at, place, given, (desk, &mut found)),
        }
        let (key_padded, level) = (at.key_padded, l.level());
        let Slopes { p, ds, most } = &found;
        let d_queries = &mut desk.d_queries[index * key_padded..(index + R) * key_padded];
        add_to_queries(level, (ds, *most), (desk.key_rows, key_padded), d_queries);
        add_to_keys(level, (ds, *most), queries, (desk.d_keys, key_padded));
        add_to_keys(level, (p, *most), dys, (desk.d_values, at.value_padded));
    }
}

/// Cuts a padded width into runs of up to four vectors: calls `$body` with the run's start and
/// its vectors as a constant.
macro_rules! for_each_run {
    ($padded:expr, |$from:ident, $n:ident| $body:block) => {
        let mut $from = 0;
        while $from < $padded {
            match ($padded - $from) / WIDTH {
                1 => {
                    const $n: usize = 1;
                    $body
                }
                2 => {
                    const $n: usize = 2;
                    $body
                }
                3 => {
                    const $n: usize = 3;
                    $body
                }
                _ => {
                    const $n: usize = 4;
                    $body
                }
            }
            $from += 4 * WIDTH;
        }
    };
}

kernel! {
    /// Adds to each of R queries the sum over keys of its ds times the key.
    fn add_to_queries<L, const R: usize>(l, ds: (&[[f32; TILE]; R], usize), keys: (&[f32], usize), d_queries: &mut [f32]) {
        let (ds, most) = ds;
        let (key_rows, padded) = keys;
        let starts = padded_starts(padded);
        for_each_run!(padded, |from, N| {
            let mut sums = [[l.splat(0.0); N]; R];
            let rows = RowsAt { values: key_rows, starts: &starts };
            weighted_rows::<L, R, N>(l, ds.each_ref(), (rows, from), 0..most, &mut sums);
            for r in 0..R {
                let start = r * padded + from;
                let (parts, _) = d_queries[start..start + N * WIDTH].as_chunks_mut::<WIDTH>();
                for n in 0..N {
                    l.store(l.add(l.load(&parts[n]), sums[r][n]), &mut parts[n]);
                }
            }
        });
    }
}

kernel! {
    /// Adds to each key the sum over R rows of its factor times the row, in order.
    fn add_to_keys<L, const R: usize>(l, factors: (&[[f32; TILE]; R], usize), rows: [&[f32]; R], d: (&mut [f32], usize)) {
        let (factors, most) = factors;
        let (d, padded) = d;
        for_each_run!(padded, |from, N| {
            let mut given = [[l.splat(0.0); N]; R];
            for r in 0..R {
                for n in 0..N {
                    let start = from + n * WIDTH;
                    let end = (start + WIDTH).min(rows[r].len());
                    given[r][n] = l.load_part(&rows[r][start..end]);
                }
            }
            for j in 0..most {
                let start = j * padded + from;
                let (parts, _) = d[start..start + N * WIDTH].as_chunks_mut::<WIDTH>();
                let mut sums = [l.splat(0.0); N];
                for n in 0..N {
                    sums[n] = l.load(&parts[n]);
                }
                for r in 0..R {
                    let factor = l.splat(factors[r][j]);
                    for n in 0..N {
                        sums[n] = l.mul_add(factor, given[r][n], sums[n]);
                    }
                }
                for n in 0..N {
                    l.store(sums[n], &mut parts[n]);
                }
            }
        });
    }
}

kernel! {
    fn attend_backward<L>(l, at: &At<'_>, memory: &mut [f32], gradients: &Gradients<'_>) {
        let n_queries = at.unit.n_queries();
        let operands = at.operands;
        let mut desk = Desk::new(memory, operands, n_queries);
        let AttentionDims { key: [own, shared], value, value_width: width, .. } = operands.dims;
        let (level, head) = (l.level(), at.unit.heads.start);
        for index in 0..n_queries {
            let start = at.slot(index) * width;
            desk.means[index] = dot(l, at.dy(index), &at.saved.output[start..start + width]);
        }
        for tile in at.unit.tiles() {
            let padded = at.key_padded;
            let (own_columns, shared_columns) = desk.keys.split_at_mut(own.width);
            transpose_part(level, operands.part(own), head, &tile, own_columns);
            transpose_part(level, operands.part(shared), head, &tile, shared_columns);
            transpose_part(level, operands.part(value), head, &tile, desk.values);
            for (part, offset) in [(own, 0), (shared, own.width)] {
                let to = PaddedRows { values: desk.key_rows, padded, offset };
                copy_part(level, operands.part(part), head, &tile, to);
            }
            desk.d_keys.fill(0.0);
            desk.d_values.fill(0.0);
            let mut index = tile.first_query;
            while !L::IS_NARROW && index + ROWS <= n_queries {
                meet::<ROWS>(level, at, &tile, index, &mut desk);
                index += ROWS;
            }
            while index < n_queries {
                meet::<1>(level, at, &tile, index, &mut desk);
                index += 1;
            }
            write_tile(level, at, &tile, (desk.d_keys, desk.d_values), gradients);
        }
        write_queries(level, at, desk.d_queries, gradients);
    }
}

kernel! {
    /// Writes the gradients of a unit's queries, which lie in padded rows.
    pub(super) fn write_queries<L>(l, at: &At<'_>, d_queries: &[f32], gradients: &Gradients<'_>) {
        let q_width = at.operands.dims.q_width;
        for index in 0..at.unit.n_queries() {
            let slot = at.slot(index);
            // SAFETY: units share no pair of row and head, and a pair's columns of dq are its own.
            let to = unsafe { gradients.q.slice(slot * q_width..(slot + 1) * q_width) };
            let start = index * at.key_padded;
            super::vector::copy(l, &d_queries[start..start + q_width], to);
        }
    }
}

kernel! {
    /// Writes the gradients of a tile's keys and values, which lie in padded rows.
    pub(super) fn write_tile<L>(l, at: &At<'_>, tile: &Tile, d: (&[f32], &[f32]), gradients: &Gradients<'_>) {
        let (d_keys, d_values) = d;
        let [own, shared] = &at.operands.dims.key;
        let value = &at.operands.dims.value;
        let by_head = KeyPart {
            row_stride: at.operands.dims.n_heads * shared.width,
            head_stride: shared.width,
            ..*shared
        };
        let tensor = |part: &KeyPart| match part.tensor {
            KeyTensor::First => &gradients.first,
            KeyTensor::Second => &gradients.second,
        };
        for j in 0..tile.len {
            let row = at.unit.rows.start + tile.start + j;
            let key = &d_keys[j * at.key_padded..][..own.width + shared.width];
            let (own_row, shared_row) = key.split_at(own.width);
            let value_row = &d_values[j * at.value_padded..][..value.width];
            let places = [
                (tensor(own), own, own_row),
                (&gradients.shared, &by_head, shared_row),
                (tensor(value), value, value_row),
            ];
            for (to, part, from) in places {
                let start = part.start(row, at.unit.heads.start);
                // SAFETY: a row's part for a key head is written by the one unit that has both, and
                // parts of one row do not overlap.
                let to = unsafe { to.slice(start..start + part.width) };
                super::vector::copy(l, from, to);
            }
        }
    }
}

kernel! {
    /// Each row of y is the sum over heads of the row of x, in order.
    fn sum_heads<L>(l, x: &[f32], y: &mut [f32], n_heads: usize, width: usize) {
        let rows = x.chunks_exact((n_heads * width).max(1)).zip(y.chunks_exact_mut(width.max(1)));
        for (x, y) in rows {
            y.fill(0.0);
            for head in x.chunks_exact(width) {
                add_into(l, head, y);
            }
        }
    }
}

/// Rows of a piece of the sum over heads.
const PIECE: usize = 256;

pub(super) fn attention_backward(
    cpu: &Cpu,
    (q, keys): (&Tensor, Keys<'_, Tensor>),
    attention: &Attention<'_>,
    saved: &AttentionSaved<Tensor>,
    dy: &Tensor,
) -> Result<AttentionGrads<Tensor>> {
    const OP: &str = "attention_backward";
    let given = AttentionGradShapes {
        output: saved.output.shape(),
        log_sum: saved.log_sum.shape(),
        dy: dy.shape(),
    };
    let key_shapes = KeyShapes::of(keys, Tensor::shape);
    let dims = check::attention_backward(q.shape(), key_shapes, attention, given)?;
    let (first, second) = tensors(keys);
    first.expect_numbers(OP)?;
    let second_shape = key_shapes.second().unwrap_or(Shape::matrix(0, 0));
    let (q_values, output, log_sum, dy) = (
        q.floats(OP)?,
        saved.output.floats(OP)?,
        saved.log_sum.floats(OP)?,
        dy.floats(OP)?,
    );
    let operands = Operands {
        q: &q_values,
        first: Source::of(first),
        second: second.map_or(Source::F32(&[]), Source::of),
        dims,
        scale: attention.scale,
    };
    let saved = Saved {
        output: &output,
        log_sum: &log_sum,
        dy: &dy,
    };
    let shared_width = dims.key[1].width;
    let by_head = dims.rows * dims.n_heads * shared_width;
    let mut shared = cpu.memory.take_f32(by_head);
    let shared = &mut shared.f32s_mut()[..by_head];
    let mut d_q = cpu.blank(q.shape())?;
    let mut d_first = cpu.blank(key_shapes.first())?;
    let mut d_second = cpu.blank(second_shape)?;
    let gradients = Gradients {
        q: DisjointMut::new(d_q.values()),
        first: DisjointMut::new(d_first.values()),
        second: DisjointMut::new(d_second.values()),
        shared: DisjointMut::new(&mut *shared),
    };
    run(cpu, (&operands, &saved), attention, &gradients);
    if shared_width > 0 {
        let each = PIECE * dims.n_heads * shared_width;
        cpu.pool
            .for_each_chunk(d_second.values(), PIECE * shared_width, |i, to| {
                let from = &shared[i * each..((i + 1) * each).min(by_head)];
                sum_heads(cpu.level, from, to, dims.n_heads, shared_width);
            });
    }
    Ok(AttentionGrads {
        q: d_q.done(),
        first: d_first.done(),
        second: d_second.done(),
    })
}

fn run(
    cpu: &Cpu,
    (operands, saved): (&Operands<'_>, &Saved<'_>),
    attention: &Attention<'_>,
    gradients: &Gradients<'_>,
) {
    let sequences: Vec<Range<usize>> = attention.rows.ranges().collect();
    let longest = sequences.iter().map(Range::len).max().unwrap_or(0);
    let heads = operands.dims.key[0].group;
    let groups = operands.dims.n_heads / heads.max(1);
    let kind = Kind::of(cpu);
    let needed = match kind {
        Kind::Vectors => [0, Desk::sizes(operands, longest * heads).iter().sum()],
        #[cfg(target_arch = "x86_64")]
        Kind::Tiles(_) => attention_amx_backward::needed(operands, longest * heads),
    };
    deal(cpu, sequences.len() * groups, |units| {
        let [mut words, mut numbers] = needed.map(|len| cpu.memory.take_f32(len));
        let session = kind.begin(usize::MAX);
        for index in units {
            let (sequence, group) = (index / groups, index % groups);
            let heads = group * heads..(group + 1) * heads;
            let at = At {
                operands,
                saved,
                unit: &Unit::packed(sequences[sequence].clone(), heads),
                key_padded: operands.dims.q_width.next_multiple_of(WIDTH),
                value_padded: operands.value_padded(),
            };
            let (words, numbers) = (words.u32s_mut(), numbers.f32s_mut());
            match &session {
                Session::Vectors => attend_backward(cpu.level, &at, numbers, gradients),
                #[cfg(target_arch = "x86_64")]
                Session::Tiles(machine, tiles) => {
                    let machine = (*machine, tiles);
                    attention_amx_backward::attend_backward(
                        machine,
                        &at,
                        (words, numbers),
                        gradients,
                    );
                }
            }
        }
    });
}
