//! `--set stage.field=value`: one value laid over the written recipe before it is read, so that it
//! passes the same checks. Short forms: a field of `optim` may be named without it.

use toml::{Table, Value};

use super::{RecipeError, model_defaults, model_place, schema, stage_schema, top_schema};

/// Applies one override to the written recipe. Returns the (stage, field) it fixed, if any.
pub(super) fn apply(
    written: &mut Table,
    text: &str,
) -> Result<Option<(String, String)>, RecipeError> {
    let fault = |message: String| RecipeError::Override {
        text: shortened(text),
        message,
    };
    let Some((path, value)) = text.split_once('=') else {
        return Err(fault("expected stage.field=value, got no `=`".into()));
    };
    let path: Vec<&str> = path.trim().split('.').collect();
    if path.iter().any(|part| part.is_empty()) {
        return Err(fault(
            "expected stage.field before the `=`, got an empty name".into(),
        ));
    }
    let value = value.trim();
    match path.as_slice() {
        [] => Ok(None),
        [stage, field @ ..] if find_stage(written, stage).is_some() => {
            let Some(table) = find_stage(written, stage) else {
                return Ok(None);
            };
            if field.is_empty() || matches!(field, ["name" | "kind"]) {
                return Err(fault(format!(
                    "expected a field of stage `{stage}` other than its name and kind"
                )));
            }
            let place = format!("stage `{stage}`");
            // The preset decides defaults, never which fields there are.
            let mut known = table.clone();
            known.remove("preset");
            let (_, known) = stage_schema(&known, &place)?;
            let field = through_optim(&known, field);
            set(table, &known, &field, value, &place)?;
            Ok(Some(((*stage).to_owned(), field.join("."))))
        }
        ["model", name, field @ ..] if !field.is_empty() => {
            let place = model_place(name);
            let Some(shape) = section(written, name) else {
                return Err(fault(format!("the recipe has no model `{name}`")));
            };
            let mut known = shape.clone();
            known.remove("architecture");
            let known = schema::table_of(&model_defaults(&known, &place)?, &place)?;
            set(shape, &known, field, value, &place)?;
            Ok(None)
        }
        ["model" | "stage", ..] => Err(fault(
            "expected model.NAME.field=value or NAME.field=value of a stage".into(),
        )),
        [top, ..] => {
            let known = top_schema()?;
            if !known.contains_key(*top) {
                return Err(fault(unknown_target(written, &known, top)));
            }
            set(written, &known, &path, value, "the recipe")?;
            Ok(None)
        }
    }
}

fn find_stage<'a>(written: &'a mut Table, name: &str) -> Option<&'a mut Table> {
    written
        .get_mut("stage")?
        .as_array_mut()?
        .iter_mut()
        .filter_map(Value::as_table_mut)
        .find(|stage| stage.get("name").and_then(Value::as_str) == Some(name))
}

fn section<'a>(written: &'a mut Table, name: &str) -> Option<&'a mut Table> {
    written.get_mut("model")?.get_mut(name)?.as_table_mut()
}

fn unknown_target(written: &Table, known: &Table, word: &str) -> String {
    let stages = written.get("stage").and_then(Value::as_array);
    let names: Vec<&str> = stages
        .into_iter()
        .flatten()
        .filter_map(|stage| stage.get("name").and_then(Value::as_str))
        .chain(
            known
                .keys()
                .map(String::as_str)
                .filter(|key| *key != "stage"),
        )
        .collect();
    format!(
        "there is no stage or section `{word}`, expected one of {}",
        names.join(", ")
    )
}

/// `learning_rate` means `optim.learning_rate` where the stage has no such field itself.
fn through_optim<'a>(known: &Table, field: &[&'a str]) -> Vec<&'a str> {
    let in_optim = known.get("optim").and_then(Value::as_table);
    match field {
        [only] if !known.contains_key(*only) && in_optim.is_some_and(|t| t.contains_key(*only)) => {
            vec!["optim", only]
        }
        _ => field.to_vec(),
    }
}

/// Sets `path` in `table`, whose known fields are `schema`. An empty schema takes any field.
fn set(
    table: &mut Table,
    schema: &Table,
    path: &[&str],
    text: &str,
    place: &str,
) -> Result<(), RecipeError> {
    let field = path.join(".");
    let Some((last, parents)) = path.split_last() else {
        return Err(RecipeError::bad(place, "expected a field to set, got none"));
    };
    let (mut at, mut known, mut is_free) = (table, Some(schema), false);
    for parent in parents {
        let next = known.and_then(|known| known.get(*parent));
        known = match next {
            Some(Value::Table(inner)) => Some(inner),
            None if is_free => None,
            _ => return Err(schema::unknown_field(schema, place, &field)),
        };
        is_free = is_free || known.is_some_and(Table::is_empty);
        let inner = at
            .entry(*parent)
            .or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = inner else {
            return Err(RecipeError::bad(
                place,
                format!("cannot set `{field}`: expected `{parent}` to be a table, got {inner}"),
            ));
        };
        at = inner;
    }
    let example = known
        .and_then(|known| known.get(*last))
        .or_else(|| at.get(*last));
    let value = match example {
        Some(example) => schema::fit(example, value_of(Some(example), text), place, &field)?,
        None if is_free => value_of(None, text),
        None => return Err(schema::unknown_field(schema, place, &field)),
    };
    at.insert((*last).to_owned(), value);
    Ok(())
}

/// The text as one TOML value; a text that is none, or that stands where a string is expected, is
/// a string as it stands, so that nobody has to quote for the shell.
fn value_of(example: Option<&Value>, text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok();
    let parsed = parsed
        .filter(|table| table.len() == 1)
        .and_then(|mut t| t.remove("value"));
    let wants_string = matches!(example, Some(Value::String(_)));
    match parsed {
        Some(value) if !wants_string || value.is_str() => value,
        _ => Value::String(text.to_owned()),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
