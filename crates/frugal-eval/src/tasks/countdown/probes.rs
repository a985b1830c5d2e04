//! Skill tests cut out of a patient search as it is written.

use frugal_core::rng::Rng;

use super::append;
use super::search::Attempt;
use super::trace::{Role, Word};
use crate::task::{Probe, Skill};

/// Tests of each skill at random places of a search that `start` (question and opening) begins;
/// `hit` is its last attempt if that reached the target.
pub(super) fn of_trace(
    start: &str,
    written: &[Vec<Word>],
    hit: Option<&Attempt>,
    rng: &mut Rng,
) -> Vec<Probe> {
    let mut below = |n: usize| rng.below(u32::try_from(n).unwrap_or(0)) as usize;
    let mut probes = Vec::new();
    let any = below(written.len());
    probes.extend(at_role(start, written, any, Role::Value, Skill::Computing));
    probes.extend(at_role(start, written, any, Role::Target, Skill::Copying));
    let last = written.len().saturating_sub(1);
    if last > 0 {
        let failed = below(last);
        probes.extend(at_role(
            start,
            written,
            failed,
            Role::Verdict,
            Skill::Comparing,
        ));
        probes.extend(next_plan(start, written, failed));
    }
    if let Some(hit) = hit {
        probes.extend(at_role(
            start,
            written,
            last,
            Role::Verdict,
            Skill::Comparing,
        ));
        let mut prompt = start.to_owned();
        append(&mut prompt, written);
        let expected = format!("</think> {}", hit.expression);
        probes.push(Probe {
            skill: Skill::Stopping,
            prompt,
            expected,
        });
    }
    probes
}

/// The probe whose answer is the last word with `role` in attempt `at`.
fn at_role(
    start: &str,
    written: &[Vec<Word>],
    at: usize,
    role: Role,
    skill: Skill,
) -> Option<Probe> {
    let attempt = written.get(at)?;
    let position = attempt.iter().rposition(|word| word.role == role)?;
    let mut prompt = start.to_owned();
    append(&mut prompt, written.iter().take(at));
    append(
        &mut prompt,
        [&attempt.iter().take(position).cloned().collect()],
    );
    Some(Probe {
        skill,
        prompt,
        expected: attempt.get(position)?.text.clone(),
    })
}

/// The probe whose answer is what is tried after the failed attempt `at`.
fn next_plan(start: &str, written: &[Vec<Word>], at: usize) -> Option<Probe> {
    let next = written.get(at + 1)?;
    let plan = next.iter().take_while(|word| word.role == Role::Plan);
    let expected: Vec<&str> = plan.map(|word| word.text.as_str()).collect();
    let mut prompt = start.to_owned();
    append(&mut prompt, written.iter().take(at + 1));
    Some(Probe {
        skill: Skill::Stepping,
        prompt,
        expected: expected.join(" "),
    })
}
