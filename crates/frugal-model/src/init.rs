//! First values of parameters.
//!
//! Each parameter draws from its own stream, named by (seed, parameter name), so that adding a
//! layer leaves the others as they were. Norms begin at 1, biases at 0.

use alloc::vec;
use alloc::vec::Vec;

use frugal_core::rng::{Rng, key};

use crate::config::ModelConfig;
use crate::error::Result;
use crate::params::{Params, Role, Spec};

/// Standard deviation of a normal distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Deviation {
    /// The same for every matrix.
    Fixed(f32),
    /// This divided by the square root of the matrix's input width.
    PerRootWidth(f32),
}

/// How the matrices that write to the residual stream begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputInit {
    /// Like all others.
    Same,
    /// Their deviation divided by sqrt(2 layers), so that the stream's variance does not grow with
    /// depth. *Source*: GPT-2.
    ByDepth,
    /// Zero: every layer begins as the identity.
    Zero,
}

/// How a model begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InitSettings {
    /// Matrices, experts and the router.
    pub matrices: Deviation,
    /// The embedding.
    pub embedding: Deviation,
    /// The head, where it is not the embedding.
    pub head: Deviation,
    /// Output projections.
    pub outputs: OutputInit,
}

impl InitSettings {
    /// 0.006 everywhere. *Source*: DeepSeek-V3 report, section 4.2.
    pub const PAPER: Self = Self {
        matrices: Deviation::Fixed(0.006),
        embedding: Deviation::Fixed(0.006),
        head: Deviation::Fixed(0.006),
        outputs: OutputInit::Same,
    };
}

/// First values of every parameter a config asks for.
///
/// # Errors
/// As [`Params::spec`].
pub fn init(config: &ModelConfig, seed: u64, settings: &InitSettings) -> Result<Params<Vec<f32>>> {
    let n_layers = config.num_hidden_layers;
    Ok(Params::<Spec>::spec(config)?.map(|spec| values(spec, n_layers, seed, settings)))
}

fn values(spec: &Spec, n_layers: usize, seed: u64, settings: &InitSettings) -> Vec<f32> {
    let elements = spec.shape.elements();
    let deviation = match spec.role {
        Role::Norm => return vec![1.0; elements],
        Role::RouterBias | Role::Bias => return vec![0.0; elements],
        Role::Embedding => settings.embedding,
        Role::Head => settings.head,
        Role::Matrix | Role::Experts | Role::Router => settings.matrices,
    };
    let mut deviation = match deviation {
        Deviation::Fixed(value) => value,
        Deviation::PerRootWidth(factor) => factor / libm::sqrtf(spec.shape.cols() as f32),
    };
    if spec.is_output {
        match settings.outputs {
            OutputInit::Same => {}
            OutputInit::ByDepth => deviation /= libm::sqrtf(2.0 * n_layers as f32),
            OutputInit::Zero => return vec![0.0; elements],
        }
    }
    Rng::derive(&[key("init"), seed, key(&spec.name)]).normals(elements, deviation)
}
