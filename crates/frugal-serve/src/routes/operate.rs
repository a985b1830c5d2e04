//! What operators and tools read: metrics and the description of the interface.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::Front;
use crate::metrics::{self, Serving};

/// The description of the interface.
pub(super) const OPENAPI: &str = include_str!("../openapi.json");

pub(super) async fn metrics(State(front): State<Front>) -> Response {
    let parts = &front.service.parts;
    let loaded = parts.shelf.loaded();
    let serving: Vec<Serving<'_>> = loaded
        .iter()
        .map(|served| Serving {
            name: &served.name,
            load: served.handle.load(),
            facts: *served.handle.facts(),
        })
        .collect();
    let text = parts.metrics.render(&serving);
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
