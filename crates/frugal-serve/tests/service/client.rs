//! What the tests of the whole server ask with, beside what every client does.

use serde_json::Value;

pub(crate) use crate::bytes::*;

/// A chunk with text of the answer.
pub(crate) const SAYS: &str = "\"delta\":{\"content\":";

impl Answer {
    /// The body of an answer that went well.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// The events of a stream that went well, less the last mark.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        let data = self
            .body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    /// The lines of Ollama's streams.
    pub(crate) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        let lines = self.body.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The field at fault.
    pub(crate) fn param(&self) -> String {
        assert_eq!(self.status, 400, "{self:?}");
        self.tells_nothing();
        let body = self.json();
        body["error"]["param"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// Posts a JSON body.
pub(crate) fn post(path: &str, body: &Value) -> String {
    post_text(path, &body.to_string())
}

/// The same request with a key.
pub(crate) fn with_key(request: &str, key: &str) -> String {
    with_head(request, &format!("authorization: Bearer {key}\r\n"))
}

/// The same request with more lines of the head, each with its end.
pub(crate) fn with_head(request: &str, head: &str) -> String {
    request.replacen("\r\n", &format!("\r\n{head}"), 1)
}
