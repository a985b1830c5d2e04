//! What the machine can do at best, to hold measured speeds against.

use std::time::Instant;

use crate::cpu::detect::CpuFeatures;
use crate::cpu::pool::Pool;

use super::{Finish, Gemm, GemmError, Mat, MatMut, PackedWeight, Precision};

/// Rows of the trial product: enough for every thread of a small machine.
const ROWS: usize = 2048;
/// Inner and output width: large enough for kernels to run at full speed, small enough to be near.
const WIDTH: usize = 512;
/// Products timed; the median is robust against other work on the machine.
const TRIALS: usize = 25;

/// FLOPs a second of a large product on `pool`: the median of some, about 0.2 seconds in all.
///
/// # Errors
/// Never in practice: the shapes agree.
pub fn measure_peak(
    pool: &Pool,
    features: CpuFeatures,
    precision: Precision,
) -> Result<f64, GemmError> {
    let gemm = Gemm::new(pool, features);
    let a: Vec<f32> = (0..ROWS * WIDTH).map(number).collect();
    let w: Vec<f32> = (0..WIDTH * WIDTH).map(number).collect();
    let mut out = vec![0.0; ROWS * WIDTH];
    let packed = gemm.pack(Mat::dense(&w, WIDTH, WIDTH)?.into(), precision);
    let mut seconds = Vec::with_capacity(TRIALS);
    for _ in 0..TRIALS {
        seconds.push(time(&gemm, &a, &packed, &mut out)?);
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds.get(TRIALS / 2).copied().unwrap_or(f64::INFINITY);
    Ok((2 * ROWS * WIDTH * WIDTH) as f64 / median)
}

fn time(
    gemm: &Gemm<'_>,
    a: &[f32],
    packed: &PackedWeight,
    out: &mut [f32],
) -> Result<f64, GemmError> {
    let start = Instant::now();
    let a = Mat::dense(a, ROWS, WIDTH)?;
    let out = MatMut::dense(out, ROWS, WIDTH)?;
    gemm.nt(a, packed, out, Finish::SET)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Some number between -1 and 1.
fn number(index: usize) -> f32 {
    (index % 251) as f32 / 125.0 - 1.0
}
