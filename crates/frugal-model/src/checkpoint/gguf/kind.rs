//! The types of tensors, by number: all that are in use are known by size, so that a file that holds
//! one can be listed; those of [`Kind::format`] can be decoded.

use core::fmt;

use frugal_core::dtype::DType;
use frugal_core::quant::{BlockFormat, Format};

/// A type of tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its number in a file.
    pub id: u32,
    /// Its name in the field.
    pub name: &'static str,
    /// Numbers of a block, which lie along a row.
    pub block_values: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
}

const fn kind(id: u32, name: &'static str, block_values: usize, block_bytes: usize) -> Kind {
    Kind {
        id,
        name,
        block_values,
        block_bytes,
    }
}

/// *Source*: ggml's list of types. Numbers 4, 5, 31 to 33 and 36 to 38 were withdrawn.
const KINDS: [Kind; 34] = [
    kind(0, "F32", 1, 4),
    kind(1, "F16", 1, 2),
    kind(2, "Q4_0", 32, 18),
    kind(3, "Q4_1", 32, 20),
    kind(6, "Q5_0", 32, 22),
    kind(7, "Q5_1", 32, 24),
    kind(8, "Q8_0", 32, 34),
    kind(9, "Q8_1", 32, 40),
    kind(10, "Q2_K", 256, 84),
    kind(11, "Q3_K", 256, 110),
    kind(12, "Q4_K", 256, 144),
    kind(13, "Q5_K", 256, 176),
    kind(14, "Q6_K", 256, 210),
    kind(15, "Q8_K", 256, 292),
    kind(16, "IQ2_XXS", 256, 66),
    kind(17, "IQ2_XS", 256, 74),
    kind(18, "IQ3_XXS", 256, 98),
    kind(19, "IQ1_S", 256, 50),
    kind(20, "IQ4_NL", 32, 18),
    kind(21, "IQ3_S", 256, 110),
    kind(22, "IQ2_S", 256, 82),
    kind(23, "IQ4_XS", 256, 136),
    kind(24, "I8", 1, 1),
    kind(25, "I16", 1, 2),
    kind(26, "I32", 1, 4),
    kind(27, "I64", 1, 8),
    kind(28, "F64", 1, 8),
    kind(29, "IQ1_M", 256, 56),
    kind(30, "BF16", 1, 2),
    kind(34, "TQ1_0", 256, 54),
    kind(35, "TQ2_0", 256, 66),
    kind(39, "MXFP4", 32, 17),
    kind(40, "NVFP4", 64, 36),
    kind(41, "Q1_0", 128, 18),
];

impl Kind {
    /// The type of a number.
    pub fn from_id(id: u32) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.id == id)
    }

    /// The type that holds a format; none for those a GGUF file has no type for.
    pub fn of(format: Format) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.format() == Some(format))
    }

    /// The format of its numbers, where this crate can decode them.
    pub fn format(self) -> Option<Format> {
        match self.name {
            "F32" => Some(Format::Plain(DType::F32)),
            "F16" => Some(Format::Plain(DType::F16)),
            "BF16" => Some(Format::Plain(DType::Bf16)),
            name => BlockFormat::from_name(name).map(Format::Blocks),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_block_formats() {
        let mut n_blocks = 0;
        for kind in KINDS {
            match kind.format() {
                Some(Format::Blocks(format)) => {
                    n_blocks += 1;
                    assert_eq!(kind.block_values, format.block_values(), "{kind}");
                    assert_eq!(kind.block_bytes, format.block_bytes(), "{kind}");
                }
                Some(Format::Plain(dtype)) => assert_eq!(kind.block_bytes, dtype.bytes(), "{kind}"),
                _ => {}
            }
            assert_eq!(Kind::from_id(kind.id), Some(kind));
        }
        assert_eq!(n_blocks, BlockFormat::ALL.len());
    }
}
