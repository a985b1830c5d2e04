//! The list of models.

use serde_json::{Value, json};

use crate::models::Listed;

/// One model. `max_model_len` is vLLM's; `sampling` (where a request does not say), `bytes` and
/// `about` (base, licence, format) are ours.
pub fn object(model: &Listed) -> Value {
    let sampling = model.sampling.map(|sampling| {
        json!({
            "temperature": short(sampling.temperature),
            "top_p": short(sampling.top_p),
            "top_k": sampling.top_k,
        })
    });
    json!({
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "frugal",
        "max_model_len": model.context,
        "sampling": sampling,
        "bytes": model.bytes,
        "about": model.about,
    })
}

/// A number as its makers wrote it: 0.6, not what 0.6 is in binary.
fn short(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

/// All of them.
pub fn list(models: &[Listed]) -> Value {
    let data: Vec<Value> = models.iter().map(object).collect();
    json!({ "object": "list", "data": data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Sampling;

    #[test]
    fn models_are_listed() {
        let model = Listed {
            name: "r1-tiny".into(),
            created: 1_700_000_000,
            bytes: 12,
            context: Some(2048),
            sampling: Some(Sampling {
                temperature: 0.6,
                top_p: 0.95,
                top_k: 0,
            }),
            about: json!({"base": "none"}),
        };
        insta::assert_snapshot!(list(&[model]), @r#"{"object":"list","data":[{"id":"r1-tiny","object":"model","created":1700000000,"owned_by":"frugal","max_model_len":2048,"sampling":{"temperature":0.6,"top_p":0.95,"top_k":0},"bytes":12,"about":{"base":"none"}}]}"#);
        insta::assert_snapshot!(list(&[]), @r#"{"object":"list","data":[]}"#);
    }
}
