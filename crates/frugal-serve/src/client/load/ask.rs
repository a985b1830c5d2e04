//! What is asked: request `i` is always the same, and no two begin alike.

use frugal_core::rng::{Rng, key};
use serde_json::{Value, json};

use crate::client::heard::{Heard, hear};
use crate::client::{Call, Client, Error};

/// By which route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

/// What shall be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The model's name; the first that the server lists if not given.
    pub model: Option<String>,
    /// By which route.
    pub route: Route,
    /// Tokens of an answer.
    pub tokens: usize,
    /// Tokens of a prompt, template included.
    pub prompt_tokens: usize,
    /// How tokens are drawn.
    pub temperature: f64,
    /// Tells these requests from those of another time, whose prompts a server may still know.
    pub series: u64,
}

/// How to ask a server for that.
#[derive(Debug, Clone, PartialEq)]
pub struct Questions {
    /// The model's name.
    pub model: String,
    wanted: Wanted,
    /// Words of a prompt.
    words: usize,
    /// Fields that not every server takes.
    extras: Value,
}

/// Words that most tokenizers know.
const WORDS: [&str; 32] = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world",
    "school", "state", "family", "student", "group", "country", "problem", "hand", "part", "place",
    "case", "week", "company", "system", "program", "question", "work", "number", "night", "point",
    "home",
];

/// Words of the two prompts by which a server's tokens for a word are found.
const FEW: usize = 8;
const MORE: usize = 72;

impl Questions {
    /// Finds out how a server is asked: its model's name, which fields it takes, how many words make
    /// so many tokens.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn find(client: &Client, wanted: &Wanted) -> Result<Self, Error> {
        let model = match &wanted.model {
            Some(model) => model.clone(),
            None => first_model(client).await?,
        };
        let mut questions = Self {
            model,
            wanted: wanted.clone(),
            words: FEW,
            extras: Value::Null,
        };
        let extras = [
            json!({ "ignore_eos": true, "stream_options": { "include_usage": true } }),
            json!({ "stream_options": { "include_usage": true } }),
            json!({}),
        ];
        let mut heard = Heard::default();
        for extras in extras {
            questions.extras = extras;
            heard = questions.short(client).await?;
            if !matches!(heard.status, 400 | 422) {
                break;
            }
        }
        if !heard.is_whole() {
            return Err(Error::Status {
                expected: "a streamed answer that ends",
                status: heard.status,
                body: heard.error.unwrap_or_default().chars().take(300).collect(),
            });
        }
        let few = heard.prompt_tokens();
        questions.words = MORE;
        let more = questions.short(client).await?.prompt_tokens();
        questions.words = match few.zip(more) {
            Some((few, more)) if more > few => words(few, more, wanted.prompt_tokens),
            _ => wanted.prompt_tokens.max(1),
        };
        Ok(questions)
    }

    /// The same, with so many tokens of an answer.
    #[must_use]
    pub fn with_tokens(&self, tokens: usize) -> Self {
        let mut questions = self.clone();
        questions.wanted.tokens = tokens;
        questions
    }

    /// The same, with prompts so many times as long.
    #[must_use]
    pub fn with_longer_prompts(&self, times: usize) -> Self {
        let mut questions = self.clone();
        questions.words *= times;
        questions
    }

    /// Tokens of an answer.
    pub const fn tokens(&self) -> usize {
        self.wanted.tokens
    }

    /// The request of a number.
    pub fn call(&self, index: u64) -> Call {
        let text = self.text(index);
        let mut body = json!({
            "model": self.model,
            "stream": true,
            "max_tokens": self.wanted.tokens,
            "temperature": self.wanted.temperature,
            "seed": index,
        });
        let path = match self.wanted.route {
            Route::Chat => {
                merge(
                    &mut body,
                    &json!({ "messages": [{ "role": "user", "content": text }] }),
                );
                "/v1/chat/completions"
            }
            Route::Completions => {
                merge(&mut body, &json!({ "prompt": text }));
                "/v1/completions"
            }
        };
        merge(&mut body, &self.extras);
        Call::post(path, &body)
    }

    /// The request's text: it begins with its number, so that no server knows how it begins.
    fn text(&self, index: u64) -> String {
        let series = self.wanted.series;
        let mut rng = Rng::derive(&[key("question"), series, index]);
        let mut text = format!("{index}-{series}");
        for _ in 0..self.words {
            text.push(' ');
            text.push_str(rng.choose(&WORDS).copied().unwrap_or_default());
        }
        text
    }

    async fn short(&self, client: &Client) -> Result<Heard, Error> {
        hear(client, self.with_tokens(2).call(u64::MAX >> 11)).await
    }
}

/// How many words make so many tokens, if two numbers of words made `few` and `more`.
fn words(few: usize, more: usize, wanted: usize) -> usize {
    let per_word = (more - few) as f64 / (MORE - FEW) as f64;
    let around = few as f64 - per_word * FEW as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number, within what the prompt was wanted to have"
    )]
    let words = ((wanted as f64 - around) / per_word).round().max(1.0) as usize;
    words.min(wanted.max(1))
}

fn merge(into: &mut Value, fields: &Value) {
    if let (Some(into), Some(fields)) = (into.as_object_mut(), fields.as_object()) {
        into.extend(fields.iter().map(|(name, it)| (name.clone(), it.clone())));
    }
}

async fn first_model(client: &Client) -> Result<String, Error> {
    let answer = client.send(Call::get("/v1/models")).await?;
    let listed = answer.json().unwrap_or_default();
    let id = listed.pointer("/data/0/id").and_then(Value::as_str);
    id.map(ToOwned::to_owned).ok_or_else(|| Error::Status {
        expected: "a list of models",
        status: answer.status,
        body: answer.text().chars().take(300).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_make_as_many_tokens_as_wanted() {
        for (few, more, wanted, expected) in [
            (18, 82, 110, 100),
            (20, 212, 104, 36),
            (18, 82, 4, 1),
            (8, 72, 64, 64),
            (4, 36, 50, 50),
        ] {
            assert_eq!(words(few, more, wanted), expected, "{few} {more} {wanted}");
        }
    }

    #[test]
    fn a_request_is_always_the_same_and_unlike_the_others() {
        let questions = Questions {
            model: "m".into(),
            wanted: Wanted {
                model: None,
                route: Route::Completions,
                tokens: 7,
                prompt_tokens: 3,
                temperature: 1.0,
                series: 9,
            },
            words: 3,
            extras: json!({ "ignore_eos": true }),
        };
        let body = |index| String::from_utf8(questions.call(index).body.to_vec()).unwrap();
        assert_eq!(body(1), body(1));
        assert_ne!(body(1), body(2));
        let body: Value = serde_json::from_str(&body(5)).unwrap();
        let prompt = body["prompt"].as_str().unwrap();
        assert!(prompt.starts_with("5-9 "), "{prompt}");
        assert_eq!(prompt.split(' ').count(), 4);
        assert_eq!((&body["max_tokens"], &body["seed"]), (&json!(7), &json!(5)));
        assert_eq!(body["ignore_eos"], json!(true));
    }
}
