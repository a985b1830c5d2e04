//! Products of blocks with activations of 8 bits: held to their plain loop, and to their law.

use frugal_core::backend::{Backend, Linear, Product};
use frugal_core::dtype::Data;
use frugal_core::quant::{BlockFormat, integer};
use frugal_core::rng::Rng;
use frugal_core::shape::Shape;
use frugal_core::stored::Stored;
use frugal_kernels::cpu::backend::{Cpu, CpuSettings};
use frugal_kernels::cpu::detect::Isa;
use frugal_kernels::cpu::gemm::{BlockProducts, Precision};

use super::{isas, plain_router};

fn cpu(threads: usize, isa: Isa) -> Cpu {
    with(threads, isa, BlockProducts::Integer)
}

fn with(threads: usize, isa: Isa, blocks: BlockProducts) -> Cpu {
    Cpu::new(CpuSettings {
        threads,
        precision: Precision::Bf16,
        blocks,
        isa: Some(isa),
    })
    .unwrap()
}

fn normals(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.normal()).collect()
}

/// `x [rows, K] -> [rows, N]` on one back-end.
fn product(cpu: &Cpu, (n, k): (usize, usize), weight: &Stored, x: &[f32]) -> Vec<f32> {
    let weight = cpu
        .keep(Shape::matrix(n, k), std::slice::from_ref(weight))
        .unwrap();
    let x = cpu
        .put(Shape::matrix(x.len() / k, k), Data::F32(x))
        .unwrap();
    let layer = Linear {
        weight: &weight,
        bias: None,
        product: Product::Policy,
    };
    cpu.get(&cpu.linear(&x, layer).unwrap()).unwrap()
}

/// A weight of normal numbers, its blocks and those of each row.
fn some_weight(
    rng: &mut Rng,
    format: BlockFormat,
    (n, k): (usize, usize),
) -> (Stored, Vec<Vec<u8>>) {
    let rows: Vec<Vec<u8>> = (0..n)
        .map(|_| format.encode(&normals(rng, k)).unwrap())
        .collect();
    let bytes = rows.concat().into();
    (Stored::Blocks { format, bytes }, rows)
}

#[test]
fn every_format_gives_its_plain_loop() {
    let mut rng = Rng::derive(&[4, 1]);
    for format in BlockFormat::ALL {
        let block = format.block_values();
        for (n, k, rows) in [
            (1, block, 1),
            (16, 3 * block, 2),
            (37, 9 * block, 3),
            (48, 10 * block, 4),
            (50, 256, 5),
            (33, 512, 21),
        ] {
            let (weight, each) = some_weight(&mut rng, format, (n, k));
            let x = normals(&mut rng, rows * k);
            let mut expected = Vec::new();
            for x in x.chunks(k) {
                expected.extend(
                    each.iter()
                        .map(|row| integer::product(format, row, x).unwrap()),
                );
            }
            for isa in isas() {
                for (own, plain) in product(&cpu(2, isa), (n, k), &weight, &x)
                    .iter()
                    .zip(&expected)
                {
                    // Sums of at most 72 groups, each rounded a few times; sums are near sqrt(k).
                    let bound = 1e-5 * (k as f32).sqrt();
                    assert!(
                        (own - plain).abs() < bound,
                        "{isa:?} {format} {n}x{k} {rows}: {own} {plain}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_row_is_the_same_in_any_company_and_on_any_set_that_fuses() {
    let mut rng = Rng::derive(&[4, 2]);
    for format in BlockFormat::ALL {
        let (n, k) = (70, 768);
        let (weight, _) = some_weight(&mut rng, format, (n, k));
        let x = normals(&mut rng, 40 * k);
        let mut first: Option<Vec<f32>> = None;
        for isa in isas() {
            let together = product(&cpu(1, isa), (n, k), &weight, &x);
            for (rows, threads) in [
                (1, 2),
                (2, 1),
                (3, 2),
                (5, 1),
                (6, 2),
                (8, 1),
                (9, 2),
                (33, 3),
            ] {
                let own = product(&cpu(threads, isa), (n, k), &weight, &x[..rows * k]);
                assert!(
                    own == together[..rows * n],
                    "{isa:?} {format}: {rows} rows, {threads} threads"
                );
            }
            if isa != Isa::Portable {
                let first = first.get_or_insert_with(|| together.clone());
                assert!(*first == together, "{isa:?} {format}");
            }
        }
    }
}

/// Experts that few rows chose beside those that many did, and one that none did.
#[test]
fn a_group_of_rows_is_what_it_is_alone() {
    const SIZES: [usize; 7] = [0, 1, 5, 8, 9, 20, 3];
    let mut rng = Rng::derive(&[4, 5]);
    let (n, k, n_experts) = (48, 256, SIZES.len());
    let chosen: Vec<usize> = (0..n_experts).flat_map(|e| vec![e; SIZES[e]]).collect();
    let mut logits = vec![0.0; chosen.len() * n_experts];
    for (logits, expert) in logits.chunks_mut(n_experts).zip(&chosen) {
        logits[*expert] = 1.0;
    }
    let router = plain_router(1);
    for format in BlockFormat::ALL {
        let weights = SIZES.map(|_| some_weight(&mut rng, format, (n, k)).0);
        let x = normals(&mut rng, chosen.len() * k);
        for isa in isas() {
            let cpu = cpu(2, isa);
            let matrix = |cols, numbers| {
                let shape = Shape::matrix(chosen.len(), cols);
                cpu.put(shape, Data::F32(numbers)).unwrap()
            };
            let route = cpu
                .route(&matrix(n_experts, &logits), None, &router)
                .unwrap();
            let stack = cpu.keep(Shape::stack(n_experts, n, k), &weights).unwrap();
            let together = cpu.grouped_linear(&matrix(k, &x), &stack, &route).unwrap();
            let together = cpu.get(&together).unwrap();
            let mut first = 0;
            for (weight, size) in weights.iter().zip(SIZES).filter(|(_, size)| *size > 0) {
                let own = first..first + size;
                let alone = product(&cpu, (n, k), weight, &x[own.start * k..own.end * k]);
                assert!(
                    alone == together[own.start * n..own.end * n],
                    "{isa:?} {format}: rows {own:?}"
                );
                first = own.end;
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_none_and_only_in_its_row() {
    let mut rng = Rng::derive(&[4, 3]);
    let (n, k) = (20, 256);
    let (weight, _) = some_weight(&mut rng, BlockFormat::Q4_0, (n, k));
    let mut x = normals(&mut rng, 6 * k);
    x[2 * k + 5] = f32::NAN;
    x[4 * k + 250] = f32::INFINITY;
    for isa in isas() {
        let y = product(&cpu(2, isa), (n, k), &weight, &x);
        for (row, y) in y.chunks(n).enumerate() {
            let is_odd = row == 2 || row == 4;
            assert!(y.iter().all(|y| y.is_nan() == is_odd), "{isa:?} row {row}");
        }
    }
}

#[test]
fn answers_are_whole_numbers_and_prompts_what_is_put() {
    let mut rng = Rng::derive(&[4, 4]);
    let (n, k) = (48, 512);
    let (stored, _) = some_weight(&mut rng, BlockFormat::Q4K, (n, k));
    let x = normals(&mut rng, 5 * k);
    for isa in isas() {
        let both = with(2, isa, BlockProducts::IntegerForAnswers);
        let kept = both
            .keep(Shape::matrix(n, k), std::slice::from_ref(&stored))
            .unwrap();
        let put = both.put(Shape::matrix(n, k), stored.data()).unwrap();
        let rows = both.put(Shape::matrix(5, k), Data::F32(&x)).unwrap();
        let with = |weight| {
            let layer = Linear {
                weight,
                bias: None,
                product: Product::Policy,
            };
            both.get(&both.linear(&rows, layer).unwrap()).unwrap()
        };
        assert!(with(&kept) == with(&put), "{isa:?}");
        let whole = product(&cpu(1, isa), (n, k), &stored, &x);
        assert!(with(&both.for_answers(&kept)) == whole, "{isa:?}");
    }
}
