//! The game of 24: countdown with the target 24 and division, on the rows of a data file.

use super::Countdown;
use super::countdown::CEILING;
use crate::task::TaskError;

/// The task over `text`, JSON lines with `numbers` and `target`; other fields are not read.
pub fn from_rows(text: &str) -> Result<Countdown, TaskError> {
    Countdown::from_rows("game24", text, CEILING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::knobs::Level;
    use crate::task::Task;
    use frugal_core::rng::Rng;

    #[test]
    fn recorded_solutions_are_accepted() {
        let Some(text) = fixture::data("game24/traces.jsonl.gz") else {
            return;
        };
        let task = from_rows(&text).unwrap();
        let mut n_right = 0;
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let numbers = row["numbers"].as_array().unwrap();
            let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let question = format!("{} make {}", numbers.join(" "), row["target"]);
            let problem = task.parse(&question).unwrap();
            let verdict = task.grade(&problem, row["expr"].as_str().unwrap());
            assert!(verdict.correct, "{line}");
            n_right += 1;
        }
        assert_eq!(n_right, 856);
    }

    #[test]
    fn rows_are_drawn_by_level() {
        let Some(text) = fixture::data("game24/train.jsonl.gz") else {
            return;
        };
        let task = from_rows(&text).unwrap();
        let level = Level {
            size_min: 4,
            size_max: 4,
            ..task.level()
        };
        let mut rng = Rng::derive(&[1]);
        for _ in 0..50 {
            let problem = task.problem(&mut rng, &level).unwrap();
            assert!(
                problem.question.ends_with("make 24"),
                "{}",
                problem.question
            );
            assert_eq!(problem.question.split(' ').count(), 6);
        }
    }
}
