//! Kept traces: what rejection sampling leaves and fine-tuning reads. One JSON object a line, token
//! ids only; text is a view of them.

use frugal_run::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::data::Sample;
use crate::error::{Error, Result};

/// The file's name in a stage's final checkpoint.
pub const TRACES: &str = "traces.jsonl";

/// A prompt and a continuation worth learning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The prompt's ids.
    pub prompt: Vec<u32>,
    /// The continuation's ids, the end token included.
    pub completion: Vec<u32>,
}

/// The traces as a file.
pub(crate) fn write(traces: &[Trace]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for trace in traces {
        serde_json::to_writer(&mut bytes, trace).map_err(|error| Error::State {
            reason: error.to_string(),
        })?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Reads a file of traces.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Trace>> {
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_slice(line).map_err(|error| Error::Sample {
                index,
                reason: error.to_string(),
            })
        })
        .collect()
}

/// The traces a stage kept, as samples whose prompts are given and whose continuations are learnt.
///
/// # Errors
/// If the file is missing, damaged or empty.
pub fn samples(checkpoint: &Checkpoint, max_samples: usize) -> Result<Vec<Sample>> {
    let mut traces = parse(&checkpoint.read(TRACES)?)?;
    if max_samples > 0 {
        traces.truncate(max_samples);
    }
    if traces.is_empty() {
        return Err(Error::Setting {
            place: "traces",
            reason: "expected at least one kept trace, got none: no sample was right and in form"
                .into(),
        });
    }
    Ok(traces
        .iter()
        .map(|t| Sample::continued(&t.prompt, &t.completion))
        .collect())
}
