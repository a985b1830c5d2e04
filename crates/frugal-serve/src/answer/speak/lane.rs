//! Which tokens go with which text.
//!
//! Text is held back in several places, and parts of it are never shown; tokens wait here for their
//! text. Places are bytes from the beginning of the thought or the answer, marks in their spelling.

use std::collections::VecDeque;

use crate::answer::TokenText;

/// Which tokens a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// None.
    Nothing,
    /// Those of the texts that it sees, for their log-probabilities.
    OfTexts,
    /// All, for their ids: marks, calls and ends as well.
    All,
}

#[derive(Debug, Clone)]
struct Waiting {
    start: usize,
    end: usize,
    /// A mark has no text of its own.
    is_mark: bool,
    token: Option<TokenText>,
}

/// Tokens in their order.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    wanted: Wanted,
    waiting: VecDeque<Waiting>,
    /// Bytes so far.
    at: usize,
}

impl Lane {
    pub(super) const fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            waiting: VecDeque::new(),
            at: 0,
        }
    }

    pub(super) const fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Bytes so far.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// A token adds so many bytes.
    pub(super) fn push(&mut self, bytes: usize, token: Option<TokenText>) {
        self.enter(bytes, token, false);
    }

    /// A mark adds so many.
    pub(super) fn push_mark(&mut self, bytes: usize, token: Option<TokenText>) {
        self.enter(bytes, token, true);
    }

    fn enter(&mut self, bytes: usize, token: Option<TokenText>, is_mark: bool) {
        self.waiting.push_back(Waiting {
            start: self.at,
            end: self.at + bytes,
            is_mark,
            token,
        });
        self.at += bytes;
    }

    /// Bytes that belong to a token already here, such as a character that it did not finish.
    pub(super) fn push_rest(&mut self, bytes: usize) {
        self.at += bytes;
        if let Some(last) = self.waiting.back_mut() {
            last.end += bytes;
        }
    }

    /// Tokens whose text is out when the text up to a place is.
    pub(super) fn of_text(&mut self, upto: usize) -> Vec<TokenText> {
        self.take(
            |one| one.end <= upto,
            |wanted, one| wanted == Wanted::All || !one.is_mark,
        )
    }

    /// Tokens of what is not text up to a place. Those that begin at it belong to what follows.
    pub(super) fn of_marks(&mut self, upto: usize) -> Vec<TokenText> {
        self.take(
            |one| one.end <= upto && (one.start < upto || one.is_mark),
            |wanted, _| wanted == Wanted::All,
        )
    }

    /// Tokens of a text that ends at one place, with those of a stop text after it that ends at
    /// another, and how many came later still. Nothing waits any more.
    pub(super) fn of_stopped(&mut self, text: usize, stop: usize) -> (Vec<TokenText>, usize) {
        let all = self.waiting.len();
        let before = self
            .waiting
            .iter()
            .take_while(|one| one.start < stop)
            .count();
        self.waiting.truncate(before);
        let tokens = self.take(
            |_| true,
            |wanted, one| wanted == Wanted::All || !one.is_mark && one.start < text,
        );
        (tokens, all - before)
    }

    fn take(
        &mut self,
        is_out: impl Fn(&Waiting) -> bool,
        is_wanted: impl Fn(Wanted, &Waiting) -> bool,
    ) -> Vec<TokenText> {
        let mut tokens = Vec::new();
        while self.waiting.front().is_some_and(&is_out) {
            let wanted = self.wanted;
            let one = self
                .waiting
                .pop_front()
                .filter(|one| is_wanted(wanted, one));
            tokens.extend(one.and_then(|one| one.token));
        }
        tokens
    }
}
