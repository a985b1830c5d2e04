//! Saying a thought.
//!
//! A line break at its end is held back while the mark after it may take it away.

use super::{Said, Speaker, TokenText};
use crate::answer::prompt::Glue;
use crate::engine::Token;

impl Speaker<'_> {
    pub(super) fn think(&mut self, token: &Token, said: &mut Vec<Said>) {
        let piece = self.enter(token);
        self.held.push_str(&piece);
        let may_be_markup = self.glue == Glue::Lines && self.held.ends_with('\n');
        self.say_thought(usize::from(may_be_markup), said);
    }

    /// Says the thought, less so many bytes.
    pub(super) fn say_thought(&mut self, held: usize, said: &mut Vec<Said>) {
        let cut = self.held.len() - held;
        let rest = self.held.split_off(cut);
        let text = std::mem::replace(&mut self.held, rest);
        if !text.is_empty() {
            let tokens = self.lane.of_text(self.lane.at() - held);
            said.push(self.thinking(text, tokens));
        }
    }

    /// Says what is left of the thought, less so many line breaks at its end.
    pub(super) fn finish_thought(&mut self, lines: usize, said: &mut Vec<Said>) {
        let rest = self.rest();
        self.lane.push_rest(rest.len());
        self.held.push_str(&rest);
        let mut end = self.lane.at();
        if lines > 0 && self.held.ends_with('\n') {
            self.held.pop();
            end -= 1;
        }
        let text = std::mem::take(&mut self.held);
        let (tokens, _) = self.lane.of_stopped(end, usize::MAX);
        if !text.is_empty() || !tokens.is_empty() {
            said.push(self.thinking(text, tokens));
        }
    }

    pub(super) fn thinking(&self, text: String, tokens: Vec<TokenText>) -> Said {
        Said::Thinking {
            index: self.index,
            text,
            tokens,
        }
    }
}
