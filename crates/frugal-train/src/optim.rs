//! The optimiser: AdamW, or Muon on matrices with AdamW on the rest, behind one clip of the global norm.
//!
//! Parameters are a flat list in the fixed order of their tree; what each is for decides its rule:
//!
//! | Role | AdamW | with Muon | decays |
//! |---|---|---|---|
//! | matrices, experts | AdamW | Muon | yes |
//! | embedding, head, router | AdamW | AdamW | yes |
//! | norms, biases | AdamW | AdamW | no |
//! | router's selection bias | untouched: [`crate::balance`] moves it | | |
//!
//! The arithmetic of an update is the back-end's; the schedule is [`crate::schedule`]'s.

use frugal_core::backend::{AdamW, Muon, TrainBackend};
use frugal_core::dtype::Data;
use frugal_core::shape::Shape;
use frugal_model::params::{Role, Spec};

use crate::error::{Error, Result};
use crate::tape::Grads;

/// Settings of an optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Decay of AdamW's first moment.
    pub beta1: f32,
    /// Decay of AdamW's second moment.
    pub beta2: f32,
    /// Added to the root of AdamW's second moment.
    pub epsilon: f32,
    /// Decoupled decay, multiplied by the learning rate.
    pub weight_decay: f32,
    /// The largest global norm of a gradient; a larger one is scaled down to it.
    pub clip_norm: Option<f64>,
    /// Muon for matrices; AdamW for all if none.
    pub muon: Option<MuonSettings>,
}

/// Settings of the matrices under Muon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonSettings {
    /// Decay of the momentum.
    pub momentum: f32,
    /// Its learning rate as a multiple of AdamW's. Updates are brought to AdamW's size, so 1 is right
    /// unless an experiment says otherwise. *Source*: Moonlight, 2502.16982.
    pub rate_factor: f32,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// The global norm before clipping.
    pub gradient_norm: f64,
    /// What the gradient was multiplied by; 1 where it was not clipped.
    pub gradient_scale: f32,
    /// Whether parameters moved. They do not where the norm is not finite: one bad batch must not
    /// end a run.
    pub is_applied: bool,
}

/// A tensor of a saved state.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// The parameter's name and the moment's.
    pub name: String,
    /// The parameter's shape.
    pub shape: Shape,
    /// The numbers, exactly.
    pub values: Vec<f32>,
}

/// All that a resumed run needs of an optimiser.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Updates applied so far.
    pub step: u64,
    /// The moments, in the order of the parameters.
    pub tensors: Vec<NamedTensor>,
}

#[derive(Debug)]
enum Moments<T> {
    None,
    AdamW { first: T, second: T },
    Muon { momentum: T },
}

impl<T> Moments<T> {
    /// Each with the end of its name.
    fn named(&self) -> Vec<(&'static str, &T)> {
        match self {
            Self::None => Vec::new(),
            Self::AdamW { first, second } => vec![("first", first), ("second", second)],
            Self::Muon { momentum } => vec![("momentum", momentum)],
        }
    }

    fn named_mut(&mut self) -> Vec<(&'static str, &mut T)> {
        match self {
            Self::None => Vec::new(),
            Self::AdamW { first, second } => vec![("first", first), ("second", second)],
            Self::Muon { momentum } => vec![("momentum", momentum)],
        }
    }
}

#[derive(Debug)]
struct Entry<T> {
    name: String,
    shape: Shape,
    weight_decay: f32,
    moments: Moments<T>,
}

/// The moments of all parameters, and how to move them.
#[derive(Debug)]
pub struct Optimizer<T> {
    settings: Settings,
    entries: Vec<Entry<T>>,
    step: u64,
}

impl<T> Optimizer<T> {
    /// An optimiser that has seen nothing, for parameters in the order of `specs`.
    ///
    /// *Cost*: two numbers for each parameter under AdamW, one under Muon.
    ///
    /// # Errors
    /// If the back-end cannot hold the moments.
    pub fn new<'s, B: TrainBackend<Tensor = T>>(
        backend: &B,
        specs: impl IntoIterator<Item = &'s Spec>,
        settings: Settings,
    ) -> Result<Self> {
        let entry = |spec: &Spec| -> Result<Entry<T>> {
            let zeros = || backend.zeros(spec.shape);
            let (moments, decays) = match (spec.role, settings.muon) {
                (Role::RouterBias, _) => (Moments::None, false),
                (Role::Matrix | Role::Experts, Some(_)) => {
                    let momentum = zeros()?;
                    (Moments::Muon { momentum }, true)
                }
                (role, _) => {
                    let (first, second) = (zeros()?, zeros()?);
                    let decays = !matches!(role, Role::Norm | Role::Bias);
                    (Moments::AdamW { first, second }, decays)
                }
            };
            Ok(Entry {
                name: spec.name.clone(),
                shape: spec.shape,
                weight_decay: if decays { settings.weight_decay } else { 0.0 },
                moments,
            })
        };
        Ok(Self {
            settings,
            entries: specs.into_iter().map(entry).collect::<Result<_>>()?,
            step: 0,
        })
    }

    /// Updates applied so far.
    #[must_use]
    pub const fn step_count(&self) -> u64 {
        self.step
    }

    /// Moves `params` against `grads`, both in the order of the specs. A parameter that no gradient
    /// reached stays as it is and does not decay.
    ///
    /// # Errors
    /// If the lists have other lengths than the specs, or the back-end refuses a shape.
    pub fn step<B: TrainBackend<Tensor = T>>(
        &mut self,
        backend: &B,
        params: &mut [&mut T],
        grads: &Grads<T>,
        learning_rate: f32,
    ) -> Result<Update> {
        for (what, got) in [("parameters", params.len()), ("gradients", grads.len())] {
            if got != self.entries.len() {
                return Err(Error::Length {
                    place: "optimiser",
                    what,
                    expected: self.entries.len(),
                    got,
                });
            }
        }
        // What the optimiser leaves alone must not count in the norm either.
        let moved = |(leaf, entry): (usize, &Entry<T>)| match entry.moments {
            Moments::None => None,
            _ => grads.get(leaf),
        };
        let gradients: Vec<&T> = self.entries.iter().enumerate().filter_map(moved).collect();
        let gradient_norm = backend.norm_squared(&gradients)?.sqrt();
        if !gradient_norm.is_finite() {
            return Ok(Update {
                gradient_norm,
                gradient_scale: 0.0,
                is_applied: false,
            });
        }
        let gradient_scale = self.gradient_scale(gradient_norm);
        self.step += 1;
        let rates = Rates {
            learning_rate,
            gradient_scale,
            step: self.step,
        };
        for (leaf, (entry, param)) in self.entries.iter_mut().zip(params).enumerate() {
            if let Some(gradient) = grads.get(leaf) {
                entry.update(backend, &self.settings, param, gradient, rates)?;
            }
        }
        Ok(Update {
            gradient_norm,
            gradient_scale,
            is_applied: true,
        })
    }

    fn gradient_scale(&self, norm: f64) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "updates are formed in f32")]
        match self.settings.clip_norm {
            Some(limit) if norm > limit => (limit / norm) as f32,
            _ => 1.0,
        }
    }

    /// Copies the state out, exactly.
    ///
    /// # Errors
    /// If the back-end cannot read its tensors.
    pub fn state<B: TrainBackend<Tensor = T>>(&self, backend: &B) -> Result<State> {
        let mut tensors = Vec::new();
        for entry in &self.entries {
            for (moment, tensor) in entry.moments.named() {
                tensors.push(NamedTensor {
                    name: format!("{}.{moment}", entry.name),
                    shape: entry.shape,
                    values: backend.get(tensor)?,
                });
            }
        }
        Ok(State {
            step: self.step,
            tensors,
        })
    }

    /// Takes a state up again; nothing changes unless all of it fits.
    ///
    /// # Errors
    /// If tensors are missing, too many, in another order or of another shape than this optimiser's.
    pub fn restore<B: TrainBackend<Tensor = T>>(
        &mut self,
        backend: &B,
        state: &State,
    ) -> Result<()> {
        let refuse = |reason: String| Error::State { reason };
        let mut tensors = state.tensors.iter();
        let mut loaded = Vec::with_capacity(state.tensors.len());
        for entry in &self.entries {
            for (moment, _) in entry.moments.named() {
                let name = format!("{}.{moment}", entry.name);
                let tensor = tensors
                    .next()
                    .ok_or_else(|| refuse(format!("expected {name}, got the end of the state")))?;
                if tensor.name != name || tensor.shape != entry.shape {
                    return Err(refuse(format!(
                        "expected {name} {}, got {} {}",
                        entry.shape, tensor.name, tensor.shape
                    )));
                }
                loaded.push(backend.put(tensor.shape, Data::F32(&tensor.values))?);
            }
        }
        if let Some(extra) = tensors.next() {
            return Err(refuse(format!(
                "expected no more tensors, got {}",
                extra.name
            )));
        }
        let moments = self.entries.iter_mut().map(|e| e.moments.named_mut());
        for ((_, moment), tensor) in moments.flatten().zip(loaded) {
            *moment = tensor;
        }
        self.step = state.step;
        Ok(())
    }
}

/// What one step has in common for all parameters.
#[derive(Debug, Clone, Copy)]
struct Rates {
    learning_rate: f32,
    gradient_scale: f32,
    step: u64,
}

impl<T> Entry<T> {
    fn update<B: TrainBackend<Tensor = T>>(
        &mut self,
        backend: &B,
        settings: &Settings,
        param: &mut T,
        gradient: &T,
        rates: Rates,
    ) -> Result<()> {
        match (&mut self.moments, settings.muon) {
            (Moments::AdamW { first, second }, _) => {
                let step = AdamW {
                    learning_rate: rates.learning_rate,
                    beta1: settings.beta1,
                    beta2: settings.beta2,
                    epsilon: settings.epsilon,
                    weight_decay: self.weight_decay,
                    step: rates.step,
                    gradient_scale: rates.gradient_scale,
                };
                backend.adamw(param, gradient, [first, second], &step)?;
            }
            (Moments::Muon { momentum }, Some(muon)) => {
                let step = Muon {
                    learning_rate: rates.learning_rate * muon.rate_factor,
                    momentum: muon.momentum,
                    weight_decay: self.weight_decay,
                    gradient_scale: rates.gradient_scale,
                };
                backend.muon(param, gradient, momentum, &step)?;
            }
            // Without Muon settings no entry has a momentum.
            (Moments::None | Moments::Muon { .. }, _) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use frugal_core::backend::{Backend, Linear, Product};
    use frugal_core::reference::{HostTensor, Reference};
    use frugal_core::rng::Rng;

    use super::*;
    use crate::tape::{Policy, Tape};

    fn spec(name: &str, shape: Shape, role: Role) -> Spec {
        Spec {
            name: name.into(),
            shape,
            role,
            is_output: false,
        }
    }

    fn specs() -> [Spec; 4] {
        [
            spec("matrix", Shape::matrix(3, 2), Role::Matrix),
            spec("bias", Shape::vector(3), Role::Bias),
            spec("head", Shape::matrix(2, 3), Role::Head),
            spec("router.bias", Shape::vector(3), Role::RouterBias),
        ]
    }

    fn settings() -> Settings {
        Settings {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: Some(1.0),
            muon: None,
        }
    }

    struct Run {
        params: Vec<HostTensor>,
        optimizer: Optimizer<HostTensor>,
    }

    impl Run {
        fn new(settings: Settings) -> Self {
            let specs = specs();
            let mut rng = Rng::derive(&[1]);
            let params = specs
                .iter()
                .map(|spec| {
                    let values = rng.normals(spec.shape.elements(), 1.0);
                    Reference.put(spec.shape, Data::F32(&values)).unwrap()
                })
                .collect();
            Self {
                params,
                optimizer: Optimizer::new(&Reference, &specs, settings).unwrap(),
            }
        }

        /// The gradient of <seed, head (matrix x + bias)> over two rows.
        fn grads(&self, scale: f32) -> Grads<HostTensor> {
            let tape = Tape::new(&Reference, Policy::default());
            let leaves: Vec<_> = self.params.iter().map(|p| tape.leaf(p.clone())).collect();
            let rows = Data::F32(&[1.0, -2.0, 0.5, 3.0]);
            let x = tape.put(Shape::matrix(2, 2), rows).unwrap();
            let linear = |weight, bias| Linear {
                weight,
                bias,
                product: Product::Policy,
            };
            let y = tape
                .linear(&x, linear(&leaves[0], Some(&leaves[1])))
                .unwrap();
            let y = tape.linear(&y, linear(&leaves[2], None)).unwrap();
            let seed = [scale, -scale, 0.5 * scale, scale];
            let seed = Reference.put(Shape::matrix(2, 2), Data::F32(&seed));
            let mut grads = Grads::new(4);
            tape.backward(&[(&y, seed.unwrap())], &mut grads).unwrap();
            grads
        }

        fn step(&mut self, scale: f32) -> Update {
            let grads = self.grads(scale);
            let mut params: Vec<_> = self.params.iter_mut().collect();
            self.optimizer
                .step(&Reference, &mut params, &grads, 0.01)
                .unwrap()
        }

        fn bits(&self) -> Vec<u32> {
            let numbers = self.params.iter().flat_map(|p| p.numbers().unwrap());
            numbers.map(|x| x.to_bits()).collect()
        }
    }

    fn with_muon() -> Settings {
        Settings {
            muon: Some(MuonSettings {
                momentum: 0.95,
                rate_factor: 1.0,
            }),
            ..settings()
        }
    }

    #[test]
    fn a_resumed_run_is_the_uninterrupted_one_bit_for_bit() {
        for settings in [settings(), with_muon()] {
            let mut whole = Run::new(settings);
            let mut first = Run::new(settings);
            for scale in [0.1, 2.0, 0.3] {
                whole.step(scale);
                first.step(scale);
            }
            let state = first.optimizer.state(&Reference).unwrap();
            let mut second = Run::new(settings);
            second.params = first.params;
            second.optimizer.restore(&Reference, &state).unwrap();
            for scale in [0.7, 0.2] {
                assert_eq!(whole.step(scale), second.step(scale));
            }
            assert_eq!(whole.bits(), second.bits());
            assert_eq!(whole.optimizer.step_count(), 5);
        }
    }

    #[test]
    fn a_gradient_that_is_no_number_moves_nothing() {
        let mut run = Run::new(settings());
        run.step(1.0);
        let (bits, state) = (run.bits(), run.optimizer.state(&Reference).unwrap());
        let update = run.step(f32::NAN);
        assert!(!update.is_applied && update.gradient_norm.is_nan());
        assert_eq!(run.bits(), bits);
        assert_eq!(run.optimizer.state(&Reference).unwrap(), state);
    }

    #[test]
    fn large_gradients_are_scaled_to_the_limit() {
        let mut run = Run::new(settings());
        let small = run.step(1e-3);
        assert!(small.gradient_norm < 1.0);
        assert!((small.gradient_scale - 1.0).abs() < 1e-12);
        let large = run.step(100.0);
        let clipped = large.gradient_norm * f64::from(large.gradient_scale);
        assert!((clipped - 1.0).abs() < 1e-6);
    }

    #[test]
    fn matrices_decay_biases_do_not_and_the_router_bias_stays() {
        // Zero gradients show the decay alone.
        let mut run = Run::new(settings());
        let before = run.params.clone();
        run.step(0.0);
        let ratio = |leaf: usize| {
            let (a, b) = (&run.params[leaf], &before[leaf]);
            a.numbers().unwrap()[0] / b.numbers().unwrap()[0]
        };
        assert!((ratio(0) - 0.999).abs() < 1e-6 && (ratio(2) - 0.999).abs() < 1e-6);
        assert_eq!(run.params[1], before[1]);
        assert_eq!(run.params[3], before[3]);
    }

    #[test]
    fn muon_moves_matrices_and_leaves_the_rest_to_adamw() {
        let (mut adamw, mut muon) = (Run::new(settings()), Run::new(with_muon()));
        adamw.step(0.3);
        muon.step(0.3);
        let differs = |leaf: usize| adamw.params[leaf] != muon.params[leaf];
        assert_eq!([0, 1, 2, 3].map(differs), [true, false, false, false]);
    }

    #[test]
    fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
        let mut run = Run::new(settings());
        run.step(1.0);
        let good = run.optimizer.state(&Reference).unwrap();
        assert_eq!(good.tensors[1].name, "matrix.second");
        let (mut short, mut long, mut other) = (good.clone(), good.clone(), good.clone());
        short.tensors.pop();
        long.tensors.push(good.tensors[0].clone());
        other.tensors[3].shape = Shape::vector(9);
        for wrong in [short, long, other] {
            run.optimizer.restore(&Reference, &wrong).unwrap_err();
            assert_eq!(run.optimizer.state(&Reference).unwrap(), good);
        }
    }
}
