//! `frugal bench`: this machine on the project's own shapes. A figure means something beside what the
//! machine could do at that moment, or as a ratio to a peer in the same run: `conformance/bench`.
//!
//! Here is what the verbs share: everything is repeated in turns, the machine's limits are measured
//! anew in each turn, and what is shown are medians.

mod bandwidth;
mod decode;
mod gemm;
mod grpo;
mod model;
mod random;
mod serve;
mod subject;
mod train;

use std::process::ExitCode;

use frugal_run::consumption;
use serde_json::{Map, Value, json};

use crate::cli::{Bench, BenchOf, Common, Trials};
use crate::device::{Device, Limits, Precision};
use crate::forecast::least::Work;
use crate::output::{Usage, metric, say, say_json, table};

pub(crate) fn run(common: &Common, arguments: &Bench) -> anyhow::Result<ExitCode> {
    match &arguments.what {
        BenchOf::Gemm(arguments) => gemm::run(common, arguments)?,
        BenchOf::Bandwidth(arguments) => bandwidth::run(common, arguments)?,
        BenchOf::Train(arguments) => train::run(common, arguments)?,
        BenchOf::Grpo(arguments) => grpo::run(common, arguments)?,
        BenchOf::Prefill(arguments) => decode::prefill(common, arguments)?,
        BenchOf::Decode(arguments) => decode::run(common, arguments)?,
        BenchOf::Serve(arguments) => return serve::run(common, arguments),
        BenchOf::Model(arguments) => model::run(common, arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What a figure counts a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Tokens,
    Samples,
    Gigaflops,
    Gigabytes,
}

impl Unit {
    const fn key(self) -> &'static str {
        match self {
            Self::Tokens => "tokens_per_second",
            Self::Samples => "samples_per_second",
            Self::Gigaflops => "gflops",
            Self::Gigabytes => "gigabytes_per_second",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Tokens => "tokens/s",
            Self::Samples => "samples/s",
            Self::Gigaflops => "GFLOP/s",
            Self::Gigabytes => "GB/s",
        }
    }
}

/// What a repetition did.
#[derive(Debug, Clone, Copy)]
struct Done {
    /// Of the unit.
    count: f64,
    /// What it took.
    seconds: f64,
    /// What it had to do.
    least: Work,
    /// Of generation: what drafts saved.
    tokens_per_step: Option<f64>,
}

/// One line of the result.
struct Case<'a> {
    /// What tells it from other lines.
    marks: Vec<(&'static str, Value)>,
    /// Precision of the products that it is held against.
    precision: Precision,
    /// Bytes that it needs by the meter's count.
    forecast_bytes: Option<u64>,
    /// One repetition.
    run: Box<dyn FnMut() -> anyhow::Result<Done> + 'a>,
}

/// What the repetitions of a case were.
#[derive(Debug, Default)]
struct Seen {
    rates: Vec<f64>,
    shares: Vec<f64>,
    peak_bytes: Option<u64>,
    tokens_per_step: Option<f64>,
}

/// A verb's cases on a device, all in one unit.
struct Measurement<'a> {
    what: &'static str,
    unit: Unit,
    device: &'a Device,
    cases: Vec<Case<'a>>,
}

impl Measurement<'_> {
    /// Runs and shows it.
    fn show(mut self, common: &Common, trials: Trials) -> anyhow::Result<()> {
        if trials.repetitions == 0 {
            return Err(Usage("expected --repetitions of 1 or more, got 0".into()).into());
        }
        let seen = self.repeat(trials.repetitions)?;
        if common.json {
            for (case, seen) in self.cases.iter().zip(&seen) {
                say_json(&self.json(case, seen))?;
            }
        } else {
            say(self.table(&seen));
        }
        Ok(())
    }

    fn repeat(&mut self, repetitions: usize) -> anyhow::Result<Vec<Seen>> {
        for case in &mut self.cases {
            (case.run)()?;
        }
        let mut seen: Vec<Seen> = self.cases.iter().map(|_| Seen::default()).collect();
        for _ in 0..repetitions {
            let mut known: Vec<(Precision, Limits)> = Vec::new();
            for (case, seen) in self.cases.iter_mut().zip(&mut seen) {
                let limits = limits_of(self.device, case.precision, &mut known);
                let mut meter = consumption::Meter::start(0.0, self.device.threads());
                let done = (case.run)()?;
                seen.peak_bytes = seen.peak_bytes.max(meter.so_far().peak_memory_bytes);
                seen.tokens_per_step = done.tokens_per_step;
                seen.rates.push(done.count / done.seconds);
                seen.shares.push(done.least.seconds(limits) / done.seconds);
            }
        }
        for seen in &mut seen {
            seen.rates.sort_by(f64::total_cmp);
            seen.shares.sort_by(f64::total_cmp);
        }
        Ok(seen)
    }

    fn json(&self, case: &Case<'_>, seen: &Seen) -> Value {
        let mut row = Map::new();
        let mut set = |key: &str, value: Value| row.insert(key.to_owned(), value);
        set("event", "bench".into());
        set("what", self.what.into());
        for (key, value) in &case.marks {
            set(key, value.clone());
        }
        let isa = format!("{:?}", self.device.isa()).to_lowercase();
        set("isa", isa.into());
        set("threads", self.device.threads().into());
        set(self.unit.key(), median(&seen.rates).into());
        set(
            "spread",
            json!({ "min": seen.rates.first(), "median": median(&seen.rates), "max": seen.rates.last() }),
        );
        set("repetitions", seen.rates.len().into());
        if let Some(tokens) = seen.tokens_per_step {
            set("tokens_per_step", tokens.into());
        }
        set("share_of_roofline", median(&seen.shares).into());
        set("peak_memory_bytes", seen.peak_bytes.into());
        set("forecast_memory_bytes", case.forecast_bytes.into());
        Value::Object(row)
    }

    fn table(&self, seen: &[Seen]) -> String {
        let marks = self.cases.first().map_or(&[][..], |case| &case.marks);
        let has_memory = self.cases.iter().any(|case| case.forecast_bytes.is_some());
        let mut head: Vec<&str> = vec![self.what];
        head.extend(marks.iter().skip(1).map(|(key, _)| *key));
        head.extend([self.unit.title(), "from", "to", "of roofline"]);
        if has_memory {
            head.extend(["peak memory", "forecast"]);
        }
        let has_steps = seen.iter().any(|seen| seen.tokens_per_step.is_some());
        if has_steps {
            head.push("tokens a step");
        }
        let rows: Vec<Vec<String>> = self
            .cases
            .iter()
            .zip(seen)
            .map(|(case, seen)| {
                let mut row: Vec<String> = case.marks.iter().map(|(_, mark)| word(mark)).collect();
                let ends = [seen.rates.first(), seen.rates.last()];
                let ends = ends.map(|rate| rate.copied().unwrap_or_default());
                row.extend([median(&seen.rates), ends[0], ends[1]].map(figure));
                row.push(format!("{:.1} %", 100.0 * median(&seen.shares)));
                if has_memory {
                    row.extend([seen.peak_bytes, case.forecast_bytes].map(bytes));
                }
                if has_steps {
                    row.push(figure(seen.tokens_per_step.unwrap_or(1.0)));
                }
                row
            })
            .collect();
        table(&head, &rows)
    }
}

fn word(mark: &Value) -> String {
    mark.as_str()
        .map_or_else(|| mark.to_string(), ToOwned::to_owned)
}

fn figure(rate: f64) -> String {
    if rate < 100.0 {
        format!("{rate:.2}")
    } else {
        format!("{rate:.0}")
    }
}

fn bytes(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |n| format!("{}B", metric(n as f64)))
}

/// The machine's limits, measured once a turn for each precision.
fn limits_of(
    device: &Device,
    precision: Precision,
    known: &mut Vec<(Precision, Limits)>,
) -> Limits {
    if let Some((_, limits)) = known.iter().find(|(of, _)| *of == precision) {
        return *limits;
    }
    let limits = Limits::measure(device, precision);
    known.push((precision, limits));
    limits
}

/// What a training verb's flag asks for, and its name.
const fn precision_of(is_f32: bool) -> (Precision, &'static str) {
    if is_f32 {
        (Precision::F32, "f32")
    } else {
        (Precision::Bf16, "bf16")
    }
}

/// The middle of sorted numbers.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    } else {
        at(middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        let cases: [(&[f64], f64); 3] = [
            (&[1.0, 2.0, 9.0], 2.0),
            (&[1.0, 2.0, 4.0, 9.0], 3.0),
            (&[7.0], 7.0),
        ];
        for (sorted, expected) in cases {
            assert!((median(sorted) - expected).abs() < 1e-12, "{sorted:?}");
        }
    }
}
