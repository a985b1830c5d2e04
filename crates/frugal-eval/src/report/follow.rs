//! A few prompts followed through the checkpoints, so that one sees the thinking grow.

use frugal_text::word_level::{BOS, END_THINK, EOS, THINK};
use maud::{Markup, html};

use super::{Followed, FollowedAnswer, Report, story};

/// A continuation taken apart for showing. Judging it is [`crate::judge`]'s business.
struct Said<'a> {
    thinking: Option<Vec<&'a str>>,
    answer: Vec<&'a str>,
    has_ended: bool,
}

fn said(text: &str) -> Said<'_> {
    let mut words: Vec<&str> = text
        .split_whitespace()
        .skip_while(|word| *word == BOS)
        .collect();
    let has_ended = words.last() == Some(&EOS);
    if has_ended {
        words.pop();
    }
    let Some((&THINK, rest)) = words.split_first() else {
        return Said {
            thinking: None,
            answer: words,
            has_ended,
        };
    };
    let end = rest.iter().position(|word| *word == END_THINK);
    let (thinking, answer) = rest.split_at(end.unwrap_or(rest.len()));
    let answer = answer.iter().skip(1).copied().collect();
    Said {
        thinking: Some(thinking.to_vec()),
        answer,
        has_ended,
    }
}

/// The section of the page.
pub(super) fn section(report: &Report) -> Markup {
    if report.followed.is_empty() {
        return html! {};
    }
    html! {
        section #followed {
            h2 { "The same question, stage after stage" }
            p.note {
                "The most likely answer of every checkpoint. Open one to read its thinking"
                @if report.self_check_words.is_empty() { "." } @else {
                    "; self-checks are " mark { "marked" } "."
                }
            }
            @for (index, followed) in report.followed.iter().enumerate() {
                (prompt(report, followed, index == 0))
            }
        }
    }
}

fn prompt(report: &Report, followed: &Followed, is_first: bool) -> Markup {
    let length =
        |answer: &FollowedAnswer| said(&answer.text).thinking.map_or(0, |words| words.len());
    let longest = followed.answers.iter().map(length).max().unwrap_or(0);
    html! {
        article.prompt {
            h3 { (followed.question) }
            @for answer in &followed.answers {
                // One is open, so that a reader sees what there is to see.
                (turn(report, answer, longest, is_first && answer.checkpoint == story::ZERO))
            }
        }
    }
}

fn turn(report: &Report, answer: &FollowedAnswer, longest: usize, is_open: bool) -> Markup {
    let said = said(&answer.text);
    let Some(thinking) = &said.thinking else {
        return html! { div.turn { div.row { (head(answer, &said, longest)) } } };
    };
    html! {
        details.turn open[is_open] {
            summary.row { (head(answer, &said, longest)) }
            div.thought { (thought(thinking, &report.self_check_words)) }
        }
    }
}

fn head(answer: &FollowedAnswer, said: &Said<'_>, longest: usize) -> Markup {
    let n_thinking = said.thinking.as_ref().map_or(0, Vec::len);
    let width = 100.0 * n_thinking as f64 / longest.max(1) as f64;
    html! {
        span.who { (answer.checkpoint) }
        @if answer.is_correct { span.right { "✓ right" } } @else { span.wrong { "✗ wrong" } }
        span.what {
            @if said.answer.is_empty() { i { "no answer" } } @else { (said.answer.join(" ")) }
            @if !said.has_ended { i.soft { " (cut off)" } }
        }
        span.length {
            small {
                @if n_thinking == 0 { "no thinking" } @else { (n_thinking) " tokens of thinking" }
            }
            span.track aria-hidden="true" {
                span.filled style={ "width:" (format!("{width:.1}%")) } {}
            }
        }
    }
}

/// The thinking, a new line after every self-check.
fn thought(words: &[&str], checks: &[String]) -> Markup {
    let is_check = |word: &str| checks.iter().any(|check| check == word);
    html! {
        @for attempt in words.split_inclusive(|word| is_check(word)) {
            span.attempt {
                @for word in attempt {
                    @if is_check(word) { mark { (word) } } @else { (word) } " "
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_is_taken_apart() {
        let rows = [
            (
                "<think> 1 + 2 no </think> 3 <eos>",
                Some("1 + 2 no"),
                "3",
                true,
            ),
            ("3 + 4 <eos>", None, "3 + 4", true),
            ("<think> 1 2 3", Some("1 2 3"), "", false),
            ("", None, "", false),
            (
                "3 <think> 4 </think> <eos>",
                None,
                "3 <think> 4 </think>",
                true,
            ),
        ];
        for (text, thinking, answer, has_ended) in rows {
            let said = said(text);
            assert_eq!(
                said.thinking.map(|words| words.join(" ")).as_deref(),
                thinking,
                "{text}"
            );
            assert_eq!(said.answer.join(" "), answer, "{text}");
            assert_eq!(said.has_ended, has_ended, "{text}");
        }
    }
}
