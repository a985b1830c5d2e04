//! What a call looks like, for drawing one by force.

use serde_json::{Value, json};

use super::{CLOSE, Format, Mark, OPEN, Style};

/// Words by which a schema speaks of more properties than it names.
const MORE: [&str; 8] = [
    "additionalProperties",
    "unevaluatedProperties",
    "patternProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "if",
    "$ref",
];

/// A tool that may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON Schema of its arguments, always that of an object.
    pub parameters: Value,
}

impl Tool {
    /// From OpenAI's `{"type": "function", "function": {"name", "parameters"}}`. Without parameters
    /// it takes none, and none but those it names unless they speak of more. Nothing if it has no name.
    pub fn from_openai(tool: &Value) -> Option<Self> {
        let function = tool.get("function")?;
        let name = function.get("name")?.as_str()?.to_string();
        let given = function
            .get("parameters")
            .filter(|schema| !schema.is_null());
        let none = || json!({ "type": "object", "properties": {}, "additionalProperties": false });
        let mut parameters = given.cloned().unwrap_or_else(none);
        // A schema that says nothing of the type would let a call have a number for its arguments.
        if let Value::Object(schema) = &mut parameters {
            schema.entry("type").or_insert_with(|| "object".into());
            // Functions refuse arguments that they do not name, and schemas seldom say so.
            let names_all = schema.contains_key("properties")
                && !MORE.iter().any(|word| schema.contains_key(*word));
            if names_all {
                schema.insert("additionalProperties".into(), false.into());
            }
        }
        Some(Self { name, parameters })
    }
}

/// How many calls one answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// One.
    One,
    /// One or more.
    Many,
}

/// A part of what is to be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// A control token.
    Control(u32),
    /// A text, to the letter.
    Text(String),
    /// JSON of a schema.
    Json(Value),
}

/// The calls of one answer: `before`, one of `calls`, as often as `count` allows one of `calls` after
/// `between`, and `after`. Then the answer ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Grammar {
    /// Once, before the first call.
    pub before: Vec<Piece>,
    /// The calls there may be, one for each tool.
    pub calls: Vec<Vec<Piece>>,
    /// Between two calls.
    pub between: Vec<Piece>,
    /// Once, after the last call.
    pub after: Vec<Piece>,
    /// How many.
    pub count: Count,
}

impl Format {
    /// What an answer looks like that consists of calls of these tools. Llama's form has room for one
    /// call, whatever the count.
    pub fn grammar(&self, tools: &[Tool], count: Count) -> Grammar {
        let named = |name: &str| Value::from(name).to_string();
        let deepseek = [
            vec![self.piece(Mark::CallsBegin)],
            vec![self.piece(Mark::CallsEnd)],
        ];
        let ([before, after], between, count) = match self.style {
            Style::DeepseekV3 => (deepseek, vec![text("\n")], count),
            Style::DeepseekV31 => (deepseek, Vec::new(), count),
            Style::Hermes | Style::Plain => ([Vec::new(), Vec::new()], vec![text("\n")], count),
            Style::Llama => ([Vec::new(), Vec::new()], Vec::new(), Count::One),
        };
        let call = |tool: &Tool| {
            let schema = Piece::Json(tool.parameters.clone());
            let begins = [Mark::CallBegin, Mark::Separator].map(|mark| self.piece(mark));
            let [call_begin, separator] = begins;
            let call_end = self.piece(Mark::CallEnd);
            let name = &tool.name;
            match self.style {
                Style::DeepseekV3 => vec![
                    call_begin,
                    text("function"),
                    separator,
                    text(&format!("{name}\n```json\n")),
                    schema,
                    text("\n```"),
                    call_end,
                ],
                Style::DeepseekV31 => vec![call_begin, text(name), separator, schema, call_end],
                Style::Hermes | Style::Plain => {
                    let head = format!("\n{{\"name\": {}, \"arguments\": ", named(name));
                    let [open, close] = [Mark::Open, Mark::Close].map(|mark| self.piece(mark));
                    joined([open, text(&head), schema, text("}\n"), close])
                }
                Style::Llama => {
                    let head = format!("{{\"name\": {}, \"parameters\": ", named(name));
                    vec![text(&head), schema, text("}")]
                }
            }
        };
        Grammar {
            before,
            calls: tools.iter().map(call).collect(),
            between,
            after,
            count,
        }
    }

    /// A mark as its control token, or spelled where the vocabulary has none.
    fn piece(&self, mark: Mark) -> Piece {
        // A model that is told of our form has seen it spelled.
        let is_spelled = self.is_spelled();
        let token = self.marks.iter().find(|(_, other)| **other == mark);
        match (token, mark) {
            (Some((id, _)), _) if !is_spelled => Piece::Control(*id),
            (_, Mark::Open) => text(OPEN),
            (_, Mark::Close) => text(CLOSE),
            // Styles with other marks are found by their control tokens.
            _ => text(""),
        }
    }
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_string())
}

/// Neighbouring texts as one.
fn joined(pieces: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (all.last_mut(), piece) {
            (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
            (_, piece) => all.push(piece),
        }
    }
    all
}
