//! Sockets that listen, how many clients they let in, and how they end.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::connection::{self, Shared};
use super::tls::{Tls, TlsError};
use super::{Settings, Shutdown, Stage, envelope};
use crate::wire::error::{Fault, Kind};

/// Clients that the system greets before we do.
const BACKLOG: i32 = 1024;

/// Clients that are told at a time that there are too many; more are told nothing.
const MOST_TURNED_AWAY: usize = 64;

/// How long accepting rests when the system has no more sockets to give.
const REST: Duration = Duration::from_millis(50);

/// How long connections that were cut may take to be gone.
const CUT_TIME: Duration = Duration::from_secs(1);

/// Why a server cannot begin. For the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// There is nowhere to listen.
    #[error("expected at least one address to listen on, got none")]
    NoAddress,
    /// An address cannot be listened on.
    #[error("could not listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server that listens and does not answer yet.
#[expect(missing_debug_implementations, reason = "holds a TLS key")]
pub struct Server {
    listeners: Vec<TcpListener>,
    tls: Option<Arc<Tls>>,
    settings: Settings,
}

/// Reads a server's certificate again, from anywhere.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "holds a TLS key")]
pub struct Reload(Option<Arc<Tls>>);

impl Reload {
    /// Reads the certificate again; without TLS there is nothing to do. Clients that are connected
    /// keep the old one.
    ///
    /// # Errors
    /// If it cannot be used. Then the old one stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.0.as_ref().map_or(Ok(()), |tls| tls.reload())
    }
}

impl Server {
    /// Listens on all addresses. To be called where tokio runs.
    ///
    /// # Errors
    /// If an address is taken or not ours, or the certificate cannot be used.
    pub fn bind(settings: &Settings) -> Result<Self, ListenError> {
        let tls = settings.tls.as_ref().map(Tls::open).transpose()?;
        if settings.listen.is_empty() {
            return Err(ListenError::NoAddress);
        }
        let has_ipv4 = settings.listen.iter().any(SocketAddr::is_ipv4);
        let listen = |&address| {
            let failed = |source| ListenError::Bind { address, source };
            listen(address, has_ipv4).map_err(failed)
        };
        Ok(Self {
            listeners: settings
                .listen
                .iter()
                .map(listen)
                .collect::<Result<_, _>>()?,
            tls: tls.map(Arc::new),
            settings: settings.clone(),
        })
    }

    /// The addresses, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |listener: &TcpListener| listener.local_addr().ok();
        self.listeners.iter().filter_map(address).collect()
    }

    /// Reads the certificate again when asked.
    pub fn reloader(&self) -> Reload {
        Reload(self.tls.clone())
    }

    /// Answers until the shutdown is through.
    ///
    /// Once it is draining, what runs may finish within the settings' time. New connections are still
    /// taken, to answer that the server is ending; they keep it up no longer.
    pub async fn serve(self, router: Router, shutdown: &Shutdown) {
        let drain_time = self.settings.drain_time;
        let (early, mut early_gone) = mpsc::channel::<()>(1);
        let (all, mut all_gone) = mpsc::channel::<()>(1);
        let permits = Arc::new(Semaphore::new(self.settings.connections));
        let turning_away = Arc::new(Semaphore::new(MOST_TURNED_AWAY));
        let shared = Arc::new(Shared {
            router,
            settings: self.settings,
            tls: self.tls,
            shutdown: shutdown.clone(),
        });
        for listener in self.listeners {
            let gate = Gate {
                listener,
                shared: Arc::clone(&shared),
                permits: Arc::clone(&permits),
                turning_away: Arc::clone(&turning_away),
                early: Some(early.clone()),
                all: all.clone(),
            };
            tokio::spawn(gate.accept());
        }
        drop((early, all));
        shutdown.reached(Stage::Draining).await;
        tracing::info!("the server drains");
        tokio::select! {
            _ = early_gone.recv() => {}
            () = sleep(drain_time) => tracing::warn!("what still runs is cut"),
            () = shutdown.reached(Stage::Cut) => {}
        }
        shutdown.cut();
        let _ = timeout(CUT_TIME, all_gone.recv()).await;
    }
}

/// Listens on one address. Where IPv4 is listened on as well, an address of IPv6 means IPv6 only.
fn listen(address: SocketAddr, has_ipv4: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(has_ipv4)?;
    }
    // Elsewhere it would let another program take the address over.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(StdListener::from(socket))
}

/// One listener at work.
struct Gate {
    listener: TcpListener,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    turning_away: Arc<Semaphore>,
    /// Held by connections from before the draining, which is over when all are dropped.
    early: Option<mpsc::Sender<()>>,
    /// Held by all connections.
    all: mpsc::Sender<()>,
}

impl Gate {
    async fn accept(mut self) {
        let shutdown = self.shared.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.reached(Stage::Cut) => return,
                () = shutdown.reached(Stage::Draining), if self.early.is_some() => self.early = None,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.let_in(stream),
                    Err(error) => {
                        // A client that is gone already is its own affair; want of sockets passes.
                        tracing::warn!(%error, "a client could not be accepted");
                        sleep(REST).await;
                    }
                },
            }
        }
    }

    fn let_in(&self, stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.turn_away(stream);
            return;
        };
        let shared = Arc::clone(&self.shared);
        let held = (self.early.clone(), self.all.clone(), permit);
        tokio::spawn(async move {
            connection::serve(stream, &shared).await;
            drop(held);
        });
    }

    /// Says that there are too many.
    fn turn_away(&self, stream: TcpStream) {
        // Under TLS it could not be said before a handshake, which is what is to be saved.
        if self.shared.tls.is_some() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.turning_away).try_acquire_owned() else {
            return;
        };
        let shutdown = self.shared.shutdown.clone();
        tokio::spawn(async move {
            let message = "too many connections";
            let fault = Fault::new(Kind::Unavailable, message).again_after(1);
            let answer = envelope::as_bytes(&fault, "HTTP/1.1 503 Service Unavailable");
            // A fresh socket has room for so few bytes.
            if stream.writable().await.is_ok() && stream.try_write(&answer).is_ok() {
                let _ = SockRef::from(&stream).shutdown(std::net::Shutdown::Write);
                connection::linger(&stream, &shutdown).await;
            }
            drop(permit);
        });
    }
}
