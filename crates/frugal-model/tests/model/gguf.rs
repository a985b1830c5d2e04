//! GGUF files: those of others, our own and hostile ones.

use std::collections::BTreeSet;

use frugal_core::dtype::decode;
use frugal_core::reference::Reference;
use frugal_core::shape::Shape;
use frugal_core::stored::{SharedBytes, Stored};
use frugal_model::checkpoint::gguf::{
    Array, Gguf, GgufPlan, GgufSettings, Kind, Mixture, TokenizerKeys, Value, config, load,
    load_stored, read,
};
use frugal_model::checkpoint::{self, Leaf, Numbers};
use frugal_model::config::{AttentionConfig, ModelConfig, RopeScaling};
use frugal_model::params::Params;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::support::{
    GOLDENS, families, golden, put, shared, small_qwen3, small_v3, values, whole,
};

const MIXTURES: [&str; 9] = [
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q4_K_M",
];

fn settings(mixture: &str) -> GgufSettings {
    GgufSettings {
        mixture: Mixture::from_name(mixture).unwrap(),
        tokenizer: None,
        metadata: vec![("general.name".into(), Value::String("tiny".into()))],
    }
}

fn written<L: Numbers>(
    config: &ModelConfig,
    params: &Params<L>,
    settings: &GgufSettings,
) -> Vec<u8> {
    let plan = GgufPlan::new(config, params, settings).unwrap();
    let mut bytes = Vec::new();
    plan.write(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })
    .unwrap();
    assert_eq!(bytes.len() as u64, plan.bytes());
    bytes
}

fn parsed(bytes: &[u8]) -> Gguf {
    Gguf::parse(bytes.to_vec().into()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// A tensor's name, shape, type and bytes.
type Tensor = (String, Vec<usize>, Kind, Vec<u8>);

/// A file of the given parts, for what our writer would not write.
#[derive(Clone)]
struct Parts {
    keys: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

impl Parts {
    fn of(gguf: &Gguf) -> Self {
        let tensors = gguf.tensors.iter();
        Self {
            keys: gguf.keys.clone().into_iter().collect(),
            tensors: tensors
                .map(|t| (t.name.clone(), t.shape.clone(), t.kind, t.bytes.to_vec()))
                .collect(),
        }
    }

    fn set(&mut self, key: &str, value: Value) {
        self.keys.retain(|(other, _)| other != key);
        self.keys.push((key.into(), value));
    }

    fn unset(&mut self, key: &str) {
        self.keys.retain(|(other, _)| other != key);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        let text = |text: &str, out: &mut Vec<u8>| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        for (key, value) in &self.keys {
            text(key, &mut out);
            let (kind, bytes): (u32, Vec<u8>) = match value {
                Value::U32(x) => (4, x.to_le_bytes().into()),
                Value::F32(x) => (6, x.to_le_bytes().into()),
                Value::Bool(x) => (7, vec![u8::from(*x)]),
                Value::String(x) => {
                    let mut bytes = Vec::new();
                    text(x, &mut bytes);
                    (8, bytes)
                }
                Value::U64(x) => (10, x.to_le_bytes().into()),
                other => panic!("the builder writes no {other}"),
            };
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        }
        let mut offset = 0usize;
        for (name, shape, kind, bytes) in &self.tensors {
            text(name, &mut out);
            out.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
            for n in shape.iter().rev() {
                out.extend((*n as u64).to_le_bytes());
            }
            out.extend(kind.id.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset = (offset + bytes.len()).next_multiple_of(32);
        }
        for (.., bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(bytes);
        }
        out
    }
}

#[test]
fn the_tiny_file_of_the_vectors_reads_as_stated() {
    let (Some(bytes), Some(expected)) = (
        shared("quant-vectors/tiny.gguf"),
        shared("quant-vectors/tiny_expect.json"),
    ) else {
        return;
    };
    let gguf = parsed(&bytes);
    let expected: Vec<Json> = serde_json::from_slice(&expected).unwrap();
    assert_eq!((gguf.tensors.len(), expected.len()), (12, 12));
    let mut kinds = BTreeSet::new();
    for (tensor, expected) in gguf.tensors.iter().zip(&expected) {
        assert_eq!(tensor.name, expected["name"]);
        assert_eq!(tensor.kind.name, expected["type"]);
        assert_eq!(tensor.offset as u64, expected["file_offset"]);
        let dims: Vec<usize> = tensor.shape.iter().rev().copied().collect();
        assert_eq!(
            serde_json::to_value(dims).unwrap(),
            expected["shape_ggml_order"]
        );
        let form = match tensor.format().unwrap() {
            frugal_core::quant::Format::Plain(dtype) => Stored::Plain {
                dtype,
                bytes: tensor.bytes.clone(),
            },
            frugal_core::quant::Format::Blocks(format) => Stored::Blocks {
                format,
                bytes: tensor.bytes.clone(),
            },
            other @ frugal_core::quant::Format::Fp8Blocks(_) => panic!("{other}"),
        };
        let values = decode(Shape::from_dims(&tensor.shape).unwrap(), form.data()).unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(sha256(&bytes), expected["sha256_of_f32"], "{}", tensor.name);
        kinds.insert(tensor.kind.name);
    }
    assert_eq!(kinds.len(), 8);
    for (key, value) in [
        ("test.unicode", Value::String("Grüße 数学 🙂".into())),
        ("test.ints", Value::Array(Array::I32(vec![1, -2, 3]))),
        ("test.bools", Value::Array(Array::Bool(vec![true, false]))),
        ("test.f64", Value::F64(1.0 / 3.0)),
        ("test.i64", Value::I64(-(1 << 40))),
        ("test.u8", Value::U8(255)),
    ] {
        assert_eq!(gguf.keys[key], value, "{key}");
    }
    let (config, leaves) = read(&gguf).unwrap();
    assert_eq!((config.vocab_size, config.rms_norm_eps), (32, 1e-5));
    assert_eq!(config.eos_token_id, [27]);
    // Stored forms stay, rows of queries and keys in the order of the published files.
    let forms: BTreeSet<String> = leaves
        .leaves()
        .iter()
        .map(|leaf| leaf.parts[0].format().to_string())
        .collect();
    assert_eq!(forms.len(), 8);
    let model = load_stored(&Reference, &gguf, 16).unwrap();
    assert!(whole(&model, &[1, 2, 3]).iter().all(|x| x.is_finite()));
}

#[test]
fn the_vocabulary_of_deepseek_coder_reads_as_stated() {
    let (Some(bytes), Some(expected)) = (
        shared("tokenizer/ggml-vocab-deepseek-coder.gguf"),
        shared("tokenizer/gguf_expect_deepseek-coder.json"),
    ) else {
        return;
    };
    let gguf = parsed(&bytes);
    let expected: Json = serde_json::from_slice(&expected).unwrap();
    assert_eq!(u64::from(gguf.version), expected["version"]);
    assert!(gguf.tensors.is_empty());
    let keys = expected["kv"].as_object().unwrap();
    assert_eq!(gguf.keys.len(), keys.len());
    for (key, expected) in keys {
        let got = match &gguf.keys[key] {
            Value::U32(x) => serde_json::json!({ "type": "uint32", "value": x }),
            Value::F32(x) => serde_json::json!({ "type": "float32", "value": f64::from(*x) }),
            Value::Bool(x) => serde_json::json!({ "type": "bool", "value": x }),
            Value::String(x) => serde_json::json!({ "type": "string", "value": x }),
            Value::Array(Array::String(x)) => serde_json::json!({
                "type": "array", "of": "string", "len": x.len(),
                "sha256": sha256(x.join("\n").as_bytes()),
            }),
            Value::Array(Array::I32(x)) => {
                let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
                serde_json::json!({
                    "type": "array", "of": "int32", "len": x.len(), "sha256": sha256(&bytes),
                })
            }
            other => panic!("{key}: {other}"),
        };
        assert_eq!(got, *expected, "{key}");
    }
    let tokenizer = gguf.tokenizer().unwrap().unwrap();
    assert_eq!(
        (tokenizer.model.as_str(), tokenizer.pre.as_str()),
        ("gpt2", "deepseek-coder")
    );
    assert_eq!(
        (tokenizer.tokens.len(), tokenizer.merges.len()),
        (32256, 31757)
    );
    assert_eq!(
        (tokenizer.bos, tokenizer.eos, tokenizer.pad),
        (Some(32013), Some(32014), Some(32014))
    );
    assert_eq!(tokenizer.add_bos, Some(true));
    assert!(
        config(&gguf)
            .unwrap_err()
            .to_string()
            .contains("token_embd.weight")
    );
}

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

/// Sizes at which every block format finds rows that fill its blocks, and rows that do not.
fn wide(config: ModelConfig) -> ModelConfig {
    ModelConfig {
        hidden_size: 256,
        intermediate_size: 288,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        ..config
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

/// The older layout: one joint matrix, and the widths of real heads under the plain keys.
fn joint_layout(gguf: &Gguf, config: &ModelConfig, leaves: &Params<Leaf>) -> Parts {
    let AttentionConfig::Mla(mla) = config.attention else {
        panic!("no MLA");
    };
    let mut parts = Parts::of(gguf);
    parts
        .tensors
        .retain(|(name, ..)| !name.contains("attn_k_b") && !name.contains("attn_v_b"));
    for leaf in leaves.leaves() {
        let Some(layer) = leaf.spec.name.strip_suffix(".self_attn.kv_b_proj.weight") else {
            continue;
        };
        let layer = layer.strip_prefix("model.layers.").unwrap();
        let values = leaf.values().unwrap();
        parts.tensors.push((
            format!("blk.{layer}.attn_kv_b.weight"),
            leaf.spec.shape.dims().to_vec(),
            Kind::from_id(0).unwrap(),
            values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ));
    }
    let u32 = |n: usize| Value::U32(u32::try_from(n).unwrap());
    let width = mla.qk_nope_head_dim + mla.qk_rope_head_dim;
    parts.set("deepseek2.attention.key_length", u32(width));
    parts.set("deepseek2.attention.value_length", u32(mla.v_head_dim));
    parts.unset("deepseek2.attention.key_length_mla");
    parts.unset("deepseek2.attention.value_length_mla");
    parts.set(
        "deepseek2.attention.head_count_kv",
        u32(config.num_attention_heads),
    );
    parts
}

#[test]
fn the_older_joint_layout_reads_as_the_split_one() {
    let config = small_v3();
    let gguf = parsed(&written(&config, &values(&config, 10), &settings("F32")));
    let (config, leaves) = read(&gguf).unwrap();
    let older = parsed(&joint_layout(&gguf, &config, &leaves).bytes());
    let (older_config, older_leaves) = read(&older).unwrap();
    assert_eq!(older_config, config);
    let values = |leaves: &Params<Leaf>| leaves.map(|leaf| leaf.values().unwrap());
    assert_eq!(values(&older_leaves), values(&leaves));
}

#[test]
fn halves_in_blocks_make_the_joint_matrix_of_their_decoded_numbers() {
    let mut config = wide(small_v3());
    if let AttentionConfig::Mla(mla) = &mut config.attention {
        mla.kv_lora_rank = 64;
        mla.qk_nope_head_dim = 32;
    }
    let gguf = parsed(&written(&config, &values(&config, 11), &settings("Q8_0")));
    let (_, leaves) = read(&gguf).unwrap();
    let tensor = |name: &str| {
        let tensor = gguf.tensors.iter().find(|t| t.name == name).unwrap();
        assert_eq!(tensor.kind.name, "Q8_0");
        let mut values = vec![0.0; tensor.shape.iter().product()];
        frugal_core::quant::BlockFormat::Q8_0
            .decode(&tensor.bytes, &mut values)
            .unwrap();
        values
    };
    let (keys, stored_values) = (
        tensor("blk.1.attn_k_b.weight"),
        tensor("blk.1.attn_v_b.weight"),
    );
    let joint = leaves.leaves().into_iter();
    let mut joint = joint.filter(|leaf| leaf.spec.name.contains("layers.1.self_attn.kv_b_proj"));
    let joint = joint.next().unwrap().values().unwrap();
    // Head 2, key row 7, latent column 9; and its value row 3, column 60.
    let head = 2 * (32 + 5) * 64;
    assert_eq!(
        joint[head + 7 * 64 + 9].to_bits(),
        keys[(2 * 64 + 9) * 32 + 7].to_bits()
    );
    let value = joint[head + (32 + 3) * 64 + 60];
    assert_eq!(
        value.to_bits(),
        stored_values[(2 * 5 + 3) * 64 + 60].to_bits()
    );
}

#[test]
fn a_file_with_the_extra_layer_loads_it() {
    let config = ModelConfig {
        num_nextn_predict_layers: 1,
        ..small_v3()
    };
    let numbers = values(&config, 12);
    let trunk = parsed(&written(&config, &numbers, &settings("F32")));
    assert_eq!(read(&trunk).unwrap().0.num_nextn_predict_layers, 0);
    // The layer's own tensors under their names, and copies of embedding and head.
    let three = ModelConfig {
        num_hidden_layers: 3,
        ..small_v3()
    };
    let other = parsed(&written(&three, &values(&three, 13), &settings("F32")));
    let mut parts = Parts::of(&trunk);
    let extra = other
        .tensors
        .iter()
        .filter(|t| t.name.starts_with("blk.2."));
    parts
        .tensors
        .extend(extra.map(|t| (t.name.clone(), t.shape.clone(), t.kind, t.bytes.to_vec())));
    let f32s = Kind::from_id(0).unwrap();
    for (name, shape) in [
        ("enorm", vec![12]),
        ("hnorm", vec![12]),
        ("shared_head_norm", vec![12]),
        ("eh_proj", vec![12, 24]),
    ] {
        let bytes = vec![0; 4 * shape.iter().product::<usize>()];
        parts
            .tensors
            .push((format!("blk.2.nextn.{name}.weight"), shape, f32s, bytes));
    }
    for (copy, of) in [
        ("embed_tokens", "token_embd.weight"),
        ("shared_head_head", "output.weight"),
    ] {
        let of = trunk.tensors.iter().find(|t| t.name == of).unwrap();
        let name = format!("blk.2.nextn.{copy}.weight");
        parts
            .tensors
            .push((name, of.shape.clone(), of.kind, of.bytes.to_vec()));
    }
    parts.set("deepseek2.block_count", Value::U32(3));
    parts.set("deepseek2.nextn_predict_layers", Value::U32(1));
    let (read_config, leaves) = read(&parsed(&parts.bytes())).unwrap();
    assert_eq!(read_config, config);
    assert!(leaves.mtp.is_some());
    let last = parts.tensors.last_mut().unwrap();
    last.3[0] ^= 1;
    let error = read(&parsed(&parts.bytes())).unwrap_err().to_string();
    assert!(error.contains("a copy of output.weight"), "{error}");
}

#[test]
fn groups_that_older_files_do_not_state_are_those_of_the_published_models() {
    let mut config = small_v3();
    if let Some(moe) = &mut config.moe {
        moe.n_routed_experts = 256;
        moe.moe_intermediate_size = 1;
        (moe.n_group, moe.topk_group) = (8, 4);
    }
    let mut parts = Parts::of(&parsed(&written(
        &config,
        &values(&config, 14),
        &settings("F32"),
    )));
    parts.unset("deepseek2.expert_group_count");
    parts.unset("deepseek2.expert_group_used_count");
    let (older, _) = read(&parsed(&parts.bytes())).unwrap();
    assert_eq!(older, config);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn what_would_be_another_model_is_refused_by_name() {
    let config = small_qwen3();
    let whole = Parts::of(&parsed(&written(
        &config,
        &values(&config, 15),
        &settings("F32"),
    )));
    let with = |key: &str, value: Value| {
        let mut parts = whole.clone();
        parts.set(key, value);
        parts
    };
    let text = |text: &str| Value::String(text.into());
    let without = |name: &str| {
        let mut parts = whole.clone();
        parts.tensors.retain(|(other, ..)| other != name);
        parts
    };
    let changed = |name: &str, change: fn(&mut Tensor)| {
        let mut parts = whole.clone();
        let tensor = parts.tensors.iter_mut().find(|(other, ..)| other == name);
        change(tensor.unwrap());
        parts
    };
    let cases = [
        (with("general.architecture", text("gemma2")), "gemma2"),
        (with("general.type", text("adapter")), "general.type"),
        (
            with("qwen3.final_logit_softcapping", Value::F32(30.0)),
            "final_logit_softcapping",
        ),
        (
            with("qwen3.attention.sliding_window", Value::U32(4096)),
            "sliding_window",
        ),
        (
            with("qwen3.attention.causal", Value::Bool(false)),
            "attention.causal",
        ),
        (
            with("qwen3.logit_scale", Value::F32(0.5)),
            "qwen3.logit_scale",
        ),
        (
            with("qwen3.rope.scaling.type", text("longrope")),
            "rope.scaling.type",
        ),
        (
            with("qwen3.rope.scaling.type", text("yarn")),
            "rope.scaling.factor",
        ),
        (
            with("qwen3.rope.scaling.attn_factor", Value::F32(1.5)),
            "attn_factor",
        ),
        (
            with("qwen3.rope.dimension_count", Value::U32(4)),
            "rope.dimension_count",
        ),
        (
            with("qwen3.attention.value_length", Value::U32(4)),
            "value_length",
        ),
        (with("qwen3.expert_count", Value::U32(8)), "expert_count"),
        (with("qwen3.vocab_size", Value::U32(24)), "vocab_size"),
        (with("qwen3.block_count", Value::F32(2.0)), "block_count"),
        (with("qwen3.block_count", Value::U32(3)), "blk.2."),
        (with("qwen3.block_count", Value::U32(1)), "blk.1."),
        (
            with("qwen3.block_count", Value::U32(u32::MAX)),
            "num_hidden_layers",
        ),
        (with("qwen3.embedding_length", Value::U32(16)), "shape"),
        (
            with("tokenizer.ggml.eos_token_id", Value::U32(23)),
            "eos_token_id",
        ),
        (without("token_embd.weight"), "token_embd.weight"),
        (without("blk.1.ffn_up.weight"), "blk.1.ffn_up.weight"),
        (
            changed("blk.1.ffn_up.weight", |tensor| {
                tensor.0 = "blk.1.ffn_op.weight".into();
            }),
            "blk.1.ffn_up.weight",
        ),
        (
            changed("blk.0.attn_q.weight", |tensor| tensor.1.reverse()),
            "blk.0.attn_q.weight",
        ),
        (
            changed("output_norm.weight", |tensor| {
                tensor.2 = Kind::from_id(26).unwrap();
            }),
            "output_norm.weight: expected a format that can be decoded, got I32",
        ),
    ];
    for (index, (parts, told)) in cases.iter().enumerate() {
        let error = read(&parsed(&parts.bytes())).unwrap_err().to_string();
        assert!(error.contains(told), "case {index}: {error}");
    }
    // Harmless: keys of tools, and those that say nothing about the result.
    for key in [
        "quantize.imatrix.file",
        "mradermacher.quantized_by",
        "general.license",
    ] {
        assert!(
            read(&parsed(&with(key, text("x")).bytes())).is_ok(),
            "{key}"
        );
    }
}

#[test]
fn factors_of_no_published_stretch_are_refused() {
    let config = families()
        .into_iter()
        .find(|config| matches!(config.rope_scaling, RopeScaling::Llama3(_)));
    let config = config.unwrap();
    let mut parts = Parts::of(&parsed(&written(
        &config,
        &values(&config, 16),
        &settings("F32"),
    )));
    let factors = parts
        .tensors
        .iter_mut()
        .find(|(name, ..)| name == "rope_freqs.weight");
    factors.unwrap().3[4..8].copy_from_slice(&3.3f32.to_le_bytes());
    let error = read(&parsed(&parts.bytes())).unwrap_err().to_string();
    assert!(error.contains("rope_freqs.weight"), "{error}");
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

#[test]
fn files_of_a_split_join_in_order_and_in_no_other() {
    let config = small_qwen3();
    let whole = Parts::of(&parsed(&written(
        &config,
        &values(&config, 19),
        &settings("Q8_0"),
    )));
    let n = whole.tensors.len();
    let piece = |no: u32, tensors: &[Tensor]| {
        let mut parts = Parts {
            keys: if no == 0 {
                whole.keys.clone()
            } else {
                Vec::new()
            },
            tensors: tensors.to_vec(),
        };
        parts.set("split.no", Value::U32(no));
        parts.set("split.count", Value::U32(2));
        parts.set("split.tensors.count", Value::U32(u32::try_from(n).unwrap()));
        parsed(&parts.bytes())
    };
    let (a, b) = (piece(0, &whole.tensors[..5]), piece(1, &whole.tensors[5..]));
    let joined = Gguf::joined(vec![a.clone(), b.clone()]).unwrap();
    let values = |gguf: &Gguf| read(gguf).unwrap().1.map(|leaf| leaf.values().unwrap());
    assert_eq!(values(&joined), values(&parsed(&whole.bytes())));
    assert!(Gguf::joined(vec![parsed(&whole.bytes())]).is_ok());
    for (files, told) in [
        (vec![b.clone(), a.clone()], "split.no"),
        (vec![a.clone()], "split.no"),
        (
            vec![a.clone(), piece(1, &whole.tensors[6..])],
            "split.tensors.count",
        ),
        (vec![a, piece(1, &whole.tensors[4..n - 1])], "repeated"),
        (vec![], "at least one file"),
    ] {
        let error = Gguf::joined(files).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn headers_that_lie_are_refused_with_byte_and_name() {
    let config = small_qwen3();
    let whole = Parts::of(&parsed(&written(
        &config,
        &values(&config, 20),
        &settings("F32"),
    )));
    let good = whole.bytes();
    let at = |needle: &str| {
        let found = good
            .windows(needle.len())
            .position(|w| w == needle.as_bytes());
        found.unwrap() + needle.len()
    };
    let patch = |from: usize, bytes: &[u8]| {
        let mut patched = good.clone();
        patched[from..from + bytes.len()].copy_from_slice(bytes);
        patched
    };
    let raw_key = |kind: u32, payload: &[u8]| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(3u64.to_le_bytes());
        bytes.extend(b"key");
        bytes.extend(kind.to_le_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len() + 64, 0);
        bytes
    };
    let nested = [9u32.to_le_bytes().as_slice(), &1u64.to_le_bytes()]
        .concat()
        .repeat(1000);
    let mut twice = whole.clone();
    twice.keys.push(("general.name".into(), Value::U32(1)));
    let mut two = whole.clone();
    let first = two.tensors[0].clone();
    two.tensors.push(first);
    let mut askew = whole.clone();
    askew
        .keys
        .push(("general.alignment".into(), Value::U32(24)));
    let mut wide = whole.clone();
    wide.keys
        .push(("general.alignment".into(), Value::U32(1 << 31)));
    let embed = at("token_embd.weight");
    let mut trailing = good.clone();
    trailing.extend([0; 32]);
    let max = u64::MAX.to_le_bytes();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (patch(0, b"GGML"), "expected GGUF"),
        (patch(4, &[1, 0, 0, 0]), "version 1"),
        (patch(4, &[0, 0, 0, 3]), "big-endian file of version 3"),
        (patch(4, &[99, 0, 0, 0]), "version 99"),
        (patch(8, &max), "tensors"),
        (patch(16, &max), "keys"),
        (patch(24, &max), "byte 32, a key"),
        (patch(at("general.name") + 4, &max), "general.name"),
        (
            patch(at("general.name"), &[13, 0, 0, 0]),
            "a type of 0 to 12, got 13",
        ),
        // Types that are negative for a reader with signed numbers.
        (raw_key(u32::MAX, &[]), "a type of 0 to 12"),
        (
            raw_key(9, &[&[0xFF; 4], 1u64.to_le_bytes().as_slice()].concat()),
            "items of type 0 to 12",
        ),
        (
            patch(embed + 20, &[0xFF; 4]),
            "token_embd.weight: expected a known type of tensor",
        ),
        // An offset far past the end, at which sums would overflow.
        (
            patch(embed + 24, &max),
            "token_embd.weight: expected offset 0",
        ),
        (raw_key(9, &nested), "at most 4 deep"),
        (
            raw_key(9, &[&[8, 0, 0, 0], max.as_slice()].concat()),
            "byte 51, key",
        ),
        (
            raw_key(
                9,
                &[&[4, 0, 0, 0], (1u64 << 62).to_le_bytes().as_slice()].concat(),
            ),
            "numbers",
        ),
        (
            raw_key(9, &[&[99, 0, 0, 0], 1u64.to_le_bytes().as_slice()].concat()),
            "99",
        ),
        (raw_key(7, &[2]), "a flag of 0 or 1, got 2"),
        (
            raw_key(8, &[&2u64.to_le_bytes(), [0xFF, 0xFE].as_slice()].concat()),
            "UTF-8",
        ),
        (twice.bytes(), "general.name: expected each key once"),
        (two.bytes(), "token_embd.weight: expected each tensor once"),
        (askew.bytes(), "general.alignment"),
        (wide.bytes(), "general.alignment"),
        (
            patch(embed, &[0, 0, 0, 0]),
            "token_embd.weight: expected 1 to 4 dimensions",
        ),
        (
            patch(embed, &[5, 0, 0, 0]),
            "token_embd.weight: expected 1 to 4 dimensions",
        ),
        (patch(embed + 4, &max), "token_embd.weight"),
        (
            patch(embed + 4, &(1u64 << 40).to_le_bytes()),
            "token_embd.weight",
        ),
        (patch(embed + 4, &[0; 8]), "dimensions of at least 1"),
        (
            patch(embed + 20, &[4, 0, 0, 0]),
            "a known type of tensor, got 4",
        ),
        (
            patch(embed + 20, &[8, 0, 0, 0]),
            "a multiple of 32 for Q8_0",
        ),
        (
            patch(embed + 24, &[32, 0, 0, 0]),
            "token_embd.weight: expected offset 0",
        ),
        (
            patch(at("output_norm.weight") + 16, &[0; 8]),
            "output_norm.weight: expected offset",
        ),
        (trailing, "expected the file to end here"),
        (good[..good.len() - 8].to_vec(), "output.weight"),
        (good[..60].to_vec(), "byte"),
        (good[..4].to_vec(), "the version"),
        (Vec::new(), "the magic"),
    ];
    assert!(Gguf::parse(good.clone().into()).is_ok());
    for (index, (bytes, told)) in cases.into_iter().enumerate() {
        let error = Gguf::parse(SharedBytes::from(bytes))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(told) && error.starts_with("gguf: "),
            "case {index}: {error}"
        );
    }
}
