//! Thinking, in the dialects that have words of their own for it.
//!
//! Each rewrites its words to those of chat completions; those are taken beside them, so that every
//! spelling acts on every route, and two that contradict each other are refused.

use serde_json::{Map, Value};

use super::error::Fault;
use super::fields::Fields;
use super::thinking::{self, Thoughts};
use crate::answer::Limits;

/// The spelling of an effort in chat completions.
const EFFORT: &str = "reasoning_effort";

/// What a dialect says in words of its own.
#[derive(Debug, Default)]
pub(super) struct Own<'a> {
    /// `thinking`, rewritten.
    pub(super) thinking: Option<Value>,
    /// A word of effort, and where it stands.
    pub(super) effort: Option<(&'static str, &'a Value)>,
}

/// Takes the spellings of chat completions, `thinking` apart, and puts the dialect's own beside them.
pub(super) fn take(
    fields: &mut Fields<'_>,
    own: Own<'_>,
    limits: &Limits,
) -> Result<Thoughts, Fault> {
    let mut all = Map::new();
    if let Some(thinking) = own.thinking {
        all.insert("thinking".into(), thinking);
    }
    for name in ["thinking_token_budget", "chat_template_kwargs", EFFORT] {
        if let Some(value) = fields.take(name) {
            all.insert(name.into(), value.clone());
        }
    }
    if let Some((at, word)) = own.effort {
        let before = all.insert(EFFORT.into(), word.clone());
        if before.is_some_and(|before| before != *word) {
            return Err(fields.against(EFFORT, &format!("contradicts {at}")));
        }
    }
    let all = Value::Object(all);
    let taken = thinking::take(&mut Fields::of(&all, "")?, limits);
    taken.map_err(|fault| match own.effort {
        Some((at, _)) if fault.param.as_deref() == Some(EFFORT) => {
            let mut fault = fault.at(at);
            fault.message = fault.message.replacen(EFFORT, at, 1);
            fault
        }
        _ => fault,
    })
}
