//! Holds `openapi.json` against the parsers and encoders: what parsers take is valid, what is valid
//! they take or refuse for a reason that no schema says, and what encoders write is valid.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use super::samples::{calling, cut, head, nearly, plain, thoughtful};
use super::{chat, completions, messages, models, ollama, responses, tokens};
use crate::answer::{Limits, Said};
use crate::models::Listed;

fn document() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).unwrap()
}

/// The part of JSON Schema that the description is written in. Patterns are not looked at.
#[derive(Debug)]
struct Schemas(Value);

impl Schemas {
    fn resolve(&self, path: &str) -> &Value {
        let pointer = path.strip_prefix('#').unwrap();
        self.0
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{path} leads nowhere"))
    }

    fn named(&self, name: &str) -> &Value {
        self.resolve(&format!("#/components/schemas/{name}"))
    }

    /// Why a value is not as a schema says; nothing if it is.
    fn against(&self, schema: &Value, value: &Value) -> Option<String> {
        let Some(rules) = schema.as_object() else {
            return (schema == &json!(false)).then(|| "may not be given".into());
        };
        rules.iter().find_map(|(rule, limit)| {
            let holds = match rule.as_str() {
                "description" | "pattern" => true,
                "$ref" => {
                    return self.against(self.resolve(limit.as_str().unwrap()), value);
                }
                "anyOf" => {
                    let mut options = limit.as_array().unwrap().iter();
                    options.any(|option| self.against(option, value).is_none())
                }
                "type" => types(limit).iter().any(|kind| is_of(kind, value)),
                "enum" => limit.as_array().unwrap().contains(value),
                "minimum" => value.as_f64().is_none_or(|n| n >= limit.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|n| n <= limit.as_f64().unwrap()),
                "minLength" | "maxLength" => within(rule, limit, characters(value)),
                "minItems" | "maxItems" => within(rule, limit, value.as_array().map(Vec::len)),
                "maxProperties" => within(rule, limit, value.as_object().map(Map::len)),
                "items" => return self.against_all(limit, value.as_array()?),
                "propertyNames" => {
                    let names = value.as_object()?.keys().map(|name| json!(name));
                    return self.against_all(limit, &names.collect::<Vec<_>>());
                }
                "required" => {
                    let mut names = limit.as_array().unwrap().iter();
                    let object = value.as_object();
                    object.is_none_or(|o| names.all(|name| o.contains_key(name.as_str().unwrap())))
                }
                "properties" => {
                    let mut fields = limit.as_object().unwrap().iter();
                    return fields.find_map(|(name, schema)| {
                        let why = self.against(schema, value.get(name)?)?;
                        Some(format!("{name}: {why}"))
                    });
                }
                "additionalProperties" => {
                    let known = rules.get("properties");
                    let is_known = |name: &str| known.is_some_and(|it| it.get(name).is_some());
                    let mut fields = value.as_object()?.iter();
                    return fields.find_map(|(name, value)| {
                        let why = (!is_known(name)).then(|| self.against(limit, value))??;
                        Some(format!("{name}: {why}"))
                    });
                }
                other => panic!("{other} is not looked at"),
            };
            (!holds).then(|| format!("{rule}: {limit}"))
        })
    }

    fn against_all(&self, schema: &Value, values: &[Value]) -> Option<String> {
        values.iter().find_map(|value| self.against(schema, value))
    }

    /// Values at the edges of a schema, each field in turn.
    fn examples(&self, schema: &Value) -> Vec<Value> {
        let Some(rules) = schema.as_object() else {
            return Vec::new();
        };
        if let Some(path) = rules.get("$ref") {
            return self.examples(self.resolve(path.as_str().unwrap()));
        }
        for list in ["anyOf", "enum"] {
            if let Some(Value::Array(options)) = rules.get(list) {
                return match list {
                    "enum" => options.clone(),
                    _ => options.iter().flat_map(|o| self.examples(o)).collect(),
                };
            }
        }
        let limit = |name: &str| rules.get(name).cloned();
        let Some(kinds) = rules.get("type").map(types) else {
            return vec![json!("x")];
        };
        let of_kind = |kind: &&str| match *kind {
            "null" => vec![Value::Null],
            "boolean" => vec![false.into(), true.into()],
            "integer" | "number" => {
                let ends = [limit("minimum"), limit("maximum")];
                ends.map(|end| end.unwrap_or_else(|| 1.into())).into()
            }
            "string" => {
                let count = |name| usize::try_from(limit(name)?.as_u64()?).ok();
                let (least, most) = (count("minLength"), count("maxLength"));
                let lengths = [least.unwrap_or(0), most.unwrap_or(1)];
                lengths.map(|n| "0".repeat(n).into()).into()
            }
            "array" => self.lists(rules),
            _ => self.objects(rules),
        };
        kinds.iter().flat_map(of_kind).collect()
    }

    fn lists(&self, rules: &Map<String, Value>) -> Vec<Value> {
        let none = (!rules.contains_key("minItems")).then(|| json!([]));
        let one = rules.get("maxItems") != Some(&json!(0));
        let items = one.then(|| self.examples(&rules["items"]));
        let items = items.into_iter().flatten().map(|item| json!([item]));
        none.into_iter().chain(items).collect()
    }

    fn objects(&self, rules: &Map<String, Value>) -> Vec<Value> {
        let none = Map::new();
        let fields = rules.get("properties").and_then(Value::as_object);
        let fields = fields.unwrap_or(&none);
        let required = rules.get("required").and_then(Value::as_array);
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        let least: Map<String, Value> = required
            .map(|name| (name.to_owned(), self.usual(&fields[name])))
            .collect();
        let mut all = vec![Value::from(least.clone())];
        let more = rules.get("additionalProperties").filter(|m| m.is_object());
        let more = more.map(|schema| ("0", schema));
        let fields = fields.iter().map(|(name, schema)| (name.as_str(), schema));
        for (name, schema) in fields.chain(more) {
            for value in self.examples(schema) {
                let mut object = least.clone();
                object.insert(name.to_owned(), value);
                all.push(object.into());
            }
        }
        all
    }

    /// An example that is not empty, where there is one.
    fn usual(&self, schema: &Value) -> Value {
        let examples = self.examples(schema);
        let is_empty = |value: &&Value| **value == json!("") || **value == json!([]);
        let usual = examples.iter().find(|value| !is_empty(value));
        usual.or(examples.first()).unwrap().clone()
    }
}

fn types(of: &Value) -> Vec<&str> {
    match of {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}

fn characters(value: &Value) -> Option<usize> {
    value.as_str().map(|text| text.chars().count())
}

fn within(rule: &str, limit: &Value, size: Option<usize>) -> bool {
    let limit = usize::try_from(limit.as_u64().unwrap()).unwrap();
    size.is_none_or(|size| {
        if rule.starts_with("min") {
            size >= limit
        } else {
            size <= limit
        }
    })
}

/// A route's request: its schema, a body that it takes, and what says whether it takes one.
type Request = (&'static str, Value, fn(&Value) -> Result<(), String>);

fn requests() -> Vec<Request> {
    macro_rules! taken {
        ($parse:expr) => {
            |body| {
                let taken = $parse(body, &Limits::USUAL);
                taken.map(drop).map_err(|fault| fault.message)
            }
        };
    }
    let talk = json!({"model": "m", "messages": [{"role": "user", "content": "u"}]});
    let mut message = talk.clone();
    message["max_tokens"] = json!(9);
    let text = json!({"model": "m", "prompt": "p"});
    vec![
        ("ChatRequest", talk.clone(), taken!(chat::parse)),
        (
            "CompletionRequest",
            text.clone(),
            taken!(completions::parse),
        ),
        (
            "ResponsesRequest",
            json!({"model": "m", "input": "i"}),
            taken!(responses::parse),
        ),
        ("MessagesRequest", message, taken!(messages::parse)),
        ("CountRequest", talk.clone(), taken!(messages::parse_count)),
        ("TokenizeRequest", text.clone(), taken!(tokens::tokenize)),
        (
            "DetokenizeRequest",
            json!({"tokens": [1]}),
            taken!(tokens::detokenize),
        ),
        ("OllamaChatRequest", talk, taken!(ollama::parse_chat)),
        (
            "OllamaGenerateRequest",
            text,
            taken!(ollama::parse_generate),
        ),
        ("OllamaShowRequest", json!({"model": "m"}), |body| {
            let taken = ollama::parse_show(body);
            taken.map(drop).map_err(|fault| fault.message)
        }),
    ]
}

/// Names of fields and words of a schema.
fn words(schemas: &Schemas, schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(rules) => {
            if let Some(path) = rules.get("$ref").and_then(Value::as_str) {
                words(schemas, schemas.resolve(path), found);
            }
            let fields = rules.get("properties").and_then(Value::as_object);
            found.extend(fields.into_iter().flat_map(Map::keys).cloned());
            let options = rules.get("enum").and_then(Value::as_array);
            let options = options.into_iter().flatten().filter_map(Value::as_str);
            found.extend(options.map(str::to_owned));
            rules.values().for_each(|rule| words(schemas, rule, found));
        }
        Value::Array(all) => all.iter().for_each(|one| words(schemas, one, found)),
        _ => {}
    }
}

#[test]
fn references_lead_somewhere() {
    fn follow(schemas: &Schemas, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(path) = fields.get("$ref").and_then(Value::as_str) {
                    schemas.resolve(path);
                }
                fields.values().for_each(|value| follow(schemas, value));
            }
            Value::Array(all) => all.iter().for_each(|value| follow(schemas, value)),
            _ => {}
        }
    }
    let schemas = Schemas(document());
    follow(&schemas, &schemas.0);
}

#[test]
fn what_is_taken_is_described() {
    let schemas = Schemas(document());
    for (name, least, taken) in requests() {
        let schema = schemas.named(name);
        assert_eq!(taken(&least), Ok(()), "{name}");
        let mut found = BTreeSet::new();
        words(&schemas, schema, &mut found);
        let found: Vec<&str> = found.into_iter().map(|word| &*word.leak()).collect();
        let bodies = nearly(least, found.leak());
        let mut runner = TestRunner::new(ProptestConfig::with_cases(400));
        let checked = runner.run(&bodies, |body| {
            if taken(&body).is_ok() {
                let why = schemas.against(schema, &body);
                prop_assert_eq!(why, None, "{}: {}", name, body);
            }
            Ok(())
        });
        checked.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// The reasons of those that are refused are what no schema says, or what this one does not.
#[test]
fn what_is_described_is_taken_or_refused_for_another_reason() {
    let schemas = Schemas(document());
    let mut reasons = BTreeSet::new();
    for (name, least, taken) in requests() {
        let schema = schemas.named(name);
        for example in schemas.examples(schema) {
            assert_eq!(schemas.against(schema, &example), None, "{name}: {example}");
            // Required fields as they are taken, so that one field alone is on trial.
            let mut body = least.clone();
            for (field, value) in example.as_object().unwrap() {
                let required = &schema["required"];
                let is_usual = required
                    .as_array()
                    .is_some_and(|all| all.contains(&json!(field)));
                if !is_usual || example[field] != schemas.usual(&schema["properties"][field]) {
                    body[field] = value.clone();
                }
            }
            if let Err(why) = taken(&body) {
                assert!(!why.contains("unknown field"), "{name}: {why}: {body}");
                reasons.insert(why);
            }
        }
    }
    let reasons: Vec<String> = reasons.into_iter().collect();
    insta::assert_snapshot!(reasons.join("\n"), @r#"
    best_of: expected as many as n: all answers are given
    continue_final_message: expected the last message to be the assistant's, without tool_calls
    expected a JSON object, got an empty body
    guided_json: expected a schema as an object, got 0
    input: expected at least one message, got none
    input: expected the results of all tool calls before the conversation goes on, got 1 calls without one
    input[0]: expected the result of a call before it that has none yet, got the id of no such call
    max_tokens: expected a whole number from 1 to 2147483647, got 0
    messages: expected at least one message, got none
    messages: expected prompt or messages, got both
    messages: expected the results of all tool calls before the conversation goes on, got 1 calls without one
    messages[0].content: expected a value, got none
    messages[0].content[0]: expected the result of a call before it that has none yet, got the id of no such call
    messages[0].tool_call_id: expected the id of a tool call before it that has no result yet
    messages[0].tool_calls[0].index: expected the call's place in the list
    messages[0]: expected the result of a call before it that has none yet, got the id of no such call
    model: expected a value, got none
    reasoning_logprobs: only together with logprobs: true
    stream_options: only together with stream: true
    structured_outputs.json: expected a schema as an object, got 0
    structured_outputs: expected one of json, regex, grammar, choice, json_object
    thinking.budget_tokens: contradicts thinking.type
    thinking.budget_tokens: expected less than max_tokens, 9, got 2147483648
    tool_choice.allowed_tools.tools[0].function.name: no tool has this name
    tool_choice.function.name: no tool has this name
    tool_choice.name: no tool has this name
    tool_choice.tools[0].name: no tool has this name
    tool_choice: expected tools to choose from, got none
    top_logprobs: only beside logprobs: true
    top_logprobs: only together with logprobs: true
    verify.reference: expected a value, got none
    "#);
}

/// What a dialect writes of what is said: chunks or events, and a whole body.
type Written = (Vec<Value>, Value);

fn written<E>(
    encoder: fn(bool) -> E,
    push: fn(&mut E, Said) -> Vec<Value>,
    whole: fn(E) -> Value,
    said: &[Said],
) -> Written {
    let (mut streamed, mut kept) = (encoder(true), encoder(false));
    let mut pieces = Vec::new();
    for one in said {
        pieces.extend(push(&mut streamed, one.clone()));
        push(&mut kept, one.clone());
    }
    (pieces, whole(kept))
}

fn body(stream: bool, more: &Value) -> Value {
    let mut body = json!({"model": "m", "stream": stream});
    let more = more.as_object().unwrap();
    body.as_object_mut().unwrap().extend(more.clone());
    body
}

fn chat_encoder(stream: bool) -> chat::Encoder {
    let messages = json!({"messages": [{"role": "user", "content": "u"}], "logprobs": true,
        "reasoning_logprobs": true, "return_token_ids": true, "service_tier": "auto",
        "stream_options": if stream { json!({"include_usage": true}) } else { Value::Null }});
    let (_, out) = chat::parse(&body(stream, &messages), &Limits::USUAL).unwrap();
    chat::Encoder::new(head("id"), None, out)
}

fn completions_encoder(stream: bool) -> completions::Encoder {
    let prompt = json!({"prompt": "p", "logprobs": 2, "return_token_ids": true, "echo": true});
    let (_, out) = completions::parse(&body(stream, &prompt), &Limits::USUAL).unwrap();
    completions::Encoder::new(head("id"), Some("f".into()), out)
}

fn responses_encoder(stream: bool) -> responses::Encoder {
    let input = json!({"input": "i"});
    let (_, out) = responses::parse(&body(stream, &input), &Limits::USUAL).unwrap();
    responses::Encoder::new(head("id"), out)
}

fn messages_encoder(stream: bool) -> messages::Encoder {
    let messages = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "u"}]});
    let (_, out) = messages::parse(&body(stream, &messages), &Limits::USUAL).unwrap();
    messages::Encoder::new(head("id"), out)
}

fn ollama_encoder(stream: bool, is_chat: bool) -> ollama::Encoder {
    let messages = json!({"messages": [{"role": "user", "content": "u"}], "logprobs": true});
    let prompt = json!({"prompt": "p"});
    let wanted = if is_chat {
        ollama::parse_chat(&body(stream, &messages), &Limits::USUAL)
    } else {
        ollama::parse_generate(&body(stream, &prompt), &Limits::USUAL)
    };
    let ollama::Wanted::Answer(_, out) = wanted.unwrap() else {
        panic!("an answer");
    };
    ollama::Encoder::new(head("id"), out, 0.5)
}

fn unnamed<N>(events: Vec<(N, Value)>) -> Vec<Value> {
    events.into_iter().map(|(_, event)| event).collect()
}

fn listed() -> Listed {
    Listed {
        name: "m".into(),
        created: 1,
        bytes: 2,
        context: Some(4),
        sampling: None,
        about: json!({"parameters": 3}),
    }
}

#[test]
fn what_is_said_is_described() {
    let schemas = Schemas(document());
    let check = |name: &str, value: &Value| {
        let why = schemas.against(schemas.named(name), value);
        assert_eq!(why, None, "{name}: {value}");
    };
    for said in [plain(), thoughtful(), calling(), cut()] {
        let rows: [(&str, &str, Written); 6] = [
            (
                "ChatChunk",
                "ChatCompletion",
                written(
                    chat_encoder,
                    chat::Encoder::push,
                    |e| e.whole().unwrap(),
                    &said,
                ),
            ),
            (
                "Completion",
                "Completion",
                written(
                    completions_encoder,
                    |e, said| e.push(0, said),
                    |e| e.whole().unwrap(),
                    &said,
                ),
            ),
            (
                "ResponseEvent",
                "Response",
                written(
                    responses_encoder,
                    |e, said| unnamed(e.push(said)),
                    |e| e.whole().unwrap(),
                    &said,
                ),
            ),
            (
                "MessageEvent",
                "Message",
                written(
                    messages_encoder,
                    |e, said| unnamed(e.push(said)),
                    |e| e.whole().unwrap(),
                    &said,
                ),
            ),
            (
                "OllamaChat",
                "OllamaChat",
                written(
                    |stream| ollama_encoder(stream, true),
                    ollama::Encoder::push,
                    |e| e.whole().unwrap(),
                    &said,
                ),
            ),
            (
                "OllamaGenerate",
                "OllamaGenerate",
                written(
                    |stream| ollama_encoder(stream, false),
                    ollama::Encoder::push,
                    |e| e.whole().unwrap(),
                    &said,
                ),
            ),
        ];
        for (piece, whole, (pieces, body)) in rows {
            assert!(!pieces.is_empty(), "{piece}");
            for value in &pieces {
                check(piece, value);
            }
            check(whole, &body);
        }
    }
    let listed = listed();
    check("ModelList", &models::list(std::slice::from_ref(&listed)));
    check("Tokenized", &tokens::tokenized(&[1], 2, None));
    check("Detokenized", &tokens::detokenized("a"));
    check("TokenizerInfo", &tokens::tokenizer_info(&json!({})));
    check("Counted", &messages::counted(3));
    check("OllamaVersion", &ollama::version());
    check("OllamaTags", &ollama::tags(std::slice::from_ref(&listed)));
    check(
        "OllamaShow",
        &ollama::show(&listed, &ollama::Known::default()),
    );
    let running = ollama::Running {
        listed: &listed,
        bytes: 1,
        positions: 4,
    };
    check("OllamaRunning", &ollama::running(&[running]));
}

#[test]
fn the_file_is_what_its_script_writes() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.py");
    let Ok(made) = std::process::Command::new("python3").arg(script).output() else {
        eprintln!("skipped: there is no python3 to run {script}");
        return;
    };
    let made = String::from_utf8(made.stdout).unwrap();
    assert!(
        made == include_str!("../openapi.json"),
        "openapi.json is stale: write it anew with openapi.py"
    );
}
