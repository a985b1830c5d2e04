//! The binary: reads the command line, names the device, runs a verb, says how it went.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, or stopped as asked, after a clean
//! checkpoint.
#![forbid(unsafe_code)]

mod card;
mod cli;
mod commands;
mod device;
mod export;
mod facts;
mod forecast;
mod home;
mod limits;
mod models;
mod output;
mod progress;
mod runner;
mod speaker;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Verb};
use crate::commands::improve::Deed;

/// What is told where `FRUGAL_LOG` says nothing: warnings, the server's access log, and prompts where
/// the server may log them.
const TOLD: &str = "warn,access=info,prompts=info";

/// Starts the log, to standard error.
fn start_log(tells_requests: bool) {
    let usual = if tells_requests { TOLD } else { "warn" };
    let wanted = std::env::var("FRUGAL_LOG").unwrap_or_else(|_| usual.to_owned());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::new(wanted))
        .init();
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let common = &cli.common;
    let tells_requests = matches!(cli.verb, Verb::Serve(_)) && !common.quiet;
    start_log(tells_requests);
    let result = match &cli.verb {
        Verb::Run(arguments) => commands::run::run(common, arguments),
        Verb::Plan(arguments) => commands::plan::run(common, arguments),
        Verb::Sft(arguments) => commands::improve::run(common, arguments, Deed::Sft),
        Verb::Grpo(arguments) => commands::improve::run(common, arguments, Deed::Grpo),
        Verb::Reject(arguments) => commands::improve::run(common, arguments, Deed::Reject),
        Verb::Distill(arguments) => commands::improve::distill(common, arguments),
        Verb::Chat(arguments) => commands::chat::run(common, arguments),
        Verb::Serve(arguments) => commands::serve::run(common, arguments),
        Verb::Keys(arguments) => commands::keys::run(common, arguments),
        Verb::Eval(arguments) => commands::eval::run(common, arguments),
        Verb::Export(arguments) => commands::export::run(common, arguments),
        Verb::Quantize(arguments) => commands::quantize::run(common, arguments),
        Verb::Tokenize(arguments) => commands::tokenize::run(common, arguments),
        Verb::Pull(arguments) => commands::pull::run(common, arguments),
        Verb::Models(arguments) => commands::models::run(common, arguments),
        Verb::Grade(arguments) => commands::grade::run(common, arguments),
        Verb::Check(arguments) => commands::check::run(common, arguments),
        Verb::Cost(arguments) => commands::cost::run(common, arguments),
        Verb::Bench(arguments) => commands::bench::run(common, arguments),
        Verb::Doctor(arguments) => commands::doctor::run(common, arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let code = output::exit_code_of(&error);
            output::complain(common.json, &error);
            ExitCode::from(code)
        }
    }
}
