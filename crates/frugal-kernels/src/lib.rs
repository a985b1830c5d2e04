//! Speed: the CPU back-end and its kernels.
//!
//! The only room with unsafe code. Each inner kernel is behind a safe function that checks sizes
//! and holds a proof that the machine has the instructions; the meaning of every operation is in
//! `frugal-core`, and this crate knows no model.
//!
//! Next: [`cpu::backend`], then [`cpu::detect`], [`cpu::pool`], [`cpu::gemm`].

#![allow(
    unsafe_code,
    reason = "vector instructions and threads that share buffers; see ARCHITECTURE.md, invariant 1"
)]

pub mod cpu;
pub mod mapped;
