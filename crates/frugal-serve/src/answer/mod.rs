//! From what is asked to what is said, the same for every dialect.
//!
//! [`ask`] is a request with every meaning decided: a dialect's field either has a place here, or is
//! refused by name. [`said`] is what comes back, piece by piece, as text. In between: [`prompt`] makes
//! ids of a conversation, [`speak`] makes pieces of ids.

pub mod ask;
pub mod prompt;
pub mod said;
pub mod speak;
#[cfg(test)]
mod testing;

pub use ask::{Ask, Check, Form, Limits, Prompt, Sampled, Thinking, ToolChoice, Tools, Verify};
pub use said::{Detail, Finish, Said, TokenText, Usage};
