//! Calls read out of an answer while it comes.
//!
//! A call is a call for sure once its tool is known and its arguments begin: from there on arguments
//! are passed on as the model writes them, right or wrong. Until then everything is held back, and
//! given as text if it turns out to be no call. What is decided depends on the text alone, never on
//! the pieces in which it comes. Each character is looked at a bounded number of times.

use std::mem::take;

use super::body::{Body, Names, Scan, Shape, Step, is_blank};
use super::{CLOSE, Format, Mark, OPEN, Style};

/// White space that may stand between the parts of a head, in bytes.
const MAX_BLANK_BYTES: usize = 64;
/// What stands in place of a name where DeepSeek V3 begins a call.
const KIND: &str = "function";
const FENCE: &str = "```";
const JSON_FENCE: &str = "```json";

/// Something read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Text of the answer.
    Text(String),
    /// A call begins.
    CallBegins {
        /// The tool.
        name: String,
    },
    /// More of the arguments of the call, as the model wrote them.
    CallArguments(String),
    /// The call ends.
    CallEnds,
}

/// Something read, with the place up to which everything is now decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What was read.
    pub event: Event,
    /// Bytes from the beginning of the answer, marks in their spelling, to the end of it. A text ends
    /// exactly there.
    pub upto: usize,
}

/// What follows the arguments of a call.
#[derive(Debug, Clone)]
enum Tail {
    Fence,
    Body(Body),
}

#[derive(Debug, Clone, Default)]
enum State {
    /// In text.
    #[default]
    Outside,
    /// Before anything else than white space, where the whole answer may be a call.
    Start,
    /// Inside of DeepSeek's list of calls, before the first one or after another one.
    Between { is_first: bool },
    /// After the beginning of a call.
    Kind(String),
    /// After the separator.
    Head { kind: String, head: String },
    /// In the object of a call.
    Body(Body),
    /// In its arguments.
    Arguments(Scan, Tail),
    /// After arguments that may have stood in a fence.
    Fence,
    /// After the object, before the closing mark.
    Close,
    /// After a call and its marks, perhaps in the spelling of an opening mark.
    After(String),
}

/// Reads an answer; made by [`Format::parser`].
///
/// Feed text as it comes, and marks ([`Parser::is_mark`]) by their ids. Joined, the events are the
/// answer: texts are what stands outside of calls, less white space after a call.
#[derive(Debug, Clone)]
pub struct Parser {
    format: Format,
    is_spelled: bool,
    names: Names,
    state: State,
    /// What is undecided.
    held: String,
    /// Bytes so far.
    at: usize,
    has_called: bool,
    heard: Vec<Heard>,
}

impl Parser {
    pub(super) fn new(format: &Format, names: &[String]) -> Self {
        let is_whole = format.style == Style::Llama;
        Self {
            format: format.clone(),
            is_spelled: format.is_spelled(),
            names: Names::new(names),
            state: if is_whole {
                State::Start
            } else {
                State::Outside
            },
            held: String::new(),
            at: 0,
            has_called: false,
            heard: Vec::new(),
        }
    }

    /// Whether a control token is a mark of this format.
    pub fn is_mark(&self, id: u32) -> bool {
        self.format.marks.contains_key(&id)
    }

    /// Takes more text.
    pub fn text(&mut self, text: &str) -> Vec<Heard> {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let n_plain = self.plain(rest);
            let (taken, left) = rest.split_at(n_plain.max(c.len_utf8()));
            self.at += taken.len();
            if n_plain > 0 {
                self.tell(Event::Text(taken.to_string()), self.at);
            } else {
                // A character that does not fit is looked at again, in the end outside.
                while !self.takes(c) {}
            }
            rest = left;
        }
        take(&mut self.heard)
    }

    /// Bytes at the beginning of a text that are text for sure.
    fn plain(&self, text: &str) -> usize {
        if !(matches!(self.state, State::Outside) && self.held.is_empty()) {
            return 0;
        }
        let mark = text.find('<').filter(|_| self.is_spelled);
        mark.unwrap_or(text.len())
    }

    /// Takes a control token with its spelling.
    pub fn control(&mut self, id: u32, spelling: &str) -> Vec<Heard> {
        let Some(mark) = self.format.marks.get(&id).copied() else {
            return self.text(spelling);
        };
        self.at += spelling.len();
        self.mark(mark, spelling);
        take(&mut self.heard)
    }

    /// Decides what is held back: the answer ends here.
    pub fn finish(&mut self) -> Vec<Heard> {
        let state = &self.state;
        if state.is_after_call() || state.is_to_close() && self.is_blank_held() {
            self.held.clear();
        }
        if matches!(state, State::Arguments(..)) {
            self.tell(Event::CallEnds, self.at);
        }
        self.give_up(self.at);
        take(&mut self.heard)
    }

    fn is_blank_held(&self) -> bool {
        self.held.chars().all(is_blank)
    }

    fn tell(&mut self, event: Event, upto: usize) {
        if let Some(last) = self.heard.last_mut() {
            match (&mut last.event, &event) {
                (Event::Text(text), Event::Text(more))
                | (Event::CallArguments(text), Event::CallArguments(more)) => {
                    text.push_str(more);
                    last.upto = upto;
                    return;
                }
                _ => {}
            }
        }
        self.heard.push(Heard { event, upto });
    }

    /// What is held is text after all.
    fn give_up(&mut self, upto: usize) {
        if !self.held.is_empty() {
            let text = take(&mut self.held);
            self.tell(Event::Text(text), upto);
        }
        self.state = State::Outside;
    }

    fn begin(&mut self, name: String, upto: usize) {
        self.held.clear();
        self.has_called = true;
        self.tell(Event::CallBegins { name }, upto);
    }

    /// Looks at a character. If it does not fit, what is held becomes text and it is left for another
    /// look.
    fn takes(&mut self, c: char) -> bool {
        let before = self.at - c.len_utf8();
        let fits = match take(&mut self.state) {
            State::Outside => return self.takes_outside(c, before),
            State::Head { kind, head } => return self.takes_in_head(c, before, kind, head),
            State::Body(body) => return self.takes_in_body(c, before, body),
            State::Arguments(scan, tail) => return self.takes_in_arguments(c, before, scan, tail),
            State::Kind(mut kind) => {
                kind.push(c);
                let fits = kind.len() <= self.names.longest.max(KIND.len());
                self.state = State::Kind(kind);
                fits
            }
            State::Start if c == '{' => {
                self.state = State::Body(Body::new(Shape::Whole));
                return false;
            }
            State::Fence => {
                self.state = State::Fence;
                let tail = format!("{}{c}", self.held);
                tail.len() <= MAX_BLANK_BYTES && FENCE.starts_with(tail.trim_matches(is_blank))
            }
            State::Close => return self.takes_in_close(c, before),
            State::After(mark) => return self.takes_after(c, before, mark),
            state @ (State::Start | State::Between { .. }) => {
                self.state = state;
                is_blank(c)
            }
        };
        if fits {
            self.held.push(c);
        } else {
            self.give_up(before);
        }
        fits
    }

    fn takes_outside(&mut self, c: char, before: usize) -> bool {
        self.state = State::Outside;
        let may_open = self.is_spelled
            && OPEN
                .strip_prefix(self.held.as_str())
                .is_some_and(|rest| rest.starts_with(c));
        if may_open {
            self.held.push(c);
            if self.held == OPEN {
                self.state = State::Body(Body::new(Shape::Marked));
            }
            return true;
        }
        if self.held.is_empty() {
            self.tell(Event::Text(c.to_string()), self.at);
            return true;
        }
        self.give_up(before);
        false
    }

    fn takes_in_head(&mut self, c: char, before: usize, kind: String, mut head: String) -> bool {
        head.push(c);
        match deepseek_head(&kind, &head, &self.names) {
            Some(Some(name)) => {
                self.begin(name, before);
                self.state = State::Arguments(Scan::default(), Tail::Fence);
                false
            }
            Some(None) => {
                self.held.push(c);
                self.state = State::Head { kind, head };
                true
            }
            None => {
                self.give_up(before);
                false
            }
        }
    }

    fn takes_in_body(&mut self, c: char, before: usize, mut body: Body) -> bool {
        let closed = match body.shape {
            Shape::Marked => State::Close,
            Shape::Whole => State::After(String::new()),
        };
        match body.step(c, &self.names) {
            Step::More => {
                self.held.push(c);
                self.state = State::Body(body);
            }
            Step::Fail if body.has_begun && self.is_blank_held() => {
                // The object is not closed, its mark may come all the same.
                self.state = State::Close;
                return false;
            }
            Step::Fail => {
                self.give_up(before);
                return false;
            }
            Step::Begins(name) => {
                self.begin(name, before);
                self.state = State::Arguments(Scan::default(), Tail::Body(body));
                return false;
            }
            Step::Whole { name, arguments } => {
                self.begin(name, self.at);
                self.tell(Event::CallArguments(arguments), self.at);
                self.tell(Event::CallEnds, self.at);
                self.state = closed;
            }
            Step::Closed => {
                self.held.clear();
                self.state = closed;
            }
        }
        true
    }

    fn takes_in_arguments(&mut self, c: char, before: usize, mut scan: Scan, tail: Tail) -> bool {
        // Outside of its strings JSON has no such character: a spelled mark cuts the call off.
        if self.is_spelled && c == '<' && !scan.is_in_string() {
            self.tell(Event::CallEnds, before);
            self.state = tail.cut_off();
            return false;
        }
        self.tell(Event::CallArguments(c.to_string()), self.at);
        self.state = if scan.step(c) {
            self.tell(Event::CallEnds, self.at);
            match tail {
                Tail::Fence => State::Fence,
                Tail::Body(body) => State::Body(body),
            }
        } else {
            State::Arguments(scan, tail)
        };
        true
    }

    fn takes_after(&mut self, c: char, before: usize, mut mark: String) -> bool {
        let is_between = mark.is_empty() && is_blank(c);
        if !is_between {
            mark.push(c);
            if !(self.is_spelled && OPEN.starts_with(&mark)) {
                self.give_up(before);
                return false;
            }
        }
        if mark == OPEN {
            self.held = mark;
            self.state = State::Body(Body::new(Shape::Marked));
        } else {
            self.held.push(c);
            self.state = State::After(mark);
        }
        true
    }

    fn takes_in_close(&mut self, c: char, before: usize) -> bool {
        self.held.push(c);
        let mark = self.held.trim_start_matches(is_blank);
        if self.is_spelled && mark == CLOSE {
            self.held.clear();
            self.state = State::After(String::new());
            return true;
        }
        let is_begun = mark.is_empty() || self.is_spelled && CLOSE.starts_with(mark);
        let fits = is_begun && self.held.len() <= MAX_BLANK_BYTES;
        self.state = State::Close;
        if !fits {
            self.held.pop();
            self.give_up(before);
        }
        fits
    }

    fn mark(&mut self, mark: Mark, spelling: &str) {
        let before = self.at - spelling.len();
        self.state = match take(&mut self.state) {
            // Whatever the arguments are, they end here.
            State::Arguments(_, tail) => {
                self.tell(Event::CallEnds, before);
                tail.cut_off()
            }
            state => state,
        };
        let next = match (take(&mut self.state), mark) {
            (State::Between { is_first: true }, Mark::CallBegin) => State::Kind(String::new()),
            (State::Kind(kind), Mark::Separator) => State::Head {
                kind,
                head: String::new(),
            },
            (State::Start, Mark::Python) => State::Body(Body::new(Shape::Whole)),
            (State::Fence, Mark::CallEnd) => {
                self.held.clear();
                self.state = State::Between { is_first: false };
                return;
            }
            (state, Mark::Close) if state.is_to_close() && self.is_blank_held() => {
                self.held.clear();
                self.state = State::After(String::new());
                return;
            }
            (state, mark) => {
                if state.is_after_call() || state.is_to_close() && self.is_blank_held() {
                    self.held.clear();
                }
                self.give_up(before);
                match mark {
                    Mark::CallsBegin => State::Between { is_first: true },
                    Mark::CallBegin => State::Kind(String::new()),
                    Mark::Open => State::Body(Body::new(Shape::Marked)),
                    Mark::Python => State::Body(Body::new(Shape::Whole)),
                    Mark::CallsEnd if self.has_called => {
                        self.state = State::After(String::new());
                        return;
                    }
                    Mark::CallsEnd | Mark::CallEnd | Mark::Separator | Mark::Close => {
                        self.tell(Event::Text(spelling.to_string()), self.at);
                        return;
                    }
                }
            }
        };
        self.held.push_str(spelling);
        self.state = next;
    }
}

impl State {
    /// Whether what is held here is white space and fences after a call.
    fn is_after_call(&self) -> bool {
        match self {
            Self::After(mark) => mark.is_empty(),
            Self::Fence | Self::Between { is_first: false } => true,
            _ => false,
        }
    }

    /// Whether a call is told of whose object or mark may still be closed.
    fn is_to_close(&self) -> bool {
        match self {
            Self::Close => true,
            Self::Body(body) => body.has_begun,
            _ => false,
        }
    }
}

impl Tail {
    /// Where one is when arguments end too early.
    fn cut_off(self) -> State {
        match self {
            Self::Fence => State::Fence,
            Self::Body(_) => State::Close,
        }
    }
}

/// Reads what DeepSeek writes after the separator up to the first bracket of the arguments: with a
/// name before the separator nothing, with `function` there the name on a line and a fence. Nothing
/// if it cannot be that; `Some(None)` if more is needed.
#[expect(clippy::option_option, reason = "no call, undecided, a call")]
fn deepseek_head(kind: &str, head: &str, names: &Names) -> Option<Option<String>> {
    let rest = head.trim_start_matches(is_blank);
    if head.len() > names.longest + 2 * MAX_BLANK_BYTES {
        return None;
    }
    if rest.is_empty() {
        return Some(None);
    }
    if rest.starts_with('{') {
        return names.has(kind).then(|| Some(kind.to_string()));
    }
    if kind != KIND {
        return None;
    }
    let Some((name, rest)) = rest.split_once('\n') else {
        return Some(None);
    };
    let name = name.trim_end_matches(is_blank);
    if !names.has(name) {
        return None;
    }
    let rest = rest.trim_start_matches(is_blank);
    if JSON_FENCE.starts_with(rest) {
        return Some(None);
    }
    let inner = rest.strip_prefix(JSON_FENCE).or(rest.strip_prefix(FENCE));
    match inner.unwrap_or(rest).trim_start_matches(is_blank) {
        "" => Some(None),
        rest if rest.starts_with('{') => Some(Some(name.to_string())),
        _ => None,
    }
}
