//! Which problems are held out: decided by a hash of the problem's key, so that no training line,
//! whoever draws it and whenever, can show a held-out problem, nor one reordered.

use std::collections::BTreeSet;

use frugal_core::rng::{Rng, key};
use serde::{Deserialize, Serialize};

use crate::knobs::Level;
use crate::task::{Problem, Task, TaskError};

/// Share of all keys that are held out, in thousandths. The tiny countdown has 2,416 keys; a
/// quarter leaves enough for 500 different held-out problems.
pub const HELD_OUT_PER_MILLE: u32 = 250;
/// Draws per wanted problem before the task is called too small.
const MAX_DRAWS: u32 = 2_000;

/// A side of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// For corpora, reward and gates.
    Training,
    /// For evaluation only.
    HeldOut,
}

impl Side {
    /// The side's name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::HeldOut => "held-out",
        }
    }
}

/// The side a problem is on; a function of its key alone.
pub fn side(problem: &Problem) -> Side {
    let mut rng = Rng::derive(&[key("held-out"), key(&problem.key)]);
    if rng.below(1_000) < HELD_OUT_PER_MILLE {
        Side::HeldOut
    } else {
        Side::Training
    }
}

/// A problem of one side.
pub fn draw(
    task: &dyn Task,
    rng: &mut Rng,
    level: &Level,
    wanted: Side,
) -> Result<Problem, TaskError> {
    for _ in 0..MAX_DRAWS {
        let problem = task.problem(rng, level)?;
        if side(&problem) == wanted {
            return Ok(problem);
        }
    }
    Err(TaskError::NoProblem {
        task: task.name().into(),
        draws: MAX_DRAWS,
    })
}

/// `n` problems of one side with different keys, the same for the same seed.
pub fn problems(
    task: &dyn Task,
    level: &Level,
    wanted: Side,
    seed: u64,
    n: usize,
) -> Result<Vec<Problem>, TaskError> {
    let mut rng = Rng::derive(&[seed, key("problems"), key(wanted.name())]);
    let mut keys = BTreeSet::new();
    let mut found: Vec<Problem> = Vec::with_capacity(n);
    let mut draws_left = MAX_DRAWS;
    while found.len() < n {
        let problem = draw(task, &mut rng, level, wanted)?;
        if keys.insert(problem.key.clone()) {
            found.push(problem);
            draws_left = MAX_DRAWS;
            continue;
        }
        // So many repeats in a row mean that nearly all there are have been found.
        draws_left -= 1;
        if draws_left == 0 {
            return Err(TaskError::TooFew {
                task: task.name().into(),
                side: wanted.name(),
                wanted: n,
                found: found.len(),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus;
    use crate::tasks;

    #[test]
    fn no_held_out_problem_is_in_any_corpus_line() {
        for name in ["countdown", "cups", "parity", "addition"] {
            let task = tasks::by_name(name, None).unwrap();
            let (level, mix) = (task.level(), task.mix());
            let held_out = problems(task.as_ref(), &level, Side::HeldOut, 1, 500).unwrap();
            let keys: BTreeSet<&str> = held_out.iter().map(|p| p.key.as_str()).collect();
            assert_eq!(keys.len(), 500);
            let mut rng = Rng::derive(&[2]);
            let mut n_prompts = 0;
            for _ in 0..2_500 {
                let line = corpus::line(task.as_ref(), &mut rng, &level, &mix).unwrap();
                // Also what a fact line says must not be readable as a question.
                let question = if line.prompt.is_empty() {
                    line.continuation
                } else {
                    line.prompt
                };
                let Ok(problem) = task.parse(&question) else {
                    continue;
                };
                assert!(!keys.contains(problem.key.as_str()), "{question}");
                assert_eq!(side(&problem), Side::Training);
                n_prompts += 1;
            }
            assert!(n_prompts > 2_000, "{name}: {n_prompts}");
        }
    }

    #[test]
    fn the_side_does_not_depend_on_order() {
        let task = tasks::by_name("countdown", None).unwrap();
        let mut sides = BTreeSet::new();
        for target in 10..40 {
            let orders = ["3 7 12", "12 3 7", "7 12 3"];
            let of = |order| side(&task.parse(&format!("{order} make {target}")).unwrap());
            assert!(orders.iter().all(|order| of(order) == of(&orders[0])));
            sides.insert(of(&orders[0]));
        }
        assert_eq!(sides.len(), 2);
    }

    #[test]
    fn a_task_with_too_few_problems_says_so() {
        let task = tasks::by_name("countdown", None).unwrap();
        let level = Level {
            largest: 4,
            ..task.level()
        };
        let error = problems(task.as_ref(), &level, Side::HeldOut, 1, 500).unwrap_err();
        assert!(
            matches!(error, TaskError::TooFew { wanted: 500, .. }),
            "{error}"
        );
    }
}
