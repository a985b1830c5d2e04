//! Products of matrices by shape and format: weights as they are trained, packed, in all three
//! directions, and as they are stored.

use std::rc::Rc;

use anyhow::Context;
use frugal_core::backend::{Backend, Linear, Product};
use frugal_core::dtype::{DType, Data};
use frugal_core::quant::{BlockFormat, Format};
use frugal_core::rng::key;
use frugal_core::shape::Shape;
use frugal_kernels::cpu::gemm::{Finish, Gemm, Mat, MatMut, Update};
use frugal_run::consumption::Stopwatch;
use serde_json::json;

use super::random::Source;
use super::{Case, Done, Measurement, Unit};
use crate::cli::{BenchGemm, Common};
use crate::device::{self, Device, Precision};
use crate::forecast::least::Work;
use crate::output::Usage;

/// Outputs and inputs: of a tiny model's feed-forward, of a square, of the 1.5B's feed-forward.
const SIZES: [[usize; 2]; 3] = [[768, 256], [2048, 2048], [8960, 1536]];
/// Stored forms.
const FORMATS: [Format; 7] = [
    Format::Plain(DType::Bf16),
    Format::Fp8Blocks([128, 128]),
    Format::Blocks(BlockFormat::Q8_0),
    Format::Blocks(BlockFormat::Q6K),
    Format::Blocks(BlockFormat::Q5K),
    Format::Blocks(BlockFormat::Q4K),
    Format::Blocks(BlockFormat::Q4_0),
];
/// A weight that is smaller lies in the second cache when it is used again.
const NEAR_BYTES: u64 = 2 << 20;
/// Larger ones come from memory: so many bytes of copies are gone through in turn.
const FAR_BYTES: u64 = 128 << 20;
/// How long a repetition goes on.
const SECONDS: f64 = 0.02;

type Tensor = <Device as Backend>::Tensor;

pub(super) fn run(common: &Common, arguments: &BenchGemm) -> anyhow::Result<()> {
    let bf16 = device::open(common, Precision::Bf16)?;
    let f32 = device::open(common, Precision::F32)?;
    let sizes = match arguments.sizes.as_slice() {
        [] => SIZES.to_vec(),
        named => named.iter().map(|s| size(s)).collect::<Result<_, _>>()?,
    };
    let mut source = Source::new();
    let mut cases = Vec::new();
    for [n, k] in sizes {
        let shape = Shape::matrix(n, k);
        let plain = Format::Plain(DType::F32);
        for (dtype, device) in [(DType::F32, &f32), (DType::Bf16, &bf16)] {
            let name = dtype.to_string();
            let bytes = Format::Plain(dtype).bytes(shape)?;
            let values = |copy| {
                let stored = source.stored(shape, plain, key(&name) + copy)?;
                Ok(device.put(shape, stored.data())?)
            };
            let weight = Weight::new(format!("{name} packed"), bytes, device, values)?;
            weight.cases(shape, &arguments.rows, &mut cases)?;
        }
        for rows in &arguments.rows {
            cases.extend(backward(&bf16, *rows, [n, k]));
        }
        for format in FORMATS.into_iter().filter(|f| f.bytes(shape).is_ok()) {
            let kept = |copy| {
                let stored = source.stored(shape, format, key("kept") + copy)?;
                Ok(bf16.keep(shape, &[stored])?)
            };
            let name = match format {
                Format::Plain(dtype) => format!("{dtype} kept"),
                Format::Fp8Blocks(_) => "fp8".to_owned(),
                Format::Blocks(block) => block.to_string(),
            };
            let weight = Weight::new(name, format.bytes(shape)?, &bf16, kept)?;
            weight.cases(shape, &arguments.rows, &mut cases)?;
            if matches!(format, Format::Blocks(_)) {
                let answers = weight.for_answers();
                answers.cases(shape, &arguments.rows, &mut cases)?;
            }
        }
    }
    let measurement = Measurement {
        what: "gemm",
        unit: Unit::Gigaflops,
        device: &bf16,
        cases,
    };
    measurement.show(common, arguments.trials)
}

fn size(text: &str) -> Result<[usize; 2], Usage> {
    let parsed = text
        .split_once('x')
        .and_then(|(n, k)| Some([n.parse().ok()?, k.parse().ok()?]));
    parsed
        .filter(|size| !size.contains(&0))
        .ok_or_else(|| Usage(format!("expected --size like 2048x512, got {text}")))
}

/// A weight with its copies.
struct Weight<'d> {
    name: String,
    device: &'d Device,
    copies: Rc<Vec<Tensor>>,
    /// Bytes of one that come from memory.
    far_bytes: u64,
}

impl<'d> Weight<'d> {
    fn new(
        name: String,
        bytes: u64,
        device: &'d Device,
        make: impl FnMut(u64) -> anyhow::Result<Tensor>,
    ) -> anyhow::Result<Self> {
        let is_near = bytes < NEAR_BYTES;
        let n_copies = if is_near {
            1
        } else {
            FAR_BYTES.div_ceil(bytes)
        };
        Ok(Self {
            name,
            device,
            copies: Rc::new((0..n_copies).map(make).collect::<anyhow::Result<_>>()?),
            far_bytes: if is_near { 0 } else { bytes },
        })
    }

    /// The same in the arithmetic of answers.
    fn for_answers(&self) -> Self {
        let copies = self.copies.iter().map(|w| self.device.for_answers(w));
        Self {
            name: format!("{} answers", self.name),
            device: self.device,
            copies: Rc::new(copies.collect()),
            far_bytes: self.far_bytes,
        }
    }

    /// One for each number of rows.
    fn cases(&self, shape: Shape, rows: &[usize], cases: &mut Vec<Case<'d>>) -> anyhow::Result<()> {
        let [n, k] = [shape.rows(), shape.cols()];
        for m in rows {
            let ones = vec![1.0; m * k];
            let x = self.device.put(Shape::matrix(*m, k), Data::F32(&ones))?;
            let (device, copies, mut turn) = (self.device, Rc::clone(&self.copies), 0usize);
            let once = move || {
                turn += 1;
                let weight = copies.get(turn % copies.len()).context("a copy")?;
                let linear = Linear {
                    weight,
                    bias: None,
                    product: Product::Policy,
                };
                device.linear(&x, linear)?;
                Ok(())
            };
            let product = Shaped {
                rows: *m,
                size: [n, k],
                far_bytes: self.far_bytes,
            };
            cases.push(product.case(&self.name, ("forward", precision_of(&self.name)), once));
        }
        Ok(())
    }
}

fn precision_of(name: &str) -> Precision {
    if name.starts_with("f32") {
        Precision::F32
    } else {
        Precision::Bf16
    }
}

/// A product's shape.
#[derive(Clone, Copy)]
struct Shaped {
    rows: usize,
    size: [usize; 2],
    far_bytes: u64,
}

impl Shaped {
    fn case<'a>(
        self,
        name: &str,
        (direction, precision): (&'static str, Precision),
        mut once: impl FnMut() -> anyhow::Result<()> + 'a,
    ) -> Case<'a> {
        let [n, k] = self.size;
        let flops = (2 * self.rows * n * k) as f64;
        Case {
            marks: vec![
                ("size", json!(format!("{n}x{k}"))),
                ("format", json!(name)),
                ("direction", json!(direction)),
                ("rows", json!(self.rows)),
            ],
            precision,
            forecast_bytes: None,
            run: Box::new(move || {
                let watch = Stopwatch::start();
                let mut calls = 0u32;
                while calls == 0 || watch.seconds() < SECONDS {
                    once()?;
                    calls += 1;
                }
                let calls = f64::from(calls);
                Ok(Done {
                    count: flops * calls / 1e9,
                    seconds: watch.seconds(),
                    least: Work {
                        flops: flops * calls,
                        bytes: self.far_bytes as f64 * calls,
                    },
                    tokens_per_step: None,
                })
            }),
        }
    }
}

/// The gradients of a packed bf16 weight's input and of itself.
fn backward(device: &Device, rows: usize, [n, k]: [usize; 2]) -> [Case<'_>; 2] {
    let (pool, features) = device.machine();
    let gemm = Gemm::new(pool, features);
    let ones = |len: usize| vec![1.0f32; len];
    let product = Shaped {
        rows,
        size: [n, k],
        far_bytes: 0,
    };
    let (dy, mut dx, w) = (ones(rows * n), ones(rows * k), ones(n * k));
    let input = {
        let mut packed = None;
        let once = move || {
            if packed.is_none() {
                packed = Some(gemm.pack(Mat::dense(&w, n, k)?.into(), Precision::Bf16));
            }
            let packed = packed.as_ref().context("packed")?;
            let out = MatMut::dense(&mut dx, rows, k)?;
            Ok(gemm.nn(Mat::dense(&dy, rows, n)?, packed, out, Finish::SET)?)
        };
        product.case("bf16 packed", ("input gradient", Precision::Bf16), once)
    };
    let (dy, x, mut dw) = (ones(rows * n), ones(rows * k), ones(n * k));
    let weight = {
        let once = move || {
            let (dy, x) = (Mat::dense(&dy, rows, n)?, Mat::dense(&x, rows, k)?);
            let out = MatMut::dense(&mut dw, n, k)?;
            Ok(gemm.tn(dy, x, out, (Precision::Bf16, Update::Set))?)
        };
        product.case("bf16 packed", ("weight gradient", Precision::Bf16), once)
    };
    [input, weight]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("2048x512").unwrap(), [2048, 512]);
        for wrong in ["2048", "0x5", "ax5", "5x"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
