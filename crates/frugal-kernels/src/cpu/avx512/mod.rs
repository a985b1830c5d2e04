//! Inner kernels for 512-bit vectors: products in f32 and bf16, packing to bf16, writing results.
//!
//! Each function states the instructions it needs as target features; callers hold a
//! [`CpuFeatures`](crate::cpu::detect::CpuFeatures) that names them.

#![expect(
    clippy::indexing_slicing,
    reason = "block kernels: sizes are checked once a block, before the loops"
)]

pub(crate) mod attention;
pub(in crate::cpu) mod direct;
pub(crate) mod finish;
mod fp8;
pub(crate) mod integer;
pub(crate) mod pack;
pub(crate) mod product;
pub(in crate::cpu) mod rows;
pub(in crate::cpu) mod spread;
