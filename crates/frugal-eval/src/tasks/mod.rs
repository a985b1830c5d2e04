//! The tasks, one file each, and how to get one by its name.

pub mod addition;
pub mod countdown;
pub mod cups;
pub mod game24;
pub mod parity;

use frugal_core::rng::Rng;

pub use addition::Addition;
pub use countdown::Countdown;
pub use cups::Cups;
pub use parity::Parity;

use crate::knobs::{Level, Mix};
use crate::task::{Task, TaskError};

/// The names [`by_name`] knows. The last two need the rows of their data file.
pub const NAMES: [&str; 6] = [
    "countdown",
    "cups",
    "parity",
    "addition",
    "countdown-hard",
    "game24",
];

/// Largest number with a word of its own in the harder countdown: its rows go to 100.
const HARD_CEILING: u32 = 199;

/// The task of this name; `rows` is the text of the data file for tasks that have one.
pub fn by_name(name: &str, rows: Option<&str>) -> Result<Box<dyn Task>, TaskError> {
    let missing = || TaskError::Row {
        task: name.into(),
        row: 0,
        reason: "expected the rows of its data file, got none".into(),
    };
    Ok(match name {
        "countdown" => Box::new(Countdown::default()),
        "cups" => Box::new(Cups),
        "parity" => Box::new(Parity),
        "addition" => Box::new(Addition),
        "countdown-hard" => {
            let rows = rows.ok_or_else(missing)?;
            Box::new(Countdown::from_rows(name, rows, HARD_CEILING)?)
        }
        "game24" => Box::new(game24::from_rows(rows.ok_or_else(missing)?)?),
        _ => {
            let (expected, got) = (NAMES.join(", "), name.to_owned());
            return Err(TaskError::UnknownTask { expected, got });
        }
    })
}

/// A size between the level's two, if they lie within what the task can do.
fn draw_size(
    task: &'static str,
    level: &Level,
    most: u32,
    rng: &mut Rng,
) -> Result<usize, TaskError> {
    let wrong = |field, got: u32, low: u32, high: u32| TaskError::Knob {
        task: task.into(),
        field,
        got: got.to_string(),
        expected: format!("{low} to {high}"),
    };
    if !(1..=most).contains(&level.size_max) {
        return Err(wrong("size_max", level.size_max, 1, most));
    }
    if !(1..=level.size_max).contains(&level.size_min) {
        return Err(wrong("size_min", level.size_min, 1, level.size_max));
    }
    let size = level.size_min + rng.below(level.size_max - level.size_min + 1);
    Ok(size as usize)
}

/// The mix of tasks whose habits are to blurt or to work everything out: 12 % work it out.
fn blurt_or_work() -> Mix {
    Mix {
        drill: 0.0,
        blurt: 0.88,
        hasty: 0.0,
        patient: 0.12,
        ..Mix::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knobs::Habit;
    use crate::task::Reason;
    use std::collections::BTreeSet;

    fn only(task: &dyn Task, habit: Habit) -> Mix {
        let weight = |which| f32::from(u8::from(habit == which));
        Mix {
            blurt: weight(Habit::Blurt),
            hasty: weight(Habit::Hasty),
            patient: weight(Habit::Patient),
            ..task.mix()
        }
    }

    /// What holds of every generated task: words are listed, questions can be parsed back, patient
    /// thinking is right and in form, probes continue it.
    fn check(task: &dyn Task) {
        let words: BTreeSet<String> = task.words().into_iter().collect();
        assert_eq!(words.len(), task.words().len());
        let mut rng = Rng::derive(&[8]);
        for _ in 0..200 {
            let problem = task.problem(&mut rng, &task.level()).unwrap();
            assert_eq!(task.parse(&problem.question).unwrap(), problem);
            for habit in [Habit::Blurt, Habit::Hasty, Habit::Patient] {
                let line = task.habit(&problem, &mut rng, &only(task, habit)).unwrap();
                let text = format!("{} {line}", problem.question);
                for word in text
                    .split(' ')
                    .filter(|w| !["<think>", "</think>"].contains(w))
                {
                    assert!(words.contains(word), "{word:?} in {text}");
                }
                let (thinking, answer) = match line.split_once(" </think> ") {
                    Some((thinking, answer)) => (thinking.trim_start_matches("<think>"), answer),
                    None => ("", line.as_str()),
                };
                assert_eq!(habit == Habit::Blurt, thinking.is_empty(), "{line}");
                let thinking: Vec<&str> = thinking.split_whitespace().collect();
                let marks = task.expected(&problem, &thinking);
                assert_eq!(marks.len(), thinking.len());
                assert!(marks.iter().all(|mark| *mark), "{text}");
                let verdict = task.grade(&problem, answer);
                assert!(verdict.is_well_formed(), "{text}");
                assert!(task.canonical(&problem, answer).is_some());
                if habit == Habit::Patient {
                    assert!(
                        line.starts_with(task.opening()) && verdict.correct,
                        "{text}"
                    );
                }
            }
            let mix = only(task, Habit::Patient);
            let line = task.habit(&problem, &mut rng, &mix).unwrap();
            let whole = format!("{} {line} ", problem.question);
            let probes = task.probes(&problem, &mut rng, &mix).unwrap();
            assert!(probes.len() >= 3);
            for probe in probes {
                let shown = format!("{} {} ", probe.prompt, probe.expected);
                assert!(whole.starts_with(&shown), "{probe:?} {whole}");
            }
            let garbage = ["<think>", "made", "up"];
            assert!(task.expected(&problem, &garbage).iter().all(|mark| !mark));
        }
        let problem = task.problem(&mut rng, &task.level()).unwrap();
        for bad in [
            "",
            "nonsense",
            "( 1 + 2",
            "1 2 3 4 5 6 7 8 9 ?",
            "</think> 1",
        ] {
            assert_eq!(task.grade(&problem, bad).reason, Reason::Malformed, "{bad}");
            assert_eq!(task.canonical(&problem, bad), None);
            assert!(task.parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_generated_task_keeps_the_laws() {
        for name in ["countdown", "cups", "parity", "addition"] {
            check(by_name(name, None).unwrap().as_ref());
        }
    }

    #[test]
    fn impossible_sizes_are_named() {
        let mut rng = Rng::derive(&[1]);
        for name in ["countdown", "cups", "parity", "addition"] {
            let task = by_name(name, None).unwrap();
            for (size_min, size_max, field) in [
                (0, 5, "size_min"),
                (5, 4, "size_min"),
                (2, 1_000, "size_max"),
            ] {
                let level = Level {
                    size_min,
                    size_max,
                    ..task.level()
                };
                let error = task.problem(&mut rng, &level).unwrap_err();
                assert!(error.to_string().contains(field), "{name}: {error}");
            }
        }
    }

    #[test]
    fn unknown_names_and_missing_rows_are_errors() {
        let error = by_name("chess", None).unwrap_err();
        assert!(error.to_string().contains("countdown-hard"), "{error}");
        assert!(by_name("game24", None).is_err());
        assert!(by_name("countdown-hard", Some("")).is_ok());
    }
}
