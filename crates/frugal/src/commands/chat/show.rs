//! What a conversation looks like: thinking dimmed or folded, the answer plain.

use std::io::{self, IsTerminal, Write};

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";
/// Back to the line's start, and clear it.
const AGAIN: &str = "\r\x1b[K";

/// Prints the prompt at which a person types.
pub(super) fn prompt(text: &str) {
    drop(write!(io::stderr(), "{text}").and_then(|()| io::stderr().flush()));
}

/// How an answer is shown while it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Both parts, for a person.
    Terminal,
    /// The answer alone, for another program.
    Pipe,
    /// Nothing; the whole is printed at the end.
    Silent,
}

/// An answer on its way to the screen.
#[derive(Debug)]
pub(super) struct Screen {
    how: How,
    is_folded: bool,
    /// Thinking tokens so far; none before the first.
    thinking: Option<usize>,
    has_answer: bool,
    /// Whether the last thing printed ended a line.
    is_at_start: bool,
}

impl Screen {
    pub(super) fn new(is_json: bool, is_folded: bool) -> Self {
        let how = if is_json {
            How::Silent
        } else if io::stdout().is_terminal() {
            How::Terminal
        } else {
            How::Pipe
        };
        Self {
            how,
            is_folded,
            thinking: None,
            has_answer: false,
            is_at_start: true,
        }
    }

    /// Shows one more token of thinking, and the text that is certain by now.
    pub(super) fn think(&mut self, piece: &str) {
        let count = self.thinking.map_or(1, |n| n + 1);
        self.thinking = Some(count);
        if self.how != How::Terminal {
            return;
        }
        if self.is_folded {
            write_out(&format!("{AGAIN}{DIM}thinking, {count} tokens{PLAIN}"));
            self.is_at_start = false;
        } else {
            self.write(&format!("{DIM}{piece}{PLAIN}"), piece);
        }
    }

    /// Shows a piece of the answer.
    pub(super) fn answer(&mut self, piece: &str) {
        if self.how == How::Silent {
            return;
        }
        let mut piece = piece;
        if !self.has_answer {
            // Templates put empty lines between the thinking and the answer.
            piece = piece.trim_start();
            if piece.is_empty() {
                return;
            }
            self.has_answer = true;
            if !self.is_at_start {
                write_out("\n");
            }
            if self.thinking.is_some() && self.how == How::Terminal {
                write_out("\n");
            }
        }
        self.write(piece, piece);
    }

    fn write(&mut self, styled: &str, text: &str) {
        if !text.is_empty() {
            write_out(styled);
            self.is_at_start = text.ends_with('\n');
        }
    }

    /// Ends the answer, with a remark about it for a person.
    pub(super) fn end(&mut self, remark: &str) {
        if self.how == How::Silent {
            return;
        }
        if !self.is_at_start {
            write_out("\n");
        }
        if self.how == How::Terminal {
            write_out(&format!("{DIM}{remark}{PLAIN}\n"));
        }
        self.is_at_start = true;
    }
}

fn write_out(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}
