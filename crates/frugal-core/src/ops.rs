//! What each operation means: plain loops over f32 slices, forward and backward side by side.
//!
//! The doc of a function here is the definition that every back-end is held to. Nothing here is
//! fast, allocates cleverly or uses threads; the fast versions live in `frugal-kernels`. Slices are
//! row-major and as long as the dims say: [`check`] is where that is made sure, once for all
//! back-ends. Read [`linear`] for the manner, [`attention`] for the longest one.

pub mod check;
