//! Conversations with tools in the form that a model's template takes.

use serde_json::{Map, Value, json};

use super::{Arguments, CLOSE, Count, Format, OPEN, Style};
use crate::chat::message;

/// The arguments of a call are no JSON object, which this model's template needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a JSON object as arguments of call {call} of message {message}")]
pub struct BadArguments {
    /// Which message.
    pub message: usize,
    /// Which of its calls.
    pub call: usize,
}

impl Format {
    /// Whether the template is given the tools; otherwise [`Format::declare`] tells of them.
    pub fn is_declared_by_template(&self) -> bool {
        self.style != Style::Plain
    }

    /// Messages as OpenAI's API writes them in the form that the template takes: arguments as text or
    /// as objects, contents where there is none, and what the template does not know as text.
    ///
    /// *Errors*: arguments that are no JSON object, where the template needs one.
    pub fn history(&self, messages: &[Value]) -> Result<Vec<Value>, BadArguments> {
        let mut all = Vec::with_capacity(messages.len());
        for (at, one) in messages.iter().enumerate() {
            let mut one = one.clone();
            let calls = one.get("tool_calls").and_then(Value::as_array);
            let calls = calls.filter(|calls| !calls.is_empty()).cloned();
            if let Value::Object(fields) = &mut one {
                fields.shift_remove("tool_calls");
                let content = fields.entry("content").or_insert(Value::Null);
                if content.is_null() {
                    *content = "".into();
                }
            }
            let role = one.get("role").and_then(Value::as_str).unwrap_or_default();
            match (calls, role) {
                (Some(calls), _) if self.style == Style::Plain => spell_calls(&mut one, &calls),
                (Some(calls), _) => {
                    self.add_calls(&mut all, &mut one, &calls)
                        .map_err(|call| BadArguments { message: at, call })?;
                }
                (None, "tool") if self.style == Style::Plain => {
                    add_result(&mut all, &one);
                    continue;
                }
                (None, _) => {}
            }
            all.push(one);
        }
        Ok(all)
    }

    /// Tells of tools in words of our own, in the system message or where a template takes none, in
    /// the first message.
    pub fn declare(&self, messages: &mut Vec<Value>, tools: &[Value], count: Count) {
        let words = in_words(tools, count);
        let role = if self.has_system { "system" } else { "user" };
        let first = messages
            .first_mut()
            .filter(|first| first.get("role").is_some_and(|other| other == role));
        match first.and_then(|first| first.get_mut("content")) {
            Some(Value::String(text)) if self.has_system => {
                *text = format!("{text}\n\n{words}");
            }
            Some(Value::String(text)) => *text = format!("{words}\n\n{text}"),
            _ => messages.insert(0, message(role, &words)),
        }
    }

    /// Puts calls into a message; the number of a call in the way is the error.
    fn add_calls(
        &self,
        all: &mut Vec<Value>,
        one: &mut Value,
        calls: &[Value],
    ) -> Result<(), usize> {
        let calls: Result<Vec<Value>, usize> = calls
            .iter()
            .enumerate()
            .map(|(at, call)| self.call(call).ok_or(at))
            .collect();
        let Value::Object(fields) = one else {
            return Ok(());
        };
        if fields.get("content").is_some_and(|content| content == "") {
            fields.insert("content".into(), Value::Null);
        } else if !self.has_text_beside {
            // Some templates drop one of the two; nothing is lost in two messages.
            let content = fields.insert("content".into(), Value::Null);
            let mut before = fields.clone();
            before.insert("content".into(), content.unwrap_or_default());
            fields.shift_remove("reasoning_content");
            all.push(Value::Object(before));
        }
        fields.insert("tool_calls".into(), calls?.into());
        Ok(())
    }

    fn call(&self, call: &Value) -> Option<Value> {
        let arguments = match self.arguments {
            Arguments::Text => arguments_text(call).into(),
            Arguments::Object => {
                let object: Map<String, Value> =
                    serde_json::from_str(&arguments_text(call)).ok()?;
                Value::Object(object)
            }
        };
        let mut call = call.clone();
        if let Value::Object(fields) = &mut call {
            fields.entry("type").or_insert_with(|| "function".into());
            if let Some(Value::Object(function)) = fields.get_mut("function") {
                function.insert("arguments".into(), arguments);
            }
        }
        Some(call)
    }
}

/// The arguments of a call as text; none count as those of a tool that takes none.
fn arguments_text(call: &Value) -> String {
    match call.pointer("/function/arguments") {
        None | Some(Value::Null) => "{}".to_string(),
        Some(Value::String(text)) if text.trim().is_empty() => "{}".to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Writes calls into the text of a message.
fn spell_calls(one: &mut Value, calls: &[Value]) {
    let Some(Value::String(content)) = one.get_mut("content") else {
        return;
    };
    for call in calls {
        let name = call.pointer("/function/name").unwrap_or(&Value::Null);
        if !content.is_empty() {
            content.push('\n');
        }
        let arguments = arguments_text(call);
        let call = format!("{OPEN}\n{{\"name\": {name}, \"arguments\": {arguments}}}\n{CLOSE}");
        content.push_str(&call);
    }
}

/// Writes a result as a message of the user; results that follow each other into one, since some
/// templates want roles to alternate.
fn add_result(all: &mut Vec<Value>, one: &Value) {
    let content = one
        .get("content")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let text = format!("<tool_response>\n{content}\n</tool_response>");
    let is_result = |last: &&mut Value| {
        let text = last.get("content").and_then(Value::as_str);
        last.get("role").is_some_and(|role| role == "user")
            && text.is_some_and(|text| text.ends_with("</tool_response>"))
    };
    match all
        .last_mut()
        .filter(is_result)
        .and_then(|last| last.get_mut("content"))
    {
        Some(Value::String(before)) => {
            before.push('\n');
            before.push_str(&text);
        }
        _ => all.push(message("user", &text)),
    }
}

/// Tools and how to call them, in words.
fn in_words(tools: &[Value], count: Count) -> String {
    let mut words =
        "You may call tools. Each is a function, whose arguments are described by a JSON \
        Schema:\n"
            .to_string();
    for tool in tools {
        let function = tool.get("function").unwrap_or(tool);
        let told: Map<String, Value> = ["name", "description", "parameters"]
            .into_iter()
            .filter_map(|field| Some((field.to_string(), function.get(field)?.clone())))
            .collect();
        words.push_str(&json!(told).to_string());
        words.push('\n');
    }
    words.push_str(
        "\nTo call a tool, write its name and its arguments like this, and end your answer there:\n\
        <tool_call>\n{\"name\": \"name_of_the_tool\", \"arguments\": {\"argument\": \"value\"}}\n\
        </tool_call>\n",
    );
    words.push_str(match count {
        Count::One => "Call one tool at most.",
        Count::Many => "To call several, write several such blocks, one after another.",
    });
    words.push_str(
        " The results come back inside <tool_response></tool_response>. Call a tool only where it \
        helps; otherwise answer in plain words.",
    );
    words
}
