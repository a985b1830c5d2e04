//! Strict reading by example: the defaults of a section are its schema. A written table is laid
//! over them, key by key; a key they lack, or a value of another type, is refused by name. So the
//! list of known fields is the struct itself and is written once.

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::RecipeError;

/// Reads `written` over `defaults` as the type of `defaults`. `place` is named in errors.
pub(crate) fn read<T>(defaults: &T, written: &Table, place: &str) -> Result<T, RecipeError>
where
    T: Serialize + DeserializeOwned,
{
    let merged = lay_over(&table_of(defaults, place)?, written, place)?;
    from_table(merged, place)
}

/// A settings struct as a table.
pub(crate) fn table_of<T: Serialize>(settings: &T, place: &str) -> Result<Table, RecipeError> {
    Table::try_from(settings).map_err(|error| RecipeError::bad(place, error.to_string()))
}

/// A merged table as a settings struct. What is still wrong here is a value out of range.
pub(crate) fn from_table<T: DeserializeOwned>(table: Table, place: &str) -> Result<T, RecipeError> {
    table.try_into().map_err(|error: toml::de::Error| {
        // The text form ends in a line "in `key`" that the message alone lacks.
        let text = error.to_string();
        let key = text.lines().find_map(|line| line.strip_prefix("in "));
        let message = error.message();
        match key {
            Some(key) => RecipeError::bad(format!("{place}, field {key}"), message),
            None => RecipeError::bad(place, message),
        }
    })
}

/// `written` over `schema`: every key must be in the schema with the same type; tables are joined.
pub(crate) fn lay_over(schema: &Table, written: &Table, place: &str) -> Result<Table, RecipeError> {
    lay_over_at(schema, schema, written, place, "")
}

fn lay_over_at(
    root: &Table,
    schema: &Table,
    written: &Table,
    place: &str,
    prefix: &str,
) -> Result<Table, RecipeError> {
    let mut merged = schema.clone();
    for (key, value) in written {
        let field = format!("{prefix}{key}");
        let Some(example) = schema.get(key) else {
            return Err(unknown_field(root, place, &field));
        };
        let value = match (example, value) {
            (Value::Table(inner), Value::Table(value)) if !inner.is_empty() => Value::Table(
                lay_over_at(root, inner, value, place, &format!("{field}."))?,
            ),
            _ => fit(example, value.clone(), place, &field)?,
        };
        merged.insert(key.clone(), value);
    }
    Ok(merged)
}

/// `value` if it has the type of `example`; whole numbers also fit where fractions are expected.
pub(crate) fn fit(
    example: &Value,
    value: Value,
    place: &str,
    field: &str,
) -> Result<Value, RecipeError> {
    match (example, value) {
        (Value::Float(_), Value::Integer(whole)) => Ok(Value::Float(whole as f64)),
        (example, value) if example.same_type(&value) => Ok(value),
        (example, value) => Err(RecipeError::WrongType {
            place: place.into(),
            field: field.into(),
            expected: type_name(example),
            got: described(&value),
        }),
    }
}

/// The error for a field that `schema` lacks, with its nearest relative.
pub(crate) fn unknown_field(schema: &Table, place: &str, field: &str) -> RecipeError {
    let mut known = Vec::new();
    leaves(schema, "", &mut known);
    RecipeError::UnknownField {
        place: place.into(),
        field: field.into(),
        nearest: nearest(field, known.iter().map(String::as_str))
            .map_or_else(String::new, |name| {
                format!("; the nearest known field is `{name}`")
            }),
    }
}

fn leaves(table: &Table, prefix: &str, into: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                leaves(inner, &format!("{prefix}{key}."), into);
            }
            _ => into.push(format!("{prefix}{key}")),
        }
    }
}

/// The name most like `word`: its own table first, then one that holds it or is held by it, then by edit
/// distance, the first of equals. Dotted names are compared by their last part first, so that
/// `learning_rat` finds `optim.learning_rate`.
pub(crate) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last_part = |name: &'a str| name.rsplit('.').next().unwrap_or(name);
    let word_last = word.rsplit('.').next().unwrap_or(word);
    names.min_by_key(|name| {
        let last = last_part(name);
        let is_part = word_last.len() > 2 && (last.contains(word_last) || word_last.contains(last));
        let is_inside = word
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'));
        (
            !is_inside,
            !is_part,
            distance(word_last, last),
            distance(word, name),
        )
    })
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    // A word longer than any field would only cost time.
    let a: Vec<char> = a.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for other in b.chars().take(64) {
        let mut diagonal = 0;
        let mut left = 0;
        for (place, cost) in row.iter_mut().enumerate() {
            let here = match place.checked_sub(1).and_then(|at| a.get(at)) {
                None => *cost + 1,
                Some(letter) => (diagonal + usize::from(*letter != other))
                    .min(*cost + 1)
                    .min(left + 1),
            };
            diagonal = *cost;
            *cost = here;
            left = here;
        }
    }
    row.last().copied().unwrap_or(0)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn described(value: &Value) -> String {
    // Written on one line, whatever is in it: it goes into a sentence.
    let mut text = match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    };
    if let Some((cut, _)) = text.char_indices().nth(60) {
        text.truncate(cut);
        text.push_str("...");
    }
    format!("{} {text}", type_name(value).trim_start_matches("a "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("steps", "steps", 0),
            ("setps", "steps", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} to {b}");
            assert_eq!(distance(b, a), edits, "{b} to {a}");
        }
    }

    #[test]
    fn whole_numbers_fit_fractions_but_not_the_reverse() {
        let schema: Table = "rate = 0.5\nsteps = 3\n[inner]\non = true".parse().unwrap();
        let written: Table = "rate = 2\n[inner]\non = false".parse().unwrap();
        let merged = lay_over(&schema, &written, "stage `a`").unwrap();
        assert_eq!(merged["rate"], Value::Float(2.0));
        assert_eq!(merged["steps"], Value::Integer(3));
        assert_eq!(merged["inner"]["on"], Value::Boolean(false));
        let error = lay_over(&schema, &"steps = 2.5".parse().unwrap(), "stage `a`").unwrap_err();
        assert_eq!(
            error.to_string(),
            "field `steps` of stage `a` expects a whole number, got number 2.5"
        );
        let error = lay_over(&schema, &"inner = 1".parse().unwrap(), "stage `a`").unwrap_err();
        assert_eq!(
            error.to_string(),
            "field `inner` of stage `a` expects a table, got whole number 1"
        );
        let error =
            lay_over(&schema, &"inner = {no = 1}".parse().unwrap(), "stage `a`").unwrap_err();
        assert_eq!(
            error.to_string(),
            "stage `a` has no field `inner.no`; the nearest known field is `inner.on`"
        );
    }
}
