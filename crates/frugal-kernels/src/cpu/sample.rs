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

/// Likeliest tokens whose mass is looked at first, and by how much more each time it does not suffice:
/// the mass asked for is mostly in a few of them.
const RANKED_FIRST: usize = 256;
const RANKED_MORE: usize = 8;
/// Tokens that are put in order; more are cut in halves by rank, which takes a step a token where
/// sorting a flat distribution would take ten.
const SORTED: usize = 64;

/// The likelier first, of equals the lower id.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as sorting calls it")]
fn by_rank(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The tokens that top-k, top-p and min-p leave, in id order.
fn keep(desk: &mut Desk, sampling: &Sampling) {
    let kept = &mut desk.kept;
    kept.clear();
    kept.extend((0..).zip(desk.p.iter().copied()).filter(|(_, p)| *p > 0.0));
    if sampling.top_k > 0 {
        if sampling.top_k < kept.len() {
            kept.select_nth_unstable_by(sampling.top_k, by_rank);
            kept.truncate(sampling.top_k);
        }
        put_in_order(kept, &desk.p);
    }
    if sampling.top_p < 1.0 {
        let mass: f64 = kept.iter().map(|(_, p)| f64::from(*p)).sum();
        keep_mass(kept, f64::from(sampling.top_p) * mass);
    }
    let likeliest = kept.iter().map(|(_, p)| *p).fold(0.0, f32::max);
    let floor = f64::from(sampling.min_p) * f64::from(likeliest);
    kept.retain(|(_, p)| f64::from(*p) >= floor);
    put_in_order(kept, &desk.p);
}

/// Puts the likeliest tokens in id order. A few are sorted; of many it is known that they are all up
/// to the last of them by rank.
fn put_in_order(kept: &mut Vec<(u32, f32)>, p: &[f32]) {
    if kept.len() <= RANKED_FIRST {
        return kept.sort_unstable_by_key(|(id, _)| *id);
    }
    let Some(last) = kept.iter().copied().max_by(by_rank) else {
        return;
    };
    kept.clear();
    let all = (0..).zip(p.iter().copied());
    kept.extend(all.filter(|one| one.1 > 0.0 && by_rank(one, &last).is_le()));
}

/// Keeps the likeliest tokens up to the one that reaches the mass.
fn keep_mass(kept: &mut Vec<(u32, f32)>, wanted: f64) {
    // The first `sure` stay and have the mass `reached`. Beyond the first `end` none stays, once that
    // is known; until then as many more as `more` are looked at.
    let (mut sure, mut reached) = (0, 0.0);
    let (mut end, mut more) = (kept.len(), RANKED_FIRST);
    let mut is_enough = false;
    while let Some(rest) = kept
        .get_mut(sure..end)
        .filter(|rest| rest.len() > if is_enough { SORTED } else { 0 })
    {
        let n_next = if is_enough {
            rest.len() / 2
        } else {
            more.min(rest.len())
        };
        if n_next < rest.len() {
            rest.select_nth_unstable_by(n_next, by_rank);
        }
        let next = rest.iter().take(n_next);
        let after = reached + next.map(|(_, p)| f64::from(*p)).sum::<f64>();
        if after < wanted {
            (sure, reached) = (sure + n_next, after);
            more *= RANKED_MORE;
        } else {
            (end, is_enough) = (sure + n_next, true);
        }
    }
    let last = kept.get_mut(sure..end).unwrap_or_default();
    last.sort_unstable_by(by_rank);
    for (_, p) in last {
        if reached >= wanted {
            break;
        }
        reached += f64::from(*p);
        sure += 1;
    }
    kept.truncate(sure);
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

#[cfg(test)]
mod tests {
    use super::*;
    use frugal_core::rng::Rng;

    /// The rule as it is said: everything in order, then cut.
    fn by_sorting(p: &[f32], sampling: &Sampling) -> Vec<u32> {
        let mut all: Vec<(u32, f32)> = (0..).zip(p.iter().copied()).collect();
        all.sort_by(by_rank);
        if sampling.top_k > 0 {
            all.truncate(sampling.top_k);
        }
        let mass: f64 = all.iter().map(|(_, p)| f64::from(*p)).sum();
        let mut reached = 0.0;
        let mut ids = Vec::new();
        for (id, p) in &all {
            if sampling.top_p < 1.0 && reached >= f64::from(sampling.top_p) * mass {
                break;
            }
            reached += f64::from(*p);
            if *p >= sampling.min_p * all[0].1 {
                ids.push(*id);
            }
        }
        ids.sort_unstable();
        ids
    }

    #[test]
    fn ranking_a_part_keeps_what_sorting_all_would() {
        let mut rng = Rng::derive(&[3]);
        for (length, steps) in [
            (1, 9),
            (63, 4),
            (64, 200),
            (65, 3),
            (700, 50),
            (5_000, 1_000),
        ] {
            // Eighths, so that sums are exact in any order, and many are equal.
            let p: Vec<f32> = (0..length)
                .map(|_| (1 + rng.below(steps)) as f32 / 8.0)
                .collect();
            for top_k in [0, 1, 5, 64, 300] {
                for top_p in [1.0, 0.95, 0.5, 0.01] {
                    for min_p in [0.0, 0.25] {
                        let sampling = Sampling {
                            temperature: 1.0,
                            top_k,
                            top_p,
                            min_p,
                        };
                        let mut desk = Desk {
                            p: p.clone(),
                            kept: Vec::new(),
                        };
                        keep(&mut desk, &sampling);
                        let ids: Vec<u32> = desk.kept.iter().map(|(id, _)| *id).collect();
                        assert_eq!(ids, by_sorting(&p, &sampling), "{length} {sampling:?}");
                    }
                }
            }
        }
    }
}
