//! The back-end whose results are right by definition: [`crate::ops`], one call each.
//!
//! Everything is f32 on the host with sums in f64; the policy knows no other precision, so
//! [`Product::Exact`](crate::backend::Product::Exact) changes nothing. It is the oracle of the
//! conformance suite and runs where nothing else does; it is not meant to be fast. A tensor cast to
//! bf16 holds bf16 values and rounds whatever is written to it; so does a key store of 8 bits. The training half is in
//! `reference/train.rs`.

mod train;

use alloc::borrow::ToOwned;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::backend::{
    Attention, Backend, Divergence, Head, HeadProduct, KeyStore, Keys, Linear, LogProbs, Picked,
    RopeColumns, Route, Router, Sampling,
};
use crate::dtype::{DType, Data, decode, round_bf16};
use crate::error::{Error, Result};
use crate::ops::attention::Operands;
use crate::ops::check::{self, HeadShapes, KeyShapes, RouteDims};
use crate::ops::divergence::Heads;
use crate::ops::{
    attention, dispatch_combine, divergence, elementwise, gather, grouped_linear, linear, log_prob,
    math, per_head_linear, pick, rms_norm, rope, route, split_join,
};
use crate::quant::rows::EightBitRows;
use crate::shape::Shape;

/// The reference back-end. It holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference;

/// A tensor of [`Reference`]: numbers or indices on the host, shared until written to.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    shape: Shape,
    values: Values,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    F32(Arc<Vec<f32>>),
    /// f32 values that bf16 holds.
    Bf16(Arc<Vec<f32>>),
    /// f32 values that rows of 8 bits hold.
    EightBits(Arc<Vec<f32>>, EightBitRows),
    Indices(Arc<Vec<u32>>),
}

fn unsupported(op: &'static str, reason: &'static str) -> Error {
    Error::Unsupported {
        op,
        backend: "Reference",
        reason,
    }
}

impl HostTensor {
    fn new(shape: Shape, values: Vec<f32>) -> Self {
        Self {
            shape,
            values: Values::F32(Arc::new(values)),
        }
    }

    fn indices_of(shape: Shape, indices: Vec<u32>) -> Self {
        Self {
            shape,
            values: Values::Indices(Arc::new(indices)),
        }
    }

    /// The shape.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The stored format; of rows of 8 bits what they are read in.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        match self.values {
            Values::F32(_) | Values::EightBits(..) => DType::F32,
            Values::Bf16(_) => DType::Bf16,
            Values::Indices(_) => DType::U32,
        }
    }

    /// The numbers, row-major.
    pub fn numbers(&self) -> Result<&[f32]> {
        match &self.values {
            Values::F32(values) | Values::Bf16(values) | Values::EightBits(values, _) => Ok(values),
            Values::Indices(_) => Err(unsupported("reading numbers", "the tensor holds indices")),
        }
    }

    /// The indices.
    pub fn indices(&self) -> Result<&[u32]> {
        match &self.values {
            Values::Indices(indices) => Ok(indices),
            Values::F32(_) | Values::Bf16(_) | Values::EightBits(..) => {
                Err(unsupported("reading indices", "the tensor holds numbers"))
            }
        }
    }

    /// The numbers, to be changed; [`HostTensor::settle`] has to follow.
    fn numbers_mut(&mut self) -> Result<&mut [f32]> {
        match &mut self.values {
            Values::F32(values) | Values::Bf16(values) | Values::EightBits(values, _) => {
                Ok(Arc::<Vec<f32>>::make_mut(values))
            }
            Values::Indices(_) => Err(unsupported("writing numbers", "the tensor holds indices")),
        }
    }

    /// Rounds changed numbers to the stored format.
    fn settle(&mut self) {
        match &mut self.values {
            Values::Bf16(values) => {
                for value in Arc::<Vec<f32>>::make_mut(values) {
                    *value = round_bf16(*value);
                }
            }
            Values::EightBits(values, rows) => {
                let mut bytes = vec![0; rows.row_bytes()];
                let values = Arc::<Vec<f32>>::make_mut(values);
                for row in values.chunks_exact_mut(rows.width().max(1)) {
                    rows.round(row, &mut bytes);
                }
            }
            Values::F32(_) | Values::Indices(_) => {}
        }
    }

    /// Lets `write` change the numbers.
    fn write<R>(&mut self, write: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
        let result = write(self.numbers_mut()?);
        self.settle();
        Ok(result)
    }
}

/// A route whose indices were fetched and checked.
struct Plan<'a> {
    order: &'a [u32],
    offsets: &'a [u32],
}

impl<'a> Plan<'a> {
    fn of(op: &'static str, route: &'a Route<HostTensor>, dims: RouteDims) -> Result<Self> {
        let order = route.order.indices()?;
        let offsets = route.offsets.indices()?;
        check::route_plan(op, dims, order, offsets)?;
        Ok(Self { order, offsets })
    }
}

fn shapes(route: &Route<HostTensor>) -> Route<Shape> {
    check::route_shapes(route, HostTensor::shape)
}

fn operands<'a>(q: &'a HostTensor, keys: Keys<'a, HostTensor>) -> Result<Operands<'a>> {
    let (first, second) = match keys {
        Keys::Grouped { k, v, .. } => (k, Some(v)),
        Keys::Expanded { kv, k_rope, .. } => (kv, Some(k_rope)),
        Keys::Latent { latent, .. } => (latent, None),
    };
    Ok(Operands {
        q: q.numbers()?,
        first: first.numbers()?,
        second: second.map_or(Ok(&[][..]), HostTensor::numbers)?,
    })
}

fn heads<'a>(student: Head<'a, HostTensor>, teacher: Head<'a, HostTensor>) -> Result<Heads<'a>> {
    Ok(Heads {
        student: [student.hidden.numbers()?, student.weight.numbers()?],
        teacher: [teacher.hidden.numbers()?, teacher.weight.numbers()?],
    })
}

fn optional(x: Option<&HostTensor>) -> Result<Option<&[f32]>> {
    x.map(HostTensor::numbers).transpose()
}

impl Backend for Reference {
    type Tensor = HostTensor;

    fn put(&self, shape: Shape, data: Data<'_>) -> Result<HostTensor> {
        Ok(HostTensor::new(shape, decode(shape, data)?))
    }

    fn put_indices(&self, indices: &[u32]) -> Result<HostTensor> {
        let shape = Shape::vector(indices.len());
        Ok(HostTensor::indices_of(shape, indices.to_vec()))
    }

    fn get(&self, x: &HostTensor) -> Result<Vec<f32>> {
        x.numbers().map(ToOwned::to_owned)
    }

    fn get_indices(&self, x: &HostTensor) -> Result<Vec<u32>> {
        x.indices().map(ToOwned::to_owned)
    }

    fn zeros(&self, shape: Shape) -> Result<HostTensor> {
        Ok(HostTensor::new(shape, vec![0.0; shape.checked_elements()?]))
    }

    fn key_store(&self, store: &KeyStore) -> Result<HostTensor> {
        let zeros = self.zeros(store.shape())?;
        Ok(match (store.eight_bits(), zeros.values) {
            (Some(rows), Values::F32(values)) => HostTensor {
                shape: zeros.shape,
                values: Values::EightBits(values, rows),
            },
            (_, values) => HostTensor { values, ..zeros },
        })
    }

    fn shape(&self, x: &HostTensor) -> Shape {
        x.shape
    }

    fn cast(&self, x: &HostTensor, dtype: DType) -> Result<HostTensor> {
        let numbers = x.numbers()?;
        let values = match dtype {
            DType::F32 => Values::F32(Arc::new(numbers.to_vec())),
            DType::Bf16 => Values::Bf16(Arc::new(numbers.iter().map(|x| round_bf16(*x)).collect())),
            _ => return Err(unsupported("cast", "tensors are stored in f32 or bf16")),
        };
        Ok(HostTensor {
            shape: x.shape,
            values,
        })
    }

    fn append(&self, store: &mut HostTensor, rows: &HostTensor, slots: &[u32]) -> Result<()> {
        let dims = check::append(store.shape, rows.shape, slots)?;
        let rows = rows.numbers()?;
        store.write(|store| {
            for (i, slot) in slots.iter().enumerate() {
                math::row_mut(store, *slot as usize, dims.width)
                    .copy_from_slice(math::row(rows, i, dims.width));
            }
        })
    }

    fn copy_rows(&self, store: &mut HostTensor, from: &[u32], to: &[u32]) -> Result<()> {
        let dims = check::copy_rows(store.shape, from, to)?;
        store.write(|store| {
            for (from, to) in from.iter().zip(to) {
                let source = math::row(store, *from as usize, dims.width).to_vec();
                math::row_mut(store, *to as usize, dims.width).copy_from_slice(&source);
            }
        })
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn linear(&self, x: &HostTensor, w: Linear<'_, HostTensor>) -> Result<HostTensor> {
        let dims = check::linear(x.shape, w.weight.shape, w.bias.map(HostTensor::shape))?;
        let bias = optional(w.bias)?;
        let y = linear::forward(x.numbers()?, w.weight.numbers()?, bias, dims);
        Ok(HostTensor::new(Shape::matrix(dims.rows, dims.n), y))
    }

    fn per_head_linear(
        &self,
        x: &HostTensor,
        weight: &HostTensor,
        product: &HeadProduct,
    ) -> Result<HostTensor> {
        let dims = check::per_head_linear(x.shape, weight.shape, product)?;
        let (x, weight) = (x.numbers()?, weight.numbers()?);
        let y = per_head_linear::forward(x, weight, dims, product.direction);
        let shape = Shape::matrix(dims.rows, dims.n_heads * (dims.output + dims.passed));
        Ok(HostTensor::new(shape, y))
    }

    fn grouped_linear(
        &self,
        xs: &HostTensor,
        weight: &HostTensor,
        route: &Route<HostTensor>,
    ) -> Result<HostTensor> {
        let dims = check::grouped_linear(xs.shape, weight.shape, &shapes(route))?;
        let plan = Plan::of("grouped_linear", route, dims.route)?;
        let y = grouped_linear::forward(xs.numbers()?, weight.numbers()?, plan.offsets, dims);
        Ok(HostTensor::new(
            Shape::matrix(dims.route.slots(), dims.n),
            y,
        ))
    }

    fn gather(&self, table: &HostTensor, ids: &[u32]) -> Result<HostTensor> {
        let dims = check::gather(table.shape, ids)?;
        let rows = gather::forward(table.numbers()?, ids, dims);
        Ok(HostTensor::new(Shape::matrix(dims.rows, dims.width), rows))
    }

    fn rms_norm(&self, x: &HostTensor, weight: &HostTensor, eps: f32) -> Result<HostTensor> {
        let dims = check::rms_norm(x.shape, weight.shape, eps)?;
        let y = rms_norm::forward(x.numbers()?, weight.numbers()?, eps, dims);
        Ok(HostTensor::new(x.shape, y))
    }

    fn swiglu(&self, gate: &HostTensor, up: &HostTensor) -> Result<HostTensor> {
        check::swiglu(gate.shape, up.shape)?;
        let y = elementwise::swiglu(gate.numbers()?, up.numbers()?);
        Ok(HostTensor::new(gate.shape, y))
    }

    fn add(&self, a: &HostTensor, b: &HostTensor) -> Result<HostTensor> {
        check::add(a.shape, b.shape)?;
        let y = elementwise::add(a.numbers()?, b.numbers()?);
        Ok(HostTensor::new(a.shape, y))
    }

    fn split(&self, x: &HostTensor, n_heads: usize, widths: &[usize]) -> Result<Vec<HostTensor>> {
        let dims = check::split(x.shape, n_heads, widths)?;
        let parts = split_join::split(x.numbers()?, &dims);
        let shape = |width: &usize| Shape::matrix(dims.rows, n_heads * width);
        Ok(parts
            .into_iter()
            .zip(widths)
            .map(|(part, width)| HostTensor::new(shape(width), part))
            .collect())
    }

    fn join(&self, parts: &[&HostTensor], n_heads: usize) -> Result<HostTensor> {
        let part_shapes: Vec<Shape> = parts.iter().map(|part| part.shape).collect();
        let dims = check::join(&part_shapes, n_heads)?;
        let parts: Vec<&[f32]> = parts.iter().map(|x| x.numbers()).collect::<Result<_>>()?;
        let shape = Shape::matrix(dims.rows, n_heads * dims.head_width);
        Ok(HostTensor::new(shape, split_join::join(&parts, &dims)))
    }

    fn rope(
        &self,
        x: &HostTensor,
        table: &HostTensor,
        positions: &[u32],
        columns: RopeColumns,
    ) -> Result<HostTensor> {
        check::rope(x.shape, table.shape, positions, columns)?;
        let y = rope::forward(x.numbers()?, table.numbers()?, positions, columns);
        Ok(HostTensor::new(x.shape, y))
    }

    fn attention(
        &self,
        q: &HostTensor,
        keys: Keys<'_, HostTensor>,
        attention: &Attention<'_>,
    ) -> Result<HostTensor> {
        let key_shapes = KeyShapes::of(keys, HostTensor::shape);
        let dims = check::attention(q.shape, key_shapes, attention)?;
        let (y, _) = attention::forward(&operands(q, keys)?, &dims, attention);
        let shape = Shape::matrix(dims.rows, dims.n_heads * dims.value_width);
        Ok(HostTensor::new(shape, y))
    }

    fn route(
        &self,
        logits: &HostTensor,
        bias: Option<&HostTensor>,
        router: &Router,
    ) -> Result<Route<HostTensor>> {
        let dims = check::route(logits.shape, bias.map(HostTensor::shape), router)?;
        let (experts, weights) = route::forward(logits.numbers()?, optional(bias)?, router, dims);
        let (order, offsets) = route::plan(&experts, dims.n_experts)?;
        let shape = Shape::matrix(dims.rows, dims.top_k);
        Ok(Route {
            experts: HostTensor::indices_of(shape, experts),
            weights: HostTensor::new(shape, weights),
            order: self.put_indices(&order)?,
            offsets: self.put_indices(&offsets)?,
        })
    }

    fn dispatch(&self, x: &HostTensor, route: &Route<HostTensor>) -> Result<HostTensor> {
        let dims = check::dispatch(x.shape, &shapes(route))?;
        let plan = Plan::of("dispatch", route, dims.route)?;
        let xs = dispatch_combine::dispatch(x.numbers()?, plan.order, dims);
        Ok(HostTensor::new(
            Shape::matrix(dims.route.slots(), dims.width),
            xs,
        ))
    }

    fn combine(&self, ys: &HostTensor, route: &Route<HostTensor>) -> Result<HostTensor> {
        let dims = check::combine(ys.shape, &shapes(route))?;
        let plan = Plan::of("combine", route, dims.route)?;
        let weights = route.weights.numbers()?;
        let y = dispatch_combine::combine(ys.numbers()?, plan.order, weights, dims);
        Ok(HostTensor::new(
            Shape::matrix(dims.route.rows, dims.width),
            y,
        ))
    }

    fn log_prob(
        &self,
        head: Head<'_, HostTensor>,
        targets: &[u32],
        temperature: f32,
    ) -> Result<LogProbs<HostTensor>> {
        let head_shapes = HeadShapes::of(head, HostTensor::shape);
        let dims = check::log_prob(head_shapes, targets, temperature)?;
        let (hidden, weight) = (head.hidden.numbers()?, head.weight.numbers()?);
        let (log_prob, entropy) = log_prob::forward(hidden, weight, targets, temperature, dims);
        Ok(LogProbs {
            log_prob: HostTensor::new(Shape::vector(dims.rows), log_prob),
            entropy: HostTensor::new(Shape::vector(dims.rows), entropy),
        })
    }

    fn divergence(
        &self,
        student: Head<'_, HostTensor>,
        teacher: Head<'_, HostTensor>,
        divergence: Divergence,
    ) -> Result<HostTensor> {
        let own = HeadShapes::of(student, HostTensor::shape);
        let other = HeadShapes::of(teacher, HostTensor::shape);
        let dims = check::divergence(own, other, divergence)?;
        let values = divergence::forward(heads(student, teacher)?, divergence, dims);
        Ok(HostTensor::new(Shape::vector(dims.rows), values))
    }

    fn pick(&self, logits: &HostTensor, sampling: &Sampling, uniforms: &[f32]) -> Result<Picked> {
        let (_, vocabulary) = check::pick(logits.shape, sampling, uniforms)?;
        let logits = logits.numbers()?;
        let mut picked = Picked {
            ids: Vec::with_capacity(uniforms.len()),
            log_probs: Vec::with_capacity(uniforms.len()),
        };
        for (t, uniform) in uniforms.iter().enumerate() {
            let (id, log_prob) = pick::row(math::row(logits, t, vocabulary), sampling, *uniform)?;
            picked.ids.push(id);
            picked.log_probs.push(log_prob);
        }
        Ok(picked)
    }
}
