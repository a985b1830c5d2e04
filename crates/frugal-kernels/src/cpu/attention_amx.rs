//! Attention on tile registers: the forward where products are rounded to bf16.
//!
//! Units and tiles of 64 keys are those of [`super::attention`]. Sixteen queries of a unit at a time
//! meet a tile: scores are products of tiles, the softmax is f32, and its weights, rounded to bf16,
//! are the left tiles of the products with the values. A block that is not full is padded, and a
//! product's row depends on that row of its left tile alone, so that here too a row has the same
//! bits in training, in prefill and alone in decode.
//!
//! Next: [`super::attention_amx_backward`].
#![expect(
    clippy::indexing_slicing,
    reason = "the desk is carved for the unit; `check::attention` holds every part inside its row"
)]

use frugal_core::ops::check::KeyPart;

use super::amx::{PANELS_OF_FEW, TileBlock, Tiles};
use super::attention::{Results, State, finish};
use super::attention_tiles::{
    Operands, PaddedRows, Source, TILE, Tile, Unit, carve, copy_part, padded_starts,
};
use super::avx512::attention::{
    Gathered, OfQueries, Running, Scores, WEIGHT_WORDS, keys_to_panels, values_to_panels, weigh,
};
use super::backend::Cpu;
use super::detect::{CpuFeatures, Isa};
use super::gemm::Precision;
use super::gemm::operands::{pair_panel, wide};
use super::gemm::tile::{DEPTH, LANES, Place, Rect, TILE_WORDS};
use super::vector::{Level, WIDTH, kernel};
use super::vector_x86::Avx512;

/// Proof that a back-end's attention runs on tiles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    pub(super) features: CpuFeatures,
    pub(super) lanes: Avx512,
}

impl Machine {
    pub(super) fn of(cpu: &Cpu) -> Option<Self> {
        let features = cpu.features;
        match cpu.level {
            Level::Avx512(lanes)
                if cpu.precision == Precision::Bf16 && features.supports(Isa::Amx) =>
            {
                Some(Self { features, lanes })
            }
            _ => None,
        }
    }

    pub(super) const fn level(self) -> Level {
        Level::Avx512(self.lanes)
    }
}

/// Sizes of packed operands, in words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Widths {
    /// Sixteen queries, or sixteen keys, with their columns as the reduction.
    pub(super) key: usize,
    /// Sixteen rows of values or of dy, likewise.
    pub(super) value: usize,
    /// Panels of sixteen columns of keys.
    pub(super) key_panels: usize,
    /// The same of values.
    pub(super) value_panels: usize,
}

impl Widths {
    pub(super) fn of(operands: &Operands<'_>) -> Self {
        let (key, value) = (operands.dims.q_width, operands.dims.value_width);
        Self {
            key: pair_panel(key),
            value: pair_panel(value),
            key_panels: key.div_ceil(LANES),
            value_panels: value.div_ceil(LANES),
        }
    }
}

/// Words of a panel whose reduction runs over a tile's keys.
pub(super) const KEYS_PANEL: usize = pair_panel(TILE);

/// Blocks of queries, rounded up.
pub(super) const fn padded_queries(n_queries: usize) -> usize {
    n_queries.next_multiple_of(LANES)
}

/// Memory of a unit.
struct Desk<'a> {
    /// All queries as left tiles.
    queries: &'a mut [u32],
    /// A tile's keys in panels of sixteen keys.
    keys: &'a mut [u32],
    /// Its values in panels of sixteen columns.
    values: &'a mut [u32],
    /// A block's weights as left tiles.
    weights: &'a mut [u32],
    /// Keys and values of a tile as they are stored, in padded rows.
    key_rows: &'a mut [f32],
    value_rows: &'a mut [f32],
    /// Products of a block.
    products: &'a mut [f32],
    state: State<'a>,
    /// Whether a tile's values are all numbers that bf16 holds, once known.
    has_numbers: Option<bool>,
}

/// (words, numbers) a unit needs.
fn sizes(operands: &Operands<'_>, n_queries: usize) -> ([usize; 4], [usize; 6]) {
    let widths = Widths::of(operands);
    let room = padded_queries(n_queries);
    let words = [
        room / LANES * widths.key,
        TILE / LANES * widths.key,
        widths.value_panels * KEYS_PANEL,
        WEIGHT_WORDS,
    ];
    let padded = operands.value_padded();
    let numbers = [
        TILE * operands.dims.q_width.next_multiple_of(WIDTH),
        TILE * padded,
        LANES * TILE,
        room * padded,
        room,
        room,
    ];
    (words, numbers)
}

/// Memory that any unit of up to `n_queries` needs, in words of four bytes.
pub(super) fn needed(operands: &Operands<'_>, n_queries: usize) -> [usize; 2] {
    let (words, numbers) = sizes(operands, n_queries);
    [words.iter().sum(), numbers.iter().sum()]
}

impl<'a> Desk<'a> {
    fn new(
        (words, numbers): (&'a mut [u32], &'a mut [f32]),
        operands: &Operands<'_>,
        n_queries: usize,
    ) -> Self {
        let lengths = sizes(operands, n_queries);
        let [queries, keys, values, weights] = carve(words, lengths.0);
        let [key_rows, value_rows, products, sums, largest, totals] = carve(numbers, lengths.1);
        Self {
            queries,
            keys,
            values,
            weights,
            key_rows,
            value_rows,
            products,
            state: State::begin(sums, largest, totals),
            has_numbers: None,
        }
    }
}

struct At<'a> {
    machine: Machine,
    tiles: &'a Tiles,
    operands: &'a Operands<'a>,
    unit: &'a Unit<'a>,
    widths: Widths,
}

impl<'a> At<'a> {
    fn stored(&self, tile: &'a Tile) -> Stored<'a> {
        Stored {
            machine: self.machine,
            operands: self.operands,
            tile,
            head: self.unit.heads.start,
        }
    }
}

/// Attention of a unit.
pub(super) fn attend(
    (machine, tiles): (Machine, &Tiles),
    (operands, unit): (&Operands<'_>, &Unit<'_>),
    memory: (&mut [u32], &mut [f32]),
    results: &Results<'_>,
) {
    let n_queries = unit.n_queries();
    let mut desk = Desk::new(memory, operands, n_queries);
    let widths = Widths::of(operands);
    let at = At {
        machine,
        tiles,
        operands,
        unit,
        widths,
    };
    for index in 0..n_queries {
        let (row, head) = unit.query(index);
        let query = one_row(operands.query(row, head));
        let start = index / LANES * widths.key + index % LANES * LANES;
        let place = Place::left_tiles(widths.key);
        let to = &mut desk.queries[start..];
        wide::rows_to_pairs(machine.features, &query, place, to);
    }
    for tile in unit.tiles() {
        pack(&at, &tile, &mut desk);
        let mut first = tile.first_query / LANES * LANES;
        while first < n_queries {
            meet(&at, &tile, first, &mut desk);
            first += LANES;
        }
    }
    finish(machine.level(), operands, unit, &desk.state, results);
}

/// A row as a matrix.
fn one_row(row: &[f32]) -> Rect<'_> {
    Rect {
        data: row,
        stride: row.len(),
        rows: 1,
        cols: row.len(),
    }
}

/// What a tile's keys and values are packed from.
pub(super) struct Stored<'a> {
    pub(super) machine: Machine,
    pub(super) operands: &'a Operands<'a>,
    pub(super) tile: &'a Tile,
    pub(super) head: usize,
}

impl Stored<'_> {
    /// Shows `pack` the keys, in one part or two, with the column each begins at. Numbers that are
    /// not f32, and parts that do not begin with a step of the reduction, pass through `copy`.
    pub(super) fn keys(&self, copy: &mut [f32], mut pack: impl FnMut(&Gathered<'_>, usize)) {
        let [own, shared] = self.operands.dims.key;
        let width = self.operands.dims.q_width;
        let sources = [own, shared].map(|part| self.operands.part(part).source);
        if let [Source::F32(first), Source::F32(second)] = sources
            && (shared.width == 0 || own.width.is_multiple_of(DEPTH))
        {
            for (values, part, column) in [(first, own, 0), (second, shared, own.width)] {
                self.show(values, part, |rows| pack(rows, column));
            }
            return;
        }
        let padded = width.next_multiple_of(WIDTH);
        for (part, offset) in [(own, 0), (shared, own.width)] {
            let to = PaddedRows {
                values: &mut *copy,
                padded,
                offset,
            };
            let part = self.operands.part(part);
            copy_part(self.machine.level(), part, self.head, self.tile, to);
        }
        let starts = padded_starts(padded);
        let starts = &starts[..self.tile.len];
        let rows = Gathered {
            values: copy,
            starts,
            width,
        };
        pack(&rows, 0);
    }

    /// Shows `pack` the values.
    pub(super) fn values(&self, copy: &mut [f32], mut pack: impl FnMut(&Gathered<'_>)) {
        let value = self.operands.dims.value;
        let part = self.operands.part(value);
        if let Source::F32(values) = part.source {
            self.show(values, value, pack);
            return;
        }
        let padded = self.operands.value_padded();
        let to = PaddedRows {
            values: &mut *copy,
            padded,
            offset: 0,
        };
        copy_part(self.machine.level(), part, self.head, self.tile, to);
        let starts = padded_starts(padded);
        pack(&Gathered {
            values: copy,
            starts: &starts[..self.tile.len],
            width: value.width,
        });
    }

    fn show(&self, values: &[f32], part: KeyPart, mut pack: impl FnMut(&Gathered<'_>)) {
        if part.width > 0 {
            let starts = self.tile.starts(part, self.head);
            pack(&Gathered {
                values,
                starts: &starts[..self.tile.len],
                width: part.width,
            });
        }
    }
}

/// Packs keys for scores: see [`keys_to_panels`].
pub(super) fn pack_keys(
    machine: Machine,
    keys: &Gathered<'_>,
    (column, words): (usize, usize),
    out: &mut [u32],
) {
    let steps = (column / DEPTH, words / TILE_WORDS);
    // SAFETY: a machine with tiles has the instructions (`Machine::of`, `Isa`'s order).
    unsafe { keys_to_panels(machine.lanes, keys, steps, out) };
}

/// Packs rows for sums over keys, panels of sixteen columns: see [`values_to_panels`].
pub(super) fn pack_columns(machine: Machine, rows: &Gathered<'_>, out: &mut [u32]) {
    // SAFETY: as above.
    unsafe { values_to_panels(machine.lanes, rows, KEYS_PANEL, out) };
}

/// Packs a tile's keys and values.
fn pack(at: &At<'_>, tile: &Tile, desk: &mut Desk<'_>) {
    desk.has_numbers = None;
    let (machine, stored) = (at.machine, at.stored(tile));
    let Desk {
        keys,
        values,
        key_rows,
        value_rows,
        ..
    } = desk;
    stored.keys(key_rows, |rows, column| {
        pack_keys(machine, rows, (column, at.widths.key), keys);
    });
    stored.values(value_rows, |rows| pack_columns(machine, rows, values));
}

kernel! {
    /// Whether all of a tile's values stay finite in bf16.
    fn are_numbers<L>(l, x: &Gathered<'_>) -> bool {
        // Just above the ratio of the largest f32 to the largest bf16.
        let (grown, zero) = (l.splat(1.004), l.splat(0.0));
        let mut sum = zero;
        for start in x.starts {
            for part in x.values[*start..start + x.width].chunks(WIDTH) {
                sum = l.mul_add(l.mul(l.load_part(part), grown), zero, sum);
            }
        }
        !l.sum(sum).is_nan()
    }
}

/// Lets sixteen queries from `first` on meet a tile.
fn meet(at: &At<'_>, tile: &Tile, first: usize, desk: &mut Desk<'_>) {
    let seen = seen_of(at.unit, tile, first);
    let vectors = seen.iter().max().map_or(0, |most| most.div_ceil(LANES));
    if vectors == 0 {
        return;
    }
    let product = TileBlock {
        a: &desk.queries[first / LANES * at.widths.key..],
        a_block: 0,
        a_row: LANES,
        a_step: TILE_WORDS,
        row_tiles: 1,
        b: desk.keys,
        b_panel: at.widths.key,
        panels: vectors,
        steps: at.widths.key / TILE_WORDS,
    };
    at.tiles.multiply(&product, desk.products);
    let queries = LANES.min(at.unit.n_queries() - first);
    let scores = Scores {
        products: desk.products,
        queries,
        vectors,
        seen: &seen,
        scale: at.operands.scale,
    };
    let block = first..first + LANES;
    let (Some(largest), Some(totals)) = (
        desk.state.largest[block.clone()].first_chunk_mut(),
        desk.state.totals[block].first_chunk_mut(),
    ) else {
        return;
    };
    let mut running = Running { largest, totals };
    // SAFETY: a machine with tiles has the instructions (`Machine::of`, `Isa`'s order).
    let factors = unsafe { weigh(at.machine.lanes, &scores, &mut running, desk.weights) };
    let steps = vectors.div_ceil(2);
    let sees_all = seen[..queries].iter().all(|seen| *seen == tile.len);
    if sees_all || tile_has_numbers(at, tile, desk) {
        mix(at, (first, 0..queries), (steps, &factors), desk);
        return;
    }
    // A value that is no number must not reach a query that does not see it, even with weight 0:
    // for each query by itself what it does not see is left out.
    for (r, seen) in seen.iter().enumerate().filter(|(_, seen)| **seen > 0) {
        pack_seen(at, tile, *seen, desk);
        mix(at, (first, r..r + 1), (steps, &factors), desk);
    }
    pack_seen(at, tile, tile.len, desk);
}

/// Looks once a tile, when first asked.
fn tile_has_numbers(at: &At<'_>, tile: &Tile, desk: &mut Desk<'_>) -> bool {
    let Desk {
        has_numbers,
        value_rows,
        ..
    } = desk;
    *has_numbers.get_or_insert_with(|| {
        let (level, mut found) = (at.machine.level(), false);
        let look = |rows: &Gathered<'_>| found = are_numbers(level, rows);
        at.stored(tile).values(value_rows, look);
        found
    })
}

/// Packs the first values of a tile, zeros after them.
fn pack_seen(at: &At<'_>, tile: &Tile, seen: usize, desk: &mut Desk<'_>) {
    let Desk {
        values, value_rows, ..
    } = desk;
    values.fill(0);
    at.stored(tile).values(value_rows, |rows| {
        let starts = &rows.starts[..seen];
        pack_columns(at.machine, &Gathered { starts, ..*rows }, values);
    });
}

/// Keys of a tile that each query of a block sees.
pub(super) fn seen_of(unit: &Unit<'_>, tile: &Tile, first: usize) -> [usize; LANES] {
    let n_queries = unit.n_queries();
    std::array::from_fn(|r| {
        if first + r < n_queries {
            unit.seen(first + r)
                .saturating_sub(tile.start)
                .min(tile.len)
        } else {
            0
        }
    })
}

/// sums = sums * factor + weights · values, for some queries of a block.
fn mix(
    at: &At<'_>,
    (first, queries): (usize, std::ops::Range<usize>),
    (steps, factors): (usize, &OfQueries),
    desk: &mut Desk<'_>,
) {
    let padded = at.operands.value_padded();
    for panel in (0..at.widths.value_panels).step_by(PANELS_OF_FEW) {
        let panels = PANELS_OF_FEW.min(at.widths.value_panels - panel);
        let product = TileBlock {
            a: desk.weights,
            a_block: 0,
            a_row: LANES,
            a_step: TILE_WORDS,
            row_tiles: 1,
            b: &desk.values[panel * KEYS_PANEL..],
            b_panel: KEYS_PANEL,
            panels,
            steps,
        };
        at.tiles.multiply(&product, desk.products);
        for r in queries.clone() {
            let from = &desk.products[r * panels * LANES..][..panels * LANES];
            let start = (first + r) * padded + panel * LANES;
            let to = &mut desk.state.sums[start..start + panels * LANES];
            add_scaled(at.machine.level(), factors[r], from, to);
        }
    }
}

kernel! {
    /// y = y factor + x
    fn add_scaled<L>(l, factor: f32, x: &[f32], y: &mut [f32]) {
        let factor = l.splat(factor);
        for (x, y) in x.as_chunks::<WIDTH>().0.iter().zip(y.as_chunks_mut::<WIDTH>().0) {
            l.store(l.mul_add(l.load(y), factor, l.load(x)), y);
        }
    }
}
