//! From what is said to the events, or the one body, of a message.

use serde_json::{Map, Value, json};

use super::{Out, Thoughts};
use crate::answer::{Detail, Finish, Said, Usage};
use crate::wire::error::{Fault, Kind};
use crate::wire::head::Head;
use crate::wire::usage::{add_cost, add_details};

/// An event of the stream: its name, and its data (whose `type` is that name again).
pub type Event = (&'static str, Value);

/// What stands where Anthropic's servers sign a thought. Ours are not signed, and say so; clients
/// that pass over thoughts without a signature keep them.
pub const SIGNATURE: &str = "frugal-unsigned";

/// Writes one message, streamed or whole.
#[derive(Debug)]
pub struct Encoder {
    head: Head,
    out: Out,
    has_begun: bool,
    blocks: Vec<Value>,
    open: Option<Open>,
    end: Option<(Finish, Detail)>,
    usage: Option<Box<Usage>>,
    failure: Option<Fault>,
}

/// The block that is being said.
#[derive(Debug)]
enum Open {
    Thought(String),
    Text(String),
    Call {
        number: usize,
        id: String,
        name: String,
        arguments: String,
    },
}

impl Encoder {
    /// An encoder of one message.
    pub const fn new(head: Head, out: Out) -> Self {
        Self {
            head,
            out,
            has_begun: false,
            blocks: Vec::new(),
            open: None,
            end: None,
            usage: None,
            failure: None,
        }
    }

    /// Takes a piece and gives the events that it causes, in order; none unless it streams.
    pub fn push(&mut self, said: Said) -> Vec<Event> {
        let mut events = Vec::new();
        self.take(&mut events, said);
        if !self.out.stream {
            events.clear();
        }
        events
    }

    fn take(&mut self, events: &mut Vec<Event>, said: Said) {
        if let Said::Failed(fault) = said {
            events.push(("error", fault.anthropic()));
            self.failure = Some(fault);
            return;
        }
        self.begin_message(events, &said);
        match said {
            Said::Thinking { text, .. } => self.think(events, &text),
            Said::Answer { text, .. } => self.answer(events, &text),
            Said::CallBegins { call, id, name, .. } => {
                self.close(events);
                let open = Open::Call {
                    number: call,
                    id,
                    name,
                    arguments: String::new(),
                };
                self.begin(events, open);
            }
            Said::CallArguments { call, text, .. } => self.argue(events, call, &text),
            Said::Ended { finish, detail, .. } => {
                self.close(events);
                self.end = Some((finish, detail));
            }
            Said::Done(usage) => {
                self.close(events);
                let mut delta = Map::new();
                self.say_why(&mut delta);
                let body =
                    json!({ "type": "message_delta", "delta": delta, "usage": used(&usage) });
                events.push(("message_delta", body));
                events.push(("message_stop", json!({ "type": "message_stop" })));
                self.usage = Some(usage);
            }
            Said::Begun { .. } | Said::Failed(_) => {}
        }
    }

    /// The whole message, after the last piece.
    ///
    /// # Errors
    /// If it failed, or pieces are missing.
    pub fn whole(self) -> Result<Value, Fault> {
        if let Some(fault) = self.failure {
            return Err(fault);
        }
        let Some(usage) = &self.usage else {
            return Err(Fault::new(Kind::Internal, "the answer broke off"));
        };
        let mut message = self.message();
        self.say_why(&mut message);
        message.insert("usage".into(), used(usage));
        message.insert("content".into(), self.blocks.into());
        Ok(message.into())
    }

    fn message(&self) -> Map<String, Value> {
        let mut message = Map::new();
        message.insert("id".into(), self.head.id.as_str().into());
        message.insert("type".into(), "message".into());
        message.insert("role".into(), "assistant".into());
        message.insert("model".into(), self.head.model.as_str().into());
        message
    }

    fn begin_message(&mut self, events: &mut Vec<Event>, first: &Said) {
        if self.has_begun {
            return;
        }
        self.has_begun = true;
        let mut counted = Usage::default();
        if let Said::Begun {
            prompt_tokens,
            cached_tokens,
            ..
        } = first
        {
            counted.prompt_tokens = *prompt_tokens;
            counted.cached_tokens = *cached_tokens;
        }
        let mut message = self.message();
        message.insert("content".into(), json!([]));
        message.insert("stop_reason".into(), Value::Null);
        message.insert("stop_sequence".into(), Value::Null);
        message.insert("usage".into(), used(&counted));
        let start = json!({ "type": "message_start", "message": message });
        events.push(("message_start", start));
        events.push(("ping", json!({ "type": "ping" })));
    }

    fn think(&mut self, events: &mut Vec<Event>, more: &str) {
        if more.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Open::Thought(_))) {
            self.close(events);
            self.begin(events, Open::Thought(String::new()));
        }
        if self.out.thoughts == Thoughts::Omitted {
            return;
        }
        if let Some(Open::Thought(text)) = &mut self.open {
            text.push_str(more);
        }
        self.delta(
            events,
            &json!({ "type": "thinking_delta", "thinking": more }),
        );
    }

    fn answer(&mut self, events: &mut Vec<Event>, more: &str) {
        if more.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Open::Text(_))) {
            self.close(events);
            self.begin(events, Open::Text(String::new()));
        }
        if let Some(Open::Text(text)) = &mut self.open {
            text.push_str(more);
        }
        self.delta(events, &json!({ "type": "text_delta", "text": more }));
    }

    /// Calls are said one after another, so a piece belongs to the one that is open.
    fn argue(&mut self, events: &mut Vec<Event>, call: usize, more: &str) {
        if let Some(Open::Call {
            number, arguments, ..
        }) = &mut self.open
            && *number == call
            && !more.is_empty()
        {
            arguments.push_str(more);
            self.delta(
                events,
                &json!({ "type": "input_json_delta", "partial_json": more }),
            );
        }
    }

    fn begin(&mut self, events: &mut Vec<Event>, open: Open) {
        let block = match &open {
            Open::Thought(_) => json!({ "type": "thinking", "thinking": "", "signature": "" }),
            Open::Text(_) => json!({ "type": "text", "text": "" }),
            Open::Call { id, name, .. } => {
                json!({ "type": "tool_use", "id": id, "name": name, "input": {} })
            }
        };
        let body = json!({
            "type": "content_block_start", "index": self.blocks.len(), "content_block": block,
        });
        events.push(("content_block_start", body));
        self.open = Some(open);
    }

    fn close(&mut self, events: &mut Vec<Event>) {
        let Some(open) = self.open.take() else {
            return;
        };
        let block = match open {
            Open::Thought(text) => {
                self.delta(
                    events,
                    &json!({ "type": "signature_delta", "signature": SIGNATURE }),
                );
                json!({ "type": "thinking", "thinking": text, "signature": SIGNATURE })
            }
            Open::Text(text) => json!({ "type": "text", "text": text }),
            Open::Call {
                id,
                name,
                arguments,
                ..
            } => match serde_json::from_str(&arguments) {
                Ok(Value::Object(input)) => {
                    json!({ "type": "tool_use", "id": id, "name": name, "input": input })
                }
                // Cut short: nothing that a client could run, and nothing lost.
                _ => json!({ "type": "text", "text": arguments }),
            },
        };
        let index = self.blocks.len();
        let body = json!({ "type": "content_block_stop", "index": index });
        events.push(("content_block_stop", body));
        self.blocks.push(block);
    }

    fn delta(&self, events: &mut Vec<Event>, delta: &Value) {
        let index = self.blocks.len();
        let body = json!({ "type": "content_block_delta", "index": index, "delta": delta });
        events.push(("content_block_delta", body));
    }

    /// Why it ended, and with which of the client's stop texts.
    fn say_why(&self, body: &mut Map<String, Value>) {
        let (reason, sequence) = match &self.end {
            Some((Finish::Length, _)) => ("max_tokens", None),
            Some((Finish::ToolCalls, _)) => ("tool_use", None),
            Some((Finish::Stop, detail)) => match &detail.stop {
                Some(stop) if self.out.stops.contains(stop) => {
                    ("stop_sequence", Some(stop.clone()))
                }
                _ => ("end_turn", None),
            },
            None => ("end_turn", None),
        };
        body.insert("stop_reason".into(), reason.into());
        body.insert("stop_sequence".into(), sequence.into());
        if let Some((_, detail)) = &self.end {
            add_details(body, detail);
        }
    }
}

/// In Anthropic's sense: `input_tokens` are those that were not found in the cache. Nothing is
/// written to it at a price of its own, so `cache_creation_input_tokens` is 0.
fn used(usage: &Usage) -> Value {
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| body.insert(key.to_owned(), value);
    let missed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    put("input_tokens", missed.into());
    put("cache_read_input_tokens", usage.cached_tokens.into());
    put("cache_creation_input_tokens", 0.into());
    put("output_tokens", usage.completion_tokens.into());
    put(
        "output_tokens_details",
        json!({ "thinking_tokens": usage.reasoning_tokens }),
    );
    put("service_tier", "standard".into());
    add_cost(&mut body, usage);
    body.into()
}
