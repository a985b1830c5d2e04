//! Fields that are accepted without effect, so that the client can be told which of them it sent.

use serde_json::Value;

use super::error::Fault;
use super::fields::Fields;
use super::sampled::NAME_BYTES;

/// A field of OpenAI's routes, and why it changes nothing.
pub(super) const OBFUSCATION: (&str, &str) = (
    "stream_options.include_obfuscation",
    "chunks are as long as what they hold",
);
/// See [`OBFUSCATION`].
pub(super) const CACHE_RETENTION: (&str, &str) = (
    "prompt_cache_retention",
    "a cache in memory, which may be asked for, is what there is",
);
/// The words of a field that no model here has learnt.
pub(super) const VERBOSITIES: [(&str, ()); 3] = [("low", ()), ("medium", ()), ("high", ())];

/// The names of those fields that a body holds; a dot stands between a field and one inside it.
pub(super) fn sent(body: &Value, without_effect: &[(&'static str, &str)]) -> Vec<&'static str> {
    let names = without_effect.iter().map(|(name, _)| *name);
    let is_sent = |name: &&str| {
        let mut parts = name.split('.');
        let found = parts.try_fold(body, |value, part| value.get(part));
        found.is_some_and(|value| !value.is_null())
    };
    names.filter(is_sent).collect()
}

/// Checks those that stand at the top of OpenAI's chat completions and responses.
pub(super) fn of_openai(fields: &mut Fields<'_>) -> Result<(), Fault> {
    fields.text("prompt_cache_key", NAME_BYTES)?;
    fields.text("safety_identifier", NAME_BYTES)?;
    let kinds = ["in_memory", "in-memory"].map(|kind| (kind, ()));
    fields.word(CACHE_RETENTION.0, &kinds)?;
    let tiers = ["auto", "default", "flex", "scale", "priority"].map(|tier| (tier, ()));
    fields.word("service_tier", &tiers)?;
    let Some(metadata) = fields.object("metadata")? else {
        return Ok(());
    };
    for (count, (name, value)) in metadata.rest().enumerate() {
        let is_text = value.as_str().is_some_and(|text| text.len() <= NAME_BYTES);
        if count == 16 || name.len() > 64 || !is_text {
            let why = "expected at most 16 texts of at most 512 bytes under names of at most 64";
            return Err(fields.against("metadata", why));
        }
    }
    Ok(())
}
