//! The CPU back-end: the operations of [`Backend`] on the kernels of this crate.
//!
//! Here are the settings, memory and products; every other operation is a line that names its file.
//! Activations are f32 in memory. Under [`Precision::Bf16`] the operands of products (of attention's
//! where there are tile registers) are rounded to bf16 and summed in f32; everything else is f32.
//! Results do not depend on the number of threads.
//!
//! Each operation goes through four storeys: check (`frugal_core::ops::check`, so that errors are
//! those of the reference), choose (sizes of pieces, from shapes alone), launch (the pool), inner
//! (`vector`). The training half is `backend_train`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use frugal_core::backend::{
    Attention, Backend, Divergence, Head, HeadDirection, HeadProduct, KeyStore, Keys, Linear,
    LogProbs, Picked, Product, RopeColumns, Route, Router, Sampling,
};
use frugal_core::dtype::{DType, Data, decode};
use frugal_core::error::{Error, Result};
use frugal_core::ops::check;
use frugal_core::shape::Shape;
use frugal_core::stored::Stored;

use super::detect::{CpuFeatures, Isa};
use super::gemm::{
    BlockProducts, Finish, Gemm, GemmError, HeadMat, HeadMatMut, HeadShape, MatMut, Precision,
};
use super::memory::Recycler;
use super::pool::{Pool, PoolError};
use super::rope::Turn;
use super::stored::StoredWeight;
use super::tensor::{Blank, NarrowBlank, Tensor, WeightPart, narrow_all, with_wide};
use super::vector::Level;
use super::{activation, attention, divergence, head, layout, moe, norm, rope, route, sample};

/// What a [`Cpu`] is asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuSettings {
    /// Threads that take part in an operation, the caller's among them.
    pub threads: usize,
    /// What the operands of products are rounded to.
    pub precision: Precision,
    /// How products with weights in blocks are formed.
    pub blocks: BlockProducts,
    /// The instructions to use; `None` for the best there are.
    pub isa: Option<Isa>,
}

/// Why a [`Cpu`] could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// The threads could not be had.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The machine lacks the instructions asked for.
    #[error("expected a machine with {wanted:?} instructions, got one with {got:?} at best")]
    Isa {
        /// Asked for.
        wanted: Isa,
        /// The best there is.
        got: Isa,
    },
}

/// The CPU back-end.
#[derive(Debug)]
pub struct Cpu {
    pub(super) pool: Pool,
    pub(super) level: Level,
    pub(super) memory: Arc<Recycler>,
    pub(super) precision: Precision,
    blocks: BlockProducts,
    pub(super) features: CpuFeatures,
    routes: AtomicU64,
}

impl Cpu {
    /// A back-end with threads and memory of its own.
    ///
    /// # Errors
    /// If the threads cannot be had or the machine lacks the instructions asked for.
    pub fn new(settings: CpuSettings) -> std::result::Result<Self, CpuError> {
        let best = CpuFeatures::detect();
        let features = match settings.isa {
            None => best,
            Some(wanted) => best.capped(wanted).ok_or(CpuError::Isa {
                wanted,
                got: best.isa(),
            })?,
        };
        let level = Level::of(features);
        Ok(Self {
            pool: Pool::new(settings.threads)?,
            level,
            memory: Arc::new(Recycler::new(level)),
            precision: settings.precision,
            blocks: settings.blocks,
            features,
            routes: AtomicU64::new(1),
        })
    }

    /// The instructions in use.
    pub fn isa(&self) -> Isa {
        self.features.isa()
    }

    /// Threads that take part in an operation.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// What the operands of products are rounded to.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The machine's features and the pool, for measuring what they can do.
    pub fn machine(&self) -> (&Pool, CpuFeatures) {
        (&self.pool, self.features)
    }

    /// How often tensors asked the system for memory: stands still once steps repeat.
    pub fn allocations(&self) -> usize {
        self.memory.fresh()
    }

    pub(super) fn gemm(&self) -> Gemm<'_> {
        Gemm::new(&self.pool, self.features)
    }

    /// How a product is formed.
    pub(super) fn product(&self, product: Product) -> (Precision, BlockProducts) {
        match product {
            Product::Policy => (self.precision, self.blocks),
            Product::Exact => (Precision::F32, BlockProducts::Decoded),
        }
    }

    /// Turns a product's refusal into the back-end's error.
    #[expect(
        clippy::unused_self,
        reason = "reads as what it is: refused by this back-end's products"
    )]
    pub(super) fn refused(&self, op: &'static str) -> impl Fn(GemmError) -> Error + use<> {
        move |error| Error::Setting {
            op,
            reason: error.to_string(),
        }
    }

    pub(super) fn next_route(&self) -> u64 {
        self.routes.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn blank(&self, shape: Shape) -> Result<Blank> {
        Blank::new(&self.memory, shape)
    }

    pub(super) fn narrow(&self, shape: Shape) -> Result<NarrowBlank> {
        NarrowBlank::new(&self.memory, shape)
    }

    /// A tensor whose numbers `write` sets, all of them.
    pub(super) fn produce(&self, shape: Shape, write: impl FnOnce(&mut [f32])) -> Result<Tensor> {
        let mut blank = self.blank(shape)?;
        write(blank.values());
        Ok(blank.done())
    }

    /// A tensor for products to read, whose numbers `write` sets piece by piece from the place it is
    /// given. Where products round their operands to bf16 it is kept so.
    pub(super) fn produce_for_products(
        &self,
        shape: Shape,
        piece: usize,
        write: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Tensor> {
        if self.precision == Precision::F32 {
            return self.produce(shape, |y| {
                self.pool
                    .for_each_chunk(y, piece, |i, y| write(i * piece, y));
            });
        }
        let mut blank = self.narrow(shape)?;
        self.pool.for_each_chunk(blank.values(), piece, |i, y| {
            with_wide(y.len(), |wide| {
                write(i * piece, wide);
                narrow_all(self.level, wide, y);
            });
        });
        Ok(blank.done())
    }

    /// Two tensors whose numbers `write` sets.
    pub(super) fn produce_pair(
        &self,
        [a, b]: [Shape; 2],
        write: impl FnOnce(&mut [f32], &mut [f32]),
    ) -> Result<(Tensor, Tensor)> {
        let (mut a, mut b) = (self.blank(a)?, self.blank(b)?);
        write(a.values(), b.values());
        Ok((a.done(), b.done()))
    }

    fn per_head(&self, x: &Tensor, weight: &Tensor, product: &HeadProduct) -> Result<Tensor> {
        const OP: &str = "per_head_linear";
        let dims = check::per_head_linear(x.shape(), weight.shape(), product)?;
        let part = WeightPart::Heads {
            n_heads: dims.n_heads,
            block: dims.block,
            rows: product.rows.clone(),
        };
        let [from, to] = [dims.input, dims.output].map(|cols| cols + dims.passed);
        let shape = Shape::matrix(dims.rows, dims.n_heads * to);
        let mut y = self.blank(shape)?;
        let values = x.floats(OP)?;
        layout::pass(self, (&values, from), (y.values(), to), dims.passed);
        if dims.input == 0 {
            for head in y.values().chunks_exact_mut(to.max(1)) {
                head.split_at_mut(dims.output).0.fill(0.0);
            }
            return Ok(y.done());
        }
        let packed = weight.packed(self.gemm(), self.precision, &part)?;
        let heads = |cols| HeadShape {
            rows: dims.rows,
            heads: dims.n_heads,
            cols,
            row_stride: dims.n_heads * (cols + dims.passed),
            head_stride: cols + dims.passed,
        };
        let from = HeadMat::new(&values, heads(dims.input)).map_err(self.refused(OP))?;
        let to = HeadMatMut::new(y.values(), heads(dims.output)).map_err(self.refused(OP))?;
        match product.direction {
            HeadDirection::IntoLatent => self.gemm().heads_nn(from, &packed, to, Finish::SET),
            HeadDirection::FromLatent => self.gemm().heads_nt(from, &packed, to, Finish::SET),
        }
        .map_err(self.refused(OP))?;
        Ok(y.done())
    }

    /// How [`Backend::key_store`] keeps numbers as products read them: bf16 where products round them to it anyway.
    pub fn key_dtype(&self) -> DType {
        if attention::rounds_keys(self) {
            DType::Bf16
        } else {
            DType::F32
        }
    }
}

impl Backend for Cpu {
    type Tensor = Tensor;

    fn put(&self, shape: Shape, data: Data<'_>) -> Result<Tensor> {
        if let Data::F32(values) = data
            && values.len() == shape.checked_elements()?
        {
            return self.produce(shape, |to| to.copy_from_slice(values));
        }
        let values = decode(shape, data)?;
        self.produce(shape, |to| to.copy_from_slice(&values))
    }

    fn keep(&self, shape: Shape, parts: &[Stored]) -> Result<Tensor> {
        let stored = StoredWeight::new(shape, parts)?;
        Ok(Tensor::keep(&self.memory, shape, stored))
    }

    fn for_answers(&self, weight: &Tensor) -> Tensor {
        weight.for_answers()
    }

    fn put_indices(&self, indices: &[u32]) -> Result<Tensor> {
        let mut block = self.memory.take(size_of_val(indices));
        for (to, from) in block.u32s_mut().iter_mut().zip(indices) {
            *to = *from;
        }
        Ok(Tensor::new(Shape::vector(indices.len()), DType::U32, block))
    }

    fn get(&self, x: &Tensor) -> Result<Vec<f32>> {
        Ok(x.floats("get")?.to_vec())
    }

    fn get_indices(&self, x: &Tensor) -> Result<Vec<u32>> {
        Ok(x.indices("get_indices")?.to_vec())
    }

    fn zeros(&self, shape: Shape) -> Result<Tensor> {
        self.produce(shape, |values| values.fill(0.0))
    }

    fn key_store(&self, store: &KeyStore) -> Result<Tensor> {
        let shape = store.shape();
        if let Some(rows) = store.eight_bits() {
            return Tensor::of_eight_bits(&self.memory, shape, rows);
        }
        if self.key_dtype() == DType::F32 {
            return self.zeros(shape);
        }
        let mut blank = self.narrow(shape)?;
        blank.values().fill(half::bf16::ZERO);
        Ok(blank.done())
    }

    fn shape(&self, x: &Tensor) -> Shape {
        x.shape()
    }

    fn cast(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        x.expect_numbers("cast")?;
        if x.dtype() == dtype && x.stored_eight_bits().is_none() {
            return Ok(x.clone());
        }
        let values = x.floats("cast")?;
        match dtype {
            DType::F32 => self.produce(x.shape(), |to| to.copy_from_slice(&values)),
            DType::Bf16 => {
                let mut block = self.memory.take(values.len() * 2);
                let to = block
                    .bf16s_mut()
                    .get_mut(..values.len())
                    .unwrap_or_default();
                self.pool.for_each_chunk(to, NARROWED, |i, to| {
                    let start = i * NARROWED;
                    let from = values.get(start..start + to.len()).unwrap_or(&[]);
                    narrow_all(self.level, from, to);
                });
                Ok(Tensor::new(x.shape(), DType::Bf16, block))
            }
            _ => Err(Error::Unsupported {
                op: "cast",
                backend: "Cpu",
                reason: "tensors are stored in f32 or bf16",
            }),
        }
    }

    fn append(&self, store: &mut Tensor, rows: &Tensor, slots: &[u32]) -> Result<()> {
        check::append(store.shape(), rows.shape(), slots)?;
        store.expect_writable("append")?;
        store.write_rows(&rows.floats("append")?, slots);
        Ok(())
    }

    fn copy_rows(&self, store: &mut Tensor, from: &[u32], to: &[u32]) -> Result<()> {
        check::copy_rows(store.shape(), from, to)?;
        store.expect_writable("copy_rows")?;
        store.move_rows(from, to);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn linear(&self, x: &Tensor, w: Linear<'_, Tensor>) -> Result<Tensor> {
        const OP: &str = "linear";
        let dims = check::linear(x.shape(), w.weight.shape(), w.bias.map(Tensor::shape))?;
        let weight = w.weight.weight(self.gemm(), self.product(w.product))?;
        let bias = w.bias.map(|bias| bias.floats(OP)).transpose()?;
        let numbers = weight.reads(x, OP)?;
        let mut y = self.blank(Shape::matrix(dims.rows, dims.n))?;
        let from = numbers
            .matrix(dims.rows, dims.k)
            .map_err(self.refused(OP))?;
        let to = MatMut::dense(y.values(), dims.rows, dims.n).map_err(self.refused(OP))?;
        let finish = Finish {
            bias: bias.as_deref(),
            ..Finish::SET
        };
        weight
            .nt(self.gemm(), from, to, finish)
            .map_err(self.refused(OP))?;
        Ok(y.done())
    }

    fn per_head_linear(
        &self,
        x: &Tensor,
        weight: &Tensor,
        product: &HeadProduct,
    ) -> Result<Tensor> {
        self.per_head(x, weight, product)
    }

    fn grouped_linear(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        route: &Route<Tensor>,
    ) -> Result<Tensor> {
        const OP: &str = "grouped_linear";
        let dims = check::grouped_linear(xs.shape(), weight.shape(), &moe::shapes(route))?;
        let (_, offsets) = moe::followed(OP, dims.route, route)?;
        let weight = weight.weight(self.gemm(), self.product(Product::Policy))?;
        let (numbers, slots) = (weight.reads(xs, OP)?, dims.route.slots());
        let mut y = self.blank(Shape::matrix(slots, dims.n))?;
        let from = numbers.matrix(slots, dims.k).map_err(self.refused(OP))?;
        let to = MatMut::dense(y.values(), slots, dims.n).map_err(self.refused(OP))?;
        weight
            .grouped_nt(self.gemm(), (from, offsets), to, Finish::SET)
            .map_err(self.refused(OP))?;
        Ok(y.done())
    }

    fn gather(&self, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
        layout::gather(self, table, ids)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
        norm::rms_norm(self, x, weight, eps)
    }

    fn rms_norm_first(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
        norm::rms_norm_first(self, x, weight, eps)
    }

    fn swiglu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        activation::swiglu(self, gate, up)
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        activation::add(self, a, b)
    }

    fn split(&self, x: &Tensor, n_heads: usize, widths: &[usize]) -> Result<Vec<Tensor>> {
        layout::split(self, x, n_heads, widths)
    }

    fn join(&self, parts: &[&Tensor], n_heads: usize) -> Result<Tensor> {
        layout::join(self, parts, n_heads)
    }

    fn rope(
        &self,
        x: &Tensor,
        table: &Tensor,
        positions: &[u32],
        columns: RopeColumns,
    ) -> Result<Tensor> {
        rope::rope(self, x, table, positions, (columns, Turn::Forward))
    }

    fn attention(
        &self,
        q: &Tensor,
        keys: Keys<'_, Tensor>,
        attention: &Attention<'_>,
    ) -> Result<Tensor> {
        attention::attention(self, q, keys, attention)
    }

    fn route(
        &self,
        logits: &Tensor,
        bias: Option<&Tensor>,
        router: &Router,
    ) -> Result<Route<Tensor>> {
        route::route(self, logits, bias, router)
    }

    fn dispatch(&self, x: &Tensor, route: &Route<Tensor>) -> Result<Tensor> {
        moe::dispatch(self, x, route)
    }

    fn combine(&self, ys: &Tensor, route: &Route<Tensor>) -> Result<Tensor> {
        moe::combine(self, ys, route)
    }

    fn log_prob(
        &self,
        head: Head<'_, Tensor>,
        targets: &[u32],
        temperature: f32,
    ) -> Result<LogProbs<Tensor>> {
        head::log_prob(self, head, targets, temperature)
    }

    fn divergence(
        &self,
        student: Head<'_, Tensor>,
        teacher: Head<'_, Tensor>,
        divergence: Divergence,
    ) -> Result<Tensor> {
        divergence::divergence(self, student, teacher, divergence)
    }

    fn pick(&self, logits: &Tensor, sampling: &Sampling, uniforms: &[f32]) -> Result<Picked> {
        sample::pick(self, logits, sampling, uniforms)
    }
}

/// Numbers of a piece of rounding.
const NARROWED: usize = 64 * 1024;
