//! Graders: pure functions of (question, answer), the same for evaluation and reward.
//!
//! Answers are hostile text: every grader bounds length, depth and digits before it works, counts
//! steps rather than time, and never recurses.

pub mod countdown;
pub mod exact;
pub mod expression;
pub mod numeric;
pub mod rational;
