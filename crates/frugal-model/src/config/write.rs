//! [`ModelConfig`] to `config.json`.

use alloc::format;
use alloc::string::String;

use frugal_core::backend::RopePairs;
use serde_json::{Value, json};

use super::{
    Architecture, AttentionConfig, GqaConfig, MlaConfig, ModelConfig, RopeScaling, TopkMethod,
};

impl ModelConfig {
    /// Writes the published form, in the older spelling of the rope that every reader knows.
    pub fn to_json(&self) -> String {
        let (name, kind) = self.architecture.names();
        let mut out = json!({
            "architectures": [name],
            "model_type": kind,
            "hidden_act": "silu",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling.to_json(),
            "bos_token_id": self.bos_token_id,
            "eos_token_id": match *self.eos_token_id.as_slice() {
                [] => Value::Null,
                [id] => json!(id),
                _ => json!(self.eos_token_id),
            },
        });
        match &self.attention {
            AttentionConfig::Mla(mla) => extend(&mut out, self.mla_json(mla)),
            AttentionConfig::Gqa(gqa) => extend(&mut out, self.gqa_json(gqa)),
        }
        if let Some(blocks) = self.weight_block_size {
            let quantization = json!({
                "quant_method": "fp8", "fmt": "e4m3",
                "activation_scheme": "dynamic", "weight_block_size": blocks,
            });
            extend(&mut out, json!({ "quantization_config": quantization }));
        }
        format!("{out:#}\n")
    }

    fn gqa_json(&self, gqa: &GqaConfig) -> Value {
        let mut out = json!({
            "num_key_value_heads": gqa.num_key_value_heads,
            "head_dim": gqa.head_dim,
        });
        if self.architecture != Architecture::Qwen2 {
            extend(&mut out, json!({ "attention_bias": gqa.attention_bias }));
        }
        out
    }

    fn mla_json(&self, mla: &MlaConfig) -> Value {
        let is_v3 = self.architecture == Architecture::DeepseekV3;
        let mut out = json!({
            "attention_bias": false,
            "num_key_value_heads": self.num_attention_heads,
            "q_lora_rank": mla.q_lora_rank,
            "kv_lora_rank": mla.kv_lora_rank,
            "qk_nope_head_dim": mla.qk_nope_head_dim,
            "qk_rope_head_dim": mla.qk_rope_head_dim,
            "v_head_dim": mla.v_head_dim,
            "scoring_func": if is_v3 { "sigmoid" } else { "softmax" },
            "moe_layer_freq": 1,
        });
        if is_v3 {
            let interleaved = self.rope_pairs == RopePairs::Interleaved;
            let extra = self.num_nextn_predict_layers;
            extend(
                &mut out,
                json!({ "rope_interleave": interleaved, "num_nextn_predict_layers": extra }),
            );
        }
        let experts = match &self.moe {
            Some(moe) => json!({
                "n_routed_experts": moe.n_routed_experts,
                "n_shared_experts": moe.n_shared_experts,
                "num_experts_per_tok": moe.num_experts_per_tok,
                "moe_intermediate_size": moe.moe_intermediate_size,
                "first_k_dense_replace": moe.first_k_dense_replace,
                "n_group": moe.n_group,
                "topk_group": moe.topk_group,
                "topk_method": match moe.topk_method {
                    TopkMethod::Greedy => "greedy",
                    TopkMethod::GroupLimitedGreedy => "group_limited_greedy",
                    TopkMethod::NoauxTc => "noaux_tc",
                },
                "norm_topk_prob": moe.norm_topk_prob,
                "routed_scaling_factor": moe.routed_scaling_factor,
            }),
            None => json!({
                "n_routed_experts": null,
                "first_k_dense_replace": self.num_hidden_layers,
            }),
        };
        extend(&mut out, experts);
        out
    }
}

impl RopeScaling {
    fn to_json(self) -> Value {
        let (kind, mut out) = match self {
            Self::None => return Value::Null,
            Self::Linear { factor } => ("linear", json!({ "factor": factor })),
            Self::Yarn(yarn) => {
                let mut out = json!({
                    "factor": yarn.factor,
                    "beta_fast": yarn.beta_fast,
                    "beta_slow": yarn.beta_slow,
                    "original_max_position_embeddings": yarn.original_max_position_embeddings,
                });
                if let Some([mscale, all_dim]) = yarn.mscale {
                    extend(
                        &mut out,
                        json!({ "mscale": mscale, "mscale_all_dim": all_dim }),
                    );
                }
                if let Some(factor) = yarn.attention_factor {
                    extend(&mut out, json!({ "attention_factor": factor }));
                }
                ("yarn", out)
            }
            Self::Llama3(llama) => (
                "llama3",
                json!({
                    "factor": llama.factor,
                    "low_freq_factor": llama.low_freq_factor,
                    "high_freq_factor": llama.high_freq_factor,
                    "original_max_position_embeddings": llama.original_max_position_embeddings,
                }),
            ),
        };
        extend(&mut out, json!({ "type": kind, "rope_type": kind }));
        out
    }
}

fn extend(out: &mut Value, more: Value) {
    if let (Value::Object(out), Value::Object(more)) = (out, more) {
        out.extend(more);
    }
}
