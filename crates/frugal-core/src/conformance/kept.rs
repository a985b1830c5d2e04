//! A weight that is kept in the form of its file gives the results of the same weight put, bit for
//! bit.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::routing::routes;
use super::{Draw, Suite};
use crate::backend::{Head, Linear, Product, Sampling, TrainBackend};
use crate::dtype::{DType, Data};
use crate::error::Result;
use crate::quant::{BlockFormat, Format};
use crate::shape::Shape;
use crate::stored::{SharedBytes, Stored, decode_parts};

/// The form of a draw: block formats in turn, then the others.
fn form(draw: &mut Draw) -> Format {
    let others = [
        Format::Plain(DType::F32),
        Format::Plain(DType::F16),
        Format::Plain(DType::Bf16),
        Format::Plain(DType::F8E4M3),
        Format::Fp8Blocks([16, 32]),
        Format::Fp8Blocks([128, 128]),
    ];
    let blocks = BlockFormat::ALL.map(Format::Blocks);
    let all = blocks.len() + others.len();
    let index = draw.below(all);
    *blocks
        .iter()
        .chain(&others)
        .nth(index)
        .unwrap_or(&others[0])
}

/// Some matrix in a form: any bytes whose numbers are finite.
fn some_matrix(draw: &mut Draw, shape: Shape, format: Format) -> Stored {
    let bytes = |draw: &mut Draw, n: usize| -> Vec<u8> {
        (0..n)
            .map(|_| u8::try_from(draw.below(256)).unwrap_or(0))
            .collect()
    };
    let elements = shape.elements();
    match format {
        Format::Plain(DType::F32) => {
            let numbers = draw.normals(elements);
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            let dtype = DType::F32;
            Stored::Plain {
                dtype,
                bytes: bytes.into(),
            }
        }
        Format::Plain(dtype) => {
            let mut bytes = bytes(draw, elements * dtype.bytes());
            // Clears the highest bit of the exponent: no infinity, no NaN.
            let high = dtype.bytes();
            for byte in bytes.iter_mut().skip(high - 1).step_by(high) {
                *byte &= 0xBF;
            }
            Stored::Plain {
                dtype,
                bytes: bytes.into(),
            }
        }
        Format::Fp8Blocks(block) => {
            let mut bytes = bytes(draw, elements);
            for byte in &mut bytes {
                *byte &= 0xBF;
            }
            let grid = shape.rows().div_ceil(block[0]) * shape.cols().div_ceil(block[1]);
            Stored::Fp8Blocks {
                bytes: bytes.into(),
                scales: Arc::from(draw.normals(grid)),
                block,
            }
        }
        Format::Blocks(format) => {
            let len = format.bytes_of(elements).unwrap_or(0);
            let mut bytes = bytes(draw, len);
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                for at in factors(format) {
                    // An f16 of moderate size: exponent 8 to 15.
                    if let Some(high) = block.get_mut(at + 1) {
                        *high = *high & 0x9F | 0x20;
                    }
                }
            }
            Stored::Blocks {
                format,
                bytes: bytes.into(),
            }
        }
    }
}

/// Where the f16 factors of a block lie.
const fn factors(format: BlockFormat) -> &'static [usize] {
    match format {
        BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 | BlockFormat::Iq4Nl => &[0],
        BlockFormat::Q4_1 | BlockFormat::Q5_1 | BlockFormat::Q4K | BlockFormat::Q5K => &[0, 2],
        BlockFormat::Q2K => &[80, 82],
        BlockFormat::Q3K => &[108],
        BlockFormat::Q6K => &[208],
    }
}

/// K that the form can hold, now and then longer than what is decoded at a time.
fn width(draw: &mut Draw, format: Format) -> usize {
    let block = match format {
        Format::Blocks(format) => format.block_values(),
        _ => 1,
    };
    if draw.index().is_multiple_of(3) {
        (256 + draw.size(300)).div_ceil(block) * block
    } else {
        draw.size(129).div_ceil(block).max(1) * block
    }
}

pub(super) fn as_put<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let format = form(draw);
    let (rows, n, k) = (draw.rows(70), draw.size(90).max(1), width(draw, format));
    let shape = Shape::matrix(n, k);
    let stored = some_matrix(draw, shape, format);
    let kept = s.backend.keep(shape, core::slice::from_ref(&stored))?;
    let put = s.backend.put(shape, stored.data())?;
    s.same("the numbers", &kept, &put)?;
    let x = s.full(draw, Shape::matrix(rows, k))?.own;
    let bias = s.full(draw, Shape::vector(n))?.own;
    for product in [Product::Policy, Product::Exact] {
        let layer = |weight| Linear {
            weight,
            bias: Some(&bias),
            product,
        };
        let (own, other) = (
            s.backend.linear(&x, layer(&kept))?,
            s.backend.linear(&x, layer(&put))?,
        );
        s.same("linear", &own, &other)?;
    }
    let ids = draw.indices(rows, n);
    let (own, other) = (
        s.backend.gather(&kept, &ids)?,
        s.backend.gather(&put, &ids)?,
    );
    s.same("gather", &own, &other)?;
    let head = |weight| Head { hidden: &x, weight };
    let own = s.backend.log_prob(head(&kept), &ids, 0.7)?;
    let other = s.backend.log_prob(head(&put), &ids, 0.7)?;
    s.same("log_prob", &own.log_prob, &other.log_prob)?;
    s.same("entropy", &own.entropy, &other.entropy)?;
    let logits = s.backend.linear(
        &x,
        Linear {
            weight: &kept,
            bias: None,
            product: Product::Policy,
        },
    )?;
    let uniforms: Vec<f32> = (0..rows).map(|_| draw.uniform()).collect();
    s.backend.pick(&logits, &Sampling::PLAIN, &uniforms)?;
    let mut target = kept.clone();
    if rows > 0 && k > 0 {
        // Writing to it makes it a tensor of its own or is refused; the original never changes.
        drop(s.backend.append(&mut target, &x, &alloc::vec![0; rows]));
        s.same("the numbers after a write to a copy", &kept, &put)?;
    }
    Ok(())
}

pub(super) fn stacks_as_put<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let format = form(draw);
    let (rows, n, k) = (draw.rows(40), draw.size(40).max(1), width(draw, format));
    let n_experts = 2 + draw.below(6);
    let top_k = 1 + draw.below(n_experts);
    let each = Shape::matrix(n, k);
    let parts: Vec<Stored> = (0..n_experts)
        .map(|_| some_matrix(draw, each, format))
        .collect();
    let shape = Shape::stack(n_experts, n, k);
    let kept = s.backend.keep(shape, &parts)?;
    let put = s
        .backend
        .put(shape, Data::F32(&decode_parts(shape, &parts)?))?;
    s.same("the numbers of a stack", &kept, &put)?;
    let (route, _) = routes(s, draw, [rows, n_experts, top_k])?;
    let xs = s.full(draw, Shape::matrix(rows * top_k, k))?.own;
    let own = s.backend.grouped_linear(&xs, &kept, &route)?;
    let other = s.backend.grouped_linear(&xs, &put, &route)?;
    s.same("grouped_linear", &own, &other)?;
    let one = parts
        .first()
        .map(Stored::bytes)
        .map(|bytes| bytes.slice(0..bytes.len() / 2));
    let short = Stored::Plain {
        dtype: DType::F32,
        bytes: one
            .flatten()
            .unwrap_or_else(|| SharedBytes::from(Vec::new())),
    };
    s.refused(
        "parts of another number",
        &s.backend.keep(shape, &[short.clone(), short]),
    );
    Ok(())
}
