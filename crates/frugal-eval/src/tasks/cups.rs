//! Cups: a ball lies under a cup, cups are swapped, where is it now?
//!
//! Question: `c3 i07 c2 c5 i08 c1 c3 ?`: where the ball starts, then per swap an index and two
//! cups. The indices begin anywhere, so that a step is looked up rather than counted. Thinking:
//! `i07 c3 i08 c1`, after each swap the cup that holds the ball. Answer: `answer c1`. A blurted
//! answer names any cup; a hasty thought follows the first few swaps and answers with the cup it
//! is at.
//!
//! Reads of [`Level`]: `size_min`, `size_max` (swaps), `largest` (cups). Reads of [`Mix`]: `blurt`,
//! `hasty`, `hasty_steps`, `patient`.

use core::fmt::Write as _;

use frugal_core::rng::Rng;
use serde::{Deserialize, Serialize};

use super::{blurt_or_work, draw_size};
use crate::knobs::{Habit, Level, Mix};
use crate::task::{Probe, Problem, Reason, Skill, Task, TaskError, Verdict};

/// Most cups.
const MAX_CUPS: u32 = 9;
/// Index words; also the most swaps of one problem.
const MAX_SWAPS: u32 = 40;
const NAME: &str = "cups";
const ANSWER: &str = "answer";
const ASK: &str = "?";

/// The task.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cups;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Game {
    n_cups: u32,
    start: u32,
    first_index: u32,
    swaps: Vec<(u32, u32)>,
}

impl Game {
    /// The cup with the ball after each swap.
    fn path(&self) -> Vec<u32> {
        let mut at = self.start;
        let mut follow = |&(a, b): &(u32, u32)| {
            at = if at == a {
                b
            } else if at == b {
                a
            } else {
                at
            };
            at
        };
        self.swaps.iter().map(&mut follow).collect()
    }

    fn index(&self, swap: usize) -> String {
        format!("i{:02}", u64::from(self.first_index) + swap as u64)
    }

    /// The thinking about the first `n_swaps` swaps.
    fn thinking(&self, n_swaps: usize) -> Vec<String> {
        let path = self.path();
        let steps = path.iter().enumerate().take(n_swaps);
        steps
            .flat_map(|(swap, cup)| [self.index(swap), format!("c{cup}")])
            .collect()
    }

    fn problem(&self) -> Result<Problem, TaskError> {
        let mut words = vec![format!("c{}", self.start)];
        let mut key = format!("{NAME} {}", self.start);
        for (swap, (a, b)) in self.swaps.iter().enumerate() {
            words.extend([self.index(swap), format!("c{a}"), format!("c{b}")]);
            // The two cups of a swap and the indices may be written otherwise; the game is the same.
            // Writing to a String cannot fail.
            let _ = write!(key, " {}-{}", a.min(b), a.max(b));
        }
        words.push(ASK.to_owned());
        let question = words.join(" ");
        let data = serde_json::to_value(self).map_err(|source| TaskError::ForeignProblem {
            question: question.clone(),
            source,
        })?;
        Ok(Problem {
            question,
            key,
            data,
        })
    }
}

fn cup(word: &str) -> Option<u32> {
    let number = word.strip_prefix('c')?.parse().ok()?;
    (1..=MAX_CUPS).contains(&number).then_some(number)
}

fn index(word: &str) -> Option<u32> {
    let digits = word.strip_prefix('i').filter(|digits| digits.len() == 2)?;
    digits
        .parse()
        .ok()
        .filter(|number| (1..=MAX_SWAPS).contains(number))
}

/// The cup that an answer names.
fn named(answer: &str) -> Option<u32> {
    let mut words = answer.split_whitespace();
    let (first, second, third) = (words.next(), words.next(), words.next());
    (first == Some(ANSWER) && third.is_none())
        .then(|| second.and_then(cup))
        .flatten()
}

impl Task for Cups {
    fn name(&self) -> &str {
        NAME
    }

    fn instruction(&self) -> &'static str {
        "A ball lies under the cup that is named first. Then come swaps, each with an index and the \
         two cups that change places. Reply with the word answer and the cup under which the ball \
         lies at the end, for example: answer c1"
    }

    fn words(&self) -> Vec<String> {
        let cups = (1..=MAX_CUPS).map(|number| format!("c{number}"));
        let indices = (1..=MAX_SWAPS).map(|number| format!("i{number:02}"));
        cups.chain(indices)
            .chain([ANSWER, ASK].map(str::to_owned))
            .collect()
    }

    fn level(&self) -> Level {
        Level {
            size_min: 6,
            size_max: 12,
            largest: 5,
            ..Level::default()
        }
    }

    fn mix(&self) -> Mix {
        blurt_or_work()
    }

    fn problem(&self, rng: &mut Rng, level: &Level) -> Result<Problem, TaskError> {
        let n_swaps = draw_size(NAME, level, MAX_SWAPS, rng)?;
        if !(2..=MAX_CUPS).contains(&level.largest) {
            return Err(TaskError::Knob {
                task: NAME.into(),
                field: "largest",
                got: level.largest.to_string(),
                expected: format!("2 to {MAX_CUPS}"),
            });
        }
        let swap = |_| {
            let a = 1 + rng.below(level.largest);
            let b = 1 + rng.below(level.largest - 1);
            // Skips a, so that the second cup is another one, each equally likely.
            (a, if b >= a { b + 1 } else { b })
        };
        let swaps: Vec<(u32, u32)> = (0..n_swaps).map(swap).collect();
        let n_starts = MAX_SWAPS + 1 - u32::try_from(n_swaps).unwrap_or(MAX_SWAPS);
        let (start, first_index) = (1 + rng.below(level.largest), 1 + rng.below(n_starts));
        Game {
            n_cups: level.largest,
            start,
            first_index,
            swaps,
        }
        .problem()
    }

    fn parse(&self, question: &str) -> Result<Problem, TaskError> {
        let wrong = || TaskError::Question {
            task: NAME.into(),
            expected: "c3 i07 c2 c5 i08 c1 c3 ?".into(),
            got: question.chars().take(80).collect(),
        };
        let words: Vec<&str> = question.split_whitespace().collect();
        let [start, swaps @ .., ASK] = words.as_slice() else {
            return Err(wrong());
        };
        let start = cup(start).ok_or_else(wrong)?;
        let mut game = Game {
            n_cups: self.level().largest,
            start,
            first_index: 0,
            swaps: vec![],
        };
        for (number, swap) in (0_u32..).zip(swaps.chunks(3)) {
            let [at, a, b] = swap else {
                return Err(wrong());
            };
            let at = index(at).ok_or_else(wrong)?;
            if number == 0 {
                game.first_index = at;
            }
            let (a, b) = (cup(a).ok_or_else(wrong)?, cup(b).ok_or_else(wrong)?);
            if a == b || at != game.first_index + number {
                return Err(wrong());
            }
            game.n_cups = game.n_cups.max(a).max(b);
            game.swaps.push((a, b));
        }
        game.n_cups = game.n_cups.max(start);
        if game.swaps.is_empty() {
            Err(wrong())
        } else {
            game.problem()
        }
    }

    fn habit(&self, problem: &Problem, rng: &mut Rng, mix: &Mix) -> Result<String, TaskError> {
        let game: Game = problem.read()?;
        let n_swaps = match mix.draw(rng) {
            Habit::Blurt => return Ok(format!("{ANSWER} c{}", 1 + rng.below(game.n_cups))),
            Habit::Hasty => (1 + rng.below(mix.hasty_steps) as usize).min(game.swaps.len()),
            Habit::Patient => game.swaps.len(),
        };
        let thinking = game.thinking(n_swaps);
        let last = thinking.last().cloned().unwrap_or_default();
        Ok(format!(
            "<think> {} </think> {ANSWER} {last}",
            thinking.join(" ")
        ))
    }

    fn drill(&self, _rng: &mut Rng, _mix: &Mix) -> Option<String> {
        None
    }

    fn grade(&self, problem: &Problem, answer: &str) -> Verdict {
        let Ok(game) = problem.read::<Game>() else {
            return Verdict::new(Reason::ForeignProblem);
        };
        Verdict::new(match named(answer) {
            None => Reason::Malformed,
            named if named == game.path().last().copied() => Reason::Correct,
            Some(_) => Reason::WrongValue,
        })
    }

    fn canonical(&self, _problem: &Problem, answer: &str) -> Option<String> {
        named(answer).map(|cup| cup.to_string())
    }

    fn expected(&self, problem: &Problem, thinking: &[&str]) -> Vec<bool> {
        let game = problem.read::<Game>().ok();
        let is_expected = |(place, word): (usize, &&str)| {
            let Some(game) = &game else { return false };
            let is_in_game = place / 2 < game.swaps.len();
            is_in_game
                && if place % 2 == 0 {
                    game.index(place / 2) == **word
                } else {
                    cup(word).is_some()
                }
        };
        thinking.iter().enumerate().map(is_expected).collect()
    }

    fn probes(
        &self,
        problem: &Problem,
        rng: &mut Rng,
        _mix: &Mix,
    ) -> Result<Vec<Probe>, TaskError> {
        let game: Game = problem.read()?;
        let thinking = game.thinking(game.swaps.len());
        let last = thinking.last().cloned().unwrap_or_default();
        let mut trace = vec!["<think>"];
        trace.extend(thinking.iter().map(String::as_str));
        trace.extend(["</think>", ANSWER, last.as_str()]);
        let swap = rng.below(u32::try_from(game.swaps.len()).unwrap_or(0)) as usize;
        let probe = |skill, at, n| Probe::within(skill, &problem.question, &trace, at, n);
        Ok(vec![
            probe(Skill::Copying, 1 + 2 * swap, 1),
            probe(Skill::Computing, 2 + 2 * swap, 1),
            probe(Skill::Stopping, 1 + thinking.len(), 3),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ball_is_followed() {
        let problem = Cups.parse("c3 i07 c2 c5 i08 c1 c3 i09 c1 c2 ?").unwrap();
        let game: Game = problem.read().unwrap();
        assert_eq!(game.path(), [3, 1, 2]);
        assert_eq!(game.thinking(2).join(" "), "i07 c3 i08 c1");
        assert!(Cups.grade(&problem, "answer c2").correct);
        assert_eq!(Cups.grade(&problem, "answer c3").reason, Reason::WrongValue);
        for bad in [
            "c2",
            "answer",
            "answer c2 c2",
            "answer 2",
            "answer c0",
            "answer c10",
        ] {
            assert_eq!(Cups.grade(&problem, bad).reason, Reason::Malformed, "{bad}");
        }
    }

    #[test]
    fn games_that_differ_only_in_writing_have_one_key() {
        let key = |text: &str| Cups.parse(text).unwrap().key;
        assert_eq!(
            key("c1 i01 c2 c5 i02 c1 c3 ?"),
            key("c1 i30 c5 c2 i31 c3 c1 ?")
        );
        assert_ne!(
            key("c1 i01 c2 c5 i02 c1 c3 ?"),
            key("c1 i01 c1 c3 i02 c2 c5 ?")
        );
        for bad in [
            "c1 ?",
            "c1 i01 c2 c2 ?",
            "c1 i01 c2 c3 i03 c1 c2 ?",
            "c1 i41 c1 c2 ?",
            "c1 i01 c2 ?",
            "c1 i1 c1 c2 ?",
        ] {
            assert!(Cups.parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn blurting_is_chance() {
        let mut rng = Rng::derive(&[4]);
        let mix = Mix {
            blurt: 1.0,
            patient: 0.0,
            ..Cups.mix()
        };
        let mut right = 0_u32;
        for _ in 0..2_000 {
            let problem = Cups.problem(&mut rng, &Cups.level()).unwrap();
            let answer = Cups.habit(&problem, &mut rng, &mix).unwrap();
            right += u32::from(Cups.grade(&problem, &answer).correct);
        }
        // One in five; five standard deviations are 5 sqrt(2000 * 0.16) = 90.
        assert!(right.abs_diff(400) < 90, "{right}");
    }
}
