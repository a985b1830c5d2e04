//! Lines of the base corpus: a training problem with one habit, or stand-alone facts.

use frugal_core::rng::Rng;

use crate::knobs::{Level, Mix};
use crate::split::{self, Side};
use crate::task::{Task, TaskError};

/// One line as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The question; empty for facts.
    pub prompt: String,
    /// What follows it, without `<eos>`.
    pub continuation: String,
}

/// A line drawn by `mix`. Only training problems are shown.
pub fn line(task: &dyn Task, rng: &mut Rng, level: &Level, mix: &Mix) -> Result<Line, TaskError> {
    mix.check(task.name())?;
    if rng.uniform() < mix.drill
        && let Some(continuation) = task.drill(rng, mix)
    {
        return Ok(Line {
            prompt: String::new(),
            continuation,
        });
    }
    let problem = split::draw(task, rng, level, Side::Training)?;
    if rng.uniform() < mix.hopeless * mix.patient_share()
        && let Some((problem, continuation)) = task.hopeless(&problem, rng, mix)?
        && split::side(&problem) == Side::Training
    {
        return Ok(Line {
            prompt: problem.question,
            continuation,
        });
    }
    let continuation = task.habit(&problem, rng, mix)?;
    Ok(Line {
        prompt: problem.question,
        continuation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Countdown;

    #[test]
    fn lines_follow_from_the_stream_and_the_shares() {
        let task = Countdown::default();
        let (level, mix) = (
            task.level(),
            Mix {
                drill: 0.5,
                ..task.mix()
            },
        );
        let (mut a, mut b) = (Rng::derive(&[1]), Rng::derive(&[1]));
        let mut n_facts = 0;
        for _ in 0..1_000 {
            let made = line(&task, &mut a, &level, &mix).unwrap();
            assert_eq!(made, line(&task, &mut b, &level, &mix).unwrap());
            n_facts += u32::from(made.prompt.is_empty());
        }
        // Five standard deviations: 5 sqrt(1000 / 4) = 79.
        assert!(n_facts.abs_diff(500) < 79, "{n_facts}");
        let bad = Mix { drill: -1.0, ..mix };
        assert!(line(&task, &mut a, &level, &bad).is_err());
    }
}
