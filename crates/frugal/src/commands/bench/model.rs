//! A model of random weights as a file, so that others can be measured on the very same one.

use serde_json::json;

use super::subject;
use crate::cli::{BenchModel, Common};
use crate::export::{Target, write};
use crate::output::{metric, say, say_json};

pub(super) fn run(common: &Common, arguments: &BenchModel) -> anyhow::Result<()> {
    let opened = subject::stored(common, &arguments.subject, &arguments.storage)?;
    let format = arguments.storage.format.as_str();
    let target = Target::of(&opened, &arguments.out, Some(format))?;
    let bytes = write(&opened, &arguments.out, target)?;
    if common.json {
        say_json(&json!({
            "event": "bench", "what": "model", "model": opened.name, "format": target.name(),
            "path": arguments.out, "bytes": bytes,
        }))
    } else {
        let size = metric(bytes as f64);
        say(format!("wrote {} ({size}B)", arguments.out.display()));
        Ok(())
    }
}
