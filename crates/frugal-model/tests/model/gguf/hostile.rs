//! Files that lie, or would be another model.

use frugal_core::stored::SharedBytes;
use frugal_model::checkpoint::gguf::{Gguf, Kind, Value, read};
use frugal_model::config::RopeScaling;

use super::{Parts, Tensor, parsed, settings, written};
use crate::support::{families, small_qwen3, values};

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
