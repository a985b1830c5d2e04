//! Thinking and answer in a stream of generated ids.
//!
//! A well-formed continuation is at most one block of thinking, at the very start, then an answer
//! that is not empty, then the end token, and nothing after it. Ids decide, never text: a model that
//! writes the characters of `</think>` without the token goes on thinking.
//!
//! Tool calls are not parsed here.

use crate::tokenizer::Segment;

/// The ids that give a continuation its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Markup {
    /// Opens the thinking.
    pub think: u32,
    /// Closes the thinking.
    pub end_think: u32,
    /// Ends the continuation.
    pub eos: u32,
}

/// An id that no vocabulary has.
const NO_TOKEN: u32 = u32::MAX;

impl Markup {
    /// For a model without marks for thinking, whose whole continuation is an answer.
    pub fn without_thinking(eos: u32) -> Self {
        Self {
            think: NO_TOKEN,
            end_think: NO_TOKEN,
            eos,
        }
    }

    /// Whether the model can think.
    pub fn can_think(&self) -> bool {
        self.think != NO_TOKEN
    }
}

/// Where the prompt leaves off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The model may open a block of thinking.
    Fresh,
    /// The prompt has opened the block, as R1's template does.
    Thinking,
    /// The prompt has closed the block, as templates do when thinking is switched off.
    Answering,
}

impl Start {
    /// Reads off a rendered prompt how its last control token leaves the thinking.
    pub fn after(prompt: &[Segment], markup: &Markup) -> Self {
        let last = prompt.iter().rev().find_map(|segment| match segment {
            Segment::Control(id) => Some(*id),
            Segment::Text(_) => None,
        });
        match last {
            Some(id) if id == markup.think => Self::Thinking,
            Some(id) if id == markup.end_think => Self::Answering,
            _ => Self::Fresh,
        }
    }
}

/// What one generated id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Part of the thinking.
    Thinking(u32),
    /// Part of the answer.
    Answer(u32),
    /// One of the marks, in its place or out of it.
    Control(u32),
    /// Anything after the end.
    Trailing(u32),
}

/// Where in the continuation a parser is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing came yet.
    Fresh,
    /// Inside the thinking.
    Thinking,
    /// In the answer.
    Answering,
    /// After the end token.
    Finished,
}

/// Tells thinking from answer, one id at a time.
///
/// ```
/// use frugal_text::reasoning::{Event, Markup, Parser, Start};
///
/// let markup = Markup { think: 2, end_think: 3, eos: 1 };
/// let mut parser = Parser::new(markup, Start::Thinking);
/// assert_eq!(parser.feed(7), Event::Thinking(7));
/// assert_eq!(parser.feed(3), Event::Control(3));
/// assert_eq!(parser.feed(8), Event::Answer(8));
/// assert!(!parser.is_well_formed());
/// parser.feed(1);
/// assert!(parser.is_well_formed());
/// ```
#[derive(Debug, Clone)]
pub struct Parser {
    markup: Markup,
    more_ends: Vec<u32>,
    state: State,
    has_answer: bool,
    is_in_form: bool,
}

impl Parser {
    /// A parser for what follows a prompt.
    pub fn new(markup: Markup, start: Start) -> Self {
        let state = match start {
            Start::Fresh => State::Fresh,
            Start::Thinking => State::Thinking,
            Start::Answering => State::Answering,
        };
        Self {
            markup,
            more_ends: Vec::new(),
            state,
            has_answer: false,
            is_in_form: true,
        }
    }

    /// The same parser, which takes these ids for ends as well ([`stops`](crate::stops)).
    #[must_use]
    pub fn ending_also_at(mut self, ends: &[u32]) -> Self {
        self.more_ends = ends.to_vec();
        self
    }

    /// Takes the next id and says what it is. Marks out of place (a second `<think>`, a `</think>`
    /// that closes nothing) change nothing but the form.
    pub fn feed(&mut self, id: u32) -> Event {
        let Markup {
            think,
            end_think,
            eos,
        } = self.markup;
        match self.state {
            State::Finished => {
                self.is_in_form = false;
                return Event::Trailing(id);
            }
            _ if id == eos || self.more_ends.contains(&id) => {
                self.is_in_form &= self.has_answer;
                self.state = State::Finished;
            }
            State::Fresh if id == think => self.state = State::Thinking,
            State::Thinking if id == end_think => self.state = State::Answering,
            _ if id == think || id == end_think => {
                self.is_in_form = false;
                // An answer cannot turn into thinking any more.
                if self.state == State::Fresh {
                    self.state = State::Answering;
                }
            }
            State::Thinking => return Event::Thinking(id),
            State::Fresh | State::Answering => {
                self.state = State::Answering;
                self.has_answer = true;
                return Event::Answer(id);
            }
        }
        Event::Control(id)
    }

    /// Where the parser is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether everything so far is a complete well-formed continuation.
    pub fn is_well_formed(&self) -> bool {
        self.state == State::Finished && self.is_in_form
    }
}

/// A continuation taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The thinking without its marks; none if there was no block.
    pub thinking: Option<&'a [u32]>,
    /// The answer up to the end token; marks out of place stay in it.
    pub answer: &'a [u32],
    /// Whether the end token came.
    pub finished: bool,
    /// Whether the form is as the module describes.
    pub well_formed: bool,
}

/// Takes a whole continuation apart, as [`Parser`] would one id at a time.
pub fn split(ids: &[u32], think: u32, end_think: u32, eos: u32) -> Parts<'_> {
    split_from(
        ids,
        Markup {
            think,
            end_think,
            eos,
        },
        Start::Fresh,
    )
}

/// As [`split`], for a prompt that may have opened or closed the thinking.
pub fn split_from(ids: &[u32], markup: Markup, start: Start) -> Parts<'_> {
    let mut parser = Parser::new(markup, start);
    for id in ids {
        parser.feed(*id);
    }
    let body = ids.split(|id| *id == markup.eos).next().unwrap_or_default();
    let block = match (start, body) {
        (Start::Thinking, _) => Some(body),
        (Start::Fresh, [first, rest @ ..]) if *first == markup.think => Some(rest),
        _ => None,
    };
    let (thinking, answer) = match block {
        None => (None, body),
        Some(block) => {
            let mut halves = block.splitn(2, |id| *id == markup.end_think);
            (halves.next(), halves.next().unwrap_or_default())
        }
    };
    let finished = parser.state() == State::Finished;
    Parts {
        thinking,
        answer,
        finished,
        well_formed: parser.is_well_formed(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARKUP: Markup = Markup {
        think: 2,
        end_think: 3,
        eos: 1,
    };

    /// One line per form: ids, thinking, answer, finished, well formed.
    type Row = (
        &'static [u32],
        Option<&'static [u32]>,
        &'static [u32],
        bool,
        bool,
    );

    fn check(start: Start, rows: &[Row]) {
        for &(ids, thinking, answer, finished, well_formed) in rows {
            let parts = split_from(ids, MARKUP, start);
            assert_eq!(
                parts,
                Parts {
                    thinking,
                    answer,
                    finished,
                    well_formed
                },
                "{ids:?}"
            );
        }
    }

    #[test]
    fn forms_of_a_fresh_continuation() {
        check(
            Start::Fresh,
            &[
                (&[], None, &[], false, false),
                (&[1], None, &[], true, false),
                (&[7, 1], None, &[7], true, true),
                (&[7], None, &[7], false, false),
                (&[2, 7, 3, 8, 1], Some(&[7]), &[8], true, true),
                (&[2, 3, 8, 1], Some(&[]), &[8], true, true),
                (&[2, 7, 3, 1], Some(&[7]), &[], true, false),
                (&[2, 7, 1], Some(&[7]), &[], true, false),
                (&[2, 7], Some(&[7]), &[], false, false),
                (&[2, 7, 3, 8, 1, 9], Some(&[7]), &[8], true, false),
                (&[2, 7, 3, 8, 1, 1], Some(&[7]), &[8], true, false),
                (&[2, 2, 7, 3, 8, 1], Some(&[2, 7]), &[8], true, false),
                (&[2, 7, 3, 8, 3, 1], Some(&[7]), &[8, 3], true, false),
                (&[2, 7, 3, 2, 8, 1], Some(&[7]), &[2, 8], true, false),
                (&[8, 2, 7, 3, 8, 1], None, &[8, 2, 7, 3, 8], true, false),
                (&[3, 8, 1], None, &[3, 8], true, false),
                (&[3, 2, 8, 1], None, &[3, 2, 8], true, false),
            ],
        );
    }

    #[test]
    fn forms_after_a_prompt_that_opened_or_closed_the_block() {
        check(
            Start::Thinking,
            &[
                (&[7, 3, 8, 1], Some(&[7]), &[8], true, true),
                (&[2, 7, 3, 8, 1], Some(&[2, 7]), &[8], true, false),
                (&[7, 8, 1], Some(&[7, 8]), &[], true, false),
            ],
        );
        check(
            Start::Answering,
            &[
                (&[8, 1], None, &[8], true, true),
                (&[2, 7, 3, 8, 1], None, &[2, 7, 3, 8], true, false),
            ],
        );
    }

    #[test]
    fn a_model_that_cannot_think_only_answers() {
        let markup = Markup::without_thinking(1);
        assert!(!markup.can_think() && MARKUP.can_think());
        let mut parser = Parser::new(markup, Start::after(&[Segment::Control(0)], &markup));
        assert_eq!(
            [7, 2, 3].map(|id| parser.feed(id)),
            [7, 2, 3].map(Event::Answer)
        );
        parser.feed(1);
        assert!(parser.is_well_formed());
    }

    #[test]
    fn a_continuation_may_have_several_ends() {
        let mut parser = Parser::new(MARKUP, Start::Thinking).ending_also_at(&[1, 9]);
        let events = [7, 3, 8, 9, 1].map(|id| parser.feed(id));
        assert_eq!(
            events,
            [
                Event::Thinking(7),
                Event::Control(3),
                Event::Answer(8),
                Event::Control(9),
                Event::Trailing(1)
            ]
        );
        let mut parser = Parser::new(MARKUP, Start::Thinking);
        assert_eq!(parser.feed(9), Event::Thinking(9));
    }

    #[test]
    fn the_prompt_tells_the_start() {
        let text = Segment::Text("\n".into());
        let start = |id| {
            Start::after(
                &[Segment::Control(2), Segment::Control(id), text.clone()],
                &MARKUP,
            )
        };
        assert_eq!(start(2), Start::Thinking);
        assert_eq!(start(3), Start::Answering);
        assert_eq!(start(9), Start::Fresh);
        assert_eq!(
            Start::after(std::slice::from_ref(&text), &MARKUP),
            Start::Fresh
        );
    }

    proptest! {
        #[test]
        fn streaming_and_splitting_agree(
            ids in proptest::collection::vec(1_u32..6, 0..12),
            start in prop_oneof![Just(Start::Fresh), Just(Start::Thinking), Just(Start::Answering)],
        ) {
            let mut parser = Parser::new(MARKUP, start);
            let events: Vec<Event> = ids.iter().map(|id| parser.feed(*id)).collect();
            let parts = split_from(&ids, MARKUP, start);
            let is_mark = |id: &u32| *id == MARKUP.think || *id == MARKUP.end_think;
            let plain = |part: &[u32]| part.iter().copied().filter(|id| !is_mark(id)).collect::<Vec<_>>();
            let thinking: Vec<u32> = events.iter().filter_map(|e| if let Event::Thinking(id) = e { Some(*id) } else { None }).collect();
            let answer: Vec<u32> = events.iter().filter_map(|e| if let Event::Answer(id) = e { Some(*id) } else { None }).collect();
            prop_assert_eq!(thinking, plain(parts.thinking.unwrap_or_default()));
            prop_assert_eq!(answer, plain(parts.answer));
            prop_assert_eq!(parser.state() == State::Finished, parts.finished);
            // Well formed means: rebuilding it from its parts gives the same ids.
            if parts.well_formed {
                let mut rebuilt = Vec::new();
                if let Some(thinking) = parts.thinking {
                    if start == Start::Fresh { rebuilt.push(MARKUP.think); }
                    rebuilt.extend(thinking);
                    rebuilt.push(MARKUP.end_think);
                }
                rebuilt.extend(parts.answer);
                rebuilt.push(MARKUP.eos);
                prop_assert_eq!(rebuilt, ids);
            }
        }
    }
}
