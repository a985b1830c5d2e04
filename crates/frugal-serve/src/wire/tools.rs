//! Tools and which of them may be called.

use serde_json::{Map, Value, json};

use super::error::Fault;
use super::fields::{Fields, item, one_of, shown};
use super::form::is_name;
use super::sampled::sized;
use crate::answer::{Limits, ToolChoice, Tools};

/// Takes `tools`, `tool_choice` and `parallel_tool_calls`.
pub(super) fn take(fields: &mut Fields<'_>, limits: &Limits) -> Result<Tools, Fault> {
    let values = fields.list("tools", limits.tools)?.unwrap_or_default();
    let mut tools = Vec::with_capacity(values.len());
    let mut names: Vec<&str> = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let path = item("tools", index);
        let (name, tool) = tool(value, &path, limits)?;
        if names.contains(&name) {
            let path = format!("{path}.function.name");
            return Err(Fault::field(
                &path,
                "names that differ",
                shown(&name.into()),
            ));
        }
        names.push(name);
        tools.push(tool);
    }
    let choice = match fields.take("tool_choice") {
        None => ToolChoice::Auto,
        Some(value) => chosen(value, fields, &names)?,
    };
    Ok(Tools {
        tools,
        choice,
        is_parallel: fields.flag("parallel_tool_calls")?.unwrap_or(true),
    })
}

/// A tool written anew: templates see the same whatever order and nulls the client sends.
fn tool<'a>(value: &'a Value, path: &str, limits: &Limits) -> Result<(&'a str, Value), Fault> {
    let mut fields = Fields::of(value, path)?;
    is_function(&mut fields)?;
    let function = fields.object("function")?;
    let mut function = function.ok_or_else(|| fields.missing("function"))?;
    fields.finish()?;
    let name = function_name(&mut function)?;
    let mut written = Map::new();
    written.insert("name".into(), name.into());
    if let Some(description) = function.text("description", limits.schema_bytes)? {
        written.insert("description".into(), description.into());
    }
    if let Some(parameters) = function.take("parameters") {
        if !parameters.is_object() {
            return Err(function.wrong("parameters", "a schema as an object", parameters));
        }
        sized(parameters, &function.path("parameters"), limits)?;
        written.insert("parameters".into(), parameters.clone());
    }
    if let Some(strict) = function.flag("strict")? {
        written.insert("strict".into(), strict.into());
    }
    function.finish()?;
    Ok((name, json!({ "type": "function", "function": written })))
}

/// Takes a `type` that must be `function`.
fn is_function(fields: &mut Fields<'_>) -> Result<(), Fault> {
    let kind = fields.word("type", &[("function", ())])?;
    kind.ok_or_else(|| fields.missing("type"))
}

/// Takes the name of a function.
pub(super) fn function_name<'a>(fields: &mut Fields<'a>) -> Result<&'a str, Fault> {
    let name = fields
        .text("name", 64)?
        .ok_or_else(|| fields.missing("name"))?;
    if is_name(name) {
        return Ok(name);
    }
    Err(fields.against("name", "expected letters, digits, dashes and underscores"))
}

/// The forms of a choice that is an object.
#[derive(Debug, Clone, Copy)]
enum Choice {
    One,
    Several,
}

fn chosen(value: &Value, fields: &Fields<'_>, names: &[&str]) -> Result<ToolChoice, Fault> {
    if let Some(word) = value.as_str() {
        return match word {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            "required" if names.is_empty() => {
                Err(fields.against("tool_choice", "expected tools beside it, got none"))
            }
            "required" => Ok(ToolChoice::Required(None)),
            _ => {
                let expected = one_of(["none", "auto", "required"].into_iter());
                Err(fields.wrong("tool_choice", &expected, value))
            }
        };
    }
    let mut choice = Fields::of(value, "tool_choice")?;
    let words = [
        ("function", Choice::One),
        ("allowed_tools", Choice::Several),
    ];
    let kind = choice.word("type", &words)?;
    let chosen = match kind.ok_or_else(|| choice.missing("type"))? {
        Choice::One => ToolChoice::Required(Some(vec![named(&mut choice, names)?])),
        Choice::Several => allowed(&mut choice, names)?,
    };
    choice.finish()?;
    Ok(chosen)
}

/// `function: {name}` of a tool there is.
fn named(fields: &mut Fields<'_>, names: &[&str]) -> Result<String, Fault> {
    let function = fields.object("function")?;
    let mut function = function.ok_or_else(|| fields.missing("function"))?;
    let name = function_name(&mut function)?;
    if !names.contains(&name) {
        return Err(function.against("name", "expected the name of one of the tools"));
    }
    function.finish()?;
    Ok(name.to_owned())
}

fn allowed(choice: &mut Fields<'_>, names: &[&str]) -> Result<ToolChoice, Fault> {
    let allowed = choice.object("allowed_tools")?;
    let mut allowed = allowed.ok_or_else(|| choice.missing("allowed_tools"))?;
    let is_required = allowed.word("mode", &[("auto", false), ("required", true)])?;
    let is_required = is_required.ok_or_else(|| allowed.missing("mode"))?;
    let values = allowed.list("tools", names.len())?.unwrap_or_default();
    if values.is_empty() {
        return Err(allowed.against("tools", "expected at least one tool"));
    }
    let mut some = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let mut tool = Fields::of(value, &item(&allowed.path("tools"), index))?;
        is_function(&mut tool)?;
        some.push(named(&mut tool, names)?);
        tool.finish()?;
    }
    allowed.finish()?;
    Ok(if is_required {
        ToolChoice::Required(Some(some))
    } else {
        ToolChoice::AutoOf(some)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        schema_bytes: 100,
        tools: 3,
        ..Limits::USUAL
    };

    fn taken(body: &Value) -> Result<Tools, Fault> {
        let mut fields = Fields::of(body, "")?;
        let tools = take(&mut fields, &LIMITS)?;
        fields.finish()?;
        Ok(tools)
    }

    fn named(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name}})
    }

    #[test]
    fn choices_are_taken_in_all_forms() {
        let some = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
        let several = |mode: &str| {
            let allowed = json!({"mode": mode, "tools": [named("a"), named("b")]});
            json!({"type": "allowed_tools", "allowed_tools": allowed})
        };
        let rows = [
            (Value::Null, ToolChoice::Auto),
            (json!("auto"), ToolChoice::Auto),
            (json!("none"), ToolChoice::None),
            (json!("required"), ToolChoice::Required(None)),
            (named("b"), ToolChoice::Required(some(&["b"]))),
            (several("required"), ToolChoice::Required(some(&["a", "b"]))),
            (
                several("auto"),
                ToolChoice::AutoOf(some(&["a", "b"]).unwrap()),
            ),
        ];
        for (choice, expected) in rows {
            let body = json!({"tools": [named("a"), named("b")], "tool_choice": choice});
            assert_eq!(taken(&body).unwrap().choice, expected, "{choice}");
        }
        assert!(taken(&json!({})).unwrap().is_parallel);
        assert!(
            !taken(&json!({"parallel_tool_calls": false}))
                .unwrap()
                .is_parallel
        );
    }

    #[test]
    fn tools_are_written_anew() {
        let body = json!({"tools": [{
            "function": {
                "strict": null, "parameters": {"z": 1, "a": 2}, "description": "d", "name": "f",
            },
            "type": "function",
        }]});
        let written = taken(&body).unwrap().tools;
        insta::assert_snapshot!(Value::from(written), @r#"[{"type":"function","function":{"name":"f","description":"d","parameters":{"z":1,"a":2}}}]"#);
    }

    #[test]
    fn tools_are_refused_by_name() {
        let tool = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
        let choice = |choice: Value| json!({"tools": [named("a")], "tool_choice": choice});
        let several =
            |allowed: Value| choice(json!({"type": "allowed_tools", "allowed_tools": allowed}));
        let rows = [
            (json!({"tools": {}}), "tools"),
            (
                json!({"tools": [named("a"), named("b"), named("c"), named("d")]}),
                "tools",
            ),
            (
                json!({"tools": [named("a"), named("a")]}),
                "tools[1].function.name",
            ),
            (json!({"tools": [1]}), "tools[0]"),
            (
                json!({"tools": [{"function": {"name": "a"}}]}),
                "tools[0].type",
            ),
            (
                json!({"tools": [{"type": "custom", "custom": {"name": "a"}}]}),
                "tools[0].type",
            ),
            (
                json!({"tools": [{"type": "function"}]}),
                "tools[0].function",
            ),
            (tool(json!({})), "tools[0].function.name"),
            (tool(json!({"name": ""})), "tools[0].function.name"),
            (tool(json!({"name": "a b"})), "tools[0].function.name"),
            (
                tool(json!({"name": "a", "parameters": "x"})),
                "tools[0].function.parameters",
            ),
            (
                tool(json!({"name": "a", "parameters": {"x": "y".repeat(100)}})),
                "tools[0].function.parameters",
            ),
            (
                tool(json!({"name": "a", "strict": 1})),
                "tools[0].function.strict",
            ),
            (
                tool(json!({"name": "a", "returns": {}})),
                "tools[0].function.returns",
            ),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (choice(json!("any")), "tool_choice"),
            (choice(json!(1)), "tool_choice"),
            (choice(json!({})), "tool_choice.type"),
            (choice(json!({"type": "custom"})), "tool_choice.type"),
            (choice(json!({"type": "function"})), "tool_choice.function"),
            (choice(named("z")), "tool_choice.function.name"),
            (
                several(json!({"tools": [named("a")]})),
                "tool_choice.allowed_tools.mode",
            ),
            (
                several(json!({"mode": "auto", "tools": []})),
                "tool_choice.allowed_tools.tools",
            ),
            (
                several(json!({"mode": "auto", "tools": [named("z")]})),
                "tool_choice.allowed_tools.tools[0].function.name",
            ),
            (json!({"parallel_tool_calls": "no"}), "parallel_tool_calls"),
        ];
        for (body, param) in rows {
            assert_eq!(
                taken(&body).unwrap_err().param.as_deref(),
                Some(param),
                "{body}"
            );
        }
    }
}
