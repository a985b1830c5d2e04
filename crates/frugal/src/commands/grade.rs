//! `frugal grade`: a task's grader over answers from a file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::process::ExitCode;

use anyhow::Context;
use frugal_eval::tasks;
use serde::Deserialize;
use serde_json::json;

use crate::cli::{Common, Grade};
use crate::output::{say, say_json};

/// Longest line that is read.
const MAX_LINE_BYTES: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    question: String,
    answer: String,
}

pub(crate) fn run(common: &Common, arguments: &Grade) -> anyhow::Result<ExitCode> {
    let task = tasks::by_name(&arguments.task, None)?;
    let mut reader: Box<dyn BufRead> = if arguments.file.as_os_str() == "-" {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let file = File::open(&arguments.file)
            .with_context(|| format!("cannot read {}", arguments.file.display()))?;
        Box::new(BufReader::new(file))
    };
    let (mut n, mut n_correct) = (0u64, 0u64);
    loop {
        let mut bytes = Vec::new();
        let read = reader
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut bytes)?;
        if read == 0 {
            break;
        }
        n += 1;
        let line: Line = serde_json::from_slice(&bytes).with_context(|| {
            format!("line {n}: expected {{\"question\": ..., \"answer\": ...}}")
        })?;
        let problem = task
            .parse(&line.question)
            .with_context(|| format!("line {n}"))?;
        let verdict = task.grade(&problem, &line.answer);
        n_correct += u64::from(verdict.correct);
        if common.json {
            say_json(&json!({
                "event": "verdict", "line": n,
                "correct": verdict.correct, "reason": verdict.reason,
            }))?;
        } else if !common.quiet {
            let word = if verdict.correct { "right" } else { "wrong" };
            say(format!("{n}  {word}  {:?}", verdict.reason));
        }
    }
    if !common.json {
        say(format!("{n_correct} of {n} right"));
    }
    Ok(ExitCode::SUCCESS)
}
