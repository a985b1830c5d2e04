//! Files that others wrote, or could have written: the recorded ones, older layouts, splits.

use std::collections::BTreeSet;

use frugal_core::dtype::decode;
use frugal_core::reference::Reference;
use frugal_core::shape::Shape;
use frugal_core::stored::Stored;
use frugal_model::checkpoint::Leaf;
use frugal_model::checkpoint::gguf::{Array, Gguf, Kind, Value, config, load_stored, read};
use frugal_model::config::{AttentionConfig, ModelConfig};
use frugal_model::params::Params;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::{Parts, Tensor, parsed, settings, wide, written};
use crate::support::{shared, small_qwen3, small_v3, values, whole};

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
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
