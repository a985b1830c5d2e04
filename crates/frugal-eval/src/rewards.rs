//! Shaping rewards beside accuracy: form, length, repetition, consistency. Each is a pure function;
//! how they are weighed is the recipe's business.

/// 1 if the text begins with `<think>`, closes it, and opens no second one; else 0. For text; ids
/// are judged by [`crate::judge`].
pub fn think_format(text: &str) -> f64 {
    let in_form = text
        .strip_prefix("<think>")
        .is_some_and(|rest| !rest.contains("<think>") && rest.contains("</think>"));
    f64::from(u8::from(in_form))
}

/// DAPO's soft punishment of overlong answers (equation 13): 0 up to `max - cache` tokens, then
/// linearly down to -1 at `max`, -1 beyond.
pub fn soft_overlong(length: usize, max: usize, cache: usize) -> f64 {
    let free = max.saturating_sub(cache);
    if length <= free {
        0.0
    } else if length > max || cache == 0 {
        -1.0
    } else {
        (free as f64 - length as f64) / cache as f64
    }
}

/// `max_penalty` (a negative number) times the share of n-grams that repeat an earlier one; 0
/// where there is no n-gram.
pub fn repetition(ids: &[u32], n: usize, max_penalty: f64) -> f64 {
    if n == 0 || ids.len() < n {
        return 0.0;
    }
    let mut grams: Vec<&[u32]> = ids.windows(n).collect();
    let n_grams = grams.len() as f64;
    grams.sort_unstable();
    grams.dedup();
    (1.0 - grams.len() as f64 / n_grams) * max_penalty
}

/// The bounds of the cosine reward.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CosineBounds {
    /// A right answer of full length.
    pub min_correct: f64,
    /// A right answer of no length.
    pub max_correct: f64,
    /// A wrong answer of no length.
    pub min_wrong: f64,
    /// A wrong answer of full length.
    pub max_wrong: f64,
}

impl Default for CosineBounds {
    /// As published: 0.5 to 1 for right answers, -1 to -0.5 for wrong ones.
    fn default() -> Self {
        Self {
            min_correct: 0.5,
            max_correct: 1.0,
            min_wrong: -1.0,
            max_wrong: -0.5,
        }
    }
}

/// Half a cosine over the length: right answers gain by being short, wrong ones by being long.
pub fn cosine(length: usize, max_length: usize, correct: bool, bounds: &CosineBounds) -> f64 {
    let progress = if max_length == 0 {
        1.0
    } else {
        (length as f64 / max_length as f64).min(1.0)
    };
    let (at_end, at_start) = if correct {
        (bounds.min_correct, bounds.max_correct)
    } else {
        (bounds.max_wrong, bounds.min_wrong)
    };
    at_end + 0.5 * (at_start - at_end) * (1.0 + (core::f64::consts::PI * progress).cos())
}

/// R1's language-consistency reward in its generic form: the share of the thinking's words that
/// are as they should be, by the marks of [`crate::task::Task::expected`]. No thinking gives 0,
/// so that it cannot be earned by saying nothing.
pub fn consistency(expected: &[bool]) -> f64 {
    if expected.is_empty() {
        return 0.0;
    }
    expected.iter().filter(|mark| **mark).count() as f64 / expected.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(tag = "fn", rename_all = "snake_case")]
    enum Vector {
        ThinkFormat {
            completion: String,
            reward: f64,
        },
        SoftOverlong {
            length: usize,
            max: usize,
            cache: usize,
            reward: f64,
        },
        Repetition {
            ids: Vec<u32>,
            n: usize,
            max_penalty: f64,
            reward: f64,
        },
        Cosine(Cosine),
    }

    #[derive(Deserialize)]
    struct Cosine {
        length: usize,
        max_len: usize,
        correct: bool,
        min_value_correct: f64,
        max_value_correct: f64,
        min_value_wrong: f64,
        max_value_wrong: f64,
        reward: f64,
    }

    #[test]
    fn the_recorded_rewards_agree() {
        let Some(text) = fixture::data("reward-vectors/rewards.jsonl") else {
            return;
        };
        let mut n_rows = 0;
        for line in text.lines() {
            let (got, expected) = match serde_json::from_str(line).unwrap() {
                Vector::ThinkFormat { completion, reward } => (think_format(&completion), reward),
                Vector::SoftOverlong {
                    length,
                    max,
                    cache,
                    reward,
                } => (soft_overlong(length, max, cache), reward),
                Vector::Repetition {
                    ids,
                    n,
                    max_penalty,
                    reward,
                } => (repetition(&ids, n, max_penalty), reward),
                Vector::Cosine(row) => {
                    let bounds = CosineBounds {
                        min_correct: row.min_value_correct,
                        max_correct: row.max_value_correct,
                        min_wrong: row.min_value_wrong,
                        max_wrong: row.max_value_wrong,
                    };
                    (
                        cosine(row.length, row.max_len, row.correct, &bounds),
                        row.reward,
                    )
                }
            };
            // The cosine rows are printed with six decimals.
            assert!((got - expected).abs() < 6e-7, "{line}: {got}");
            n_rows += 1;
        }
        assert_eq!(n_rows, 51);
    }

    #[test]
    fn degenerate_inputs_have_a_value() {
        assert!((soft_overlong(11, 10, 0) + 1.0).abs() < 1e-12);
        assert!(soft_overlong(10, 10, 0).abs() < 1e-12);
        assert!((soft_overlong(5, 10, 20) + 0.25).abs() < 1e-12);
        assert!(repetition(&[1, 1], 0, -1.0).abs() < 1e-12);
        assert!(consistency(&[]).abs() < 1e-12);
        assert!((consistency(&[true, false, true, true]) - 0.75).abs() < 1e-12);
        assert!((cosine(3, 0, true, &CosineBounds::default()) - 0.5).abs() < 1e-12);
    }
}
