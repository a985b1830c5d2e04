//! The same request gives the same answer, whatever else goes on.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::house::{House, Setup, question};
use super::model::Kind;

/// A question with a seed; everything of its answer is wanted.
fn seeded(text: &str, seed: u64) -> Value {
    let more = json!({
        "seed": seed, "max_tokens": 40, "logprobs": true, "top_logprobs": 3,
        "return_token_ids": true, "stop": ["never said"], "presence_penalty": 0.5,
    });
    question(text, more)
}

async fn choices(house: &House, body: &Value) -> Value {
    house.chat(body).await.ok()["choices"].clone()
}

async fn alone(kind: Kind, body: &Value) -> Value {
    let house = House::open(Setup::babbling(kind));
    choices(&house, body).await
}

/// In company, with a prompt that is found in the cache and without.
async fn is_the_same_in_company(kind: Kind) {
    let target = seeded("the rain in spain", 7);
    let expected = alone(kind, &target).await;
    assert!(expected[0]["token_ids"].as_array().unwrap().len() > 1);
    let house = House::open(Setup::babbling(kind)).warm().await;
    let others: Vec<Value> = (0..30)
        .map(|i| seeded(&format!("{} question {i}", "so ".repeat(i)), i as u64))
        .collect();
    let asked = others.iter().take(15).chain([&target]).chain(&others[15..]);
    let answers = join_all(asked.map(|body| choices(&house, body))).await;
    assert_eq!(answers[15], expected);
    let again = house.chat(&target).await.ok();
    assert!(
        again["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
            > 0
    );
    assert_eq!(again["choices"], expected);
    let other = seeded("the rain in spain", 8);
    assert_ne!(choices(&house, &other).await, expected);
}

#[tokio::test]
async fn a_seed_gives_the_same_among_thirty_others() {
    is_the_same_in_company(Kind::Qwen2).await;
}

#[tokio::test]
async fn a_seed_gives_the_same_among_thirty_others_with_latents_and_experts() {
    is_the_same_in_company(Kind::DeepseekV3).await;
}

#[tokio::test]
async fn a_seed_gives_the_same_after_being_put_back() {
    let bodies: Vec<Value> = (0..6)
        .map(|i| {
            let mut body = seeded(&format!("question {i}"), i);
            body["max_tokens"] = json!(70);
            body["ignore_eos"] = json!(true);
            body
        })
        .collect();
    // Six answers of some hundred tokens, and room for two.
    let house = House::open(Setup::babbling_in(Kind::Qwen2, 16))
        .warm()
        .await;
    let answers = join_all(bodies.iter().map(|body| choices(&house, body))).await;
    assert!(house.load().await.preempted > 0);
    for (body, answer) in bodies.iter().zip(answers) {
        assert_eq!(answer, alone(Kind::Qwen2, body).await);
    }
}

#[tokio::test]
async fn samples_differ_and_the_first_is_that_of_one() {
    let house = House::open(Setup::babbling(Kind::Qwen2)).warm().await;
    let mut body = seeded("the name", 3);
    let one = choices(&house, &body).await;
    body["n"] = json!(4);
    let four = choices(&house, &body).await;
    assert_eq!(four.as_array().unwrap().len(), 4);
    assert_eq!(four[0], one[0]);
    for i in 0..4 {
        assert_eq!(four[i]["index"], json!(i));
        for j in 0..i {
            assert_ne!(four[i]["token_ids"], four[j]["token_ids"]);
        }
    }
    assert_eq!(choices(&house, &body).await, four);
}
