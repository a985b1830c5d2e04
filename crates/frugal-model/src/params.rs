//! The parameters of a model: one tree, generic in its leaf, whose names, shapes and roles are
//! written once, in [`Params::spec`].
//!
//! A leaf may be a description ([`Spec`]), bytes of a file, a back-end's tensor, a gradient, or a
//! moment of an optimiser; [`Params::map`], [`Params::zip`] and [`Params::leaves`] visit them all in
//! the one fixed order of the fields. The E matrices of a layer's experts are one leaf `[E, N, K]`.
//! This room computes nothing; the forward is in [`crate::transformer`].

use alloc::vec::Vec;
use core::convert::Infallible;

use crate::error::{Error, Result};

mod spec;

pub use spec::{Count, Role, Spec};

/// Declares one node of the tree and how to walk it. Each field says what it is:
/// `leaf`, `maybe_leaf` (`Option`), `node`, `maybe_node`, `nodes` (`Vec`).
macro_rules! node {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $kind:ident $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name<T> {
            $($(#[$field_doc])* pub $field: $type,)*
        }
        impl<T> $name<T> {
            fn walk<'a, U, E>(
                &'a self,
                f: &mut impl FnMut(&'a T) -> core::result::Result<U, E>,
            ) -> core::result::Result<$name<U>, E> {
                Ok($name { $($field: node!(@walk $kind (&self.$field) f),)* })
            }
            fn walk_mut<'a>(&'a mut self, f: &mut impl FnMut(&'a mut T)) {
                $(node!(@walk_mut $kind (&mut self.$field) f);)*
            }
        }
    };
    (@walk leaf ($x:expr) $f:ident) => { $f($x)? };
    (@walk maybe_leaf ($x:expr) $f:ident) => { $x.as_ref().map(&mut *$f).transpose()? };
    (@walk node ($x:expr) $f:ident) => { $x.walk($f)? };
    (@walk maybe_node ($x:expr) $f:ident) => { $x.as_ref().map(|node| node.walk($f)).transpose()? };
    (@walk nodes ($x:expr) $f:ident) => { $x.iter().map(|node| node.walk($f)).collect::<core::result::Result<_, E>>()? };
    (@walk_mut leaf ($x:expr) $f:ident) => { $f($x) };
    (@walk_mut maybe_leaf ($x:expr) $f:ident) => { $x.as_mut().map(&mut *$f) };
    (@walk_mut node ($x:expr) $f:ident) => { $x.walk_mut($f) };
    (@walk_mut maybe_node ($x:expr) $f:ident) => { $x.as_mut().map(|node| node.walk_mut($f)) };
    (@walk_mut nodes ($x:expr) $f:ident) => { $x.iter_mut().for_each(|node| node.walk_mut($f)) };
}

node! {
    /// All parameters of a model.
    Params {
        /// `[V, D]`.
        leaf embed: T,
        /// The layers, first to last.
        nodes layers: Vec<Layer<T>>,
        /// `[D]`: the final norm.
        leaf norm: T,
        /// `[V, D]`; none where the head is the embedding.
        maybe_leaf lm_head: Option<T>,
        /// The extra prediction layer.
        maybe_node mtp: Option<Mtp<T>>,
    }
}

node! {
    /// One layer.
    Layer {
        /// `[D]`: before the attention.
        leaf input_norm: T,
        /// The attention.
        node attention: Attention<T>,
        /// `[D]`: before the feed-forward.
        leaf post_norm: T,
        /// The feed-forward.
        node feed_forward: FeedForward<T>,
    }
}

node! {
    /// Multi-head latent attention.
    Mla {
        /// The query's compression; none where `q` is applied to the hidden state itself.
        maybe_node q_compression: Option<QueryCompression<T>>,
        /// `[H * (nope + R), q_lora_rank or D]`: `q_b_proj` or `q_proj`, in each head `[nope | rope]`.
        leaf q: T,
        /// `[C + R, D]`: `kv_a_proj_with_mqa`.
        leaf kv_a: T,
        /// `[C]`.
        leaf kv_a_norm: T,
        /// `[H * (nope + value), C]`: in each head `[nope | value]`.
        leaf kv_b: T,
        /// `[D, H * value]`.
        leaf o: T,
    }
}

node! {
    /// The low-rank half of an MLA query.
    QueryCompression {
        /// `[q_lora_rank, D]`: `q_a_proj`.
        leaf a: T,
        /// `[q_lora_rank]`.
        leaf norm: T,
    }
}

node! {
    /// Grouped-query attention.
    Gqa {
        /// `[H * dh, D]`.
        node q: Projection<T>,
        /// `[Hkv * dh, D]`.
        node k: Projection<T>,
        /// `[Hkv * dh, D]`.
        node v: Projection<T>,
        /// `[D, H * dh]`.
        node o: Projection<T>,
        /// `[dh]`: Qwen3.
        maybe_leaf q_norm: Option<T>,
        /// `[dh]`: Qwen3.
        maybe_leaf k_norm: Option<T>,
    }
}

node! {
    /// A matrix and, in some families, its bias.
    Projection {
        /// `[N, K]`.
        leaf weight: T,
        /// `[N]`.
        maybe_leaf bias: Option<T>,
    }
}

node! {
    /// A SwiGLU feed-forward; stacked where it is a layer's experts.
    Mlp {
        /// `[inner, D]` or `[E, inner, D]`.
        leaf gate: T,
        /// `[inner, D]` or `[E, inner, D]`.
        leaf up: T,
        /// `[D, inner]` or `[E, D, inner]`.
        leaf down: T,
    }
}

node! {
    /// A mixture of experts.
    Moe {
        /// `[E, D]`.
        leaf router: T,
        /// `[E]`: added to the scores for selection only; moved by the balancing, not by gradients.
        maybe_leaf router_bias: Option<T>,
        /// The routed experts.
        node experts: Mlp<T>,
        /// What every token passes.
        maybe_node shared: Option<Mlp<T>>,
    }
}

node! {
    /// The extra layer that predicts the token after the next. Embedding and head are the model's.
    Mtp {
        /// `[D]`: norm of the next token's embedding.
        leaf enorm: T,
        /// `[D]`: norm of the hidden state.
        leaf hnorm: T,
        /// `[D, 2 D]`: takes `[embedding | hidden]`.
        leaf eh_proj: T,
        /// An ordinary layer.
        node layer: Layer<T>,
        /// `[D]`: `shared_head.norm`.
        leaf norm: T,
    }
}

/// Either of two kinds of node.
macro_rules! either {
    ($(#[$doc:meta])* $name:ident { $($(#[$kind_doc:meta])* $kind:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name<T> {
            $($(#[$kind_doc])* $kind($kind<T>),)*
        }
        impl<T> $name<T> {
            fn walk<'a, U, E>(
                &'a self,
                f: &mut impl FnMut(&'a T) -> core::result::Result<U, E>,
            ) -> core::result::Result<$name<U>, E> {
                Ok(match self { $(Self::$kind(node) => $name::$kind(node.walk(f)?),)* })
            }
            fn walk_mut<'a>(&'a mut self, f: &mut impl FnMut(&'a mut T)) {
                match self { $(Self::$kind(node) => node.walk_mut(f),)* }
            }
        }
    };
}

either! {
    /// The attention of a layer.
    Attention {
        /// DeepSeek.
        Mla,
        /// Qwen, Llama.
        Gqa,
    }
}

either! {
    /// The feed-forward of a layer.
    FeedForward {
        /// Dense.
        Mlp,
        /// Experts.
        Moe,
    }
}

impl<T> Params<T> {
    /// The same tree with other leaves.
    pub fn map<'a, U>(&'a self, mut f: impl FnMut(&'a T) -> U) -> Params<U> {
        let Ok(mapped) = self.walk(&mut |leaf| Ok::<_, Infallible>(f(leaf)));
        mapped
    }

    /// The same tree with other leaves, or the first error.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn try_map<'a, U, E>(
        &'a self,
        mut f: impl FnMut(&'a T) -> core::result::Result<U, E>,
    ) -> core::result::Result<Params<U>, E> {
        self.walk(&mut f)
    }

    /// Pairs the leaves of two trees of one model.
    ///
    /// # Errors
    /// [`Error::Structure`] if the trees are of different models.
    pub fn zip<'a, 'b, U>(&'a self, other: &'b Params<U>) -> Result<Params<(&'a T, &'b U)>> {
        let differ = || Error::Structure {
            left: self.leaves().len(),
            right: other.leaves().len(),
        };
        if self.map(|_| ()) != other.map(|_| ()) {
            return Err(differ());
        }
        let mut others = other.leaves().into_iter();
        self.try_map(|leaf| others.next().map(|other| (leaf, other)).ok_or_else(differ))
    }

    /// All leaves, in the order of the fields.
    pub fn leaves(&self) -> Vec<&T> {
        let mut leaves = Vec::new();
        self.map(|leaf| leaves.push(leaf));
        leaves
    }

    /// All leaves, in the same order.
    pub fn leaves_mut(&mut self) -> Vec<&mut T> {
        let mut leaves = Vec::new();
        self.walk_mut(&mut |leaf| leaves.push(leaf));
        leaves
    }
}
