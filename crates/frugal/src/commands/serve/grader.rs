//! Who grades verified answers: the graders of evaluation and reward.

use std::borrow::Cow;

use frugal_eval::grade::expression::Expression;
use frugal_eval::grade::numeric;
use frugal_eval::grade::rational::Rational;
use frugal_eval::tasks;
use frugal_serve::service::Grader;
use serde_json::Value;

/// Longest result that is looked at, in bytes.
const MAX_BYTES: usize = 256;

/// The graders that there are.
#[derive(Debug)]
pub(super) struct Graders;

impl Grader for Graders {
    fn result(&self, answer: &str) -> Option<String> {
        let text = last_boxed(answer).or_else(|| last_number(answer))?;
        let text = text.trim().trim_matches('$').trim();
        if text.is_empty() || text.len() > MAX_BYTES {
            return None;
        }
        let text = as_quotient(text);
        let value = numeric::read(&text).or_else(|| Expression::parse(&text)?.value());
        let written = |value: Rational| format!("{}/{}", value.numerator(), value.denominator());
        let spelled = || text.split_whitespace().collect::<String>();
        Some(value.map_or_else(spelled, written))
    }

    fn is_right(&self, task: &str, reference: &Value, answer: &str) -> Result<bool, String> {
        let known = tasks::by_name(task, None).map_err(|_| format!("there is no task {task}"))?;
        let question = reference.as_str();
        let question = question.ok_or_else(|| "expected the question as a text".to_owned())?;
        let problem = known.parse(question);
        let problem = problem.map_err(|_| format!("this is no question of {task}"))?;
        Ok(known.grade(&problem, answer).correct)
    }
}

/// `\frac{a}{b}` as `a/b`; any other text as it is.
fn as_quotient(text: &str) -> Cow<'_, str> {
    let parts = || {
        let inner = text
            .strip_prefix("\\frac{")
            .or_else(|| text.strip_prefix("\\dfrac{"))?;
        inner.strip_suffix('}')?.split_once("}{")
    };
    match parts() {
        Some((above, below)) => Cow::Owned(format!("{above}/{below}")),
        None => Cow::Borrowed(text),
    }
}

/// What stands in the last `\boxed{}`, braces within it in pairs.
fn last_boxed(answer: &str) -> Option<&str> {
    let (_, rest) = answer.rsplit_once("\\boxed{")?;
    let mut depth = 1usize;
    let end = rest.char_indices().find_map(|(at, letter)| {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })?;
    rest.get(..end)
}

/// The last number in a text without a box.
fn last_number(answer: &str) -> Option<&str> {
    let is_of_number = |letter: char| letter.is_ascii_digit() || "+-.,/%".contains(letter);
    let words = answer.split(|letter: char| !is_of_number(letter));
    let words = words.map(|word| word.trim_matches(|letter: char| ".,+/".contains(letter)));
    words
        .rev()
        .find(|word| word.contains(|letter: char| letter.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_that_are_equal_are_equal_texts() {
        let rows = [
            (
                "so it is \\boxed{\\frac{1}{2}} and \\boxed{ 0.50 }",
                "the answer is 1/2.",
            ),
            ("\\boxed{3+4}", "\\boxed{4 + 3}"),
            ("It is 1,234.", "1234"),
        ];
        for (a, b) in rows {
            let results = [a, b].map(|answer| Graders.result(answer));
            assert!(results[0].is_some(), "{a}");
            assert_eq!(results[0], results[1], "{a} and {b}");
        }
        assert_eq!(Graders.result("I do not know"), None);
        assert_ne!(Graders.result("7"), Graders.result("8"));
    }
}
