//! The shape of a model by the published field names of `config.json`. The vocabulary is not here:
//! it follows from the task's tokenizer. The model itself lives in `frugal-model`.

use serde::{Deserialize, Serialize};

/// The family a shape belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// MLA and experts; sigmoid router with a bias for selection, MTP.
    DeepseekV3,
    /// MLA and experts; softmax router.
    DeepseekV2,
    /// Dense, grouped queries, bias on q, k and v.
    Qwen2,
    /// Dense, grouped queries, normalised q and k.
    Qwen3,
    /// Dense, grouped queries.
    Llama,
}

impl Architecture {
    /// Whether attention goes through a compressed latent.
    #[must_use]
    pub fn is_mla(self) -> bool {
        matches!(self, Self::DeepseekV3 | Self::DeepseekV2)
    }
}

/// A model's shape. Fields that a family does not have are 0 in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelShape {
    /// The family.
    pub architecture: Architecture,
    /// Width D of the residual stream.
    pub hidden_size: u32,
    /// Layers, without MTP layers.
    pub num_hidden_layers: u32,
    /// Query heads H.
    pub num_attention_heads: u32,
    /// Key and value heads; under MLA equal to `num_attention_heads`.
    pub num_key_value_heads: u32,
    /// Width of a head of grouped queries; 0 for `hidden_size / num_attention_heads`.
    pub head_dim: u32,
    /// Rank of the query's compression; 0 for a plain projection (null in published files).
    pub q_lora_rank: u32,
    /// Width C of the latent that the cache holds.
    pub kv_lora_rank: u32,
    /// Width per head of the part of q and k without position.
    pub qk_nope_head_dim: u32,
    /// Width per head of the rotated part of q and k. Even.
    pub qk_rope_head_dim: u32,
    /// Width per head of v.
    pub v_head_dim: u32,
    /// Inner width of a dense feed-forward block.
    pub intermediate_size: u32,
    /// Inner width of one expert.
    pub moe_intermediate_size: u32,
    /// Routed experts E; 0 for a dense model.
    pub n_routed_experts: u32,
    /// Experts that see every token.
    pub n_shared_experts: u32,
    /// Routed experts k that see a token.
    pub num_experts_per_tok: u32,
    /// Groups the routed experts are divided into.
    pub n_group: u32,
    /// Groups from which a token's experts may come.
    pub topk_group: u32,
    /// The first so many layers are dense.
    pub first_k_dense_replace: u32,
    /// Factor on the weights of routed experts.
    pub routed_scaling_factor: f64,
    /// MTP layers.
    pub num_nextn_predict_layers: u32,
    /// Longest sequence.
    pub max_position_embeddings: u32,
    /// Base of the rotation frequencies.
    pub rope_theta: f64,
    /// Added to the mean square under the root.
    pub rms_norm_eps: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Standard deviation of the initial weights; 0 for one over the root of the input width.
    pub initializer_range: f64,
}

impl Default for ModelShape {
    fn default() -> Self {
        Self {
            architecture: Architecture::DeepseekV3,
            hidden_size: 128,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            head_dim: 0,
            q_lora_rank: 0,
            kv_lora_rank: 64,
            qk_nope_head_dim: 32,
            qk_rope_head_dim: 16,
            v_head_dim: 32,
            intermediate_size: 384,
            moe_intermediate_size: 96,
            n_routed_experts: 8,
            n_shared_experts: 1,
            num_experts_per_tok: 2,
            n_group: 1,
            topk_group: 1,
            first_k_dense_replace: 1,
            routed_scaling_factor: 1.0,
            num_nextn_predict_layers: 1,
            max_position_embeddings: 512,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            initializer_range: 0.0,
        }
    }
}

impl ModelShape {
    /// The defaults of a family: tiny, and only with the fields the family has.
    #[must_use]
    pub fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::DeepseekV3 => Self::default(),
            Architecture::DeepseekV2 => Self {
                architecture,
                num_nextn_predict_layers: 0,
                ..Self::default()
            },
            Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Llama => Self {
                architecture,
                hidden_size: 96,
                num_hidden_layers: 3,
                num_key_value_heads: 2,
                intermediate_size: 256,
                kv_lora_rank: 0,
                qk_nope_head_dim: 0,
                qk_rope_head_dim: 0,
                v_head_dim: 0,
                moe_intermediate_size: 0,
                n_routed_experts: 0,
                n_shared_experts: 0,
                num_experts_per_tok: 0,
                n_group: 0,
                topk_group: 0,
                first_k_dense_replace: 0,
                num_nextn_predict_layers: 0,
                ..Self::default()
            },
        }
    }

    /// Width of a head of grouped queries, derived where the field is 0.
    #[must_use]
    pub fn resolved_head_dim(&self) -> u32 {
        match self.head_dim {
            0 => self.hidden_size / self.num_attention_heads.max(1),
            width => width,
        }
    }
}
