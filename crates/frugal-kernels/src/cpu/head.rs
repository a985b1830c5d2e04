//! What is read off a hidden state: log-probabilities, entropies, divergences, and their backward.
//!
//! Logits are formed for some rows at a time by the products of [`super::gemm`], used while they are
//! in the cache, and forgotten: no `[T, V]` is kept. [`row_sums`] is the one softmax of this file and
//! of [`super::sample`], so that a drawn token's log-probability and the trainer's are the same bits
//! for the same logits. Meaning: `frugal_core::ops::log_prob`, `frugal_core::ops::divergence`.
#![expect(
    clippy::cast_possible_truncation,
    reason = "sums are formed in f64 and rounded once"
)]

use std::sync::Arc;

use frugal_core::backend::{Divergence, DivergenceKind, Head, LogProbs};
use frugal_core::error::Result;
use frugal_core::ops::check::{self, HeadShapes};
use frugal_core::shape::Shape;

use super::backend::Cpu;
use super::gemm::{Finish, Mat, MatMut, PackedWeight, Update};
use super::memory::Block;
use super::tensor::{Floats, Tensor, WeightPart};
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
struct Ready<'a> {
    cpu: &'a Cpu,
    op: &'static str,
    hidden: Floats<'a>,
    weight: Arc<PackedWeight>,
    width: usize,
    vocabulary: usize,
}

impl<'a> Ready<'a> {
    fn new(cpu: &'a Cpu, op: &'static str, head: Head<'a, Tensor>) -> Result<Self> {
        Ok(Self {
            cpu,
            op,
            hidden: head.hidden.floats(op)?,
            weight: head
                .weight
                .packed(cpu.gemm(), cpu.precision, &WeightPart::Whole)?,
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
    fn logits(&self, first: usize, logits: &mut [f32]) -> Result<()> {
        let rows = logits.len() / self.vocabulary.max(1);
        let refused = self.cpu.refused(self.op);
        let out = MatMut::dense(logits, rows, self.vocabulary).map_err(&refused)?;
        let hidden = self.hidden(first, rows)?;
        self.cpu
            .gemm()
            .nt(hidden, &self.weight, out, Finish::SET)
            .map_err(&refused)
    }

    /// Carries d logits of the rows from `first` on through the head.
    fn back(
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
        gemm.nn(d_logits, &self.weight, d_hidden, Finish::SET)
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
    fn chunks(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let each = (CHUNK / self.vocabulary.max(1)).max(16);
        (0..rows)
            .step_by(each)
            .map(move |first| (first, each.min(rows - first)))
    }

    /// Room for the logits of a chunk.
    fn room(&self, rows: usize) -> Block {
        let most = self.chunks(rows).map(|(_, count)| count).max().unwrap_or(0);
        self.cpu.memory.take_f32(most * self.vocabulary)
    }

    fn rows_of_a_piece(&self) -> usize {
        (PIECE / self.vocabulary.max(1)).max(1)
    }
}

/// The first `len` numbers of a block.
fn front(block: &mut Block, len: usize) -> &mut [f32] {
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
    /// Turns logits into d logits: d (1[target] - p) / temperature.
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

/// ln p of all tokens of a row, in place.
#[expect(clippy::inline_always, reason = "melts into kernels")]
#[inline(always)]
fn log_softmax<L: Lanes>(l: L, row: &mut [f32], temperature: f32) {
    let sums = row_sums(l, row, temperature);
    for x in row.iter_mut() {
        *x = sums.log_prob(*x);
    }
}

/// e^x of all numbers of a row.
#[expect(clippy::inline_always, reason = "melts into kernels")]
#[inline(always)]
fn exp_row<L: Lanes>(l: L, x: &[f32], y: &mut [f32]) {
    let (x_parts, x_tail) = x.as_chunks::<WIDTH>();
    let (y_parts, y_tail) = y.as_chunks_mut::<WIDTH>();
    for (x, y) in x_parts.iter().zip(y_parts) {
        l.store(exp(l, l.load(x)), y);
    }
    l.store_part(exp(l, l.load_part(x_tail)), y_tail);
}

/// p x, and 0 where p is 0, whatever x.
fn p_times(p: f32, x: f32) -> f32 {
    if p == 0.0 { 0.0 } else { p * x }
}

/// ln (beta e^p + (1 - beta) e^q).
fn log_mixture(q: f32, p: f32, beta: f32) -> f32 {
    let (a, b) = (p + beta.ln(), q + (1.0 - beta).ln());
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if high == f32::NEG_INFINITY {
        high
    } else {
        high + (low - high).exp().ln_1p()
    }
}

/// A row of both sides: log-probabilities and probabilities.
struct Sides<'a> {
    log_q: &'a mut [f32],
    log_p: &'a mut [f32],
    q: &'a mut [f32],
    p: &'a mut [f32],
}

impl Sides<'_> {
    /// From logits to log-probabilities and probabilities.
    #[expect(clippy::inline_always, reason = "melts into kernels")]
    #[inline(always)]
    fn settle<L: Lanes>(&mut self, l: L, temperature: f32) {
        log_softmax(l, self.log_q, temperature);
        log_softmax(l, self.log_p, temperature);
        exp_row(l, self.log_q, self.q);
        exp_row(l, self.log_p, self.p);
    }

    /// (ln q, ln p, q, p) of each token.
    fn tokens(&self) -> impl Iterator<Item = [f32; 4]> + '_ {
        let logs = self.log_q.iter().zip(self.log_p.iter());
        logs.zip(self.q.iter().zip(self.p.iter()))
            .map(|((a, b), (c, d))| [*a, *b, *c, *d])
    }

    fn value(&self, kind: DivergenceKind) -> f32 {
        let term = |[log_q, log_p, q, p]: [f32; 4]| match kind {
            DivergenceKind::Forward => p_times(p, log_p - log_q),
            DivergenceKind::Reverse => p_times(q, log_q - log_p),
            DivergenceKind::JensenShannon { beta } => {
                let m = log_mixture(log_q, log_p, beta);
                beta * p_times(p, log_p - m) + (1.0 - beta) * p_times(q, log_q - m)
            }
        };
        self.tokens()
            .map(|token| f64::from(term(token)))
            .sum::<f64>() as f32
    }

    /// d of the student's logits, times `factor`, in place of ln q.
    fn slopes(&mut self, kind: DivergenceKind, factor: f32) {
        let slope = |log_q: f32, log_p: f32| match kind {
            DivergenceKind::Forward => 0.0,
            DivergenceKind::Reverse => log_q - log_p,
            DivergenceKind::JensenShannon { beta } => {
                (1.0 - beta) * (log_q - log_mixture(log_q, log_p, beta))
            }
        };
        let mean = self
            .tokens()
            .map(|[log_q, log_p, q, _]| f64::from(p_times(q, slope(log_q, log_p))))
            .sum::<f64>() as f32;
        let sides = self.log_q.iter_mut().zip(&*self.log_p);
        for ((log_q, log_p), (q, p)) in sides.zip(self.q.iter().zip(&*self.p)) {
            let d = match kind {
                DivergenceKind::Forward => q - p,
                _ => p_times(*q, slope(*log_q, *log_p) - mean),
            };
            *log_q = factor * d;
        }
    }
}

/// Cuts the logits of both sides into rows beside room for their probabilities.
fn sides<'a>(
    student: &'a mut [f32],
    teacher: &'a mut [f32],
    room: &'a mut [f32],
) -> Option<Sides<'a>> {
    let vocabulary = student.len();
    let (q, rest) = room.split_at_mut_checked(vocabulary)?;
    Some(Sides {
        log_q: student,
        log_p: teacher,
        q,
        p: rest.get_mut(..vocabulary)?,
    })
}

kernel! {
    /// The divergence of each row; what held logits is used up.
    fn divergence_rows<L>(l, student: &mut [f32], teacher: &mut [f32], room: &mut [f32], divergence: Divergence, values: &mut [f32]) {
        let vocabulary = (room.len() / 2).max(1);
        let rows = student.chunks_exact_mut(vocabulary).zip(teacher.chunks_exact_mut(vocabulary));
        for ((student, teacher), value) in rows.zip(values) {
            if let Some(mut sides) = sides(student, teacher, room) {
                sides.settle(l, divergence.temperature);
                *value = sides.value(divergence.kind);
            }
        }
    }
}

kernel! {
    /// Turns the student's logits into their gradients.
    fn divergence_rows_backward<L>(l, student: &mut [f32], teacher: &mut [f32], room: &mut [f32], divergence: Divergence, d: &[f32]) {
        let vocabulary = (room.len() / 2).max(1);
        let rows = student.chunks_exact_mut(vocabulary).zip(teacher.chunks_exact_mut(vocabulary));
        for ((student, teacher), d) in rows.zip(d) {
            if let Some(mut sides) = sides(student, teacher, room) {
                sides.settle(l, divergence.temperature);
                sides.slopes(divergence.kind, d / divergence.temperature);
            }
        }
    }
}

pub(super) fn divergence(
    cpu: &Cpu,
    student: Head<'_, Tensor>,
    teacher: Head<'_, Tensor>,
    divergence: Divergence,
) -> Result<Tensor> {
    let shapes = [student, teacher].map(|head| HeadShapes::of(head, Tensor::shape));
    let dims = check::divergence(shapes[0], shapes[1], divergence)?;
    let student = Ready::new(cpu, "divergence", student)?;
    let teacher = Ready::new(cpu, "divergence", teacher)?;
    let mut values = cpu.blank(Shape::vector(dims.rows))?;
    let mut rooms = [student.room(dims.rows), teacher.room(dims.rows)];
    for (first, count) in student.chunks(dims.rows) {
        let [own, other] = rooms
            .each_mut()
            .map(|room| front(room, count * dims.vocabulary));
        student.logits(first, own)?;
        teacher.logits(first, other)?;
        let each = student.rows_of_a_piece();
        let values = values
            .values()
            .get_mut(first..first + count)
            .unwrap_or_default();
        let values = super::pool::DisjointMut::new(values);
        let piece = each * dims.vocabulary;
        cpu.pool
            .for_each_chunk_pair((own, piece), (other, piece), |i, own, other| {
                let mut room = cpu.memory.take_f32(2 * dims.vocabulary);
                let rows = i * each..i * each + own.len() / dims.vocabulary;
                // SAFETY: pieces of different indices hold different rows.
                let values = unsafe { values.slice(rows) };
                let room = front(&mut room, 2 * dims.vocabulary);
                divergence_rows(cpu.level, own, other, room, divergence, values);
            });
    }
    Ok(values.done())
}

pub(super) fn divergence_backward(
    cpu: &Cpu,
    [student, teacher]: [Head<'_, Tensor>; 2],
    divergence: Divergence,
    d: &Tensor,
    d_weight: &mut Tensor,
) -> Result<Tensor> {
    const OP: &str = "divergence_backward";
    let shapes = [student, teacher].map(|head| HeadShapes::of(head, Tensor::shape));
    let dims = check::divergence_backward(
        shapes[0],
        shapes[1],
        divergence,
        d.shape(),
        d_weight.shape(),
    )?;
    let mut d_hidden = cpu.blank(student.hidden.shape())?;
    let student = Ready::new(cpu, OP, student)?;
    let teacher = Ready::new(cpu, OP, teacher)?;
    let d = d.floats(OP)?;
    let d: &[f32] = &d;
    let mut rooms = [student.room(dims.rows), teacher.room(dims.rows)];
    d_weight.change(OP, |d_weight| -> Result<()> {
        for (first, count) in student.chunks(dims.rows) {
            let [own, other] = rooms
                .each_mut()
                .map(|room| front(room, count * dims.vocabulary));
            student.logits(first, own)?;
            teacher.logits(first, other)?;
            let each = student.rows_of_a_piece();
            let piece = each * dims.vocabulary;
            cpu.pool
                .for_each_chunk_pair((&mut *own, piece), (other, piece), |i, own, other| {
                    let mut room = cpu.memory.take_f32(2 * dims.vocabulary);
                    let room = front(&mut room, 2 * dims.vocabulary);
                    let d = d.get(first + i * each..).unwrap_or(&[]);
                    divergence_rows_backward(cpu.level, own, other, room, divergence, d);
                });
            student.back(first, own, d_hidden.values(), d_weight)?;
        }
        Ok(())
    })??;
    Ok(d_hidden.done())
}
