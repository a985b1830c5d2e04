//! What several tests need: golden folders, small configs, comparisons.

use std::path::PathBuf;

use frugal_core::backend::Backend;
use frugal_core::dtype::Data;
use frugal_core::reference::Reference;
use frugal_core::shape::Rows;
use frugal_core::stored::SharedBytes;
use frugal_model::config::{
    Architecture, AttentionConfig, GqaConfig, Llama3, MlaConfig, ModelConfig, MoeConfig,
    RopeScaling, TopkMethod, Yarn,
};
use frugal_model::init::{Deviation, InitSettings, OutputInit, init};
use frugal_model::params::Params;
use frugal_model::transformer::{Model, Step, hidden, logits};
use safetensors::SafeTensors;

pub(crate) type Tensor = <Reference as Backend>::Tensor;

pub(crate) const GOLDENS: [&str; 9] = [
    "deepseek_v2",
    "deepseek_v2_lite",
    "deepseek_v3",
    "deepseek_v3_fp8",
    "deepseek_v3_mtp",
    "deepseek_v3_yarn",
    "llama3",
    "qwen2",
    "qwen3",
];

/// One folder of `tests/golden`.
pub(crate) struct Golden {
    pub(crate) config: ModelConfig,
    pub(crate) weights: Vec<u8>,
    values: Vec<u8>,
}

pub(crate) fn golden(name: &str) -> Golden {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let config = String::from_utf8(read("config.json")).unwrap();
    Golden {
        config: ModelConfig::from_json(&config).unwrap(),
        weights: read("model.safetensors"),
        values: read("golden.safetensors"),
    }
}

impl Golden {
    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.values).unwrap();
        let data = file.tensor(name).unwrap().data();
        data.as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.values).unwrap();
        let data = file.tensor(name).unwrap().data();
        let ids = data.as_chunks::<8>().0.iter();
        ids.map(|b| u32::try_from(i64::from_le_bytes(*b)).unwrap())
            .collect()
    }

    pub(crate) fn load(&self) -> Model<Tensor> {
        frugal_model::checkpoint::load(&Reference, &self.config, &self.files(), 64).unwrap()
    }

    pub(crate) fn files(&self) -> [SharedBytes; 1] {
        [self.weights.clone().into()]
    }
}

/// A file of the shared data, or none, said aloud.
pub(crate) fn shared(path: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(path);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        std::eprintln!("skipped: no {}", path.display());
    }
    bytes
}

/// Logits of a sequence from position 0.
pub(crate) fn whole(model: &Model<Tensor>, ids: &[u32]) -> Vec<f32> {
    let rows = Rows::packed(&[u32::try_from(ids.len()).unwrap()]).unwrap();
    let step = Step { ids, rows: &rows };
    let hidden = hidden(&Reference, model, &step, None).unwrap();
    Reference
        .get(&logits(&Reference, model, &hidden).unwrap())
        .unwrap()
}

/// One tiny config of each family and each form: experts, tied and biased.
pub(crate) fn families() -> Vec<ModelConfig> {
    let v3 = small_v3();
    let moe = v3.moe.unwrap();
    let softmax = |topk_method, n_group, topk_group| MoeConfig {
        topk_method,
        n_group,
        topk_group,
        norm_topk_prob: false,
        routed_scaling_factor: 1.0,
        ..moe
    };
    let plain_query = AttentionConfig::Mla(MlaConfig {
        q_lora_rank: None,
        kv_lora_rank: 5,
        qk_nope_head_dim: 6,
        qk_rope_head_dim: 4,
        v_head_dim: 5,
    });
    let yarn = RopeScaling::Yarn(Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        original_max_position_embeddings: 16,
        mscale: Some([0.707, 0.707]),
        attention_factor: None,
    });
    let grouped = |head_dim, attention_bias| {
        AttentionConfig::Gqa(GqaConfig {
            num_key_value_heads: 2,
            head_dim,
            attention_bias,
        })
    };
    let qwen3 = small_qwen3();
    vec![
        ModelConfig {
            architecture: Architecture::DeepseekV2,
            attention: plain_query,
            moe: Some(softmax(TopkMethod::Greedy, 1, 1)),
            rope_scaling: yarn,
            ..v3.clone()
        },
        ModelConfig {
            architecture: Architecture::DeepseekV2,
            moe: Some(softmax(TopkMethod::GroupLimitedGreedy, 3, 2)),
            ..v3.clone()
        },
        ModelConfig {
            moe: None,
            ..v3.clone()
        },
        v3,
        ModelConfig {
            architecture: Architecture::Qwen2,
            attention: grouped(6, false),
            tie_word_embeddings: true,
            eos_token_id: vec![1, 2],
            ..qwen3.clone()
        },
        ModelConfig {
            architecture: Architecture::Llama,
            attention: grouped(6, true),
            rope_scaling: RopeScaling::Linear { factor: 2.0 },
            ..qwen3.clone()
        },
        ModelConfig {
            architecture: Architecture::Llama,
            attention: grouped(16, false),
            rope_theta: 500_000.0,
            rope_scaling: RopeScaling::Llama3(Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 64,
            }),
            ..qwen3.clone()
        },
        qwen3,
    ]
}

/// The largest difference, relative to the largest expected value.
pub(crate) fn relative_error(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let pairs = got.iter().zip(expected);
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0f32, |worst, d| {
        if d.is_nan() {
            f32::INFINITY
        } else {
            worst.max(d)
        }
    });
    worst / largest.max(f32::MIN_POSITIVE)
}

/// A V3 of two layers, the second with experts.
pub(crate) fn small_v3() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::DeepseekV3,
        vocab_size: 23,
        hidden_size: 12,
        intermediate_size: 20,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        max_position_embeddings: 64,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: false,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        rope_pairs: frugal_core::backend::RopePairs::Interleaved,
        attention: AttentionConfig::Mla(MlaConfig {
            q_lora_rank: Some(7),
            kv_lora_rank: 5,
            qk_nope_head_dim: 6,
            qk_rope_head_dim: 4,
            v_head_dim: 5,
        }),
        moe: Some(MoeConfig {
            n_routed_experts: 6,
            n_shared_experts: 1,
            num_experts_per_tok: 2,
            moe_intermediate_size: 8,
            first_k_dense_replace: 1,
            n_group: 3,
            topk_group: 2,
            topk_method: TopkMethod::NoauxTc,
            norm_topk_prob: true,
            routed_scaling_factor: 2.5,
        }),
        num_nextn_predict_layers: 0,
        bos_token_id: Some(0),
        eos_token_id: vec![1],
        weight_block_size: None,
    }
}

/// A Qwen3 of two layers.
pub(crate) fn small_qwen3() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen3,
        rope_pairs: frugal_core::backend::RopePairs::Halves,
        attention: AttentionConfig::Gqa(GqaConfig {
            num_key_value_heads: 2,
            head_dim: 6,
            attention_bias: false,
        }),
        num_attention_heads: 4,
        moe: None,
        ..small_v3()
    }
}

/// Values large enough that logits differ clearly.
pub(crate) fn values(config: &ModelConfig, seed: u64) -> Params<Vec<f32>> {
    let settings = InitSettings {
        matrices: Deviation::PerRootWidth(1.5),
        embedding: Deviation::Fixed(1.0),
        head: Deviation::PerRootWidth(2.0),
        outputs: OutputInit::Same,
    };
    init(config, seed, &settings).unwrap()
}

pub(crate) fn put(config: &ModelConfig, values: &Params<Vec<f32>>) -> Model<Tensor> {
    let specs = Params::spec(config).unwrap();
    let params = specs
        .zip(values)
        .unwrap()
        .map(|(spec, values)| Reference.put(spec.shape, Data::F32(values)).unwrap());
    Model::new(
        &Reference,
        config.clone(),
        params,
        config.max_position_embeddings,
    )
    .unwrap()
}

pub(crate) fn model(config: &ModelConfig, seed: u64) -> Model<Tensor> {
    put(config, &values(config, seed))
}
