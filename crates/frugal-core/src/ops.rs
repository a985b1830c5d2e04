//! What each operation means: plain loops over f32 slices, forward and backward side by side.
//!
//! The doc of a file here is the definition that every back-end is held to. Unless a file says
//! otherwise: every sum is formed in f64, in index order, and each result is rounded once to f32;
//! NaN in a number reaches every result that depends on it; an empty sum is 0; a step without rows
//! gives results without rows. Nothing here is fast or uses threads; the fast versions live in
//! `frugal-kernels`. Slices are row-major and as long as the dims say: [`check`] makes sure of it,
//! once for all back-ends, and a slice that is shorter is a bug of the caller that panics.
//!
//! Read [`linear`] for the manner, [`attention`] for the longest one. To fast back-ends these are
//! of use as they are: [`check`], [`route::plan`], [`route::forward`], [`attention::key_rows`],
//! [`log_prob::LogSoftmax`], [`divergence::row`] and [`pick::row`].

pub mod attention;
pub mod check;
pub mod dispatch_combine;
pub mod divergence;
pub mod elementwise;
pub mod gather;
pub mod grouped_linear;
pub mod linear;
pub mod log_prob;
pub mod math;
pub mod norm;
pub mod optim;
pub mod per_head_linear;
pub mod pick;
pub mod rms_norm;
pub mod rope;
pub mod route;
pub mod split_join;
