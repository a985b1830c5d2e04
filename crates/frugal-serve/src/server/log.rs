//! The access log: one line a request, under the target `access`.
//!
//! A line tells who asked what kind of thing, how it went and how long it took. Bodies, prompts,
//! query strings, paths as they came and keys are never in it: a route is told by its template.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Method;
use axum::response::Response;
use frugal_run::consumption::Stopwatch;
use hyper::body::{Frame, SizeHint};

/// What is logged for a client that left before its answer was whole.
const LEFT: u16 = 499;

/// Characters of a text from outside that are logged.
const MOST_CHARS: usize = 100;

/// Sees a request when it is over.
pub type OnDone = Arc<dyn Fn(&Line) + Send + Sync>;

/// A request that is over.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Line {
    /// Its id.
    pub id: String,
    /// The method.
    pub method: String,
    /// The template of its path, `-` where no route is.
    pub route: String,
    /// The status; 499 if the client left before the answer was whole.
    pub status: u16,
    /// Seconds until the last byte.
    pub seconds: f64,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// The name of the key.
    pub key: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answers.
    pub completion_tokens: Option<u64>,
}

impl Line {
    fn write(&self) {
        tracing::info!(
            target: "access",
            id = self.id.as_str(),
            method = self.method.as_str(),
            route = self.route.as_str(),
            status = self.status,
            seconds = self.seconds,
            bytes = self.bytes,
            key = self.key.as_deref(),
            model = self.model.as_deref(),
            prompt_tokens = self.prompt_tokens,
            completion_tokens = self.completion_tokens,
        );
    }
}

/// What a handler learns about its request and the log should tell.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Clone, Default)]
struct Noted {
    model: Option<String>,
    tokens: Option<(u64, u64)>,
}

impl Notes {
    fn change(&self, change: impl FnOnce(&mut Noted)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The model that answers.
    pub fn set_model(&self, name: &str) {
        self.change(|noted| noted.model = Some(clean(name)));
    }

    /// Tokens of the prompt and of the answers.
    pub fn set_tokens(&self, prompt: u64, completion: u64) {
        self.change(|noted| noted.tokens = Some((prompt, completion)));
    }
}

/// A text as it may stand in a log: on one line, in ASCII, not long.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .take(MOST_CHARS)
        .flat_map(char::escape_default)
        .collect()
}

/// The line of a request under way. It is written when this is dropped, whatever happened.
pub(super) struct Entry {
    line: Line,
    is_whole: bool,
    began: Stopwatch,
    notes: Notes,
    on_done: Option<OnDone>,
}

impl Entry {
    pub(super) fn begin(
        id: &str,
        method: &Method,
        route: Option<&str>,
        on_done: Option<OnDone>,
    ) -> Self {
        Self {
            line: Line {
                id: id.to_owned(),
                method: clean(method.as_str()),
                route: clean(route.unwrap_or("-")),
                ..Line::default()
            },
            is_whole: false,
            began: Stopwatch::start(),
            notes: Notes::default(),
            on_done,
        }
    }

    pub(super) fn notes(&self) -> Notes {
        self.notes.clone()
    }

    pub(super) fn set_key(&mut self, name: &str) {
        self.line.key = Some(clean(name));
    }

    /// Follows the answer to its end.
    pub(super) fn follow(mut self, response: Response) -> Response {
        self.line.status = response.status().as_u16();
        // The answer to HEAD has a body that nobody reads.
        self.is_whole = self.line.method == Method::HEAD.as_str();
        response.map(|inner| Body::new(Followed { inner, entry: self }))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_whole {
            self.line.status = LEFT;
        }
        self.line.seconds = self.began.seconds();
        let noted = self.notes.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.line.model.clone_from(&noted.model);
        if let Some((prompt, completion)) = noted.tokens {
            self.line.prompt_tokens = Some(prompt);
            self.line.completion_tokens = Some(completion);
        }
        drop(noted);
        self.line.write();
        if let Some(on_done) = &self.on_done {
            on_done(&self.line);
        }
    }
}

/// A body whose bytes are counted and whose panics end it alone.
struct Followed {
    inner: Body,
    entry: Entry,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let inner = Pin::new(&mut self.inner);
        let polled = catch_unwind(AssertUnwindSafe(|| inner.poll_frame(context)));
        let Ok(polled) = polled else {
            tracing::error!(id = self.entry.line.id.as_str(), "an answer panicked");
            // What it held is let go of now; it is not to be asked again.
            self.inner = Body::empty();
            self.entry.line.status = 500;
            self.entry.is_whole = true;
            return Poll::Ready(Some(Err(axum::Error::new("the answer failed"))));
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.entry.line.bytes += bytes as u64;
                self.entry.is_whole |= self.inner.is_end_stream();
            }
            Poll::Ready(None) => self.entry.is_whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        // An empty body is never polled.
        self.entry.is_whole |= self.entry.line.bytes == 0 && self.inner.is_end_stream();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_outside_cannot_write_lines_of_their_own() {
        for (text, logged) in [
            ("r1-tiny", "r1-tiny"),
            ("a\n12:00 access ok", "a\\n12:00 access ok"),
            ("\u{1b}[2J\u{202e}\"", "\\u{1b}[2J\\u{202e}\\\""),
        ] {
            assert_eq!(clean(text), logged);
        }
        assert_eq!(clean(&"a".repeat(1000)).len(), MOST_CHARS);
    }
}
