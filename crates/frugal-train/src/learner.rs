//! A model that learns: forward, loss, backward, update, balance; and what each update costs.
//!
//! An update sees one or more micro-batches ([`Step`]); their gradients add up before the parameters
//! move, so that memory is that of the largest micro-batch. What is learnt is a [`Goal`]. The same
//! forward is run a second time on [`Meter`], which carries no numbers, to price the update.
//!
//! Which samples make up a step, and when to stop, is the stage's affair.

use std::rc::Rc;

use frugal_core::backend::{Backend, Divergence, Head, TrainBackend};
use frugal_core::dtype::Data;
use frugal_core::meter::{Ghost, Meter};
use frugal_core::shape::{Rows, Shape};
use frugal_model::config::ModelConfig;
use frugal_model::params::{Params, Role, Spec};
use frugal_model::transformer::{self, Model};
use frugal_model::{mtp, transformer::Step as ModelStep};

use crate::balance::{max_violation, move_bias};
use crate::data::{MtpStep, Step};
use crate::error::Result;
use crate::optim::{Optimizer, Settings};
use crate::tape::{Grads, Policy, SequenceBalance, Tape, Var};

/// What stays the same from update to update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearnerSettings {
    /// The optimiser.
    pub optim: Settings,
    /// Weight of the multi-token-prediction loss; 0 leaves that layer alone.
    pub mtp_weight: f64,
    /// Weight of the sequence-wise balance loss.
    pub balance_alpha: f64,
    /// Step by which a router's selection bias moves against the load; 0 leaves it alone.
    pub bias_update_speed: f64,
}

/// Given a micro-batch's index and its log-probabilities, d loss / d log-probability.
pub type PolicyLoss<'a> = dyn FnMut(usize, &[f32]) -> Result<Vec<f32>> + 'a;

/// Outputs of a forward with d loss / d output.
type Seeds<'o, T> = Vec<(&'o Var<T>, T)>;

/// What an update minimises.
pub enum Goal<'a, T> {
    /// The mean cross-entropy of the learnt targets, plus the MTP loss.
    CrossEntropy,
    /// Whatever `loss` makes of the log-probabilities of the learnt targets.
    Policy {
        /// Divides the logits, as when the tokens were drawn.
        temperature: f32,
        /// What to make of the log-probabilities.
        loss: &'a mut PolicyLoss<'a>,
    },
    /// The mean divergence from a teacher over the learnt targets' rows.
    Divergence {
        /// The teacher, over the same vocabulary.
        teacher: &'a Model<T>,
        /// Which divergence.
        divergence: Divergence,
    },
}

impl<T> std::fmt::Debug for Goal<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::CrossEntropy => "CrossEntropy",
            Self::Policy { .. } => "Policy",
            Self::Divergence { .. } => "Divergence",
        })
    }
}

/// What an update did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Learnt {
    /// Mean cross-entropy or divergence of the learnt targets, in nats; for a policy goal the mean
    /// negative log-probability.
    pub loss: f64,
    /// The MTP loss, without its weight; 0 where there is none.
    pub mtp_loss: f64,
    /// The balance loss, its weight included.
    pub balance_loss: f64,
    /// Mean entropy of the predictions at the learnt targets, in nats; 0 for a divergence.
    pub entropy: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Whether the parameters moved: they do not when the norm is not finite.
    pub is_applied: bool,
    /// How far the fullest expert of any layer was above its mean load; 0 is perfect balance.
    pub max_violation: f64,
    /// For each routing, in order of the layers, the rows every expert received.
    pub loads: Vec<Vec<u64>>,
    /// Rows computed.
    pub tokens: u64,
    /// Model FLOPs of the forward.
    pub forward_flops: u64,
    /// Model FLOPs of the backward.
    pub backward_flops: u64,
}

/// A model, its gradients and its optimiser.
#[derive(Debug)]
pub struct Learner<'b, B: TrainBackend> {
    backend: &'b B,
    model: Model<B::Tensor>,
    optimizer: Optimizer<B::Tensor>,
    grads: Grads<B::Tensor>,
    settings: LearnerSettings,
    /// The leaf of each routing's selection bias, in the order of the routings; none in V2.
    biases: Vec<usize>,
    pricer: Pricer,
}

impl<'b, B: TrainBackend> Learner<'b, B> {
    /// A learner that begins with `model` and fresh moments.
    ///
    /// # Errors
    /// If the back-end cannot hold the moments.
    pub fn new(backend: &'b B, model: Model<B::Tensor>, settings: LearnerSettings) -> Result<Self> {
        let specs = Params::<Spec>::spec(&model.config)?;
        let leaves = specs.leaves();
        let biases = leaves
            .iter()
            .enumerate()
            .filter(|(_, spec)| spec.role == Role::RouterBias)
            .map(|(leaf, _)| leaf)
            .collect();
        let n_positions = backend.shape(&model.rope).rows();
        Ok(Self {
            backend,
            optimizer: Optimizer::new(backend, leaves.iter().copied(), settings.optim)?,
            grads: Grads::new(leaves.len()),
            settings,
            biases,
            pricer: Pricer::new(&model.config, n_positions, settings.optim)?,
            model,
        })
    }

    /// The model as it is now.
    pub const fn model(&self) -> &Model<B::Tensor> {
        &self.model
    }

    /// Most bytes that the last update's forward and backward kept by the meter's count, with the
    /// weights, their gradients and the optimiser's moments. None before the first update.
    pub fn forecast_bytes(&self) -> u64 {
        self.pricer.meter.price().peak_bytes
    }

    /// The optimiser, to save its state.
    pub const fn optimizer(&self) -> &Optimizer<B::Tensor> {
        &self.optimizer
    }

    /// Takes up a saved model and optimiser state.
    ///
    /// # Errors
    /// If the state does not fit this model.
    pub fn restore(&mut self, model: Model<B::Tensor>, state: &crate::optim::State) -> Result<()> {
        self.optimizer.restore(self.backend, state)?;
        self.model = model;
        Ok(())
    }

    /// One update over `steps` at `rate`.
    ///
    /// # Errors
    /// If a step does not fit the model, or the goal's loss refuses.
    pub fn update(
        &mut self,
        steps: &[Step],
        goal: &mut Goal<'_, B::Tensor>,
        rate: f64,
    ) -> Result<Learnt> {
        self.grads.clear(self.backend)?;
        let mut learnt = Learnt::default();
        let mtp_steps = self.mtp_steps(steps, goal)?;
        let n_learnt: usize = steps.iter().map(Step::n_learnt).sum();
        let is_learnt = |weight: &&f32| **weight > 0.0;
        let n_mtp: usize = mtp_steps
            .iter()
            .map(|step| step.weights.iter().filter(is_learnt).count())
            .sum();
        let n_rows: usize = steps.iter().map(|step| step.rows.n_rows()).sum();
        for (index, step) in steps.iter().enumerate() {
            let part = Part {
                step,
                mtp: mtp_steps.get(index),
                n_learnt,
                n_mtp,
                share: step.rows.n_rows() as f64 / n_rows.max(1) as f64,
            };
            self.backward(index, &part, goal, &mut learnt)?;
        }
        learnt.loss /= n_learnt.max(1) as f64;
        learnt.mtp_loss /= n_mtp.max(1) as f64;
        learnt.entropy /= n_learnt.max(1) as f64;
        learnt.max_violation = learnt
            .loads
            .iter()
            .map(|l| max_violation(l))
            .fold(0.0, f64::max);
        #[expect(clippy::cast_possible_truncation, reason = "updates are formed in f32")]
        let rate = rate as f32;
        let mut params = self.model.params.leaves_mut();
        let update = self
            .optimizer
            .step(self.backend, &mut params, &self.grads, rate)?;
        learnt.gradient_norm = update.gradient_norm;
        learnt.is_applied = update.is_applied;
        if update.is_applied {
            self.move_biases(&learnt.loads)?;
        }
        Ok(learnt)
    }

    /// The mean cross-entropy of the learnt targets, without learning.
    ///
    /// # Errors
    /// If a step does not fit the model.
    pub fn loss<'s>(&self, steps: impl Iterator<Item = &'s Step>) -> Result<f64> {
        let (mut sum, mut n) = (0.0, 0usize);
        for step in steps {
            let rows = ModelStep {
                ids: &step.ids,
                rows: &step.rows,
            };
            let hidden = transformer::hidden(self.backend, &self.model, &rows, None)?;
            let (chosen, targets) = step.learnt();
            let hidden = self.backend.gather(&hidden, &chosen)?;
            let head = Head {
                hidden: &hidden,
                weight: transformer::head(&self.model),
            };
            let log_probs = self.backend.log_prob(head, &targets, 1.0)?.log_prob;
            sum -= self
                .backend
                .get(&log_probs)?
                .iter()
                .map(|l| f64::from(*l))
                .sum::<f64>();
            n += targets.len();
        }
        Ok(sum / n.max(1) as f64)
    }

    /// The MTP layer is trained by cross-entropy only; policy goals leave it as it is.
    fn mtp_steps(&self, steps: &[Step], goal: &Goal<'_, B::Tensor>) -> Result<Vec<MtpStep>> {
        let has_mtp = self.model.params.mtp.is_some() && self.settings.mtp_weight > 0.0;
        match goal {
            Goal::CrossEntropy if has_mtp => steps.iter().map(Step::mtp).collect(),
            _ => Ok(Vec::new()),
        }
    }

    /// Forward and backward of one micro-batch, into the gradients.
    fn backward(
        &mut self,
        index: usize,
        part: &Part<'_>,
        goal: &mut Goal<'_, B::Tensor>,
        learnt: &mut Learnt,
    ) -> Result<()> {
        let teacher = match goal {
            Goal::Divergence {
                teacher,
                divergence,
            } => {
                learnt.forward_flops += Pricer::forward(&teacher.config, part.step)?;
                Some(Teacher::read(
                    self.backend,
                    teacher,
                    part.step,
                    *divergence,
                )?)
            }
            Goal::CrossEntropy | Goal::Policy { .. } => None,
        };
        let temperature = match goal {
            Goal::Policy { temperature, .. } => *temperature,
            _ => 1.0,
        };
        let tape = Tape::new(self.backend, Policy::default());
        let outputs = {
            let forward = Forward {
                part,
                temperature,
                teacher: teacher.as_ref(),
                balance_alpha: self.settings.balance_alpha,
            };
            forward.run(&tape, &self.model)?
        };
        let seeds = self.seeds(index, part, goal, &outputs, learnt)?;
        learnt.balance_loss += tape
            .balance_losses()
            .iter()
            .map(|l| f64::from(*l))
            .sum::<f64>();
        add_loads(&mut learnt.loads, &tape.loads()?);
        let seeded: Vec<_> = seeds
            .iter()
            .map(|(var, seed)| (*var, seed.clone()))
            .collect();
        tape.backward(&seeded, &mut self.grads)?;
        let (forward, backward) =
            self.pricer
                .update(part, teacher.as_ref().map(|t| t.divergence), temperature)?;
        learnt.tokens += part.step.rows.n_rows() as u64;
        learnt.forward_flops += forward;
        learnt.backward_flops += backward;
        Ok(())
    }

    /// d loss / d output of each output, and the loss's parts into `learnt`.
    fn seeds<'o>(
        &self,
        index: usize,
        part: &Part<'_>,
        goal: &mut Goal<'_, B::Tensor>,
        outputs: &'o Outputs<Var<B::Tensor>>,
        learnt: &mut Learnt,
    ) -> Result<Seeds<'o, B::Tensor>> {
        let get = |var: &Var<B::Tensor>| self.backend.get(var.value());
        let put = |seed: &[f32]| self.backend.put(Shape::vector(seed.len()), Data::F32(seed));
        let total = |values: &[f32]| values.iter().map(|v| f64::from(*v)).sum::<f64>();
        let values = get(&outputs.main)?;
        let n_learnt = part.n_learnt.max(1) as f32;
        let seed = match goal {
            Goal::CrossEntropy => {
                learnt.loss -= total(&values);
                vec![-1.0 / n_learnt; values.len()]
            }
            Goal::Policy { loss, .. } => {
                learnt.loss -= total(&values);
                loss(index, &values)?
            }
            Goal::Divergence { .. } => {
                learnt.loss += total(&values);
                vec![1.0 / n_learnt; values.len()]
            }
        };
        let mut seeds = vec![(&outputs.main, put(&seed)?)];
        if let Some(entropy) = &outputs.entropy {
            learnt.entropy += total(&get(entropy)?);
        }
        if let (Some(extra), Some(step)) = (&outputs.mtp, part.mtp) {
            let values = get(extra)?;
            let weighed = values
                .iter()
                .zip(&step.weights)
                .map(|(v, w)| f64::from(v * w));
            learnt.mtp_loss -= weighed.sum::<f64>();
            #[expect(clippy::cast_possible_truncation, reason = "seeds are f32")]
            let weight = self.settings.mtp_weight as f32;
            let seed: Vec<f32> = step
                .mean_seed(part.n_mtp)
                .iter()
                .map(|s| s * weight)
                .collect();
            seeds.push((extra, put(&seed)?));
        }
        Ok(seeds)
    }

    fn move_biases(&mut self, loads: &[Vec<u64>]) -> Result<()> {
        #[expect(clippy::cast_possible_truncation, reason = "biases are f32")]
        let speed = self.settings.bias_update_speed as f32;
        if speed <= 0.0 || self.biases.is_empty() {
            return Ok(());
        }
        let mut leaves = self.model.params.leaves_mut();
        // A step without the MTP layer has one routing less than there are biases.
        for (leaf, loads) in self.biases.iter().zip(loads) {
            let Some(bias) = leaves.get_mut(*leaf) else {
                continue;
            };
            let mut values = self.backend.get(bias)?;
            move_bias(&mut values, loads, speed)?;
            **bias = self
                .backend
                .put(Shape::vector(values.len()), Data::F32(&values))?;
        }
        Ok(())
    }
}

/// Adds a micro-batch's loads to those of the update.
fn add_loads(loads: &mut Vec<Vec<u64>>, more: &[Vec<u32>]) {
    loads.resize_with(more.len().max(loads.len()), Vec::new);
    for (sum, more) in loads.iter_mut().zip(more) {
        sum.resize(more.len(), 0);
        sum.iter_mut()
            .zip(more)
            .for_each(|(sum, more)| *sum += u64::from(*more));
    }
}

/// One micro-batch of an update.
struct Part<'a> {
    step: &'a Step,
    mtp: Option<&'a MtpStep>,
    /// Learnt targets of the whole update.
    n_learnt: usize,
    /// The same of the MTP layer.
    n_mtp: usize,
    /// Its share of the update's rows: the balance loss is a mean over sequences.
    share: f64,
}

/// A teacher's hidden states at the learnt targets.
struct Teacher<T> {
    hidden: T,
    weight: T,
    divergence: Divergence,
}

impl<T: Clone> Teacher<T> {
    fn read<B: Backend<Tensor = T>>(
        backend: &B,
        model: &Model<T>,
        step: &Step,
        divergence: Divergence,
    ) -> Result<Self> {
        let rows = ModelStep {
            ids: &step.ids,
            rows: &step.rows,
        };
        let hidden = transformer::hidden(backend, model, &rows, None)?;
        let (chosen, _) = step.learnt();
        Ok(Self {
            hidden: backend.gather(&hidden, &chosen)?,
            weight: transformer::head(model).clone(),
            divergence,
        })
    }
}

/// What a forward leaves to seed.
struct Outputs<T> {
    /// `[n learnt]`: log-probabilities, or divergences.
    main: T,
    entropy: Option<T>,
    /// `[T']`: log-probabilities of the MTP layer.
    mtp: Option<T>,
}

/// A forward with its loss, over whichever back-end the tape records.
struct Forward<'a, T> {
    part: &'a Part<'a>,
    temperature: f32,
    teacher: Option<&'a Teacher<T>>,
    balance_alpha: f64,
}

impl<T: Clone + std::fmt::Debug> Forward<'_, T> {
    fn run<B: TrainBackend<Tensor = T>>(
        &self,
        tape: &Tape<'_, B>,
        model: &Model<T>,
    ) -> Result<Outputs<Var<T>>> {
        let model = Model {
            config: model.config.clone(),
            params: model.params.map(|tensor| tape.leaf(tensor.clone())),
            rope: tape.constant(model.rope.clone()),
        };
        let step = self.part.step;
        tape.set_policy(self.policy(&step.rows));
        let rows = ModelStep {
            ids: &step.ids,
            rows: &step.rows,
        };
        let hidden = transformer::hidden(tape, &model, &rows, None)?;
        let weight = transformer::head(&model);
        let (chosen, targets) = step.learnt();
        let at_targets = tape.gather(&hidden, &chosen)?;
        let student = Head {
            hidden: &at_targets,
            weight,
        };
        let (main, entropy) = if let Some(teacher) = self.teacher {
            let (hidden, weight) = (
                tape.constant(teacher.hidden.clone()),
                tape.constant(teacher.weight.clone()),
            );
            let teacher_head = Head {
                hidden: &hidden,
                weight: &weight,
            };
            (
                tape.divergence(student, teacher_head, teacher.divergence)?,
                None,
            )
        } else {
            let read = tape.log_prob(student, &targets, self.temperature)?;
            (read.log_prob, Some(read.entropy))
        };
        let mtp = match self.part.mtp {
            Some(step) => {
                tape.set_policy(self.policy(&step.rows));
                let from = tape.gather(&hidden, &step.from)?;
                let extra = mtp::hidden(tape, &model, &from, &step.next_ids, &step.rows)?;
                let head = Head {
                    hidden: &extra,
                    weight,
                };
                Some(tape.log_prob(head, &step.targets, 1.0)?.log_prob)
            }
            None => None,
        };
        Ok(Outputs { main, entropy, mtp })
    }

    fn policy(&self, rows: &frugal_core::shape::Rows) -> Policy {
        #[expect(clippy::cast_possible_truncation, reason = "losses are formed in f32")]
        let alpha = (self.balance_alpha * self.part.share) as f32;
        let balance = (alpha > 0.0).then(|| SequenceBalance {
            alpha,
            rows: Rc::new(rows.clone()),
        });
        Policy { balance }
    }
}

/// The model as shapes, to price what the learner does.
#[derive(Debug)]
struct Pricer {
    meter: Meter,
    model: Model<Ghost>,
    grads: Grads<Ghost>,
    /// Its moments are alive all the time.
    _optimizer: Optimizer<Ghost>,
    /// The last micro-batch, and its price: most are alike.
    last: Option<(Priced, (u64, u64))>,
}

/// What the price of a micro-batch follows from.
#[derive(Debug, PartialEq)]
struct Priced {
    rows: Rows,
    n_learnt: usize,
    has_mtp: bool,
    divergence: Option<Divergence>,
}

impl Pricer {
    fn new(config: &ModelConfig, n_positions: usize, optim: Settings) -> Result<Self> {
        let meter = Meter::new();
        let model = ghost_model(&meter, config, n_positions)?;
        let specs = Params::<Spec>::spec(config)?;
        let optimizer = Optimizer::new(&meter, specs.leaves(), optim)?;
        let grads = Grads::new(model.params.leaves().len());
        Ok(Self {
            meter,
            model,
            grads,
            _optimizer: optimizer,
            last: None,
        })
    }

    /// Model FLOPs (forward, backward) of a micro-batch.
    fn update(
        &mut self,
        part: &Part<'_>,
        divergence: Option<Divergence>,
        temperature: f32,
    ) -> Result<(u64, u64)> {
        let asked = Priced {
            rows: part.step.rows.clone(),
            n_learnt: part.step.n_learnt(),
            has_mtp: part.mtp.is_some(),
            divergence,
        };
        if let Some((last, price)) = &self.last
            && *last == asked
        {
            return Ok(*price);
        }
        let n_chosen = asked.n_learnt;
        let head = transformer::head(&self.model);
        // The teacher's width only enters the price of its own forward; its head has the student's.
        let teacher = match divergence {
            Some(divergence) => Some(Teacher {
                hidden: self
                    .meter
                    .zeros(Shape::matrix(n_chosen, self.model.config.hidden_size))?,
                weight: head.clone(),
                divergence,
            }),
            None => None,
        };
        self.meter.reset();
        let tape = Tape::new(&self.meter, Policy::default());
        let forward = Forward {
            part,
            temperature,
            teacher: teacher.as_ref(),
            balance_alpha: 0.0,
        };
        let outputs = forward.run(&tape, &self.model)?;
        let forward_flops = self.meter.price().model_flops();
        let mut seeds = vec![(&outputs.main, outputs.main.value().clone())];
        if let Some(extra) = &outputs.mtp {
            seeds.push((extra, extra.value().clone()));
        }
        tape.backward(&seeds, &mut self.grads)?;
        let price = (
            forward_flops,
            self.meter.price().model_flops() - forward_flops,
        );
        self.last = Some((asked, price));
        Ok(price)
    }

    /// Model FLOPs of a forward without a loss.
    fn forward(config: &ModelConfig, step: &Step) -> Result<u64> {
        let meter = Meter::new();
        let n_positions = step
            .rows
            .positions()
            .iter()
            .max()
            .map_or(1, |p| *p as usize + 1);
        let model = ghost_model(&meter, config, n_positions)?;
        let rows = ModelStep {
            ids: &step.ids,
            rows: &step.rows,
        };
        transformer::hidden(&meter, &model, &rows, None)?;
        Ok(meter.price().model_flops())
    }
}

/// A model of shapes.
pub(crate) fn ghost_model(
    meter: &Meter,
    config: &ModelConfig,
    n_positions: usize,
) -> Result<Model<Ghost>> {
    let params = Params::<Spec>::spec(config)?.try_map(|spec| meter.zeros(spec.shape))?;
    Ok(Model::new(meter, config.clone(), params, n_positions)?)
}
