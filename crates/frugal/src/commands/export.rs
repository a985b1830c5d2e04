//! `frugal export`: a model in another format.

use std::process::ExitCode;

use serde_json::json;

use crate::card::Made;
use crate::cli::{Common, Export};
use crate::export::{Target, write};
use crate::models;
use crate::output::{metric, say, say_json};

pub(crate) fn run(common: &Common, arguments: &Export) -> anyhow::Result<ExitCode> {
    let source = models::find(common, &arguments.which)?;
    let opened = source.open()?;
    let target = Target::of(&opened, &arguments.out, arguments.format.as_deref())?;
    let bytes = write(&opened, &arguments.out, target)?;
    let made = Made {
        source: &source,
        opened: &opened,
        target,
        bytes,
        loss: None,
    };
    made.leave_card(&arguments.out)?;
    if common.json {
        say_json(&json!({
            "event": "exported", "model": opened.name, "path": arguments.out,
            "format": target.name(), "bytes": bytes,
        }))?;
    } else if !common.quiet {
        say(format!(
            "wrote {} in {} to {} ({}B)",
            opened.name,
            target.name(),
            arguments.out.display(),
            metric(bytes as f64)
        ));
    }
    Ok(ExitCode::SUCCESS)
}
