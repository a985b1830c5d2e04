//! How attempts are written, and whether a thought is written that way.
//!
//! What must be compared stands side by side: the result of the last step, then the target
//! restated, then `yes` or `no`.

use super::search::Attempt;
use crate::knobs::Form;

/// Written for a result too large to have a word of its own.
pub const BIG: &str = "big";
/// Written where the target is reached.
pub const YES: &str = "yes";
/// Written where it is not.
pub const NO: &str = "no";
/// Begins a patient search.
pub const TRY: &str = "try";
/// Begins a hasty thought.
pub const GUESS: &str = "guess";

/// What a word of an attempt is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A number or sign that says what is tried.
    Plan,
    /// The result of a step.
    Value,
    /// The target restated.
    Target,
    /// `yes` or `no`.
    Verdict,
}

/// A word of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What it is there for.
    pub role: Role,
    /// As written.
    pub text: String,
}

/// How numbers are written: as themselves up to `ceiling`, then [`BIG`].
pub fn spell(value: i64, ceiling: u32) -> String {
    if value > i64::from(ceiling) {
        BIG.to_owned()
    } else {
        value.to_string()
    }
}

/// The attempts written one after the other.
pub fn write(attempts: &[Attempt], target: i64, ceiling: u32, form: Form) -> Vec<Vec<Word>> {
    let mut before: Option<&Attempt> = None;
    let mut written = Vec::with_capacity(attempts.len());
    for attempt in attempts {
        let n_shared = match (form, before) {
            (Form::Shared, Some(before)) => {
                let same = before
                    .steps
                    .iter()
                    .zip(&attempt.steps)
                    .take_while(|(a, b)| a == b);
                same.count().min(attempt.steps.len().saturating_sub(1))
            }
            _ => 0,
        };
        written.push(write_one(
            attempt,
            n_shared,
            target,
            &|v| spell(v, ceiling),
            form,
        ));
        before = Some(attempt);
    }
    written
}

fn write_one(
    attempt: &Attempt,
    n_shared: usize,
    target: i64,
    spell: &dyn Fn(i64) -> String,
    form: Form,
) -> Vec<Word> {
    let plan = |text: String| Word {
        role: Role::Plan,
        text,
    };
    let mut words = Vec::new();
    for (index, step) in attempt.steps.iter().enumerate().skip(n_shared) {
        if index > 0 && form != Form::Tight {
            words.push(plan(",".to_owned()));
        }
        words.push(plan(spell(step.left)));
        words.push(plan(step.operation.sign().to_string()));
        words.push(plan(spell(step.right)));
        words.push(Word {
            role: Role::Value,
            text: spell(step.value),
        });
    }
    words.push(Word {
        role: Role::Target,
        text: spell(target),
    });
    let verdict = if attempt.value == target { YES } else { NO };
    words.push(Word {
        role: Role::Verdict,
        text: verdict.to_owned(),
    });
    words
}

/// For each word of a thought whether it belongs to the opening or to an attempt written out in
/// full: `a op b x` any number of times, commas between, the target, `yes` or `no`. Whether the
/// arithmetic is right is not asked.
pub fn expected(thinking: &[&str], target: &str) -> Vec<bool> {
    let mut marks = Vec::with_capacity(thinking.len());
    let mut rest = thinking;
    if let Some((first, others)) = rest.split_first()
        && [TRY, GUESS].contains(first)
    {
        marks.push(true);
        rest = others;
    }
    while !rest.is_empty() {
        let end = rest.iter().position(|word| [YES, NO].contains(word));
        let (attempt, others) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
        marks.extend(core::iter::repeat_n(
            is_attempt(attempt, target),
            attempt.len(),
        ));
        rest = others;
    }
    marks
}

fn is_attempt(words: &[&str], target: &str) -> bool {
    let Some(([plan @ .., restated], verdict)) = words.split_last().map(|(v, rest)| (rest, v))
    else {
        return false;
    };
    let plan: Vec<&str> = plan.iter().copied().filter(|word| *word != ",").collect();
    let is_number = |word: &str| word == BIG || word.bytes().all(|b| b.is_ascii_digit());
    let is_step = |step: &[&str]| match step {
        [left, sign, right, value] => {
            ["+", "-", "*", "/"].contains(sign) && [left, right, value].iter().all(|w| is_number(w))
        }
        _ => false,
    };
    [YES, NO].contains(verdict)
        && *restated == target
        && !plan.is_empty()
        && plan.chunks(4).all(is_step)
}

#[cfg(test)]
mod tests {
    use super::super::search::{operations, search};
    use super::*;

    fn text(form: Form) -> String {
        let attempts = search(&[3, 4, 12], operations(false), Some(84), 17);
        let words = write(&attempts, 84, 83, form);
        let mut texts = words.iter().flatten().map(|word| word.text.as_str());
        let all: Vec<&str> = texts.by_ref().collect();
        all.join(" ")
    }

    #[test]
    fn attempts_are_written_in_the_form_asked_for() {
        let spaced =
            "3 + 4 7 , 7 + 12 19 big no 3 + 4 7 , 12 - 7 5 big no 3 + 4 7 , 7 * 12 big big yes";
        assert_eq!(text(Form::Spaced), spaced);
        assert_eq!(text(Form::Tight), spaced.replace(" ,", ""));
        let shared = "3 + 4 7 , 7 + 12 19 big no , 12 - 7 5 big no , 7 * 12 big big yes";
        assert_eq!(text(Form::Shared), shared);
    }

    #[test]
    fn only_whole_attempts_are_in_form() {
        let share = |text: &str| {
            let words: Vec<&str> = text.split_whitespace().collect();
            let marks = expected(&words, "25");
            assert_eq!(marks.len(), words.len());
            (marks.iter().filter(|mark| **mark).count(), marks.len())
        };
        assert_eq!(share("try 3 + 4 7 , 7 * 5 35 25 no"), (12, 12));
        assert_eq!(
            share("guess 3 + 4 7 7 * 5 big 25 no , 7 - 5 2 25 yes"),
            (18, 18)
        );
        assert_eq!(share("3 + 4 7 , 7 * 5 35 24 no"), (0, 11));
        assert_eq!(share("3 + 4 7 , 7 * 5 35 25 no no"), (11, 12));
        assert_eq!(share("25 yes try"), (0, 3));
        assert_eq!(share("3 + 4 7 , 7 *"), (0, 7));
        assert_eq!(share(""), (0, 0));
    }
}
