//! From what is said to the events, or the one body, of a response.

use serde_json::{Map, Value, json};

use super::{Head, Out};
use crate::answer::{Detail, Finish, Said, Usage};
use crate::wire::error::{Fault, Kind};
use crate::wire::log_probs;
use crate::wire::usage::{add_cost, add_details};

/// An event of the stream: its name, and its data (whose `type` is that name again).
pub type Event = (&'static str, Value);

/// Writes one response, streamed or whole.
#[derive(Debug)]
pub struct Encoder {
    head: Head,
    out: Out,
    sequence: u64,
    has_begun: bool,
    items: Vec<Value>,
    open: Option<Open>,
    end: Option<(Finish, Detail)>,
    usage: Option<Box<Usage>>,
    failure: Option<Fault>,
}

/// The item that is being said.
#[derive(Debug)]
enum Open {
    Thought { text: String },
    Text { text: String, logprobs: Vec<Value> },
    Call(Call),
}

#[derive(Debug)]
struct Call {
    number: usize,
    id: String,
    name: String,
    arguments: String,
}

/// What a closed item's `status` says.
#[derive(Debug, Clone, Copy)]
enum Status {
    InProgress,
    Completed,
    Incomplete,
}

impl Status {
    const fn word(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

impl Encoder {
    /// An encoder of one response.
    pub const fn new(head: Head, out: Out) -> Self {
        Self {
            head,
            out,
            sequence: 0,
            has_begun: false,
            items: Vec::new(),
            open: None,
            end: None,
            usage: None,
            failure: None,
        }
    }

    /// Takes a piece and gives the events that it causes, in order; none unless it streams.
    pub fn push(&mut self, said: Said) -> Vec<Event> {
        let mut events = Vec::new();
        if self.out.stream && !self.has_begun {
            self.has_begun = true;
            for name in ["response.created", "response.in_progress"] {
                let response = self.response("in_progress");
                self.emit(&mut events, name, json!({ "response": response }));
            }
        }
        match said {
            Said::Begun { .. } => {}
            Said::Thinking { text, .. } => self.think(&mut events, &text),
            Said::Answer { text, tokens, .. } => {
                let wanted = if self.out.wants_logprobs {
                    &*tokens
                } else {
                    &[]
                };
                self.answer(&mut events, &text, log_probs::items(wanted));
            }
            Said::CallBegins { call, id, name, .. } => {
                self.close(&mut events, Status::Completed);
                let open = Call {
                    number: call,
                    id,
                    name,
                    arguments: String::new(),
                };
                self.begin(&mut events, Open::Call(open));
            }
            Said::CallArguments { call, text, .. } => self.argue(&mut events, call, &text),
            Said::Ended { finish, detail, .. } => {
                self.close(&mut events, status_after(finish));
                self.end = Some((finish, detail));
            }
            Said::Done(usage) => {
                self.usage = Some(usage);
                self.close(&mut events, Status::Completed);
                let [name, status] = match self.end {
                    Some((Finish::Length, _)) => ["response.incomplete", "incomplete"],
                    _ => ["response.completed", "completed"],
                };
                let response = self.response(status);
                self.emit(&mut events, name, json!({ "response": response }));
            }
            Said::Failed(fault) => {
                self.failure = Some(fault);
                self.close(&mut events, Status::Incomplete);
                let response = self.response("failed");
                self.emit(
                    &mut events,
                    "response.failed",
                    json!({ "response": response }),
                );
            }
        }
        events
    }

    /// The whole response, after the last piece.
    ///
    /// # Errors
    /// If it failed, or pieces are missing.
    pub fn whole(self) -> Result<Value, Fault> {
        if let Some(fault) = self.failure {
            return Err(fault);
        }
        match self.end {
            _ if self.usage.is_none() => Err(Fault::new(Kind::Internal, "the answer broke off")),
            Some((Finish::Length, _)) => Ok(self.response("incomplete")),
            _ => Ok(self.response("completed")),
        }
    }

    fn think(&mut self, events: &mut Vec<Event>, more: &str) {
        if more.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Open::Thought { .. })) {
            self.close(events, Status::Completed);
            let text = String::new();
            self.begin(events, Open::Thought { text });
        }
        if let Some(Open::Thought { text }) = &mut self.open {
            text.push_str(more);
        }
        let mut body = self.place("rs", Some(0));
        body.insert("delta".into(), more.into());
        self.emit(events, "response.reasoning_text.delta", body.into());
    }

    fn answer(&mut self, events: &mut Vec<Event>, more: &str, items: Value) {
        let Value::Array(mut items) = items else {
            return;
        };
        if more.is_empty() && items.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Open::Text { .. })) {
            self.close(events, Status::Completed);
            let (text, logprobs) = (String::new(), Vec::new());
            self.begin(events, Open::Text { text, logprobs });
        }
        let mut body = self.place("msg", Some(0));
        body.insert("delta".into(), more.into());
        body.insert("logprobs".into(), items.clone().into());
        if let Some(Open::Text { text, logprobs }) = &mut self.open {
            text.push_str(more);
            logprobs.append(&mut items);
        }
        self.emit(events, "response.output_text.delta", body.into());
    }

    /// Calls are said one after another, so a piece belongs to the one that is open.
    fn argue(&mut self, events: &mut Vec<Event>, number: usize, more: &str) {
        let Some(Open::Call(call)) = &mut self.open else {
            return;
        };
        if call.number != number || more.is_empty() {
            return;
        }
        call.arguments.push_str(more);
        let mut body = self.place("fc", None);
        body.insert("delta".into(), more.into());
        self.emit(
            events,
            "response.function_call_arguments.delta",
            body.into(),
        );
    }

    fn begin(&mut self, events: &mut Vec<Event>, open: Open) {
        let item = self.item(&open, Status::InProgress);
        let index = self.items.len();
        let added = json!({ "output_index": index, "item": item });
        self.emit(events, "response.output_item.added", added);
        if let Some(part) = part(&open) {
            let mut body = self.place(prefix(&open), Some(0));
            body.insert("part".into(), part);
            self.emit(events, "response.content_part.added", body.into());
        }
        self.open = Some(open);
    }

    fn close(&mut self, events: &mut Vec<Event>, status: Status) {
        let Some(open) = self.open.take() else {
            return;
        };
        let place = |this: &Self| this.place(prefix(&open), part(&open).map(|_| 0));
        let mut body = place(self);
        let name = match &open {
            Open::Thought { text } => {
                body.insert("text".into(), text.as_str().into());
                "response.reasoning_text.done"
            }
            Open::Text { text, logprobs } => {
                body.insert("text".into(), text.as_str().into());
                body.insert("logprobs".into(), logprobs.clone().into());
                "response.output_text.done"
            }
            Open::Call(call) => {
                body.insert("name".into(), call.name.as_str().into());
                body.insert("arguments".into(), call.arguments.as_str().into());
                "response.function_call_arguments.done"
            }
        };
        self.emit(events, name, body.into());
        if let Some(part) = part(&open) {
            let mut body = place(self);
            body.insert("part".into(), part);
            self.emit(events, "response.content_part.done", body.into());
        }
        let item = self.item(&open, status);
        let done = json!({ "output_index": self.items.len(), "item": item.clone() });
        self.emit(events, "response.output_item.done", done);
        self.items.push(item);
    }

    /// Where an event belongs: the item that is open, and its part where it has parts.
    fn place(&self, prefix: &str, part: Option<usize>) -> Map<String, Value> {
        let mut place = Map::new();
        place.insert("item_id".into(), self.item_id(prefix).into());
        place.insert("output_index".into(), self.items.len().into());
        if let Some(part) = part {
            place.insert("content_index".into(), part.into());
        }
        place
    }

    /// Ids of items follow from that of the response, so that nothing is drawn here.
    fn item_id(&self, prefix: &str) -> String {
        let id = &self.head.id;
        let stem = id.strip_prefix("resp_").unwrap_or(id);
        format!("{prefix}_{stem}_{}", self.items.len())
    }

    fn item(&self, open: &Open, status: Status) -> Value {
        let content = match (status, part(open)) {
            (Status::InProgress, _) | (_, None) => Vec::new(),
            (_, Some(part)) => vec![part],
        };
        let (id, status) = (self.item_id(prefix(open)), status.word());
        match open {
            Open::Thought { .. } => json!({
                "id": id, "type": "reasoning", "status": status, "summary": [], "content": content,
            }),
            Open::Text { .. } => json!({
                "id": id, "type": "message", "status": status, "role": "assistant",
                "content": content,
            }),
            Open::Call(call) => json!({
                "id": id, "type": "function_call", "status": status, "call_id": call.id,
                "name": call.name, "arguments": call.arguments,
            }),
        }
    }

    fn emit(&mut self, events: &mut Vec<Event>, name: &'static str, mut body: Value) {
        if !self.out.stream {
            return;
        }
        if let Value::Object(fields) = &mut body {
            fields.insert("type".into(), name.into());
            fields.insert("sequence_number".into(), self.sequence.into());
        }
        self.sequence += 1;
        events.push((name, body));
    }

    fn response(&self, status: &str) -> Value {
        let mut response = self.out.echoed.clone();
        let mut put = |key: &str, value: Value| {
            response.insert(key.to_owned(), value);
        };
        for key in NEVER {
            put(key, Value::Null);
        }
        let cut = status == "incomplete";
        put("id", self.head.id.as_str().into());
        put("object", "response".into());
        put("created_at", self.head.created.into());
        put("model", self.head.model.as_str().into());
        put("status", status.into());
        put("output", self.items.clone().into());
        put("background", false.into());
        put("store", false.into());
        put("truncation", "disabled".into());
        put("service_tier", "default".into());
        put(
            "incomplete_details",
            if cut {
                json!({ "reason": "max_output_tokens" })
            } else {
                Value::Null
            },
        );
        put(
            "error",
            match &self.failure {
                Some(fault) => {
                    json!({ "code": code_of(fault.kind), "message": fault.message })
                }
                None => Value::Null,
            },
        );
        let usage = self.usage.as_deref();
        put("usage", usage.map_or(Value::Null, used));
        put(
            "completed_at",
            match usage {
                Some(usage) if !cut => self.head.after(usage.seconds).into(),
                _ => Value::Null,
            },
        );
        if let Some((_, detail)) = &self.end {
            add_details(&mut response, detail);
        }
        response.into()
    }
}

/// What a stateless server has nothing to say in.
const NEVER: [&str; 4] = [
    "previous_response_id",
    "conversation",
    "max_tool_calls",
    "prompt",
];

const fn status_after(finish: Finish) -> Status {
    match finish {
        Finish::Length => Status::Incomplete,
        Finish::Stop | Finish::ToolCalls => Status::Completed,
    }
}

const fn prefix(open: &Open) -> &'static str {
    match open {
        Open::Thought { .. } => "rs",
        Open::Text { .. } => "msg",
        Open::Call(_) => "fc",
    }
}

/// The part of an item as far as it is said; calls have none.
fn part(open: &Open) -> Option<Value> {
    Some(match open {
        Open::Thought { text } => json!({ "type": "reasoning_text", "text": text }),
        Open::Text { text, logprobs } => json!({
            "type": "output_text", "text": text, "annotations": [], "logprobs": logprobs,
        }),
        Open::Call(_) => return None,
    })
}

fn used(usage: &Usage) -> Value {
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| body.insert(key.to_owned(), value);
    put("input_tokens", usage.prompt_tokens.into());
    put(
        "input_tokens_details",
        json!({ "cached_tokens": usage.cached_tokens, "cache_write_tokens": 0 }),
    );
    put("output_tokens", usage.completion_tokens.into());
    put(
        "output_tokens_details",
        json!({ "reasoning_tokens": usage.reasoning_tokens }),
    );
    put(
        "total_tokens",
        usage
            .prompt_tokens
            .saturating_add(usage.completion_tokens)
            .into(),
    );
    add_cost(&mut body, usage);
    body.into()
}

/// The word for what went wrong, of those that clients know.
const fn code_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid | Kind::Schema | Kind::ContextLength => "invalid_prompt",
        Kind::RateLimit | Kind::Busy => "rate_limit_exceeded",
        _ => "server_error",
    }
}
