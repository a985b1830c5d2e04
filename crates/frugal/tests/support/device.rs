//! Golden models on the kernels: as they are stored, in f32, and with matrices in blocks.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which the lint's exception for tests does not see"
)]

use std::fs;
use std::path::Path;

use frugal_core::backend::Backend;
use frugal_core::quant::BlockFormat;
use frugal_core::stored::{SharedBytes, Stored};
use frugal_kernels::cpu::backend::{Cpu, CpuSettings};
use frugal_kernels::cpu::detect::Isa;
use frugal_kernels::cpu::gemm::{BlockProducts, Precision};
use frugal_model::checkpoint::{keep, load, load_stored, read};
use frugal_model::config::ModelConfig;
use frugal_model::transformer::Model;

pub(crate) const POSITIONS: usize = 40;

fn files(name: &str) -> (ModelConfig, [SharedBytes; 1]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.join("../frugal-model/tests/golden").join(name);
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    let config = ModelConfig::from_json(&config).unwrap();
    let weights = fs::read(folder.join("model.safetensors")).unwrap();
    (config, [weights.into()])
}

/// In the form of its file where products are f32, to have both forms without all pairs.
pub(crate) fn model(b: &Cpu, name: &str) -> Model<<Cpu as Backend>::Tensor> {
    let (config, files) = files(name);
    let load = match b.precision() {
        Precision::F32 => load_stored,
        Precision::Bf16 => load,
    };
    load(b, &config, &files, POSITIONS).unwrap()
}

/// Matrices in blocks of Q8_0 where their rows fill them, so that prompts and answers are multiplied
/// each in their way.
pub(crate) fn in_blocks(b: &Cpu, name: &str) -> Model<<Cpu as Backend>::Tensor> {
    let (config, files) = files(name);
    let (config, mut leaves) = read(&config, &files).unwrap();
    let format = BlockFormat::Q8_0;
    let mut n_blocks = 0;
    for leaf in leaves.leaves_mut() {
        let [rows, cols] = [leaf.spec.shape.rows(), leaf.spec.shape.cols()];
        if rows > 1 && format.bytes_of(cols).is_some() {
            let bytes = format.encode(&leaf.values().unwrap()).unwrap().into();
            leaf.parts = vec![Stored::Blocks { format, bytes }];
            n_blocks += 1;
        }
    }
    assert!(n_blocks > 6, "{n_blocks}");
    keep(b, config, &leaves, POSITIONS).unwrap()
}

pub(crate) const ALL: [Isa; 4] = [Isa::Amx, Isa::Avx512Bf16, Isa::Avx2, Isa::Neon];

pub(crate) fn cpu(isa: Isa, precision: Precision, threads: usize) -> Option<Cpu> {
    let cpu = Cpu::new(CpuSettings {
        blocks: BlockProducts::IntegerForAnswers,
        threads,
        precision,
        isa: Some(isa),
    });
    if cpu.is_err() {
        eprintln!("skipped: no {isa:?} here");
    }
    cpu.ok()
}
