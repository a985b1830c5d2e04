//! Whether the server lives and whether it can be asked: for those who watch it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::{Shutdown, Stage};
use crate::wire::error::{Fault, Kind};

/// Whether questions can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not yet: models are being opened.
    Loading,
    /// Yes.
    Ready,
    /// No more: the server is to end.
    Draining,
}

/// Whether questions can be answered, told from anywhere.
#[derive(Debug, Clone)]
pub struct Readiness {
    is_ready: Arc<AtomicBool>,
    shutdown: Shutdown,
}

impl Readiness {
    /// Not ready yet; draining as soon as `shutdown` says so.
    pub fn loading(shutdown: &Shutdown) -> Self {
        Self {
            is_ready: Arc::default(),
            shutdown: shutdown.clone(),
        }
    }

    /// Ready from now on.
    pub fn set_ready(&self) {
        self.is_ready.store(true, Ordering::Release);
    }

    /// Not ready until said again.
    pub fn set_loading(&self) {
        self.is_ready.store(false, Ordering::Release);
    }

    /// What holds now.
    pub fn state(&self) -> State {
        if self.shutdown.stage() > Stage::Running {
            State::Draining
        } else if self.is_ready.load(Ordering::Acquire) {
            State::Ready
        } else {
            State::Loading
        }
    }
}

/// `/livez`, `/readyz` and `/health`.
pub(crate) fn routes(readiness: Readiness) -> Router {
    let is_ready = move || async move {
        let unavailable = |why: &str| Err(Fault::new(Kind::Unavailable, why).again_after(5));
        match readiness.state() {
            State::Ready => Ok(ok()),
            State::Loading => unavailable("the model is loading"),
            State::Draining => unavailable("the server is ending"),
        }
    };
    Router::new()
        .route("/livez", get(async || ok()))
        .route("/readyz", get(is_ready.clone()))
        .route("/health", get(is_ready))
}

fn ok() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}
