//! Exact functions of next-token distributions, from logits, in f64: what the back-ends' `log_prob` and
//! `divergence` are held against, and what a report uses where a few rows are at hand.

use frugal_core::backend::{Divergence, DivergenceKind};

use super::expect_length;
use crate::error::Result;

/// ln softmax(logits / temperature).
#[must_use]
pub fn log_softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let scaled = logits.iter().map(|logit| logit / temperature);
    let largest = scaled.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scaled.clone().map(|x| (x - largest).exp()).sum();
    scaled.map(|x| x - largest - sum.ln()).collect()
}

/// -sum p ln p, in nats.
#[must_use]
pub fn entropy(log_probs: &[f64]) -> f64 {
    -log_probs.iter().map(|l| weigh(l.exp(), *l)).sum::<f64>()
}

/// p x, with 0 times anything 0: a token without mass adds nothing, however unlikely elsewhere.
fn weigh(p: f64, x: f64) -> f64 {
    if p > 0.0 { p * x } else { 0.0 }
}

/// The divergence of student logits from teacher logits and its gradient by the student's.
///
/// # Errors
/// If the vocabularies differ in size.
pub fn divergence(
    student: &[f64],
    teacher: &[f64],
    divergence: Divergence,
) -> Result<(f64, Vec<f64>)> {
    expect_length("divergence", "student logits", teacher.len(), student.len())?;
    let temperature = f64::from(divergence.temperature);
    let q = log_softmax(student, temperature);
    let p = log_softmax(teacher, temperature);
    // Each is (value, d value / d ln q of each token); the softmax's Jacobian follows for all.
    let terms = p
        .iter()
        .zip(&q)
        .map(|(p, q)| token_term(divergence.kind, *p, *q));
    let value = terms.clone().map(|(value, _)| value).sum();
    let pull: f64 = terms.clone().map(|(_, slope)| slope).sum();
    let gradient = terms
        .zip(&q)
        .map(|((_, slope), q)| (slope - q.exp() * pull) / temperature)
        .collect();
    Ok((value, gradient))
}

/// One token's part of the divergence, and its derivative by ln q, both given as logarithms.
fn token_term(kind: DivergenceKind, p: f64, q: f64) -> (f64, f64) {
    let (mass_p, mass_q) = (p.exp(), q.exp());
    match kind {
        DivergenceKind::Forward => (weigh(mass_p, p - q), -mass_p),
        DivergenceKind::Reverse => (weigh(mass_q, q - p), weigh(mass_q, q - p + 1.0)),
        DivergenceKind::JensenShannon { beta } => {
            let beta = f64::from(beta);
            let m = (beta * mass_p + (1.0 - beta) * mass_q).ln();
            let value = beta * weigh(mass_p, p - m) + (1.0 - beta) * weigh(mass_q, q - m);
            // The parts through m cancel to -(1 - beta) q, and q's own +1 cancels that.
            (value, (1.0 - beta) * weigh(mass_q, q - m))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{close, numbers, rows};
    use super::*;

    fn number(value: &serde_json::Value) -> f64 {
        value.as_f64().unwrap()
    }

    #[test]
    fn softmax_and_entropy_agree_with_the_vectors() {
        for row in rows("softmax") {
            let log_probs = log_softmax(&numbers(&row["logits"]), 1.0);
            close("log_softmax", &log_probs, &numbers(&row["log_softmax"]));
            close(
                "entropy",
                &[entropy(&log_probs)],
                &[number(&row["entropy"])],
            );
        }
    }

    #[test]
    fn divergences_agree_with_the_vectors() {
        for row in rows("distill") {
            // The settings are f32; 0.7 has to be the f64 of the vectors to 1e-9.
            let temperature = number(&row["temperature"]);
            #[expect(clippy::cast_possible_truncation, reason = "the setting is f32")]
            let setting = temperature as f32;
            let scale = f64::from(setting) / temperature;
            let logits = |name: &str| -> Vec<f64> {
                numbers(&row[name]).iter().map(|x| x * scale).collect()
            };
            let (student, teacher) = (logits("student_logits"), logits("teacher_logits"));
            for (name, kind) in [
                ("forward_kl", DivergenceKind::Forward),
                ("reverse_kl", DivergenceKind::Reverse),
                ("jsd_beta0.5", DivergenceKind::JensenShannon { beta: 0.5 }),
            ] {
                let asked = Divergence {
                    kind,
                    temperature: setting,
                };
                let (value, gradient) = divergence(&student, &teacher, asked).unwrap();
                close(name, &[value], &[number(&row[name])]);
                if kind == DivergenceKind::Forward {
                    let gradient: Vec<_> = gradient.iter().map(|g| g * scale).collect();
                    let expected = numbers(&row["grad_forward_kl_wrt_student_logits"]);
                    close("gradient", &gradient, &expected);
                }
            }
        }
    }

    #[test]
    fn gradients_are_those_of_the_values() {
        let (student, teacher) = ([0.3, -1.2, 2.0, 0.1], [1.0, 0.2, -0.4, 0.6]);
        for kind in [
            DivergenceKind::Forward,
            DivergenceKind::Reverse,
            DivergenceKind::JensenShannon { beta: 0.3 },
        ] {
            let asked = Divergence {
                kind,
                temperature: 1.7,
            };
            let (_, gradient) = divergence(&student, &teacher, asked).unwrap();
            for (i, expected) in gradient.iter().enumerate() {
                let at = |step: f64| {
                    let mut moved = student;
                    moved[i] += step;
                    divergence(&moved, &teacher, asked).unwrap().0
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((expected - numeric).abs() < 1e-8, "{kind:?} {i}");
            }
        }
    }
}
