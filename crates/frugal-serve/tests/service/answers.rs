//! Answers: in pieces and whole, cut off at stop texts, with log-probabilities, and what they cost.

use serde_json::{Value, json};

use super::house::{House, Setup, question};
use super::model::{Kind, Script, message};

/// The texts of pieces of each choice under a name.
fn joined(events: &[Value], name: &str, n: usize) -> Vec<String> {
    let mut texts = vec![String::new(); n];
    for choice in events
        .iter()
        .flat_map(|event| event["choices"].as_array().unwrap())
    {
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        let piece = choice.pointer(name).and_then(Value::as_str);
        texts[index].push_str(piece.unwrap_or_default());
    }
    texts
}

#[tokio::test]
async fn pieces_of_chats_joined_are_the_whole() {
    let house = House::open(Setup::babbling(Kind::Qwen2)).warm().await;
    for seed in 0..4 {
        let mut body = question(
            "the rain",
            json!({ "seed": seed, "n": 3, "max_tokens": 60, "stop": ["e", "x y"] }),
        );
        let whole = house.chat(&body).await.ok();
        body["stream"] = json!(true);
        body["stream_options"] = json!({ "include_usage": true });
        let answer = house.chat(&body).await;
        assert!(answer.body.ends_with("data: [DONE]\n\n"));
        let mut events = answer.events();
        let last = events.pop().unwrap();
        for name in [
            "prompt_tokens",
            "completion_tokens",
            "completion_tokens_details",
        ] {
            assert_eq!(last["usage"][name], whole["usage"][name]);
        }
        for (pointer, field) in [
            ("/delta/content", "content"),
            ("/delta/reasoning_content", "reasoning_content"),
        ] {
            let pieces = joined(&events, pointer, 3);
            for (choice, text) in whole["choices"].as_array().unwrap().iter().zip(pieces) {
                assert_eq!(choice["message"][field].as_str().unwrap_or_default(), text);
                assert!(field != "content" || !text.contains('e'), "{text}");
            }
        }
        let reasons: Vec<&Value> = events
            .iter()
            .flat_map(|event| event["choices"].as_array().unwrap())
            .filter(|choice| !choice["finish_reason"].is_null())
            .collect();
        assert_eq!(reasons.len(), 3);
        for reason in reasons {
            let index = usize::try_from(reason["index"].as_u64().unwrap()).unwrap();
            assert_eq!(
                reason["finish_reason"],
                whole["choices"][index]["finish_reason"]
            );
        }
    }
}

#[tokio::test]
async fn pieces_of_completions_joined_are_the_whole() {
    let house = House::open(Setup::babbling(Kind::DeepseekV3)).warm().await;
    let mut body = json!({
        "model": "m", "prompt": ["the rain", [90, 91, 92]], "seed": 3, "n": 2, "max_tokens": 30,
        "echo": true, "logprobs": 2,
    });
    let whole = house.post("/v1/completions", &body).await.ok();
    body["stream"] = json!(true);
    let events = house.post("/v1/completions", &body).await.events();
    let pieces = joined(&events, "/text", 4);
    for (choice, text) in whole["choices"].as_array().unwrap().iter().zip(pieces) {
        assert_eq!(choice["text"], json!(text));
        let tokens = choice["logprobs"]["tokens"].as_array().unwrap();
        let offsets = choice["logprobs"]["text_offset"].as_array().unwrap();
        assert_eq!(tokens.len(), offsets.len());
        assert_eq!(choice["logprobs"]["token_logprobs"][0], Value::Null);
    }
    assert!(
        whole["choices"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("the rain")
    );
}

#[tokio::test]
async fn pieces_of_the_other_dialects_joined_are_the_whole() {
    let script = Script::says("the rain in spain").thinking("the name, the name");
    let house = House::open(Setup::saying(script)).warm().await;

    let mut body = json!({ "model": "m", "input": "hi" });
    let whole = house.post("/v1/responses", &body).await.ok();
    assert_eq!(whole["output"][0]["type"], "reasoning");
    assert_eq!(
        whole["output"][1]["content"][0]["text"],
        "the rain in spain"
    );
    body["stream"] = json!(true);
    let events = house.post("/v1/responses", &body).await.events();
    let of = |kind: &str, events: &[Value]| {
        let events = events.iter().filter(|event| event["type"] == kind);
        let deltas = events.map(|event| event["delta"].as_str().unwrap().to_owned());
        deltas.collect::<String>()
    };
    assert_eq!(
        of("response.output_text.delta", &events),
        "the rain in spain"
    );
    assert_eq!(
        of("response.reasoning_text.delta", &events),
        "the name, the name"
    );
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], json!(index));
    }

    let mut body = json!({
        "model": "m", "max_tokens": 200, "messages": [{ "role": "user", "content": "hi" }],
    });
    let whole = house.post("/v1/messages", &body).await.ok();
    assert_eq!(whole["content"][0]["thinking"], "the name, the name");
    assert_eq!(whole["content"][1]["text"], "the rain in spain");
    assert_eq!(whole["stop_reason"], "end_turn");
    body["stream"] = json!(true);
    let events = house.post("/v1/messages", &body).await.events();
    let of = |field: &str| {
        let deltas = events
            .iter()
            .filter_map(|event| event["delta"][field].as_str());
        deltas.collect::<String>()
    };
    assert_eq!(of("thinking"), "the name, the name");
    assert_eq!(of("text"), "the rain in spain");

    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    let lines = house.post("/api/chat", &body).await.lines();
    let of = |field: &str| {
        let pieces = lines
            .iter()
            .filter_map(|line| line["message"][field].as_str());
        pieces.collect::<String>()
    };
    assert_eq!(of("thinking"), "the name, the name");
    assert_eq!(of("content"), "the rain in spain");
    assert_eq!(lines.last().unwrap()["done"], true);
    body["stream"] = json!(false);
    let whole = house.post("/api/chat", &body).await.ok();
    assert_eq!(whole["message"]["content"], "the rain in spain");
    assert_eq!(whole["message"]["thinking"], "the name, the name");
}

#[tokio::test]
async fn stop_texts_are_found_across_the_borders_of_tokens() {
    const TEXT: &str = "the rain in spain";
    let house = House::open(Setup::saying(Script::says(TEXT))).warm().await;
    for from in 0..TEXT.len() {
        for to in [from + 1, from + 3, from + 7] {
            let Some(stop) = TEXT.get(from..to) else {
                continue;
            };
            let expected = TEXT.split_once(stop).unwrap().0;
            let mut body = question("hi", json!({ "stop": ["spam", stop] }));
            let whole = house.chat(&body).await.ok();
            let choice = &whole["choices"][0];
            assert_eq!(choice["message"]["content"], expected, "{stop:?}");
            assert_eq!(choice["finish_reason"], "stop");
            assert_eq!(choice["finish_details"]["stop"], stop);
            body["stream"] = json!(true);
            let events = house.chat(&body).await.events();
            assert_eq!(joined(&events, "/delta/content", 1), [expected], "{stop:?}");
        }
    }
    house.until(|load| load.answering + load.reading == 0).await;
}

#[tokio::test]
async fn log_probabilities_are_of_the_tokens_that_came() {
    let house = House::open(Setup::babbling(Kind::Qwen2)).warm().await;
    let more = json!({
        "logprobs": true, "top_logprobs": 4, "seed": 1, "max_tokens": 30,
        "thinking": { "type": "disabled" },
    });
    let body = house.chat(&question("hi", more)).await.ok();
    let choice = &body["choices"][0];
    let items = choice["logprobs"]["content"].as_array().unwrap();
    let mut bytes = Vec::new();
    for item in items {
        assert!(item["logprob"].as_f64().unwrap() <= 0.0);
        let own = item["bytes"].as_array().unwrap().iter();
        bytes.extend(own.map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap()));
        let top = item["top_logprobs"].as_array().unwrap();
        let values: Vec<f64> = top.iter().map(|t| t["logprob"].as_f64().unwrap()).collect();
        assert_eq!(values.len(), 4);
        assert!(values.is_sorted_by(|a, b| a >= b));
        assert!(values.iter().map(|value| value.exp()).sum::<f64>() <= 1.0 + 1e-6);
    }
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(choice["message"]["content"].as_str().unwrap(), text);
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

#[tokio::test]
async fn what_answers_cost_is_what_the_engine_spent() {
    let house = House::open(Setup::babbling(Kind::DeepseekV3)).warm().await;
    let text = json!({ "model": "m", "prompt": ["a", "b", "the rain"], "max_tokens": 5, "n": 2 });
    let chats = [
        question("hi", json!({ "max_tokens": 20 })),
        question("hi", json!({ "max_tokens": 20, "n": 3, "stop": ["e"] })),
        question(
            "hi",
            json!({ "max_tokens": 9, "verify": { "samples": 3, "checker": "majority" } }),
        ),
    ];
    let mut bodies = vec![house.post("/v1/completions", &text).await.ok()];
    for chat in &chats {
        bodies.push(house.chat(chat).await.ok());
    }
    let (mut flops, mut seconds, mut money) = (0.0, 0.0, 0.0);
    for body in &bodies {
        let cost = &body["usage"]["cost"];
        let number = |name: &str| cost[name].as_f64().unwrap();
        assert!(
            number("flops") > 0.0 && number("core_seconds") > 0.0,
            "{cost}"
        );
        assert!(close(number("joules"), number("core_seconds") * 10.0));
        assert_eq!(
            (&cost["joules_are"], &cost["currency"]),
            (&json!("estimated"), &json!("EUR"))
        );
        flops += number("flops");
        seconds += number("core_seconds");
        money += number("money");
    }
    let spent = house.load().await.spent;
    assert!(close(flops, spent.flops), "{flops} {spent:?}");
    assert!(
        close(seconds, spent.core_seconds) && close(money, seconds),
        "{seconds} {spent:?}"
    );
    let today = house
        .service
        .parts
        .quotas
        .today(house.service.parts.clock.now());
    let tokens: u64 = bodies
        .iter()
        .map(|b| b["usage"]["total_tokens"].as_u64().unwrap())
        .sum();
    assert_eq!(today[0].spent.tokens, tokens);
    assert!(close(today[0].spent.money, money));
}

#[tokio::test]
async fn the_next_turn_finds_the_one_before_though_its_thought_is_gone() {
    let script = Script::says("the rain in spain").thinking("a long thought about the name");
    let house = House::open(Setup::saying(script)).warm().await;
    let mut talk =
        vec![json!({ "role": "user", "content": "what falls mainly, and where is it?" })];
    let mut before = 0;
    for turn in 0..3 {
        let body = house
            .chat(&json!({ "model": "m", "messages": talk }))
            .await
            .ok();
        let usage = &body["usage"];
        let cached = usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap();
        let prompt = usage["prompt_tokens"].as_u64().unwrap();
        assert_eq!(usage["prompt_cache_hit_tokens"], json!(cached));
        assert_eq!(usage["prompt_cache_miss_tokens"], json!(prompt - cached));
        assert!(
            usage["completion_tokens_details"]["reasoning_tokens"]
                .as_u64()
                .unwrap()
                > 0
        );
        assert!(turn == 0 || cached + 1 >= before, "{cached} of {before}");
        before = prompt;
        // As clients send it back: with the thought.
        talk.push(message(&body).clone());
        assert!(talk.last().unwrap()["reasoning_content"].is_string());
        talk.push(json!({ "role": "user", "content": "and then?" }));
    }
}
