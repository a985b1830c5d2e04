//! What the machine can do at best, to hold measured speeds against.

use std::time::Instant;

use crate::cpu::detect::CpuFeatures;
use crate::cpu::pool::Pool;

use super::{Finish, Gemm, GemmError, Mat, MatMut, PackedWeight, Precision};

/// Rows, inner and output width of the trial product: enough blocks for every thread of a small
/// machine, and all three matrices within the second cache.
const WIDTH: usize = 512;
/// How long to try.
const SECONDS: f64 = 0.2;
/// Products timed at least; the median of many is robust against other work on the machine.
const FEWEST: usize = 5;

/// FLOPs a second of a large product on `pool`: the median of some, about 0.2 seconds in all.
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "one square shape throughout"
)]
pub fn measure_peak(pool: &Pool, features: CpuFeatures, precision: Precision) -> f64 {
    let mut seconds = trials(&Gemm::new(pool, features), precision).expect("shapes agree");
    seconds.sort_by(f64::total_cmp);
    let median = seconds.get(seconds.len() / 2).copied();
    (2 * WIDTH * WIDTH * WIDTH) as f64 / median.unwrap_or(f64::INFINITY)
}

/// Seconds of products, one after another.
fn trials(gemm: &Gemm<'_>, precision: Precision) -> Result<Vec<f64>, GemmError> {
    let a: Vec<f32> = (0..WIDTH * WIDTH).map(number).collect();
    let mut out = vec![0.0; WIDTH * WIDTH];
    let packed = gemm.pack(Mat::dense(&a, WIDTH, WIDTH)?.into(), precision);
    let mut seconds = Vec::new();
    let start = Instant::now();
    while seconds.len() < FEWEST || start.elapsed().as_secs_f64() < SECONDS {
        seconds.push(time(gemm, &a, &packed, &mut out)?);
    }
    Ok(seconds)
}

fn time(
    gemm: &Gemm<'_>,
    a: &[f32],
    packed: &PackedWeight,
    out: &mut [f32],
) -> Result<f64, GemmError> {
    let start = Instant::now();
    let a = Mat::dense(a, WIDTH, WIDTH)?;
    let out = MatMut::dense(out, WIDTH, WIDTH)?;
    gemm.nt(a, packed, out, Finish::SET)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Some number between -1 and 1.
fn number(index: usize) -> f32 {
    (index % 251) as f32 / 125.0 - 1.0
}
