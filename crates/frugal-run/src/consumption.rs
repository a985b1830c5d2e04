//! What a stretch of a run used: wall seconds, core seconds, peak memory, energy. The only room
//! that reads the wall clock. What it costs in money is the [`crate::ledger`]'s business.
//!
//! Linux tells all of it in files under `/proc` and `/sys`. Elsewhere core seconds are bounded by
//! wall seconds times the cores in use, peak memory is unknown, and energy is estimated.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Power of one busy core in watts, for the energy estimate.
///
/// Own derivation: a server chip of 2023 draws 350 W with 56 cores busy (Intel Xeon 8480+, thermal
/// design power), 6.25 W a core. Memory, conversion and fans add about 30 %: 8 W. Laptop cores are
/// near 4 W, desktop cores near 10 W, so an estimate may be off by a factor of two, and is labelled
/// as an estimate wherever it is shown.
pub const WATTS_PER_CORE: f64 = 8.0;

/// Ticks per second of the CPU times in `/proc/PID/stat`: fixed at 100 for programs on all Linux
/// architectures in use, whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;

/// How an energy figure came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnergyMethod {
    /// Counters of the processor packages (powercap). They cover the whole package, so other
    /// programs that ran at the time are in it.
    Measured,
    /// Core seconds times a stated power per core.
    Estimated,
    /// A sum with parts of both.
    Mixed,
}

impl EnergyMethod {
    /// The label shown beside a figure.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Estimated => "estimated",
            Self::Mixed => "mixed",
        }
    }
}

/// What was used since a [`Meter`] was started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// Seconds on the wall.
    pub wall_seconds: f64,
    /// Seconds of one core, over all threads of the process.
    pub core_seconds: f64,
    /// Largest resident memory, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Energy in joules.
    pub joules: f64,
    /// How the energy came about.
    pub energy_method: EnergyMethod,
}

/// Measures one stretch of a run, such as a stage.
#[derive(Debug)]
pub struct Meter {
    began: Instant,
    core_seconds_before: Option<f64>,
    watts_per_core: f64,
    cores_in_use: f64,
    counters: Vec<Counter>,
}

impl Meter {
    /// Starts measuring. Peak memory is that of the stretch where the system lets a process reset
    /// it, else that of the process.
    ///
    /// `cores_in_use` bounds the core seconds where the system does not tell them.
    #[must_use]
    pub fn start(watts_per_core: f64, cores_in_use: usize) -> Self {
        // Writing 5 resets the peak; a system that refuses keeps the peak of the whole process,
        // which is larger, never smaller.
        if let Err(error) = fs::write("/proc/self/clear_refs", "5") {
            tracing::debug!(%error, "peak memory was not reset");
        }
        Self {
            began: Instant::now(),
            core_seconds_before: process_core_seconds(),
            watts_per_core,
            cores_in_use: cores_in_use as f64,
            counters: Counter::all(Path::new("/sys/class/powercap")),
        }
    }

    /// What was used so far. Call it at least every half hour, or an energy counter may pass its
    /// end twice unseen.
    pub fn so_far(&mut self) -> Used {
        let wall_seconds = self.began.elapsed().as_secs_f64();
        let core_seconds = match (process_core_seconds(), self.core_seconds_before) {
            (Some(now), Some(before)) => (now - before).max(0.0),
            _ => wall_seconds * self.cores_in_use,
        };
        let measured = self
            .counters
            .iter_mut()
            .map(Counter::joules)
            .sum::<Option<f64>>();
        let (joules, energy_method) = match measured {
            Some(joules) if !self.counters.is_empty() => (joules, EnergyMethod::Measured),
            _ => (core_seconds * self.watts_per_core, EnergyMethod::Estimated),
        };
        Used {
            wall_seconds,
            core_seconds,
            peak_memory_bytes: peak_memory_bytes(),
            joules,
            energy_method,
        }
    }
}

/// Measures how long something took, for people to read.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    began: Instant,
}

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}

/// Seconds since 1970, for the ledger's dates.
#[must_use]
pub fn unix_seconds() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Largest resident memory of this process since the last reset, where the system tells.
#[must_use]
pub fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status_bytes(&status, "VmHWM:").or_else(|| status_bytes(&status, "VmRSS:"))
}

fn status_bytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn process_core_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let user: f64 = stat_field(&stat, 14)?.parse().ok()?;
    let system: f64 = stat_field(&stat, 15)?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// What tells a process from every other that had or will have its number: the start of the
/// machine and when, after that, the process began. `None` where there is no such process or the
/// system does not tell.
pub(crate) fn process_mark(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{} {}", boot.trim(), stat_field(&stat, 22)?))
}

/// A field of `/proc/PID/stat` by its number in proc(5). The program's name, field 2, may hold
/// spaces and brackets, so counting starts after the last bracket.
fn stat_field(stat: &str, number: usize) -> Option<&str> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

/// An energy counter of one processor package. It wraps at `range`.
#[derive(Debug)]
struct Counter {
    path: PathBuf,
    range: u64,
    last: u64,
    total: u64,
}

impl Counter {
    /// The readable package counters, none if one of them cannot be read: half a machine's energy
    /// would be a wrong number without a label.
    fn all(powercap: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(powercap) else {
            return Vec::new();
        };
        let mut names: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                // intel-rapl:0 is a package; intel-rapl:0:1 a part of it.
                name.strip_prefix("intel-rapl:")
                    .is_some_and(|rest| !rest.contains(':'))
            })
            .collect();
        names.sort();
        names
            .into_iter()
            .map(|path| Self::open(&path))
            .collect::<Option<_>>()
            .unwrap_or_default()
    }

    fn open(folder: &Path) -> Option<Self> {
        let path = folder.join("energy_uj");
        let range = read_number(&folder.join("max_energy_range_uj"))?;
        let last = read_number(&path)?;
        Some(Self {
            path,
            range,
            last,
            total: 0,
        })
    }

    /// Joules since the counter was opened.
    fn joules(&mut self) -> Option<f64> {
        let now = read_number(&self.path)?;
        let step = match now.checked_sub(self.last) {
            Some(step) => step,
            None => now.saturating_add(self.range).saturating_sub(self.last),
        };
        self.last = now;
        self.total = self.total.saturating_add(step);
        Some(self.total as f64 / 1e6)
    }
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 777 0";
        assert_eq!(stat_field(stat, 3), Some("S"));
        assert_eq!(stat_field(stat, 14), Some("150"));
        assert_eq!(stat_field(stat, 15), Some("50"));
        assert_eq!(stat_field(stat, 22), Some("777"));
        assert_eq!(stat_field("no bracket", 14), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(
            status_bytes("VmPeak:\t 9 kB\nVmHWM:\t    12 kB\n", "VmHWM:"),
            Some(12288)
        );
        assert_eq!(status_bytes("VmHWM:\t 12 pages\n", "VmHWM:"), None);
        assert_eq!(status_bytes("", "VmHWM:"), None);
    }

    #[test]
    fn energy_counters_wrap_and_parts_of_a_package_are_not_counted_twice() {
        let home = tempfile::tempdir().unwrap();
        for name in ["intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1", "dtpm"] {
            let folder = home.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("max_energy_range_uj"), "1000000\n").unwrap();
            fs::write(folder.join("energy_uj"), "900000\n").unwrap();
        }
        let mut counters = Counter::all(home.path());
        assert_eq!(counters.len(), 2);
        fs::write(home.path().join("intel-rapl:0/energy_uj"), "100000\n").unwrap();
        fs::write(home.path().join("intel-rapl:1/energy_uj"), "950000\n").unwrap();
        let joules: Vec<f64> = counters.iter_mut().map(|c| c.joules().unwrap()).collect();
        assert_eq!(joules, [0.2, 0.05]);
        fs::remove_file(home.path().join("intel-rapl:1/energy_uj")).unwrap();
        assert!(Counter::all(home.path()).is_empty());
        assert_eq!(counters[1].joules(), None);
    }

    #[test]
    fn a_busy_core_is_counted() {
        let mut meter = Meter::start(WATTS_PER_CORE, 1);
        let mut sum = 0_u64;
        while meter.began.elapsed().as_millis() < 60 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        let used = meter.so_far();
        assert!(used.wall_seconds >= 0.06, "{used:?}");
        // Two ticks of slack, and a share of a core that other work took.
        assert!(used.core_seconds >= 0.01, "{used:?}");
        assert!(used.joules >= 0.0);
        if cfg!(target_os = "linux") {
            assert!(used.peak_memory_bytes.unwrap() > 100_000);
            assert!(process_mark(std::process::id()).unwrap().contains(' '));
        }
    }
}
