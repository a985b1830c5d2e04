//! What a policy learns from: answers that were drawn, the log-probabilities they were drawn at, and
//! what each was worth. One update of [`crate::grpo`], without its task and its judge.

use frugal_core::backend::{Head, TrainBackend};
use frugal_model::generate::Sample as Drawn;
use frugal_model::transformer::{self, Model, Step as ModelStep};

use crate::data::{Sample, Step};
use crate::error::Result;
use crate::learner::{Goal, Learner, Learnt};
use crate::objective::policy::{Advantages, Batch, Policy, Totals, Watch};
use crate::room::micro_batches;

/// Answers, one after another.
#[derive(Debug, Default)]
pub(crate) struct Experience {
    samples: Vec<Sample>,
    /// ln p of each answer's tokens when they were drawn.
    old: Vec<Vec<f64>>,
    advantages: Vec<f64>,
}

/// How it is learnt from.
pub(crate) struct Terms<'a, T> {
    pub(crate) policy: Policy,
    /// Divides the logits, as when the tokens were drawn.
    pub(crate) temperature: f64,
    /// What the loss has a KL term against.
    pub(crate) reference: Option<&'a Model<T>>,
    /// Answers that the loss is a mean over.
    pub(crate) sequences: usize,
    pub(crate) rate: f64,
}

impl Experience {
    /// Adds an answer.
    pub(crate) fn push(&mut self, prompt: &[u32], answer: &Drawn, advantage: f64) {
        self.samples.push(Sample::continued(prompt, &answer.ids));
        let old = answer.log_probs.iter().map(|l| f64::from(*l));
        self.old.push(old.collect());
        self.advantages.push(advantage);
    }

    /// Answers so far.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// One update of the learner's model.
    pub(crate) fn learn<B: TrainBackend>(
        &self,
        backend: &B,
        learner: &mut Learner<'_, B>,
        terms: &Terms<'_, B::Tensor>,
    ) -> Result<(Learnt, Watch)> {
        let totals = Totals {
            sequences: terms.sequences,
            tokens: self.old.iter().map(Vec::len).sum(),
        };
        let batches = micro_batches(&self.samples)?;
        let reference = reference_log_probs(backend, terms, &batches)?;
        let mut watch = Watch::default();
        let mut loss = |index: usize, log_probs: &[f32]| -> Result<Vec<f32>> {
            let members = batches.get(index).map_or(&[][..], |(_, members)| members);
            let of_members = || members.iter().filter_map(|i| self.old.get(*i));
            let lengths: Vec<usize> = of_members().map(Vec::len).collect();
            let old: Vec<f64> = of_members().flatten().copied().collect();
            let log_prob: Vec<f64> = log_probs.iter().map(|l| f64::from(*l)).collect();
            let advantages: Vec<f64> = members
                .iter()
                .filter_map(|i| self.advantages.get(*i))
                .copied()
                .collect();
            let loss = terms.policy.loss(&Batch {
                lengths: &lengths,
                log_prob: &log_prob,
                old: &old,
                reference: reference.get(index).map(Vec::as_slice),
                advantages: Advantages::Sequence(&advantages),
                totals,
            })?;
            watch = watch.with(&loss.watch);
            #[expect(clippy::cast_possible_truncation, reason = "seeds are f32")]
            let seed = loss.d_log_prob.iter().map(|d| *d as f32).collect();
            Ok(seed)
        };
        let steps: Vec<Step> = batches.iter().map(|(step, _)| step.clone()).collect();
        let mut goal = Goal::Policy {
            temperature: narrow(terms.temperature),
            loss: &mut loss,
        };
        let learnt = learner.update(&steps, &mut goal, terms.rate)?;
        Ok((learnt, watch))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "logits are f32")]
const fn narrow(temperature: f64) -> f32 {
    temperature as f32
}

/// ln p of the same tokens under the reference; empty without one.
fn reference_log_probs<B: TrainBackend>(
    backend: &B,
    terms: &Terms<'_, B::Tensor>,
    batches: &[(Step, Vec<usize>)],
) -> Result<Vec<Vec<f64>>> {
    let Some(reference) = terms.reference else {
        return Ok(Vec::new());
    };
    let temperature = narrow(terms.temperature);
    batches
        .iter()
        .map(|(step, _)| {
            let rows = ModelStep {
                ids: &step.ids,
                rows: &step.rows,
            };
            let hidden = transformer::hidden(backend, reference, &rows, None)?;
            let (chosen, targets) = step.learnt();
            let hidden = backend.gather(&hidden, &chosen)?;
            let head = Head {
                hidden: &hidden,
                weight: transformer::head(reference),
            };
            let log_probs = backend.log_prob(head, &targets, temperature)?.log_prob;
            let log_probs = backend.get(&log_probs)?;
            Ok(log_probs.iter().map(|l| f64::from(*l)).collect())
        })
        .collect()
}
