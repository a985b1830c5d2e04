//! Reading: safetensors bytes to a tree of [`Leaf`]s, without copying.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use frugal_core::dtype::DType;
use frugal_core::shape::Shape;
use frugal_core::stored::{SharedBytes, Stored};
use safetensors::Dtype;

use super::container::{Container, Held};
use super::leaf::Leaf;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::params::{Params, Role, Spec};

/// How many names an error lists.
const NAMED: usize = 4;

/// Finds every parameter of a config in the files of a checkpoint.
///
/// Returns the config as well, saying what the files hold: `num_nextn_predict_layers` is 0 where they hold
/// no such layer, and `weight_block_size` is gone, since each leaf knows its own form.
///
/// # Errors
/// [`Error::File`] for bytes that are no safetensors file, [`Error::Tensors`] for missing, unknown
/// or repeated tensors, [`Error::Tensor`] for one of another shape or format.
pub fn read(config: &ModelConfig, files: &[SharedBytes]) -> Result<(ModelConfig, Params<Leaf>)> {
    let mut shelf = Shelf::new(config, files)?;
    let mut config = config.clone();
    let extra = format!("model.layers.{}.", config.num_hidden_layers);
    if !shelf.tensors.keys().any(|name| name.starts_with(&extra)) {
        config.num_nextn_predict_layers = 0;
    }
    config.weight_block_size = None;
    let specs = Params::spec(&config)?;
    shelf.drop_copies(&config)?;
    let mut missing = Vec::new();
    let params = specs.try_map(|spec| {
        let mut parts = Vec::new();
        for name in spec.files() {
            match shelf.take(&name, spec)? {
                Some(part) => parts.push(part),
                None => missing.push(name),
            }
            if missing.len() > NAMED {
                break;
            }
        }
        let spec = spec.clone();
        Ok::<_, Error>(Leaf { spec, parts })
    })?;
    refuse_names("missing", &missing)?;
    let unknown: Vec<String> = shelf.tensors.into_keys().collect();
    refuse_names("unknown", &unknown)?;
    Ok((config, params))
}

/// The tensors of all files that have not been taken yet.
struct Shelf {
    tensors: BTreeMap<String, Held>,
    block: Option<[usize; 2]>,
}

impl Shelf {
    fn new(config: &ModelConfig, files: &[SharedBytes]) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        let mut repeated = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let container =
                Container::parse(file).map_err(|reason| Error::File { index, reason })?;
            for (name, held) in container.tensors {
                // A buffer that old Llama files carry; it follows from the config.
                if name.ends_with(".rotary_emb.inv_freq") {
                    continue;
                }
                if tensors.insert(name.clone(), held).is_some() {
                    repeated.push(name);
                }
            }
        }
        refuse_names("repeated", &repeated)?;
        let block = config.weight_block_size;
        Ok(Self { tensors, block })
    }

    /// Files may repeat the embedding as a tied head, and embedding and head in the extra layer.
    /// One that differs from its original would be another model than ours, and is refused.
    fn drop_copies(&mut self, config: &ModelConfig) -> Result<()> {
        let embed = "model.embed_tokens.weight";
        let tied = config.tie_word_embeddings;
        let head = if tied { embed } else { "lm_head.weight" };
        let extra = format!("model.layers.{}", config.num_hidden_layers);
        let mut copies = Vec::new();
        if tied {
            copies.push(("lm_head.weight".to_owned(), embed));
        }
        if config.num_nextn_predict_layers > 0 {
            copies.push((format!("{extra}.embed_tokens.weight"), embed));
            copies.push((format!("{extra}.shared_head.head.weight"), head));
        }
        for (name, original) in copies {
            let Some(copy) = self.tensors.remove(&name) else {
                continue;
            };
            let is_equal = |held: &Held| {
                held.dtype == copy.dtype && held.shape == copy.shape && *held.bytes == *copy.bytes
            };
            if !self.tensors.get(original).is_some_and(is_equal) {
                let expected = format!("a copy of {original}");
                return Err(refuse(&name, expected, "other numbers"));
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &str, spec: &Spec) -> Result<Option<Stored>> {
        let Some(Held {
            dtype,
            shape,
            bytes,
        }) = self.tensors.remove(name)
        else {
            return Ok(None);
        };
        expect_shape(name, spec.file_shape().dims(), &shape)?;
        let dtype = match dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::Bf16,
            Dtype::F8_E4M3 if matches!(spec.role, Role::Matrix | Role::Experts) => {
                let (scales, block) = self.scales(name, spec.file_shape())?;
                return Ok(Some(Stored::Fp8Blocks {
                    bytes,
                    scales: scales.into(),
                    block,
                }));
            }
            got => {
                let expected = "f32, f16 or bf16, or e4m3 for a matrix";
                return Err(refuse(name, expected, format!("{got:?}")));
            }
        };
        Ok(Some(Stored::Plain { dtype, bytes }))
    }

    /// The factors of an e4m3 matrix: f32 as published, or the exponents alone.
    fn scales(&mut self, name: &str, shape: Shape) -> Result<(Vec<f32>, [usize; 2])> {
        let block = self.block.ok_or_else(|| {
            let expected = "quantization_config.weight_block_size for e4m3";
            refuse(name, expected, "none in config.json")
        })?;
        let scale_name = format!("{name}_scale_inv");
        let held = self.tensors.remove(&scale_name);
        let held = held.ok_or_else(|| refuse(name, format!("{scale_name} beside it"), "none"))?;
        let grid = [
            shape.rows().div_ceil(block[0]),
            shape.cols().div_ceil(block[1]),
        ];
        expect_shape(&scale_name, &grid, &held.shape)?;
        let scales: Vec<f32> = match held.dtype {
            Dtype::F32 => {
                let numbers = held.bytes.as_chunks::<4>().0.iter();
                numbers.map(|b| f32::from_le_bytes(*b)).collect()
            }
            Dtype::F8_E8M0 => held.bytes.iter().map(|b| exponent(*b)).collect(),
            other => return Err(refuse(&scale_name, "f32 or e8m0", format!("{other:?}"))),
        };
        let is_factor = |scale: &&f32| !(scale.is_finite() && **scale >= 0.0);
        if let Some(scale) = scales.iter().find(is_factor) {
            let expected = "finite factors of at least 0";
            return Err(refuse(&scale_name, expected, format!("{scale}")));
        }
        Ok((scales, block))
    }
}

/// The value of an e8m0 byte: 2^(byte - 127), or no number.
fn exponent(byte: u8) -> f32 {
    match byte {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(byte) << 23),
    }
}

pub(super) fn refuse(name: &str, expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::Tensor {
        name: name.to_owned(),
        expected: expected.into(),
        got: got.into(),
    }
}

pub(super) fn expect_shape(name: &str, expected: &[usize], got: &[usize]) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let expected = format!("shape {expected:?}");
    Err(refuse(name, expected, format!("{got:?}")))
}

pub(super) fn refuse_names(what: &'static str, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    let more = if names.len() > NAMED {
        ", and more"
    } else {
        ""
    };
    Err(Error::Tensors {
        what,
        names: format!("{}{more}", shown.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_powers_of_two() {
        for (byte, value) in [
            (127, 1.0),
            (128, 2.0),
            (120, 1.0 / 128.0),
            (254, 2f32.powi(127)),
        ] {
            assert_eq!(exponent(byte).to_bits(), f32::to_bits(value));
        }
        assert_eq!(exponent(0).to_bits(), 2f32.powi(-127).to_bits());
        assert!(exponent(255).is_nan());
    }
}
