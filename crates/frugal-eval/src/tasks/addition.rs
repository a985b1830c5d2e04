//! Addition of long numbers, digits reversed (units first), with a scratchpad that carries.
//!
//! Question: `7 2 + 5 1 =` for 27 + 15. Thinking, per digit: both digits, the carry so far, the
//! sum's digit, the new carry, `7 5 0 2 1 , 2 1 1 4 0`. Answer: the sum's digits, `2 4`. A blurted
//! answer adds digit by digit and forgets to carry; a hasty thought carries over the first digits
//! and then forgets.
//!
//! Reads of [`Level`]: `size_min`, `size_max` (digits of both numbers). Reads of [`Mix`]: `blurt`,
//! `hasty`, `hasty_steps`, `patient`.

use frugal_core::rng::Rng;
use serde::{Deserialize, Serialize};

use super::{blurt_or_work, draw_size};
use crate::knobs::{Habit, Level, Mix};
use crate::task::{Probe, Problem, Reason, Skill, Task, TaskError, Verdict};

/// Most digits of a number.
const MAX_DIGITS: u32 = 64;
const NAME: &str = "addition";

/// The task.
#[derive(Debug, Clone, Copy, Default)]
pub struct Addition;

/// Two numbers, units first.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sum {
    left: Vec<u8>,
    right: Vec<u8>,
}

/// One digit of the scratchpad.
struct Column {
    left: u8,
    right: u8,
    carry: u8,
    digit: u8,
    next_carry: u8,
}

impl Sum {
    /// The columns of which the first `n_carried` pass their carry on.
    fn columns(&self, n_carried: usize) -> Vec<Column> {
        let mut carry = 0;
        let mut columns = Vec::new();
        for place in 0..self.left.len().max(self.right.len()) {
            let digit = |digits: &[u8]| digits.get(place).copied().unwrap_or(0);
            let (left, right) = (digit(&self.left), digit(&self.right));
            let total = left + right + carry;
            let next_carry = if place < n_carried { total / 10 } else { 0 };
            columns.push(Column {
                left,
                right,
                carry,
                digit: total % 10,
                next_carry,
            });
            carry = next_carry;
        }
        columns
    }

    /// The sum's digits, units first, when the first `n_carried` columns pass their carry on.
    fn digits(&self, n_carried: usize) -> Vec<u8> {
        let columns = self.columns(n_carried);
        let last = columns
            .last()
            .map(|column| column.next_carry)
            .filter(|carry| *carry > 0);
        columns
            .iter()
            .map(|column| column.digit)
            .chain(last)
            .collect()
    }

    fn thinking(&self, n_columns: usize) -> String {
        let columns = self.columns(n_columns);
        let write = |c: &Column| {
            format!(
                "{} {} {} {} {}",
                c.left, c.right, c.carry, c.digit, c.next_carry
            )
        };
        let written: Vec<String> = columns.iter().take(n_columns).map(write).collect();
        written.join(" , ")
    }

    fn problem(&self) -> Result<Problem, TaskError> {
        let (left, right) = (spell(&self.left), spell(&self.right));
        let question = format!("{left} + {right} =");
        let (first, second) = if left <= right {
            (left, right)
        } else {
            (right, left)
        };
        let data = serde_json::to_value(self).map_err(|source| TaskError::ForeignProblem {
            question: question.clone(),
            source,
        })?;
        Ok(Problem {
            question,
            key: format!("{NAME} {first} + {second}"),
            data,
        })
    }
}

fn spell(digits: &[u8]) -> String {
    let words: Vec<String> = digits.iter().map(ToString::to_string).collect();
    words.join(" ")
}

/// The digits that `text` spells, units first, without a needless zero at the end.
fn digits(text: &str) -> Option<Vec<u8>> {
    let most = MAX_DIGITS as usize + 1;
    let one = |word: &str| {
        word.parse::<u8>()
            .ok()
            .filter(|digit| *digit < 10 && word.len() == 1)
    };
    let digits = text
        .split_whitespace()
        .take(most + 1)
        .map(one)
        .collect::<Option<Vec<u8>>>()?;
    let has_needless_zero = digits.len() > 1 && digits.last() == Some(&0);
    (!digits.is_empty() && digits.len() <= most && !has_needless_zero).then_some(digits)
}

impl Task for Addition {
    fn name(&self) -> &str {
        NAME
    }

    fn instruction(&self) -> &'static str {
        "Add two numbers. Their digits are written in reverse, units first, separated by spaces, \
         with + between them and = after them. Reply with the digits of the sum alone, in the same \
         form."
    }

    fn words(&self) -> Vec<String> {
        (0..10)
            .map(|d| d.to_string())
            .chain(["+", "=", ","].map(str::to_owned))
            .collect()
    }

    fn level(&self) -> Level {
        Level {
            size_min: 3,
            size_max: 6,
            ..Level::default()
        }
    }

    fn mix(&self) -> Mix {
        blurt_or_work()
    }

    fn problem(&self, rng: &mut Rng, level: &Level) -> Result<Problem, TaskError> {
        let n_digits = draw_size(NAME, level, MAX_DIGITS, rng)?;
        let mut number = || -> Vec<u8> {
            let digit = |place| {
                // The leading digit is not zero.
                let least = u32::from(place + 1 == n_digits);
                u8::try_from(least + rng.below(10 - least)).unwrap_or(0)
            };
            (0..n_digits).map(digit).collect()
        };
        Sum {
            left: number(),
            right: number(),
        }
        .problem()
    }

    fn parse(&self, question: &str) -> Result<Problem, TaskError> {
        let wrong = || TaskError::Question {
            task: NAME.into(),
            expected: "7 2 + 5 1 = (units first)".into(),
            got: question.chars().take(80).collect(),
        };
        let sum = question.trim().strip_suffix('=').ok_or_else(wrong)?;
        let (left, right) = sum.split_once('+').ok_or_else(wrong)?;
        let number = |text| digits(text).filter(|d| d.len() <= MAX_DIGITS as usize);
        let (left, right) = (
            number(left).ok_or_else(wrong)?,
            number(right).ok_or_else(wrong)?,
        );
        Sum { left, right }.problem()
    }

    fn habit(&self, problem: &Problem, rng: &mut Rng, mix: &Mix) -> Result<String, TaskError> {
        let sum: Sum = problem.read()?;
        let n_columns = sum.left.len().max(sum.right.len());
        let n_carried = match mix.draw(rng) {
            Habit::Blurt => return Ok(forgetful(&sum, 0)),
            Habit::Hasty => (1 + rng.below(mix.hasty_steps) as usize).min(n_columns),
            Habit::Patient => n_columns,
        };
        let thinking = sum.thinking(n_carried);
        Ok(format!(
            "<think> {thinking} </think> {}",
            forgetful(&sum, n_carried)
        ))
    }

    fn drill(&self, _rng: &mut Rng, _mix: &Mix) -> Option<String> {
        None
    }

    fn grade(&self, problem: &Problem, answer: &str) -> Verdict {
        let Ok(sum) = problem.read::<Sum>() else {
            return Verdict::new(Reason::ForeignProblem);
        };
        Verdict::new(match digits(answer) {
            None => Reason::Malformed,
            Some(said) if said == sum.digits(usize::MAX) => Reason::Correct,
            Some(_) => Reason::WrongValue,
        })
    }

    fn canonical(&self, _problem: &Problem, answer: &str) -> Option<String> {
        digits(answer).map(|digits| spell(&digits))
    }

    fn expected(&self, problem: &Problem, thinking: &[&str]) -> Vec<bool> {
        let sum = problem.read::<Sum>();
        let n_columns = sum.map_or(0, |sum| sum.left.len().max(sum.right.len()));
        let is_digit = |word: &str| word.len() == 1 && word.bytes().all(|b| b.is_ascii_digit());
        let is_expected = |(place, word): (usize, &&str)| {
            place / 6 < n_columns
                && if place % 6 == 5 {
                    *word == ","
                } else {
                    is_digit(word)
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
        let sum: Sum = problem.read()?;
        let n_columns = sum.left.len().max(sum.right.len());
        let (thinking, answer) = (sum.thinking(n_columns), spell(&sum.digits(n_columns)));
        let mut trace = vec!["<think>"];
        trace.extend(thinking.split(' '));
        let end = trace.len();
        trace.push("</think>");
        trace.extend(answer.split(' '));
        let column = 1 + 6 * rng.below(u32::try_from(n_columns).unwrap_or(0)) as usize;
        let probe = |skill, at, n| Probe::within(skill, &problem.question, &trace, at, n);
        Ok(vec![
            probe(Skill::Copying, column, 2),
            probe(Skill::Copying, column + 2, 1),
            probe(Skill::Computing, column + 3, 2),
            probe(Skill::Stopping, end, trace.len() - end),
        ])
    }
}

/// The sum when carries are forgotten after the first `n_carried` digits; a zero that this leaves
/// in front is left out, as in any number.
fn forgetful(sum: &Sum, n_carried: usize) -> String {
    let mut digits = sum.digits(n_carried);
    while digits.len() > 1 && digits.last() == Some(&0) {
        digits.pop();
    }
    spell(&digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn the_scratchpad_carries() {
        let problem = Addition.parse("7 2 + 5 1 =").unwrap();
        let sum: Sum = problem.read().unwrap();
        assert_eq!(sum.thinking(2), "7 5 0 2 1 , 2 1 1 4 0");
        assert!(Addition.grade(&problem, "2 4").correct);
        assert_eq!(Addition.grade(&problem, "2 3").reason, Reason::WrongValue);
        for bad in ["2 4 0", "", "24", "2 4 a", "-1"] {
            assert_eq!(
                Addition.grade(&problem, bad).reason,
                Reason::Malformed,
                "{bad}"
            );
        }
        assert_eq!(problem.key, Addition.parse("5 1 + 7 2 =").unwrap().key);
        let long = format!("{} + 1 =", "1 ".repeat(65));
        assert!(Addition.parse(&long).is_err());
    }

    proptest! {
        #[test]
        fn sums_are_sums(a in any::<u32>(), b in any::<u32>()) {
            let write = |number: u64| -> Vec<u8> { number.to_string().bytes().rev().map(|b| b - b'0').collect() };
            let sum = Sum { left: write(a.into()), right: write(b.into()) };
            prop_assert_eq!(sum.digits(usize::MAX), write(u64::from(a) + u64::from(b)));
            let problem = sum.problem().unwrap();
            prop_assert!(Addition.grade(&problem, &spell(&write(u64::from(a) + u64::from(b)))).correct);
        }
    }
}
