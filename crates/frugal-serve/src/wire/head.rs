//! What an answer is called.

/// What every answer begins with, whatever its dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its id, with the dialect's prefix: `resp_`, `msg_`; Ollama's answers have none.
    pub id: String,
    /// Unix seconds at which it was asked for.
    pub created: i64,
    /// The model, as the client named it.
    pub model: String,
}

impl Head {
    /// Unix seconds, so many seconds after it was asked for.
    pub(super) fn after(&self, seconds: f64) -> i64 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float saturates, and an answer takes less than the age of the universe"
        )]
        let whole = seconds.max(0.0) as i64;
        self.created.saturating_add(whole)
    }
}
