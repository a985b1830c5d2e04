//! The recording back-end: the model's derivative.
//!
//! [`Tape`] implements [`Backend`](frugal_core::backend::Backend) by passing each call to another
//! back-end and noting what the call's backward will need; [`Tape::backward`] then replays the notes
//! in reverse. Only calls that reach a leaf are noted, so a teacher or a reference policy put in as
//! [`Tape::constant`] leaves nothing behind, and saved tensors are freed as the replay passes them.
//!
//! It does not differentiate twice, does not know the model, and holds nothing but handles: drop the
//! tape's variables before an update, or the back-end must copy the weights it updates.
//!
//! Read `record.rs` for what each operation keeps, `replay.rs` for how it is undone.

mod grads;
mod node;
mod record;
mod replay;

use std::cell::RefCell;
use std::rc::Rc;

use frugal_core::backend::{Balance, TrainBackend};
use frugal_core::error::{Error, Result};
use frugal_core::shape::Rows;

pub use grads::Grads;
use node::{Node, Source};

/// A value on the tape: a tensor of the back-end below, and where its gradient goes.
#[derive(Debug, Clone)]
pub struct Var<T> {
    value: T,
    source: Source,
}

impl<T> Var<T> {
    /// The tensor.
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// The tensor, without its history.
    pub fn into_value(self) -> T {
        self.value
    }
}

/// The sequence-wise balance loss that [`Tape`] adds at each routing.
#[derive(Debug, Clone)]
pub struct SequenceBalance {
    /// Factor on the loss.
    pub alpha: f32,
    /// The sequences of the rows that are routed.
    pub rows: Rc<Rows>,
}

impl SequenceBalance {
    /// As the back-end takes it.
    fn as_asked(&self) -> Balance<'_> {
        Balance {
            alpha: self.alpha,
            rows: &self.rows,
        }
    }
}

/// What a tape does beside recording.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Adds the balance loss's gradient at each routing, and records its value.
    pub balance: Option<SequenceBalance>,
}

/// A back-end that records what it is asked, so that gradients can be taken.
///
/// ```
/// use frugal_core::backend::Backend;
/// use frugal_core::dtype::Data;
/// use frugal_core::reference::Reference;
/// use frugal_core::shape::Shape;
/// use frugal_train::tape::{Grads, Policy, Tape};
///
/// # fn main() -> frugal_core::error::Result<()> {
/// let tape = Tape::new(&Reference, Policy::default());
/// let x = tape.leaf(Reference.put(Shape::vector(2), Data::F32(&[1.0, -3.0]))?);
/// let y = tape.add(&x, &x)?; // any code written over `Backend`
/// let seed = Reference.put(Shape::vector(2), Data::F32(&[1.0, 10.0]))?;
/// let mut grads = Grads::new(1);
/// tape.backward(&[(&y, seed)], &mut grads)?;
/// let gradient = grads.get(0).map(|g| Reference.get(g)).transpose()?;
/// assert_eq!(gradient, Some(vec![2.0, 20.0]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tape<'b, B: TrainBackend> {
    backend: &'b B,
    state: RefCell<State<B::Tensor>>,
}

/// What has been recorded so far.
#[derive(Debug)]
struct State<T> {
    nodes: Vec<Node<T>>,
    n_slots: usize,
    n_leaves: usize,
    policy: Policy,
    /// Row layouts and position lists recur in every layer: the last of each is shared.
    rows: Option<Rc<Rows>>,
    positions: Option<Rc<[u32]>>,
    /// The `offsets` of each routing, in order of the calls.
    routings: Vec<T>,
    balance_losses: Vec<f32>,
}

impl<'b, B: TrainBackend> Tape<'b, B> {
    /// An empty tape over `backend`.
    #[must_use]
    pub fn new(backend: &'b B, policy: Policy) -> Self {
        let state = State {
            nodes: Vec::new(),
            n_slots: 0,
            n_leaves: 0,
            policy,
            rows: None,
            positions: None,
            routings: Vec::new(),
            balance_losses: Vec::new(),
        };
        Self {
            backend,
            state: RefCell::new(state),
        }
    }

    /// The back-end below.
    #[must_use]
    pub const fn backend(&self) -> &'b B {
        self.backend
    }

    /// Replaces the policy for what follows: the MTP layer routes other rows than the layers below.
    pub fn set_policy(&self, policy: Policy) {
        self.state.borrow_mut().policy = policy;
    }

    /// A parameter: its gradient goes to entry n of [`Grads`] if it is the n-th leaf, from 0.
    pub fn leaf(&self, value: B::Tensor) -> Var<B::Tensor> {
        let mut state = self.state.borrow_mut();
        let source = Source::Leaf(state.n_leaves);
        state.n_leaves += 1;
        Var { value, source }
    }

    /// A value without gradient.
    pub const fn constant(&self, value: B::Tensor) -> Var<B::Tensor> {
        Var {
            value,
            source: Source::Constant,
        }
    }

    /// For each routing so far the rows every expert received: what the auxiliary-loss-free bias
    /// update needs.
    ///
    /// # Errors
    /// If the back-end cannot read indices (the meter has none).
    pub fn loads(&self) -> Result<Vec<Vec<u32>>> {
        let state = self.state.borrow();
        let counts = |offsets: &B::Tensor| {
            let offsets = self.backend.get_indices(offsets)?;
            let ends = offsets.iter().skip(1);
            Ok(offsets
                .iter()
                .zip(ends)
                .map(|(start, end)| end.saturating_sub(*start))
                .collect())
        };
        state.routings.iter().map(counts).collect()
    }

    /// The balance loss of each routing so far, in order; empty without the policy.
    #[must_use]
    pub fn balance_losses(&self) -> Vec<f32> {
        self.state.borrow().balance_losses.clone()
    }

    /// Adds to `grads` the gradient of `sum_i <seed_i, var_i>`, plus that of the balance losses.
    ///
    /// Each seed is d objective / d var, of the var's shape. Gradients add to what `grads` holds, so
    /// several tapes may fill it before an update.
    ///
    /// *Cost*: about twice the forward's FLOPs; saved tensors are freed on the way.
    ///
    /// # Errors
    /// If a seed has another shape than its var, `grads` fewer entries than there are leaves, or the
    /// back-end refuses; `grads` is then incomplete.
    pub fn backward(
        self,
        seeds: &[(&Var<B::Tensor>, B::Tensor)],
        grads: &mut Grads<B::Tensor>,
    ) -> Result<()> {
        let state = self.state.into_inner();
        if grads.len() < state.n_leaves {
            return Err(Error::Count {
                op: "backward",
                what: "gradient entries",
                expected: state.n_leaves,
                got: grads.len(),
            });
        }
        replay::run(self.backend, state.nodes, state.n_slots, seeds, grads)
    }
}
