//! Listening, TLS, guards, log.
