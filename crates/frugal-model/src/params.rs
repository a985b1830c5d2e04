//! The parameters of a model: one tree, generic in its leaf, whose names, shapes and roles are
//! written once, in [`Params::spec`].
//!
//! A leaf may be a description ([`Spec`]), bytes of a file, a back-end's tensor, a gradient, or a
//! moment of an optimiser; [`Params::map`], [`Params::zip`] and [`Params::leaves`] visit them all in
//! the one fixed order of the fields. The E matrices of a layer's experts are one leaf `[E, N, K]`.
//! This room computes nothing; the forward is in [`crate::transformer`].

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::convert::Infallible;

use frugal_core::shape::Shape;

use crate::config::{AttentionConfig, GqaConfig, MlaConfig, ModelConfig, MoeConfig, TopkMethod};
use crate::error::{Error, Result};

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
    pub fn zip<'a, U>(&'a self, other: &'a Params<U>) -> Result<Params<(&'a T, &'a U)>> {
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

/// What a parameter is for: optimisers and initialisation treat roles differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The token embedding, also where it serves as the head.
    Embedding,
    /// The output matrix.
    Head,
    /// A matrix.
    Matrix,
    /// A stack of matrices, one an expert.
    Experts,
    /// The gain of a norm.
    Norm,
    /// The router's matrix, always f32.
    Router,
    /// The router's selection bias, without gradient.
    RouterBias,
    /// The bias of a projection.
    Bias,
}

/// The description of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its published name; `*` stands for the expert where [`Role::Experts`].
    pub name: String,
    /// Its shape in the tree.
    pub shape: Shape,
    /// What it is for.
    pub role: Role,
    /// Whether its product is added to the residual stream (`o_proj`, `down_proj`).
    pub is_output: bool,
}

impl Spec {
    /// The name of each tensor in a file that makes up this parameter, with its shape there.
    pub fn files(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.shape.stacked()).map(|expert| self.name.replace('*', &expert.to_string()))
    }

    /// The shape of each tensor in a file.
    pub const fn file_shape(&self) -> Shape {
        match self.role {
            Role::Experts => Shape::matrix(self.shape.rows_each(), self.shape.cols()),
            _ => self.shape,
        }
    }
}

/// How many numbers a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// All of them, without the extra prediction layer.
    pub total: u64,
    /// Those one token meets, embedding and head counted whole.
    pub active: u64,
    /// Those of the extra prediction layer, which shares embedding and head.
    pub mtp: u64,
}

impl Params<Spec> {
    /// The parameters that a config asks for.
    ///
    /// # Errors
    /// [`Error::Config`] as [`ModelConfig::check`]; a tensor too large to address.
    pub fn spec(config: &ModelConfig) -> Result<Self> {
        config.check()?;
        let hidden = config.hidden_size;
        let table = Shape::matrix(config.vocab_size, hidden);
        let last = config.num_hidden_layers;
        let params = Self {
            embed: spec("model.embed_tokens.weight", table, Role::Embedding),
            layers: (0..last).map(|index| layer(config, index)).collect(),
            norm: norm("model.norm.weight", hidden),
            lm_head: (!config.tie_word_embeddings)
                .then(|| spec("lm_head.weight", table, Role::Head)),
            mtp: (config.num_nextn_predict_layers > 0).then(|| {
                let name = |suffix| format!("model.layers.{last}.{suffix}.weight");
                Mtp {
                    enorm: norm(&name("enorm"), hidden),
                    hnorm: norm(&name("hnorm"), hidden),
                    eh_proj: matrix(&name("eh_proj"), hidden, 2 * hidden),
                    layer: layer(config, last),
                    norm: norm(&name("shared_head.norm"), hidden),
                }
            }),
        };
        for leaf in params.leaves() {
            leaf.shape.checked_elements()?;
        }
        Ok(params)
    }

    /// Counts the numbers, with `config` the one the tree was made of.
    pub fn count(&self, config: &ModelConfig) -> Count {
        let (experts, top_k) = config.moe.map_or((1, 1), |moe| {
            (moe.n_routed_experts as u64, moe.num_experts_per_tok as u64)
        });
        let mtp_prefix = format!("model.layers.{}.", config.num_hidden_layers);
        let mut count = Count {
            total: 0,
            active: 0,
            mtp: 0,
        };
        for leaf in self.leaves() {
            let elements = leaf.shape.elements() as u64;
            if leaf.name.starts_with(&mtp_prefix) {
                count.mtp += elements;
                continue;
            }
            count.total += elements;
            count.active += match leaf.role {
                Role::Experts => elements / experts * top_k,
                _ => elements,
            };
        }
        count
    }
}

fn spec(name: &str, shape: Shape, role: Role) -> Spec {
    Spec {
        name: name.to_string(),
        shape,
        role,
        is_output: false,
    }
}

fn norm(name: &str, width: usize) -> Spec {
    spec(name, Shape::vector(width), Role::Norm)
}

fn matrix(name: &str, rows: usize, cols: usize) -> Spec {
    spec(name, Shape::matrix(rows, cols), Role::Matrix)
}

fn output(spec: Spec) -> Spec {
    Spec {
        is_output: true,
        ..spec
    }
}

fn layer(config: &ModelConfig, index: usize) -> Layer<Spec> {
    let prefix = format!("model.layers.{index}");
    let hidden = config.hidden_size;
    Layer {
        input_norm: norm(&format!("{prefix}.input_layernorm.weight"), hidden),
        attention: match &config.attention {
            AttentionConfig::Mla(mla) => Attention::Mla(mla_specs(config, mla, &prefix)),
            AttentionConfig::Gqa(gqa) => Attention::Gqa(gqa_specs(config, gqa, &prefix)),
        },
        post_norm: norm(&format!("{prefix}.post_attention_layernorm.weight"), hidden),
        feed_forward: match &config.moe {
            Some(moe) if config.is_moe_layer(index) => {
                FeedForward::Moe(moe_specs(moe, hidden, &format!("{prefix}.mlp")))
            }
            _ => {
                let inner = config.intermediate_size;
                FeedForward::Mlp(mlp_specs(&format!("{prefix}.mlp"), inner, hidden))
            }
        },
    }
}

fn mla_specs(config: &ModelConfig, mla: &MlaConfig, prefix: &str) -> Mla<Spec> {
    let name = |suffix| format!("{prefix}.self_attn.{suffix}.weight");
    let hidden = config.hidden_size;
    let heads = config.num_attention_heads;
    let q_width = heads * config.query_width();
    Mla {
        q_compression: mla.q_lora_rank.map(|rank| QueryCompression {
            a: matrix(&name("q_a_proj"), rank, hidden),
            norm: norm(&name("q_a_layernorm"), rank),
        }),
        q: match mla.q_lora_rank {
            Some(rank) => matrix(&name("q_b_proj"), q_width, rank),
            None => matrix(&name("q_proj"), q_width, hidden),
        },
        kv_a: matrix(
            &name("kv_a_proj_with_mqa"),
            mla.kv_lora_rank + mla.qk_rope_head_dim,
            hidden,
        ),
        kv_a_norm: norm(&name("kv_a_layernorm"), mla.kv_lora_rank),
        kv_b: matrix(
            &name("kv_b_proj"),
            heads * (mla.qk_nope_head_dim + mla.v_head_dim),
            mla.kv_lora_rank,
        ),
        o: output(matrix(&name("o_proj"), hidden, heads * mla.v_head_dim)),
    }
}

fn gqa_specs(config: &ModelConfig, gqa: &GqaConfig, prefix: &str) -> Gqa<Spec> {
    let name = |suffix| format!("{prefix}.self_attn.{suffix}");
    let hidden = config.hidden_size;
    let q_width = config.num_attention_heads * gqa.head_dim;
    let kv_width = gqa.num_key_value_heads * gqa.head_dim;
    let projection = |suffix, rows, cols, has_bias: bool| Projection {
        weight: matrix(&format!("{}.weight", name(suffix)), rows, cols),
        bias: has_bias.then(|| {
            spec(
                &format!("{}.bias", name(suffix)),
                Shape::vector(rows),
                Role::Bias,
            )
        }),
    };
    let head_norm = |suffix| {
        let weight = format!("{}.weight", name(suffix));
        config.has_head_norms().then(|| norm(&weight, gqa.head_dim))
    };
    let has_bias = config.has_qkv_bias();
    let o = projection("o_proj", hidden, q_width, config.has_output_bias());
    Gqa {
        q: projection("q_proj", q_width, hidden, has_bias),
        k: projection("k_proj", kv_width, hidden, has_bias),
        v: projection("v_proj", kv_width, hidden, has_bias),
        o: Projection {
            weight: output(o.weight),
            ..o
        },
        q_norm: head_norm("q_norm"),
        k_norm: head_norm("k_norm"),
    }
}

fn mlp_specs(prefix: &str, inner: usize, hidden: usize) -> Mlp<Spec> {
    Mlp {
        gate: matrix(&format!("{prefix}.gate_proj.weight"), inner, hidden),
        up: matrix(&format!("{prefix}.up_proj.weight"), inner, hidden),
        down: output(matrix(&format!("{prefix}.down_proj.weight"), hidden, inner)),
    }
}

fn moe_specs(moe: &MoeConfig, hidden: usize, prefix: &str) -> Moe<Spec> {
    let experts = moe.n_routed_experts;
    let inner = moe.moe_intermediate_size;
    let stack = |one: Spec| Spec {
        shape: Shape::stack(experts, one.shape.rows_each(), one.shape.cols()),
        role: Role::Experts,
        ..one
    };
    let one = mlp_specs(&format!("{prefix}.experts.*"), inner, hidden);
    Moe {
        router: spec(
            &format!("{prefix}.gate.weight"),
            Shape::matrix(experts, hidden),
            Role::Router,
        ),
        router_bias: (moe.topk_method == TopkMethod::NoauxTc).then(|| {
            let name = format!("{prefix}.gate.e_score_correction_bias");
            spec(&name, Shape::vector(experts), Role::RouterBias)
        }),
        experts: Mlp {
            gate: stack(one.gate),
            up: stack(one.up),
            down: stack(one.down),
        },
        shared: (moe.n_shared_experts > 0).then(|| {
            let width = moe.n_shared_experts * inner;
            mlp_specs(&format!("{prefix}.shared_experts"), width, hidden)
        }),
    }
}
