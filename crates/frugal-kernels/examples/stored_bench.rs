//! Products with weights in the form of their file: speed by format and rows.
//!
//! `cargo run --release -p frugal-kernels --example stored_bench [THREADS] [N] [K]`
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::time::Instant;

use frugal_core::backend::{Backend, Linear, Product};
use frugal_core::dtype::{DType, Data};
use frugal_core::quant::{BlockFormat, Format};
use frugal_core::shape::Shape;
use frugal_core::stored::Stored;
use frugal_kernels::cpu::backend::{Cpu, CpuSettings};
use frugal_kernels::cpu::gemm::{BlockProducts, Precision};

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|a| a.parse::<usize>().unwrap());
    let threads = arguments.next().unwrap_or(2);
    let n = arguments.next().unwrap_or(8960);
    let k = arguments.next().unwrap_or(1536);
    let cpu = Cpu::new(CpuSettings {
        threads,
        precision: Precision::Bf16,
        blocks: if std::env::var_os("DECODED").is_some() {
            BlockProducts::Decoded
        } else {
            BlockProducts::Integer
        },
        isa: None,
    })
    .unwrap();
    let (pool, features) = cpu.machine();
    let bandwidth = frugal_kernels::cpu::bandwidth::measure_bandwidth(pool, features);
    let peak = frugal_kernels::cpu::gemm::measure_peak(pool, features, Precision::Bf16);
    println!(
        "{:.1} GB/s read, {:.0} GFLOP/s bf16",
        bandwidth / 1e9,
        peak / 1e9
    );
    let rounds: usize = std::env::var("ROUNDS")
        .ok()
        .map_or(3, |r| r.parse().unwrap());
    let only = std::env::var("ONLY").ok();
    let only_rows: Option<usize> = std::env::var("ROWS").ok().map(|r| r.parse().unwrap());
    let blocks = [
        BlockFormat::Q8_0,
        BlockFormat::Q4_0,
        BlockFormat::Q4K,
        BlockFormat::Q5K,
        BlockFormat::Q6K,
        BlockFormat::Q4_1,
        BlockFormat::Q5_0,
        BlockFormat::Q2K,
        BlockFormat::Q3K,
        BlockFormat::Iq4Nl,
    ];
    let formats = blocks
        .map(Format::Blocks)
        .into_iter()
        .chain([Format::Plain(DType::Bf16), Format::Fp8Blocks([128, 128])]);
    let shape = Shape::matrix(n, k);
    let mut tables = Vec::new();
    for format in formats {
        if only
            .as_ref()
            .is_some_and(|o| !format.to_string().contains(o.as_str()))
        {
            continue;
        }
        // Several weights, so that none is still in a cache when it is met again.
        let count = (250_000_000 / format.bytes(shape).unwrap() as usize).clamp(1, 40);
        let weights: Vec<_> = (0..count)
            .map(|i| cpu.keep(shape, &[some(format, shape, i)]).unwrap())
            .collect();
        tables.push((format, weights, [f64::MAX; ROWS.len()]));
    }
    let mut bandwidth: f64 = 0.0;
    for _ in 0..rounds {
        bandwidth = bandwidth.max(frugal_kernels::cpu::bandwidth::measure_bandwidth(
            pool, features,
        ));
        for (_, weights, best) in &mut tables {
            for (rows, best) in ROWS.into_iter().zip(best) {
                if only_rows.is_some_and(|r| r != rows) {
                    continue;
                }
                let x = cpu
                    .put(Shape::matrix(rows, k), Data::F32(&vec![1.0; rows * k]))
                    .unwrap();
                let used = if rows > 100 {
                    &weights[..weights.len().min(3)]
                } else {
                    &weights[..]
                };
                let start = Instant::now();
                for weight in used {
                    let linear = Linear {
                        weight,
                        bias: None,
                        product: Product::Policy,
                    };
                    cpu.linear(&x, linear).unwrap();
                }
                *best = best.min(start.elapsed().as_secs_f64() / used.len() as f64);
            }
        }
    }
    println!("{:.1} GB/s read at best", bandwidth / 1e9);
    for (format, _, best) in tables {
        print!("{:24}", format.to_string());
        for (rows, best) in ROWS.into_iter().zip(best) {
            let bytes = format.bytes(shape).unwrap() as f64;
            print!(
                " {rows}: {:5.1} GB/s {:4.0} GF",
                bytes / best / 1e9,
                2e-9 * (rows * n * k) as f64 / best
            );
        }
        println!();
    }
}

const ROWS: [usize; 7] = [1, 2, 4, 8, 16, 32, 512];

fn some(format: Format, shape: Shape, seed: usize) -> Stored {
    let len = format.bytes(shape).unwrap() as usize;
    let bytes: Vec<u8> = (0..len)
        .map(|i| ((i * 2_654_435_761 + seed) >> 7) as u8 & 0x3f)
        .collect();
    match format {
        Format::Blocks(format) => Stored::Blocks {
            format,
            bytes: bytes.into(),
        },
        Format::Plain(dtype) => Stored::Plain {
            dtype,
            bytes: bytes.into(),
        },
        Format::Fp8Blocks(block) => {
            let scales = shape.rows().div_ceil(block[0]) * shape.cols().div_ceil(block[1]);
            Stored::Fp8Blocks {
                bytes: bytes[..shape.elements()].to_vec().into(),
                scales: vec![1.0; scales].into(),
                block,
            }
        }
    }
}
