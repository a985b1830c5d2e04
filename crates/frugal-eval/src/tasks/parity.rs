//! Parity: is the number of ones odd? The task with a published learning curve (Tsilivis et al.,
//! 2510.11495).
//!
//! Question: `1 0 1 1 ?`. Thinking: the running parity after each bit. Answer: the last of them,
//! `1` or `0`. As in the paper, and unlike the other tasks here, an answer without thinking is the
//! right one: that it cannot be learned that way is the point of the paper. A hasty thought stops
//! early and answers with the parity it is at.
//!
//! Reads of [`Level`]: `size_min`, `size_max` (bits; the paper has 50, here 12 to 16). Reads of
//! [`Mix`]: `blurt`, `hasty`, `hasty_steps`, `patient`.

use frugal_core::rng::Rng;
use serde::{Deserialize, Serialize};

use super::{blurt_or_work, draw_size};
use crate::knobs::{Habit, Level, Mix};
use crate::task::{Probe, Problem, Reason, Skill, Task, TaskError, Verdict};

/// Most bits.
const MAX_BITS: u32 = 128;
const NAME: &str = "parity";
const ASK: &str = "?";

/// The task.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parity;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bits {
    bits: Vec<bool>,
}

fn word(bit: bool) -> &'static str {
    if bit { "1" } else { "0" }
}

fn bit(word: &str) -> Option<bool> {
    match word {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

impl Bits {
    /// The parity after each bit.
    fn running(&self) -> Vec<bool> {
        let next = |parity: &mut bool, bit: &bool| {
            *parity ^= bit;
            Some(*parity)
        };
        self.bits.iter().scan(false, next).collect()
    }

    fn parity(&self) -> bool {
        self.bits.iter().fold(false, |parity, bit| parity ^ bit)
    }

    fn problem(&self) -> Result<Problem, TaskError> {
        let words: Vec<&str> = self.bits.iter().map(|bit| word(*bit)).collect();
        let bits = words.join(" ");
        let (question, key) = (format!("{bits} {ASK}"), format!("{NAME} {bits}"));
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

impl Task for Parity {
    fn name(&self) -> &str {
        NAME
    }

    fn instruction(&self) -> &'static str {
        "Before the question mark is a row of bits. Reply with 1 if the number of ones is odd, \
         else with 0, and nothing else."
    }

    fn words(&self) -> Vec<String> {
        ["0", "1", ASK].map(str::to_owned).to_vec()
    }

    fn level(&self) -> Level {
        Level {
            size_min: 12,
            size_max: 16,
            ..Level::default()
        }
    }

    fn mix(&self) -> Mix {
        blurt_or_work()
    }

    fn problem(&self, rng: &mut Rng, level: &Level) -> Result<Problem, TaskError> {
        let n_bits = draw_size(NAME, level, MAX_BITS, rng)?;
        Bits {
            bits: (0..n_bits).map(|_| rng.below(2) == 1).collect(),
        }
        .problem()
    }

    fn parse(&self, question: &str) -> Result<Problem, TaskError> {
        let wrong = || TaskError::Question {
            task: NAME.into(),
            expected: "1 0 1 1 ?".into(),
            got: question.chars().take(80).collect(),
        };
        let words: Vec<&str> = question
            .split_whitespace()
            .take(MAX_BITS as usize + 2)
            .collect();
        let [first, rest @ .., ASK] = words.as_slice() else {
            return Err(wrong());
        };
        let bits = core::iter::once(first).chain(rest).map(|word| bit(word));
        let bits: Vec<bool> = bits.collect::<Option<_>>().ok_or_else(wrong)?;
        if bits.len() > MAX_BITS as usize {
            return Err(wrong());
        }
        Bits { bits }.problem()
    }

    fn habit(&self, problem: &Problem, rng: &mut Rng, mix: &Mix) -> Result<String, TaskError> {
        let bits: Bits = problem.read()?;
        let n_steps = match mix.draw(rng) {
            Habit::Blurt => return Ok(word(bits.parity()).to_owned()),
            Habit::Hasty => (1 + rng.below(mix.hasty_steps) as usize).min(bits.bits.len()),
            Habit::Patient => bits.bits.len(),
        };
        let running = bits.running();
        let thinking: Vec<&str> = running.iter().take(n_steps).map(|bit| word(*bit)).collect();
        let last = thinking.last().copied().unwrap_or_default();
        Ok(format!("<think> {} </think> {last}", thinking.join(" ")))
    }

    fn drill(&self, _rng: &mut Rng, _mix: &Mix) -> Option<String> {
        None
    }

    fn grade(&self, problem: &Problem, answer: &str) -> Verdict {
        let Ok(bits) = problem.read::<Bits>() else {
            return Verdict::new(Reason::ForeignProblem);
        };
        Verdict::new(match bit(answer.trim()) {
            None => Reason::Malformed,
            Some(said) if said == bits.parity() => Reason::Correct,
            Some(_) => Reason::WrongValue,
        })
    }

    fn canonical(&self, _problem: &Problem, answer: &str) -> Option<String> {
        bit(answer.trim()).map(|said| word(said).to_owned())
    }

    fn expected(&self, problem: &Problem, thinking: &[&str]) -> Vec<bool> {
        let n_bits = problem.read::<Bits>().map_or(0, |bits| bits.bits.len());
        let places = thinking.iter().enumerate();
        places
            .map(|(place, word)| place < n_bits && bit(word).is_some())
            .collect()
    }

    fn probes(
        &self,
        problem: &Problem,
        rng: &mut Rng,
        _mix: &Mix,
    ) -> Result<Vec<Probe>, TaskError> {
        let bits: Bits = problem.read()?;
        let mut trace = vec!["<think>"];
        trace.extend(bits.running().into_iter().map(word));
        trace.extend(["</think>", word(bits.parity())]);
        let at = rng.below(u32::try_from(bits.bits.len()).unwrap_or(0)) as usize;
        let probe = |skill, at, n| Probe::within(skill, &problem.question, &trace, at, n);
        Ok(vec![
            // The first running parity is the first bit.
            probe(Skill::Copying, 1, 1),
            probe(Skill::Computing, 1 + at, 1),
            probe(Skill::Stopping, 1 + bits.bits.len(), 2),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_parities_end_in_the_parity() {
        let problem = Parity.parse("1 0 1 1 ?").unwrap();
        let bits: Bits = problem.read().unwrap();
        assert_eq!(bits.running(), [true, true, false, true]);
        assert!(Parity.grade(&problem, " 1 ").correct);
        assert_eq!(Parity.grade(&problem, "0").reason, Reason::WrongValue);
        assert_eq!(Parity.grade(&problem, "1 1").reason, Reason::Malformed);
        let long = format!("{}?", "1 ".repeat(MAX_BITS as usize + 1));
        assert!(Parity.parse(&long).is_err() && Parity.parse("?").is_err());
    }
}
