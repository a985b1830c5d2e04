//! How fast the machine reads memory: what generation with a large model is bound by.

use std::sync::Arc;
use std::time::Instant;

use super::detect::CpuFeatures;
use super::memory::Recycler;
use super::pool::Pool;
use super::vector::{Level, WIDTH, kernel};

/// More than any cache of a small machine holds.
const BYTES: usize = 512 << 20;
/// What a thread reads in one go.
const PIECE: usize = 1 << 20;
/// Walks over the memory that are timed.
const WALKS: usize = 4;

/// Bytes per second that the threads of `pool` read together: the median of a few walks over half a
/// gigabyte.
pub fn measure_bandwidth(pool: &Pool, features: CpuFeatures) -> f64 {
    let level = Level::of(features);
    let home = Arc::new(Recycler::new(level));
    let mut block = home.take(BYTES);
    // Written by the threads that read it: memory that was never written is one page of zeros.
    pool.for_each_chunk(block.f32s_mut(), PIECE / 4, |i, part| part.fill(i as f32));
    let numbers = block.f32s();
    let walk = || {
        let start = Instant::now();
        pool.run(numbers.len().div_ceil(PIECE / 4), |i| {
            let first = i * (PIECE / 4);
            let part = numbers.get(first..(first + PIECE / 4).min(numbers.len()));
            std::hint::black_box(sum(level, part.unwrap_or(&[])));
        });
        start.elapsed().as_secs_f64()
    };
    let mut seconds: Vec<f64> = (0..WALKS).map(|_| walk()).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds.get(WALKS / 2).copied().unwrap_or(f64::INFINITY);
    BYTES as f64 / median
}

kernel! {
    fn sum<L>(l, x: &[f32]) -> f32 {
        let mut sums = [l.splat(0.0); 4];
        let (quads, _) = x.as_chunks::<{ 4 * WIDTH }>();
        for quad in quads {
            for (sum, part) in sums.iter_mut().zip(quad.as_chunks::<WIDTH>().0) {
                *sum = l.add(*sum, l.load(part));
            }
        }
        let [a, b, c, d] = sums;
        l.sum(l.add(l.add(a, b), l.add(c, d)))
    }
}
