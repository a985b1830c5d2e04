//! One response judged: the same function for reward and evaluation.
//!
//! Form is a gate: what is not at most one block of thinking, an answer and the end token counts as
//! wrong, whatever it says.

use crate::encode::{Codec, EncodeError};
use crate::rewards;
use crate::task::{Problem, Reason, Task};

/// What is known about one response.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Right answer in a well-formed response.
    pub correct: bool,
    /// The response has its form and the answer its own.
    pub in_form: bool,
    /// The grader's reason for the answer alone.
    pub reason: Reason,
    /// Whether there was a block of thinking.
    pub has_thinking: bool,
    /// Its length in tokens, marks not counted.
    pub thinking_tokens: usize,
    /// How often the thinking checked itself and went on.
    pub self_checks: usize,
    /// Share of the thinking that is in the task's way of thinking, 0 without thinking.
    pub consistency: f64,
    /// The answer in a form in which equal answers are equal texts; only of responses in form.
    pub canonical: Option<String>,
    /// All generated tokens.
    pub n_tokens: usize,
}

impl Judged {
    /// The accuracy reward: 1 for a right answer in form, else 0.
    pub fn accuracy(&self) -> f32 {
        f32::from(u8::from(self.correct))
    }
}

/// Judges the ids that a model generated for a problem (from the first after the prompt to
/// `<eos>`, or to where it was cut off).
pub fn judge(
    task: &dyn Task,
    problem: &Problem,
    ids: &[u32],
    codec: &Codec,
) -> Result<Judged, EncodeError> {
    let parts = codec.split(ids);
    let words = codec.words(parts.thinking.unwrap_or_default())?;
    let thinking: Vec<&str> = words.iter().map(String::as_str).collect();
    let answer = codec.decode(parts.answer)?;
    let verdict = task.grade(problem, &answer);
    let in_form = parts.well_formed && verdict.is_well_formed();
    Ok(Judged {
        correct: in_form && verdict.correct,
        in_form,
        reason: verdict.reason,
        has_thinking: parts.thinking.is_some(),
        thinking_tokens: parts.thinking.map_or(0, <[u32]>::len),
        self_checks: task.self_checks(&thinking),
        consistency: rewards::consistency(&task.expected(problem, &thinking)),
        canonical: if in_form {
            task.canonical(problem, &answer)
        } else {
            None
        },
        n_tokens: ids.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Countdown;

    #[test]
    fn form_is_a_gate() {
        let task = Countdown::default();
        let (_, codec) = Codec::for_task(&task).unwrap();
        let problem = task.parse("3 4 5 make 35").unwrap();
        let thought = "<think> try 3 + 4 7 , 7 + 5 12 35 no 3 + 4 7 , 7 * 5 35 35 yes </think>";
        let right = "( 3 + 4 ) * 5";
        let rows = [
            (format!("{thought} {right} <eos>"), true, true, 23, 1),
            (format!("{right} <eos>"), true, true, 0, 0),
            (right.to_owned(), false, false, 0, 0),
            (format!("{thought} {right} <eos> 3"), false, false, 23, 1),
            (format!("<think> {right} <eos>"), false, false, 7, 0),
            (format!("{thought} 3 + 4 + 5 <eos>"), false, true, 23, 1),
            (format!("{thought} 3 + + <eos>"), false, false, 23, 1),
            (
                format!("{thought} {thought} {right} <eos>"),
                false,
                false,
                23,
                1,
            ),
            ("<eos>".to_owned(), false, false, 0, 0),
            (String::new(), false, false, 0, 0),
        ];
        for (text, correct, in_form, thinking_tokens, self_checks) in rows {
            let ids = codec.encode(&text).unwrap();
            let judged = judge(&task, &problem, &ids, &codec).unwrap();
            assert_eq!(judged.correct, correct, "{text}");
            assert_eq!(judged.in_form, in_form, "{text}");
            assert_eq!(judged.thinking_tokens, thinking_tokens, "{text}");
            assert_eq!(judged.self_checks, self_checks, "{text}");
            assert_eq!(judged.canonical.is_some(), in_form, "{text}");
            assert_eq!(judged.accuracy() > 0.5, correct, "{text}");
        }
        let ids = codec.encode(&format!("{thought} {right} <eos>")).unwrap();
        let judged = judge(&task, &problem, &ids, &codec).unwrap();
        assert!((judged.consistency - 1.0).abs() < 1e-12);
    }
}
