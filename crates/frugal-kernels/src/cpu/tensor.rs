//! Tensors of the CPU back-end.
//!
//! A [`Tensor`] is a handle on shared memory (`memory`); writing to a shared one copies it
//! first. A weight keeps its packed forms beside it; they are made at the first product and made
//! again, in place, after the weight has changed.
//!
//! Read next: [`super::backend`].

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use frugal_core::dtype::DType;
use frugal_core::error::{Error, Result};
use frugal_core::quant::rows::EightBitRows;
use frugal_core::shape::Shape;
use half::bf16;

use super::gemm::{
    BlockProducts, Factor, Finish, Gemm, GemmError, Mat, MatMut, PackedWeight, Precision, Stack,
    StackShape, StoredFactor,
};
use super::memory::{Block, Recycler};
use super::stored::StoredWeight;
use super::vector::kernel;

/// A tensor on its way: numbers to be written, all of them, before it is [`done`](Self::done).
#[derive(Debug)]
pub(super) struct Blank {
    shape: Shape,
    block: Block,
}

impl Blank {
    /// Memory for a tensor of f32, with whatever it held last.
    ///
    /// # Errors
    /// If the shape has more elements than can be addressed.
    pub(super) fn new(home: &Arc<Recycler>, shape: Shape) -> Result<Self> {
        let block = home.take_f32(shape.checked_elements()?);
        Ok(Self { shape, block })
    }

    /// Its numbers.
    pub(super) fn values(&mut self) -> &mut [f32] {
        let len = self.shape.elements();
        part_mut(self.block.f32s_mut(), len)
    }

    /// The tensor.
    pub(super) fn done(self) -> Tensor {
        Tensor::new(self.shape, DType::F32, self.block)
    }
}

/// As [`Blank`], of bf16.
#[derive(Debug)]
pub(super) struct NarrowBlank {
    shape: Shape,
    block: Block,
}

impl NarrowBlank {
    /// Memory for a tensor of bf16, with whatever it held last.
    ///
    /// # Errors
    /// If the shape has more elements than can be addressed.
    pub(super) fn new(home: &Arc<Recycler>, shape: Shape) -> Result<Self> {
        let block = home.take(shape.checked_elements()?.saturating_mul(size_of::<bf16>()));
        Ok(Self { shape, block })
    }

    /// Its numbers.
    pub(super) fn values(&mut self) -> &mut [bf16] {
        let len = self.shape.elements();
        part_mut(self.block.bf16s_mut(), len)
    }

    /// The tensor.
    pub(super) fn done(self) -> Tensor {
        Tensor::new(self.shape, DType::Bf16, self.block)
    }
}

thread_local! {
    /// Numbers before they are rounded.
    static WIDE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's memory for `len` numbers before they are rounded.
pub(super) fn with_wide(len: usize, f: impl FnOnce(&mut [f32])) {
    WIDE.with_borrow_mut(|wide| {
        if wide.len() < len {
            wide.resize(len, 0.0);
        }
        f(part_mut(wide, len));
    });
}

/// A handle on numbers: f32, bf16, rows of 8 bits or indices in memory, or a weight in the form of its
/// file. Cloning
/// shares them.
#[derive(Clone)]
pub struct Tensor {
    shape: Shape,
    body: Arc<Body>,
    /// Whether products with it are for the tokens of answers.
    is_for_answers: bool,
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.body.dtype, self.shape)
    }
}

struct Body {
    dtype: DType,
    block: Block,
    form: Form,
    /// Counts writes, so that packed forms know when they are stale.
    version: u64,
    packs: Mutex<Vec<Pack>>,
    /// Where these are the order or the offsets of a route of ours: which one, else 0.
    route: u64,
    /// Where these are the order of a route: the slot of each position.
    slots: OnceLock<Block>,
}

/// How a body holds its numbers.
#[derive(Clone)]
enum Form {
    /// In the block, as the dtype says.
    Plain,
    /// In the form of their file; the block is empty then, and nothing may be written.
    File(Arc<StoredWeight>),
    /// In the block, row by row in 8 bits; they are read and written as f32.
    EightBits(EightBitRows),
}

impl Body {
    /// To be called before every write.
    fn touch(&mut self) {
        self.version += 1;
        self.route = 0;
        self.slots = OnceLock::new();
    }
}

struct Pack {
    precision: Precision,
    part: WeightPart,
    version: u64,
    weight: Arc<PackedWeight>,
}

/// Which part of a weight is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WeightPart {
    /// All of it: a matrix, or a stack of them.
    Whole,
    /// For each head some rows of its block; see `HeadProduct`.
    Heads {
        /// H.
        n_heads: usize,
        /// Rows of a head.
        block: usize,
        /// Rows of the block that take part.
        rows: Range<usize>,
    },
}

/// A weight as forward products take it.
#[derive(Debug)]
pub(super) enum Weight<'a> {
    /// In panels.
    Packed(Arc<PackedWeight>),
    /// In the form of its file.
    Stored(StoredFactor<'a>),
}

impl Weight<'_> {
    /// The numbers of `x` as products with this weight take them.
    pub(super) fn reads<'x>(&self, x: &'x Tensor, op: &'static str) -> Result<Numbers<'x>> {
        match self {
            Self::Packed(_) => x.numbers(op),
            Self::Stored(_) => x.floats(op).map(Numbers::Floats),
        }
    }

    /// `out = a Wᵀ`, finished; see [`Gemm::nt`].
    pub(super) fn nt(
        &self,
        gemm: Gemm<'_>,
        a: Factor<'_>,
        out: MatMut<'_>,
        finish: Finish<'_>,
    ) -> std::result::Result<(), GemmError> {
        match self {
            Self::Packed(weight) => gemm.nt(a, weight, out, finish),
            Self::Stored(factor) => gemm.stored_nt(a, *factor, out, finish),
        }
    }

    /// One weight a group of rows; see [`Gemm::grouped_nt`].
    pub(super) fn grouped_nt(
        &self,
        gemm: Gemm<'_>,
        (a, offsets): (Factor<'_>, &[u32]),
        out: MatMut<'_>,
        finish: Finish<'_>,
    ) -> std::result::Result<(), GemmError> {
        match self {
            Self::Packed(weight) => gemm.grouped_nt(a, offsets, weight, out, finish),
            Self::Stored(factor) => gemm.stored_grouped_nt(a, offsets, *factor, out, finish),
        }
    }
}

impl Clone for Body {
    fn clone(&self) -> Self {
        Self {
            dtype: self.dtype,
            block: self.block.duplicate(),
            form: self.form.clone(),
            version: self.version,
            packs: Mutex::default(),
            route: 0,
            slots: OnceLock::new(),
        }
    }
}

/// Rows of 8 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct EightBits<'a> {
    /// Row after row, more bytes after them.
    pub(super) bytes: &'a [u8],
    /// How they are laid out.
    pub(super) rows: EightBitRows,
}

impl<'a> EightBits<'a> {
    /// The bytes of a row.
    #[expect(clippy::inline_always, reason = "melts into kernels")]
    #[inline(always)]
    pub(super) fn row(self, row: usize) -> &'a [u8] {
        let bytes = self.rows.row_bytes();
        self.bytes
            .get(row * bytes..(row + 1) * bytes)
            .unwrap_or(&[])
    }

    /// The numbers of a row.
    pub(super) fn decode(self, row: usize, to: &mut [f32]) {
        self.rows.decode(self.row(row), 0, to);
    }
}

/// f32 numbers of a tensor: its own, or decoded from a narrower format.
#[derive(Debug)]
pub(super) enum Floats<'a> {
    /// Stored as f32.
    Own(&'a [f32]),
    /// Decoded; the first `len` of the block.
    Decoded(Block, usize),
}

/// Numbers of a tensor for a product.
#[derive(Debug)]
pub(super) enum Numbers<'a> {
    /// f32.
    Floats(Floats<'a>),
    /// bf16, as stored.
    Narrow(&'a [bf16]),
}

impl Numbers<'_> {
    /// Some rows as a matrix.
    pub(super) fn rows(
        &self,
        rows: Range<usize>,
        cols: usize,
    ) -> std::result::Result<Factor<'_>, GemmError> {
        let range = rows.start * cols..rows.end * cols;
        match self {
            Self::Floats(values) => {
                let values = values.get(range).unwrap_or(&[]);
                Mat::dense(values, rows.len(), cols).map(Factor::from)
            }
            Self::Narrow(values) => {
                Factor::narrow(values.get(range).unwrap_or(&[]), rows.len(), cols)
            }
        }
    }

    /// The numbers as a matrix.
    pub(super) fn matrix(
        &self,
        rows: usize,
        cols: usize,
    ) -> std::result::Result<Factor<'_>, GemmError> {
        match self {
            Self::Floats(values) => Mat::dense(values, rows, cols).map(Factor::from),
            Self::Narrow(values) => Factor::narrow(values, rows, cols),
        }
    }
}

impl std::ops::Deref for Floats<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Self::Own(values) => values,
            Self::Decoded(block, len) => block.f32s().get(..*len).unwrap_or(&[]),
        }
    }
}

impl Tensor {
    /// A tensor over `block`, whose first elements are its numbers.
    pub(super) fn new(shape: Shape, dtype: DType, block: Block) -> Self {
        debug_assert!(shape.elements() * dtype.bytes() <= block.bytes());
        Self::of(shape, dtype, block, Form::Plain)
    }

    /// A weight in the form of its file.
    pub(super) fn keep(home: &Arc<Recycler>, shape: Shape, stored: StoredWeight) -> Self {
        Self::of(
            shape,
            DType::F32,
            home.take(0),
            Form::File(Arc::new(stored)),
        )
    }

    /// Zeros in rows of 8 bits.
    ///
    /// # Errors
    /// If the shape has more elements than can be addressed.
    pub(super) fn of_eight_bits(
        home: &Arc<Recycler>,
        shape: Shape,
        rows: EightBitRows,
    ) -> Result<Self> {
        shape.checked_elements()?;
        let bytes = shape.rows().saturating_mul(rows.row_bytes());
        let mut block = home.take(bytes);
        part_mut(block.u8s_mut(), bytes).fill(0);
        Ok(Self::of(shape, DType::F32, block, Form::EightBits(rows)))
    }

    fn of(shape: Shape, dtype: DType, block: Block, form: Form) -> Self {
        Self {
            shape,
            body: Arc::new(Body {
                dtype,
                block,
                form,
                version: 0,
                packs: Mutex::default(),
                route: 0,
                slots: OnceLock::new(),
            }),
            is_for_answers: false,
        }
    }

    /// The same for products with the tokens of answers.
    pub(super) fn for_answers(&self) -> Self {
        Self {
            is_for_answers: true,
            ..self.clone()
        }
    }

    /// Marks indices as part of route number `route`, whose slots may come along.
    pub(super) fn of_route(mut self, route: u64, slots: Option<Block>) -> Self {
        if let Some(body) = Arc::get_mut(&mut self.body) {
            body.route = route;
            if let Some(slots) = slots {
                body.slots = OnceLock::from(slots);
            }
        }
        self
    }

    /// The number given to [`Self::of_route`], 0 for none.
    pub(super) fn route(&self) -> u64 {
        self.body.route
    }

    /// The slot of each position of a route's order, which was checked to be a permutation.
    pub(super) fn slots(&self, op: &'static str) -> Result<&[u32]> {
        let order = self.indices(op)?;
        let block = self.body.slots.get_or_init(|| {
            let mut block = self.body.block.home().take(size_of_val(order));
            let slots = block.u32s_mut();
            for (slot, position) in (0..).zip(order) {
                if let Some(place) = slots.get_mut(*position as usize) {
                    *place = slot;
                }
            }
            block
        });
        Ok(block.u32s().get(..order.len()).unwrap_or(&[]))
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How its numbers are stored: f32, bf16 or u32; of other forms, what they are read in.
    pub fn dtype(&self) -> DType {
        self.body.dtype
    }

    fn expect(&self, op: &'static str, wanted: &'static str, is_right: bool) -> Result<()> {
        if is_right {
            return Ok(());
        }
        Err(Error::Setting {
            op,
            reason: format!("expected a tensor of {wanted}, got {:?}", self.body.dtype),
        })
    }

    /// Refuses indices.
    pub(super) fn expect_numbers(&self, op: &'static str) -> Result<()> {
        self.expect(op, "numbers", self.body.dtype != DType::U32)
    }

    /// Refuses what cannot be written to.
    pub(super) fn expect_writable(&self, op: &'static str) -> Result<()> {
        self.expect_numbers(op)?;
        if self.stored().is_some() {
            let reason =
                "expected a tensor of its own, got a weight in the form of its file".into();
            return Err(Error::Setting { op, reason });
        }
        Ok(())
    }

    /// Where the numbers are in the form of their file: those.
    pub(super) fn stored(&self) -> Option<&StoredWeight> {
        match &self.body.form {
            Form::File(stored) => Some(stored),
            Form::Plain | Form::EightBits(_) => None,
        }
    }

    /// Where rows are of 8 bits: those.
    pub(super) fn stored_eight_bits(&self) -> Option<EightBits<'_>> {
        match self.body.form {
            Form::EightBits(rows) => Some(EightBits {
                bytes: self.body.block.u8s(),
                rows,
            }),
            Form::Plain | Form::File(_) => None,
        }
    }

    /// Whether the block holds numbers of the dtype one after another.
    fn is_plain(&self, dtype: DType) -> bool {
        matches!(self.body.form, Form::Plain) && self.body.dtype == dtype
    }

    /// Its numbers in f32.
    ///
    /// # Errors
    /// If it holds indices.
    pub(super) fn floats(&self, op: &'static str) -> Result<Floats<'_>> {
        self.expect_numbers(op)?;
        let len = self.shape.elements();
        if let Some(own) = self.stored_f32() {
            return Ok(Floats::Own(own));
        }
        let mut block = self.body.block.home().take_f32(len);
        if let Some(stored) = self.stored() {
            let level = self.body.block.home().level();
            let wide = part_mut(block.f32s_mut(), len);
            for (row, to) in wide.chunks_exact_mut(stored.cols().max(1)).enumerate() {
                stored.decode(level, row, 0, to);
            }
        }
        if let Some(stored) = self.stored_eight_bits() {
            let wide = part_mut(block.f32s_mut(), len);
            for (row, to) in wide.chunks_exact_mut(self.shape.cols().max(1)).enumerate() {
                stored.decode(row, to);
            }
        }
        if let (Some(narrow), Some(wide)) = (self.stored_bf16(), block.f32s_mut().get_mut(..len)) {
            widen_all(self.body.block.home().level(), narrow, wide);
        }
        Ok(Floats::Decoded(block, len))
    }

    /// Its numbers for a product, which takes bf16 as they are.
    ///
    /// # Errors
    /// If it holds indices.
    pub(super) fn numbers(&self, op: &'static str) -> Result<Numbers<'_>> {
        match self.stored_bf16() {
            Some(narrow) => Ok(Numbers::Narrow(narrow)),
            None => self.floats(op).map(Numbers::Floats),
        }
    }

    /// The stored numbers, where they are f32.
    pub(super) fn stored_f32(&self) -> Option<&[f32]> {
        self.is_plain(DType::F32)
            .then(|| self.body.block.f32s().get(..self.shape.elements()))?
    }

    /// The stored numbers, where they are bf16.
    pub(super) fn stored_bf16(&self) -> Option<&[bf16]> {
        self.is_plain(DType::Bf16)
            .then(|| self.body.block.bf16s().get(..self.shape.elements()))?
    }

    /// Its indices.
    ///
    /// # Errors
    /// If it holds numbers.
    pub(super) fn indices(&self, op: &'static str) -> Result<&[u32]> {
        self.expect(op, "indices", self.body.dtype == DType::U32)?;
        let len = self.shape.elements();
        Ok(self.body.block.u32s().get(..len).unwrap_or(&[]))
    }

    /// Lets `write` change the numbers; a shared tensor is copied first, packed forms become stale.
    /// Numbers in fewer bits are widened for it and rounded again after.
    ///
    /// # Errors
    /// If it holds indices.
    pub(super) fn change<R>(
        &mut self,
        op: &'static str,
        write: impl FnOnce(&mut [f32]) -> R,
    ) -> Result<R> {
        self.expect_writable(op)?;
        let len = self.shape.elements();
        if let Form::EightBits(_) = self.body.form {
            let mut wide = self.floats(op)?.to_vec();
            let result = write(&mut wide);
            let all: Vec<u32> = (0..).take(self.shape.rows()).collect();
            self.write_rows(&wide, &all);
            return Ok(result);
        }
        let body = Arc::make_mut(&mut self.body);
        body.touch();
        if body.dtype == DType::F32 {
            return Ok(write(part_mut(body.block.f32s_mut(), len)));
        }
        let level = body.block.home().level();
        let mut block = body.block.home().take_f32(len);
        let wide = part_mut(block.f32s_mut(), len);
        let narrow = part_mut(body.block.bf16s_mut(), len);
        widen_all(level, narrow, wide);
        let result = write(wide);
        narrow_all(level, wide, narrow);
        Ok(result)
    }

    /// Writes rows of a store: `to[i]` of `width` columns from row i of `from`, rounding as the store
    /// is kept. Indices were checked.
    pub(super) fn write_rows(&mut self, from: &[f32], to: &[u32]) {
        let (len, width) = (self.shape.elements(), self.shape.cols());
        let body = Arc::make_mut(&mut self.body);
        body.touch();
        let starts = to.iter().map(|row| *row as usize * width);
        let rows = from.chunks_exact(width.max(1)).zip(starts);
        if let Form::EightBits(form) = body.form {
            let bytes = form.row_bytes();
            for (row, to) in from.chunks_exact(width.max(1)).zip(to) {
                let start = *to as usize * bytes;
                let place = body.block.u8s_mut().get_mut(start..start + bytes);
                form.encode(row, place.unwrap_or_default());
            }
        } else if body.dtype == DType::Bf16 {
            let level = body.block.home().level();
            let store = part_mut(body.block.bf16s_mut(), len);
            for (row, start) in rows {
                narrow_all(
                    level,
                    row,
                    part_mut(store.get_mut(start..).unwrap_or_default(), width),
                );
            }
        } else {
            let store = part_mut(body.block.f32s_mut(), len);
            for (row, start) in rows {
                if let Some(place) = store.get_mut(start..start + width) {
                    place.copy_from_slice(row);
                }
            }
        }
    }

    /// Copies row `from[i]` of itself to row `to[i]`, in order. Indices were checked.
    pub(super) fn move_rows(&mut self, from: &[u32], to: &[u32]) {
        let (len, width) = (self.shape.elements(), self.shape.cols());
        let body = Arc::make_mut(&mut self.body);
        body.touch();
        if let Form::EightBits(rows) = body.form {
            let bytes = rows.row_bytes();
            for (from, to) in from.iter().zip(to) {
                let [from, to] = [from, to].map(|row| *row as usize * bytes);
                body.block.u8s_mut().copy_within(from..from + bytes, to);
            }
            return;
        }
        let is_wide = body.dtype != DType::Bf16;
        for (from, to) in from.iter().zip(to) {
            let from = *from as usize * width;
            let to = *to as usize * width;
            if is_wide {
                part_mut(body.block.u32s_mut(), len).copy_within(from..from + width, to);
            } else {
                part_mut(body.block.bf16s_mut(), len).copy_within(from..from + width, to);
            }
        }
    }

    /// The weight as products of the given kind take it: packed, or in the form of its file.
    ///
    /// # Errors
    /// As [`Self::packed`].
    pub(super) fn weight(
        &self,
        gemm: Gemm<'_>,
        (precision, blocks): (Precision, BlockProducts),
    ) -> Result<Weight<'_>> {
        Ok(match self.stored() {
            Some(weight) => Weight::Stored(StoredFactor {
                weight,
                precision,
                is_integer: match blocks {
                    BlockProducts::Decoded => false,
                    BlockProducts::Integer => true,
                    BlockProducts::IntegerForAnswers => self.is_for_answers,
                },
            }),
            None => Weight::Packed(self.packed(gemm, precision, &WeightPart::Whole)?),
        })
    }

    /// The weight packed for products of the given precision.
    ///
    /// # Errors
    /// If it holds indices, or does not have the shape the part speaks of.
    pub(super) fn packed(
        &self,
        gemm: Gemm<'_>,
        precision: Precision,
        part: &WeightPart,
    ) -> Result<Arc<PackedWeight>> {
        let mut packs = self
            .body
            .packs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let version = self.body.version;
        let found = packs
            .iter()
            .position(|pack| pack.precision == precision && pack.part == *part);
        let mut pack = match found {
            Some(index) if packs.get(index).is_some_and(|p| p.version == version) => {
                if let Some(pack) = packs.get(index) {
                    return Ok(Arc::clone(&pack.weight));
                }
                packs.swap_remove(index)
            }
            Some(index) => packs.swap_remove(index),
            None => Pack {
                precision,
                part: part.clone(),
                version,
                weight: Arc::new(PackedWeight::new(precision)),
            },
        };
        let values = self.floats("pack")?;
        let stack = self.stack(&values, part)?;
        if let Some(weight) = Arc::get_mut(&mut pack.weight) {
            gemm.repack(weight, stack);
        } else {
            pack.weight = Arc::new(gemm.pack(stack, precision));
        }
        pack.version = version;
        let weight = Arc::clone(&pack.weight);
        packs.push(pack);
        Ok(weight)
    }

    /// The matrices that a part of the weight is.
    fn stack<'a>(&self, values: &'a [f32], part: &WeightPart) -> Result<Stack<'a>> {
        let cols = self.shape.cols();
        let (start, shape) = match part {
            WeightPart::Whole => {
                let (stacked, rows) = (self.shape.stacked(), self.shape.rows_each());
                (0, StackShape::dense(stacked, rows, cols))
            }
            WeightPart::Heads {
                n_heads,
                block,
                rows,
            } => {
                let shape = StackShape {
                    groups: *n_heads,
                    rows: rows.len(),
                    cols,
                    row_stride: cols,
                    group_stride: block * cols,
                };
                (rows.start * cols, shape)
            }
        };
        let stack = Stack::new(values.get(start..).unwrap_or(&[]), shape);
        stack.map_err(|error| Error::Setting {
            op: "pack",
            reason: error.to_string(),
        })
    }
}

/// The first `len` of a longer slice.
fn part_mut<T>(slice: &mut [T], len: usize) -> &mut [T] {
    slice.get_mut(..len).unwrap_or_default()
}

/// f32 of bf16: the upper half of the bits. The loop is vectorised by the compiler.
#[expect(clippy::inline_always, reason = "melts into kernels")]
#[inline(always)]
pub(super) fn widen(narrow: &[bf16], wide: &mut [f32]) {
    for (wide, narrow) in wide.iter_mut().zip(narrow) {
        *wide = f32::from_bits(u32::from(narrow.to_bits()) << 16);
    }
}

kernel! {
    /// As [`widen`], for many numbers.
    pub(super) fn widen_all<L>(_l, narrow: &[bf16], wide: &mut [f32]) {
        widen(narrow, wide);
    }
}

kernel! {
    /// bf16 of f32, to nearest, ties to even; NaN stays a quiet NaN. Vectorised by the compiler.
    pub(super) fn narrow_all<L>(_l, wide: &[f32], narrow: &mut [bf16]) {
        for (narrow, wide) in narrow.iter_mut().zip(wide) {
            let bits = wide.to_bits();
            let rounded = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1))) >> 16;
            let quiet = bits >> 16 | 0x40;
            let kept = if wide.is_nan() { quiet } else { rounded };
            *narrow = bf16::from_bits((kept & 0xFFFF) as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::detect::CpuFeatures;
    use crate::cpu::vector::Level;

    fn home() -> Arc<Recycler> {
        Arc::new(Recycler::new(Level::of(CpuFeatures::detect())))
    }

    fn tensor(home: &Arc<Recycler>, values: &[f32]) -> Tensor {
        let mut block = home.take_f32(values.len());
        block.f32s_mut()[..values.len()].copy_from_slice(values);
        Tensor::new(Shape::vector(values.len()), DType::F32, block)
    }

    #[test]
    fn writing_to_a_shared_tensor_copies_it() {
        let home = home();
        let first = tensor(&home, &[1.0, 2.0, 3.0]);
        let mut second = first.clone();
        second.change("test", |x| x[1] = 9.0).unwrap();
        assert_eq!(&*first.floats("test").unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(&*second.floats("test").unwrap(), [1.0, 9.0, 3.0]);
        assert!(first.indices("test").is_err());
    }

    #[test]
    fn rounding_to_bf16_is_that_of_half() {
        let specials = [0.0, -0.0, f32::INFINITY, f32::MAX, 1e-40, f32::NAN, -1.0];
        let many = (0..60_000_u32).map(|i| f32::from_bits(i.wrapping_mul(71_993)));
        let wide: Vec<f32> = specials.into_iter().chain(many).collect();
        let mut narrow = vec![bf16::ZERO; wide.len()];
        narrow_all(home().level(), &wide, &mut narrow);
        for (wide, narrow) in wide.iter().zip(narrow) {
            assert_eq!(narrow.to_bits(), bf16::from_f32(*wide).to_bits(), "{wide}");
        }
    }
}
