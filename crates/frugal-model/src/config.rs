//! What a model is: the numbers of a published `config.json`, under their published names.
//!
//! [`ModelConfig::from_json`] reads both spellings of the rope (`rope_scaling` of published files,
//! `rope_parameters` of newer ones) and refuses what it does not know rather than guess. The JSON
//! itself is in `config/read.rs` and `config/write.rs`; the parameters that follow from a config are in [`crate::params`].

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

use frugal_core::backend::{GroupScore, RopePairs, Router, Scoring};

use crate::error::{Error, Result};

mod read;
mod write;

/// The largest width, vocabulary or product of a width and a number of heads.
const MAX_WIDTH: usize = 1 << 24;
/// The largest number of layers; a file that claims more is refused before anything is allocated.
const MAX_LAYERS: usize = 1 << 12;
/// The largest number of experts.
const MAX_EXPERTS: usize = 1 << 16;
/// The largest position.
const MAX_POSITIONS: usize = 1 << 27;

/// The published families this crate follows, by the name in `architectures`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `DeepseekV2ForCausalLM`: V2, V2-Lite.
    DeepseekV2,
    /// `DeepseekV3ForCausalLM`: V3, R1.
    DeepseekV3,
    /// `Qwen2ForCausalLM`: Qwen2, Qwen2.5, R1-Distill-Qwen.
    Qwen2,
    /// `Qwen3ForCausalLM`, dense.
    Qwen3,
    /// `LlamaForCausalLM`: Llama, R1-Distill-Llama.
    Llama,
}

impl Architecture {
    /// The name of its class in published configs, for example `Qwen2ForCausalLM`.
    pub fn class_name(self) -> &'static str {
        self.names().0
    }

    /// The names of its class and of its kind.
    fn names(self) -> (&'static str, &'static str) {
        let known = read::ARCHITECTURES.iter();
        let mut found = known.filter(|(architecture, ..)| *architecture == self);
        found
            .next()
            .map_or(("", ""), |(_, class, kind)| (*class, *kind))
    }
}

/// A model, as its published config describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// V.
    pub vocab_size: usize,
    /// D.
    pub hidden_size: usize,
    /// Inner width of a dense feed-forward layer.
    pub intermediate_size: usize,
    /// Layers, the extra prediction layer not counted.
    pub num_hidden_layers: usize,
    /// H.
    pub num_attention_heads: usize,
    /// The longest sequence the model was made for.
    pub max_position_embeddings: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Base of the rope's wavelengths.
    pub rope_theta: f64,
    /// How the rope is stretched to longer contexts.
    pub rope_scaling: RopeScaling,
    /// How rotated columns pair up (`rope_interleave`).
    pub rope_pairs: RopePairs,
    /// Widths of the attention.
    pub attention: AttentionConfig,
    /// Experts, or nothing where every layer is dense.
    pub moe: Option<MoeConfig>,
    /// Extra layers that predict the token after the next: 0 or 1.
    pub num_nextn_predict_layers: usize,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text.
    pub eos_token_id: Vec<u32>,
    /// `quantization_config.weight_block_size` where weights are stored as e4m3.
    pub weight_block_size: Option<[usize; 2]>,
}

/// Which attention, and its widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionConfig {
    /// Multi-head latent attention: DeepSeek.
    Mla(MlaConfig),
    /// Grouped-query attention: Qwen, Llama.
    Gqa(GqaConfig),
}

/// Widths of multi-head latent attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MlaConfig {
    /// Width of the compressed query; none for a plain projection (V2-Lite).
    pub q_lora_rank: Option<usize>,
    /// C.
    pub kv_lora_rank: usize,
    /// Columns of a head that are not rotated.
    pub qk_nope_head_dim: usize,
    /// R.
    pub qk_rope_head_dim: usize,
    /// Columns of a head's value.
    pub v_head_dim: usize,
}

/// Widths of grouped-query attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GqaConfig {
    /// Hkv.
    pub num_key_value_heads: usize,
    /// Columns of a head, all rotated.
    pub head_dim: usize,
    /// Whether all four projections have a bias (Llama, Qwen3; Qwen2 always has three).
    pub attention_bias: bool,
}

/// Experts and their router.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MoeConfig {
    /// E.
    pub n_routed_experts: usize,
    /// Experts every token passes, stored as one of their joint width; 0 for none.
    pub n_shared_experts: usize,
    /// k.
    pub num_experts_per_tok: usize,
    /// Inner width of one expert.
    pub moe_intermediate_size: usize,
    /// Layers before this one are dense.
    pub first_k_dense_replace: usize,
    /// Groups of consecutive experts.
    pub n_group: usize,
    /// Groups a token may use.
    pub topk_group: usize,
    /// How experts are chosen.
    pub topk_method: TopkMethod,
    /// Whether the weights of a token's experts are divided by their sum.
    pub norm_topk_prob: bool,
    /// Factor on the weights.
    pub routed_scaling_factor: f64,
}

/// How experts are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopkMethod {
    /// `greedy`: the best of all, softmax scores (V2-Lite).
    Greedy,
    /// `group_limited_greedy`: the best of the groups with the best member, softmax scores (V2).
    GroupLimitedGreedy,
    /// `noaux_tc`: sigmoid scores, a bias for selection only, groups by their two best (V3).
    NoauxTc,
}

/// How the rope is stretched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// `default`.
    None,
    /// `linear`: positions are divided by the factor.
    Linear {
        /// Stretch.
        factor: f64,
    },
    /// `yarn`.
    Yarn(Yarn),
    /// `llama3`.
    Llama3(Llama3),
}

/// YaRN: long wavelengths are stretched, short ones stay. *Source*: Peng et al., 2309.00071.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// Stretch.
    pub factor: f64,
    /// Wavelengths with more turns than this in the original context stay.
    pub beta_fast: f64,
    /// Those with fewer turns than this are stretched fully.
    pub beta_slow: f64,
    /// The context before stretching.
    pub original_max_position_embeddings: usize,
    /// `mscale` and `mscale_all_dim`: both or neither.
    pub mscale: Option<[f64; 2]>,
    /// Amplitude of the rotation where it is given directly.
    pub attention_factor: Option<f64>,
}

/// The stretch of Llama 3.1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3 {
    /// Stretch.
    pub factor: f64,
    /// Wavelengths longer than the original context divided by this are stretched fully.
    pub low_freq_factor: f64,
    /// Those shorter than the original context divided by this stay.
    pub high_freq_factor: f64,
    /// The context before stretching.
    pub original_max_position_embeddings: usize,
}

impl ModelConfig {
    /// Whether layer `index` has experts. The extra prediction layer is layer `num_hidden_layers`.
    pub fn is_moe_layer(&self, index: usize) -> bool {
        self.moe
            .is_some_and(|moe| index >= moe.first_k_dense_replace)
    }

    /// R: the rotated columns of a head.
    pub const fn rope_width(&self) -> usize {
        match &self.attention {
            AttentionConfig::Mla(mla) => mla.qk_rope_head_dim,
            AttentionConfig::Gqa(gqa) => gqa.head_dim,
        }
    }

    /// Columns of a query head.
    pub const fn query_width(&self) -> usize {
        match &self.attention {
            AttentionConfig::Mla(mla) => mla.qk_nope_head_dim + mla.qk_rope_head_dim,
            AttentionConfig::Gqa(gqa) => gqa.head_dim,
        }
    }

    /// The epsilon of the norms as the operations take it.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding to f32 is the purpose"
    )]
    pub const fn epsilon(&self) -> f32 {
        self.rms_norm_eps as f32
    }

    /// Whether the query, key and value projections have a bias.
    pub fn has_qkv_bias(&self) -> bool {
        self.architecture == Architecture::Qwen2 || self.has_output_bias()
    }

    /// Whether the output projection of the attention has a bias.
    pub const fn has_output_bias(&self) -> bool {
        matches!(self.attention, AttentionConfig::Gqa(gqa) if gqa.attention_bias)
    }

    /// Whether each query and key head is normed.
    pub fn has_head_norms(&self) -> bool {
        self.architecture == Architecture::Qwen3
    }

    /// Refuses sizes that no model can have, so that what follows may multiply and allocate.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is impossible.
    pub fn check(&self) -> Result<()> {
        within("vocab_size", self.vocab_size, MAX_WIDTH)?;
        within("hidden_size", self.hidden_size, MAX_WIDTH)?;
        within("intermediate_size", self.intermediate_size, MAX_WIDTH)?;
        within("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS)?;
        within("num_attention_heads", self.num_attention_heads, MAX_WIDTH)?;
        within(
            "max_position_embeddings",
            self.max_position_embeddings,
            MAX_POSITIONS,
        )?;
        let eps = self.rms_norm_eps;
        ensure(
            eps > 0.0 && eps < 1.0,
            "rms_norm_eps",
            "a number between 0 and 1",
            eps,
        )?;
        ensure(
            self.rope_theta > 1.0 && self.rope_theta.is_finite(),
            "rope_theta",
            "a number above 1",
            self.rope_theta,
        )?;
        let heads = self.num_attention_heads;
        match &self.attention {
            AttentionConfig::Mla(mla) => mla.check(heads)?,
            AttentionConfig::Gqa(gqa) => gqa.check(heads)?,
        }
        let rope = self.rope_width();
        let name = match self.attention {
            AttentionConfig::Mla(_) => "qk_rope_head_dim",
            AttentionConfig::Gqa(_) => "head_dim",
        };
        ensure(
            rope.is_multiple_of(2),
            name,
            "an even number of rotated columns",
            rope,
        )?;
        self.rope_scaling.check()?;
        if let Some(moe) = &self.moe {
            moe.check()?;
        }
        let extra = self.num_nextn_predict_layers;
        let possible = usize::from(self.architecture == Architecture::DeepseekV3);
        let expected = format!("at most {possible} in this family");
        ensure(
            extra <= possible,
            "num_nextn_predict_layers",
            &expected,
            extra,
        )?;
        for id in self.bos_token_id.iter().chain(&self.eos_token_id) {
            let expected = format!("a token id below {}", self.vocab_size);
            ensure(
                (*id as usize) < self.vocab_size,
                "eos_token_id or bos_token_id",
                &expected,
                id,
            )?;
        }
        Ok(())
    }
}

impl MlaConfig {
    fn check(&self, n_heads: usize) -> Result<()> {
        if let Some(rank) = self.q_lora_rank {
            within("q_lora_rank", rank, MAX_WIDTH)?;
        }
        within("kv_lora_rank", self.kv_lora_rank, MAX_WIDTH)?;
        within("qk_nope_head_dim", self.qk_nope_head_dim, MAX_WIDTH)?;
        within("qk_rope_head_dim", self.qk_rope_head_dim, MAX_WIDTH)?;
        within("v_head_dim", self.v_head_dim, MAX_WIDTH)?;
        let widest = self.qk_nope_head_dim + self.qk_rope_head_dim.max(self.v_head_dim);
        joint(
            "num_attention_heads times the width of a head",
            n_heads,
            widest,
        )
    }
}

impl GqaConfig {
    fn check(&self, n_heads: usize) -> Result<()> {
        let kv_heads = self.num_key_value_heads;
        within("num_key_value_heads", kv_heads, MAX_WIDTH)?;
        within("head_dim", self.head_dim, MAX_WIDTH)?;
        let expected = format!("a divisor of {n_heads} heads");
        ensure(
            n_heads.is_multiple_of(kv_heads),
            "num_key_value_heads",
            &expected,
            kv_heads,
        )?;
        joint("num_attention_heads times head_dim", n_heads, self.head_dim)
    }
}

impl MoeConfig {
    /// The router as the operation takes it.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding to f32 is the purpose"
    )]
    pub const fn router(&self) -> Router {
        let (n_group, topk_group) = match self.topk_method {
            TopkMethod::Greedy => (1, 1),
            _ => (self.n_group, self.topk_group),
        };
        let (scoring, group_score) = match self.topk_method {
            TopkMethod::NoauxTc => (Scoring::Sigmoid, GroupScore::TopTwo),
            _ => (Scoring::Softmax, GroupScore::Max),
        };
        Router {
            top_k: self.num_experts_per_tok,
            n_group,
            topk_group,
            scoring,
            group_score,
            normalise: self.norm_topk_prob,
            scale: self.routed_scaling_factor as f32,
        }
    }

    fn check(&self) -> Result<()> {
        let experts = self.n_routed_experts;
        within("n_routed_experts", experts, MAX_EXPERTS)?;
        within("num_experts_per_tok", self.num_experts_per_tok, experts)?;
        within(
            "moe_intermediate_size",
            self.moe_intermediate_size,
            MAX_WIDTH,
        )?;
        if self.n_shared_experts > 0 {
            joint(
                "n_shared_experts times moe_intermediate_size",
                self.n_shared_experts,
                self.moe_intermediate_size,
            )?;
        }
        within("n_group", self.n_group, experts)?;
        within("topk_group", self.topk_group, self.n_group)?;
        let expected = format!("a divisor of {experts} experts");
        ensure(
            experts.is_multiple_of(self.n_group),
            "n_group",
            &expected,
            self.n_group,
        )?;
        let router = self.router();
        let each = experts / router.n_group.max(1);
        let expected = format!(
            "at most the {} experts of the groups kept",
            router.topk_group * each
        );
        let top_k = self.num_experts_per_tok;
        ensure(
            top_k <= router.topk_group * each,
            "num_experts_per_tok",
            &expected,
            top_k,
        )?;
        if self.topk_method == TopkMethod::NoauxTc && self.n_group > 1 {
            let expected = "at least two experts in a group, whose two best rank it";
            ensure(each >= 2, "n_group", expected, self.n_group)?;
        }
        if self.topk_method != TopkMethod::NoauxTc {
            // The published V2 code and its ports disagree on what `true` would mean.
            let expected = "false with softmax scores";
            ensure(!self.norm_topk_prob, "norm_topk_prob", expected, true)?;
        }
        let scale = self.routed_scaling_factor;
        ensure(
            scale.is_finite() && scale > 0.0,
            "routed_scaling_factor",
            "a positive number",
            scale,
        )
    }
}

impl RopeScaling {
    fn check(&self) -> Result<()> {
        let (factor, original) = match self {
            Self::None => return Ok(()),
            Self::Linear { factor } => (*factor, 1),
            Self::Yarn(yarn) => {
                let [fast, slow] = [yarn.beta_fast, yarn.beta_slow];
                ensure(
                    slow > 0.0 && fast > slow,
                    "beta_fast",
                    "more than beta_slow",
                    fast,
                )?;
                (yarn.factor, yarn.original_max_position_embeddings)
            }
            Self::Llama3(llama) => {
                let [low, high] = [llama.low_freq_factor, llama.high_freq_factor];
                ensure(
                    low > 0.0 && high > low,
                    "high_freq_factor",
                    "more than low_freq_factor",
                    high,
                )?;
                (llama.factor, llama.original_max_position_embeddings)
            }
        };
        ensure(
            factor.is_finite() && factor >= 1.0,
            "factor",
            "a number of at least 1",
            factor,
        )?;
        within("original_max_position_embeddings", original, MAX_POSITIONS)
    }
}

fn ensure(holds: bool, field: &str, expected: &str, got: impl Display) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Config {
        field: field.to_string(),
        expected: expected.to_string(),
        got: got.to_string(),
    })
}

fn within(field: &str, value: usize, limit: usize) -> Result<()> {
    ensure(
        value >= 1 && value <= limit,
        field,
        &format!("1 to {limit}"),
        value,
    )
}

fn joint(field: &str, a: usize, b: usize) -> Result<()> {
    let got = a.checked_mul(b);
    let shown = got.map_or_else(|| String::from("more"), |n| n.to_string());
    let possible = got.is_some_and(|n| n <= MAX_WIDTH);
    ensure(possible, field, &format!("at most {MAX_WIDTH}"), shown)
}
