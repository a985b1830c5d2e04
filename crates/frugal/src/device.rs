//! The one place that names a concrete device.

use anyhow::Context;
use frugal_kernels::cpu::backend::{Cpu, CpuSettings};
use frugal_kernels::cpu::bandwidth::measure_bandwidth;
use frugal_kernels::cpu::detect::{CpuFeatures, Isa};
pub(crate) use frugal_kernels::cpu::gemm::Precision;
use frugal_kernels::cpu::gemm::{BlockProducts, measure_peak};

use crate::cli::Common;
use crate::output::Usage;

/// The back-end that computes.
pub(crate) type Device = Cpu;

/// The CPU as the flags want it. With products in f32 weights in blocks are decoded too; else they are
/// multiplied as whole numbers wherever that is faster.
pub(crate) fn open(common: &Common, precision: Precision) -> anyhow::Result<Device> {
    let isa = common.isa.as_deref().map(isa_named).transpose()?;
    let blocks = match (precision, isa.unwrap_or(CpuFeatures::detect().isa())) {
        (Precision::F32, _) => BlockProducts::Decoded,
        (Precision::Bf16, Isa::Amx) => BlockProducts::IntegerForAnswers,
        (Precision::Bf16, _) => BlockProducts::Integer,
    };
    Cpu::new(CpuSettings {
        threads: threads(common)?,
        precision,
        blocks,
        isa,
    })
    .context("the processor cannot be used as asked")
}

/// `--threads`, else one a core.
pub(crate) fn threads(common: &Common) -> Result<usize, Usage> {
    match common.threads {
        Some(0) => Err(Usage("expected --threads of 1 or more, got 0".into())),
        Some(threads) => Ok(threads),
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

/// What the machine can do at best, just now: it shares its memory and its power with others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// FLOPs per second of products.
    pub(crate) flops: f64,
    /// Bytes per second that are read from memory.
    pub(crate) bytes: f64,
}

impl Limits {
    /// Measures the products and the memory, in about a second.
    pub(crate) fn measure(device: &Device, precision: Precision) -> Self {
        Self {
            flops: peak(device, precision),
            bytes: bandwidth(device),
        }
    }
}

/// FLOPs per second of large products on this machine, measured in a fraction of a second.
pub(crate) fn peak(device: &Device, precision: Precision) -> f64 {
    let (pool, features) = device.machine();
    measure_peak(pool, features, precision)
}

/// Bytes per second that are read from memory, measured in about a second.
pub(crate) fn bandwidth(device: &Device) -> f64 {
    let (pool, features) = device.machine();
    measure_bandwidth(pool, features)
}

fn isa_named(name: &str) -> Result<Isa, Usage> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "amx" => Isa::Amx,
        "avx512bf16" => Isa::Avx512Bf16,
        "avx512" => Isa::Avx512,
        "avx2" => Isa::Avx2,
        "neon" => Isa::Neon,
        "portable" => Isa::Portable,
        _ => {
            return Err(Usage(format!(
                "expected --isa amx, avx512bf16, avx512, avx2, neon or portable, got {name}"
            )));
        }
    })
}
