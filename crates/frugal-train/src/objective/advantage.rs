//! How much better than expected an answer was: rewards of one group to advantages.

use super::expect_length;
use crate::error::Result;

/// The baseline and the scale of a group's advantages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advantage {
    /// r - mean. *Source*: Dr. GRPO, 2503.20783.
    Centered,
    /// (r - mean) / (deviation + epsilon). *Source*: DeepSeekMath, 2402.03300, section 4.1.
    Standardized {
        /// 1 for the sample deviation, 0 for the population's.
        ddof: u8,
        /// Added after the root.
        epsilon: f64,
    },
    /// r - mean of the others; 0 for a group of one. *Source*: RLOO, 2402.14740.
    LeaveOneOut,
}

impl Advantage {
    /// The advantages of one group.
    #[must_use]
    pub fn of(self, rewards: &[f64]) -> Vec<f64> {
        let n = rewards.len() as f64;
        let mean = rewards.iter().sum::<f64>() / n.max(1.0);
        let centered = rewards.iter().map(|reward| reward - mean);
        if has_no_signal(rewards) {
            // Also where rounding of the mean would leave dust that the deviation then blows up.
            return vec![0.0; rewards.len()];
        }
        match self {
            Self::Centered => centered.collect(),
            Self::Standardized { ddof, epsilon } => {
                let squares: f64 = centered.clone().map(|c| c * c).sum();
                let deviation = (squares / (n - f64::from(ddof)).max(1.0)).sqrt();
                centered.map(|c| c / (deviation + epsilon)).collect()
            }
            Self::LeaveOneOut => centered.map(|c| c * n / (n - 1.0)).collect(),
        }
    }
}

/// Whether all rewards of a group are equal, so that nothing can be learnt from it.
#[must_use]
pub fn has_no_signal(rewards: &[f64]) -> bool {
    rewards
        .iter()
        .zip(rewards.iter().skip(1))
        .all(|(a, b)| a.total_cmp(b).is_eq())
}

/// The decay of rewards and the trade of bias for variance in [`generalized`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Discount {
    /// Discount of later rewards.
    pub gamma: f64,
    /// 0 trusts the value of the next token, 1 the rewards alone.
    pub lambda: f64,
}

/// Generalised advantages of one sequence and the returns a critic would learn. *Source*: 1506.02438.
///
/// Tokens outside the mask repeat the running advantage and value, and do not change them.
///
/// # Errors
/// If the three lists differ in length.
pub fn generalized(
    rewards: &[f64],
    values: &[f64],
    mask: &[bool],
    discount: Discount,
) -> Result<(Vec<f64>, Vec<f64>)> {
    expect_length("advantages", "values", rewards.len(), values.len())?;
    expect_length("advantages", "mask entries", rewards.len(), mask.len())?;
    let (mut next_value, mut running) = (0.0, 0.0);
    let mut advantages: Vec<f64> = rewards
        .iter()
        .zip(values)
        .zip(mask)
        .rev()
        .map(|((reward, value), is_ours)| {
            if *is_ours {
                let delta = reward + discount.gamma * next_value - value;
                running = delta + discount.gamma * discount.lambda * running;
                next_value = *value;
            }
            running
        })
        .collect();
    advantages.reverse();
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    Ok((advantages, returns))
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{close, numbers, rows};
    use super::*;

    #[test]
    fn advantages_agree_with_the_vectors() {
        let standardized = |ddof, epsilon| Advantage::Standardized { ddof, epsilon };
        for row in rows("advantages") {
            let rewards = numbers(&row["rewards"]);
            for (name, rule) in [
                ("centered", Advantage::Centered),
                ("std_ddof1_eps1e-4", standardized(1, 1e-4)),
                ("std_ddof1_eps1e-6", standardized(1, 1e-6)),
                ("std_ddof0_eps1e-4", standardized(0, 1e-4)),
                ("rloo", Advantage::LeaveOneOut),
            ] {
                if row[name].is_array() {
                    close(name, &rule.of(&rewards), &numbers(&row[name]));
                }
            }
            assert_eq!(row["zero_variance"], has_no_signal(&rewards));
        }
    }

    #[test]
    fn generalized_advantages_agree_with_the_vectors() {
        for row in rows("gae") {
            let mask: Vec<_> = numbers(&row["mask"]).iter().map(|m| *m > 0.5).collect();
            let discount = Discount {
                gamma: row["gamma"].as_f64().unwrap(),
                lambda: row["lambda"].as_f64().unwrap(),
            };
            let (rewards, values) = (numbers(&row["rewards"]), numbers(&row["values"]));
            let (advantages, returns) = generalized(&rewards, &values, &mask, discount).unwrap();
            close("advantages", &advantages, &numbers(&row["advantages"]));
            close("returns", &returns, &numbers(&row["returns"]));
        }
        let discount = Discount {
            gamma: 1.0,
            lambda: 1.0,
        };
        assert!(generalized(&[1.0], &[], &[true], discount).is_err());
    }

    #[test]
    fn equal_rewards_that_no_float_holds_exactly_give_no_advantage() {
        let rule = Advantage::Standardized {
            ddof: 1,
            epsilon: 0.0,
        };
        assert_eq!(rule.of(&[0.1; 3]), [0.0; 3]);
        assert!(rule.of(&[]).is_empty());
    }
}
