//! Samples laid out as the rows of one training step.

use std::ops::Range;

use frugal_core::shape::Rows;

use crate::error::{Error, Result};

/// Rows of a micro-batch at most, unless a sequence alone has more: what the backward needs is that of
/// one micro-batch. Fewer rows would stay in the second cache from one operation to the next, but
/// measured slower: 512 rows train at three quarters of the speed of 4096.
pub const MICRO_BATCH_ROWS: usize = 4096;

/// One sequence to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Token ids, from the first of the prompt to the last.
    pub ids: Vec<u32>,
    /// For each token whether it is learnt: true for what the model shall say, false for prompts. The
    /// first token is never predicted, whatever its mark.
    pub is_learnt: Vec<bool>,
}

impl Sample {
    /// A sequence learnt from its second token on.
    #[must_use]
    pub fn plain(ids: Vec<u32>) -> Self {
        let is_learnt = vec![true; ids.len()];
        Self { ids, is_learnt }
    }

    /// A prompt that is given and a continuation that is learnt.
    #[must_use]
    pub fn continued(prompt: &[u32], continuation: &[u32]) -> Self {
        let marks = [(prompt, false), (continuation, true)];
        Self {
            ids: [prompt, continuation].concat(),
            is_learnt: marks
                .into_iter()
                .flat_map(|(ids, mark)| ids.iter().map(move |_| mark))
                .collect(),
        }
    }

    /// Rows in a step: every token but the last is an input, every token but the first a target.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.ids.len().saturating_sub(1)
    }

    /// The first `n_rows` rows.
    pub(crate) fn cut(&mut self, n_rows: usize) {
        self.ids.truncate(n_rows + 1);
        self.is_learnt.truncate(n_rows + 1);
    }

    fn check(&self, index: usize) -> Result<()> {
        let refuse = |reason| Err(Error::Sample { index, reason });
        if self.ids.len() < 2 {
            let got = self.ids.len();
            return refuse(format!("expected at least 2 tokens, got {got}"));
        }
        if self.ids.len() != self.is_learnt.len() {
            let (expected, got) = (self.ids.len(), self.is_learnt.len());
            return refuse(format!("expected {expected} marks, got {got}"));
        }
        Ok(())
    }
}

/// The rows of one training step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// `[T]`: inputs.
    pub ids: Vec<u32>,
    /// Sequences and positions.
    pub rows: Rows,
    /// `[T]`: the token after each.
    pub targets: Vec<u32>,
    /// `[T]`: 1 where the target is learnt, else 0.
    pub weights: Vec<f32>,
}

/// The rows of the MTP layer: those whose token after next is in the same sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct MtpStep {
    /// Rows of the step whose hidden states are read.
    pub from: Vec<u32>,
    /// Sequences and positions of these rows.
    pub rows: Rows,
    /// The token after each.
    pub next_ids: Vec<u32>,
    /// The token after next.
    pub targets: Vec<u32>,
    /// 1 where the target is learnt, else 0.
    pub weights: Vec<f32>,
}

impl Step {
    /// Lays samples out in their order.
    ///
    /// # Errors
    /// If a sample has fewer than two tokens or not one mark a token, or rows do not fit 32 bits.
    pub fn of<'s>(samples: impl IntoIterator<Item = &'s Sample>) -> Result<Self> {
        let (mut ids, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let mut lengths = Vec::new();
        for (index, sample) in samples.into_iter().enumerate() {
            sample.check(index)?;
            ids.extend(sample.ids.iter().take(sample.n_rows()));
            targets.extend(sample.ids.iter().skip(1));
            weights.extend(
                sample
                    .is_learnt
                    .iter()
                    .skip(1)
                    .map(|l| f32::from(u8::from(*l))),
            );
            lengths.push(u32::try_from(sample.n_rows()).unwrap_or(u32::MAX));
        }
        Ok(Self {
            ids,
            rows: Rows::packed(&lengths)?,
            targets,
            weights,
        })
    }

    /// The same rows in steps of at most [`MICRO_BATCH_ROWS`] (a longer sequence is its own), to be
    /// learnt together.
    ///
    /// # Errors
    /// If rows do not fit 32 bits.
    pub fn micro_batches(&self) -> Result<Vec<Self>> {
        let mut parts = Vec::new();
        let (mut start, mut lengths) = (0, Vec::new());
        let mut ranges = self.rows.ranges().peekable();
        while let Some(range) = ranges.next() {
            lengths.push(u32::try_from(range.len()).unwrap_or(u32::MAX));
            let is_full = ranges
                .peek()
                .is_none_or(|next| next.end - start > MICRO_BATCH_ROWS);
            if is_full {
                parts.push(self.part(start..range.end, &lengths)?);
                start = range.end;
                lengths.clear();
            }
        }
        Ok(parts)
    }

    /// Some rows that are whole sequences.
    fn part(&self, rows: Range<usize>, lengths: &[u32]) -> Result<Self> {
        let of = |values: &[u32]| values.get(rows.clone()).unwrap_or_default().to_vec();
        Ok(Self {
            ids: of(&self.ids),
            rows: Rows::packed(lengths)?,
            targets: of(&self.targets),
            weights: self.weights.get(rows.clone()).unwrap_or_default().to_vec(),
        })
    }

    /// How many targets are learnt.
    #[must_use]
    pub fn n_learnt(&self) -> usize {
        self.weights.iter().filter(|weight| **weight > 0.0).count()
    }

    /// The rows whose targets are learnt, and those targets.
    #[must_use]
    pub fn learnt(&self) -> (Vec<u32>, Vec<u32>) {
        let weighed = self.weights.iter().zip(&self.targets).zip(0u32..);
        let learnt = weighed.filter(|((weight, _), _)| **weight > 0.0);
        learnt.map(|((_, target), row)| (row, *target)).unzip()
    }

    /// d loss / d log-prob of the mean cross-entropy over `n_learnt` targets (of this step, or of all
    /// micro-batches of an update): the seed of a backward.
    #[must_use]
    pub fn mean_seed(&self, n_learnt: usize) -> Vec<f32> {
        mean_seed(&self.weights, n_learnt)
    }

    /// The mean cross-entropy over the learnt targets, in nats, summed in f64; 0 if there are none.
    #[must_use]
    pub fn mean_loss(&self, log_probs: &[f32]) -> f64 {
        mean_loss(&self.weights, log_probs)
    }

    /// What the MTP layer is trained on beside this step.
    ///
    /// # Errors
    /// If rows do not fit 32 bits.
    pub fn mtp(&self) -> Result<MtpStep> {
        let mut lengths = Vec::with_capacity(self.rows.n_sequences());
        let mut step = MtpStep {
            from: Vec::new(),
            rows: Rows::packed(&[])?,
            next_ids: Vec::new(),
            targets: Vec::new(),
            weights: Vec::new(),
        };
        for range in self.rows.ranges() {
            // The last row's token after next is not in the sample.
            let n = range.len().saturating_sub(1);
            let from = range.start..range.start + n;
            lengths.push(u32::try_from(n).unwrap_or(u32::MAX));
            step.from.extend(
                from.clone()
                    .map(|row| u32::try_from(row).unwrap_or(u32::MAX)),
            );
            step.next_ids
                .extend(self.targets.iter().skip(from.start).take(n));
            step.targets
                .extend(self.targets.iter().skip(from.start + 1).take(n));
            step.weights
                .extend(self.weights.iter().skip(from.start + 1).take(n));
        }
        step.rows = Rows::packed(&lengths)?;
        Ok(step)
    }
}

impl MtpStep {
    /// As [`Step::mean_seed`].
    #[must_use]
    pub fn mean_seed(&self, n_learnt: usize) -> Vec<f32> {
        mean_seed(&self.weights, n_learnt)
    }

    /// As [`Step::mean_loss`].
    #[must_use]
    pub fn mean_loss(&self, log_probs: &[f32]) -> f64 {
        mean_loss(&self.weights, log_probs)
    }
}

fn mean_seed(weights: &[f32], n_learnt: usize) -> Vec<f32> {
    let scale = -1.0 / n_learnt.max(1) as f32;
    weights.iter().map(|weight| weight * scale).collect()
}

fn mean_loss(weights: &[f32], log_probs: &[f32]) -> f64 {
    let pairs = weights.iter().zip(log_probs);
    let sum: f64 = pairs.map(|(w, l)| f64::from(*w) * f64::from(*l)).sum();
    let n: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    -sum / n.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_rows_with_targets_and_weights() {
        let step = Step::of(&[
            Sample::continued(&[5, 6], &[7, 8]),
            Sample::plain(vec![1, 2]),
        ])
        .unwrap();
        assert_eq!(step.ids, [5, 6, 7, 1]);
        assert_eq!(step.targets, [6, 7, 8, 2]);
        assert_eq!(step.weights, [0.0, 1.0, 1.0, 1.0]);
        assert_eq!(step.rows.offsets(), [0, 3, 4]);
        assert_eq!(step.rows.positions(), [0, 1, 2, 0]);
        assert_eq!(step.n_learnt(), 3);
        assert_eq!(step.mean_seed(4), [-0.0, -0.25, -0.25, -0.25]);
        let loss = step.mean_loss(&[-9.0, -1.0, -2.0, -3.0]);
        assert!((loss - 2.0).abs() < 1e-12);
    }

    #[test]
    fn the_extra_layer_reads_rows_whose_token_after_next_is_there() {
        let step = Step::of(&[
            Sample::continued(&[5], &[6, 7, 8]),
            Sample::plain(vec![1, 2]),
            Sample::plain(vec![3, 4, 9]),
        ])
        .unwrap();
        let mtp = step.mtp().unwrap();
        assert_eq!(mtp.from, [0, 1, 4]);
        assert_eq!(mtp.rows.offsets(), [0, 2, 2, 3]);
        assert_eq!(mtp.next_ids, [6, 7, 4]);
        assert_eq!(mtp.targets, [7, 8, 9]);
        assert_eq!(mtp.weights, [1.0; 3]);
    }

    #[test]
    fn samples_without_a_target_are_refused() {
        assert!(Step::of(&[Sample::plain(vec![1])]).is_err());
        let mut odd = Sample::plain(vec![1, 2, 3]);
        odd.is_learnt.pop();
        assert!(Step::of(&[odd]).is_err());
        assert_eq!(Step::of(&[]).unwrap().rows.n_rows(), 0);
    }

    #[test]
    fn micro_batches_are_the_same_rows_in_whole_sequences() {
        // Lengths in parts of 512 of the most rows.
        let unit = MICRO_BATCH_ROWS / 512;
        let sample = |n: usize| Sample::plain(vec![1; n * unit + 1]);
        let samples = [300, 200, 20, 700, 1, 511, 512].map(sample);
        let step = Step::of(&samples).unwrap();
        let parts = step.micro_batches().unwrap();
        let rows: Vec<usize> = parts.iter().map(|part| part.rows.n_rows()).collect();
        assert_eq!(rows, [500, 20, 700, 512, 512].map(|n| n * unit));
        let joined =
            |of: fn(&Step) -> &[u32]| parts.iter().flat_map(of).copied().collect::<Vec<_>>();
        assert_eq!(joined(|part| &part.ids), step.ids);
        assert_eq!(joined(|part| &part.targets), step.targets);
        assert_eq!(joined(|part| part.rows.positions()), step.rows.positions());
        assert_eq!(
            parts.iter().map(Step::n_learnt).sum::<usize>(),
            step.n_learnt()
        );
        assert!(Step::of(&[]).unwrap().micro_batches().unwrap().is_empty());
    }
}
