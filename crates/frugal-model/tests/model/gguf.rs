//! GGUF files: those of others, our own and hostile ones; here what makes them.

mod foreign;
mod hostile;
mod ours;

use frugal_model::checkpoint::Numbers;
use frugal_model::checkpoint::gguf::{Gguf, GgufPlan, GgufSettings, Kind, Mixture, Value};
use frugal_model::config::ModelConfig;
use frugal_model::params::Params;

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
