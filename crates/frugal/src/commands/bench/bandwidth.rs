//! Reading memory: what generation with a large model is bound by.

use serde_json::json;

use super::{Case, Done, Measurement, Unit};
use crate::cli::{BenchBandwidth, Common};
use crate::device::{self, Device, Precision};
use crate::forecast::least::Work;

pub(super) fn run(common: &Common, arguments: &BenchBandwidth) -> anyhow::Result<()> {
    let device = device::open(common, Precision::Bf16)?;
    let one = Common {
        threads: Some(1),
        ..common.clone()
    };
    let one = device::open(&one, Precision::Bf16)?;
    let measurement = Measurement {
        what: "bandwidth",
        unit: Unit::Gigabytes,
        device: &device,
        cases: vec![case(&one), case(&device)],
    };
    measurement.show(common, arguments.trials)
}

/// Held against what all cores read together.
fn case(device: &Device) -> Case<'_> {
    Case {
        marks: vec![("cores", json!(device.threads()))],
        precision: Precision::Bf16,
        forecast_bytes: None,
        run: Box::new(|| {
            let bytes = device::bandwidth(device);
            Ok(Done {
                count: bytes / 1e9,
                seconds: 1.0,
                least: Work { flops: 0.0, bytes },
                tokens_per_step: None,
            })
        }),
    }
}
