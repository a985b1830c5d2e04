//! Divergences between the next-token distributions of two heads, and the backward to one of them.
//!
//! Logits of both sides are held for some rows at a time, as in [`super::head`], whose softmax this
//! uses; terms are f32, summed in f64 in the order of the tokens.
//! Meaning: `frugal_core::ops::divergence`.
#![expect(
    clippy::cast_possible_truncation,
    reason = "sums are formed in f64 and rounded once"
)]

use frugal_core::backend::{Divergence, DivergenceKind, Head};
use frugal_core::error::Result;
use frugal_core::ops::check::{self, HeadShapes};
use frugal_core::shape::Shape;

use super::backend::Cpu;
use super::head::{Ready, front, row_sums};
use super::pool::DisjointMut;
use super::tensor::Tensor;
use super::vector::{Lanes, WIDTH, exp, kernel};

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
        let values = DisjointMut::new(values);
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
