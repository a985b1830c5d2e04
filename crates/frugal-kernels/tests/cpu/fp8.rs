//! FP8 in blocks: a product with the weight as it is kept has the bits of the same weight put, for any
//! number of rows, blocks of any size, and every byte there is.

use frugal_core::backend::{Backend, Linear, Product};
use frugal_core::dtype::Data;
use frugal_core::rng::Rng;
use frugal_core::shape::Shape;
use frugal_core::stored::Stored;
use frugal_kernels::cpu::backend::Cpu;
use frugal_kernels::cpu::gemm::Precision;

use super::{cpu, isas};

/// Bytes of all kinds but the NaNs; factors of both signs and several magnitudes.
fn weight(rng: &mut Rng, shape: Shape, block: [usize; 2]) -> Stored {
    let bytes: Vec<u8> = (0..shape.elements())
        .map(|_| match rng.below(256) as u8 {
            0x7f | 0xff => 0,
            byte => byte,
        })
        .collect();
    let grid = shape.rows().div_ceil(block[0]) * shape.cols().div_ceil(block[1]);
    let scales = (0..grid).map(|i| rng.normal() * [1.0, 0.1, 0.01, 1e-3, 1e-4][i % 5]);
    Stored::Fp8Blocks {
        bytes: bytes.into(),
        scales: scales.collect(),
        block,
    }
}

/// The product, [rows, N], as bits; every NaN has the same.
fn product(cpu: &Cpu, shape: Shape, (stored, is_kept): (&Stored, bool), x: &[f32]) -> Vec<u32> {
    let weight = if is_kept {
        cpu.keep(shape, std::slice::from_ref(stored)).unwrap()
    } else {
        cpu.put(shape, stored.data()).unwrap()
    };
    let rows = Shape::matrix(x.len() / shape.cols(), shape.cols());
    let x = cpu.put(rows, Data::F32(x)).unwrap();
    let layer = Linear {
        weight: &weight,
        bias: None,
        product: Product::Policy,
    };
    let y = cpu.get(&cpu.linear(&x, layer).unwrap()).unwrap();
    let bits = |y: f32| if y.is_nan() { f32::NAN } else { y }.to_bits();
    y.into_iter().map(bits).collect()
}

#[test]
fn few_rows_have_the_bits_of_the_packed_weight() {
    let mut rng = Rng::derive(&[4, 8]);
    for (n, k, block) in [
        (64, 384, [128, 128]),
        (192, 256, [128, 128]),
        (48, 320, [128, 192]),
        (50, 256, [24, 64]),
        (33, 100, [128, 128]),
        (80, 208, [16, 16]),
        (16, 96, [5, 7]),
    ] {
        let shape = Shape::matrix(n, k);
        let stored = weight(&mut rng, shape, block);
        let x: Vec<f32> = (0..17 * k).map(|_| rng.normal()).collect();
        for isa in isas() {
            for precision in [Precision::F32, Precision::Bf16] {
                let cpu = cpu(2, precision, isa);
                let all = product(&cpu, shape, (&stored, false), &x);
                for rows in [1, 2, 3, 4, 5, 8, 9, 16, 17] {
                    let own = product(&cpu, shape, (&stored, true), &x[..rows * k]);
                    let name = format!("{isa:?} {precision:?} {n}x{k} {block:?} x {rows}");
                    assert!(own == all[..rows * n], "{name}");
                }
            }
        }
    }
}

/// Each byte alone in its row and column: NaN, infinity where the factor makes one, and nothing else
/// is touched by them.
#[test]
fn what_is_no_number_stays_in_its_row() {
    let (n, k) = (32, 256);
    let shape = Shape::matrix(n, k);
    for (byte, factor) in [
        (0x7f, 1.0),
        (0xff, -3.0),
        (0x7e, 3e38),
        (0x01, f32::from_bits(0x7fff_ffff)),
    ] {
        let mut bytes = vec![0x38; n * k];
        bytes[3 * k + 70] = byte;
        let stored = Stored::Fp8Blocks {
            bytes: bytes.into(),
            // The first is that of the byte.
            scales: [factor, 1.0, 1.0, 1.0].into(),
            block: [16, 128],
        };
        let x = vec![1.0; 2 * k];
        for isa in isas() {
            for precision in [Precision::F32, Precision::Bf16] {
                let cpu = cpu(1, precision, isa);
                let put = product(&cpu, shape, (&stored, false), &x);
                let own = product(&cpu, shape, (&stored, true), &x);
                assert_eq!(own, put, "{isa:?} {precision:?} {byte:x} {factor}");
                assert!(!f32::from_bits(own[3]).is_finite(), "{isa:?} {byte:x}");
                let others = own[16..n].iter().all(|y| f32::from_bits(*y).is_finite());
                assert!(others, "{isa:?} {byte:x}");
            }
        }
    }
}
