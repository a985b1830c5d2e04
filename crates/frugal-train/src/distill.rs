//! Distillation into a student over the same vocabulary: first on the teacher's kept answers, then
//! by the teacher's token distributions on the student's own answers.
//!
//! *Source*: DeepSeek-R1 section 2.4 for the first half (R1 stops there); on-policy distillation as
//! in generalised knowledge distillation, 2306.13649, for the second: full distributions, no sampling
//! of the divergence.

use frugal_core::backend::{Divergence, DivergenceKind, TrainBackend};
use frugal_eval::judge::judge;
use frugal_model::transformer::Model;
use frugal_run::checkpoint::Checkpoint;
use frugal_run::recipe::{DistillSettings, Divergence as DivergenceSetting};

use crate::data::Sample;
use crate::data::epochs::Epochs;
use crate::error::{Error, Result};
use crate::learner::{Goal, Learner};
use crate::rollout::{Cached, Roller};
use crate::room::{self, Room};
use crate::schedule::Schedule;
use crate::stage::{File, Outcome, Stage};
use crate::{artifact, card};

/// Most tokens of a look at the model.
const GLANCE_TOKENS: usize = 224;

/// The stage.
#[derive(Debug)]
pub struct Distill<'a, B: TrainBackend> {
    room: &'a Room<'a, B>,
    settings: DistillSettings,
    epochs: Option<Epochs>,
    teacher: Option<Model<B::Tensor>>,
    learner: Learner<'a, B>,
    roller: Roller<'a, B>,
    sequence_schedule: Schedule,
    on_policy_schedule: Schedule,
}

/// Who teaches whom with what.
#[derive(Debug)]
pub struct Pupil<T> {
    /// The student as it begins.
    pub student: Model<T>,
    /// Needed for on-policy steps.
    pub teacher: Option<Model<T>>,
    /// Needed for sequence-level steps: the teacher's kept answers.
    pub traces: Option<Vec<Sample>>,
}

impl<'a, B: TrainBackend> Distill<'a, B> {
    /// Teaches `pupil.student`.
    ///
    /// # Errors
    /// If teacher or traces are missing for the steps asked for, or vocabularies differ.
    pub fn new(
        room: &'a Room<'a, B>,
        pupil: Pupil<B::Tensor>,
        settings: DistillSettings,
    ) -> Result<Self> {
        let Pupil {
            student,
            teacher,
            traces,
        } = pupil;
        let missing = |reason: &str| Error::Setting {
            place: "distill",
            reason: reason.to_owned(),
        };
        if settings.on_policy_steps > 0 && teacher.is_none() {
            return Err(missing("expected a teacher for on-policy steps, got none"));
        }
        if let Some(teacher) = &teacher
            && teacher.config.vocab_size != student.config.vocab_size
        {
            return Err(missing(
                "expected teacher and student over one vocabulary, got two",
            ));
        }
        let n_rows = settings.tokens_per_step as usize;
        let epochs = match (settings.sequence_steps, traces) {
            (0, _) => None,
            (_, None) => {
                return Err(missing(
                    "expected traces for sequence-level steps, got none",
                ));
            }
            (steps, Some(samples)) => {
                let rows: usize = samples.iter().map(Sample::n_rows).sum();
                let enough = (u64::from(steps) * n_rows as u64).div_ceil(rows.max(1) as u64) + 1;
                Some(Epochs::new(samples, n_rows, enough, &room.key("epochs"))?)
            }
        };
        let optim = &settings.optim;
        let learner_settings = room::learner_settings(optim, 0.0, 0.0, 0.0);
        let on_policy = frugal_run::recipe::OptimSettings {
            warmup_steps: 0,
            ..optim.clone()
        };
        Ok(Self {
            roller: room.roller(&student, Cached::Latent)?,
            learner: Learner::new(room.backend, student, learner_settings)?,
            sequence_schedule: room::schedule(
                optim,
                optim.learning_rate,
                u64::from(settings.sequence_steps),
            )?,
            on_policy_schedule: room::schedule(
                &on_policy,
                settings.on_policy_learning_rate,
                u64::from(settings.on_policy_steps),
            )?,
            room,
            settings,
            epochs,
            teacher,
        })
    }

    fn sequence_step(&mut self, step: u64, outcome: &mut Outcome) -> Result<()> {
        let index = usize::try_from(step).unwrap_or(usize::MAX);
        let batch = match &self.epochs {
            Some(epochs) => epochs.step(index)?,
            None => None,
        };
        let Some(batch) = batch else { return Ok(()) };
        let rate = self.sequence_schedule.at(step);
        let batches = batch.micro_batches()?;
        let learnt = self
            .learner
            .update(&batches, &mut Goal::CrossEntropy, rate)?;
        room::note(&learnt, rate, outcome);
        if self
            .room
            .is_glance(step, u64::from(self.settings.sequence_steps))
        {
            let model = self.learner.model();
            self.room
                .glance(model, &mut self.roller, GLANCE_TOKENS, outcome)?;
        }
        Ok(())
    }

    fn on_policy_step(&mut self, step: u64, outcome: &mut Outcome) -> Result<()> {
        let Room { task, codec, .. } = self.room;
        let n_samples = self.settings.samples_per_prompt as usize;
        let (problems, prompts) = self.room.prompts(
            step,
            0..u64::from(self.settings.prompts_per_step),
            n_samples,
        )?;
        let max_new_tokens = self.settings.max_new_tokens as usize;
        let draw = self.room.draw(self.settings.temperature, max_new_tokens);
        let rollout = self.roller.sample(self.learner.model(), &prompts, &draw)?;
        outcome.work.tokens_generated += rollout.tokens;
        outcome.work.flops_rollout += rollout.flops as f64;
        let mut samples = Vec::new();
        let (mut correct, mut thinking) = (0usize, 0usize);
        for ((problem, prompt), drawn) in problems.iter().zip(&prompts).zip(&rollout.samples) {
            for sample in drawn {
                let judged = judge(*task, problem, &sample.ids, codec)?;
                correct += usize::from(judged.correct);
                thinking += judged.thinking_tokens;
                samples.push(Sample::continued(&prompt.ids, &sample.ids));
            }
        }
        let share = |count: usize| count as f64 / samples.len().max(1) as f64;
        outcome.metric("accuracy", share(correct));
        outcome.metric("thinking_tokens", share(thinking));
        let Some(teacher) = &self.teacher else {
            return Ok(());
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "divergences are formed in f32"
        )]
        let kind = match self.settings.divergence {
            DivergenceSetting::ReverseKl => DivergenceKind::Reverse,
            DivergenceSetting::ForwardKl => DivergenceKind::Forward,
            DivergenceSetting::Jsd => DivergenceKind::JensenShannon {
                beta: self.settings.jsd_beta as f32,
            },
        };
        let divergence = Divergence {
            kind,
            temperature: 1.0,
        };
        let steps: Vec<_> = room::micro_batches(&samples)?
            .into_iter()
            .map(|(step, _)| step)
            .collect();
        let rate = self.on_policy_schedule.at(step);
        let mut goal = Goal::Divergence {
            teacher,
            divergence,
        };
        let learnt = self.learner.update(&steps, &mut goal, rate)?;
        room::note(&learnt, rate, outcome);
        let loss = outcome.metrics.remove("loss").unwrap_or_default();
        outcome.metric("divergence", loss);
        Ok(())
    }
}

impl<B: TrainBackend> Stage for Distill<'_, B> {
    fn n_steps(&self) -> u64 {
        u64::from(self.settings.sequence_steps) + u64::from(self.settings.on_policy_steps)
    }

    fn step(&mut self, step: u64) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        match step.checked_sub(u64::from(self.settings.sequence_steps)) {
            None => self.sequence_step(step, &mut outcome)?,
            Some(step) => self.on_policy_step(step, &mut outcome)?,
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
        let how = format!(
            "distilled: {} steps on the teacher's answers, {} on its own",
            self.settings.sequence_steps, self.settings.on_policy_steps
        );
        let card = card::of(self.room, &model.config, &how)?;
        artifact::finished(self.room.backend, model, self.room.companions, card)
    }
}
