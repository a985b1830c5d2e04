//! One file a route: bytes to an [`Ask`](crate::answer::Ask), what is said to bytes.
//!
//! Handlers are thin: they read a body within limits, let a dialect's `parse` decide what it means,
//! hand it to the [`Service`] and write what comes with the dialect's encoder, as it comes or whole
//! (`answers`). What a client lacks, it hears as a [`Fault`], which the guard puts into the
//! envelope of its dialect.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::{get, post};
use serde_json::Value;

use crate::keys::Holder;
use crate::server::{BodyLimits, Visit, read_body};
use crate::service::{Caller, Service};
use crate::wire::chat::ReasoningField;
use crate::wire::error::Fault;
use crate::wire::fields;

mod answers;
mod chat;
mod completions;
mod messages;
mod models;
mod ollama;
mod operate;
mod responses;
mod tokens;

/// What all routes work with.
#[derive(Debug, Clone)]
pub struct Front {
    /// Answers.
    pub service: Arc<Service>,
    /// How much and how long a client may send.
    pub body: BodyLimits,
    /// The longest silence of a stream.
    pub keep_alive: Duration,
    /// The name of thoughts in chat completions.
    pub reasoning: ReasoningField,
}

impl Front {
    /// Routes that want a key.
    pub fn keyed(&self) -> Router {
        Self::keyed_routes().with_state(self.clone())
    }

    fn keyed_routes() -> Router<Self> {
        // DeepSeek's base addresses have no version, or `beta`; Anthropic's clients get one of their own.
        let mut routes = Router::new();
        for base in ["/v1", "", "/beta", "/beta/v1"] {
            routes = routes
                .route(&format!("{base}/chat/completions"), post(chat::create))
                .route(&format!("{base}/completions"), post(completions::create))
                .route(&format!("{base}/models"), get(models::list));
        }
        for base in ["/v1", "/anthropic/v1"] {
            routes = routes
                .route(&format!("{base}/messages"), post(messages::create))
                .route(
                    &format!("{base}/messages/count_tokens"),
                    post(messages::count),
                );
        }
        routes
            .route("/v1/models/{*id}", get(models::one))
            .route("/models/{*id}", get(models::one))
            .route("/v1/responses", post(responses::create))
            .route("/responses", post(responses::create))
            .route(
                "/v1/chat/completions/{id}/stop_thinking",
                post(chat::stop_thinking),
            )
            .route("/tokenize", post(tokens::tokenize))
            .route("/detokenize", post(tokens::detokenize))
            .route("/tokenizer_info", get(tokens::info))
            .route("/api/tags", get(ollama::tags))
            .route("/api/ps", get(ollama::running))
            .route("/api/show", post(ollama::show))
            .route("/api/chat", post(ollama::chat))
            .route("/api/generate", post(ollama::generate))
    }

    /// Routes for everyone.
    pub fn open(&self) -> Router {
        Self::open_routes().with_state(self.clone())
    }

    fn open_routes() -> Router<Self> {
        Router::new()
            .route("/openapi.json", get(operate::openapi))
            .route("/api/version", get(ollama::version))
    }

    /// The route of metrics, for everyone or for keys as the operator says.
    pub fn metrics(&self) -> Router {
        Self::metrics_routes().with_state(self.clone())
    }

    fn metrics_routes() -> Router<Self> {
        Router::new().route("/metrics", get(operate::metrics))
    }

    /// Reads a body of JSON.
    async fn read(&self, request: Request) -> Result<Value, Fault> {
        let bytes = read_body(request, &self.body).await?;
        fields::read(&bytes, &self.service.parts.limits)
    }

    /// Lets a request of a key in, within what the key may use.
    fn enter(
        &self,
        route: &'static str,
        prefix: &'static str,
        holder: &Holder,
    ) -> Result<Caller, Fault> {
        let parts = &self.service.parts;
        let pass = parts.quotas.enter(holder, parts.clock.now())?;
        Ok(Caller {
            route,
            prefix,
            pass,
        })
    }

    /// Counts what was refused.
    fn counted<T>(&self, route: &'static str, result: Result<T, Fault>) -> Result<T, Fault> {
        result.inspect_err(|fault| self.service.parts.metrics.refused(route, fault))
    }
}

/// Notes for the log which model a request is for.
fn note(visit: &Visit, model: &str) {
    visit.notes.set_model(model);
}

#[cfg(test)]
mod tests;
