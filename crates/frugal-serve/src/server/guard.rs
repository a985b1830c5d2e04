//! What every request passes: id, host, origin, content type, key; and what every answer gets:
//! envelope, headers, a line in the log. A panic of a handler ends here.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::log::{Entry, Notes, OnDone};
use super::origin::{self, Origins, Page};
use super::{Dialect, Peer, Settings, Shutdown, Stage, envelope};
use crate::keys::{Holder, Token};
use crate::wire::error::{Fault, Kind};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Anthropic's libraries read this one.
const PLAIN_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Bytes of an id that is taken from a client.
const MOST_ID_BYTES: usize = 128;

/// Headers of every answer that does not set them itself.
const SAFE: [(HeaderName, HeaderValue); 5] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
];

/// Decides who is let in.
pub trait Admission: Send + Sync {
    /// Whose a key is, or what is said to those who have none where one is needed.
    ///
    /// Called on the threads that serve: it must not wait for a disk or a network.
    ///
    /// # Errors
    /// If nobody is let in with it.
    fn admit(&self, key: Option<&str>) -> Result<Holder, Fault>;

    /// Who signed in and got this token, if that still holds. Asked for the server's own page alone.
    fn admit_session(&self, token: &Token) -> Option<Holder> {
        let _ = token;
        None
    }
}

/// Lets everyone in: for loopback.
#[derive(Debug, Clone, Copy)]
pub struct Anyone;

impl Admission for Anyone {
    fn admit(&self, _key: Option<&str>) -> Result<Holder, Fault> {
        Ok(Holder::anyone())
    }
}

/// A request as the guard knows it: an argument of handlers that want it.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The request's id.
    pub id: Arc<str>,
    /// The dialect of its path.
    pub dialect: Dialect,
    /// Told to the log.
    pub notes: Notes,
    /// Whether a browser vouches that the server's own page asks.
    pub is_of_own_page: bool,
    /// Where it comes from, where a connection told.
    pub peer: Option<Peer>,
    /// What its cookie holds.
    pub token: Option<Token>,
    who: Option<Holder>,
}

impl Visit {
    /// Whose request it is.
    ///
    /// # Errors
    /// If the route is one for everyone.
    pub fn who(&self) -> Result<&Holder, Fault> {
        self.who.as_ref().ok_or_else(Fault::ours)
    }
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Fault;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Fault> {
        let visit = head.extensions.get().cloned();
        visit.ok_or_else(Fault::ours)
    }
}

/// Whether a route wants a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Keyed,
    /// Lets everyone in, and looks who it is.
    Greeting,
    Open,
}

/// What all guards of a server share.
pub(super) struct Common {
    origins: Origins,
    admission: Arc<dyn Admission>,
    shutdown: Shutdown,
    on_done: Option<OnDone>,
    ids: Ids,
}

impl Common {
    pub(super) fn new(
        settings: &Settings,
        admission: Arc<dyn Admission>,
        shutdown: Shutdown,
        on_done: Option<OnDone>,
    ) -> Arc<Self> {
        Arc::new(Self {
            origins: Origins::new(settings),
            admission,
            shutdown,
            on_done,
            ids: Ids::default(),
        })
    }
}

/// The guard of some routes.
#[derive(Clone)]
pub(super) struct Guard {
    common: Arc<Common>,
    door: Door,
}

/// How a request goes on.
enum Pass {
    /// It is answered already.
    Preflight(Response),
    /// To its handler.
    In(Option<Holder>),
}

impl Guard {
    pub(super) const fn new(common: Arc<Common>, door: Door) -> Self {
        Self { common, door }
    }

    fn pass(&self, head: &mut Parts, page: &Page, visit: &mut Visit) -> Result<Pass, Fault> {
        let key = take_key(&mut head.headers);
        visit.token = take_token(&mut head.headers);
        visit.is_of_own_page = origin::is_of_own_page(head);
        visit.peer = head.extensions.get().copied();
        self.common.origins.check_host(head)?;
        Origins::check_page(head, page)?;
        if origin::is_preflight(head) {
            return Ok(Pass::Preflight(origin::preflight(head)));
        }
        if self.door == Door::Open {
            return Ok(Pass::In(None));
        }
        if self.is_draining() {
            let message = "the server is ending; ask again soon";
            return Err(Fault::new(Kind::Unavailable, message).again_after(5));
        }
        let who = match (self.who(key.as_deref(), visit), self.door) {
            (Err(_), Door::Greeting) => None,
            (who, _) => Some(who?),
        };
        check_content_type(head)?;
        Ok(Pass::In(who))
    }

    /// Whose a request is: its key's, else, for the server's own page, its cookie's.
    fn who(&self, key: Option<&str>, visit: &Visit) -> Result<Holder, Fault> {
        let admission = &self.common.admission;
        let token = visit.token.as_ref();
        let token = token.filter(|_| key.is_none() && visit.is_of_own_page);
        match token.and_then(|token| admission.admit_session(token)) {
            Some(holder) => Ok(holder),
            None => admission.admit(key),
        }
    }

    fn is_draining(&self) -> bool {
        self.common.shutdown.stage() > Stage::Running
    }

    fn finish(&self, headers: &mut HeaderMap, visit: &Visit, page: &Page) {
        for (name, value) in &SAFE {
            if !headers.contains_key(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        // An id is made of what headers may hold.
        if let Ok(id) = HeaderValue::from_str(&visit.id) {
            if visit.dialect == Dialect::Anthropic {
                headers.insert(PLAIN_REQUEST_ID, id.clone());
            }
            headers.insert(REQUEST_ID, id);
        }
        self.common.origins.mark(headers, page);
        if self.is_draining() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// The guard, around every route.
pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let common = &guard.common;
    let id = common.ids.of(&head.headers);
    let route = head.extensions.get::<MatchedPath>();
    let route = route.map(MatchedPath::as_str);
    let mut entry = Entry::begin(&id, &head.method, route, common.on_done.clone());
    let mut visit = Visit {
        id,
        dialect: Dialect::of(head.uri.path()),
        notes: entry.notes(),
        is_of_own_page: false,
        peer: None,
        token: None,
        who: None,
    };
    let page = common.origins.page(&head);
    let answer = match guard.pass(&mut head, &page, &mut visit) {
        Ok(Pass::Preflight(response)) => Ok(response),
        Ok(Pass::In(who)) => {
            if let Some(who) = &who {
                entry.set_key(&who.name);
            }
            visit.who = who;
            head.extensions.insert(visit.clone());
            caught(&visit.id, next.run(Request::from_parts(head, body))).await
        }
        Err(fault) => Err(fault),
    };
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    envelope::write(&mut response, visit.dialect, &visit.id);
    guard.finish(response.headers_mut(), &visit, &page);
    entry.follow(response)
}

/// Runs a handler; its panic is its own fault.
async fn caught(id: &str, handler: impl Future<Output = Response>) -> Result<Response, Fault> {
    let mut handler = pin!(handler);
    std::future::poll_fn(|context| {
        let poll = AssertUnwindSafe(|| handler.as_mut().poll(context));
        if let Ok(polled) = catch_unwind(poll) {
            polled.map(Ok)
        } else {
            tracing::error!(id, "a handler panicked");
            Poll::Ready(Err(Fault::ours()))
        }
    })
    .await
}

/// Takes the key out of a request, so that nothing behind the guard can tell it. However long it is:
/// who lets in says what is wrong with it.
fn take_key(headers: &mut HeaderMap) -> Option<String> {
    let authorization = headers.remove(header::AUTHORIZATION);
    let plain = headers.remove(API_KEY);
    let bearer = authorization.as_ref().and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let key = bearer.or_else(|| plain.as_ref()?.to_str().ok().map(str::trim))?;
    (!key.is_empty()).then(|| key.to_owned())
}

/// Takes the cookies out of a request; what the session's holds, if it has the shape of one.
fn take_token(headers: &mut HeaderMap) -> Option<Token> {
    let found = headers.get_all(header::COOKIE).iter().find_map(|value| {
        let mut cookies = value.to_str().ok()?.split(';');
        cookies.find_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == Token::COOKIE).then(|| Token::read(value))?
        })
    });
    headers.remove(header::COOKIE);
    found
}

/// Refuses bodies that are not plain JSON.
fn check_content_type(head: &Parts) -> Result<(), Fault> {
    if !matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
        return Ok(());
    }
    let refuse = |message: &str| Err(Fault::new(Kind::MediaType, message));
    let text = |name| head.headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let is_plain =
        text(header::CONTENT_ENCODING).is_none_or(|name| name.eq_ignore_ascii_case("identity"));
    if !is_plain {
        return refuse("expected a body without content-encoding");
    }
    let has_body = head.headers.contains_key(header::TRANSFER_ENCODING)
        || text(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let is_json = match text(header::CONTENT_TYPE) {
        Some(kind) => {
            let essence = kind.split_once(';').map_or(kind, |(essence, _)| essence);
            essence.trim().eq_ignore_ascii_case("application/json")
        }
        None => !has_body,
    };
    if is_json {
        Ok(())
    } else {
        refuse("expected a body of content-type application/json")
    }
}

/// Makes ids of requests.
#[derive(Debug, Default)]
struct Ids {
    /// Keyed by the system's random numbers: without the key ids cannot be told from noise.
    key: RandomState,
    made: AtomicU64,
}

impl Ids {
    /// The client's own where it is sane, else a new one.
    fn of(&self, headers: &HeaderMap) -> Arc<str> {
        let own = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        if let Some(own) = own.filter(|id| is_sane(id)) {
            return own.into();
        }
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        let half = |which: u8| self.key.hash_one((count, which));
        format!("req-{:016x}{:016x}", half(0), half(1)).into()
    }
}

fn is_sane(id: &str) -> bool {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=MOST_ID_BYTES).contains(&id.len()) && id.bytes().all(is_safe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request as Of;

    fn headers(rows: &[(&'static str, &str)]) -> HeaderMap {
        let row = |(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn ids_of_clients_are_taken_when_sane() {
        let ids = Ids::default();
        let of = |id: &str| ids.of(&headers(&[("x-request-id", id)]));
        let longest = "a".repeat(128);
        for id in ["a", "trace-1_2.3:4", longest.as_str()] {
            assert_eq!(&*of(id), id);
        }
        let too_long = "a".repeat(129);
        for id in ["", "a b", "a\"b", "<script>", "a\tb", too_long.as_str()] {
            assert_ne!(&*of(id), id);
        }
        let (one, two) = (ids.of(&HeaderMap::new()), ids.of(&HeaderMap::new()));
        assert_ne!(one, two);
        assert_eq!(one.len(), "req-".len() + 32);
    }

    #[test]
    fn keys_are_taken_out_of_either_header() {
        let long = "k".repeat(10_000);
        let with_long = format!("Bearer {long}");
        for (rows, key) in [
            (vec![("authorization", "Bearer k1")], Some("k1")),
            (vec![("authorization", "bearer  k1 ")], Some("k1")),
            (vec![("x-api-key", "k2")], Some("k2")),
            (
                vec![("authorization", "Bearer k1"), ("x-api-key", "k2")],
                Some("k1"),
            ),
            (
                vec![("authorization", "Basic k1"), ("x-api-key", "k2")],
                Some("k2"),
            ),
            (vec![("authorization", "Basic k1")], None),
            (vec![("authorization", "Bearer ")], None),
            (vec![("authorization", with_long.as_str())], Some(&long)),
            (vec![], None),
        ] {
            let mut headers = headers(&rows);
            assert_eq!(take_key(&mut headers).as_deref(), key, "{rows:?}");
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn tokens_are_taken_out_of_cookies() {
        let token = "a".repeat(43);
        let good = format!("a=b; frugal_session={token};c=d");
        let twice = format!("frugal_session=short; frugal_session={token}");
        let other = format!("other_frugal_session={token}");
        let spaced = format!("frugal_session= {token}");
        for (cookie, expected) in [
            (good.as_str(), true),
            (&twice, true),
            (&other, false),
            (&spaced, false),
            ("frugal_session=", false),
            ("frugal_session", false),
            ("", false),
        ] {
            let mut headers = headers(&[("cookie", cookie)]);
            assert_eq!(take_token(&mut headers).is_some(), expected, "{cookie}");
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn bodies_are_plain_json() {
        for (rows, expected) in [
            (vec![("content-type", "application/json")], true),
            (
                vec![("content-type", "Application/JSON; charset=utf-8")],
                true,
            ),
            (vec![], true),
            (vec![("content-length", "0")], true),
            (vec![("content-length", "2")], false),
            (vec![("transfer-encoding", "chunked")], false),
            (vec![("content-type", "text/plain")], false),
            (vec![("content-type", "application/json-seq")], false),
            (
                vec![
                    ("content-type", "application/json"),
                    ("content-encoding", "gzip"),
                ],
                false,
            ),
        ] {
            let mut request = Of::post("/");
            *request.headers_mut().unwrap() = headers(&rows);
            let (head, ()) = request.body(()).unwrap().into_parts();
            let checked = check_content_type(&head).map_err(|fault| fault.kind);
            let expected = if expected {
                Ok(())
            } else {
                Err(Kind::MediaType)
            };
            assert_eq!(checked, expected, "{rows:?}");
        }
    }
}
