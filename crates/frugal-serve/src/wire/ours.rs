//! What answers of every dialect hold of ours: the cost, what verifying came to, and what the
//! dialect's words for an end do not say.

use serde_json::{Map, Value};

use super::usage;
use crate::answer::{Detail, Usage};

/// Adds `cost`, and `verified` where there is any, to what was used.
pub(super) fn add_cost(body: &mut Map<String, Value>, used: &Usage) {
    if let Value::Object(mut all) = usage::usage(used) {
        for name in ["cost", "verified"] {
            if let Some(value) = all.remove(name) {
                body.insert(name.to_owned(), value);
            }
        }
    }
}

/// Adds `finish_details`, where there are any.
pub(super) fn add_details(body: &mut Map<String, Value>, detail: &Detail) {
    if let Some(details) = usage::finish_details(detail) {
        body.insert("finish_details".into(), details);
    }
}
