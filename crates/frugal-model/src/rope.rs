//! Rotary position: frequencies, their stretching to longer contexts, and the table of cosines
//! and sines that [`frugal_core::backend::Backend::rope`] reads.
//!
//! All in f64, rounded once to f32. The rotation itself is an operation of the back-end.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::f64::consts::{PI, TAU};

use crate::config::{Architecture, AttentionConfig, Llama3, ModelConfig, RopeScaling, Yarn};
use crate::error::{Error, Result};

/// The table `[n_positions, R]`: R/2 cosines, then R/2 sines a position.
///
/// # Errors
/// [`Error::Request`] if `n_positions` is more than the model was made for.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is the purpose"
)]
pub fn table(config: &ModelConfig, n_positions: usize) -> Result<Vec<f32>> {
    if n_positions > config.max_position_embeddings {
        return Err(Error::Request {
            expected: format!(
                "at most max_position_embeddings = {} positions",
                config.max_position_embeddings
            ),
            got: n_positions.to_string(),
        });
    }
    let scaling = active_scaling(config);
    let frequencies = frequencies(config.rope_width(), config.rope_theta, &scaling);
    let amplitude = amplitude(&scaling);
    let mut table = Vec::with_capacity(n_positions * config.rope_width());
    for position in 0..n_positions {
        let angles = frequencies
            .iter()
            .map(|frequency| position as f64 * frequency);
        table.extend(
            angles
                .clone()
                .map(|angle| (libm::cos(angle) * amplitude) as f32),
        );
        table.extend(angles.map(|angle| (libm::sin(angle) * amplitude) as f32));
    }
    Ok(table)
}

/// The factor on the scores before the softmax: 1 / sqrt(query width), times m² where an MLA model
/// is stretched by YaRN. *Source*: DeepSeek-V3 `model.py`, MLA.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is the purpose"
)]
pub fn softmax_scale(config: &ModelConfig) -> f32 {
    let scale = 1.0 / libm::sqrt(config.query_width() as f64);
    let m = match (active_scaling(config), &config.attention) {
        (
            RopeScaling::Yarn(Yarn {
                factor,
                mscale: Some([_, all_dim]),
                ..
            }),
            AttentionConfig::Mla(_),
        ) => magnitude(factor, all_dim),
        _ => 1.0,
    };
    (scale * m * m) as f32
}

/// R/2 angles a position, in radians: theta^(-2 i / R), stretched.
pub fn frequencies(width: usize, theta: f64, scaling: &RopeScaling) -> Vec<f64> {
    let plain = (0..width / 2).map(|i| libm::pow(theta, -2.0 * i as f64 / width as f64));
    match scaling {
        RopeScaling::None => plain.collect(),
        RopeScaling::Linear { factor } => plain.map(|frequency| frequency / factor).collect(),
        RopeScaling::Yarn(yarn) => {
            let [low, high] = yarn_range(yarn, width, theta);
            let blend = |(i, frequency): (usize, f64)| {
                let stretched = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                frequency / yarn.factor * stretched + frequency * (1.0 - stretched)
            };
            plain.enumerate().map(blend).collect()
        }
        RopeScaling::Llama3(llama) => plain.map(|frequency| llama3(llama, frequency)).collect(),
    }
}

/// The stretching that is in force: DeepSeek's own code stretches only when the configured context
/// is longer than the original.
pub fn active_scaling(config: &ModelConfig) -> RopeScaling {
    let is_deepseek = matches!(
        config.architecture,
        Architecture::DeepseekV2 | Architecture::DeepseekV3
    );
    match config.rope_scaling {
        RopeScaling::Yarn(yarn)
            if is_deepseek
                && config.max_position_embeddings <= yarn.original_max_position_embeddings =>
        {
            RopeScaling::None
        }
        scaling => scaling,
    }
}

/// Indices between which YaRN blends. *Source*: DeepSeek-V3 `model.py`, `find_correction_range`.
fn yarn_range(yarn: &Yarn, width: usize, theta: f64) -> [f64; 2] {
    let original = yarn.original_max_position_embeddings as f64;
    let index =
        |turns: f64| width as f64 * libm::log(original / (turns * TAU)) / (2.0 * libm::log(theta));
    let low = libm::floor(index(yarn.beta_fast)).max(0.0);
    let high = libm::ceil(index(yarn.beta_slow)).min(width as f64 - 1.0);
    // Equal ends would divide by zero; the published code moves the upper one by this much.
    let gap = if high - low == 0.0 { 0.001 } else { 0.0 };
    [low, high + gap]
}

/// m(s) = 0.1 k ln s + 1. *Source*: YaRN, section 3.4, with DeepSeek's factor k.
fn magnitude(factor: f64, k: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * k * libm::log(factor) + 1.0
    }
}

/// Length of a rotated pair: 1 but for YaRN without MLA's softmax scale.
fn amplitude(scaling: &RopeScaling) -> f64 {
    match scaling {
        RopeScaling::Yarn(yarn) => match (yarn.attention_factor, yarn.mscale) {
            (Some(given), _) => given,
            (None, Some([k, all_dim])) => {
                magnitude(yarn.factor, k) / magnitude(yarn.factor, all_dim)
            }
            (None, None) => magnitude(yarn.factor, 1.0),
        },
        _ => 1.0,
    }
}

/// *Source*: Llama 3.1, `apply_scaling` of its published `model.py`.
fn llama3(llama: &Llama3, frequency: f64) -> f64 {
    let original = llama.original_max_position_embeddings as f64;
    let wavelength = 2.0 * PI / frequency;
    let [low, high] = [llama.low_freq_factor, llama.high_freq_factor];
    if wavelength < original / high {
        frequency
    } else if wavelength > original / low {
        frequency / llama.factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / llama.factor + smooth * frequency
    }
}
