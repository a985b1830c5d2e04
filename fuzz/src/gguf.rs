//! GGUF files: tensors lie where they are said to, a model that is read survives being written, and a
//! tokenizer can be used.

use frugal_core::quant::Format;
use frugal_core::stored::SharedBytes;
use frugal_model::checkpoint::Leaf;
use frugal_model::checkpoint::gguf::{self, Gguf, GgufPlan, GgufSettings, Mixture, Value};
use frugal_model::config::ModelConfig;
use frugal_model::params::Params;
use frugal_text::Tokenizer;
use frugal_text::gguf::{tokenizer_config_json, tokenizer_json};

use crate::memory;
use crate::text::{self, RoundTrip, TEXTS};

const MEGABYTES: usize = 256;

/// Checks one file.
pub fn check(data: &[u8]) -> bool {
    memory::within(MEGABYTES, || {
        let gguf = match Gguf::parse(SharedBytes::from(data.to_vec())) {
            Ok(gguf) => gguf,
            Err(error) => {
                assert!(error.to_string().starts_with("gguf: "), "{error}");
                return false;
            }
        };
        places(&gguf, data);
        tokenizer(&gguf);
        if let Ok((config, leaves)) = gguf::read(&gguf) {
            config.check().unwrap();
            sizes(&leaves);
            survives_writing(&gguf, &config, &leaves);
        }
        true
    })
}

/// Every tensor has the bytes of its shape, in the file, behind the one before.
fn places(gguf: &Gguf, data: &[u8]) {
    let alignment = gguf.keys.get("general.alignment");
    let alignment = alignment.map_or(32, |value| value.count().unwrap());
    let (mut end, mut names) = (24, std::collections::BTreeSet::new());
    for tensor in &gguf.tensors {
        assert!(names.insert(&tensor.name), "{} comes twice", tensor.name);
        assert!(tensor.offset >= end && tensor.offset.is_multiple_of(alignment));
        end = tensor.offset + tensor.bytes.len();
        assert_eq!(data[tensor.offset..end], *tensor.bytes);
        let n: u128 = tensor.shape.iter().map(|n| *n as u128).product();
        let blocks = n / tensor.kind.block_values as u128;
        assert_eq!(blocks * tensor.kind.block_values as u128, n);
        assert_eq!(
            blocks * tensor.kind.block_bytes as u128,
            tensor.bytes.len() as u128
        );
    }
    let alone = Gguf::joined(vec![gguf.clone()]);
    let is_split = gguf.keys.keys().any(|key| key.starts_with("split."));
    assert!(alone.is_ok() || is_split);
}

fn tokenizer(gguf: &Gguf) {
    let Ok(Some(keys)) = gguf.tokenizer() else {
        return;
    };
    assert_eq!(keys.tokens.len(), keys.token_types.len());
    if let Ok(file) = tokenizer_json(&keys) {
        tokenizer_config_json(&keys).unwrap();
        if let Ok(tokenizer) = Tokenizer::from_json(&file) {
            text::laws(&tokenizer, &TEXTS[..3], RoundTrip::Exact);
        }
    }
}

fn sizes(leaves: &Params<Leaf>) {
    for leaf in leaves.leaves() {
        assert_eq!(
            leaf.parts.len(),
            leaf.spec.shape.stacked(),
            "{}",
            leaf.spec.name
        );
        let values = leaf.values().unwrap();
        assert_eq!(
            values.len(),
            leaf.spec.shape.elements(),
            "{}",
            leaf.spec.name
        );
        let bytes: usize = leaf.parts.iter().map(|part| part.bytes().len()).sum();
        let expected: u64 = leaf
            .parts
            .iter()
            .map(|part| part.format().bytes(leaf.spec.file_shape()).unwrap())
            .sum();
        assert_eq!(bytes as u64, expected, "{}", leaf.spec.name);
        assert!(
            !leaf
                .parts
                .iter()
                .any(|part| matches!(part.format(), Format::Fp8Blocks(_)))
        );
    }
}

/// Written in f32 and read again, the model has the same config and the same numbers.
fn survives_writing(gguf: &Gguf, config: &ModelConfig, leaves: &Params<Leaf>) {
    let settings = GgufSettings {
        mixture: Mixture::F32,
        tokenizer: None,
        metadata: Vec::new(),
    };
    let Ok(plan) = GgufPlan::new(config, leaves, &settings) else {
        return;
    };
    let mut bytes = Vec::new();
    let written = plan.write(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    written.unwrap();
    assert_eq!(bytes.len() as u64, plan.bytes());
    let again = Gguf::parse(bytes.into()).unwrap();
    let (other, values) = gguf::read(&again).unwrap();
    let without_extra = ModelConfig {
        num_nextn_predict_layers: 0,
        ..config.clone()
    };
    // Files that are written hold numbers in f32.
    let is_wide = |value: &Value| matches!(value, Value::F64(_));
    if !gguf.keys.values().any(is_wide) {
        assert_eq!(other, without_extra);
    }
    let names: Vec<&String> = values.leaves().iter().map(|leaf| &leaf.spec.name).collect();
    let kept = leaves.leaves();
    let kept = kept.iter().filter(|leaf| names.contains(&&leaf.spec.name));
    for (a, b) in kept.zip(values.leaves()) {
        let (a, b) = (a.values().unwrap(), b.values().unwrap());
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(a.len() == b.len() && a.iter().zip(&b).all(same));
    }
}
