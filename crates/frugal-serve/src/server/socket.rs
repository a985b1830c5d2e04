//! A client's socket, as the rest of the connection sees it.
//!
//! [`Socket`] is a TCP stream that can also be watched while it is read and written elsewhere. [`Io`]
//! lies around it (or around TLS on it): it ends a connection whose client takes nothing for too
//! long, tells [`Pulse`] that bytes came, and gives hyper's own bare refusals of malformed heads the
//! envelope that everything else has.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::envelope;
use crate::wire::error::{Fault, Kind};

/// A shared TCP stream.
pub(super) struct Socket(pub(super) Arc<TcpStream>);

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Socket {
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        send: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match send(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |stream| stream.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match SockRef::from(&*self.0).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        })
    }
}

/// A socket in the clear or under TLS.
pub(super) enum Stream {
    /// In the clear.
    Plain(Socket),
    /// Under TLS.
    Tls(Box<TlsStream<Socket>>),
}

/// Hands a call to the stream, whichever it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Plain(inner) => {
                let $inner = Pin::new(inner);
                $call
            }
            Stream::Tls(inner) => {
                let $inner = Pin::new(&mut **inner);
                $call
            }
        }
    };
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for a request.
    Idle,
    /// Reading a request's head.
    Head,
    /// Answering.
    Busy,
}

/// What a connection is doing, told by those who do it. All of them run in one task.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    has_bytes: AtomicBool,
    is_busy: AtomicBool,
    is_unread: AtomicBool,
    is_stalled: AtomicBool,
    answered: AtomicU64,
}

impl Pulse {
    /// A request's head is whole; it is being answered until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>, has_body: bool) -> Busy {
        self.is_unread.store(has_body, Ordering::Relaxed);
        self.has_bytes.store(false, Ordering::Relaxed);
        self.is_busy.store(true, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// What the connection is doing, and how many requests were answered on it.
    pub(super) fn now(&self) -> (Phase, u64) {
        let phase = if self.is_busy.load(Ordering::Relaxed) {
            Phase::Busy
        } else if self.has_bytes.load(Ordering::Relaxed) {
            Phase::Head
        } else {
            Phase::Idle
        };
        (phase, self.answered.load(Ordering::Relaxed))
    }

    /// The request's body is read to its end.
    pub(super) fn set_read(&self) {
        self.is_unread.store(false, Ordering::Relaxed);
    }

    /// Whether the client may still be sending the last request's body.
    pub(super) fn is_unread(&self) -> bool {
        self.is_unread.load(Ordering::Relaxed)
    }

    /// Whether the client took nothing for too long.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }
}

/// A request is being answered.
pub(super) struct Busy(Arc<Pulse>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Relaxed);
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stream with a limit on how long nothing of what is written may be taken.
pub(super) struct Io {
    stream: Stream,
    pulse: Arc<Pulse>,
    write_time: Duration,
    stall: Option<Pin<Box<Sleep>>>,
    /// Bytes of our own that go out before all others.
    own: Vec<u8>,
}

impl Io {
    pub(super) const fn new(stream: Stream, pulse: Arc<Pulse>, write_time: Duration) -> Self {
        Self {
            stream,
            pulse,
            write_time,
            stall: None,
            own: Vec::new(),
        }
    }

    /// Passes on what became of a write, or ends the connection if none has moved for too long.
    fn timed<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stall = None;
            return polled;
        }
        let write_time = self.write_time;
        let timer = self
            .stall
            .get_or_insert_with(|| Box::pin(sleep(write_time)));
        ready!(timer.as_mut().poll(context));
        self.pulse.is_stalled.store(true, Ordering::Relaxed);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_own(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.own.is_empty() {
            let polled = either!(&mut self.stream, inner => inner.poll_write(context, &self.own));
            let count = ready!(self.timed(context, polled))?;
            self.own.drain(..count.min(self.own.len()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = either!(&mut self.stream, inner => inner.poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.pulse.has_bytes.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_own(context))?;
        if let Some(refusal) = refusal_for(bytes) {
            self.own = refusal;
            // What does not go out now goes out with the flush.
            if let Poll::Ready(Err(error)) = self.poll_own(context) {
                return Poll::Ready(Err(error));
            }
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = either!(&mut self.stream, inner => inner.poll_write(context, bytes));
        self.timed(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = parts {
            return self.poll_write(context, only);
        }
        ready!(self.poll_own(context))?;
        let polled = either!(&mut self.stream, inner => inner.poll_write_vectored(context, parts));
        self.timed(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(inner) => inner.is_write_vectored(),
            Stream::Tls(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(context))?;
        let polled = either!(&mut self.stream, inner => inner.poll_flush(context));
        self.timed(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(context))?;
        let polled = either!(&mut self.stream, inner => inner.poll_shutdown(context));
        self.timed(context, polled)
    }
}

/// The envelope in place of a refusal without a body, which only hyper writes: of a head that is
/// malformed or too large. Every refusal of a handler has a body.
fn refusal_for(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(bytes).ok()?;
    let (head, "") = text.split_once("\r\n\r\n")? else {
        return None;
    };
    let (status_line, headers) = head.split_once("\r\n")?;
    let is_bare = headers
        .split("\r\n")
        .any(|line| line.eq_ignore_ascii_case("content-length: 0"));
    let (kind, message) = match status_line.split(' ').nth(1)? {
        "400" => (Kind::Invalid, "the request's head is malformed"),
        "414" => (Kind::TooLarge, "the request's address is too long"),
        "431" => (Kind::TooLarge, "the request's head is too large"),
        _ => return None,
    };
    is_bare.then(|| envelope::as_bytes(&Fault::new(kind, message), status_line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_refusals_are_given_an_envelope() {
        for (text, expected) in [
            (
                "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n",
                true,
            ),
            (
                "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
                true,
            ),
            (
                "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\n",
                false,
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false),
            ("HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n{}", false),
            ("data: HTTP/1.1 400 \r\n\r\n", false),
            ("", false),
        ] {
            assert_eq!(refusal_for(text.as_bytes()).is_some(), expected, "{text}");
        }
    }
}
