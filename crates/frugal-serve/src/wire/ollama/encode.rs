//! From what is said to the lines, or the one body, of Ollama's answers.

use serde_json::{Map, Value, json};

use super::bodies::stamp;
use super::{Out, Route};
use crate::answer::{Detail, Finish, Said, TokenText, Usage};
use crate::wire::error::{Fault, Kind};
use crate::wire::head::Head;
use crate::wire::log_probs;
use crate::wire::usage::{add_cost, add_details};

/// Writes one answer: a line a piece, or one body.
#[derive(Debug)]
pub struct Encoder {
    head: Head,
    out: Out,
    /// Seconds for which the model was loaded before the question was read.
    load_seconds: f64,
    thought: String,
    text: String,
    calls: Vec<Value>,
    logprobs: Vec<Value>,
    open: Option<Call>,
    end: Option<(Finish, Detail)>,
    usage: Option<Box<Usage>>,
    failure: Option<Fault>,
}

#[derive(Debug)]
struct Call {
    number: usize,
    id: String,
    name: String,
    arguments: String,
}

/// What one line says.
#[derive(Debug, Default)]
struct Piece {
    thought: String,
    text: String,
    calls: Vec<Value>,
    logprobs: Vec<Value>,
}

impl Encoder {
    /// An encoder of one answer, by a model that took so many seconds to load (0 if it was loaded).
    pub const fn new(head: Head, out: Out, load_seconds: f64) -> Self {
        Self {
            head,
            out,
            load_seconds,
            thought: String::new(),
            text: String::new(),
            calls: Vec::new(),
            logprobs: Vec::new(),
            open: None,
            end: None,
            usage: None,
            failure: None,
        }
    }

    /// Takes a piece and gives the lines that it causes, in order; none unless it streams.
    pub fn push(&mut self, said: Said) -> Vec<Value> {
        let mut lines = Vec::new();
        if !matches!(said, Said::CallArguments { .. }) {
            self.close(&mut lines);
        }
        match said {
            Said::Begun { .. } => {}
            Said::Thinking { text, tokens, .. } => {
                let piece = Piece {
                    thought: text,
                    logprobs: self.logprobs_of(&tokens),
                    ..Piece::default()
                };
                self.say(&mut lines, piece);
            }
            Said::Answer { text, tokens, .. } => {
                let piece = Piece {
                    text,
                    logprobs: self.logprobs_of(&tokens),
                    ..Piece::default()
                };
                self.say(&mut lines, piece);
            }
            Said::CallBegins { call, id, name, .. } => {
                self.open = Some(Call {
                    number: call,
                    id,
                    name,
                    arguments: String::new(),
                });
            }
            Said::CallArguments { call, text, .. } => {
                if let Some(open) = self.open.as_mut().filter(|open| open.number == call) {
                    open.arguments.push_str(&text);
                }
            }
            Said::Ended { finish, detail, .. } => self.end = Some((finish, detail)),
            Said::Done(usage) => {
                if self.out.stream {
                    lines.push(self.last(Piece::default(), &usage));
                }
                self.usage = Some(usage);
            }
            Said::Failed(fault) => {
                if self.out.stream {
                    lines.push(fault.ollama());
                }
                self.failure = Some(fault);
            }
        }
        lines
    }

    /// The whole answer, after the last piece.
    ///
    /// # Errors
    /// If it failed, or pieces are missing.
    pub fn whole(mut self) -> Result<Value, Fault> {
        if let Some(fault) = self.failure {
            return Err(fault);
        }
        let Some(usage) = self.usage.take() else {
            return Err(Fault::new(Kind::Internal, "the answer broke off"));
        };
        let piece = Piece {
            thought: std::mem::take(&mut self.thought),
            text: std::mem::take(&mut self.text),
            calls: std::mem::take(&mut self.calls),
            logprobs: std::mem::take(&mut self.logprobs),
        };
        Ok(self.last(piece, &usage))
    }

    fn logprobs_of(&self, tokens: &[TokenText]) -> Vec<Value> {
        match log_probs::items(tokens) {
            Value::Array(items) if self.out.wants_logprobs => items,
            _ => Vec::new(),
        }
    }

    /// Ollama's calls are said whole, with arguments as an object.
    fn close(&mut self, lines: &mut Vec<Value>) {
        let Some(call) = self.open.take() else {
            return;
        };
        let piece = match serde_json::from_str(&call.arguments) {
            Ok(Value::Object(arguments)) => Piece {
                calls: vec![json!({
                    "id": call.id,
                    "function": {
                        "index": call.number, "name": call.name, "arguments": arguments,
                    },
                })],
                ..Piece::default()
            },
            // Cut short: nothing that a client could run, and nothing lost.
            _ => Piece {
                text: call.arguments,
                ..Piece::default()
            },
        };
        self.say(lines, piece);
    }

    fn say(&mut self, lines: &mut Vec<Value>, piece: Piece) {
        let is_empty = piece.thought.is_empty() && piece.text.is_empty();
        if is_empty && piece.calls.is_empty() && piece.logprobs.is_empty() {
            return;
        }
        if self.out.stream {
            lines.push(self.line(piece).into());
            return;
        }
        self.thought.push_str(&piece.thought);
        self.text.push_str(&piece.text);
        self.calls.extend(piece.calls);
        self.logprobs.extend(piece.logprobs);
    }

    fn line(&self, piece: Piece) -> Map<String, Value> {
        let mut said = Map::new();
        let text_key = match self.out.route {
            Route::Chat => "content",
            Route::Generate => "response",
        };
        said.insert(text_key.into(), piece.text.into());
        if !piece.thought.is_empty() {
            said.insert("thinking".into(), piece.thought.into());
        }
        if !piece.calls.is_empty() {
            said.insert("tool_calls".into(), piece.calls.into());
        }
        let mut line = match self.out.route {
            Route::Generate => said,
            Route::Chat => {
                said.insert("role".into(), "assistant".into());
                Map::from_iter([("message".to_owned(), said.into())])
            }
        };
        if !piece.logprobs.is_empty() {
            line.insert("logprobs".into(), piece.logprobs.into());
        }
        line.insert("model".into(), self.head.model.as_str().into());
        line.insert("created_at".into(), stamp(self.head.created).into());
        line.insert("done".into(), false.into());
        line
    }

    fn last(&self, piece: Piece, usage: &Usage) -> Value {
        let mut line = self.line(piece);
        let answering = usage.seconds - usage.seconds_to_first;
        let reason = match self.end {
            Some((Finish::Length, _)) => "length",
            _ => "stop",
        };
        let stamp = stamp(self.head.after(usage.seconds));
        for (key, value) in [
            ("created_at", Value::from(stamp)),
            ("done", true.into()),
            ("done_reason", reason.into()),
            (
                "total_duration",
                nanoseconds(self.load_seconds + usage.seconds),
            ),
            ("load_duration", nanoseconds(self.load_seconds)),
            ("prompt_eval_count", usage.prompt_tokens.into()),
            ("prompt_eval_duration", nanoseconds(usage.seconds_to_first)),
            ("eval_count", usage.completion_tokens.into()),
            ("eval_duration", nanoseconds(answering)),
        ] {
            line.insert(key.to_owned(), value);
        }
        add_cost(&mut line, usage);
        if let Some((_, detail)) = &self.end {
            add_details(&mut line, detail);
        }
        line.into()
    }
}

fn nanoseconds(seconds: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a float saturates"
    )]
    let whole = (seconds.max(0.0) * 1e9).round() as u64;
    whole.into()
}
