//! Checks a JSON schema before the grammar library sees it.
//!
//! The library bounds most of its work; what it does not bound is refused here: nesting, references
//! that are not to the schema itself (there is nothing to fetch, and nothing would be), counts that
//! become states, and combinations that multiply. Keywords that restrict but are not followed are
//! refused by name, as a promise that is not kept is worse than none; keywords that no draft of the
//! standard knows restrict nothing and pass.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::answer::ask::Limits;
use crate::wire::error::{Fault, Kind};
use crate::wire::fields::json_bytes;

/// Keywords of the standard that restrict but are not followed, and the library's own, which would
/// change how it works.
const UNFOLLOWED: [&str; 20] = [
    "not",
    "if",
    "then",
    "else",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$recursiveRef",
    "$recursiveAnchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "$vocabulary",
    "x-guidance",
];
/// Keywords that hold one schema.
const ONE: [&str; 3] = ["additionalProperties", "additionalItems", "items"];
/// Keywords that hold a list of schemas.
const LIST: [&str; 5] = ["prefixItems", "items", "allOf", "anyOf", "oneOf"];
/// Keywords that hold schemas by name.
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Keywords that are not a restriction by themselves.
const SILENT: [&str; 16] = [
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "allOf",
    "anyOf",
    "default",
    "definitions",
    "description",
    "examples",
    "id",
    "oneOf",
    "title",
    "$ref",
    "type",
];
/// Keywords whose number becomes a number of states, and the most they may say.
const COUNTS: [(&str, u64); 6] = [
    ("minItems", 1000),
    ("maxItems", 10_000),
    ("minProperties", 100),
    ("maxProperties", 1000),
    ("minLength", 10_000),
    ("maxLength", 100_000),
];
/// The most patterns of property names: the library compares each with each.
const MOST_PATTERNS: usize = 32;
/// The most cases of an `anyOf` or `oneOf` that are followed side by side: all but plain values.
const MOST_CASES: usize = 128;
/// The most parts of a schema that come of combining others; the library clones them.
const MOST_COMBINED: f64 = 50_000.0;
/// References that lead to references, at most.
const MOST_HOPS: usize = 64;
/// Types that a schema has which names none.
const ALL_TYPES: f64 = 6.0;

/// Checks a schema.
pub(super) fn check(schema: &Value, limits: &Limits) -> Result<(), Fault> {
    if !is_within(schema, limits.depth) {
        return Err(fault(format!(
            "schema: expected nesting of at most {}",
            limits.depth
        )));
    }
    if json_bytes(schema) > limits.schema_bytes {
        return Err(fault(format!(
            "schema: expected at most {} bytes",
            limits.schema_bytes
        )));
    }
    let mut n_patterns = 0;
    check_keywords(schema, &mut n_patterns)?;
    let mut sizes = Sizes {
        root: schema,
        refs: BTreeMap::new(),
        depth: 0,
        is_deep: false,
        is_over: false,
    };
    let _ = sizes.of(schema);
    if sizes.is_deep {
        return Err(fault(format!(
            "schema: expected references to lead at most {MOST_HOPS} deep"
        )));
    }
    if sizes.is_over {
        return Err(fault(
            "schema: allOf, anyOf, oneOf and $ref combine to too many cases",
        ));
    }
    Ok(())
}

pub(super) fn fault(message: impl Into<String>) -> Fault {
    Fault::new(Kind::Schema, message)
}

/// Whether a value nests no deeper, without going deeper.
fn is_within(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(|item| is_within(item, depth - 1)),
        Value::Object(fields) => {
            depth > 0 && fields.values().all(|field| is_within(field, depth - 1))
        }
        _ => true,
    }
}

/// A client's text, short enough to be said back.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The schemas directly within one.
fn children(schema: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    schema.iter().flat_map(|(keyword, value)| {
        let keyword = keyword.as_str();
        let children: Vec<&Value> = match value {
            Value::Array(list) if LIST.contains(&keyword) => list.iter().collect(),
            Value::Object(named) if NAMED.contains(&keyword) => named.values().collect(),
            Value::Object(_) if ONE.contains(&keyword) => vec![value],
            _ => Vec::new(),
        };
        children.into_iter().map(move |child| (keyword, child))
    })
}

fn check_keywords(schema: &Value, n_patterns: &mut usize) -> Result<(), Fault> {
    let schema = match schema {
        Value::Object(schema) => schema,
        Value::Bool(_) => return Ok(()),
        other => {
            return Err(fault(format!(
                "schema: expected an object or a boolean, got {}",
                short(&other.to_string())
            )));
        }
    };
    if let Some(keyword) = UNFOLLOWED.iter().find(|k| schema.contains_key(**k)) {
        return Err(fault(format!("schema: {keyword} is not supported")));
    }
    if let Some(reference) = schema.get("$ref") {
        let is_own = reference.as_str().is_some_and(|text| text.starts_with('#'));
        if !is_own {
            return Err(fault(
                "schema: expected $ref to point into the schema itself (#/...), got another place",
            ));
        }
    }
    for (keyword, most) in COUNTS {
        if let Some(count) = schema.get(keyword)
            && count.as_u64().is_none_or(|count| count > most)
        {
            return Err(fault(format!(
                "schema: expected {keyword} to be a whole number up to {most}, got {}",
                short(&count.to_string())
            )));
        }
    }
    if let Some(Value::Object(patterns)) = schema.get("patternProperties") {
        *n_patterns += patterns.len();
        if *n_patterns > MOST_PATTERNS {
            return Err(fault(format!(
                "schema: expected at most {MOST_PATTERNS} patternProperties"
            )));
        }
    }
    for keyword in ["anyOf", "oneOf"] {
        let cases = schema.get(keyword).and_then(Value::as_array);
        let n_cases = cases.map_or(0, |cases| {
            cases.iter().filter(|case| !is_plain(case)).count()
        });
        if n_cases > MOST_CASES {
            return Err(fault(format!(
                "schema: expected at most {MOST_CASES} cases of {keyword}, got {n_cases}"
            )));
        }
    }
    for (_, child) in children(schema) {
        check_keywords(child, n_patterns)?;
    }
    Ok(())
}

/// Whether only values without parts fit, so that one automaton follows all such cases.
fn is_plain(schema: &Value) -> bool {
    let is_list = |value: &Value| value.is_array() || value.is_object();
    let holds = |keyword: &str| schema.get(keyword).filter(|value| !is_list(value));
    match schema.get("enum") {
        Some(Value::Array(values)) => !values.iter().any(is_list),
        _ if holds("const").is_some() => true,
        _ => holds("type").is_some_and(|name| name != "object" && name != "array"),
    }
}

/// How many parts schemas have once references are followed and combinations are worked out. Both
/// sides of a combination are trees, and what they have in common has a part for at most each pair
/// of parts.
struct Sizes<'a> {
    root: &'a Value,
    /// By reference; none while it is being worked out.
    refs: BTreeMap<&'a str, Option<f64>>,
    /// References being followed, one within the other.
    depth: usize,
    is_deep: bool,
    is_over: bool,
}

impl<'a> Sizes<'a> {
    fn of(&mut self, schema: &'a Value) -> f64 {
        let Value::Object(schema) = schema else {
            return 1.0;
        };
        let sum_of = |sizes: &mut Self, list: &'a Value| -> f64 {
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().map(|option| sizes.of(option)).sum()
        };
        let mut sides = Vec::new();
        for (keyword, value) in schema {
            match keyword.as_str() {
                "$ref" => sides.extend(value.as_str().map(|to| self.of_ref(to))),
                "anyOf" | "oneOf" => sides.push(sum_of(self, value)),
                "allOf" => {
                    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
                    sides.extend(all.iter().map(|one| self.of(one)));
                }
                "enum" => sides.push(value.as_array().map_or(1.0, |list| list.len() as f64)),
                _ => {}
            }
        }
        let is_silent = |keyword: &String| SILENT.contains(&keyword.as_str());
        let types = match schema.get("type") {
            None if schema.keys().all(is_silent) => 0.0,
            None => ALL_TYPES,
            Some(Value::Array(types)) => types.len() as f64,
            Some(_) => 1.0,
        };
        if types > 0.0 {
            let own = [
                "properties",
                "patternProperties",
                "additionalProperties",
                "items",
                "prefixItems",
            ];
            let within = children(schema).filter(|(keyword, _)| own.contains(keyword));
            let within: Vec<&'a Value> = within.map(|(_, child)| child).collect();
            let within: f64 = within.into_iter().map(|child| self.of(child)).sum();
            sides.push(types + within);
        }
        let combined: f64 = match sides.as_slice() {
            [one] => *one,
            several => several.iter().map(|side| side.max(1.0)).product(),
        };
        self.is_over |= sides.len() > 1 && combined > MOST_COMBINED;
        combined.max(1.0)
    }

    fn of_ref(&mut self, to: &'a str) -> f64 {
        if let Some(known) = self.refs.get(to) {
            return known.unwrap_or(1.0);
        }
        if self.depth >= MOST_HOPS {
            self.is_deep = true;
            return 1.0;
        }
        self.refs.insert(to, None);
        self.depth += 1;
        let target = self.root.pointer(to.trim_start_matches('#'));
        let size = target.map_or(1.0, |schema| self.of(schema));
        self.depth -= 1;
        self.refs.insert(to, Some(size));
        size
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_with(schema: &Value, expected: Option<&str>) {
        let got = check(schema, &Limits::USUAL).err().map(|f| f.message);
        match (got.as_deref(), expected) {
            (Some(got), Some(expected)) => assert!(got.contains(expected), "{got}"),
            (got, expected) => assert_eq!(got, expected, "{schema}"),
        }
    }

    #[test]
    fn what_is_followed_passes() {
        let pydantic = json!({
            "$defs": {
                "Kind": { "enum": ["a", "b"], "title": "Kind", "type": "string" },
                "Tree": { "type": "object", "properties": {
                    "kind": { "allOf": [{ "$ref": "#/$defs/Kind" }], "description": "which" },
                    "children": { "type": "array", "items": { "$ref": "#/$defs/Tree" }, "maxItems": 9 },
                    "name": { "anyOf": [{ "type": "string", "maxLength": 40 }, { "type": "null" }], "default": null },
                }, "required": ["kind"], "additionalProperties": false },
            },
            "$ref": "#/$defs/Tree",
        });
        check_with(&pydantic, None);
        check_with(&json!(true), None);
        // Names and data that look like keywords are none.
        let names = json!({ "type": "object", "properties": { "not": {}, "$ref": { "type": "string" } },
            "enum": [{ "if": 1, "$ref": "http://a" }] });
        check_with(&names, None);
        check_with(
            &json!({ "type": "string", "x-order": 3, "nullable": true }),
            None,
        );
    }

    #[test]
    fn what_is_not_followed_is_named() {
        let within =
            |schema: Value| json!({ "items": [{ "properties": { "a": { "anyOf": [schema] } } }] });
        let rows = [
            (json!({ "not": {} }), "not is not supported"),
            (json!({ "if": {}, "then": {} }), "if is not supported"),
            (json!({ "uniqueItems": true }), "uniqueItems is not"),
            (
                json!({ "x-guidance": { "lenient": true } }),
                "x-guidance is not",
            ),
            (
                json!({ "$ref": "https://example.com/a.json" }),
                "expected $ref to point into",
            ),
            (
                json!({ "$ref": "file:///etc/passwd" }),
                "expected $ref to point into",
            ),
            (json!({ "$ref": 7 }), "expected $ref to point into"),
            (
                json!({ "maxItems": 1_000_000 }),
                "expected maxItems to be a whole number up to 10000",
            ),
            (json!({ "minLength": -1 }), "expected minLength"),
            (json!([]), "expected an object or a boolean, got []"),
        ];
        for (schema, expected) in rows {
            check_with(&schema, Some(expected));
            check_with(&within(schema), Some(expected));
        }
    }

    #[test]
    fn what_grows_is_refused() {
        let deep = (0..10_000).fold(json!({}), |inner, _| {
            Value::Object(Map::from_iter([("items".to_owned(), inner)]))
        });
        check_with(&deep, Some("expected nesting of at most 32"));
        // To drop it would need as much stack.
        std::mem::forget(deep);
        let words: Vec<String> = (0..1 << 20).map(|i| format!("{i:08}")).collect();
        check_with(
            &json!({ "enum": words }),
            Some("expected at most 65536 bytes"),
        );
        let cases =
            |case: fn(usize) -> Value| json!({ "anyOf": (0..200).map(case).collect::<Vec<_>>() });
        check_with(
            &cases(|i| json!({ "type": "object", "minProperties": i / 100 })),
            Some("at most 128 cases of anyOf, got 200"),
        );
        check_with(&cases(|i| json!({ "const": i })), None);
        let patterns: Map<String, Value> = (0..40).map(|i| (format!("^{i}"), json!({}))).collect();
        check_with(
            &json!({ "patternProperties": patterns }),
            Some("at most 32 patternProperties"),
        );
        let choice = json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] });
        check_with(
            &json!({ "allOf": vec![choice; 20] }),
            Some("too many cases"),
        );
        // Each definition names the next one twice, and two such chains are laid over each other.
        let mut defs = Map::new();
        for i in 0..40 {
            for side in ["a", "b"] {
                let next = json!({ "$ref": format!("#/$defs/{side}{}", i + 1) });
                defs.insert(
                    format!("{side}{i}"),
                    json!({ "type": "object", "properties": { "l": next, "r": next } }),
                );
            }
        }
        let chain: Map<String, Value> = (0..1500)
            .map(|i| {
                (
                    format!("{i}"),
                    json!({ "items": { "$ref": format!("#/$defs/{}", i + 1) } }),
                )
            })
            .collect();
        check_with(
            &json!({ "$ref": "#/$defs/0", "$defs": chain }),
            Some("at most 64 deep"),
        );
        let both =
            json!({ "allOf": [{ "$ref": "#/$defs/a0" }, { "$ref": "#/$defs/b0" }], "$defs": defs });
        check_with(&both, Some("too many cases"));
    }
}
