//! Which format each tensor of a file is written in.

use core::fmt;

use frugal_core::dtype::DType;
use frugal_core::quant::{BlockFormat, Format};

use crate::params::{Role, Spec};

/// What a file is written in. Norms, biases and routers are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mixture {
    /// Every matrix in f32.
    F32,
    /// Every matrix in f16.
    F16,
    /// Every matrix in bf16.
    Bf16,
    /// Every matrix in one block format.
    Blocks(BlockFormat),
    /// Q4_K, but Q6_K for embedding and head, and for the value and down projections of the first and the
    /// last eighth of the layers and of every third between.
    Q4KM,
}

const Q4_K_M: &str = "Q4_K_M";

impl Mixture {
    /// The mixture of a name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        let plain = [Self::F32, Self::F16, Self::Bf16, Self::Q4KM];
        let plain = plain.into_iter();
        let blocks = BlockFormat::ALL
            .into_iter()
            .filter(|format| format.is_writable());
        plain
            .chain(blocks.map(Self::Blocks))
            .find(|mixture| mixture.name().eq_ignore_ascii_case(name))
    }

    /// Its name in the field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Blocks(format) => format.name(),
            Self::Q4KM => Q4_K_M,
        }
    }

    /// The value of `general.file_type`. *Source*: llama.cpp's list of file types.
    pub(super) const fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 32,
            Self::Blocks(format) => match format {
                BlockFormat::Q4_0 => 2,
                BlockFormat::Q4_1 => 3,
                BlockFormat::Q8_0 => 7,
                BlockFormat::Q5_0 => 8,
                BlockFormat::Q5_1 => 9,
                BlockFormat::Q2K => 10,
                BlockFormat::Q3K => 11,
                BlockFormat::Q4K => 14,
                BlockFormat::Q5K => 16,
                BlockFormat::Q6K => 18,
                BlockFormat::Iq4Nl => 25,
            },
            Self::Q4KM => 15,
        }
    }

    /// What a tensor with rows of `cols` numbers is written in, `layer` being its place among
    /// `n_layers`.
    ///
    /// Rows that do not fill blocks of 256 numbers go to blocks of 32 with 8 bits each, and rows that
    /// do not fill these to f16.
    pub(super) fn format(self, spec: &Spec, cols: usize, place: Place) -> Format {
        let is_matrix = match spec.role {
            Role::Matrix | Role::Experts | Role::Embedding | Role::Head => true,
            Role::Norm | Role::Router | Role::RouterBias | Role::Bias => false,
        };
        if !is_matrix {
            return Format::Plain(DType::F32);
        }
        let wanted = match self {
            Self::F32 => return Format::Plain(DType::F32),
            Self::F16 => return Format::Plain(DType::F16),
            Self::Bf16 => return Format::Plain(DType::Bf16),
            Self::Blocks(format) => format,
            Self::Q4KM if matches!(spec.role, Role::Embedding | Role::Head) => BlockFormat::Q6K,
            Self::Q4KM if place.is_sensitive() => BlockFormat::Q6K,
            Self::Q4KM => BlockFormat::Q4K,
        };
        let fits = |format: &BlockFormat| cols.is_multiple_of(format.block_values());
        [wanted, BlockFormat::Q8_0]
            .into_iter()
            .find(fits)
            .map_or(Format::Plain(DType::F16), Format::Blocks)
    }
}

impl fmt::Display for Mixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a tensor stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Its layer.
    pub(super) layer: usize,
    /// How many there are.
    pub(super) n_layers: usize,
    /// Whether it makes values, or leads back to the residual stream behind a product.
    pub(super) is_value_or_down: bool,
}

impl Place {
    /// *Source*: llama.cpp's rule for its medium mixtures.
    const fn is_sensitive(self) -> bool {
        let eighth = self.n_layers / 8;
        let at_the_ends = self.layer < eighth || self.layer >= 7 * self.n_layers / 8;
        self.is_value_or_down && (at_the_ends || (self.layer - eighth) % 3 == 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_mixtures() {
        for name in [
            "F32", "f16", "bf16", "q8_0", "Q4_K", "q4_k_m", "Q6_K", "Q5_K", "Q4_0",
        ] {
            let mixture = Mixture::from_name(name).unwrap();
            assert!(mixture.name().eq_ignore_ascii_case(name));
        }
        assert_eq!(Mixture::from_name("Q9"), None);
    }

    #[test]
    fn part_of_the_layers_gets_more_bits() {
        let sensitive: alloc::vec::Vec<usize> = (0..16)
            .filter(|layer| {
                let place = Place {
                    layer: *layer,
                    n_layers: 16,
                    is_value_or_down: true,
                };
                place.is_sensitive()
            })
            .collect();
        assert_eq!(sensitive, [0, 1, 4, 7, 10, 13, 14, 15]);
    }
}
