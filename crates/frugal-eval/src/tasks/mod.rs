//! The tasks, one file each, and how to get one by its name.

pub mod countdown;

pub use countdown::Countdown;
