//! Filters and methods that make a text or a list as wide as a template says, up to a limit: the
//! engine's own panic or take all memory where the number is large.

use minijinja::value::{Kwargs, Rest, StringInput, Value, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, filters};
use minijinja_contrib::pycompat;

/// The widest indentation or padding, in characters, and the most parts of a list.
const MAX_WIDTH: usize = 9_999;
/// Digits of the widest.
const MAX_DIGITS: usize = 4;

type Outcome<T> = Result<T, Error>;

/// Puts them in the place of the engine's.
pub(super) fn install(env: &mut Environment<'_>) {
    env.add_filter("indent", indent);
    env.add_filter("slice", slice);
    env.add_filter("batch", batch);
    env.add_filter("format", format);
    env.set_unknown_method_callback(method);
}

fn within(what: &str, got: usize) -> Outcome<()> {
    if got <= MAX_WIDTH {
        return Ok(());
    }
    let detail = format!("{what}: expected at most {MAX_WIDTH}, got {got}");
    Err(Error::new(ErrorKind::InvalidOperation, detail))
}

/// Widths and precisions stand in the pattern, as runs of digits.
fn narrow(pattern: &Value) -> Outcome<()> {
    let pattern = pattern.as_str().unwrap_or_default();
    let runs = pattern.split(|c: char| !c.is_ascii_digit());
    match runs.map(str::len).max() {
        Some(digits) if digits > MAX_DIGITS => {
            let detail = format!("format: expected numbers of at most {MAX_DIGITS} digits");
            Err(Error::new(ErrorKind::InvalidOperation, detail))
        }
        _ => Ok(()),
    }
}

fn indent(
    text: StringInput<'_>,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Outcome<Value> {
    let named = options.get::<Option<usize>>("width")?;
    within("indent", width.or(named).unwrap_or_default())?;
    filters::indent(text, width, first, blank, options)
}

fn slice(state: &State, items: Value, count: usize, filler: Option<Value>) -> Outcome<Value> {
    within("slice", count)?;
    filters::slice(state, items, count, filler)
}

fn batch(state: &State, items: Value, count: usize, filler: Option<Value>) -> Outcome<Value> {
    within("batch", count)?;
    filters::batch(state, items, count, filler)
}

fn format(state: &mut State, pattern: &Value, args: Rest<ValueOrKwargs>) -> Outcome<Value> {
    narrow(pattern)?;
    filters::format(state, pattern, args)
}

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Outcome<Value> {
    if name == "format" {
        narrow(value)?;
    }
    pycompat::unknown_method_callback(state, value, name, args)
}
