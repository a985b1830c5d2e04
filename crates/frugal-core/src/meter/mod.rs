//! The back-end that reads the model as its price: shapes go in; FLOPs, bytes and memory come out.
//!
//! It carries no numbers, so a whole training step of a large model is priced in microseconds and
//! a shape error is found before anything is allocated. The planner and the ledger take their
//! figures from here, that is, from the model itself.
//!
//! What is counted: a multiplication and its addition are two FLOPs. Products and attention are
//! counted exactly (attention: only the pairs that causality lets see each other); elementwise
//! work by the number of arithmetic operations of its definition, exponentials as one. Bytes are
//! those of an execution that reads every operand and writes every result once. Reductions of the
//! optimiser count as elementwise work. Cast, put and get are free.
//!
//! The training half is in `meter/train.rs`.

mod train;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

use crate::backend::{
    Attention, Backend, Context, Divergence, Head, HeadProduct, KeyStore, Keys, Linear, LogProbs,
    Picked, RopeColumns, Route, Router, Sampling,
};
use crate::dtype::{DType, Data};
use crate::error::{Error, Result};
use crate::ops::check::{self, AttentionDims, HeadShapes, KeyShapes};
use crate::quant::Format;
use crate::shape::Shape;

/// What a computation costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// FLOPs of matrix products (projections, experts, heads).
    pub product_flops: u64,
    /// FLOPs of attention scores and sums.
    pub attention_flops: u64,
    /// FLOPs of everything else.
    pub elementwise_flops: u64,
    /// Bytes read and written, each operand and result once.
    pub bytes: u64,
    /// Most bytes of tensors alive at one time.
    pub peak_bytes: u64,
}

impl Price {
    /// FLOPs of the model as the field counts them: products and attention.
    #[must_use]
    pub const fn model_flops(&self) -> u64 {
        self.product_flops + self.attention_flops
    }
}

/// A tensor of the [`Meter`]: a shape and a format, no numbers.
#[derive(Debug, Clone)]
pub struct Ghost {
    held: Rc<Held>,
}

#[derive(Debug)]
struct Held {
    shape: Shape,
    bytes: u64,
    ledger: Rc<Ledger>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let live = self.ledger.live.get();
        self.ledger.live.set(live - self.bytes);
    }
}

#[derive(Debug, Default)]
struct Ledger {
    price: Cell<Price>,
    live: Cell<u64>,
}

/// The back-end that counts.
#[derive(Debug)]
pub struct Meter {
    ledger: Rc<Ledger>,
    keys: DType,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            ledger: Rc::default(),
            keys: DType::F32,
        }
    }
}

impl Meter {
    /// A meter at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same for a back-end that keeps keys and values so where they are kept as products read them.
    #[must_use]
    pub fn with_keys_in(self, keys: DType) -> Self {
        Self { keys, ..self }
    }

    /// What has been counted since the last [`Meter::reset`].
    #[must_use]
    pub fn price(&self) -> Price {
        self.ledger.price.get()
    }

    /// Sets the counts to zero and the peak to what is alive now.
    pub fn reset(&self) {
        self.ledger.price.set(Price {
            peak_bytes: self.ledger.live.get(),
            ..Price::default()
        });
    }

    /// Bytes of the tensors alive now.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.ledger.live.get()
    }

    fn count(&self, change: impl FnOnce(&mut Price)) {
        let mut price = self.ledger.price.get();
        change(&mut price);
        self.ledger.price.set(price);
    }

    /// A tensor of a shape, stored in a format.
    ///
    /// # Errors
    /// If the shape is too large to address, or its rows do not fill whole blocks.
    pub fn hold(&self, shape: Shape, format: Format) -> Result<Ghost> {
        Ok(self.hold_bytes(shape, format.bytes(shape)?))
    }

    fn hold_bytes(&self, shape: Shape, bytes: u64) -> Ghost {
        let live = self.ledger.live.get() + bytes;
        self.ledger.live.set(live);
        self.count(|price| price.peak_bytes = price.peak_bytes.max(live));
        Ghost {
            held: Rc::new(Held {
                shape,
                bytes,
                ledger: Rc::clone(&self.ledger),
            }),
        }
    }

    fn make(&self, shape: Shape, dtype: DType) -> Result<Ghost> {
        self.hold(shape, Format::Plain(dtype))
    }

    /// A result of `shape` in f32 that took `flops` of elementwise work over `read` operands.
    fn elementwise(&self, shape: Shape, flops: usize, read: &[&Ghost]) -> Result<Ghost> {
        let out = self.make(shape, DType::F32)?;
        self.count(|price| price.elementwise_flops += flops as u64);
        self.traffic(read, &[&out]);
        Ok(out)
    }

    /// A result of `shape` in f32 that took a product of `multiply_adds` over `read` operands.
    fn product(&self, shape: Shape, multiply_adds: usize, read: &[&Ghost]) -> Result<Ghost> {
        let out = self.make(shape, DType::F32)?;
        self.count(|price| price.product_flops += 2 * multiply_adds as u64);
        self.traffic(read, &[&out]);
        Ok(out)
    }

    fn traffic(&self, read: &[&Ghost], written: &[&Ghost]) {
        let bytes: u64 = read.iter().chain(written).map(|x| x.held.bytes).sum();
        self.count(|price| price.bytes += bytes);
    }
}

/// Pairs of a query row and a key row it sees.
fn visible_pairs(dims: &AttentionDims, attention: &Attention<'_>) -> usize {
    let ranges = attention.rows.ranges();
    let pairs: usize = match attention.context {
        Context::Packed => ranges.map(|r| r.len() * (r.len() + 1) / 2).sum(),
        Context::Paged(pages) => ranges
            .zip(&pages.lengths)
            .map(|(r, keys)| {
                let (n, keys) = (r.len(), (*keys as usize).max(r.len()));
                n * keys - n * n.saturating_sub(1) / 2
            })
            .sum(),
    };
    pairs.min(dims.rows * dims.key_rows)
}

/// The tensors of a [`Keys`].
fn key_tensors(keys: Keys<'_, Ghost>) -> Vec<&Ghost> {
    match keys {
        Keys::Grouped { k, v, .. } => alloc::vec![k, v],
        Keys::Expanded { kv, k_rope, .. } => alloc::vec![kv, k_rope],
        Keys::Latent { latent, .. } => alloc::vec![latent],
    }
}

fn shape_of(x: &Ghost) -> Shape {
    x.held.shape
}

fn route_shapes(route: &Route<Ghost>) -> Route<Shape> {
    check::route_shapes(route, shape_of)
}

fn no_numbers(op: &'static str) -> Error {
    Error::Unsupported {
        op,
        backend: "the meter",
        reason: "it carries shapes, no numbers",
    }
}

impl Backend for Meter {
    type Tensor = Ghost;

    fn put(&self, shape: Shape, data: Data<'_>) -> Result<Ghost> {
        match data {
            Data::Bytes { dtype, .. } => self.make(shape, dtype),
            Data::F32(_) => self.make(shape, DType::F32),
            Data::Fp8Blocks { block, .. } => self.hold(shape, Format::Fp8Blocks(block)),
            Data::Blocks { format, .. } => self.hold(shape, Format::Blocks(format)),
        }
    }

    fn put_indices(&self, indices: &[u32]) -> Result<Ghost> {
        self.make(Shape::vector(indices.len()), DType::U32)
    }

    fn get(&self, _x: &Ghost) -> Result<Vec<f32>> {
        Err(no_numbers("get"))
    }

    fn get_indices(&self, _x: &Ghost) -> Result<Vec<u32>> {
        Err(no_numbers("get_indices"))
    }

    fn zeros(&self, shape: Shape) -> Result<Ghost> {
        self.make(shape, DType::F32)
    }

    fn key_store(&self, store: &KeyStore) -> Result<Ghost> {
        let Some(rows) = store.eight_bits() else {
            return self.make(store.shape(), self.keys);
        };
        store.shape().checked_elements()?;
        let bytes = store.rows as u64 * rows.row_bytes() as u64;
        Ok(self.hold_bytes(store.shape(), bytes))
    }

    fn shape(&self, x: &Ghost) -> Shape {
        shape_of(x)
    }

    fn cast(&self, x: &Ghost, dtype: DType) -> Result<Ghost> {
        self.make(shape_of(x), dtype)
    }

    fn append(&self, store: &mut Ghost, rows: &Ghost, slots: &[u32]) -> Result<()> {
        check::append(shape_of(store), shape_of(rows), slots)?;
        self.traffic(&[rows], &[rows]);
        Ok(())
    }

    fn copy_rows(&self, store: &mut Ghost, from: &[u32], to: &[u32]) -> Result<()> {
        let dims = check::copy_rows(shape_of(store), from, to)?;
        self.count(|price| price.bytes += 8 * (dims.rows * dims.width) as u64);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn linear(&self, x: &Ghost, w: Linear<'_, Ghost>) -> Result<Ghost> {
        let dims = check::linear(shape_of(x), shape_of(w.weight), w.bias.map(shape_of))?;
        let out = Shape::matrix(dims.rows, dims.n);
        self.product(out, dims.rows * dims.n * dims.k, &[x, w.weight])
    }

    fn per_head_linear(&self, x: &Ghost, weight: &Ghost, product: &HeadProduct) -> Result<Ghost> {
        let dims = check::per_head_linear(shape_of(x), shape_of(weight), product)?;
        let out = Shape::matrix(dims.rows, dims.n_heads * (dims.output + dims.passed));
        let multiply_adds = dims.rows * dims.n_heads * dims.input * dims.output;
        self.product(out, multiply_adds, &[x, weight])
    }

    fn grouped_linear(&self, xs: &Ghost, weight: &Ghost, route: &Route<Ghost>) -> Result<Ghost> {
        let dims = check::grouped_linear(shape_of(xs), shape_of(weight), &route_shapes(route))?;
        let slots = dims.route.slots();
        let out = self.product(Shape::matrix(slots, dims.n), slots * dims.n * dims.k, &[xs])?;
        // No more experts are read than there are rows for them.
        let experts = shape_of(weight).stacked().max(1);
        let read = slots.min(experts) as u64;
        self.count(|price| price.bytes += weight.held.bytes / experts as u64 * read);
        Ok(out)
    }

    fn gather(&self, table: &Ghost, ids: &[u32]) -> Result<Ghost> {
        let dims = check::gather(shape_of(table), ids)?;
        let out = self.make(Shape::matrix(dims.rows, dims.width), DType::F32)?;
        self.traffic(&[&out], &[&out]);
        Ok(out)
    }

    fn rms_norm(&self, x: &Ghost, weight: &Ghost, eps: f32) -> Result<Ghost> {
        check::rms_norm(shape_of(x), shape_of(weight), eps)?;
        self.elementwise(shape_of(x), 4 * shape_of(x).elements(), &[x])
    }

    fn swiglu(&self, gate: &Ghost, up: &Ghost) -> Result<Ghost> {
        let n = check::swiglu(shape_of(gate), shape_of(up))?;
        self.elementwise(shape_of(gate), 5 * n, &[gate, up])
    }

    fn add(&self, a: &Ghost, b: &Ghost) -> Result<Ghost> {
        let n = check::add(shape_of(a), shape_of(b))?;
        self.elementwise(shape_of(a), n, &[a, b])
    }

    fn split(&self, x: &Ghost, n_heads: usize, widths: &[usize]) -> Result<Vec<Ghost>> {
        let dims = check::split(shape_of(x), n_heads, widths)?;
        self.traffic(&[x], &[x]);
        widths
            .iter()
            .map(|width| self.make(Shape::matrix(dims.rows, n_heads * width), DType::F32))
            .collect()
    }

    fn join(&self, parts: &[&Ghost], n_heads: usize) -> Result<Ghost> {
        let shapes: Vec<Shape> = parts.iter().map(|part| shape_of(part)).collect();
        let dims = check::join(&shapes, n_heads)?;
        self.elementwise(
            Shape::matrix(dims.rows, dims.n_heads * dims.head_width),
            0,
            parts,
        )
    }

    fn rope(
        &self,
        x: &Ghost,
        table: &Ghost,
        positions: &[u32],
        columns: RopeColumns,
    ) -> Result<Ghost> {
        let dims = check::rope(shape_of(x), shape_of(table), positions, columns)?;
        let rotated = dims.rows * columns.n_heads * columns.width;
        self.elementwise(shape_of(x), 3 * rotated, &[x])
    }

    fn attention(
        &self,
        q: &Ghost,
        keys: Keys<'_, Ghost>,
        attention: &Attention<'_>,
    ) -> Result<Ghost> {
        let dims = check::attention(shape_of(q), KeyShapes::of(keys, shape_of), attention)?;
        self.attend(q, keys, attention, &dims)
    }

    fn route(&self, logits: &Ghost, bias: Option<&Ghost>, router: &Router) -> Result<Route<Ghost>> {
        let dims = check::route(shape_of(logits), bias.map(shape_of), router)?;
        let chosen = Shape::matrix(dims.rows, dims.top_k);
        let weights = self.elementwise(chosen, 5 * shape_of(logits).elements(), &[logits])?;
        Ok(Route {
            experts: self.make(chosen, DType::U32)?,
            weights,
            order: self.make(Shape::vector(dims.slots()), DType::U32)?,
            offsets: self.make(Shape::vector(dims.n_experts + 1), DType::U32)?,
        })
    }

    fn dispatch(&self, x: &Ghost, route: &Route<Ghost>) -> Result<Ghost> {
        let dims = check::dispatch(shape_of(x), &route_shapes(route))?;
        self.elementwise(Shape::matrix(dims.route.slots(), dims.width), 0, &[x])
    }

    fn combine(&self, ys: &Ghost, route: &Route<Ghost>) -> Result<Ghost> {
        let dims = check::combine(shape_of(ys), &route_shapes(route))?;
        let out = Shape::matrix(dims.route.rows, dims.width);
        self.elementwise(out, 2 * shape_of(ys).elements(), &[ys])
    }

    fn log_prob(
        &self,
        head: Head<'_, Ghost>,
        targets: &[u32],
        temperature: f32,
    ) -> Result<LogProbs<Ghost>> {
        let dims = check::log_prob(HeadShapes::of(head, shape_of), targets, temperature)?;
        let out = Shape::vector(dims.rows);
        let logits = dims.rows * dims.n;
        let log_prob = self.product(out, logits * dims.k, &[head.hidden, head.weight])?;
        Ok(LogProbs {
            log_prob,
            entropy: self.elementwise(out, 6 * logits, &[])?,
        })
    }

    fn divergence(
        &self,
        student: Head<'_, Ghost>,
        teacher: Head<'_, Ghost>,
        divergence: Divergence,
    ) -> Result<Ghost> {
        let shapes = [
            HeadShapes::of(student, shape_of),
            HeadShapes::of(teacher, shape_of),
        ];
        let dims = check::divergence(shapes[0], shapes[1], divergence)?;
        let logits = dims.rows * dims.vocabulary;
        self.count(|price| price.elementwise_flops += 10 * logits as u64);
        let read = [
            student.hidden,
            student.weight,
            teacher.hidden,
            teacher.weight,
        ];
        self.product(
            Shape::vector(dims.rows),
            logits * (dims.student + dims.teacher),
            &read,
        )
    }

    fn pick(&self, logits: &Ghost, sampling: &Sampling, uniforms: &[f32]) -> Result<Picked> {
        let (rows, vocabulary) = check::pick(shape_of(logits), sampling, uniforms)?;
        self.count(|price| price.elementwise_flops += 5 * (rows * vocabulary) as u64);
        self.traffic(&[logits], &[]);
        Ok(Picked {
            ids: alloc::vec![0; rows],
            log_probs: alloc::vec![0.0; rows],
        })
    }
}

impl Meter {
    fn attend(
        &self,
        q: &Ghost,
        keys: Keys<'_, Ghost>,
        attention: &Attention<'_>,
        dims: &AttentionDims,
    ) -> Result<Ghost> {
        let pairs = dims.n_heads * visible_pairs(dims, attention);
        self.count(|price| {
            price.attention_flops += 2 * (pairs * (dims.q_width + dims.value_width)) as u64;
            price.elementwise_flops += 4 * pairs as u64;
        });
        let out = self.make(
            Shape::matrix(dims.rows, dims.n_heads * dims.value_width),
            DType::F32,
        )?;
        self.traffic(&[q], &[&out]);
        match attention.context {
            Context::Packed => self.traffic(&key_tensors(keys), &[]),
            Context::Paged(pages) => {
                let seen: u64 = pages.lengths.iter().map(|n| u64::from(*n)).sum();
                let row: u64 = key_tensors(keys)
                    .iter()
                    .map(|x| x.held.bytes / (shape_of(x).rows().max(1) as u64))
                    .sum();
                self.count(|price| price.bytes += seen * row);
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Product;
    use crate::shape::Rows;

    #[test]
    fn a_product_counts_two_flops_a_multiply_add_and_its_bytes() {
        let meter = Meter::new();
        let x = meter.zeros(Shape::matrix(3, 5)).unwrap();
        let weight = meter.put(
            Shape::matrix(7, 5),
            Data::Bytes {
                dtype: DType::Bf16,
                bytes: &[],
            },
        );
        let weight = weight.unwrap();
        let w = Linear {
            weight: &weight,
            bias: None,
            product: Product::Policy,
        };
        let y = meter.linear(&x, w).unwrap();
        assert_eq!(meter.shape(&y), Shape::matrix(3, 7));
        let price = meter.price();
        assert_eq!(price.product_flops, 2 * 3 * 5 * 7);
        assert_eq!(price.bytes, 4 * 15 + 2 * 35 + 4 * 21);
        assert_eq!(price.peak_bytes, 4 * 15 + 2 * 35 + 4 * 21);
        drop((x, y));
        assert_eq!(meter.live_bytes(), 2 * 35);
    }

    #[test]
    fn attention_counts_only_what_causality_lets_see() {
        let meter = Meter::new();
        let rows = Rows::packed(&[3, 2]).unwrap();
        let q = meter.zeros(Shape::matrix(5, 8)).unwrap();
        let k = meter.zeros(Shape::matrix(5, 4)).unwrap();
        let attention = Attention {
            n_heads: 2,
            scale: 1.0,
            rows: &rows,
            context: Context::Packed,
        };
        let keys = Keys::Grouped {
            k: &k,
            v: &k,
            n_kv_heads: 1,
        };
        meter.attention(&q, keys, &attention).unwrap();
        // (6 + 3) pairs, 2 heads, 4 + 4 columns, 2 FLOPs.
        assert_eq!(meter.price().attention_flops, 9 * 2 * 8 * 2);
    }

    #[test]
    fn a_shape_error_is_found_before_any_allocation() {
        let meter = Meter::new();
        let x = meter.zeros(Shape::matrix(3, 5)).unwrap();
        let weight = meter.zeros(Shape::matrix(7, 6)).unwrap();
        let w = Linear {
            weight: &weight,
            bias: None,
            product: Product::Policy,
        };
        assert!(matches!(
            meter.linear(&x, w),
            Err(Error::Shape { op: "linear", .. })
        ));
        assert!(meter.zeros(Shape::matrix(usize::MAX, 2)).is_err());
    }
}
