//! Numbers in and out, formats, and page stores. All exact.

use alloc::vec::Vec;

use super::{Draw, Suite, host};
use crate::backend::{Backend, KeyBits, KeyStore, TrainBackend};
use crate::dtype::{DType, Data};
use crate::error::Result;
use crate::reference::Reference;
use crate::shape::Shape;

pub(super) fn formats<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (rows, cols) = (draw.rows(33), draw.size(65));
    let shape = Shape::matrix(rows, cols);
    let mut numbers = draw.normals(shape.elements());
    if let [first, second, ..] = &mut numbers[..] {
        (*first, *second) = (f32::NAN, f32::INFINITY);
    }
    let x = s.twin(host(shape, &numbers)?)?;
    s.exact("put", &x.own, &x.host)?;
    let zeros = s.backend.zeros(shape)?;
    s.exact("zeros", &zeros, &Reference.zeros(shape)?)?;
    for dtype in [DType::Bf16, DType::F32] {
        let cast = s.backend.cast(&x.own, dtype)?;
        s.exact("cast", &cast, &Reference.cast(&x.host, dtype)?)?;
    }
    for dtype in [DType::F16, DType::Bf16, DType::F8E4M3, DType::F8E5M2] {
        let bytes = (0..=250u8).rev().cycle();
        let bytes: Vec<u8> = bytes.take(shape.elements() * dtype.bytes()).collect();
        let data = Data::Bytes {
            dtype,
            bytes: &bytes,
        };
        let own = s.backend.put(shape, data)?;
        s.exact("put bytes", &own, &Reference.put(shape, data)?)?;
    }
    let bytes: Vec<u8> = (0..120u8).cycle().take(shape.elements()).collect();
    let scales = draw.normals(rows.div_ceil(4) * cols.div_ceil(16));
    let data = Data::Fp8Blocks {
        bytes: &bytes,
        scales: &scales,
        block: [4, 16],
    };
    let own = s.backend.put(shape, data)?;
    s.exact("put fp8 blocks", &own, &Reference.put(shape, data)?)?;
    let indices = draw.indices(rows, 1000);
    let own = s.backend.put_indices(&indices)?;
    if s.backend.get_indices(&own)? != indices {
        s.fail("indices", f64::INFINITY, "expected what was put".into());
    }
    s.refused("get of indices", &s.backend.get(&own));
    s.refused("get_indices of numbers", &s.backend.get_indices(&x.own));
    let mut sum = x.own.clone();
    s.backend.accumulate(&mut sum, &x.own)?;
    s.exact("accumulate", &sum, &Reference.add(&x.host, &x.host)?)?;
    s.exact("the other handle after a write", &x.own, &x.host)?;
    s.backend.clear(&mut sum)?;
    s.exact("clear", &sum, &Reference.zeros(shape)?)?;
    s.backend.sync()
}

pub(super) fn append<B: TrainBackend>(s: &mut Suite<'_, B>, draw: &mut Draw) -> Result<()> {
    let (rows, cols) = (draw.rows(17), draw.size(65));
    let n_slots = rows + draw.size(17);
    let store = s.full(draw, Shape::matrix(n_slots, cols))?;
    let x = s.full(draw, Shape::matrix(rows, cols))?;
    let mut slots: Vec<u32> = (0..).take(n_slots).collect();
    draw.shuffle(&mut slots);
    let (slots, from) = slots.split_at(rows);
    for dtype in [DType::F32, DType::Bf16] {
        let mut own = s.backend.cast(&store.own, dtype)?;
        let mut expected = Reference.cast(&store.host, dtype)?;
        s.backend.append(&mut own, &x.own, slots)?;
        Reference.append(&mut expected, &x.host, slots)?;
        s.exact("append", &own, &expected)?;
        let n = from.len().min(slots.len());
        let (from, to) = (from.get(..n).unwrap_or(&[]), slots.get(..n).unwrap_or(&[]));
        s.backend.copy_rows(&mut own, from, to)?;
        Reference.copy_rows(&mut expected, from, to)?;
        s.exact("copy_rows", &own, &expected)?;
    }
    let first = draw.below(cols + 1);
    for bits in [KeyBits::AsProducts, KeyBits::Eight] {
        let wanted = KeyStore {
            rows: n_slots,
            parts: [first, cols - first],
            bits,
        };
        let mut own = s.backend.key_store(&wanted)?;
        let mut expected = Reference.key_store(&wanted)?;
        s.exact("key_store", &own, &expected)?;
        let before = own.clone();
        s.backend.append(&mut own, &x.own, slots)?;
        s.exact("the other handle after an append", &before, &expected)?;
        let all: Vec<u32> = (0..).take(n_slots).collect();
        if bits == KeyBits::Eight {
            Reference.append(&mut expected, &x.host, slots)?;
            s.exact("append to 8 bits", &own, &expected)?;
            let n = from.len().min(slots.len());
            let to = from.get(..n).unwrap_or(&[]);
            let from = slots.get(..n).unwrap_or(&[]);
            s.backend.copy_rows(&mut own, from, to)?;
            Reference.copy_rows(&mut expected, from, to)?;
            s.exact("copy_rows of 8 bits", &own, &expected)?;
            s.exact(
                "gather of 8 bits",
                &s.backend.gather(&own, &all)?,
                &expected,
            )?;
        }
        // A store that grows moves its rows, which is no reason to round them once more.
        let mut larger = s.backend.key_store(&KeyStore {
            rows: n_slots + 3,
            ..wanted
        })?;
        s.backend
            .append(&mut larger, &s.backend.gather(&own, &all)?, &all)?;
        let kept = s.backend.gather(&larger, &all)?;
        s.same("rows of a store that grew", &kept, &own)?;
    }
    Ok(())
}
