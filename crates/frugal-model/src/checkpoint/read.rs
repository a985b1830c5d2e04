//! Reading: safetensors bytes to a tree of [`Stored`] parameters, without copying.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use frugal_core::backend::Backend;
use frugal_core::dtype::{DType, Data, decode};
use frugal_core::shape::Shape;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::params::{Params, Role, Spec};

/// How many names an error lists.
const NAMED: usize = 4;

/// A parameter where it lies in a file's bytes: one tensor, or one for each expert.
#[derive(Debug, Clone)]
pub struct Stored<'a> {
    /// What it is.
    pub spec: Spec,
    parts: Vec<Part<'a>>,
}

#[derive(Clone)]
struct Part<'a> {
    dtype: DType,
    bytes: &'a [u8],
    blocks: Option<Blocks>,
}

/// The factors of an e4m3 tensor.
#[derive(Clone)]
struct Blocks {
    scales: Vec<f32>,
    block: [usize; 2],
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {}", self.bytes.len(), self.dtype)
    }
}

impl Part<'_> {
    fn data(&self) -> Data<'_> {
        match &self.blocks {
            Some(Blocks { scales, block }) => Data::Fp8Blocks {
                bytes: self.bytes,
                scales,
                block: *block,
            },
            None => Data::Bytes {
                dtype: self.dtype,
                bytes: self.bytes,
            },
        }
    }
}

impl Stored<'_> {
    /// The numbers, experts one after another.
    ///
    /// # Errors
    /// None that [`read`] has not found before.
    pub fn values(&self) -> Result<Vec<f32>> {
        let shape = self.spec.file_shape();
        let mut values = Vec::with_capacity(self.spec.shape.checked_elements()?);
        for part in &self.parts {
            values.extend(decode(shape, part.data())?);
        }
        Ok(values)
    }

    /// The parameter on a back-end.
    ///
    /// # Errors
    /// Those of the back-end.
    pub fn put<B: Backend>(&self, b: &B) -> Result<B::Tensor> {
        if let [part] = self.parts.as_slice() {
            return Ok(b.put(self.spec.shape, part.data())?);
        }
        let dtype = self.parts.first().map_or(DType::F32, |part| part.dtype);
        let is_plain = |part: &Part<'_>| part.dtype == dtype && part.blocks.is_none();
        if self.parts.iter().all(is_plain) {
            let bytes: Vec<&[u8]> = self.parts.iter().map(|part| part.bytes).collect();
            let bytes = &bytes.concat();
            return Ok(b.put(self.spec.shape, Data::Bytes { dtype, bytes })?);
        }
        Ok(b.put(self.spec.shape, Data::F32(&self.values()?))?)
    }
}

/// Finds every parameter of a config in the files of a checkpoint.
///
/// Returns the config as well, saying what the files hold: `num_nextn_predict_layers` is 0 where they hold
/// no such layer, and `weight_block_size` is gone, since the numbers come out dequantised.
///
/// # Errors
/// [`Error::File`] for bytes that are no safetensors file, [`Error::Tensors`] for missing, unknown
/// or repeated tensors, [`Error::Tensor`] for one of another shape or format.
pub fn read<'a>(
    config: &ModelConfig,
    files: &[&'a [u8]],
) -> Result<(ModelConfig, Params<Stored<'a>>)> {
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
        Ok::<_, Error>(Stored { spec, parts })
    })?;
    refuse_names("missing", &missing)?;
    let unknown: Vec<String> = shelf.tensors.into_keys().collect();
    refuse_names("unknown", &unknown)?;
    Ok((config, params))
}

/// The tensors of all files that have not been taken yet.
struct Shelf<'a> {
    tensors: BTreeMap<String, TensorView<'a>>,
    block: Option<[usize; 2]>,
}

impl<'a> Shelf<'a> {
    fn new(config: &ModelConfig, files: &[&'a [u8]]) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        let mut repeated = Vec::new();
        for (index, bytes) in files.iter().enumerate() {
            let file = SafeTensors::deserialize(bytes).map_err(|error| Error::File {
                index,
                reason: error.to_string(),
            })?;
            for (name, view) in file.tensors() {
                // A buffer that old Llama files carry; it follows from the config.
                if name.ends_with(".rotary_emb.inv_freq") {
                    continue;
                }
                if tensors.insert(name.clone(), view).is_some() {
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
            let is_equal =
                |view: &TensorView<'_>| view.dtype() == copy.dtype() && view.data() == copy.data();
            if !self.tensors.get(original).is_some_and(is_equal) {
                return Err(Error::Tensor {
                    name,
                    expected: format!("a copy of {original}"),
                    got: "other numbers".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &str, spec: &Spec) -> Result<Option<Part<'a>>> {
        let Some(view) = self.tensors.remove(name) else {
            return Ok(None);
        };
        let shape = spec.file_shape();
        expect_shape(name, shape.dims(), &view)?;
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::Bf16,
            Dtype::F8_E4M3 if matches!(spec.role, Role::Matrix | Role::Experts) => DType::F8E4M3,
            got => {
                return Err(Error::Tensor {
                    name: name.to_owned(),
                    expected: "f32, f16 or bf16, or e4m3 for a matrix".to_owned(),
                    got: format!("{got:?}"),
                });
            }
        };
        let blocks = match dtype {
            DType::F8E4M3 => Some(self.scales(name, shape)?),
            _ => None,
        };
        Ok(Some(Part {
            dtype,
            bytes: view.data(),
            blocks,
        }))
    }

    fn scales(&mut self, name: &str, shape: Shape) -> Result<Blocks> {
        let refuse = |name: &str, expected: &str, got: &str| Error::Tensor {
            name: name.to_owned(),
            expected: expected.to_owned(),
            got: got.to_owned(),
        };
        let block = self.block.ok_or_else(|| {
            refuse(
                name,
                "quantization_config.weight_block_size for e4m3",
                "none in config.json",
            )
        })?;
        let scale_name = format!("{name}_scale_inv");
        let view = self.tensors.remove(&scale_name);
        let view = view.ok_or_else(|| refuse(name, &format!("{scale_name} beside it"), "none"))?;
        let grid = [
            shape.rows().div_ceil(block[0]),
            shape.cols().div_ceil(block[1]),
        ];
        expect_shape(&scale_name, &grid, &view)?;
        if view.dtype() != Dtype::F32 {
            return Err(refuse(&scale_name, "f32", &format!("{:?}", view.dtype())));
        }
        let bytes = view.data();
        let dtype = DType::F32;
        let scales = decode(
            Shape::matrix(grid[0], grid[1]),
            Data::Bytes { dtype, bytes },
        )?;
        Ok(Blocks { scales, block })
    }
}

fn expect_shape(name: &str, expected: &[usize], view: &TensorView<'_>) -> Result<()> {
    if view.shape() == expected {
        return Ok(());
    }
    Err(Error::Tensor {
        name: name.to_owned(),
        expected: format!("shape {expected:?}"),
        got: format!("{:?}", view.shape()),
    })
}

fn refuse_names(what: &'static str, names: &[String]) -> Result<()> {
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
