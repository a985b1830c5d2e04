//! The Jinja2 environment that published templates are written for, on minijinja.
//!
//! As transformers sets it up: blocks are trimmed, `raise_exception`, `strftime_now`, `tojson`
//! without escaping for HTML, Python's string methods. The date is an argument. Bounded: steps,
//! depth, output and widths, and by the engine the size of ranges and of repeated strings.

use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, ValueKind};
use minijinja::{Environment, ErrorKind, State, filters};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::{scan, widths};
use crate::{Error, Result};

/// The most instructions of one rendering; a thousand messages of gpt-oss take about 200,000.
const MAX_STEPS: u64 = 2_000_000;
/// The most text of one rendering, in bytes: a conversation of the largest size, and the template's.
const MAX_OUTPUT_BYTES: usize = super::MAX_CONVERSATION_BYTES + (16 << 20);
/// The deepest nesting of macros and blocks.
const MAX_DEPTH: usize = 64;

/// Renders a template, whose steps, depth and date are bounded by us.
pub(super) fn render(
    source: &str,
    context: serde_json::Value,
    now: Option<Moment>,
) -> Result<String> {
    let mut env = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    env.set_syntax(syntax.build()?);
    env.set_fuel(Some(MAX_STEPS));
    env.set_recursion_limit(MAX_DEPTH);
    widths::install(&mut env);
    // JSON of JSON doubles its escapes, so all of one rendering is counted together.
    let left = AtomicUsize::new(MAX_OUTPUT_BYTES);
    env.add_filter(
        "tojson",
        move |value: &minijinja::Value, options: Kwargs| {
            let mut output = Bounded::new(left.load(Ordering::Relaxed));
            let written = to_json(value, &options, &mut output);
            left.store(output.limit - output.bytes.len(), Ordering::Relaxed);
            match output.refused {
                Some(_) => Err(failure("tojson: expected less JSON in one conversation")),
                None => written.and_then(|()| {
                    String::from_utf8(output.bytes)
                        .map_err(|e| failure("tojson: not text").with_source(e))
                }),
            }
        },
    );
    env.add_filter(
        "map",
        |state: &mut State, items: minijinja::Value, how: Rest<_>| {
            filters::map(state, items, how).map(as_generator)
        },
    );
    env.add_function("raise_exception", |message: String| -> Outcome<String> {
        Err(failure("raised").with_source(Raised(message)))
    });
    env.add_function("strftime_now", move |format: String| -> Outcome<String> {
        let now = now.ok_or_else(|| failure("the template asks for the date, none was given"))?;
        now.format(&format)
    });
    scan::check_alone(source)?;
    scan::check_depth(source)?;
    let template = env.template_from_str(source)?;
    let mut output = Bounded::new(MAX_OUTPUT_BYTES);
    template
        .render_captured_to(minijinja::Value::from(Serde(context)), &mut output)
        .map(drop)
        .map_err(|error| output.or(told_apart(error)))?;
    output.into_text()
}

/// Output that ends at a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    /// How much there would have been, when it was too much.
    refused: Option<usize>,
}

impl Bounded {
    const fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            refused: None,
        }
    }

    fn or(&self, error: Error) -> Error {
        let (what, limit) = ("bytes of a rendered conversation", MAX_OUTPUT_BYTES);
        self.refused
            .map_or(error, |got| Error::TooLarge { what, limit, got })
    }

    fn into_text(self) -> Result<String> {
        String::from_utf8(self.bytes)
            .map_err(|e| Error::Chat(format!("the template gave no text: {e}")))
    }
}

impl std::io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> std::io::Result<usize> {
        let n_bytes = self.bytes.len() + more.len();
        if n_bytes > self.limit {
            self.refused = Some(n_bytes);
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

type Outcome<T> = std::result::Result<T, minijinja::Error>;

fn failure(detail: impl Into<std::borrow::Cow<'static, str>>) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, detail)
}

/// What the template said in `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn told_apart(error: minijinja::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return Error::Refused(message.clone());
        }
        source = inner.source();
    }
    Error::Template(error)
}

/// In Jinja2 `map` gives a generator, which has no length and cannot be written as JSON. A template
/// that tries fails there, and is to fail here.
fn as_generator(items: Vec<minijinja::Value>) -> minijinja::Value {
    minijinja::Value::make_iterable(move || items.clone().into_iter())
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=...)`.
fn to_json(value: &minijinja::Value, options: &Kwargs, output: &mut Bounded) -> Outcome<()> {
    if value.kind() == ValueKind::Iterable {
        return Err(failure("tojson: expected a list, got a generator"));
    }
    let indent: Option<usize> = options.get("indent")?;
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(failure(
            "tojson: expected ensure_ascii to be false, got true",
        ));
    }
    options.assert_all_used()?;
    let indent = indent.map(|n| " ".repeat(n.min(MAX_DEPTH)));
    match &indent {
        Some(spaces) => dump(
            value,
            PrettyFormatter::with_indent(spaces.as_bytes()),
            output,
        ),
        None => dump(value, OneLine, output),
    }
}

fn dump(value: &minijinja::Value, layout: impl Formatter, output: &mut Bounded) -> Outcome<()> {
    value
        .serialize(&mut Serializer::with_formatter(output, layout))
        .map_err(|e| failure("tojson: cannot write this value").with_source(e))
}

/// Python puts a space after commas and colons.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        to: &mut W,
    ) -> std::io::Result<()> {
        to.write_all(b": ")
    }
}

const SECONDS_PER_DAY: u64 = 86_400;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// A point in time, UTC, as templates print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    unix_seconds: u64,
}

impl Moment {
    /// From seconds since 1970.
    pub fn from_unix_seconds(unix_seconds: u64) -> Self {
        Self { unix_seconds }
    }

    /// Year, month and day of month, the last two from 1.
    ///
    /// *Source*: H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days: years
    /// begin in March, so that the leap day is the last of its year.
    fn date(self) -> (u64, usize, u64) {
        let days = self.unix_seconds / SECONDS_PER_DAY + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        (year, usize::try_from(month).unwrap_or(1), day)
    }

    /// The part of Python's `strftime` that templates use, in English.
    fn format(self, format: &str) -> Outcome<String> {
        let (year, month, day) = self.date();
        let month_name = MONTHS.get(month - 1).copied().unwrap_or_default();
        let weekday = WEEKDAYS
            .iter()
            .cycle()
            .nth((self.unix_seconds / SECONDS_PER_DAY % 7) as usize);
        let weekday = weekday.copied().unwrap_or_default();
        let of_day = self.unix_seconds % SECONDS_PER_DAY;
        let mut text = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            let directive = if c == '%' { chars.next() } else { None };
            let printed = match directive {
                None if c != '%' => c.to_string(),
                Some('Y') => year.to_string(),
                Some('y') => format!("{:02}", year % 100),
                Some('m') => format!("{month:02}"),
                Some('d') => format!("{day:02}"),
                Some('B') => month_name.to_string(),
                Some('b') => month_name.chars().take(3).collect(),
                Some('A') => weekday.to_string(),
                Some('a') => weekday.chars().take(3).collect(),
                Some('H') => format!("{:02}", of_day / 3_600),
                Some('M') => format!("{:02}", of_day / 60 % 60),
                Some('S') => format!("{:02}", of_day % 60),
                Some('%') => "%".to_string(),
                _ => return Err(failure(format!("strftime_now: cannot print {directive:?}"))),
            };
            text.push_str(&printed);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 20 January 2025, 13:05:09 UTC.
    const NOW: u64 = 1_737_378_309;

    fn run(source: &str) -> Result<String> {
        let context = serde_json::json!({ "v": { "b": [1, "<é'&\"\n>"], "a": null } });
        render(source, context, Some(Moment::from_unix_seconds(NOW)))
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        assert_eq!(
            run("{{ v|tojson }}").unwrap(),
            r#"{"b": [1, "<é'&\"\n>"], "a": null}"#
        );
        let indented = "{\n  \"b\": [\n    1,\n    \"<é'&\\\"\\n>\"\n  ],\n  \"a\": null\n}";
        assert_eq!(run("{{ v|tojson(indent=2) }}").unwrap(), indented);
        assert_eq!(
            run("{{ v|tojson(ensure_ascii=False) }}").unwrap(),
            run("{{ v|tojson }}").unwrap()
        );
        assert!(run("{{ v|tojson(ensure_ascii=True) }}").is_err());
        assert!(run("{{ v|tojson(sort=1) }}").is_err());
    }

    #[test]
    fn dates_are_printed_as_python_prints_them() {
        let rows = [
            (NOW, "%Y-%m-%d %H:%M:%S", "2025-01-20 13:05:09"),
            (
                NOW,
                "%A %a %d %B %b %y %%",
                "Monday Mon 20 January Jan 25 %",
            ),
            (0, "%a %d %b %Y", "Thu 01 Jan 1970"),
            (951_782_400, "%a %d %b %Y", "Tue 29 Feb 2000"),
            (4_107_542_400, "%a %d %b %Y", "Mon 01 Mar 2100"),
            (1_735_603_200, "%a %d %b %Y", "Tue 31 Dec 2024"),
        ];
        for (seconds, format, expected) in rows {
            assert_eq!(
                Moment::from_unix_seconds(seconds).format(format).unwrap(),
                expected
            );
        }
        assert!(run("{{ strftime_now('%Q') }}").is_err());
        assert!(render("{{ strftime_now('%Y') }}", serde_json::json!({}), None).is_err());
    }

    #[test]
    fn hostile_templates_are_stopped() {
        let spins =
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        let Err(Error::Template(spun)) = run(spins) else {
            panic!("expected it to run out of fuel")
        };
        assert_eq!(spun.kind(), ErrorKind::OutOfFuel);
        assert!(run("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").is_err());
        assert!(
            run(&format!(
                "{{{{ {}1{} }}}}",
                "(".repeat(20_000),
                ")".repeat(20_000)
            ))
            .is_err()
        );
        // There is no other template; the engine panics on the last.
        for other in [
            "{% include 'other' %}",
            "{% extends 'other' %}",
            "{% import 'a' as b %}",
            "{% import 'a' as b|slice(2) %}",
            "{% raw %}{{ ( {% endraw %}{%-\n  import 'a' as b|slice(2) %}",
            "{%+from'a'import b%}",
        ] {
            assert!(run(other).is_err(), "{other}");
        }
    }

    /// Each in bounded time and memory, and each an error.
    #[test]
    fn every_way_of_growing_has_an_end() {
        let nested =
            |open: &str, close: &str, n: usize| format!("{}x{}", open.repeat(n), close.repeat(n));
        let rows = [
            "{{ 'a' * 10**9 }}".to_string(),
            "{{ ('a' * 10**8) * 10**8 }}".to_string(),
            "{{ [1] * 10**10 }}".to_string(),
            "{% for i in range(10**9) %}{% endfor %}".to_string(),
            "{{ range(10**18)|length }}".to_string(),
            "{{ 10**10**10 }}".to_string(),
            "{{ 'a'|indent(10**18) }}".to_string(),
            "{{ 'a'|indent(width=10**12, first=true) }}".to_string(),
            "{{ '%9999999999999d'|format(1) }}".to_string(),
            "{{ '%.9999999999999f'|format(1.5) }}".to_string(),
            "{{ '%*d'|format(10**13, 1) }}".to_string(),
            "{{ '{:>9999999999999}'.format('x') }}".to_string(),
            "{{ '{:{}}'.format('x', 10**13) }}".to_string(),
            "{{ [1]|slice(10**12) }}".to_string(),
            format!("{{{{ '\"'{} }}}}", "|tojson".repeat(60)),
            "{% for i in range(90000) %}{% set x = ('a' * 10**6)|tojson %}{% endfor %}".to_string(),
            "{{ [1]|batch(10**12, 0) }}".to_string(),
            "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}"
                .to_string(),
            "{% for i in range(90000) %}{{ 'a' * 10**6 }}{% endfor %}".to_string(),
            "{% for i in range(90000) %}RAW{% endfor %}".replace("RAW", &"raw ".repeat(5000)),
            "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}"
                .to_string(),
            "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}".to_string(),
            "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}".to_string(),
            nested("{% if 1 %}", "{% endif %}", 10_000),
            nested("{% for i in range(9) %}", "{% endfor %}", 40),
            format!("{{{{ {} }}}}", nested("[", "]", 20_000)),
            format!("{{{{ {} }}}}", nested("(not ", ")", 20_000)),
            format!("{{{{ {}1 }}}}", "-".repeat(50_000)),
            format!("{{{{ {}1 }}}}", "not ".repeat(50_000)),
            format!("{{{{ x{} }}}}", "[x".repeat(20_000)),
            format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(20_000)),
            format!("{{{{ 1{} }}}}", "+1".repeat(100_000)),
            format!("{{{{ 1{} }}}}", "~{'a': {}}".repeat(20_000)),
            format!("{{{{ 1{} }}}}", "|string".repeat(30_000)),
            format!("{{{{ 1{} }}}}", " is string".repeat(20_000)),
            format!("{{{{ v{} }}}}", ".b".repeat(100_000)),
            format!("{{{{ 1{} }}}}", "**1".repeat(80_000)),
            format!("{{{{ 1{} }}}}", "<1".repeat(80_000)),
            format!("{{{{ v{} }}}}", "()".repeat(100_000)),
            format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(20_000)),
        ];
        for row in rows {
            let shown: String = row.chars().take(60).collect();
            assert!(run(&row).is_err(), "{shown}");
        }
    }

    #[test]
    fn widths_that_make_sense_are_the_engines() {
        let source = "{{ 'a\nb'|indent(2, true) }}|{{ [1, 2, 3]|batch(2, 0)|list }}|\
            {{ '%04d %5.2f'|format(7, 0.5) }}|{{ '{:>4}'.format('x') }}|{{ 'ab'.upper() }}";
        assert_eq!(
            run(source).unwrap(),
            "  a\n  b|[[1, 2], [3, 0]]|0007  0.50|   x|AB"
        );
        assert_eq!(
            run("{{ [1, 2, 3]|slice(2)|list }}").unwrap(),
            "[[1, 2], [3]]"
        );
    }

    /// As deep as the limits allow, on the two megabytes of stack that a thread has.
    #[test]
    fn templates_at_the_limits_fit_on_the_stack() {
        let rows = [
            format!("{{{{ {}1 }}}}", "-".repeat(490)),
            format!("{{{{ {}1 }}}}", "not ".repeat(490)),
            format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(120)),
            format!("{{{{ 1{} }}}}", "+1".repeat(240)),
            format!("{{{{ 1{} }}}}", "|string".repeat(240)),
            format!("{{{{ 1{} }}}}", " is string".repeat(240)),
            format!("{{{{ v{} }}}}", ".b".repeat(240)),
            format!("{{{{ 1{} }}}}", "**1".repeat(160)),
            format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(200)),
            format!(
                "{{% if 1 %}}{}{{% endif %}}",
                "{% if 1 %}{{ 1 + (1 + (1 + 1)) }}".repeat(60)
            ),
        ];
        for row in rows {
            // Whatever it says, it comes back.
            drop(run(&row));
        }
    }

    #[test]
    fn a_refusal_tells_what_the_template_said() {
        let Err(Error::Refused(message)) = run("{{ raise_exception('no ' + 'system') }}") else {
            panic!("expected a refusal")
        };
        assert_eq!(message, "no system");
    }
}
