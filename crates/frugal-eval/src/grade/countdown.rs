//! The countdown grader: one expression, the given numbers each once, exactly the target.

use serde::{Deserialize, Serialize};

use super::expression::Expression;
use super::rational::Rational;
use crate::task::{Reason, Verdict};

/// Where in a response the answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerForm {
    /// The whole text is the answer.
    Bare,
    /// The last complete `<answer>...</answer>`, upper or lower case.
    Tagged,
}

/// Longest response searched for a tag, in bytes.
pub const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// The text of the last complete `<answer>` element, trimmed. An element begins at the first
/// opening tag after the one before ended, as a non-greedy pattern would find it.
pub fn tagged_answer(response: &str) -> Option<&str> {
    const OPEN: &str = "<answer>";
    const CLOSE: &str = "</answer>";
    if response.len() > MAX_RESPONSE_BYTES {
        return None;
    }
    // Lower-casing ASCII keeps every byte offset.
    let lower = response.to_ascii_lowercase();
    let mut last = None;
    let mut from = 0;
    while let Some(open) = lower.get(from..).and_then(|rest| rest.find(OPEN)) {
        let start = from + open + OPEN.len();
        let Some(length) = lower.get(start..).and_then(|rest| rest.find(CLOSE)) else {
            break;
        };
        last = response.get(start..start + length);
        from = start + length + CLOSE.len();
    }
    last.map(str::trim)
}

/// Whether `response` reaches `target` with each of `numbers` once.
pub fn grade(numbers: &[i64], target: i64, response: &str, form: AnswerForm) -> Verdict {
    let answer = match form {
        AnswerForm::Bare => Some(response),
        AnswerForm::Tagged => tagged_answer(response),
    };
    let reason = match answer {
        Some(answer) => judge(numbers, target, answer),
        None => Reason::MissingAnswerTag,
    };
    Verdict::new(reason)
}

fn judge(numbers: &[i64], target: i64, answer: &str) -> Reason {
    let Some(expression) = Expression::parse(answer) else {
        return Reason::Malformed;
    };
    let mut given: Vec<i128> = numbers.iter().map(|number| i128::from(*number)).collect();
    let mut used = expression.literals();
    given.sort_unstable();
    used.sort_unstable();
    if given != used {
        return Reason::WrongNumbers;
    }
    // Division by zero has no value, so it is not the target either.
    match expression.value() {
        Some(value) if value == Rational::whole(i128::from(target)) => Reason::Correct,
        _ => Reason::WrongValue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[derive(Deserialize)]
    struct Row {
        numbers: Vec<i64>,
        target: i64,
        response: String,
        expr: Option<String>,
        correct: bool,
        error: Option<String>,
    }

    #[test]
    fn all_recorded_verdicts_agree() {
        let Some(text) = fixture::data("countdown-verdicts/verdicts.jsonl.gz") else {
            return;
        };
        let mut n_rows = 0;
        for line in text.lines() {
            let row: Row = serde_json::from_str(line).unwrap();
            let verdict = grade(&row.numbers, row.target, &row.response, AnswerForm::Tagged);
            let reason = match row.error.as_deref() {
                None => Reason::Correct,
                Some("missing_answer_tag") => Reason::MissingAnswerTag,
                Some("invalid_expression") => Reason::Malformed,
                Some("number_mismatch") => Reason::WrongNumbers,
                Some("wrong_value") => Reason::WrongValue,
                Some(other) => panic!("unknown error {other}"),
            };
            assert_eq!(verdict, Verdict::new(reason), "{:?}", row.expr);
            assert_eq!(verdict.correct, row.correct);
            assert_eq!(tagged_answer(&row.response), row.expr.as_deref());
            n_rows += 1;
        }
        assert_eq!(n_rows, 797);
    }

    #[test]
    fn bare_answers_are_read_whole() {
        let rows = [
            ("( 3 + 4 ) * 5", Reason::Correct),
            ("5 * ( 4 + 3 )", Reason::Correct),
            ("3 + 4 * 5", Reason::WrongValue),
            ("35", Reason::WrongNumbers),
            ("( 3 + 4 ) * 5 5", Reason::Malformed),
            ("( 3 + 4 ) * 5 = 35", Reason::Malformed),
            ("<answer>( 3 + 4 ) * 5</answer>", Reason::Malformed),
            ("", Reason::Malformed),
        ];
        for (answer, reason) in rows {
            let verdict = grade(&[5, 3, 4], 35, answer, AnswerForm::Bare);
            assert_eq!(verdict.reason, reason, "{answer}");
        }
        let by_zero = grade(&[1, 2, 2], 0, "1 / ( 2 - 2 )", AnswerForm::Bare);
        assert_eq!(by_zero.reason, Reason::WrongValue);
    }

    #[test]
    fn the_last_complete_tag_counts() {
        let rows = [
            (
                "<answer>1</answer> <ANSWER> 2 </Answer> <answer>3",
                Some("2"),
            ),
            ("<answer>a<answer>b</answer>", Some("a<answer>b")),
            ("</answer><answer>", None),
            ("é<answer>é</answer>", Some("é")),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(tagged_answer(text), expected, "{text}");
        }
        let unclosed = "<answer>".repeat(100_000);
        assert_eq!(tagged_answer(&unclosed), None);
    }
}
