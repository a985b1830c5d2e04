//! Random weights in any stored form, as they would lie in a file.
//!
//! All are cut from one short run of random numbers, each tensor from another place of it on:
//! encoding takes a moment even for a large model, and a product is as fast as with any others.

use std::collections::BTreeMap;

use anyhow::Context;
use frugal_core::dtype::DType;
use frugal_core::quant::{BlockFormat, Format, fp8};
use frugal_core::rng::{Rng, key};
use frugal_core::shape::Shape;
use frugal_core::stored::Stored;
use frugal_model::checkpoint::Leaf;
use frugal_model::params::{Role, Spec};
use half::{bf16, f16};

/// Numbers of the run: whole blocks of every format, and no multiple of a usual row.
const NUMBERS: usize = (1 << 20) + 3 * 256;
const DEVIATION: f32 = 0.02;
/// Rows and columns of a published FP8 block.
const FP8_BLOCK: [usize; 2] = [128, 128];

/// The run, in each form that was asked for.
pub(super) struct Source {
    numbers: Vec<f32>,
    encoded: BTreeMap<String, Vec<u8>>,
}

impl Source {
    pub(super) fn new() -> Self {
        Self {
            numbers: Rng::derive(&[key("bench")]).normals(NUMBERS, DEVIATION),
            encoded: BTreeMap::new(),
        }
    }

    /// A parameter: norms of ones, biases of zeros, all else random.
    pub(super) fn leaf(&mut self, spec: &Spec, format: Format) -> anyhow::Result<Leaf> {
        let each = spec.file_shape();
        let constant = match spec.role {
            Role::Norm => Some(1.0f32),
            Role::Bias | Role::RouterBias => Some(0.0),
            _ => None,
        };
        let parts = match constant {
            Some(value) => vec![Stored::Plain {
                dtype: DType::F32,
                bytes: value.to_le_bytes().repeat(each.elements()).into(),
            }],
            None => spec
                .files()
                .map(|name| self.stored(each, format, key(&name)))
                .collect::<anyhow::Result<_>>()?,
        };
        Ok(Leaf {
            spec: spec.clone(),
            parts,
        })
    }

    /// A matrix in a form; `name` says where in the run it begins.
    pub(super) fn stored(
        &mut self,
        shape: Shape,
        format: Format,
        name: u64,
    ) -> anyhow::Result<Stored> {
        let (values, bytes) = match format {
            Format::Plain(dtype) => (1, dtype.bytes()),
            Format::Blocks(block) => (block.block_values(), block.block_bytes()),
            Format::Fp8Blocks(_) => (1, 1),
        };
        if !self.encoded.contains_key(&format.to_string()) {
            let encoded = self.encode(format)?;
            self.encoded.insert(format.to_string(), encoded);
        }
        let run = self.encoded.get(&format.to_string()).context("encoded")?;
        let units = u32::try_from(NUMBERS / values)?;
        let first = Rng::derive(&[name]).below(units) as usize * bytes;
        let cut = cut(run, first, shape.elements() / values * bytes).into();
        Ok(match format {
            Format::Plain(dtype) => Stored::Plain { dtype, bytes: cut },
            Format::Blocks(format) => Stored::Blocks { format, bytes: cut },
            Format::Fp8Blocks(block) => {
                let [down, across] = [shape.rows(), shape.cols()];
                let grid = down.div_ceil(block[0]) * across.div_ceil(block[1]);
                Stored::Fp8Blocks {
                    bytes: cut,
                    scales: vec![DEVIATION / 64.0; grid].into(),
                    block,
                }
            }
        })
    }

    fn encode(&self, format: Format) -> anyhow::Result<Vec<u8>> {
        let numbers = self.numbers.iter();
        Ok(match format {
            Format::Plain(DType::F32) => numbers.flat_map(|x| x.to_le_bytes()).collect(),
            Format::Plain(DType::Bf16) => numbers
                .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
                .collect(),
            Format::Plain(DType::F16) => numbers
                .flat_map(|x| f16::from_f32(*x).to_le_bytes())
                .collect(),
            Format::Plain(other) => anyhow::bail!("expected f32, bf16 or f16, got {other}"),
            Format::Blocks(block) => block.encode(&self.numbers)?,
            Format::Fp8Blocks(block) => {
                let shape = [NUMBERS / block[1], block[1]];
                fp8::encode_blocks(&self.numbers, shape, block, fp8::Scales::Float)?.bytes
            }
        })
    }
}

/// So many bytes of a run that begins anew at its end.
fn cut(run: &[u8], first: usize, n: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(n);
    let mut rest = run.get(first..).unwrap_or_default();
    while out.len() < n {
        let part = rest.get(..n - out.len()).unwrap_or(rest);
        out.extend_from_slice(part);
        rest = run;
    }
    out
}

/// The format of a name.
pub(super) fn format_named(name: &str) -> Option<Format> {
    Some(match name.to_ascii_lowercase().as_str() {
        "f32" => Format::Plain(DType::F32),
        "bf16" => Format::Plain(DType::Bf16),
        "f16" => Format::Plain(DType::F16),
        "fp8" => Format::Fp8Blocks(FP8_BLOCK),
        other => Format::Blocks(BlockFormat::from_name(other)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_goes_round_the_run() {
        assert_eq!(cut(&[1, 2, 3], 2, 5), [3, 1, 2, 3, 1]);
        assert!(cut(&[1, 2, 3], 1, 0).is_empty());
    }

    #[test]
    fn every_form_decodes_to_numbers_of_the_run() {
        let mut source = Source::new();
        let shape = Shape::matrix(130, 256);
        for name in ["f32", "bf16", "f16", "fp8", "q8_0", "q4_0", "q4_k", "q6_k"] {
            let format = format_named(name).unwrap();
            let stored = source.stored(shape, format, 7).unwrap();
            let values = frugal_core::dtype::decode(shape, stored.data()).unwrap();
            let square: f32 = values.iter().map(|x| x * x).sum();
            let deviation = (square / values.len() as f32).sqrt();
            assert!((0.01..0.05).contains(&deviation), "{name}: {deviation}");
        }
        assert!(format_named("q9").is_none());
    }
}
