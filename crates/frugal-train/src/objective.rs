//! What reinforcement learning maximises, as pure functions in f64.
//!
//! Rewards of a group become [`advantage`]s; advantages and the log-probabilities of a batch's tokens
//! become a loss and d loss / d log-prob in [`policy`], which is all a tape needs as its seed. [`kl`]
//! holds the estimators of the distance to a reference, [`distribution`] the exact divergences that
//! distillation minimises; [`preset`] reads a recipe. Rewards themselves are frugal-eval's.
//!
//! Batches are ragged: the tokens of all completions one after another, with their number in each. What
//! must not be learnt from (prompts, tool output) is simply not listed.
//!
//! Nothing here samples, grades or knows a tensor. *Source* of the formulas: the papers named at each;
//! values agree with an independent float64 reference to 1e-9.

pub mod advantage;
pub mod distribution;
pub mod kl;
pub mod policy;
pub mod preset;

use crate::error::{Error, Result};

/// Refuses lists of unequal length.
fn expect_length(
    place: &'static str,
    what: &'static str,
    expected: usize,
    got: usize,
) -> Result<()> {
    if expected == got {
        Ok(())
    } else {
        Err(Error::Length {
            place,
            what,
            expected,
            got,
        })
    }
}

/// The vectors of an independent reference, for the tests of this room.
#[cfg(test)]
mod vectors {
    use serde_json::Value;

    /// The rows of `rl-vectors/<name>.jsonl`, or nothing, said aloud, where the data is not at hand.
    pub(super) fn rows(name: &str) -> Vec<Value> {
        let path = format!(
            "{}/../../../shared/data/rl-vectors/{name}.jsonl",
            env!("CARGO_MANIFEST_DIR")
        );
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: {path} is not there");
            return Vec::new();
        };
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(super) fn numbers(value: &Value) -> Vec<f64> {
        let values = value.as_array().unwrap().iter();
        values.map(|v| v.as_f64().unwrap()).collect()
    }

    pub(super) fn close(what: &str, got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len(), "{what}");
        for (g, e) in got.iter().zip(expected) {
            // The vectors carry twelve digits.
            assert!(
                (g - e).abs() <= 1e-9 * e.abs().max(1e-3),
                "{what}: {g} is not {e}"
            );
        }
    }
}
