//! What a streamed answer of the chat or completions route comes to, in OpenAI's shape or DeepSeek's.

use serde_json::Value;

use super::{Call, Client, Error, Event, Reply};

/// An answer as it was heard, of the choice with index 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heard {
    /// The answer's status; the rest is empty where it is not 200.
    pub status: u16,
    /// Its `Retry-After`, in seconds.
    pub retry_after: Option<f64>,
    /// The answer's text.
    pub text: String,
    /// The thought before it.
    pub thought: String,
    /// Why it ended.
    pub finish: Option<String>,
    /// The last `usage` that was an object.
    pub usage: Option<Value>,
    /// An `error` on the way, or the body of an answer that is no stream.
    pub error: Option<String>,
    /// When pieces with text came, in seconds since the request began.
    pub pieces: Vec<f64>,
    /// Whether the closing `[DONE]` came.
    pub is_done: bool,
    /// When it had ended.
    pub seconds: f64,
}

impl Heard {
    /// Takes an event of the stream.
    pub fn take(&mut self, event: &Event) {
        if event.data == "[DONE]" {
            self.is_done = true;
            return;
        }
        let Ok(chunk) = serde_json::from_str::<Value>(&event.data) else {
            self.error = Some(format!("an event that is no JSON: {}", event.data));
            return;
        };
        if let Some(error) = chunk.get("error") {
            self.error = Some(error.to_string());
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(usage.clone());
        }
        let choices = chunk.get("choices").and_then(Value::as_array);
        for choice in choices.into_iter().flatten() {
            if choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0 {
                self.take_choice(choice, event.seconds);
            }
        }
    }

    fn take_choice(&mut self, choice: &Value, seconds: f64) {
        let text = |holder: &Value, field: &str| {
            let text = holder.get(field).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(ToOwned::to_owned)
        };
        let delta = choice.get("delta").unwrap_or(&Value::Null);
        let said = text(delta, "content").or_else(|| text(choice, "text"));
        let thought = text(delta, "reasoning_content").or_else(|| text(delta, "reasoning"));
        if said.is_some() || thought.is_some() {
            self.pieces.push(seconds);
        }
        self.text.push_str(&said.unwrap_or_default());
        self.thought.push_str(&thought.unwrap_or_default());
        if let Some(finish) = text(choice, "finish_reason") {
            self.finish = Some(finish);
        }
    }

    /// Whether all of it came: a stream that ended as streams end.
    pub const fn is_whole(&self) -> bool {
        self.status == 200 && self.is_done && self.error.is_none() && self.finish.is_some()
    }

    /// Whether the server said that it has no room now.
    pub const fn is_refused(&self) -> bool {
        matches!(self.status, 429 | 503)
    }

    /// Tokens of the answer: as the server counts them, else the pieces that came.
    pub fn n_tokens(&self) -> usize {
        let counted = self.usage.as_ref();
        let counted = counted.and_then(|usage| usage.get("completion_tokens")?.as_u64());
        counted.map_or(self.pieces.len(), |counted| {
            usize::try_from(counted).unwrap_or(usize::MAX)
        })
    }
}

/// Asks for a stream and listens to its end.
///
/// # Errors
/// If there is no answer or it breaks off.
pub async fn hear(client: &Client, call: Call) -> Result<Heard, Error> {
    let mut reply = client.begin(call).await?;
    let mut heard = begin(&reply);
    if reply.status != 200 || !reply.is_events() {
        let answer = reply.whole().await?;
        heard.error = Some(answer.text());
        heard.seconds = answer.seconds;
        return Ok(heard);
    }
    while let Some(event) = reply.next_event().await? {
        heard.take(&event);
    }
    heard.seconds = reply.seconds();
    Ok(heard)
}

/// What the head of an answer says.
pub fn begin(reply: &Reply) -> Heard {
    Heard {
        status: reply.status,
        retry_after: reply.header("retry-after").and_then(|it| it.parse().ok()),
        ..Heard::default()
    }
}
