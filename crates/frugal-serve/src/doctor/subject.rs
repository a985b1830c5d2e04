//! The server that is examined.

use axum::body::Bytes;
use hyper::Method;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::DoctorError;
use super::check::{Outcome, Why, at, text, thought, words};
use crate::client::{Answer, Call, Client, Reply, Target};

pub(super) const CHAT: &str = "/v1/chat/completions";

/// What every model can go on with for a while.
const QUESTION: &str = "Count from 1 to 50, separated by commas.";
/// Ways to ask for an answer without a thought.
const QUIET: [&str; 3] = ["thinking", "chat_template_kwargs", "reasoning_effort"];

/// Whom to examine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whom {
    /// Its address, `http://HOST:PORT`, a path and `/v1` after it or not.
    pub url: String,
    /// A key to it.
    pub key: Option<String>,
    /// The model to ask; the first of its list if none is named.
    pub model: Option<String>,
}

/// A server that answers.
#[derive(Debug)]
pub struct Subject {
    client: Client,
    whom: Whom,
    model: String,
    /// Fields that keep the model from thinking.
    quiet: Map<String, Value>,
}

impl Subject {
    /// Finds out what there is.
    ///
    /// # Errors
    /// If there is no server, or it answers no conversation.
    pub async fn meet(whom: Whom) -> Result<Self, DoctorError> {
        let target = Target::parse(&whom.url)?.with_key(whom.key.clone());
        let client = Client::new(target);
        let model = match whom.model.clone() {
            Some(model) => model,
            None => first_of(&client).await?,
        };
        let mut subject = Self {
            client,
            whom,
            model,
            quiet: Map::new(),
        };
        subject.quieten().await?;
        Ok(subject)
    }

    /// The model that is asked.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Finds the words that keep the model from thinking, so that short answers are answers.
    async fn quieten(&mut self) -> Result<(), DoctorError> {
        let mut last = None;
        for way in QUIET {
            let fields = quiet(way);
            let answer = self.client.send(self.chat(&fields)).await?;
            let body = answer.json().unwrap_or_default();
            if answer.status == 200 && thought(&body).is_empty() {
                self.quiet = fields.as_object().cloned().unwrap_or_default();
                return Ok(());
            }
            last = Some(answer);
        }
        let answer = self.client.send(self.chat(&json!({}))).await?;
        if answer.status == 200 {
            return Ok(());
        }
        let answer = last.filter(|last| last.status == 200).unwrap_or(answer);
        Err(DoctorError::NoAnswer {
            model: self.model.clone(),
            found: format!("{} {}", answer.status, words(&answer)),
        })
    }

    /// Sends a call.
    pub(super) async fn send(&self, call: Call) -> Result<Answer, Why> {
        Ok(self.client.send(call).await?)
    }

    /// Sends a call, and reads the head of its answer.
    pub(super) async fn begin(&self, call: Call) -> Result<Reply, Why> {
        Ok(self.client.begin(call).await?)
    }

    /// Whether a key was given.
    pub(super) fn has_key(&self) -> bool {
        self.whom.key.is_some()
    }

    /// A question, with some fields changed; null takes one away.
    pub(super) fn question(&self, changes: &Value) -> Value {
        let mut body = json!({
            "model": self.model,
            "messages": [{ "role": "user", "content": QUESTION }],
            "max_tokens": 16,
            "temperature": 0,
        });
        change(&mut body, &Value::Object(self.quiet.clone()));
        change(&mut body, changes);
        body
    }

    /// A question without a thought.
    pub(super) fn chat(&self, changes: &Value) -> Call {
        Call::post(CHAT, &self.question(changes))
    }

    /// A question of which nothing is said about thinking.
    pub(super) fn chat_freely(&self, changes: &Value) -> Call {
        let mut all: Map<String, Value> = (self.quiet.keys())
            .map(|name| (name.clone(), Value::Null))
            .collect();
        all.extend(changes.as_object().cloned().unwrap_or_default());
        self.chat(&all.into())
    }

    /// A text to be continued.
    pub(super) fn completion(&self, changes: &Value) -> Call {
        self.post(
            "/v1/completions",
            &json!({ "prompt": "One, two, three,", "max_tokens": 8, "temperature": 0 }),
            changes,
        )
    }

    /// A body for a route, which names the model.
    pub(super) fn post(&self, path: &str, body: &Value, changes: &Value) -> Call {
        let mut all = json!({ "model": self.model });
        change(&mut all, body);
        change(&mut all, changes);
        Call::post(path, &all)
    }

    /// Bytes for the chat route.
    pub(super) fn raw(bytes: &'static [u8], content_type: &str) -> Call {
        let call = Call::of(Method::POST, CHAT, Bytes::from_static(bytes));
        call.header("content-type", content_type)
    }

    /// A bare connection.
    pub(super) async fn connect(&self) -> Result<TcpStream, Why> {
        Ok(self.client.connect().await?)
    }

    /// The head of a request as it goes over a bare connection, for a route of `/v1`.
    pub(super) fn head(&self, method: &str, route: &str) -> String {
        let rest = self.whom.url.strip_prefix("http://").unwrap_or_default();
        let (host, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let base = base.trim_end_matches('/').trim_end_matches("/v1");
        let key = (self.whom.key.as_ref())
            .map(|key| format!("authorization: Bearer {key}\r\n"))
            .unwrap_or_default();
        format!("{method} {base}/v1/{route} HTTP/1.1\r\nhost: {host}\r\n{key}")
    }
}

/// The first model of a server's list.
async fn first_of(client: &Client) -> Result<String, DoctorError> {
    let answer = client.send(Call::get("/v1/models")).await?;
    let list = answer.json().unwrap_or_default();
    match text(&list, "/data/0/id") {
        "" => Err(DoctorError::NoModel {
            found: format!("{} {}", answer.status, words(&answer)),
        }),
        model => Ok(model.to_owned()),
    }
}

/// The fields of a way to ask for no thought.
pub(super) fn quiet(way: &str) -> Value {
    match way {
        "thinking" => json!({ "thinking": { "type": "disabled" } }),
        "chat_template_kwargs" => json!({ "chat_template_kwargs": { "enable_thinking": false } }),
        _ => json!({ "reasoning_effort": "none" }),
    }
}

fn change(body: &mut Value, changes: &Value) {
    let (Some(body), Some(changes)) = (body.as_object_mut(), changes.as_object()) else {
        return;
    };
    for (name, value) in changes {
        if value.is_null() {
            body.remove(name);
        } else {
            body.insert(name.clone(), value.clone());
        }
    }
}

/// Writes to a bare connection.
pub(super) async fn write(stream: &mut TcpStream, text: &str) -> Outcome {
    let written = stream.write_all(text.as_bytes()).await;
    written.map_err(|error| Why::Fails(format!("the connection failed: {error}")))
}

/// Reads a bare connection until a text holds, or it ends.
pub(super) async fn read_until(
    stream: &mut TcpStream,
    is_enough: impl Fn(&str) -> bool + Send,
) -> Result<String, Why> {
    let (mut all, mut some) = (Vec::new(), vec![0; 4096]);
    loop {
        let read = stream.read(&mut some).await;
        let read = read.map_err(|error| Why::Fails(format!("the connection failed: {error}")))?;
        all.extend_from_slice(some.get(..read).unwrap_or_default());
        let text = String::from_utf8_lossy(&all);
        if read == 0 || is_enough(&text) || all.len() > 1 << 20 {
            return Ok(text.into_owned());
        }
    }
}

/// The tokens that a server can take at a time, where it says so.
pub(super) fn positions(tokenized: &Value) -> Option<u64> {
    at(tokenized, "/max_model_len").as_u64()
}
