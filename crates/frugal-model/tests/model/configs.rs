//! Configs: published sizes, both spellings, refusals.

use frugal_model::config::{Architecture, ModelConfig, RopeScaling};
use frugal_model::params::{Params, Spec};
use frugal_model::rope;
use proptest::prelude::*;

use crate::support::{GOLDENS, golden, small_qwen3, small_v3};

/// The config of DeepSeek-V3 as published, without the fields that say nothing about the model.
const V3: &str = r#"{
  "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
  "attention_bias": false, "attention_dropout": 0.0, "aux_loss_alpha": 0.001,
  "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
  "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 3,
  "hidden_act": "silu", "hidden_size": 7168, "initializer_range": 0.02,
  "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840,
  "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256,
  "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 128,
  "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128,
  "num_nextn_predict_layers": 1, "pretraining_tp": 1, "q_lora_rank": 1536,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
  "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
    "weight_block_size": [128, 128]},
  "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0,
    "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
  "seq_aux": true, "tie_word_embeddings": false, "topk_group": 4, "topk_method": "noaux_tc",
  "torch_dtype": "bfloat16", "transformers_version": "4.33.1", "use_cache": true,
  "v_head_dim": 128, "vocab_size": 129280
}"#;

fn v3() -> ModelConfig {
    ModelConfig::from_json(V3).unwrap()
}

#[test]
fn published_v3_has_the_published_number_of_parameters() {
    let config = v3();
    let spec = Params::<Spec>::spec(&config).unwrap();
    let count = spec.count(&config);
    assert_eq!(count.total, 671_026_419_200);
    assert_eq!(count.active, 37_552_297_472);
    assert_eq!(count.mtp, 11_610_068_224);
    // The file repeats embedding and head in the extra layer; each e4m3 weight has a scale tensor.
    let files: usize = spec.leaves().iter().map(|leaf| leaf.files().count()).sum();
    let scales: usize = spec
        .leaves()
        .iter()
        .filter(|leaf| is_fp8_in_v3(leaf))
        .map(|leaf| leaf.files().count())
        .sum();
    assert_eq!(files + 2 + scales, 91_991);
    let scale_elements: usize = spec
        .leaves()
        .iter()
        .filter(|leaf| is_fp8_in_v3(leaf))
        .map(|leaf| {
            let shape = leaf.file_shape();
            leaf.files().count() * shape.rows().div_ceil(128) * shape.cols().div_ceil(128)
        })
        .sum();
    assert_eq!(scale_elements, 41_540_496);
    let copies = 2 * 129_280 * 7_168;
    assert_eq!(
        count.total + count.mtp + copies + scale_elements as u64,
        684_531_386_000
    );
}

fn is_fp8_in_v3(leaf: &Spec) -> bool {
    use frugal_model::params::Role;
    matches!(leaf.role, Role::Matrix | Role::Experts) && !leaf.name.contains("eh_proj")
}

#[test]
fn published_v3_has_the_published_layer_sizes() {
    let spec = Params::<Spec>::spec(&v3()).unwrap();
    let sum = |part: &str| -> usize {
        let leaves = spec.leaves();
        let chosen = leaves.iter().filter(|leaf| leaf.name.starts_with(part));
        chosen.map(|leaf| leaf.shape.elements()).sum()
    };
    assert_eq!(sum("model.layers.0.self_attn."), 187_107_328);
    assert_eq!(sum("model.layers.0.mlp."), 396_361_728);
    assert_eq!(sum("model.layers.3.mlp.shared_experts."), 44_040_192);
    assert_eq!(sum("model.layers.3.mlp."), 11_320_164_608);
}

#[test]
fn published_v3_has_the_published_rope_and_softmax_scale() {
    let mut config = v3();
    assert!((rope::softmax_scale(&config) - 0.135_233_8).abs() < 1e-7);
    let frequencies = rope::frequencies(64, 10_000.0, &config.rope_scaling);
    let plain = rope::frequencies(64, 10_000.0, &RopeScaling::None);
    for (i, ratio) in [
        (0, 1.0),
        (10, 1.0),
        (11, 0.925),
        (16, 0.55),
        (22, 0.1),
        (23, 0.025),
        (31, 0.025),
    ] {
        assert!((frequencies[i] / plain[i] - ratio).abs() < 1e-12, "{i}");
    }
    config.max_position_embeddings = 4096;
    assert!((rope::softmax_scale(&config) - 0.072_168_8).abs() < 1e-7);
}

#[test]
fn yarn_agrees_with_independent_vectors() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/rl-vectors/yarn.jsonl"
    );
    let Ok(lines) = std::fs::read_to_string(path) else {
        eprintln!("skipped: no {path}");
        return;
    };
    for line in lines.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let width = usize::try_from(row["dim"].as_u64().unwrap()).unwrap();
        let expected: Vec<f64> = row["inv_freq"]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect();
        let scaling = serde_json::json!({
            "type": "yarn", "factor": row["factor"],
            "beta_fast": row["beta_fast"], "beta_slow": row["beta_slow"],
            "original_max_position_embeddings": row["original_seq_len"],
        });
        let mut config: serde_json::Value = serde_json::from_str(V3).unwrap();
        config["rope_scaling"] = scaling;
        config["rope_theta"] = row["base"].clone();
        config["qk_rope_head_dim"] = row["dim"].clone();
        config["max_position_embeddings"] = row["max_seq_len"].clone();
        let config = ModelConfig::from_json(&config.to_string()).unwrap();
        let got = rope::frequencies(width, config.rope_theta, &rope::active_scaling(&config));
        for (a, b) in got.iter().zip(&expected) {
            assert!((a / b - 1.0).abs() < 1e-9, "{a} instead of {b}");
        }
    }
}

#[test]
fn goldens_survive_being_written_in_the_older_spelling() {
    for name in GOLDENS {
        let config = golden(name).config;
        let written = config.to_json();
        assert!(written.contains("rope_theta") && !written.contains("rope_parameters"));
        assert_eq!(ModelConfig::from_json(&written).unwrap(), config, "{name}");
    }
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let cases = [
        (
            "model_type",
            r#""mamba""#,
            "DeepseekV3ForCausalLM (deepseek_v3)",
        ),
        (
            "architectures",
            r#"["DeepseekV4ForCausalLM"]"#,
            "DeepseekV4ForCausalLM",
        ),
        (
            "logit_softcapping",
            "30.0",
            "unknown field logit_softcapping",
        ),
        ("attention_bias", "true", "attention_bias"),
        ("hidden_act", r#""gelu""#, "hidden_act"),
        ("moe_layer_freq", "2", "moe_layer_freq"),
        ("scoring_func", r#""softmax""#, "scoring_func"),
        ("topk_method", r#""greedy""#, "topk_method"),
        (
            "hidden_size",
            "-1",
            "hidden_size: expected a whole number, got -1",
        ),
        ("hidden_size", "0", "hidden_size: expected 1 to"),
        ("hidden_size", "1000000000000", "hidden_size"),
        ("num_hidden_layers", "1000000000", "num_hidden_layers"),
        ("n_routed_experts", "4000000000", "n_routed_experts"),
        (
            "n_routed_experts",
            "255",
            "n_group: expected a divisor of 255 experts",
        ),
        ("num_experts_per_tok", "200", "num_experts_per_tok"),
        (
            "n_shared_experts",
            "9000000000000000000",
            "n_shared_experts times",
        ),
        ("qk_rope_head_dim", "63", "an even number"),
        ("qk_nope_head_dim", "16777216", "num_attention_heads times"),
        ("num_nextn_predict_layers", "2", "num_nextn_predict_layers"),
        ("num_key_value_heads", "8", "num_key_value_heads"),
        ("rms_norm_eps", "0", "rms_norm_eps"),
        ("eos_token_id", "129280", "a token id below 129280"),
        (
            "rope_scaling",
            r#"{"type": "longrope"}"#,
            "rope_scaling.rope_type",
        ),
        (
            "rope_scaling",
            r#"{"type": "linear", "factor": 2, "x": 1}"#,
            "rope_scaling.x",
        ),
        (
            "rope_scaling",
            r#"{"type": "linear", "factor": 0.5}"#,
            "factor",
        ),
        (
            "rope_parameters",
            r#"{"rope_type": "default"}"#,
            "rope_scaling",
        ),
        (
            "quantization_config",
            r#"{"quant_method": "gptq"}"#,
            "quantization_config.quant_method",
        ),
        (
            "vocab_size",
            "null",
            "vocab_size: expected a whole number, got null",
        ),
    ];
    for (field, value, told) in cases {
        let mut config: serde_json::Value = serde_json::from_str(V3).unwrap();
        config[field] = serde_json::from_str(value).unwrap();
        let error = ModelConfig::from_json(&config.to_string())
            .unwrap_err()
            .to_string();
        assert!(error.contains(told), "{field} = {value}: {error}");
    }
    assert!(ModelConfig::from_json("[]").is_err());
    assert!(ModelConfig::from_json("{").is_err());
}

#[test]
fn windows_are_accepted_only_where_they_are_off() {
    let with = |more: &str| {
        let text = golden("qwen2").config.to_json();
        ModelConfig::from_json(&text.replacen('{', &format!("{{{more},"), 1))
    };
    assert!(
        with(r#""sliding_window": 4096, "use_sliding_window": false, "use_mrope": false"#).is_ok()
    );
    assert!(with(r#""sliding_window": 4096"#).is_err());
    assert!(with(r#""use_sliding_window": true"#).is_err());
    assert!(with(r#""layer_types": ["full_attention", "sliding_attention"]"#).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_config_that_is_written_reads_the_same(
        sizes in prop::array::uniform6(1usize..300),
        theta in 1.5f64..1e7,
        factor in 1.0f64..100.0,
        flags in prop::array::uniform4(any::<bool>()),
        dense in any::<bool>(),
    ) {
        let [vocab, hidden, inner, layers, heads, rank] = sizes;
        let [tied, gqa, yarn, plain_q] = flags;
        let mut config = if gqa { small_qwen3() } else { small_v3() };
        config.vocab_size = vocab + 1;
        config.hidden_size = hidden;
        config.intermediate_size = inner;
        config.num_hidden_layers = layers;
        config.tie_word_embeddings = tied;
        config.rope_theta = theta;
        if let frugal_model::config::AttentionConfig::Mla(mla) = &mut config.attention {
            config.num_attention_heads = heads;
            mla.kv_lora_rank = rank;
            mla.q_lora_rank = (!plain_q).then_some(rank);
        }
        if yarn {
            config.rope_scaling = RopeScaling::Yarn(frugal_model::config::Yarn {
                factor,
                beta_fast: 32.0,
                beta_slow: 1.0,
                original_max_position_embeddings: 16,
                mscale: plain_q.then_some([0.707, 0.707]),
                attention_factor: tied.then_some(1.25),
            });
        }
        if dense {
            config.moe = None;
        }
        prop_assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config);
    }
}

#[test]
fn a_field_that_comes_twice_is_refused_at_its_place() {
    let text = small_qwen3().to_json();
    let twice = [
        text.replacen('{', r#"{"hidden_size": 8,"#, 1),
        text.replacen(
            '{',
            r#"{"torch_dtype": {"a": [{"hidden_size": 1, "hidden_size": 1}]},"#,
            1,
        ),
    ];
    assert!(ModelConfig::from_json(&text).is_ok());
    for text in twice {
        let error = ModelConfig::from_json(&text).unwrap_err().to_string();
        assert!(
            error.starts_with("config.json: \"hidden_size\" comes twice at line "),
            "{error}"
        );
    }
    for other in ["[]", "3", "null", "\"a\"", "{", ""] {
        assert!(ModelConfig::from_json(other).is_err(), "{other}");
    }
}

#[test]
fn v2_with_normalised_weights_is_refused() {
    let mut config = golden("deepseek_v2").config;
    assert_eq!(config.architecture, Architecture::DeepseekV2);
    config.moe.as_mut().unwrap().norm_topk_prob = true;
    assert!(
        config
            .check()
            .unwrap_err()
            .to_string()
            .contains("norm_topk_prob")
    );
}
