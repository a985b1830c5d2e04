//! Tools and which of them may be called: a [`Toolbox`] for every dialect, and the shape that chat
//! completions have for them ([`take`]).

use serde_json::{Map, Value, json};

use super::error::Fault;
use super::fields::{Fields, item, one_of};
use super::form::schema;
use super::sampled::short_name;
use crate::answer::{Limits, ToolChoice, Tools};

/// Tools, checked and written anew as chat completions have them: templates see the same whatever
/// dialect, order and nulls the client sends.
#[derive(Debug)]
pub(super) struct Toolbox<'a> {
    tools: Vec<Value>,
    names: Vec<&'a str>,
    limits: &'a Limits,
}

impl<'a> Toolbox<'a> {
    /// None yet.
    pub(super) const fn new(limits: &'a Limits) -> Self {
        Self {
            tools: Vec::new(),
            names: Vec::new(),
            limits,
        }
    }

    /// Takes `name`, `description`, `strict` and the schema of the arguments, by the dialect's name
    /// for it, out of an object that says so.
    pub(super) fn add(
        &mut self,
        fields: &mut Fields<'a>,
        parameters: &'static str,
    ) -> Result<(), Fault> {
        let name = short_name(fields)?;
        if self.names.contains(&name) {
            return Err(fields.against("name", "two tools have this name"));
        }
        let mut function = Map::new();
        function.insert("name".into(), name.into());
        if let Some(text) = fields.text("description", self.limits.schema_bytes)? {
            function.insert("description".into(), text.into());
        }
        if let Some(value) = fields.take(parameters) {
            let schema = schema(value, &fields.path(parameters), self.limits)?;
            function.insert("parameters".into(), schema);
        }
        if let Some(strict) = fields.flag("strict")? {
            function.insert("strict".into(), strict.into());
        }
        self.tools
            .push(json!({ "type": "function", "function": function }));
        self.names.push(name);
        Ok(())
    }

    /// Takes `name`, which must be that of a tool.
    pub(super) fn known(&self, fields: &mut Fields<'_>) -> Result<String, Fault> {
        let name = short_name(fields)?;
        if self.names.contains(&name) {
            return Ok(name.to_owned());
        }
        Err(fields.against("name", "no tool has this name"))
    }

    /// The tools, and which of them may be called. What must be called must be there.
    pub(super) fn close(
        self,
        choice: Option<ToolChoice>,
        is_parallel: bool,
    ) -> Result<Tools, Fault> {
        let choice = choice.unwrap_or_default();
        if self.tools.is_empty() && matches!(choice, ToolChoice::Required(_)) {
            return Err(Fault::field("tool_choice", "tools to choose from", "none"));
        }
        Ok(Tools {
            tools: self.tools,
            choice,
            is_parallel,
        })
    }
}

/// Takes `tools`, `tool_choice` and `parallel_tool_calls`.
pub(super) fn take(fields: &mut Fields<'_>, limits: &Limits) -> Result<Tools, Fault> {
    let mut toolbox = Toolbox::new(limits);
    let values = fields.list("tools", limits.tools)?.unwrap_or_default();
    for (index, value) in values.iter().enumerate() {
        let mut tool = Fields::of(value, &item("tools", index))?;
        is_function(&mut tool)?;
        let mut function = function(&mut tool)?;
        toolbox.add(&mut function, "parameters")?;
        function.finish()?;
        tool.finish()?;
    }
    let choice = match fields.take("tool_choice") {
        None => None,
        Some(value) => Some(chosen(value, fields, &toolbox)?),
    };
    let is_parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    toolbox.close(choice, is_parallel)
}

/// Takes a `type` that must be `function`.
pub(super) fn is_function(fields: &mut Fields<'_>) -> Result<(), Fault> {
    let kind = fields.word("type", &[("function", ())])?;
    kind.ok_or_else(|| fields.missing("type"))
}

/// Takes the `function` that a tool, or a choice of one, is.
fn function<'a>(fields: &mut Fields<'a>) -> Result<Fields<'a>, Fault> {
    let function = fields.object("function")?;
    function.ok_or_else(|| fields.missing("function"))
}

fn chosen(value: &Value, fields: &Fields<'_>, toolbox: &Toolbox<'_>) -> Result<ToolChoice, Fault> {
    if let Some(word) = value.as_str() {
        return match word {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            "required" => Ok(ToolChoice::Required(None)),
            _ => {
                let expected = one_of(["none", "auto", "required"].into_iter());
                Err(fields.wrong("tool_choice", &expected, value))
            }
        };
    }
    let mut choice = Fields::of(value, "tool_choice")?;
    let kinds = [("function", false), ("allowed_tools", true)];
    let is_several = choice.word("type", &kinds)?;
    let chosen = if is_several.ok_or_else(|| choice.missing("type"))? {
        allowed(&mut choice, toolbox)?
    } else {
        ToolChoice::Required(Some(vec![named(&mut choice, toolbox)?]))
    };
    choice.finish()?;
    Ok(chosen)
}

/// `function: {name}` of a tool there is.
fn named(fields: &mut Fields<'_>, toolbox: &Toolbox<'_>) -> Result<String, Fault> {
    let mut function = function(fields)?;
    let name = toolbox.known(&mut function)?;
    function.finish()?;
    Ok(name)
}

fn allowed(choice: &mut Fields<'_>, toolbox: &Toolbox<'_>) -> Result<ToolChoice, Fault> {
    let allowed = choice.object("allowed_tools")?;
    let mut allowed = allowed.ok_or_else(|| choice.missing("allowed_tools"))?;
    let is_required = allowed.word("mode", &[("auto", false), ("required", true)])?;
    let is_required = is_required.ok_or_else(|| allowed.missing("mode"))?;
    let most = toolbox.limits.tools;
    let values = allowed.list("tools", most)?.unwrap_or_default();
    if values.is_empty() {
        return Err(allowed.against("tools", "expected at least one tool"));
    }
    let mut some = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let mut tool = Fields::of(value, &item(&allowed.path("tools"), index))?;
        is_function(&mut tool)?;
        some.push(named(&mut tool, toolbox)?);
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
