//! Fields that several dialects share: names, how tokens are drawn, where answers end, how they are sent.

use serde_json::Value;

use super::error::Fault;
use super::fields::{Fields, item, json_bytes, number, shown, text, token_id};
use crate::answer::{Limits, Sampled};

/// Bytes of a name: a model's, a user's, a call's.
pub(super) const NAME_BYTES: usize = 512;
/// Tokens that any field may ask for; what fits is the model's business.
pub(super) const MOST_TOKENS: usize = i32::MAX.unsigned_abs() as usize;

/// Whether an answer is sent as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Streaming {
    /// Whole, once it is complete.
    #[default]
    No,
    /// In chunks.
    Chunks,
    /// In chunks, and what was used in a last one.
    ChunksAndUsage,
}

impl Streaming {
    /// Whether it is.
    pub(crate) fn is_on(self) -> bool {
        self != Self::No
    }
}

/// The model's name.
pub(super) fn model(fields: &mut Fields<'_>) -> Result<String, Fault> {
    match fields.text("model", NAME_BYTES)? {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        Some(_) => Err(fields.against("model", "expected a name, got nothing")),
        None => Err(fields.missing("model")),
    }
}

/// How tokens are drawn.
pub(super) fn sampled(fields: &mut Fields<'_>, limits: &Limits) -> Result<Sampled, Fault> {
    // vLLM writes -1 for all tokens.
    let top_k = fields.integer("top_k", -1..=i64::from(i32::MAX))?;
    let usual = Sampled::usual();
    Ok(Sampled {
        temperature: fields.number("temperature", 0.0..=2.0)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        top_k: top_k.map(|k| usize::try_from(k).unwrap_or(0)),
        min_p: fields.number("min_p", 0.0..=1.0)?,
        presence_penalty: fields
            .number("presence_penalty", -2.0..=2.0)?
            .unwrap_or(0.0),
        frequency_penalty: fields
            .number("frequency_penalty", -2.0..=2.0)?
            .unwrap_or(0.0),
        repetition_penalty: fields
            .number("repetition_penalty", 0.01..=100.0)?
            .unwrap_or(usual.repetition_penalty),
        bias: bias(fields, limits)?,
        seed: fields
            .integer("seed", i64::MIN..=i64::MAX)?
            .map(i64::cast_unsigned),
    })
}

fn bias(fields: &mut Fields<'_>, limits: &Limits) -> Result<Vec<(u32, f32)>, Fault> {
    let Some(value) = fields.take("logit_bias") else {
        return Ok(Vec::new());
    };
    let most = limits.biases;
    let Some(map) = value.as_object().filter(|map| map.len() <= most) else {
        let expected = format!("an object of at most {most} token ids");
        return Err(fields.wrong("logit_bias", &expected, value));
    };
    let one = |(name, value): (&String, &Value)| {
        // Written as the server would write it, so that no token comes twice.
        let id = name
            .parse::<u32>()
            .ok()
            .filter(|id| id.to_string() == *name);
        let Some(id) = id else {
            let got = shown(&Value::from(name.as_str()));
            return Err(Fault::field("logit_bias", "token ids as names", got));
        };
        let bias = number(value, &(-100.0..=100.0));
        let bias = bias.ok_or_else(|| {
            let path = format!("logit_bias.{id}");
            Fault::field(&path, "a number from -100 to 100", shown(value))
        })?;
        Ok((id, bias))
    };
    map.iter().map(one).collect()
}

/// What OpenAI takes as the name of a tool or a schema.
pub(super) fn short_name<'a>(fields: &mut Fields<'a>) -> Result<&'a str, Fault> {
    let name = fields
        .text("name", 64)?
        .ok_or_else(|| fields.missing("name"))?;
    let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(is_fit) {
        return Ok(name);
    }
    Err(fields.against("name", "expected letters, digits, dashes and underscores"))
}

/// Texts that end an answer: `stop`, one or a list of them.
pub(super) fn stops(fields: &mut Fields<'_>, limits: &Limits) -> Result<Vec<String>, Fault> {
    let path = fields.path("stop");
    match fields.take("stop") {
        Some(value @ Value::String(_)) => Ok(vec![stop(value, &path, limits)?]),
        _ => listed_stops(fields, "stop", limits),
    }
}

/// The same under another name, always a list.
pub(super) fn listed_stops(
    fields: &mut Fields<'_>,
    name: &'static str,
    limits: &Limits,
) -> Result<Vec<String>, Fault> {
    let stops = fields.list(name, limits.stops)?.unwrap_or_default();
    let path = fields.path(name);
    let paths = (0..).map(|index| item(&path, index));
    (stops.iter().zip(paths))
        .map(|(value, path)| stop(value, &path, limits))
        .collect()
}

fn stop(value: &Value, path: &str, limits: &Limits) -> Result<String, Fault> {
    match text(value, path, limits.stop_bytes)? {
        "" => Err(Fault::field(path, "a text that is not empty", "\"\"")),
        stop => Ok(stop.to_owned()),
    }
}

/// Tokens that end an answer.
pub(super) fn stop_ids(fields: &mut Fields<'_>, limits: &Limits) -> Result<Vec<u32>, Fault> {
    let ids = fields
        .list("stop_token_ids", limits.stops)?
        .unwrap_or_default();
    let paths = (0..).map(|index| item("stop_token_ids", index));
    ids.iter()
        .zip(paths)
        .map(|(id, path)| token_id(id, &path))
        .collect()
}

/// Answers wanted.
pub(super) fn answers(fields: &mut Fields<'_>, limits: &Limits) -> Result<usize, Fault> {
    Ok(fields.count("n", 1..=limits.n)?.unwrap_or(1))
}

/// How the answer is sent.
pub(super) fn streaming(fields: &mut Fields<'_>) -> Result<Streaming, Fault> {
    let streams = fields.flag("stream")?.unwrap_or(false);
    let Some(mut options) = fields.object("stream_options")? else {
        return Ok(if streams {
            Streaming::Chunks
        } else {
            Streaming::No
        });
    };
    if !streams {
        return Err(fields.against("stream_options", "only together with stream: true"));
    }
    let includes_usage = options.flag("include_usage")?.unwrap_or(false);
    options.flag("include_obfuscation")?;
    options.finish()?;
    Ok(if includes_usage {
        Streaming::ChunksAndUsage
    } else {
        Streaming::Chunks
    })
}

/// Whom the client serves: `user_id` is DeepSeek's word, `user` OpenAI's.
pub(super) fn user(fields: &mut Fields<'_>) -> Result<Option<String>, Fault> {
    let id = fields.text("user_id", NAME_BYTES)?;
    let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.is_some_and(|id| !id.chars().all(is_fit)) {
        return Err(fields.against(
            "user_id",
            "expected letters, digits, dashes and underscores",
        ));
    }
    let user = fields.text("user", NAME_BYTES)?;
    match (id, user) {
        (Some(id), Some(user)) if id != user => {
            Err(fields.against("user_id", "names another one than user"))
        }
        (id, user) => Ok(id
            .or(user)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)),
    }
}

/// Refuses what would be compiled, if it is larger than such things may be.
pub(super) fn sized(value: &Value, path: &str, limits: &Limits) -> Result<(), Fault> {
    let (bytes, most) = (json_bytes(value), limits.schema_bytes);
    if bytes <= most {
        return Ok(());
    }
    let words = format!("{path}: expected at most {most} bytes, got {bytes}");
    Err(Fault::new(super::error::Kind::Schema, words).at(path))
}
