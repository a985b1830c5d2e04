//! Files that we write, and read again.

use std::collections::BTreeSet;

use frugal_core::reference::Reference;
use frugal_model::checkpoint::gguf::{
    Array, GgufPlan, GgufSettings, TokenizerKeys, Value, load, load_stored, read,
};
use frugal_model::checkpoint::{self};
use frugal_model::config::{AttentionConfig, ModelConfig, RopeScaling};
use frugal_model::params::Params;

use super::{parsed, settings, wide, written};
use crate::support::{GOLDENS, families, golden, put, small_qwen3, small_v3, values, whole};

const MIXTURES: [&str; 9] = [
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q4_K_M",
];

#[test]
fn logits_of_a_file_in_f32_are_those_of_the_folder_to_the_bit() {
    let mut n_models = 0;
    for name in GOLDENS {
        let golden = golden(name);
        let ids = golden.ids("input_ids")[..24].to_vec();
        let expected = whole(&golden.load(), &ids);
        let (config, leaves) = checkpoint::read(&golden.config, &golden.files()).unwrap();
        let gguf = parsed(&written(&config, &leaves, &settings("F32")));
        for model in [
            load(&Reference, &gguf, 64).unwrap(),
            load_stored(&Reference, &gguf, 64).unwrap(),
        ] {
            assert!(whole(&model, &ids) == expected, "{name}");
        }
        n_models += 1;
    }
    assert_eq!(n_models, 9);
}

#[test]
fn what_is_written_reads_the_same_in_every_family() {
    for (index, config) in families().into_iter().enumerate() {
        let values = values(&config, index as u64);
        let gguf = parsed(&written(&config, &values, &settings("F32")));
        let (read_config, leaves) = read(&gguf).unwrap();
        assert_eq!(read_config, config);
        assert_eq!(leaves.map(|leaf| leaf.values().unwrap()), values);
        let expected = whole(&put(&config, &values), &[3, 1, 4, 1, 5]);
        let got = whole(&load(&Reference, &gguf, 64).unwrap(), &[3, 1, 4, 1, 5]);
        assert!(got == expected, "family {index}");
        // What was read is written again without a change, from where it lies.
        let again = written(&config, &leaves, &settings("F32"));
        assert!(again == written(&config, &values, &settings("F32")));
    }
}

#[test]
fn each_mixture_holds_what_its_formats_can_hold() {
    for config in [wide(small_qwen3()), wide(small_v3())] {
        let values = values(&config, 8);
        for name in MIXTURES {
            let bytes = written(&config, &values, &settings(name));
            let gguf = parsed(&bytes);
            let (read_config, leaves) = read(&gguf).unwrap();
            assert_eq!(read_config, config);
            let specs = Params::spec(&config).unwrap();
            for (leaf, values) in leaves.zip(&values).unwrap().leaves() {
                let got = leaf.values().unwrap();
                assert_eq!(got.len(), values.len());
                let power = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>();
                let difference: Vec<f32> = got.iter().zip(*values).map(|(a, b)| a - b).collect();
                let error = (power(&difference) / power(values).max(1e-30)).sqrt();
                // The coarsest format used has 15 levels over a block's range.
                let most = match name {
                    "F32" => 0.0,
                    "F16" | "BF16" => 4e-3,
                    "Q8_0" => 1e-2,
                    _ => 0.12,
                };
                assert!(
                    error <= most,
                    "{name}: {} differs by {error}",
                    leaf.spec.name
                );
            }
            let kinds: BTreeSet<&str> = gguf.tensors.iter().map(|t| t.kind.name).collect();
            let expected: &[&str] = match name {
                "F32" => &["F32"],
                "F16" => &["F16", "F32"],
                "BF16" => &["BF16", "F32"],
                "Q8_0" => &["F16", "F32", "Q8_0"],
                "Q4_0" => &["F16", "F32", "Q4_0"],
                "Q4_K" => &["F16", "F32", "Q4_K", "Q8_0"],
                "Q5_K" => &["F16", "F32", "Q5_K", "Q8_0"],
                "Q6_K" => &["F16", "F32", "Q6_K", "Q8_0"],
                _ => &["F16", "F32", "Q4_K", "Q6_K", "Q8_0"],
            };
            assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected, "{name}");
            assert_eq!(specs.leaves().len(), leaves.leaves().len());
            // Blocks that lie in a file are copied as they are. MLA's key half is decoded between.
            if matches!(config.attention, AttentionConfig::Gqa(_)) {
                assert!(
                    written(&config, &leaves, &settings(name)) == bytes,
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn an_f16_that_would_be_infinite_is_refused() {
    let config = small_qwen3();
    let mut values = values(&config, 9);
    values.embed[5] = 1e5;
    let plan = GgufPlan::new(&config, &values, &settings("F16")).unwrap();
    let error = plan.write(&mut |_| Ok(())).unwrap_err().to_string();
    assert!(
        error.contains("embed_tokens") && error.contains("100000"),
        "{error}"
    );
}

#[test]
fn a_config_that_no_gguf_file_can_say_is_not_written() {
    let v3 = small_v3();
    let halves = ModelConfig {
        rope_pairs: frugal_core::backend::RopePairs::Halves,
        ..v3.clone()
    };
    let yarn = families().remove(0).rope_scaling;
    let RopeScaling::Yarn(yarn) = yarn else {
        panic!("no YaRN");
    };
    let with = |change: fn(&mut frugal_model::config::Yarn)| {
        let mut yarn = yarn;
        change(&mut yarn);
        ModelConfig {
            rope_scaling: RopeScaling::Yarn(yarn),
            ..v3.clone()
        }
    };
    for (config, told) in [
        (halves, "rope_interleave"),
        (with(|yarn| yarn.mscale = Some([1.0, 0.5])), "mscale"),
        (
            with(|yarn| yarn.attention_factor = Some(1.2)),
            "attention_factor",
        ),
    ] {
        let values = values(&config, 17);
        let error = GgufPlan::new(&config, &values, &settings("F32"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(told), "{error}");
    }
    let config = small_qwen3();
    let values = values(&config, 17);
    let twice = GgufSettings {
        metadata: vec![("qwen3.block_count".into(), Value::U32(2))],
        ..settings("F32")
    };
    let error = GgufPlan::new(&config, &values, &twice)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("qwen3.block_count: expected each key once"),
        "{error}"
    );
}

#[test]
fn tokenizers_and_keys_of_every_type_come_back() {
    let config = small_qwen3();
    let tokenizer = TokenizerKeys {
        model: "gpt2".into(),
        pre: "qwen2".into(),
        tokens: (0..23).map(|id| format!("t{id}")).collect(),
        token_types: vec![1; 23],
        merges: vec!["a b".into(), "ü ß".into()],
        bos: Some(0),
        eos: Some(1),
        pad: Some(3),
        unk: None,
        add_bos: Some(false),
        chat_template: Some("{{ messages }}".into()),
    };
    let metadata: Vec<(String, Value)> = [
        Value::U8(1),
        Value::I8(-1),
        Value::U16(2),
        Value::I16(-2),
        Value::U32(3),
        Value::I32(-3),
        Value::F32(0.5),
        Value::Bool(true),
        Value::String("ß".into()),
        Value::U64(1 << 40),
        Value::I64(-(1 << 40)),
        Value::F64(1e-300),
        Value::Array(Array::U8(vec![1, 2])),
        Value::Array(Array::I8(vec![-1])),
        Value::Array(Array::U16(vec![])),
        Value::Array(Array::I16(vec![-2])),
        Value::Array(Array::U32(vec![3])),
        Value::Array(Array::I32(vec![-3])),
        Value::Array(Array::F32(vec![0.5])),
        Value::Array(Array::Bool(vec![true, false])),
        Value::Array(Array::String(vec![String::new(), "b".into()])),
        Value::Array(Array::U64(vec![1 << 40])),
        Value::Array(Array::I64(vec![-(1 << 40)])),
        Value::Array(Array::F64(vec![1e-300])),
        Value::Array(Array::Array(vec![
            Array::Array(vec![Array::U8(vec![1]), Array::String(vec!["x".into()])]),
            Array::Array(vec![]),
        ])),
    ]
    .into_iter()
    .enumerate()
    .map(|(index, value)| (format!("test.{index}"), value))
    .collect();
    let settings = GgufSettings {
        tokenizer: Some(tokenizer.clone()),
        metadata: metadata.clone(),
        ..settings("F32")
    };
    let gguf = parsed(&written(&config, &values(&config, 18), &settings));
    assert_eq!(gguf.tokenizer().unwrap(), Some(tokenizer));
    for (key, value) in metadata {
        assert_eq!(gguf.keys[&key], value, "{key}");
    }
    let (read_config, _) = read(&gguf).unwrap();
    assert_eq!(read_config.eos_token_id, [1]);
    let without = parsed(&written(
        &config,
        &values(&config, 18),
        &self::settings("F32"),
    ));
    assert_eq!(without.tokenizer().unwrap(), None);
}
