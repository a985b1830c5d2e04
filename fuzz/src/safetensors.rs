//! Safetensors files: what is read is what the published library reads, and a model that is read has
//! the numbers that lie in the file.

use frugal_core::dtype::DType;
use frugal_core::stored::{SharedBytes, Stored};
use frugal_model::checkpoint::{self, Container, FolderFormat, Leaf, WriteSettings};
use frugal_model::config::ModelConfig;
use frugal_model::params::Params;

use crate::memory;

/// A file is far smaller than this.
const MEGABYTES: usize = 64;

/// The configs whose models a file may hold: small, so that files are.
pub const CONFIGS: [&str; 3] = [QWEN2, LLAMA, DEEPSEEK];

const QWEN2: &str = r#"{"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2","vocab_size":3,"hidden_size":4,
"intermediate_size":3,"num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":2,
"max_position_embeddings":8,"rms_norm_eps":1e-6,"tie_word_embeddings":true,"rope_theta":10000.0}"#;
const LLAMA: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":2,"hidden_size":2,
"intermediate_size":3,"num_hidden_layers":2,"num_attention_heads":1,"num_key_value_heads":1,"head_dim":2,
"max_position_embeddings":8,"rms_norm_eps":1e-6,"tie_word_embeddings":false,"rope_theta":10000.0}"#;
const DEEPSEEK: &str = r#"{"architectures":["DeepseekV3ForCausalLM"],"model_type":"deepseek_v3","vocab_size":3,"hidden_size":4,
"intermediate_size":5,"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":8,"rms_norm_eps":1e-6,
"rope_theta":10000.0,"q_lora_rank":3,"kv_lora_rank":3,"qk_nope_head_dim":2,"qk_rope_head_dim":2,"v_head_dim":3,
"n_routed_experts":2,"n_shared_experts":1,"num_experts_per_tok":1,"moe_intermediate_size":3,"first_k_dense_replace":0,
"num_nextn_predict_layers":1,"quantization_config":{"quant_method":"fp8","fmt":"e4m3","weight_block_size":[2,3]}}"#;

/// Checks one file.
pub fn check(data: &[u8]) -> bool {
    memory::within(MEGABYTES, || {
        check_index(data);
        let file = SharedBytes::from(data.to_vec());
        let Some(container) = container(&file) else {
            return false;
        };
        for config in CONFIGS {
            let config = ModelConfig::from_json(config).unwrap();
            model(&config, &file, &container);
        }
        true
    })
}

/// A file that the published library reads is read alike; one that it refuses is refused.
fn container(file: &SharedBytes) -> Option<Container> {
    let theirs = safetensors::SafeTensors::deserialize(file);
    let ours = match Container::parse(file) {
        Ok(ours) => ours,
        Err(reason) => {
            // The library takes the last of two entries of one name.
            assert!(
                theirs.is_err() || reason.contains("twice"),
                "refused though well-formed: {reason}"
            );
            assert!(!reason.is_empty());
            return None;
        }
    };
    let theirs = theirs.expect("accepted what the published library refuses");
    assert_eq!(ours.tensors.len(), theirs.len());
    let mut bytes = 0;
    for (name, held) in &ours.tensors {
        let other = theirs.tensor(name).unwrap();
        assert_eq!(
            (held.dtype, held.shape.as_slice()),
            (other.dtype(), other.shape())
        );
        assert_eq!(*held.bytes, *other.data(), "{name}");
        bytes += held.bytes.len();
    }
    let header = u64::from_le_bytes(*file.first_chunk().unwrap());
    assert_eq!(8 + header + bytes as u64, file.len() as u64);
    Some(ours)
}

fn model(config: &ModelConfig, file: &SharedBytes, container: &Container) {
    let Ok((read, leaves)) = checkpoint::read(config, std::slice::from_ref(file)) else {
        return;
    };
    assert_eq!(read.weight_block_size, None);
    assert!(read.num_nextn_predict_layers <= config.num_nextn_predict_layers);
    for leaf in leaves.leaves() {
        let names: Vec<String> = leaf.spec.files().collect();
        assert_eq!(names.len(), leaf.parts.len());
        let mut expected = Vec::new();
        for (name, part) in names.iter().zip(&leaf.parts) {
            let held = &container.tensors[name];
            assert_eq!(held.shape, leaf.spec.file_shape().dims(), "{name}");
            assert_eq!(**part.bytes(), *held.bytes, "{name}");
            expected.extend(numbers(part, leaf.spec.shape.cols()));
        }
        assert_eq!(
            bits(&leaf.values().unwrap()),
            expected,
            "{}",
            leaf.spec.name
        );
    }
    survives_writing(&read, &leaves);
}

/// Written in f32 and read again, every number is the same.
fn survives_writing(config: &ModelConfig, leaves: &Params<Leaf>) {
    let settings = WriteSettings {
        format: FolderFormat::F32,
        max_file_bytes: 512,
    };
    let files = checkpoint::write(config, leaves, &settings).unwrap();
    let weights: Vec<SharedBytes> = files
        .into_iter()
        .filter(|file| file.name.ends_with(".safetensors"))
        .map(|file| file.bytes.into())
        .collect();
    let (again, written) = checkpoint::read(config, &weights).unwrap();
    assert_eq!(&again, config);
    for (a, b) in leaves.leaves().iter().zip(written.leaves()) {
        assert_eq!(bits(&a.values().unwrap()), bits(&b.values().unwrap()));
    }
}

/// The bits of a tensor's numbers, computed here from the definition of each format.
fn numbers(part: &Stored, cols: usize) -> Vec<u32> {
    let bytes = part.bytes();
    match part {
        Stored::Plain { dtype, .. } => match dtype {
            DType::F32 => four(bytes).map(|n| bit(f32::from_bits(n))).collect(),
            DType::Bf16 => two(bytes).map(|n| bit(f32::from_bits(n << 16))).collect(),
            DType::F16 => two(bytes).map(|n| bit(small(n, 10, 15))).collect(),
            other => panic!("{other:?} is no format of a plain tensor"),
        },
        Stored::Fp8Blocks { scales, block, .. } => {
            let across = cols.div_ceil(block[1]);
            let number = |(at, byte): (usize, &u8)| {
                let scale = scales[at / cols / block[0] * across + at % cols / block[1]];
                bit(e4m3(*byte) * scale)
            };
            bytes.iter().enumerate().map(number).collect()
        }
        Stored::Blocks { format, .. } => panic!("{format} is no format of safetensors"),
    }
}

fn four(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b))
}

fn two(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let pairs = bytes.as_chunks().0.iter();
    pairs.map(|b| u32::from(u16::from_le_bytes(*b)))
}

/// A number of 16 bits with so many of fraction, and a largest exponent for infinity and NaN.
fn small(n: u32, fraction: u32, bias: i32) -> f32 {
    let exponent = (n >> fraction) & ((1 << (15 - fraction)) - 1);
    let rest = (n & ((1 << fraction) - 1)) as f32 / (1 << fraction) as f32;
    let size = match exponent {
        31 if rest == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        0 => rest * 2f32.powi(1 - bias),
        e => (1.0 + rest) * 2f32.powi(e as i32 - bias),
    };
    if n >> 15 == 1 { -size } else { size }
}

/// Four bits of exponent, three of fraction, no infinity, one NaN a sign.
fn e4m3(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f32::from(byte & 7) / 8.0);
    let size = match exponent {
        _ if byte & 0x7F == 0x7F => f32::NAN,
        0 => fraction * 2f32.powi(-6),
        e => (1.0 + fraction) * 2f32.powi(e - 7),
    };
    if byte >> 7 == 1 { -size } else { size }
}

/// Bits, with one for all that are no numbers.
fn bit(x: f32) -> u32 {
    if x.is_nan() {
        f32::NAN.to_bits()
    } else {
        x.to_bits()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| bit(*x)).collect()
}

/// An index never leads out of its folder.
fn check_index(data: &[u8]) {
    let Ok(names) = checkpoint::file_names(data) else {
        return;
    };
    for name in &names {
        assert!(!name.contains(['/', '\\', '\0']) && name.ends_with(".safetensors"));
        assert_eq!(std::path::Path::new(name).components().count(), 1);
    }
    // No file holds what a made-up index says, unless it says nothing.
    let none = SharedBytes::from(b"\x02\0\0\0\0\0\0\0{}".to_vec());
    let files = vec![none; names.len()];
    assert_eq!(
        checkpoint::check_index(data, &names, &files).is_ok(),
        names.is_empty()
    );
}
