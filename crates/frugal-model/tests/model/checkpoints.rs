//! Checkpoints: round trips, shards, and files that lie.

use frugal_core::backend::Backend;
use frugal_core::dtype::{DType, Data, decode, round_bf16};
use frugal_core::quant::Format;
use frugal_core::quant::fp8::{self, Scales};
use frugal_core::reference::Reference;
use frugal_core::shape::Shape;
use frugal_core::stored::{SharedBytes, Stored};
use frugal_model::checkpoint::{
    File, FolderFormat, FolderPlan, Leaf, WriteSettings, check_index, file_names, load, read, save,
    write,
};
use frugal_model::config::ModelConfig;
use frugal_model::error::Error;
use frugal_model::params::{FeedForward, Params, Role};
use proptest::prelude::*;

use crate::support::{golden, small_qwen3, small_v3, values};

const WHOLE: WriteSettings = WriteSettings {
    format: FolderFormat::F32,
    max_file_bytes: usize::MAX,
};

fn with_extra_layer() -> ModelConfig {
    ModelConfig {
        num_nextn_predict_layers: 1,
        ..small_v3()
    }
}

pub(crate) fn weights(files: &[File]) -> Vec<SharedBytes> {
    let weights = files
        .iter()
        .filter(|file| file.name.ends_with(".safetensors"));
    weights.map(|file| file.bytes.clone().into()).collect()
}

#[test]
fn what_is_written_reads_the_same_whole_and_in_shards() {
    for config in [with_extra_layer(), small_v3(), small_qwen3()] {
        let values = values(&config, 3);
        for max_file_bytes in [1, 3_000, usize::MAX] {
            let settings = WriteSettings {
                max_file_bytes,
                ..WHOLE
            };
            let files = write(&config, &values, &settings).unwrap();
            if let Some(index) = files
                .iter()
                .find(|file| file.name == "model.safetensors.index.json")
            {
                let names = file_names(&index.bytes).unwrap();
                let written: Vec<&String> = files.iter().map(|file| &file.name).collect();
                assert_eq!(names.iter().collect::<Vec<_>>(), written[..names.len()]);
            } else {
                assert_eq!(files[0].name, "model.safetensors");
            }
            let (read_config, stored) = read(&config, &weights(&files)).unwrap();
            assert_eq!(read_config, config);
            assert_eq!(stored.map(|leaf| leaf.values().unwrap()), values);
        }
    }
}

#[test]
fn bf16_files_hold_rounded_values_and_an_exact_selection_bias() {
    let config = small_v3();
    let mut values = values(&config, 4);
    let specs = Params::spec(&config).unwrap();
    for (spec, values) in specs.leaves().iter().zip(values.leaves_mut()) {
        if spec.role == Role::RouterBias {
            values.fill(0.100_1);
        }
    }
    let settings = WriteSettings {
        format: FolderFormat::Bf16,
        ..WHOLE
    };
    let files = write(&config, &values, &settings).unwrap();
    let (_, stored) = read(&config, &weights(&files)).unwrap();
    for (spec, (stored, values)) in specs.zip(&stored.zip(&values).unwrap()).unwrap().leaves() {
        let round = |x: &f32| {
            if spec.role == Role::RouterBias {
                *x
            } else {
                round_bf16(*x)
            }
        };
        let rounded: Vec<f32> = values.iter().map(round).collect();
        assert_eq!(stored.values().unwrap(), rounded, "{}", spec.name);
    }
}

#[test]
fn a_loaded_model_saves_to_what_it_was_loaded_from() {
    for name in ["deepseek_v3_mtp", "qwen2", "deepseek_v3_fp8"] {
        let golden = golden(name);
        let model = golden.load();
        let files = save(&Reference, &model, &WHOLE).unwrap();
        let again = load(&Reference, &model.config, &weights(&files), 64).unwrap();
        assert_eq!(again.params.mtp.is_some(), model.params.mtp.is_some());
        let values = |params: &Params<_>| params.map(|leaf| Reference.get(leaf).unwrap());
        assert_eq!(values(&again.params), values(&model.params), "{name}");
    }
}

/// Rewrites the header of a safetensors file.
fn edit(bytes: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header = change(core::str::from_utf8(&bytes[8..8 + length]).unwrap());
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(&bytes[8 + length..]);
    out
}

fn refusal(config: &ModelConfig, bytes: &[u8]) -> Error {
    read(config, &[bytes.to_vec().into()]).unwrap_err()
}

#[test]
fn files_that_lie_are_refused_with_the_name_of_the_lie() {
    let config = with_extra_layer();
    let bytes = write(&config, &values(&config, 5), &WHOLE)
        .unwrap()
        .remove(0)
        .bytes;
    let renamed = |from: &str, to: &str| edit(&bytes, |header| header.replacen(from, to, 1));
    let cases = [
        (renamed("experts.3.up_proj", "experts.9.up_proj"), "missing"),
        (
            renamed("model.norm.weight", "model.nurm.weight"),
            "model.norm.weight",
        ),
        (
            renamed(r#""shape":[30,7]"#, r#""shape":[7,30]"#),
            "expected shape [30, 7]",
        ),
        (
            renamed(r#""shape":[23,12]"#, r#""shape":[12,23]"#),
            "expected",
        ),
        (
            renamed(
                r#""model.norm.weight":{"dtype":"F32""#,
                r#""model.norm.weight":{"dtype":"I32""#,
            ),
            "expected f32, f16 or bf16",
        ),
        (
            renamed(r#""shape":[12]"#, r#""shape":[99999999999]"#),
            "file 0",
        ),
        (
            renamed(r#""shape":[12]"#, r#""shape":[18446744073709551615,3]"#),
            "file 0",
        ),
        (bytes[..bytes.len() - 1].to_vec(), "file 0"),
        (bytes[..100].to_vec(), "file 0"),
        (bytes[..4].to_vec(), "file 0"),
        (vec![], "file 0"),
        (vec![0xFF; 64], "file 0"),
    ];
    for (index, (bytes, told)) in cases.iter().enumerate() {
        let error = refusal(&config, bytes).to_string();
        assert!(error.contains(told), "case {index}: {error}");
    }
    let file = SharedBytes::from(bytes.clone());
    let twice = read(&config, &[file.clone(), file])
        .unwrap_err()
        .to_string();
    assert!(twice.contains("repeated"), "{twice}");
    let smaller = ModelConfig {
        num_hidden_layers: 1,
        ..small_v3()
    };
    assert!(refusal(&smaller, &bytes).to_string().contains("unknown"));
}

#[test]
fn a_copy_that_differs_from_its_original_is_refused() {
    let config = with_extra_layer();
    let values = values(&config, 6);
    let mut bytes = write(&config, &values, &WHOLE).unwrap().remove(0).bytes;
    let last_of_copy = {
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let copy = file.tensor("model.layers.2.embed_tokens.weight").unwrap();
        copy.data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[last_of_copy] ^= 1;
    let error = refusal(&config, &bytes).to_string();
    assert!(
        error.contains("a copy of model.embed_tokens.weight"),
        "{error}"
    );
}

#[test]
fn e4m3_without_its_scales_is_refused() {
    let golden = golden("deepseek_v3_fp8");
    let renamed = edit(&golden.weights, |header| {
        header.replacen("q_a_proj.weight_scale_inv", "q_a_proj.weight_scale", 1)
    });
    let error = refusal(&golden.config, &renamed).to_string();
    assert!(
        error.contains("q_a_proj.weight_scale_inv beside it"),
        "{error}"
    );
    let plain = ModelConfig {
        weight_block_size: None,
        ..golden.config.clone()
    };
    let error = refusal(&plain, &golden.weights).to_string();
    assert!(error.contains("weight_block_size"), "{error}");
    let other = ModelConfig {
        weight_block_size: Some([64, 64]),
        ..golden.config.clone()
    };
    let error = refusal(&other, &golden.weights).to_string();
    assert!(error.contains("scale_inv: expected shape"), "{error}");
}

/// A file with the factors of every e4m3 tensor as exponents alone.
fn with_exponents(bytes: &[u8]) -> Vec<u8> {
    use safetensors::tensor::{Dtype, TensorView};
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let mut tensors = Vec::new();
    for (name, view) in file.tensors() {
        let is_scale = name.ends_with("_scale_inv");
        let data: Vec<u8> = if is_scale {
            let scales = view.data().as_chunks::<4>().0.iter();
            scales
                .map(|b| u8::try_from(u32::from_le_bytes(*b) >> 23).unwrap())
                .collect()
        } else {
            view.data().to_vec()
        };
        let dtype = if is_scale {
            Dtype::F8_E8M0
        } else {
            view.dtype()
        };
        tensors.push((name, dtype, view.shape().to_vec(), data));
    }
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn fp8_is_written_as_it_is_published_and_copied_as_it_is() {
    let config = golden("deepseek_v3_fp8").config;
    let plain = ModelConfig {
        weight_block_size: None,
        num_nextn_predict_layers: 1,
        ..config.clone()
    };
    let values = values(&plain, 21);
    for scales in [Scales::Float, Scales::PowerOfTwo] {
        let settings = WriteSettings {
            format: FolderFormat::Fp8(scales),
            ..WHOLE
        };
        let plan = FolderPlan::new(&plain, &values, &settings).unwrap();
        let read_config = ModelConfig::from_json(plan.config_json()).unwrap();
        assert_eq!(read_config.weight_block_size, Some([128, 128]));
        let is_pow2 = scales == Scales::PowerOfTwo;
        assert_eq!(plan.config_json().contains("ue8m0"), is_pow2);
        let files = write(&plain, &values, &settings).unwrap();
        assert_eq!(files[0].bytes.len() as u64, plan.files()[0].bytes);
        let (back, leaves) = read(&read_config, &weights(&files)).unwrap();
        assert_eq!(back, plain);
        for (leaf, values) in leaves.zip(&values).unwrap().leaves() {
            let is_matrix = matches!(leaf.spec.role, Role::Matrix | Role::Experts)
                && !leaf.spec.name.contains("eh_proj");
            let is_fp8 = matches!(leaf.parts[0], Stored::Fp8Blocks { .. });
            assert_eq!(is_fp8, is_matrix, "{}", leaf.spec.name);
            let most = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            for (got, value) in leaf.values().unwrap().iter().zip(*values) {
                // Three bits of fraction; near zero, a step of the smallest of a block's numbers.
                assert!((got - value).abs() <= value.abs() / 16.0 + most / 448.0 / 256.0);
            }
        }
        // What is in the format already is copied; power-of-two factors are as good as any.
        assert!(write(&plain, &leaves, &settings).unwrap() == files);
        let any = WriteSettings {
            format: FolderFormat::Fp8(Scales::Float),
            ..WHOLE
        };
        assert!(write(&plain, &leaves, &any).unwrap() == files);
        if is_pow2 {
            let exponents = with_exponents(&files[0].bytes);
            let (_, other) = read(&read_config, &[exponents.into()]).unwrap();
            let numbers = |leaves: &Params<Leaf>| leaves.map(|leaf| leaf.values().unwrap());
            assert_eq!(numbers(&other), numbers(&leaves));
        }
    }
}

#[test]
fn a_factor_that_is_no_number_is_refused() {
    let golden = golden("deepseek_v3_fp8");
    let mut bytes = golden.weights.clone();
    let at = {
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let name = "model.layers.1.mlp.experts.2.up_proj.weight_scale_inv";
        file.tensor(name).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        bytes[at..at + 4].copy_from_slice(&bad.to_le_bytes());
        let error = refusal(&golden.config, &bytes).to_string();
        assert!(
            error.contains("experts.2.up_proj.weight_scale_inv"),
            "{error}"
        );
    }
}

#[test]
fn a_stream_of_runs_is_the_whole() {
    // Matrices of more numbers than are turned at a time, from FP8 and from f32.
    let config = ModelConfig {
        hidden_size: 1024,
        intermediate_size: 1030,
        num_hidden_layers: 1,
        ..small_qwen3()
    };
    let values = values(&config, 22);
    let of = |format| WriteSettings { format, ..WHOLE };
    let fp8 = of(FolderFormat::Fp8(Scales::Float));
    let files = write(&config, &values, &fp8).unwrap();
    let fp8_config = ModelConfig {
        weight_block_size: Some([128, 128]),
        ..config.clone()
    };
    let (_, leaves) = read(&fp8_config, &weights(&files)).unwrap();
    let decoded = leaves.map(|leaf| leaf.values().unwrap());
    for format in [FolderFormat::F32, FolderFormat::Bf16] {
        let from_fp8 = write(&config, &leaves, &of(format)).unwrap();
        assert!(from_fp8 == write(&config, &decoded, &of(format)).unwrap());
    }
    let gate = decoded.layers[0].feed_forward.clone();
    let FeedForward::Mlp(gate) = gate else {
        panic!("no dense layer");
    };
    let whole = fp8::encode_blocks(
        match &values.layers[0].feed_forward {
            FeedForward::Mlp(mlp) => &mlp.gate,
            FeedForward::Moe(_) => panic!("no dense layer"),
        },
        [1030, 1024],
        [128, 128],
        Scales::Float,
    );
    let whole = whole.unwrap();
    let data = Data::Fp8Blocks {
        bytes: &whole.bytes,
        scales: &whole.scales,
        block: [128, 128],
    };
    assert_eq!(decode(Shape::matrix(1030, 1024), data).unwrap(), gate.gate);
}

#[test]
fn an_f16_that_would_be_infinite_is_refused() {
    let config = small_qwen3();
    let mut values = values(&config, 23);
    let settings = WriteSettings {
        format: FolderFormat::F16,
        ..WHOLE
    };
    let files = write(&config, &values, &settings).unwrap();
    let (_, leaves) = read(&config, &weights(&files)).unwrap();
    assert!(
        leaves
            .leaves()
            .iter()
            .all(|leaf| leaf.parts[0].format() == Format::Plain(DType::F16))
    );
    values.norm[3] = -70_000.0;
    let error = write(&config, &values, &settings).unwrap_err().to_string();
    assert!(
        error.contains("model.norm.weight") && error.contains("-70000"),
        "{error}"
    );
}

#[test]
fn an_index_and_its_files_must_agree() {
    let config = small_v3();
    let settings = WriteSettings {
        max_file_bytes: 3_000,
        ..WHOLE
    };
    let mut files = write(&config, &values(&config, 24), &settings).unwrap();
    let index = files.pop().unwrap().bytes;
    let names = file_names(&index).unwrap();
    let shards = weights(&files);
    assert!(names.len() > 3);
    check_index(&index, &names, &shards).unwrap();
    let mut swapped = shards.clone();
    swapped.swap(0, 1);
    let error = check_index(&index, &names, &swapped)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&names[0]) && error.contains(&names[1]),
        "{error}"
    );
    let text = String::from_utf8(index).unwrap();
    let renamed = text.replace("model.norm.weight", "model.nurm.weight");
    let error = check_index(renamed.as_bytes(), &names, &shards)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("model.norm.weight: expected to lie in no file"),
        "{error}"
    );
    let more = text.replacen("\"weight_map\": {", "\"weight_map\": {\"x\": \"f\",", 1);
    let error = check_index(more.as_bytes(), &names, &shards)
        .unwrap_err()
        .to_string();
    assert!(error.contains("x: expected to lie in f"), "{error}");
    let twice = text.replacen(
        "\"weight_map\": {",
        "\"weight_map\": {\"model.norm.weight\": \"f\",",
        1,
    );
    let error = check_index(twice.as_bytes(), &names, &shards)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"model.norm.weight\" comes twice"),
        "{error}"
    );
    assert!(check_index(text.as_bytes(), &names, &shards[1..]).is_err());
}

#[test]
fn an_index_may_not_leave_its_folder() {
    let index = |name: &str| format!(r#"{{"metadata":{{}},"weight_map":{{"a":"{name}"}}}}"#);
    assert_eq!(
        file_names(index("b.safetensors").as_bytes()).unwrap(),
        ["b.safetensors"]
    );
    for name in [
        "../b.safetensors",
        "/etc/b.safetensors",
        "b.py",
        "a\\\\b.safetensors",
    ] {
        assert!(file_names(index(name).as_bytes()).is_err(), "{name}");
    }
    assert!(file_names(b"{}").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_headers_give_errors_or_the_model(at in 0usize..2_000, byte in any::<u8>(), cut in 0usize..4_000) {
        let config = ModelConfig { num_hidden_layers: 1, moe: None, ..small_v3() };
        let mut bytes = write(&config, &values(&config, 7), &WHOLE).unwrap().remove(0).bytes;
        let end = bytes.len().saturating_sub(cut.saturating_sub(2_000));
        bytes.truncate(end);
        if let Some(target) = bytes.get_mut(at) {
            *target = byte;
        }
        if let Ok((_, stored)) = read(&config, &[bytes.into()]) {
            for leaf in stored.leaves() {
                prop_assert_eq!(leaf.values().unwrap().len(), leaf.spec.shape.elements());
            }
        }
    }
}
