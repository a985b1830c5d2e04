//! Steps of reinforcement learning on a reward that needs no task.

use frugal_run::consumption::Stopwatch;
use frugal_train::bench::{GrpoBench, GrpoShape};
use serde_json::json;

use super::{Case, Done, Measurement, Unit, subject};
use crate::cli::{BenchGrpo, Common};
use crate::device;
use crate::forecast::least::Work;

pub(super) fn run(common: &Common, arguments: &BenchGrpo) -> anyhow::Result<()> {
    let (precision, precision_name) = super::precision_of(arguments.f32);
    let device = device::open(common, precision)?;
    let opened = subject::trainable(common, &arguments.subject)?;
    let model = subject::put(&opened, &device, arguments.prompt + arguments.tokens)?;
    let shape = GrpoShape {
        prompts: arguments.prompts,
        samples: arguments.samples,
        prompt_tokens: arguments.prompt,
        new_tokens: arguments.tokens,
    };
    let mut bench = GrpoBench::new(&device, model, shape)?;
    bench.step()?;
    let marks = vec![
        ("model", json!(opened.name)),
        ("precision", json!(precision_name)),
        ("prompts", json!(arguments.prompts)),
        ("samples", json!(arguments.samples)),
        ("prompt_tokens", json!(arguments.prompt)),
        ("new_tokens", json!(arguments.tokens)),
    ];
    drop(opened);
    let case = Case {
        marks,
        precision,
        forecast_bytes: Some(bench.forecast_bytes()),
        run: Box::new(move || {
            let watch = Stopwatch::start();
            let done = bench.step()?;
            Ok(Done {
                count: done.samples as f64,
                seconds: watch.seconds(),
                least: Work {
                    flops: done.flops as f64,
                    bytes: 0.0,
                },
                tokens_per_step: None,
            })
        }),
    };
    let measurement = Measurement {
        what: "grpo",
        unit: Unit::Samples,
        device: &device,
        cases: vec![case],
    };
    measurement.show(common, arguments.trials)
}
