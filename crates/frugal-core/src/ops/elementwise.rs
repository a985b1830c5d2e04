//! The operations on single numbers: SwiGLU and add.
//!
//! *SwiGLU*: y = silu(g) u with silu(g) = g s, s = 1 / (1 + e^-g). Backward:
//! dg = dy u s (1 + g (1 - s)), du = dy g s. An infinite gate follows IEEE arithmetic, so -inf
//! gives NaN. *Source*: Shazeer, 2002.05202.
//!
//! *Add*: y = a + b, one f32 addition. Its backward hands dy to both.

use alloc::vec::Vec;

use super::math::{round, sigmoid};

/// silu(gate) * up.
#[must_use]
pub fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let each = |(g, u): (&f32, &f32)| {
        let g = f64::from(*g);
        round(g * sigmoid(g) * f64::from(*u))
    };
    gate.iter().zip(up).map(each).collect()
}

/// (d gate, d up).
#[must_use]
pub fn swiglu_backward(gate: &[f32], up: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let each = |((g, u), dy): ((&f32, &f32), &f32)| {
        let (g, u, dy) = (f64::from(*g), f64::from(*u), f64::from(*dy));
        let s = sigmoid(g);
        (round(dy * u * s * (1.0 + g * (1.0 - s))), round(dy * g * s))
    };
    gate.iter().zip(up).zip(dy).map(each).unzip()
}

/// a + b.
#[must_use]
pub fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}
