//! Fields that are accepted without effect, so that the client can be told which of them it sent.

use serde_json::Value;

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
