//! The keys of one architecture, each read once.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Gguf;
use super::value::{Array, Value};
use crate::error::{Error, Result};

/// Keys that say how a file came about, but not what the model computes.
const HARMLESS: [&str; 3] = [
    "tensor_data_layout",
    "rope.scaling.finetuned",
    "pooling_type",
];

/// Keys that may only have the value that changes nothing.
const NEUTRAL: [(&str, f64); 8] = [
    ("attention.sliding_window", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.temperature_scale", 0.0),
    ("rope.scaling.attn_factor", 1.0),
    ("rope.scaling.yarn_attn_factor", 1.0),
    ("rope.scaling.yarn_ext_factor", 1.0),
];

/// The keys of the architecture that have not been read yet.
pub(super) struct Fields<'a> {
    arch: &'a str,
    keys: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(gguf: &'a Gguf, arch: &'a str) -> Self {
        let own = |(key, value): (&'a String, &'a Value)| {
            let rest = key.strip_prefix(arch)?.strip_prefix('.')?;
            Some((rest, value))
        };
        Self {
            arch,
            keys: gguf.keys.iter().filter_map(own).collect(),
        }
    }

    pub(super) fn refuse(
        &self,
        key: &str,
        expected: impl Into<String>,
        got: &impl ToString,
    ) -> Error {
        refuse(&format!("{}.{key}", self.arch), expected, got)
    }

    pub(super) fn convert<T>(
        &mut self,
        key: &str,
        expected: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.keys.remove(key) else {
            return Ok(None);
        };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(self.refuse(key, expected, value)),
        }
    }

    /// A count, or an equal one for every layer.
    pub(super) fn maybe_count(&mut self, key: &str) -> Result<Option<usize>> {
        self.convert(
            key,
            "a count, the same in every layer",
            |value| match value {
                Value::Array(array) => uniform(array),
                value => value.count(),
            },
        )
    }

    pub(super) fn count(&mut self, key: &str) -> Result<usize> {
        let value = self.maybe_count(key)?;
        value.ok_or_else(|| self.refuse(key, "a count", &"none"))
    }

    pub(super) fn maybe_number(&mut self, key: &str) -> Result<Option<f64>> {
        self.convert(key, "a number", Value::number)
    }

    pub(super) fn number(&mut self, key: &str) -> Result<f64> {
        let value = self.maybe_number(key)?;
        value.ok_or_else(|| self.refuse(key, "a number", &"none"))
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.convert(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// Reads a count that must be as given where it is there.
    pub(super) fn only(&mut self, key: &str, expected: usize) -> Result<()> {
        match self.maybe_count(key)? {
            Some(got) if got != expected => Err(self.refuse(key, expected.to_string(), &got)),
            _ => Ok(()),
        }
    }

    pub(super) fn finish(mut self) -> Result<()> {
        for key in HARMLESS {
            self.keys.remove(key);
        }
        for (key, neutral) in NEUTRAL {
            if let Some(got) = self.maybe_number(key)?
                && got.to_bits() != neutral.to_bits()
            {
                return Err(self.refuse(key, neutral.to_string(), &got));
            }
        }
        if self.flag("attention.causal")? == Some(false) {
            return Err(self.refuse("attention.causal", "true", &false));
        }
        match self.keys.first_key_value() {
            None => Ok(()),
            Some((key, value)) => {
                let expected = "no such key, since it may change the result";
                Err(self.refuse(key, expected, *value))
            }
        }
    }
}

fn uniform(array: &Array) -> Option<usize> {
    let counts: Vec<usize> = match array {
        Array::U32(items) => items.iter().map(|n| *n as usize).collect(),
        Array::I32(items) => {
            let counts = items.iter().map(|n| usize::try_from(*n).ok());
            counts.collect::<Option<_>>()?
        }
        _ => return None,
    };
    let first = *counts.first()?;
    counts.iter().all(|n| *n == first).then_some(first)
}

pub(super) fn refuse(key: &str, expected: impl Into<String>, got: &impl ToString) -> Error {
    Error::GgufKey {
        key: key.to_owned(),
        expected: expected.into(),
        got: got.to_string(),
    }
}
