//! The page that people use, and what it alone asks the server for, under `/web`.
//!
//! ```text
//! pages     the page's files, from the program itself          (everyone)
//! session   who is signed in: a key for a cookie               (everyone, known where possible)
//! chats     conversations, kept for the key they belong to     (keys and cookies)
//! models    the catalogue: what is served and what is stored   (the same; changes by managers)
//! jobs      pulls and checks under way                         (managers)
//! runs      training as it happens and as it was               (keys and cookies; changes by managers)
//! ```
//!
//! These routes are the page's own: they change with it and are no interface for programs, which is
//! why `openapi.json` does not list them. Answers come from the same routes as everyone's.
//!
//! What changes something must come from this server's own page, whoever asks (`own_only`); what
//! manages the server wants a key that may (`Manager`). Where models come from and are fetched from
//! is the binary's business, behind [`Catalogue`].

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde_json::Value;

use crate::aside::Aside;
use crate::models::Catalogue;
use crate::server::{BodyLimits, Shutdown, Visit, read_body};
use crate::service::Service;
use crate::wire::error::{Fault, Kind};
use crate::wire::fields;

mod chats;
mod jobs;
mod models;
mod pages;
pub mod runs;
mod session;

pub use chats::Chats;
pub use jobs::Jobs;
pub use models::Forecasts;
pub use runs::Runs;
pub use session::Sessions;

/// Threads that read and write files for the page at a time.
pub(crate) const ASIDE: usize = 4;

/// What all routes of the page work with.
#[derive(Debug, Clone)]
pub struct Web {
    /// The models.
    pub service: Arc<Service>,
    /// How much and how long a client may send.
    pub body: BodyLimits,
    /// The longest silence of a stream.
    pub keep_alive: Duration,
    /// Who is signed in.
    pub sessions: Arc<Sessions>,
    /// Whether clients speak TLS with this server itself.
    pub has_tls: bool,
    /// The runs that are shown, if any are.
    pub runs: Option<Arc<Runs>>,
    /// Bounds work with files.
    pub aside: Aside,
    /// Conversations; none where they stay in browsers.
    pub chats: Option<Arc<Chats>>,
    /// What models there are, and what is done with them.
    pub catalogue: Arc<dyn Catalogue>,
    /// Fetching and checking under way.
    pub jobs: Jobs,
    /// How fast models are said to be.
    pub forecasts: Forecasts,
    /// Ends streams when the server is to end.
    pub shutdown: Shutdown,
}

impl Web {
    /// The page's files, for everyone.
    pub fn open(&self) -> Router {
        pages::routes()
    }

    /// Routes for everyone that want to know whom they serve.
    pub fn greeting(&self) -> Router {
        let routes = Router::new().route(
            "/web/session",
            get(session::show).post(session::begin).delete(session::end),
        );
        routes
            .route_layer(middleware::from_fn(own_only))
            .with_state(self.clone())
    }

    /// Routes that want a key or its session.
    pub fn keyed(&self) -> Router {
        let routes = Router::new()
            .route("/web/chats", get(chats::list))
            .route(
                "/web/chats/{id}",
                get(chats::one).put(chats::put).delete(chats::remove),
            )
            .route("/web/models", get(models::list))
            .route("/web/models/pull", post(models::pull))
            .route(
                "/web/models/{name}",
                get(models::one).delete(models::remove),
            )
            .route("/web/models/{name}/forecast", get(models::forecast))
            .route("/web/models/{name}/load", post(models::load))
            .route("/web/models/{name}/unload", post(models::unload))
            .route("/web/models/{name}/verify", post(models::verify))
            .route("/web/jobs", get(jobs::list))
            .route("/web/jobs/{id}", delete(jobs::cancel))
            .route("/web/jobs/{id}/events", get(jobs::follow))
            .merge(runs::routes());
        routes
            .route_layer(middleware::from_fn(own_only))
            .with_state(self.clone())
    }

    /// Reads a body of JSON of at most so many bytes.
    async fn read(&self, request: Request, bytes: usize) -> Result<Value, Fault> {
        let read = read_body(request, &self.body.with_bytes(bytes)).await?;
        let limits = crate::answer::Limits {
            body_bytes: bytes,
            ..self.service.parts.limits
        };
        self.aside.run(move || fields::read(&read, &limits)).await
    }
}

/// Our own fault, with what happened for the log.
fn broken(what: &'static str, error: &dyn std::fmt::Display) -> Fault {
    tracing::error!(%error, "{what}");
    Fault::ours()
}

/// Refuses what changes something and comes from elsewhere than the server's own page.
async fn own_only(visit: Visit, request: Request, next: Next) -> Result<Response, Fault> {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && !visit.is_of_own_page {
        let message = "this is for the server's own page alone";
        return Err(Fault::new(Kind::Origin, message));
    }
    Ok(next.run(request).await)
}

/// An argument of handlers that only those may reach who may manage the server.
#[derive(Debug, Clone, Copy)]
struct Manager;

impl<S: Sync> FromRequestParts<S> for Manager {
    type Rejection = Fault;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, Fault> {
        let visit = Visit::from_request_parts(head, state).await?;
        if visit.who()?.may_manage {
            return Ok(Self);
        }
        let message = "this key may not manage the server; its operator can make one that may";
        Err(Fault::new(Kind::Management, message))
    }
}
