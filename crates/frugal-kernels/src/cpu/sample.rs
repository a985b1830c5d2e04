//! Drawing tokens from logits.
//!
//! The rule is that of `frugal_core::ops::pick`. Probabilities are f32 with sums in f64; the mass is
//! found by blocks of sixteen first, so that a draw looks at few single tokens. The log-probability
//! is that of [`super::head::row_sums`], the same bits as `log_prob` gives for the same logits.
#![expect(
    clippy::cast_possible_truncation,
    reason = "a vocabulary is far below 2^32"
)]

use frugal_core::backend::{Picked, Sampling};
use frugal_core::error::Result;
use frugal_core::ops;
use frugal_core::ops::check;

use super::backend::Cpu;
use super::head::{RowSums, row_sums};
use super::tensor::Tensor;
use super::vector::{Lanes, WIDTH, exp, kernel};

/// Logits of a piece of work.
const PIECE: usize = 8192;

/// Room for one row.
struct Desk {
    p: Vec<f32>,
    kept: Vec<(u32, f32)>,
}

kernel! {
    /// Sets ids and log-probabilities of rows; an id of `u32::MAX` marks logits that hold no
    /// distribution.
    fn pick_rows<L>(l, logits: &[f32], sampling: &Sampling, uniforms: &[f32], ids: &mut [u32], log_probs: &mut [f32]) {
        let vocabulary = (logits.len() / ids.len().max(1)).max(1);
        let tempered = if sampling.temperature > 0.0 { sampling.temperature } else { 1.0 };
        let is_plain = sampling.top_k == 0 && sampling.top_p >= 1.0 && sampling.min_p <= 0.0;
        let mut desk = Desk { p: vec![0.0; vocabulary], kept: Vec::new() };
        let results = ids.iter_mut().zip(log_probs);
        for ((row, uniform), (id, log_prob)) in logits.chunks_exact(vocabulary).zip(uniforms).zip(results) {
            let sums = row_sums(l, row, tempered);
            if !sums.is_distribution() {
                *id = u32::MAX;
                continue;
            }
            let chosen = if sampling.temperature > 0.0 {
                probabilities(l, row, &sums, (tempered, &mut desk.p));
                if is_plain {
                    draw_block(l, &desk.p, f64::from(*uniform))
                } else {
                    keep(&mut desk, sampling);
                    draw(&desk.kept, f64::from(*uniform))
                }
            } else {
                row.iter().position(|x| *x >= sums.largest()).unwrap_or(0)
            };
            *id = chosen as u32;
            *log_prob = sums.log_prob(row.get(chosen).copied().unwrap_or(f32::NAN));
        }
    }
}

/// e^(z - largest z): probabilities up to a common factor.
#[expect(clippy::inline_always, reason = "melts into the kernel")]
#[inline(always)]
fn probabilities<L: Lanes>(
    l: L,
    logits: &[f32],
    sums: &RowSums,
    (temperature, p): (f32, &mut [f32]),
) {
    let (shift, divisor) = (l.splat(sums.largest()), l.splat(temperature));
    let (x_parts, x_tail) = logits.as_chunks::<WIDTH>();
    let (p_parts, p_tail) = p.as_chunks_mut::<WIDTH>();
    for (x, p) in x_parts.iter().zip(p_parts) {
        l.store(exp(l, l.div(l.sub(l.load(x), shift), divisor)), p);
    }
    let z = l.div(l.sub(l.load_part(x_tail), shift), divisor);
    l.store_part(exp(l, z), p_tail);
}

/// The first token whose cumulative mass exceeds the uniform's share; the last possible one where
/// rounding leaves none.
#[expect(clippy::inline_always, reason = "melts into the kernel")]
#[inline(always)]
fn draw_block<L: Lanes>(l: L, p: &[f32], uniform: f64) -> usize {
    let mass: f64 = p
        .chunks(WIDTH)
        .map(|block| f64::from(l.sum(l.load_part(block))))
        .sum();
    let wanted = uniform * mass;
    let mut reached = 0.0;
    let mut last = 0;
    for (index, block) in p.chunks(WIDTH).enumerate() {
        let after = reached + f64::from(l.sum(l.load_part(block)));
        let is_here = after > wanted;
        for (lane, p) in block.iter().enumerate() {
            if *p > 0.0 {
                last = index * WIDTH + lane;
                reached += f64::from(*p);
                if is_here && reached > wanted {
                    return last;
                }
            }
        }
        if is_here {
            return last;
        }
        reached = after;
    }
    last
}

/// The tokens that top-k, top-p and min-p leave, in id order.
fn keep(desk: &mut Desk, sampling: &Sampling) {
    let kept = &mut desk.kept;
    kept.clear();
    kept.extend((0..).zip(desk.p.iter().copied()).filter(|(_, p)| *p > 0.0));
    kept.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if sampling.top_k > 0 {
        kept.truncate(sampling.top_k);
    }
    if sampling.top_p < 1.0 {
        let mass: f64 = kept.iter().map(|(_, p)| f64::from(*p)).sum();
        let wanted = f64::from(sampling.top_p) * mass;
        let mut reached = 0.0;
        let below = kept.iter().take_while(|(_, p)| {
            let is_short = reached < wanted;
            reached += f64::from(*p);
            is_short
        });
        let length = below.count();
        kept.truncate(length);
    }
    if let Some((_, likeliest)) = kept.first().copied() {
        let floor = f64::from(sampling.min_p) * f64::from(likeliest);
        kept.retain(|(_, p)| f64::from(*p) >= floor);
    }
    kept.sort_unstable_by_key(|(id, _)| *id);
}

fn draw(kept: &[(u32, f32)], uniform: f64) -> usize {
    let mass: f64 = kept.iter().map(|(_, p)| f64::from(*p)).sum();
    let mut reached = 0.0;
    for (id, p) in kept {
        reached += f64::from(*p);
        if reached > uniform * mass {
            return *id as usize;
        }
    }
    kept.last().map_or(0, |(id, _)| *id as usize)
}

pub(super) fn pick(
    cpu: &Cpu,
    logits: &Tensor,
    sampling: &Sampling,
    uniforms: &[f32],
) -> Result<Picked> {
    let (rows, vocabulary) = check::pick(logits.shape(), sampling, uniforms)?;
    let values = logits.floats("pick")?;
    let values: &[f32] = &values;
    let (mut ids, mut log_probs) = (vec![0; rows], vec![0.0; rows]);
    let each = (PIECE / vocabulary).max(1);
    cpu.pool.for_each_chunk_pair(
        (&mut ids, each),
        (&mut log_probs, each),
        |i, ids, log_probs| {
            let start = i * each * vocabulary;
            let logits = values.get(start..start + ids.len() * vocabulary);
            let uniforms = uniforms.get(i * each..).unwrap_or(&[]);
            pick_rows(
                cpu.level,
                logits.unwrap_or(&[]),
                sampling,
                uniforms,
                ids,
                log_probs,
            );
        },
    );
    if let Some(bad) = ids.iter().position(|id| *id == u32::MAX) {
        let row = values.get(bad * vocabulary..(bad + 1) * vocabulary);
        // The definition of the operation refuses the row, and says why.
        ops::pick::row(row.unwrap_or(&[]), sampling, 0.0)?;
    }
    Ok(Picked { ids, log_probs })
}
