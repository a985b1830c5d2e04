//! Estimators of KL(policy || reference) from the policy's own samples, one token at a time.
//!
//! *Source*: Schulman, "Approximating KL divergence", 2020. With d = ln ref - ln policy: k1 = -d is
//! unbiased and noisy, k2 = d² / 2 has little variance, k3 = e^d - d - 1 is unbiased and never negative.

/// Which estimator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Estimator {
    /// -d.
    K1,
    /// d² / 2.
    K2,
    /// e^d - d - 1: what GRPO prints.
    K3,
}

impl Estimator {
    /// The estimate and its derivative by the policy's log-probability.
    #[must_use]
    pub fn of(self, log_prob: f64, reference: f64) -> (f64, f64) {
        let d = reference - log_prob;
        match self {
            Self::K1 => (-d, 1.0),
            Self::K2 => (d * d / 2.0, -d),
            // exp_m1 keeps the digits where policy and reference are close, which is the usual case.
            Self::K3 => (d.exp_m1() - d, -d.exp_m1()),
        }
    }
}

/// How a token's estimate is weighted in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// As it is.
    Plain,
    /// Times policy / old policy: unbiased also when the batch is older than the policy.
    /// *Source*: DeepSeek-V3.2, 2512.02556, section 3.
    Ratio,
}

/// A KL term of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalty {
    /// Its factor.
    pub beta: f64,
    /// The estimator.
    pub estimator: Estimator,
    /// Its weight.
    pub weight: Weight,
}

impl Penalty {
    /// The term of one token, without beta, and its derivative by `log_prob`.
    #[must_use]
    pub fn of(&self, log_prob: f64, old: f64, reference: f64) -> (f64, f64) {
        let (value, slope) = self.estimator.of(log_prob, reference);
        match self.weight {
            Weight::Plain => (value, slope),
            Weight::Ratio => {
                let ratio = (log_prob - old).exp();
                (ratio * value, ratio * (value + slope))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{close, rows};
    use super::*;

    #[test]
    fn estimators_agree_with_the_vectors() {
        for row in rows("kl") {
            let (policy, reference) = (row["logp"].as_f64(), row["logp_ref"].as_f64());
            for (name, estimator) in [
                ("k1", Estimator::K1),
                ("k2", Estimator::K2),
                ("k3", Estimator::K3),
            ] {
                let (value, _) = estimator.of(policy.unwrap(), reference.unwrap());
                close(name, &[value], &[row[name].as_f64().unwrap()]);
            }
        }
    }

    #[test]
    fn slopes_are_those_of_the_values() {
        for estimator in [Estimator::K1, Estimator::K2, Estimator::K3] {
            for weight in [Weight::Plain, Weight::Ratio] {
                let penalty = Penalty {
                    beta: 1.0,
                    estimator,
                    weight,
                };
                for log_prob in [-3.0, -1.1, -0.2] {
                    let at = |x: f64| penalty.of(x, -1.0, -0.7).0;
                    let numeric = (at(log_prob + 1e-5) - at(log_prob - 1e-5)) / 2e-5;
                    let (_, slope) = penalty.of(log_prob, -1.0, -0.7);
                    assert!((slope - numeric).abs() < 1e-6 * numeric.abs().max(1.0));
                }
            }
        }
    }
}
