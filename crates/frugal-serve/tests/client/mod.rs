//! A client that speaks bytes, for the tests of the HTTP base and of the whole server.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a test waits for comes sooner; how soon a test expects it is its own matter.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

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

    /// What an error says, in any dialect. It has the dialect's envelope.
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

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

/// Posts any text as JSON.
pub(crate) fn post_text(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

/// One request on a connection of its own.
pub(crate) async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(request).await;
    client.answer().await
}

/// A connection with a client's view.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    /// What has come and was not given out.
    kept: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        let kept = Vec::new();
        Self { stream, kept }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that has heard enough may close before all is sent.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// More bytes, none at the end. A reset is an end too.
    pub(crate) async fn more(&mut self) -> Vec<u8> {
        if !self.kept.is_empty() {
            return std::mem::take(&mut self.kept);
        }
        let mut bytes = vec![0; 64 << 10];
        let count = timeout(PATIENCE, self.stream.read(&mut bytes))
            .await
            .unwrap();
        bytes.truncate(count.unwrap_or(0));
        bytes
    }

    /// Whatever comes before something holds of it, or to the end.
    async fn read(&mut self, is_enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let all = async {
            let mut bytes = Vec::new();
            while !is_enough(&bytes) {
                let more = self.more().await;
                if more.is_empty() {
                    break;
                }
                bytes.extend_from_slice(&more);
            }
            bytes
        };
        // Comments that keep a stream alive do not keep a test waiting for ever.
        timeout(PATIENCE, all).await.unwrap()
    }

    /// All that has come until `mark` has, and no more.
    pub(crate) async fn until(&mut self, mark: &str) -> String {
        let end = |bytes: &[u8]| {
            let mut windows = bytes.windows(mark.len());
            let at = windows.position(|window| window == mark.as_bytes())?;
            Some(at + mark.len())
        };
        let mut bytes = self.read(|bytes| end(bytes).is_some()).await;
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let end = end(&bytes).unwrap_or_else(|| panic!("ended before {mark:?}: {shown:?}"));
        self.kept = bytes.split_off(end);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Everything to the end.
    pub(crate) async fn rest(&mut self) -> String {
        let bytes = self.read(|_| false).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A whole answer; what has come of it where the connection ends before.
    pub(crate) async fn answer(&mut self) -> Answer {
        let bytes = self.read(is_whole).await;
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

fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn is_chunked(head: &str) -> bool {
    head.to_lowercase().contains("transfer-encoding: chunked")
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, body)) = split(bytes) else {
        return false;
    };
    let lower = head.to_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    match length {
        Some(length) => body.len() >= length.parse().unwrap(),
        None if is_chunked(&head) => body.ends_with(b"0\r\n\r\n"),
        None => matches!(status_of(&head), 204 | 304),
    }
}

fn read(bytes: &[u8]) -> Answer {
    let (head, body) = split(bytes).unwrap_or_else(|| panic!("no head: {bytes:?}"));
    let body = if is_chunked(&head) {
        joined(body)
    } else {
        body.to_vec()
    };
    Answer {
        status: status_of(&head),
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
