//! Verified answers: several are drawn from one prompt, graded or put to the vote, and the best is
//! given, with what became of the others.
//!
//! A vote counts answers whose final results are the same; which results are the same is a matter of
//! the kind of answer, and for formulas of the [`Grader`]. Answers that did not come to an end, or
//! have no result, have no vote. Of the winners the first is given.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde_json::{Value, json};

use crate::answer::{Check, Finish, Said, Verify};

/// Grades answers.
pub trait Grader: Send + Sync + Debug {
    /// The final result of an answer to a question of numbers or formulas, in a form that is the same
    /// for results that are equal; none where there is none.
    fn result(&self, answer: &str) -> Option<String>;

    /// Whether an answer is right, by a task's grader.
    ///
    /// # Errors
    /// If there is no such task, or the reference is not one of its; fit for clients.
    fn is_right(&self, task: &str, reference: &Value, answer: &str) -> Result<bool, String>;
}

/// One of the answers.
#[derive(Debug, Default)]
struct Candidate {
    text: String,
    pieces: Vec<Said>,
    finish: Option<Finish>,
}

/// The pieces of the best answer, as the only one, and the verdict on all.
pub(super) fn best(
    wanted: &Verify,
    said: Vec<Said>,
    grader: Option<&dyn Grader>,
) -> (Vec<Said>, Value) {
    let (head, candidates) = sort(said, wanted.samples);
    let results: Vec<Option<String>> = candidates
        .iter()
        .map(|candidate| result(wanted, candidate, grader))
        .collect();
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for result in results.iter().flatten() {
        *votes.entry(result).or_default() += 1;
    }
    // The most votes; of equals the one whose first answer came first.
    let most = votes.values().copied().max().unwrap_or(0);
    let is_winner = |result: &Option<String>| {
        let result = result.as_deref();
        result.is_some_and(|result| votes.get(result) == Some(&most))
    };
    let winner = results.iter().position(is_winner);
    let chosen = winner.unwrap_or(0);
    let verdict = json!({
        "checker": name(&wanted.checker),
        "samples": wanted.samples,
        "chosen": chosen,
        "is_verified": winner.is_some(),
        "agreement": most as f64 / wanted.samples.max(1) as f64,
        "verdicts": (results.iter().zip(&candidates))
            .map(|(result, candidate)| json!({
                "result": result,
                "is_finished": candidate.finish == Some(Finish::Stop),
                "agrees": winner.is_some() && is_winner(result),
            }))
            .collect::<Vec<_>>(),
    });
    let pieces = candidates.into_iter().nth(chosen).map(|one| one.pieces);
    let pieces = head.into_iter().chain(pieces.into_iter().flatten());
    (pieces.collect(), verdict)
}

/// What came before the answers, and each answer's own pieces, as those of the first.
fn sort(said: Vec<Said>, n: usize) -> (Vec<Said>, Vec<Candidate>) {
    let mut head = Vec::new();
    let mut candidates: Vec<Candidate> = (0..n).map(|_| Candidate::default()).collect();
    for mut piece in said {
        let index = match &mut piece {
            Said::Begun { .. } | Said::Done(_) | Said::Failed(_) => {
                head.push(piece);
                continue;
            }
            Said::Thinking { index, .. }
            | Said::Answer { index, .. }
            | Said::CallBegins { index, .. }
            | Said::CallArguments { index, .. }
            | Said::Ended { index, .. } => std::mem::take(index),
        };
        if let Some(candidate) = candidates.get_mut(index) {
            match &piece {
                Said::Answer { text, .. } => candidate.text.push_str(text),
                Said::Ended { finish, .. } => candidate.finish = Some(*finish),
                _ => {}
            }
            candidate.pieces.push(piece);
        }
    }
    (head, candidates)
}

fn result(wanted: &Verify, candidate: &Candidate, grader: Option<&dyn Grader>) -> Option<String> {
    if candidate.finish != Some(Finish::Stop) {
        return None;
    }
    let text = candidate.text.trim();
    match &wanted.checker {
        Check::Majority => (!text.is_empty()).then(|| text.to_owned()),
        Check::Math => grader?.result(text),
        // Objects are the same whatever the order of their fields.
        Check::Json => {
            let mut value: Value = serde_json::from_str(text).ok()?;
            value.sort_all_objects();
            Some(value.to_string())
        }
        Check::Task { name, reference } => {
            let is_right = grader?.is_right(name, reference, text).ok()?;
            is_right.then(|| "right".to_owned())
        }
    }
}

fn name(check: &Check) -> &str {
    match check {
        Check::Majority => "majority",
        Check::Math => "math",
        Check::Json => "json",
        Check::Task { name, .. } => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Detail;

    fn answers(texts: &[(&str, Finish)]) -> Vec<Said> {
        let answer = |(index, (text, finish)): (usize, &(&str, Finish))| {
            let text = (*text).to_owned();
            let tokens = Vec::new();
            let (finish, detail) = (*finish, Detail::default());
            [
                Said::Answer {
                    index,
                    text,
                    tokens,
                },
                Said::Ended {
                    index,
                    finish,
                    detail,
                },
            ]
        };
        texts.iter().enumerate().flat_map(answer).collect()
    }

    fn check(checker: Check, texts: &[(&str, Finish)], chosen: usize, agreement: f64) {
        let samples = texts.len();
        let wanted = Verify { samples, checker };
        let (pieces, verdict) = best(&wanted, answers(texts), None);
        assert_eq!(verdict["chosen"], chosen, "{verdict}");
        assert_eq!(verdict["agreement"], agreement, "{verdict}");
        let text = texts[chosen].0;
        assert!(matches!(&pieces[0], Said::Answer { index: 0, text: said, .. } if said == text));
        assert_eq!(pieces.len(), 2);
    }

    #[test]
    fn the_most_votes_win_and_unfinished_answers_have_none() {
        let (stop, length) = (Finish::Stop, Finish::Length);
        check(
            Check::Majority,
            &[("a", stop), ("b ", stop), ("b", stop), ("c", stop)],
            1,
            0.5,
        );
        check(
            Check::Majority,
            &[("a", length), ("a", length), ("b", stop)],
            2,
            1.0 / 3.0,
        );
        check(Check::Majority, &[("a", stop), ("b", stop)], 0, 0.5);
        check(
            Check::Json,
            &[
                ("no", stop),
                (r#"{"a":1,"b":2}"#, stop),
                (r#"{"b":2, "a":1}"#, stop),
            ],
            1,
            2.0 / 3.0,
        );
        check(Check::Json, &[("no", stop), ("neither", stop)], 0, 0.0);
    }
}
