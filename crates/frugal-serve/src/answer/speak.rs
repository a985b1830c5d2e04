//! From token ids to what is said.
//!
//! One [`Speaker`] an answer: it is fed the engine's tokens and gives pieces that are certain. Held
//! back are the bytes of an unfinished character, what may begin a stop text, what may be the markup
//! of a call, and a line break that may belong to the mark after it. All pieces joined are the answer.
//!
//! What is markup and what is text:
//! - Marks of thinking are told by their ids and are never text. Where the template writes line breaks
//!   around thoughts ([`Glue::Lines`]), the one after `<think>` and the one before `</think>` are
//!   markup; up to two after `</think>` are markup always, once. A prompt that opened or closed the
//!   thought has written its own, and nothing is taken from what follows it.
//! - Stop texts are looked for in the text of the answer: not in thoughts, which are not the answer,
//!   nor in calls, which would be broken. What follows the first one to end is not said.
//! - Tokens that end an answer are never text, also where they are passed over.
//! - Other control tokens are spelled out.
//!
//! What is counted: every token up to the end, forced ones, marks and the end token included, but none
//! after the one that completed a stop text. Reasoning tokens are those of thoughts with their marks.

use frugal_text::Decoder;
use frugal_text::reasoning::{self, State};
use frugal_text::tools::{Count, Event, Heard, Parser};

use self::lane::{Lane, Wanted};
use self::stops::Stops;
use super::prompt::{Glue, NO_TOKEN, Prepared};
use super::{Ask, Detail, Finish, Said, TokenText};
use crate::engine::{End, Token};
use crate::models::Words;

mod lane;
mod stops;
mod thought;

/// Line breaks after a thought that are markup.
const LINES_AFTER_THOUGHT: usize = 2;

/// Whether more is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Going {
    /// More tokens are.
    On,
    /// Nothing is: the sample is to be left, and the speaker to be ended.
    Stopped,
}

/// Tokens of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All.
    pub completion: usize,
    /// Those of thoughts.
    pub reasoning: usize,
}

/// Why no more is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stopped {
    ByText(String),
    ByCall,
}

/// Which of a request's answers this is.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Its index.
    pub index: usize,
    /// The request's name, of which ids of calls are made.
    pub request: &'a str,
}

/// Says one answer.
#[derive(Debug)]
pub struct Speaker<'a> {
    words: &'a Words,
    index: usize,
    request: String,
    decoder: Decoder<'a>,
    thoughts: reasoning::Parser,
    /// Reads calls, and whether the first one ends the answer.
    calls: Option<(Parser, Count)>,
    stops: Stops,
    stop_texts: Vec<String>,
    /// Tokens that the client named to end the answer.
    own_ends: Vec<u32>,
    /// Tokens that would end it, were they not passed over.
    passed: Vec<u32>,
    has_log_probs: bool,
    glue: Glue,
    lane: Lane,
    /// Text that is not out, the last byte of which is at `held_end` of the lane.
    held: String,
    held_end: usize,
    /// Line breaks that are markup if they come next.
    skips: usize,
    n_calls: usize,
    counts: Counts,
    ended_in_thought: bool,
    stopped: Option<Stopped>,
}

impl<'a> Speaker<'a> {
    /// A speaker for what follows a prompt.
    pub fn new(words: &'a Words, prepared: &Prepared, ask: &Ask, part: Part<'_>) -> Self {
        let mut ends = prepared.stop.clone();
        let mut markup = prepared.markup;
        let mut passed = Vec::new();
        if ask.ignores_end {
            passed.clone_from(&words.stops);
            passed.push(markup.eos);
            passed.retain(|id| !ends.contains(id));
            markup.eos = NO_TOKEN;
        } else {
            ends.push(markup.eos);
        }
        let wanted = match ask.likeliest {
            _ if ask.wants_ids => Wanted::All,
            Some(_) => Wanted::OfTexts,
            None => Wanted::Nothing,
        };
        let parser = prepared.calls.as_ref().map(|calls| {
            let names: Vec<String> = calls.tools.iter().map(|tool| tool.name.clone()).collect();
            (calls.format.parser(&names), calls.count)
        });
        Self {
            words,
            index: part.index,
            request: part.request.to_string(),
            decoder: words.tokenizer.decoder(),
            thoughts: reasoning::Parser::new(markup, prepared.start).ending_also_at(&ends),
            calls: parser,
            stops: Stops::new(&ask.stop),
            stop_texts: ask.stop.clone(),
            own_ends: ask.stop_ids.clone(),
            passed,
            has_log_probs: ask.likeliest.is_some(),
            glue: prepared.glue,
            lane: Lane::new(wanted),
            held: String::new(),
            held_end: 0,
            skips: 0,
            n_calls: 0,
            counts: Counts::default(),
            ended_in_thought: prepared.start == reasoning::Start::Thinking,
            stopped: None,
        }
    }

    /// Takes the next token and says what is certain now.
    pub fn hear(&mut self, token: &Token, said: &mut Vec<Said>) -> Going {
        if self.stopped.is_some() {
            return Going::Stopped;
        }
        let id = token.drawn.id;
        self.counts.completion += 1;
        let before = self.thoughts.state();
        if self.passed.contains(&id) {
            let in_thought = before == State::Thinking;
            self.counts.reasoning += usize::from(in_thought);
            self.lane.push_mark(0, self.told(token));
            return Going::On;
        }
        match self.thoughts.feed(id) {
            reasoning::Event::Trailing(_) => self.counts.completion -= 1,
            reasoning::Event::Control(_) => self.mark(token, before, said),
            reasoning::Event::Thinking(_) => {
                self.counts.reasoning += 1;
                self.think(token, said);
            }
            reasoning::Event::Answer(_) => {
                self.ended_in_thought = false;
                self.answer(token, said);
            }
        }
        match self.stopped {
            Some(_) => Going::Stopped,
            None => Going::On,
        }
    }

    /// Says what was held back, and how the answer ended. `closed` tells why its thought was closed
    /// if the model did not close it.
    pub fn end(&mut self, why: End, closed: Option<&'static str>, said: &mut Vec<Said>) {
        if self.stopped.is_none() {
            if self.ended_in_thought {
                self.finish_thought(0, said);
            } else {
                self.finish_answer(said);
            }
        }
        let stop = match (&self.stopped, why) {
            (Some(Stopped::ByText(text)), _) => Some(text.clone()),
            (None, End::Stop(id)) if self.own_ends.contains(&id) => self
                .words
                .tokenizer
                .token_bytes(id)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            _ => None,
        };
        let finish = match why {
            End::Length if self.stopped.is_none() => Finish::Length,
            _ if self.n_calls > 0 => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        said.push(Said::Ended {
            index: self.index,
            finish,
            detail: Detail {
                stop,
                thought_closed: closed,
                ended_in_thought: self.ended_in_thought,
            },
        });
    }

    /// Tokens so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// A mark of thinking, in its place or out of it, or a token that ends the answer.
    fn mark(&mut self, token: &Token, before: State, said: &mut Vec<Said>) {
        let after = self.thoughts.state();
        let told = self.told(token);
        if after == State::Finished {
            self.lane.push_mark(0, told);
            return;
        }
        self.counts.reasoning += usize::from(before == State::Thinking || after == State::Thinking);
        if before == State::Thinking && after == State::Answering {
            self.ended_in_thought = false;
            let line = usize::from(self.glue == Glue::Lines);
            self.finish_thought(line, said);
            self.lane = Lane::new(self.lane.wanted());
            self.held_end = 0;
            if let (Wanted::All, Some(told)) = (self.lane.wanted(), told) {
                said.push(self.thinking(String::new(), vec![told]));
            }
            self.skips = LINES_AFTER_THOUGHT;
            return;
        }
        if before == State::Fresh && after == State::Thinking {
            self.ended_in_thought = true;
            self.skips = usize::from(self.glue == Glue::Lines);
        } else if before == State::Fresh {
            self.skips = LINES_AFTER_THOUGHT;
        }
        self.lane.push_mark(0, told);
    }

    /// A token as the client sees it, where it does.
    fn told(&self, token: &Token) -> Option<TokenText> {
        if self.lane.wanted() == Wanted::Nothing {
            return None;
        }
        let bytes = |id| self.words.tokenizer.token_bytes(id).unwrap_or_default();
        let drawn = &token.drawn;
        let has_log_prob = self.has_log_probs && !token.is_forced;
        let likeliest = drawn.likeliest.iter();
        Some(TokenText {
            id: drawn.id,
            bytes: bytes(drawn.id),
            log_prob: has_log_prob.then_some(drawn.log_prob),
            likeliest: likeliest
                .map(|(id, log_prob)| (*id, bytes(*id), *log_prob))
                .collect(),
        })
    }

    /// Takes a token and gives the text that it adds, less line breaks that are markup. An id that the
    /// vocabulary lacks has none: models have more rows than tokens.
    fn enter(&mut self, token: &Token) -> String {
        let told = self.told(token);
        let piece = self.decoder.push(token.drawn.id).unwrap_or_default();
        let mut piece = piece.to_string();
        let before = self.skips;
        self.skip(&mut piece);
        if piece.is_empty() && self.skips < before {
            self.lane.push_mark(0, told);
        } else {
            self.lane.push(piece.len(), told);
        }
        piece
    }

    /// What the decoder held back.
    fn rest(&mut self) -> String {
        let fresh = self.words.tokenizer.decoder();
        let old = std::mem::replace(&mut self.decoder, fresh);
        let mut rest = old.finish().unwrap_or_default();
        self.skip(&mut rest);
        rest
    }

    fn skip(&mut self, piece: &mut String) {
        while self.skips > 0 && !piece.is_empty() {
            if piece.starts_with('\n') {
                piece.remove(0);
                self.skips -= 1;
            } else {
                self.skips = 0;
            }
        }
    }

    fn answer(&mut self, token: &Token, said: &mut Vec<Said>) {
        let id = token.drawn.id;
        let is_mark = |(calls, _): &(Parser, Count)| calls.is_mark(id);
        if !self.calls.as_ref().is_some_and(is_mark) {
            let piece = self.enter(token);
            self.add(&piece, said);
            return;
        }
        let told = self.told(token);
        let rest = self.rest();
        self.lane.push_rest(rest.len());
        self.add(&rest, said);
        let spelling = self.words.tokenizer.token_name(id).unwrap_or_default();
        if self.stopped.is_some() {
            // What the character before it completed came before it.
            self.counts.completion -= 1;
            return;
        }
        self.skips = 0;
        self.lane.push_mark(spelling.len(), told);
        let heard = match &mut self.calls {
            Some((calls, _)) => calls.control(id, &spelling),
            None => Vec::new(),
        };
        self.read(heard, said);
    }

    /// More text, in which calls may be.
    fn add(&mut self, piece: &str, said: &mut Vec<Said>) {
        match &mut self.calls {
            Some((calls, _)) => {
                let heard = calls.text(piece);
                self.read(heard, said);
            }
            None => self.text(piece, self.lane.at(), said),
        }
    }

    fn read(&mut self, heard: Vec<Heard>, said: &mut Vec<Said>) {
        for Heard { event, upto } in heard {
            if self.stopped.is_some() {
                return;
            }
            let (index, call) = (self.index, self.n_calls.saturating_sub(1));
            match event {
                Event::Text(text) => self.text(&text, upto, said),
                Event::CallBegins { name } => {
                    self.release(said);
                    self.stops.reset();
                    self.mark_upto(upto, said);
                    let call = self.n_calls;
                    self.n_calls += 1;
                    said.push(Said::CallBegins {
                        index,
                        call,
                        id: format!("call_{}_{index}_{call}", self.request),
                        name,
                    });
                }
                Event::CallArguments(text) => {
                    self.mark_upto(upto, said);
                    said.push(Said::CallArguments { index, call, text });
                }
                Event::CallEnds => {
                    let is_last = matches!(self.calls, Some((_, Count::One)));
                    if is_last {
                        self.stopped = Some(Stopped::ByCall);
                        let (tokens, later) = self.lane.of_stopped(0, upto);
                        self.counts.completion -= later;
                        self.unseen(tokens, said);
                    }
                }
            }
        }
    }

    /// Tokens without text, where they are wanted.
    fn mark_upto(&mut self, upto: usize, said: &mut Vec<Said>) {
        let tokens = self.lane.of_marks(upto);
        self.unseen(tokens, said);
    }

    fn unseen(&mut self, tokens: Vec<TokenText>, said: &mut Vec<Said>) {
        if !tokens.is_empty() {
            said.push(self.answering(String::new(), tokens));
        }
    }

    fn answering(&self, text: String, tokens: Vec<TokenText>) -> Said {
        Said::Answer {
            index: self.index,
            text,
            tokens,
        }
    }

    /// More text of the answer, which ends at a place of the lane.
    fn text(&mut self, text: &str, upto: usize, said: &mut Vec<Said>) {
        if self.held.is_empty() {
            self.mark_upto(upto - text.len(), said);
        }
        self.held.push_str(text);
        self.held_end = upto;
        let Some(found) = self.stops.push(text) else {
            self.say_answer(self.stops.held(), said);
            return;
        };
        let after = text.len() - found.end;
        let stop_end = upto - after;
        let cut = self.held.len() - after - found.bytes;
        self.held.truncate(cut);
        let text = std::mem::take(&mut self.held);
        let (tokens, later) = self.lane.of_stopped(stop_end - found.bytes, stop_end);
        self.counts.completion -= later;
        if !text.is_empty() || !tokens.is_empty() {
            said.push(self.answering(text, tokens));
        }
        let stop = self.stop_texts.get(found.which).cloned();
        self.stopped = Some(Stopped::ByText(stop.unwrap_or_default()));
    }

    /// Says the answer, less so many bytes.
    fn say_answer(&mut self, held: usize, said: &mut Vec<Said>) {
        let cut = self.held.len() - held;
        let rest = self.held.split_off(cut);
        let text = std::mem::replace(&mut self.held, rest);
        if !text.is_empty() {
            let tokens = self.lane.of_text(self.held_end - held);
            said.push(self.answering(text, tokens));
        }
    }

    /// Says all that is held: no stop text comes of it.
    fn release(&mut self, said: &mut Vec<Said>) {
        self.say_answer(0, said);
    }

    fn finish_answer(&mut self, said: &mut Vec<Said>) {
        let rest = self.rest();
        self.lane.push_rest(rest.len());
        self.add(&rest, said);
        if self.stopped.is_some() {
            return;
        }
        let heard = match &mut self.calls {
            Some((calls, _)) => calls.finish(),
            None => Vec::new(),
        };
        self.read(heard, said);
        if self.stopped.is_none() {
            self.release(said);
            let (tokens, _) = self.lane.of_stopped(0, usize::MAX);
            self.unseen(tokens, said);
        }
    }
}

#[cfg(test)]
mod tests;
