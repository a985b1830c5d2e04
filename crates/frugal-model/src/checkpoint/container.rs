//! A safetensors file: its header read and checked, its tensors as slices of its bytes.
//!
//! The rules are those of the published library, and two it leaves out: a name may not come twice,
//! and sums of offsets may not overflow. What the tensors mean is said in [`super::read`].

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use frugal_core::stored::SharedBytes;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

/// Bytes of the field that says how long the header is.
const LENGTH: usize = 8;
/// The longest header. *Source*: the published library.
const MAX_HEADER: usize = 100_000_000;
/// The entry of a header that is no tensor.
const METADATA: &str = "__metadata__";

/// The tensors of a safetensors file, by name.
#[derive(Debug, Clone)]
pub struct Container {
    /// In the order of their names.
    pub tensors: BTreeMap<String, Held>,
}

/// A tensor of a file.
#[derive(Debug, Clone)]
pub struct Held {
    /// The format of its numbers.
    pub dtype: Dtype,
    /// First to last dimension.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub bytes: SharedBytes,
}

impl Container {
    /// Reads a file's header.
    ///
    /// # Errors
    /// What is wrong, with the tensor and the byte where there is one.
    pub fn parse(file: &SharedBytes) -> Result<Self, String> {
        let (header, data) = split(file)?;
        let text = core::str::from_utf8(header).map_err(|error| {
            let at = LENGTH + error.valid_up_to();
            format!("expected a header in UTF-8, got other bytes at {at}")
        })?;
        let header: Header =
            serde_json::from_str(text).map_err(|error| format!("header: {error}"))?;
        let mut tensors = BTreeMap::new();
        for (name, info) in in_order(header.tensors, data.len())? {
            let (start, end) = info.data_offsets;
            let bytes = data
                .slice(start..end)
                .ok_or_else(|| format!("{name}: no bytes"))?;
            let held = Held {
                dtype: info.dtype,
                shape: info.shape,
                bytes,
            };
            if tensors.insert(name.clone(), held).is_some() {
                return Err(format!("expected each name once, got {name:?} twice"));
            }
        }
        Ok(Self { tensors })
    }
}

/// The bytes of the header, and those of the tensors.
fn split(file: &SharedBytes) -> Result<(&[u8], SharedBytes), String> {
    let length = file
        .first_chunk::<LENGTH>()
        .ok_or_else(|| format!("expected at least {LENGTH} bytes, got {}", file.len()))?;
    let length = u64::from_le_bytes(*length);
    let n = usize::try_from(length)
        .ok()
        .filter(|n| *n <= MAX_HEADER)
        .ok_or_else(|| format!("expected a header of at most {MAX_HEADER} bytes, got {length}"))?;
    let (Some(header), Some(data)) = (
        file.get(LENGTH..LENGTH + n),
        file.slice(LENGTH + n..file.len()),
    ) else {
        let len = file.len();
        return Err(format!("expected {n} bytes of header, got a file of {len}"));
    };
    Ok((header, data))
}

/// The tensors in the order of their bytes, which follow each other without hole or overlap from the
/// first byte to the last and have the length of their shape.
fn in_order(
    mut tensors: Vec<(String, TensorInfo)>,
    len: usize,
) -> Result<Vec<(String, TensorInfo)>, String> {
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut at = 0;
    for (name, info) in &tensors {
        let (start, end) = info.data_offsets;
        if start != at || end < start || end > len {
            return Err(format!(
                "{name}: expected bytes from {at} on and at most to {len}, got {start}..{end}"
            ));
        }
        let bits = info
            .shape
            .iter()
            .try_fold(info.dtype.bitsize(), |bits, n| bits.checked_mul(*n));
        if bits.is_none_or(|bits| bits % 8 != 0 || bits / 8 != end - start) {
            return Err(format!(
                "{name}: expected the bytes of {:?} in {}, got {}",
                info.shape,
                info.dtype,
                end - start
            ));
        }
        at = end;
    }
    if at == len {
        Ok(tensors)
    } else {
        Err(format!(
            "expected tensors up to the last byte {len}, got them up to {at}"
        ))
    }
}

struct Header {
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                let mut has_metadata = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        if has_metadata {
                            return Err(A::Error::custom(format!("{METADATA} comes twice")));
                        }
                        has_metadata = true;
                        map.next_value::<Option<Unique<String>>>()?;
                        continue;
                    }
                    let info = map
                        .next_value()
                        .map_err(|error| A::Error::custom(format!("{name}: {error}")))?;
                    tensors.push((name, info));
                }
                Ok(Header { tensors })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A JSON object in which no name comes twice.
pub(super) struct Unique<T>(pub(super) BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(core::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Unique<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<T>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if entries.contains_key(&name) {
                        return Err(A::Error::custom(format!("{name:?} comes twice")));
                    }
                    entries.insert(name, value);
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Entries(core::marker::PhantomData))
    }
}
