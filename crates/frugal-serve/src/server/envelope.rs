//! What goes wrong, as a response in the dialect of its path.
//!
//! Handlers return a [`Fault`]; it travels in the response's extensions to the guard, which knows
//! the path and writes the envelope. Whatever else fails without JSON (an extractor's refusal, a
//! forgotten status) is given an envelope there too.

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Response as Of, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::wire::error::{Fault, Kind};

/// Says whether a client's library should ask again by itself.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Seconds beyond which libraries do not wait by themselves, so that asking again would be in vain.
const MOST_WAIT_SECONDS: u32 = 60;

/// Whose shapes a path has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Ollama's.
    Ollama,
}

impl Dialect {
    /// That of a path.
    pub fn of(path: &str) -> Self {
        let is_under = |root: &str| {
            path.strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if is_under("/v1/messages") || is_under("/anthropic") {
            Self::Anthropic
        } else if is_under("/api") {
            Self::Ollama
        } else {
            Self::OpenAi
        }
    }

    /// The body for a fault.
    fn body(self, fault: &Fault) -> String {
        match self {
            Self::OpenAi => fault.openai(),
            Self::Anthropic => fault.anthropic(),
            Self::Ollama => fault.ollama(),
        }
        .to_string()
    }
}

/// For the guard to write; OpenAI's envelope where there is none.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = plain(&self, Dialect::OpenAi);
        response.extensions_mut().insert(self);
        response
    }
}

/// A fault in a dialect.
fn plain(fault: &Fault, dialect: Dialect) -> Response {
    let mut response = Of::new(Body::from(dialect.body(fault)));
    *response.status_mut() = status(fault.kind);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    advise(fault, headers);
    response
}

fn status(kind: Kind) -> StatusCode {
    StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Says when to come again, and whether to keep the connection.
fn advise(fault: &Fault, headers: &mut HeaderMap) {
    let wait = match fault.kind {
        Kind::RateLimit | Kind::Busy => Some(fault.retry_after.unwrap_or(1)),
        Kind::Unavailable => Some(fault.retry_after.unwrap_or(5)),
        _ => fault.retry_after,
    };
    if let Some(seconds) = wait {
        headers.insert(header::RETRY_AFTER, seconds.into());
        let is_soon = seconds <= MOST_WAIT_SECONDS;
        let answer = if is_soon { "true" } else { "false" };
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(answer));
    }
    // Libraries try every 503 again unless told.
    if fault.kind == Kind::CannotLoad {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    // The rest of the body is not waited for.
    if matches!(fault.kind, Kind::Timeout | Kind::TooLarge) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Gives a response that fails its envelope. Returns the fault it stands for.
pub(super) fn write(response: &mut Response, dialect: Dialect, request_id: &str) -> Option<Fault> {
    let mut fault = match response.extensions_mut().remove::<Fault>() {
        Some(fault) => fault,
        None if is_foreign(response) => Fault::new(
            kind_of(response.status()),
            words_for(kind_of(response.status())),
        ),
        None => return None,
    };
    if fault.kind == Kind::Internal {
        fault.message = format!("{} (request {request_id})", fault.message);
    }
    let allow = response.headers_mut().remove(header::ALLOW);
    *response = plain(&fault, dialect);
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    Some(fault)
}

/// Whether a response fails in words that are not ours.
fn is_foreign(response: &Response) -> bool {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    (status.is_client_error() || status.is_server_error()) && !is_json
}

fn kind_of(status: StatusCode) -> Kind {
    match status.as_u16() {
        401 => Kind::Authentication,
        403 => Kind::Permission,
        404 => Kind::NoRoute,
        405 => Kind::Method,
        408 => Kind::Timeout,
        413 => Kind::TooLarge,
        415 => Kind::MediaType,
        429 => Kind::Busy,
        503 => Kind::Unavailable,
        400..500 => Kind::Invalid,
        _ => Kind::Internal,
    }
}

fn words_for(kind: Kind) -> &'static str {
    match kind {
        Kind::NoRoute => "there is no such route",
        Kind::Method => "this route does not know this method",
        Kind::Internal => "the server failed",
        _ => "the request cannot be answered as it is",
    }
}

/// Answers what no route does.
pub(super) async fn not_found() -> Fault {
    Fault::new(Kind::NoRoute, words_for(Kind::NoRoute))
}

/// Answers a method that a route does not know. The router says which it knows.
pub(super) async fn method_not_allowed() -> Fault {
    Fault::new(Kind::Method, words_for(Kind::Method))
}

/// A whole response as bytes, to be written where HTTP is not spoken yet.
pub(super) fn as_bytes(fault: &Fault, status_line: &str) -> Vec<u8> {
    let body = Dialect::OpenAi.body(fault);
    let mut headers = HeaderMap::new();
    advise(fault, &mut headers);
    let retry = headers
        .get(header::RETRY_AFTER)
        .and_then(|seconds| seconds.to_str().ok())
        .map(|seconds| format!("retry-after: {seconds}\r\nx-should-retry: true\r\n"))
        .unwrap_or_default();
    let length = body.len();
    format!(
        "{status_line}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         {retry}connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_dialects() {
        for (path, dialect) in [
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messages_of_others", Dialect::OpenAi),
            ("/anthropic/v1/messages", Dialect::Anthropic),
            ("/api/chat", Dialect::Ollama),
            ("/api", Dialect::Ollama),
            ("/apiary", Dialect::OpenAi),
            ("", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }

    #[test]
    fn waits_that_libraries_do_not_sit_out_are_not_tried_again() {
        for (fault, after, retry) in [
            (Fault::new(Kind::Busy, ""), Some("1"), Some("true")),
            (
                Fault::new(Kind::RateLimit, "").again_after(60),
                Some("60"),
                Some("true"),
            ),
            (
                Fault::new(Kind::RateLimit, "").again_after(3600),
                Some("3600"),
                Some("false"),
            ),
            (Fault::new(Kind::Unavailable, ""), Some("5"), Some("true")),
            (Fault::new(Kind::CannotLoad, ""), None, Some("false")),
            (Fault::new(Kind::Invalid, ""), None, None),
            (Fault::new(Kind::Internal, ""), None, None),
        ] {
            let response = plain(&fault, Dialect::OpenAi);
            let header = |name| response.headers().get(name).map(|v| v.to_str().unwrap());
            assert_eq!(header("retry-after"), after, "{fault:?}");
            assert_eq!(header("x-should-retry"), retry, "{fault:?}");
        }
    }

    #[test]
    fn words_of_others_never_show() {
        let mut response = (StatusCode::UNPROCESSABLE_ENTITY, "at line 1").into_response();
        let fault = write(&mut response, Dialect::OpenAi, "id").unwrap();
        assert_eq!(fault.kind, Kind::Invalid);
        let mut own = (StatusCode::BAD_REQUEST, axum::Json(1)).into_response();
        assert_eq!(write(&mut own, Dialect::OpenAi, "id"), None);
    }
}
