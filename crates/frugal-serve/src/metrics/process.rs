//! Numbers of the process, under the names that Prometheus' own clients use.
//!
//! Linux tells them in files under `/proc`; elsewhere those it does not tell are left out.

use std::fs;

use frugal_run::consumption::peak_memory_bytes;

use super::registry::Text;

/// Ticks per second of CPU times in `/proc`, the same on all Linux architectures in use.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn write(text: &mut Text, version: &str, started: i64) {
    let name = "frugal_build_info";
    text.head(name, "gauge", "What runs here.");
    text.line(name, "", [("version", version)].into_iter(), 1.0);
    let numbers = [
        (
            "process_start_time_seconds",
            "gauge",
            "Start, in seconds since 1970.",
            Some(started as f64),
        ),
        (
            "process_cpu_seconds_total",
            "counter",
            "Seconds of cores, user and system.",
            core_seconds(),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Memory in use.",
            resident_bytes(),
        ),
        (
            "process_peak_memory_bytes",
            "gauge",
            "Most memory ever in use.",
            peak_memory_bytes().map(|bytes| bytes as f64),
        ),
        (
            "process_open_fds",
            "gauge",
            "Open files and connections.",
            open_files(),
        ),
    ];
    for (name, kind, help, value) in numbers {
        if let Some(value) = value {
            text.head(name, kind, help);
            text.line(name, "", [].into_iter(), value);
        }
    }
}

fn core_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in brackets, may hold anything; fields 14 and 15 follow 11 others.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_ascii_whitespace().skip(11);
    let user: f64 = ticks.next()?.parse().ok()?;
    let system: f64 = ticks.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn open_files() -> Option<f64> {
    // The folder that is read is open itself.
    let n = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(n.saturating_sub(1) as f64)
}
