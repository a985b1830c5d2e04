//! Supervised fine-tuning: the completions of kept traces, prompts given; or, without traces, the
//! completions of the task's own corpus (the control for what more of the same would have done).
//!
//! Departures from DeepSeek-R1's recipe: loss on the completions only; a share of the samples is held
//! out to watch the loss on, but nothing stops on it, so that a stage's cost is known beforehand.

use frugal_core::backend::TrainBackend;
use frugal_eval::corpus;
use frugal_model::transformer::Model;
use frugal_run::checkpoint::Checkpoint;
use frugal_run::recipe::SftSettings;

use crate::data::epochs::Epochs;
use crate::data::stream::Stream;
use crate::data::{Sample, Step};
use crate::error::Result;
use crate::learner::{Goal, Learner};
use crate::rollout::{Cached, Roller};
use crate::room::{self, Room};
use crate::schedule::Schedule;
use crate::stage::{File, Outcome, Stage};
use crate::{artifact, card};

/// Most tokens of a look at the model.
const GLANCE_TOKENS: usize = 224;

/// Where the steps come from.
#[derive(Debug)]
enum Source {
    /// A finite set, and what of it is held out.
    Traces {
        epochs: Epochs,
        held_out: Vec<(Step, Vec<usize>)>,
    },
    /// The task's corpus.
    Corpus,
}

/// The stage.
#[derive(Debug)]
pub struct Sft<'a, B: TrainBackend> {
    room: &'a Room<'a, B>,
    settings: SftSettings,
    source: Source,
    learner: Learner<'a, B>,
    roller: Roller<'a, B>,
    schedule: Schedule,
    n_steps: u64,
}

impl<'a, B: TrainBackend> Sft<'a, B> {
    /// Goes on from `model`, on `traces` or, without any, on the task's corpus.
    ///
    /// # Errors
    /// If a trace is longer than a step, or the settings are impossible.
    pub fn new(
        room: &'a Room<'a, B>,
        model: Model<B::Tensor>,
        traces: Option<Vec<Sample>>,
        settings: SftSettings,
    ) -> Result<Self> {
        let mut n_steps = u64::from(settings.steps);
        let source = match traces {
            Some(samples) => {
                let source = split(room, samples, &settings)?;
                if let Source::Traces { epochs, .. } = &source {
                    n_steps = n_steps.min(epochs.n_steps() as u64);
                }
                source
            }
            None => Source::Corpus,
        };
        let learner_settings = room::learner_settings(
            &settings.optim,
            settings.mtp_weight,
            settings.balance_alpha,
            settings.bias_update_speed,
        );
        Ok(Self {
            roller: room.roller(&model, Cached::Latent)?,
            learner: Learner::new(room.backend, model, learner_settings)?,
            schedule: room::schedule(&settings.optim, settings.optim.learning_rate, n_steps)?,
            room,
            settings,
            source,
            n_steps,
        })
    }

    fn batch(&self, step: u64) -> Result<Option<Step>> {
        let Room {
            task,
            level,
            mix,
            codec,
            ..
        } = self.room;
        match &self.source {
            Source::Traces { epochs, .. } => {
                epochs.step(usize::try_from(step).unwrap_or(usize::MAX))
            }
            Source::Corpus => {
                let n_rows = self.settings.tokens_per_step as usize;
                let stream = Stream::new(&self.room.key("corpus"), n_rows, |rng| {
                    let line = codec.line(&corpus::line(*task, rng, level, mix)?)?;
                    let (prompt, completion) = line.ids.split_at(line.n_prompt);
                    self.room.fitting(Sample::continued(prompt, completion))
                });
                stream.step(step).map(Some)
            }
        }
    }
}

/// Holds out the last share of the samples and plans the epochs of the rest.
fn split<B: TrainBackend>(
    room: &Room<'_, B>,
    mut samples: Vec<Sample>,
    settings: &SftSettings,
) -> Result<Source> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the share is between 0 and 1, so the product is a count of samples"
    )]
    let n_held_out = (samples.len() as f64 * settings.hold_out_share) as usize;
    let held_out = samples.split_off(samples.len() - n_held_out);
    let n_rows = settings.tokens_per_step as usize;
    let rows: usize = samples.iter().map(Sample::n_rows).sum();
    // Enough passes for the steps asked for, unless the recipe limits them.
    let enough = (u64::from(settings.steps) * n_rows as u64).div_ceil(rows.max(1) as u64) + 1;
    let n_epochs = match u64::from(settings.max_epochs) {
        0 => enough,
        limit => limit.min(enough),
    };
    Ok(Source::Traces {
        epochs: Epochs::new(samples, n_rows, n_epochs, &room.key("epochs"))?,
        held_out: room::micro_batches(&held_out)?,
    })
}

impl<B: TrainBackend> Stage for Sft<'_, B> {
    fn n_steps(&self) -> u64 {
        self.n_steps
    }

    fn step(&mut self, step: u64) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let Some(batch) = self.batch(step)? else {
            outcome.is_last = true;
            return Ok(outcome);
        };
        let rate = self.schedule.at(step);
        let batches = batch.micro_batches()?;
        let learnt = self
            .learner
            .update(&batches, &mut Goal::CrossEntropy, rate)?;
        room::note(&learnt, rate, &mut outcome);
        room::note_loads(&learnt, step, &mut outcome);
        if self.room.is_glance(step, self.n_steps()) {
            let model = self.learner.model();
            self.room
                .glance(model, &mut self.roller, GLANCE_TOKENS, &mut outcome)?;
            if let Source::Traces { held_out, .. } = &self.source
                && !held_out.is_empty()
            {
                let steps = held_out.iter().map(|(step, _)| step);
                outcome.metric("held_out_loss", self.learner.loss(steps)?);
            }
        }
        Ok(outcome)
    }

    fn save(&self) -> Result<Vec<File>> {
        artifact::saved(self.room.backend, &self.learner)
    }

    fn restore(&mut self, state: &Checkpoint) -> Result<()> {
        artifact::restore(self.room.backend, &mut self.learner, state)
    }

    fn finish(&mut self) -> Result<Vec<File>> {
        let model = self.learner.model();
        let on = match self.source {
            Source::Traces { .. } => "kept traces",
            Source::Corpus => "the base corpus",
        };
        let card = card::of(self.room, &model.config, &format!("fine-tuned on {on}"))?;
        artifact::finished(self.room.backend, model, self.room.companions, card)
    }
}
