//! Files that are damaged: the cases of the shared data, and every byte of two small files.

use frugal_core::stored::SharedBytes;
use frugal_model::checkpoint::gguf::{Gguf, GgufPlan, GgufSettings, Mixture, read as read_gguf};
use frugal_model::checkpoint::{Container, FolderFormat, Leaf, WriteSettings, read, write};
use frugal_model::config::{AttentionConfig, GqaConfig, ModelConfig};
use frugal_model::error::Result;
use frugal_model::params::Params;
use serde_json::Value;

use crate::support::{shared, small_qwen3, values};

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn verdicts_are_those_of_the_reference_in_every_case() {
    let Some(lines) = shared("container-cases/cases.jsonl") else {
        return;
    };
    let lines = String::from_utf8(lines).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["file"].as_str().unwrap();
        let file = SharedBytes::from(from_hex(case["hex"].as_str().unwrap()));
        let shapes = if name.split_once('.').is_some_and(|(_, end)| end == "gguf") {
            Gguf::parse(file).ok().map(|_| Value::Null)
        } else {
            let container = Container::parse(&file).ok();
            container.map(|container| {
                let tensors = container.tensors.into_iter();
                tensors
                    .map(|(name, held)| (name, serde_json::json!(held.shape)))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            })
        };
        assert_eq!(shapes.is_some(), case["reference_accepts"], "{name}");
        match shapes {
            Some(shapes) => {
                assert_eq!(shapes, case["detail"], "{name}");
                accepted += 1;
            }
            None => refused += 1,
        }
    }
    assert_eq!((accepted, refused), (5, 13));
}

#[test]
fn a_name_that_comes_twice_is_refused_where_the_library_takes_the_last() {
    let tensor = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let file = |header: String| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 4]);
        bytes
    };
    let twice = file(format!(r#"{{"a":{tensor},"a":{tensor}}}"#));
    assert!(safetensors::SafeTensors::deserialize(&twice).is_ok());
    for (bytes, told) in [
        (twice, "a:"),
        (
            file(format!(
                r#"{{"__metadata__":{{"x":"1","x":"2"}},"a":{tensor}}}"#
            )),
            "\"x\" comes twice",
        ),
        (
            file(format!(
                r#"{{"__metadata__":{{}},"__metadata__":{{}},"a":{tensor}}}"#
            )),
            "__metadata__ comes twice",
        ),
        (
            file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"shape":[1]}}"#.into()),
            "a: duplicate field",
        ),
        (
            file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#.into()),
            "a: expected bytes from 0",
        ),
        // Ends that only fit after an overflow.
        (
            file(format!(
                r#"{{"a":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#,
                u64::MAX - 7
            )),
            "a: expected bytes from 0",
        ),
    ] {
        let error = Container::parse(&bytes.into()).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}

/// A model whose files are a few thousand bytes.
fn smallest() -> ModelConfig {
    ModelConfig {
        vocab_size: 5,
        hidden_size: 4,
        intermediate_size: 4,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        max_position_embeddings: 8,
        attention: AttentionConfig::Gqa(GqaConfig {
            num_key_value_heads: 1,
            head_dim: 2,
            attention_bias: false,
        }),
        ..small_qwen3()
    }
}

/// Every byte flipped in three ways and every length: an error that names a place, or a model of the
/// same shapes. Returns how many files were tried and how many still read.
fn damage(
    whole: &[u8],
    read: impl Fn(SharedBytes) -> Result<(ModelConfig, Params<Leaf>)>,
) -> [usize; 2] {
    let sizes = |params: &Params<Leaf>| {
        params.map(|leaf| {
            assert_eq!(leaf.values().unwrap().len(), leaf.spec.shape.elements());
            leaf.spec.shape
        })
    };
    let (_, good) = read(whole.to_vec().into()).unwrap();
    let good = sizes(&good);
    let mut counts = [0; 2];
    let mut check = |bytes: Vec<u8>, at: usize| {
        counts[0] += 1;
        match read(bytes.into()) {
            Ok((_, params)) => {
                assert_eq!(sizes(&params), good, "byte {at}");
                counts[1] += 1;
            }
            Err(error) => {
                let told = error.to_string();
                let places = ["file 0: ", "gguf: ", "checkpoint: ", "config.json: "];
                let is_placed = places.iter().any(|place| told.starts_with(place))
                    || told.starts_with("checkpoint file 0: ");
                assert!(is_placed, "byte {at}: {told}");
            }
        }
    };
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut bytes = whole.to_vec();
            bytes[at] ^= flip;
            check(bytes, at);
        }
        check(whole[..at].to_vec(), at);
    }
    counts
}

#[test]
fn a_damaged_safetensors_file_is_an_error_or_the_same_shapes() {
    let config = smallest();
    let settings = WriteSettings {
        format: FolderFormat::F32,
        max_file_bytes: usize::MAX,
    };
    let mut files = write(&config, &values(&config, 1), &settings).unwrap();
    let whole = files.remove(0).bytes;
    let header = 8 + usize::from(u16::from_le_bytes([whole[0], whole[1]]));
    let [tried, read] = damage(&whole, |file| read(&config, &[file]));
    assert_eq!(tried, 4 * whole.len());
    // Flips of numbers read; of the header only those that change a name in the metadata or a space.
    assert!(read >= 3 * (whole.len() - header), "{read} of {tried}");
    assert!(
        read < 3 * (whole.len() - header) + header,
        "{read} of {tried}"
    );
}

#[test]
fn a_damaged_gguf_file_is_an_error_or_the_same_shapes() {
    let config = smallest();
    let settings = GgufSettings {
        mixture: Mixture::F32,
        tokenizer: None,
        metadata: Vec::new(),
    };
    let values = values(&config, 2);
    let plan = GgufPlan::new(&config, &values, &settings).unwrap();
    let mut whole = Vec::new();
    plan.write(&mut |piece| {
        whole.extend_from_slice(piece);
        Ok(())
    })
    .unwrap();
    let data: usize = plan.tensors().iter().map(|tensor| tensor.bytes).sum();
    let [tried, read] = damage(&whole, |file| read_gguf(&Gguf::parse(file)?));
    assert_eq!(tried, 4 * whole.len());
    assert!(read >= 3 * data, "{read} of {tried}");
    assert!(read < tried, "{read} of {tried}");
}

/// Whatever we accept, the published library accepts, and reads as the same tensors.
fn agrees_with_the_library(bytes: &[u8]) {
    let Ok(ours) = Container::parse(&bytes.to_vec().into()) else {
        return;
    };
    let theirs = safetensors::SafeTensors::deserialize(bytes).unwrap();
    assert_eq!(theirs.len(), ours.tensors.len());
    for (name, view) in theirs.tensors() {
        let held = &ours.tensors[&name];
        assert_eq!(
            (view.dtype(), view.shape()),
            (held.dtype, held.shape.as_slice())
        );
        assert_eq!(view.data(), &*held.bytes);
    }
}

#[test]
fn what_we_accept_the_published_library_accepts() {
    let config = smallest();
    let settings = WriteSettings {
        format: FolderFormat::Bf16,
        max_file_bytes: usize::MAX,
    };
    let whole = write(&config, &values(&config, 3), &settings)
        .unwrap()
        .remove(0)
        .bytes;
    agrees_with_the_library(&whole);
    for at in 0..whole.len() {
        for flip in [1, 2, 4, 16, 32] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            agrees_with_the_library(&bytes);
        }
    }
}
