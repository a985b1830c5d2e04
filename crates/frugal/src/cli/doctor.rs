//! `frugal doctor`: its flags.

use clap::Args;

/// What to examine: this machine, or a server.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A server, ours or another, to try conformance cases on: http://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub(crate) api: Option<String>,
    /// A key to it
    #[arg(long, value_name = "KEY", requires = "api")]
    pub(crate) key: Option<String>,
    /// The model to ask [default: the first of the server's list]
    #[arg(long, value_name = "NAME", requires = "api")]
    pub(crate) model: Option<String>,
    /// Cases of this area alone (may be repeated): chat, streaming, errors, parameters, forms,
    /// tools, reasoning, usage, completions, responses, messages, tokens, models, connections,
    /// operation [default: all]
    #[arg(long, value_name = "AREA", requires = "api")]
    pub(crate) area: Vec<String>,
    /// How long a case may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120, requires = "api")]
    pub(crate) patience: u64,
}
