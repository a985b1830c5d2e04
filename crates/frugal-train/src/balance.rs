//! Auxiliary-loss-free balancing: the router's selection bias moves against the load.
//!
//! *Source*: DeepSeek-V3 report, section 2.1.2. It says that an overloaded expert's bias falls and an
//! underloaded one's rises by a fixed step after each training step; that an expert at exactly the
//! mean keeps its bias is our reading.

use crate::error::{Error, Result};

/// Moves the bias of each expert by `speed` towards the mean load of a step.
///
/// # Errors
/// If there are not as many loads as biases.
pub fn move_bias(bias: &mut [f32], loads: &[u64], speed: f32) -> Result<()> {
    if bias.len() != loads.len() {
        return Err(Error::Length {
            place: "balance",
            what: "loads",
            expected: bias.len(),
            got: loads.len(),
        });
    }
    let total: u64 = loads.iter().sum();
    for (bias, load) in bias.iter_mut().zip(loads) {
        // load against total / n, without rounding the mean.
        match (load * loads.len() as u64).cmp(&total) {
            core::cmp::Ordering::Less => *bias += speed,
            core::cmp::Ordering::Equal => {}
            core::cmp::Ordering::Greater => *bias -= speed,
        }
    }
    Ok(())
}

/// How far the fullest expert is above the mean load, as a share of it: 0 is perfect balance.
/// *Source*: MaxVio of 2408.15664.
#[must_use]
pub fn max_violation(loads: &[u64]) -> f64 {
    let total: u64 = loads.iter().sum();
    let largest = loads.iter().max().copied().unwrap_or(0);
    if total == 0 {
        return 0.0;
    }
    largest as f64 * loads.len() as f64 / total as f64 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "halves are exact")]
    fn bias_moves_against_the_load() {
        let mut bias = [0.0, 1.0, -1.0];
        move_bias(&mut bias, &[9, 0, 3], 0.5).unwrap();
        assert_eq!(bias, [-0.5, 1.5, -0.5]);
        move_bias(&mut bias, &[4, 4, 4], 0.5).unwrap();
        assert_eq!(bias, [-0.5, 1.5, -0.5]);
        assert!(move_bias(&mut bias, &[1], 0.5).is_err());
    }

    #[test]
    fn violation_is_relative_to_the_mean() {
        assert!((max_violation(&[6, 2, 1]) - 1.0).abs() < 1e-12);
        assert!(max_violation(&[0, 0]).abs() < 1e-12);
    }
}
