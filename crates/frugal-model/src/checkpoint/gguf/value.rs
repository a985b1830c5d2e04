//! The values of keys.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A value of one of the types that a key may have.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "a variant's name is its type")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// Values of one type.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "a variant's name is the type of its items")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// The number of an array's type.
pub(super) const ARRAY: u32 = 9;

impl Value {
    /// A whole number of at least 0, of any integer type.
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::U8(n) => Some(usize::from(*n)),
            Self::U16(n) => Some(usize::from(*n)),
            Self::U32(n) => usize::try_from(*n).ok(),
            Self::U64(n) => usize::try_from(*n).ok(),
            Self::I8(n) => usize::try_from(*n).ok(),
            Self::I16(n) => usize::try_from(*n).ok(),
            Self::I32(n) => usize::try_from(*n).ok(),
            Self::I64(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }

    /// A number of any type, an f32 as the shortest decimal that means it: 1e-6, not 9.99999997e-7.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::F32(x) => Some(shortest(*x)),
            Self::F64(x) => Some(*x),
            whole => whole.count().map(|n| n as f64),
        }
    }

    /// A text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number of its type in a file.
    pub(super) const fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(_) => ARRAY,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// Appends the value as a file holds it.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(x) => out.push(*x),
            Self::I8(x) => out.extend(x.to_le_bytes()),
            Self::U16(x) => out.extend(x.to_le_bytes()),
            Self::I16(x) => out.extend(x.to_le_bytes()),
            Self::U32(x) => out.extend(x.to_le_bytes()),
            Self::I32(x) => out.extend(x.to_le_bytes()),
            Self::F32(x) => out.extend(x.to_le_bytes()),
            Self::Bool(x) => out.push(u8::from(*x)),
            Self::String(text) => append_text(text, out),
            Self::Array(array) => array.append_to(out),
            Self::U64(x) => out.extend(x.to_le_bytes()),
            Self::I64(x) => out.extend(x.to_le_bytes()),
            Self::F64(x) => out.extend(x.to_le_bytes()),
        }
    }
}

impl Array {
    /// How many items it has.
    pub const fn len(&self) -> usize {
        match self {
            Self::U8(items) => items.len(),
            Self::I8(items) => items.len(),
            Self::U16(items) => items.len(),
            Self::I16(items) => items.len(),
            Self::U32(items) => items.len(),
            Self::I32(items) => items.len(),
            Self::F32(items) => items.len(),
            Self::Bool(items) => items.len(),
            Self::String(items) => items.len(),
            Self::Array(items) => items.len(),
            Self::U64(items) => items.len(),
            Self::I64(items) => items.len(),
            Self::F64(items) => items.len(),
        }
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn append_to(&self, out: &mut Vec<u8>) {
        let kind: u32 = match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(_) => ARRAY,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        };
        out.extend(kind.to_le_bytes());
        out.extend((self.len() as u64).to_le_bytes());
        match self {
            Self::U8(items) => out.extend(items),
            Self::I8(items) => out.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Self::U16(items) => out.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Self::I16(items) => out.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Self::U32(items) => out.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Self::I32(items) => out.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Self::F32(items) => out.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Self::Bool(items) => out.extend(items.iter().map(|x| u8::from(*x))),
            Self::String(items) => items.iter().for_each(|text| append_text(text, out)),
            Self::Array(items) => items.iter().for_each(|array| array.append_to(out)),
            Self::U64(items) => out.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Self::I64(items) => out.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Self::F64(items) => out.extend(items.iter().flat_map(|x| x.to_le_bytes())),
        }
    }
}

/// Appends a text with its length before it.
pub(super) fn append_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The shortest decimal that rounds to an f32.
pub(super) fn shortest(x: f32) -> f64 {
    alloc::format!("{x}")
        .parse()
        .unwrap_or_else(|_| f64::from(x))
}

/// For messages: numbers and texts in short, arrays by their length.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(x) => x.fmt(f),
            Self::I8(x) => x.fmt(f),
            Self::U16(x) => x.fmt(f),
            Self::I16(x) => x.fmt(f),
            Self::U32(x) => x.fmt(f),
            Self::I32(x) => x.fmt(f),
            Self::F32(x) => x.fmt(f),
            Self::Bool(x) => x.fmt(f),
            Self::String(text) => {
                let short: String = text.chars().take(64).collect();
                write!(f, "{short:?}")
            }
            Self::Array(array) => write!(f, "an array of {}", array.len()),
            Self::U64(x) => x.fmt(f),
            Self::I64(x) => x.fmt(f),
            Self::F64(x) => x.fmt(f),
        }
    }
}
