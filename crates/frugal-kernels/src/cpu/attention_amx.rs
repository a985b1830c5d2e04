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

use std::ops::Range;

use frugal_core::ops::check::KeyPart;
use half::bf16;

use super::amx::{PANELS_OF_FEW, TileBlock, Tiles};
use super::attention::{Results, State, finish};
use super::attention_tiles::{
    IN_ORDER, Operands, PaddedRows, Reach, Source, TILE, Tile, Unit, carve, copy_part,
};
use super::avx512::attention::{
    Gathered, KeyRows, OfQueries, Running, Scores, WEIGHT_WORDS, keys_to_panels, open_columns,
    values_to_panels, weigh,
};
use super::avx512::pack::Packable;
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

/// Units of one block that meet a tile step by step together: each step waits for the one before, but
/// not for that of another unit.
const SLOTS: usize = 4;

const fn slots_of(n_queries: usize, n_units: usize) -> usize {
    match (n_queries <= LANES, n_units < SLOTS) {
        (true, true) => n_units,
        (true, false) => SLOTS,
        (false, _) => 1,
    }
}

/// Words and numbers of a slot's operands.
#[derive(Clone, Copy)]
struct Slot {
    keys: usize,
    values: usize,
}

impl Slot {
    const fn of(widths: Widths) -> Self {
        Self {
            keys: TILE / LANES * widths.key,
            values: widths.value_panels * KEYS_PANEL,
        }
    }
}

/// Memory of some units, whose queries follow one another in whole blocks.
struct Desk<'a> {
    /// All queries as left tiles.
    queries: &'a mut [u32],
    /// For each slot a tile's keys in panels of sixteen keys.
    keys: &'a mut [u32],
    /// Its values in panels of sixteen columns.
    values: &'a mut [u32],
    /// A block's weights as left tiles.
    weights: &'a mut [u32],
    /// Products of a block.
    products: &'a mut [f32],
    /// Keys or values of a tile in padded rows, where they cannot be packed from where they are stored.
    rows: &'a mut [f32],
    state: State<'a>,
    /// Whether the tile's values are all numbers that bf16 holds, once known.
    has_numbers: [Option<bool>; SLOTS],
}

/// Columns of a key or of a value, rounded up to whole vectors.
pub(super) fn widest(operands: &Operands<'_>) -> usize {
    let key = operands.dims.q_width.next_multiple_of(WIDTH);
    key.max(operands.value_padded())
}

/// (words, numbers) that `n_units` of up to `n_queries` need.
fn sizes(operands: &Operands<'_>, n_queries: usize, n_units: usize) -> ([usize; 4], [usize; 5]) {
    let widths = Widths::of(operands);
    let room = n_units * padded_queries(n_queries);
    let (slots, slot) = (slots_of(n_queries, n_units), Slot::of(widths));
    let words = [
        room / LANES * widths.key,
        slots * slot.keys,
        slots * slot.values,
        slots * WEIGHT_WORDS,
    ];
    let numbers = [
        slots * LANES * TILE,
        TILE * widest(operands),
        room * operands.value_padded(),
        room,
        room,
    ];
    (words, numbers)
}

/// Memory that any `n_units` of up to `n_queries` need, in words of four bytes.
///
/// Units of one block need the most where there are several, since several meet a tile together; so
/// it is not enough to ask for the longest.
pub(super) fn needed(operands: &Operands<'_>, n_queries: usize, n_units: usize) -> [usize; 2] {
    let of = |n_queries: usize| {
        let (words, numbers) = sizes(operands, n_queries, n_units);
        [words.iter().sum::<usize>(), numbers.iter().sum()]
    };
    let ([words, numbers], [short_words, short_numbers]) =
        (of(n_queries), of(n_queries.min(LANES)));
    [words.max(short_words), numbers.max(short_numbers)]
}

impl<'a> Desk<'a> {
    fn new(
        (words, numbers): (&'a mut [u32], &'a mut [f32]),
        operands: &Operands<'_>,
        (n_queries, n_units): (usize, usize),
    ) -> Self {
        let lengths = sizes(operands, n_queries, n_units);
        let [queries, keys, values, weights] = carve(words, lengths.0);
        let [products, rows, sums, largest, totals] = carve(numbers, lengths.1);
        Self {
            queries,
            keys,
            values,
            weights,
            products,
            rows,
            state: State::begin(sums, largest, totals),
            has_numbers: [None; SLOTS],
        }
    }
}

struct At<'a> {
    machine: Machine,
    tiles: &'a Tiles,
    operands: &'a Operands<'a>,
    unit: &'a Unit<'a>,
    /// Where its queries begin on the desk.
    base: usize,
    /// Its place among the units that meet a tile together.
    slot: usize,
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

/// Attention of units of one sequence, which are equal but for their heads: a tile is used by all of
/// them while it is near. Tiles are asked for while the one before is computed, the first of the
/// `following` units too.
pub(super) fn attend(
    (machine, tiles): (Machine, &Tiles),
    (operands, units, following): (&Operands<'_>, &[Unit<'_>], Option<&Unit<'_>>),
    memory: (&mut [u32], &mut [f32]),
    results: &Results<'_>,
) {
    let Some(first) = units.first() else {
        return;
    };
    let n_queries = first.n_queries();
    let mut desk = Desk::new(memory, operands, (n_queries, units.len()));
    let (widths, slots) = (Widths::of(operands), slots_of(n_queries, units.len()));
    let at = |number: usize| At {
        machine,
        tiles,
        operands,
        unit: &units[number],
        base: number * padded_queries(n_queries),
        slot: number % slots,
        widths,
    };
    for number in 0..units.len() {
        pack_queries(&at(number), &mut desk);
    }
    let reach = Reach::new(
        operands,
        first.heads.start..units[units.len() - 1].heads.end,
    );
    let following = following.and_then(|unit| unit.tiles().next());
    let mut tiles = first.tiles().chain(following);
    let mut ahead = tiles.next();
    for _ in 0..first.n_tiles() {
        let Some(tile) = std::mem::replace(&mut ahead, tiles.next()) else {
            break;
        };
        for begin in (0..units.len()).step_by(slots) {
            let together = begin..(begin + slots).min(units.len());
            for number in together.clone() {
                if let Some(ahead) = &ahead {
                    reach.prefetch(ahead, (number, units.len()));
                }
                pack(&at(number), &tile, &mut desk);
            }
            for block in (tile.first_query / LANES * LANES..n_queries).step_by(LANES) {
                meet(
                    &at,
                    together.clone(),
                    &Meeting::new(first, &tile, block),
                    &mut desk,
                );
            }
        }
    }
    for number in 0..units.len() {
        let At { unit, base, .. } = at(number);
        finish(
            machine.level(),
            operands,
            unit,
            (&desk.state, base),
            results,
        );
    }
}

fn pack_queries(at: &At<'_>, desk: &mut Desk<'_>) {
    for index in 0..at.unit.n_queries() {
        let (row, head) = at.unit.query(index);
        let query = one_row(at.operands.query(row, head));
        let start = (at.base + index) / LANES * at.widths.key + index % LANES * LANES;
        let place = Place::left_tiles(at.widths.key);
        let to = &mut desk.queries[start..];
        wide::rows_to_pairs(at.machine.features, &query, place, to);
    }
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

/// Rows of numbers in the form they are stored in.
pub(super) enum Rows<Single, Narrow> {
    Single(Single),
    Narrow(Narrow),
}

/// A tile's keys, and its values.
pub(super) type TileKeys<'a> = Rows<KeyRows<'a, f32>, KeyRows<'a, bf16>>;
pub(super) type TileValues<'a> = Rows<Gathered<'a, f32>, Gathered<'a, bf16>>;

/// Evaluates a body for rows of either form.
macro_rules! either {
    ($rows:expr, $name:ident => $body:expr) => {
        match $rows {
            Rows::Single($name) => $body,
            Rows::Narrow($name) => $body,
        }
    };
}
pub(super) use either;

impl Stored<'_> {
    /// Shows `pack` the keys. Parts that differ in form, that are of 8 bits or that do not begin with a
    /// vector pass through `copy`.
    pub(super) fn keys(&self, copy: &mut [f32], pack: impl FnOnce(TileKeys<'_>)) {
        let [own, shared] = self.operands.dims.key;
        let source = |part| self.operands.part(part).source;
        let first = source(own);
        let second = if shared.width == 0 {
            first
        } else {
            source(shared)
        };
        let is_aligned = shared.width == 0 || own.width.is_multiple_of(LANES);
        match (first, second) {
            (Source::F32(first), Source::F32(second)) if is_aligned => {
                let rows = [self.rows(first, own), self.rows(second, shared)];
                pack(Rows::Single(KeyRows(rows)));
            }
            (Source::Bf16(first), Source::Bf16(second)) if is_aligned => {
                let rows = [self.rows(first, own), self.rows(second, shared)];
                pack(Rows::Narrow(KeyRows(rows)));
            }
            (Source::EightBits(_), Source::EightBits(_)) if self.open([own, shared], copy) => {
                let (width, padded) = Self::opened([own, shared]);
                let rows = |width| self.copied(narrow(copy), (width, padded));
                pack(Rows::Narrow(KeyRows([rows(width), rows(0)])));
            }
            _ => {
                let width = self.operands.dims.q_width;
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
                let rows = |width| self.copied(copy, (width, padded));
                pack(Rows::Single(KeyRows([rows(width), rows(0)])));
            }
        }
    }

    /// Shows `pack` the values. Those of 8 bits pass through `copy`.
    pub(super) fn values<R>(&self, copy: &mut [f32], pack: impl FnOnce(TileValues<'_>) -> R) -> R {
        let part = self.operands.dims.value;
        let none = KeyPart { width: 0, ..part };
        pack(match self.operands.part(part).source {
            Source::F32(values) => Rows::Single(self.rows(values, part)),
            Source::Bf16(values) => Rows::Narrow(self.rows(values, part)),
            Source::EightBits(_) if self.open([part, none], copy) => {
                Rows::Narrow(self.copied(narrow(copy), Self::opened([part, none])))
            }
            Source::EightBits(_) => {
                let padded = self.operands.value_padded();
                let to = PaddedRows {
                    values: &mut *copy,
                    padded,
                    offset: 0,
                };
                let from = self.operands.part(part);
                copy_part(self.machine.level(), from, self.head, self.tile, to);
                Rows::Single(self.copied(copy, (part.width, padded)))
            }
        })
    }

    /// Columns of parts opened to bf16 side by side, and what their rows are padded to: each part is
    /// written in runs of 32, the next over the end of it.
    fn opened(parts: [KeyPart; 2]) -> (usize, usize) {
        let [own, shared] = parts.map(|part| part.width);
        let padded = own.next_multiple_of(DEPTH) + shared.next_multiple_of(DEPTH);
        (own + shared, padded)
    }

    /// Opens parts of 8 bits to rows of bf16 side by side, if whole vectors are of one group.
    fn open(&self, parts: [KeyPart; 2], copy: &mut [f32]) -> bool {
        let (_, padded) = Self::opened(parts);
        let mut offset = 0;
        for part in parts.into_iter().filter(|part| part.width > 0) {
            let Source::EightBits(stored) = self.operands.part(part).source else {
                return false;
            };
            if !part.width.is_multiple_of(LANES) {
                return false;
            }
            let (from, start) = ((stored, self.tile.rows()), part.start(0, self.head));
            let to = (narrow_mut(copy), padded, offset);
            let columns = start..start + part.width;
            // SAFETY: a machine with tiles has the instructions (`Machine::of`, `Isa`'s order).
            if unsafe { open_columns(self.machine.lanes, from, &columns, to) }.is_none() {
                return false;
            }
            offset += part.width;
        }
        true
    }

    fn copied<'a, T>(&self, copy: &'a [T], (width, padded): (usize, usize)) -> Gathered<'a, T> {
        Gathered {
            values: copy,
            rows: &IN_ORDER[..self.tile.len],
            stride: padded,
            first: 0,
            width,
        }
    }

    fn rows<'a, T>(&'a self, values: &'a [T], part: KeyPart) -> Gathered<'a, T> {
        Gathered {
            values,
            rows: self.tile.rows(),
            stride: part.row_stride,
            first: part.start(0, self.head),
            width: part.width,
        }
    }
}

/// The memory of some f32 as bf16.
fn narrow(memory: &[f32]) -> &[bf16] {
    // SAFETY: every pattern of two bytes is a bf16, and f32 are aligned more strictly.
    unsafe { memory.align_to().1 }
}

/// As above.
fn narrow_mut(memory: &mut [f32]) -> &mut [bf16] {
    // SAFETY: as above, and every pattern of four bytes is an f32.
    unsafe { memory.align_to_mut().1 }
}

/// Packs keys for scores: see [`keys_to_panels`].
pub(super) fn pack_keys<T: Packable>(
    machine: Machine,
    keys: &KeyRows<'_, T>,
    words: usize,
    out: &mut [u32],
) {
    // SAFETY: a machine with tiles has the instructions (`Machine::of`, `Isa`'s order).
    unsafe { keys_to_panels(machine.lanes, keys, words / TILE_WORDS, out) };
}

/// Packs rows for sums over keys, panels of sixteen columns: see [`values_to_panels`].
pub(super) fn pack_columns<T: Packable>(machine: Machine, rows: &Gathered<'_, T>, out: &mut [u32]) {
    // SAFETY: as above.
    unsafe { values_to_panels(machine.lanes, rows, KEYS_PANEL, out) };
}

/// Packs a tile's keys and values.
fn pack(at: &At<'_>, tile: &Tile, desk: &mut Desk<'_>) {
    desk.has_numbers[at.slot] = None;
    let (machine, stored, slot) = (at.machine, at.stored(tile), Slot::of(at.widths));
    let keys = &mut desk.keys[at.slot * slot.keys..][..slot.keys];
    let values = &mut desk.values[at.slot * slot.values..][..slot.values];
    stored.keys(desk.rows, |rows| {
        either!(&rows, rows => pack_keys(machine, rows, at.widths.key, keys));
    });
    stored.values(
        desk.rows,
        |rows| either!(&rows, rows => pack_columns(machine, rows, values)),
    );
}

kernel! {
    /// Whether all of a tile's values stay finite in bf16.
    fn are_numbers<L>(l, x: &Gathered<'_, f32>) -> bool {
        // Just above the ratio of the largest f32 to the largest bf16.
        let (grown, zero) = (l.splat(1.004), l.splat(0.0));
        let mut sum = zero;
        for row in x.rows {
            for part in x.row(*row).chunks(WIDTH) {
                sum = l.mul_add(l.mul(l.load_part(part), grown), zero, sum);
            }
        }
        !l.sum(sum).is_nan()
    }
}

/// The same of values stored so.
fn are_numbers_narrow(x: &Gathered<'_, bf16>) -> bool {
    let mut rows = x.rows.iter().map(|row| x.row(*row));
    rows.all(|row| row.iter().all(|number| number.is_finite()))
}

/// A tile and sixteen queries of a unit, or of each of several.
struct Meeting<'a> {
    tile: &'a Tile,
    /// The first query.
    first: usize,
    /// Queries, 1 to 16.
    queries: usize,
    /// Keys that each sees.
    seen: [usize; LANES],
    /// Vectors of keys that any of them sees.
    vectors: usize,
}

impl<'a> Meeting<'a> {
    fn new(unit: &Unit<'_>, tile: &'a Tile, first: usize) -> Self {
        let seen = seen_of(unit, tile, first);
        Self {
            tile,
            first,
            queries: LANES.min(unit.n_queries() - first),
            seen,
            vectors: seen.iter().max().map_or(0, |most| most.div_ceil(LANES)),
        }
    }
}

/// Lets sixteen queries of each of some units meet a tile.
fn meet<'a>(
    at: &impl Fn(usize) -> At<'a>,
    units: Range<usize>,
    meeting: &Meeting<'_>,
    desk: &mut Desk<'_>,
) {
    let Meeting {
        tile,
        queries,
        seen,
        vectors,
        ..
    } = meeting;
    if *vectors == 0 {
        return;
    }
    let mut factors = [[0.0; LANES]; SLOTS];
    for unit in units.clone() {
        score(&at(unit), meeting, desk);
    }
    for unit in units.clone() {
        let at = at(unit);
        factors[at.slot] = weigh_block(&at, meeting, desk);
    }
    let sees_all = seen[..*queries].iter().all(|seen| *seen == tile.len);
    for unit in units {
        let at = at(unit);
        if sees_all || tile_has_numbers(&at, tile, desk) {
            mix(&at, (meeting, 0..*queries), &factors[at.slot], desk);
            continue;
        }
        // A value that is no number must not reach a query that does not see it, even with weight
        // 0: for each query by itself what it does not see is left out.
        for (r, seen) in seen.iter().enumerate().filter(|(_, seen)| **seen > 0) {
            pack_seen(&at, tile, *seen, desk);
            mix(&at, (meeting, r..r + 1), &factors[at.slot], desk);
        }
        pack_seen(&at, tile, tile.len, desk);
    }
}

/// Products of queries and keys.
fn score(at: &At<'_>, meeting: &Meeting<'_>, desk: &mut Desk<'_>) {
    let slot = Slot::of(at.widths);
    let product = TileBlock {
        a: &desk.queries[(at.base + meeting.first) / LANES * at.widths.key..],
        a_block: 0,
        a_row: LANES,
        a_step: TILE_WORDS,
        row_tiles: 1,
        b: &desk.keys[at.slot * slot.keys..],
        b_panel: at.widths.key,
        panels: meeting.vectors,
        steps: at.widths.key / TILE_WORDS,
    };
    at.tiles.multiply(&product, products_of(at, desk.products));
}

fn products_of<'a>(at: &At<'_>, products: &'a mut [f32]) -> &'a mut [f32] {
    &mut products[at.slot * LANES * TILE..][..LANES * TILE]
}

/// Turns scores into weights; what earlier sums are to be multiplied by.
fn weigh_block(at: &At<'_>, meeting: &Meeting<'_>, desk: &mut Desk<'_>) -> OfQueries {
    let scores = Scores {
        products: products_of(at, desk.products),
        queries: meeting.queries,
        vectors: meeting.vectors,
        seen: &meeting.seen,
        scale: at.operands.scale,
    };
    let block = at.base + meeting.first..at.base + meeting.first + LANES;
    let (Some(largest), Some(totals)) = (
        desk.state.largest[block.clone()].first_chunk_mut(),
        desk.state.totals[block].first_chunk_mut(),
    ) else {
        return [0.0; LANES];
    };
    let mut running = Running { largest, totals };
    let weights = &mut desk.weights[at.slot * WEIGHT_WORDS..][..WEIGHT_WORDS];
    // SAFETY: a machine with tiles has the instructions (`Machine::of`, `Isa`'s order).
    unsafe { weigh(at.machine.lanes, &scores, &mut running, weights) }
}

/// Looks once a tile, when first asked.
fn tile_has_numbers(at: &At<'_>, tile: &Tile, desk: &mut Desk<'_>) -> bool {
    *desk.has_numbers[at.slot].get_or_insert_with(|| {
        at.stored(tile).values(desk.rows, |rows| match rows {
            Rows::Single(rows) => are_numbers(at.machine.level(), &rows),
            Rows::Narrow(rows) => are_numbers_narrow(&rows),
        })
    })
}

/// Packs the first values of a tile, zeros after them.
fn pack_seen(at: &At<'_>, tile: &Tile, seen: usize, desk: &mut Desk<'_>) {
    let len = Slot::of(at.widths).values;
    let values = &mut desk.values[at.slot * len..][..len];
    values.fill(0);
    at.stored(tile).values(desk.rows, |rows| {
        either!(rows, given => {
            let rows = &given.rows[..seen];
            pack_columns(at.machine, &Gathered { rows, ..given }, values);
        });
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
    (meeting, queries): (&Meeting<'_>, Range<usize>),
    factors: &OfQueries,
    desk: &mut Desk<'_>,
) {
    let padded = at.operands.value_padded();
    let values = &desk.values[at.slot * Slot::of(at.widths).values..];
    let products = products_of(at, desk.products);
    for panel in (0..at.widths.value_panels).step_by(PANELS_OF_FEW) {
        let panels = PANELS_OF_FEW.min(at.widths.value_panels - panel);
        let product = TileBlock {
            a: &desk.weights[at.slot * WEIGHT_WORDS..],
            a_block: 0,
            a_row: LANES,
            a_step: TILE_WORDS,
            row_tiles: 1,
            b: &values[panel * KEYS_PANEL..],
            b_panel: KEYS_PANEL,
            panels,
            steps: meeting.vectors.div_ceil(2),
        };
        at.tiles.multiply(&product, products);
        for r in queries.clone() {
            let from = &products[r * panels * LANES..][..panels * LANES];
            let start = (at.base + meeting.first + r) * padded + panel * LANES;
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
