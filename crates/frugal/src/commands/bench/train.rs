//! Training steps on random tokens.

use frugal_run::consumption::Stopwatch;
use frugal_train::bench::{TrainBench, TrainShape};
use serde_json::json;

use super::{Case, Done, Measurement, Unit, subject};
use crate::cli::{BenchTrain, Common};
use crate::device;
use crate::forecast::least::Work;

pub(super) fn run(common: &Common, arguments: &BenchTrain) -> anyhow::Result<()> {
    let (precision, precision_name) = super::precision_of(arguments.f32);
    let device = device::open(common, precision)?;
    let opened = subject::trainable(common, &arguments.subject)?;
    let model = subject::put(&opened, &device, arguments.length)?;
    let shape = TrainShape {
        sequences: arguments.sequences,
        length: arguments.length,
    };
    let mut bench = TrainBench::new(&device, model, shape)?;
    bench.step()?;
    let marks = vec![
        ("model", json!(opened.name)),
        ("precision", json!(precision_name)),
        ("sequences", json!(arguments.sequences)),
        ("length", json!(arguments.length)),
    ];
    drop(opened);
    let case = Case {
        marks,
        precision,
        forecast_bytes: Some(bench.forecast_bytes()),
        run: Box::new(move || {
            let watch = Stopwatch::start();
            let (mut tokens, mut flops) = (0, 0);
            for _ in 0..arguments.steps.max(1) {
                let learnt = bench.step()?;
                tokens += learnt.tokens;
                flops += learnt.forward_flops + learnt.backward_flops;
            }
            Ok(Done {
                count: tokens as f64,
                seconds: watch.seconds(),
                least: Work {
                    flops: flops as f64,
                    bytes: 0.0,
                },
                tokens_per_step: None,
            })
        }),
    };
    let measurement = Measurement {
        what: "train",
        unit: Unit::Tokens,
        device: &device,
        cases: vec![case],
    };
    measurement.show(common, arguments.trials)
}
