//! From TOML to values, with everything that is wrong collected on the way.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::{Given, Origin, Problem, closest};
use super::sections::{FIELDS, Section};

/// Collects what is wrong, and knows lines.
pub(super) struct Sink<'t> {
    text: &'t str,
    /// Lines with errors of TOML itself: what was made of them means nothing.
    broken: Vec<usize>,
    problems: Vec<Problem>,
}

impl<'t> Sink<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            broken: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The whole text, as far as it is TOML.
    pub(super) fn table(&mut self) -> Spanned<DeTable<'t>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let line = self.line(error.span().map_or(0, |span| span.start));
            // The first error of a line says what is wrong, more of them how confusing that was.
            if !self.broken.contains(&line) {
                self.tell(line, "TOML", error.message().replace('\n', ", "));
                self.broken.push(line);
            }
        }
        table
    }

    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        let broken = self.broken;
        self.problems.retain(|problem| match problem.origin {
            Origin::Line(line) => problem.place == "TOML" || !broken.contains(&line),
            _ => true,
        });
        self.problems
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.bytes().take(offset);
        1 + before.filter(|byte| *byte == b'\n').count()
    }

    fn tell(&mut self, line: usize, place: &str, message: String) {
        self.problems.push(Problem {
            origin: Origin::Line(line),
            place: place.to_owned(),
            message,
        });
    }
}

/// A type that can be written in TOML.
pub(super) trait Written: Sized {
    /// What is expected, for people.
    const EXPECTED: &'static str;
    /// Whether a list of them is checked further where some are not what is expected.
    const IS_OF_USE_IN_PART: bool = true;

    /// The value, or `None` if it is not what is expected.
    fn from_value(value: &DeValue<'_>) -> Option<Self>;

    /// The value, or `None` and what is wrong said where it is wrong.
    fn read(value: &Spanned<DeValue<'_>>, place: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let read = Self::from_value(value.get_ref());
        if read.is_none() {
            let line = sink.line(value.span().start);
            let got = shown(value.get_ref());
            sink.tell(
                line,
                place,
                format!("expected {}, got {got}", Self::EXPECTED),
            );
        }
        read
    }

    /// As TOML; `None` for nothing.
    fn written(&self) -> Option<String>;
}

/// A table, and what is read of it.
pub(super) struct Reader<'s, 't, 'v, 'i> {
    sink: &'s mut Sink<'t>,
    table: &'v DeTable<'i>,
    place: &'static str,
    taken: Vec<&'static str>,
}

impl<'s, 't, 'v, 'i> Reader<'s, 't, 'v, 'i> {
    pub(super) fn top(sink: &'s mut Sink<'t>, table: &'v DeTable<'i>) -> Self {
        Self {
            sink,
            table,
            place: "",
            taken: Vec::new(),
        }
    }

    /// Reads a section, if it is there.
    pub(super) fn section<S: Section>(&mut self, section: &mut S) {
        self.taken.push(S::NAME);
        let Some(value) = self.table.get(S::NAME) else {
            return;
        };
        let DeValue::Table(table) = value.get_ref() else {
            let line = self.sink.line(value.span().start);
            let message = format!("expected a section, got {}", shown(value.get_ref()));
            return self.sink.tell(line, S::NAME, message);
        };
        let mut reader = Reader {
            sink: &mut *self.sink,
            table,
            place: S::NAME,
            taken: Vec::new(),
        };
        section.read(&mut reader);
        reader.refuse_others();
    }

    /// Reads a field, if it is there.
    pub(super) fn field<T: Written>(&mut self, name: &'static str, to: &mut Given<T>) {
        if let Some((line, value)) = self.take(name) {
            to.value = value;
            to.origin = Origin::Line(line);
        }
    }

    fn take<T: Written>(&mut self, name: &'static str) -> Option<(usize, T)> {
        self.taken.push(name);
        let value = self.table.get(name)?;
        let place = format!("{}.{name}", self.place);
        let read = T::read(value, &place, self.sink)?;
        Some((self.sink.line(value.span().start), read))
    }

    /// Refuses sections that nobody has asked for.
    pub(super) fn refuse_other_sections(&mut self) {
        self.refuse("section", |name| {
            FIELDS
                .iter()
                .find(|(_, fields)| fields.contains(&name))
                .map(|(section, _)| format!("{section}.{name}"))
        });
    }

    /// Refuses fields that nobody has asked for.
    fn refuse_others(&mut self) {
        let here = self.place;
        self.refuse("setting", |name| {
            FIELDS
                .iter()
                .find(|(section, fields)| *section != here && fields.contains(&name))
                .map(|(section, _)| format!("{section}.{name}"))
        });
    }

    fn refuse(&mut self, what: &str, elsewhere: impl Fn(&str) -> Option<String>) {
        for name in self.table.keys() {
            let line = self.sink.line(name.span().start);
            let name: &str = name.get_ref();
            if self.taken.contains(&name) {
                continue;
            }
            let near = closest(name, self.taken.iter().copied()).map(ToOwned::to_owned);
            let message = match near.or_else(|| elsewhere(name)) {
                Some(meant) => format!("there is no such {what}; did you mean `{meant}`"),
                None => format!(
                    "there is no such {what}, expected {}",
                    self.taken.join(", ")
                ),
            };
            let dot = if self.place.is_empty() { "" } else { "." };
            let place = format!("{}{dot}{}", self.place, short(name));
            self.sink.tell(line, &place, message);
        }
    }
}

/// A text of a person's own file, cut where it is long.
fn short(text: &str) -> String {
    let mut cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", short(text)),
        DeValue::Integer(number) => short(&number.to_string()),
        DeValue::Float(number) => short(number.as_str()),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a section".into(),
    }
}

/// A text as TOML. JSON's escapes of what a basic string may not hold are TOML's too.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

impl Written for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_value(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Boolean(is) => Some(*is),
            _ => None,
        }
    }

    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! whole_numbers {
    ($($T:ty)+) => {$(
        impl Written for $T {
            const EXPECTED: &'static str = "a whole number from 0";

            fn from_value(value: &DeValue<'_>) -> Option<Self> {
                match value {
                    DeValue::Integer(number) => {
                        <$T>::from_str_radix(number.as_str(), number.radix()).ok()
                    }
                    _ => None,
                }
            }

            fn written(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}
whole_numbers!(u32 u64 usize);

impl Written for f64 {
    const EXPECTED: &'static str = "a number";

    fn from_value(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            _ => None,
        }
    }

    fn written(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

impl Written for String {
    const EXPECTED: &'static str = "a text in quotes";

    fn from_value(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::String(text) => Some(text.clone().into_owned()),
            _ => None,
        }
    }

    fn written(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Written for PathBuf {
    const EXPECTED: &'static str = "a path in quotes";

    fn from_value(value: &DeValue<'_>) -> Option<Self> {
        String::from_value(value).map(Self::from)
    }

    fn written(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl<T: Written> Written for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_value(value: &DeValue<'_>) -> Option<Self> {
        T::from_value(value).map(Some)
    }

    fn written(&self) -> Option<String> {
        self.as_ref()?.written()
    }
}

impl<T: Written> Written for Vec<T> {
    const EXPECTED: &'static str = "a list in brackets";

    fn from_value(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Array(list) => list
                .iter()
                .map(|item| T::from_value(item.get_ref()))
                .collect(),
            _ => None,
        }
    }

    fn read(value: &Spanned<DeValue<'_>>, place: &str, sink: &mut Sink<'_>) -> Option<Self> {
        let DeValue::Array(list) = value.get_ref() else {
            let line = sink.line(value.span().start);
            let got = shown(value.get_ref());
            sink.tell(
                line,
                place,
                format!("expected {}, got {got}", Self::EXPECTED),
            );
            return None;
        };
        // All items, so that all that is wrong is told.
        let items: Vec<Option<T>> = list.iter().map(|item| T::read(item, place, sink)).collect();
        if !T::IS_OF_USE_IN_PART {
            return items.into_iter().collect();
        }
        let n_items = items.len();
        let items: Self = items.into_iter().flatten().collect();
        (!items.is_empty() || n_items == 0).then_some(items)
    }

    fn written(&self) -> Option<String> {
        let items: Option<Vec<String>> = self.iter().map(Written::written).collect();
        Some(format!("[{}]", items?.join(", ")))
    }
}

/// What a table of a list holds.
pub(super) struct Item {
    pub(super) line: usize,
    pub(super) texts: Vec<Option<String>>,
    pub(super) aliases: Vec<String>,
}

/// Reads a table with these texts and `aliases`; anything else in it is refused.
pub(super) fn read_item(
    value: &Spanned<DeValue<'_>>,
    place: &'static str,
    texts: &[&'static str],
    sink: &mut Sink<'_>,
) -> Option<Item> {
    let line = sink.line(value.span().start);
    let DeValue::Table(table) = value.get_ref() else {
        let got = shown(value.get_ref());
        sink.tell(line, place, format!("expected a section, got {got}"));
        return None;
    };
    let n_before = sink.problems.len();
    let mut reader = Reader {
        sink: &mut *sink,
        table,
        place,
        taken: Vec::new(),
    };
    let texts = texts
        .iter()
        .map(|name| Some(reader.take(name)?.1))
        .collect();
    let aliases = reader.take("aliases").map(|(_, aliases)| aliases);
    reader.refuse("setting", |_| None);
    (sink.problems.len() == n_before).then(|| Item {
        line,
        texts,
        aliases: aliases.unwrap_or_default(),
    })
}

/// Tells what is wrong with an item as a whole.
pub(super) fn refuse_item(sink: &mut Sink<'_>, line: usize, place: &str, message: &str) {
    sink.tell(line, place, message.to_owned());
}
