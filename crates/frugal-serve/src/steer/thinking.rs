//! How long a sample thinks.
//!
//! A thought is closed, from outside, for one of three reasons: its budget is spent, somebody asked,
//! or it goes in circles ([`super::circles`]). A cut in the middle of a sentence makes bad answers,
//! so where there is time a bonus on the logit of `</think>` grows over a stretch of tokens: the
//! model closes where it finds a place for it. Only at the stretch's end is the token forced.
//!
//! The bonus rises in a straight line to [`MOST`]. In the middle of a sentence `</think>` is some 15 to
//! 25 below the likeliest token, between two paragraphs 5 to 10: so places between paragraphs come
//! first, and sentences are broken late or never.
//!
//! Ids decide where thinking begins and ends ([`frugal_text::reasoning`]). That a model does not
//! think at all is the business of its template; a budget of 0 forces `</think>` as the first token
//! of a thought.

use std::sync::Arc;

use frugal_text::reasoning::{Event, Markup, Parser, Start, State};

use super::circles::Circles;

/// The bonus at the end of a stretch, in nats.
const MOST: f32 = 16.0;
/// The stretch before a budget's end is this part of it, within [`STRETCH`].
const STRETCH_PART: usize = 8;
/// Tokens of a stretch.
const STRETCH: [usize; 2] = [16, 256];
/// Tokens from noticing circles to the forced end.
const CIRCLES_STRETCH: usize = 64;

/// Why a thought was closed, if the model did not close it by itself.
///
/// A model that closes its thought while a bonus pushes it to has not done it by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Its budget is spent.
    Budget,
    /// Somebody asked.
    Asked,
    /// It went in circles.
    Circles,
}

impl Closed {
    /// As clients are told.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Asked => "asked",
            Self::Circles => "circles",
        }
    }
}

/// Whether thoughts are watched for circles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Watch {
    /// They are.
    #[default]
    Circles,
    /// They are not.
    Nothing,
}

/// How the samples of a job may think.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thoughts {
    /// The marks of thinking.
    pub markup: Markup,
    /// Where the prompt leaves off.
    pub start: Start,
    /// Tokens of the thought at most.
    pub budget: Option<usize>,
    /// Tokens that come after a forced `</think>`, as the template has them there: often a blank line.
    pub after: Vec<u32>,
    /// Tokens that end a sample.
    pub ends: Vec<u32>,
    /// What thoughts are watched for.
    pub watch: Watch,
}

/// Where one sample is in its thought.
#[derive(Debug)]
pub(super) struct Thinking {
    rules: Arc<Thoughts>,
    parser: Parser,
    circles: Option<Circles>,
    /// Tokens thought so far.
    tokens: usize,
    /// At how many tokens circles were noticed.
    noticed: Option<usize>,
    /// Why `</think>` is being forced.
    forcing: Option<Closed>,
    closed: Option<Closed>,
}

/// What a token meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The thought ended, and `</think>` was forced.
    Cut,
    /// The thought ended.
    Ended,
    /// Anything else.
    On,
}

impl Thinking {
    pub(super) fn new(rules: Arc<Thoughts>) -> Self {
        let parser = Parser::new(rules.markup, rules.start).ending_also_at(&rules.ends);
        let watches = rules.watch == Watch::Circles && rules.markup.can_think();
        Self {
            circles: watches.then(Circles::new),
            rules,
            parser,
            tokens: 0,
            noticed: None,
            forcing: None,
            closed: None,
        }
    }

    /// Where the sample is.
    pub(super) fn state(&self) -> State {
        self.parser.state()
    }

    /// Tokens thought so far.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Why the thought was closed.
    pub(super) fn closed(&self) -> Option<Closed> {
        self.closed
    }

    /// Tokens that come after a forced end.
    pub(super) fn after(&self) -> &[u32] {
        &self.rules.after
    }

    /// The mark that opens a thought, while it may still come.
    pub(super) fn opening(&self) -> Option<u32> {
        let may_open = self.state() == State::Fresh && self.rules.markup.can_think();
        may_open.then_some(self.rules.markup.think)
    }

    /// `</think>`, where it must come now.
    pub(super) fn forced(&mut self, is_to_answer: bool) -> Option<u32> {
        self.forcing = None;
        if self.state() != State::Thinking {
            return None;
        }
        let is_spent = self.rules.budget.is_some_and(|most| self.tokens >= most);
        let circled = |at: usize| self.tokens >= at.saturating_add(CIRCLES_STRETCH);
        self.forcing = if is_to_answer {
            Some(Closed::Asked)
        } else if is_spent {
            Some(Closed::Budget)
        } else if self.noticed.is_some_and(circled) {
            Some(Closed::Circles)
        } else {
            None
        };
        self.forcing.map(|_| self.rules.markup.end_think)
    }

    /// `</think>` and what is added to its logit, where that is anything.
    pub(super) fn bonus(&self) -> Option<(u32, f32)> {
        self.push()
            .map(|(_, bonus)| (self.rules.markup.end_think, bonus))
    }

    /// Why the thought is being pushed to its end, and how much.
    fn push(&self) -> Option<(Closed, f32)> {
        if self.state() != State::Thinking {
            return None;
        }
        let rise = |from: usize, stretch: usize| {
            let gone = self.tokens.checked_sub(from)? + 1;
            Some(MOST * (gone.min(stretch) as f32 / stretch as f32))
        };
        let by_budget = self.rules.budget.filter(|most| *most > 0).and_then(|most| {
            let [least, longest] = STRETCH;
            let stretch = (most / STRETCH_PART).clamp(least, longest).min(most);
            rise(most - stretch, stretch)
        });
        let by_circles = self.noticed.and_then(|at| rise(at, CIRCLES_STRETCH));
        match (by_budget, by_circles) {
            (Some(budget), Some(circles)) if circles > budget => Some((Closed::Circles, circles)),
            (Some(budget), _) => Some((Closed::Budget, budget)),
            (None, circles) => circles.map(|bonus| (Closed::Circles, bonus)),
        }
    }

    /// The next token is this one.
    pub(super) fn took(&mut self, id: u32) -> Step {
        let was_thinking = self.state() == State::Thinking;
        let push = self.push();
        let forcing = self.forcing.take();
        if let Event::Thinking(_) = self.parser.feed(id) {
            self.tokens += 1;
            if let Some(circles) = &mut self.circles
                && circles.took(id)
                && self.noticed.is_none()
            {
                self.noticed = Some(self.tokens);
            }
        }
        if !was_thinking || self.state() != State::Answering {
            return Step::On;
        }
        self.circles = None;
        self.closed = forcing.or(push.map(|(why, _)| why));
        match forcing {
            Some(_) => Step::Cut,
            None => Step::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKUP: Markup = Markup {
        think: 2,
        end_think: 3,
        eos: 1,
    };

    fn thinking(start: Start, budget: Option<usize>) -> Thinking {
        Thinking::new(Arc::new(Thoughts {
            markup: MARKUP,
            start,
            budget,
            after: vec![10, 11],
            ends: vec![1],
            watch: Watch::Circles,
        }))
    }

    /// Thinks tokens that never repeat until `</think>` is forced; returns how many and the bonuses.
    fn run_out(thinking: &mut Thinking) -> (usize, Vec<f32>) {
        let mut bonuses = Vec::new();
        for id in 100..100_000 {
            if let Some(id) = thinking.forced(false) {
                assert_eq!((id, thinking.took(id)), (3, Step::Cut));
                return (thinking.tokens(), bonuses);
            }
            bonuses.extend(thinking.bonus().map(|(id, bonus)| {
                assert_eq!(id, 3);
                bonus
            }));
            assert_eq!(thinking.took(id), Step::On);
        }
        panic!("never closed");
    }

    #[test]
    fn a_budget_pushes_and_then_cuts() {
        for (budget, stretch) in [
            (1, 1),
            (10, 10),
            (16, 16),
            (100, 16),
            (800, 100),
            (50_000, 256),
        ] {
            let mut thinking = thinking(Start::Thinking, Some(budget));
            let (tokens, bonuses) = run_out(&mut thinking);
            assert_eq!((tokens, bonuses.len()), (budget, stretch), "{budget}");
            assert!(bonuses.is_sorted() && bonuses.first().unwrap() > &0.0);
            assert_eq!(bonuses.last(), Some(&MOST));
            assert_eq!(thinking.closed(), Some(Closed::Budget));
            assert_eq!(thinking.state(), State::Answering);
            assert_eq!((thinking.forced(true), thinking.bonus()), (None, None));
        }
    }

    #[test]
    fn a_budget_of_nothing_closes_at_once() {
        let mut thinking = thinking(Start::Fresh, Some(0));
        assert_eq!(
            (thinking.forced(false), thinking.opening()),
            (None, Some(2))
        );
        assert_eq!(thinking.took(2), Step::On);
        assert_eq!((thinking.forced(false), thinking.bonus()), (Some(3), None));
        assert_eq!(thinking.took(3), Step::Cut);
        assert_eq!((thinking.tokens(), thinking.opening()), (0, None));
    }

    #[test]
    fn who_asks_gets_the_answer() {
        let mut thinking = thinking(Start::Thinking, None);
        thinking.took(7);
        assert_eq!(
            (thinking.forced(false), thinking.forced(true)),
            (None, Some(3))
        );
        assert_eq!(thinking.took(3), Step::Cut);
        assert_eq!(thinking.closed(), Some(Closed::Asked));
        assert_eq!(thinking.tokens(), 1);
    }

    #[test]
    fn a_model_that_closes_by_itself_is_not_said_to_be_closed() {
        let mut free = thinking(Start::Thinking, Some(100));
        free.took(7);
        assert_eq!((free.took(3), free.closed()), (Step::Ended, None));
        let mut pushed = thinking(Start::Thinking, Some(100));
        for id in 100..190 {
            pushed.took(id);
        }
        assert!(pushed.bonus().is_some() && pushed.forced(false).is_none());
        assert_eq!(
            (pushed.took(3), pushed.closed()),
            (Step::Ended, Some(Closed::Budget))
        );
    }

    #[test]
    fn circles_push_and_then_cut() {
        let mut thinking = thinking(Start::Thinking, Some(100_000));
        let mut n_bonuses = 0;
        let cut = (0..10_000).find(|at| {
            n_bonuses += usize::from(thinking.bonus().is_some());
            thinking.forced(false).is_some() || thinking.took(100 + at % 20) != Step::On
        });
        assert!(cut.is_some_and(|at| at < 1000), "{cut:?}");
        assert!(thinking.forced(false).is_some());
        assert_eq!(thinking.took(3), Step::Cut);
        assert_eq!(thinking.closed(), Some(Closed::Circles));
        assert!((CIRCLES_STRETCH..=CIRCLES_STRETCH + 1).contains(&n_bonuses));
    }

    #[test]
    fn answers_are_not_watched() {
        let mut thinking = thinking(Start::Answering, Some(0));
        for _ in 0..5000 {
            assert_eq!(thinking.took(7), Step::On);
            assert_eq!((thinking.forced(true), thinking.bonus()), (None, None));
        }
        assert_eq!((thinking.tokens(), thinking.closed()), (0, None));
    }
}
