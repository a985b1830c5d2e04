//! Reinforcement learning on checkable answers: groups of samples, compared with each other.
//!
//! One step: draw prompts, sample a group each on the weights that train, judge, make advantages of
//! the rewards, one or more updates. The model sees prompts and verdicts, never a solution. The loss
//! is [`crate::objective`]'s; which one, the recipe says.
//!
//! Departures from DeepSeek-R1: form is a gate of the accuracy reward rather than an addend; by
//! default no division by the group's deviation, a constant token budget as normaliser, no KL, and
//! one update a batch (each a field of the recipe). Groups that drop out for want of signal stay in
//! the normaliser, so that a step with few of them is a smaller step.

use frugal_core::backend::TrainBackend;
use frugal_core::rng::Rng;
use frugal_eval::judge::{Judged, judge};
use frugal_eval::probe::{self, Gate};
use frugal_eval::rewards;
use frugal_eval::task::Problem;
use frugal_model::generate::Sample as Drawn;
use frugal_model::transformer::Model;
use frugal_run::checkpoint::Checkpoint;
use frugal_run::recipe::{GrpoSettings, Normaliser, Overlong, Reward};
use serde_json::json;

use crate::error::{Error, Result};
use crate::experience::{Experience, Terms};
use crate::learner::{Learner, Learnt};
use crate::objective::advantage::has_no_signal;
use crate::objective::policy::Watch;
use crate::objective::preset::Objective;
use crate::rollout::{Cached, Prompt, Roller};
use crate::room::{self, Examinee, Room};
use crate::schedule::Schedule;
use crate::stage::{File, Outcome, Stage};
use crate::{artifact, card};

/// Every so many steps one sample goes into `samples.jsonl`.
const SAMPLE_STEPS: u64 = 5;

/// The stage.
#[derive(Debug)]
pub struct Grpo<'a, B: TrainBackend> {
    room: &'a Room<'a, B>,
    settings: GrpoSettings,
    objective: Objective,
    learner: Learner<'a, B>,
    /// Kept only where the loss has a KL term.
    reference: Option<Model<B::Tensor>>,
    roller: Roller<'a, B>,
    schedule: Schedule,
}

/// A prompt with its judged samples.
struct Group {
    problem: Problem,
    prompt: Prompt,
    samples: Vec<Drawn>,
    judged: Vec<Judged>,
    rewards: Vec<f64>,
}

/// What a step's sampling brought.
#[derive(Default)]
struct Harvest {
    groups: Vec<Group>,
    n_groups: usize,
    n_without_signal: usize,
    /// Over all samples, those of dropped groups included.
    tally: Tally,
}

/// Sums over judged samples.
#[derive(Default)]
struct Tally {
    samples: usize,
    correct: usize,
    in_form: usize,
    finished: usize,
    thinking_tokens: usize,
    tokens: usize,
    self_checks: usize,
    reward: f64,
    consistency: f64,
}

impl<'a, B: TrainBackend> Grpo<'a, B> {
    /// Goes on from `model`.
    ///
    /// # Errors
    /// If the settings are impossible.
    pub fn new(
        room: &'a Room<'a, B>,
        model: Model<B::Tensor>,
        settings: GrpoSettings,
    ) -> Result<Self> {
        let learner_settings =
            room::learner_settings(&settings.optim, 0.0, 0.0, settings.bias_update_speed);
        let n_updates = u64::from(settings.steps) * u64::from(settings.updates_per_batch.max(1));
        Ok(Self {
            roller: room.roller(&model, Cached::AsTrained)?,
            reference: (settings.kl_beta > 0.0).then(|| model.clone()),
            learner: Learner::new(room.backend, model, learner_settings)?,
            schedule: room::schedule(&settings.optim, settings.optim.learning_rate, n_updates)?,
            objective: Objective::of(&settings),
            room,
            settings,
        })
    }

    /// Refuses to begin on a model that cannot yet do what would be rewarded.
    fn gate(&mut self, outcome: &mut Outcome) -> Result<()> {
        let GrpoSettings {
            min_solve_rate,
            min_forced_accuracy,
            gate_problems,
            ..
        } = self.settings;
        if min_solve_rate <= 0.0 && min_forced_accuracy <= 0.0 {
            return Ok(());
        }
        let Room {
            task,
            level,
            mix,
            codec,
            ..
        } = self.room;
        let settings = probe::Settings {
            problems: gate_problems as usize,
            max_new_tokens: self.settings.max_new_tokens as usize,
            seed: Rng::derive(&self.room.key("gate")).next_u64(),
            ..probe::Settings::default()
        };
        let mut examinee = Examinee {
            room: self.room,
            model: self.learner.model(),
            roller: &mut self.roller,
            work: outcome.work,
        };
        let report = probe::probe(*task, (level, mix), (codec, &mut examinee), &settings)?;
        outcome.work = examinee.work;
        outcome.metric("gate", serde_json::to_value(&report).unwrap_or_default());
        let gate = Gate {
            forced_accuracy: min_forced_accuracy,
            careful_rate: 0.0,
            free_accuracy: min_solve_rate,
        };
        let objections = gate.objections(&report);
        if objections.is_empty() {
            Ok(())
        } else {
            Err(Error::Gate {
                stage: self.room.stage.clone(),
                reasons: objections.join("; "),
            })
        }
    }

    /// Draws groups until enough carry a signal or the rounds are used up.
    fn harvest(&mut self, step: u64, outcome: &mut Outcome) -> Result<Harvest> {
        let wanted = self.settings.prompts_per_step as usize;
        let refills = self.settings.refill_rounds;
        let rounds = if self.settings.drop_groups_without_signal {
            refills + 1
        } else {
            1
        };
        let mut harvest = Harvest::default();
        let mut index = 0u64;
        for _ in 0..rounds {
            let missing = wanted.saturating_sub(harvest.groups.len());
            if missing == 0 {
                break;
            }
            let drawn = self.draw_groups(step, index, missing, outcome)?;
            index += missing as u64;
            for group in drawn {
                harvest.n_groups += 1;
                harvest.tally.add(&group);
                let is_dead = has_no_signal(&group.rewards);
                harvest.n_without_signal += usize::from(is_dead);
                if !(is_dead && self.settings.drop_groups_without_signal) {
                    harvest.groups.push(group);
                }
            }
        }
        Ok(harvest)
    }

    fn draw_groups(
        &mut self,
        step: u64,
        first: u64,
        n: usize,
        outcome: &mut Outcome,
    ) -> Result<Vec<Group>> {
        let Room { task, codec, .. } = self.room;
        let n_samples = self.settings.group_size as usize;
        let (problems, prompts) = self
            .room
            .prompts(step, first..first + n as u64, n_samples)?;
        let max_new_tokens = self.settings.max_new_tokens as usize;
        let draw = self.room.draw(self.settings.temperature, max_new_tokens);
        let rollout = self.roller.sample(self.learner.model(), &prompts, &draw)?;
        outcome.work.tokens_generated += rollout.tokens;
        outcome.work.flops_rollout += rollout.flops as f64;
        let mut groups = Vec::new();
        for ((problem, prompt), samples) in problems.into_iter().zip(prompts).zip(rollout.samples) {
            let judged = samples
                .iter()
                .map(|sample| Ok(judge(*task, &problem, &sample.ids, codec)?))
                .collect::<Result<Vec<_>>>()?;
            let rewards = judged
                .iter()
                .zip(&samples)
                .map(|(j, s)| self.reward(j, s))
                .collect();
            groups.push(Group {
                problem,
                prompt,
                samples,
                judged,
                rewards,
            });
        }
        if self.settings.reward == Reward::Random {
            self.toss(step, &mut groups);
        }
        Ok(groups)
    }

    /// Accuracy behind the gate of form, the consistency of the thinking, and the length's due.
    fn reward(&self, judged: &Judged, sample: &Drawn) -> f64 {
        let mut reward = f64::from(judged.accuracy());
        if sample.is_finished {
            reward += self.settings.consistency_weight * judged.consistency;
        }
        if self.settings.overlong == Overlong::Penalty {
            reward += rewards::soft_overlong(
                sample.ids.len(),
                self.settings.max_new_tokens as usize,
                self.settings.overlong_tokens as usize,
            );
        }
        reward
    }

    /// The control: rewards that ignore the answer, as frequent as right answers are now.
    fn toss(&self, step: u64, groups: &mut [Group]) {
        let judged = groups.iter().flat_map(|group| &group.judged);
        let (right, all) = judged.fold((0u32, 0u32), |(right, all), j| {
            (right + u32::from(j.correct), all + 1)
        });
        let rate = right as f32 / all.max(1) as f32;
        for (index, group) in groups.iter_mut().enumerate() {
            let place = [step, index as u64];
            let mut rng = Rng::derive(&[&self.room.key("coin")[..], &place].concat());
            for reward in &mut group.rewards {
                *reward = f64::from(u8::from(rng.uniform() < rate));
            }
        }
    }

    /// One update on some of the groups.
    fn learn(&mut self, groups: &[Group], rate: f64) -> Result<(Learnt, Watch)> {
        let mut experience = Experience::default();
        for group in groups {
            let advantages = self.objective.advantage.of(&group.rewards);
            for (sample, advantage) in group.samples.iter().zip(advantages) {
                let is_masked = self.settings.overlong == Overlong::Mask && !sample.is_finished;
                if !is_masked && !sample.ids.is_empty() {
                    experience.push(&group.prompt.ids, sample, advantage);
                }
            }
        }
        let terms = Terms {
            policy: self.objective.policy,
            temperature: self.settings.temperature,
            reference: self.reference.as_ref(),
            sequences: self.n_sequences(groups, experience.len()),
            rate,
        };
        experience.learn(self.room.backend, &mut self.learner, &terms)
    }

    /// Under a constant budget dropped groups count as groups without gradient, which they are.
    fn n_sequences(&self, groups: &[Group], n_samples: usize) -> usize {
        let parts = u64::from(self.settings.updates_per_batch.max(1));
        let constant = self.settings.samples_per_step() / parts;
        match self.settings.normaliser {
            Normaliser::TokenBudget => {
                let drawn = groups.iter().map(|group| group.samples.len()).sum();
                usize::try_from(constant).unwrap_or(usize::MAX).max(drawn)
            }
            Normaliser::PerToken | Normaliser::PerSequence => n_samples,
        }
    }

    fn refresh_reference(&mut self, step: u64) {
        let every = u64::from(self.settings.reference_refresh_steps);
        if self.reference.is_some() && every > 0 && (step + 1).is_multiple_of(every) {
            self.reference = Some(self.learner.model().clone());
        }
    }

    /// One sample, in words, for whoever wants to see the thinking grow.
    fn example(&self, step: u64, group: &Group) -> Result<Option<serde_json::Value>> {
        let first = group.samples.first().zip(group.rewards.first());
        let Some((sample, reward)) = first.filter(|_| step.is_multiple_of(SAMPLE_STEPS)) else {
            return Ok(None);
        };
        Ok(Some(json!({
            "stage": self.room.stage,
            "step": step,
            "question": group.problem.question,
            "text": self.room.codec.decode(&sample.ids)?,
            "reward": reward,
        })))
    }
}

impl Tally {
    fn add(&mut self, group: &Group) {
        for ((sample, judged), reward) in
            group.samples.iter().zip(&group.judged).zip(&group.rewards)
        {
            self.samples += 1;
            self.correct += usize::from(judged.correct);
            self.in_form += usize::from(judged.in_form);
            self.finished += usize::from(sample.is_finished);
            self.thinking_tokens += judged.thinking_tokens;
            self.tokens += judged.n_tokens;
            self.self_checks += judged.self_checks;
            self.consistency += judged.consistency;
            self.reward += reward;
        }
    }

    fn note(&self, outcome: &mut Outcome) {
        let mean = |sum: f64| sum / self.samples.max(1) as f64;
        outcome.metric("reward", mean(self.reward));
        outcome.metric("accuracy", mean(self.correct as f64));
        outcome.metric("in_form", mean(self.in_form as f64));
        outcome.metric("truncated", 1.0 - mean(self.finished as f64));
        outcome.metric("thinking_tokens", mean(self.thinking_tokens as f64));
        outcome.metric("response_tokens", mean(self.tokens as f64));
        outcome.metric("self_checks", mean(self.self_checks as f64));
        outcome.metric("consistency", mean(self.consistency));
    }
}

impl<B: TrainBackend> Stage for Grpo<'_, B> {
    fn n_steps(&self) -> u64 {
        u64::from(self.settings.steps)
    }

    fn step(&mut self, step: u64) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        if step == 0 {
            self.gate(&mut outcome)?;
        }
        let harvest = self.harvest(step, &mut outcome)?;
        harvest.tally.note(&mut outcome);
        let dead = harvest.n_without_signal as f64 / harvest.n_groups.max(1) as f64;
        outcome.metric("groups_without_signal", dead);
        outcome.metric("groups", harvest.groups.len());
        if let Some(group) = harvest.groups.first()
            && let Some(example) = self.example(step, group)?
        {
            outcome.samples.push(example);
        }
        let updates = self.settings.updates_per_batch.max(1) as usize;
        let per_update = harvest.groups.len().div_ceil(updates).max(1);
        for (index, groups) in harvest.groups.chunks(per_update).enumerate() {
            let rate = self.schedule.at(step * updates as u64 + index as u64);
            let (learnt, watch) = self.learn(groups, rate)?;
            room::note(&learnt, rate, &mut outcome);
            // On policy the surrogate is 0 by construction; what is worth a curve is the rest.
            outcome.metrics.remove("loss");
            outcome.metric("kl", watch.kl());
            outcome.metric("drift", watch.drift());
            outcome.metric("clip_fraction", watch.clip_fraction());
            if index == 0 {
                outcome.metric("largest_log_ratio", watch.largest_log_ratio);
                room::note_loads(&learnt, step, &mut outcome);
            }
        }
        self.refresh_reference(step);
        Ok(outcome)
    }

    fn save(&self) -> Result<Vec<File>> {
        let mut files = artifact::saved(self.room.backend, &self.learner)?;
        if let Some(reference) = &self.reference {
            files.push(artifact::weights_as(
                self.room.backend,
                reference,
                "reference",
            )?);
        }
        Ok(files)
    }

    fn restore(&mut self, state: &Checkpoint) -> Result<()> {
        artifact::restore(self.room.backend, &mut self.learner, state)?;
        if let Some(reference) = &mut self.reference {
            *reference = artifact::open_as(self.room.backend, reference, state, "reference")?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<File>> {
        let model = self.learner.model();
        let how = format!(
            "reinforcement learning for {} steps of {} prompts x {} samples",
            self.settings.steps, self.settings.prompts_per_step, self.settings.group_size
        );
        let card = card::of(self.room, &model.config, &how)?;
        artifact::finished(self.room.backend, model, self.room.companions, card)
    }
}
