//! The other side: asks any server of this kind over plain HTTP, and tells what came and when.
//!
//! For measuring and judging servers (`frugal bench serve`, `frugal doctor --api`), ours and others'.
//! It therefore hides nothing: every status is an answer rather than an error, nothing is asked
//! twice, bodies are what came. There is no TLS.
//!
//! ```no_run
//! # async fn example() -> Result<(), frugal_serve::client::Error> {
//! use frugal_serve::client::{Call, Client, Target};
//! use serde_json::json;
//!
//! let client = Client::new(Target::parse("http://127.0.0.1:8080")?);
//! // All at once: status, headers, body, events with the moments they came.
//! let answer = client.send(Call::get("/v1/models")).await?;
//! assert_eq!(answer.status, 200);
//! // Event by event; dropping the reply closes the connection, as a client who leaves does.
//! let question = json!({
//!     "model": "m", "stream": true, "messages": [{ "role": "user", "content": "1 + 1?" }],
//! });
//! let mut reply = client.begin(Call::post("/v1/chat/completions", &question)).await?;
//! while let Some(event) = reply.next_event().await? {
//!     println!("{:.3} {}", event.seconds, event.data);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Client::connect`] gives a bare socket, for what no well-behaved client does. What a streamed
//! answer comes to (text, thought, usage, moments of its pieces) is made by [`heard`]; [`load`] asks
//! much at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use frugal_run::consumption::Stopwatch;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::AbortHandle;

mod events;
pub mod heard;
pub mod load;

pub use events::{Event, Events};

/// Bytes of a body that is read whole, at most.
const MOST_BODY: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What is asked of whom cannot be read.
    #[error("expected {expected}, got {got}")]
    Given {
        /// What would have been right.
        expected: &'static str,
        /// What there was.
        got: String,
    },
    /// Nobody listens there.
    #[error("could not connect to {address}")]
    Connect {
        /// Where.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// There was an answer, but not the one that all else builds on.
    #[error("expected {expected}, got status {status}: {body}")]
    Status {
        /// What was needed.
        expected: &'static str,
        /// The answer's status.
        status: u16,
        /// The beginning of its body.
        body: String,
    },
    /// What came is not HTTP, or it broke off.
    #[error("the connection failed")]
    Broken(#[from] hyper::Error),
    /// An event stream is not UTF-8.
    #[error("expected text in UTF-8, got other bytes")]
    NotText,
    /// More came than anybody wants.
    #[error("expected at most {most} bytes, got more")]
    TooLong {
        /// How many are taken.
        most: usize,
    },
}

impl Error {
    /// The connection was ended by the other side before anything of an answer came: what becomes of
    /// an idle connection that is used at the moment it is closed.
    fn is_stale(&self) -> bool {
        matches!(self, Self::Broken(error)
            if error.is_canceled() || error.is_closed() || error.is_incomplete_message())
    }
}

/// A server, and the key to it.
#[derive(Debug, Clone)]
pub struct Target {
    host: String,
    port: u16,
    /// What paths begin with: empty, or from a slash without a slash at the end.
    base: String,
    key: Option<String>,
}

impl Target {
    /// Of `http://HOST[:PORT][/PATH]`; a `/v1` at the end does not matter, since calls name it.
    ///
    /// # Errors
    /// If it is not such an address.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let expected = if url.starts_with("https://") {
            "http://HOST:PORT, as no TLS is spoken here"
        } else {
            "http://HOST:PORT"
        };
        let wrong = || Error::Given {
            expected,
            got: url.to_owned(),
        };
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, base) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let base = base.trim_end_matches('/');
        let base = base
            .strip_suffix("/v1")
            .unwrap_or(base)
            .trim_end_matches('/');
        // An IPv6 address has colons of its own, in brackets.
        let after_brackets = authority.rfind(']').unwrap_or(0);
        let colon = authority
            .get(after_brackets..)
            .and_then(|end| end.rfind(':'))
            .map(|at| at + after_brackets);
        let (host, port) = match colon {
            Some(colon) => {
                let (host, port) = authority.split_at(colon);
                (host, port[1..].parse().map_err(|_| wrong())?)
            }
            None => (authority, 80),
        };
        if host.is_empty() || host.contains('@') {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            base: base.to_owned(),
            key: None,
        })
    }

    /// With a key, sent as `Authorization: Bearer`.
    #[must_use]
    pub fn with_key(self, key: Option<String>) -> Self {
        Self { key, ..self }
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Call {
    /// GET, POST or another.
    pub method: Method,
    /// From the slash on, `/v1/models`.
    pub path: String,
    /// Beside `Host`, and in place of the key's where they name it.
    pub headers: Vec<(String, String)>,
    /// What is sent, nothing where it is empty.
    pub body: Bytes,
}

impl Call {
    /// Asks for a thing.
    pub fn get(path: &str) -> Self {
        Self::of(Method::GET, path, Bytes::new())
    }

    /// Sends JSON.
    pub fn post(path: &str, body: &Value) -> Self {
        Self::of(Method::POST, path, body.to_string().into())
            .header("content-type", "application/json")
    }

    /// Any method with any bytes, without a content type.
    pub fn of(method: Method, path: &str, body: Bytes) -> Self {
        Self {
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body,
        }
    }

    /// With one header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Asks one server, over as many connections as there are calls at a time.
///
/// Clones share the connections that wait to be used again. All of it wants a tokio runtime.
#[derive(Debug, Clone)]
pub struct Client {
    target: Arc<Target>,
    idle: Arc<Mutex<Vec<Connection>>>,
    receive_buffer: Option<u32>,
}

/// A connection; when it is dropped, it is closed at once.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Moves its bytes.
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Of a server.
    pub fn new(target: Target) -> Self {
        Self {
            target: Arc::new(target),
            idle: Arc::default(),
            receive_buffer: None,
        }
    }

    /// The same server, by connections of which the system holds only so many bytes that have not
    /// been read: a client who reads slowly is then felt by the server.
    #[must_use]
    pub fn with_receive_buffer(&self, bytes: u32) -> Self {
        Self {
            target: Arc::clone(&self.target),
            idle: Arc::default(),
            receive_buffer: Some(bytes),
        }
    }

    /// Asks, and reads all that comes.
    ///
    /// # Errors
    /// If there is no answer, or it breaks off. A status is none.
    pub async fn send(&self, call: Call) -> Result<Answer, Error> {
        self.begin(call).await?.whole().await
    }

    /// Asks, and reads the head of the answer.
    ///
    /// # Errors
    /// If there is none.
    pub async fn begin(&self, call: Call) -> Result<Reply, Error> {
        let watch = Stopwatch::start();
        let request = self.request(&call)?;
        let idle = || {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()
        };
        while let Some(mut connection) = idle() {
            if connection.sender.ready().await.is_err() {
                continue;
            }
            match self.ask(connection, request.clone(), watch).await {
                // It was closed for having been idle; that says nothing about this call.
                Err(error) if error.is_stale() => {}
                reply => return reply,
            }
        }
        self.ask(self.open().await?, request, watch).await
    }

    /// A bare connection.
    ///
    /// # Errors
    /// If nobody listens.
    pub async fn connect(&self) -> Result<TcpStream, Error> {
        let address = self.target.authority();
        let failed = |source| Error::Connect {
            address: address.clone(),
            source,
        };
        let mut last = std::io::ErrorKind::NotFound.into();
        for place in lookup_host(address.as_str()).await.map_err(failed)? {
            let socket = if place.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            };
            let socket = socket.map_err(failed)?;
            if let Some(bytes) = self.receive_buffer {
                socket.set_recv_buffer_size(bytes).map_err(failed)?;
            }
            match socket.connect(place).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(failed)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    async fn open(&self) -> Result<Connection, Error> {
        let stream = TokioIo::new(self.connect().await?);
        let mut builder = http1::Builder::new();
        if self.receive_buffer.is_some() {
            // The least hyper allows.
            builder.max_buf_size(8192);
        }
        let (sender, connection) = builder.handshake(stream).await?;
        let task = tokio::spawn(async move {
            // What goes wrong is told to whoever waits for the answer.
            let _ = connection.await;
        });
        Ok(Connection {
            sender,
            task: task.abort_handle(),
        })
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Error> {
        let mut headers = HeaderMap::new();
        let text = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| Error::Given {
                expected: "printable text in a header",
                got: text.to_owned(),
            })
        };
        headers.insert(HOST, text(&self.target.authority())?);
        if let Some(key) = &self.target.key {
            headers.insert(AUTHORIZATION, text(&format!("Bearer {key}"))?);
        }
        for (name, value) in &call.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Given {
                expected: "the name of a header",
                got: name.clone(),
            })?;
            headers.insert(name, text(value)?);
        }
        let path = format!("{}{}", self.target.base, call.path);
        let request = Request::builder()
            .method(call.method.clone())
            .uri(&path)
            .body(Full::new(call.body.clone()));
        let mut request = request.map_err(|_| Error::Given {
            expected: "a path",
            got: path.clone(),
        })?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn ask(
        &self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
        watch: Stopwatch,
    ) -> Result<Reply, Error> {
        let response = connection.sender.send_request(request).await?;
        let head_seconds = watch.seconds();
        let (head, body) = response.into_parts();
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            head_seconds,
            watch,
            body,
            events: Events::default(),
            ready: VecDeque::new(),
            connection: Some(connection),
            idle: Arc::clone(&self.idle),
        })
    }
}

/// An answer that is coming. When it is dropped before its end, its connection is closed.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// When its head was there, in seconds since the request began.
    pub head_seconds: f64,
    watch: Stopwatch,
    body: Incoming,
    events: Events,
    ready: VecDeque<Event>,
    /// None once the body has ended.
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Reply {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the body is a stream of events.
    pub fn is_events(&self) -> bool {
        is_events(&self.headers)
    }

    /// Seconds since the request began.
    pub fn seconds(&self) -> f64 {
        self.watch.seconds()
    }

    /// The next bytes of the body, as they come; none after the last.
    ///
    /// # Errors
    /// If it breaks off.
    pub async fn next_bytes(&mut self) -> Result<Option<Bytes>, Error> {
        if self.connection.is_none() {
            return Ok(None);
        }
        while let Some(frame) = self.body.frame().await {
            // Trailers are no part of the body.
            if let Ok(bytes) = frame?.into_data() {
                return Ok(Some(bytes));
            }
        }
        if let Some(connection) = self.connection.take()
            && !connection.sender.is_closed()
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(connection);
        }
        Ok(None)
    }

    /// The next event of the body; none after the last. Not to be mixed with [`Self::next_bytes`].
    ///
    /// # Errors
    /// If it breaks off, or is no text.
    pub async fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(bytes) = self.next_bytes().await? else {
                return Ok(None);
            };
            let mut events = Vec::new();
            self.events
                .take(&bytes, self.watch.seconds(), &mut events)?;
            self.ready.extend(events);
        }
    }

    /// Comments among the events so far.
    pub const fn n_comments(&self) -> usize {
        self.events.n_comments()
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// If it breaks off, or is too long, or a stream of events that are no text.
    pub async fn whole(mut self) -> Result<Answer, Error> {
        let is_events = self.is_events();
        let (mut body, mut events) = (Vec::new(), Vec::new());
        while let Some(bytes) = self.next_bytes().await? {
            if body.len() + bytes.len() > MOST_BODY {
                return Err(Error::TooLong { most: MOST_BODY });
            }
            if is_events {
                let now = self.watch.seconds();
                self.events.take(&bytes, now, &mut events)?;
            }
            body.extend_from_slice(&bytes);
        }
        Ok(Answer {
            status: self.status,
            head_seconds: self.head_seconds,
            seconds: self.watch.seconds(),
            n_comments: self.events.n_comments(),
            is_cut: self.events.is_within(),
            headers: std::mem::take(&mut self.headers),
            body,
            events,
        })
    }
}

fn is_events(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    content_type.is_some_and(|it| it.starts_with("text/event-stream"))
}

/// An answer that has come.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// When its head was there, in seconds since the request began.
    pub head_seconds: f64,
    /// When all of it was there.
    pub seconds: f64,
    /// Its bytes, those of events as well.
    pub body: Vec<u8>,
    /// Its events, where it is a stream of them.
    pub events: Vec<Event>,
    /// Comments among the events.
    pub n_comments: usize,
    /// Whether the stream ended inside an event.
    pub is_cut: bool,
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether it is a stream of events.
    pub fn is_events(&self) -> bool {
        is_events(&self.headers)
    }

    /// The body as text, with marks for what is none.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// If it is none.
    pub fn json(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

#[cfg(test)]
mod tests;
