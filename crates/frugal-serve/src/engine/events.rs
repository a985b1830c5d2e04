//! What an engine says about a job.

use super::Drawn;

/// One thing that happened to a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Its turn has come: its prompt is being read. Told again after it was put back.
    Started,
    /// Its prompt is read.
    Begun {
        /// Tokens of the prompt found in the cache.
        cached: usize,
        /// Log-probabilities of the prompt's tokens, where wanted: none of the first.
        prompt: Vec<Drawn>,
    },
    /// A token of a sample.
    Token(Token),
    /// A sample has ended.
    Ended {
        /// Which.
        sample: usize,
        /// Why.
        why: End,
        /// What the sample cost; the first sample's costs hold the prompt's. What was computed again
        /// after it was put back is in none.
        costs: Costs,
    },
    /// All samples of the job are lost.
    Failed {
        /// What happened, for the log: not for clients.
        why: String,
    },
}

/// A token of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Of which sample.
    pub sample: usize,
    /// The token.
    pub drawn: Drawn,
    /// Whether it was put there (the end of a thought that went on too long) rather than drawn.
    pub is_forced: bool,
}

/// Why a sample ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this stop token, which was sent as its last token.
    Stop(u32),
    /// At the most tokens it may have.
    Length,
    /// What steers it allows nothing more: a grammar's end.
    Complete,
    /// Nobody listens any more.
    Left,
}

/// What something cost, as far as an engine can tell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Costs {
    /// FLOPs of its own rows.
    pub flops: f64,
    /// Seconds of all cores: its share of the steps it was in, by FLOPs.
    pub core_seconds: f64,
    /// Tokens computed as prompts: not those found in the cache.
    pub prompt_rows: usize,
    /// Tokens computed as answers: not those drafted in vain.
    pub answer_rows: usize,
}

impl Costs {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.flops += other.flops;
        self.core_seconds += other.core_seconds;
        self.prompt_rows += other.prompt_rows;
        self.answer_rows += other.answer_rows;
    }
}
