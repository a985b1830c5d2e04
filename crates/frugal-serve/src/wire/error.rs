//! What goes wrong, in the words and statuses of the dialects.
//!
//! One [`Fault`] says what happened; each dialect writes it in its own envelope. Every path out of
//! the server that is not a success goes through here, so no body is ever plain text.

use serde_json::{Value, json};

/// What went wrong, fit for clients: never a library's own words, never a path or an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind it is.
    pub kind: Kind,
    /// What was expected and what came.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// Seconds after which it may be tried again.
    pub retry_after: Option<u32>,
}

/// Kinds of faults. A kind decides status, type and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Malformed, or a value out of range.
    Invalid,
    /// More tokens than the model has positions.
    ContextLength,
    /// A schema, regular expression or grammar that cannot be used.
    Schema,
    /// No key, or a wrong one.
    Authentication,
    /// A budget is spent.
    Balance,
    /// A key that may not do this.
    Permission,
    /// A key that may not manage the server.
    Management,
    /// From a host or a web page that is not allowed.
    Origin,
    /// No such model.
    NoModel,
    /// No such route.
    NoRoute,
    /// Not by this method.
    Method,
    /// Something is not in the state that this needs, or somebody else was quicker.
    Conflict,
    /// The body did not come in time.
    Timeout,
    /// The body is too large.
    TooLarge,
    /// The body is of another type.
    MediaType,
    /// Too many requests or tokens for the key.
    RateLimit,
    /// Too many requests for the server.
    Busy,
    /// Ending or loading: later it can be answered.
    Unavailable,
    /// A model that cannot be loaded: trying again does not help, whoever runs the server can.
    CannotLoad,
    /// Our own fault.
    Internal,
}

impl Kind {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid | Self::ContextLength | Self::Schema => 400,
            Self::Authentication => 401,
            Self::Balance => 402,
            Self::Permission | Self::Management | Self::Origin => 403,
            Self::NoModel | Self::NoRoute => 404,
            Self::Method => 405,
            Self::Timeout => 408,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::MediaType => 415,
            Self::RateLimit | Self::Busy => 429,
            Self::Internal => 500,
            Self::Unavailable | Self::CannotLoad => 503,
        }
    }

    /// `type` of OpenAI's envelope, and of Anthropic's.
    pub const fn types(self) -> [&'static str; 2] {
        match self {
            Self::Authentication => ["authentication_error"; 2],
            Self::Balance => ["insufficient_balance", "billing_error"],
            Self::Permission | Self::Management | Self::Origin => ["permission_error"; 2],
            Self::NoModel | Self::NoRoute => ["invalid_request_error", "not_found_error"],
            Self::TooLarge => ["invalid_request_error", "request_too_large"],
            Self::RateLimit => ["rate_limit_error"; 2],
            Self::Busy => ["overloaded_error"; 2],
            Self::Unavailable | Self::CannotLoad => ["unavailable_error", "overloaded_error"],
            Self::Internal => ["server_error", "api_error"],
            _ => ["invalid_request_error"; 2],
        }
    }

    /// `code` of OpenAI's envelope.
    pub const fn code(self) -> Option<&'static str> {
        Some(match self {
            Self::Invalid => return None,
            Self::ContextLength => "context_length_exceeded",
            Self::Schema => "invalid_schema",
            Self::Authentication => "invalid_api_key",
            Self::Balance => "insufficient_quota",
            Self::Permission => "model_not_allowed",
            Self::Management => "management_not_allowed",
            Self::Origin => "origin_not_allowed",
            Self::NoModel => "model_not_found",
            Self::NoRoute => "route_not_found",
            Self::Method => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::Timeout => "request_timeout",
            Self::TooLarge => "request_too_large",
            Self::MediaType => "unsupported_media_type",
            Self::RateLimit => "rate_limit_exceeded",
            Self::Busy => "server_busy",
            Self::Unavailable => "unavailable",
            Self::CannotLoad => "model_cannot_be_loaded",
            Self::Internal => "internal_error",
        })
    }
}

impl Fault {
    /// A fault of a kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
        }
    }

    /// The server's own, of which nothing is said but to the log.
    pub fn ours() -> Self {
        Self::new(Kind::Internal, "the server failed")
    }

    /// A field's value is not what it should be.
    pub fn field(param: &str, expected: &str, got: impl std::fmt::Display) -> Self {
        Self::new(
            Kind::Invalid,
            format!("{param}: expected {expected}, got {got}"),
        )
        .at(param)
    }

    /// The same, naming a field.
    #[must_use]
    pub fn at(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub fn again_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// OpenAI's envelope.
    pub fn openai(&self) -> Value {
        let [kind, _] = self.kind.types();
        json!({ "error": {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.kind.code(),
        }})
    }

    /// Anthropic's envelope.
    pub fn anthropic(&self) -> Value {
        let [_, kind] = self.kind.types();
        json!({ "type": "error", "error": { "type": kind, "message": self.message } })
    }

    /// Ollama's envelope.
    pub fn ollama(&self) -> Value {
        json!({ "error": self.message })
    }
}
