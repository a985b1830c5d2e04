//! How fast a model will be here, before it is loaded: what the meter counts of a step, over what
//! this machine was measured to do with weights of that format. What a step does is [`least`]'s.

pub(crate) mod least;

use std::collections::BTreeMap;

use anyhow::Context;
use frugal_core::backend::{Backend, KeyBits, Linear, Product};
use frugal_core::dtype::{DType, Data};
use frugal_core::meter::Price;
use frugal_core::quant::Format;
use frugal_core::shape::Shape;
use frugal_core::stored::{SharedBytes, Stored};
use frugal_model::config::ModelConfig;
use frugal_model::params::{Params, Role, Spec};
use frugal_run::consumption::Stopwatch;

use self::least::{Shadow, Share, parts_read};
use crate::device::{Device, Limits, Precision};

/// Prompt tokens computed together.
const PROMPT: usize = 512;
/// The trial weight: more than the second cache holds.
const TRIAL: [usize; 2] = [8192, 2048];
/// Times that a trial is repeated; the best counts, since other work only slows.
const TRIALS: usize = 3;

/// What a model needs and how fast it will be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forecast {
    /// Bytes of its weights.
    pub(crate) weight_bytes: u64,
    /// Bytes of the cache for one token of a conversation.
    pub(crate) cache_bytes_per_token: u64,
    /// Tokens of a prompt per second.
    pub(crate) prompt_tokens_per_second: f64,
    /// Tokens of an answer per second, in the middle of a conversation.
    pub(crate) answer_tokens_per_second: f64,
}

/// What this machine was measured to do.
pub(crate) struct Machine<'a> {
    device: &'a Device,
    /// With bf16 products.
    limits: Limits,
    /// Seconds for a byte of a weight of some format, at one row and at a prompt's.
    rates: BTreeMap<String, [f64; 2]>,
}

impl<'a> Machine<'a> {
    /// Measures the memory and the products, in about a second.
    pub(crate) fn measure(device: &'a Device) -> Self {
        Self {
            device,
            limits: Limits::measure(device, Precision::Bf16),
            rates: BTreeMap::new(),
        }
    }

    /// Seconds that a byte of a weight in this format takes with one row, and with a prompt's.
    fn seconds_per_byte(&mut self, format: Format) -> anyhow::Result<[f64; 2]> {
        let name = format.to_string();
        if let Some(rates) = self.rates.get(&name) {
            return Ok(*rates);
        }
        let [n, k] = TRIAL;
        let shape = Shape::matrix(n, k);
        let bytes = format.bytes(shape)?;
        let weight = self.device.keep(shape, &[zeros(format, shape)?])?;
        // One row is a token of an answer.
        let trials = [(1, self.device.for_answers(&weight)), (PROMPT, weight)];
        let mut rates = [f64::INFINITY; 2];
        for ((rows, weight), rate) in trials.iter().zip(&mut rates) {
            let x = vec![1.0; rows * k];
            let x = self.device.put(Shape::matrix(*rows, k), Data::F32(&x))?;
            for _ in 0..TRIALS {
                let watch = Stopwatch::start();
                let linear = Linear {
                    weight,
                    bias: None,
                    product: Product::Policy,
                };
                self.device.linear(&x, linear)?;
                *rate = rate.min(watch.seconds() / bytes as f64);
            }
        }
        self.rates.insert(name, rates);
        Ok(rates)
    }

    /// The forecast for a model whose parameters are stored in `formats`, in a conversation of
    /// `context` tokens, whose keys and values are kept in `bits`.
    pub(crate) fn forecast(
        &mut self,
        config: &ModelConfig,
        formats: &Params<(Spec, Format)>,
        (context, bits): (usize, KeyBits),
    ) -> anyhow::Result<Forecast> {
        let keys = (bits, self.device.key_dtype());
        let mut shadow = Shadow::new(config, formats, (1, context), keys)?;
        let before = shadow.meter.live_bytes();
        let held = (context / 2).max(1);
        let prompt = shadow.step(held)?;
        let cache_bytes = shadow.meter.live_bytes().saturating_sub(before);
        let token = shadow.step(1)?;
        let experts = Share::of(config);
        let (mut at_one, mut at_many) = (0.0, 0.0);
        for part in parts_read(config, formats)? {
            let [one, many] = self.seconds_per_byte(part.format)?;
            let of_one = experts.of_rows(1);
            at_one += part.bytes * one * if part.is_expert { of_one } else { 1.0 };
            at_many += part.bytes
                * many
                * if part.is_expert {
                    experts.rows_of_each()
                } else {
                    1.0
                };
        }
        // The cache is read at the speed of memory, other work done at that of products.
        let rest = |price: &Price| price.attention_flops as f64 / self.limits.flops;
        let cache_read = cache_bytes as f64 / self.limits.bytes;
        let of_prompt = at_many / PROMPT as f64 + rest(&prompt) / held as f64;
        Ok(Forecast {
            weight_bytes: shadow.weight_bytes,
            cache_bytes_per_token: cache_bytes / held as u64,
            prompt_tokens_per_second: 1.0 / of_prompt,
            answer_tokens_per_second: 1.0 / (at_one + cache_read + rest(&token)),
        })
    }
}

/// Some weight of a format.
fn zeros(format: Format, shape: Shape) -> anyhow::Result<Stored> {
    let elements = shape.elements();
    let bytes = |n: usize| SharedBytes::from(vec![0u8; n]);
    Ok(match format {
        Format::Plain(dtype) => Stored::Plain {
            dtype,
            bytes: bytes(elements * dtype.bytes()),
        },
        Format::Blocks(format) => Stored::Blocks {
            format,
            bytes: bytes(format.bytes_of(elements).context("whole blocks")?),
        },
        Format::Fp8Blocks(block) => {
            let grid = shape.rows().div_ceil(block[0]) * shape.cols().div_ceil(block[1]);
            Stored::Fp8Blocks {
                bytes: bytes(elements),
                scales: vec![1.0; grid].into(),
                block,
            }
        }
    })
}

/// Every parameter in the format that a model would have: matrices in `wanted` where their rows
/// fill its blocks, else in f16; the rest in f32.
pub(crate) fn all_in(
    config: &ModelConfig,
    wanted: Format,
) -> anyhow::Result<Params<(Spec, Format)>> {
    Ok(Params::<Spec>::spec(config)?.map(|spec| {
        let format = match spec.role {
            Role::Norm | Role::Router | Role::RouterBias | Role::Bias => Format::Plain(DType::F32),
            Role::Embedding | Role::Head if matches!(wanted, Format::Fp8Blocks(_)) => {
                Format::Plain(DType::Bf16)
            }
            _ if wanted.bytes(spec.shape).is_ok() => wanted,
            _ => Format::Plain(DType::F16),
        };
        (spec.clone(), format)
    }))
}
