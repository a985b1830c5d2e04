//! The one list of parameter names, shapes and roles.
//!
//! Names are those of the published checkpoints; the tree they hang in is in [`super`].

use alloc::format;
use alloc::string::{String, ToString};

use frugal_core::shape::Shape;

use super::{
    Attention, FeedForward, Gqa, Layer, Mla, Mlp, Moe, Mtp, Params, Projection, QueryCompression,
};
use crate::config::{AttentionConfig, GqaConfig, MlaConfig, ModelConfig, MoeConfig, TopkMethod};
use crate::error::Result;

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
    /// Those of the active ones that are of experts the token chose.
    pub chosen: u64,
    /// Those of the extra prediction layer, which shares embedding and head.
    pub mtp: u64,
}

impl Params<Spec> {
    /// The parameters that a config asks for.
    ///
    /// # Errors
    /// As [`ModelConfig::check`]; a tensor too large to address.
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
            chosen: 0,
            mtp: 0,
        };
        for leaf in self.leaves() {
            let elements = leaf.shape.elements() as u64;
            if leaf.name.starts_with(&mtp_prefix) {
                count.mtp += elements;
                continue;
            }
            count.total += elements;
            if leaf.role == Role::Experts {
                count.chosen += elements / experts * top_k;
            } else {
                count.active += elements;
            }
        }
        count.active += count.chosen;
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
