//! `frugal doctor`: what this machine offers, and whether the ledger can be kept.

use std::process::ExitCode;

use frugal_run::ledger::Ledger;
use serde_json::json;

use crate::cli::Common;
use crate::device::{self, Precision};
use crate::home;
use crate::output::{metric, say, say_json};

pub(crate) fn run(common: &Common) -> anyhow::Result<ExitCode> {
    let device = device::open(common, Precision::Bf16)?;
    let bf16 = device::peak(&device, Precision::Bf16);
    let f32 = device::peak(&device, Precision::F32);
    let bandwidth = device::bandwidth(&device);
    let home = home::of(common)?;
    let ledger = Ledger::open(&home);
    if common.json {
        say_json(&json!({
            "event": "doctor",
            "isa": format!("{:?}", device.isa()).to_lowercase(),
            "threads": device.threads(),
            "peak_bf16_flops": bf16,
            "peak_f32_flops": f32,
            "bytes_per_second": bandwidth,
            "home": home,
            "ledger": ledger.as_ref().map_or_else(ToString::to_string, |_| "ok".to_owned()),
        }))?;
    } else {
        say(format!("instructions   {:?}", device.isa()));
        say(format!("threads        {}", device.threads()));
        say(format!("bf16 products  {}FLOP/s", metric(bf16)));
        say(format!("f32 products   {}FLOP/s", metric(f32)));
        say(format!("memory         {}B/s read", metric(bandwidth)));
        say(format!("home           {}", home.display()));
        match &ledger {
            Ok(_) => say("ledger         ok"),
            Err(error) => say(format!("ledger         {error}")),
        }
    }
    Ok(if ledger.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
