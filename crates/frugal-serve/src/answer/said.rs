//! What comes back, piece by piece, whatever dialect it goes out in.

use serde_json::Value;

use crate::wire::error::Fault;

/// A piece of what is said. Pieces of one answer come in order; those of several are mixed.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// The prompt is read and the first token is about to be drawn.
    Begun {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Of them found in the cache.
        cached_tokens: usize,
        /// The prompt's tokens with their log-probabilities, where wanted; the first has none.
        prompt: Vec<TokenText>,
        /// The prompt's ids, where wanted.
        prompt_ids: Vec<u32>,
    },
    /// More of a thought.
    Thinking {
        /// Of which answer.
        index: usize,
        /// The text.
        text: String,
        /// Its tokens, where log-probabilities or ids are wanted.
        tokens: Vec<TokenText>,
    },
    /// More of an answer.
    Answer {
        /// Of which answer.
        index: usize,
        /// The text.
        text: String,
        /// Its tokens, where log-probabilities or ids are wanted.
        tokens: Vec<TokenText>,
    },
    /// A call of a tool begins.
    CallBegins {
        /// Of which answer.
        index: usize,
        /// Which of its calls.
        call: usize,
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of the arguments, a JSON text, of a call.
    CallArguments {
        /// Of which answer.
        index: usize,
        /// Which of its calls.
        call: usize,
        /// The text.
        text: String,
    },
    /// An answer has ended.
    Ended {
        /// Which.
        index: usize,
        /// How.
        finish: Finish,
        /// More about it.
        detail: Detail,
    },
    /// All answers have ended: the last piece.
    Done(Box<Usage>),
    /// Something went wrong: the last piece.
    Failed(Fault),
}

/// A token with its text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenText {
    /// The token.
    pub id: u32,
    /// Its bytes, which may be a part of a character.
    pub bytes: Vec<u8>,
    /// Its log-probability, where it has one.
    pub log_prob: Option<f32>,
    /// The likeliest tokens in its place, likeliest first: id, bytes and log-probability.
    pub likeliest: Vec<(u32, Vec<u8>, f32)>,
}

/// How an answer ended, in the five words that clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// By itself, or with a stop text.
    Stop,
    /// At the most tokens it may have.
    Length,
    /// To wait for the results of tools.
    ToolCalls,
}

/// What the five words do not say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Detail {
    /// The stop text or token that ended it.
    pub stop: Option<String>,
    /// Why its thought was closed, if the model did not close it: `budget`, `asked` or `circles`.
    pub thought_closed: Option<&'static str>,
    /// Whether it ended inside its thought.
    pub ended_in_thought: bool,
}

/// What a request used and cost.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of them found in the cache.
    pub cached_tokens: usize,
    /// Tokens of all answers, thoughts included.
    pub completion_tokens: usize,
    /// Of them in thoughts.
    pub reasoning_tokens: usize,
    /// FLOPs.
    pub flops: f64,
    /// Seconds of one core.
    pub core_seconds: f64,
    /// Joules.
    pub joules: f64,
    /// Whether the joules are measured or estimated.
    pub joules_are: &'static str,
    /// Money, and in what.
    pub money: f64,
    /// The currency.
    pub currency: String,
    /// What verifying came to.
    pub verified: Option<Value>,
    /// Seconds until the prompt was read.
    pub seconds_to_first: f64,
    /// Seconds in all.
    pub seconds: f64,
}
