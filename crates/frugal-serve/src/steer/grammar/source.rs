//! What a grammar is made of, and the notation the library reads.

use std::fmt::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::schema::{self, fault};
use crate::answer::ask::{Form, Limits};
use crate::wire::error::Fault;

/// White space between the parts of a JSON text: enough for any indentation, but not without end,
/// which is where weak models go to.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,64}";
/// Nesting of a [`Piece`].
const DEPTH: usize = 16;

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A JSON object.
    JsonObject,
    /// JSON of a schema.
    JsonSchema(Value),
    /// A text of a regular expression, from its beginning to its end.
    Regex(String),
    /// A grammar in Lark's notation, as llguidance has it. Control tokens that it names never come.
    Lark(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Put together by the server: calls of tools.
    Composed(Piece),
}

/// A piece of a composed grammar.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// This text.
    Text(String),
    /// This control token.
    Control(u32),
    /// JSON of a schema, the client's: checked as such.
    Json(Value),
    /// Any text, which ends where a control token or the end comes.
    AnyText,
    /// One after the other.
    All(Vec<Piece>),
    /// One of them.
    OneOf(Vec<Piece>),
    /// It, or nothing.
    Maybe(Box<Piece>),
    /// It, at least once.
    Repeated(Box<Piece>),
}

/// A source, checked, in a notation of the library.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Notation {
    Json(Value),
    Lark(String),
}

impl Source {
    /// What a form asks for; none where any text will do.
    pub fn of(form: &Form) -> Option<Self> {
        Some(match form {
            Form::Free => return None,
            Form::JsonObject => Self::JsonObject,
            Form::JsonSchema(schema) => Self::JsonSchema(schema.clone()),
            Form::Regex(expression) => Self::Regex(expression.clone()),
            Form::Lark(grammar) => Self::Lark(grammar.clone()),
            Form::Choice(texts) => Self::Choice(texts.clone()),
        })
    }

    /// Whether it may make the model write control tokens.
    pub(super) fn may_control(&self) -> bool {
        matches!(self, Self::Composed(_))
    }

    /// Checks it and writes it down.
    pub(super) fn notation(&self, limits: &Limits) -> Result<Notation, Fault> {
        let within = |what: &str, text: &str| {
            if text.len() <= limits.schema_bytes {
                return Ok(());
            }
            let most = limits.schema_bytes;
            Err(fault(format!(
                "{what}: expected at most {most} bytes, got {}",
                text.len()
            )))
        };
        Ok(match self {
            Self::JsonObject => Notation::Json(with_options(&json!({ "type": "object" }))?),
            Self::JsonSchema(schema) => {
                schema::check(schema, limits)?;
                Notation::Json(with_options(schema)?)
            }
            Self::Regex(expression) => {
                within("regular expression", expression)?;
                Notation::Lark(format!("start: /{}/\n", whole(expression)?))
            }
            Self::Lark(grammar) => {
                within("grammar", grammar)?;
                Notation::Lark(embedded(grammar, limits)?)
            }
            Self::Choice(texts) => {
                if texts.is_empty() {
                    return Err(fault("choice: expected at least one text, got none"));
                }
                let bytes: usize = texts.iter().map(|text| text.len() + 1).sum();
                if bytes > limits.schema_bytes {
                    let most = limits.schema_bytes;
                    return Err(fault(format!(
                        "choice: expected at most {most} bytes in all, got {bytes}"
                    )));
                }
                // One terminal, and so one automaton: as rules they would be followed side by side.
                let maybe = if texts.iter().any(String::is_empty) {
                    "?"
                } else {
                    ""
                };
                let texts = texts.iter().filter(|text| !text.is_empty());
                let texts: Vec<String> = texts.map(|text| quoted(text)).collect();
                Notation::Lark(if texts.is_empty() {
                    "start: \"\"\n".to_owned()
                } else {
                    format!("start: T{maybe}\nT: {}\n", texts.join(" | "))
                })
            }
            Self::Composed(piece) => {
                let mut writer = Writer {
                    rules: String::new(),
                    n_rules: 0,
                    limits,
                };
                let start = writer.rule(piece, DEPTH)?;
                Notation::Lark(format!("start: {start}\n{}", writer.rules))
            }
        })
    }
}

impl Notation {
    /// Names it among others.
    pub(super) fn digest(&self, may_control: bool) -> [u8; 32] {
        let (kind, text) = match self {
            Self::Json(schema) => (b'j', schema.to_string()),
            Self::Lark(grammar) => (b'l', grammar.clone()),
        };
        let hash = Sha256::new().chain_update([kind, u8::from(may_control)]);
        hash.chain_update(text).finalize().into()
    }
}

/// A schema with the library's options as we want them.
fn with_options(schema: &Value) -> Result<Value, Fault> {
    let mut schema = match schema {
        Value::Bool(false) => return Err(fault("schema: no value fits it")),
        Value::Object(fields) => fields.clone(),
        _ => serde_json::Map::new(),
    };
    schema.insert(
        "x-guidance".into(),
        json!({ "whitespace_pattern": WHITE_SPACE }),
    );
    Ok(Value::Object(schema))
}

/// A regular expression for a whole text, as it stands between slashes. Anchors at its ends mean
/// nothing more then.
fn whole(expression: &str) -> Result<String, Fault> {
    let inner = expression.strip_prefix('^').unwrap_or(expression);
    let slashes_at_end = |text: &str| text.len() - text.trim_end_matches('\\').len();
    let inner = match inner.strip_suffix('$') {
        Some(before) if slashes_at_end(before) % 2 == 0 => before,
        _ => inner,
    };
    if inner.is_empty() || slashes_at_end(inner) % 2 == 1 {
        return Err(fault(
            "regular expression: expected one that is not empty and not cut off",
        ));
    }
    Ok(llguidance::regex_to_lark(inner, ""))
}

/// A grammar of a client: schemas within are checked, and get our options.
fn embedded(grammar: &str, limits: &Limits) -> Result<String, Fault> {
    const MARK: &str = "%json";
    let mut out = String::with_capacity(grammar.len());
    let mut rest = grammar;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        out.push_str(before);
        rest = after;
        // What is no JSON here is none for the library either: a comment, or its error.
        let mut values = serde_json::Deserializer::from_str(after).into_iter::<Value>();
        if let Some(Ok(schema)) = values.next() {
            schema::check(&schema, limits)?;
            let end = values.byte_offset();
            out.push(' ');
            out.push_str(&with_options(&schema)?.to_string());
            rest = after.get(end..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// A text as Lark quotes it, which is as JSON does but for DEL.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// Writes pieces as rules.
struct Writer<'a> {
    rules: String,
    n_rules: usize,
    limits: &'a Limits,
}

impl Writer<'_> {
    /// Writes the rule of a piece and gives its name.
    fn rule(&mut self, piece: &Piece, depth: usize) -> Result<String, Fault> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(fault("tools: the grammar nests too deeply"));
        };
        let body = match piece {
            Piece::Text(text) => quoted(text),
            Piece::Control(id) => format!("<[{id}]>"),
            Piece::Json(schema) => {
                schema::check(schema, self.limits)?;
                format!("%json {}", with_options(schema)?)
            }
            Piece::AnyText => "/(?s:.*)/".to_owned(),
            Piece::All(pieces) => self.join(pieces, " ", depth)?,
            Piece::OneOf(pieces) => self.join(pieces, " | ", depth)?,
            Piece::Maybe(piece) => format!("{}?", self.rule(piece, depth)?),
            Piece::Repeated(piece) => format!("{}+", self.rule(piece, depth)?),
        };
        let name = format!("r{}", self.n_rules);
        self.n_rules += 1;
        let _ = writeln!(self.rules, "{name}: {body}");
        Ok(name)
    }

    fn join(&mut self, pieces: &[Piece], with: &str, depth: usize) -> Result<String, Fault> {
        if pieces.is_empty() {
            return Ok("\"\"".to_owned());
        }
        let names: Result<Vec<_>, _> = pieces.iter().map(|p| self.rule(p, depth)).collect();
        Ok(names?.join(with))
    }
}
