//! What a client sends, read within limits of bytes and time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::extract::Request;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::Settings;
use crate::wire::error::{Fault, Kind};

/// Bytes set aside for a body whose client only claims a length.
const FIRST_BYTES: usize = 64 << 10;

/// How much and how long a client may send.
#[derive(Debug, Clone)]
pub struct BodyLimits {
    bytes: usize,
    pause: Duration,
    whole: Duration,
    budget: Budget,
}

impl BodyLimits {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            bytes: settings.body_bytes,
            pause: settings.body_pause,
            whole: settings.body_time,
            budget: Budget {
                used: Arc::default(),
                most: settings.bodies_bytes,
            },
        }
    }

    /// The same with another limit of bytes.
    #[must_use]
    pub fn with_bytes(&self, bytes: usize) -> Self {
        Self {
            bytes,
            ..self.clone()
        }
    }
}

/// Bytes of bodies that are being read, all together.
#[derive(Debug, Clone)]
struct Budget {
    used: Arc<AtomicUsize>,
    most: usize,
}

/// A body's share of the budget, given back when it is read.
struct Share<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Share<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes;
        let before = self.budget.used.fetch_add(bytes, Ordering::AcqRel);
        if before.saturating_add(bytes) > self.budget.most {
            let message = "too many bodies are being read at a time";
            return Err(Fault::new(Kind::Busy, message).again_after(1));
        }
        Ok(())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Reads a body to its end.
///
/// # Errors
/// If it is too large, too slow or broken off, or if all bodies being read are too large together.
pub async fn read_body(request: Request, limits: &BodyLimits) -> Result<Bytes, Fault> {
    let too_slow = |_| {
        let message = "the body did not come in time";
        Fault::new(Kind::Timeout, message)
    };
    timeout(limits.whole, read(request, limits))
        .await
        .map_err(too_slow)?
}

async fn read(request: Request, limits: &BodyLimits) -> Result<Bytes, Fault> {
    let mut body = request.into_body();
    let too_large = || {
        let message = format!(
            "expected a body of at most {} bytes, got more",
            limits.bytes
        );
        Fault::new(Kind::TooLarge, message)
    };
    let claimed = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if claimed > limits.bytes {
        return Err(too_large());
    }
    let mut share = Share {
        budget: &limits.budget,
        bytes: 0,
    };
    let mut bytes = Vec::with_capacity(claimed.min(FIRST_BYTES));
    loop {
        let frame = timeout(limits.pause, body.frame()).await.map_err(|_| {
            let came = bytes.len();
            let message = format!("the body stopped after {came} bytes");
            Fault::new(Kind::Timeout, message)
        })?;
        let Some(frame) = frame else {
            return Ok(bytes.into());
        };
        // What hyper says of it (a length cut short, a bad chunk) is not for clients.
        let frame = frame
            .map_err(|_| Fault::new(Kind::Invalid, "the body is broken off or badly framed"))?;
        // Trailers mean nothing here.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.len() > limits.bytes - bytes.len() {
            return Err(too_large());
        }
        share.grow(data.len())?;
        bytes.extend_from_slice(&data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[tokio::test]
    async fn bodies_share_a_budget_and_give_it_back() {
        let mut settings = Settings::usual(Vec::new());
        settings.bodies_bytes = 10;
        let limits = settings.body_limits();
        let read = async |bytes: usize| {
            let request = Request::new(Body::from(vec![b' '; bytes]));
            read_body(request, &limits)
                .await
                .map_err(|fault| fault.kind)
        };
        assert_eq!(read(8).await.map(|bytes| bytes.len()), Ok(8));
        assert_eq!(read(11).await, Err(Kind::Busy));
        assert_eq!(read(10).await.map(|bytes| bytes.len()), Ok(10));
        assert_eq!(limits.budget.used.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn a_length_that_is_claimed_is_refused_unread() {
        let mut limits = Settings::usual(Vec::new()).body_limits();
        limits.bytes = 3;
        let read = async |text: &'static str| {
            let request = Request::new(Body::from(text));
            read_body(request, &limits)
                .await
                .map_err(|fault| fault.kind)
        };
        assert_eq!(read("123").await, Ok(Bytes::from("123")));
        assert_eq!(read("1234").await, Err(Kind::TooLarge));
    }
}
