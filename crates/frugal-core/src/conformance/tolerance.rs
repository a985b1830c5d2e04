//! Where tolerances come from.
//!
//! The reference sums in f64 and rounds once; a back-end sums n terms in f32 in some order. Each
//! rounding multiplies by 1 + d with |d| <= u, so a computed sum of products differs by at most
//! gamma(n) sum |a| |b| from the true one, whatever the order, fused or not. *Source*: Higham,
//! Accuracy and Stability of Numerical Algorithms, chapter 3. Bounds are therefore the operation's
//! own value on absolute operands times gamma of the number of roundings on the longest path; small
//! counts added to it cover the final rounding and the scalars around the sum.
//!
//! Rounding an operand to bf16 adds its u once for each operand, unless the operand is one that bf16
//! holds, as most draws are. A value that passes through e^x counts as [`FUNCTION`] roundings, and
//! an absolute error t of its argument as a relative one of e^t - 1.

use super::Rounding;

/// Unit roundoff of f32, 2^-24.
pub const U_F32: f64 = 5.960_464_477_539_063e-8;
/// Unit roundoff of bf16, 2^-8.
pub const U_BF16: f64 = 3.906_25e-3;
/// Roundings granted to one call of e^x, ln or a root: 4 units in the last place.
pub const FUNCTION: usize = 8;
/// Added to every bound: results below it are lost to underflow of factors, not to error.
pub const FLOOR: f64 = 1e-30;

/// n u / (1 - n u) with u of f32.
#[must_use]
pub fn gamma(n: usize) -> f64 {
    let nu = n as f64 * U_F32;
    nu / (1.0 - nu)
}

/// Relative error of rounding one intermediate operand by the policy.
#[must_use]
pub fn operand(rounding: Rounding) -> f64 {
    match rounding {
        Rounding::F32 => 0.0,
        Rounding::Bf16 => U_BF16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_grows_a_little_faster_than_the_count() {
        assert!(gamma(0) <= 0.0);
        assert!(gamma(1000) > 1000.0 * U_F32);
        assert!(gamma(1000) < 1001.0 * U_F32);
    }
}
