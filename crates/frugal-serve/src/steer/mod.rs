//! What may come next in a sample, beside what the model finds likely.
//!
//! A [`Steering`] is asked before every token and told every token. It works on ids and logits alone;
//! it runs on the engine's thread, so each of its parts does a bounded amount of work a token. Parts:
//! [`bias`] and penalties, [`thinking`] (budget, the wish to answer now, circles), [`grammar`].

/// Steers one sample.
#[derive(Debug, Default)]
pub struct Steering {}

/// What is to come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A token drawn from the model's logits as they are.
    Free,
    /// A token drawn after [`Steering::adjust`].
    Adjusted,
    /// This token.
    Forced(u32),
    /// Nothing: the sample is complete.
    Nothing,
}

impl Steering {
    /// What is to come next. `is_to_answer` once somebody wants the thought to end.
    pub fn next(&mut self, is_to_answer: bool) -> Next {
        let _ = is_to_answer;
        Next::Free
    }

    /// Changes the logits of the next token.
    pub fn adjust(&mut self, logits: &mut [f32]) {
        let _ = logits;
    }

    /// The next token is this one.
    pub fn took(&mut self, id: u32) {
        let _ = id;
    }
}
