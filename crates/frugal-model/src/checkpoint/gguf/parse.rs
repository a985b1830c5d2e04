//! Bytes to keys and tensors. The file's length is the only number that is trusted: a count is held
//! against the bytes that are left before anything is made of it, an offset against those there are.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use frugal_core::stored::SharedBytes;

use super::value::{ARRAY, Array, Value};
use super::{Gguf, Kind, TensorInfo};
use crate::error::{Error, Result};

const MAGIC: &[u8; 4] = b"GGUF";
/// Where tensors begin, unless `general.alignment` says otherwise.
const ALIGNMENT: usize = 32;
/// The longest name of a key. *Source*: the format's description, which has 2^16 - 1.
const MAX_KEY: usize = (1 << 16) - 1;
/// The longest name of a tensor. *Source*: the format's description.
const MAX_NAME: usize = 64;
/// The longest text: a whole tokenizer.json fits.
const MAX_TEXT: usize = 1 << 28;
/// Arrays in arrays in arrays; nothing known goes deeper than two.
const MAX_DEPTH: usize = 4;
/// Dimensions of a tensor.
const MAX_RANK: usize = 4;
/// The least a key takes: an empty name, its type, one byte.
const LEAST_KEY: usize = 8 + 4 + 1;
/// The least a tensor takes: an empty name, its rank, one dimension, its type, its offset.
const LEAST_TENSOR: usize = 8 + 4 + 8 + 4 + 8;

pub(super) fn parse(file: &SharedBytes) -> Result<Gguf> {
    let mut cursor = Cursor {
        file,
        at: 0,
        of: String::new(),
    };
    let version = version(&mut cursor)?;
    cursor.within("the header");
    let n_tensors = cursor.u64()?;
    let n_keys = cursor.u64()?;
    let n_keys = cursor.fitting("keys", n_keys, LEAST_KEY)?;
    let n_tensors = cursor.fitting("tensors", n_tensors, LEAST_TENSOR)?;
    let mut keys = BTreeMap::new();
    for _ in 0..n_keys {
        cursor.within("a key");
        let at = cursor.at;
        let key = cursor.text(MAX_KEY)?;
        cursor.within(&key);
        let kind = cursor.u32()?;
        let value = cursor.value(kind)?;
        if keys.insert(key.clone(), value).is_some() {
            return Err(refuse(at, &key, "expected each key once".to_owned()));
        }
    }
    let alignment = alignment(&keys)?;
    let mut names = BTreeSet::new();
    let mut claims = Vec::new();
    for _ in 0..n_tensors {
        claims.push(cursor.claim(&mut names)?);
    }
    let start = cursor.at.next_multiple_of(alignment);
    let tensors = place(file, start, alignment, claims)?;
    Ok(Gguf {
        version,
        keys,
        tensors,
    })
}

/// What a file says of a tensor.
struct Claim {
    at: usize,
    name: String,
    shape: Vec<usize>,
    kind: Kind,
    bytes: usize,
    offset: u64,
}

fn version(cursor: &mut Cursor<'_>) -> Result<u32> {
    cursor.within("the magic");
    let magic = cursor.take(MAGIC.len())?;
    if magic != MAGIC {
        return Err(refuse(
            0,
            "the magic",
            format!("expected GGUF, got {magic:?}"),
        ));
    }
    cursor.within("the version");
    let version = cursor.u32()?;
    let got = match version {
        2 | 3 => return Ok(version),
        1 => "version 1, whose lengths have 32 bits".to_owned(),
        swapped if swapped != 0 && swapped.trailing_zeros() >= 16 => {
            format!("a big-endian file of version {}", swapped.swap_bytes())
        }
        other => format!("version {other}"),
    };
    let reason = format!("expected version 2 or 3 in little-endian order, got {got}");
    Err(refuse(MAGIC.len(), "the version", reason))
}

fn alignment(keys: &BTreeMap<String, Value>) -> Result<usize> {
    let key = "general.alignment";
    let Some(value) = keys.get(key) else {
        return Ok(ALIGNMENT);
    };
    let is_possible = |n: &usize| n.is_power_of_two() && *n <= 1 << 20;
    value
        .count()
        .filter(is_possible)
        .ok_or_else(|| Error::GgufKey {
            key: key.to_owned(),
            expected: "a power of two of at most 2^20".to_owned(),
            got: value.to_string(),
        })
}

/// Gives each tensor its bytes: they follow each other in the order they are listed in, each at the
/// next multiple of the alignment, up to the end of the file.
fn place(
    file: &SharedBytes,
    start: usize,
    alignment: usize,
    claims: Vec<Claim>,
) -> Result<Vec<TensorInfo>> {
    let mut tensors = Vec::with_capacity(claims.len());
    let mut next = 0usize;
    let mut end = start.min(file.len());
    for claim in claims {
        if claim.offset != next as u64 {
            let reason = format!(
                "expected offset {next} behind the tensor before, aligned to {alignment}, got {}",
                claim.offset
            );
            return Err(refuse(claim.at, &claim.name, reason));
        }
        let range = start.checked_add(next).and_then(|first| {
            let last = first.checked_add(claim.bytes)?;
            Some(first..last)
        });
        let placed = range.and_then(|range| Some((range.clone(), file.slice(range)?)));
        let Some((range, bytes)) = placed else {
            let reason = format!(
                "expected {} bytes from {next} behind {start}, got a file of {}",
                claim.bytes,
                file.len()
            );
            return Err(refuse(claim.at, &claim.name, reason));
        };
        end = range.end;
        next = (end - start).next_multiple_of(alignment);
        tensors.push(TensorInfo {
            name: claim.name,
            shape: claim.shape,
            kind: claim.kind,
            offset: range.start,
            bytes,
        });
    }
    let trailing = file.len() - end;
    if trailing >= alignment {
        let reason = format!("expected the file to end here, got {trailing} more bytes");
        return Err(refuse(end, "the last tensor", reason));
    }
    Ok(tensors)
}

fn refuse(at: usize, of: &str, reason: String) -> Error {
    Error::Gguf {
        at,
        of: of.to_owned(),
        reason,
    }
}

/// A place in the file, and what is being read there.
struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
    of: String,
}

impl<'a> Cursor<'a> {
    fn within(&mut self, of: &str) {
        of.clone_into(&mut self.of);
    }

    fn refuse(&self, reason: String) -> Error {
        refuse(self.at, &self.of, reason)
    }

    fn left(&self) -> usize {
        self.file.len().saturating_sub(self.at)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let bytes = self
            .at
            .checked_add(n)
            .and_then(|end| self.file.get(self.at..end));
        let Some(bytes) = bytes else {
            let left = self.left();
            return Err(self.refuse(format!("expected {n} more bytes, got {left}")));
        };
        self.at += n;
        Ok(bytes)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array_of().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array_of().map(u64::from_le_bytes)
    }

    /// A count of things of at least so many bytes, which must fit what is left.
    fn fitting(&self, what: &str, count: u64, least: usize) -> Result<usize> {
        let most = self.left() / least.max(1);
        usize::try_from(count)
            .ok()
            .filter(|n| *n <= most)
            .ok_or_else(|| {
                self.refuse(format!(
                    "expected at most {most} {what} in the bytes that are left, got {count}"
                ))
            })
    }

    fn text(&mut self, most: usize) -> Result<String> {
        let length = self.u64()?;
        let length = self.fitting("bytes of text", length, 1)?;
        if length > most {
            return Err(self.refuse(format!(
                "expected a text of at most {most} bytes, got {length}"
            )));
        }
        let at = self.at;
        let bytes = self.take(length)?;
        match core::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                let at = at + error.valid_up_to();
                let reason = "expected text in UTF-8, got other bytes".to_owned();
                Err(refuse(at, &self.of, reason))
            }
        }
    }

    fn flag(&mut self) -> Result<bool> {
        match self.array_of()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.refuse(format!("expected a flag of 0 or 1, got {other}"))),
        }
    }

    fn value(&mut self, kind: u32) -> Result<Value> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array_of()?)),
            1 => Value::I8(i8::from_le_bytes(self.array_of()?)),
            2 => Value::U16(u16::from_le_bytes(self.array_of()?)),
            3 => Value::I16(i16::from_le_bytes(self.array_of()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.array_of()?)),
            6 => Value::F32(f32::from_le_bytes(self.array_of()?)),
            7 => Value::Bool(self.flag()?),
            8 => Value::String(self.text(MAX_TEXT)?),
            ARRAY => Value::Array(self.array(0)?),
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.array_of()?)),
            12 => Value::F64(f64::from_le_bytes(self.array_of()?)),
            other => {
                return Err(self.refuse(format!("expected a type of 0 to 12, got {other}")));
            }
        })
    }

    fn array(&mut self, depth: usize) -> Result<Array> {
        if depth >= MAX_DEPTH {
            return Err(self.refuse(format!(
                "expected arrays at most {MAX_DEPTH} deep, got more"
            )));
        }
        let kind = self.u32()?;
        let count = self.u64()?;
        Ok(match kind {
            0 => Array::U8(self.numbers(count, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(count, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(count, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(count, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(count, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(count, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(count, f32::from_le_bytes)?),
            7 => {
                let count = self.fitting("flags", count, 1)?;
                Array::Bool((0..count).map(|_| self.flag()).collect::<Result<_>>()?)
            }
            8 => {
                let count = self.fitting("texts", count, 8)?;
                let texts = (0..count).map(|_| self.text(MAX_TEXT));
                Array::String(texts.collect::<Result<_>>()?)
            }
            ARRAY => {
                let count = self.fitting("arrays", count, 12)?;
                let arrays = (0..count).map(|_| self.array(depth + 1));
                Array::Array(arrays.collect::<Result<_>>()?)
            }
            10 => Array::U64(self.numbers(count, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(count, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(count, f64::from_le_bytes)?),
            other => {
                return Err(self.refuse(format!("expected items of type 0 to 12, got {other}")));
            }
        })
    }

    fn numbers<const N: usize, T>(&mut self, count: u64, from: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let count = self.fitting("numbers", count, N)?;
        let bytes = self.take(count.saturating_mul(N))?;
        let (items, _) = bytes.as_chunks::<N>();
        Ok(items.iter().map(|item| from(*item)).collect())
    }

    fn claim(&mut self, names: &mut BTreeSet<String>) -> Result<Claim> {
        self.within("a tensor");
        let at = self.at;
        let name = self.text(MAX_NAME)?;
        self.within(&name);
        if !names.insert(name.clone()) {
            return Err(refuse(at, &name, "expected each tensor once".to_owned()));
        }
        let rank = self.u32()?;
        if rank == 0 || rank as usize > MAX_RANK {
            return Err(self.refuse(format!("expected 1 to {MAX_RANK} dimensions, got {rank}")));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            let n = self.u64()?;
            let n = usize::try_from(n).ok().filter(|n| *n > 0);
            shape.push(
                n.ok_or_else(|| self.refuse("expected dimensions of at least 1".to_owned()))?,
            );
        }
        let id = self.u32()?;
        let kind = Kind::from_id(id)
            .ok_or_else(|| self.refuse(format!("expected a known type of tensor, got {id}")))?;
        let row = shape.first().copied().unwrap_or(0);
        if !row.is_multiple_of(kind.block_values) {
            let block = kind.block_values;
            return Err(self.refuse(format!(
                "expected rows of a multiple of {block} for {kind}, got {row}"
            )));
        }
        let elements = shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
        let bytes = elements.and_then(|n| (n / kind.block_values).checked_mul(kind.block_bytes));
        let bytes = bytes.ok_or_else(|| {
            self.refuse(format!(
                "expected a tensor that can be addressed, got {shape:?}"
            ))
        })?;
        let offset = self.u64()?;
        shape.reverse();
        Ok(Claim {
            at,
            name,
            shape,
            kind,
            bytes,
            offset,
        })
    }
}
