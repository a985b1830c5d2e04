//! Backward of attention on tile registers.
//!
//! For each tile of 64 keys, sixteen queries at a time: scores and dy · v are products of tiles, the
//! weights p and slopes ds are formed in f32 and rounded to bf16, and dq += ds k. Weights and slopes
//! of a run of queries are kept as right panels, so that dk and dv, whose sums run over queries, are
//! a few long products: dkᵀ += qᵀ ds, dvᵀ += dyᵀ p. All sums have a fixed order.
//!
//! Units, and what surrounds them, are those of [`super::attention_backward`].
#![expect(
    clippy::indexing_slicing,
    reason = "the desk is carved for the unit; `check::attention_backward` holds every part inside \
              its row"
)]

use super::amx::{PANELS, PANELS_OF_FEW, ROWS, TileBlock, Tiles};
use super::attention_amx::{
    KEYS_PANEL, Machine, Rows, Stored, Widths, either, pack_columns, pack_keys, seen_of,
};
use super::attention_backward::{At, Gradients, write_queries, write_tile};
use super::attention_tiles::{Operands, TILE, Tile, carve};
use super::avx512::attention::{Gathered, KeyRows, Panels, Scores, Slopes, WEIGHT_WORDS, slopes};
use super::gemm::operands::{pair_panel, wide};
use super::gemm::tile::{DEPTH, LANES, Place, Rect, TILE_WORDS};
use super::vector::{WIDTH, add_into, dot, kernel};

/// Queries whose weights and slopes are kept at a time: 128 KB.
const RUN: usize = 512;
/// Words of a panel of a run.
const RUN_PANEL: usize = pair_panel(RUN);

/// Operands in words. Those that end in `flipped` have their columns as rows.
struct Words<'a> {
    queries: &'a mut [u32],
    queries_flipped: &'a mut [u32],
    dys: &'a mut [u32],
    dys_flipped: &'a mut [u32],
    /// A tile's keys and values in panels of sixteen keys.
    keys: &'a mut [u32],
    values: &'a mut [u32],
    /// Its keys in panels of sixteen columns.
    key_columns: &'a mut [u32],
    /// A block's slopes as left tiles.
    tiles: &'a mut [u32],
    /// Weights and slopes of a run.
    weights: &'a mut [u32],
    slopes: &'a mut [u32],
}

/// Numbers of a unit.
struct Numbers<'a> {
    key_rows: &'a mut [f32],
    value_rows: &'a mut [f32],
    d_keys: &'a mut [f32],
    d_values: &'a mut [f32],
    d_queries: &'a mut [f32],
    /// dy · output, and ln sum e^score, of each query.
    means: &'a mut [f32],
    log_sums: &'a mut [f32],
    scores: &'a mut [f32],
    pulls: &'a mut [f32],
}

struct Desk<'a> {
    words: Words<'a>,
    numbers: Numbers<'a>,
    widths: Widths,
    /// Queries, rounded up to whole steps of a reduction.
    room: usize,
}

fn sizes(operands: &Operands<'_>, n_queries: usize) -> ([usize; 10], [usize; 9]) {
    let widths = Widths::of(operands);
    let room = n_queries.next_multiple_of(DEPTH);
    let words = [
        room / LANES * widths.key,
        widths.key_panels * pair_panel(room),
        room / LANES * widths.value,
        widths.value_panels * pair_panel(room),
        TILE / LANES * widths.key,
        TILE / LANES * widths.value,
        widths.key_panels * KEYS_PANEL,
        WEIGHT_WORDS,
        TILE / LANES * RUN_PANEL,
        TILE / LANES * RUN_PANEL,
    ];
    let key = operands.dims.q_width.next_multiple_of(WIDTH);
    let value = operands.value_padded();
    let rows = room.max(TILE);
    let numbers = [
        rows * key,
        rows * value,
        TILE * key,
        TILE * value,
        room * key,
        room,
        room,
        LANES * TILE,
        LANES * TILE,
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
        let [
            queries,
            queries_flipped,
            dys,
            dys_flipped,
            keys,
            values,
            key_columns,
            tiles,
            weights,
            slopes,
        ] = carve(words, lengths.0);
        let [
            key_rows,
            value_rows,
            d_keys,
            d_values,
            d_queries,
            means,
            log_sums,
            scores,
            pulls,
        ] = carve(numbers, lengths.1);
        d_queries.fill(0.0);
        Self {
            words: Words {
                queries,
                queries_flipped,
                dys,
                dys_flipped,
                keys,
                values,
                key_columns,
                tiles,
                weights,
                slopes,
            },
            numbers: Numbers {
                key_rows,
                value_rows,
                d_keys,
                d_values,
                d_queries,
                means,
                log_sums,
                scores,
                pulls,
            },
            widths: Widths::of(operands),
            room: n_queries.next_multiple_of(DEPTH),
        }
    }
}

/// Gradients of a unit.
pub(super) fn attend_backward(
    (machine, tiles): (Machine, &Tiles),
    at: &At<'_>,
    memory: (&mut [u32], &mut [f32]),
    gradients: &Gradients<'_>,
) {
    let mut desk = Desk::new(memory, at.operands, at.unit.n_queries());
    pack_queries(machine, at, &mut desk);
    let level = machine.level();
    for tile in at.unit.tiles() {
        pack_tile(machine, at, &tile, &mut desk);
        desk.numbers.d_keys.fill(0.0);
        desk.numbers.d_values.fill(0.0);
        let mut start = tile.first_query / DEPTH * DEPTH;
        while start < desk.room {
            let end = (start + RUN).min(desk.room);
            for first in (start..end).step_by(LANES) {
                let place = first - start;
                meet((machine, tiles), at, &tile, (first, place), &mut desk);
            }
            add_run((machine, tiles), &tile, (start, end), &mut desk);
            start = end;
        }
        let Numbers {
            d_keys, d_values, ..
        } = &desk.numbers;
        write_tile(level, at, &tile, (d_keys, d_values), gradients);
    }
    write_queries(level, at, desk.numbers.d_queries, gradients);
}

kernel! {
    /// Copies queries and dy to rows one after another, and forms dy · output.
    fn copy_queries<L>(l, at: &At<'_>, queries: &mut [f32], dys: &mut [f32], means: &mut [f32]) {
        let width = at.operands.dims.value_width;
        let rows = queries.chunks_exact_mut(at.key_padded).zip(dys.chunks_exact_mut(at.value_padded));
        for (index, (query, dy)) in rows.enumerate().take(at.unit.n_queries()) {
            let given = at.query(index);
            super::vector::copy(l, given, &mut query[..given.len()]);
            super::vector::copy(l, at.dy(index), &mut dy[..width]);
            let start = at.slot(index) * width;
            means[index] = dot(l, at.dy(index), &at.saved.output[start..start + width]);
        }
    }
}

/// Packs queries and dy, both ways. The rows pass through the memory of keys and values.
fn pack_queries(machine: Machine, at: &At<'_>, desk: &mut Desk<'_>) {
    let (n_queries, features) = (at.unit.n_queries(), machine.features);
    let Desk { words, numbers, .. } = desk;
    let (queries, dys) = (&mut *numbers.key_rows, &mut *numbers.value_rows);
    numbers.means.fill(0.0);
    numbers.log_sums.fill(0.0);
    copy_queries(machine.level(), at, queries, dys, numbers.means);
    for (index, log_sum) in numbers.log_sums[..n_queries].iter_mut().enumerate() {
        *log_sum = at.saved.log_sum[at.slot(index)];
    }
    let queries = rows_of(queries, n_queries, at.operands.dims.q_width);
    let dys = rows_of(dys, n_queries, at.operands.dims.value_width);
    let place = Place::left_tiles(desk.widths.key);
    wide::rows_to_pairs(features, &queries, place, words.queries);
    wide::cols_to_tiles(features, &queries, words.queries_flipped);
    let place = Place::left_tiles(desk.widths.value);
    wide::rows_to_pairs(features, &dys, place, words.dys);
    wide::cols_to_tiles(features, &dys, words.dys_flipped);
}

/// Packs a tile's keys, both ways, and its values.
fn pack_tile(machine: Machine, at: &At<'_>, tile: &Tile, desk: &mut Desk<'_>) {
    let Desk {
        words,
        numbers,
        widths,
        ..
    } = desk;
    let stored = Stored {
        machine,
        operands: at.operands,
        tile,
        head: at.unit.heads.start,
    };
    stored.keys(numbers.key_rows, |rows| {
        either!(&rows, rows => {
            pack_keys(machine, rows, widths.key, words.keys);
            let mut columns = &mut *words.key_columns;
            for part in &rows.0 {
                pack_columns(machine, part, columns);
                columns = &mut columns[part.width / LANES * KEYS_PANEL..];
            }
        });
    });
    stored.values(numbers.value_rows, |rows| {
        either!(rows, rows => {
            let none = Gathered { width: 0, ..rows };
            pack_keys(machine, &KeyRows([rows, none]), widths.value, words.values);
        });
    });
}

/// The first rows and columns of padded rows.
fn rows_of(values: &[f32], rows: usize, cols: usize) -> Rect<'_> {
    Rect {
        data: values,
        stride: cols.next_multiple_of(WIDTH),
        rows,
        cols,
    }
}

/// Lets sixteen queries from `first` on meet a tile; they are `place` queries into their run.
fn meet(
    (machine, tiles): (Machine, &Tiles),
    at: &At<'_>,
    tile: &Tile,
    (first, place): (usize, usize),
    desk: &mut Desk<'_>,
) {
    let Desk {
        words,
        numbers,
        widths,
        ..
    } = desk;
    let seen = seen_of(at.unit, tile, first);
    let vectors = seen.iter().max().map_or(0, |most| most.div_ceil(LANES));
    let word = place / DEPTH * TILE_WORDS + place % DEPTH / 2 * LANES;
    for n in vectors..tile.len.div_ceil(LANES) {
        let unseen = n * RUN_PANEL + word..n * RUN_PANEL + word + TILE_WORDS / 2;
        words.weights[unseen.clone()].fill(0);
        words.slopes[unseen].fill(0);
    }
    if vectors == 0 {
        return;
    }
    let block = first / LANES;
    let scored = [
        (
            &*words.queries,
            &*words.keys,
            widths.key,
            &mut *numbers.scores,
        ),
        (
            &*words.dys,
            &*words.values,
            widths.value,
            &mut *numbers.pulls,
        ),
    ];
    for (a, b, width, to) in scored {
        let product = TileBlock {
            a: &a[block * width..],
            a_block: 0,
            a_row: LANES,
            a_step: TILE_WORDS,
            row_tiles: 1,
            b,
            b_panel: width,
            panels: vectors,
            steps: width / TILE_WORDS,
        };
        tiles.multiply(&product, to);
    }
    let (Some(log_sums), Some(means)) = (
        numbers.log_sums[first..].first_chunk(),
        numbers.means[first..].first_chunk(),
    ) else {
        return;
    };
    let given = Slopes {
        scores: Scores {
            products: numbers.scores,
            queries: LANES,
            vectors,
            seen: &seen,
            scale: at.operands.scale,
        },
        pulls: numbers.pulls,
        log_sums,
        means,
    };
    let mut panels = Panels {
        weights: words.weights,
        slopes: words.slopes,
        panel: RUN_PANEL,
        at: word,
    };
    // SAFETY: a machine with tiles has the instructions (`Machine::of`, `Isa`'s order).
    unsafe { slopes(machine.lanes, &given, words.tiles, &mut panels) };
    add_to_queries((machine, tiles), (first, vectors.div_ceil(2)), desk);
}

/// dq += ds k for a block, `steps` deep.
fn add_to_queries(
    (machine, tiles): (Machine, &Tiles),
    (first, steps): (usize, usize),
    desk: &mut Desk<'_>,
) {
    let padded = desk.widths.key_panels * LANES;
    for panel in (0..desk.widths.key_panels).step_by(PANELS_OF_FEW) {
        let panels = PANELS_OF_FEW.min(desk.widths.key_panels - panel);
        let product = TileBlock {
            a: desk.words.tiles,
            a_block: 0,
            a_row: LANES,
            a_step: TILE_WORDS,
            row_tiles: 1,
            b: &desk.words.key_columns[panel * KEYS_PANEL..],
            b_panel: KEYS_PANEL,
            panels,
            steps,
        };
        tiles.multiply(&product, desk.numbers.scores);
        let to = &mut desk.numbers.d_queries[first * padded + panel * LANES..];
        let from = (&*desk.numbers.scores, panels * LANES);
        add_rows(machine.level(), from, to, padded);
    }
}

kernel! {
    /// Adds sixteen rows of `from.1` numbers to rows `stride` apart.
    fn add_rows<L>(l, from: (&[f32], usize), to: &mut [f32], stride: usize) {
        let (from, width) = from;
        for (from, to) in from.chunks_exact(width).zip(to.chunks_mut(stride)).take(LANES) {
            add_into(l, from, &mut to[..width]);
        }
    }
}

/// Adds what a run of queries gives to the gradients of a tile's keys and values.
fn add_run(
    (machine, tiles): (Machine, &Tiles),
    tile: &Tile,
    (start, end): (usize, usize),
    desk: &mut Desk<'_>,
) {
    let Desk {
        words,
        numbers,
        widths,
        room,
    } = desk;
    let sums = [
        (
            (&*words.queries_flipped, widths.key_panels),
            &*words.slopes,
            &mut *numbers.d_keys,
        ),
        (
            (&*words.dys_flipped, widths.value_panels),
            &*words.weights,
            &mut *numbers.d_values,
        ),
    ];
    let a_block = pair_panel(*room);
    for ((a, columns), b, to) in sums {
        for column in (0..columns).step_by(ROWS / LANES) {
            for panel in (0..tile.len.div_ceil(LANES)).step_by(PANELS) {
                let product = TileBlock {
                    a: &a[column * a_block + start / DEPTH * TILE_WORDS..],
                    a_block,
                    a_row: LANES,
                    a_step: TILE_WORDS,
                    row_tiles: (ROWS / LANES).min(columns - column),
                    b: &b[panel * RUN_PANEL..],
                    b_panel: RUN_PANEL,
                    panels: PANELS.min(tile.len.div_ceil(LANES) - panel),
                    steps: (end - start) / DEPTH,
                };
                tiles.multiply(&product, numbers.scores);
                let shape = [product.row_tiles, product.panels];
                let place = (panel * LANES, column * LANES, columns * LANES);
                add_flipped(machine.level(), (numbers.scores, shape), place, to);
            }
        }
    }
}

kernel! {
    /// Adds the transpose of tiles of sums, (tiles of columns) by (panels of keys), to rows of keys
    /// from (key, column) on, `stride` apart.
    fn add_flipped<L>(l, sums: (&[f32], [usize; 2]), place: (usize, usize, usize), to: &mut [f32]) {
        let (sums, [tiles, panels]) = sums;
        let (key, column, stride) = place;
        let (vectors, _) = sums.as_chunks::<WIDTH>();
        for tile in 0..tiles {
            for panel in 0..panels {
                let mut rows = [l.splat(0.0); WIDTH];
                for (r, row) in rows.iter_mut().enumerate() {
                    *row = l.load(&vectors[(tile * LANES + r) * panels + panel]);
                }
                for (k, row) in l.transpose(rows).into_iter().enumerate() {
                    let start = (key + panel * LANES + k) * stride + column + tile * LANES;
                    if let Some(place) = to[start..].first_chunk_mut::<WIDTH>() {
                        l.store(l.add(l.load(place), row), place);
                    }
                }
            }
        }
    }
}
