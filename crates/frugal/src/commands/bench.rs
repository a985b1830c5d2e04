//! `frugal bench`: this machine on the project's own shapes. Figures mean something as ratios
//! against a peer in the same run; `conformance/bench` has the peers.

use std::fs;
use std::process::ExitCode;

use anyhow::Context;
use frugal_core::rng::Rng;
use frugal_model::config::ModelConfig;
use frugal_run::consumption;
use frugal_train::bench::TrainBench;
use serde_json::json;

use crate::cli::{Bench, BenchOf, BenchTrain, Common};
use crate::device::{self, Precision};
use crate::output::{metric, say, say_json};

pub(crate) fn run(common: &Common, arguments: &Bench) -> anyhow::Result<ExitCode> {
    match &arguments.what {
        BenchOf::Train(arguments) => train(common, arguments),
    }
}

fn train(common: &Common, arguments: &BenchTrain) -> anyhow::Result<ExitCode> {
    let precision = if arguments.f32 {
        Precision::F32
    } else {
        Precision::Bf16
    };
    let device = device::open(common, precision)?;
    let text = fs::read_to_string(&arguments.config)
        .with_context(|| format!("cannot read {}", arguments.config.display()))?;
    let config = ModelConfig::from_json(&text)?;
    let mut rng = Rng::derive(&[1]);
    let mut bench = TrainBench::new(
        &device,
        config,
        arguments.sequences,
        arguments.length,
        &mut rng,
    )?;
    for _ in 0..3 {
        bench.step(&mut rng)?;
    }
    let mut meter = consumption::Meter::start(0.0, device.threads());
    let (mut tokens, mut flops) = (0u64, 0u64);
    for _ in 0..arguments.steps {
        let learnt = bench.step(&mut rng)?;
        tokens += learnt.tokens;
        flops += learnt.forward_flops + learnt.backward_flops;
    }
    let used = meter.so_far();
    let per_second = tokens as f64 / used.wall_seconds;
    let achieved = flops as f64 / used.wall_seconds;
    let peak = device::peak(&device, precision);
    if common.json {
        say_json(&json!({
            "event": "bench", "what": "train",
            "isa": format!("{:?}", device.isa()).to_lowercase(),
            "precision": if arguments.f32 { "f32" } else { "bf16" },
            "tokens_per_second": per_second,
            "gflops": achieved / 1e9,
            "share_of_peak": achieved / peak,
            "peak_memory_bytes": used.peak_memory_bytes,
        }))?;
    } else {
        say(format!(
            "train  {}tokens/s  {}FLOP/s  {:.1} % of {}FLOP/s",
            metric(per_second),
            metric(achieved),
            100.0 * achieved / peak,
            metric(peak)
        ));
    }
    Ok(ExitCode::SUCCESS)
}
