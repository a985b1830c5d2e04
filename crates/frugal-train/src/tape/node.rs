//! What is recorded of one operation: the handles its backward reads, and where gradients go.

use std::rc::Rc;

use frugal_core::backend::{
    Attention, AttentionSaved, Context, Divergence, FeedForwardSaved, Keys, Product, RopeColumns,
    Route, Router,
};
use frugal_core::shape::{Rows, Shape};

use super::{SequenceBalance, Var};

/// Where the gradient of a value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Nowhere.
    Constant,
    /// To an entry of `Grads`.
    Leaf(usize),
    /// To the operation that made the value: one slot for each recorded output.
    Slot(usize),
}

/// An operation, and the slot of its first output; further outputs follow it.
#[derive(Debug)]
pub(super) struct Node<T> {
    pub(super) op: Op<T>,
    pub(super) first: usize,
}

/// The differentiable operations with what their backward needs, and nothing else.
#[derive(Debug)]
pub(super) enum Op<T> {
    Linear {
        x: Var<T>,
        weight: Var<T>,
        bias: Option<Var<T>>,
        product: Product,
    },
    GroupedLinear {
        xs: Var<T>,
        weight: Var<T>,
        route: Route<T>,
    },
    Gather {
        table: Source,
        shape: Shape,
        ids: Vec<u32>,
    },
    RmsNorm {
        x: Var<T>,
        weight: Var<T>,
        eps: f32,
    },
    FeedForward(Box<FeedForwardNode<T>>),
    Swiglu {
        gate: Var<T>,
        up: Var<T>,
    },
    Add {
        a: Source,
        b: Source,
    },
    Split {
        x: Source,
        n_rows: usize,
        n_heads: usize,
        widths: Vec<usize>,
    },
    Join {
        parts: Vec<Source>,
        n_heads: usize,
        widths: Vec<usize>,
    },
    Rope {
        x: Source,
        table: T,
        positions: Rc<[u32]>,
        columns: RopeColumns,
    },
    Attention(Box<AttentionNode<T>>),
    Route {
        logits: Var<T>,
        router: Router,
        route: Route<T>,
        balance: Option<SequenceBalance>,
    },
    Dispatch {
        x: Source,
        route: Route<T>,
    },
    Combine {
        ys: Var<T>,
        weights: Source,
        route: Route<T>,
    },
    LogProb {
        hidden: Var<T>,
        weight: Var<T>,
        targets: Vec<u32>,
        temperature: f32,
    },
    Divergence(Box<DivergenceNode<T>>),
}

#[derive(Debug)]
pub(super) struct FeedForwardNode<T> {
    pub(super) x: Var<T>,
    /// Gate, up, down.
    pub(super) weights: [Var<T>; 3],
    pub(super) route: Option<Route<T>>,
    pub(super) saved: FeedForwardSaved<T>,
}

#[derive(Debug)]
pub(super) struct AttentionNode<T> {
    pub(super) q: Var<T>,
    pub(super) keys: OwnedKeys<T>,
    pub(super) n_heads: usize,
    pub(super) scale: f32,
    pub(super) rows: Rc<Rows>,
    pub(super) saved: AttentionSaved<T>,
}

impl<T> AttentionNode<T> {
    /// The call's settings, as the back-end takes them.
    pub(super) fn settings(&self) -> Attention<'_> {
        Attention {
            n_heads: self.n_heads,
            scale: self.scale,
            rows: &self.rows,
            context: Context::Packed,
        }
    }
}

#[derive(Debug)]
pub(super) struct DivergenceNode<T> {
    pub(super) hidden: Var<T>,
    pub(super) weight: Var<T>,
    pub(super) teacher_hidden: T,
    pub(super) teacher_weight: T,
    pub(super) divergence: Divergence,
}

/// [`Keys`] with its tensors held; the absorbed form is for inference.
#[derive(Debug)]
pub(super) enum OwnedKeys<T> {
    Grouped {
        k: Var<T>,
        v: Var<T>,
        n_kv_heads: usize,
    },
    Expanded {
        kv: Var<T>,
        k_rope: Var<T>,
        nope: usize,
    },
}

impl<T: Clone> OwnedKeys<T> {
    /// The keys held, or nothing for the absorbed form.
    pub(super) fn of(keys: Keys<'_, Var<T>>) -> Option<Self> {
        match keys {
            Keys::Grouped { k, v, n_kv_heads } => Some(Self::Grouped {
                k: k.clone(),
                v: v.clone(),
                n_kv_heads,
            }),
            Keys::Expanded { kv, k_rope, nope } => Some(Self::Expanded {
                kv: kv.clone(),
                k_rope: k_rope.clone(),
                nope,
            }),
            Keys::Latent { .. } => None,
        }
    }

    /// As the back-end below takes them.
    pub(super) const fn values(&self) -> Keys<'_, T> {
        match self {
            Self::Grouped { k, v, n_kv_heads } => Keys::Grouped {
                k: &k.value,
                v: &v.value,
                n_kv_heads: *n_kv_heads,
            },
            Self::Expanded { kv, k_rope, nope } => Keys::Expanded {
                kv: &kv.value,
                k_rope: &k_rope.value,
                nope: *nope,
            },
        }
    }

    /// Where the two gradients go, in the order of the fields.
    pub(super) const fn sources(&self) -> [Source; 2] {
        match self {
            Self::Grouped { k, v, .. } => [k.source, v.source],
            Self::Expanded { kv, k_rope, .. } => [kv.source, k_rope.source],
        }
    }
}
