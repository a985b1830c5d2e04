//! The form of an answer: OpenAI's `response_format`, vLLM's `guided_*` and `structured_outputs`.
//!
//! One of them at most. What is asked is held to while tokens are drawn, whether or not `strict` is
//! said; a schema's `name` and `description` are checked and change nothing, as the model is not shown
//! them. Whether a schema, expression or grammar can be used is found out by who compiles it.

use serde_json::Value;

use super::error::{Fault, Kind};
use super::fields::{Fields, item, read, shown, text};
use super::sampled::{short_name, sized};
use crate::answer::{Form, Limits};

/// The names of vLLM's forms: on their own, and in `structured_outputs`.
const ALONE: [&str; 4] = [
    "guided_json",
    "guided_regex",
    "guided_grammar",
    "guided_choice",
];
const TOGETHER: [&str; 4] = ["json", "regex", "grammar", "choice"];

/// Takes every field about the form.
pub(super) fn take(fields: &mut Fields<'_>, limits: &Limits) -> Result<Form, Fault> {
    let mut found: Vec<(String, Form)> = Vec::new();
    if let Some(format) = fields.object("response_format")? {
        let form = response_format(format, limits)?;
        found.extend(form.map(|form| ("response_format".into(), form)));
    }
    guided(fields, &ALONE, limits, &mut found)?;
    if let Some(mut outputs) = fields.object("structured_outputs")? {
        let before = found.len();
        guided(&mut outputs, &TOGETHER, limits, &mut found)?;
        if outputs.flag("json_object")? == Some(true) {
            found.push((outputs.path("json_object"), Form::JsonObject));
        }
        if found.len() == before {
            let why = "expected one of json, regex, grammar, choice, json_object";
            return Err(fields.against("structured_outputs", why));
        }
        outputs.finish()?;
    }
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (None, _) => Ok(Form::Free),
        (Some((_, form)), None) => Ok(form),
        (Some((first, _)), Some((second, _))) => {
            let words = format!("{second}: expected one form, got {first} as well");
            Err(Fault::new(Kind::Invalid, words).at(&second))
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Text,
    Object,
    Schema,
}

fn response_format(mut format: Fields<'_>, limits: &Limits) -> Result<Option<Form>, Fault> {
    let words = [
        ("text", Format::Text),
        ("json_object", Format::Object),
        ("json_schema", Format::Schema),
    ];
    let kind = format.word("type", &words)?;
    let form = match kind.ok_or_else(|| format.missing("type"))? {
        Format::Text => None,
        Format::Object => Some(Form::JsonObject),
        Format::Schema => {
            let schema = format.object("json_schema")?;
            let mut schema = schema.ok_or_else(|| format.missing("json_schema"))?;
            let form = named_schema(&mut schema, limits)?;
            schema.finish()?;
            Some(form)
        }
    };
    format.finish()?;
    Ok(form)
}

/// `{name, description, schema, strict}`: OpenAI wants a name and only that.
pub(super) fn named_schema(fields: &mut Fields<'_>, limits: &Limits) -> Result<Form, Fault> {
    short_name(fields)?;
    fields.text("description", limits.schema_bytes)?;
    fields.flag("strict")?;
    match fields.take("schema") {
        None => Ok(Form::JsonObject),
        Some(value) => schema(value, &fields.path("schema"), limits).map(Form::JsonSchema),
    }
}

/// A value that can be a schema: an object of not too many bytes.
pub(super) fn schema(value: &Value, path: &str, limits: &Limits) -> Result<Value, Fault> {
    if !value.is_object() {
        return Err(Fault::field(path, "a schema as an object", shown(value)));
    }
    sized(value, path, limits)?;
    Ok(value.clone())
}

fn guided(
    fields: &mut Fields<'_>,
    names: &[&'static str; 4],
    limits: &Limits,
    found: &mut Vec<(String, Form)>,
) -> Result<(), Fault> {
    let [json, regex, grammar, choice] = *names;
    if let Some(value) = fields.take(json) {
        let path = fields.path(json);
        sized(value, &path, limits)?;
        // vLLM takes a schema as an object or as its text.
        let schema = match value.as_str() {
            None => schema(value, &path, limits)?,
            Some(text) => {
                let value = read(text.as_bytes(), limits);
                schema(&value.map_err(|fault| fault.at(&path))?, &path, limits)?
            }
        };
        found.push((path, Form::JsonSchema(schema)));
    }
    for name in [regex, grammar] {
        if let Some(value) = fields.take(name) {
            let path = fields.path(name);
            sized(value, &path, limits)?;
            let pattern = text(value, &path, limits.schema_bytes)?.to_owned();
            let form = if name == regex {
                Form::Regex(pattern)
            } else {
                Form::Lark(pattern)
            };
            found.push((path, form));
        }
    }
    if let Some(value) = fields.take(choice) {
        let path = fields.path(choice);
        sized(value, &path, limits)?;
        found.push((path.clone(), Form::Choice(choices(value, &path, limits)?)));
    }
    Ok(())
}

fn choices(value: &Value, path: &str, limits: &Limits) -> Result<Vec<String>, Fault> {
    let choices = value.as_array().filter(|choices| !choices.is_empty());
    let Some(choices) = choices else {
        return Err(Fault::field(path, "texts to choose from", shown(value)));
    };
    let paths = (0..).map(|index| item(path, index));
    let one = |(value, path): (&Value, String)| {
        text(value, &path, limits.schema_bytes).map(str::to_owned)
    };
    choices.iter().zip(paths).map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIMITS: Limits = Limits {
        schema_bytes: 100,
        ..Limits::USUAL
    };

    fn taken(body: &Value) -> Result<Form, Fault> {
        let mut fields = Fields::of(body, "")?;
        let form = take(&mut fields, &LIMITS)?;
        fields.finish()?;
        Ok(form)
    }

    #[test]
    fn forms_are_taken() {
        let schema = json!({"type": "object"});
        let named = json!({"name": "n-1", "description": "d", "schema": schema, "strict": true});
        let rows = [
            (json!({}), Form::Free),
            (json!({"response_format": {"type": "text"}}), Form::Free),
            (
                json!({"response_format": {"type": "json_object"}}),
                Form::JsonObject,
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": named}}),
                Form::JsonSchema(schema.clone()),
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}),
                Form::JsonObject,
            ),
            (
                json!({"guided_json": schema}),
                Form::JsonSchema(schema.clone()),
            ),
            (
                json!({"guided_json": schema.to_string()}),
                Form::JsonSchema(schema.clone()),
            ),
            (json!({"guided_regex": "a+"}), Form::Regex("a+".into())),
            (
                json!({"guided_grammar": "start: A"}),
                Form::Lark("start: A".into()),
            ),
            (
                json!({"guided_choice": ["a", "b"]}),
                Form::Choice(vec!["a".into(), "b".into()]),
            ),
            (
                json!({"structured_outputs": {"json": schema}}),
                Form::JsonSchema(schema),
            ),
            (
                json!({"structured_outputs": {"regex": "a", "json": null}}),
                Form::Regex("a".into()),
            ),
            (
                json!({"structured_outputs": {"json_object": true}}),
                Form::JsonObject,
            ),
            (
                json!({"response_format": {"type": "text"}, "guided_regex": "a"}),
                Form::Regex("a".into()),
            ),
        ];
        for (body, form) in rows {
            assert_eq!(taken(&body).unwrap(), form, "{body}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn forms_are_refused_by_name() {
        let long = "x".repeat(101);
        let rows = [
            (
                json!({"response_format": "json"}),
                "response_format",
                Kind::Invalid,
            ),
            (
                json!({"response_format": {}}),
                "response_format.type",
                Kind::Invalid,
            ),
            (
                json!({"response_format": {"type": "xml"}}),
                "response_format.type",
                Kind::Invalid,
            ),
            (
                json!({"response_format": {"type": "json_object", "schema": {}}}),
                "response_format.schema",
                Kind::Invalid,
            ),
            (
                json!({"response_format": {"type": "json_schema"}}),
                "response_format.json_schema",
                Kind::Invalid,
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {}}}),
                "response_format.json_schema.name",
                Kind::Invalid,
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}}),
                "response_format.json_schema.name",
                Kind::Invalid,
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": true}}}),
                "response_format.json_schema.schema",
                Kind::Invalid,
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"x": long}}}}),
                "response_format.json_schema.schema",
                Kind::Schema,
            ),
            (json!({"guided_json": [1]}), "guided_json", Kind::Invalid),
            (json!({"guided_json": "{"}), "guided_json", Kind::Invalid),
            (
                json!({"guided_json": "[".repeat(50)}),
                "guided_json",
                Kind::Invalid,
            ),
            (json!({"guided_regex": 5}), "guided_regex", Kind::Invalid),
            (json!({"guided_regex": long}), "guided_regex", Kind::Schema),
            (
                json!({"guided_grammar": long}),
                "guided_grammar",
                Kind::Schema,
            ),
            (json!({"guided_choice": []}), "guided_choice", Kind::Invalid),
            (
                json!({"guided_choice": ["a", 1]}),
                "guided_choice[1]",
                Kind::Invalid,
            ),
            (
                json!({"guided_choice": [long]}),
                "guided_choice",
                Kind::Schema,
            ),
            (
                json!({"guided_regex": "a", "guided_choice": ["a"]}),
                "guided_choice",
                Kind::Invalid,
            ),
            (
                json!({"response_format": {"type": "json_object"}, "guided_regex": "a"}),
                "guided_regex",
                Kind::Invalid,
            ),
            (
                json!({"structured_outputs": {}}),
                "structured_outputs",
                Kind::Invalid,
            ),
            (
                json!({"structured_outputs": {"json": {}, "regex": "a"}}),
                "structured_outputs.regex",
                Kind::Invalid,
            ),
            (
                json!({"structured_outputs": {"regex": "a", "structural_tag": "x"}}),
                "structured_outputs.structural_tag",
                Kind::Invalid,
            ),
        ];
        for (body, param, kind) in rows {
            let fault = taken(&body).unwrap_err();
            assert_eq!(
                (fault.param.as_deref(), fault.kind),
                (Some(param), kind),
                "{body}"
            );
        }
    }
}
