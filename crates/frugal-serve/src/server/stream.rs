//! Answers that are written while they are made: events (`text/event-stream`) and lines of JSON.
//!
//! What is ready at a time goes out together. When the client leaves, the connection drops the body
//! and with it the stream of events, whatever that holds: nothing else is needed to cancel.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response as Of;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::Response;
use futures_util::Stream;
use tokio::time::{Sleep, sleep};

/// Bytes that are gathered before they go out, though more may be ready.
const ENOUGH_BYTES: usize = 16 << 10;

/// What a client that waits is sent. Readers of events pass over comments.
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Tells nginx and its kin to pass events on as they come.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name, in dialects that have them.
    pub name: Option<&'static str>,
    /// What it carries, as a rule JSON.
    pub data: String,
}

impl Event {
    /// An event without a name.
    pub const fn new(data: String) -> Self {
        Self { name: None, data }
    }

    /// An event with a name.
    pub const fn named(name: &'static str, data: String) -> Self {
        Self {
            name: Some(name),
            data,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        if let Some(name) = self.name {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(name.as_bytes());
            out.push(b'\n');
        }
        // A line break within the data would end the event, and what follows could pass for another.
        for line in self.data.split(['\n', '\r']) {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        out.push(b'\n');
    }
}

/// How a stream of events ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With `data: [DONE]`, as OpenAI's do.
    Done,
    /// With its last event.
    Plain,
}

/// Answers with events as they come, and with comments where none comes for a time.
pub fn events(
    events: impl Stream<Item = Event> + Send + 'static,
    ending: Ending,
    keep_alive: Duration,
) -> Response {
    let last: &[u8] = match ending {
        Ending::Done => b"data: [DONE]\n\n",
        Ending::Plain => b"",
    };
    let written = Written {
        source: Some(Box::pin(events)),
        write: Event::write,
        last,
        silence: Some((keep_alive, Box::pin(sleep(keep_alive)))),
    };
    answer(written, "text/event-stream")
}

/// Answers with lines as they come, each one JSON.
pub fn lines(lines: impl Stream<Item = String> + Send + 'static) -> Response {
    let written = Written {
        source: Some(Box::pin(lines)),
        write: |line: &String, out: &mut Vec<u8>| {
            out.extend(line.bytes().filter(|byte| !b"\r\n".contains(byte)));
            out.push(b'\n');
        },
        last: b"",
        // Readers of lines do not know comments.
        silence: None,
    };
    answer(written, "application/x-ndjson")
}

fn answer<T: 'static>(written: Written<T>, content_type: &'static str) -> Response {
    let mut response = Of::new(Body::from_stream(written));
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (X_ACCEL_BUFFERING, "no"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// A stream as bytes.
struct Written<T> {
    /// None once it has ended: what it holds is let go of at once.
    source: Option<Pin<Box<dyn Stream<Item = T> + Send>>>,
    write: fn(&T, &mut Vec<u8>),
    last: &'static [u8],
    silence: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl<T> Written<T> {
    /// Begins to wait for a comment's time anew.
    fn was_heard(&mut self) {
        if let Some((time, timer)) = &mut self.silence {
            timer.set(sleep(*time));
        }
    }
}

impl<T> Stream for Written<T> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut out = Vec::new();
        while out.len() < ENOUGH_BYTES
            && let Some(source) = &mut this.source
        {
            match source.as_mut().poll_next(context) {
                Poll::Ready(Some(item)) => (this.write)(&item, &mut out),
                Poll::Ready(None) => {
                    this.source = None;
                    out.extend_from_slice(this.last);
                }
                Poll::Pending => break,
            }
        }
        if !out.is_empty() {
            this.was_heard();
            return Poll::Ready(Some(Ok(out.into())));
        }
        if this.source.is_none() {
            return Poll::Ready(None);
        }
        let Some((_, timer)) = &mut this.silence else {
            return Poll::Pending;
        };
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        this.was_heard();
        Poll::Ready(Some(Ok(Bytes::from_static(KEEP_ALIVE))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use futures_util::stream;

    async fn text(response: Response) -> String {
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn events_are_framed_and_cannot_frame_others() {
        let told = stream::iter([
            Event::new("{}".into()),
            Event::named("ping", "1\n\ndata: 2\r3".into()),
        ]);
        let response = events(told, Ending::Done, Duration::from_secs(15));
        insta::assert_snapshot!(text(response).await, @r"
        data: {}

        event: ping
        data: 1
        data: 
        data: data: 2
        data: 3

        data: [DONE]

        ");
    }

    #[tokio::test]
    async fn lines_end_once() {
        let told = stream::iter(["{\"a\":1}".to_owned(), "1\n2".to_owned()]);
        assert_eq!(text(lines(told)).await, "{\"a\":1}\n12\n");
    }
}
