//! Tools in the dialects that have a shape of their own for them, as chat completions write them.

use serde_json::{Map, Value};

use super::error::Fault;
use super::fields::{Fields, shown};
use super::sampled::sized;
use super::tools::function_name;
use crate::answer::{Limits, ToolChoice, Tools};

/// Tools, checked.
#[derive(Debug)]
pub(super) struct Toolbox<'a> {
    tools: Vec<Value>,
    names: Vec<&'a str>,
    limits: &'a Limits,
}

/// The names that a dialect has for the parts of a tool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// The schema of its arguments.
    pub(super) parameters: &'static str,
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

    /// Takes `name`, `description`, `strict` and the schema out of an object that says so.
    pub(super) fn add(&mut self, fields: &mut Fields<'a>, keys: Keys) -> Result<(), Fault> {
        let name = function_name(fields)?;
        if self.names.contains(&name) {
            return Err(fields.against("name", "two tools have this name"));
        }
        let mut function = Map::new();
        function.insert("name".into(), name.into());
        if let Some(text) = fields.text("description", self.limits.schema_bytes)? {
            function.insert("description".into(), text.into());
        }
        if let Some(parameters) = fields.take(keys.parameters) {
            schema(parameters, &fields.path(keys.parameters), self.limits)?;
            function.insert("parameters".into(), parameters.clone());
        }
        if let Some(strict) = fields.flag("strict")? {
            function.insert("strict".into(), strict.into());
        }
        let tool = [
            ("type".to_owned(), "function".into()),
            ("function".to_owned(), function.into()),
        ];
        self.tools.push(Map::from_iter(tool).into());
        self.names.push(name);
        Ok(())
    }

    /// Takes `name`, which must be that of a tool.
    pub(super) fn known(&self, fields: &mut Fields<'_>) -> Result<String, Fault> {
        let name = function_name(fields)?;
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
        at: &str,
    ) -> Result<Tools, Fault> {
        let choice = choice.unwrap_or_default();
        if self.tools.is_empty() && matches!(choice, ToolChoice::Required(_)) {
            return Err(Fault::field(at, "tools, where one must be called", "none"));
        }
        Ok(Tools {
            tools: self.tools,
            choice,
            is_parallel,
        })
    }
}

/// Checks that a value can be a schema: an object of not too many bytes.
pub(super) fn schema(value: &Value, at: &str, limits: &Limits) -> Result<(), Fault> {
    if !value.is_object() {
        return Err(Fault::field(at, "a schema as an object", shown(value)));
    }
    sized(value, at, limits)
}
