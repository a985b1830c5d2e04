//! The server of a model, in a process of its own, so that its memory and its cores are its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use anyhow::Context;
use serde_json::Value;

use crate::cli::{BenchServe, Common};

/// The name that the model is served under.
const NAME: &str = "bench";

/// A server; it is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Own {
    child: Child,
    /// Where it listens.
    pub(super) url: String,
}

impl Own {
    /// Starts it on a free port of loopback and waits until the model is loaded.
    pub(super) fn start(
        common: &Common,
        arguments: &BenchServe,
        model: &str,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        let mut command = Command::new(program);
        command.args(words(common, arguments, model));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().context("cannot start the server")?;
        let mut own = Self {
            child,
            url: String::new(),
        };
        let out = own.child.stdout.take().context("the server says nothing")?;
        own.listen(out)?;
        Ok(own)
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Reads what it says until it is ready.
    fn listen(&mut self, out: ChildStdout) -> anyhow::Result<()> {
        let mut lines = BufReader::new(out).lines();
        loop {
            let line = lines
                .next()
                .context("the server ended before it was ready")??;
            let told: Value = serde_json::from_str(&line).unwrap_or_default();
            match told.get("event").and_then(Value::as_str) {
                Some("listening") => {
                    let address = told.pointer("/addresses/0").and_then(Value::as_str);
                    let address = address.context("the server listens nowhere")?;
                    self.url = format!("http://{address}");
                }
                Some("loaded") => break,
                Some("error") => anyhow::bail!("the server is not ready: {line}"),
                _ => {}
            }
        }
        // What it says later must not fill the pipe.
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn words(common: &Common, arguments: &BenchServe, model: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![
        "serve".into(),
        format!("{NAME}={model}"),
        "--json".into(),
        "--bind".into(),
        "127.0.0.1:0".into(),
    ];
    let home = common.home.as_ref();
    let flags = [
        (
            "--home",
            home.map(|home| home.to_string_lossy().into_owned()),
        ),
        ("--threads", common.threads.map(|n| n.to_string())),
        ("--isa", common.isa.clone()),
        (
            "--max-sequences",
            arguments.max_sequences.map(|n| n.to_string()),
        ),
        (
            "--max-waiting",
            arguments.max_waiting.map(|n| n.to_string()),
        ),
        ("--memory", arguments.memory.clone()),
    ];
    for (flag, value) in flags {
        if let Some(value) = value {
            words.extend([flag.to_owned(), value]);
        }
    }
    words
}
