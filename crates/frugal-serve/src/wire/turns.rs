//! A conversation gathered from items or blocks, as chat completions have it.
//!
//! Responses and Anthropic's messages give a turn in parts: thoughts, texts, calls, and results of
//! calls. Here parts become messages, and what belongs together is checked: a result follows its
//! call, and every call has its result before anybody else speaks.

use serde_json::{Map, Value, json};

use super::error::Fault;
use crate::answer::{Limits, Prompt};

/// Calls of one turn. They are compared with each other.
const CALLS: usize = 128;

/// Gathers messages.
#[derive(Debug)]
pub(super) struct Conversation {
    messages: Vec<Value>,
    turn: Option<Turn>,
    waiting: Vec<Waiting>,
    most: usize,
    turns: Turns,
}

/// What becomes of two turns of the same side, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turns {
    /// They are two.
    Apart,
    /// They are one.
    Joined,
}

/// The assistant's turn, as far as it is gathered.
#[derive(Debug, Default)]
struct Turn {
    thought: Option<String>,
    text: Option<String>,
    calls: Vec<Value>,
}

/// A call without a result.
#[derive(Debug)]
struct Waiting {
    id: String,
    name: String,
}

/// A call of a tool.
#[derive(Debug)]
pub(super) struct Call {
    /// Its id.
    pub(super) id: String,
    /// The tool.
    pub(super) name: String,
    /// A JSON text.
    pub(super) arguments: String,
}

impl Conversation {
    /// An empty one.
    pub(super) const fn new(limits: &Limits, turns: Turns) -> Self {
        Self {
            messages: Vec::new(),
            turn: None,
            waiting: Vec::new(),
            most: limits.messages,
            turns,
        }
    }

    /// A message of the system or the user.
    pub(super) fn tell(&mut self, role: &str, text: &str, at: &str) -> Result<(), Fault> {
        self.nothing_waits(at)?;
        self.end_turn(at)?;
        if self.turns == Turns::Joined
            && let Some(Value::Object(last)) = self.messages.last_mut()
            && last.get("role").and_then(Value::as_str) == Some(role)
            && let Some(Value::String(content)) = last.get_mut("content")
        {
            content.push('\n');
            content.push_str(text);
            return Ok(());
        }
        self.add(json!({ "role": role, "content": text }), at)
    }

    /// The assistant thought.
    pub(super) fn think(&mut self, text: &str, at: &str) -> Result<(), Fault> {
        let turn = self.turn_for(at, |turn| turn.text.is_some() || !turn.calls.is_empty())?;
        turn.thought.get_or_insert_default().push_str(text);
        Ok(())
    }

    /// The assistant said.
    pub(super) fn say(&mut self, text: &str, at: &str) -> Result<(), Fault> {
        let turn = self.turn_for(at, |turn| turn.text.is_some() || !turn.calls.is_empty())?;
        turn.text.get_or_insert_default().push_str(text);
        Ok(())
    }

    /// The assistant called a tool.
    pub(super) fn call(&mut self, call: Call, at: &str) -> Result<(), Fault> {
        if self.waiting.iter().any(|waiting| waiting.id == call.id) {
            return Err(Fault::field(
                at,
                "a call with an id of its own",
                "one that is taken",
            ));
        }
        if self.waiting.len() >= CALLS {
            let expected = format!("at most {CALLS} calls without results");
            return Err(Fault::field(at, &expected, "more"));
        }
        let turn = self.turn_for(at, |_| false)?;
        turn.calls.push(json!({
            "id": call.id, "type": "function",
            "function": { "name": call.name, "arguments": call.arguments },
        }));
        let Call { id, name, .. } = call;
        self.waiting.push(Waiting { id, name });
        Ok(())
    }

    /// A tool's result.
    pub(super) fn result(&mut self, id: &str, text: &str, at: &str) -> Result<(), Fault> {
        self.end_turn(at)?;
        let Some(place) = self.waiting.iter().position(|waiting| waiting.id == id) else {
            return Err(Fault::field(
                at,
                "the result of a call before it that has none yet",
                "the id of no such call",
            ));
        };
        let name = self.waiting.remove(place).name;
        self.add(
            json!({ "role": "tool", "tool_call_id": id, "name": name, "content": text }),
            at,
        )
    }

    /// The first call that has no result, of this tool where one is named.
    pub(super) fn first_waiting(&self, tool: Option<&str>) -> Option<String> {
        let mut waiting = self.waiting.iter();
        let first = waiting.find(|waiting| tool.is_none_or(|tool| tool == waiting.name));
        first.map(|waiting| waiting.id.clone())
    }

    /// The assistant's turn is over.
    pub(super) fn end_turn(&mut self, at: &str) -> Result<(), Fault> {
        let Some(turn) = self.turn.take() else {
            return Ok(());
        };
        let mut message = Map::new();
        message.insert("role".into(), "assistant".into());
        message.insert("content".into(), turn.text.into());
        if let Some(thought) = turn.thought {
            message.insert("reasoning_content".into(), thought.into());
        }
        if !turn.calls.is_empty() {
            message.insert("tool_calls".into(), turn.calls.into());
        }
        self.add(message.into(), at)
    }

    /// All messages; at least one.
    pub(super) fn finish(mut self, at: &str) -> Result<Vec<Value>, Fault> {
        self.nothing_waits(at)?;
        self.end_turn(at)?;
        if self.messages.is_empty() {
            return Err(Fault::field(at, "at least one message", "none"));
        }
        Ok(self.messages)
    }

    /// The turn that goes on; a new one if none does or, where turns are kept apart, if it is
    /// `full`.
    fn turn_for(&mut self, at: &str, full: impl Fn(&Turn) -> bool) -> Result<&mut Turn, Fault> {
        if self.turns == Turns::Apart && self.turn.as_ref().is_some_and(full) {
            self.nothing_waits(at)?;
            self.end_turn(at)?;
        }
        if self.turn.is_none() {
            self.nothing_waits(at)?;
            self.there_is_room(at)?;
        }
        Ok(self.turn.get_or_insert_default())
    }

    fn nothing_waits(&self, at: &str) -> Result<(), Fault> {
        match self.waiting.len() {
            0 => Ok(()),
            waiting => Err(Fault::field(
                at,
                "the results of all tool calls before the conversation goes on",
                format_args!("{waiting} calls without one"),
            )),
        }
    }

    fn there_is_room(&self, at: &str) -> Result<(), Fault> {
        if self.messages.len() < self.most {
            return Ok(());
        }
        let expected = format!("at most {} messages", self.most);
        Err(Fault::field(at, &expected, "more"))
    }

    fn add(&mut self, message: Value, at: &str) -> Result<(), Fault> {
        self.there_is_room(at)?;
        self.messages.push(message);
        Ok(())
    }
}

/// The prompt that a conversation is, to be answered.
pub(super) const fn prompt(messages: Vec<Value>, variables: Map<String, Value>) -> Prompt {
    Prompt::Chat {
        messages,
        variables,
        continues_last: false,
        opens_turn: true,
    }
}

/// The same, except that the assistant's turn is continued where it is last.
pub(super) fn prompt_going_on(messages: Vec<Value>, variables: Map<String, Value>) -> Prompt {
    let role = messages.last().and_then(|message| message.get("role"));
    let continues_last = role.and_then(Value::as_str) == Some("assistant");
    Prompt::Chat {
        messages,
        variables,
        continues_last,
        opens_turn: !continues_last,
    }
}
