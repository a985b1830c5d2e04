//! Answers in a form, calls of tools, answers that are graded.

use std::sync::Arc;

use frugal_serve::service::Grader;
use serde_json::{Value, json};

use super::house::{House, Setup, question};
use super::model::{Kind, Script, control, message};

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "a": { "type": "integer", "minimum": 0, "maximum": 99 },
            "b": { "enum": ["x", "y"] },
            "c": { "type": "array", "items": { "type": "boolean" }, "maxItems": 2 },
        },
        "required": ["a", "b", "c"],
        "additionalProperties": false,
    })
}

fn fits(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    let object = value.as_object().unwrap();
    assert_eq!(object.len(), 3, "{text}");
    assert!((0..=99).contains(&object["a"].as_i64().unwrap()), "{text}");
    assert!(
        ["x", "y"].contains(&object["b"].as_str().unwrap()),
        "{text}"
    );
    let list = object["c"].as_array().unwrap();
    assert!(
        list.len() <= 2 && list.iter().all(Value::is_boolean),
        "{text}"
    );
}

#[tokio::test]
async fn schemas_hold_whatever_the_model_would_rather_say() {
    let format = json!({
        "type": "json_schema", "json_schema": { "name": "n", "schema": schema(), "strict": true },
    });
    let babbler = House::open(Setup::babbling(Kind::Qwen2)).warm().await;
    for seed in 0..6 {
        let more = json!({
            "response_format": format, "seed": seed, "max_tokens": 900,
            "thinking": { "type": "disabled" },
        });
        let body = babbler.chat(&question("hi", more)).await.ok();
        if body["choices"][0]["finish_reason"] == "stop" {
            fits(message(&body)["content"].as_str().unwrap());
        } else {
            assert!(seed > 0, "never ends");
        }
    }
    // Thoughts are free, and the form begins with the answer.
    let script = Script::says("no JSON at all").thinking("the rain, {\"a\": 1} the rain");
    let thinker = House::open(Setup::saying(script)).warm().await;
    let more = json!({ "response_format": format, "max_tokens": 900 });
    let body = thinker.chat(&question("hi", more)).await.ok();
    assert_eq!(
        message(&body)["reasoning_content"],
        "the rain, {\"a\": 1} the rain"
    );
    if body["choices"][0]["finish_reason"] == "stop" {
        fits(message(&body)["content"].as_str().unwrap());
    }
}

#[tokio::test]
async fn other_forms_hold_on_every_route_that_has_them() {
    let house = House::open(Setup::babbling(Kind::DeepseekV3)).warm().await;
    let off = json!({ "type": "disabled" });
    for (name, value) in [
        ("guided_regex", json!("(red|green){2}")),
        (
            "guided_grammar",
            json!("start: (\"red\" | \"green\") (\"red\" | \"green\")"),
        ),
        (
            "guided_choice",
            json!(["redred", "greengreen", "redgreen", "greenred"]),
        ),
    ] {
        let body = house
            .chat(&question("hi", json!({ "thinking": off, (name): value })))
            .await
            .ok();
        let said = message(&body)["content"]
            .as_str()
            .unwrap()
            .replace("red", "");
        assert_eq!(said.replace("green", ""), "", "{name}");
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        let text = json!({ "model": "m", "prompt": "hi", "max_tokens": 40, (name): value });
        let body = house.post("/v1/completions", &text).await.ok();
        let said = body["choices"][0]["text"]
            .as_str()
            .unwrap()
            .replace("red", "");
        assert_eq!(said.replace("green", ""), "", "{name}");
    }
    let schema = json!({ "enum": ["red", "green"] });
    let text = json!({ "format": { "type": "json_schema", "name": "n", "schema": schema } });
    let body = json!({ "model": "m", "input": "hi", "text": text, "thinking": off });
    let body = house.post("/v1/responses", &body).await.ok();
    let said = &body["output"][0]["content"][0]["text"];
    assert!(
        ["\"red\"", "\"green\""].contains(&said.as_str().unwrap()),
        "{body}"
    );
    let body = json!({
        "model": "m", "prompt": "hi", "stream": false, "think": false,
        "format": { "type": "object", "properties": { "a": { "const": 1 } }, "required": ["a"],
                    "additionalProperties": false },
        "options": { "num_predict": 400 },
    });
    let body = house.post("/api/generate", &body).await.ok();
    if body["done_reason"] == "stop" {
        let said: Value = serde_json::from_str(body["response"].as_str().unwrap()).unwrap();
        assert_eq!(said, json!({ "a": 1 }));
    }
}

fn tools() -> Value {
    let tool = |name: &str| {
        json!({ "type": "function", "function": { "name": name, "description": "d", "parameters": {
            "type": "object",
            "properties": { "city": { "enum": ["Oslo", "Rome"] } },
            "required": ["city"],
            "additionalProperties": false,
        } } })
    };
    json!([tool("weather"), tool("hills")])
}

/// Checks calls; gives the names.
fn called(body: &Value) -> Vec<String> {
    let calls = message(body)["tool_calls"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let name = |call: &Value| {
        let arguments = call["function"]["arguments"].as_str().unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert!(["Oslo", "Rome"].contains(&arguments["city"].as_str().unwrap()));
        assert_eq!(call["type"], "function");
        assert!(call["id"].as_str().unwrap().starts_with("call_"));
        call["function"]["name"].as_str().unwrap().to_owned()
    };
    calls.iter().map(name).collect()
}

#[tokio::test]
async fn tools_are_called_as_they_must_or_may_be() {
    let house = House::open(Setup::babbling(Kind::Qwen2)).warm().await;
    for seed in 0..3 {
        let asked = async |choice: Value| {
            let more = json!({
                "tools": tools(), "tool_choice": choice, "parallel_tool_calls": false, "seed": seed,
                "thinking": { "type": "disabled" }, "max_tokens": 500,
            });
            house.chat(&question("hi", more)).await.ok()
        };
        let required = asked(json!("required")).await;
        if required["choices"][0]["finish_reason"] == "tool_calls" {
            assert_eq!(called(&required).len(), 1);
        }
        let one = json!({ "type": "function", "function": { "name": "hills" } });
        let named = asked(one).await;
        if named["choices"][0]["finish_reason"] == "tool_calls" {
            assert_eq!(called(&named), ["hills"]);
        }
        let none = asked(json!("none")).await;
        assert!(called(&none).is_empty());
        assert_ne!(none["choices"][0]["finish_reason"], "tool_calls");
    }
}

#[tokio::test]
async fn a_model_that_calls_is_heard_and_one_that_must_not_cannot() {
    let call =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>";
    let script = Script::says(call).thinking("the rain in rome");
    let house = House::open(Setup::saying(script)).warm().await;
    let mut body = question("hi", json!({ "tools": tools() }));
    for choice in [Value::Null, json!("auto"), json!("required")] {
        body["tool_choice"] = choice;
        let answer = house.chat(&body).await.ok();
        assert_eq!(called(&answer), ["weather"]);
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(message(&answer)["content"], Value::Null);
        assert_eq!(message(&answer)["reasoning_content"], "the rain in rome");
    }
    body["tool_choice"] = json!("none");
    let answer = house.chat(&body).await.ok();
    assert!(called(&answer).is_empty(), "{answer}");
    body["tool_choice"] = json!("auto");
    body["stream"] = json!(true);
    let events = house.chat(&body).await.events();
    let mut arguments = String::new();
    let mut names = Vec::new();
    for event in &events {
        let call = &event["choices"][0]["delta"]["tool_calls"][0]["function"];
        arguments += call["arguments"].as_str().unwrap_or_default();
        names.extend(call["name"].as_str());
    }
    assert_eq!(names, ["weather"]);
    assert_eq!(
        serde_json::from_str::<Value>(&arguments).unwrap(),
        json!({ "city": "Rome" })
    );
    // And the result goes back.
    let whole = {
        body["stream"] = json!(false);
        house.chat(&body).await.ok()
    };
    let mut talk = body["messages"].as_array().unwrap().clone();
    talk.push(message(&whole).clone());
    let id = &message(&whole)["tool_calls"][0]["id"];
    talk.push(json!({ "role": "tool", "tool_call_id": id, "content": "sun" }));
    body["messages"] = talk.into();
    house.chat(&body).await.ok();
}

/// Finds the last number.
#[derive(Debug)]
struct Numbers;

impl Grader for Numbers {
    fn result(&self, answer: &str) -> Option<String> {
        let digits = answer
            .rsplit(|c: char| !c.is_ascii_digit())
            .find(|s| !s.is_empty());
        digits.map(str::to_owned)
    }

    fn is_right(&self, task: &str, reference: &Value, answer: &str) -> Result<bool, String> {
        match task {
            "sum" => Ok(answer.contains(&reference.to_string())),
            _ => Err("no such task".into()),
        }
    }
}

#[tokio::test]
async fn verified_answers_come_with_a_verdict_and_what_all_cost() {
    let mut setup = Setup::saying(Script::says("it is 42").thinking("the rain"));
    setup.grader = Some(Arc::new(Numbers));
    let house = House::open(setup).warm().await;
    for (verify, is_verified, result) in [
        (
            json!({ "samples": 3, "checker": "majority" }),
            true,
            json!("it is 42"),
        ),
        (
            json!({ "samples": 3, "checker": "math" }),
            true,
            json!("42"),
        ),
        (
            json!({ "samples": 2, "checker": "json" }),
            false,
            Value::Null,
        ),
        (
            json!({ "samples": 2, "checker": "sum", "reference": 42 }),
            true,
            json!("right"),
        ),
        (
            json!({ "samples": 2, "checker": "sum", "reference": 41 }),
            false,
            Value::Null,
        ),
    ] {
        for stream in [false, true] {
            let mut body = question("hi", json!({ "verify": verify, "stream": stream }));
            if stream {
                body["stream_options"] = json!({ "include_usage": true });
            }
            let answer = house.chat(&body).await;
            let usage = if stream {
                let events = answer.events();
                let said = events
                    .iter()
                    .filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
                assert_eq!(said.collect::<String>(), "it is 42");
                events.last().unwrap()["usage"].clone()
            } else {
                let body = answer.ok();
                assert_eq!(message(&body)["content"], "it is 42");
                assert_eq!(body["choices"].as_array().unwrap().len(), 1);
                body["usage"].clone()
            };
            let verified = &usage["verified"];
            assert_eq!(verified["is_verified"], is_verified, "{verify}");
            assert_eq!(verified["samples"], verify["samples"]);
            assert_eq!(verified["verdicts"][0]["result"], result, "{verify}");
            let samples = verify["samples"].as_u64().unwrap();
            assert!(usage["completion_tokens"].as_u64().unwrap() > samples * 5);
        }
    }
    let other = json!({ "samples": 2, "checker": "no-such-task", "reference": 1 });
    let answer = house
        .chat(&question("hi", json!({ "verify": other })))
        .await;
    assert!([200, 400].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn a_form_that_cannot_be_followed_to_its_end_is_an_error_and_not_half_an_answer() {
    let house = House::open(Setup::babbling(Kind::Qwen2)).warm().await;
    // After its first letter it asks for a token that no grammar of a client gets.
    let id = control("<|im_start|>");
    let grammar = format!("start: \"a\" <[{id}]> \"b\"");
    let body = |more: Value| {
        let mut body = question("hi", more);
        body["guided_grammar"] = grammar.as_str().into();
        body["thinking"] = json!({ "type": "disabled" });
        body
    };
    for more in [json!({}), json!({ "n": 2 })] {
        let answer = house.chat(&body(more)).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.code(), "invalid_schema");
    }
    let events = house.chat(&body(json!({ "stream": true }))).await.events();
    assert_eq!(events.last().unwrap()["error"]["code"], "invalid_schema");
    assert!(
        events
            .iter()
            .all(|event| event["choices"][0]["finish_reason"].is_null())
    );
    // Among answers that are graded it has no vote.
    let verify = json!({ "verify": { "samples": 2, "checker": "majority" } });
    let verified = house.chat(&body(verify)).await.ok();
    assert_eq!(verified["usage"]["verified"]["is_verified"], false);
    assert_eq!(verified["choices"][0]["finish_reason"], "length");
    let text = json!({ "model": "m", "prompt": "hi", "guided_grammar": grammar });
    assert_eq!(
        house.post("/v1/completions", &text).await.code(),
        "invalid_schema"
    );
    house.until(|load| load.answering + load.reading == 0).await;
}
