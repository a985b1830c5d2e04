//! The list of models.

use serde_json::{Value, json};

use crate::models::Listed;

/// One model. `bytes` and `about` (base, licence, format) are ours.
pub fn object(model: &Listed) -> Value {
    json!({
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "frugal",
        "bytes": model.bytes,
        "about": model.about,
    })
}

/// All of them.
pub fn list(models: &[Listed]) -> Value {
    let data: Vec<Value> = models.iter().map(object).collect();
    json!({ "object": "list", "data": data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_listed() {
        let model = Listed {
            name: "r1-tiny".into(),
            created: 1_700_000_000,
            bytes: 12,
            about: json!({"base": "none"}),
        };
        insta::assert_snapshot!(list(&[model]), @r#"{"object":"list","data":[{"id":"r1-tiny","object":"model","created":1700000000,"owned_by":"frugal","bytes":12,"about":{"base":"none"}}]}"#);
        insta::assert_snapshot!(list(&[]), @r#"{"object":"list","data":[]}"#);
    }
}
