//! Block formats: a run of consecutive numbers of a row stored in few bits each, with factors of
//! its own.
//!
//! Each format is a unit struct with its layout, decode and encode ([`Block`]): those of 32 numbers
//! in `simple`, those of 256 in `affine` (factor and minimum) and `signed` (factor alone). How
//! levels are laid into bytes is `planes`; how factors are found is `fit`. The published FP8 format,
//! whose factors lie apart, is [`fp8`]; rows of a cache of keys are [`rows`]. What a whole tensor is stored in is a [`Format`].
//!
//! Nothing here multiplies matrices; a back-end does, from blocks as they are.

mod affine;
mod fit;
pub mod fp8;
pub mod integer;
mod planes;
pub mod rows;
mod signed;
mod simple;

use alloc::vec::Vec;
use core::fmt;

use half::f16;

pub use self::affine::{Q2K, Q4K, Q5K, six_bit_pairs};
pub use self::planes::{Opener, Plain};
pub use self::signed::{Q3K, Q6K};
pub use self::simple::{IQ4_NL_LEVELS, Iq4Nl, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use crate::dtype::DType;
use crate::error::{Error, Result, expect_count};
use crate::shape::Shape;

/// One block of a format, of so many bytes and numbers.
///
/// A number is `factor * (level - ZERO) - minimum`; a factor and a minimum are those of a group of
/// numbers that follow each other.
pub trait Block<const BYTES: usize, const VALUES: usize> {
    /// Numbers of a group: 16 or 32.
    const GROUP: usize;
    /// Bits that the largest level takes.
    const BITS: u32;
    /// The level of the number zero, where there is no minimum.
    const ZERO: u8;
    /// Whether groups have minima; where not, those of [`open`](Self::open) are left alone.
    const HAS_MINIMA: bool;

    /// Its levels, and the factor and the minimum of each group. Every pattern of bytes is a block;
    /// factors may be infinite or NaN.
    fn open<O: Opener>(o: O, block: &[u8; BYTES], into: Opened<'_, VALUES>);

    /// Its numbers.
    #[expect(
        clippy::inline_always,
        reason = "melts into the vector code of its opener"
    )]
    #[inline(always)]
    fn decode<O: Opener>(o: O, block: &[u8; BYTES], values: &mut [f32; VALUES]) {
        let mut levels = [0; VALUES];
        let (mut factors, mut minima): (Groups, Groups) = ([0.0; 16], [0.0; 16]);
        let into = Opened {
            levels: &mut levels,
            factors: &mut factors,
            minima: &mut minima,
        };
        Self::open(o, block, into);
        let groups = values
            .chunks_exact_mut(Self::GROUP)
            .zip(levels.chunks_exact(Self::GROUP));
        for ((values, levels), (factor, minimum)) in groups.zip(factors.iter().zip(&minima)) {
            for (value, level) in values.iter_mut().zip(levels) {
                *value = factor * (f32::from(*level) - f32::from(Self::ZERO));
                if Self::HAS_MINIMA {
                    *value -= minimum;
                }
            }
        }
    }

    /// The block near finite numbers; none where a factor is beyond f16.
    fn encode(values: &[f32; VALUES]) -> Option<[u8; BYTES]>;
}

/// Where a block is opened to.
#[derive(Debug)]
pub struct Opened<'a, const VALUES: usize> {
    /// The level of each number.
    pub levels: &'a mut [u8; VALUES],
    /// The factor of each group.
    pub factors: &'a mut Groups,
    /// The minimum of each group, where there are any.
    pub minima: &'a mut Groups,
}

/// One number for each group of a block; of a block with fewer groups, the first ones.
pub type Groups = [f32; 16];

/// The numbers of as many whole blocks as both sides hold, for a caller who knows the format when
/// it is compiled.
#[expect(
    clippy::inline_always,
    reason = "melts into the vector code of its opener"
)]
#[inline(always)]
pub fn decode_blocks<
    O: Opener,
    B: Block<BYTES, VALUES>,
    const BYTES: usize,
    const VALUES: usize,
>(
    o: O,
    bytes: &[u8],
    out: &mut [f32],
) {
    let (blocks, _) = bytes.as_chunks();
    let (values, _) = out.as_chunks_mut();
    for (block, values) in blocks.iter().zip(values) {
        B::decode(o, block, values);
    }
}

/// The blocks of whole blocks of finite numbers.
fn encode_blocks<B: Block<BYTES, VALUES>, const BYTES: usize, const VALUES: usize>(
    values: &[f32],
) -> Result<Vec<u8>> {
    let (values, _) = values.as_chunks();
    let mut bytes = Vec::with_capacity(values.len() * BYTES);
    for (index, values) in values.iter().enumerate() {
        let block = B::encode(values).ok_or_else(|| Error::Setting {
            op: "encode",
            reason: alloc::format!(
                "expected factors within f16, got a larger one for the {VALUES} values from {} on",
                index * VALUES
            ),
        })?;
        bytes.extend(block);
    }
    Ok(bytes)
}

/// Refuses the first number that is infinite or NaN.
fn expect_finite(values: &[f32]) -> Result<()> {
    match values.iter().enumerate().find(|(_, x)| !x.is_finite()) {
        Some((index, value)) => Err(Error::Setting {
            op: "encode",
            reason: alloc::format!("expected finite values, got {value} at index {index}"),
        }),
        None => Ok(()),
    }
}

/// The factor nearest to a number; none beyond f16.
fn to_half(value: f32) -> Option<f16> {
    Some(f16::from_f32(value)).filter(|half| half.is_finite())
}

/// Evaluates an expression with a name for the [`Block`] of a [`BlockFormat`].
#[macro_export]
macro_rules! with_block {
    ($format:expr, $block:ident => $body:expr) => {
        $crate::with_block!(@ $format, $block => $body;
            Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Iq4Nl, Q2K, Q3K, Q4K, Q5K, Q6K)
    };
    (@ $format:expr, $block:ident => $body:expr; $($name:ident),*) => {
        match $format {
            $($crate::quant::BlockFormat::$name => {
                type $block = $crate::quant::$name;
                $body
            })*
        }
    };
}

/// How a block of numbers is stored. Names and layouts are those of GGUF files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFormat {
    /// 32 numbers: f16 factor, 4 bits each around 8.
    Q4_0,
    /// 32 numbers: f16 factor and minimum, 4 bits each.
    Q4_1,
    /// 32 numbers: f16 factor, 5 bits each around 16.
    Q5_0,
    /// 32 numbers: f16 factor and minimum, 5 bits each.
    Q5_1,
    /// 32 numbers: f16 factor, 8 bits each.
    Q8_0,
    /// 256 numbers: 2 bits each, 16 groups with 4-bit factors and minima.
    Q2K,
    /// 256 numbers: 3 bits each, 16 groups with 6-bit factors.
    Q3K,
    /// 256 numbers: 4 bits each, 8 groups with 6-bit factors and minima.
    Q4K,
    /// 256 numbers: 5 bits each, 8 groups with 6-bit factors and minima.
    Q5K,
    /// 256 numbers: 6 bits each, 16 groups with 8-bit factors.
    Q6K,
    /// 32 numbers: f16 factor, 4 bits each into a table of 16 uneven levels.
    Iq4Nl,
}

impl BlockFormat {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
    ];

    /// Numbers of a block.
    #[must_use]
    pub const fn block_values(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 | Self::Iq4Nl => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Its name in the field.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
        }
    }

    /// The format of a name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of that many numbers; none where they do not fill whole blocks.
    #[must_use]
    pub const fn bytes_of(self, values: usize) -> Option<usize> {
        if values.is_multiple_of(self.block_values()) {
            (values / self.block_values()).checked_mul(self.block_bytes())
        } else {
            None
        }
    }

    /// Whether [`encode`](Self::encode) has a way to write it.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        match self {
            Self::Q4_0
            | Self::Q4_1
            | Self::Q5_0
            | Self::Q5_1
            | Self::Q8_0
            | Self::Q2K
            | Self::Q3K
            | Self::Q4K
            | Self::Q5K
            | Self::Q6K
            | Self::Iq4Nl => true,
        }
    }

    /// The numbers of whole blocks.
    ///
    /// # Errors
    /// If the bytes are not those of `out.len()` numbers.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        let expected = self.expect_bytes_of(out.len())?;
        expect_count("decode", "bytes", expected, bytes.len())?;
        with_block!(self, B => decode_blocks::<_, B, _, _>(Plain, bytes, out));
        Ok(())
    }

    /// Blocks near the given numbers. Numbers too small for an f16 factor become zero.
    ///
    /// # Errors
    /// If the numbers do not fill whole blocks, one is not finite (the error names it), or some are
    /// so large that a factor is beyond f16.
    pub fn encode(self, values: &[f32]) -> Result<Vec<u8>> {
        self.expect_bytes_of(values.len())?;
        expect_finite(values)?;
        with_block!(self, B => encode_blocks::<B, _, _>(values))
    }

    fn expect_bytes_of(self, values: usize) -> Result<usize> {
        self.bytes_of(values).ok_or(Error::Ragged {
            format: self,
            cols: values,
        })
    }
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a tensor is stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Each number by itself.
    Plain(DType),
    /// e4m3 with one f32 factor for each block of so many rows and columns.
    Fp8Blocks([usize; 2]),
    /// Blocks along each row.
    Blocks(BlockFormat),
}

impl Format {
    /// Bytes of a tensor, factors included.
    ///
    /// # Errors
    /// If rows do not fill whole blocks, or the tensor is too large to address.
    pub fn bytes(self, shape: Shape) -> Result<u64> {
        let elements = shape.checked_elements()?;
        let rows = (shape.stacked() * shape.rows_each()) as u64;
        Ok(match self {
            Self::Plain(dtype) => elements as u64 * dtype.bytes() as u64,
            Self::Fp8Blocks([block_rows, block_cols]) => {
                let down = shape.rows_each().div_ceil(block_rows.max(1));
                let across = shape.cols().div_ceil(block_cols.max(1));
                elements as u64 + 4 * (shape.stacked() * down * across) as u64
            }
            Self::Blocks(format) => {
                let row = format.bytes_of(shape.cols()).ok_or(Error::Ragged {
                    format,
                    cols: shape.cols(),
                })?;
                rows * row as u64
            }
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(dtype) => dtype.fmt(f),
            Self::Fp8Blocks([rows, cols]) => write!(f, "fp8 in blocks of {rows}x{cols}"),
            Self::Blocks(format) => format.fmt(f),
        }
    }
}
