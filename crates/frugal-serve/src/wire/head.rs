//! What an answer is called.

use serde_json::{Map, Value};

/// What every answer begins with, whatever its dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its id, with the dialect's prefix: `chatcmpl-`, `resp_`, `msg_`; Ollama's answers have none.
    pub id: String,
    /// Unix seconds at which it was asked for.
    pub created: i64,
    /// The model, as the client named it.
    pub model: String,
}

impl Head {
    /// What bodies of chat completions and completions begin with; the fingerprint names what the
    /// answer depends on beside the seed.
    pub(super) fn begin(&self, object: &str, fingerprint: Option<&str>) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("id".into(), self.id.as_str().into());
        body.insert("object".into(), object.into());
        body.insert("created".into(), self.created.into());
        body.insert("model".into(), self.model.as_str().into());
        body.insert("system_fingerprint".into(), fingerprint.into());
        body
    }

    /// Unix seconds, so many seconds after it was asked for.
    pub(super) fn after(&self, seconds: f64) -> i64 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float saturates, and an answer takes less than the age of the universe"
        )]
        let whole = seconds.max(0.0) as i64;
        self.created.saturating_add(whole)
    }
}
