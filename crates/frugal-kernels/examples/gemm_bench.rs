//! Speeds of the matrix products at the shapes of small models, in GFLOP/s.
//!
//! Run it with `cargo run --release -p frugal-kernels --example gemm_bench`. Each figure is the
//! fastest tenth of repeated calls, which other work on the machine disturbs least; the first lines give the machine's level and its measured peak.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program for people, with fixed shapes"
)]

use std::time::Instant;

use frugal_kernels::cpu::detect::CpuFeatures;
use frugal_kernels::cpu::gemm::{
    Finish, Gemm, Mat, MatMut, Precision, Stack, StackMut, StackShape, Update, measure_peak,
};
use frugal_kernels::cpu::pool::Pool;

/// (M, N, K): decode steps, then training steps.
const DENSE: [(usize, usize, usize); 15] = [
    (1, 128, 128),
    (8, 384, 128),
    (32, 384, 128),
    (128, 384, 128),
    (512, 128, 128),
    (512, 256, 256),
    (1024, 512, 128),
    (4096, 128, 128),
    (4096, 384, 128),
    (4096, 128, 384),
    (4096, 72, 128),
    (8192, 256, 256),
    (8192, 512, 256),
    (2048, 1024, 1024),
    (4096, 32, 128),
];

/// (experts, rows of each, N, K).
const GROUPED: [(usize, usize, usize, usize); 6] = [
    (16, 1, 64, 128),
    (16, 4, 64, 128),
    (16, 24, 64, 128),
    (16, 256, 64, 128),
    (32, 512, 96, 192),
    (64, 64, 256, 256),
];

fn main() {
    let features = CpuFeatures::detect();
    println!("{:?}", features.isa());
    for threads in [1, 2] {
        let pool = Pool::new(threads).unwrap();
        dispatch(&pool);
        for precision in [Precision::F32, Precision::Bf16] {
            let peak = measure_peak(&pool, features, precision);
            println!(
                "{threads} threads, {precision:?}: peak {:.0} GFLOP/s",
                peak / 1e9
            );
            let gemm = Gemm::new(&pool, features);
            println!(
                "{:>28} {:>8} {:>8} {:>8} {:>9}",
                "", "nt", "nn", "tn", "repack us"
            );
            for (m, n, k) in DENSE {
                dense(&gemm, precision, (m, n, k));
            }
            for shape in GROUPED {
                grouped(&gemm, precision, shape);
            }
        }
    }
}

fn dispatch(pool: &Pool) {
    let seconds = seconds_of(|| {
        pool.run(2, |i| {
            std::hint::black_box(i);
        });
    });
    println!(
        "{} threads: an empty call takes {:.2} us",
        pool.threads(),
        seconds * 1e6
    );
}

fn dense(gemm: &Gemm<'_>, precision: Precision, (m, n, k): (usize, usize, usize)) {
    let (x, w, dy) = (numbers(m * k), numbers(n * k), numbers(m * n));
    let (mut y, mut dx, mut dw) = (numbers(m * n), numbers(m * k), numbers(n * k));
    let weight: Stack<'_> = Mat::dense(&w, n, k).unwrap().into();
    let mut packed = gemm.pack(weight, precision);
    let (x, dy) = (
        Mat::dense(&x, m, k).unwrap(),
        Mat::dense(&dy, m, n).unwrap(),
    );
    let nt = seconds_of(|| {
        let out = MatMut::dense(&mut y, m, n).unwrap();
        gemm.nt(x, &packed, out, Finish::SET).unwrap();
    });
    let nn = seconds_of(|| {
        let out = MatMut::dense(&mut dx, m, k).unwrap();
        gemm.nn(dy, &packed, out, Finish::SET).unwrap();
    });
    let tn = seconds_of(|| {
        let out = MatMut::dense(&mut dw, n, k).unwrap();
        gemm.tn(dy, x, out, (precision, Update::Add)).unwrap();
    });
    let repack = seconds_of(|| gemm.repack(&mut packed, weight));
    line(
        &format!("{m} x {n} x {k}"),
        2 * m * n * k,
        [nt, nn, tn],
        repack,
    );
}

fn grouped(
    gemm: &Gemm<'_>,
    precision: Precision,
    (groups, rows, n, k): (usize, usize, usize, usize),
) {
    let m = groups * rows;
    let (x, w, dy) = (numbers(m * k), numbers(groups * n * k), numbers(m * n));
    let (mut y, mut dx, mut dw) = (numbers(m * n), numbers(m * k), numbers(groups * n * k));
    let shape = StackShape::dense(groups, n, k);
    let weight = Stack::new(&w, shape).unwrap();
    let mut packed = gemm.pack(weight, precision);
    let offsets: Vec<u32> = (0..=groups).map(|g| (g * rows) as u32).collect();
    let (x, dy) = (
        Mat::dense(&x, m, k).unwrap(),
        Mat::dense(&dy, m, n).unwrap(),
    );
    let nt = seconds_of(|| {
        let out = MatMut::dense(&mut y, m, n).unwrap();
        gemm.grouped_nt(x, &offsets, &packed, out, Finish::SET)
            .unwrap();
    });
    let nn = seconds_of(|| {
        let out = MatMut::dense(&mut dx, m, k).unwrap();
        gemm.grouped_nn(dy, &offsets, &packed, out, Finish::SET)
            .unwrap();
    });
    let tn = seconds_of(|| {
        let out = StackMut::new(&mut dw, shape).unwrap();
        gemm.grouped_tn(dy, x, &offsets, out, (precision, Update::Add))
            .unwrap();
    });
    let repack = seconds_of(|| gemm.repack(&mut packed, weight));
    let name = format!("{groups} of {rows} x {n} x {k}");
    line(&name, 2 * m * n * k, [nt, nn, tn], repack);
}

fn line(name: &str, flops: usize, seconds: [f64; 3], repack: f64) {
    let [nt, nn, tn] = seconds.map(|s| flops as f64 / s / 1e9);
    println!("{name:>28} {nt:8.1} {nn:8.1} {tn:8.1} {:9.1}", repack * 1e6);
}

/// Seconds of a call: the fastest tenth of calls that fill about 30 milliseconds.
fn seconds_of(mut call: impl FnMut()) -> f64 {
    call();
    let start = Instant::now();
    call();
    let count = (0.03 / start.elapsed().as_secs_f64().max(1e-8)).clamp(5.0, 5000.0) as usize;
    let mut seconds: Vec<f64> = (0..count)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[count / 10]
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (i * 7919 % 1013) as f32 / 506.0 - 1.0)
        .collect()
}
