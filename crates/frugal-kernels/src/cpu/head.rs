//! What is read off a hidden state: log-probabilities and entropies, and their backward.
//!
//! Logits are formed for some rows at a time by the products of [`super::gemm`], used while they are
//! in the cache, and forgotten: no `[T, V]` is kept. [`row_sums`] is the one softmax of this file, of
//! [`super::divergence`] and of [`super::sample`], so that a drawn token's log-probability and the trainer's are the same bits
//! for the same logits. Meaning: `frugal_core::ops::log_prob`.
use frugal_core::backend::{Head, LogProbs, Product};
use frugal_core::error::Result;
use frugal_core::ops::check::{self, HeadShapes};
use frugal_core::shape::Shape;

use super::backend::Cpu;
use super::gemm::{Finish, Mat, MatMut, Update};
use super::memory::Block;
use super::tensor::{Floats, Tensor, Weight, WeightPart};
use super::vector::{Lanes, WIDTH, exp, kernel};

/// Logits held at a time: a megabyte.
const CHUNK: usize = 1 << 18;
/// Logits of a piece of work.
const PIECE: usize = 8192;

/// Softmax of a row of logits: what it takes to know any of its log-probabilities.
#[derive(Clone, Copy)]
pub(super) struct RowSums {
    largest: f32,
    temperature: f32,
    /// ln sum e^(z - largest z).
    pub(super) log_total: f32,
    entropy: f32,
}

impl RowSums {
    /// ln p of a token with this logit.
    #[expect(clippy::inline_always, reason = "melts into kernels")]
    #[inline(always)]
    pub(super) fn log_prob(&self, logit: f32) -> f32 {
        (logit - self.largest) / self.temperature - self.log_total
    }

    /// Whether the logits were numbers with a finite maximum.
    pub(super) fn is_distribution(&self) -> bool {
        self.largest.is_finite() && !self.log_total.is_nan()
    }

    /// The largest logit.
    pub(super) fn largest(&self) -> f32 {
        self.largest
    }
}

/// The largest of the logits that are numbers.
#[expect(clippy::inline_always, reason = "melts into kernels")]
#[inline(always)]
fn largest<L: Lanes>(l: L, logits: &[f32]) -> f32 {
    let least = l.splat(f32::NEG_INFINITY);
    let (parts, tail) = logits.as_chunks::<WIDTH>();
    let mut most = least;
    for part in parts {
        most = l.max(l.load(part), most);
    }
    most = l.max(l.first(tail.len(), l.load_part(tail), least), most);
    l.largest(most)
}

/// The sums of a row, all in one order whatever it is used for.
#[expect(clippy::inline_always, reason = "melts into kernels")]
#[inline(always)]
pub(super) fn row_sums<L: Lanes>(l: L, logits: &[f32], temperature: f32) -> RowSums {
    let most = largest(l, logits);
    let (shift, divisor) = (l.splat(most), l.splat(temperature));
    let is_tempered = temperature.to_bits() != 1.0_f32.to_bits();
    // e^-120 is 0, and 0 times -120 is no NaN as 0 times -infinity would be.
    let floor = l.splat(-120.0);
    let mut total = l.splat(0.0);
    let mut along = l.splat(0.0);
    let (parts, tail) = logits.as_chunks::<WIDTH>();
    for part in parts {
        let z = l.sub(l.load(part), shift);
        let z = if is_tempered { l.div(z, divisor) } else { z };
        let z = l.max(floor, z);
        let e = exp(l, z);
        total = l.add(total, e);
        along = l.mul_add(e, z, along);
    }
    let z = l.sub(l.load_part(tail), shift);
    let z = if is_tempered { l.div(z, divisor) } else { z };
    let z = l.max(floor, z);
    let zero = l.splat(0.0);
    let e = l.first(tail.len(), exp(l, z), zero);
    total = l.add(total, e);
    along = l.mul_add(e, l.first(tail.len(), z, zero), along);
    let (total, along) = (l.sum(total), l.sum(along));
    let log_total = total.ln();
    RowSums {
        largest: most,
        temperature,
        log_total,
        entropy: log_total - along / total,
    }
}

/// A head ready for products: the hidden states, the packed weight and the dims.
pub(super) struct Ready<'a> {
    cpu: &'a Cpu,
    op: &'static str,
    hidden: Floats<'a>,
    table: &'a Tensor,
    weight: Weight<'a>,
    width: usize,
    vocabulary: usize,
}

impl<'a> Ready<'a> {
    pub(super) fn new(cpu: &'a Cpu, op: &'static str, head: Head<'a, Tensor>) -> Result<Self> {
        Ok(Self {
            cpu,
            op,
            hidden: head.hidden.floats(op)?,
            table: head.weight,
            weight: head
                .weight
                .weight(cpu.gemm(), cpu.product(Product::Policy))?,
            width: head.weight.shape().cols(),
            vocabulary: head.weight.shape().rows(),
        })
    }

    fn hidden(&self, first: usize, rows: usize) -> Result<Mat<'_>> {
        let start = first * self.width;
        let values = self.hidden.get(start..start + rows * self.width);
        Mat::dense(values.unwrap_or(&[]), rows, self.width).map_err(self.cpu.refused(self.op))
    }

    /// Logits of the rows from `first` on, as many as `logits` has room for.
    pub(super) fn logits(&self, first: usize, logits: &mut [f32]) -> Result<()> {
        let rows = logits.len() / self.vocabulary.max(1);
        let refused = self.cpu.refused(self.op);
        let out = MatMut::dense(logits, rows, self.vocabulary).map_err(&refused)?;
        let hidden = self.hidden(first, rows)?;
        self.weight
            .nt(self.cpu.gemm(), hidden.into(), out, Finish::SET)
            .map_err(&refused)
    }

    /// Carries d logits of the rows from `first` on through the head.
    pub(super) fn back(
        &self,
        first: usize,
        d_logits: &[f32],
        d_hidden: &mut [f32],
        d_weight: &mut [f32],
    ) -> Result<()> {
        let rows = d_logits.len() / self.vocabulary.max(1);
        let refused = self.cpu.refused(self.op);
        let d_logits = Mat::dense(d_logits, rows, self.vocabulary).map_err(&refused)?;
        let start = first * self.width;
        let d_hidden = d_hidden.get_mut(start..start + rows * self.width);
        let d_hidden =
            MatMut::dense(d_hidden.unwrap_or_default(), rows, self.width).map_err(&refused)?;
        let gemm = self.cpu.gemm();
        let weight = self
            .table
            .packed(gemm, self.cpu.precision, &WeightPart::Whole)?;
        gemm.nn(d_logits, &weight, d_hidden, Finish::SET)
            .map_err(&refused)?;
        let d_weight = MatMut::dense(d_weight, self.vocabulary, self.width).map_err(&refused)?;
        let hidden = self.hidden(first, rows)?;
        gemm.tn(
            d_logits,
            hidden,
            d_weight,
            (self.cpu.precision, Update::Add),
        )
        .map_err(&refused)
    }

    /// Runs of rows whose logits are held at a time: (first, count).
    pub(super) fn chunks(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let each = (CHUNK / self.vocabulary.max(1)).max(16);
        (0..rows)
            .step_by(each)
            .map(move |first| (first, each.min(rows - first)))
    }

    /// Room for the logits of a chunk.
    pub(super) fn room(&self, rows: usize) -> Block {
        let most = self.chunks(rows).map(|(_, count)| count).max().unwrap_or(0);
        self.cpu.memory.take_f32(most * self.vocabulary)
    }

    pub(super) fn rows_of_a_piece(&self) -> usize {
        (PIECE / self.vocabulary.max(1)).max(1)
    }
}

/// The first `len` numbers of a block.
pub(super) fn front(block: &mut Block, len: usize) -> &mut [f32] {
    block.f32s_mut().get_mut(..len).unwrap_or_default()
}

kernel! {
    fn log_prob_rows<L>(l, given: (&[f32], &[u32]), temperature: f32, log_probs: &mut [f32], entropies: &mut [f32]) {
        let (logits, targets) = given;
        let vocabulary = (logits.len() / log_probs.len().max(1)).max(1);
        let results = log_probs.iter_mut().zip(entropies);
        for ((row, target), (log_prob, entropy)) in logits.chunks_exact(vocabulary).zip(targets).zip(results) {
            let sums = row_sums(l, row, temperature);
            *log_prob = sums.log_prob(row.get(*target as usize).copied().unwrap_or(f32::NAN));
            *entropy = sums.entropy;
        }
    }
}

pub(super) fn log_prob(
    cpu: &Cpu,
    head: Head<'_, Tensor>,
    targets: &[u32],
    temperature: f32,
) -> Result<LogProbs<Tensor>> {
    let dims = check::log_prob(HeadShapes::of(head, Tensor::shape), targets, temperature)?;
    let ready = Ready::new(cpu, "log_prob", head)?;
    let shape = Shape::vector(dims.rows);
    let (mut log_probs, mut entropies) = (cpu.blank(shape)?, cpu.blank(shape)?);
    let mut room = ready.room(dims.rows);
    for (first, count) in ready.chunks(dims.rows) {
        let logits = front(&mut room, count * dims.n);
        ready.logits(first, logits)?;
        let logits: &[f32] = logits;
        let each = ready.rows_of_a_piece();
        let rows = first..first + count;
        let results = (
            log_probs.values().get_mut(rows.clone()).unwrap_or_default(),
            entropies.values().get_mut(rows).unwrap_or_default(),
        );
        cpu.pool.for_each_chunk_pair(
            (results.0, each),
            (results.1, each),
            |i, log_probs, entropies| {
                let start = i * each * dims.n;
                let end = start + log_probs.len() * dims.n;
                let given = (
                    logits.get(start..end).unwrap_or(&[]),
                    targets.get(first + i * each..).unwrap_or(&[]),
                );
                log_prob_rows(cpu.level, given, temperature, log_probs, entropies);
            },
        );
    }
    Ok(LogProbs {
        log_prob: log_probs.done(),
        entropy: entropies.done(),
    })
}

kernel! {
    /// Turns logits into d logits: d (1 at the target - p) / temperature.
    fn log_prob_rows_backward<L>(l, logits: &mut [f32], targets: &[u32], d: &[f32], vocabulary: usize, temperature: f32) {
        for (row, (target, d)) in logits.chunks_exact_mut(vocabulary).zip(targets.iter().zip(d)) {
            let sums = row_sums(l, row, temperature);
            let factor = d / temperature;
            let scale = l.splat(-factor);
            let (shift, divisor) = (l.splat(sums.largest), l.splat(temperature));
            let log_total = l.splat(sums.log_total);
            let (parts, tail) = row.as_chunks_mut::<WIDTH>();
            for part in parts {
                let z = l.div(l.sub(l.load(part), shift), divisor);
                l.store(l.mul(scale, exp(l, l.sub(z, log_total))), part);
            }
            let z = l.div(l.sub(l.load_part(tail), shift), divisor);
            l.store_part(l.mul(scale, exp(l, l.sub(z, log_total))), tail);
            if let Some(place) = row.get_mut(*target as usize) {
                *place += factor;
            }
        }
    }
}

pub(super) fn log_prob_backward(
    cpu: &Cpu,
    head: Head<'_, Tensor>,
    (targets, temperature): (&[u32], f32),
    d: &Tensor,
    d_weight: &mut Tensor,
) -> Result<Tensor> {
    const OP: &str = "log_prob_backward";
    let shapes = HeadShapes::of(head, Tensor::shape);
    let dims = check::log_prob_backward(shapes, targets, temperature, d.shape(), d_weight.shape())?;
    let ready = Ready::new(cpu, OP, head)?;
    let d = d.floats(OP)?;
    let d: &[f32] = &d;
    let mut d_hidden = cpu.blank(head.hidden.shape())?;
    let mut room = ready.room(dims.rows);
    d_weight.change(OP, |d_weight| -> Result<()> {
        for (first, count) in ready.chunks(dims.rows) {
            let logits = front(&mut room, count * dims.n);
            ready.logits(first, logits)?;
            let each = ready.rows_of_a_piece();
            cpu.pool.for_each_chunk(logits, each * dims.n, |i, logits| {
                let row = first + i * each;
                let targets = targets.get(row..).unwrap_or(&[]);
                let d = d.get(row..).unwrap_or(&[]);
                log_prob_rows_backward(cpu.level, logits, targets, d, dims.n, temperature);
            });
            ready.back(first, logits, d_hidden.values(), d_weight)?;
        }
        Ok(())
    })??;
    Ok(d_hidden.done())
}
