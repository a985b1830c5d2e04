//! A server of toy routes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Path, Request};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use frugal_serve::keys::Holder;
use frugal_serve::server::stream::{self, Ending, Event};
use frugal_serve::server::{
    Admission, Anyone, App, Line, Readiness, Server, Settings, Shutdown, Visit, read_body,
};
use frugal_serve::wire::error::{Fault, Kind};
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// No step of a test takes longer.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// Held by whatever works for a client; tells when it is let go of.
struct Work(UnboundedSender<Instant>);

impl Drop for Work {
    fn drop(&mut self) {
        let _ = self.0.send(Instant::now());
    }
}

/// Lets in those with the key `good`.
pub(crate) struct OneKey;

impl Admission for OneKey {
    fn admit(&self, key: Option<&str>) -> Result<Holder, Fault> {
        if key != Some("good") {
            return Err(Fault::new(Kind::Authentication, "expected a key"));
        }
        Ok(Holder {
            id: 7,
            name: "team".into(),
            ..Holder::default()
        })
    }
}

pub(crate) struct Toy {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) readiness: Readiness,
    pub(crate) reload: frugal_serve::server::Reload,
    pub(crate) lines: Arc<Mutex<Vec<Line>>>,
    pub(crate) dropped: UnboundedReceiver<Instant>,
    pub(crate) server: JoinHandle<()>,
}

pub(crate) fn start(change: impl FnOnce(&mut Settings)) -> Toy {
    start_for(Arc::new(Anyone), change)
}

pub(crate) fn start_for(admission: Arc<dyn Admission>, change: impl FnOnce(&mut Settings)) -> Toy {
    let mut settings = Settings::usual(vec![([127, 0, 0, 1], 0).into()]);
    change(&mut settings);
    let shutdown = Shutdown::new();
    let readiness = Readiness::loading(&shutdown);
    readiness.set_ready();
    let (work, dropped) = unbounded_channel();
    let lines: Arc<Mutex<Vec<Line>>> = Arc::default();
    let written = Arc::clone(&lines);
    let app = App {
        keyed: routes(&settings, work),
        open: Router::new(),
        greeting: Router::new(),
        admission,
        readiness: readiness.clone(),
        shutdown: shutdown.clone(),
        on_done: Some(Arc::new(move |line: &Line| {
            written.lock().unwrap().push(line.clone());
        })),
    };
    let server = Server::bind(&settings).unwrap();
    let address = server.addresses()[0];
    let reload = server.reloader();
    let router = app.router(&settings);
    let ends = shutdown.clone();
    Toy {
        address,
        shutdown,
        readiness,
        reload,
        lines,
        dropped,
        server: tokio::spawn(async move { server.serve(router, &ends).await }),
    }
}

fn routes(settings: &Settings, work: UnboundedSender<Instant>) -> Router {
    let limits = settings.body_limits();
    let keep_alive = settings.keep_alive;
    let echo = post(async move |request: Request| {
        let bytes = read_body(request, &limits).await?;
        Ok::<_, Fault>(Json(json!({ "bytes": bytes.len() })))
    });
    let panics = get(async || -> Response { panic!("a secret of the handler") });
    let mut router = Router::new();
    for root in ["/v1", "/v1/messages", "/anthropic", "/api"] {
        router = router
            .route(&format!("{root}/echo"), echo.clone())
            .route(&format!("{root}/panic"), panics.clone())
            .route(&format!("{root}/number/{{n}}"), get(number));
    }
    let (of_silent, of_wait, of_flood) = (work.clone(), work.clone(), work);
    let silent = async move || {
        let work = Work(of_silent);
        let never = unfold(work, async |work| {
            std::future::pending::<()>().await;
            Some((Event::new("1".into()), work))
        });
        stream::events(never, Ending::Done, keep_alive)
    };
    let wait = async move || -> Response {
        let _work = Work(of_wait);
        std::future::pending().await
    };
    let flood = async move || {
        let work = Work(of_flood);
        let much = unfold(work, async |work| {
            Some((Event::new("x".repeat(16 << 10)), work))
        });
        stream::events(much, Ending::Done, keep_alive)
    };
    router
        .route("/v1/silent", get(silent))
        .route("/v1/wait", get(wait))
        .route("/v1/flood", get(flood))
        .route("/v1/count/{n}", get(count))
        .route("/v1/lines/{n}", get(count_lines))
        .route("/v1/breaks", get(breaks))
        .route("/v1/who", get(who))
}

/// Counts to n, a number every 10 ms.
async fn count(Path(n): Path<usize>, visit: Visit) -> Response {
    visit.notes.set_model("toy\nmodel");
    let numbers = unfold(0, move |i| async move {
        sleep(Duration::from_millis(10)).await;
        (i < n).then(|| (Event::new(i.to_string()), i + 1))
    });
    visit.notes.set_tokens(3, n as u64);
    stream::events(numbers, Ending::Done, Duration::from_secs(15))
}

async fn count_lines(Path(n): Path<usize>) -> Response {
    stream::lines(futures_util::stream::iter((0..n).map(|i| i.to_string())))
}

async fn breaks() -> Response {
    let broken = unfold(0, async |i| {
        sleep(Duration::from_millis(10)).await;
        assert!(i < 1, "a secret of the stream");
        Some((Event::new(i.to_string()), i + 1))
    });
    stream::events(broken, Ending::Done, Duration::from_secs(15))
}

async fn number(Path(n): Path<u32>) -> Json<Value> {
    Json(json!(n))
}

async fn who(visit: Visit) -> Result<Json<Value>, Fault> {
    let who = visit.who()?;
    Ok(Json(json!({ "owner": who.id, "name": who.name })))
}
