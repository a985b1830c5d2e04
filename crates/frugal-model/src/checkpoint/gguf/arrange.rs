//! What GGUF files store in another order than published checkpoints: the rows of Llama's rotated
//! projections, and the two halves of MLA's joint key and value matrix.
//!
//! Rows are moved as bytes, whatever their format. Only the key half, stored transposed, must be
//! decoded where it is in blocks.

use alloc::vec::Vec;

use frugal_core::dtype::{DType, decode};
use frugal_core::error::expect_count;
use frugal_core::shape::Shape;
use frugal_core::stored::{SharedBytes, Stored};

use crate::config::MlaConfig;
use crate::error::Result;

/// Which way rows move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From (0, 1), (2, 3), ... as Llama's first code rotates them, to (0, R/2), (1, R/2 + 1), ...
    ToHalves,
    /// The way back.
    ToPairs,
}

/// Where row `row` of the result comes from, in heads of `width` rows.
const fn source(row: usize, width: usize, direction: Direction) -> usize {
    let (head, row) = (row / width, row % width);
    let half = width / 2;
    let within = match direction {
        Direction::ToHalves => 2 * (row % half) + row / half,
        Direction::ToPairs => (row % 2) * half + row / 2,
    };
    head * width + within
}

/// The items of rows in another order: bytes of a file, or numbers.
pub(super) fn reorder<T: Copy>(
    items: &[T],
    rows: usize,
    heads: usize,
    direction: Direction,
) -> Vec<T> {
    let row = items.len().checked_div(rows).unwrap_or(0);
    let width = rows.checked_div(heads).unwrap_or(0);
    let mut out = Vec::with_capacity(items.len());
    if width < 2 || row == 0 {
        return items.to_vec();
    }
    for to in 0..rows {
        let from = source(to, width, direction) * row;
        out.extend(items.get(from..from + row).unwrap_or_default());
    }
    out
}

/// A tensor's rows in another order; none for a form whose rows do not lie by themselves.
pub(super) fn reorder_stored(
    stored: &Stored,
    rows: usize,
    heads: usize,
    direction: Direction,
) -> Option<Stored> {
    let moved = |bytes: &SharedBytes| SharedBytes::from(reorder(bytes, rows, heads, direction));
    match stored {
        Stored::Plain { dtype, bytes } => Some(Stored::Plain {
            dtype: *dtype,
            bytes: moved(bytes),
        }),
        Stored::Blocks { format, bytes } => Some(Stored::Blocks {
            format: *format,
            bytes: moved(bytes),
        }),
        Stored::Fp8Blocks { .. } => None,
    }
}

/// The joint matrix `[H * (nope + value), C]` of its halves: keys `[H, C, nope]`, values
/// `[H, value, C]`. In the halves' own format where both are plain numbers of one, else in f32,
/// which holds every number of a block exactly.
pub(super) fn join(
    keys: &Stored,
    values: &Stored,
    heads: usize,
    mla: &MlaConfig,
) -> Result<Stored> {
    if let (
        Stored::Plain { dtype, bytes: k },
        Stored::Plain {
            dtype: other,
            bytes: v,
        },
    ) = (keys, values)
        && dtype == other
    {
        let bytes = match dtype.bytes() {
            2 => join_items(k.as_chunks::<2>().0, v.as_chunks::<2>().0, heads, mla).concat(),
            _ => join_items(k.as_chunks::<4>().0, v.as_chunks::<4>().0, heads, mla).concat(),
        };
        return Ok(Stored::Plain {
            dtype: *dtype,
            bytes: bytes.into(),
        });
    }
    let (nope, value, latent) = (mla.qk_nope_head_dim, mla.v_head_dim, mla.kv_lora_rank);
    let keys = decode(Shape::matrix(heads * latent, nope), keys.data())?;
    let values = decode(Shape::matrix(heads * value, latent), values.data())?;
    let joint = join_items(&keys, &values, heads, mla);
    expect_count("join", "numbers", keys.len() + values.len(), joint.len())?;
    let bytes: Vec<u8> = joint.iter().flat_map(|x| x.to_le_bytes()).collect();
    Ok(Stored::Plain {
        dtype: DType::F32,
        bytes: bytes.into(),
    })
}

fn join_items<T: Copy>(keys: &[T], values: &[T], heads: usize, mla: &MlaConfig) -> Vec<T> {
    let (nope, value, latent) = (mla.qk_nope_head_dim, mla.v_head_dim, mla.kv_lora_rank);
    let mut joint = Vec::with_capacity(keys.len() + values.len());
    let keys = keys.chunks_exact((latent * nope).max(1));
    let values = values.chunks_exact((latent * value).max(1));
    for (k, v) in keys.zip(values).take(heads) {
        for column in 0..nope {
            joint.extend(k.iter().skip(column).step_by(nope));
        }
        joint.extend_from_slice(v);
    }
    joint
}

/// The key half `[H, C, nope]` of the numbers of a joint matrix.
pub(super) fn key_half(joint: &[f32], mla: &MlaConfig) -> Vec<f32> {
    let (nope, latent) = (mla.qk_nope_head_dim, mla.kv_lora_rank);
    let mut out = Vec::new();
    for head in joint.chunks_exact(((nope + mla.v_head_dim) * latent).max(1)) {
        let keys = head.get(..nope * latent).unwrap_or_default();
        for column in 0..latent {
            out.extend(keys.iter().skip(column).step_by(latent.max(1)));
        }
    }
    out
}

/// The value half `[H, value, C]` of the numbers of a joint matrix.
pub(super) fn value_half(joint: &[f32], mla: &MlaConfig) -> Vec<f32> {
    let (nope, latent) = (mla.qk_nope_head_dim, mla.kv_lora_rank);
    let mut out = Vec::new();
    for head in joint.chunks_exact(((nope + mla.v_head_dim) * latent).max(1)) {
        out.extend(head.get(nope * latent..).unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MLA: MlaConfig = MlaConfig {
        q_lora_rank: None,
        kv_lora_rank: 3,
        qk_nope_head_dim: 2,
        qk_rope_head_dim: 2,
        v_head_dim: 4,
    };

    #[test]
    fn rows_go_to_halves_and_back() {
        // Two heads of six rows of two items.
        let rows: Vec<[u8; 2]> = (0..12).map(|row| [row, row + 100]).collect();
        let items = rows.concat();
        let halves = reorder(&items, 12, 2, Direction::ToHalves);
        let first: Vec<u8> = halves.iter().step_by(2).copied().collect();
        assert_eq!(first, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        assert_eq!(reorder(&halves, 12, 2, Direction::ToPairs), items);
    }

    #[test]
    fn halves_make_the_joint_matrix_and_back() {
        let n = 2 * (2 + 4) * 3;
        let joint: Vec<f32> = (0..n).map(|x| x as f32).collect();
        let (keys, values) = (key_half(&joint, &MLA), value_half(&joint, &MLA));
        assert_eq!(keys[..4], [0.0, 3.0, 1.0, 4.0]);
        assert_eq!(values[..2], [6.0, 7.0]);
        let stored = |values: &[f32]| Stored::Plain {
            dtype: DType::F32,
            bytes: values
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect::<Vec<u8>>()
                .into(),
        };
        let joined = join(&stored(&keys), &stored(&values), 2, &MLA).unwrap();
        assert_eq!(decode(Shape::vector(n), joined.data()).unwrap(), joint);
    }
}
