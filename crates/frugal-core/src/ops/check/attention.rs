//! Checks of attention, and the one strided view of keys and values that its three forms share.

use alloc::format;

use super::{expect_matrix, setting, shape_error};
use crate::backend::{Attention, Context, Keys, Pages};
use crate::error::{Error, Result, expect_count, expect_shape};
use crate::shape::Shape;

/// The shapes of a [`Keys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyShapes {
    /// [`Keys::Grouped`].
    Grouped {
        /// `[S, Hkv * width]`.
        k: Shape,
        /// `[S, Hkv * value_width]`.
        v: Shape,
        /// Hkv.
        n_kv_heads: usize,
    },
    /// [`Keys::Expanded`].
    Expanded {
        /// `[S, H * (nope + value)]`.
        kv: Shape,
        /// `[S, R]`.
        k_rope: Shape,
        /// Columns of a head of `kv` that are key.
        nope: usize,
    },
    /// [`Keys::Latent`].
    Latent {
        /// `[S, C + R]`.
        latent: Shape,
        /// C.
        rank: usize,
    },
}

impl KeyShapes {
    /// The shapes of the tensors of `keys`.
    pub fn of<T>(keys: Keys<'_, T>, shape: impl Fn(&T) -> Shape) -> Self {
        match keys {
            Keys::Grouped { k, v, n_kv_heads } => Self::Grouped {
                k: shape(k),
                v: shape(v),
                n_kv_heads,
            },
            Keys::Expanded { kv, k_rope, nope } => Self::Expanded {
                kv: shape(kv),
                k_rope: shape(k_rope),
                nope,
            },
            Keys::Latent { latent, rank } => Self::Latent {
                latent: shape(latent),
                rank,
            },
        }
    }

    /// The shape of the first tensor.
    #[must_use]
    pub const fn first(&self) -> Shape {
        match *self {
            Self::Grouped { k, .. } => k,
            Self::Expanded { kv, .. } => kv,
            Self::Latent { latent, .. } => latent,
        }
    }

    /// The shape of the second tensor, where the form has one.
    #[must_use]
    pub const fn second(&self) -> Option<Shape> {
        match *self {
            Self::Grouped { v, .. } => Some(v),
            Self::Expanded { k_rope, .. } => Some(k_rope),
            Self::Latent { .. } => None,
        }
    }
}

/// Which tensor of a [`Keys`] a part is read from, in the order of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyTensor {
    /// `k`, `kv` or `latent`.
    First,
    /// `v` or `k_rope`.
    Second,
}

/// Columns of a key or value as a head sees them: of row s, those from
/// `s * row_stride + head / group * head_stride + offset` on for `width`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPart {
    /// Where it is read from.
    pub tensor: KeyTensor,
    /// Columns of a row of that tensor.
    pub row_stride: usize,
    /// Columns from one head's part to the next; 0 where all heads share it.
    pub head_stride: usize,
    /// Query heads that share a part.
    pub group: usize,
    /// First column within a head.
    pub offset: usize,
    /// How many columns.
    pub width: usize,
}

impl KeyPart {
    /// Index of the first number of row `row` for query head `head`.
    #[must_use]
    pub const fn start(&self, row: usize, head: usize) -> usize {
        row * self.row_stride + head / self.group * self.head_stride + self.offset
    }
}

/// Dimensions of an attention and where its keys and values lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionDims {
    /// T.
    pub rows: usize,
    /// S: rows of the keys.
    pub key_rows: usize,
    /// H.
    pub n_heads: usize,
    /// Columns of a query head: the widths of the two key parts together.
    pub q_width: usize,
    /// Columns of an output head.
    pub value_width: usize,
    /// The key: the first part meets the first columns of a query head, the second the rest. The
    /// second has width 0 where the key is one piece.
    pub key: [KeyPart; 2],
    /// The value.
    pub value: KeyPart,
}

/// Checks [`Backend::attention`](crate::backend::Backend::attention).
pub fn attention(q: Shape, keys: KeyShapes, attention: &Attention<'_>) -> Result<AttentionDims> {
    attention_as("attention", q, keys, attention)
}

pub(super) fn attention_as(
    op: &'static str,
    q: Shape,
    keys: KeyShapes,
    attention: &Attention<'_>,
) -> Result<AttentionDims> {
    expect_matrix(op, "q", "[T, H * width]", q)?;
    let n_heads = attention.n_heads;
    if n_heads == 0 || !attention.scale.is_finite() {
        return Err(setting(
            op,
            format!(
                "expected at least 1 head and a finite scale, got {n_heads} and {}",
                attention.scale
            ),
        ));
    }
    let (key, value) = parts(op, keys, n_heads)?;
    let q_width = key[0].width + key[1].width;
    if !q.cols().is_multiple_of(n_heads) || q.cols() / n_heads != q_width {
        let expected = format!("[T, {n_heads} * {q_width}]");
        return Err(shape_error(op, "q", &expected, q));
    }
    value.width.checked_mul(n_heads).ok_or(Error::TooLarge {
        shape: keys.first(),
    })?;
    expect_count(op, "rows of q", attention.rows.n_rows(), q.rows())?;
    let key_rows = keys.first().rows();
    match attention.context {
        Context::Packed => expect_count(op, "rows of keys", q.rows(), key_rows)?,
        Context::Paged(pages) => check_pages(op, pages, attention.rows.n_sequences(), key_rows)?,
    }
    Ok(AttentionDims {
        rows: q.rows(),
        key_rows,
        n_heads,
        q_width,
        value_width: value.width,
        key,
        value,
    })
}

/// The view of each form.
fn parts(op: &'static str, keys: KeyShapes, n_heads: usize) -> Result<([KeyPart; 2], KeyPart)> {
    let whole = KeyPart {
        tensor: KeyTensor::First,
        row_stride: keys.first().cols(),
        head_stride: 0,
        group: 1,
        offset: 0,
        width: 0,
    };
    match keys {
        KeyShapes::Grouped { k, v, n_kv_heads } => {
            expect_matrix(op, "k", "[S, Hkv * width]", k)?;
            expect_matrix(op, "v", "[S, Hkv * value width]", v)?;
            expect_count(op, "rows of v", k.rows(), v.rows())?;
            if n_kv_heads == 0 || !n_heads.is_multiple_of(n_kv_heads) {
                return Err(setting(
                    op,
                    format!("expected key heads that divide {n_heads} heads, got {n_kv_heads}"),
                ));
            }
            let group = n_heads / n_kv_heads;
            let width = head_columns(op, "k", k, n_kv_heads)?;
            let value_width = head_columns(op, "v", v, n_kv_heads)?;
            let key = KeyPart {
                head_stride: width,
                group,
                width,
                ..whole
            };
            let value = KeyPart {
                tensor: KeyTensor::Second,
                row_stride: v.cols(),
                head_stride: value_width,
                group,
                offset: 0,
                width: value_width,
            };
            Ok(([key, whole], value))
        }
        KeyShapes::Expanded { kv, k_rope, nope } => {
            expect_matrix(op, "kv", "[S, H * (nope + value)]", kv)?;
            expect_shape(
                op,
                "k_rope",
                Shape::matrix(kv.rows(), k_rope.cols()),
                k_rope,
            )?;
            let per_head = head_columns(op, "kv", kv, n_heads)?;
            let Some(value_width) = per_head.checked_sub(nope) else {
                let expected = format!("[S, {n_heads} * at least {nope}]");
                return Err(shape_error(op, "kv", &expected, kv));
            };
            let own = KeyPart {
                head_stride: per_head,
                width: nope,
                ..whole
            };
            let shared = KeyPart {
                tensor: KeyTensor::Second,
                row_stride: k_rope.cols(),
                width: k_rope.cols(),
                ..whole
            };
            let value = KeyPart {
                offset: nope,
                width: value_width,
                ..own
            };
            Ok(([own, shared], value))
        }
        KeyShapes::Latent { latent, rank } => {
            expect_matrix(op, "latent", "[S, C + R]", latent)?;
            if rank > latent.cols() {
                let expected = format!("[S, at least {rank}]");
                return Err(shape_error(op, "latent", &expected, latent));
            }
            let key = KeyPart {
                width: latent.cols(),
                ..whole
            };
            let value = KeyPart {
                width: rank,
                ..whole
            };
            Ok(([key, whole], value))
        }
    }
}

fn head_columns(op: &'static str, what: &'static str, x: Shape, n_heads: usize) -> Result<usize> {
    if x.cols().is_multiple_of(n_heads) {
        Ok(x.cols() / n_heads)
    } else {
        let expected = format!("[S, a multiple of {n_heads}]");
        Err(shape_error(op, what, &expected, x))
    }
}

/// Every key that a sequence sees lies in a whole page of the store.
fn check_pages(op: &'static str, pages: &Pages, n_sequences: usize, key_rows: usize) -> Result<()> {
    if pages.page_rows == 0 {
        return Err(setting(
            op,
            "expected pages of at least 1 row, got 0".into(),
        ));
    }
    expect_count(op, "page tables", n_sequences, pages.tables.len())?;
    expect_count(op, "key counts", n_sequences, pages.lengths.len())?;
    let n_pages = key_rows / pages.page_rows;
    for (table, length) in pages.tables.iter().zip(&pages.lengths) {
        let needed = (*length as usize).div_ceil(pages.page_rows);
        let Some(used) = table.get(..needed) else {
            return Err(Error::Count {
                op,
                what: "pages of a sequence",
                expected: needed,
                got: table.len(),
            });
        };
        crate::error::expect_indices(op, "page", used, n_pages)?;
    }
    Ok(())
}
