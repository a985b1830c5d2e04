//! Host tensors in few words.

use frugal_core::backend::{Backend, Linear, Product};
use frugal_core::dtype::Data;
use frugal_core::reference::{HostTensor, Reference};
use frugal_core::rng::Rng;
use frugal_core::shape::Shape;

pub(crate) fn tensor(shape: Shape, values: &[f32]) -> HostTensor {
    Reference.put(shape, Data::F32(values)).unwrap()
}

pub(crate) fn matrix(rows: usize, cols: usize, values: &[f32]) -> HostTensor {
    tensor(Shape::matrix(rows, cols), values)
}

pub(crate) fn vector(values: &[f32]) -> HostTensor {
    tensor(Shape::vector(values.len()), values)
}

pub(crate) fn random(rng: &mut Rng, shape: Shape) -> HostTensor {
    tensor(shape, &rng.normals(shape.elements(), 1.0))
}

pub(crate) fn plain(weight: &HostTensor) -> Linear<'_, HostTensor> {
    Linear {
        weight,
        bias: None,
        product: Product::Policy,
    }
}

pub(crate) fn values(x: &HostTensor) -> Vec<f32> {
    Reference.get(x).unwrap()
}

/// Fails where a value is further from the expected one than `tolerance` relative to max(1, |expected|).
pub(crate) fn assert_near(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - expected).abs();
        assert!(
            error <= tolerance * expected.abs().max(1.0),
            "{what}[{i}]: expected {expected}, got {got}"
        );
    }
}
