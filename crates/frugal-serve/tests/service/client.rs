//! A client that speaks bytes, and looks whether errors tell more than they should.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer of a test takes longer.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A chunk with text of the answer.
pub(crate) const SAYS: &str = "\"delta\":{\"content\":";

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

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

    /// What an error says, in any dialect. It has the dialect's envelope, and tells nothing of what
    /// is inside, but for the words of the client.
    pub(crate) fn message(&self) -> String {
        assert!(self.status >= 400, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        let body = self.json();
        let error = &body["error"];
        let message = match error {
            Value::String(message) => message.clone(),
            _ => error["message"].as_str().unwrap().to_owned(),
        };
        if error.get("code").is_some() {
            for key in ["type", "param", "code"] {
                assert!(error.get(key).is_some(), "{key}: {self:?}");
            }
        }
        message
    }

    /// The same, looked through for what must not stand there.
    pub(crate) fn tells_nothing(&self) -> String {
        let message = self.message();
        leaks_nothing(&self.body);
        message
    }

    /// The error's code, in OpenAI's dialect.
    pub(crate) fn code(&self) -> String {
        self.tells_nothing();
        let body = self.json();
        body["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
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

/// Words of ours that hold what else would be a path.
const OURS: [&str; 3] = ["/v1/models", "application/json", "(#/...)"];

/// Looks for paths, names of types and addresses.
pub(crate) fn leaks_nothing(body: &str) {
    let mut rest = body.to_owned();
    for ours in OURS {
        rest = rest.replace(ours, "");
    }
    for sign in [
        "/", "src", "::", "0x", ".rs", "panick", "unwrap", "thread '", "a secret", "serde",
    ] {
        assert!(!rest.contains(sign), "{sign} in {body}");
    }
}

/// Posts a JSON body.
pub(crate) fn post(path: &str, body: &Value) -> String {
    post_bytes(path, &body.to_string(), "")
}

/// Posts any text, with more lines of the head, each with its end.
pub(crate) fn post_bytes(path: &str, body: &str, head: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{head}\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

/// The same request with a key.
pub(crate) fn with_key(request: &str, key: &str) -> String {
    request.replacen("\r\n", &format!("\r\nauthorization: Bearer {key}\r\n"), 1)
}

/// The same request with more lines of the head, each with its end.
pub(crate) fn with_head(request: &str, head: &str) -> String {
    request.replacen("\r\n", &format!("\r\n{head}"), 1)
}

/// One request on a connection of its own, to the end of its answer.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> Answer {
    ask_bytes(address, request.as_bytes()).await
}

pub(crate) async fn ask_bytes(address: SocketAddr, request: &[u8]) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(request).await;
    client.answer().await
}

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self { stream }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // A server that has heard enough may close before all is sent.
        let _ = self.stream.write_all(bytes).await;
    }

    /// More bytes, none at the end.
    pub(crate) async fn more(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 64 << 10];
        let count = timeout(SOON, self.stream.read(&mut bytes)).await.unwrap();
        bytes.truncate(count.unwrap_or(0));
        bytes
    }

    /// All that has come until `mark` has.
    pub(crate) async fn until(&mut self, mark: &str) -> String {
        let mut text = String::new();
        while !text.contains(mark) {
            let more = self.more().await;
            assert!(!more.is_empty(), "ended before {mark:?}: {text:?}");
            text += &String::from_utf8_lossy(&more);
        }
        text
    }

    /// The one answer of a connection that ends after it.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut bytes = Vec::new();
        loop {
            let more = self.more().await;
            if more.is_empty() {
                break;
            }
            bytes.extend_from_slice(&more);
            if is_whole(&bytes) {
                break;
            }
        }
        read(&bytes)
    }
}

fn split(bytes: &[u8]) -> Option<(String, &[u8])> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((
        String::from_utf8_lossy(&bytes[..at]).into_owned(),
        &bytes[at + 4..],
    ))
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, body)) = split(bytes) else {
        return false;
    };
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    match length {
        Some(length) => body.len() >= length.parse().unwrap(),
        None => head.contains("chunked") && body.ends_with(b"0\r\n\r\n"),
    }
}

fn read(bytes: &[u8]) -> Answer {
    let (head, body) = split(bytes).unwrap_or_else(|| panic!("no head: {bytes:?}"));
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked {
        joined(body)
    } else {
        body.to_vec()
    };
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: String::from_utf8(body).unwrap(),
    }
}

/// The bytes of a chunked body, as far as they came.
fn joined(mut rest: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&rest[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        let chunk = &rest[end + 2..];
        if length == 0 || chunk.len() < length + 2 {
            break;
        }
        all.extend_from_slice(&chunk[..length]);
        rest = &chunk[length + 2..];
    }
    all
}
