//! The CPU back-end's parts: what the machine can do, its threads, its kernels.
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        unused_imports,
        unused_variables,
        reason = "bf16 operands, tiles and products of bytes exist only on x86-64"
    )
)]

pub mod backend;
pub mod bandwidth;
pub mod detect;
pub mod gemm;
pub mod pool;
pub mod tensor;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

mod activation;
mod attention;
#[cfg(target_arch = "x86_64")]
mod attention_amx;
#[cfg(target_arch = "x86_64")]
mod attention_amx_backward;
mod attention_backward;
mod attention_tiles;
mod backend_train;
mod divergence;
mod feed_forward;
mod head;
mod layout;
mod memory;
mod moe;
mod norm;
#[cfg(target_arch = "x86_64")]
mod opener_x86;
mod optim;
mod rope;
mod route;
mod sample;
mod stored;
mod vector;
#[cfg(target_arch = "x86_64")]
mod vector_x86;
