//! HTTP without any model: listening, TLS, guards, envelopes, streams, the access log.
//!
//! ```text
//! listen       sockets, how many connections, draining      shutdown   the handle that starts it
//! connection   one client: HTTP/1.1, how long it may take   socket     one that waits for no slow reader
//! guard        every request: id, host, origin, key, panic  origin     which pages and hosts may ask
//! body         what a client sends, within limits           envelope   what goes wrong, in its dialect
//! stream       events and lines while they are made         log        one line a request
//! ```
//!
//! Routes are plain axum routers whose handlers answer `Result<Response, Fault>`; [`App`] puts the
//! guard around them, [`Server`] serves them:
//!
//! ```no_run
//! # use frugal_serve::server::{App, Anyone, Readiness, Server, Settings, Shutdown};
//! # async fn start(keyed: axum::Router) -> Result<(), frugal_serve::server::ListenError> {
//! let settings = Settings::usual(vec![([127, 0, 0, 1], 8080).into()]);
//! let shutdown = Shutdown::new();
//! let readiness = Readiness::loading(&shutdown);
//! let app = App {
//!     keyed,
//!     open: axum::Router::new(),
//!     greeting: axum::Router::new(),
//!     admission: std::sync::Arc::new(Anyone),
//!     readiness: readiness.clone(),
//!     shutdown: shutdown.clone(),
//!     on_done: None,
//! };
//! let server = Server::bind(&settings)?;
//! readiness.set_ready();
//! server.serve(app.router(&settings), &shutdown).await;
//! # Ok(())
//! # }
//! ```
//!
//! A client that closes its sending half has left: what it asked for ends. Every client library
//! keeps it open until the answer is read, and a client that has gone cannot be told from one that
//! only closed its half.
//!
//! This room knows neither models nor keys ([`Admission`] is given). HTTP/2 and unix sockets are left
//! to a proxy in front.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Router, middleware};

mod body;
mod connection;
mod envelope;
mod guard;
mod health;
mod listen;
mod log;
mod origin;
mod shutdown;
mod socket;
pub mod stream;
mod tls;

pub use body::{BodyLimits, read_body};
pub use connection::Peer;
pub use envelope::Dialect;
pub use guard::{Admission, Anyone, Visit};
#[cfg(test)]
pub(crate) use health::routes as health_routes;
pub use health::{Readiness, State};
pub use listen::{ListenError, Reload, Server};
pub use log::{Line, Notes, OnDone};
pub use shutdown::{Shutdown, Stage};
pub use tls::{TlsError, TlsFiles};

/// Where to listen and what clients may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Certificate and key; without them HTTP is spoken in the clear.
    pub tls: Option<TlsFiles>,
    /// Connections at a time.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of all bodies that are being read.
    pub bodies_bytes: usize,
    /// From the first byte of a head to its last; also of a TLS handshake.
    pub head_time: Duration,
    /// How long a connection may wait between requests.
    pub idle_time: Duration,
    /// How long a body may pause.
    pub body_pause: Duration,
    /// How long a body may take in all.
    pub body_time: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub write_time: Duration,
    /// How long running answers may take once the server is to end.
    pub drain_time: Duration,
    /// The longest silence of a stream of events: then comes a comment.
    pub keep_alive: Duration,
    /// Origins whose pages may read answers (`https://chat.example.org`), or `*`.
    pub cors: Vec<String>,
    /// Hosts that may be asked for, besides loopback, when only loopback is listened on.
    pub hosts: Vec<String>,
}

impl Settings {
    /// What is usual, on these addresses.
    pub const fn usual(listen: Vec<SocketAddr>) -> Self {
        Self {
            listen,
            tls: None,
            connections: 4096,
            head_bytes: 32 << 10,
            body_bytes: crate::answer::Limits::USUAL.body_bytes,
            bodies_bytes: 256 << 20,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            body_pause: Duration::from_secs(15),
            body_time: Duration::from_mins(5),
            write_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            cors: Vec::new(),
            hosts: Vec::new(),
        }
    }

    /// Whether only this machine can connect.
    pub fn is_loopback_only(&self) -> bool {
        self.listen
            .iter()
            .all(|address| address.ip().to_canonical().is_loopback())
    }

    /// The limits of bodies. All that are read under copies of one value share its budget.
    pub fn body_limits(&self) -> BodyLimits {
        BodyLimits::new(self)
    }
}

/// What is served.
#[expect(missing_debug_implementations, reason = "holds a function")]
pub struct App {
    /// Routes for those whom [`Self::admission`] lets in. Without fallbacks.
    pub keyed: Router,
    /// Routes for everyone, besides `/livez`, `/readyz` and `/health`. Without fallbacks.
    pub open: Router,
    /// Routes for everyone, which want to know whom they serve. Without fallbacks.
    pub greeting: Router,
    /// Who is let in.
    pub admission: Arc<dyn Admission>,
    /// Whether models are there.
    pub readiness: Readiness,
    /// Whether the server is to end.
    pub shutdown: Shutdown,
    /// Sees every request when it is over, for metrics.
    pub on_done: Option<OnDone>,
}

impl App {
    /// The routes with the guard around them.
    pub fn router(self, settings: &Settings) -> Router {
        let common = guard::Common::new(settings, self.admission, self.shutdown, self.on_done);
        let dress = |routes: Router, door| {
            let guard = guard::Guard::new(Arc::clone(&common), door);
            routes
                .method_not_allowed_fallback(envelope::method_not_allowed)
                .layer(middleware::from_fn_with_state(guard, guard::check))
        };
        let open = self.open.merge(health::routes(self.readiness));
        let nowhere = Router::new().fallback(envelope::not_found);
        dress(self.keyed, guard::Door::Keyed)
            .merge(dress(self.greeting, guard::Door::Greeting))
            .merge(dress(open, guard::Door::Open))
            .merge(dress(nowhere, guard::Door::Open))
    }
}
