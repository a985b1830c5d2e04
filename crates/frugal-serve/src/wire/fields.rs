//! Reading requests: bytes to JSON within limits ([`read`]), and the fields of an object by name
//! ([`Fields`]).
//!
//! ```text
//! let body = read(bytes, &limits)?;
//! let mut fields = Fields::of(&body, "")?;
//! let model = fields.text("model", 256)?.ok_or_else(|| fields.missing("model"))?;
//! let n = fields.count("n", 1..=limits.n)?.unwrap_or(1);
//! fields.refuse("audio", "no model here speaks")?;
//! fields.finish()?; // 400 `unknown field` for whatever was not taken
//! ```
//!
//! Each field is taken by name with its type, range and size, and what nobody took is refused, so
//! that no field is ever ignored. `null` is the same as not given. Every fault names its field by
//! the path from the body (`messages[3].content[0].type`) and shows a few words at most of what the
//! client sent. A whole number may be written `1.0`, as JSON Schema has it.

use std::fmt::Write as _;
use std::io;
use std::ops::RangeInclusive;

use frugal_model::json::Unique;
use serde::Deserialize as _;
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::error::{Fault, Kind};
use crate::answer::Limits;

/// Bytes of a client's own words in a fault, at most.
const SHOWN: usize = 60;
/// Values in a body at most. A value takes some forty bytes of memory, and may be two bytes of text.
const MOST_VALUES: usize = 1 << 20;
/// Whole numbers up to this are exact as floating point.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a body: UTF-8, JSON, nothing after it, no name twice in an object, within the limits of
/// bytes and nesting.
pub(crate) fn read(bytes: &[u8], limits: &Limits) -> Result<Value, Fault> {
    if bytes.len() > limits.body_bytes {
        let (most, got) = (limits.body_bytes, bytes.len());
        let words = format!("expected a body of at most {most} bytes, got {got}");
        return Err(Fault::new(Kind::TooLarge, words));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        invalid(format!("expected UTF-8, got other bytes at byte {at}"))
    })?;
    nested(text, limits.depth)?;
    if text.trim_ascii().is_empty() {
        return Err(invalid("expected a JSON object, got an empty body"));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let Unique(value) = Unique::deserialize(&mut reader).map_err(|e| {
        let what = match e.classify() {
            Category::Data => "a name comes twice in one object",
            Category::Eof => "the JSON breaks off",
            Category::Syntax | Category::Io => "this is no JSON",
        };
        invalid(located(what, &e))
    })?;
    reader
        .end()
        .map_err(|e| invalid(located("expected nothing after the JSON", &e)))?;
    Ok(value)
}

/// Refuses text with more brackets open at once than `depth`, or more values than there may be, before
/// anything is built of it.
fn nested(text: &str, depth: usize) -> Result<(), Fault> {
    let (mut open, mut is_string, mut is_escaped) = (0_usize, false, false);
    let mut values = 0_usize;
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => {
                open += 1;
                values += 1;
            }
            b']' | b'}' if !is_string => open = open.saturating_sub(1),
            b',' if !is_string => values += 1,
            _ => {}
        }
        if values > MOST_VALUES {
            let words = format!("expected at most {MOST_VALUES} values in JSON, got more");
            return Err(invalid(words));
        }
        if open > depth {
            let words = format!("expected JSON nested at most {depth} deep, got more");
            return Err(invalid(words));
        }
    }
    Ok(())
}

fn located(what: &str, error: &serde_json::Error) -> String {
    format!("{what}: line {}, column {}", error.line(), error.column())
}

fn invalid(words: impl Into<String>) -> Fault {
    Fault::new(Kind::Invalid, words)
}

/// An object of which fields are taken one by one.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
    taken: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// An object found at a path; the body's own is empty.
    pub(crate) fn of(value: &'a Value, path: &str) -> Result<Self, Fault> {
        let Some(object) = value.as_object() else {
            return Err(match path {
                "" => invalid(format!("expected a JSON object, got {}", shown(value))),
                _ => Fault::field(path, "an object", shown(value)),
            });
        };
        Ok(Self {
            object,
            path: path.to_owned(),
            taken: Vec::new(),
        })
    }

    /// The path of a field, as faults name it.
    pub(crate) fn path(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    /// Whether a field is given; does not take it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|value| !value.is_null())
    }

    /// A field of any type.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        if !self.taken.contains(&name) {
            self.taken.push(name);
        }
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A string of at most so many bytes.
    pub(crate) fn text(
        &mut self,
        name: &'static str,
        most_bytes: usize,
    ) -> Result<Option<&'a str>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        text(value, &self.path(name), most_bytes).map(Some)
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let found = words.iter().find(|(word, _)| Some(*word) == value.as_str());
        if let Some((_, meaning)) = found {
            return Ok(Some(*meaning));
        }
        let words = words.iter().map(|(word, _)| *word);
        Err(self.wrong(name, &one_of(words), value))
    }

    /// True or false.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => Err(self.wrong(name, "true or false", value)),
        }
    }

    /// A whole number in a range.
    pub(crate) fn integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match whole(value).filter(|whole| range.contains(whole)) {
            Some(whole) => Ok(Some(whole)),
            None => Err(self.wrong(name, &within("a whole number", &range), value)),
        }
    }

    /// A count in a range.
    pub(crate) fn count(
        &mut self,
        name: &'static str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let count = whole(value).and_then(|whole| usize::try_from(whole).ok());
        match count.filter(|count| range.contains(count)) {
            Some(count) => Ok(Some(count)),
            None => Err(self.wrong(name, &within("a whole number", &range), value)),
        }
    }

    /// A number in a range.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<f32>,
    ) -> Result<Option<f32>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match number(value, &range) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, &within("a number", &range), value)),
        }
    }

    /// An array of at most so many items; [`item`] names them.
    pub(crate) fn list(
        &mut self,
        name: &'static str,
        most: usize,
    ) -> Result<Option<&'a [Value]>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.as_array().filter(|items| items.len() <= most) {
            Some(items) => Ok(Some(items)),
            None => Err(self.wrong(name, &format!("an array of at most {most} items"), value)),
        }
    }

    /// An object whose fields are taken one by one in turn.
    pub(crate) fn object(&mut self, name: &'static str) -> Result<Option<Fields<'a>>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        Fields::of(value, &self.path(name)).map(Some)
    }

    /// Refuses a field, if it is given, with the reason.
    pub(crate) fn refuse(&mut self, name: &'static str, why: &str) -> Result<(), Fault> {
        match self.take(name) {
            None => Ok(()),
            Some(_) => Err(self.against(name, why)),
        }
    }

    /// The fault of a field with another value than expected.
    pub(crate) fn wrong(&self, name: &str, expected: &str, got: &Value) -> Fault {
        Fault::field(&self.path(name), expected, shown(got))
    }

    /// The fault of a field for a reason.
    pub(crate) fn against(&self, name: &str, why: &str) -> Fault {
        let path = self.path(name);
        invalid(format!("{path}: {why}")).at(&path)
    }

    /// The fault of a field that must be given.
    pub(crate) fn missing(&self, name: &str) -> Fault {
        Fault::field(&self.path(name), "a value", "none")
    }

    /// All that was not taken, where any name will do; instead of [`Self::finish`].
    pub(crate) fn rest(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let Self { object, taken, .. } = self;
        let rest = object
            .iter()
            .filter(move |(name, _)| !taken.contains(&name.as_str()));
        rest.map(|(name, value)| (name.as_str(), value))
    }

    /// Refuses what was not taken. The time does not depend on how many fields were sent: the first
    /// unknown one ends it.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        let mut names = self.object.keys().map(String::as_str);
        match names.find(|name| !self.taken.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let path = self.path(clipped(name));
                Err(invalid(format!("{path}: unknown field")).at(&path))
            }
        }
    }
}

/// The path of an item of an array.
pub(crate) fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// A value as a string of at most so many bytes.
pub(crate) fn text<'a>(value: &'a Value, path: &str, most_bytes: usize) -> Result<&'a str, Fault> {
    let text = value
        .as_str()
        .ok_or_else(|| Fault::field(path, "a string", shown(value)))?;
    if text.len() <= most_bytes {
        return Ok(text);
    }
    let expected = format!("a string of at most {most_bytes} bytes");
    Err(Fault::field(path, &expected, text.len()))
}

/// A value as a token id.
pub(crate) fn token_id(value: &Value, path: &str) -> Result<u32, Fault> {
    whole(value)
        .and_then(|whole| u32::try_from(whole).ok())
        .ok_or_else(|| Fault::field(path, "a token id", shown(value)))
}

/// A value as a number in a range.
pub(crate) fn number(value: &Value, range: &RangeInclusive<f32>) -> Option<f32> {
    let number = value.as_f64()?;
    let fits = (f64::from(*range.start())..=f64::from(*range.end())).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within the range, and as near as f32 comes"
    )]
    fits.then_some(number as f32)
}

/// A value as a whole number.
fn whole(value: &Value) -> Option<i64> {
    if let Some(whole) = value.as_i64() {
        return Some(whole);
    }
    let number = value.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "whole and exact")]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// The bytes that a value has as JSON without spaces; nothing is written anywhere.
pub(crate) fn json_bytes(value: &Value) -> usize {
    struct Counted(usize);
    impl io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(0);
    match serde_json::to_writer(&mut counted, value) {
        Ok(()) => counted.0,
        Err(_) => usize::MAX,
    }
}

/// What came, in a few words.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => clipped(&number.to_string()).into(),
        Value::String(text) if text.len() <= SHOWN => format!("{text:?}"),
        Value::String(text) => format!("{:?} and more", clipped(text)),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(_) => "an object".into(),
    }
}

/// The beginning of a text.
pub(crate) fn clipped(text: &str) -> &str {
    let end = text.floor_char_boundary(SHOWN);
    text.get(..end).unwrap_or_default()
}

/// "one of" and words.
pub(crate) fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from("one of");
    for (index, word) in words.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(text, "{comma} {word:?}");
    }
    text
}

fn within<T: std::fmt::Display>(what: &str, range: &RangeInclusive<T>) -> String {
    format!("{what} from {} to {}", range.start(), range.end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const LIMITS: Limits = Limits {
        body_bytes: 200,
        depth: 4,
        ..Limits::USUAL
    };

    #[test]
    fn bodies_are_read_within_limits() {
        let long = format!("\"{}\"", "x".repeat(199));
        let refused: [(&[u8], &str, Kind); 14] = [
            (
                long.as_bytes(),
                "expected a body of at most 200 bytes, got 201",
                Kind::TooLarge,
            ),
            (
                b"",
                "expected a JSON object, got an empty body",
                Kind::Invalid,
            ),
            (
                b" \r\n\t",
                "expected a JSON object, got an empty body",
                Kind::Invalid,
            ),
            (
                b"{\"a\":\"\xff\"}",
                "expected UTF-8, got other bytes at byte 6",
                Kind::Invalid,
            ),
            (
                b"[[[[[",
                "expected JSON nested at most 4 deep, got more",
                Kind::Invalid,
            ),
            (
                b"[[[{\"a\":[]}]]]",
                "expected JSON nested at most 4 deep, got more",
                Kind::Invalid,
            ),
            (
                b"{\"a\":1",
                "the JSON breaks off: line 1, column 6",
                Kind::Invalid,
            ),
            (
                b"{\"a\":1,}",
                "this is no JSON: line 1, column 8",
                Kind::Invalid,
            ),
            (
                b"{'a':1}",
                "this is no JSON: line 1, column 2",
                Kind::Invalid,
            ),
            (b"NaN", "this is no JSON: line 1, column 1", Kind::Invalid),
            (
                b"\"\\ud800\"",
                "this is no JSON: line 1, column 8",
                Kind::Invalid,
            ),
            (
                b"{} {}",
                "expected nothing after the JSON: line 1, column 4",
                Kind::Invalid,
            ),
            (
                b"{\"a\":1,\"a\":1}",
                "a name comes twice in one object: line 1, column 10",
                Kind::Invalid,
            ),
            (
                b"{\"a\":1,\"\\u0061\":1}",
                "a name comes twice in one object: line 1, column 15",
                Kind::Invalid,
            ),
        ];
        for (bytes, message, kind) in refused {
            let fault = read(bytes, &LIMITS).unwrap_err();
            assert_eq!((fault.message.as_str(), fault.kind), (message, kind));
        }
        let limits = Limits {
            body_bytes: 1 << 22,
            ..LIMITS
        };
        for value in ["0,", "[],", "{},"] {
            let many = format!("[{}0]", value.repeat(MOST_VALUES));
            let fault = read(many.as_bytes(), &limits).unwrap_err();
            assert_eq!(
                fault.message,
                "expected at most 1048576 values in JSON, got more"
            );
        }
        for text in [
            "{}",
            "[[[[]]]]",
            r#"{"a":"]]\"[[[[[[{{{{"}"#,
            "1",
            " null\n",
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(read(text.as_bytes(), &LIMITS).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn fields_are_taken_by_type_and_range() {
        let body = json!({
            "text": "abc", "word": "low", "flag": true, "integer": -3, "count": 4.0, "number": 0.5,
            "list": [1, 2], "object": {"inner": {"x": 1}}, "null": null,
        });
        let mut fields = Fields::of(&body, "").unwrap();
        assert_eq!(fields.text("text", 3).unwrap(), Some("abc"));
        assert_eq!(
            fields.word("word", &[("low", 1), ("high", 2)]).unwrap(),
            Some(1)
        );
        assert_eq!(fields.flag("flag").unwrap(), Some(true));
        assert_eq!(fields.integer("integer", -5..=5).unwrap(), Some(-3));
        assert_eq!(fields.count("count", 1..=4).unwrap(), Some(4));
        assert_eq!(fields.number("number", 0.0..=1.0).unwrap(), Some(0.5));
        assert_eq!(fields.list("list", 2).unwrap().unwrap().len(), 2);
        assert_eq!(fields.text("null", 3).unwrap(), None);
        assert_eq!(fields.text("absent", 3).unwrap(), None);
        assert!(fields.has("list") && !fields.has("null") && !fields.has("absent"));
        let mut object = fields.object("object").unwrap().unwrap();
        assert_eq!(object.take("inner"), Some(&json!({"x": 1})));
        object.finish().unwrap();
        fields.finish().unwrap();
    }

    #[test]
    fn faults_name_the_field_and_show_little() {
        type Take = fn(&mut Fields<'_>) -> Result<(), Fault>;
        let rows: [(Value, Take, &str); 15] = [
            (
                json!(5),
                |f| f.text("x", 3).map(drop),
                "a.x: expected a string, got 5",
            ),
            (
                json!("four"),
                |f| f.text("x", 3).map(drop),
                "a.x: expected a string of at most 3 bytes, got 4",
            ),
            (
                json!("lo"),
                |f| f.word("x", &[("low", 1), ("high", 2)]).map(drop),
                r#"a.x: expected one of "low", "high", got "lo""#,
            ),
            (
                json!("true"),
                |f| f.flag("x").map(drop),
                r#"a.x: expected true or false, got "true""#,
            ),
            (
                json!(6),
                |f| f.integer("x", -5..=5).map(drop),
                "a.x: expected a whole number from -5 to 5, got 6",
            ),
            (
                json!(1.5),
                |f| f.integer("x", -5..=5).map(drop),
                "a.x: expected a whole number from -5 to 5, got 1.5",
            ),
            (
                json!(u64::MAX),
                |f| f.integer("x", 0..=i64::MAX).map(drop),
                "a.x: expected a whole number from 0 to 9223372036854775807, got 18446744073709551615",
            ),
            (
                json!(-1),
                |f| f.count("x", 0..=5).map(drop),
                "a.x: expected a whole number from 0 to 5, got -1",
            ),
            (
                json!(1.01),
                |f| f.number("x", 0.0..=1.0).map(drop),
                "a.x: expected a number from 0 to 1, got 1.01",
            ),
            (
                json!([1, 2, 3]),
                |f| f.list("x", 2).map(drop),
                "a.x: expected an array of at most 2 items, got an array of 3",
            ),
            (
                json!({}),
                |f| f.list("x", 2).map(drop),
                "a.x: expected an array of at most 2 items, got an object",
            ),
            (
                json!(false),
                |f| f.object("x").map(drop),
                "a.x: expected an object, got false",
            ),
            (
                json!({}),
                |f| f.refuse("x", "not offered"),
                "a.x: not offered",
            ),
            (
                Value::Null,
                |f| f.text("x", 3)?.map(drop).ok_or_else(|| f.missing("x")),
                "a.x: expected a value, got none",
            ),
            (
                json!("y".repeat(1000)),
                |f| f.flag("x").map(drop),
                "a.x: expected true or false, got \"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\" and more",
            ),
        ];
        for (value, take, message) in rows {
            let object = json!({"x": value});
            let mut fields = Fields::of(&object, "a").unwrap();
            let fault = take(&mut fields).unwrap_err();
            assert_eq!(fault.message, message);
            assert_eq!(
                (fault.param.as_deref(), fault.kind),
                (Some("a.x"), Kind::Invalid)
            );
        }
        let body = json!([]);
        let fault = Fields::of(&body, "").unwrap_err();
        assert_eq!(fault.message, "expected a JSON object, got an array of 0");
    }

    #[test]
    fn what_nobody_took_is_refused() {
        let body = json!({"known": 1, "frobnicate": null});
        let mut fields = Fields::of(&body, "").unwrap();
        fields.take("known");
        let fault = fields.finish().unwrap_err();
        assert_eq!(fault.message, "frobnicate: unknown field");
        assert_eq!(fault.param.as_deref(), Some("frobnicate"));
        let name = "é".repeat(5000);
        let body = json!({name: 1});
        let fault = Fields::of(&body, "a").unwrap().finish().unwrap_err();
        assert!(fault.message.len() < 100, "{}", fault.message);
        let body = json!({"known": 1, "other": 2});
        let mut fields = Fields::of(&body, "").unwrap();
        fields.take("known");
        assert_eq!(fields.rest().collect::<Vec<_>>(), [("other", &json!(2))]);
    }

    #[test]
    fn bytes_of_json_are_counted() {
        for value in [json!(null), json!({"a": [1, "\n", 0.5]}), json!("é")] {
            assert_eq!(json_bytes(&value), value.to_string().len());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Err(fault) = read(&bytes, &LIMITS) {
                prop_assert!(!fault.message.is_empty() && fault.message.len() < 200);
            }
        }
    }
}
