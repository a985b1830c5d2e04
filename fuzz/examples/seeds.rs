//! Writes the files in `seeds` that are made and not copied: run it in this folder.
//!
//! A name begins with `ok` where the check is to accept the file.

use std::error::Error;
use std::fs;
use std::path::Path;

use frugal_core::quant::BlockFormat;
use frugal_fuzz::safetensors::CONFIGS;
use frugal_model::checkpoint::gguf::{
    Array, GgufPlan, GgufSettings, Mixture, TokenizerKeys, Value,
};
use frugal_model::checkpoint::{self, FolderFormat, WriteSettings};
use frugal_model::config::ModelConfig;
use frugal_model::init::{Deviation, InitSettings, OutputInit, init};
use frugal_model::params::{Params, Role};
use frugal_text::byte_level::letter_of;
use frugal_text::chat::Builtin;
use frugal_text::gguf::{TokenizerKeys, tokenizer_json};
use frugal_text::word_level;
use serde_json::{Map, json};

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    safetensors()?;
    ggufs()?;
    tokenizers()?;
    templates()?;
    blocks()
}

fn put(target: &str, name: &str, bytes: &[u8]) -> Done {
    let folder = Path::new("seeds").join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), bytes)?)
}

fn values(config: &ModelConfig) -> Result<Params<Vec<f32>>, Box<dyn Error>> {
    let settings = InitSettings {
        matrices: Deviation::PerRootWidth(1.0),
        embedding: Deviation::Fixed(1.0),
        head: Deviation::PerRootWidth(1.0),
        outputs: OutputInit::Same,
    };
    Ok(init(config, 1, &settings)?)
}

fn safetensors() -> Done {
    let formats = [FolderFormat::F32, FolderFormat::F16, FolderFormat::Bf16];
    for (index, (json, format)) in CONFIGS.iter().zip(formats).enumerate() {
        let mut config = ModelConfig::from_json(json)?;
        config.weight_block_size = None;
        let settings = WriteSettings {
            format,
            max_file_bytes: usize::MAX,
        };
        let files = checkpoint::write(&config, &values(&config)?, &settings)?;
        put("safetensors", &format!("ok-{index}"), &files[0].bytes)?;
    }
    put(
        "safetensors",
        "ok-fp8",
        &fp8(&ModelConfig::from_json(CONFIGS[2])?)?,
    )?;
    let index = br#"{"metadata":{"total_size":9},"weight_map":{"a":"b.safetensors"}}"#;
    put("safetensors", "bad-because-an-index", index)
}

/// The matrices in e4m3 with factors for the config's small blocks, all else in f32.
fn fp8(config: &ModelConfig) -> Result<Vec<u8>, Box<dyn Error>> {
    let [down, across] = config.weight_block_size.unwrap_or([1, 1]);
    let (mut header, mut data) = (Map::new(), Vec::new());
    let mut push = |name: String, dtype: &str, shape: &[usize], bytes: Vec<u8>| {
        let from = data.len();
        data.extend(bytes);
        header.insert(
            name,
            json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, data.len()] }),
        );
    };
    let ones = |n: usize| {
        [1.0f32; 1]
            .iter()
            .cycle()
            .take(n)
            .flat_map(|x| x.to_le_bytes())
            .collect()
    };
    let specs = Params::spec(config)?;
    for spec in specs.leaves() {
        let shape = spec.file_shape();
        for name in spec.files() {
            if matches!(spec.role, Role::Matrix | Role::Experts) {
                let grid = [shape.rows().div_ceil(down), shape.cols().div_ceil(across)];
                let numbers = (0..shape.elements())
                    .map(|at| (at * 37 % 120) as u8)
                    .collect();
                push(name.clone(), "F8_E4M3", shape.dims(), numbers);
                push(
                    format!("{name}_scale_inv"),
                    "F32",
                    &grid,
                    ones(grid[0] * grid[1]),
                );
            } else {
                push(name, "F32", shape.dims(), ones(shape.elements()));
            }
        }
    }
    let header = serde_json::to_vec(&header)?;
    Ok([(header.len() as u64).to_le_bytes().to_vec(), header, data].concat())
}

/// All bytes, some merges, and one token of each other type.
fn vocabulary() -> TokenizerKeys {
    let mut tokens: Vec<String> = (0..=u8::MAX).map(|b| letter_of(b).to_string()).collect();
    let more = [
        ("th", 1),
        ("Ġth", 1),
        ("<s>", 3),
        ("</s>", 3),
        ("<think>", 4),
        ("plain one", 4),
        ("[PAD262]", 5),
    ];
    let mut token_types = vec![1; 256];
    for (token, kind) in more {
        tokens.push(token.to_string());
        token_types.push(kind);
    }
    TokenizerKeys {
        model: "gpt2".into(),
        pre: "qwen2".into(),
        tokens,
        token_types,
        merges: ["t h", "Ġ th"].map(String::from).into(),
        bos: Some(258),
        eos: Some(259),
        ..TokenizerKeys::default()
    }
}

const QWEN3: &str = r#"{"architectures":["Qwen3ForCausalLM"],"vocab_size":4,"hidden_size":32,"intermediate_size":32,
"num_hidden_layers":1,"num_attention_heads":1,"num_key_value_heads":1,"head_dim":32,"max_position_embeddings":8,
"rms_norm_eps":1e-6,"tie_word_embeddings":true,"rope_theta":1000000.0,"rope_scaling":{"rope_type":"yarn","factor":4.0,
"original_max_position_embeddings":8}}"#;
const QWEN2: &str = r#"{"architectures":["Qwen2ForCausalLM"],"vocab_size":263,"hidden_size":2,"intermediate_size":3,
"num_hidden_layers":1,"num_attention_heads":1,"num_key_value_heads":1,"head_dim":2,"max_position_embeddings":8,
"rms_norm_eps":1e-6,"tie_word_embeddings":true,"rope_theta":10000.0,"bos_token_id":258,"eos_token_id":[259,257]}"#;
const LLAMA3: &str = r#"{"architectures":["LlamaForCausalLM"],"vocab_size":2,"hidden_size":4,"intermediate_size":3,
"num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":4,"max_position_embeddings":64,
"rms_norm_eps":1e-5,"tie_word_embeddings":false,"rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,
"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":16}}"#;

fn ggufs() -> Done {
    let of = vocabulary();
    let keys = TokenizerKeys {
        model: of.model,
        pre: of.pre,
        tokens: of.tokens,
        token_types: of.token_types,
        merges: of.merges,
        bos: of.bos,
        eos: of.eos,
        pad: None,
        unk: None,
        add_bos: Some(true),
        chat_template: Some("{{ bos_token }}".into()),
    };
    let deepseek = CONFIGS[2].replace(
        r#""num_nextn_predict_layers":1"#,
        r#""num_nextn_predict_layers":0"#,
    );
    let rows = [
        ("qwen2", QWEN2, Mixture::F16, Some(keys)),
        ("qwen3", QWEN3, Mixture::Blocks(BlockFormat::Q4_0), None),
        ("llama", LLAMA3, Mixture::F32, None),
        ("deepseek", deepseek.as_str(), Mixture::Bf16, None),
    ];
    for (name, json, mixture, tokenizer) in rows {
        let mut config = ModelConfig::from_json(json)?;
        config.weight_block_size = None;
        let all = [
            Value::U8(1),
            Value::I16(-2),
            Value::F64(0.5),
            Value::Array(Array::Array(vec![
                Array::Bool(vec![true]),
                Array::U64(vec![7]),
            ])),
            Value::Array(Array::String(vec!["a".into(), String::new()])),
        ];
        let metadata = (0..)
            .zip(all)
            .map(|(at, value): (u8, _)| (format!("test.{at}"), value));
        let settings = GgufSettings {
            mixture,
            tokenizer,
            metadata: metadata.collect(),
        };
        let values = values(&config)?;
        let plan = GgufPlan::new(&config, &values, &settings)?;
        let mut bytes = Vec::new();
        plan.write(&mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        put("gguf", &format!("ok-{name}"), &bytes)?;
        // The version before has the same layout.
        bytes[4] = 2;
        if name == "llama" {
            put("gguf", "ok-llama-v2", &bytes)?;
        }
    }
    Ok(())
}

fn tokenizers() -> Done {
    for pre in ["qwen2", "llama-bpe"] {
        let keys = TokenizerKeys {
            pre: pre.into(),
            ..vocabulary()
        };
        put("tokenizer", &format!("ok-{pre}"), &tokenizer_json(&keys)?)?;
    }
    let words = ["one", "two"].map(String::from);
    let file = word_level::tokenizer_json(&words, &word_level::CONTROL)?;
    put("tokenizer", "ok-words", &file)?;
    put("tokenizer", "ok-pairs", pieces(true).to_string().as_bytes())?;
    put(
        "tokenizer",
        "ok-unigram",
        pieces(false).to_string().as_bytes(),
    )?;
    let rows: [(&str, &[u8]); 4] = [
        (
            "ok-plain",
            b"\x01\x00=th\n+t h\n3<s>\nb257\ne257\n4<think>\nhello <think>",
        ),
        (
            "ok-llama",
            b"\x02\x04=th\n=the\n+t h\n+th e\n2<unk>\n5[PAD9]\n3<s>\nb260\nu259\nthe then",
        ),
        ("bad-merge", b"\x01\x00+t h\n"),
        ("bad-byte-is-control", b"\x01\x00<A\n"),
    ];
    for (name, bytes) in rows {
        put("gguf_vocabulary", name, bytes)?;
    }
    Ok(())
}

/// SentencePiece's two kinds, as Hugging Face writes them.
fn pieces(is_pairs: bool) -> serde_json::Value {
    let mut tokens = vec!["<unk>".to_string(), "<s>".to_string()];
    tokens.extend((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["▁", "t", "h", "e", "th", "▁th"].map(String::from));
    let model = if is_pairs {
        let vocab: Map<_, _> = tokens
            .iter()
            .zip(0u32..)
            .map(|(t, id)| (t.clone(), id.into()))
            .collect();
        json!({ "type": "BPE", "vocab": vocab, "merges": ["t h", "▁ th"], "byte_fallback": true, "unk_token": "<unk>", "fuse_unk": true })
    } else {
        let vocab: Vec<_> = tokens.iter().map(|t| (t, -1.5)).collect();
        json!({ "type": "Unigram", "vocab": vocab, "unk_id": 0, "byte_fallback": true })
    };
    let special = |id: u32, name: &str| json!({ "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>")],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" } ] },
        "pre_tokenizer": null, "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 } ] },
        "model": model,
    })
}

fn templates() -> Done {
    let marks = [
        ("<｜User｜>", "<|一|>"),
        ("<｜Assistant｜>", "<|五|>"),
        ("<|im_start|>", "<|五|>"),
        ("<|im_end|>", "<|三|>"),
        ("<|start_header_id|>", "<|五|>"),
        ("<｜end▁of▁sentence｜>", "<|三|>"),
    ];
    for one in Builtin::ALL {
        let source = marks
            .iter()
            .fold(one.source(), |text, (from, to)| text.replace(from, to));
        put("template", &format!("ok-{}", one.name()), source.as_bytes())?;
    }
    let said = "{% for m in messages %}<|五|>{{ m.content|trim ~ eos_token }}{% endfor %}\u{0}";
    let said = [said.as_bytes(), b"\xFF<|\xE4\xBA\x94|>\xF3\xB0\x80\x80"].concat();
    put("template", "ok-said", &said)?;
    put(
        "template",
        "ok-pieces",
        b"\x01\x02\x06\x03\x15\x00\x0C\x2F\x01\x02\x07\x03",
    )?;
    let import = "{% import 'a' as b|slice(2) %}";
    put("template", "bad-import", import.as_bytes())?;
    put("template", "bad-syntax", b"{{ 'a' ")
}

fn blocks() -> Done {
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    for (choice, format) in (0u8..).zip(BlockFormat::ALL) {
        let bytes = (0..2 * format.block_bytes()).map(|_| byte());
        let bytes: Vec<u8> = std::iter::once(choice).chain(bytes).collect();
        put("quant", &format!("ok-{format}"), &bytes)?;
    }
    let fp8: Vec<u8> = [11, 2, 129]
        .into_iter()
        .chain((0..398).map(|_| byte()))
        .collect();
    put("quant", "ok-fp8", &fp8)?;
    put("quant", "ok-plain", &[12, 0, 60, 0, 0, 128, 63, 1])
}
