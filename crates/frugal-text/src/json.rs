//! JSON files in which no name comes twice; see [`frugal_model::json`].

use frugal_model::json::Unique;
use serde_json::Value;

use crate::{Error, Result};

/// Reads a file, which the error calls `what`.
///
/// *Errors*: not JSON, or a name twice in one object.
pub(crate) fn read(what: &'static str, bytes: &[u8]) -> Result<Value> {
    match serde_json::from_slice(bytes) {
        Ok(Unique(value)) => Ok(value),
        Err(source) => Err(Error::Json { what, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_librarys_and_names_are_unique() {
        let text = r#"{"b":[1,-2,0.5,1e300,null,true,"é\n"],"a":{"b":{},"c":[]}}"#;
        let ours = read("a file", text.as_bytes()).unwrap();
        assert_eq!(ours, serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(
            ours.to_string().find("\"b\""),
            Some(1),
            "fields keep their order"
        );
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"[{"x":{"a":1,"b":2,"a":3}}]"#,
            r#"{"\u0061":1,"a":1}"#,
        ] {
            let error = read("a file", twice.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("\"a\" comes twice at line 1"), "{error}");
        }
        for broken in ["", "{", "[1,]", "nul", "1 2", &"[".repeat(10_000)] {
            assert!(read("a file", broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
