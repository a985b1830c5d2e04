//! Much at a time: how fast a server is, and whether it keeps its word under load.
//!
//! [`measure`] has clients that each ask again when they are answered (a closed loop), and clients
//! that come at random moments whether or not the server keeps up (an open one, whose latencies
//! count from the moment a request was due). The trials: [`whole`] (nothing lost or mixed up),
//! [`overload`], [`slow`] (clients that do not read or never finish asking), [`leave`].
//!
//! Any server with OpenAI's routes can be asked; what only ours tells (gauges) is left out of a
//! result where a server does not tell it.

use std::io;

use super::{Call, Client};

pub mod ask;
pub mod leave;
pub mod measure;
pub mod overload;
pub mod slow;
pub mod whole;

/// Threads that move bytes; the server wants the others.
const THREADS: usize = 2;

/// Runs what asks.
///
/// # Errors
/// If the system gives no threads.
pub fn run<T>(asking: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("client")
        .enable_all()
        .build()?;
    let done = runtime.block_on(asking);
    runtime.shutdown_background();
    Ok(done)
}

/// Who is asked, and where more about it is known.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Asks it.
    pub client: Client,
    /// Asks for this.
    pub questions: ask::Questions,
    /// Its process, where it runs on this machine.
    pub process: Option<u32>,
}

impl Subject {
    /// Bytes of memory that the server has in use, where that can be known.
    pub async fn memory(&self) -> Option<f64> {
        match self.process {
            Some(process) => resident(process),
            None => self.gauge("process_resident_memory_bytes").await,
        }
    }

    /// Some families of its metrics by the beginning of their name: the sum over labels.
    pub async fn gauge(&self, name: &str) -> Option<f64> {
        let answer = self.client.send(Call::get("/metrics")).await.ok()?;
        if answer.status != 200 {
            return None;
        }
        sum_of(&answer.text(), name)
    }
}

fn sum_of(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' '])
            .then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    values.reduce(|sum, value| sum + value)
}

fn resident(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = (status.lines()).find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// Where most of some numbers lie.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    /// Half are not above.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// None is.
    pub most: f64,
}

impl Spread {
    /// Of numbers; none of none.
    pub fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        // The smallest number that so many percent of all are not above.
        let at = |percent: usize| {
            let rank = (numbers.len() * percent).div_ceil(100);
            numbers.get(rank.saturating_sub(1)).copied()
        };
        Some(Self {
            p50: at(50)?,
            p90: at(90)?,
            p99: at(99)?,
            most: at(100)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_numbers_that_came() {
        let numbers = |n: u32| (1..=n).rev().map(f64::from).collect::<Vec<_>>();
        let spread = |p50, p90, p99, most| Spread {
            p50,
            p90,
            p99,
            most,
        };
        let cases = [
            (0, None),
            (1, Some(spread(1.0, 1.0, 1.0, 1.0))),
            (10, Some(spread(5.0, 9.0, 10.0, 10.0))),
            (200, Some(spread(100.0, 180.0, 198.0, 200.0))),
        ];
        for (n, expected) in cases {
            assert_eq!(Spread::of(numbers(n)), expected, "{n}");
        }
    }

    #[test]
    fn metrics_are_summed_over_labels() {
        let text = "# TYPE a gauge\na{m=\"x\"} 2\na{m=\"y\"} 3.5\nab 100\nb 7\n";
        for (name, expected) in [("a", Some(5.5)), ("b", Some(7.0)), ("c", None)] {
            assert_eq!(sum_of(text, name), expected, "{name}");
        }
    }
}
