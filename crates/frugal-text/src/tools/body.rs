//! The JSON object of a call, character by character.

use std::collections::BTreeSet;

use serde::de::IgnoredAny;

/// The longest field that is passed over.
const MAX_PASSED_BYTES: usize = 256;

/// Names of tools.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    names: BTreeSet<String>,
    /// Bytes of the longest.
    pub(super) longest: usize,
}

impl Names {
    pub(super) fn new(names: &[String]) -> Self {
        Self {
            names: names.iter().cloned().collect(),
            longest: names.iter().map(String::len).max().unwrap_or(0),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// Finds the end of a JSON value that begins with a bracket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scan {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl Scan {
    /// Takes a character and tells whether the value ends with it.
    pub(super) fn step(&mut self, c: char) -> bool {
        if self.is_in_string {
            let was_escaped = std::mem::take(&mut self.is_escaped);
            match c {
                '\\' => self.is_escaped = !was_escaped,
                '"' if !was_escaped => self.is_in_string = false,
                _ => {}
            }
            return false;
        }
        match c {
            '"' => self.is_in_string = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.depth == 0
    }

    pub(super) const fn is_in_string(&self) -> bool {
        self.is_in_string
    }

    /// Whether JSON may have this character here.
    fn may_take(&self, c: char) -> bool {
        self.is_in_string || is_blank(c) || c.is_ascii_alphanumeric() || "{}[]:,\"+-.".contains(c)
    }
}

/// White space of JSON.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Where such an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Between marks.
    Marked,
    /// It is the whole answer. Here an object without arguments is not a call: an answer may be JSON.
    Whole,
}

/// What a character does to a [`Body`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It belongs to the object.
    More,
    /// This cannot be a call; the character is not taken.
    Fail,
    /// A call for sure; the character, not taken, begins its arguments.
    Begins(String),
    /// The object ends, and with it a call whose arguments came too early or not at all.
    Whole { name: String, arguments: String },
    /// The object of a call that has begun ends.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Arguments,
    Passed,
}

#[derive(Debug, Clone)]
enum Stage {
    Open,
    Key,
    InKey(String),
    Colon(Field),
    Value(Field),
    InText {
        field: Field,
        raw: String,
        is_escaped: bool,
    },
    Early(Scan, String),
    Next,
}

/// An object with a name and arguments, in any order.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) shape: Shape,
    stage: Stage,
    name: Option<String>,
    arguments: Option<String>,
    /// Whether its call has been told of.
    pub(super) has_begun: bool,
}

impl Body {
    pub(super) const fn new(shape: Shape) -> Self {
        Self {
            shape,
            stage: Stage::Open,
            name: None,
            arguments: None,
            has_begun: false,
        }
    }

    pub(super) fn step(&mut self, c: char, names: &Names) -> Step {
        match &mut self.stage {
            Stage::InKey(_) => self.in_key(c),
            Stage::InText { .. } => self.in_text(c, names),
            Stage::Early(scan, raw) => {
                if !scan.may_take(c) {
                    return Step::Fail;
                }
                raw.push(c);
                if scan.step(c) {
                    if serde_json::from_str::<IgnoredAny>(raw).is_err() {
                        return Step::Fail;
                    }
                    self.arguments = Some(std::mem::take(raw));
                    self.stage = Stage::Next;
                }
                Step::More
            }
            _ if is_blank(c) => Step::More,
            Stage::Open if c == '{' => self.go(Stage::Key),
            Stage::Key if c == '"' => self.go(Stage::InKey(String::new())),
            Stage::Colon(field) if c == ':' => {
                let stage = Stage::Value(*field);
                self.go(stage)
            }
            Stage::Value(Field::Arguments) if c == '{' => self.arguments_begin(c),
            Stage::Value(field) if c == '"' && *field != Field::Arguments => {
                let stage = Stage::InText {
                    field: *field,
                    raw: c.to_string(),
                    is_escaped: false,
                };
                self.go(stage)
            }
            Stage::Next if c == ',' => self.go(Stage::Key),
            Stage::Next if c == '}' => self.closed(),
            _ => Step::Fail,
        }
    }

    fn go(&mut self, stage: Stage) -> Step {
        self.stage = stage;
        Step::More
    }

    fn in_key(&mut self, c: char) -> Step {
        let Stage::InKey(key) = &mut self.stage else {
            return Step::Fail;
        };
        if c != '"' {
            key.push(c);
            let is_short = key.len() <= "parameters".len();
            return if is_short { Step::More } else { Step::Fail };
        }
        let has_arguments = self.has_begun || self.arguments.is_some();
        let field = match key.as_str() {
            "name" if self.name.is_none() => Field::Name,
            "arguments" | "parameters" if !has_arguments => Field::Arguments,
            "type" | "id" => Field::Passed,
            _ => return Step::Fail,
        };
        self.go(Stage::Colon(field))
    }

    fn in_text(&mut self, c: char, names: &Names) -> Step {
        let Stage::InText {
            field,
            raw,
            is_escaped,
        } = &mut self.stage
        else {
            return Step::Fail;
        };
        raw.push(c);
        let was_escaped = std::mem::take(is_escaped);
        if c != '"' || was_escaped {
            *is_escaped = c == '\\' && !was_escaped;
            // A letter may be written as six.
            let limit = match field {
                Field::Name => 2 + 6 * names.longest,
                _ => MAX_PASSED_BYTES,
            };
            return if raw.len() <= limit {
                Step::More
            } else {
                Step::Fail
            };
        }
        if *field == Field::Name {
            match serde_json::from_str::<String>(raw) {
                Ok(name) if names.has(&name) => self.name = Some(name),
                _ => return Step::Fail,
            }
        }
        self.go(Stage::Next)
    }

    fn arguments_begin(&mut self, c: char) -> Step {
        if let Some(name) = &self.name {
            self.has_begun = true;
            self.stage = Stage::Next;
            return Step::Begins(name.clone());
        }
        let mut scan = Scan::default();
        scan.step(c);
        self.go(Stage::Early(scan, c.to_string()))
    }

    fn closed(&mut self) -> Step {
        if self.has_begun {
            return Step::Closed;
        }
        let none = (self.shape == Shape::Marked).then(|| "{}".to_string());
        match (self.name.take(), self.arguments.take().or(none)) {
            (Some(name), Some(arguments)) => Step::Whole { name, arguments },
            _ => Step::Fail,
        }
    }
}
