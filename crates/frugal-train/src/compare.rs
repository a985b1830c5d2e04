//! What a model lost on the way to another format: two models side by side on one text.

use frugal_core::backend::{Backend, Divergence, DivergenceKind, Head, Sampling};
use frugal_core::shape::Rows;
use frugal_model::transformer::{self, Model, Step};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Tokens that see each other: long enough for the usual distances, short enough to be held.
const WINDOW: usize = 512;
/// Rows whose logits are held at a time.
const ROWS: usize = 64;

/// How far a model is from its original on a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Tokens whose prediction was compared.
    pub tokens: usize,
    /// Mean KL divergence of its predictions from the original's, in nats a token.
    pub divergence: f64,
    /// The largest of them.
    pub largest_divergence: f64,
    /// Share of tokens where both find the same token likeliest.
    pub agreement: f64,
    /// Perplexity of the original.
    pub perplexity_before: f64,
    /// Perplexity of the other.
    pub perplexity_after: f64,
}

/// Compares `other` with `original` on a text of token ids, in windows of 512 tokens that each begin
/// with `first`, where there is one.
///
/// # Errors
/// If the text has fewer than two tokens, the vocabularies differ, or the back-end refuses.
pub fn compare<B: Backend>(
    b: &B,
    (original, other): (&Model<B::Tensor>, &Model<B::Tensor>),
    ids: &[u32],
    first: Option<u32>,
) -> Result<Comparison> {
    let mut sums = Sums::default();
    for window in ids.chunks(WINDOW) {
        let window: Vec<u32> = first.into_iter().chain(window.iter().copied()).collect();
        if window.len() > 1 {
            sums.add(b, (original, other), &window)?;
        }
    }
    let n = sums.tokens as f64;
    if sums.tokens == 0 {
        return Err(Error::Setting {
            place: "compare",
            reason: format!("expected a text of at least 2 tokens, got {}", ids.len()),
        });
    }
    Ok(Comparison {
        tokens: sums.tokens,
        divergence: sums.divergence / n,
        largest_divergence: sums.largest_divergence,
        agreement: sums.agreeing as f64 / n,
        perplexity_before: (-sums.log_probs[0] / n).exp(),
        perplexity_after: (-sums.log_probs[1] / n).exp(),
    })
}

#[derive(Default)]
struct Sums {
    tokens: usize,
    divergence: f64,
    largest_divergence: f64,
    agreeing: usize,
    /// Of the original and the other.
    log_probs: [f64; 2],
}

impl Sums {
    fn add<B: Backend>(
        &mut self,
        b: &B,
        (original, other): (&Model<B::Tensor>, &Model<B::Tensor>),
        window: &[u32],
    ) -> Result<()> {
        let length = u32::try_from(window.len()).unwrap_or(u32::MAX);
        let rows = Rows::packed(&[length])?;
        let step = Step {
            ids: window,
            rows: &rows,
        };
        let whole = [original, other]
            .map(|model| transformer::hidden(b, model, &step, None).map(|hidden| (model, hidden)));
        let [before, after] = whole;
        let (before, after) = (before?, after?);
        // The last token predicts what is not in the window.
        let predicting: Vec<u32> = (0..length - 1).collect();
        for part in predicting.chunks(ROWS) {
            let first = part.first().map_or(0, |row| *row as usize);
            let targets = window.get(first + 1..first + 1 + part.len());
            let targets = targets.unwrap_or(&[]);
            let hidden = [b.gather(&before.1, part)?, b.gather(&after.1, part)?];
            let [teacher, student] =
                [(before.0, &hidden[0]), (after.0, &hidden[1])].map(|(model, hidden)| Head {
                    hidden,
                    weight: transformer::head(model),
                });
            let divergence = Divergence {
                kind: DivergenceKind::Forward,
                temperature: 1.0,
            };
            for kl in b.get(&b.divergence(student, teacher, divergence)?)? {
                self.divergence += f64::from(kl);
                self.largest_divergence = self.largest_divergence.max(f64::from(kl));
            }
            let mut likeliest = Vec::with_capacity(2);
            for ((head, model), sum) in [(teacher, original), (student, other)]
                .into_iter()
                .zip(&mut self.log_probs)
            {
                let found = b.log_prob(head, targets, 1.0)?;
                let found = b.get(&found.log_prob)?;
                *sum += found.iter().map(|x| f64::from(*x)).sum::<f64>();
                let logits = transformer::logits(b, model, head.hidden)?;
                let picked = b.pick(&logits, &Sampling::GREEDY, &vec![0.0; part.len()])?;
                likeliest.push(picked.ids);
            }
            if let [one, two] = likeliest.as_slice() {
                self.agreeing += one.iter().zip(two).filter(|(a, b)| a == b).count();
            }
            self.tokens += part.len();
        }
        Ok(())
    }
}
