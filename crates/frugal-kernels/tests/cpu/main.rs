//! The CPU back-end as a whole: held to the reference on every instruction set, and its laws.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

mod fp8;
mod integer;
mod laws;
mod learning;
mod program;

use frugal_core::backend::{GroupScore, Router, Scoring};
use frugal_core::conformance::{self, Rounding};
use frugal_core::reference::Reference;
use frugal_kernels::cpu::backend::{Cpu, CpuSettings};
use frugal_kernels::cpu::detect::{CpuFeatures, Isa};
use frugal_kernels::cpu::gemm::{BlockProducts, Precision};

fn cpu(threads: usize, precision: Precision, isa: Isa) -> Cpu {
    let isa = Some(isa);
    Cpu::new(CpuSettings {
        threads,
        precision,
        blocks: BlockProducts::Decoded,
        isa,
    })
    .unwrap()
}

fn isas() -> Vec<Isa> {
    CpuFeatures::detect()
        .available()
        .map(CpuFeatures::isa)
        .collect()
}

/// A router without groups.
fn plain_router(top_k: usize) -> Router {
    Router {
        top_k,
        n_group: 1,
        topk_group: 1,
        scoring: Scoring::Sigmoid,
        group_score: GroupScore::Max,
        normalise: true,
        scale: 1.0,
    }
}

fn conforms(precision: Precision, rounding: Rounding) {
    for isa in isas() {
        let report = conformance::run(&cpu(2, precision, isa), rounding);
        assert!(report.passed(), "{isa:?}: {report}");
    }
}

#[test]
fn conforms_in_f32() {
    conforms(Precision::F32, Rounding::F32);
}

#[test]
fn conforms_in_bf16() {
    conforms(Precision::Bf16, Rounding::Bf16);
}

/// Every operation at shapes with several tiles, chunks and pieces. The bound is on the error
/// relative to the largest number of a result: 2e-5 allows f32 sums of about a hundred terms, 4e-2
/// allows operands of 8 bits in chains of products.
#[test]
fn every_operation_is_near_the_reference() {
    let expected = program::everything(&Reference);
    for isa in isas() {
        for (precision, bound) in [(Precision::F32, 2e-5), (Precision::Bf16, 4e-2)] {
            let got = program::everything(&cpu(2, precision, isa));
            for ((name, expected), (_, got)) in expected.iter().zip(&got) {
                assert_eq!(expected.len(), got.len(), "{name}");
                let largest = expected.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
                for (i, (e, g)) in expected.iter().zip(got).enumerate() {
                    assert!(
                        (e - g).abs() <= bound * largest,
                        "{isa:?} {precision:?} {name} [{i}]: expected {e}, got {g}, largest {largest}"
                    );
                }
            }
        }
    }
}
