//! Experts: the plan of a route, moving rows to experts and back, and the backward of both.
//!
//! Rows of experts are summed in the order of choice, so nothing depends on the number of threads.
//! Choosing experts is in [`super::route`], the products with them in [`super::gemm`].
//! Meaning: `frugal_core::ops::dispatch_combine`.

use frugal_core::backend::Route;
use frugal_core::dtype::DType;
use frugal_core::error::Result;
use frugal_core::ops::check::{self, RouteDims};
use frugal_core::shape::Shape;

use super::backend::Cpu;
use super::gemm::Precision;
use super::layout::copy_rows;
use super::memory::Block;
use super::pool::DisjointMut;
use super::tensor::{Tensor, narrow_all, with_wide};
use super::vector::{WIDTH, add_into, axpy, kernel};

/// Numbers of a piece of moving work.
const MOVED: usize = 16 * 1024;
/// Those of a piece that stays in the first-level cache.
const NEAR: usize = 4 * 1024;

fn rows_of_a_piece(width: usize) -> usize {
    (MOVED / width.max(1)).clamp(1, 1024)
}

/// The slots of each expert, by counting.
pub(super) fn plan(cpu: &Cpu, experts: &[u32], dims: RouteDims) -> (Tensor, Tensor) {
    let mut ends = cpu.memory.take((dims.n_experts + 1) * size_of::<u32>());
    let offsets = ends
        .u32s_mut()
        .get_mut(..=dims.n_experts)
        .unwrap_or_default();
    offsets.fill(0);
    for expert in experts {
        if let Some(count) = offsets.get_mut(*expert as usize + 1) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for offset in offsets.iter_mut() {
        sum += *offset;
        *offset = sum;
    }
    let mut next = offsets.to_vec();
    let [mut order, mut slots]: [Block; 2] =
        std::array::from_fn(|_| cpu.memory.take(size_of_val(experts)));
    let order_values = order.u32s_mut();
    for ((position, expert), slot) in (0..).zip(experts).zip(slots.u32s_mut()) {
        let Some(next) = next.get_mut(*expert as usize) else {
            continue;
        };
        if let Some(place) = order_values.get_mut(*next as usize) {
            *place = position;
        }
        *slot = *next;
        *next += 1;
    }
    let number = cpu.next_route();
    let order = Tensor::new(Shape::vector(experts.len()), DType::U32, order);
    let offsets = Tensor::new(Shape::vector(dims.n_experts + 1), DType::U32, ends);
    (
        order.of_route(number, Some(slots)),
        offsets.of_route(number, None),
    )
}

/// The shapes of a route.
pub(super) fn shapes(route: &Route<Tensor>) -> Route<Shape> {
    check::route_shapes(route, Tensor::shape)
}

/// Order and offsets of a route, safe to follow: our own are, others are checked.
pub(super) fn followed<'a>(
    op: &'static str,
    dims: RouteDims,
    route: &'a Route<Tensor>,
) -> Result<(&'a [u32], &'a [u32])> {
    let (order, offsets) = (route.order.indices(op)?, route.offsets.indices(op)?);
    let is_ours = route.order.route() != 0 && route.order.route() == route.offsets.route();
    if !is_ours {
        check::route_plan(op, dims, order, offsets)?;
    }
    Ok((order, offsets))
}

pub(super) fn dispatch(cpu: &Cpu, x: &Tensor, route: &Route<Tensor>) -> Result<Tensor> {
    let dims = check::dispatch(x.shape(), &shapes(route))?;
    let (order, _) = followed("dispatch", dims.route, route)?;
    let values = x.floats("dispatch")?;
    let values: &[f32] = &values;
    let k = dims.route.top_k.max(1);
    cpu.produce(Shape::matrix(order.len(), dims.width), |y| {
        let from = |slot: usize| order.get(slot).map_or(0, |position| *position as usize / k);
        copy_rows(cpu, values, from, (y, dims.width));
    })
}

/// As [`dispatch`], for products to read.
pub(super) fn dispatch_for_products(
    cpu: &Cpu,
    x: &Tensor,
    route: &Route<Tensor>,
) -> Result<Tensor> {
    let dims = check::dispatch(x.shape(), &shapes(route))?;
    let (order, _) = followed("dispatch", dims.route, route)?;
    let values = x.floats("dispatch")?;
    let values: &[f32] = &values;
    let (k, width) = (dims.route.top_k.max(1), dims.width);
    let shape = Shape::matrix(order.len(), width);
    // A piece is in the first-level cache until it is rounded.
    let piece = (NEAR / width.max(1)).max(1) * width;
    cpu.produce_for_products(shape, piece, |start, y| {
        for (r, y) in y.chunks_exact_mut(width.max(1)).enumerate() {
            let position = order.get(start / width.max(1) + r);
            let from = position.map_or(0, |position| *position as usize / k) * width;
            y.copy_from_slice(values.get(from..from + width).unwrap_or(&[]));
        }
    })
}

/// Rows of experts' results and where to find them.
struct Slots<'a> {
    values: &'a [f32],
    /// The slots of the piece's positions.
    places: &'a [u32],
    /// Their weights; none for a plain sum.
    weights: Option<&'a [f32]>,
    top_k: usize,
    width: usize,
}

kernel! {
    fn sum_slots<L>(l, from: &Slots<'_>, y: &mut [f32]) {
        let Slots { values, places, weights, top_k, width } = *from;
        for (t, y) in y.chunks_exact_mut(width.max(1)).enumerate() {
            y.fill(0.0);
            for position in t * top_k..(t + 1) * top_k {
                let Some(slot) = places.get(position) else { continue };
                let start = *slot as usize * width;
                let x = values.get(start..start + width).unwrap_or(&[]);
                match weights {
                    Some(weights) => axpy(l, weights.get(position).copied().unwrap_or(0.0), x, y),
                    None => add_into(l, x, y),
                }
            }
        }
    }
}

fn sum_of_slots(
    cpu: &Cpu,
    (values, weights): (&[f32], Option<&[f32]>),
    slots: &[u32],
    (dims, width): (RouteDims, usize),
) -> Result<Tensor> {
    let rows = rows_of_a_piece(width);
    cpu.produce(Shape::matrix(dims.rows, width), |y| {
        cpu.pool.for_each_chunk(y, rows * width, |i, y| {
            let first = (i * rows * dims.top_k).min(slots.len());
            let from = Slots {
                values,
                places: slots.get(first..).unwrap_or(&[]),
                weights: weights.map(|weights| weights.get(first..).unwrap_or(&[])),
                top_k: dims.top_k,
                width,
            };
            sum_slots(cpu.level, &from, y);
        });
    })
}

pub(super) fn combine(cpu: &Cpu, ys: &Tensor, route: &Route<Tensor>) -> Result<Tensor> {
    const OP: &str = "combine";
    let dims = check::combine(ys.shape(), &shapes(route))?;
    followed(OP, dims.route, route)?;
    let (values, weights) = (ys.floats(OP)?, route.weights.floats(OP)?);
    let from = (&*values, Some(&*weights));
    sum_of_slots(cpu, from, route.order.slots(OP)?, (dims.route, dims.width))
}

pub(super) fn dispatch_backward(cpu: &Cpu, dxs: &Tensor, route: &Route<Tensor>) -> Result<Tensor> {
    const OP: &str = "dispatch_backward";
    let dims = check::dispatch_backward(dxs.shape(), &shapes(route))?;
    followed(OP, dims.route, route)?;
    let values = dxs.floats(OP)?;
    let slots = route.order.slots(OP)?;
    sum_of_slots(cpu, (&*values, None), slots, (dims.route, dims.width))
}

kernel! {
    /// d ys of one slot; gives d of its weight.
    fn slot_backward<L>(l, y: &[f32], dy: &[f32], weight: f32, d_y: &mut [f32]) -> f32 {
        let factor = l.splat(weight);
        let mut sum = l.splat(0.0);
        let (y_parts, y_tail) = y.as_chunks::<WIDTH>();
        let (dy_parts, dy_tail) = dy.as_chunks::<WIDTH>();
        let (to_parts, to_tail) = d_y.as_chunks_mut::<WIDTH>();
        for ((y, dy), to) in y_parts.iter().zip(dy_parts).zip(to_parts) {
            let dy = l.load(dy);
            sum = l.mul_add(dy, l.load(y), sum);
            l.store(l.mul(factor, dy), to);
        }
        let dy = l.load_part(dy_tail);
        l.store_part(l.mul(factor, dy), to_tail);
        l.sum(l.mul_add(dy, l.load_part(y_tail), sum))
    }
}

/// d ys is rounded where products read it, `is_for_products`.
pub(super) fn combine_backward(
    cpu: &Cpu,
    (ys, is_for_products): (&Tensor, bool),
    route: &Route<Tensor>,
    dy: &Tensor,
) -> Result<(Tensor, Tensor)> {
    const OP: &str = "combine_backward";
    let dims = check::combine_backward(ys.shape(), &shapes(route), dy.shape())?;
    followed(OP, dims.route, route)?;
    let slots = route.order.slots(OP)?;
    let (values, weights, dy_values) = (ys.floats(OP)?, route.weights.floats(OP)?, dy.floats(OP)?);
    let (values, weights, dy): (&[f32], &[f32], &[f32]) = (&values, &weights, &dy_values);
    let (k, width) = (dims.route.top_k, dims.width);
    let rows = rows_of_a_piece(width);
    let slope = |position: usize, d_y: &mut [f32]| {
        let slot = slots.get(position).map_or(0, |slot| *slot as usize);
        let row = position / k * width;
        let y = values.get(slot * width..(slot + 1) * width).unwrap_or(&[]);
        let dy = dy.get(row..row + width).unwrap_or(&[]);
        let weight = weights.get(position).copied().unwrap_or(0.0);
        slot_backward(cpu.level, y, dy, weight, d_y)
    };
    let place = |position: usize| {
        let slot = slots.get(position).map_or(0, |slot| *slot as usize);
        slot * width..(slot + 1) * width
    };
    let mut d_weights = cpu.blank(route.weights.shape())?;
    if is_for_products && cpu.precision == Precision::Bf16 {
        let mut d_ys = cpu.narrow(ys.shape())?;
        let to = DisjointMut::new(d_ys.values());
        cpu.pool
            .for_each_chunk(d_weights.values(), rows * k, |i, d_weights| {
                with_wide(width, |wide| {
                    for (position, d_weight) in (i * rows * k..).zip(d_weights) {
                        *d_weight = slope(position, wide);
                        // SAFETY: slots are a permutation (made by `plan` or checked by
                        // `route_plan`), so each is met once.
                        narrow_all(cpu.level, wide, unsafe { to.slice(place(position)) });
                    }
                });
            });
        return Ok((d_ys.done(), d_weights.done()));
    }
    let mut d_ys = cpu.blank(ys.shape())?;
    let to = DisjointMut::new(d_ys.values());
    cpu.pool
        .for_each_chunk(d_weights.values(), rows * k, |i, d_weights| {
            for (position, d_weight) in (i * rows * k..).zip(d_weights) {
                // SAFETY: as above.
                *d_weight = slope(position, unsafe { to.slice(place(position)) });
            }
        });
    Ok((d_ys.done(), d_weights.done()))
}
