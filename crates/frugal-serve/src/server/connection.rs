//! One client from handshake to goodbye: HTTP/1.1, and how long each part of it may take.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tower::Service;

use super::socket::{Busy, Io, Phase, Pulse, Socket, Stream};
use super::tls::Tls;
use super::{Settings, Shutdown, Stage};

/// How long a client that closed its half may still be handed what is ready.
#[cfg(any(target_os = "linux", target_os = "android"))]
const GRACE: Duration = Duration::from_millis(20);

/// How long, and how many bytes, a client may go on sending after the last answer. A socket closed
/// with bytes unread would be reset, and a reset can overtake the answer.
const LINGER: Duration = Duration::from_secs(1);
const MOST_LINGER_BYTES: usize = 64 << 20;

/// How a peer that is gone without a word is found out: asked after a minute, four times; or by what
/// it does not acknowledge in as long. Much more than a write may take: the kernel counts the time that
/// a slow reader's window is shut as well.
const KEEP_ALIVE_AFTER: Duration = Duration::from_mins(1);
#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
#[cfg(any(target_os = "linux", target_os = "android"))]
const MOST_UNACKNOWLEDGED: Duration = Duration::from_mins(2);

/// Bytes that are kept of what a client sends or is sent.
const BUFFER_BYTES: usize = 64 << 10;

/// The address that a request comes from: a client's, or that of a proxy in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(pub std::net::IpAddr);

/// What all connections share.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) settings: Settings,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) shutdown: Shutdown,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// As both sides wish.
    Served,
    /// By refusing a malformed head.
    Refused,
    /// Some part took too long.
    TooSlow,
    /// The client left.
    Left,
    /// The server ends.
    Cut,
}

/// Serves a client until it, or the server, has had enough.
pub(super) async fn serve(stream: TcpStream, shared: &Shared) {
    tune(&stream);
    let socket = Arc::new(stream);
    let pulse = Arc::new(Pulse::default());
    let ended = match greet(&socket, shared).await {
        Some(stream) => converse(stream, &socket, &pulse, shared).await,
        None => Ended::Left,
    };
    if pulse.is_stalled() {
        // What the kernel still holds is thrown away as well.
        let _ = SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
    } else if ended == Ended::Refused || (ended == Ended::Served && pulse.is_unread()) {
        linger(&socket, &shared.shutdown).await;
    }
}

/// Sets what the socket does by itself. A system that does not know an option goes without.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let options = SockRef::from(stream);
    let asking = TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER);
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
    let asking = asking.with_interval(KEEP_ALIVE_EVERY).with_retries(4);
    let _ = options.set_tcp_keepalive(&asking);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = options.set_tcp_user_timeout(Some(MOST_UNACKNOWLEDGED));
}

/// The stream to speak HTTP on, after the handshake where there is TLS.
async fn greet(socket: &Arc<TcpStream>, shared: &Shared) -> Option<Stream> {
    let plain = Socket(Arc::clone(socket));
    let Some(tls) = &shared.tls else {
        return Some(Stream::Plain(plain));
    };
    let handshake = timeout(shared.settings.head_time, tls.acceptor().accept(plain));
    tokio::select! {
        shaken = handshake => Some(Stream::Tls(Box::new(shaken.ok()?.ok()?))),
        () = shared.shutdown.reached(Stage::Cut) => None,
    }
}

/// Answers requests.
async fn converse(
    stream: Stream,
    socket: &TcpStream,
    pulse: &Arc<Pulse>,
    shared: &Shared,
) -> Ended {
    let settings = &shared.settings;
    let io = Io::new(stream, Arc::clone(pulse), settings.write_time);
    let peer = socket.peer_addr().ok();
    let peer = peer.map(|peer| Peer(peer.ip().to_canonical()));
    let service = service_fn(|request: Request<Incoming>| {
        let busy = pulse.begin(!request.body().is_end_stream());
        let mut router = shared.router.clone();
        let mut request = request.map(|body| {
            let pulse = Arc::clone(pulse);
            Body::new(Coming { body, pulse })
        });
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        async move {
            let response = router.call(request).await?;
            Ok::<_, Infallible>(response.map(|body| Held { body, _busy: busy }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Heads have their time below, where waiting for one is told from reading one.
        .header_read_timeout(None)
        // Where departures are watched for below, hyper need not see them: it would even withhold an
        // answer that is ready.
        .half_close(cfg!(any(target_os = "linux", target_os = "android")))
        .max_header_size(settings.head_bytes)
        .max_buf_size(BUFFER_BYTES.max(settings.head_bytes))
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);

    let mut left = pin!(departure(socket));
    let mut draining = pin!(shared.shutdown.reached(Stage::Draining));
    let mut cut = pin!(shared.shutdown.reached(Stage::Cut));
    // One that comes while the server drains is answered once: the answer says close.
    let mut is_told = shared.shutdown.stage() > Stage::Running;
    let mut seen = pulse.now();
    let mut timer = pin!(sleep(settings.idle_time));
    poll_fn(|context| {
        if let Poll::Ready(result) = connection.as_mut().poll(context) {
            return Poll::Ready(match result {
                Ok(()) => Ended::Served,
                Err(error) if error.is_parse() => Ended::Refused,
                Err(_) => Ended::Left,
            });
        }
        let now = pulse.now();
        if now != seen {
            seen = now;
            match now.0 {
                Phase::Idle => timer.set(sleep(settings.idle_time)),
                Phase::Head => timer.set(sleep(settings.head_time)),
                Phase::Busy => {}
            }
        }
        if now.0 != Phase::Busy && timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ended::TooSlow);
        }
        if left.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ended::Left);
        }
        if cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ended::Cut);
        }
        if !is_told && draining.as_mut().poll(context).is_ready() {
            is_told = true;
            connection.as_mut().graceful_shutdown();
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

/// Waits until the client has closed its half, and a little longer.
///
/// hyper itself would see that only while it reads, and it does not while bytes of a next request
/// wait: then a client could leave unseen until something is written to it.
#[cfg(any(target_os = "linux", target_os = "android"))]
async fn departure(socket: &TcpStream) {
    // Waiting for urgent bytes, which are not watched for, wakes at nothing but the end.
    match socket.ready(tokio::io::Interest::PRIORITY).await {
        Ok(ready) if ready.is_read_closed() => sleep(GRACE).await,
        Ok(_) | Err(_) => std::future::pending().await,
    }
}

/// Elsewhere hyper sees it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
async fn departure(_: &TcpStream) {
    std::future::pending().await
}

/// Lets the client read the last answer before the socket is closed.
pub(super) async fn linger(socket: &TcpStream, shutdown: &Shutdown) {
    let rest = async {
        let mut scrap = [0; 4096];
        let mut bytes = 0;
        while bytes < MOST_LINGER_BYTES && socket.readable().await.is_ok() {
            match socket.try_read(&mut scrap) {
                Ok(0) => return,
                Ok(count) => bytes += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        _ = timeout(LINGER, rest) => {}
        () = shutdown.reached(Stage::Cut) => {}
    }
}

/// A body that is being read.
struct Coming {
    body: Incoming,
    pulse: Arc<Pulse>,
}

impl HttpBody for Coming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.pulse.set_read();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that is being sent.
struct Held {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
